"""Is a record ever handed out torn, when the writer overruns the reader in the middle of a copy?

Topology and method stand in bench_ring_torn.c. The value is the number of torn records that were
accepted; the ratio is the same number, since nought is the only good one. ring.torn_reads runs as
long as any bench; ring.torn_reads_1e8, on request, until 10^8 copies were refused (minutes).
"""

from __future__ import annotations

from bench.lib import Context, Result, compile_c, fail, run_program

NAMES = ("ring.torn_reads", "ring.torn_reads_1e8")
ON_REQUEST = ("ring.torn_reads_1e8",)
REFUSED_WANTED = 10**8
SECONDS_MAX = 3600.0


def run(context: Context) -> list[Result]:
    """Run the C program once."""
    long = context.wants("ring.torn_reads_1e8")
    seconds = SECONDS_MAX if long else context.seconds
    program = compile_c("bench_ring_torn", ["bench/bench_ring_torn.c"])
    (line,) = run_program(
        [program, *context.cores, int(seconds * 1000), REFUSED_WANTED], timeout=60 + seconds
    )
    if long and line["refused"] < REFUSED_WANTED:
        fail(f"ring.torn_reads_1e8: only {line['refused']} copies were refused in {seconds:g} s")
    return [
        Result(
            name=NAMES[int(long)],
            value=line["torn"],
            unit="records",
            yardstick=f"{line['refused']:.3g} copies refused, {line['accepted']:.3g} accepted",
            ratio=line["torn"],
        )
    ]
