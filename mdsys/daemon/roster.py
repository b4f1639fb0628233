"""Which symbols are wanted, and who carries each: symbols come and go while the others go on.

A change goes its whole way here: looked up at the venue where it has a list (``Venue.resolve``),
placed, entered into the symbol directory, and told to the feeds. A name that the venue does not
know is refused with the venue's words and never reaches a connection. A large change is made piece
by piece: the first connection is dialled while the last is still being placed, and whoever asks for
something else meanwhile is answered.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from mdsys import _native
from mdsys.config import VenueConfig
from mdsys.config_checks import check_spelling, masked_url
from mdsys.daemon.connections import Connections
from mdsys.daemon.plan import PIECE_SIZE, Growth, Placed, Placement, Removal, Terms, terms_of
from mdsys.daemon.subscriptions import State, Subscriptions
from mdsys.errors import ConfigError, FeedError, UsageError
from mdsys.feed.backoff import Backoff
from mdsys.feed.orders import (
    Close,
    Order,
    Subscribe,
    Unsubscribe,
    connect_orders,
    symbol_lists,
    wire_hex,
)
from mdsys.feed.plan import ConnectionPlan
from mdsys.feed.venue import Fetch, Resolution, Secret, Venue
from mdsys.record.symbol import Symbol
from mdsys.wording import plural

SCALE = 8
"""Decimals of prices and sizes where the venue gives none."""

DENYING = (401, 403)
"""HTTP statuses of a list that our credential does not open."""

REFUSALS_LOGGED_MAX = 10
"""Symbols of one look-up; of the others the count is told."""

USUAL = Resolution(price_scale=SCALE, size_scale=SCALE)
"""Of a symbol that no list tells of."""

log = logging.getLogger("mdsys.daemon")

T = TypeVar("T")
Tell = Callable[[int, Iterable[Order]], None]
"""Tells a feed's living process; one that starts anew has it from its plan."""


