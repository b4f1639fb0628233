"""What does a reader that has stopped (SIGSTOP) cost the writer, and what the other readers?

Topology and method stand in bench_ring_stopped.c. Rates: records per second with the stopped reader
over those without it just before and after. Latencies: of the reader that reads on, with four
stopped ones over without.
"""

from __future__ import annotations

from bench.lib import STEADY, Context, Pair, Result, compile_c, run_program, summarise

VICTIMS = {
    "drop_oldest": "ring.stopped_reader",
    "drop_oldest_parked": "ring.stopped_reader_parked",
    "conflate": "ring.stopped_reader_conflate",
    "conflate_parked": "ring.stopped_reader_conflate_parked",
}
PERCENTILES = ("p50", "p99")
NAMES = (*VICTIMS.values(), *(f"ring.stopped_reader_latency_{p}" for p in PERCENTILES))


def run(context: Context) -> list[Result]:
    """Run the C program; rounds whose neighbours without the reader differ much are dropped."""
    program = compile_c(
        "bench_ring_stopped",
        ["bench/bench_ring_stopped.c", "native/src/audience.c", "native/src/segment.c"],
    )
    lines = run_program(
        [program, *context.cores, int(context.seconds * 1000)], timeout=60 + 4 * context.seconds
    )
    results = []
    for victim, name in VICTIMS.items():
        rounds = [line for line in lines if line.get("victim") == victim]
        steady = [
            line
            for line in rounds
            if max(line["before"], line["after"]) < STEADY * min(line["before"], line["after"])
        ]
        pairs = [
            Pair(1e3 / line["ns"], 2e3 / (line["before"] + line["after"]))
            for line in steady or rounds
        ]
        results.append(summarise(name, "M/s", "without it", pairs))
    without = [line for line in lines if line["phase"] == "without"]
    beside = [line for line in lines if line["phase"] == "with"]
    for percentile in PERCENTILES:
        pairs = [
            Pair(ours[percentile], theirs[percentile])
            for ours, theirs in zip(beside, without, strict=True)
        ]
        name = f"ring.stopped_reader_latency_{percentile}"
        results.append(summarise(name, "ns", "without the four", pairs))
    return results
