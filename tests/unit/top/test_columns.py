"""Which columns have room, and how rows are ordered."""

from __future__ import annotations

from typing import Any

import pytest

from mdsys.top.columns import LAYOUTS, Column, fit, ordered, per_second


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
@pytest.mark.parametrize("width", [38, 78, 84, 110, 198])
def test_every_table_fits_every_terminal(key: str, width: int) -> None:
    kept = fit(LAYOUTS[key].columns, width)
    assert sum(each + 2 for _, each in kept) - 2 <= width or all(c.need == 0 for c, _ in kept)
    assert all(len(each.title) <= size for each, size in kept)


@pytest.mark.parametrize("key", ["rings", "connections", "hottest", "stalest"])
def test_what_every_table_is_about_is_there_at_eighty_columns(key: str) -> None:
    kept = fit(LAYOUTS[key].columns, 78)
    assert sum(width + 2 for _, width in kept) - 2 <= 78


def test_small_rate_is_not_rounded_to_nothing() -> None:
    assert [per_second(each) for each in (0, 0.3, 9.94, 9.96, 12_345.6)] == [
        *("0", "0.3", "9.9", "10"),
        "12,346",
    ]
