"""``mdsys stat``: an instance's numbers, from its shared memory, dead or alive.

Who reads it, only the living daemon can tell: it is asked over its control socket.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from mdsys import _native
from mdsys.clock import SYSTEM_CLOCK, Clock
from mdsys.counters.counters import OPEN_FROM_NS, PERCENTILES, percentiles, read_counters
from mdsys.errors import HostError
from mdsys.ring.control_socket import NoDaemon, ask, connect
from mdsys.ring.instance_argument import add_instance_argument
from mdsys.ring.lock import start_ticks
from mdsys.ring.partition import Balance
from mdsys.ring.segment import ROOT_DIR, map_file, not_there, segment_path
from mdsys.wording import plural

STATES = ("new", "running", "stopped", "superseded")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_instance_argument(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def main(arguments: argparse.Namespace) -> int:
    """Print the numbers as they are now.

    Raises:
        NotRunning: There are no segments of this instance.
        NoPermission: This user may not read them.
        LayoutError: Another version of mdsys wrote them.
    """
    picture = take_picture(arguments.instance)
    if arguments.json:
        print(json.dumps(picture))
    else:
        print_picture(picture, sys.stdout)
    return 0


def take_picture(instance: str, clock: Clock = SYSTEM_CLOCK) -> dict[str, Any]:
    """Return everything ``mdsys stat --json`` prints."""
    try:
        symbols = _native.Symbols(map_file(segment_path(ROOT_DIR, instance, "symbols")))
        directory = Path(symbols.dir)
        counters = _native.Counters(map_file(segment_path(directory, instance, "counters")))
        rings = [
            _native.Ring(map_file(segment_path(directory, instance, f"ring.{index}")))
            for index in range(symbols.ring_count)
        ]
    except FileNotFoundError as error:
        raise not_there(instance) from error
    placement = Counter(symbols.entry(i)[2] for i in range(1, len(symbols) + 1))
    shown = [_ring(ring, placement[ring.index], clock) for ring in rings]
    balance = Balance.of(placement.elements(), {ring["ring"]: ring["head"] for ring in shown})
    readers, why = _readers(instance, symbols)
    return {
        "instance": instance,
        "state": _state(symbols),
        "supervisor": {"pid": symbols.writer_pid, "alive": _alive(symbols)},
        "dir": str(directory),
        "symbols": len(symbols),
        "rings": shown,
        "balance": {
            "symbols_max_to_mean": round(balance.symbols_max_to_mean, 3),
            "records_max_to_mean": round(balance.records_max_to_mean, 3),
        },
        "feeds": [
            {
                "feed": index,
                **_writer_of(index, rings),
                "counters": dict(feed.counters),
                "latency_ns": {
                    name: percentiles(histogram) for name, histogram in feed.histograms.items()
                },
            }
            for index, feed in enumerate(read_counters(counters))
        ],
        "readers": readers,
        "readers_unknown": why,
    }


def _readers(
    instance: str, symbols: _native.Symbols
) -> tuple[list[dict[str, Any]] | None, str | None]:
    """Return who reads, as the daemon tells it; None, and why, when it does not."""
    try:
        with connect(instance, symbols.writer_pid) as connection:
            answer, _ = ask(connection, {"op": "readers"})
            return answer["readers"], None
    except (NoDaemon, HostError) as error:
        return None, str(error)


def _ring(ring: _native.Ring, symbol_count: int, clock: Clock) -> dict[str, Any]:
    watermark_ns = ring.watermark_ns
    return {
        "ring": ring.index,
        "feed": ring.feed,
        "state": _state(ring),
        "epoch": ring.epoch,
        "depth": ring.depth,
        "head": ring.head,
        "symbols": symbol_count,
        "watermark_age_ms": _age_ms(watermark_ns, clock.now_ns()),
    }


def _writer_of(feed: int, rings: Sequence[_native.Ring]) -> dict[str, Any]:
    own = [ring for ring in rings if ring.feed == feed]
    return {
        "pid": own[0].writer_pid if own else None,
        "alive": bool(own) and _alive(own[0]),
        "rings": [ring.index for ring in own],
    }


def _alive(segment: _native.Segment) -> bool:
    """Whether the process that wrote last still lives, and is no other with its number."""
    ticks = start_ticks(segment.writer_pid)
    return ticks != 0 and ticks == segment.writer_start_ticks


def _state(segment: _native.Segment) -> str:
    """Return the segment's state; a writer that was killed left it ``running``."""
    state = STATES[segment.state] if segment.state < len(STATES) else f"unknown {segment.state}"
    return "dead" if state == "running" and not _alive(segment) else state


