"""What the boards show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.models import dashboard as models

from mdsys.counters.docs import TITLES
from mdsys.counters.schema import Metric, metrics
from tools.dashboards.panels import (
    SYSTEM,
    Panel,
    Query,
    Row,
    about,
    board,
    heat,
    legend_of,
    lines,
    quantiles,
)

FOLDER: Final = Path(__file__).parent.parent.parent / "deploy" / "grafana"
RATE: Final = "[$__rate_interval]"
GIVEN_UP: Final = 'outcome=~"dropped|lost"'
"""Of a reader's records: too few to be seen on the scale of the others."""


def boards() -> Mapping[str, models.Dashboard]:
    """Return all, by file name."""
    return {
        "mdsys.json": board("mdsys", "mdsys", "One look: is anything wrong?", _overview()),
        "mdsys-latency.json": board(
            "mdsys-latency", "mdsys: latency", "Each hop of a tick's way.", _latency()
        ),
        "mdsys-readers.json": board(
            "mdsys-readers", "mdsys: readers", "Who reads, how far behind.", _readers()
        ),
        "mdsys-all.json": board(
            "mdsys-all", "mdsys: all numbers", "Every number; docs/counters.md.", _all()
        ),
    }


def families() -> Sequence[Metric]:
    """Return the first metric of each family."""
    first: dict[str, Metric] = {}
    for metric in metrics():
        first.setdefault(metric.family, metric)
    return tuple(first.values())


def family(name: str) -> Metric:
    """Return the first metric of a family; an unknown one is an error of ours."""
    return next(each for each in families() if each.family == name)


def _sum(name: str, by: str = "", where: str = "") -> str:
    """Return the sum of a family: of a counter, of its rates."""
    metric = family(name)
    selected = f"{metric.name}{{{SYSTEM}{where}}}"
    if metric.type == "counter":
        selected = f"rate({selected}{RATE})"
    return f"sum by (system{by}) ({selected})"


def _number(
    title: str,
    expression: str,
    name: str,
    unit: str = "short",
    *,
    bad_from: float | None = None,
    bad_below: float | None = None,
) -> Panel:
    return Panel(
        title,
        [Query(expression, "{{system}}")],
        unit,
        about(family(name)),
        "number",
        bad_from,
        bad_below,
    )


def _increase(name: str, over: str, where: str = "") -> str:
    """Return how many have come; whole ones, though increase() stretches what it has seen."""
    return f"round(sum by (system) (increase({family(name).name}{{{SYSTEM}{where}}}[{over}])))"


