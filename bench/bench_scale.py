"""What does a message cost a feed process with 50,000 symbols, against one with 100?

    core B: this process, the venue              core A: mdsys run, one feed, one ring
    a chunk of 16 frames to each connection  --TCP, TLS-->  one read each; sleeping when idle

Equal frames a read, and for the symbols equal connections (50). All instances live at the same time
and take turns; what counts is the feed's own processor time a frame. Over TLS each frame is a
record of its own. In clear, where nothing hides the caches' misses, the same beside it.

* ``scale.symbols_N``: N symbols on 50 connections; the yardstick is 100 symbols on 50.
* ``scale.connections_N``: 1,000 symbols on N connections; the yardstick is 1,000 on one. There
  each read finds the feed asleep; with 50 connections one waking serves several.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.ingest import make_tls
from bench.lib import Context, Result, alternate, summarise
from bench.many import CHUNK_FRAMES, ManyReceiver, Shape

SYMBOL_COUNTS = (100, 1_000, 10_000, 50_000)
CONNECTION_COUNTS = (1, 10, 50)
NAMES = tuple(
    f"scale.{what}_{count}{suffix}"
    for suffix in ("", "_plain")
    for what, counts in (("symbols", SYMBOL_COUNTS), ("connections", CONNECTION_COUNTS))
    for count in counts[1:]
)
FRAMES_A_TURN = {True: 16_000, False: 48_000}
"""Over TLS, in clear."""
READ_SLACK = 1.25
"""A turn counts if its frames a read were within this of a chunk's."""


def run(context: Context) -> list[Result]:
    """Measure symbols, then connections; over TLS, then in clear."""
    results: list[Result] = []
    for tls, suffix in ((True, ""), (False, "_plain")):
        symbols = [Shape(count, 50) for count in SYMBOL_COUNTS]
        names = [f"scale.symbols_{count}{suffix}" for count in SYMBOL_COUNTS]
        results += compare(context, names, symbols, tls=tls)
        connections = [Shape(1_000, count) for count in CONNECTION_COUNTS]
        names = [f"scale.connections_{count}{suffix}" for count in CONNECTION_COUNTS]
        results += compare(context, names, connections, tls=tls)
    return results


def compare(
    context: Context, names: Sequence[str], shapes: Sequence[Shape], *, tls: bool
) -> list[Result]:
    """Hold every wanted shape against the first."""
    wanted = [place for place in range(1, len(shapes)) if context.wants(names[place])]
    if not wanted:
        return []
    least = shapes[0]
    per_read: list[float] = []

    def turn(receiver: ManyReceiver) -> float:
        for _ in range(5):
            cpu_ns, frames = receiver.play(FRAMES_A_TURN[tls])
            if CHUNK_FRAMES / READ_SLACK < frames < CHUNK_FRAMES * READ_SLACK:
                break
            context.notice(f"{names[0]}: a turn with {frames:.1f} frames a read was repeated")
        per_read.append(frames)
        return cpu_ns

    results = []
    with receivers(context, [least, *(shapes[place] for place in wanted)], tls=tls) as started:
        yardstick, *others = started
        for receiver in started:
            turn(receiver)
        for place, receiver in zip(wanted, others, strict=True):
            pairs = alternate(
                2 * context.seconds, lambda: turn(yardstick), lambda it=receiver: turn(it)
            )
            what = f"{least.symbols} symbols, {least.connections} connections"
            results.append(summarise(names[place], "ns", what, pairs))
    context.notice(
        f"{names[0].rsplit('_', 1)[0]}: {min(per_read):.1f} to {max(per_read):.1f} frames a read"
    )
    return results


@contextlib.contextmanager
def receivers(
    context: Context, shapes: Sequence[Shape], *, tls: bool
) -> Iterator[list[ManyReceiver]]:
    """Start one daemon of each shape, its feed on the first core; we are on the second."""
    home = os.sched_getaffinity(0)
    with TemporaryDirectory(prefix="mdsys-bench-") as name, contextlib.ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, home)
        folder = Path(name)
        certificate = make_tls(folder) if tls else None
        started: list[ManyReceiver] = []
        for shape in shapes:
            receiver = ManyReceiver(context.cores[0], folder, certificate, shape)
            stack.callback(receiver.close)
            started.append(receiver)
            os.sched_setaffinity(receiver.supervisor_pid, {context.cores[1]})
        os.sched_setaffinity(0, {context.cores[1]})
        yield started
