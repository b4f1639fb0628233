"""How many records a second go through, none lost, by how many are handed over at a time?

Topology and method stand in bench_ring_batches.c. The ratio is to single records in the same round.
"""

from __future__ import annotations

from itertools import pairwise

from bench.lib import (
    STEADY,
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

BATCHES = tuple(2**i for i in range(11))
NAMES = tuple(f"ring.batch_{batch}" for batch in BATCHES)


def run(context: Context) -> list[Result]:
    """Run the C program; each of its lines is one round."""
    program = compile_c(
        "bench_ring_batches", ["bench/bench_ring_batches.c", "native/src/segment.c"]
    )
    rounds = run_program(
        [program, *context.cores, int(context.seconds * 1000)], timeout=60 + 4 * context.seconds
    )
    # The floor before and after a round says whether the placement held.
    rounds = [
        one
        for one, following in pairwise(rounds)
        if max(one["floor"], following["floor"]) < STEADY * min(one["floor"], following["floor"])
    ] or rounds
    results: list[Result] = []
    for batch, name in zip(BATCHES, NAMES, strict=True):
        pairs = [
            Pair(1e3 / one[str(batch)], 1e3 / one["1"], placement(one["floor"])) for one in rounds
        ]
        for where, group in by_placement(pairs).items():
            full_name = name_of(name, where, results)
            results.append(summarise(full_name, "M/s", f"one at a time, {where}", group))
    context.save(
        "ring_batches",
        [
            {
                "name": "lossless",
                "placement": placement(one["floor"]),
                "batch": list(BATCHES),
                "M/s": [1e3 / one[str(batch)] for batch in BATCHES],
            }
            for one in rounds
        ],
    )
    return results
