"""Limits as a venue counts them: rolling windows over what arrives.

When something arrived is known only to lie between two looks at the sockets; a busy machine looks
late and then finds several messages at once. So a meter accuses only who is guilty whenever in that
interval his messages came: what it calls a breach is one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from mdsys.feed.venue import Window


class Meter:
    """What one socket, key or address has used of its windows."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = [(window, deque[tuple[float, int]]()) for window in windows]

    def add(self, count: int, earliest: float, now: float) -> Window | None:
        """Count something in.

        Args:
            count: How much.
            earliest: It did not arrive before this, in seconds of a clock that never steps back.
            now: It did not arrive after this.

        Returns:
            The window that is broken; None: all hold.
        """
        broken = None
        for window, arrivals in self._windows:
            arrivals.append((earliest, count))
            if self._used(window, arrivals, now) > window.count:
                broken = window
        return broken

    def used(self, now: float) -> int:
        """Return what is in the first window now."""
        return self._used(*self._windows[0], now) if self._windows else 0

    @staticmethod
    def _used(window: Window, arrivals: deque[tuple[float, int]], now: float) -> int:
        while arrivals and arrivals[0][0] <= now - window.seconds:
            arrivals.popleft()
        return sum(count for _, count in arrivals)
