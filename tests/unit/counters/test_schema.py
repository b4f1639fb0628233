from __future__ import annotations

import re
from collections import defaultdict
from itertools import groupby

import pytest

from mdsys import _native
from mdsys.counters.schema import LABELS, Metric, fields, metrics, metrics_of

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def by_name() -> dict[str, list[Metric]]:
    found: dict[str, list[Metric]] = defaultdict(list)
    for metric in metrics():
        found[metric.name].append(metric)
    return found


def test_every_row_of_the_c_lists_is_a_metric_unless_it_has_no_family() -> None:
    rows = [row for rows in _native.schema().values() for row in rows]
    assert len(rows) > 130
    exported = sorted((field, family) for field, _, family, *_ in rows if family)
    assert sorted((metric.field, metric.family) for metric in metrics()) == exported
    assert {field for field, _, family, *_ in rows if not family} == {
        *("since_ns", "last_frame_ns", "last_data_ns"),  # their ages are told instead
    }


@pytest.mark.parametrize("metric", metrics(), ids=lambda metric: f"{metric.scope}.{metric.field}")
def test_names_follow_the_conventions_of_prometheus(metric: Metric) -> None:
    assert NAME.fullmatch(metric.family)
    assert not metric.family.endswith(("_total", "_count", "_sum", "_bucket", "_info"))
    assert metric.name.endswith("_total") == (metric.type == "counter")
    is_time = metric.type == "histogram" or metric.field.endswith("_ns")
    assert metric.family.endswith("_seconds") == is_time
    assert metric.scale == (1e-9 if is_time else 1)
    assert metric.help
    assert not metric.help.endswith(".")
    assert "|" not in metric.help, "it stands in a table"
    assert not set(metric.labels) & {*LABELS[metric.scope], "system", "instance", "job", "le"}


@pytest.mark.parametrize("name", by_name())
def test_metrics_of_a_name_differ_in_a_label_and_in_nothing_else(name: str) -> None:
    family = by_name()[name]
    for seen in ("scope", "type", "family_help"):
        assert len({getattr(metric, seen) for metric in family}) == 1
    labels = [tuple(metric.labels.items()) for metric in family]
    assert len(set(labels)) == len(labels)
    assert len({tuple(metric.labels) for metric in family}) == 1
    if len(family) > 1:
        assert all(metric.labels for metric in family)


def test_metrics_of_a_name_follow_one_another() -> None:
    groups = [name for name, _ in groupby(metric.name for metric in metrics())]
    assert len(groups) == len(set(groups))


def test_no_field_stands_twice_in_a_scope() -> None:
    for scope in LABELS:
        named = [metric.field for metric in metrics_of(scope)]
        assert len(set(named)) == len(named), scope


def test_every_scope_has_metrics() -> None:
    assert {metric.scope for metric in metrics()} == set(LABELS)


def test_outcomes_of_a_reader_are_one_family_whose_sum_is_what_was_published() -> None:
    outcomes = [metric.field for metric in metrics() if metric.family == "reader_records"]
    assert outcomes == ["received", "filtered", "conflated", "dropped", "lost"]
    assert list(fields("readers")[:5]) == outcomes
