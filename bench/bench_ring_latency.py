"""How long does a record take from one core to another, against what the hardware needs?

Topology and method stand in bench_ring_latency.c. Ratios compare a percentile with the floor's same
percentile in the same round of some 15 ms.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from bench.lib import (
    PLACEMENT_NS_MAX,
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

DEPTH = 65536
PERCENTILES = ("p50", "p99", "p999")
NAMES = (
    *(f"ring.latency_{p}" for p in PERCENTILES),
    *(f"ring.paced_{p}" for p in PERCENTILES),
    "ring.latency_p50_paused_floor",
)


def run(context: Context) -> list[Result]:
    """Run the C program and pair its rounds."""
    program = compile_c("bench_ring_latency", ["bench/bench_ring_latency.c"])
    limits = list(PLACEMENT_NS_MAX.values())[:-1]
    lines = run_program(
        [program, *context.cores, int(context.seconds * 1000), DEPTH, *limits],
        timeout=60 + 4 * context.seconds,
    )
    pages = lines[0]["memory_huge_kib"] // 2048
    mode = f"{pages} pages of 2 MB" if pages else "4 KiB pages"
    if lines[0]["memory_huge_kib"] * 1024 < 2 * 64 * DEPTH:
        context.notice("ring.latency: no 2 MB pages to be had, so p99 and p99.9 hold page walks")
    histograms = [line for line in lines if "histogram" in line and line["counts"]]
    places = list(PLACEMENT_NS_MAX)
    context.save(
        "ring_latency",
        [
            {"name": one["histogram"], "placement": places[one["placement"]], "pages": mode}
            | {"counts": one["counts"]}
            for one in histograms
        ],
    )
    rounds = split_rounds([line for line in lines if "phase" in line])
    results: list[Result] = []
    for ours, floor, prefix, text in (
        ("ring", "floor", "ring.latency_{}", "ping-pong"),
        ("ring", "floor_pause", "ring.latency_{}_paused_floor", "ping-pong with pause"),
        ("ring_paced", "floor_paced", "ring.paced_{}", "a line on the same schedule"),
    ):
        for percentile in PERCENTILES:
            name = prefix.format(percentile)
            pairs = [
                Pair(one[ours][percentile], one[floor][percentile], where) for where, one in rounds
            ]
            for where, group in by_placement(pairs).items():
                line = name_of(name, where, results)
                results.append(summarise(line, "ns", f"{text}, {where}, {mode}", group))
    return results


def split_rounds(lines: list[dict[str, Any]]) -> list[tuple[str, dict[str, dict[str, float]]]]:
    """Group the phases by round, and name the placement of the rounds that kept theirs."""
    rounds: list[dict[str, dict[str, float]]] = []
    for line in lines:
        if line["phase"] == "floor":
            rounds.append({})
        rounds[-1][line["phase"]] = line
    steady = []
    for one, following in pairwise(rounds):
        before, after = one["floor"]["p50"], following["floor"]["p50"]
        if max(before, after) < STEADY * min(before, after):
            steady.append((placement((before + after) / 2), one))
    return steady or [(placement(one["floor"]["p50"]), one) for one in rounds]
