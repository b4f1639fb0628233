"""How long to wait before the next try: capped, doubling, full jitter."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Delays drawn uniformly from [0, ceiling); the ceiling doubles with each try.

    Full jitter keeps many clients of one venue, cut off at one moment, from returning at one moment
    (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).

    Args:
        first_s: First ceiling, in (0, max_s].
        max_s: Last ceiling.
        uniform: Source of randomness, as ``random.uniform``.
    """

    def __init__(
        self,
        first_s: float = 0.5,
        max_s: float = 30.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._uniform = uniform
        self._ceiling_s = first_s

    def next_s(self) -> float:
        """Return the seconds to wait now, and double the ceiling."""
        delay = self._uniform(0.0, self._ceiling_s)
        self._ceiling_s = min(self._max_s, self._ceiling_s * 2)
        return delay

    def reset(self) -> None:
        """Begin anew: what we waited for has proved itself."""
        self._ceiling_s = self._first_s
