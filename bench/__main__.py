"""Run the benches, print a table and write it as JSON."""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import json
import operator
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from types import ModuleType

from bench.lib import BIN_DIR, ROOT, Context, Result, Skipped, choose_cores, isolated_cores
from mdsys.progress import Progress

MODULES = (
    "bench_ring_latency",
    "bench_ring_throughput",
    "bench_ring_batches",
    "bench_ring_torn",
    "bench_ring_readers",
    "bench_ring_stopped",
    "bench_poll_rings",
    "bench_wake",
    "bench_bell",
    "bench_python_latency",
    "bench_python_poll",
    "bench_consumer",
    "bench_decode",
    "bench_decode_venues",
    "bench_book",
    "bench_ingest",
    "bench_ingest_latency",
    "bench_scale",
    "bench_subscribe",
    "bench_top",
    "bench_counter",
    "bench_metrics",
)
GOALS: dict[str, tuple[str, float]] = {
    "ring.latency_p50": ("<=", 1.15),
    "ring.latency_p99": ("<=", 1.5),
    "ring.latency_p999": ("<=", 3.0),
    "ring.throughput_single": (">=", 1.5),
    "ring.throughput_batch64": (">=", 5.0),
    "ring.torn_reads": ("<=", 0.0),
    "ring.stopped_reader": (">=", 0.95),
    "ring.stopped_reader_parked": (">=", 0.95),
    "ring.stopped_reader_conflate": (">=", 0.95),
    "ring.stopped_reader_conflate_parked": (">=", 0.95),
    "wake.park_idle_cpu": ("<", 1.0),
    "python.latency_p50": ("<=", 2.5),
    "peer.iceoryx2_p50": (">=", 25.0),
    "peer.pyzmq_p50": (">=", 250.0),
    "peer.pipe_p50": (">=", 150.0),
    "consumer.numba_vs_c": ("<=", 1.3),
    "consumer.numba_vs_c_call": ("<=", 1.3),
    "python.poll64_per_record": ("<=", 0.25),
    "ingest.vs_epoll": (">=", 0.85),
    "ingest.vs_plain": (">=", 50.0),
    "ingest.tls_vs_plain": (">=", 8.0),
    "ingest.spin_p50_vs_plain": (">=", 6.0),
    "ingest.spin_p50_vs_epoll": ("<=", 1.3),
    "scale.symbols_50000": ("<=", 1.25),
    "subscribe.50000": ("<=", 1.1),
    "top.cpu": ("<=", 1.0),
    "metrics.scrape": ("<=", 1.0),
    "counter.count": ("<=", 1.0),
    "counter.histogram": ("<=", 1.0),
    "kill.first_tick": ("<=", 1.0),
    "decode.binance_trade": (">=", 20.0),
    "decode.binance_quote": (">=", 20.0),
}
"""What DESIGN.md asks of the ratio."""
MEETS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt}
VERSIONS = (
    "numpy",
    "numba",
    "picows",
    "uvloop",
    "websockets",
    "msgspec",
    "iceoryx2",
    "pyzmq",
)


