"""Rolling windows: at most so many within any span of so long, exact for every interleaving.

A venue counts what arrives; we count what is sent, and the way there is not always equally long. So
each window is held a little longer than the venue's, and a charge is taken as made at the end of a
small grain of time: both err on the venue's side only.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from mdsys.feed.venue import Window

STRETCH: float = 1.02
EXTRA_S: float = 0.02
"""A window is held for ``STRETCH * seconds + EXTRA_S``."""
GRAINS: int = 4_096
"""Parts of a window that are told apart; they bound its memory, and one is the most it is late."""

MonotonicClock = Callable[[], float]
"""Seconds that never step back."""


class _Span:
    """One window and what has been charged to it, oldest first."""

    __slots__ = ("charges", "count_max", "grain_s", "held_s", "used", "window")

    def __init__(self, window: Window) -> None:
        self.window = window
        self.count_max = window.count
        self.held_s = window.seconds * STRETCH + EXTRA_S
        self.grain_s = self.held_s / GRAINS
        self.charges: deque[tuple[int, int]] = deque()  # (grain, count), grains ascending
        self.used = 0

    def forget(self, now: float) -> None:
        """Drop what has left the window."""
        while self.charges and self._leaves(self.charges[0][0]) <= now:
            self.used -= self.charges.popleft()[1]

    def charge(self, count: int, at: float) -> None:
        """Count something in; an earlier time than the last one's counts as that."""
        grain = math.ceil(at / self.grain_s)
        if self.charges and self.charges[-1][0] >= grain:
            grain, before = self.charges.pop()
            self.charges.append((grain, before + count))
        else:
            self.charges.append((grain, count))
        self.used += count

    def fits_at(self, count: int, held: int, now: float) -> float:
        """Return when so many more fit; inf: not before some of ``held`` are let go."""
        excess = self.used + held + count - self.count_max
        if excess <= 0:
            return now
        for grain, charged in self.charges:
            excess -= charged
            if excess <= 0:
                return self._leaves(grain)
        return math.inf

    def _leaves(self, grain: int) -> float:
        return grain * self.grain_s + self.held_s


class RollingWindow:
    """Several windows over one kind of thing; they hold together.

    Used by one thread; memory is bounded by ``GRAINS`` entries a window, whatever is charged.

    Args:
        windows: Empty: nothing is limited.
        clock: Of the times of ``charge``.
    """

    __slots__ = ("_clock", "_spans")

    def __init__(self, windows: Sequence[Window], clock: MonotonicClock = time.monotonic) -> None:
        self._clock = clock
        self._spans = [_Span(window) for window in windows]

    @property
    def count_max(self) -> float:
        """Most that can ever fit at once; inf where nothing is limited."""
        return min((span.count_max for span in self._spans), default=math.inf)

    def wait_s(self, count: int = 1, *, held: int = 0) -> float:
        """Return how long it is until ``count`` more fit: 0.0 for now.

        Args:
            count: In [1, count_max].
            held: What has been promised and may be charged at any time from now on: it counts as
                charged, and does not age.

        Returns:
            Seconds; inf when time alone will not do: some of ``held`` must be charged or let go.

        Raises:
            ValueError: So many never fit.
        """
        if not 1 <= count <= self.count_max:
            raise ValueError(f"{count} is not in [1, {self.count_max}]")
        now = self._clock()
        latest = now
        for span in self._spans:
            span.forget(now)
            latest = max(latest, span.fits_at(count, held, now))
        return latest - now

    def charge(self, count: int = 1, at: float | None = None) -> None:
        """Count in what has been done, whether it fitted or not.

        Args:
            count: At least 1.
            at: When, on the clock; None: now. Times ascend; an earlier one is taken for the last.
        """
        when = self._clock() if at is None else at
        for span in self._spans:
            span.forget(when)
            span.charge(count, when)

    def raise_to(self, used: int, seconds: float, *, held: int = 0) -> None:
        """Take the venue's word that ``used`` of the window of so many seconds are gone.

        Only upwards: what the venue has not seen yet may still be on its way.
        """
        now = self._clock()
        for span in self._spans:
            span.forget(now)
            missing = used - span.used - held
            if span.window.seconds == seconds and missing > 0:
                span.charge(missing, now)

    def replace(self, windows: Sequence[Window]) -> None:
        """Go on under other windows; what was charged counts there too, as far as it is known."""
        longest = max(self._spans, key=lambda span: span.held_s, default=None)
        past = [] if longest is None else list(longest.charges)
        self._spans = [_Span(window) for window in windows]
        for grain, count in past:
            assert longest is not None
            for span in self._spans:
                span.charge(count, grain * longest.grain_s)

    def past(self) -> list[tuple[float, int]]:
        """Return when how much was charged, as far back as it counts in any of the windows."""
        longest = max(self._spans, key=lambda span: span.held_s, default=None)
        if longest is None:
            return []
        longest.forget(self._clock())
        return [(grain * longest.grain_s, count) for grain, count in longest.charges]

    def usage(self, *, held: int = 0) -> Iterator[tuple[Window, int]]:
        """Yield each window and how much of it is gone now."""
        now = self._clock()
        for span in self._spans:
            span.forget(now)
            yield span.window, span.used + held
