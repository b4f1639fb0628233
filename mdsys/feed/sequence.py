"""What a venue's ids tell, in plain Python: the twin of md_feed_order (native/src/feed.h).

For reference decoders, and for decoders of a user's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final

from mdsys.record.record import ABSENT

RESTART_COUNT: Final = 32
RESTART_DISTANCE: Final = 1 << 20
"""Ids so far below the last, so many in a row, are a numbering begun anew."""

HOLE_COUNT_MAX: Final = 3
"""Holes of a numbering that are kept, to know what fills them."""

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
    _holes: list[tuple[int, int]] = field(default_factory=list)
    """That were announced: what is still missing, the oldest first."""
    _stuck_at: int = 0
    _stuck_count: int = 0

    def copy(self) -> Sequence:
        """Return another that has seen the same."""
        return replace(self, _holes=list(self._holes))

    def order(
        self,
        first: int,
        latest: int,
        announce: Announce,
        ids: Ids = Ids.CONTIGUOUS,
        *,
        restarts: bool = True,
    ) -> Order:
        """Hold a message that covers ``first..latest`` against the last id seen.

        The caller notes the id by `note` once the message's records are made. ``restarts``: the
        numbering may begin anew, as that of a socket does not.
        """
        if self.last == 0 or first == self.last + 1:
            return Order.NEXT
        if latest > self.last:
            if first > self.last + 1 and ids is Ids.CONTIGUOUS:
                announce(self.last + 1, first - 1)
                self._insert(len(self._holes), (self.last + 1, first - 1))
            return Order.NEXT
        if restarts and self._restarted(latest):
            announce(ABSENT, ABSENT)
            self._stuck_at = self._stuck_count = 0
            self._holes.clear()
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

    def _insert(self, index: int, hole: tuple[int, int]) -> None:
        """Put a hole at a place among the others; of too many the oldest is given up."""
        if len(self._holes) == HOLE_COUNT_MAX:
            if index == 0:
                return
            del self._holes[0]
            index -= 1
        self._holes.insert(index, hole)

    def _fill(self, first: int, latest: int) -> bool:
        for index, (hole_first, hole_last) in enumerate(self._holes):
            if hole_first <= first and latest <= hole_last:
                del self._holes[index]
                if latest < hole_last:
                    self._insert(index, (latest + 1, hole_last))
                if first > hole_first:
                    self._insert(index, (hole_first, first - 1))
                return True
        return False