@dataclass(slots=True)
class Outcome:
    """What became of the names of one request."""

    accepted: list[str] = field(default_factory=list)
    """VENUE:SYMBOL of those that something was done about."""
    unchanged: list[str] = field(default_factory=list)
    """Those that were there already, or were not there."""
    refused: dict[str, str] = field(default_factory=dict)
    """As it was written -> why."""


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
        self._instance = instance
        self._directory = directory
        self._tell = tell
        self._secret_of = secret_of
        self._fetch_of = fetch_of
        self._now_ns = now_ns
        self._remedy_of = remedy_of
        self.placement = Placement(rings)
        self.subscriptions = Subscriptions()
        self.connections = Connections()
        self.desks: dict[str, VenueDesk] = {}
        self.on_new_rows: Callable[[list[int]], object] = list
        """Called with rows of the subscriptions that are other symbols' now."""
        self.on_gone: Callable[[str, Sequence[str]], object] = lambda *_: None
        """Called with a venue, and symbols of it that are wanted no more."""
        self._ids: dict[str, int] = {}
        self._rings: dict[str, int] = {}
        for symbol_id in range(1, len(directory) + 1):
            name, _, ring, _, _ = directory.entry(symbol_id)
            self._ids[name] = symbol_id
            self._rings[name] = ring
            self.placement.remember(name.partition(":")[0].lower(), ring)
        self._looking_up: set[asyncio.Task[None]] = set()
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
                    for _ in self._place(desk, config.symbols, {}):
                        pass
                except ConfigError as error:
                    problems += error.problems
        if problems:
            raise ConfigError(*problems)

    def open_desk(self, config: VenueConfig, index: int, venue: Venue) -> VenueDesk:
        """Take in a venue without any symbols."""
        desk = self.desks[config.name] = VenueDesk(config, venue, terms_of(config, index))
        return desk

    def look_up(self) -> None:
        """Begin to look up the symbols of those venues that have a list, until it can be had."""
        for desk in self.desks.values():
            if desk.venue.resolve is not None:
                self._begin_look_up(desk)

    def _begin_look_up(self, desk: VenueDesk, failure: FeedError | None = None) -> None:
        """Look up what is on no connection, until the list can be had; it could not, just now."""
        if not desk.looking_up:
            desk.looking_up = True
            desk.mended.clear()
            task = asyncio.create_task(self._look_up(desk, failure))
            self._looking_up.add(task)
            task.add_done_callback(self._looking_up.discard)

    def look_up_again(self) -> None:
        """Ask again at once for lists that could not be had: something may have been mended."""
        for desk in self.desks.values():
            desk.mended.set()

    async def _look_up(self, desk: VenueDesk, failure: FeedError | None) -> None:
        backoff = Backoff(first_s=5.0, max_s=300.0)
        while True:
            if failure is not None:
                desk.trouble = str(failure)
                desk.denied = getattr(failure, "status", None) in DENYING
                await self._stay_away(desk, backoff.next_s())
            desk.mended.clear()
            async with desk.lock:
                waiting = self.subscriptions.unplaced(desk.config.name)
                try:
                    refused = await self._resolve_and_place(desk, waiting)
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

    def stop(self) -> None:
        """Look nothing up any more."""
        for task in self._looking_up:
            task.cancel()

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
                        self._begin_look_up(desk, error)
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

    async def _resolve_and_place(self, desk: VenueDesk, symbols: Sequence[str]) -> dict[str, str]:
        """Place wanted symbols; return those that are refused, and why.

        Raises:
            FeedError: The venue's list cannot be had.
        """
        refused: dict[str, str] = {}
        found: Mapping[str, Resolution] = {}
        if desk.venue.resolve is not None and symbols:
            found = await self._resolve(desk, symbols)
            for symbol in symbols:
                resolution = found.get(symbol) or Resolution(refusal="not in the venue's list")
                if resolution.refusal is not None:
                    refused[symbol] = resolution.refusal
        good = [symbol for symbol in symbols if symbol not in refused]
        try:
            async with self._placing:
                for _ in self._place(desk, good, found):
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

    async def _resolve(self, desk: VenueDesk, symbols: Collection[str]) -> Mapping[str, Resolution]:
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

    def _place(
        self, desk: VenueDesk, symbols: Sequence[str], found: Mapping[str, Resolution]
    ) -> Iterator[None]:
        """Put symbols on connections, into the directory, and tell the feeds.

        Each turn does so with one piece, whole: whoever looks in between sees what is placed, and
        may change other venues' symbols. Under ``_placing``, but for the start.

        Raises:
            ConfigError: They do not fit; nothing has changed.
        """
        if not symbols:
            return
        prefix = desk.config.full_name("")
        new_count = sum(prefix + symbol not in self._ids for symbol in symbols)
        capacity = self._directory.capacity
        if len(self._ids) + new_count > capacity:
            raise ConfigError(
                f"rings.max_symbols: {capacity}, but {plural(len(self._ids), 'symbol')} that the "
                f"directory has and {new_count} new ones need more; ids are never reused: "
                f"raise it, or run: mdsys clean --instance {self._instance}"
            )
        shown = masked_url(desk.config.url or desk.venue.url)
        for growth in self.placement.add(desk.terms, symbols, self._rings.get):
            self._enter(desk, growth, found)
            placed = growth.placed
            self.subscriptions.place(desk.config.name, growth.symbols, placed.number)
            if growth.opened:
                self.connections.add(placed, shown, self._now_ns())
                self._tell(placed.feed, connect_orders(self.plan_of(placed)))
            else:
                wires = desk.wires
                self._tell(
                    placed.feed,
                    [
                        Subscribe(placed.number, [(each, wire_hex(wires, each)) for each in piece])
                        for piece in symbol_lists(growth.symbols)
                    ],
                )
            yield

    def _enter(self, desk: VenueDesk, growth: Growth, found: Mapping[str, Resolution]) -> None:
        """Put symbols into the directory, those that it does not know."""
        prefix = desk.config.full_name("")
        for symbol in growth.symbols:
            if (resolution := found.get(symbol)) is not None and resolution.wire:
                desk.wires[symbol] = resolution.wire
        for symbol, ring in growth.rings.items():
            scales = found.get(symbol, USUAL)
            name = prefix + symbol
            self._ids[name] = self._directory.add(
                name.encode(), ring, scales.price_scale, scales.size_scale
            )
            self._rings[name] = ring
        self.subscriptions.identify(
            desk.config.name,
            growth.symbols,
            [self._ids[prefix + symbol] for symbol in growth.symbols],
        )

    def _drop(self, desk: VenueDesk, symbols: Sequence[str]) -> None:
        """Take symbols off their connections."""
        self.subscriptions.forget(desk.config.name, symbols)
        change = self.placement.remove(desk.config.name, symbols)
        for symbol in symbols:
            desk.wires.pop(symbol, None)
        self._tell_less(change)
        self.on_gone(desk.config.name, symbols)

    def _tell_less(self, change: Removal) -> None:
        for placed, gone in change.shrunk:
            self._tell(
                placed.feed,
                [Unsubscribe(placed.number, list(piece)) for piece in symbol_lists(gone)],
            )
        for placed in change.closed:
            self.connections.remove(placed.number)
            self._tell(placed.feed, [Close(placed.number)])

    # ---- what the feeds are told ----

    def plan_of(self, placed: Placed) -> ConnectionPlan:
        """Return what a feed needs to know of one of its connections."""
        desk = self.desks[placed.venue]
        known = self.connections.all.get(placed.number)
        return ConnectionPlan(
            number=placed.number,
            venue=placed.venue,
            url=desk.config.url,
            symbols=tuple(placed.symbols),
            channels=desk.config.channels,
            batch_size=desk.config.batch_size,
            wires={name: desk.wires[name] for name in placed.symbols if name in desk.wires}
            if desk.wires
            else {},
            credential=placed.key,
            limits=desk.config.limits,
            first=known is None or not known.dialled,
        )

    def plans_of_feed(self, feed: int) -> tuple[ConnectionPlan, ...]:
        """Return the plans of all connections of a feed."""
        return tuple(self.plan_of(placed) for placed in self.placement.of_feed(feed))

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
