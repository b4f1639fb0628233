"""How long one connection stays away from its venue, by what has happened there."""

from __future__ import annotations

import random

from mdsys.feed.backoff import Backoff, Uniform
from mdsys.feed.dialling import Failed

STABLE_S = 30.0
"""A socket that brought data and lived this long has proved itself: the next backoff begins anew.
A server that lets us in, sends one frame and hangs up is no reason to knock twice a second."""
TURNED_AWAY_S = (15.0, 30.0, 300.0)
"""After HTTP 429 and the like: the least delay, the first ceiling, the last."""
JITTER = 0.1
"""Of a delay that the venue has named, more."""


class Pace:
    """Delays before the next try.

    Args:
        uniform: Source of randomness.
        backoff: After a loss or a failure; the first delay is short.
    """

    def __init__(self, uniform: Uniform = random.uniform, backoff: Backoff | None = None) -> None:
        least_s, first_s, max_s = TURNED_AWAY_S
        self._uniform = uniform
        self._backoff = backoff or Backoff(uniform=uniform)
        self._turned_away = Backoff(first_s, max_s, uniform, least_s=least_s)

    def note_life(self, lived_s: float, *, brought_data: bool) -> None:
        """Note how long a socket lived."""
        if brought_data and lived_s >= STABLE_S:
            self._backoff.reset()
            self._turned_away.reset()

    def after_loss(self) -> float:
        """Return the seconds to wait after a socket has gone."""
        return self._backoff.next_s()

    def after_failure(self, failure: Failed) -> float:
        """Return the seconds to wait when there was no socket to be had."""
        if not failure.turned_away:
            return self._backoff.next_s()
        return max(self._turned_away.next_s(), self._later(failure.retry_after_s))

    def after_busy(self, wait_s: float) -> float:
        """Return the seconds to wait when the venue has named them on the socket."""
        return self._later(wait_s) + self._backoff.next_s()

    def _later(self, delay_s: float) -> float:
        return delay_s * self._uniform(1.0, 1.0 + JITTER)
