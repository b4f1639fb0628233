"""The lives of feed processes, with processes that only pretend; real ones are in tests/system."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, ClassVar

import pytest

from mdsys.daemon import feeds as module
from mdsys.daemon.feed_link import FeedLink
from mdsys.daemon.feeds import HANG_S, LOOK_S, STABLE_S, START_S, Feeds
from mdsys.feed.backoff import Backoff
from mdsys.feed.plan import FeedPlan
from mdsys.feed.report import Reporter, report_pair


class Ring:
    """A ring's header."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.heartbeat_ns = 0
        self.writer_pid = 0


class Process:
    """A process whose end the test decides."""

    made: ClassVar[list[Process]] = []
    failing = False

    def __init__(self, lock_fd: int) -> None:
        if self.failing:
            raise OSError("no more processes")
        assert lock_fd == 77
        self.reports, self.theirs = report_pair()
        self.pidfd, self._end = os.pipe()
        self.pid = 1_000 + len(self.made)
        self.plans: list[FeedPlan] = []
        self.signals: list[signal.Signals] = []
        self.code = 0
        self.buried = False
        self.made.append(self)

    def give(self, plan: FeedPlan) -> None:
        self.plans.append(plan)

    def signal(self, number: signal.Signals) -> None:
        self.signals.append(number)
        if number == signal.SIGKILL:
            self.end(-number)

    def end(self, code: int) -> None:
        self.code = code
        os.close(self._end)

    def bury(self) -> int:
        self.buried = True
        os.close(self.pidfd)
        self.reports.close()
        self.theirs.close()
        return self.code


