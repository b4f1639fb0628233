"""What is exported: by the schema, by Prometheus' conventions, and true to the values recorded."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mdsys.counters.counters import parse_histogram
from mdsys.counters.picture import Picture, Row
from mdsys.counters.schema import LABELS, metrics
from mdsys.metrics.collector import (
    QUANTILES,
    PictureCollector,
    cumulative,
    is_signed,
    last_minute_name,
)
from tests.pictures import histogram, picture
from tests.prometheus import needs_prometheus, promtool

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def text(of: Picture) -> bytes:
    return generate_latest(PictureCollector(of, lambda row, field: row.histograms[field]))


def samples(of: Picture) -> Samples:
    """Return all samples, as Prometheus' own parser reads them."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text(of).decode())
        for sample in family.samples
    }


def labels(**each: str) -> frozenset[tuple[str, str]]:
    return frozenset(each.items())


@needs_prometheus
def test_promtool_has_nothing_to_say() -> None:
    assert promtool("check", "metrics", text=text(picture())) == ""


def test_every_metric_of_the_schema_is_exported_and_nothing_else() -> None:
    names = {name for name, _ in samples(picture())}
    expected: set[str] = set()
    for metric in metrics():
        if metric.type == "histogram":
            endings = ("_bucket",) if is_signed(metric) else ("_bucket", "_count", "_sum")
            expected |= {metric.name + ending for ending in endings} | {last_minute_name(metric)}
        else:
            expected.add(metric.name)
    assert names == expected


def test_labels_are_those_of_the_schema_and_none_is_a_symbols() -> None:
    allowed = {"system", "le", "quantile"} | {name for own in LABELS.values() for name in own}
    allowed |= {name for metric in metrics() for name in metric.labels}
    found = {name for _, each in samples(picture()) for name, _ in each}
    assert found == allowed
    assert "symbol" not in found


def test_each_family_is_told_once_with_help_and_type() -> None:
    told = re.findall(r"^# TYPE (\S+)", text(picture({"feed": 3})).decode(), re.MULTILINE)
    assert len(told) == len(set(told))
    explained = re.findall(r"^# HELP (\S+) \S", text(picture()).decode(), re.MULTILINE)
    assert explained == told


def test_nanoseconds_become_seconds_and_the_rest_stays() -> None:
    made = picture()
    found = samples(made)
    own = labels(system="i", feed="feed-0")
    assert found["mdsys_feed_lossless_wait_seconds_total", own] == pytest.approx(3e-9)
    assert found["mdsys_feed_gaps_total", own] == 3
    assert found["mdsys_feed_refused_frames_total", own | labels(reason="malformed")] == 3


def test_what_is_not_known_is_left_out() -> None:
    made = picture()
    (row,) = made.rows["connection"]
    made.rows["connection"][0].values["offset_ns"] = None  # type: ignore[index]
    assert row.values["offset_ns"] is None
    names = {name for name, _ in samples(made)}
    assert "mdsys_connection_clock_offset_seconds" not in names
    assert "mdsys_connection_frames_total" in names


def test_words_of_strangers_cannot_break_the_text() -> None:
    made = picture()
    reader = Row(
        {"reader": 'a"} 1\nmdsys_up{system="x"', "number": "\\"},
        made.rows["reader"][0].values,
        made.rows["reader"][0].histograms,
    )
    made.rows["reader"][0] = reader  # type: ignore[index]
    found = samples(made)
    assert ("mdsys_reader_polls_total", labels(system="i", **reader.labels)) in found
    assert [each for name, each in found if name == "mdsys_up"] == [labels(system="i")]


signed_ns = st.lists(st.integers(-(1 << 41), 1 << 41), min_size=1, max_size=60)


@settings(deadline=None)
@given(values=signed_ns, signed=st.booleans())
def test_buckets_hold_exactly_the_values_at_or_below_their_bounds(
    values: list[int], *, signed: bool
) -> None:
    for bound, count in cumulative(histogram(values), signed=signed):
        at_most = math.inf if bound == "+Inf" else round(float(bound) * 1e9)
        assert count == sum(value <= at_most for value in values), bound


@settings(max_examples=10, deadline=None)
@given(values=st.lists(st.integers(0, 1 << 39), min_size=1, max_size=60))
def test_bounds_ascend_and_the_count_is_that_of_the_last(values: list[int]) -> None:
    made = samples(picture(latency=histogram(values)))
    own = labels(system="i", feed="feed-0")
    name = "mdsys_feed_recv_to_ring_seconds"
    counts = {
        float(dict(each)["le"]): count
        for (found, each), count in made.items()
        if found == f"{name}_bucket"
    }
    assert [counts[bound] for bound in sorted(counts)] == sorted(counts.values())
    assert made[f"{name}_count", own] == counts[math.inf] == len(values)
    assert made[f"{name}_sum", own] == pytest.approx(sum(values) / 1e9)


@pytest.mark.parametrize("seed", range(4))
def test_quantiles_are_within_5_percent_of_the_values_own(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = np.concatenate(
        [
            random.lognormal(8, 1.5, 20_000),  # microseconds, with a long tail
            random.pareto(1.2, 2_000) * 1_000,
            -random.lognormal(6, 1, 50),
        ]
    ).astype(np.int64)
    made = samples(picture(latency=histogram(values.tolist())))
    for quantile in QUANTILES:
        true_s = np.quantile(values, quantile, method="inverted_cdf") / 1e9
        own = labels(system="i", feed="feed-0", quantile=str(quantile))
        exported_s = made["mdsys_feed_recv_to_ring_last_minute_seconds", own]
        assert exported_s == pytest.approx(true_s, rel=0.05)


def test_quantiles_of_nothing_are_not_a_number() -> None:
    made = samples(picture(latency=histogram([])))
    own = labels(system="i", feed="feed-0", quantile="0.99")
    assert math.isnan(made["mdsys_feed_recv_to_ring_last_minute_seconds", own])


def test_signed_hops_have_no_sum_which_could_fall() -> None:
    names = {name for name, _ in samples(picture())}
    assert "mdsys_feed_event_to_recv_seconds_bucket" in names
    assert (
        not {
            "mdsys_feed_event_to_recv_seconds_sum",
            "mdsys_feed_event_to_recv_seconds_count",
        }
        & names
    )


@pytest.mark.parametrize("seed", range(4))
def test_whatever_a_reader_writes_into_its_page_can_be_exported(seed: int) -> None:
    made = picture()
    size = 4 + len(histogram([]).positive) * 2
    words = np.random.default_rng(seed).integers(0, 1 << 64, size, np.uint64, endpoint=False)
    (row,) = made.rows["reader"]
    hostile = Row(
        row.labels,
        dict.fromkeys(row.values, (1 << 64) - 1),
        dict.fromkeys(row.histograms, parse_histogram(words)),
    )
    made.rows["reader"][0] = hostile  # type: ignore[index]
    assert samples(made)
