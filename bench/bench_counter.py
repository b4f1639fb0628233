"""What does it cost to count, to record a time in a histogram, and to have the time first?

Method and topology stand in bench_counter.c. The ratio of the first two is to what the design
allows: 1 ns a count, 5 ns a value. That of the clock is to the histogram: why most hops are timed
of one frame in many.
"""

from __future__ import annotations

from bench.lib import Context, Pair, Result, compile_c, run_program, summarise

ALLOWED = {"count": 1.0, "histogram": 5.0}
NAMES = ("counter.count", "counter.histogram", "counter.clock")


def run(context: Context) -> list[Result]:
    """Run the C program; each of its lines is one round."""
    program = compile_c("bench_counter", ["bench/bench_counter.c"])
    lines = run_program(
        [program, context.cores[0], int(context.seconds * 1000)], timeout=60 + 4 * context.seconds
    )
    results = []
    for way, allowed in ALLOWED.items():
        pairs = [Pair(line[way], allowed) for line in lines]
        results.append(summarise(f"counter.{way}", "ns", f"{allowed:g} ns", pairs))
    pairs = [Pair(line["clock"], line["histogram"]) for line in lines]
    results.append(summarise("counter.clock", "ns", "histogram", pairs))
    return results
