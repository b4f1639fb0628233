"""The clocks that everything which waits or stamps is given, so that tests can turn them.

The hot path stamps in C (CLOCK_REALTIME); these are for timers, backoff and reports.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """All times are integers of nanoseconds."""

    def now_ns(self) -> int:
        """Return wall time since the epoch; it can step."""

    def monotonic_ns(self) -> int:
        """Return time since some fixed moment; it never goes back."""


class SystemClock:
    """The machine's clocks."""

    def now_ns(self) -> int:
        """Return CLOCK_REALTIME."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Return CLOCK_MONOTONIC."""
        return time.monotonic_ns()


class ManualClock:
    """A clock that stands still until told otherwise."""

    def __init__(self, now_ns: int = 0) -> None:
        """Begin at ``now_ns`` since the epoch, and at 0 of monotonic time."""
        self._now_ns = now_ns
        self._monotonic_ns = 0

    def now_ns(self) -> int:
        """Return wall time."""
        return self._now_ns

    def monotonic_ns(self) -> int:
        """Return monotonic time."""
        return self._monotonic_ns

    def advance(self, duration_ns: int) -> None:
        """Let ``duration_ns``, in [0, 2^63), pass on both clocks.

        Raises:
            ValueError: It is negative.
        """
        if duration_ns < 0:
            raise ValueError(f"duration_ns = {duration_ns}: time does not go back; see step()")
        self._now_ns += duration_ns
        self._monotonic_ns += duration_ns

    def step(self, difference_ns: int) -> None:
        """Set wall time by ``difference_ns``, as an administrator or NTP may; none passes."""
        self._now_ns += difference_ns


SYSTEM_CLOCK = SystemClock()
