"""How many messages a second go through the ring, none lost, against an index queue?

Topology and method stand in bench_ring_throughput.c, the yardstick in spsc.h. Short rounds, so that
a placement holds through one; the ratio is messages per second over messages per second.
"""

from __future__ import annotations

import os
from typing import Any

from bench.lib import (
    STEADY,
    Context,
    Pair,
    Result,
    Skipped,
    by_placement,
    compile_c,
    name_of,
    placement,
    run_program,
    summarise,
)

MEASURES = {
    "ring.throughput_single": "1:1",
    "ring.throughput_batch64_reader_only": "1:64",
    "ring.throughput_batch64": "64:64",
}
"""Name: records a release, and how many a read may take. Other sizes: bench_ring_batches.py."""
NAMES = tuple(MEASURES)


def run(context: Context) -> list[Result]:
    """Run the C program and pair each measure with the queue's of the same round."""
    wanted = {name: measure for name, measure in MEASURES.items() if context.wants(name)}
    original = os.environ.get("MDSYS_RIGTORP")
    queue = "bench/spsc_rigtorp.cpp" if original else "bench/spsc.c"
    flags = [f"-I{original}"] if original else []
    program = compile_c(
        "bench_ring_throughput",
        ["bench/bench_ring_throughput.c", "native/src/audience.c", queue],
        flags=flags,
    )
    lines = run_program(
        [program, *context.cores, int(context.seconds * 1000), *dict.fromkeys(wanted.values())],
        timeout=60 + 4 * context.seconds,
    )
    yardstick = "rigtorp SPSCQueue" if original else "rigtorp's queue in C"
    rounds = steady_rounds(lines)
    results: list[Result] = []
    for name, measure in wanted.items():
        pairs = [
            Pair(1e3 / one[measure], 1e3 / one["spsc"], placement(one["floor"]))
            for one in rounds
            if measure in one
        ]
        for where, group in by_placement(pairs).items():
            full_name = name_of(name, where, results)
            results.append(summarise(full_name, "M/s", f"{yardstick}, {where}", group))
    return results


def steady_rounds(lines: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Split the phases into rounds, floor to floor; keep those through which the placement held.

    A phase in which either side lost its core to another process is left out, and with the queue's
    the whole round: meanwhile a queue of any kind runs full or empty.

    Returns:
        Of each round its phases' ns by name, "floor" being the mean of the two that enclose it.

    Raises:
        Skipped: The cores were never ours for as long as a round lasts.
    """
    rounds: list[dict[str, float]] = []
    one: dict[str, float] = {}
    before = 0.0
    for line in lines:
        if line["phase"] != "floor":
            if not line["switches"]:
                one[line["phase"]] = line["ns"]
            continue
        floor = line["ns"]
        if max(before, floor) < STEADY * min(before, floor) and "spsc" in one:
            rounds.append({**one, "floor": (before + floor) / 2})
        one, before = {}, floor
    if not rounds:
        raise Skipped("other processes took the cores, or the placement changed, in every round")
    return rounds