def _age_ms(time_ns: int, now_ns: int) -> float | None:
    return round((now_ns - time_ns) / 1e6, 1) if time_ns else None


def print_picture(picture: dict[str, Any], out: TextIO) -> None:
    """Print it for people."""
    supervisor = picture["supervisor"]
    out.write(
        f"instance {picture['instance']}: {picture['state']}, supervisor {supervisor['pid']} "
        f"{'alive' if supervisor['alive'] else 'gone'}, {plural(picture['symbols'], 'symbol')}, "
        f"segments in {picture['dir']}\n\n"
        f"{'ring':>4} {'feed':>4} {'state':<10} {'epoch':>5} {'head':>15} {'depth':>9} "
        f"{'symbols':>7} {'watermark':>12}\n"
    )
    for ring in picture["rings"]:
        age = ring["watermark_age_ms"]
        out.write(
            f"{ring['ring']:>4} {ring['feed']:>4} {ring['state']:<10} {ring['epoch']:>5} "
            f"{ring['head']:>15,} {ring['depth']:>9,} {ring['symbols']:>7,} "
            f"{'never' if age is None else f'{age:,.1f} ms':>12}\n"
        )
    balance = picture["balance"]
    out.write(
        f"balance, max/mean: symbols {balance['symbols_max_to_mean']:.2f}, "
        f"records {balance['records_max_to_mean']:.2f}\n"
    )
    for feed in picture["feeds"]:
        out.write(
            f"\nfeed {feed['feed']}: process {feed['pid']} {'alive' if feed['alive'] else 'gone'}, "
            f"rings {', '.join(map(str, feed['rings']))}\n"
        )
        for name, value in feed["counters"].items():
            if value:
                out.write(f"  {name:<26}{value:>18,}\n")
        for name, latency in feed["latency_ns"].items():
            if latency["count"]:
                shown = "  ".join(f"{key} {_ns(latency[key])}" for key in (*PERCENTILES, "max"))
                out.write(f"  {name:<26}{shown}\n")
    _print_readers(picture, out)


def _print_readers(picture: dict[str, Any], out: TextIO) -> None:
    readers = picture["readers"]
    if readers is None:
        out.write(f"\nwho reads is not known: {picture['readers_unknown']}\n")
        return
    if not readers:
        out.write("\nno registered readers\n")
        return
    out.write(
        f"\n{'reader':<31} {'pid':>8} {'core':>9} {'policy':<11} {'wait':<8} {'batch':>6} "
        f"{'lag':>9} {'lost':>11} {'dropped':>11} {'idle':>8}  recv_to_handler\n"
    )
    for reader in readers:
        latency = reader["latency_ns"]["recv_to_handler"]
        shown = "  ".join(f"{key} {_ns(latency[key])}" for key in ("p50", "p99"))
        out.write(
            f"{reader['name']:<31} {reader['pid']:>8} {_core(reader):>9} {reader['policy']:<11} "
            f"{reader['wait']:<8} {reader['batch']['now']:>6,} {reader['lag']:>9,} "
            f"{reader['lost']:>11,} {reader['dropped']:>11,} {reader['idle_s']:>6,.0f} s"
            f"{'  ' + shown if latency['count'] else ''}\n"
        )
        for ring in reader["rings"]:
            if ring["ejected"] is not None:
                out.write(
                    f"  ejected from ring {ring['ring']}: not lossless from {ring['ejected']} on\n"
                )


def _core(reader: dict[str, Any]) -> str:
    """Return where it runs, and in brackets where it should, if that is elsewhere."""
    wished, now = reader["core"], reader["core_now"]
    shown = "-" if now is None else str(now)
    return shown if wished in (None, now) else f"{shown} ({wished})"


def _ns(value_ns: int | None) -> str:
    """Return a percentile for people; None is one beyond what the buckets can tell apart."""
    return (
        f"beyond {OPEN_FROM_NS // 60_000_000_000} min" if value_ns is None else f"{value_ns:,} ns"
    )
