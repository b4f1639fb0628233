from __future__ import annotations

import pytest

from mdsys.feed.backoff import Backoff


def test_ceiling_doubles_up_to_the_cap_and_the_delay_is_drawn_from_all_of_it() -> None:
    asked: list[tuple[float, float]] = []

    def highest(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    backoff = Backoff(first_s=0.5, max_s=3.0, uniform=highest)
    assert [backoff.next_s() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert {low for low, _ in asked} == {0.0}


def test_reset_begins_anew() -> None:
    backoff = Backoff(first_s=0.5, max_s=30.0, uniform=lambda _, high: high)
    backoff.next_s()
    backoff.next_s()
    backoff.reset()
    assert backoff.next_s() == pytest.approx(0.5)


def test_delays_of_two_clients_differ() -> None:
    one, other = Backoff(), Backoff()
    assert [one.next_s() for _ in range(4)] != [other.next_s() for _ in range(4)]
