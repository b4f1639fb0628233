"""``mdsys stat``: an instance's numbers, from its shared memory, dead or alive.

Who reads it, only the living daemon can tell: it is asked over its control socket.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, TextIO

from mdsys.clock import SYSTEM_CLOCK, Clock
from mdsys.counters.counters import OPEN_FROM_NS, PERCENTILES, percentiles
from mdsys.counters.picture import UP, Picture, Row, take
from mdsys.counters.schema import Scope, fields, metrics_of
from mdsys.ring.instance_argument import add_instance_argument
from mdsys.ring.partition import Balance
from mdsys.wording import duration, plural, share

OUTCOMES: Final = ("received", "filtered", "conflated", "dropped", "lost")
"""What may become of a record that was published to a reader."""
SHOWN_LIVES: Final = ("restarts", "hangs", "orders_waiting")
"""Of a feed, besides what it counts itself."""


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
    picture = take(instance, clock)
    rings = [_ring(row) for row in picture.rows["ring"]]
    symbols_of = {ring["ring"]: ring["symbols"] for ring in rings}
    balance = Balance.of(
        Counter(symbols_of).elements(), {ring["ring"]: ring["head"] for ring in rings}
    )
    told = picture.told
    return {
        "instance": instance,
        "state": picture.state,
        "supervisor": {"pid": picture.pid, "alive": picture.alive},
        "dir": str(picture.dir),
        "symbols": sum(symbols_of.values()),
        **_summary(picture),
        "rings": rings,
        "balance": {
            "symbols_max_to_mean": round(balance.symbols_max_to_mean, 3),
            "records_max_to_mean": round(balance.records_max_to_mean, 3),
        },
        "feeds": [_feed(row) for row in picture.rows["feed"]],
        "connections": [
            {
                "connection": int(row.labels["connection"]),
                "venue": row.labels["venue"],
                "feed": int(row.labels["feed"]),
                "state": row.words["state"],
                **_values(row, "connection"),
            }
            for row in picture.rows["connection"]
        ],
        "readers": None if told is None else [_reader(row) for row in told.readers],
        "readers_unknown": picture.why,
    }


def _summary(picture: Picture) -> dict[str, Any]:
    """Return the five numbers that tell how it goes, and what stands beside them."""
    (system,), (subscriptions,) = picture.rows["system"], picture.rows["subscriptions"]
    rings, connections = picture.rows["ring"], picture.rows["connection"]
    unread = [ring.values["unread"] for ring in rings]
    known = [count for count in unread if count is not None]
    return {
        "system": {
            "total_messages_processed": sum(int(ring.values["head"] or 0) for ring in rings),
            "peak_throughput": system.values["records_rate_max"],
            **_values(system, "system"),
            "loop_lag_ns": percentiles(system.histograms["loop_lag"]),
        },
        "buffer_pool": {
            "overall_utilization": share_of(sum(known), sum(_depth(ring) for ring in rings))
            if picture.told is not None
            else None,
        },
        "consumer": {
            "drop_rate": None if picture.told is None else drop_rate(picture.told.readers),
        },
        "subscriptions": {
            "active_connections": sum(row.words["state"] in UP for row in connections)
            if picture.alive
            else 0,
            **_values(subscriptions, "subscriptions"),
        },
    }


def drop_rate(readers: Sequence[Row]) -> float:
    """Return which share of what was published to readers they skipped, or lost to the writer."""
    published = sum(int(row.values[name] or 0) for row in readers for name in OUTCOMES)
    given_up = sum(int(row.values[name] or 0) for row in readers for name in ("dropped", "lost"))
    return share_of(given_up, published)


def share_of(part: float, whole: float) -> float:
    """Return a share of 1; of nothing it is 0."""
    return part / whole if whole else 0.0


def _depth(ring: Row) -> int:
    return int(ring.values["depth"] or 0)


def _values(row: Row, scope: Scope) -> dict[str, float | None]:
    """Return what the schema exports of a row, by its fields."""
    return {
        metric.field: row.values[metric.field]
        for metric in metrics_of(scope)
        if metric.type != "histogram" and not metric.field.startswith("state_")
    }


def _ring(row: Row) -> dict[str, Any]:
    age_ns = row.values["watermark_age_ns"]
    return {
        "ring": int(row.labels["ring"]),
        "feed": int(row.labels["feed"]),
        "state": row.words["state"],
        "epoch": row.values["epoch"],
        "depth": row.values["depth"],
        "head": row.values["head"],
        "symbols": row.values["symbols"],
        "unread": row.values["unread"],
        "watermark_age_ms": None if age_ns is None else round(age_ns / 1e6, 1),
    }


def _feed(row: Row) -> dict[str, Any]:
    return {
        "feed": int(row.labels["feed"]),
        "pid": row.words["pid"],
        "alive": bool(row.values["up"]),
        "rings": row.words["rings"],
        "counters": {name: row.values[name] for name in (*fields("feeds"), *SHOWN_LIVES)},
        "latency_ns": {name: percentiles(each) for name, each in row.histograms.items()},
    }


def _reader(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.words.items() if name != "histograms"}


def print_picture(picture: dict[str, Any], out: TextIO) -> None:
    """Print it for people."""
    supervisor = picture["supervisor"]
    out.write(
        f"instance {picture['instance']}: {picture['state']}, supervisor {supervisor['pid']} "
        f"{'alive' if supervisor['alive'] else 'gone'}, {plural(picture['symbols'], 'symbol')}, "
        f"segments in {picture['dir']}\n{_summed(picture)}\n"
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


def _summed(picture: dict[str, Any]) -> str:
    """Return the summary as a line."""
    system = picture["system"]
    utilization = picture["buffer_pool"]["overall_utilization"]
    dropped = picture["consumer"]["drop_rate"]
    return (
        f"{system['total_messages_processed']:,} messages, "
        f"at most {system['peak_throughput']:,} a second; "
        f"{_share(utilization)} of the rings unread, {_share(dropped)} dropped or lost; "
        f"{plural(picture['subscriptions']['active_connections'], 'connection')} up\n"
    )


def _share(value: float | None) -> str:
    return "an unknown share" if value is None else share(value)


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
        batch = f"{reader['batch']['now']:,}" if reader["batch"]["now"] else "-"  # of a Consumer
        shown = "  ".join(f"{key} {_ns(latency[key])}" for key in ("p50", "p99"))
        out.write(
            f"{reader['name']:<31} {reader['pid']:>8} {_core(reader):>9} {reader['policy']:<11} "
            f"{reader['wait']:<8} {batch:>6} {reader['lag']:>9,} "
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
        f"beyond {OPEN_FROM_NS // 60_000_000_000} min" if value_ns is None else duration(value_ns)
    )
