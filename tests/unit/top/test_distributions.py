"""Sums of histograms whose holders come and go."""

from __future__ import annotations

from mdsys.counters.counters import Histogram
from mdsys.top.distributions import Sums, between
from tests.tops import histogram


def held(*counts: dict[int, int]) -> list[tuple[int, dict[str, Histogram]]]:
    return [(number, {"hop": histogram(each)}) for number, each in enumerate(counts)]


def count(sums: Sums) -> int:
    return sums.whole["hop"].count


def test_what_a_holder_had_before_it_was_seen_does_not_count() -> None:
    sums = Sums()
    sums.take(held({50: 1_000}))
    assert count(sums) == 0
    sums.take(held({50: 1_007}))
    assert count(sums) == 7


def test_sum_does_not_go_down_when_a_holder_leaves_nor_jump_when_one_comes() -> None:
    sums = Sums()
    sums.take(held({50: 10}, {60: 100}))
    sums.take(held({50: 11}, {60: 105}))
    assert count(sums) == 6
    sums.take(held({50: 12}))
    assert count(sums) == 7
    sums.take(held({50: 12}, {60: 900}))
    assert count(sums) == 7
    assert int(sums.whole["hop"].positive[60]) == 5


def test_histogram_that_began_anew_counts_from_there() -> None:
    assert between(histogram({50: 10, 60: 3}), histogram({50: 4})).count == 4
    assert between(None, histogram({50: 4})).count == 4
    assert between(histogram({50: 4}), histogram({50: 10, 60: 3})).count == 9
