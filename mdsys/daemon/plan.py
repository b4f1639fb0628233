"""Which symbol goes to which connection, feed and ring. No I/O; the directory is a function here.

A symbol that the directory knows keeps its ring, and so its feed; its connection follows. The rest
fills connections that have room, and then as few new ones as the venue allows, equal but for one,
each in the feed with the fewest symbols. What is placed is never moved: others come and go by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mdsys.config import VenueConfig
from mdsys.errors import ConfigError
from mdsys.ring.partition import Partition
from mdsys.wording import plural

FEED_CONNECTIONS_MAX = 256
"""Connections of one feed: it has so many places in the counters segment."""
PIECE_SIZE = 600
"""Symbols that are placed at once: some milliseconds, after which others have their turn. Three
orders' worth (mdsys.feed.orders)."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What bounds the connections of one venue."""

    venue: str
    place: str
    """``venue[0]``: where the configuration has it."""
    size: int
    """Most symbols of one connection, at least 1."""
    connections_max: int | None
    """Sockets at one time: of each key, else of our address; None: as many as need be."""
    keys: tuple[str | None, ...] = (None,)
    """Names of the credentials that are dealt to the connections; (None,): the venue has none."""

    @property
    def connections_all(self) -> int | None:
        """Sockets at one time in all."""
        return None if self.connections_max is None else self.connections_max * len(self.keys)


def terms_of(config: VenueConfig, index: int) -> Terms:
    """Return the terms of the ``index``-th [[venue]] of the configuration."""
    return Terms(
        venue=config.name,
        place=f"venue[{index}]",
        size=config.max_symbols_per_connection,
        connections_max=config.limits.connections,
        keys=config.credentials or (None,),
    )


@dataclass(slots=True, eq=False)
class Placed:
    """One connection, and what is on it."""

    number: int
    """From 1, over the whole instance; never used again while the supervisor lives."""
    venue: str
    feed: int
    key: str | None
    """The name of its credential."""
    symbols: dict[str, None] = field(default_factory=dict)
    """The venue's own names, in order."""


@dataclass(frozen=True, slots=True)
class Growth:
    """A piece of what comes: symbols that are on a connection now."""

    placed: Placed
    opened: bool
    """Whether the connection is new with this piece."""
    symbols: Sequence[str]
    """At most PIECE_SIZE."""
    rings: Mapping[str, int]
    """Symbol -> ring, for those that the directory does not know yet."""


@dataclass(slots=True)
class Removal:
    """What becomes of the connections that symbols leave."""

    shrunk: list[tuple[Placed, list[str]]] = field(default_factory=list)
    closed: list[Placed] = field(default_factory=list)
    """They have no symbols left."""


