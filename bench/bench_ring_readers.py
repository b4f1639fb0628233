"""What does a record cost its writer, with N readers attached?

Topology and method stand in bench_ring_readers.c. The value is the writer's time for a record; the
ratio is to the same without a reader, just before and after. Readers that are not registered have
the bare name; `.registered` and `.parked` are in the writer's audience.
"""

from __future__ import annotations

import os
import statistics
from typing import Any

from bench.lib import Context, Pair, Result, compile_c, run_program, summarise

COUNTS = (1, 2, 4, 8, 16)
MODES = {"spinning": "", "registered": ".registered", "parked": ".parked"}
NAMES = tuple(f"ring.readers_{n}{suffix}" for suffix in MODES.values() for n in COUNTS)


def reader_cores(context: Context) -> list[int]:
    """Return the cores for readers: B, then all that are left."""
    return [
        context.cores[1],
        *sorted(os.sched_getaffinity(0) - set(context.cores)),
    ]


def run(context: Context) -> list[Result]:
    """Run the C program; pair each count with the empty rings beside it."""
    program = compile_c(
        "bench_ring_readers",
        ["bench/bench_ring_readers.c", "native/src/audience.c", "native/src/segment.c"],
    )
    cores = reader_cores(context)
    lines = run_program(
        [program, int(context.seconds * 1000), context.cores[0], *cores],
        timeout=60 + 4 * context.seconds,
    )
    if len(cores) < max(COUNTS):
        context.notice(
            f"ring.readers: all readers share {len(cores)} core(s), so their own rates fall with N"
        )
    groups: dict[str, list[tuple[Pair, dict[str, Any]]]] = {name: [] for name in NAMES}
    for before, line, after in zip(lines, lines[1:], lines[2:], strict=False):
        if line["readers"] and not before["readers"] and not after["readers"]:
            name = f"ring.readers_{line['readers']}{MODES[line['mode']]}"
            base = (before["ns"] + after["ns"]) / 2
            groups[name].append((Pair(line["ns"], base), line))
    results = []
    for name, group in groups.items():
        rate = statistics.median(line["reader_per_s"] for _, line in group) / 1e6
        text = f"each reads {rate:.3g} M/s; no reader"
        results.append(summarise(name, "ns", text, [pair for pair, _ in group]))
    return results
