"""The text: what ``prometheus_client`` would have written, only sooner."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from mdsys.metrics.collector import PictureCollector
from mdsys.metrics.text import Labels, to_text
from tests.pictures import picture


class Families(Collector):
    """What there is."""

    def __init__(self, *families: Metric) -> None:
        self.families = families

    def collect(self) -> Iterable[Metric]:
        return self.families


def parsed(text: bytes) -> list[tuple[Any, ...]]:
    """Return families and samples; NaN, which equals nothing, as a word."""
    return [
        (
            family.name,
            family.type,
            family.documentation,
            [
                (each.name, each.labels, "NaN" if math.isnan(each.value) else float(each.value))
                for each in family.samples
            ],
        )
        for family in text_string_to_metric_families(text.decode())
    ]


def test_a_whole_picture_reads_as_the_library_writes_it() -> None:
    collector = PictureCollector(picture({"feed": 2}), lambda row, field: row.histograms[field])
    ours = b"".join(to_text(collector.collect()))
    assert parsed(ours) == parsed(generate_latest(collector))


@settings(deadline=None)
@given(
    help_=st.text('ab"\\\n{},= é', max_size=8),
    value=st.text('ab"\\\n{},= é', max_size=8),
    number=st.floats(allow_nan=False) | st.integers(0, (1 << 64) - 1),
)
def test_whatever_stands_in_a_label_or_a_help_is_escaped(
    help_: str, value: str, number: float
) -> None:
    family = GaugeMetricFamily("mdsys_x", help_, labels=["a", "b"])
    family.add_metric([value, "\\"], number)
    text = b"".join(to_text([family])).decode()
    assert text.count("\n") == 3
    assert parsed(text.encode()) == parsed(generate_latest(Families(family)))


@given(st.dictionaries(st.sampled_from(["a", "b"]), st.text('ab"\\\n{},= é', max_size=8)))
def test_labels_that_are_kept_read_as_those_that_are_not(labels: dict[str, str]) -> None:
    plain, kept = GaugeMetricFamily("mdsys_x", "x"), GaugeMetricFamily("mdsys_x", "x")
    plain.add_sample("mdsys_x", labels, 1.0)
    kept.add_sample("mdsys_x", Labels(labels), 1.0)
    assert list(to_text([kept])) == list(to_text([plain]))


def test_numbers_that_are_none_are_written_as_prometheus_reads_them() -> None:
    family = GaugeMetricFamily("mdsys_x", "x", labels=["a"])
    for label, number in (("n", math.nan), ("p", math.inf), ("m", -math.inf)):
        family.add_metric([label], number)
    lines = b"".join(to_text([family])).decode().splitlines()[2:]
    assert [line.split()[1] for line in lines] == ["NaN", "+Inf", "-Inf"]


def test_each_family_is_a_piece_of_its_own() -> None:
    """Between two pieces the supervisor's loop may run."""
    family = GaugeMetricFamily("mdsys_x", "x", 1.0)
    assert len(list(to_text([family, family]))) == 2
