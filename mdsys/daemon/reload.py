"""Takes over what has changed in the configuration and in the credentials, and names the rest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from mdsys.config import Config, VenueConfig
from mdsys.daemon.credentials import Credentials, wanted_fields
from mdsys.daemon.operations import outcome_answer
from mdsys.daemon.plan import terms_of
from mdsys.daemon.readers import Refused
from mdsys.daemon.roster import Outcome, Roster
from mdsys.errors import MdsysError
from mdsys.feed.orders import Order, Redial
from mdsys.feed.venue import Venue
from mdsys.wording import plural

TABLES = ("rings", "memory", "feeds", "consumer", "metrics")
LIVE = ("name", "symbols", "symbols_file", "credentials")
"""Keys of a [[venue]] that are taken over while it runs."""

log = logging.getLogger("mdsys.daemon")


@dataclass(slots=True)
class _Difference:
    """What a new configuration asks for."""

    added: list[str]
    """VENUE:SYMBOL."""
    removed: list[str]
    opened: list[tuple[int, VenueConfig]]
    """New [[venue]] tables, with their places."""
    closed: list[str]
    fixed: list[str] = field(default_factory=list)
    """Keys that only a restart takes over."""


class Reload:
    """Rereads what the daemon runs by.

    Args:
        config: What runs now.
        read: Reads the configuration anew; None: there is no file.
        venues: Every venue there is.
        roster: Whose symbols change.
        credentials: The secrets.
        tell: Passes orders on to a feed.
        open_venue: Prepares what a new [[venue]] needs besides the roster.
    """

    def __init__(
        self,
        config: Config,
        read: Callable[[], Config] | None,
        venues: Mapping[str, Venue],
        roster: Roster,
        credentials: Credentials,
        tell: Callable[[int, Iterable[Order]], None],
        open_venue: Callable[[VenueConfig], Awaitable[None]],
    ) -> None:
        self._config = config
        self._running = config
        """What the keys that only a restart takes over are held against, until there is one."""
        self._read = read
        self._venues = venues
        self._roster = roster
        self._credentials = credentials
        self._tell = tell
        self._open_venue = open_venue
        self._lock = asyncio.Lock()
        self.done_count = 0
        self.refused_count = 0

    async def __call__(self) -> Mapping[str, Any]:
        """Do it, and return what came of it.

        Raises:
            Refused: The configuration is wrong; nothing has changed.
        """
        async with self._lock:
            try:
                answer = await self._reload()
            except Refused:
                self.refused_count += 1
                raise
            self.done_count += 1
            return answer

    async def _reload(self) -> Mapping[str, Any]:
        if self._read is None:
            raise Refused("this daemon was not started from a file")
        try:
            new = await asyncio.to_thread(self._read)  # 50,000 symbols take a while
        except (MdsysError, OSError) as error:
            raise Refused(str(error)) from None
        difference = _difference(self._config, new)
        difference.fixed = list(_fixed(self._running, new))
        named = {config.name for config in new.venues}
        for index, config in enumerate(new.venues):
            if (desk := self._roster.desks.get(config.name)) is not None:
                keys = desk.config.credentials + tuple(
                    key for key in config.credentials if key not in desk.config.credentials
                )
                desk.config = replace(desk.config, credentials=keys)
                desk.terms = replace(desk.terms, keys=terms_of(desk.config, index).keys)
        # Those that the file names no more as well: connections go on with them.
        users = [desk.config for name, desk in self._roster.desks.items() if name in named]
        users += [config for _, config in difference.opened]
        reread = self._credentials.read(wanted_fields(users, self._venues))
        for index, config in difference.opened:
            if config.name in self._roster.desks:  # by a reload that broke off
                continue
            await self._open_venue(config)
            self._roster.open_desk(config, index, self._venues[config.name])
        gone = await self._roster.unsubscribe(difference.removed)
        for name in difference.closed:
            gone = _both(gone, await self._roster.unsubscribe(self._names_of(name)))
            self._roster.desks.pop(name, None)
        # What did not fit, or was not in the venue's list, may have room or be there now.
        came = await self._roster.subscribe(
            difference.added + self._roster.refused_unasked(), keep=True
        )
        self._config = new
        stay = [each for each in self._running.venues if each.name not in difference.closed]
        opened = [config for _, config in difference.opened]
        self._running = replace(
            self._running,
            venues=tuple(
                replace(each, credentials=self._roster.desks[each.name].config.credentials)
                for each in (*stay, *opened)
            ),
        )
        redialled = self._redial(set(reread.changed))
        self._roster.look_ups.again()
        for name, why in reread.problems.items():
            log.warning("%s", why if name in why else f"credential {name}: {why}")
        if difference.fixed:
            log.warning("a restart alone takes over: %s", ", ".join(difference.fixed))
        log.info(
            "reloaded: %s came, %d went, %d refused; credentials changed: %s",
            *(plural(len(came.accepted), "symbol"), len(gone.accepted), len(came.refused)),
            ", ".join(reread.changed) or "none",
        )
        return {
            "ok": True,
            "subscribed": outcome_answer(came),
            "unsubscribed": outcome_answer(gone),
            "credentials_changed": list(reread.changed),
            "credential_problems": dict(reread.problems),
            "redialled": redialled,
            "not_reloaded": difference.fixed,
        }

    def _names_of(self, venue: str) -> list[str]:
        symbols = self._roster.subscriptions.symbols(venue)
        return [f"{venue.upper()}:{symbol}" for symbol in symbols]

    def _redial(self, changed: set[str]) -> list[int]:
        """Have those dial again that were denied with a secret that has been replaced.

        Where there is no secret, somebody has opened another door, or wants to see.
        """
        redialled: list[int] = []
        for number, each in self._roster.connections.all.items():
            if each.state == "denied" and each.placed.key in (None, *changed):
                self._tell(each.placed.feed, [Redial(number)])
                redialled.append(number)
        return redialled


def _difference(old: Config, new: Config) -> _Difference:
    before = {venue.name: venue for venue in old.venues}
    after = {venue.name: venue for venue in new.venues}
    found = _Difference([], [], [], [])
    found.closed = [name for name in before if name not in after]
    for index, venue in enumerate(new.venues):
        had = before.get(venue.name)
        if had is None:
            found.opened.append((index, venue))
        there = dict.fromkeys(had.symbols if had else ())
        wanted = dict.fromkeys(venue.symbols)
        found.added += [venue.full_name(each) for each in wanted if each not in there]
        found.removed += [venue.full_name(each) for each in there if each not in wanted]
    return found


def _fixed(old: Config, new: Config) -> Iterator[str]:
    """Give the keys that have changed and stay as they were."""
    for key in ("instance", "group"):
        if getattr(old, key) != getattr(new, key):
            yield key
    for table in TABLES:
        yield from _changed(table, getattr(old, table), getattr(new, table), ())
    before = {venue.name: venue for venue in old.venues}
    for index, venue in enumerate(new.venues):
        if (had := before.get(venue.name)) is not None:
            yield from _changed(f"venue[{index}]", had, venue, LIVE)
            if set(had.credentials) - set(venue.credentials):
                yield f"venue[{index}].credentials"  # connections go on with those that are gone


def _changed(place: str, old: Any, new: Any, but: Iterable[str]) -> Iterator[str]:
    for each in fields(old):
        if each.name not in but and getattr(old, each.name) != getattr(new, each.name):
            yield f"{place}.{each.name}"


def _both(one: Outcome, other: Outcome) -> Outcome:
    return Outcome(
        one.accepted + other.accepted,
        one.unchanged + other.unchanged,
        {**one.refused, **other.refused},
    )
