"""How many messages a second go through the ring, none lost, against an index queue?

Topology and method stand in bench_ring_throughput.c, the yardstick in spsc.h. Rounds of a million
messages; the ratio is messages per second over messages per second.
"""

from __future__ import annotations

import os

from bench.lib import (
    Context,
    Pair,
    Result,
    by_placement,
    compile_c,
    name_of,
    placement,
    run_program,
    summarise,
)

PHASES = {
    "single": "ring.throughput_single",
    "batch64": "ring.throughput_batch64",
    "batch_read": "ring.throughput_batch64_reader_only",
}
NAMES = tuple(PHASES.values())


def run(context: Context) -> list[Result]:
    """Run the C program and pair each phase with the queue's of the same round."""
    original = os.environ.get("MDSYS_RIGTORP")
    queue = "bench/spsc_rigtorp.cpp" if original else "bench/spsc.c"
    flags = [f"-I{original}"] if original else []
    program = compile_c(
        "bench_ring_throughput", ["bench/bench_ring_throughput.c", queue], flags=flags
    )
    lines = run_program(
        [program, *context.cores, int(context.seconds * 1000)], timeout=60 + 4 * context.seconds
    )
    yardstick = "rigtorp SPSCQueue" if original else "rigtorp's queue in C"
    rounds: list[dict[str, float]] = []
    for line in lines:
        if line["phase"] == "spsc":
            rounds.append({})
        if rounds:
            rounds[-1][line["phase"]] = line["ns"]
    results: list[Result] = []
    for phase, name in PHASES.items():
        pairs = [
            Pair(1e3 / one[phase], 1e3 / one["spsc"], placement(one["floor"]))
            for one in rounds
            if "floor" in one
        ]
        for where, group in by_placement(pairs).items():
            full_name = name_of(name, where, results)
            results.append(summarise(full_name, "M/s", f"{yardstick}, {where}", group))
    return results
