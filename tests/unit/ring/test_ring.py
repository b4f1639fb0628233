"""The ring, its reader and the filter, against a list that forgets nothing."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mdsys import TICK, Kind, Status, _consume, _native
from mdsys.record.record import Ticks
from tests.instances import NOW, trades

DEPTH = 64
UNREAD_MAX = DEPTH - 2
"""Two slots are claimed ahead: so far behind, and no further, a reader loses nothing."""


def new_ring(depth: int = DEPTH) -> mmap.mmap:
    memory = mmap.mmap(-1, _native.ring_size(depth))
    _native.Ring.create(memory, depth, 0, 0)
    _native.publish_segment(memory, NOW)
    return memory


def writer_of(memory: mmap.mmap) -> _native.RingWriter:
    return _native.RingWriter(memory, 1, 1, NOW)


def bitmap(ids: set[int], words: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    out = np.zeros(words + 1, "<u8")
    out[words] = ~np.uint64(0)  # whoever looks beyond the end finds everything wanted
    for number in ids:
        out[number // 64] |= np.uint64(1 << number % 64)
    return out[:words]


def poll(poller: _consume.Poller, count: int = 4 * DEPTH) -> Ticks:
    out = np.zeros(count, TICK)
    return out[: poller.poll_into(out)]


@dataclass
class Follower:
    """A reader and what it must have seen."""

    poller: _consume.Poller
    start: int
    wanted: set[int] | None
    next: int = 0
    received: int = 0
    filtered: int = 0
    lost: int = 0
    missed: list[tuple[int, int]] = field(default_factory=list)
    """Stretches not read, since they were last forgotten."""
    resumed: int = 0


class RingMachine(RuleBasedStateMachine):
    """One writer that restarts, readers that come at any time and read as much as they like."""

    @initialize()
    def begin(self) -> None:
        self.memory = new_ring()
        self.writer = writer_of(self.memory)
        self.log: list[bytes] = []  # record s is at s - 1, without its sequence
        self.followers: list[Follower] = []
        self.epoch = 1

    def publish(self, ticks: Ticks) -> None:
        self.writer.publish_records(ticks)
        self.log += [tick.tobytes()[8:] for tick in ticks]

    @rule(count=st.integers(0, DEPTH // 4), symbol_id=st.sampled_from([0, 1, 2, 63, 64, 130]))
    def publish_frame(self, count: int, symbol_id: int) -> None:
        self.publish(trades(count, symbol_id=symbol_id, first=len(self.log)))

    @rule(frames=st.integers(4, 20))
    def publish_more_than_a_turn_without_a_flush(self, frames: int) -> None:
        for _ in range(frames):
            self.publish(trades(DEPTH // 4, symbol_id=2, first=len(self.log)))

    @precondition(lambda self: self.followers)
    @rule(data=st.data(), unread=st.integers(UNREAD_MAX - 1, UNREAD_MAX + 2))
    def publish_until_a_reader_is_at_the_edge(self, data: st.DataObject, unread: int) -> None:
        follower = data.draw(st.sampled_from(self.followers))
        while (count := follower.next + unread - 1 - len(self.log)) > 0:
            self.publish(trades(min(count, DEPTH // 4), symbol_id=64, first=len(self.log)))

    @rule()
    def flush(self) -> None:
        self.writer.flush(NOW + len(self.log))
        assert self.writer.cursor == len(self.log)
        assert self.writer.watermark_ns == NOW + len(self.log)

    @rule()
    def restart_the_writer(self) -> None:
        self.writer = writer_of(self.memory)
        self.epoch += 1
        status = np.frombuffer(self.memory, TICK, DEPTH, _native.HEADER_SIZE)[
            (len(self.log) + 1) % DEPTH
        ]
        assert (status["kind"], status["what"]) == (Kind.STATUS, Status.WRITER_RESTARTED)
        assert (status["symbol_id"], status["seq"]) == (0, len(self.log) + 1)
        self.log.append(status.tobytes()[8:])

    @precondition(lambda self: len(self.followers) < 4)
    @rule(wanted=st.none() | st.sets(st.sampled_from([1, 63, 64, 127]), min_size=1))
    def attach(self, wanted: set[int] | None) -> None:
        words = None if wanted is None else bitmap(wanted, 2)
        poller = _consume.Poller([_native.Ring(self.memory)], words)
        start = len(self.log) + 1
        assert poller.cursors == [start], "a reader begins with the next record"
        self.followers.append(
            Follower(poller, start, wanted, next=start, missed=[(0, start)], resumed=start)
        )

    @precondition(lambda self: self.followers)
    @rule(data=st.data(), count=st.integers(1, 2 * DEPTH))
    def read(self, data: st.DataObject, count: int) -> None:
        follower = data.draw(st.sampled_from(self.followers))
        poller = follower.poller
        published = len(self.log)
        overrun = published + 1 - follower.next > UNREAD_MAX
        got = poll(poller, count)
        lost = poller.lost - follower.lost
        assert (lost > 0) == overrun, "lost is what was overwritten, and nothing else"
        first, end = follower.next + lost, poller.cursors[0]
        if overrun:  # and so that the reader is not overrun again at once
            assert DEPTH // 4 <= published + 1 - first <= DEPTH // 2
            follower.missed.append((follower.next, first))
            follower.resumed = first
        passed = [self.log[s - 1] for s in range(first, end)]
        handed = [(s, raw) for s, raw in enumerate(passed, first) if self.wants(follower, raw)]
        assert [int(seq) for seq in got["seq"]] == [seq for seq, _ in handed]
        assert [tick.tobytes()[8:] for tick in got] == [raw for _, raw in handed]
        if len(got) < count and not overrun:
            assert end == published + 1, "a short batch means that there is no more"
        follower.next, follower.lost = end, poller.lost
        follower.received += len(handed)
        follower.filtered += len(passed) - len(handed)

    @precondition(lambda self: self.followers)
    @rule(data=st.data())
    def forget_what_was_missed(self, data: st.DataObject) -> None:
        follower = data.draw(st.sampled_from(self.followers))
        follower.poller.forget_missed()
        follower.missed.clear()

    @staticmethod
    def wants(follower: Follower, raw: bytes) -> bool:
        symbol_id = int.from_bytes(raw[16:20], "little")
        return follower.wanted is None or symbol_id == 0 or symbol_id in follower.wanted

    @invariant()
    def nothing_is_unaccounted_for(self) -> None:
        if not hasattr(self, "writer"):
            return
        assert self.writer.next == len(self.log) + 1
        assert self.writer.head == len(self.log)
        assert self.writer.epoch == self.epoch
        for follower in self.followers:
            poller = follower.poller
            assert (poller.received, poller.filtered) == (follower.received, follower.filtered)
            read = poller.received + poller.filtered + poller.lost
            assert read == follower.next - follower.start
            start = follower.missed[0][0] if follower.missed else follower.resumed
            assert poller.missed == [(start, follower.resumed)]

    def teardown(self) -> None:
        if not hasattr(self, "writer"):
            return
        for follower in self.followers:
            while follower.poller.cursors[0] <= len(self.log):
                before = follower.poller.cursors[0]
                poll(follower.poller)
                assert follower.poller.cursors[0] > before, "a reader stands still"
            total = follower.poller.received + follower.poller.filtered + follower.poller.lost
            assert total == len(self.log) + 1 - follower.start


def test_readers_see_every_record_or_know_that_they_lost_it() -> None:
    run_state_machine_as_test(
        RingMachine,
        settings=settings(
            max_examples=150, stateful_step_count=40, deadline=None, derandomize=True
        ),
    )


@given(
    depth_log2=st.integers(6, 9),
    sizes=st.lists(st.integers(0, 16), max_size=60),
    count=st.integers(1, 1024),
)
@settings(deadline=None, max_examples=100, derandomize=True)
def test_reader_that_keeps_up_loses_nothing(depth_log2: int, sizes: list[int], count: int) -> None:
    memory = new_ring(1 << depth_log2)
    writer, poller = writer_of(memory), _consume.Poller([_native.Ring(memory)])
    seen: list[int] = []
    for size in sizes:
        writer.publish_records(trades(size, first=writer.next - 1))
        while len(got := poll(poller, count)):
            seen += got["seq"].tolist()
    assert seen == list(range(1, writer.next))
    assert (poller.received, poller.lost) == (len(seen), 0)


def test_frame_of_a_quarter_of_the_ring_is_taken_and_a_larger_one_is_refused() -> None:
    memory = new_ring()
    writer, poller = writer_of(memory), _consume.Poller([_native.Ring(memory)])
    writer.publish_records(np.zeros(0, TICK))
    assert writer.next == 1
    writer.publish_records(trades(DEPTH // 4))
    with pytest.raises(ValueError, match="depth/4"):
        writer.publish_records(trades(DEPTH // 4 + 1))
    with pytest.raises(ValueError, match="whole records"):
        writer.publish_records(bytes(63))
    assert writer.next == DEPTH // 4 + 1
    assert poll(poller)["trade_id"].tolist() == list(range(DEPTH // 4))


FRAMES_TO_THE_EDGE = [[1] * UNREAD_MAX, [16, 16, 16, 14], [16, 16, 16, 12, 2], [3] * 20 + [2]]


@pytest.mark.parametrize("frames", FRAMES_TO_THE_EDGE)
def test_reader_that_is_a_ring_but_the_claimed_slots_behind_loses_nothing(
    frames: list[int],
) -> None:
    memory = new_ring()
    writer, poller = writer_of(memory), _consume.Poller([_native.Ring(memory)])
    for size in frames:
        writer.publish_records(trades(size))
    assert poll(poller)["seq"].tolist() == list(range(1, UNREAD_MAX + 1))
    assert poller.lost == 0


@pytest.mark.parametrize("frames", FRAMES_TO_THE_EDGE)
def test_reader_that_is_one_record_more_behind_is_lapped_and_goes_on_half_a_ring_behind(
    frames: list[int],
) -> None:
    memory = new_ring()
    writer, poller = writer_of(memory), _consume.Poller([_native.Ring(memory)])
    poller.forget_missed()
    for size in [*frames, 1]:
        writer.publish_records(trades(size))
    first = UNREAD_MAX + 1 - DEPTH // 2 + 1
    assert poll(poller)["seq"].tolist()[0] == first
    assert poller.lost == first - 1
    assert poller.missed == [(1, first)]


def test_next_writer_claims_no_more_than_the_last_one_had() -> None:
    memory = new_ring()
    writer, poller = writer_of(memory), _consume.Poller([_native.Ring(memory)])
    for size in [16, 16, 16, 13]:
        writer.publish_records(trades(size))
    writer_of(memory)  # and publishes that it came: the last record that there is room for
    assert len(poll(poller)) == UNREAD_MAX
    assert poller.lost == 0


def test_epoch_and_sequence_go_on_under_the_next_writer() -> None:
    memory = new_ring()
    first = writer_of(memory)
    assert (first.epoch, first.next) == (1, 1), "the first writer of all has restarted nothing"
    first.publish_records(trades(5))
    second = writer_of(memory)
    assert (second.epoch, second.next) == (2, 7)


@pytest.mark.parametrize("unflushed", [0, 1, 15, 16, 63, 64, 65, 200, 1000])
def test_next_writer_finds_the_last_record_however_long_ago_the_flush(unflushed: int) -> None:
    memory = new_ring()
    writer = writer_of(memory)
    writer.publish_records(trades(7))
    writer.flush(NOW)
    for i in range(unflushed):
        writer.publish_records(trades(1, first=i))
    assert writer_of(memory).next == 7 + unflushed + 2


@pytest.mark.parametrize("words", [1, 2])
def test_filter_passes_wanted_ids_and_whole_ring_statuses(words: int) -> None:
    memory = new_ring(256)
    writer = writer_of(memory)
    wanted = {1, 63} if words == 1 else {1, 63, 64, 65, 127}
    poller = _consume.Poller([_native.Ring(memory)], bitmap(wanted, words))
    ids = [0, 1, 2, 62, 63, 64, 65, 66, 126, 127, 128, 129, 192, 1 << 31, (1 << 32) - 1]
    ticks = trades(len(ids))
    ticks["symbol_id"] = ids
    ticks["kind"][0] = Kind.STATUS
    writer.publish_records(ticks)
    got = poll(poller)
    assert got["symbol_id"].tolist() == [i for i in ids if i == 0 or i in wanted]
    assert poller.received + poller.filtered == len(ids)


def test_status_of_an_unwanted_symbol_is_filtered_and_of_a_wanted_one_is_not() -> None:
    memory = new_ring()
    writer, poller = writer_of(memory), _consume.Poller([_native.Ring(memory)], bitmap({2}, 1))
    ticks = trades(3)
    ticks["kind"], ticks["symbol_id"] = Kind.STATUS, [1, 2, 0]
    writer.publish_records(ticks)
    assert poll(poller)["symbol_id"].tolist() == [2, 0]


def test_filter_that_wants_nothing_still_moves_on() -> None:
    memory = new_ring()
    writer, poller = writer_of(memory), _consume.Poller([_native.Ring(memory)], bitmap(set(), 1))
    for size in [16, 16, 16, 14]:
        writer.publish_records(trades(size))
    assert len(poll(poller, 1)) == 0
    assert (poller.filtered, poller.cursors) == (UNREAD_MAX, [UNREAD_MAX + 1])


def test_poll_returns_no_more_than_there_is_room_for() -> None:
    memory = new_ring()
    writer, poller = writer_of(memory), _consume.Poller([_native.Ring(memory)])
    writer.publish_records(trades(10))
    out = np.zeros(4, TICK)
    guarded = out[:3]
    assert poller.poll_into(guarded) == 3
    assert out["seq"].tolist() == [1, 2, 3, 0]
    assert poller.poll_into(out) == 4
    assert out["seq"].tolist() == [4, 5, 6, 7]


def test_rings_take_turns_when_the_buffer_is_always_full() -> None:
    rings = [new_ring() for _ in range(3)]
    writers = [writer_of(memory) for memory in rings]
    poller = _consume.Poller([_native.Ring(memory) for memory in rings])
    for i, writer in enumerate(writers):
        writer.publish_records(trades(16, symbol_id=i + 1))
    assert [int(poll(poller, 4)["symbol_id"][0]) for _ in range(6)] == [1, 2, 3, 1, 2, 3]
    assert poller.cursors == [9, 9, 9]


def test_poller_of_no_rings_reads_nothing() -> None:
    assert len(poll(_consume.Poller([]))) == 0


def read_only() -> Ticks:
    out = np.zeros(4, TICK)
    out.flags.writeable = False
    return out


@pytest.fixture
def full_ring() -> Iterator[_consume.Poller]:
    memory = new_ring()
    poller = _consume.Poller([_native.Ring(memory)])
    writer_of(memory).publish_records(trades(8))
    yield poller
    assert len(poll(poller)) == 8, "a refused buffer takes nothing out of the ring"


@pytest.mark.parametrize(
    "out",
    [
        pytest.param(read_only(), id="read-only array"),
        pytest.param(bytes(64), id="bytes"),
        pytest.param(np.zeros(8, TICK)[::2], id="strided"),
        pytest.param(np.zeros(8, TICK)[::-1], id="reversed"),
        pytest.param(np.zeros(0, TICK), id="empty"),
        pytest.param(bytearray(63), id="shorter than a record"),
        pytest.param(bytearray(65), id="not whole records"),
        pytest.param(None, id="None"),
        pytest.param(7, id="int"),
    ],
)
def test_poll_into_refuses_what_it_cannot_fill(full_ring: _consume.Poller, out: object) -> None:
    for _ in range(2):  # also when the same object comes again
        with pytest.raises((ValueError, TypeError, BufferError)):
            full_ring.poll_into(out)  # type: ignore[arg-type]


def test_poll_into_keeps_the_callers_buffer_alive_and_unresizable() -> None:
    memory = new_ring()
    writer, poller = writer_of(memory), _consume.Poller([_native.Ring(memory)])
    out = bytearray(64)
    poller.poll_into(out)
    with pytest.raises(BufferError):
        out.extend(bytes(64))
    writer.publish_records(trades(1))
    assert poller.poll_into(out) == 1


def test_waiting_poll_wakes_when_a_record_comes() -> None:
    memory = new_ring()
    writer, poller = writer_of(memory), _consume.Poller([_native.Ring(memory)])
    got: list[int] = []
    waiting = threading.Event()

    def wait() -> None:
        out = np.zeros(1, TICK)
        waiting.set()
        got.append(poller.poll_into(out, 60.0))

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait()
    writer.publish_records(trades(1))
    thread.join()
    assert got == [1]


@pytest.mark.parametrize("timeout", [0.0, 0.002, -1.0, float("nan")])
def test_poll_of_a_silent_ring_comes_back_with_nothing(timeout: float) -> None:
    poller = _consume.Poller([_native.Ring(new_ring())])
    assert poller.poll_into(np.zeros(1, TICK), timeout) == 0


def test_waiting_poll_can_be_interrupted() -> None:
    # Ctrl-C while the native loop waits: the signal's handler runs, its exception comes out.
    import signal

    class Interrupted(Exception):
        pass

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    poller = _consume.Poller([_native.Ring(new_ring())])
    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.main_thread().ident
    assert main is not None
    thread = threading.Timer(0.01, signal.pthread_kill, (main, signal.SIGUSR1))
    thread.start()
    try:
        with pytest.raises(Interrupted):
            poller.poll_into(np.zeros(1, TICK), 60.0)
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
