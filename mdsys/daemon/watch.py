"""Looks at everything once a second, and has done what health demands."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from mdsys import _native
from mdsys.daemon.health import SECOND, Health, Pulse, Rows
from mdsys.daemon.repeats import GOING_ON_S, Repeats
from mdsys.daemon.roster import Roster
from mdsys.daemon.sessions import SLACK_NS, Session, Sessions
from mdsys.daemon.subscriptions import State
from mdsys.feed.orders import Order, Reconnect, Resubscribe, Stale, symbol_lists
from mdsys.feed.venue import CHANNELS
from mdsys.wording import plural

NAMES_SHOWN_MAX = 5
ASLEEP_NS = 3_000_000_000
"""Looks so far apart mean that the host stood still or its clock was set: silence counts anew. Else
every socket would be thrown out at once, before the feeds have read what waits on it."""

AHEAD_NS = 1_000_000_000
"""A stamp that lies further ahead is of before the clock was set back."""

log = logging.getLogger("mdsys.daemon")


class Watch:
    """The eyes of the supervisor.

    Args:
        roster: What is wanted, and where.
        cache: Where ticks are seen.
        counters: Where the marks of the sockets stand.
        feed_count: Feeds of the instance.
        tell: Passes orders on to a feed.
        sessions: Venue -> when its market is open; the others never close.
    """

    def __init__(
        self,
        roster: Roster,
        cache: _native.Cache,
        counters: _native.Counters,
        feed_count: int,
        tell: Callable[[int, Iterable[Order]], None],
        sessions: Mapping[str, Sessions],
    ) -> None:
        self._roster = roster
        self._cache = cache
        self._counters = counters
        self._feed_count = feed_count
        self._tell = tell
        self.sessions = sessions
        self.health = Health()
        self.repeats = Repeats(counters.block, feed_count)
        self._looked_ns = 0
        self._awake_ns = 1
        """No silence counts that began before."""
        self._pulses: dict[int, Pulse] = {}
        """Of the last look."""
        roster.on_new_rows = self.health.forget

    def marks(self) -> dict[int, Mapping[str, Any]]:
        """Return what each connection's block in the counters segment says, by number."""
        return {
            mark["connection"]: mark
            for feed in range(self._feed_count)
            for mark in self._counters.connections(feed)
            if (known := self._roster.connections.all.get(mark["connection"])) is not None
            and known.placed.feed == feed
        }

    def silence_limits_ns(self) -> dict[int, int]:
        """Return how long each socket that is judged now may bring nothing, by its connection.

        One of a venue that promises nothing is not among them, nor one that nothing need come on.
        """
        return {
            number: round(pulse.silence_s * SECOND)
            for number, pulse in self._pulses.items()
            if pulse.silence_s is not None
        }

    def session(self, venue: str, now_ns: int) -> Session | None:
        """Return a venue's session; None: it has no calendar."""
        sessions = self.sessions.get(venue)
        return None if sessions is None else sessions.at(now_ns)

    def look(self, now_ns: int) -> None:
        """See what ticks, judge what does not, and order what is to be done."""
        subscriptions = self._roster.subscriptions
        if now_ns < self._looked_ns:  # it was set back: else nothing would look silent until then
            self._awake_ns = now_ns
            self.health.set_back(now_ns)
            subscriptions.set_back(now_ns)
        elif 0 < self._looked_ns < now_ns - ASLEEP_NS:
            self._awake_ns = now_ns
        self._looked_ns = now_ns
        self.repeats.look(now_ns)
        heard = subscriptions.look(self._cache.heard)
        heard[heard > now_ns + AHEAD_NS] = self._awake_ns
        connection = subscriptions.connection
        # By number of the connection: from when on silence counts there; 0: it does not.
        begun = np.zeros(int(connection.max(initial=0)) + 1, np.int64)
        expected_ns = subscriptions.expected_ns()
        pulses: dict[int, Pulse] = {}
        marks = self.marks()
        for number, each in self._roster.connections.all.items():
            if not each.up:
                continue
            venue = each.placed.venue
            session = self.session(venue, now_ns)
            if session is None:
                begun[number] = self._awake_ns
            elif session.open:
                begun[number] = max(session.since_ns + SLACK_NS, self._awake_ns)
            if number >= len(expected_ns) or not expected_ns[number]:
                continue  # all is refused: nothing need come, and dialling anew would not help
            frame_ns = marks.get(number, {}).get("last_frame_ns", 0)
            begun_ns = int(expected_ns[number])
            pulses[number] = Pulse(
                self._not_ahead(each.opened_ns, now_ns),
                max(
                    self._not_ahead(frame_ns, now_ns),
                    self._not_ahead(begun_ns, now_ns),
                    self._awake_ns,
                ),
                self._roster.desks[venue].venue.silence_s,
            )
        asked = (subscriptions.state >= State.REQUESTED) & (subscriptions.requested_ns > 0)
        judged = asked & (begun[connection] > 0)[:, None]
        from_ns = np.where(
            judged, np.maximum(subscriptions.requested_ns, begun[connection][:, None]), 0
        )
        from_ns[from_ns > now_ns] = 0  # the market has opened just now
        self._pulses = pulses
        verdict = self.health.look(now_ns, heard, from_ns, connection, pulses)
        for number, column, rows in verdict.stale:
            last_ns = heard[rows, column].tolist()
            self._say_stale(number, CHANNELS[column], self._symbols(rows), last_ns)
        for number, column, rows in verdict.resubscribe:
            self._resubscribe(number, CHANNELS[column], self._symbols(rows))
        for number, words in verdict.reconnect:
            placed = self._roster.connections.all[number].placed
            cause = ""
            if marks.get(number, {}).get("last_frame_ns", 0) > now_ns - GOING_ON_S * SECOND:
                cause = self._cause(placed.feed, heard[connection == number].max(initial=0).item())
            log.warning(
                "%s connection %d is %s%s; dialling anew", placed.venue, number, words, cause
            )
            self._tell(placed.feed, [Reconnect(number, words)])

    def _not_ahead(self, then_ns: int, now_ns: int) -> int:
        return then_ns if then_ns <= now_ns + AHEAD_NS else self._awake_ns

    def _symbols(self, rows: Rows) -> list[str]:
        return [self._roster.subscriptions.names[row][1] for row in rows.tolist()]

    def _say_stale(self, number: int, channel: str, symbols: list[str], last_ns: list[int]) -> None:
        placed = self._roster.connections.all[number].placed
        shown = ", ".join(symbols[:NAMES_SHOWN_MAX])
        more = len(symbols) - NAMES_SHOWN_MAX
        log.warning(
            "%s connection %d: %s of %s is silent beyond its habit: %s%s%s",
            *(placed.venue, number, channel, plural(len(symbols), "symbol"), shown),
            f" and {more} more" if more > 0 else "",
            self._cause(placed.feed, max(last_ns)),
        )
        self._tell(
            placed.feed,
            [
                Stale(placed.venue, list(piece), channel, list(times))
                for piece, times in zip(symbol_lists(symbols), symbol_lists(last_ns), strict=True)
            ],
        )

    def _cause(self, feed: int, last_ns: int) -> str:
        """Return for the log what a silence may come of that began then; 0: with all time."""
        silent_s = (self._looked_ns - last_ns) / SECOND if last_ns else 0.0
        words = self.repeats.words(feed, silent_s)
        return f"; {words}" if words else ""

    def _resubscribe(self, number: int, channel: str, symbols: list[str]) -> None:
        placed = self._roster.connections.all[number].placed
        self._tell(
            placed.feed,
            [Resubscribe(number, list(piece), channel) for piece in symbol_lists(symbols)],
        )
