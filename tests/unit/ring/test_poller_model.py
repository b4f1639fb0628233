"""Several rings, a poller of any policy and filter, restarts, laps, jumps and refreshes, against a
model that forgets nothing: which records come, in which order, and where each of the rest went."""

from __future__ import annotations

import mmap
import random
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from mdsys import TICK, Kind, Status, _consume, _native
from mdsys.record.record import ABSENT
from tests.conflation import BODY, SNAPSHOT, Record, conflate, packed, plain
from tests.instances import NOW

DEPTH = 64
SYMBOLS = 6
UNREAD_MAX = DEPTH - 2
"""Two slots are claimed ahead."""
CELL_SIZE, CELL_PART, PAGE_SIZE = 576, {Kind.TRADE: 64, Kind.QUOTE: 128}, 4096
DROP_OLDEST, CONFLATE, LOSSLESS = 0, 1, 2
TRIES, CHUNK = 16, 64
COUNTERS = ("received", "filtered", "conflated", "dropped", "lost")


def mapping(size: int) -> mmap.mmap:
    return mmap.mmap(-1, -(-size // PAGE_SIZE) * PAGE_SIZE)


@dataclass
class Ring:
    """One ring: the real one, all that was ever published into it, and where a reader of it is."""

    memory: mmap.mmap
    writer: _native.RingWriter
    epoch: int = 1
    published: list[Record] = field(default_factory=list)
    cursor: int = 0
    """As the header must have it: the last flush, or the last quarter turn."""
    start: int = 1
    next: int = 1
    missed: int = 1
    resumed: int = 1
    pressed: int = 0

    @property
    def head(self) -> int:
        return len(self.published)

    @property
    def lag(self) -> int:
        return max(self.cursor + 1 - self.next, 0)

    def append(self, records: list[Record]) -> None:
        """Take note of one frame."""
        first = self.head + 1
        for record in records:
            self.published.append({**record, "seq": self.head + 1})
        if first // (DEPTH // 4) != (self.head + 1) // (DEPTH // 4):
            self.cursor = self.head

    def skip_to(self, sequence: int) -> int:
        """Go on there, if it lies ahead; return how many records that leaves out."""
        if sequence <= self.next:
            return 0
        if self.missed == self.resumed:
            self.missed = self.next
        count = sequence - self.next
        self.next = self.resumed = sequence
        return count


class Model:
    """What a poller must do, in the words of its contract."""

    def __init__(self, rings: list[Ring], wanted: set[int] | None, policy: int, lag_max: float):
        self.rings = rings
        self.wanted = wanted
        self.policy = policy
        self.lag_max = lag_max
        self.turn = 0
        self.counts = dict.fromkeys(COUNTERS, 0)

    def wants(self, record: Record) -> bool:
        return self.wanted is None or record["symbol_id"] in {0, *self.wanted}

    def read(self, ring: Ring, count: int) -> tuple[list[Record], bool]:
        """Read up to count records of one ring; return the wanted ones, and whether it was lapped.

        A lapped reader goes on half a ring behind the head, and asks for less.
        """
        lapped = ring.head - ring.next >= UNREAD_MAX
        if lapped:
            self.counts["lost"] += ring.skip_to(ring.head + 1 - DEPTH // 2)
            count = count // 4 + 1
        got = ring.published[ring.next - 1 : ring.next - 1 + count]
        ring.next += len(got)
        kept = [record for record in got if self.wants(record)]
        self.counts["filtered"] += len(got) - len(kept)
        return kept, lapped

    def relieve(self, ring: Ring, *, lapped: bool) -> None:
        """Act on the lag after a read that took all it asked for, or was lapped."""
        if self.lag_max == float("inf") or (ring.lag < self.lag_max and not lapped):
            ring.pressed = 0
            return
        ring.pressed = min(ring.pressed + 1, 2)
        if ring.pressed == 2 and self.policy == DROP_OLDEST:
            self.counts["dropped"] += ring.skip_to(ring.cursor + 1 - int(self.lag_max) // 2)
            ring.pressed = 0

    def plainly(self, ring: Ring, count: int) -> list[Record]:
        """Read until count are found, the end is reached, or a whole ring was of no interest."""
        out: list[Record] = []
        passed_over, lapped = 0, False
        while True:
            before, asked = ring.next, count - len(out)
            lost = self.counts["lost"]
            kept, lapped_now = self.read(ring, asked)
            lapped = lapped or lapped_now
            taken = ring.next - before - (self.counts["lost"] - lost)
            passed_over += taken - len(kept)
            out += kept
            if taken != asked or len(out) == count or passed_over >= DEPTH:
                break
        if taken == asked or lapped:
            self.relieve(ring, lapped=lapped)
        else:
            ring.pressed = 0
        return out

    def conflating(self, ring: Ring, count: int) -> list[Record]:
        """Read up to the head and merge, as far as there is room for what comes of it."""
        lag = ring.lag
        pieces: list[list[Record]] = [[]]
        out: list[Record] = []
        kept_count, lapped_once = 0, False
        while lag > 0 and len(out) < count:
            before = ring.next
            kept, lapped = self.read(ring, min(lag, CHUNK, count - len(out)))
            lapped_once = lapped_once or lapped
            if lapped:
                pieces.append([])
            if ring.next == before:
                break
            lag -= ring.next - before
            pieces[-1] += kept
            kept_count += len(kept)
            out = conflate(pieces, SYMBOLS + 1)
        self.counts["conflated"] += kept_count - len(out)
        if not lapped_once and ring.lag < int(self.lag_max) // 2 + 1:
            ring.pressed = 0
        return out

    def poll(self, count: int) -> list[Record]:
        """Return what one poll must bring."""
        out: list[Record] = []
        for _ in range(len(self.rings)):
            if len(out) == count:
                break
            ring = self.rings[self.turn]
            self.turn = (self.turn + 1) % len(self.rings)
            if self.policy == CONFLATE and ring.pressed == 2:
                out += self.conflating(ring, count - len(out))
            else:
                out += self.plainly(ring, count - len(out))
        self.counts["received"] += len(out)
        return out

    def refresh(self, cells: dict[tuple[int, Kind], Record], ring_of: list[int]) -> list[Record]:
        """Return the newest values among what was missed."""
        out = []
        for symbol_id in range(1, SYMBOLS + 1):
            ring = self.rings[ring_of[symbol_id]]
            for kind in (Kind.TRADE, Kind.QUOTE):
                cell = cells.get((symbol_id, kind))
                if (
                    cell is not None
                    and self.wants(cell)
                    and ring.missed <= cell["seq"] < ring.resumed
                ):
                    out.append({**cell, "flags": cell["flags"] | SNAPSHOT})
        for ring in self.rings:
            ring.missed = ring.resumed
        return out


def frame_of(seed: int, size: int) -> list[Record]:
    """Return random records; one integer for all, so that a run's choices go into its steps."""
    dice = random.Random(seed)
    return [
        {
            "seq": 0,
            "ts_event": dice.randrange(2**62),
            "ts_recv": dice.randrange(2**62),
            "symbol_id": dice.randrange(SYMBOLS),  # of the ring's, see `publish`
            "kind": dice.choice([1, 1, 1, 1, 1, 2, 2, 2, 4, 7] if seed % 2 else [1, 1, 1, 2, 2]),
            "flags": dice.choice([0, 1, 2, 8, 9, SNAPSHOT if seed % 4 == 3 else 1]),
            "price_scale": 8,
            "size_scale": 8,
            "word0": dice.randrange(1, 2**40),
            "word1": dice.choice([1, 2, 3, 1000, ABSENT if seed % 4 == 3 else 7, 2**61]),
            "word2": dice.randrange(100),
            "word3": int(dice.random() < 0.1),
        }
        for _ in range(size)
    ]


seeds = st.integers(0, 10_000)
rings = st.integers(0, 2)


class PollerMachine(RuleBasedStateMachine):
    """One instance, one poller, random interleavings."""

    policy = DROP_OLDEST

    @initialize(
        ring_count=st.integers(1, 3),
        wanted=st.none() | st.sets(st.integers(1, SYMBOLS)),
        queue_max=st.sampled_from([5, 20, 40, 1000, 1, 0]),
        threshold=st.sampled_from([0.25, 0.5, 1.0]),
        past=st.integers(0, 16),
        late=st.booleans(),
    )
    def begin(
        self,
        ring_count: int,
        wanted: set[int] | None,
        queue_max: int,
        threshold: float,
        past: int,
        late: bool,
    ) -> None:
        symbols, cache = mapping(_native.symbols_size(16)), mapping(_native.cache_size(16))
        _native.Symbols.create(symbols, 16, ring_count, 1, b"/dev/shm", b"model")
        _native.Cache.create(cache, 16)
        for memory in (symbols, cache):
            _native.publish_segment(memory, NOW)
        self.symbols, self.cache = _native.Symbols(symbols, True), _native.Cache(cache)
        self.cache_memory = cache
        self.ring_of = [0] + [i % ring_count for i in range(SYMBOLS)]
        for symbol_id in range(1, SYMBOLS + 1):
            self.symbols.add(b"V:S%d" % symbol_id, self.ring_of[symbol_id], 8, 8)
        self.cells: dict[tuple[int, Kind], Record] = {}
        self.seen: dict[tuple[int, Kind], int] = {}
        self.reader_id = 0
        self.rings = []
        for index in range(ring_count):
            memory = mapping(_native.ring_size(DEPTH))
            _native.Ring.create(memory, DEPTH, index, 0)
            _native.publish_segment(memory, NOW)
            self.rings.append(Ring(memory, _native.RingWriter(memory, 1, 1, NOW)))
        self.model: Model | None = None
        if past:
            self.publish(frame_of(past, past), 0)
        bits = None
        if wanted is not None:
            bits = np.array([sum(1 << symbol_id for symbol_id in wanted)], "<u8")
        self.poller = _consume.Poller(
            [_native.Ring(ring.memory) for ring in self.rings],
            bits,
            None,
            self.policy,
            1,
            queue_max,
            threshold,
            SYMBOLS,
        )
        lag_max = max(int(min(queue_max, DEPTH) * threshold), 1) if queue_max else float("inf")
        self.model = Model(self.rings, wanted, self.policy, lag_max)
        for ring in self.rings:
            ring.start = ring.next = ring.resumed = ring.head + 1
            ring.missed = 0 if late else ring.resumed
        if not late:
            self.poller.forget_missed()
        self.complete = late

    def publish(self, records: list[Record], index: int) -> None:
        """Publish one frame: cells first, as a feed does."""
        ring = self.rings[index]
        own = [i for i in range(1, SYMBOLS + 1) if self.ring_of[i] == index]
        frame = []
        for record in records:
            symbol_id = own[record["symbol_id"] % len(own)]
            if record["kind"] == Kind.STATUS and record["symbol_id"] == 0:
                symbol_id = 0
            frame.append({**record, "kind": int(record["kind"]), "symbol_id": symbol_id})
        for i, record in enumerate(frame):
            if record["kind"] in CELL_PART:
                cell = {**record, "seq": ring.writer.next + i}
                offset = PAGE_SIZE + symbol_offset(cell) + CELL_PART[Kind(cell["kind"])]
                self.cache_memory[offset : offset + 64] = packed([cell]).tobytes()
                self.cells[cell["symbol_id"], Kind(cell["kind"])] = cell
        ring.writer.publish_records(packed(frame))
        ring.append(frame)

    @rule(seed=seeds, size=st.integers(1, 16), ring=rings)
    def writer_publishes_a_frame(self, seed: int, size: int, ring: int) -> None:
        self.publish(frame_of(seed, size), ring % len(self.rings))

    @rule(seed=seeds, count=st.integers(1, 3 * DEPTH), size=st.integers(1, 4), ring=rings)
    def writer_runs_ahead(self, seed: int, count: int, size: int, ring: int) -> None:
        for i in range(0, count, size):
            self.publish(frame_of(seed + i, size), ring % len(self.rings))

    @rule(seed=seeds, count=st.integers(1, 60), polls=st.integers(1, 6), room=st.integers(1, 30))
    def writer_is_faster(self, seed: int, count: int, polls: int, room: int) -> None:
        for i in range(polls):
            self.writer_runs_ahead(seed + i, count, 2, seed + i)
            self.writer_flushes(seed + i)
            self.reader_polls(room)

    @rule(ring=rings)
    def writer_flushes(self, ring: int) -> None:
        one = self.rings[ring % len(self.rings)]
        one.writer.flush(NOW)
        one.cursor = one.head

    @rule(ring=rings)
    def writer_restarts(self, ring: int) -> None:
        one = self.rings[ring % len(self.rings)]
        one.epoch += 1
        one.writer = _native.RingWriter(one.memory, 1, one.epoch, NOW)
        words = dict(zip(BODY, [int(Status.WRITER_RESTARTED), *[ABSENT] * 3], strict=True))
        status = {"symbol_id": 0, "kind": 7, "flags": 8, "price_scale": 0, "size_scale": 0, **words}
        one.append([{"seq": 0, "ts_event": NOW, "ts_recv": NOW, **status}])
        one.cursor = one.head

    @rule(count=st.integers(1, 8) | st.integers(1, 3 * DEPTH))
    def reader_polls(self, count: int) -> None:
        assert self.model is not None
        out = np.zeros(count, TICK)
        polled = plain(out[: self.poller.poll_into(out)])
        assert polled == self.model.poll(count)
        self.look_at(polled)

    @rule(room=st.sampled_from([2, 3, 64]))
    def reader_refreshes(self, room: int) -> None:
        assert self.model is not None
        refreshed: list[Record] = []
        after = 0
        while self.poller.has_missed:
            out = np.zeros(room, TICK)
            count, after, busy_count = self.poller.refresh_into(
                self.symbols, self.cache, out, after
            )
            assert busy_count == 0
            refreshed += plain(out[:count])
        assert refreshed == self.model.refresh(self.cells, self.ring_of)
        self.look_at(refreshed)

    def look_at(self, records: list[Record]) -> None:
        """Take note of each symbol's newest values: none may be older than the one before."""
        for record in records:
            key = record["symbol_id"], Kind(record["kind"])
            if key[1] not in CELL_PART:
                continue
            before = self.seen.get(key, 0)
            assert record["seq"] >= before, "an older value came after a newer one"
            self.seen[key] = record["seq"]

    @rule()
    def reader_catches_up(self) -> None:
        """Whoever refreshes and reads to the end knows every last value."""
        assert self.model is not None
        self.reader_refreshes(64)
        for _ in range(1000):
            if all(ring.next == ring.head + 1 for ring in self.rings):
                break
            self.reader_polls(50)
            self.reader_refreshes(64)
        for ring in range(len(self.rings)):
            self.writer_flushes(ring)  # a conflating reader reads up to the flush
        self.reader_polls(64)
        self.reader_refreshes(64)
        for key, cell in self.cells.items():
            if self.model.wants(cell) and (self.complete or key in self.seen):
                assert self.seen.get(key) == cell["seq"], "a last value never came"

    @rule()
    def daemon_gives_another_page(self) -> None:
        self.reader_id += 1
        memory = mapping(_native.reader_page_size())
        _native.ReaderPage.create(memory, self.reader_id, b"model", 1, True, 0.5, 10, -1)
        _native.publish_segment(memory, NOW)
        self.poller.move(_native.ReaderPage(memory, True))

    @invariant()
    def every_record_is_accounted_for(self) -> None:
        if getattr(self, "model", None) is None:
            return
        assert self.model is not None
        page, counts = self.poller.page, self.poller.page.counters()
        assert {name: counts[name] for name in COUNTERS} == self.model.counts
        assert self.poller.cursors == [ring.next for ring in self.rings]
        published = sum(ring.next - ring.start for ring in self.rings)
        assert sum(counts[name] for name in COUNTERS) == published
        places = [page.place(i) for i in range(len(self.rings))]
        assert [place[0] for place in places] == self.poller.cursors
        assert sum(place[1] for place in places) == counts["lost"]
        assert sum(place[2] for place in places) == counts["dropped"]
        assert self.poller.lags == [ring.lag for ring in self.rings]
        assert self.poller.pressed_count == sum(ring.pressed > 0 for ring in self.rings)
        for ring, (missed, resumed) in zip(self.rings, self.poller.missed, strict=True):
            assert (missed == resumed) == (ring.missed == ring.resumed)
            if missed != resumed:
                assert (missed, resumed) == (ring.missed, ring.resumed)


def symbol_offset(record: Record) -> int:
    return CELL_SIZE * record["symbol_id"]


class Conflating(PollerMachine):
    """With the policy that merges."""

    policy = CONFLATE


class Lossless(PollerMachine):
    """With the policy that leaves it to the writer, which here does not wait."""

    policy = LOSSLESS


@pytest.mark.parametrize("machine", [PollerMachine, Conflating, Lossless])
def test_poller_does_what_the_model_does(machine: type[PollerMachine]) -> None:
    examples = 50 if machine is Lossless else 150
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=30, deadline=None)
    )
