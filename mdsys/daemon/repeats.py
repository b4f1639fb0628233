"""Records whose ids were published already: of them a silence may come that is none.

A venue that begins its numbering anew sends what the feeds must take for repetitions, until its ids
have caught up: nothing ticks, though all is sent. Far below the last id a feed finds that out by
itself (``mdsys/feed/sequence.py``); nearby only the count of what was dropped tells.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from typing import Final

import numpy as np

from mdsys.counters.schema import fields

LOOKS_MAX: Final = 3_600
"""An hour of them; of a longer silence it is the last hour that counts."""
GOING_ON_S: Final = 10.0
"""It is no cause of a silence that has paused for so long."""
COUNT_MIN: Final = 10
"""Fewer are a socket's that took over from another."""

_PLACES: Final = [fields("feeds").index(name) for name in ("duplicates", "reordered")]


class Repeats:
    """How many of them each feed has met, and when.

    Args:
        block: Returns a feed's block of the counters segment.
        feed_count: Feeds of the instance.
    """

    def __init__(self, block: Callable[[int], bytes], feed_count: int) -> None:
        self._block = block
        self._feed_count = feed_count
        self._times_ns: deque[int] = deque(maxlen=LOOKS_MAX)
        self._counts: deque[list[int]] = deque(maxlen=LOOKS_MAX)

    def look(self, now_ns: int) -> None:
        """Note how many there are; one that is set back begins anew."""
        if self._times_ns and now_ns < self._times_ns[-1]:
            self._times_ns.clear()
            self._counts.clear()
        self._times_ns.append(now_ns)
        self._counts.append([self._count(feed) for feed in range(self._feed_count)])

    def _count(self, feed: int) -> int:
        words = np.frombuffer(self._block(feed), "<u8", len(fields("feeds")))
        return int(words[_PLACES].sum())

    def words(self, feed: int, silent_s: float) -> str | None:
        """Return what a silence of so long may come of; None: not of this."""
        count = self._lately(feed, silent_s)
        if count < COUNT_MIN or not self._lately(feed, GOING_ON_S):
            return None
        return (
            f"feed {feed} has met {count:,} records meanwhile whose ids were published already: "
            "the venue seems to have begun its numbering anew"
        )

    def _lately(self, feed: int, seconds: float) -> int:
        """Return how many have come in the last so many seconds."""
        if not self._times_ns:
            return 0
        since = bisect_right(self._times_ns, self._times_ns[-1] - int(seconds * 1e9))
        return self._counts[-1][feed] - self._counts[max(0, since - 1)][feed]
