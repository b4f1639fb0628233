"""Answers what the feeds ask leave for: the limiter says when, the credentials say with what.

A secret goes to a feed with the leave to connect and is kept nowhere on the way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from mdsys.daemon.connections import Connection
from mdsys.daemon.credentials import Credentials
from mdsys.daemon.feed_link import FeedLink
from mdsys.daemon.limiter import Limiter, Permit
from mdsys.errors import ConfigError, FeedError
from mdsys.feed.orders import Permit as PermitOrder
from mdsys.feed.orders import Refuse

log = logging.getLogger("mdsys.daemon")


class Leave:
    """What the feeds have asked for and have not reported over.

    Args:
        limiter: Knows when.
        credentials: Have the secrets.
        needs_secret: Whether a venue must have one.
    """

    def __init__(
        self, limiter: Limiter, credentials: Credentials, needs_secret: Callable[[str], bool]
    ) -> None:
        self._limiter = limiter
        self._credentials = credentials
        self._needs_secret = needs_secret
        self._permits: dict[tuple[int, int], Permit] = {}
        """(Feed, its number of the ask)."""

    def ask(
        self, feed: int, link: FeedLink, connection: Connection, message: Mapping[str, Any]
    ) -> None:
        """Ask the limiter on behalf of a feed; the answer is an order."""
        number: int = message["id"]
        placed = connection.placed
        connects = message["what"] == "connect"
        if connects:
            self._note_version(connection)
        if connects and (words := self._cannot(placed.venue, placed.key)) is not None:
            link.tell(Refuse(number, words))
            return

        def granted(permit: Permit) -> None:
            if not connects:
                link.tell(PermitOrder(number))
                return
            try:
                secret = dict(self._credentials.secret(placed.key))
            except ConfigError as error:
                self._limiter.withdraw(permit)
                link.tell(Refuse(number, str(error)))
                return
            self._note_version(connection)
            link.tell(PermitOrder(number, secret or None))

        try:
            permit = self._limiter.ask(
                placed.venue,
                ("connect" if message.get("first") else "reconnect") if connects else "message",
                granted,
                key=placed.key if connects else None,
                holder=feed,
                count=message.get("count", 1),
            )
        except FeedError as error:
            link.tell(Refuse(number, str(error)))
        else:
            if permit.state != "over":
                self._permits[feed, number] = permit

    def _note_version(self, connection: Connection) -> None:
        if (key := connection.placed.key) is not None:
            connection.secret_version = self._credentials.version(key)

    def is_outdated(self, connection: Connection) -> bool:
        """Return whether there is another secret by now than a connection was given."""
        key = connection.placed.key
        return key is not None and connection.secret_version != self._credentials.version(key)

    def _cannot(self, venue: str, key: str | None) -> str | None:
        """Return why there is no secret; None: there is, or none is needed."""
        if key is None:
            if not self._needs_secret(venue):
                return None
            return f"no credentials: [[venue]] {venue} names none"
        try:
            self._credentials.secret(key)
        except ConfigError as error:
            return str(error)
        return None

    def used(self, feed: int, number: int) -> None:
        """Note that what was granted has been done."""
        permit = self._permits.get((feed, number))
        if permit is not None:
            self._limiter.used(permit)
            if permit.state == "over":  # it was no connect: nothing more will be heard of it
                del self._permits[feed, number]

    def ended(self, feed: int, number: int) -> None:
        """Note that a granted socket is gone, or that what was asked for will never be done."""
        permit = self._permits.pop((feed, number), None)
        if permit is None:
            return
        if permit.state in ("waiting", "granted"):
            self._limiter.withdraw(permit)
        else:
            self._limiter.released(permit)

    def feed_ended(self, feed: int) -> None:
        """Note that a feed is gone with all its sockets."""
        self._permits = {key: each for key, each in self._permits.items() if key[0] != feed}
        self._limiter.holder_ended(feed)
