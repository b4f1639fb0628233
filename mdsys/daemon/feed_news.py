"""What the feeds do and tell, and what follows from it for the rest of the daemon."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from mdsys.daemon.feed_link import FeedLink, FeedLinks
from mdsys.daemon.leave import Leave
from mdsys.daemon.limiter import Limiter
from mdsys.daemon.plan import Placed
from mdsys.daemon.readers import Readers
from mdsys.daemon.recording import Recording
from mdsys.daemon.roster import Roster
from mdsys.daemon.snapshots import Snapshots
from mdsys.daemon.subscriptions import State
from mdsys.feed.orders import Redial

TOO_MANY = (418, 429)
"""HTTP: too many connects; banned for that."""
STREAM_STATES = {
    "requested": State.REQUESTED,
    "confirmed": State.CONFIRMED,
    "refused": State.REFUSED,
    "removed": State.DESIRED,
}

log = logging.getLogger("mdsys.daemon")


class FeedNews:
    """Hears of the feeds' lives and of what they tell (``mdsys.daemon.feeds.Events``).

    Args:
        links: To those that live.
        roster: Whose connections and streams they tell of.
        readers: Of whom each new life is told.
        recording: Goes on with each new life.
        leave: Answers who asks to connect.
        limiter: Holds up a venue's connects when it turns one away.
        snapshots: Has books fetched.
        remedy_of: What to do when a venue does not take the credential of a name.
        on_change: Called when something may have been answered.
    """

    def __init__(
        self,
        links: FeedLinks,
        roster: Roster,
        readers: Readers,
        recording: Recording,
        leave: Leave,
        limiter: Limiter,
        snapshots: Snapshots,
        remedy_of: Callable[[str], str],
        on_change: Callable[[], object],
    ) -> None:
        self._links = links
        self._roster = roster
        self._readers = readers
        self._recording = recording
        self._leave = leave
        self._limiter = limiter
        self._snapshots = snapshots
        self._remedy_of = remedy_of
        self._on_change = on_change

    def feed_started(self, feed: int, link: FeedLink) -> None:
        """Tell it who reads."""
        self._links[feed] = link
        self._readers.feed_started(feed, link)
        self._recording.feed_started(feed)

    def feed_ended(self, feed: int) -> None:
        """Take back what it had."""
        now_ns = time.time_ns()
        del self._links[feed]
        self._readers.feed_ended(feed)
        self._leave.feed_ended(feed)
        for connection in self._roster.connections.feed_ended(feed, now_ns):
            self._lose(connection.placed, now_ns)

    def feed_told(self, feed: int, message: Mapping[str, Any]) -> None:
        """Take what it has told."""
        match message["event"]:
            case "permit":
                self._ask_leave(feed, message)
            case "used":
                self._leave.used(feed, message["id"])
            case "ended":
                self._leave.ended(feed, message["id"])
            case "connection":
                self._note_connection(feed, message)
            case "streams":
                self._note_streams(feed, message)
            case "snapshots_wanted":
                self._snapshots.wanted(message["venue"], message["symbols"])
            case "reader_ejected":
                self._readers.note_ejected(message["reader"], message["ring"], message["sequence"])
            case other:
                log.warning("feed %d tells of %r, which nobody here knows", feed, other)

    def _ask_leave(self, feed: int, message: Mapping[str, Any]) -> None:
        link = self._links.get(feed)
        connection = self._roster.connections.get(message["connection"], feed)
        if link is not None and connection is not None:  # else it has been ordered to close
            self._leave.ask(feed, link, connection, message)

    def _note_connection(self, feed: int, message: Mapping[str, Any]) -> None:
        now_ns = time.time_ns()
        connection = self._roster.connections.report(feed, message, now_ns)
        if connection is None:
            return
        if connection.state in ("waiting", "denied", "closed"):
            self._lose(connection.placed, now_ns)
        if (
            message["state"] == "waiting"
            and message.get("http") in TOO_MANY
            and connection.placed.key is None
        ):  # of our address, then: the others would only be told the same
            seconds = message.get("delay_s") or 0.0
            self._limiter.pause(connection.placed.venue, "connect", seconds)
        if connection.state == "denied" and connection.placed.key is not None:
            if self._leave.is_outdated(connection):  # it was replaced while that one was tried
                self._links.tell(feed, [Redial(connection.placed.number)])
            else:
                log.error(
                    "%s connection %d is not dialled again: %s",
                    *(connection.placed.venue, connection.placed.number),
                    self._remedy_of(connection.placed.key),
                )
        self._on_change()

    def _lose(self, placed: Placed, now_ns: int) -> None:
        """Take back what was subscribed on a socket that is gone."""
        self._roster.subscriptions.lose(placed.number, now_ns)
        self._snapshots.lost(placed.venue, placed.symbols)

    def _note_streams(self, feed: int, message: Mapping[str, Any]) -> None:
        connection = self._roster.connections.get(message["connection"], feed)
        if connection is None:
            return
        self._roster.subscriptions.report(
            connection.placed.venue,
            message["symbols"],
            message["channel"],
            STREAM_STATES[message["state"]],
            message["at_ns"],
            connection=connection.placed.number,
            words=message.get("words"),
        )
        self._on_change()
