from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdsys.counters.counters import (
    OPEN_FROM_NS,
    Histogram,
    bucket_middle,
    parse_block,
    schema,
    total,
)

NAMES, HISTOGRAMS, BUCKETS = schema()


def bucket_of(magnitude: int) -> int:
    """The rule of md_histogram_bucket, written another way."""
    if magnitude < 32:
        return magnitude
    shift = magnitude.bit_length() - 5
    return min(32 + (shift - 1) * 16 + ((magnitude >> shift) - 16), BUCKETS - 1)


def block(counters: dict[str, int], values: list[int]) -> bytes:
    """A feed's block whose first histogram holds ``values``."""
    words = [counters.get(name, 0) for name in NAMES]
    positive, negative = [0] * BUCKETS, [0] * BUCKETS
    for value in values:
        (negative if value < 0 else positive)[bucket_of(abs(value))] += 1
    wrapped = (sum(values) + (1 << 63)) % (1 << 64) - (1 << 63)
    head = [len(values), wrapped, min(values, default=0), max(values, default=0)]
    data = struct.pack(f"<{len(words)}Q", *words) + struct.pack("<Qqqq", *head)
    data += struct.pack(f"<{2 * BUCKETS}Q", *positive, *negative)
    return data + bytes(8 * (4 + 2 * BUCKETS) * (len(HISTOGRAMS) - 1))


def first_histogram(values: list[int]) -> Histogram:
    return parse_block(block({}, values)).histograms[next(iter(HISTOGRAMS))]


@given(st.integers(0, (1 << 40) - 1))
def test_bucket_middle_is_within_3_2_percent_of_whatever_fell_into_it(magnitude: int) -> None:
    middle = bucket_middle(bucket_of(magnitude))
    assert abs(middle - magnitude) <= 0.032 * magnitude


@given(
    st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=200),
    st.sampled_from([0.0, 50.0, 90.0, 99.0, 99.9, 100.0]),
)
def test_percentile_is_the_sorted_values_within_3_2_percent(
    values: list[int], percent: float
) -> None:
    rank = max(1, int(-(-len(values) * percent // 100)))
    exact = sorted(values)[rank - 1]
    found = first_histogram(values).percentile(percent)
    assert found is not None
    assert abs(found - exact) <= 0.032 * abs(exact) + 1


@given(st.lists(st.integers(-(10**9), 10**9), max_size=50))
def test_percentiles_together_are_those_one_by_one(values: list[int]) -> None:
    histogram, percents = first_histogram(values), (99.0, 0.0, 50.0, 100.0)
    assert histogram.percentiles(percents) == [histogram.percentile(each) for each in percents]


LAST_BUCKET = st.integers(OPEN_FROM_NS, (1 << 63) - 1)


@given(st.lists(st.integers(-(10**9), 10**9)), st.lists(LAST_BUCKET, min_size=1), st.booleans())
def test_percentile_beyond_the_buckets_is_none_rather_than_wrong(
    near: list[int], far: list[int], ahead: bool
) -> None:
    far = [-each for each in far] if ahead else far
    ordered = sorted(near + far)
    histogram = first_histogram(ordered)
    for percent in (0.0, 50.0, 99.0, 100.0):
        exact = ordered[max(1, int(-(-len(ordered) * percent // 100))) - 1]
        found = histogram.percentile(percent)
        if found is None:
            assert abs(exact) >= OPEN_FROM_NS
            assert max(map(abs, ordered)) >= 1 << 40
        else:
            assert abs(found - exact) <= 0.032 * abs(exact) + 1
    assert (histogram.min_ns, histogram.max_ns) == (ordered[0], ordered[-1])


def test_open_bucket_begins_where_the_schema_ends() -> None:
    assert bucket_of(OPEN_FROM_NS - 1) == BUCKETS - 2
    assert bucket_of(OPEN_FROM_NS) == bucket_of(1 << 62) == BUCKETS - 1


def test_replayed_capture_has_a_largest_value_and_no_percentiles_beyond_the_buckets() -> None:
    histogram = first_histogram([72_102_554_237_186_957] * 3)
    assert histogram.percentile(50) is None
    assert histogram.max_ns == 72_102_554_237_186_957


def test_empty_histogram_has_no_percentiles() -> None:
    assert first_histogram([]).percentile(50) is None
    assert first_histogram([]).count == 0
    nothing = np.zeros(0, np.uint64)
    assert Histogram(0, 0, 0, nothing, nothing).percentiles([50, 99]) == [None, None]


def test_counters_are_found_by_name() -> None:
    found = parse_block(block({"frames": 17, "gaps": 3}, [1, 2, 3]))
    assert found.counters["frames"] == 17
    assert found.counters["gaps"] == 3
    assert sum(found.counters.values()) == 20


@given(st.lists(st.integers(-(10**6), 10**6)), st.lists(st.integers(-(10**6), 10**6)))
def test_total_is_what_one_feed_would_have_counted(one: list[int], other: list[int]) -> None:
    name = next(iter(HISTOGRAMS))
    summed = total(
        [parse_block(block({"frames": 2}, one)), parse_block(block({"frames": 3}, other))]
    )
    together = first_histogram(one + other)
    assert summed.counters["frames"] == 5
    histogram = summed.histograms[name]
    assert histogram.count == together.count
    if together.count:
        assert (histogram.sum_ns, histogram.min_ns, histogram.max_ns) == (
            together.sum_ns,
            together.min_ns,
            together.max_ns,
        )
    assert histogram.percentile(99) == together.percentile(99)


@pytest.mark.parametrize("name", ["frames", "records", "gaps", "frames_too_long"])
def test_counters_have_help(name: str) -> None:
    assert NAMES[name]
