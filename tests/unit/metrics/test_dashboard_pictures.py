"""The pictures of the dashboards: units, axes, buckets, and every panel in its place."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tools.pictures.board import Answers, Series, Window, counts_by_bucket, draw, place
from tools.pictures.units import SCALES, decades, marks, text

FOLDER = Path(__file__).parent.parent.parent.parent / "deploy" / "grafana"
WINDOW = Window(1_700_000_000.0, 90)
SVG = "{http://www.w3.org/2000/svg}"


def panels_of(board: str) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads((FOLDER / board).read_text())["panels"]
    return panels


def panel(kind: str, **keys: Any) -> dict[str, Any]:
    """Return the first panel of a kind, with other keys."""
    board = "mdsys-latency.json" if kind == "heatmap" else "mdsys.json"
    found = next(each for each in panels_of(board) if each["type"] == kind)
    return found | {"gridPos": {"x": 0, "y": 0, "w": 8, "h": 8}} | keys


def answer(labels: dict[str, str], *values: float) -> dict[str, Any]:
    """Return a series as Prometheus does: one value a second, as text."""
    points = [[WINDOW.begin + second, str(value)] for second, value in enumerate(values)]
    return {"metric": labels, "values": points}


def answers(shown: dict[str, Any], *series: dict[str, Any]) -> Answers:
    return {shown["targets"][0]["expr"]: series}


def drawn(shown: dict[str, Any], *series: dict[str, Any]) -> ET.Element:
    return ET.fromstring(draw("a board", [shown], answers(shown, *series), WINDOW))


def words(picture: ET.Element) -> list[str]:
    return ["".join(each.itertext()) for each in picture.iter(f"{SVG}text")]


# ---- units ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "written"),
    [
        (0, "short", "0"),
        (168, "short", "168"),
        (44.21, "short", "44.2"),
        (999.6, "short", "1 K"),
        (5_063, "cps", "5.06K c/s"),
        (0, "cps", "0 c/s"),
        (0.25, "cps", "0.25 c/s"),
        (412_345, "Bps", "412 kB/s"),
        (0, "s", "0 s"),
        (2.56e-7, "s", "256 ns"),
        (0.0000123, "s", "12.3 µs"),
        (-0.3, "s", "-300 ms"),
        (90, "s", "90 s"),
        (0.125, "percentunit", "12.5%"),
        (0, "percentunit", "0%"),
        (3 * 2**20, "bytes", "3 MiB"),
    ],
)
def test_value_has_three_digits_and_its_unit(value: float, unit: str, written: str) -> None:
    assert text(value, unit) == written


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 4.6, [0, 1, 2, 3, 4, 5]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-380, 0, [-400, -300, -200, -100, 0]),
        (0, 0, [0, 0.2, 0.4, 0.6, 0.8, 1][:2]),
    ],
)
def test_marks_are_round_and_hold_all_values(
    low: float, high: float, expected: list[float]
) -> None:
    assert marks(low, high) == pytest.approx(expected)


def test_decades_hold_all_values() -> None:
    assert decades(2.5e-6, 3e-4) == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3])
    assert decades(1e-6, 1e-6) == pytest.approx([1e-6, 1e-5])


def test_every_unit_of_the_pictured_boards_can_be_written() -> None:
    units = {
        each["fieldConfig"]["defaults"]["unit"]
        for board in ("mdsys.json", "mdsys-latency.json")
        for each in panels_of(board)
        if each["type"] != "row"
    }
    assert units <= set(SCALES)


# ---- layout --------------------------------------------------------------------------------------


@pytest.mark.parametrize("board", ["mdsys.json", "mdsys-latency.json"])
def test_no_two_panels_overlap(board: str) -> None:
    for one, other in itertools.combinations(map(place, panels_of(board)), 2):
        assert (
            one.x + one.width < other.x
            or other.x + other.width < one.x
            or one.bottom < other.y
            or other.bottom < one.y
        )


@pytest.mark.parametrize("board", ["mdsys.json", "mdsys-latency.json"])
def test_every_panel_of_a_board_is_drawn_within_the_picture(board: str) -> None:
    panels = panels_of(board)
    every = {
        target["expr"]: [answer({"le": bound}, 1, 4, 9) for bound in ("0.001", "+Inf")]
        for each in panels
        for target in each.get("targets", ())
    }
    picture = ET.fromstring(draw("a board", panels, every, WINDOW))
    _, _, width, height = map(float, picture.attrib["viewBox"].split())
    assert {each["title"] for each in panels} <= set(words(picture))
    assert "No data" not in words(picture)
    for each in map(place, panels):
        assert each.x >= 0
        assert each.x + each.width <= width
        assert each.bottom <= height


def test_legend_names_series_by_their_labels_and_says_how_many_are_left_out() -> None:
    shown = panel("timeseries")
    shown["targets"][0]["legendFormat"] = "{{venue}} feed {{feed}}{{gone}}"
    two = drawn(shown, *(answer({"venue": "kraken", "feed": str(n)}, 1) for n in range(2)))
    assert "—kraken feed 0—kraken feed 1" in words(two)
    many = drawn(shown, *(answer({"venue": "kraken", "feed": str(n)}, 1) for n in range(40)))
    legend = " ".join(each for each in words(many) if "kraken" in each)
    named = legend.count("kraken")
    assert legend.endswith(f"and {40 - named} more")


def test_markup_in_a_label_stays_text() -> None:
    shown = panel("timeseries")
    shown["targets"][0]["legendFormat"] = "{{reader}}"
    assert "—<a&b>" in words(drawn(shown, answer({"reader": "<a&b>"}, 1)))


@pytest.mark.parametrize("kind", ["stat", "timeseries", "heatmap"])
def test_panel_without_a_number_says_so(kind: str) -> None:
    shown = panel(kind)
    for series in ([], [answer({"le": "1"}, math.nan, math.nan)]):
        assert "No data" in words(drawn(shown, *series))


# ---- what is drawn -------------------------------------------------------------------------------


def test_nan_is_a_gap_in_a_line() -> None:
    shown = panel("timeseries")
    picture = drawn(shown, answer({}, 1, 2, math.nan, 3, 4, 5))
    lines = [
        each.attrib["d"] for each in picture.iter(f"{SVG}path") if "stroke-width" in each.attrib
    ]
    assert [len(re.findall(r"[\d.]+ [\d.]+", line)) for line in lines] == [2, 3]


@pytest.mark.parametrize(("value", "colour"), [(0, "#73bf69"), (1, "#f2495c"), (7, "#f2495c")])
def test_number_has_the_colour_of_its_threshold(value: float, colour: str) -> None:
    steps = [{"color": "green", "value": None}, {"color": "red", "value": 1}]
    shown = panel(
        "stat", fieldConfig={"defaults": {"unit": "short", "thresholds": {"steps": steps}}}
    )
    picture = drawn(shown, answer({}, 0, value))
    large = next(each for each in picture.iter(f"{SVG}text") if "34px" in each.get("style", ""))
    assert "".join(large.itertext()) == str(value)
    assert colour in large.attrib["style"]


def test_logarithmic_axis_has_decades() -> None:
    shown = panel("timeseries")
    shown["fieldConfig"]["defaults"]["unit"] = "s"
    shown["fieldConfig"]["defaults"]["custom"]["scaleDistribution"] = {"type": "log", "log": 10}
    said = words(drawn(shown, answer({}, 2e-6, 0.0, 5e-4)))
    assert [each for each in said if each.endswith((" µs", " ms"))] == [
        "1 µs",
        "10 µs",
        "100 µs",
        "1 ms",
    ]


def test_heat_map_has_what_fell_between_the_bounds_and_no_empty_ends() -> None:
    bounds, counts = counts_by_bucket(
        [
            Series("+Inf", [(0, 9), (1, 9)]),  # as text they sort otherwise
            Series("0.001", [(0, 0), (1, 0)]),
            Series("0.01", [(0, 2), (1, 0)]),
            Series("0.002", [(0, 2), (1, 0)]),
            Series("0.1", [(0, 9), (1, 9)]),
        ]
    )
    assert bounds == [0.001, 0.002, 0.01, 0.1]
    assert counts == {(0, 0): 2, (2, 0): 7, (2, 1): 9}


def test_lowest_bucket_has_no_lower_bound() -> None:
    bounds, counts = counts_by_bucket([Series("1", [(0, 3)]), Series("+Inf", [(0, 3)])])
    assert bounds == [-math.inf, 1]
    assert counts == {(0, 0): 3}


def test_most_in_a_heat_map_is_the_lightest_and_in_its_place() -> None:
    shown = panel("heatmap")
    picture = drawn(
        shown, answer({"le": "1"}, 0, 0), answer({"le": "2"}, 0, 1), answer({"le": "4"}, 0, 101)
    )
    cells = {
        each.attrib["fill"]: re.findall(r"[\d.]+", each.attrib["d"])
        for each in picture.iter(f"{SVG}path")
        if each.get("class") == "heat"
    }
    assert len(cells) == 2
    (_, top, _, bottom, _), (_, low_top, _, low_bottom, _) = cells.pop("#fff5eb"), *cells.values()
    assert float(top) < float(bottom) == float(low_top) < float(low_bottom)
    grid = "".join(each.get("d", "") for each in picture.iter(f"{SVG}path"))
    assert float(low_bottom) == max(map(float, re.findall(r"M[\d.]+ ([\d.]+)h", grid)))
