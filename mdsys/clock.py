"""The clock that reports are given, so that tests can turn it; the hot path stamps in C."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """All times are integers of nanoseconds."""

    def now_ns(self) -> int:
        """Return wall time since the epoch; it can step."""


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        """Return CLOCK_REALTIME."""
        return time.time_ns()


SYSTEM_CLOCK = SystemClock()
