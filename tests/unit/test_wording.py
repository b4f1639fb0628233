from __future__ import annotations

import pytest

from mdsys.wording import byte_count, duration, plural, printable, share, span, spark


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 feeds"), (1, "1 feed"), (2, "2 feeds"), (1000, "1000 feeds")]
)
def test_one_thing_is_no_plural(count: int, words: str) -> None:
    assert plural(count, "feed") == words


@pytest.mark.parametrize(
    ("ns", "words"),
    [
        (None, "-"),
        (0, "0 ns"),
        (850, "850 ns"),
        (999, "999 ns"),
        (1_000, "1.00 µs"),
        (12_340, "12.3 µs"),
        (999_499, "999 µs"),
        (999_500, "1.00 ms"),
        (4_560_000, "4.56 ms"),
        (9_996_000, "10.0 ms"),
        (1_200_000_000, "1.20 s"),
        (119_000_000_000, "119 s"),
        (125_000_000_000, "2 min 5 s"),
        (-12_340, "-12.3 µs"),
        (-125_000_000_000, "-2 min 5 s"),
    ],
)
def test_duration_has_three_digits_and_the_unit_that_keeps_them_readable(
    ns: int | None, words: str
) -> None:
    assert duration(ns) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min 0 s"),
        (8_040, "2 h 14 min"),
        (1_051_200, "12 d 4 h"),
    ],
)
def test_span_has_its_two_largest_units(seconds: float, words: str) -> None:
    assert span(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.00 kB"),
        (999_499, "999 kB"),
        (2.5e6, "2.50 MB"),
        (3e9, "3.00 GB"),
        (4e12, "4.00 TB"),
        (5e15, "5000 TB"),
    ],
)
def test_bytes_are_counted_in_powers_of_a_thousand(count: float, words: str) -> None:
    assert byte_count(count) == words


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (0, "0 %"),
        (1e-9, "0.1 %"),
        (0.004, "0.4 %"),
        (0.0994, "9.9 %"),
        (0.42, "42 %"),
        (1, "100 %"),
    ],
)
def test_share_that_is_not_nothing_does_not_show_as_nothing(part: float, words: str) -> None:
    assert share(part) == words


def test_spark_stands_on_zero_and_is_as_wide_as_it_was_asked_to_be() -> None:
    assert spark([1, 2, 4, 8], 4) == "▂▃▅█"
    assert spark([8, 8], 4) == "██  ", "it begins beside its number"
    assert spark([1, 2, 3, 8, 8], 2) == "██"
    assert spark([None, 0, 8], 3) == "  █"
    assert spark([], 3) == "   "
    assert spark([5], 0) == ""


def test_spark_may_stand_for_more_than_the_largest_that_it_shows() -> None:
    assert spark([4, 4], 2, 8) == "▅▅"
    assert spark([4, 16], 2, 8) == "▅█", "never beyond its line"
    assert spark([0, 0], 2, 0.0) == "  ", "nothing ever came"


def test_words_of_others_stay_on_their_line_and_command_no_terminal() -> None:
    assert printable("no\n\x1b[2Jsuch") == "no\\n\\x1b[2Jsuch"