class Clock:
    """Monotonic seconds that the test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


class World:
    """Feeds, and what they are told to have done."""

    def __init__(self, clock: Clock, count: int = 1) -> None:
        self.clock = clock
        self.told: list[tuple[Any, ...]] = []
        self.rings = {feed: [Ring(feed), Ring(feed + count)] for feed in range(count)}
        self.feeds = Feeds(
            self.rings,  # type: ignore[arg-type]
            [],
            self._plan_of,
            77,
        )
        self.gone = asyncio.Event()
        self.feeds.on_all_gone = self.gone.set

    def _plan_of(self, feed: int) -> FeedPlan:
        return FeedPlan("i", feed, (feed,), None, False, 0, 1, ())

    def feed_started(self, feed: int, link: FeedLink) -> None:
        assert link is self.feeds.all[feed].link
        self.told.append(("started", feed))

    def feed_told(self, feed: int, message: Mapping[str, Any]) -> None:
        self.told.append(("told", feed, message["event"]))

    def feed_ended(self, feed: int) -> None:
        self.told.append(("ended", feed))

    def process(self, feed: int = 0) -> Process:
        process: Any = self.feeds.all[feed].process
        assert isinstance(process, Process)
        return process

    def beat(self, feed: int = 0) -> None:
        for ring in self.rings[feed]:
            ring.heartbeat_ns += 1
            ring.writer_pid = self.process(feed).pid

    def look(self, seconds: float, *, beating: bool = False) -> None:
        for _ in range(round(seconds / LOOK_S)):
            self.clock.now_s += LOOK_S
            if beating:
                self.beat()
            self.feeds._look()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(module, "_Process", Process)
    monkeypatch.setattr(module, "monotonic", clock.monotonic)
    monkeypatch.setattr(Process, "made", [])
    yield clock
    for process in Process.made:
        if not process.buried:
            process.end(0)
            process.bury()


def run(clock: Clock, main: Callable[[World], Coroutine[Any, Any, None]], count: int = 1) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            world = World(clock, count)
            world.feeds.start(world)
            await main(world)
            # Its timers would go on into the next test's loop.
            world.feeds._stopping = True

    asyncio.run(bounded())


async def turns(done: Callable[[], bool]) -> None:
    """Let the loop turn until something is done."""
    while not done():  # noqa: ASYNC110 - it is the loop's turns that it takes
        await asyncio.sleep(0)


def test_feed_that_ends_is_started_again_at_once_and_then_ever_more_slowly(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []

    def at_once(delay_s: float, call: Callable[..., object], *args: Any) -> None:
        delays.append(delay_s)
        call(*args)

    async def main(world: World) -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "call_later", at_once)
        world.feeds._spare_timer = None
        for life in range(1, 12):
            assert world.feeds.all[0].restarts == life - 1
            process = world.process()
            process.end(1)
            await turns(lambda old=process: old.buried)  # type: ignore[misc]

    monkeypatch.setattr(Feeds, "_start_spare_soon", lambda self: None)
    run(clock, main)
    assert len(delays) == 10  # the first was no delay at all
    assert all(0 <= delay <= 10 for delay in delays)
    assert delays[0] <= 0.2
    assert max(delays) > 0.4


def test_feed_that_has_proved_itself_is_started_at_once_again(clock: Clock) -> None:
    async def main(world: World) -> None:
        for life in range(2, 5):
            clock.now_s += STABLE_S
            world.process().end(-9)
            await turns(lambda: len(Process.made) == life)  # noqa: B023 - called in this turn
        assert world.feeds.all[0].restarts == 3

    run(clock, main)


def test_last_words_of_a_dead_feed_are_heard_before_its_end_is_told(clock: Clock) -> None:
    async def main(world: World) -> None:
        process = world.process()
        Reporter(process.theirs).tell("used", id=1)
        process.end(1)
        await turns(lambda: ("ended", 0) in world.told)
        assert world.told[:3] == [("started", 0), ("told", 0, "used"), ("ended", 0)]
        assert process.buried

    run(clock, main)


def test_want_of_processes_is_tried_again(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(world: World) -> None:
        monkeypatch.setattr(Process, "failing", True)
        clock.now_s += STABLE_S
        world.feeds.all[0].failures = 0
        world.process().end(1)
        await turns(lambda: world.feeds.all[0].restarts >= 2)
        assert world.feeds.all[0].state == "waiting"
        monkeypatch.setattr(Process, "failing", False)
        await turns(lambda: world.feeds.all[0].process is not None)

    run(clock, main)


# ---- hanging ------------------------------------------------------------------------------------


def test_feed_that_no_longer_beats_is_killed_after_two_seconds_and_once(clock: Clock) -> None:
    async def main(world: World) -> None:
        world.look(10, beating=True)
        process = world.process()
        world.look(HANG_S)
        assert process.signals == []
        world.look(LOOK_S)
        assert process.signals == [signal.SIGKILL]
        assert world.feeds.all[0].state == "hung"
        world.look(HANG_S)
        assert process.signals == [signal.SIGKILL]
        await turns(lambda: process.buried)
        assert world.feeds.all[0].state == "starting"
        assert (world.feeds.all[0].hangs, world.feeds.all[0].restarts) == (1, 1)

    run(clock, main)


def test_one_ring_that_beats_is_a_beating_feed(clock: Clock) -> None:
    async def main(world: World) -> None:
        world.look(1, beating=True)
        for _ in range(40):
            world.rings[0][1].heartbeat_ns += 1
            world.look(LOOK_S)
        assert world.process().signals == []

    run(clock, main)


def test_new_feed_may_take_its_time_until_it_first_beats(clock: Clock) -> None:
    async def main(world: World) -> None:
        world.look(LOOK_S + START_S)
        assert world.process().signals == []
        world.look(LOOK_S)
        assert Process.made[0].signals == [signal.SIGKILL]

    run(clock, main)


def test_feed_is_not_killed_because_the_whole_host_stood_still(clock: Clock) -> None:
    async def main(world: World) -> None:
        world.look(1, beating=True)
        clock.now_s += 3_600.0
        world.feeds._look()
        assert world.process().signals == []
        world.look(10, beating=True)
        assert world.process().signals == []

    run(clock, main)


# ---- the spare ----------------------------------------------------------------------------------


def test_spare_becomes_the_next_feed_and_is_replaced(clock: Clock) -> None:
    async def main(world: World) -> None:
        world.feeds._start_spare()
        spare = Process.made[-1]
        assert spare.plans == []
        world.process().end(-9)
        await turns(lambda: bool(spare.plans))
        assert [plan.feed for plan in spare.plans] == [0]
        assert len(Process.made) == 2
        world.feeds._start_spare()
        assert len(Process.made) == 3
        world.feeds._start_spare()  # one is enough
        assert len(Process.made) == 3

    run(clock, main)


def test_half_of_the_feeds_killed_at_once_each_have_a_spare_and_serve_no_backoff(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPARE_DELAY_S", 0.0)
    served: list[Backoff] = []

    def serve(backoff: Backoff) -> float:
        served.append(backoff)
        return 0.0

    monkeypatch.setattr(Backoff, "next_s", serve)

    async def main(world: World) -> None:
        await turns(lambda: len(Process.made) == 6)
        spares = Process.made[4:]
        monkeypatch.setattr(Process, "failing", True)  # there is nothing else to start with
        for feed in (1, 3):
            world.process(feed).end(-9)
        await turns(lambda: all(spare.plans for spare in spares))
        assert [world.process(feed) for feed in (1, 3)] == spares
        assert [each.restarts for each in world.feeds.all] == [0, 1, 0, 1]
        assert served == []
        monkeypatch.setattr(Process, "failing", False)
        world.feeds._start_spare()
        await turns(lambda: len(Process.made) == 8)  # the next two, and no more
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(Process.made) == 8

    run(clock, main, count=4)


def test_processes_that_were_prepared_become_the_feeds(clock: Clock) -> None:
    async def main() -> None:
        world = World(clock, 3)
        world.feeds.prepare()
        assert [each.plans for each in Process.made] == [[], [], []]
        world.feeds.start(world)
        assert [[plan.feed for plan in each.plans] for each in Process.made] == [[0], [1], [2]]
        world.feeds._stopping = True

    asyncio.run(main())


def test_processes_that_were_prepared_in_vain_are_killed_and_buried(clock: Clock) -> None:
    async def main() -> None:
        world = World(clock, 3)
        world.feeds.prepare()
        world.feeds.discard()
        assert all(each.signals == [signal.SIGKILL] and each.buried for each in Process.made)

    asyncio.run(main())


def test_spare_that_dies_by_itself_is_buried_and_not_used(clock: Clock) -> None:
    async def main(world: World) -> None:
        world.feeds._start_spare()
        spare = Process.made[-1]
        spare.end(1)
        await turns(lambda: spare.buried)
        clock.now_s += STABLE_S
        world.process().end(1)
        await turns(lambda: len(Process.made) == 3)
        assert world.process() is Process.made[-1]

    run(clock, main)


def test_stop_ends_feeds_in_order_and_the_spare_at_once_and_waits_for_all(clock: Clock) -> None:
    async def main(world: World) -> None:
        world.feeds._start_spare()
        spare = Process.made[-1]
        world.feeds.stop()
        assert [each.process.signals for each in world.feeds.all] == [  # type: ignore[union-attr]
            [signal.SIGTERM],
            [signal.SIGTERM],
        ]
        await turns(lambda: spare.buried)
        assert not world.gone.is_set()
        for each in (0, 1):
            world.process(each).end(0)
        await world.gone.wait()
        assert len(Process.made) == 3  # nobody was started again

    run(clock, main, count=2)
