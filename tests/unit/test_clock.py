"""The clocks."""

from __future__ import annotations

import pytest

from mdsys.clock import SYSTEM_CLOCK, ManualClock


def test_manual_time_passes_on_both_clocks() -> None:
    clock = ManualClock(1_000)
    clock.advance(500)
    assert (clock.now_ns(), clock.monotonic_ns()) == (1_500, 500)


def test_a_step_of_wall_time_is_no_time_passing() -> None:
    clock = ManualClock(1_000)
    clock.step(-400)
    assert (clock.now_ns(), clock.monotonic_ns()) == (600, 0)


def test_manual_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="time does not go back"):
        ManualClock().advance(-1)


def test_system_monotonic_time_does_not_go_back() -> None:
    readings = [SYSTEM_CLOCK.monotonic_ns() for _ in range(1_000)]
    assert readings == sorted(readings)
    assert SYSTEM_CLOCK.now_ns() > 1_700_000_000 * 10**9
