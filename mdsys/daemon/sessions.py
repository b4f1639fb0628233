"""When a venue's market is open: outside of its calendar's sessions nothing is stale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar

SLACK_NS = 60_000_000_000
"""Silence counts from so long after an opening: auctions and slow starts are no fault."""


@dataclass(frozen=True, slots=True)
class Session:
    """Where a moment lies."""

    open: bool
    since_ns: int
    """When the market opened or closed; 0: it has always been open."""


ALWAYS = Session(open=True, since_ns=0)


class Sessions:
    """The sessions of one calendar.

    Args:
        calendar: As ``exchange_calendars.get_calendar`` gives it; None: a market that never closes.
    """

    def __init__(self, calendar: ExchangeCalendar | None = None) -> None:
        self._edges = np.zeros(0, np.int64)
        """Openings at even, closings at odd places, ascending."""
        self._always = calendar is None
        if calendar is not None:
            self._edges = _edges(calendar)

    @classmethod
    def named(cls, name: str | None) -> Sessions:
        """Return the sessions of a calendar of exchange_calendars, of which the name is known."""
        if name is None:
            return cls()
        from exchange_calendars import get_calendar  # seconds, with pandas: only where it is named

        return cls(get_calendar(name))

    def at(self, now_ns: int) -> Session:
        """Return the session of a moment; beyond what the calendar knows it is open."""
        place = int(np.searchsorted(self._edges, now_ns, side="right"))
        if self._always or place in (0, len(self._edges)):
            return ALWAYS
        return Session(open=place % 2 == 1, since_ns=int(self._edges[place - 1]))


def _edges(calendar: ExchangeCalendar) -> npt.NDArray[np.int64]:
    """Return openings and closings in turn; those that fall together are none."""
    opens, closes = (
        np.asarray(each, np.int64) for each in (calendar.opens_nanos, calendar.closes_nanos)
    )
    if calendar.has_break:
        stops, goes = (
            np.asarray(each, np.int64)
            for each in (calendar.break_starts_nanos, calendar.break_ends_nanos)
        )
        there = stops > 0  # days without a break have NaT, the least number
        opens = np.sort(np.append(opens, goes[there]))
        closes = np.sort(np.append(closes, stops[there]))
    apart = closes[:-1] < opens[1:]  # a market of 24 hours closes when it opens
    opens = opens[np.append(np.True_, apart)]
    closes = closes[np.append(apart, np.True_)]
    return np.stack([opens, closes], axis=1).ravel()
