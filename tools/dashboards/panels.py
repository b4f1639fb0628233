"""Panels and boards, as few kinds of them as do: the words of grafana-foundation-sdk stay here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import (
    dashboard,
    heatmap,
    prometheus,
    stat,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from mdsys.counters.schema import LABELS, Metric
from mdsys.metrics.collector import is_signed, last_minute_name

SYSTEM: Final = 'system=~"$system"'
"""Chooses the instances that the reader of the board has chosen."""
SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${source}")
WIDTHS: Final = {1: 24, 2: 12, 3: 8, 4: 6, 6: 4, 8: 3}
"""Panels in a line -> their width; a board is 24 wide."""
HEIGHT: Final = 8
STAT_HEIGHT: Final = 4
TAG: Final = "mdsys"
NUMBERED: Final = ("feed", "ring", "connection")
"""Labels whose values are bare numbers."""


@dataclass(frozen=True, slots=True)
class Query:
    """One expression and what its series are called."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture: lines over time, the one number of now, or a heat map."""

    title: str
    queries: Sequence[Query]
    unit: str = "short"
    description: str = ""
    kind: str = "lines"
    bad_from: float | None = None
    """Of a number: red from here on; below is green. None: it is neither good nor bad."""
    bad_below: float | None = None
    """The other way round."""
    logarithmic: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]
    columns: int = 3


# ---- from the schema -----------------------------------------------------------------------------


def unit_of(metric: Metric) -> str:
    """Return Grafana's name of a metric's unit; of a counter, of its rate."""
    family = metric.family
    if metric.type == "counter":
        if family.endswith("_bytes"):
            return "Bps"
        return "percentunit" if family.endswith("_seconds") else "cps"
    for ending, unit in (
        ("time_seconds", "dateTimeFromNow"),
        ("_seconds", "s"),
        ("_bytes", "bytes"),
        ("_ratio", "percentunit"),
    ):
        if family.endswith(ending):
            return unit
    return "short"


def value_of(metric: Metric) -> str:
    """Return the expression that shows a metric's whole family: a counter's is its rate."""
    selected = f"{metric.name}{{{SYSTEM}}}"
    if metric.family.endswith("time_seconds"):
        return f"1000 * {selected}"  # Grafana's dates are in ms
    return f"rate({selected}[$__rate_interval])" if metric.type == "counter" else selected


def legend_of(metric: Metric) -> str:
    """Return what tells the series of a family apart; a reader's long number is for queries."""
    labels = [
        label
        for label in ("system", *LABELS[metric.scope], *metric.labels)
        if (metric.scope, label) != ("reader", "number")
    ]
    return " ".join(
        f"{label} {{{{{label}}}}}" if label in NUMBERED else f"{{{{{label}}}}}" for label in labels
    )


def title_of(metric: Metric) -> str:
    """Return what a family's panel is called; the axis has the unit."""
    scope = "" if metric.scope == "limiter" else f"{metric.scope}_"
    name = metric.family.removeprefix(scope)
    for unit in ("_seconds", "_bytes", "_ratio"):
        name = name.removesuffix(unit)
    return name.replace("_", " ")


def lines(metric: Metric) -> Panel:
    """Return the usual panel of a family."""
    queries = [Query(value_of(metric), legend_of(metric))]
    return Panel(title_of(metric), queries, unit_of(metric), about(metric))


def about(metric: Metric) -> str:
    """Return what is said of a family."""
    return f"{metric.name}: {metric.family_help}"


def quantiles(metric: Metric) -> Panel:
    """Return the percentiles of a histogram over the last minute, within 3.2 % of the truth."""
    family = last_minute_name(metric)
    return Panel(
        f"{_hop(metric)}: percentiles",
        [Query(f"{family}{{{SYSTEM}}}", f"{legend_of(metric)} quantile {{{{quantile}}}}")],
        "s",
        f"{family}: {metric.help}; over the last minute",
        logarithmic=not is_signed(metric),
    )


def heat(metric: Metric) -> Panel:
    """Return a histogram over time."""
    return Panel(
        f"{_hop(metric)}: heat map",
        [
            Query(
                f"sum by (le) (increase({metric.name}_bucket{{{SYSTEM}}}[$__rate_interval]))",
                "{{le}}",
            )
        ],
        "s",
        about(metric),
        kind="heat",
    )


def _hop(metric: Metric) -> str:
    return metric.family.removesuffix("_seconds").replace("_", " ")


# ---- to Grafana ----------------------------------------------------------------------------------


def to_json(board: models.Dashboard) -> str:
    """Return what Grafana imports."""
    return JSONEncoder(sort_keys=True, indent=2).encode(board) + "\n"


def board(uid: str, title: str, description: str, rows: Iterable[Row]) -> models.Dashboard:
    """Return a board: choosers of source and instance, then row after row."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("10s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(dashboard.DatasourceVariable("source").label("source").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("system")
            .label("instance")
            .datasource(SOURCE)
            .query("label_values(mdsys_up, system)")
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(multi=True)
            .include_all(include_all=True)
            .all_value(".*")
        )
        .link(
            dashboard.DashboardLink("mdsys")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(as_dropdown=True)
            .keep_time(keep_time=True)
            .include_vars(include_vars=True)
        )
    )
    for row in rows:
        made.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            made.with_panel(_panel(panel, WIDTHS[row.columns]))
    return made.build()


AnyPanel = timeseries.Panel | stat.Panel | heatmap.Panel


def _panel(panel: Panel, width: int) -> AnyPanel:
    made: AnyPanel
    match panel.kind:
        case "number":
            made = _number(panel)
        case "heat":
            made = _heat(panel)
        case _:
            made = _lines(panel)
    for index, query in enumerate(panel.queries):
        target = (
            prometheus.Dataquery()
            .expr(query.expression)
            .legend_format(query.legend)
            .ref_id(chr(ord("A") + index))
            .datasource(SOURCE)
            .format(
                PromQueryFormat.HEATMAP if panel.kind == "heat" else PromQueryFormat.TIME_SERIES
            )
        )
        made.with_target(target)
    height = STAT_HEIGHT if panel.kind == "number" else HEIGHT
    return (
        made.title(panel.title)
        .description(panel.description)
        .datasource(SOURCE)
        .unit(panel.unit)
        .span(width)
        .height(height)
    )


def _lines(panel: Panel) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(8)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(
            common_builders.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
    )
    if panel.logarithmic:
        made.scale_distribution(
            common_builders.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
        )
    return made


def _number(panel: Panel) -> stat.Panel:
    made = (
        stat.Panel()
        .graph_mode(common.BigValueGraphMode.AREA)
        .color_mode(common.BigValueColorMode.VALUE)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    steps = [models.Threshold(value=None, color="text")]
    if panel.bad_from is not None:
        steps = [
            models.Threshold(value=None, color="green"),
            models.Threshold(value=panel.bad_from, color="red"),
        ]
    elif panel.bad_below is not None:
        steps = [
            models.Threshold(value=None, color="red"),
            models.Threshold(value=panel.bad_below, color="green"),
        ]
    made.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    return made


def _heat(panel: Panel) -> heatmap.Panel:
    return (
        heatmap.Panel()
        .calculate(calculate=False)
        .cell_gap(0)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_models.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .scale(heatmap_models.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
        .y_axis(heatmap.YAxisConfig().unit(panel.unit))
        .cell_values(heatmap.CellValues().unit("short"))
        .hide_legend()
    )
