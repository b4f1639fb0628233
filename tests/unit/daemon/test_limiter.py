"""The limiter, on a clock that the tests turn, against a venue that counts every single thing."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdsys.daemon.limiter import Limiter, Permit, Usage
from mdsys.errors import FeedError
from mdsys.feed.venue import Limits, Window
from mdsys.feed.window import EXTRA_S, STRETCH


class Handle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """A clock and its timers."""

    def __init__(self) -> None:
        self.now = 5_000.0
        self.timers_set = 0
        self._numbers = count()
        self._timers: list[tuple[float, int, Handle, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Handle:
        assert delay_s >= 0.0
        self.timers_set += 1
        handle = Handle()
        entry = (self.now + delay_s, next(self._numbers), handle, callback)
        heapq.heappush(self._timers, entry)
        return handle

    def run(self, seconds: float = float("inf")) -> None:
        """Let so much time pass, or all until nothing is to come."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            at, _, handle, callback = heapq.heappop(self._timers)
            if not handle.cancelled:
                self.now = max(self.now, at)
                callback()
        if end < float("inf"):
            self.now = end


@pytest.fixture
def world() -> World:
    return World()


def limiter_of(world: World, **limits: object) -> Limiter:
    limiter = Limiter(world, world.call_later)
    limiter.configure("v", Limits(**limits))  # type: ignore[arg-type]
    return limiter


def held_s(window: Window) -> float:
    return window.seconds * STRETCH + EXTRA_S


# ---- windows ----


class Client:
    """Asks, and notes when each thing was granted; uses it at once unless told otherwise."""

    def __init__(self, limiter: Limiter, world: World, *, uses: bool = True) -> None:
        self.limiter = limiter
        self.world = world
        self.uses = uses
        self.grants: list[tuple[float, Permit]] = []

    def __call__(self, permit: Permit) -> None:
        self.grants.append((self.world.now, permit))
        if self.uses:
            self.limiter.used(permit)

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.grants]

    @property
    def numbers(self) -> list[int]:
        return [permit.number for _, permit in self.grants]

    def permit(self, number: int) -> Permit:
        """Return what was granted to an ask, counted from 1."""
        (found,) = (permit for _, permit in self.grants if permit.number == number)
        return found


def test_what_fits_is_granted_before_ask_returns(world: World) -> None:
    limiter = limiter_of(world, connects=(Window(3, 60.0),))
    client = Client(limiter, world)
    for _ in range(3):
        limiter.ask("v", "connect", client)
    assert len(client.grants) == 3
    limiter.ask("v", "connect", client)
    assert len(client.grants) == 3