def main(argv: list[str] | None = None) -> int:
    """Run what was asked for; 1 if a bench failed, which includes a wrong checksum."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME|GLOB", help="such as 'ring.*'")
    parser.add_argument("--seconds", type=float, default=5.0, help="per measure (default: 5)")
    parser.add_argument("--quick", action="store_true", help="half a second per measure")
    parser.add_argument("--cores", help="the two cores to use, such as 2,3")
    parser.add_argument("--json", type=Path, default=ROOT / ".bench" / "latest.json")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args(argv)

    sys.path.append(str(BIN_DIR))
    chosen = select(options.names)
    if options.list:
        print("\n".join(name for _, names in chosen for name in names))
        return 0
    if not chosen:
        parser.error(f"no bench is named {' '.join(options.names)}; see --list")
    wanted = [int(core) for core in options.cores.split(",")] if options.cores else None
    context = Context(choose_cores(wanted), 0.5 if options.quick else options.seconds)
    context.facts = facts_of(context.cores)
    for fact, text in context.facts.items():
        print(f"{fact:9} {text}")
    print()
    results, failed = run_all(chosen, context, options.names)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps([as_json(result) for result in results], indent=1) + "\n")
    for notice in context.notices:
        print(f"note: {notice}")
    return 1 if failed else 0


def select(patterns: list[str]) -> list[tuple[ModuleType, list[str]]]:
    """Return the modules that have a name that matches, with those names."""
    chosen = []
    for module_name in MODULES:
        module = importlib.import_module(f"bench.{module_name}")
        names = [name for name in module.NAMES if matches(name, patterns)]
        on_request = getattr(module, "ON_REQUEST", ())  # takes minutes: by its own name only
        names = [name for name in names if name not in on_request or name in patterns]
        if names:
            chosen.append((module, names))
    return chosen


def matches(name: str, patterns: list[str]) -> bool:
    """Return whether a pattern picks the name, or a variant of it such as NAME.far."""
    return not patterns or any(
        fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")
        for pattern in patterns
    )


def run_all(
    chosen: list[tuple[ModuleType, list[str]]], context: Context, patterns: list[str]
) -> tuple[list[Result], bool]:
    """Run the modules, printing each line as it is known."""
    print(f"{'':30} {'value':>10} {'unit':8} {'ratio':>7} {'goal':>8}     rounds, yardstick")
    results: list[Result] = []
    failed = False
    progress = Progress("bench")
    for module, names in chosen:
        context.wanted = names
        try:
            with progress.during(f"{module.NAMES[0].partition('.')[0]}: {', '.join(names)}"[:90]):
                lines = module.run(context)
        except Skipped as reason:
            print(f"{module.NAMES[0]:30} skipped: {reason}", flush=True)
            continue
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            print(f"{module.NAMES[0]:30} FAILED: {error}", flush=True)
            failed = True
            continue
        for result in lines:
            if matches(result.name, patterns):
                print_line(result)
                results.append(result)
    return results, failed


def print_line(result: Result) -> None:
    """Print one line of the table."""
    goal = verdict = ""
    if result.name in GOALS:
        sign, limit = GOALS[result.name]
        goal = f"{sign} {limit:g}"
        verdict = "ok" if MEETS[sign](result.ratio, limit) else "LOW" if sign == ">=" else "HIGH"
    print(
        f"{result.name:30} {result.value:>10.4g} {result.unit:8} {result.ratio:>7.3g} {goal:>8}"
        f" {verdict:4}{result.spread}  {result.yardstick}",
        flush=True,
    )


def as_json(result: Result) -> dict[str, object]:
    """Return what latest.json holds of a line."""
    line = asdict(result)
    del line["spread"]
    return line


def facts_of(cores: tuple[int, int]) -> dict[str, str]:
    """Return the host's facts, which every figure depends on."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in lines_of("/proc/cpuinfo")
            if "model name" in line
        ),
        platform.machine(),
    )
    governor = "".join(lines_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
    pages = "/sys/kernel/mm/transparent_hugepage"
    versions = ", ".join(f"{name} {version_of(name)}" for name in VERSIONS)
    compiler = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=False)
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "kernel": f"{platform.release()}; load {lines_of('/proc/loadavg')[0]}",
        "cpu": f"{cpu}, {len(list(Path('/sys/bus/cpu/devices').glob('cpu*')))} cores",
        "cores": f"{cores[0]} and {cores[1]}; isolated {isolated_cores() or 'none'};"
        f" governor {governor or 'not visible'}",
        "pages": f"anonymous {current(f'{pages}/enabled')},"
        f" shared {current(f'{pages}/shmem_enabled')},"
        f" hugetlb {''.join(lines_of('/proc/sys/vm/nr_hugepages'))}",
        "commit": commit(),
        "versions": f"python {platform.python_version()}, {versions}",
        "compiler": compiler.stdout.splitlines()[0] if compiler.stdout else "none",
    }


def lines_of(path: str) -> list[str]:
    """Return a file's lines, none if it cannot be read."""
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def current(path: str) -> str:
    """Return the choice that a file such as shmem_enabled marks with brackets."""
    text = "".join(lines_of(path))
    return text.partition("[")[2].partition("]")[0] or "not visible"


def version_of(package: str) -> str:
    """Return a package's version."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def commit() -> str:
    """Return the commit that is checked out, and whether files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "none"


if __name__ == "__main__":
    raise SystemExit(main())
