"""How long to wait before the next try: capped, doubling, jittered."""

from __future__ import annotations

import random
from collections.abc import Callable

Uniform = Callable[[float, float], float]
"""Source of randomness, as ``random.uniform``."""


class Backoff:
    """Delays drawn uniformly from [least, ceiling); the ceiling doubles with each try.

    Full jitter (``least_s`` 0) keeps many clients of one venue, cut off at one moment, from
    returning at one moment (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).

    Args:
        first_s: First ceiling, in (least_s, max_s].
        max_s: Last ceiling.
        uniform: Source of randomness.
        least_s: No delay is shorter.
    """

    def __init__(
        self,
        first_s: float = 0.25,
        max_s: float = 30.0,
        uniform: Uniform = random.uniform,
        *,
        least_s: float = 0.0,
    ) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._uniform = uniform
        self._least_s = least_s
        self._ceiling_s = first_s

    def next_s(self) -> float:
        """Return the seconds to wait now, and double the ceiling."""
        delay = self._uniform(self._least_s, self._ceiling_s)
        self._ceiling_s = min(self._max_s, self._ceiling_s * 2)
        return delay

    def reset(self) -> None:
        """Begin anew: what we waited for has proved itself."""
        self._ceiling_s = self._first_s
