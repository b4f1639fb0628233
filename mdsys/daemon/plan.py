"""Which symbol goes to which connection, feed and ring. Pure: segments come in as mappings.

A symbol that the directory knows keeps its ring, and so its feed; its connection follows. The rest
is dealt out in as few connections as the venue allows, to the feed with the fewest symbols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mdsys.config import Config, VenueConfig
from mdsys.errors import ConfigError
from mdsys.feed.plan import ConnectionPlan
from mdsys.ring.partition import Partition


@dataclass(frozen=True, slots=True)
class Assignment:
    """The outcome."""

    connections: Mapping[int, Sequence[ConnectionPlan]]
    """Feed -> its connections; every feed is named, also an idle one."""
    new_rings: Mapping[str, int]
    """VENUE:SYMBOL -> ring, for what the directory does not know yet, in the config's order."""

    @property
    def connection_count(self) -> int:
        """Return how many connections there are in all."""
        return sum(len(each) for each in self.connections.values())

    @property
    def symbol_count(self) -> int:
        """Return how many symbols there are in all."""
        return sum(len(c.symbols) for each in self.connections.values() for c in each)


def assign(
    config: Config, known_rings: Mapping[str, int], rings: Mapping[int, Sequence[int]]
) -> Assignment:
    """Deal the configured symbols out.

    Args:
        config: The symbols and the limits of their venues.
        known_rings: VENUE:SYMBOL -> ring, of every symbol in the directory.
        rings: Feed -> its rings, at least one each.

    Raises:
        ConfigError: A venue needs more connections than its limits allow.
    """
    feed_of = {ring: feed for feed, own in rings.items() for ring in own}
    partitions = {feed: Partition(own) for feed, own in rings.items()}
    load = dict.fromkeys(rings, 0)
    connections: dict[int, list[ConnectionPlan]] = {feed: [] for feed in rings}
    new_rings: dict[str, int] = {}
    problems: list[str] = []
    number = 0
    for index, venue in enumerate(config.venues):
        chunks = _chunks_of_venue(venue, known_rings, feed_of, load)
        allowed = venue.limits.get("connections")
        if allowed is not None and len(chunks) > allowed:
            problems.append(
                f"venue[{index}].limits.connections: {allowed}, but {len(venue.symbols)} symbols "
                f"of {venue.name} need {len(chunks)}"
            )
        for feed, symbols in chunks:
            number += 1
            connections[feed].append(
                ConnectionPlan(
                    number=number,
                    venue=venue.name,
                    url=venue.url,
                    symbols=tuple(symbols),
                    channels=venue.channels,
                    batch_size=venue.batch_size,
                )
            )
            for symbol in symbols:
                name = venue.full_name(symbol)
                if name not in known_rings:
                    new_rings[name] = partitions[feed].ring(name)
    if problems:
        raise ConfigError(*problems)
    return Assignment(connections, new_rings)


def _chunks_of_venue(
    venue: VenueConfig,
    known_rings: Mapping[str, int],
    feed_of: Mapping[int, int],
    load: dict[int, int],
) -> list[tuple[int, list[str]]]:
    """Return (feed, symbols) of each connection of one venue, and add them to ``load``."""
    size = venue.max_symbols_per_connection
    bound: dict[int, list[str]] = {}
    free: list[str] = []
    for symbol in venue.symbols:
        ring = known_rings.get(venue.full_name(symbol))
        if ring is None:
            free.append(symbol)
        else:
            bound.setdefault(feed_of[ring], []).append(symbol)
    chunks: list[tuple[int, list[str]]] = []
    for feed, own in sorted(bound.items()):
        room = -len(own) % size  # new ones fill the connection that must be opened anyway
        symbols, free = own + free[:room], free[room:]
        chunks += [(feed, chunk) for chunk in _even(symbols, size)]
        load[feed] += len(symbols)
    for chunk in _even(free, size):
        feed = min(load, key=lambda each: (load[each], each))
        chunks.append((feed, chunk))
        load[feed] += len(chunk)
    return chunks


def _even(symbols: Sequence[str], size: int) -> list[list[str]]:
    """Cut ``symbols`` into the fewest parts of at most ``size``, equal but for one."""
    count = -(-len(symbols) // size)
    return [
        list(symbols[len(symbols) * part // count : len(symbols) * (part + 1) // count])
        for part in range(count)
    ]
