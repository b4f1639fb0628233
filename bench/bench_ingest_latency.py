"""How long from a frame's sending until its record can be read, a thousand a second?

    core B: this process: sends a frame  --TCP-->  core A: the receiver, alone on it
            spins on the ring's next slot <-shm--          publishes the record

mdsys and the C program spin on their socket; the plain pipeline sleeps in its loop, as it does in
life. A fixed schedule of 1 ms, the next frame never early; a frame that is late because we were
counts from when it was due. The stamp that ends a sample is taken when send() has returned and the
record is seen, so what is faster than send() returns looks as slow as that; true for all three.
"""

from __future__ import annotations

import statistics
import time

from bench.ingest import (
    PlainReceiver,
    Receiver,
    SpinningEpollReceiver,
    SpinningMdsysReceiver,
    receivers,
)
from bench.lib import Context, Pair, Result, fail, summarise

NAMES = ("ingest.spin_p50_vs_plain", "ingest.spin_p50_vs_epoll", "ingest.spin_p99_vs_epoll")
STEP_NS = 1_000_000
ROUND_COUNT = 240
WAIT_NS_MAX = 5_000_000_000


def run(context: Context) -> list[Result]:
    """Play plain, mdsys, C in turns of a quarter of a second."""
    with receivers(
        context.cores, PlainReceiver, SpinningMdsysReceiver, SpinningEpollReceiver
    ) as started:
        plain, ours, epoll = started
        for receiver in started:
            play(receiver)
        end = time.monotonic() + 2 * context.seconds
        vs_plain: list[Pair] = []
        vs_epoll: list[Pair] = []
        vs_epoll_p99: list[Pair] = []
        while time.monotonic() < end or len(vs_plain) < 3:
            slow, mine, bare = (play(each) for each in (plain, ours, epoll))
            vs_plain.append(Pair(median(mine), median(slow)))
            vs_epoll.append(Pair(median(mine), median(bare)))
            vs_epoll_p99.append(Pair(p99(mine), p99(bare)))
    return [
        summarise(NAMES[0], "ns", "plain pipeline", vs_plain, inverse=True),
        summarise(NAMES[1], "ns", "bare C, spinning", vs_epoll),
        summarise(NAMES[2], "ns", "bare C, spinning", vs_epoll_p99),
    ]


def median(samples: list[int]) -> float:
    """Return the median."""
    return statistics.median(samples)


def p99(samples: list[int]) -> float:
    """Return the 99th percentile."""
    return float(sorted(samples)[len(samples) * 99 // 100])


def play(receiver: Receiver) -> list[int]:
    """Send it a round of frames by the schedule; return the ns from due to published."""
    block = receiver.frames.block(ROUND_COUNT)
    pieces = []
    start = 0
    for end in block.ends.tolist():
        pieces.append(block.data[start:end])
        start = end
    receiver.resume()
    samples: list[int] = []
    send, is_published, clock = receiver.line.send, receiver.is_published, time.perf_counter_ns
    number = receiver.taken
    due = clock() + 5 * STEP_NS
    for piece in pieces:
        while (now := clock()) < due:
            pass
        number += 1
        send(piece)
        while not is_published(number):
            if clock() - now > WAIT_NS_MAX:
                fail("ingest.spin: a record never came")
        samples.append(clock() - due)
        due += STEP_NS
    receiver.pause()
    receiver.taken = number
    receiver.check(block)
    return samples
