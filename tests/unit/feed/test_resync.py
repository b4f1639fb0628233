from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from mdsys.feed.resync import FIRST_S, LAST_S, Resync


class Clock:
    """Time that tests turn, with what is due in it."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[tuple[float, Callable[..., Any], tuple[Any, ...]]] = []
        self.asked: list[tuple[float, list[str]]] = []
        self.early: set[str] = set()
        self.it = Resync(self.ask, self.call_later, lambda: self.now_s)

    def ask(self, names: Sequence[str]) -> list[str]:
        self.asked.append((self.now_s, list(names)))
        early, self.early = self.early & set(names), self.early - set(names)
        return sorted(early)

    def call_later(self, delay_s: float, call: Callable[..., Any], *args: Any) -> Any:
        timer = (self.now_s + delay_s, call, args)
        self.timers.append(timer)
        clock = self

        class Handle:
            def cancel(self) -> None:
                clock.timers.remove(timer)

        return Handle()

    def go_to(self, at_s: float) -> None:
        while due := [timer for timer in self.timers if timer[0] <= at_s]:
            timer = min(due, key=lambda each: each[0])
            self.timers.remove(timer)
            self.now_s = timer[0]
            timer[1](*timer[2])
        self.now_s = at_s


def test_first_wish_is_asked_at_once_for_all_symbols_together() -> None:
    clock = Clock()
    clock.it.wish(["A", "B"])
    assert clock.asked == [(0.0, ["A", "B"])]
    assert clock.timers == []


def test_book_that_goes_on_failing_is_asked_for_ever_more_slowly() -> None:
    clock = Clock()
    clock.it.wish(["A"])
    for _ in range(12):  # each answer is wrong at once
        clock.it.wish(["A"])
        clock.it.wish(["A"])
        clock.go_to(clock.timers[0][0])
    times = [at for at, _ in clock.asked]
    gaps = [later - sooner for sooner, later in pairwise(times)]
    assert gaps[:7] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
    assert gaps[0] == FIRST_S
    assert set(gaps[6:]) == {LAST_S}


def test_book_that_was_well_for_long_is_asked_for_at_once_again() -> None:
    clock = Clock()
    for _ in range(5):
        clock.it.wish(["A"])
        clock.go_to(clock.now_s + LAST_S)
    clock.go_to(clock.now_s + 3 * LAST_S)
    before = clock.now_s
    clock.it.wish(["A"])
    assert clock.asked[-1][0] == before
    clock.it.wish(["A"])
    assert clock.timers[0][0] - before == FIRST_S


def test_what_could_not_be_asked_yet_is_asked_later() -> None:
    clock = Clock()
    clock.early = {"B"}
    clock.it.wish(["A", "B"])
    clock.go_to(FIRST_S)
    assert clock.asked == [(0.0, ["A", "B"]), (FIRST_S, ["B"])]


def test_symbol_that_leaves_takes_its_timer_with_it() -> None:
    clock = Clock()
    clock.it.wish(["A"])
    clock.it.wish(["A"])
    clock.it.forget(["A", "B"])
    assert clock.timers == []