def _overview() -> Sequence[Row]:
    return [
        Row(
            "Now",
            [
                _number("daemon", _sum("up"), "up", bad_below=1),
                _number("feeds", _sum("feed_up"), "feed_up", bad_below=1),
                _number(
                    "connections ready",
                    _sum("connection_state", where=', state="ready"'),
                    "connection_state",
                    bad_below=1,
                ),
                _number("streams ticking", _sum("streams", where=', state="ticking"'), "streams"),
                _number(
                    "streams refused",
                    _sum("streams", where=', state="refused"'),
                    "streams",
                    bad_from=1,
                ),
                _number("streams stale", _sum("stale_streams"), "stale_streams", bad_from=1),
                _number("readers", _sum("readers"), "readers"),
                _number("records", _sum("feed_records"), "feed_records", "cps"),
            ],
            8,
        ),
        Row(
            "Lost in the last hour",
            [
                _number("holes", _increase("feed_gaps", "1h"), "feed_gaps", bad_from=1),
                _number(
                    "frames refused",
                    _increase("feed_refused_frames", "1h"),
                    "feed_refused_frames",
                    bad_from=1,
                ),
                _number(
                    "dropped or lost by readers",
                    _increase("reader_records", "1h", f", {GIVEN_UP}"),
                    "reader_records",
                    bad_from=1,
                ),
                _number(
                    "not recorded",
                    _increase("feed_capture_lost_frames", "1h"),
                    "feed_capture_lost_frames",
                    bad_from=1,
                ),
                _number(
                    "feeds started anew",
                    _increase("feed_restarts", "1h"),
                    "feed_restarts",
                    bad_from=1,
                ),
                _number(
                    "reconnects",
                    _increase("connection_reconnects", "1h"),
                    "connection_reconnects",
                    bad_from=1,
                ),
            ],
            6,
        ),
        Row(
            "Rates",
            [
                Panel(
                    "records by kind",
                    [Query(_sum("feed_published", ", kind"), "{{system}} {{kind}}")],
                    "cps",
                    about(family("feed_published")),
                ),
                Panel(
                    "frames by feed",
                    [Query(_sum("feed_frames", ", feed"), "{{system}} feed {{feed}}")],
                    "cps",
                    about(family("feed_frames")),
                ),
                Panel(
                    "bytes by feed",
                    [Query(_sum("feed_received_bytes", ", feed"), "{{system}} feed {{feed}}")],
                    "Bps",
                    about(family("feed_received_bytes")),
                ),
                lines(family("records_per_second_max")),
                Panel(
                    "records by ring",
                    [Query(_sum("ring_records", ", ring"), "{{system}} ring {{ring}}")],
                    "cps",
                    about(family("ring_records")),
                ),
                Panel(
                    "records by connection",
                    [
                        Query(
                            _sum("connection_records", ", venue, connection"),
                            "{{system}} {{venue}} {{connection}}",
                        )
                    ],
                    "cps",
                    about(family("connection_records")),
                ),
            ],
        ),
        Row(
            "Latency and clocks",
            [
                quantiles(family("feed_recv_to_ring_seconds")),
                quantiles(family("reader_recv_to_handler_seconds")),
                lines(family("connection_clock_offset_seconds")),
            ],
        ),
        Row(
            "Losses",
            [
                lines(family("feed_gaps")),
                lines(family("feed_gap_ids")),
                lines(family("feed_refused_frames")),
                lines(family("feed_book_resyncs")),
                lines(family("feed_duplicate_records")),
                Panel(
                    "dropped or lost by readers",
                    [
                        Query(
                            _sum("reader_records", ", reader, outcome", f", {GIVEN_UP}"),
                            "{{system}} {{reader}} {{outcome}}",
                        )
                    ],
                    "cps",
                    about(family("reader_records")),
                ),
            ],
        ),
        Row(
            "Connections and subscriptions",
            [
                Panel(
                    "connections by state",
                    [
                        Query(
                            _sum("connection_state", ", venue, state"),
                            "{{system}} {{venue}} {{state}}",
                        )
                    ],
                    description=about(family("connection_state")),
                ),
                lines(family("connection_last_frame_age_seconds")),
                lines(family("connection_reconnects")),
                lines(family("streams")),
                lines(family("stale_streams")),
                lines(family("feed_connect_failures")),
            ],
        ),
        Row(
            "Limits and feeds",
            [
                lines(family("limiter_fill_ratio")),
                lines(family("limiter_waiting")),
                lines(family("feed_waiting_messages")),
                lines(family("feed_restarts")),
                lines(family("feed_beat_age_seconds")),
                lines(family("rest_refusals")),
            ],
        ),
    ]


def _latency() -> Sequence[Row]:
    hops = [metric for metric in metrics() if metric.type == "histogram"]
    return [
        Row(TITLES[scope], [panel for hop in own for panel in (quantiles(hop), heat(hop))], 2)
        for scope in ("feed", "reader", "system")
        if (own := [hop for hop in hops if hop.scope == scope])
    ]


def _readers() -> Sequence[Row]:
    return [
        Row(
            TITLES[scope],
            [
                panel
                for each in families()
                if each.scope == scope and _plain(each)
                for panel in (_outcomes(each) if each.family == "reader_records" else [lines(each)])
            ],
        )
        for scope in ("reader", "ring")
    ]


def _outcomes(records: Metric) -> Sequence[Panel]:
    """Return what became of readers' records: what they had, and on a scale of its own, had not."""
    usual = lines(records)
    return [
        replace(usual, title=title, queries=[Query(_rate(records, where), legend_of(records))])
        for title, where in (
            ("records received, filtered or conflated", GIVEN_UP.replace("=~", "!~")),
            ("records dropped or lost", GIVEN_UP),
        )
    ]


def _rate(counter: Metric, where: str) -> str:
    return f"rate({counter.name}{{{SYSTEM}, {where}}}{RATE})"


def _all() -> Sequence[Row]:
    return [
        Row(
            title,
            [
                lines(each) if _plain(each) else quantiles(each)
                for each in families()
                if each.scope == scope
            ],
            4,
        )
        for scope, title in TITLES.items()
    ]


def _plain(metric: Metric) -> bool:
    return metric.type != "histogram"
