"""What a venue's ids tell, in plain Python: the twin of md_feed_order (native/src/feed.h).

For reference decoders, and for decoders of a user's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from mdsys.record.record import ABSENT

RESTART_COUNT: Final = 32
RESTART_DISTANCE: Final = 1 << 20
"""Ids so far below the last, so many in a row, are a numbering begun anew."""

Announce = Callable[[int, int], None]
"""Told the first and the last id of a hole; ABSENT both where nobody knows which."""


class Order(IntEnum):
    """What an id is, next to the last one."""

    NEXT = 0
    """New; a hole before it has been announced."""
    LATE = 1
    """Fills a hole, or comes out of order: not the newest."""
    AGAIN = 2
    """Has been here."""


class Ids(IntEnum):
    """What a venue's ids promise."""

    ASCENDING = 1
    """With holes by design: only order can be told."""
    CONTIGUOUS = 2
    """A hole is a loss."""


@dataclass(slots=True)
class Sequence:
    """One numbering of one symbol, as a decoder has seen it."""

    last: int = 0
    """0: none seen yet."""
    _hole_first: int = 0
    _hole_last: int = 0
    _stuck_at: int = 0
    _stuck_count: int = 0

    def order(
        self, first: int, latest: int, announce: Announce, ids: Ids = Ids.CONTIGUOUS
    ) -> Order:
        """Hold a message that covers ``first..latest`` against the last id seen.

        The caller notes the id by `note` once the message's records are made.
        """
        if self.last == 0 or first == self.last + 1:
            return Order.NEXT
        if latest > self.last:
            if first > self.last + 1 and ids is Ids.CONTIGUOUS:
                announce(self.last + 1, first - 1)
                self._hole_first, self._hole_last = self.last + 1, first - 1
            return Order.NEXT
        if self._restarted(latest):
            announce(ABSENT, ABSENT)
            self._hole_first = self._hole_last = self._stuck_at = self._stuck_count = 0
            self.last = max(first - 1, 0)
            return Order.NEXT
        if self._fill(first, latest) or (ids is Ids.ASCENDING and latest < self.last):
            return Order.LATE
        return Order.AGAIN

    def note(self, latest: int) -> None:
        """Remember how far the ids have come."""
        self.last = max(self.last, latest)

    def _restarted(self, latest: int) -> bool:
        if self.last - latest < RESTART_DISTANCE:
            return False
        if self._stuck_at != self.last:
            self._stuck_at, self._stuck_count = self.last, 0
        self._stuck_count += 1
        return self._stuck_count >= RESTART_COUNT

    def _fill(self, first: int, latest: int) -> bool:
        if self._hole_first == 0 or first < self._hole_first or latest > self._hole_last:
            return False
        if first == self._hole_first:
            self._hole_first = latest + 1
        elif latest == self._hole_last:
            self._hole_last = first - 1
        if self._hole_first > self._hole_last:
            self._hole_first = 0
        return True
