"""The last minute: what histograms and counters have gained since about so long ago.

Everything that mdsys counts is counted since the segments were made. A median over three weeks
tells nothing of now, so whoever shows quantiles keeps some past readings and subtracts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from typing import Final

from mdsys.counters.counters import Histogram

SPAN_NS: Final = 60_000_000_000
STEP_NS: Final = 5_000_000_000
"""Readings are kept so far apart: the window is as long as ``SPAN_NS``, and up to this longer."""


class Windows:
    """Past readings of many histograms, by any keys.

    Args:
        span_ns: How far back the window reaches.
        step_ns: Of two readings that are kept, the least distance.
    """

    def __init__(self, span_ns: int = SPAN_NS, step_ns: int = STEP_NS) -> None:
        self._span_ns = span_ns
        self._step_ns = step_ns
        self._past: deque[tuple[int, Mapping[Hashable, Histogram]]] = deque()

    def note(self, now_ns: int, histograms: Mapping[Hashable, Histogram]) -> None:
        """Take in how they stand; called as often as one likes.

        Args:
            now_ns: The time of the reading; one that is before the last begins anew.
            histograms: All of them: what is missing is forgotten with time.
        """
        past = self._past
        if past and now_ns < past[-1][0]:  # the clock was set back
            past.clear()
        if not past or now_ns - past[-1][0] >= self._step_ns:
            past.append((now_ns, dict(histograms)))
        while len(past) > 1 and now_ns - past[1][0] >= self._span_ns:
            past.popleft()

    def over(self, key: Hashable, histogram: Histogram) -> Histogram:
        """Return what a histogram has gained in the window.

        Args:
            key: As in ``note``.
            histogram: How it stands now.

        Returns:
            Since its first reading, where that lies less far back; all of it, where it has been
            read for the first time after the others, or has begun anew since.
        """
        for _, known in self._past:
            if (before := known.get(key)) is not None:
                return histogram - before if histogram.includes(before) else histogram
        return histogram

    @property
    def began_ns(self) -> int | None:
        """When the window begins; None: nothing has been read yet."""
        return self._past[0][0] if self._past else None
