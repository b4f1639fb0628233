"""One venue in one feed process: its symbols, each with its connection, and their books."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from mdsys.feed.connection import Connection
from mdsys.feed.frame import SymbolInfo
from mdsys.feed.memory import Memory
from mdsys.feed.orders import Snapshot, Stale
from mdsys.feed.report import SYMBOLS_MAX, Reporter
from mdsys.feed.resync import Resync
from mdsys.feed.venue import CHANNELS, Venue

# After mdsys.feed.memory, which has checked the version of picows that this is compiled for.
from mdsys._listener import VenueFeed  # isort: skip

if TYPE_CHECKING:
    from mdsys.feed.venue import Decoder

ABSENT = -(1 << 63)
"""MD_ABSENT."""

log = logging.getLogger("mdsys.feed")


class VenueDesk:
    """Knows the venue's symbols, and has their books brought up to date.

    Args:
        venue: Its facts.
        memory: What it writes to.
        reporter: Tells the supervisor.
        wires: Its first symbols, each with what names it on the wire; empty where that is its name.
        channels: Those that are wanted.

    Raises:
        ValueError: A symbol is not in the directory, is named twice, or is another feed's.
    """

    def __init__(
        self,
        venue: Venue,
        memory: Memory,
        reporter: Reporter,
        wires: Mapping[str, bytes],
        channels: Collection[str],
    ) -> None:
        self._venue = venue
        self._memory = memory
        self._reporter = reporter
        self._homes: dict[str, Connection] = {}
        """Symbol -> its connection."""
        self._infos: dict[str, SymbolInfo] = {}
        """By the name on the wire; a decoder in Python has it, and reads what is added."""
        self.books_by_rest = venue.book_snapshots is not None and "book" in channels
        self._resync = Resync(self._resubscribe, asyncio.get_running_loop().call_later, _now)
        decoder: str | Decoder | None = venue.decoder
        if decoder is None:
            self._note_infos(wires)
            decoder = venue.python_decoder(self._infos, channels)
        self.feed = VenueFeed(
            memory.feed,
            decoder,
            venue.name.upper(),
            list(wires),
            memory.symbols,
            memory.cache,
            wires=wires,
            channels=[CHANNELS.index(channel) for channel in channels],
            binary=venue.binary,
            books_by_rest=self.books_by_rest,
        )
        self.feed.on_wish = self.take_wishes

    def add(self, wires: Mapping[str, bytes]) -> None:
        """Take more symbols in; those that are here already stay.

        Raises:
            ValueError: As above; those before it are in.
        """
        self.feed.add_symbols(list(wires), wires)
        if self._venue.decoder is None:
            self._note_infos(wires)

    def settle(self, names: Iterable[str], connection: Connection) -> None:
        """Note which connection has symbols now."""
        self._homes.update(dict.fromkeys(names, connection))

    def leave(self, names: Iterable[str], connection: Connection) -> None:
        """Note that a connection has symbols no more."""
        left = [name for name in names if self._homes.get(name) is connection]
        for name in left:
            del self._homes[name]
        self._resync.forget(left)

    def _note_infos(self, wires: Mapping[str, bytes]) -> None:
        symbols = self._memory.symbols
        for name, wire in wires.items():
            symbol_id = symbols.find(f"{self._venue.name.upper()}:{name}".encode())
            if symbol_id:
                _, _, _, price_scale, size_scale = symbols.entry(symbol_id)
                written = wire.decode("latin-1") if wire else name
                trade_id, book_id, _ = self._memory.cache.venue_ids(symbol_id)
                self._infos[written] = SymbolInfo(
                    symbol_id, price_scale, size_scale, trade_id, book_id
                )

    # ---- books ----

    def take_wishes(self) -> None:
        """Have the books that are out of step brought up to date."""
        names = [name for name in self.feed.take_wishes() if name in self._homes]
        if not names:
            return
        if not self.books_by_rest:
            self._resync.wish(names)
            return
        for connection, own in self._by_connection(names):
            for at in range(0, len(own), SYMBOLS_MAX):
                self._reporter.tell(
                    "snapshots_wanted",
                    venue=self._venue.name,
                    connection=connection.plan.number,
                    symbols=own[at : at + SYMBOLS_MAX],
                )

    def _resubscribe(self, names: Sequence[str]) -> list[str]:
        early: list[str] = []
        for connection, own in self._by_connection(names):
            early += connection.resubscribe(own, "book")
        return early

    def _by_connection(self, names: Iterable[str]) -> Iterable[tuple[Connection, list[str]]]:
        lists: dict[Connection, list[str]] = {}
        for name in names:
            if name in self._homes:
                lists.setdefault(self._homes[name], []).append(name)
        return lists.items()

    def snapshot(self, order: Snapshot, body: bytes) -> None:
        """Merge a book that came by REST; nobody's symbols are passed over."""
        home = self._homes.get(order.symbol)
        if home is not None:
            self.feed.snapshot(order.symbol, body, order.asked, home.plan.number)
            self.take_wishes()  # it may have been too old

    # ---- health ----

    def stale(self, order: Stale) -> None:
        """Tell the readers of symbols that a channel of theirs is silent."""
        channel = CHANNELS.index(order.channel)
        times = order.last_ns or [ABSENT] * len(order.symbols)
        for name, last_ns in zip(order.symbols, times, strict=True):
            home = self._homes.get(name)
            if home is not None:
                self.feed.stale(name, channel, last_ns or ABSENT, home.plan.number)


def _now() -> float:
    return time.monotonic()
