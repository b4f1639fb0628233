"""Which columns have room, and how rows are ordered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mdsys.counters.picture import CONNECTION_STATES
from mdsys.top.columns import LAYOUTS, Column, count, fit, latency, ordered, per_second
from mdsys.top.rows import REPLACED, ConnectionRow, ReaderRow, RingRow
from mdsys.top.symbols import SymbolRow


def column(title: str, width: int, **fields: Any) -> Column[Any]:
    return Column(title, width, lambda row: row, str, **fields)


def test_columns_that_are_needed_least_go_first() -> None:
    columns = [column("a", 10), column("b", 10, need=2), column("c", 10, need=1)]
    assert [each.title for each, _ in fit(columns, 34)] == ["a", "b", "c"]
    assert [each.title for each, _ in fit(columns, 33)] == ["a", "c"]
    assert [each.title for each, _ in fit(columns, 21)] == ["a"]
    assert [each.title for each, _ in fit(columns, 3)] == ["a"], "that one always stays"


def test_room_that_is_left_goes_to_the_column_that_grows() -> None:
    columns = [column("a", 10), column("b", 10, grows=True)]
    assert [width for _, width in fit(columns, 50)] == [10, 38]


@pytest.mark.parametrize("descending", [False, True])
def test_what_is_not_known_stands_last_either_way(descending: bool) -> None:
    found = ordered([3, None, 1, 2], column("a", 1), descending=descending)
    assert found[-1] is None
    assert found[:3] == sorted(found[:3], reverse=descending)


@pytest.mark.parametrize("key", LAYOUTS)
@pytest.mark.parametrize("width", [38, 58, 78, 84, 110, 198])
def test_every_table_fits_every_terminal(key: str, width: int) -> None:
    kept = fit(LAYOUTS[key].columns, width)
    assert sum(each + 2 for _, each in kept) - 2 <= width
    assert all(len(each.title) <= size for each, size in kept)


@pytest.mark.parametrize("key", LAYOUTS)
def test_what_every_table_is_sorted_by_is_there_in_every_terminal(key: str) -> None:
    titles = [each.title for each, _ in fit(LAYOUTS[key].columns, 38)]
    assert LAYOUTS[key].sort in titles
    assert LAYOUTS[key].columns[0].title in titles


LARGE = 268_435_456
"""Slots of the largest ring."""
SYMBOLS = 1 << 24
CONNECTION = ConnectionRow(
    connection=9_999,
    venue="coinbase_exchange",
    feed=255,
    state="connecting",
    since_s=1.0,
    age_s=1.0,
    frames=999_999.0,
    records=9_999_999.0,
    size=999e6,
    reconnects=99_999,
    symbols=999_999,
    ticking=999_999,
    refused=999_999,
    offset_ns=-9_990_000,
    words="",
    lost=True,
)
RING = RingRow(255, 255, "unknown 9", 99_999_999.0, 1.0, 1.0, 1.0, SYMBOLS, LARGE, LARGE)
READER = ReaderRow(
    reader="",
    pid=4_194_304,
    policy="drop_oldest",
    wait="adaptive",
    rate=99_999_999.0,
    lag=999_999_999,
    dropped=999_999_999,
    lost=999_999_999,
    batch=262_144,
    idle_s=1.0,
    p50=999_000,
    p99=9_990_000,
    losing=True,
    ejected=True,
)
SYMBOL = SymbolRow("", 255, 9_999_999.0, 1.0, lambda: "123456.12345678")
SPANS = (1.0, 119.9, 59 * 60 + 59, 86_399, 9_999 * 86_400 + 86_399)
HUGE = 10**14


def longest(key: str) -> list[Any]:
    """Return rows with the longest words that each column may have to hold."""
    if key == "connections":
        ages = [replace(CONNECTION, since_s=each, age_s=each) for each in SPANS]
        clocks = [int(-each * 1e9) for each in SPANS]
        ages += [replace(CONNECTION, offset_ns=each) for each in (*clocks, -999_000_000)]
        return [*ages, *(replace(CONNECTION, state=each) for each in CONNECTION_STATES)]
    if key == "readers":
        rows = [replace(READER, idle_s=each, p50=int(each * 1e9), p99=None) for each in SPANS]
        most = HUGE - 10**8
        return [READER, *rows, replace(READER, lag=most, dropped=most, lost=most, batch=None)]
    if key == "rings":
        rings = [replace(RING, holds_s=each, age_s=each) for each in SPANS]
        states = ("running", "stopped", "dead", REPLACED)
        rings += [replace(RING, state=each) for each in states]
        return [*rings, replace(RING, head=999_999_999), replace(RING, head=HUGE - 10**8)]
    return [replace(SYMBOL, age_s=each) for each in SPANS]


@pytest.mark.parametrize("key", LAYOUTS)
def test_every_column_is_as_wide_as_the_longest_that_may_stand_there(key: str) -> None:
    cut = {
        (each.title, each.text(row))
        for row in longest(key)
        for each in LAYOUTS[key].columns
        if not each.grows and len(each.text(row)) > each.width
    }
    assert not cut


def test_count_is_exact_below_a_billion() -> None:
    assert [count(each) for each in (0, 999_999_999, 10**9, 12_345_678_901)] == [
        *("0", "999,999,999", "1.0 bn", "12.3 bn"),
    ]


def test_latency_of_minutes_is_told_in_its_largest_unit_where_there_is_no_more_room() -> None:
    assert [latency(each) for each in (None, 1_500, 125e9, -3_599e9)] == [
        *("-", "1.50 µs", "2 min", "-59 min"),
    ]


def test_small_rate_is_not_rounded_to_nothing() -> None:
    assert [per_second(each) for each in (0, 0.3, 9.94, 9.96, 12_345.6)] == [
        *("0", "0.3", "9.9", "10"),
        "12,346",
    ]
