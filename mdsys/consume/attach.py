"""Attach to an instance and read it: what a strategy in Python holds in its hands.

Everything is mapped read-only, so a reader can harm neither the daemon nor other readers, and it
needs no daemon: segments stay readable when their writer has stopped or died.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from mmap import mmap
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from mdsys import _native
from mdsys.consume.arguments import names
from mdsys.consume.book import BOOK_PARTIAL, BOOK_USABLE, LEVEL_COUNT, Book
from mdsys.consume.reader import Reader
from mdsys.consume.symbol_info import SymbolInfo
from mdsys.errors import LayoutError, UsageError
from mdsys.record.record import TICK
from mdsys.ring.door import behind_door, open_door
from mdsys.ring.segment import map_file, segment_path

TRADE_PART: Final = 1
QUOTE_PART: Final = 2


def attach(instance: str = "default") -> MarketData:
    """Attach to an instance, running or stopped.

    Args:
        instance: Its name in the daemon's configuration.

    Raises:
        NotRunning: No instance of this name has segments, or they are being made at this moment.
        NoPermission: This user may not read them; the message names the group.
        LayoutError: They belong to another version of mdsys.
    """
    return MarketData(instance)


class MarketData:
    """An attached instance: its symbols, its last values, and readers of its rings.

    A context manager; after `close` nothing of it may be used. Not for several threads at once,
    except that each may hold a reader of its own.
    """

    def __init__(self, instance: str = "default") -> None:
        """See `attach`."""
        self.instance = instance
        self.directory = open_door(instance)
        with behind_door(instance, self.directory):
            directory = Path(self.directory.dir)
            self.cache = _native.Cache(map_file(segment_path(directory, instance, "cache")))
            self.mappings: Sequence[mmap] = [
                map_file(segment_path(directory, instance, f"ring.{i}"))
                for i in range(self.directory.ring_count)
            ]
            """Of the rings, in order."""
            self.rings: Sequence[_native.Ring] = tuple(map(_native.Ring, self.mappings))
            self._check()
        self._symbols: dict[str, SymbolInfo] = {}
        self._by_id: list[SymbolInfo] = []

    def _check(self) -> None:
        if self.cache.capacity < self.directory.capacity:
            raise LayoutError("the cache has fewer cells than there are symbols")
        if any(ring.index != i for i, ring in enumerate(self.rings)):
            raise LayoutError("a ring bears another ring's name")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Detach."""
        self.close()

    def close(self) -> None:
        """Detach: drop the mappings; readers that still live keep theirs."""
        self.rings = self.mappings = ()
        del self.directory, self.cache

    @property
    def symbols(self) -> dict[str, SymbolInfo]:
        """Every symbol known by now, by VENUE:SYMBOL, in the order of their ids."""
        self._learn()
        return dict(self._symbols)

    def symbol(self, name: str) -> SymbolInfo:
        """Return one symbol; O(1).

        Raises:
            UsageError: It is not in this instance.
        """
        if name not in self._symbols:
            self._learn()
        try:
            return self._symbols[name]
        except KeyError:
            raise UsageError(
                f"{name!r} is not in instance {self.instance!r}; names are VENUE:SYMBOL, "
                f"such as {next(iter(self._symbols), 'BINANCE:BTCUSDT')}"
            ) from None

    def symbol_name(self, symbol_id: int) -> str | None:
        """Return VENUE:SYMBOL of an id; None for 0, which is the whole ring."""
        if symbol_id == 0:
            return None
        if symbol_id > len(self._by_id):
            self._learn()
        return self._by_id[symbol_id - 1].name

    def _learn(self) -> None:
        """Take in what was appended to the directory since we last looked."""
        for symbol_id in range(len(self._by_id) + 1, len(self.directory) + 1):
            name, _, ring, price_scale, size_scale = self.directory.entry(symbol_id)
            info = SymbolInfo(name, symbol_id, ring, price_scale, size_scale)
            self._by_id.append(info)
            self._symbols[name] = info

    def match(self, patterns: Iterable[str]) -> list[SymbolInfo]:
        """Return the symbols that any of the names or globs (``BINANCE:*USDT``) picks.

        Raises:
            UsageError: A pattern picks none.
        """
        self._learn()
        picked: dict[str, SymbolInfo] = {}
        for pattern in patterns:
            if any(character in pattern for character in "*?["):
                names = fnmatch.filter(self._symbols, pattern)
                if not names:
                    raise UsageError(f"{pattern!r} matches no symbol of {self.instance!r}")
            else:
                names = [self.symbol(pattern).name]
            picked.update((name, self._symbols[name]) for name in names)
        return list(picked.values())

    def last_trade(self, symbol: str) -> np.void | None:
        """Return the last trade (or ticker) received, a scalar of TICK; None before the first.

        Raises:
            UsageError: The symbol is not in this instance.
            HostError: Its cell is half-written, which only a dead feed leaves behind.
        """
        return self._last(symbol, TRADE_PART)

    def last_quote(self, symbol: str) -> np.void | None:
        """Return the symbol's last quote, a scalar of TICK; None before the first.

        Raises:
            UsageError: The symbol is not in this instance.
            HostError: Its cell is half-written, which only a dead feed leaves behind.
        """
        return self._last(symbol, QUOTE_PART)

    def book(self, symbol: str) -> Book | None:
        """Return the top ten levels of a symbol's book as its feed keeps it; None before the first.

        Of a book that is not `Book.usable` the last state is told: its feed has lost the thread and
        waits for a snapshot, or is gone.

        Raises:
            UsageError: The symbol is not in this instance.
            HostError: Its cell is half-written, which only a dead feed leaves behind.
        """
        info = self.symbol(symbol)
        bids, asks = np.empty((LEVEL_COUNT, 2), np.int64), np.empty((LEVEL_COUNT, 2), np.int64)
        found = self.cache.load_book(info.id, bids, asks)
        if found is None:
            return None
        seq, ts_event, ts_recv, flags, bid_count, ask_count = found
        return Book(
            seq=seq,
            ts_event=ts_event,
            ts_recv=ts_recv,
            usable=bool(flags & BOOK_USABLE),
            partial=bool(flags & BOOK_PARTIAL),
            bids=bids[:bid_count],
            asks=asks[:ask_count],
            price_scale=info.price_scale,
            size_scale=info.size_scale,
        )

    def _last(self, symbol: str, part: int) -> np.void | None:
        out = np.empty(1, TICK)
        found = self.cache.load(self.symbol(symbol).id, part, out)
        return out[0] if found else None

    def reader(
        self,
        symbols: str | Iterable[str] | None = None,
        *,
        rings: Iterable[int] | None = None,
        policy: str = "drop_oldest",
        wait: str = "adaptive",
        name: str | None = None,
        max_queue_size: int | None = None,
        backpressure_threshold: float | None = None,
    ) -> Reader:
        """Return a reader that begins with the next record.

        Args:
            symbols: Names or globs; None reads every symbol. Statuses that concern the ring or one
                of the symbols come always.
            rings: Numbers of the rings to read; None: all, or those of the symbols.
            policy: What to do when the reader falls behind. ``drop_oldest``: go on with newer
                records, `Reader.refresh` has the last values of what was skipped. ``conflate``: of
                what piled up, the newest quote of each symbol and the sum of its trades.
                ``lossless``: the writer waits, at most 1 ms at a time, then ejects the reader.
            wait: How `Reader.poll` waits: ``spin`` (has a core to itself), ``park`` (sleeps until
                the writer wakes it) or ``adaptive`` (spins 50 us, then parks).
            name: In the daemon's registry, [A-Za-z0-9._-]{1,31}; None: the program's.
            max_queue_size: Records of a ring that may wait before the policy acts; None: the ring.
            backpressure_threshold: The share of that at which it acts, in (0, 1]. None: with
                ``drop_oldest`` and no ``max_queue_size`` never, so that only the writer's overrun
                loses anything; else 0.8.

        Raises:
            UsageError: A name or glob matches no symbol, or an argument is not one of the above.
            NotRunning: ``lossless``, and there is no daemon that could wait.
            HostError: ``lossless``, and the daemon refuses; the message says why.
        """
        return Reader(
            self,
            None if symbols is None else self.match(names("symbols", symbols)),
            rings=rings,
            policy=policy,
            wait=wait,
            name=name,
            max_queue_size=max_queue_size,
            backpressure_threshold=backpressure_threshold,
        )
