"""What does a record cost a Python program that polls 64 at a time, against a no-op call into C?

    process A, core A: publishes 32,768 records         process B, core B: reads them, 64 a call

B's figure is per record, of whole turns of 512 calls; the records come out of the other core's
cache (or the shared one), as in life. "hot" reads what the same core has written. The no-op is a
METH_NOARGS function that returns None (native.c), called in the same kind of loop.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable

import numpy as np

from bench.bench_python_latency import DEPTH, Link, two_ends
from bench.lib import Context, Result, alternate, compile_extension, fail, summarise
from mdsys import _consume, _native
from mdsys.record.record import TICK

BATCH = 64
TURN = DEPTH // 2
NAMES = ("python.poll64_per_record", "python.poll64_per_record_hot", "python.poll1_per_record")


class Turns:
    """A ring that B fills, half of it at a time, and A empties. Plays the part of a Link."""

    trips = TURN

    def __init__(self) -> None:
        """Make the ring, and a word by which B says that it is full."""
        self.buffer = mmap.mmap(-1, _native.ring_size(DEPTH))
        self.buffer.madvise(mmap.MADV_HUGEPAGE)
        _native.Ring.create(self.buffer, DEPTH, 0, 0)
        _native.publish_segment(self.buffer, time.time_ns())
        self.filled = memoryview(mmap.mmap(-1, 4096)).cast("Q")
        self.turn = 0

    def open(self, me: int) -> None:
        """B writes, A reads."""
        if me == 1:
            self.writer = _native.RingWriter(self.buffer, os.getpid(), 1, time.time_ns())
        else:
            self.poller = _consume.Poller([_native.Ring(self.buffer)])

    def pong(self) -> None:
        """B: fill half of the ring; a record's price is its sequence."""
        fill(self.writer)
        self.turn += 1
        self.filled[0] = self.turn

    def ping(self, blocks: list[int]) -> None:
        """A: wait until B has filled it, then empty it and add the ns that it took."""
        self.turn += 1
        while self.filled[0] != self.turn:
            pass
        blocks.append(empty(self.poller))

    def close(self) -> None:
        """Nothing: the memory has no name."""


def fill(writer: _native.RingWriter) -> None:
    """Publish TURN records in frames of BATCH."""
    records = np.zeros(BATCH, TICK)
    records["symbol_id"] = 1
    for _ in range(TURN // BATCH):
        records["price"] = np.arange(writer.next, writer.next + BATCH)
        writer.publish_records(records)
    writer.flush(time.time_ns())


def empty(poller: _consume.Poller) -> int:
    """Read TURN records, BATCH a call; check the last batch; return the ns of the calls."""
    out = np.zeros(BATCH, TICK)
    poll = poller.poll_into
    got = 0
    start = time.perf_counter_ns()
    for _ in range(TURN // BATCH):
        got += poll(out)
    took = time.perf_counter_ns() - start
    if got != TURN or poller.lost or not np.array_equal(out["price"], out["seq"].astype(np.int64)):
        fail(f"python.poll64: {got} of {TURN} records, {poller.lost} lost, or altered")
    return took


def empty_singly(poller: _consume.Poller) -> int:
    """Read TURN records, one a call; check the last; return the ns of the calls."""
    out = np.zeros(1, TICK)
    poll = poller.poll_into
    start = time.perf_counter_ns()
    for _ in range(TURN):
        poll(out)
    took = time.perf_counter_ns() - start
    if poller.lost or out["price"][0] != out["seq"][0]:
        fail("python.poll1: a record was lost or altered")
    return took


def verify(poller: _consume.Poller) -> None:
    """Read TURN records, BATCH a call, and hold every one against its sequence."""
    out = np.zeros(BATCH, TICK)
    previous = -1
    for _ in range(TURN // BATCH):
        if poller.poll_into(out) != BATCH:
            fail("python.poll64: fewer records than were published")
        expected = np.arange(out["price"][0], out["price"][0] + BATCH)
        if not np.array_equal(out["price"], expected) or out["price"][0] <= previous:
            fail("python.poll64: records altered or out of order")
        previous = out["price"][-1]


def own_ring() -> Callable[[Callable[[_consume.Poller], int]], float]:
    """Return what fills a ring of this process and times a way to empty it, in ns a record."""
    link = Turns()
    link.open(0)
    link.open(1)

    def turn(way: Callable[[_consume.Poller], int]) -> float:
        fill(link.writer)
        return way(link.poller) / TURN

    return turn


def run(context: Context) -> list[Result]:
    """Alternate no-op calls with turns; verify a whole turn between the rounds."""
    compile_extension("_bench", "bench/native.c")
    link = Turns()
    links: list[Link] = [link]
    with two_ends(context.cores, links) as ends:
        noop = ends.native.noop

        def no_op_call() -> float:
            start = time.perf_counter_ns()
            for _ in range(TURN):
                noop()
            return (time.perf_counter_ns() - start) / TURN

        def turn() -> float:
            took: list[int] = []
            ends.tell(0)
            link.ping(took)
            return took[0] / TURN

        def verified_turn() -> float:
            ends.tell(0)
            link.turn += 1
            while link.filled[0] != link.turn:
                pass
            verify(link.poller)
            return turn()

        cross = alternate(context.seconds, no_op_call, verified_turn)
    hot = own_ring()
    home = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {context.cores[0]})
    try:
        batches = alternate(context.seconds / 2, no_op_call, lambda: hot(empty))
        singles = alternate(context.seconds / 2, no_op_call, lambda: hot(empty_singly))
    finally:
        os.sched_setaffinity(0, home)
    return [
        summarise(NAMES[0], "ns", "no-op C call", cross),
        summarise(NAMES[1], "ns", "no-op C call", batches),
        summarise(NAMES[2], "ns", "no-op C call", singles),
    ]
