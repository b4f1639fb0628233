"""What a venue of the configuration needs before anything of it is placed.

Its limits, its REST, its snapshots, and the sessions of its market; the roster has the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mdsys.config import VenueConfig
from mdsys.daemon.limiter import Limiter
from mdsys.daemon.rest import Rest
from mdsys.daemon.sessions import Sessions
from mdsys.daemon.snapshots import Snapshots
from mdsys.errors import FeedError
from mdsys.feed.venue import Fetch, Venue


class VenueNeeds:
    """Provides them, for each venue once.

    Args:
        venues: Every venue there is.
        limiter: Keeps the limits.
        rest: Asks.
        snapshots: Has books fetched where the venue streams differences only.
    """

    def __init__(
        self, venues: Mapping[str, Venue], limiter: Limiter, rest: Rest, snapshots: Snapshots
    ) -> None:
        self._venues = venues
        self._limiter = limiter
        self._rest = rest
        self._snapshots = snapshots
        self._fetch: dict[str, Fetch] = {}
        self.sessions: dict[str, Sessions] = {}
        """Venue -> when its market is open; the others never close."""

    def open(self, config: VenueConfig) -> None:
        """Provide what a venue needs."""
        self._open(config, _sessions_of(config))

    async def open_later(self, config: VenueConfig) -> None:
        """Do so while the loop goes on: reading a calendar takes long."""
        self._open(config, await asyncio.to_thread(_sessions_of, config))

    def _open(self, config: VenueConfig, sessions: Sessions | None) -> None:
        venue = self._venues[config.name]
        self._limiter.configure(config.name, config.limits)
        rest_url = config.rest_url or venue.rest_url
        if rest_url is not None:
            fetch = self._fetch[config.name] = self._rest.fetcher(config.name, rest_url)
            if venue.book_snapshots is not None:
                self._snapshots.add_venue(config.name, venue.book_snapshots, fetch)
        if sessions is not None:
            self.sessions[config.name] = sessions

    def fetch_of(self, venue: str) -> Fetch:
        """Return a venue's REST."""
        return self._fetch.get(venue) or _nowhere(venue)


def _sessions_of(venue: VenueConfig) -> Sessions | None:
    return None if venue.calendar is None else Sessions.named(venue.calendar)


def _nowhere(venue: str) -> Fetch:
    """Return the REST of a venue without an address: a look-up that asks nobody can do with it."""

    async def fetch(
        path: str,  # noqa: ARG001 - as Fetch
        *,
        params: Mapping[str, str] | None = None,  # noqa: ARG001
        headers: Mapping[str, str] | None = None,  # noqa: ARG001
        weight: int = 1,  # noqa: ARG001
    ) -> bytes:
        raise FeedError(f"{venue}: it has no REST address: give rest_url")

    return fetch
