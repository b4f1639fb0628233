"""What does a record cost to read, when it comes from one of 1, 8 or 64 rings?

Topology and method stand in bench_poll_rings.c. The bare name is one busy ring among idle ones, a
record a call: the worst there is, since each call looks at all of them. `.batch` reads that ring up
to 64 a call, `.all` finds as much in every ring. The ratio is to md_reader_read of a single ring.
"""

from __future__ import annotations

from bench.lib import Context, Pair, Result, compile_c, run_program, summarise

COUNTS = (1, 8, 64)
WAYS = {"single": "", "batch": ".batch", "all": ".all"}
NAMES = tuple(f"poll.rings_{n}{suffix}" for suffix in WAYS.values() for n in COUNTS)


def run(context: Context) -> list[Result]:
    """Run the C program; each of its lines is one round."""
    program = compile_c("bench_poll_rings", ["bench/bench_poll_rings.c", "native/src/segment.c"])
    lines = run_program(
        [program, context.cores[0], int(context.seconds * 1000)], timeout=60 + 4 * context.seconds
    )
    results = []
    for way, suffix in WAYS.items():
        rounds = [line for line in lines if line["way"] == way]
        for count in COUNTS:
            pairs = [Pair(line[str(count)], line["read"]) for line in rounds]
            name = f"poll.rings_{count}{suffix}"
            results.append(summarise(name, "ns", "md_reader_read of one ring", pairs))
    return results
