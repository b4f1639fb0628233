"""How long from publish to handler, by how the reader waits? And what does an idle one cost?

Topology and method stand in bench_wake.c. A p50's ratio is the median over rounds of 25 records
each; a p99 is that of all rounds' records together, and so is its floor's. Who spins is held
against a bare cache line on the same schedule, who sleeps against a bare futex. The ratio of a
`_cpu` line is its value again: percent of a core.
"""

from __future__ import annotations

import statistics
from typing import Any

from bench.lib import Context, Pair, Result, compile_c, run_program, summarise

FLOORS = {
    "spin": "line",
    "adaptive_busy": "line",
    "adaptive": "futex",
    "park": "futex",
    "nap": "futex",
}
TEXT = {"line": "a bare cache line", "futex": "a bare futex"}
IDLE = ("adaptive", "park", "nap")
NAMES = (
    *(f"wake.{way}_{p}" for way in FLOORS for p in ("p50", "p99")),
    *(f"wake.{way}_idle_cpu" for way in IDLE),
)


def run(context: Context) -> list[Result]:
    """Run the C program; a round is one phase of each way."""
    program = compile_c(
        "bench_wake",
        ["bench/bench_wake.c", "native/src/audience.c", "native/src/segment.c"],
    )
    lines = run_program(
        [program, *context.cores, int(context.seconds * 1000)], timeout=60 + 4 * context.seconds
    )
    phases: dict[str, list[list[float]]] = {}
    for line in lines:
        if "way" in line:
            phases.setdefault(line["way"], []).append(line["ns"])
    results: list[Result] = []
    for way, floor in FLOORS.items():
        pairs = [
            Pair(statistics.median(ours), statistics.median(theirs))
            for ours, theirs in zip(phases[way], phases[floor], strict=True)
        ]
        results.append(summarise(f"wake.{way}_p50", "ns", TEXT[floor], pairs))
        tails = Pair(p99(phases[way]), p99(phases[floor]))
        results.append(summarise(f"wake.{way}_p99", "ns", TEXT[floor], [tails]))
    return [*results, *(idle_cpu(line) for line in lines if "idle" in line)]


def p99(rounds: list[list[float]]) -> float:
    """Return the 99th percentile of all rounds' samples."""
    samples = sorted(sample for one in rounds for sample in one)
    return samples[len(samples) - 1 - len(samples) // 100]


def idle_cpu(line: dict[str, Any]) -> Result:
    """Return the line of an idle reader."""
    return Result(
        name=f"wake.{line['idle']}_idle_cpu",
        value=line["cpu_percent"],
        unit="% core",
        yardstick="flushed every 50 ms, nothing published",
        ratio=line["cpu_percent"],
    )
