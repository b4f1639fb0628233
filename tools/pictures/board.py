"""A dashboard as an SVG: its own panels in its own grid, in the manner of Grafana's dark theme.

Text is text, in whatever sans-serif font the viewer has: what must not overlap leaves room for a
wide one.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape

from tools.pictures.units import decades, marks, text

Panel = Mapping[str, Any]
"""One of a board's "panels"."""
Answers = Mapping[str, Sequence[Mapping[str, Any]]]
"""Expression -> series as Prometheus answers: {"metric": labels, "values": [[s, "text"], ..]}."""

COLUMN, LINE, GAP = 50, 38, 8
"""Of the grid, 24 columns wide: px. The gap is a part of both."""
HEAD, FOOT, MARGIN = 56, 30, 12
WIDTH: Final = 24 * COLUMN + 2 * MARGIN - GAP
FONT: Final = "Inter, Helvetica, Arial, 'DejaVu Sans Condensed', sans-serif"
CHARACTER = 6.2
"""Of text of 12 px, in a rather wide font; px."""
LEGEND_LINES_MAX = 4
STEP_SECONDS = 1
"""From one point of a line to the next."""
COLOURS: Final = (
    *("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#1fb9a8"),
    *("#37872d", "#fade2a", "#6ed0e0", "#ff9830", "#e24d42", "#1f78c1", "#ba43a9", "#82b5d8"),
)
NAMED: Final = {"green": "#73bf69", "red": "#f2495c", "text": "#ccccdc"}
ORANGES: Final = (
    *("7f2704", "a63603", "d94801", "f16913", "fd8d3c", "fdae6b", "fdd0a2", "fee6ce", "fff5eb"),
)
"""d3's interpolateOranges; on a dark ground the most is the lightest."""
SHADES = 24
STYLE: Final = f"""
text {{ font-family: {FONT}; font-size: 12px; fill: #ccccdc; }}
.dim, .axis {{ fill: #9293a0; }} .axis {{ font-size: 11px; }}
.title {{ font-size: 13px; font-weight: 500; }}
.row {{ font-size: 15px; font-weight: 500; }} .board {{ font-size: 18px; font-weight: 500; }}
.panel {{ fill: #181b1f; stroke: #2c2f35; }} .chip {{ fill: #22252b; stroke: #34373e; }}
.grid {{ stroke: #282b31; fill: none; }}
.heat {{ shape-rendering: crispEdges; }}"""


@dataclass(frozen=True, slots=True)
class Window:
    """What is shown of time."""

    begin: float
    """s since the epoch."""
    seconds: int

    @property
    def end(self) -> float:
        """Its end."""
        return self.begin + self.seconds


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, px."""

    x: float
    y: float
    width: float
    height: float

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.y + self.height


@dataclass(frozen=True, slots=True)
class Series:
    """One line: what the legend calls it, and its points; a NaN is a gap."""

    name: str
    points: Sequence[tuple[float, float]]

    @property
    def finite(self) -> list[float]:
        """Its values."""
        return [value for _, value in self.points if math.isfinite(value)]


def place(panel: Panel) -> Box:
    """Return where a panel is drawn."""
    grid = panel["gridPos"]
    return Box(
        MARGIN + grid["x"] * COLUMN,
        HEAD + grid["y"] * LINE,
        grid["w"] * COLUMN - GAP,
        grid["h"] * LINE - GAP,
    )


def series_of(panel: Panel, answers: Answers) -> list[Series]:
    """Return a panel's lines, in the order of the answers."""
    return [
        Series(
            re.sub(
                r"\{\{(\w+)\}\}",
                lambda match, labels=each["metric"]: labels.get(match[1], ""),  # type: ignore[misc]
                target["legendFormat"],
            ),
            [(float(moment), float(value)) for moment, value in each["values"]],
        )
        for target in panel["targets"]
        for each in answers[target["expr"]]
    ]


