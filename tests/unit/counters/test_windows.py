from __future__ import annotations

import mmap
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdsys import _native
from mdsys.counters.counters import Histogram, parse_words
from mdsys.counters.schema import fields
from mdsys.counters.windows import SPAN_NS, STEP_NS, Windows

SECOND = 1_000_000_000
KEY = "hop"
# Whole latencies in ns, the far ones up to a quarter of an hour.
NS = st.one_of(st.integers(-(10**6), 10**6), st.integers(-(10**12), 10**12))
VALUES = st.lists(NS, min_size=1, max_size=60)


class Recorded:
    """A histogram that the C code records into."""

    def __init__(self) -> None:
        memory = mmap.mmap(-1, _native.counters_size(1))
        _native.Counters.create(memory, 1)
        _native.publish_segment(memory, time.time_ns())
        self.counters = _native.Counters(memory, writable=True)

    def record(self, values: list[int]) -> Histogram:
        for value in values:
            self.counters.record_loop_lag(value)
        return self.now()

    def now(self) -> Histogram:
        numbers = fields("system") + fields("subscriptions")
        block = self.counters.supervisor()
        return parse_words(block, numbers, fields("system_histograms"))[1]["loop_lag"]


def agrees(found: Histogram, values: list[int]) -> None:
    """Hold a histogram's quantiles against NumPy's of the raw values."""
    assert found.count == len(values)
    for percent in (0.0, 10.0, 50.0, 90.0, 99.0, 99.9, 100.0):
        exact = int(np.percentile(values, percent, method="inverted_cdf"))
        told = found.percentile(percent)
        assert told is not None
        assert abs(told - exact) <= 0.05 * abs(exact) + 1


@given(VALUES)
def test_quantiles_of_what_c_has_recorded_are_those_of_the_raw_values(values: list[int]) -> None:
    histogram = Recorded().record(values)
    agrees(histogram, values)
    assert (histogram.min_ns, histogram.max_ns) == (min(values), max(values))
    assert histogram.sum_ns == sum(values)


@given(VALUES, VALUES)
def test_difference_is_what_has_come_since(before: list[int], since: list[int]) -> None:
    recorded = Recorded()
    earlier = recorded.record(before)
    later = recorded.record(since)
    assert later.includes(earlier)
    gained = later - earlier
    agrees(gained, since)
    assert gained.sum_ns == sum(since)
    assert gained.min_ns <= min(since)
    assert max(since) <= gained.max_ns


def test_difference_of_nothing_is_empty() -> None:
    recorded = Recorded()
    histogram = recorded.record([5, 7])
    assert (histogram - histogram).count == 0
    assert (histogram - histogram).percentile(50) is None


@given(st.lists(VALUES, min_size=1, max_size=40))
def test_window_holds_the_last_minute_and_at_most_a_step_more(batches: list[list[int]]) -> None:
    windows, recorded = Windows(), Recorded()
    windows.note(0, {KEY: recorded.now()})
    for second, batch in enumerate(batches, 1):
        histogram = recorded.record(batch)
        windows.note(3 * second * SECOND, {KEY: histogram})
    now_ns = 3 * len(batches) * SECOND
    began_ns = windows.began_ns
    assert began_ns is not None
    assert began_ns == 0 or SPAN_NS <= now_ns - began_ns < SPAN_NS + STEP_NS + 3 * SECOND
    inside = [
        value
        for second, batch in enumerate(batches, 1)
        for value in batch
        if 3 * second * SECOND > began_ns
    ]
    agrees(windows.over(KEY, recorded.now()), inside)


def test_readings_are_kept_no_closer_than_a_step() -> None:
    windows, recorded = Windows(), Recorded()
    for tenth in range(1_300):  # two minutes, ten times a second
        windows.note(tenth * SECOND // 10, {KEY: recorded.now()})
    assert len(windows._past) <= SPAN_NS // STEP_NS + 2


@pytest.mark.parametrize("known", [[], [3, 4, 5]])
def test_histogram_that_has_begun_anew_counts_whole(known: list[int]) -> None:
    windows, recorded = Windows(), Recorded()
    windows.note(0, {KEY: Recorded().record([1_000] * 9)} if known else {})
    agrees(windows.over(KEY, recorded.record(known or [7])), known or [7])


def test_key_that_came_later_counts_since_its_first_reading() -> None:
    windows, recorded = Windows(), Recorded()
    windows.note(0, {})
    windows.note(10 * SECOND, {KEY: recorded.record([1, 2])})
    agrees(windows.over(KEY, recorded.record([30])), [30])


def test_window_begins_anew_when_the_clock_was_set_back() -> None:
    windows, recorded = Windows(), Recorded()
    windows.note(100 * SECOND, {KEY: recorded.record([1])})
    windows.note(50 * SECOND, {KEY: recorded.record([2])})
    assert windows.began_ns == 50 * SECOND
    agrees(windows.over(KEY, recorded.record([3])), [3])


def test_nothing_noted_is_no_window() -> None:
    recorded = Recorded()
    assert Windows().began_ns is None
    agrees(Windows().over(KEY, recorded.record([9])), [9])
