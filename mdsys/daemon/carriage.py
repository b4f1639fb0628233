"""Who carries each symbol: put on a connection, into the directory, and told to its feed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from mdsys import _native
from mdsys.config_checks import masked_url
from mdsys.daemon.connections import Connections
from mdsys.daemon.look_ups import VenueDesk
from mdsys.daemon.plan import Growth, Placed, Placement
from mdsys.daemon.subscriptions import Subscriptions
from mdsys.errors import ConfigError
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
from mdsys.feed.venue import Resolution
from mdsys.wording import plural

SCALE = 8
"""Decimals of prices and sizes where the venue gives none."""

USUAL = Resolution(price_scale=SCALE, size_scale=SCALE)
"""Of a symbol that no list tells of."""

Tell = Callable[[int, Iterable[Order]], None]
"""Tells a feed's living process; one that starts anew has it from its plan."""


class Carriage:
    """Places what is wanted, takes off what is not, and has the feeds know.

    Args:
        instance: Its name, for what people are told.
        directory: The symbol directory, writable.
        rings: Feed -> its rings.
        desks: The venues, by name.
        subscriptions: What is wanted: told of each symbol's connection and id.
        tell: Passes orders on.
        now_ns: ns since the epoch.
    """

    def __init__(
        self,
        instance: str,
        directory: _native.Symbols,
        rings: Mapping[int, Sequence[int]],
        desks: Mapping[str, VenueDesk],
        subscriptions: Subscriptions,
        tell: Tell,
        now_ns: Callable[[], int],
    ) -> None:
        self._instance = instance
        self._directory = directory
        self._desks = desks
        self._subscriptions = subscriptions
        self._tell = tell
        self._now_ns = now_ns
        self.placement = Placement(rings)
        self.connections = Connections()
        self._ids: dict[str, int] = {}
        self._rings: dict[str, int] = {}
        for symbol_id in range(1, len(directory) + 1):
            name, _, ring, _, _ = directory.entry(symbol_id)
            self._ids[name] = symbol_id
            self._rings[name] = ring
            self.placement.remember(name.partition(":")[0].lower(), ring)

    def place(
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
            self._subscriptions.place(desk.config.name, growth.symbols, placed.number)
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
        self._subscriptions.identify(
            desk.config.name,
            growth.symbols,
            [self._ids[prefix + symbol] for symbol in growth.symbols],
        )

    def remove(self, desk: VenueDesk, symbols: Sequence[str]) -> None:
        """Take symbols off their connections."""
        change = self.placement.remove(desk.config.name, symbols)
        for symbol in symbols:
            desk.wires.pop(symbol, None)
        for placed, gone in change.shrunk:
            self._tell(
                placed.feed,
                [Unsubscribe(placed.number, list(piece)) for piece in symbol_lists(gone)],
            )
        for placed in change.closed:
            self.connections.remove(placed.number)
            self._tell(placed.feed, [Close(placed.number)])

    def plan_of(self, placed: Placed) -> ConnectionPlan:
        """Return what a feed needs to know of one of its connections."""
        desk = self._desks[placed.venue]
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