def draw(title: str, panels: Sequence[Panel], answers: Answers, window: Window) -> str:
    """Return the picture of some panels of a board."""
    height = max(place(panel).bottom for panel in panels) + FOOT
    drawn = "\n".join(part for panel in panels for part in _panel(panel, answers, window))
    shown = f"Last {window.seconds} seconds"
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}">
<style>{STYLE}</style>
<rect width="100%" height="100%" fill="#111217"/>
<text class="board" x="{MARGIN + 4}" y="35">{escape(title)}</text>
{_chip(WIDTH - MARGIN - 150, shown)}{_chip(WIDTH - MARGIN - 262, "instance  All")}
{drawn}
<text class="axis" x="{WIDTH / 2}" y="{height - 11:g}" text-anchor="middle">Drawn from this \
dashboard's queries, answered by a Prometheus that scraped a daemon on simulated venues; not a \
screenshot of Grafana.</text>
</svg>
"""


def _chip(x: float, words: str) -> str:
    width = 150 if len(words) > 14 else 102
    return (
        f'<rect class="chip" x="{x}" y="16" width="{width}" height="28" rx="2"/>'
        f'<text x="{x + width / 2}" y="34" text-anchor="middle">{escape(words)}</text>'
    )


def _panel(panel: Panel, answers: Answers, window: Window) -> Iterator[str]:
    box, title = place(panel), escape(panel["title"])
    if panel["type"] == "row":
        y = box.y + 21
        yield f'<path d="M{box.x + 4} {y - 7}l5 5 5-5" stroke="#9293a0" fill="none"/>'
        yield f'<text class="row" x="{box.x + 20}" y="{y}">{title}</text>'
        return
    yield (
        f'<rect class="panel" x="{box.x + 0.5}" y="{box.y + 0.5}" width="{box.width - 1}" '
        f'height="{box.height - 1}" rx="2"/>'
        f'<text class="title" x="{box.x + 9}" y="{box.y + 21}">{title}</text>'
    )
    series = series_of(panel, answers)
    if not any(each.finite for each in series):
        middle = f'x="{box.x + box.width / 2}" y="{box.y + box.height / 2}"'
        yield f'<text class="dim" {middle} text-anchor="middle">No data</text>'
        return
    yield from KINDS[panel["type"]](panel, box, series, window)


# ---- one number ----------------------------------------------------------------------------------


def _number(panel: Panel, box: Box, series: Sequence[Series], window: Window) -> Iterator[str]:
    defaults = panel["fieldConfig"]["defaults"]
    value = series[0].finite[-1]
    colour = NAMED["text"]
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            colour = NAMED[step["color"]]
    plot = Box(box.x + 1, box.bottom - 47, box.width - 2, 46)
    top = 1.1 * max(1e-9, *(max(each.finite) for each in series))
    yield from _line(series[0], colour, 0.18, _Axes(plot, window, 0, top))
    yield (
        f'<text x="{box.x + box.width / 2}" y="{box.y + 76}" text-anchor="middle" '
        f'style="font-size:34px;font-weight:500;fill:{colour}">'
        f"{_large(text(value, defaults['unit']))}</text>"
    )


def _large(value: str) -> str:
    """Return a value whose unit is smaller than it."""
    number = re.match(r"[-\d.]*", value)
    assert number
    unit = escape(value[number.end() :].strip())
    return f'{number[0]}<tspan dx="3" style="font-size:18px">{unit}</tspan>'


# ---- lines ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Axes:
    """Where a value at a time is in the picture."""

    box: Box
    window: Window
    low: float
    high: float
    logarithmic: bool = False

    def x(self, moment: float) -> float:
        return self.box.x + (moment - self.window.begin) / self.window.seconds * self.box.width

    def y(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, low))
        return self.box.bottom - (value - low) / (high - low) * self.box.height


def _lines(panel: Panel, box: Box, series: Sequence[Series], window: Window) -> Iterator[str]:
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    logarithmic = custom.get("scaleDistribution", {}).get("type") == "log"
    values = [value for each in series for value in each.finite]
    ticks = marks(min(0.0, *values), max(values))
    if logarithmic:
        positive = [value for value in values if value > 0] or [1.0]
        ticks = decades(min(positive), max(positive))
    legend = _legend([each.name for each in series], box.width - 20)
    plot = _plot(box, 18 * len(legend) + 8)
    axes = _Axes(plot, window, ticks[0], ticks[-1], logarithmic)
    yield from _frame(axes, [(axes.y(tick), text(tick, defaults["unit"])) for tick in ticks])
    for index, each in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        yield from _line(each, colour, custom["fillOpacity"] / 100, axes)
    for number, line in enumerate(legend):
        y = box.bottom - 12 - 18 * (len(legend) - 1 - number)
        yield f'<text x="{box.x + 10}" y="{y}">{line}</text>'


def _plot(box: Box, below: float) -> Box:
    return Box(box.x + 66, box.y + 38, box.width - 80, box.height - 38 - 26 - below)


def _frame(axes: _Axes, ticks: Sequence[tuple[float, str]]) -> Iterator[str]:
    """Draw the grid with its marks: y and words."""
    box, window = axes.box, axes.window
    for y, words in ticks:
        yield f'<path class="grid" d="M{box.x} {y:.1f}h{box.width}"/>'
        yield f'<text class="axis" x="{box.x - 7}" y="{y + 4:.1f}" text-anchor="end">{words}</text>'
    step = next(each for each in (5, 10, 15, 30, 60, 300) if window.seconds / each <= 6)
    for moment in range(math.ceil(window.begin / step) * step, math.floor(window.end) + 1, step):
        x = axes.x(moment)
        yield f'<path class="grid" d="M{x:.1f} {box.y}v{box.height:.1f}"/>'
        if box.x + 16 < x < box.x + box.width - 12:
            words = time.strftime("%H:%M:%S", time.gmtime(moment))
            at = f'x="{x:.1f}" y="{box.bottom + 17:.1f}"'
            yield f'<text class="axis" {at} text-anchor="middle">{words}</text>'


def _line(series: Series, colour: str, opacity: float, axes: _Axes) -> Iterator[str]:
    """Draw a line and what is under it, as far as it has points."""
    run: list[tuple[float, float]] = []
    for moment, value in (*series.points, (math.nan, math.nan)):
        if math.isfinite(value):
            run.append((axes.x(moment), axes.y(value)))
            continue
        if run:
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in run)
            floor = axes.y(axes.low if axes.logarithmic else max(axes.low, 0.0))
            under = f"M{path}V{floor:.1f}H{run[0][0]:.1f}z"
            yield f'<path fill="{colour}" fill-opacity="{opacity:g}" d="{under}"/>'
            yield f'<path fill="none" stroke="{colour}" stroke-width="1.4" d="M{path}"/>'
        run = []


def _legend(names: Sequence[str], width: float) -> list[str]:
    """Return the lines of a legend; the last says how many there was no room for."""
    lines: list[list[str]] = [[]]
    used = 0.0
    for index, name in enumerate(names):
        size = CHARACTER * len(name) + 27
        if lines[-1] and used + size > width:
            if len(lines) == LEGEND_LINES_MAX:
                lines[-1][-1] = (
                    f'<tspan class="dim" dx="8">and {len(names) - index + 1} more</tspan>'
                )
                break
            lines.append([])
            used = 0.0
        colour = COLOURS[index % len(COLOURS)]
        lines[-1].append(
            f'<tspan dx="{12 if used else 0}" style="fill:{colour};font-weight:bold">—</tspan>'
            f'<tspan dx="5">{escape(name)}</tspan>'
        )
        used += size
    return ["".join(line) for line in lines]


# ---- heat ----------------------------------------------------------------------------------------


def counts_by_bucket(
    series: Sequence[Series],
) -> tuple[list[float], dict[tuple[int, float], float]]:
    """Return the bounds of a histogram's buckets, and (bucket, time) -> how many fell into it.

    Bucket n lies between bounds n and n + 1; those without any, at both ends, are left out.
    """
    ordered = sorted(series, key=lambda each: float(each.name))
    below: dict[float, float] = {}
    found: dict[tuple[int, float], float] = {}
    for index, each in enumerate(ordered):
        for moment, value in each.points:
            if (count := value - below.get(moment, 0.0)) > 1e-9:
                found[index, moment] = count
            below[moment] = value
    first = min(index for index, _ in found)
    last = max(index for index, _ in found)
    bounds = [-math.inf, *(float(each.name) for each in ordered)][first : last + 2]
    return bounds, {(index - first, moment): count for (index, moment), count in found.items()}


def _heat(panel: Panel, box: Box, series: Sequence[Series], window: Window) -> Iterator[str]:
    bounds, counts = counts_by_bucket(series)
    plot = _plot(box, 0)
    rows = len(bounds) - 1
    exponent = panel["options"]["color"]["exponent"]
    unit = panel["options"]["yAxis"]["unit"]
    axes = _Axes(plot, window, 0, rows)
    every = math.ceil(rows / 7)
    yield from _frame(
        axes,
        [
            (axes.y(index), text(bound, unit))
            for index, bound in enumerate(bounds)
            if not index % every and math.isfinite(bound)
        ],
    )
    most = max(counts.values())
    cells: dict[int, list[str]] = {}
    for (index, moment), count in counts.items():
        left, right = (axes.x(max(each, window.begin)) for each in (moment - STEP_SECONDS, moment))
        if right > left:
            top, bottom = axes.y(index + 1), axes.y(index)
            shade = round((count / most) ** exponent * (SHADES - 1))
            cells.setdefault(shade, []).append(
                f"M{left:.1f} {top:.1f}H{right:.1f}V{bottom:.1f}H{left:.1f}z"
            )
    for shade, paths in sorted(cells.items()):
        colour = _orange(shade / (SHADES - 1))
        yield f'<path class="heat" fill="{colour}" d="{"".join(paths)}"/>'


def _orange(part: float) -> str:
    """Return a colour of the scheme, from the least to the most."""
    place, rest = divmod(part * (len(ORANGES) - 1), 1)
    low = bytes.fromhex(ORANGES[int(place)])
    high = bytes.fromhex(ORANGES[min(int(place) + 1, len(ORANGES) - 1)])
    return f"#{bytes(round(a + (b - a) * rest) for a, b in zip(low, high, strict=True)).hex()}"


KINDS: Final = {"stat": _number, "timeseries": _lines, "heatmap": _heat}
