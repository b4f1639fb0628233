"""Every policy and way to wait behind a faster writer; and what a lossless reader is promised.

The writer is a feed: socket buffers through its decoder into its rings, in a process of its own
where speed matters. The law holds to the last record: received + filtered + conflated + dropped +
lost == published.
"""

from __future__ import annotations

import mmap
import multiprocessing
import ssl
import struct
from typing import Any

import numpy as np
import pytest

from mdsys import TICK, Status, _consume, _native
from mdsys._listener import FrameListener
from mdsys.feed.transport import open_socket
from tests.feeds import PONG, FeedMemory, Peer, frame, run, serving, trade
from tests.instances import trades

NAMES = ["BTCUSDT", "ETHUSDT", "LTCUSDT"]
DEPTH, SMALL = 1024, 64
FRAMES_A_READ, READS = 30, 8000
DROP_OLDEST, CONFLATE, LOSSLESS = 0, 1, 2
ADAPTIVE, SPIN, PARK = 0, 1, 2
COUNTERS = ("received", "filtered", "conflated", "dropped", "lost")
PLACE_OFFSET = _native.reader_page_size() - 256 * 128
"""Of the first ring's `next` in a page: MD_RING_COUNT_MAX places of two lines end it."""
PATIENCE_NS = 30 * 10**9
"""Longer than any reader here is kept from running."""


