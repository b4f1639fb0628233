from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mdsys.feed.venue import Window
from mdsys.sim.meter import Meter

# Multiples of 1/64 s, so that sums are exact.
STEPS = st.lists(
    st.tuples(st.integers(0, 64), st.integers(0, 16), st.integers(1, 3)), min_size=1, max_size=60
)


def counted(arrivals: list[tuple[float, int]], end: float, seconds: float) -> int:
    return sum(count for at, count in arrivals if end - seconds < at <= end)


@given(steps=STEPS, most=st.integers(1, 8))
def test_exact_arrivals_are_accused_exactly_when_some_window_holds_too_many(
    steps: list[tuple[int, int, int]], most: int
) -> None:
    meter = Meter([Window(most, 1)])
    arrivals: list[tuple[float, int]] = []
    now = 0.0
    for step, _, count in steps:
        now += step / 64
        arrivals.append((now, count))
        broken = meter.add(count, now, now)
        assert (broken is not None) == (counted(arrivals, now, 1) > most)


LATE = st.lists(
    st.tuples(st.integers(0, 64), st.integers(0, 64), st.sampled_from([0.0, 0.5, 1.0])), max_size=30
)


@settings(max_examples=500)
@given(looks=LATE, most=st.integers(1, 3))
@example(looks=[(0, 60, 0.0), (30, 10, 1.0)], most=1)
def test_nobody_is_accused_who_may_have_kept_the_limit(
    looks: list[tuple[int, int, float]], most: int
) -> None:
    """Wherever between two looks each message came: if no window was broken, none is said to be."""
    meter = Meter([Window(most, 1)])
    arrivals: list[tuple[float, int]] = []
    now = 0.0
    accused = False
    for quiet, between, place in looks:
        earliest = now + quiet / 64
        now = earliest + between / 64
        arrivals.append((earliest + (now - earliest) * place, 1))
        accused = accused or meter.add(1, earliest, now) is not None
    guilty = any(counted(arrivals, at, 1) > most for at, _ in arrivals)
    assert guilty or not accused


def test_several_windows_hold_together_and_the_broken_one_is_named() -> None:
    second, minute = Window(5, 1), Window(6, 60)
    meter = Meter([second, minute])
    assert meter.add(5, 0, 0) is None
    assert meter.add(1, 2, 2) is None
    assert meter.add(1, 4, 4) == minute
    assert meter.used(4.5) == 1
    assert Meter([second]).add(6, 0, 0) == second


def test_without_windows_nothing_is_broken() -> None:
    meter = Meter(())
    assert meter.add(10**9, 0, 0) is None
    assert meter.used(0) == 0
