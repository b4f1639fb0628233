"""The venues of the configuration, and their lists: asked for until they can be had."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from mdsys.config import VenueConfig
from mdsys.daemon.plan import Terms
from mdsys.errors import ConfigError, FeedError
from mdsys.feed.backoff import Backoff
from mdsys.feed.venue import Fetch, Resolution, Secret, Venue

DENYING = (401, 403)
"""HTTP statuses of a list that our credential does not open."""

REFUSALS_LOGGED_MAX = 10
"""Symbols of one look-up; of the others the count is told."""

log = logging.getLogger("mdsys.daemon")


@dataclass(slots=True, eq=False)
class VenueDesk:
    """One venue of the configuration."""

    config: VenueConfig
    venue: Venue
    terms: Terms
    wires: dict[str, bytes] = field(default_factory=dict)
    """Symbol -> what names it in frames, where the venue's list told."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One change at a time: a look-up takes long."""
    trouble: str | None = None
    """Why the venue's list cannot be had."""
    denied: bool = False
    """It is for our credential, and so not asked for again until told to."""
    mended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it may be worth another try."""
    looking_up: bool = False
    """Its list is being asked for, again and again until it can be had."""


class LookUps:
    """Asks the venues' lists, again and again where they cannot be had.

    Args:
        instance: Its name, for what people are told.
        desks: The venues, by name.
        place: Looks up and places what of a venue is on no connection; returns what was refused,
            and why. Raises FeedError where the list cannot be had.
        secret_of: The secret of a credential's name.
        fetch_of: A venue's REST.
        remedy_of: What to do when a venue does not take the credential of a name.
    """

    def __init__(
        self,
        instance: str,
        desks: Mapping[str, VenueDesk],
        place: Callable[[VenueDesk], Awaitable[Mapping[str, str]]],
        secret_of: Callable[[str | None], Secret],
        fetch_of: Callable[[str], Fetch],
        remedy_of: Callable[[str], str],
    ) -> None:
        self._instance = instance
        self._desks = desks
        self._place = place
        self._secret_of = secret_of
        self._fetch_of = fetch_of
        self._remedy_of = remedy_of
        self.tasks: set[asyncio.Task[None]] = set()
        """One for each list that is being asked for."""

    def start(self) -> None:
        """Begin to look up the symbols of those venues that have a list, until it can be had."""
        for desk in self._desks.values():
            if desk.venue.resolve is not None:
                self.begin(desk)

    def begin(self, desk: VenueDesk, failure: FeedError | None = None) -> None:
        """Look up what is on no connection, until the list can be had; it could not, just now."""
        if not desk.looking_up:
            desk.looking_up = True
            desk.mended.clear()
            task = asyncio.create_task(self._look_up(desk, failure))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def again(self) -> None:
        """Ask again at once for lists that could not be had: something may have been mended."""
        for desk in self._desks.values():
            desk.mended.set()

    def stop(self) -> None:
        """Look nothing up any more."""
        for task in self.tasks:
            task.cancel()

    async def resolve(self, desk: VenueDesk, symbols: Collection[str]) -> Mapping[str, Resolution]:
        """Return what a venue's list has of symbols.

        Raises:
            FeedError: It cannot be had.
        """
        assert desk.venue.resolve is not None
        key = next(iter(desk.config.credentials), None)
        try:
            secret = self._secret_of(key)
        except ConfigError as error:
            raise FeedError(str(error)) from None
        try:
            return await desk.venue.resolve(symbols, secret, self._fetch_of(desk.config.name))
        except FeedError:
            raise
        except Exception as error:  # an installed venue's fault
            log.exception("%s: symbols cannot be looked up", desk.config.name)
            raise FeedError(f"{type(error).__name__}: {error}") from error

    async def _look_up(self, desk: VenueDesk, failure: FeedError | None) -> None:
        backoff = Backoff(first_s=5.0, max_s=300.0)
        while True:
            if failure is not None:
                desk.trouble = str(failure)
                desk.denied = getattr(failure, "status", None) in DENYING
                await self._stay_away(desk, backoff.next_s())
            desk.mended.clear()
            async with desk.lock:
                try:
                    refused = await self._place(desk)
                    break
                except FeedError as error:
                    failure = error
        desk.trouble, desk.denied, desk.looking_up = None, False, False
        for symbol, why in islice(refused.items(), REFUSALS_LOGGED_MAX):
            log.warning("%s: %s refused: %s", desk.config.name, symbol, why)
        if (more_count := len(refused) - REFUSALS_LOGGED_MAX) > 0:
            log.warning(
                "%s: ... and %d more refused: mdsys ctl status SYMBOL --instance %s",
                *(desk.config.name, more_count, self._instance),
            )

    async def _stay_away(self, desk: VenueDesk, delay_s: float) -> None:
        """Wait until another look-up may succeed; a venue that denies us is left alone."""
        key = next(iter(desk.config.credentials), None)
        if desk.denied and key is not None:
            log.error(
                "%s: symbols cannot be looked up: %s; not asked again until told to: %s",
                *(desk.config.name, desk.trouble, self._remedy_of(key)),
            )
            await desk.mended.wait()
            return
        log.warning(
            "%s: symbols cannot be looked up: %s; next try in %.1f s",
            *(desk.config.name, desk.trouble, delay_s),
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await desk.mended.wait()
