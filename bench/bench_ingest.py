"""What does a frame cost from the socket into the ring, against bare C and against plain Python?

    core B: this process, the venue            core A: one receiver at a time, the others stopped
    blocks of frames made beforehand  --TCP--> mdsys run (feed process)        sleeping when idle
                                               a C program on epoll, same decoder and ring
                                               websockets + msgspec + struct.pack

The sender is faster than any of them, so they are saturated. The value is the receiver's own
processor time a frame; the ratio says how many times more frames ours takes in the same time. A
line more gives the same in wall time. After each block the count and the contents of the ring are
held against what the frames were made of. Over TLS every frame is a record of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.ingest import EpollReceiver, MdsysReceiver, PlainReceiver, Receiver, receivers
from bench.lib import STEADY, Context, Pair, Result, summarise

NAMES = (
    "ingest.vs_epoll",
    "ingest.vs_plain",
    "ingest.tls_vs_plain",
    "ingest.vs_epoll_wall",
    "ingest.vs_plain_wall",
    "ingest.tls_vs_plain_wall",
)
FAST_COUNT, SLOW_COUNT, TLS_COUNT = 400_000, 12_000, 100_000


@dataclass(frozen=True, slots=True)
class Turn:
    """One block's cost."""

    cpu: float
    wall: float


def run(context: Context) -> list[Result]:
    """Run both comparisons in clear, then the one over TLS."""
    results = []
    with receivers(context.cores, EpollReceiver, MdsysReceiver, PlainReceiver) as started:
        epoll, ours, plain = started
        results += compare(context, NAMES[0], "bare C, epoll", epoll, ours, FAST_COUNT)
        results += compare(context, NAMES[1], "plain pipeline", plain, ours, FAST_COUNT)
    with receivers(context.cores, MdsysReceiver, PlainReceiver, tls=True) as started:
        ours, plain = started
        results += compare(context, NAMES[2], "plain pipeline", plain, ours, TLS_COUNT)
    return sorted(results, key=lambda result: NAMES.index(result.name))


def compare(
    context: Context,
    name: str,
    yardstick_name: str,
    yardstick: Receiver,
    ours: Receiver,
    count: int,
) -> list[Result]:
    """Alternate two receivers and pair each of our turns with its neighbours."""
    beside = SLOW_COUNT if isinstance(yardstick, PlainReceiver) else count

    def turn(receiver: Receiver, frame_count: int) -> Turn:
        receiver.resume()
        try:
            return Turn(*receiver.take(frame_count))
        finally:
            receiver.pause()

    turn(yardstick, beside)  # warm: code, caches, the socket's window
    turn(ours, count)
    before = turn(yardstick, beside)
    cpu: list[Pair] = []
    wall: list[Pair] = []
    spent_ns = 0.0
    while spent_ns < context.seconds * 1e9 or len(cpu) < 3:
        mine = turn(ours, count)
        after = turn(yardstick, beside)
        steady = max(before.cpu, after.cpu) < STEADY * min(before.cpu, after.cpu)
        if steady or not cpu:
            cpu.append(Pair(mine.cpu, (before.cpu + after.cpu) / 2))
            wall.append(Pair(mine.wall, (before.wall + after.wall) / 2))
        spent_ns += mine.wall * count + after.wall * beside
        before = after
    return [
        summarise(name, "ns", yardstick_name, cpu, inverse=True),
        summarise(f"{name}_wall", "ns", yardstick_name, wall, inverse=True),
    ]
