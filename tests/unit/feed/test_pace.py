from __future__ import annotations

from mdsys.feed.backoff import Backoff
from mdsys.feed.dialling import Failed
from mdsys.feed.pace import STABLE_S, TURNED_AWAY_S, Pace


def top(_: float, high: float) -> float:
    return high


def pace() -> Pace:
    return Pace(top, Backoff(1.0, 8.0, top))


def test_losses_and_failures_share_one_backoff() -> None:
    it = pace()
    assert [it.after_loss(), it.after_failure(Failed("no")), it.after_loss()] == [1.0, 2.0, 4.0]


def test_only_a_long_life_with_data_begins_it_anew() -> None:
    it = pace()
    it.after_loss()
    it.note_life(STABLE_S, brought_data=False)
    it.note_life(STABLE_S / 2, brought_data=True)
    assert it.after_loss() == 2.0
    it.note_life(STABLE_S, brought_data=True)
    assert it.after_loss() == 1.0


def test_first_delay_after_a_good_life_is_short() -> None:
    assert Pace(top).after_loss() <= 0.5


def test_venue_that_turns_us_away_is_left_alone_for_long() -> None:
    it = Pace(lambda low, _: low)  # as soon as can be
    least_s, _, last_s = TURNED_AWAY_S
    away = Failed("429", 429, turned_away=True)
    assert it.after_failure(away) == least_s
    it = Pace(top)
    assert [it.after_failure(away) for _ in range(6)][-1] == last_s


def test_what_the_venue_asks_for_is_the_least_it_gets() -> None:
    it = Pace(lambda low, _: low)
    away = Failed("429", 429, turned_away=True, retry_after_s=77.0)
    assert it.after_failure(away) == 77.0
    assert it.after_busy(90.0) == 90.0
    late = Pace(top)
    assert 77.0 < late.after_failure(away) < 90.0
