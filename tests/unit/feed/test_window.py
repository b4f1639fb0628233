"""Rolling windows, held against a venue that keeps every single time."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdsys.feed.venue import Window
from mdsys.feed.window import EXTRA_S, GRAINS, STRETCH, RollingWindow


class Clock:
    """A clock that only the test turns."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def breaches(times: list[float], windows: tuple[Window, ...]) -> list[tuple[Window, float]]:
    """Return every span of a window in which there were too many, as a venue would see it."""
    times = sorted(times)
    return [
        (window, times[i])
        for window in windows
        for i in range(len(times) - window.count)
        if times[i + window.count] - times[i] < window.seconds
    ]


def held(window: Window) -> float:
    return window.seconds * STRETCH + EXTRA_S


WINDOWS = st.lists(
    st.builds(Window, st.integers(1, 12), st.sampled_from([0.05, 0.3, 1.0, 7.0, 60.0])),
    min_size=1,
    max_size=3,
).map(tuple)


@given(
    windows=WINDOWS,
    steps=st.lists(st.tuples(st.integers(1, 5), st.floats(0.0, 20.0)), max_size=60),
)
def test_no_span_of_a_window_ever_holds_too_many(
    windows: tuple[Window, ...], steps: list[tuple[int, float]]
) -> None:
    clock = Clock()
    window = RollingWindow(windows, clock)
    times: list[float] = []
    for count, pause_s in steps:
        if count > window.count_max:
            continue
        clock.now += pause_s
        wait_s = window.wait_s(count)
        clock.now += wait_s
        assert window.wait_s(count) == 0.0
        window.charge(count)
        times += [clock.now] * count
    assert not breaches(times, windows)


@given(windows=WINDOWS, count=st.integers(1, 200))
def test_it_waits_no_longer_than_the_windows_and_their_margin_ask(
    windows: tuple[Window, ...], count: int
) -> None:
    clock = Clock()
    start = clock.now
    window = RollingWindow(windows, clock)
    for _ in range(count):
        clock.now += window.wait_s()
        window.charge()
    # What the windows ask for by themselves, each one's margin and grains added.
    times: list[float] = []
    for index in range(count):
        earliest = [
            times[index - each.count] + held(each) * (1 + 2 / GRAINS)
            for each in windows
            if index >= each.count
        ]
        times.append(max([times[-1] if times else start, *earliest]))
    assert clock.now <= times[-1] + 1e-6


def test_five_a_second_is_never_nine_in_the_first_second() -> None:
    clock = Clock()
    window = RollingWindow((Window(5, 1.0),), clock)
    times = []
    for _ in range(30):
        clock.now += window.wait_s()
        window.charge()
        times.append(clock.now)
    assert times[4] == times[0]
    assert times[5] - times[0] >= 1.0
    assert all(b - a >= 1.0 for a, b in pairwise(times[::5]))


def test_what_is_held_counts_and_does_not_age() -> None:
    clock = Clock()
    window = RollingWindow((Window(2, 1.0),), clock)
    assert window.wait_s(held=1) == 0.0
    assert window.wait_s(held=2) == math.inf
    clock.now += 1_000.0
    assert window.wait_s(held=2) == math.inf
    window.charge()
    assert window.wait_s(held=1) == pytest.approx(held(Window(2, 1.0)), rel=1 / GRAINS)


def test_an_earlier_time_counts_as_the_last_one() -> None:
    clock = Clock()
    window = RollingWindow((Window(2, 10.0),), clock)
    window.charge(1, clock.now)
    window.charge(1, clock.now - 9.0)
    clock.now += 9.0
    assert window.wait_s(2) > 1.0


def test_what_did_not_fit_is_counted_all_the_same() -> None:
    clock = Clock()
    window = RollingWindow((Window(1, 1.0),), clock)
    for _ in range(3):
        window.charge()
    assert [used for _, used in window.usage()] == [3]
    assert window.wait_s() > 1.0


def test_more_than_a_window_holds_is_refused() -> None:
    window = RollingWindow((Window(5, 1.0), Window(3, 60.0)), Clock())
    assert window.count_max == 3
    with pytest.raises(ValueError, match=r"4 is not in \[1, 3\]"):
        window.wait_s(4)


def test_no_window_limits_nothing() -> None:
    window = RollingWindow((), Clock())
    window.charge(10**9)
    assert window.wait_s(10**9) == 0.0
    assert window.count_max == math.inf


def test_memory_is_bounded_whatever_is_charged() -> None:
    clock = Clock()
    window = RollingWindow((Window(1 << 30, 60.0), Window(5, 0.01)), clock)
    for _ in range(4 * GRAINS):
        clock.now += 61.0 / (3 * GRAINS)  # three to a grain, and one window's length passes
        window.charge()
    assert all(len(span.charges) <= GRAINS + 1 for span in window._spans)


def test_a_venue_that_counted_more_is_believed() -> None:
    clock = Clock()
    window = RollingWindow((Window(100, 60.0), Window(50, 1.0)), clock)
    window.charge(10)
    window.raise_to(90, 60.0, held=5)
    assert [used for _, used in window.usage(held=5)] == [90, 15]
    window.raise_to(20, 60.0)  # never downwards
    assert [used for _, used in window.usage()] == [85, 10]


def test_other_windows_go_on_from_what_was_charged() -> None:
    clock = Clock()
    window = RollingWindow((Window(5, 1.0), Window(100, 60.0)), clock)
    window.charge(4)
    clock.now += 30.0
    window.charge(2)
    window.replace((Window(3, 1.0), Window(10, 60.0), Window(8, 5.0)))
    assert [used for _, used in window.usage()] == [2, 6, 2]
    assert window.wait_s(2) > 0.9
    clock.now += 32.0
    assert [used for _, used in window.usage()] == [0, 2, 0]
