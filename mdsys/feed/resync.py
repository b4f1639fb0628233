"""When books that are out of step are asked for again: at once, then ever more slowly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

FIRST_S = 1.0
LAST_S = 60.0
"""Between two askings of a symbol; twice as long without one, and it begins anew."""


class Resync:
    """Paces what a venue is asked because of its own mistakes, symbol by symbol.

    Args:
        ask: Asks for books again. Returns those for which it could not be done yet.
        call_later: As the event loop's.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[str]], Iterable[str]],
        call_later: Callable[..., Any],
        clock: Callable[[], float],
    ) -> None:
        self._ask = ask
        self._call_later = call_later
        self._clock = clock
        self._paces: dict[str, tuple[float, float]] = {}
        """Symbol -> when it was last asked for, and the least delay to the next time."""
        self._timers: dict[str, Any] = {}

    def wish(self, names: Iterable[str]) -> None:
        """Ask for books, each as soon as it is due."""
        now = self._clock()
        due = []
        for name in names:
            if name in self._timers:
                continue
            last, delay_s = self._paces.get(name, (-math.inf, 0.0))
            if now - last >= 2 * LAST_S:
                delay_s = 0.0
            if now >= last + delay_s:
                self._note(name, now, delay_s)
                due.append(name)
            else:
                wait_s = last + delay_s - now
                self._timers[name] = self._call_later(wait_s, self._due, name)
        if due:
            self.wish(self._ask(due))

    def forget(self, names: Iterable[str]) -> None:
        """These symbols are ours no more."""
        for name in names:
            self._paces.pop(name, None)
            timer = self._timers.pop(name, None)
            if timer is not None:
                timer.cancel()

    def _due(self, name: str) -> None:
        del self._timers[name]
        self.wish([name])

    def _note(self, name: str, now: float, delay_s: float) -> None:
        self._paces[name] = (now, min(LAST_S, max(FIRST_S, delay_s * 2)))
