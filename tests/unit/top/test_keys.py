"""Which keys there is room for."""

from __future__ import annotations

from mdsys.top.keys import FILTER, TABLE, fitting


def width(keys: list[str]) -> int:
    return len("  ".join(keys))


def test_bar_is_never_wider_than_its_room_unless_by_what_is_needed_most() -> None:
    for keys in (TABLE, FILTER):
        most = [f"{key.shown} {key.does}" for key in keys if key.need == 0]
        for room in range(120):
            kept = fitting(keys, room)
            shown = [f"{key.shown} {key.does}" for key in kept]
            assert width(shown) <= room or shown == most
            assert set(most) <= set(shown)


def test_all_keys_are_shown_where_they_have_room_and_the_least_needed_goes_first() -> None:
    whole = width([f"{key.shown} {key.does}" for key in TABLE])
    assert fitting(TABLE, whole) == list(TABLE)
    assert [key.does for key in TABLE if key not in fitting(TABLE, whole - 1)] == ["reverse"]
