"""What does the doorbell cost the writer?

Topology and method stand in bench_bell.c. The value is the time of publishing one record and
flushing; the ratio is to the same by md_ring_flush, which knows no audience, in the same round.
"""

from __future__ import annotations

from bench.lib import Context, Pair, Result, compile_c, run_program, summarise

WAYS = ("nobody", "awake_1", "awake_16", "asleep_1", "asleep_16")
NAMES = tuple(f"bell.flush_{way}" for way in WAYS)


def run(context: Context) -> list[Result]:
    """Run the C program; each of its lines is one round."""
    program = compile_c(
        "bench_bell", ["bench/bench_bell.c", "native/src/audience.c", "native/src/segment.c"]
    )
    rounds = run_program(
        [program, *context.cores, int(context.seconds * 1000)], timeout=60 + 4 * context.seconds
    )
    return [
        summarise(
            f"bell.flush_{way}",
            "ns",
            "publish and plain flush",
            [Pair(line[way], line["plain"]) for line in rounds],
        )
        for way in WAYS
    ]