@pytest.mark.parametrize("total", [1, 8, 9, 50, 400])
def test_messages_are_granted_as_fast_as_the_windows_allow(world: World, total: int) -> None:
    windows = (Window(8, 1.0), Window(300, 300.0))
    limiter = limiter_of(world, address_messages=windows)
    client = Client(limiter, world)
    start = world.now
    for _ in range(total):
        limiter.ask("v", "message", client)
    world.run()
    least = max((total - 1) // window.count * held_s(window) for window in windows)
    if total > 300:
        least += (total - 301) // 8 * held_s(windows[0])
    assert len(client.times) == total
    assert world.now - start <= least * 1.002 + 0.01 * (total // 8)
    assert world.now - start >= max((total - 1) // w.count * w.seconds for w in windows)


def test_a_permit_counts_until_its_use_is_told_and_a_window_from_then(world: World) -> None:
    limiter = limiter_of(world, connects=(Window(1, 10.0),))
    slow = Client(limiter, world, uses=False)
    quick = Client(limiter, world)
    limiter.ask("v", "connect", slow)
    limiter.ask("v", "connect", quick)
    world.run(500.0)
    assert not quick.grants
    limiter.used(slow.grants[0][1])
    used_at = world.now
    world.run()
    assert quick.times == [pytest.approx(used_at + 10.22, abs=0.02)]


def test_a_feed_that_dies_has_used_its_permits_at_its_death(world: World) -> None:
    limiter = limiter_of(world, connects=(Window(2, 10.0),))
    dead, other = Client(limiter, world, uses=False), Client(limiter, world)
    for _ in range(3):
        limiter.ask("v", "connect", dead, holder=0)
    limiter.ask("v", "connect", other, holder=1)
    assert len(dead.grants) == 2
    world.run(30.0)
    limiter.holder_ended(0)
    died_at = world.now
    world.run()
    assert len(dead.grants) == 2  # the third ask died with it
    assert other.times == [pytest.approx(died_at + 10.22, abs=0.02)]
    limiter.used(dead.grants[0][1])  # said too late: counted already
    assert [row.used for row in limiter.usage() if row.what == "connects"] == [1]


def test_what_is_withdrawn_counts_no_more(world: World) -> None:
    limiter = limiter_of(world, connects=(Window(1, 10.0),), connections=1)
    first, second = Client(limiter, world, uses=False), Client(limiter, world)
    limiter.ask("v", "connect", first)
    waiting = limiter.ask("v", "connect", second)
    later = limiter.ask("v", "connect", second)
    limiter.withdraw(waiting)
    limiter.withdraw(first.grants[0][1])
    assert second.numbers == [later.number]
    limiter.withdraw(later)  # used: it is too late
    assert [row.used for row in limiter.usage()] == [1, 1]


def test_more_than_a_limit_ever_allows_is_refused(world: World) -> None:
    limiter = limiter_of(world, rest_weight=(Window(100, 60.0),))
    with pytest.raises(FeedError, match="v: rest_weight of 101, but 100 at once"):
        limiter.ask("v", "rest", lambda _: None, count=101)


# ---- order ----


def test_a_large_ask_is_not_passed_by_small_ones(world: World) -> None:
    limiter = limiter_of(world, rest_weight=(Window(10, 60.0),))
    client = Client(limiter, world)
    for weight in (8, 9, 1, 1):
        limiter.ask("v", "rest", client, count=weight)
    assert client.numbers == [1]
    world.run()
    assert client.numbers == [1, 2, 3, 4]


def test_a_large_ask_is_not_passed_by_small_ones_of_other_keys(world: World) -> None:
    limiter = limiter_of(world, connects=(Window(3, 10.0),))
    client = Client(limiter, world)
    for key, many in (("a", 2), ("b", 2), ("c", 1), ("a", 1)):
        limiter.ask("v", "connect", client, key=key, count=many)
    assert client.numbers == [1]
    world.run()
    assert client.numbers == [1, 2, 3, 4]


def test_a_key_that_waits_holds_up_its_own_asks_only(world: World) -> None:
    limiter = limiter_of(world, connections=1, connects=(Window(10, 60.0),))
    client = Client(limiter, world)
    for key in ("a", "a", "a", "b"):
        limiter.ask("v", "connect", client, key=key)
    assert client.numbers == [1, 4]
    limiter.released(client.permit(1))
    assert client.numbers == [1, 4, 2]


def test_an_ask_that_waits_for_the_address_is_not_starved_by_other_keys(world: World) -> None:
    limiter = limiter_of(world, connections=1, connects=(Window(2, 10.0),))
    client = Client(limiter, world)
    limiter.ask("v", "connect", client, key="a")
    limiter.ask("v", "connect", client, key="a")  # waits for its key
    limiter.ask("v", "connect", client, key="b")
    limiter.released(client.permit(1))
    for key in "cdefgh":
        limiter.ask("v", "connect", client, key=key)
    assert client.numbers == [1, 3]
    world.run()
    assert client.numbers == [1, 3, 2, 4, 5, 6, 7, 8, 9]


def test_nothing_polls_while_asks_wait(world: World) -> None:
    limiter = limiter_of(world, connections=1, rest_weight=(Window(10, 60.0),))
    limiter.ask("v", "connect", Client(limiter, world))
    limiter.ask("v", "connect", Client(limiter, world))
    for weight in (8, 9, 1):
        limiter.ask("v", "rest", Client(limiter, world), count=weight)
    before = world.timers_set
    world.run(60.0)
    assert world.timers_set == before  # one timer, for the moment at which the second fits
    world.run(1_000.0)
    assert world.timers_set <= before + 3


# ---- places ----


def test_a_place_is_free_when_its_socket_has_ended(world: World) -> None:
    limiter = limiter_of(world, connections=2)
    client = Client(limiter, world)
    for _ in range(3):
        limiter.ask("v", "connect", client)
    world.run(1_000.0)
    assert client.numbers == [1, 2]
    limiter.released(client.permit(2))
    limiter.released(client.permit(2))  # it frees its place once
    limiter.ask("v", "connect", client)
    assert client.numbers == [1, 2, 3]


def test_places_of_a_dead_feed_are_free(world: World) -> None:
    limiter = limiter_of(world, connections=2)
    client = Client(limiter, world)
    limiter.ask("v", "connect", client, holder=0)
    limiter.ask("v", "connect", client, holder=1)
    limiter.ask("v", "connect", client, holder=1)
    limiter.holder_ended(0)
    assert client.numbers == [1, 2, 3]


def test_reconnects_come_ten_a_second_and_first_connects_at_once(world: World) -> None:
    limiter = limiter_of(world)
    client = Client(limiter, world)
    for _ in range(50):
        limiter.ask("v", "connect", client, holder=0)
    assert len(client.grants) == 50
    start = world.now
    for _ in range(50):
        limiter.ask("v", "reconnect", client, holder=0)
    assert len(client.grants) == 60
    world.run()
    assert 4.0 <= world.now - start < 4.3
    times = client.times[50:]
    assert all(times[i + 10] - times[i] >= 1.0 for i in range(40))


# ---- what the venue says ----


def test_a_pause_holds_up_all_rest_of_that_venue_and_nothing_else(world: World) -> None:
    limiter = limiter_of(world, rest_weight=(Window(10, 60.0),))
    limiter.configure("w", Limits())
    client = Client(limiter, world)
    start = world.now
    limiter.pause("v", "rest", 30.0)
    limiter.pause("v", "rest", 5.0)  # never shorter
    limiter.ask("v", "rest", client)
    limiter.ask("w", "rest", client)
    limiter.ask("v", "connect", client)
    assert len(client.grants) == 2
    world.run()
    assert client.times[2] == pytest.approx(start + 30.0, abs=0.01)


def test_a_venue_that_counted_more_than_we_did_is_believed(world: World) -> None:
    limiter = limiter_of(world, rest_weight=(Window(100, 60.0),))
    client = Client(limiter, world)
    limiter.ask("v", "rest", client, count=10)
    limiter.correct("v", "rest", 95, 60.0)
    limiter.ask("v", "rest", client, count=6)
    assert len(client.grants) == 1
    limiter.ask("v", "rest", client, count=1)
    world.run()
    assert len(client.grants) == 3


# ---- life ----


def test_changed_limits_hold_for_what_was_used_before(world: World) -> None:
    limiter = limiter_of(world, connects=(Window(10, 60.0),))
    client = Client(limiter, world)
    for _ in range(10):
        limiter.ask("v", "connect", client)
    limiter.configure("v", Limits(connects=(Window(12, 60.0),), connections=11))
    for _ in range(3):
        limiter.ask("v", "connect", client)
    assert len(client.grants) == 11
    limiter.released(client.permit(1))
    assert len(client.grants) == 12


def test_an_ask_larger_than_a_tightened_limit_goes_alone(world: World) -> None:
    limiter = limiter_of(world, rest_weight=(Window(100, 60.0),))
    client = Client(limiter, world)
    limiter.ask("v", "rest", client, count=60)
    limiter.ask("v", "rest", client, count=50)
    limiter.configure("v", Limits(rest_weight=(Window(40, 60.0),)))
    world.run()
    assert len(client.grants) == 2


def test_a_grant_that_fails_does_not_take_the_others_with_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = limiter_of(world, connects=(Window(2, 60.0),))
    client = Client(limiter, world)

    def fail(_: Permit) -> None:
        raise RuntimeError("its feed is gone")

    limiter.ask("v", "connect", fail)
    limiter.ask("v", "connect", client)
    limiter.ask("v", "connect", client)
    assert len(client.grants) == 2  # what failed is given back
    assert "could not be handed over" in caplog.text


def test_asks_from_inside_a_grant_are_answered(world: World) -> None:
    limiter = limiter_of(world, address_messages=(Window(3, 1.0),))
    times: list[float] = []

    def next_one(permit: Permit) -> None:
        times.append(world.now)
        limiter.used(permit)
        if len(times) < 10:
            limiter.ask("v", "message", next_one)

    limiter.ask("v", "message", next_one)
    assert len(times) == 3
    world.run()
    assert len(times) == 10


def test_waiting_for_a_permit_ends_when_it_is_cancelled() -> None:
    async def scenario() -> None:
        limiter = Limiter()
        limiter.configure("v", Limits(rest_weight=(Window(1, 3_600.0),)))
        first = await limiter.wait("v", "rest")
        task = asyncio.create_task(limiter.wait("v", "rest"))
        await asyncio.sleep(0)
        assert [row.waiting for row in limiter.usage()] == [1]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [row.waiting for row in limiter.usage()] == [0]
        limiter.withdraw(first)
        await limiter.wait("v", "rest")

    asyncio.run(scenario())


def test_usage_shows_each_limit_in_force(world: World) -> None:
    limiter = limiter_of(
        world,
        connections=3,
        connects=(Window(8, 1.0), Window(300, 300.0)),
        key_connects=(Window(5, 60.0),),
    )
    client = Client(limiter, world)
    limiter.ask("v", "connect", client, key="k")
    assert limiter.usage() == [
        Usage("connections", "v key k", 1, 3, None, 0),
        Usage("key_connects", "v key k", 1, 5, 60.0, 0),
        Usage("connects", "v address", 1, 8, 1.0, 0),
        Usage("connects", "v address", 1, 300, 300.0, 0),
    ]


# ---- the venue's side ----

LIMITS = st.builds(
    Limits,
    connections=st.sampled_from([None, 1, 3]),
    connects=st.sampled_from([(), (Window(3, 1.0),), (Window(2, 0.5), Window(7, 20.0))]),
    key_connects=st.sampled_from([(), (Window(2, 5.0),)]),
    address_messages=st.sampled_from([(), (Window(4, 1.0),), (Window(1, 0.2), Window(9, 30.0))]),
    rest_weight=st.just((Window(20, 10.0),)),
)


@given(limits=LIMITS, seed=st.integers(0, 1 << 32))
@settings(max_examples=150, deadline=None)
def test_the_venue_never_sees_a_breach(limits: Limits, seed: int) -> None:
    """Feeds ask, dawdle, use, lose sockets, give up and die at random; the venue counts exactly."""
    rng = random.Random(seed)
    world = World()
    limiter = Limiter(world, world.call_later)
    limiter.configure("v", limits)
    seen: dict[tuple[str, str], list[float]] = {}
    opened: dict[Permit, str] = {}  # what opened a socket -> key, as the venue sees them
    alive = {feed: set[Permit]() for feed in range(3)}
    done: set[Permit] = set()
    kinds = ["connect", "reconnect", "message", "rest"]

    def do(permit: Permit) -> None:
        """It reaches the venue."""
        done.add(permit)
        key = permit.key or ""
        if permit.what in ("connect", "reconnect"):
            seen.setdefault(("connects", ""), []).append(world.now)
            seen.setdefault(("key_connects", key), []).append(world.now)
            opened[permit] = key
            if limits.connections is not None:
                assert sum(each == key for each in opened.values()) <= limits.connections
        elif permit.what == "message":
            seen.setdefault(("address_messages", ""), []).append(world.now)
        else:
            seen.setdefault(("rest_weight", ""), []).extend([world.now] * permit.count)

    def granted(permit: Permit) -> None:
        feed = permit.holder
        assert isinstance(feed, int)
        alive[feed].add(permit)
        dawdle_s = rng.choice([0.0, 0.0, rng.random() * 3])

        def act() -> None:
            if permit in alive[feed]:
                do(permit)
                world.call_later(rng.choice([0.0, rng.random()]), told)

        def told() -> None:
            if permit in alive[feed]:
                alive[feed].discard(permit)
                limiter.used(permit)

        world.call_later(dawdle_s, act)

    for _ in range(120):
        world.run(rng.choice([0.0, rng.random() * 0.3, rng.random() * 4]))
        feed = rng.randrange(3)
        action = rng.random()
        if action < 0.85:
            what = rng.choice(kinds)
            limiter.ask(
                "v",
                what,  # type: ignore[arg-type]
                granted,
                key=rng.choice(["a", "b"]) if what.endswith("connect") else None,
                holder=feed,
                count=rng.randint(1, 9) if what == "rest" else 1,
            )
        elif action < 0.93 and any(each.state == "used" for each in opened):
            lost = rng.choice([each for each in opened if each.state == "used"])
            del opened[lost]
            limiter.released(lost)
        else:  # death: what is under way may still be done, at any time before it is noticed
            for permit in alive[feed]:
                if permit not in done and rng.random() < 0.5:
                    do(permit)
            alive[feed] = set()
            for lost in [each for each in opened if each.holder == feed]:
                del opened[lost]
            limiter.holder_ended(feed)
    world.run(500.0)
    for (what, _), times in seen.items():
        for window in getattr(limits, what):
            for i in range(len(times) - window.count):
                assert times[i + window.count] - times[i] >= window.seconds, (what, window)


def test_what_was_granted_and_what_had_to_wait_is_counted(world: World) -> None:
    limiter = limiter_of(world)
    client = Client(limiter, world)
    for _ in range(3):
        limiter.ask("v", "connect", client)
    asks = [limiter.ask("v", "reconnect", client) for _ in range(12)]
    assert (limiter.grant_count, limiter.held_count, limiter.held_reconnect_count) == (13, 2, 2)
    assert limiter.waiting_count == 2
    limiter.withdraw(asks[-1])
    assert limiter.waiting_count == 1
    world.run()
    assert (limiter.grant_count, limiter.held_count, limiter.waiting_count) == (14, 2, 0)
