"""What one connection's fate does to the counters, the rings and the supervisor's picture."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from mdsys.feed.plan import ConnectionPlan
from mdsys.feed.report import Reporter
from mdsys.feed.venue import Stream

if TYPE_CHECKING:
    from mdsys._listener import Feed, VenueFeed

STATES: Final = {
    "closed": 0,
    "connecting": 1,
    "open": 2,
    "ready": 3,
    "waiting": 4,
    "denied": 5,
}
"""The numbers of enum md_connection_state (native/include/mdsys/counters.h)."""
NAMED_MAX: Final = 8
"""Refused symbols that one log line names."""

log = logging.getLogger("mdsys.feed")


class ConnectionDesk:
    """Writes down what becomes of one connection; ``Desk`` of mdsys.feed.connection.

    Args:
        plan: Whose.
        feed: The counters.
        venue: Its symbols' rings.
        books_by_rest: Whether its books need a snapshot by REST.
        reporter: Tells the supervisor.
    """

    def __init__(
        self,
        plan: ConnectionPlan,
        feed: Feed,
        venue: VenueFeed,
        reporter: Reporter,
        *,
        books_by_rest: bool = False,
    ) -> None:
        self._plan = plan
        self._feed = feed
        self._venue = venue
        self._reporter = reporter
        self._books_by_rest = books_by_rest
        self._requested: set[tuple[str, str]] = set()
        self._confirmed: set[tuple[str, str]] = set()
        self._told: tuple[int, int] = (0, 0)
        """What the counters say of these two."""

    def state(
        self,
        state: str,
        words: str | None = None,
        *,
        http: int | None = None,
        delay_s: float | None = None,
    ) -> None:
        """Tell the supervisor, and note it in the counters segment."""
        number = self._plan.number
        self._feed.connection_state(number, STATES[state])
        self._reporter.tell(
            "connection", connection=number, state=state, words=words, http=http, delay_s=delay_s
        )

    def streams(
        self, state: str, streams: Sequence[Stream], words: str | None, listener: Any
    ) -> None:
        """Tell the supervisor; of a refusal the readers, too."""
        keys = {stream[:2] for stream in streams}
        refused = 0
        if state == "requested":
            self._requested |= keys
            self._confirmed -= keys
        elif state == "confirmed":
            self._requested |= keys
            self._confirmed |= keys
        else:
            self._requested -= keys
            self._confirmed -= keys
        if state == "refused":
            refused = len(keys)
            self._tell_refused(list(dict.fromkeys(each.symbol for each in streams)), words)
        self._count(refused)
        self._reporter.tell_streams(self._plan.number, state, streams, self._plan.channels, words)
        if state == "confirmed" and self._books_by_rest and listener is not None:
            books = [each.symbol for each in streams if each.channel == "book"]
            self._venue.expect_books(books, listener)

    def _tell_refused(self, symbols: Sequence[str], words: str | None) -> None:
        for symbol in symbols:
            self._venue.symbol_refused(symbol, self._plan.number)
        named = ", ".join(symbols[:NAMED_MAX])
        more = f" and {len(symbols) - NAMED_MAX} more" if len(symbols) > NAMED_MAX else ""
        log.warning(
            "%s connection %d: %s%s refused: %s",
            self._plan.venue,
            self._plan.number,
            named,
            more,
            words,
        )

    def _count(self, refused: int = 0) -> None:
        now = len(self._requested), len(self._confirmed)
        requested, confirmed = now[0] - self._told[0], now[1] - self._told[1]
        if requested or confirmed or refused:
            self._venue.count_subscriptions(requested, confirmed, refused)
        self._told = now

    def connect_failed(self) -> None:
        """Count it."""
        self._venue.count_connect_failure()

    def lost(self) -> None:
        """Take back what was up."""
        self._requested.clear()
        self._confirmed.clear()
        self._count()

    def overlap(self, by: int) -> None:
        """Have what comes on both sockets published once."""
        self._venue.overlap(by)