def publish_at_full_rate(memory: FeedMemory, reads: int) -> None:
    """Have the feed decode as many reads, in each the next ten trades of three symbols."""
    number = 1_000_000
    texts = [trade(10 * number + i // 3, symbol=NAMES[i % 3]) for i in range(FRAMES_A_READ)]
    data = b"".join(frame(text) for text in texts)
    first, size = f'"t":{number}'.encode(), len(data)

    async def main() -> None:
        async def script(peer: Peer) -> None:
            await peer.reader.read()

        listener = FrameListener(memory.venue, 7, lambda _: None)
        async with serving(script) as address:
            tls = ssl.create_default_context()
            transport = await open_socket(f"ws://{address}", listener, tls=tls)
            protocol: Any = transport.underlying_transport.get_protocol()
            pong = frame(b"", PONG)
            protocol.get_buffer(-1)[: len(pong)] = pong
            protocol.buffer_updated(len(pong))
            for read in range(number, number + reads):
                protocol.get_buffer(-1)[:size] = data.replace(first, b'"t":%d' % read)
                protocol.buffer_updated(size)
            transport.disconnect(False)
            await transport.wait_disconnected()

    run(main())


class Slow:
    """A reader that does more with each record than the writer, and trusts nothing."""

    def __init__(self, memory: FeedMemory, policy: int, wait: int, *, registered: bool) -> None:
        self.rings = memory.rings
        page = None
        if registered:
            page_memory = memory.new_page(1)
            page = _native.ReaderPage(page_memory, True)
            memory.feed.reader_add(1, page_memory, range(len(self.rings)), policy == LOSSLESS)
        self.start = [ring.head + 1 for ring in self.rings]
        wanted = np.array([0b0110], "<u8")  # BTCUSDT and ETHUSDT
        self.poller = _consume.Poller(
            memory.rings, wanted, page, policy, wait, DEPTH, 0.5, len(NAMES) + 1
        )
        self.out = np.zeros(64, TICK)
        self.ring_of = {0: -1, **{i + 1: i % len(self.rings) for i in range(len(NAMES))}}
        self.last = [0] * len(self.rings)

    def poll(self) -> int:
        """Read once, and look at each record."""
        before = self.poller.cursors
        count = self.poller.poll_into(self.out, 0.02)
        after = self.poller.cursors
        for record in self.out[:count]:
            ring = self.ring_of[int(record["symbol_id"])]
            assert record["symbol_id"] in (0, 1, 2)
            if ring >= 0:
                assert self.last[ring] < record["seq"] < after[ring]
                self.last[ring] = int(record["seq"])
        assert all(a <= b for a, b in zip(before, after, strict=True))
        return count

    def check_law(self) -> dict[str, int]:
        """Hold the counters against what was published."""
        counters = self.poller.page.counters()
        read = sum(self.poller.cursors) - sum(self.start)
        assert sum(counters[name] for name in COUNTERS) == read
        return counters


def overload(memory: FeedMemory, slow: Slow) -> None:
    """Read while another process writes, and then to the end."""
    process = multiprocessing.get_context("fork").Process(
        target=publish_at_full_rate, args=(memory, READS)
    )
    process.start()
    try:
        while process.is_alive():
            slow.poll()
            slow.check_law()
        while slow.poll():
            pass
    finally:
        if process.is_alive():
            process.kill()
        process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("registered", [True, False], ids=["registered", "unregistered"])
@pytest.mark.parametrize("wait", [ADAPTIVE, SPIN, PARK], ids=["adaptive", "spin", "park"])
@pytest.mark.parametrize(
    "policy", [DROP_OLDEST, CONFLATE, LOSSLESS], ids=["drop_oldest", "conflate", "lossless"]
)
def test_law_holds_to_the_last_record_behind_a_faster_writer(
    policy: int, wait: int, registered: bool
) -> None:
    memory = FeedMemory(NAMES, 2, depth=DEPTH, patience_ns=PATIENCE_NS)
    slow = Slow(memory, policy, wait, registered=registered)
    overload(memory, slow)
    counters = slow.check_law()
    heads = [ring.head for ring in memory.rings]
    assert slow.poller.cursors == [head + 1 for head in heads]
    assert sum(counters[name] for name in COUNTERS) == sum(heads) >= READS * FRAMES_A_READ
    assert counters["filtered"] > 0
    if policy == LOSSLESS and registered:
        assert counters["received"] + counters["filtered"] == sum(heads)
        assert memory.counter("lossless_waits") > 0, "the writer was never held up"
    else:
        assert counters["lost"] + counters["dropped"] > 0, "it was never behind"
    assert counters["dropped"] == 0 or policy == DROP_OLDEST
    assert counters["conflated"] == 0 or policy == CONFLATE


@pytest.mark.parametrize("policy", [DROP_OLDEST, CONFLATE])
def test_policy_acts_also_for_who_is_lapped_before_every_read(policy: int) -> None:
    memory = FeedMemory(NAMES, 1, depth=DEPTH)
    poller = _consume.Poller(memory.rings, None, None, policy, SPIN, DEPTH, 0.8, 4)
    out = np.zeros(8, TICK)
    batch = trades(DEPTH // 4)
    batch["conditions"] = 0
    for turn in range(9):
        for _ in range(6):
            memory.writers[0].publish_records(batch)
        poller.poll_into(out)
        acted = poller.dropped if policy == DROP_OLDEST else poller.conflated
        assert (acted > 0) == (turn >= (1 if policy == DROP_OLDEST else 2))


# ---- what a lossless reader is promised ----


class Stage:
    """A feed whose every record is a status, and lossless readers of it that obey a test."""

    def __init__(self, *, patience_ns: int = 0) -> None:
        self.memory = FeedMemory(NAMES[:1], 1, depth=SMALL, patience_ns=patience_ns)
        self.ring = self.memory.rings[0]
        self.pages: dict[int, mmap.mmap] = {}
        self.out = np.zeros(4 * SMALL, TICK)

    def reader(self, number: int) -> _consume.Poller:
        """Return a lossless reader that the feed does not know yet."""
        self.pages[number] = self.memory.new_page(number)
        page = _native.ReaderPage(self.pages[number], True)
        return _consume.Poller(self.memory.rings, None, page, LOSSLESS)

    def register(self, number: int) -> None:
        """Have the feed know it; nothing is promised before the next flush."""
        self.memory.feed.reader_add(number, self.pages[number], [0], True)

    def publish(self, count: int) -> None:
        """Publish and flush one by one."""
        for _ in range(count):
            self.memory.venue.symbol_refused(NAMES[0], 1)

    def read(self, poller: _consume.Poller) -> list[int]:
        """Return the sequences that one read brings."""
        return [int(seq) for seq in self.out["seq"][: poller.poll_into(self.out)]]

    def claim(self, number: int, word: int) -> None:
        """Write where a reader says how far it is."""
        struct.pack_into("<Q", self.pages[number], PLACE_OFFSET, word)


def test_nothing_is_promised_before_the_writer_has_seen_the_reader() -> None:
    stage = Stage()
    poller = stage.reader(1)
    stage.register(1)
    assert stage.ring.grant(1) is None
    stage.publish(3)
    assert stage.ring.grant(1) == (1, 0)
    assert stage.read(poller) == [1, 2, 3]
    stage.memory.feed.reader_remove(1)
    assert stage.ring.grant(1) is None


def test_promise_holds_for_a_reader_that_was_lapped_before_it_was_given() -> None:
    stage = Stage()
    poller = stage.reader(1)
    stage.publish(3 * SMALL)
    stage.register(1)
    stage.publish(1)
    grant = stage.ring.grant(1)
    assert grant is not None
    stage.publish(SMALL - 10)
    assert stage.ring.grant(1) == grant, "it was ejected though there was room"
    promised = range(grant[0], stage.ring.head + 1)
    assert set(stage.read(poller) + stage.read(poller)) >= set(promised)


def test_reader_that_stands_still_is_ejected_and_told_and_others_go_on() -> None:
    stage = Stage()
    stuck, honest = stage.reader(1), stage.reader(2)
    stage.register(1)
    stage.register(2)
    stage.publish(5)
    assert stage.read(stuck) == [1, 2, 3, 4, 5]
    received, told = [], []
    for _ in range(3 * SMALL):
        stage.publish(1)
        read = stage.read(honest)
        received += read
        told += [
            (record["first_lost"], record["connection"], record["symbol_id"])
            for record in stage.out[: len(read)]
            if record["what"] == Status.READER_EJECTED
        ]
    assert stage.ring.grant(1) == (1, 6)
    assert stage.ring.grant(2) == (1, 0)
    assert received == list(range(1, stage.ring.head + 1))
    assert told == [(6, 1, 0)]
    assert stage.memory.feed.take_ejected() == [(1, 0, 6)]
    stage.publish(1)
    assert stage.memory.feed.take_ejected() == []
    assert stage.memory.counter("readers_ejected") == 1


@pytest.mark.parametrize(
    "lie", [1, 7, SMALL, 2 * SMALL, 2**32, 2**63, 2**64 - SMALL, 2**64 - 1], ids=hex
)
def test_what_a_reader_says_of_itself_counts_only_where_it_can_be_true(lie: int) -> None:
    stage = Stage()
    liar, honest = stage.reader(1), stage.reader(2)
    stage.register(1)
    stage.register(2)
    stage.publish(5)
    received = stage.read(honest)
    for _ in range(4 * SMALL):
        stage.claim(1, lie)
        stage.publish(1)
        received += stage.read(honest)
    assert received == list(range(1, stage.ring.head + 1)), "an honest reader lost records"
    assert honest.lost == 0
    assert stage.ring.grant(2) == (1, 0)
    [(reader, ring, sequence)] = stage.memory.feed.take_ejected()
    assert (reader, ring) == (1, 0)
    assert sequence in {1, *([lie] if lie <= 2 * SMALL else [])} - {0}
    assert liar.lost == 0


def test_reader_that_leaves_is_waited_for_no_more_and_not_told_of_as_ejected() -> None:
    stage = Stage()
    leaving, staying = stage.reader(1), stage.reader(2)
    stage.register(1)
    stage.register(2)
    stage.publish(5)
    received = stage.read(staying)
    leaving.leave()
    for _ in range(4 * SMALL):
        stage.publish(1)
        received += stage.read(staying)
    assert received == list(range(1, stage.ring.head + 1))
    assert stage.ring.grant(1) == (1, 1), "its promise has ended"
    assert stage.ring.grant(2) == (1, 0)
    assert stage.memory.feed.take_ejected() == []
    assert stage.memory.counter("lossless_waits") == 0


def test_no_more_than_sixteen_are_promised_anything() -> None:
    stage = Stage()
    pollers = [stage.reader(number) for number in range(1, 19)]
    for number in range(1, 19):
        stage.register(number)
    stage.publish(3)
    granted = [number for number in range(1, 19) if stage.ring.grant(number)]
    assert granted == list(range(1, 17))
    assert all(stage.read(poller) == [1, 2, 3] for poller in pollers)
    stage.publish(3 * SMALL)  # the two others are in nobody's way
    assert {reader for reader, _, _ in stage.memory.feed.take_ejected()} == set(granted)