class Placement:
    """All connections of an instance.

    Args:
        rings: Feed -> its rings, at least one each.
    """

    def __init__(self, rings: Mapping[int, Sequence[int]]) -> None:
        self._feed_of = {ring: feed for feed, own in rings.items() for ring in own}
        self._partitions = {feed: Partition(own) for feed, own in rings.items()}
        self._load = dict.fromkeys(rings, 0)
        self._open = dict.fromkeys(rings, 0)
        """Feed -> its connections."""
        self._on: dict[str, dict[str, Placed]] = {}
        """Venue -> symbol -> its connection."""
        self._home: dict[str, int] = {}
        """Venue -> the feed of its first symbol, where a venue of one connection always lives."""
        self._number = 0
        self.connections: dict[int, Placed] = {}
        """By number."""

    def of_feed(self, feed: int) -> list[Placed]:
        """Return the connections of one feed, in the order of their numbers."""
        return [each for each in self.connections.values() if each.feed == feed]

    def of_venue(self, venue: str) -> list[Placed]:
        """Return the connections of one venue, in the order of their numbers."""
        return [each for each in self.connections.values() if each.venue == venue]

    def symbols(self, venue: str) -> Mapping[str, Placed]:
        """Return what is placed of one venue, symbol -> its connection."""
        return self._on.get(venue, {})

    def remember(self, venue: str, ring: int) -> None:
        """Note that the directory has a symbol of a venue on a ring."""
        self._home.setdefault(venue, self._feed_of[ring])

    def add(
        self, terms: Terms, symbols: Sequence[str], ring_of: Callable[[str], int | None]
    ) -> Iterator[Growth]:
        """Place symbols of one venue that are not placed yet, each given once; all or none.

        Args:
            terms: What bounds the venue's connections.
            symbols: The venue's own names.
            ring_of: The ring of a VENUE:SYMBOL that the directory knows.

        Returns:
            The pieces, each placed when it is taken, a connection's one after the other. All must
            be taken before anything else is added; meanwhile other venues' symbols may leave.

        Raises:
            ConfigError: They need more connections than there may be. Nothing has changed.
        """
        prefix = f"{terms.venue.upper()}:"
        known = {symbol: ring_of(prefix + symbol) for symbol in symbols}
        bound: dict[int, list[str]] = {}
        free: list[str] = []
        for symbol, ring in known.items():
            if ring is None:
                free.append(symbol)
            else:
                bound.setdefault(self._feed_of[ring], []).append(symbol)
        draft = _Draft(terms.size, self.of_venue(terms.venue), dict(self._load), dict(self._open))
        for feed, own in sorted(bound.items()):
            draft.place(own, feed)
        # One connection that moved would leave symbols behind, bound to the feed that it had.
        alone = terms.connections_all == 1 and not draft.connections
        draft.place(free, self._home.get(terms.venue) if alone else None)
        self._check(terms, len(symbols), draft)
        self._load, self._open = draft.load, draft.open
        return self._carry_out(terms, draft, known)

    def remove(self, venue: str, symbols: Sequence[str]) -> Removal:
        """Take symbols off their connections; those that are not placed are passed over."""
        change = Removal()
        placed = self._on.get(venue, {})
        gone: dict[int, list[str]] = {}
        for symbol in symbols:
            if (connection := placed.pop(symbol, None)) is not None:
                del connection.symbols[symbol]
                self._load[connection.feed] -= 1
                gone.setdefault(connection.number, []).append(symbol)
        for number, own in gone.items():
            connection = self.connections[number]
            if connection.symbols:
                change.shrunk.append((connection, own))
            else:
                change.closed.append(connection)
                self._open[connection.feed] -= 1
                del self.connections[number]
        return change

    def _check(self, terms: Terms, count: int, draft: _Draft) -> None:
        needed = len(draft.connections)
        room = terms.connections_all
        if room is not None and needed > room and draft.new_count:
            symbols = sum(part.count for part in draft.connections)
            if -(-symbols // terms.size) <= room:
                have = f"limits.connections: {room}"
                feeds = len({part.feed for part in draft.connections})
                remedy = (
                    f", since the symbol directory binds them to {feeds} feeds: "
                    "mdsys clean lets them be placed anew"
                )
            elif terms.keys == (None,):
                have = f"limits.connections: {room}"
                remedy = ""
            else:
                keys = -(-needed // (room // len(terms.keys)))
                have = (
                    f"credentials: {plural(len(terms.keys), 'key')} of "
                    f"{plural(room // len(terms.keys), 'connection')} each"
                )
                remedy = f": {keys} keys"
            raise ConfigError(
                f"{terms.place}.{have}, but {plural(count, 'symbol')} of {terms.venue}"
                f"{self._beside(terms)} need {needed} connections of {terms.size}{remedy}"
            )
        for feed, open_count in draft.open.items():
            if open_count > FEED_CONNECTIONS_MAX:
                raise ConfigError(
                    f"feeds.num_processes: {plural(len(draft.open), 'feed')} of at most "
                    f"{FEED_CONNECTIONS_MAX} connections each, but feed {feed} would need "
                    f"{open_count} with {plural(count, 'symbol')} of {terms.venue}"
                )

    def _beside(self, terms: Terms) -> str:
        there = len(self._on.get(terms.venue, {}))
        return f" beside the {there} there are" if there else ""

    def _carry_out(
        self, terms: Terms, draft: _Draft, known: Mapping[str, int | None]
    ) -> Iterator[Growth]:
        on = self._on.setdefault(terms.venue, {})
        prefix = f"{terms.venue.upper()}:"
        for part in draft.connections:
            placed = part.old
            ring_of = self._partitions[part.feed].ring
            for at in range(0, len(part.new), PIECE_SIZE):
                symbols = part.new[at : at + PIECE_SIZE]
                opened = placed is None
                if placed is None:
                    placed = self._open_connection(terms, part.feed)
                placed.symbols.update(dict.fromkeys(symbols))
                on.update(dict.fromkeys(symbols, placed))
                fresh = [symbol for symbol in symbols if known[symbol] is None]
                rings = {symbol: ring_of(prefix + symbol) for symbol in fresh}
                yield Growth(placed, opened, symbols, rings)

    def _open_connection(self, terms: Terms, feed: int) -> Placed:
        """Return a new connection, with the key that has the fewest."""
        used = dict.fromkeys(terms.keys, 0)
        for each in self.of_venue(terms.venue):
            used[each.key] = used.get(each.key, 0) + 1
        self._number += 1
        key = min(terms.keys, key=lambda name: used[name])
        placed = Placed(self._number, terms.venue, feed, key)
        self.connections[placed.number] = placed
        self._home.setdefault(terms.venue, feed)
        return placed


@dataclass(slots=True, eq=False)
class _Part:
    """A connection, there or to be made, and what it would get."""

    feed: int
    old: Placed | None
    count: int
    new: list[str] = field(default_factory=list)


class _Draft:
    """A venue's connections as they would be."""

    def __init__(
        self, size: int, there: Sequence[Placed], load: dict[int, int], open_: dict[int, int]
    ) -> None:
        self._size = size
        self.connections = [_Part(each.feed, each, len(each.symbols)) for each in there]
        self.load = load
        self.open = open_
        self.new_count = 0

    def place(self, symbols: Sequence[str], feed: int | None) -> None:
        """Fill the connections (of ``feed``) that have room, then make as few as need be."""
        at = 0
        for part in self.connections:
            if at == len(symbols):
                return
            if feed is None or part.feed == feed:
                end = min(len(symbols), at + max(0, self._size - part.count))
                self._put(part, symbols[at:end])
                at = end
        for chunk in _even(symbols[at:], self._size):
            home = (
                min(self.load, key=lambda each: (self.load[each], each)) if feed is None else feed
            )
            part = _Part(home, None, 0)
            self.connections.append(part)
            self.open[home] += 1
            self.new_count += 1
            self._put(part, chunk)

    def _put(self, part: _Part, symbols: Sequence[str]) -> None:
        part.new += symbols
        part.count += len(symbols)
        self.load[part.feed] += len(symbols)


def _even(symbols: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Cut ``symbols`` into the fewest parts of at most ``size``, equal but for one."""
    count = -(-len(symbols) // size)
    for part in range(count):
        yield symbols[len(symbols) * part // count : len(symbols) * (part + 1) // count]
