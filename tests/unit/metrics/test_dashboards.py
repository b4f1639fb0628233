"""The dashboards: fresh, whole, and made of nothing but what is exported."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mdsys.counters.schema import metrics
from mdsys.metrics.collector import last_minute_name

pytest.importorskip("grafana_foundation_sdk", reason="a development requirement")

from tools.dashboards.boards import FOLDER, boards
from tools.dashboards.panels import to_json

BOARDS = boards()
NAME = re.compile(r"\bmdsys_[a-z_]+")


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels that show something."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions(board: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in panels(board) for target in panel["targets"]]


def as_json(name: str) -> dict[str, Any]:
    made = json.loads(to_json(BOARDS[name]))
    assert isinstance(made, dict)
    return made


@pytest.mark.parametrize("name", BOARDS)
def test_committed_file_is_what_the_schema_makes(name: str) -> None:
    assert (FOLDER / name).read_text() == to_json(BOARDS[name]), "run: make dashboards"


def test_no_board_is_committed_that_nobody_makes() -> None:
    assert sorted(path.name for path in Path(FOLDER).iterdir()) == sorted(BOARDS)


def test_every_family_of_the_schema_is_on_the_board_of_all_numbers() -> None:
    shown = set(NAME.findall(" ".join(expressions(as_json("mdsys-all.json")))))
    exported = {
        last_minute_name(metric) if metric.type == "histogram" else metric.name
        for metric in metrics()
    }
    assert shown == exported


@pytest.mark.parametrize("name", BOARDS)
def test_board_asks_for_nothing_that_is_not_exported(name: str) -> None:
    exported = {metric.name for metric in metrics()}
    for metric in metrics():
        if metric.type == "histogram":
            exported |= {f"{metric.name}_bucket", last_minute_name(metric)}
    for expression in expressions(as_json(name)):
        assert set(NAME.findall(expression)) <= exported, expression
        assert expression.count('system=~"$system"') == len(NAME.findall(expression))


def test_every_hop_has_percentiles_and_a_heat_map() -> None:
    board = as_json("mdsys-latency.json")
    for metric in metrics():
        if metric.type == "histogram":
            kinds = {
                panel["type"]
                for panel in panels(board)
                for target in panel["targets"]
                if re.search(
                    rf"\b({metric.name}_bucket|{last_minute_name(metric)})\b", target["expr"]
                )
            }
            assert kinds == {"timeseries", "heatmap"}, metric.name


@pytest.mark.parametrize("name", BOARDS)
def test_panels_have_titles_units_descriptions_and_do_not_overlap(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    board = as_json(name)
    for panel in panels(board):
        assert panel["title"]
        assert panel["description"].startswith("mdsys_")
        assert panel["fieldConfig"]["defaults"]["unit"]
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in own) < 24
        assert not own & taken, panel["title"]
        taken |= own


def test_drops_and_losses_are_no_flat_line_beside_what_is_received() -> None:
    """A thousandth of the records would be one, in a panel that shows all outcomes."""
    rates = [
        expression
        for expression in expressions(as_json("mdsys-readers.json"))
        if "mdsys_reader_records_total" in expression
    ]
    chosen = [re.findall(r'outcome([=!]~"[^"]+")', expression) for expression in rates]
    assert chosen == [['!~"dropped|lost"'], ['=~"dropped|lost"']]


@pytest.mark.parametrize("name", BOARDS)
def test_no_legend_shows_the_long_number_of_a_reader(name: str) -> None:
    for panel in panels(as_json(name)):
        for target in panel["targets"]:
            assert "{{number}}" not in target["legendFormat"], panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_what_was_lost_in_an_hour_is_a_whole_number(name: str) -> None:
    numbers = [
        target["expr"]
        for panel in panels(as_json(name))
        if panel["type"] == "stat"
        for target in panel["targets"]
        if "increase(" in target["expr"]
    ]
    assert all(expression.startswith("round(") for expression in numbers)
    assert bool(numbers) == (name == "mdsys.json")
