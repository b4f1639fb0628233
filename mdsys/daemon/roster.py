"""Which symbols are wanted: they come and go while the others go on.

A change goes its whole way from here: looked up at the venue where it has a list (``LookUps``),
placed, entered into the symbol directory, and told to the feeds (``Carriage``). A name that the
venue does not know is refused with the venue's words and never reaches a connection. A large change
is made piece by piece: the first connection is dialled while the last is still being placed, and
whoever asks for something else meanwhile is answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from mdsys import _native
from mdsys.config import VenueConfig
from mdsys.config_checks import check_spelling
from mdsys.daemon.carriage import Carriage, Tell
from mdsys.daemon.look_ups import LookUps, VenueDesk
from mdsys.daemon.plan import PIECE_SIZE, terms_of
from mdsys.daemon.subscriptions import State, Subscriptions
from mdsys.errors import ConfigError, FeedError, UsageError
from mdsys.feed.venue import Fetch, Resolution, Secret, Venue
from mdsys.record.symbol import Symbol
from mdsys.wording import plural

T = TypeVar("T")


@dataclass(slots=True)
class Outcome:
    """What became of the names of one request."""

    accepted: list[str] = field(default_factory=list)
    """VENUE:SYMBOL of those that something was done about."""
    unchanged: list[str] = field(default_factory=list)
    """Those that were there already, or were not there."""
    refused: dict[str, str] = field(default_factory=dict)
    """As it was written -> why."""


class Roster:
    """The symbols of an instance.

    Args:
        instance: Its name, for what people are told.
        directory: The symbol directory, writable.
        rings: Feed -> its rings.
        tell: Passes orders on.
        secret_of: The secret of a credential's name.
        fetch_of: A venue's REST.
        now_ns: ns since the epoch.
        remedy_of: What to do when a venue does not take the credential of a name.
    """

    def __init__(
        self,
        instance: str,
        directory: _native.Symbols,
        rings: Mapping[int, Sequence[int]],
        tell: Tell,
        secret_of: Callable[[str | None], Secret],
        fetch_of: Callable[[str], Fetch],
        now_ns: Callable[[], int] = time.time_ns,
        remedy_of: Callable[[str], str] = "replace {}".format,
    ) -> None:
        self._now_ns = now_ns
        self.desks: dict[str, VenueDesk] = {}
        self.subscriptions = Subscriptions()
        self.carriage = Carriage(
            instance, directory, rings, self.desks, self.subscriptions, tell, now_ns
        )
        self.placement = self.carriage.placement
        self.connections = self.carriage.connections
        self.look_ups = LookUps(
            instance, self.desks, self._place_the_rest, secret_of, fetch_of, remedy_of
        )
        self.on_new_rows: Callable[[list[int]], object] = list
        """Called with rows of the subscriptions that are other symbols' now."""
        self.on_gone: Callable[[str, Sequence[str]], object] = lambda *_: None
        """Called with a venue, and symbols of it that are wanted no more."""
        self._placing = asyncio.Lock()
        """One venue at a time: what is left of a feed's and the directory's room is shared."""

    # ---- the configuration ----

    def begin(self, configs: Sequence[VenueConfig], venues: Mapping[str, Venue]) -> None:
        """Place what the configuration names, but for venues whose list must be asked first.

        Raises:
            ConfigError: It does not fit.
        """
        problems: list[str] = []
        for index, config in enumerate(configs):
            desk = self.open_desk(config, index, venues[config.name])
            self._want(desk, config.symbols)
            if desk.venue.resolve is None:
                try:
                    for _ in self.carriage.place(desk, config.symbols, {}):
                        pass
                except ConfigError as error:
                    problems += error.problems
        if problems:
            raise ConfigError(*problems)

    def open_desk(self, config: VenueConfig, index: int, venue: Venue) -> VenueDesk:
        """Take in a venue without any symbols."""
        desk = self.desks[config.name] = VenueDesk(config, venue, terms_of(config, index))
        return desk

    def denied(self) -> list[int]:
        """Return the connections that wait for another secret than the venue was shown.

        With 0, on which all are that are placed nowhere yet, where that is what each of them waits
        for: their venue tells its list to nobody whom it does not know.
        """
        numbers = [n for n, each in self.connections.all.items() if each.state == "denied"]
        desks = [desk for desk in self.desks.values() if desk.looking_up]
        if desks and all(desk.denied for desk in desks):
            numbers.append(0)
        return numbers

    # ---- at run time ----

    async def subscribe(self, names: Iterable[str], *, keep: bool = False) -> Outcome:
        """Want more symbols; whoever is there already is not touched, unless it was refused.

        Args:
            names: VENUE:SYMBOL, in anybody's writing.
            keep: Whether what cannot be looked up now is wanted all the same, and looked up later.
                What was wanted before always is.
        """
        outcome = Outcome()
        for desk, symbols in await self._sorted(names, outcome):
            async with desk.lock:
                fresh: list[str] = []
                again: list[str] = []
                async for piece in _pieces(symbols):
                    new, old = self._fresh(desk, piece, outcome)
                    self._want(desk, new + old)
                    fresh += new
                    again += old
                try:
                    refused = await self._resolve_and_place(desk, fresh + again)
                except FeedError as error:
                    outcome.unchanged += map(desk.config.full_name, again)
                    refused = {} if keep else dict.fromkeys(fresh, str(error))
                    self._drop(desk, list(refused))
                    if again or keep:
                        self.look_ups.begin(desk, error)
                    again = []
                for symbol in fresh + again:
                    name = desk.config.full_name(symbol)
                    if symbol in refused:
                        outcome.refused[name] = refused[symbol]
                    else:
                        outcome.accepted.append(name)
        return outcome

    async def unsubscribe(self, names: Iterable[str]) -> Outcome:
        """Want symbols no more."""
        outcome = Outcome()
        for desk, symbols in await self._sorted(names, outcome):
            async with desk.lock:
                wanted = self.subscriptions.symbols(desk.config.name)
                there = [symbol for symbol in symbols if symbol in wanted]
                outcome.unchanged += [
                    desk.config.full_name(symbol) for symbol in symbols if symbol not in wanted
                ]
                outcome.accepted += [desk.config.full_name(symbol) for symbol in there]
                self._drop(desk, there)
        return outcome

    async def _sorted(
        self, names: Iterable[str], outcome: Outcome
    ) -> list[tuple[VenueDesk, list[str]]]:
        """Return the names by venue, each once; what is no name of a venue's is refused."""
        found: dict[str, dict[str, None]] = {}
        async for piece in _pieces(names):
            for name in piece:
                try:
                    desk, symbol = self._understood(name)
                except (UsageError, ConfigError) as error:
                    outcome.refused[name] = str(error)
                else:
                    found.setdefault(desk.config.name, {})[symbol] = None
        return [(self.desks[venue], list(symbols)) for venue, symbols in found.items()]

    def _understood(self, name: str) -> tuple[VenueDesk, str]:
        """Return the venue of a name, and the symbol in the venue's writing.

        Raises:
            UsageError: It is no name, or no venue's of this configuration.
            ConfigError: The venue does not write it so.
        """
        parsed = Symbol.parse(name)
        venue = parsed.venue.lower()
        desk = self.desks.get(venue)
        if desk is None:
            there = ", ".join(self.desks) or "none"
            raise UsageError(f"the configuration has no [[venue]] {venue}; it has {there}")
        check_spelling(venue, parsed.native, desk.venue.spelled)
        return desk, parsed.native

    def find(self, name: str) -> tuple[VenueDesk, str, int | None]:
        """Return the venue of a name, the symbol, and its row of the subscriptions if it is wanted.

        Raises:
            UsageError: It is no name, or no venue's of this configuration.
            ConfigError: The venue does not write it so.
        """
        desk, symbol = self._understood(name)
        return desk, symbol, self.subscriptions.row(desk.config.name, symbol)

    def _fresh(
        self, desk: VenueDesk, symbols: Iterable[str], outcome: Outcome
    ) -> tuple[list[str], list[str]]:
        """Return those that are not there, and those that were refused or not asked for yet.

        The latter are taken off, to be asked for again.
        """
        fresh: list[str] = []
        again: list[str] = []
        for symbol in symbols:
            row = self.subscriptions.row(desk.config.name, symbol)
            if row is None:
                fresh.append(symbol)
            elif (
                self.subscriptions.connection[row] == 0
                or self.subscriptions.worst(row) is State.REFUSED
            ):
                again.append(symbol)
            else:
                outcome.unchanged.append(desk.config.full_name(symbol))
        self._drop(desk, again)
        return fresh, again

    def refused_unasked(self) -> list[str]:
        """Return VENUE:SYMBOL of what was refused before any connection was asked for it."""
        return [
            desk.config.full_name(symbol)
            for desk in self.desks.values()
            for symbol in self.subscriptions.unplaced(desk.config.name, State.REFUSED)
        ]

    # ---- one change ----

    def _want(self, desk: VenueDesk, symbols: Sequence[str]) -> None:
        rows = self.subscriptions.want(
            desk.config.name,
            symbols,
            desk.config.channels,
            self._now_ns(),
            acknowledges=desk.venue.acknowledges,
        )
        self.on_new_rows(rows)

    async def _place_the_rest(self, desk: VenueDesk) -> dict[str, str]:
        """Place what is wanted of a venue and on no connection; as below."""
        return await self._resolve_and_place(desk, self.subscriptions.unplaced(desk.config.name))

    async def _resolve_and_place(self, desk: VenueDesk, symbols: Sequence[str]) -> dict[str, str]:
        """Place wanted symbols; return those that are refused, and why.

        Raises:
            FeedError: The venue's list cannot be had.
        """
        refused: dict[str, str] = {}
        found: Mapping[str, Resolution] = {}
        if desk.venue.resolve is not None and symbols:
            found = await self.look_ups.resolve(desk, symbols)
            for symbol in symbols:
                resolution = found.get(symbol) or Resolution(refusal="not in the venue's list")
                if resolution.refusal is not None:
                    refused[symbol] = resolution.refusal
        good = [symbol for symbol in symbols if symbol not in refused]
        try:
            async with self._placing:
                for _ in self.carriage.place(desk, good, found):
                    await asyncio.sleep(0)
        except ConfigError as error:
            refused |= dict.fromkeys(good, str(error))
        now_ns = self._now_ns()
        by_words: dict[str, list[str]] = {}
        for symbol, why in refused.items():
            by_words.setdefault(why, []).append(symbol)
        async for piece in _pieces(by_words.items()):
            for why, own in piece:
                self.subscriptions.report(
                    desk.config.name, own, None, State.REFUSED, now_ns, words=why
                )
        return refused

    def _drop(self, desk: VenueDesk, symbols: Sequence[str]) -> None:
        """Want symbols no more."""
        self.subscriptions.forget(desk.config.name, symbols)
        self.carriage.remove(desk, symbols)
        self.on_gone(desk.config.name, symbols)

    def __str__(self) -> str:
        return (
            f"{plural(self.subscriptions.symbol_count(), 'symbol')}, "
            f"{plural(len(self.placement.connections), 'connection')}"
        )


async def _pieces(items: Iterable[T]) -> AsyncIterator[list[T]]:
    """Give what there is to do piece by piece, and whoever waits a turn in between."""
    rest = iter(items)
    while piece := list(islice(rest, PIECE_SIZE)):
        yield piece
        if len(piece) == PIECE_SIZE:
            await asyncio.sleep(0)
