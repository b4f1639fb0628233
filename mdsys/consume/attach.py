"""Attach to an instance and read it: what a strategy in Python holds in its hands.

Everything is mapped read-only, so a reader can harm neither the daemon nor other readers, and it
needs no daemon: segments stay readable when their writer has stopped or died.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from mdsys import _native
from mdsys.errors import LayoutError, UsageError, WriterGone
from mdsys.record.record import TICK, Ticks
from mdsys.ring.segment import ROOT_DIR, map_file, not_there, segment_path

TRADE_PART: Final = 1
QUOTE_PART: Final = 2
SUPERSEDED: Final = 3
POLL_COUNT_DEFAULT: Final = 256


@dataclass(frozen=True, slots=True)
class SymbolInfo:
    """What never changes about a symbol while its instance lives."""

    name: str
    """VENUE:SYMBOL."""
    id: int
    """In [1, 2^32), as in a record's ``symbol_id``."""
    ring: int
    price_scale: int
    """Prices are integers x 10^-price_scale; in [0, 18]."""
    size_scale: int

    @property
    def venue(self) -> str:
        """What stands before the first colon."""
        return self.name.partition(":")[0]

    @property
    def native(self) -> str:
        """The venue's own name, behind the first colon."""
        return self.name.partition(":")[2]


def attach(instance: str = "default") -> MarketData:
    """Attach to an instance, running or stopped.

    Args:
        instance: Its name in the daemon's configuration.

    Raises:
        NotRunning: No instance of this name has segments.
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
        try:
            self._directory = _native.Symbols(map_file(segment_path(ROOT_DIR, instance, "symbols")))
            directory = Path(self._directory.dir)
            self.cache = _native.Cache(map_file(segment_path(directory, instance, "cache")))
            self.rings: Sequence[_native.Ring] = tuple(
                _native.Ring(map_file(segment_path(directory, instance, f"ring.{i}")))
                for i in range(self._directory.ring_count)
            )
            self._check()
        except FileNotFoundError as error:
            raise not_there(instance) from error
        except LayoutError as error:
            raise LayoutError(f"instance {instance!r}: {error}") from error
        self._symbols: dict[str, SymbolInfo] = {}
        self._by_id: list[SymbolInfo] = []

    def _check(self) -> None:
        if self.cache.capacity < self._directory.capacity:
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
        self.rings = ()
        del self._directory, self.cache

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
        for symbol_id in range(len(self._by_id) + 1, len(self._directory) + 1):
            name, _, ring, price_scale, size_scale = self._directory.entry(symbol_id)
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

    def _last(self, symbol: str, part: int) -> np.void | None:
        out = np.empty(1, TICK)
        found = self.cache.load(self.symbol(symbol).id, part, out)
        return out[0] if found else None

    def reader(self, symbols: Iterable[str] | None = None) -> Reader:
        """Return a reader that begins with the next record.

        Args:
            symbols: Names or globs; None reads every symbol. Statuses that concern the ring or one
                of the symbols come always.

        Raises:
            UsageError: A name or glob matches no symbol.
        """
        return Reader(self, None if symbols is None else self.match(symbols))


class Reader:
    """A place in some rings of an instance. One thread's.

    For all of its rings together, since the reader was made: ``received + filtered + lost`` is
    exactly what was published up to ``cursors``. A reader that was overrun goes on half a ring
    behind the newest record; ``lost`` tells what it missed, `refresh` what is true now.
    """

    def __init__(self, market_data: MarketData, symbols: Sequence[SymbolInfo] | None) -> None:
        """See `MarketData.reader`."""
        self._cache = market_data.cache
        self._market_data = market_data
        self._symbols = symbols
        indices = (
            range(len(market_data.rings))
            if symbols is None
            else sorted({symbol.ring for symbol in symbols})
        )
        self._rings = [market_data.rings[i] for i in indices]
        self._positions = {ring: place for place, ring in enumerate(indices)}
        self._poller = _native.Poller(self._rings, symbol_bitmap(symbols))
        self._scratch = np.empty(POLL_COUNT_DEFAULT, TICK)
        self.poll_into = self._poller.poll_into

    @property
    def received(self) -> int:
        """Records handed out so far."""
        return self._poller.received

    @property
    def filtered(self) -> int:
        """Records read so far that were not of the wanted symbols."""
        return self._poller.filtered

    @property
    def lost(self) -> int:
        """Records that were overwritten before they were read, exactly."""
        return self._poller.lost

    @property
    def lag(self) -> int:
        """Records published and not yet read."""
        return self._poller.lag

    @property
    def cursors(self) -> dict[int, int]:
        """The next sequence to be read, by ring."""
        return dict(zip(self._positions, self._poller.cursors, strict=True))

    @property
    def epochs(self) -> dict[int, int]:
        """How many writers each ring has had; a restarted daemon or feed adds one."""
        return {ring: self._rings[place].epoch for ring, place in self._positions.items()}

    def poll(self, count_max: int = POLL_COUNT_DEFAULT, timeout: float = 0) -> Ticks:
        """Read what is new.

        Args:
            count_max: Most records to return, >= 1.
            timeout: Seconds to wait for the first one, >= 0; 0 does not wait.

        Returns:
            Records, dtype TICK, shape (n,), n in [0, count_max], the caller's own. Records of one
            ring are in order, rings follow one another.

        Raises:
            ValueError: ``count_max`` is below 1.
            WriterGone: All has been read and the segments were replaced: attach anew.
        """
        if count_max < 1:
            raise ValueError(f"count_max {count_max}: at least 1")
        if count_max > len(self._scratch):
            self._scratch = np.empty(count_max, TICK)
        scratch = self._scratch if count_max == len(self._scratch) else self._scratch[:count_max]
        count = self._poller.poll_into(scratch, timeout)
        if count == 0:
            self.check()
        return scratch[:count].copy()

    def check(self) -> None:
        """Raise WriterGone when the segments were replaced: nothing more will ever come."""
        if any(ring.state == SUPERSEDED for ring in self._rings):
            raise WriterGone(
                f"instance {self._market_data.instance!r} was started anew with other rings or "
                "was cleaned: attach again"
            )

    def refresh(self) -> Ticks:
        """Return the last trades and quotes among what this reader has missed.

        For who comes late, and after each lap (`lost` has grown): a new reader has missed all that
        was before it, a lapped one what was overwritten. What is returned here, `poll` has not
        returned and never will; what is newer, `poll` returns. So call either whenever you like and
        apply what each returns as it comes: that gives the present state, with none missed and none
        repeated. Only when two laps pass without a refresh, or one before the first refresh, may it
        repeat what was polled since the older stretch; the state is right all the same.

        Returns:
            Records, dtype TICK, shape (n,), at most two a symbol; those are left out that have had
            none, or whose last one was not missed. Another call returns what was missed since.

        Raises:
            HostError: A cell is half-written, which only a dead feed leaves behind. Nothing is
                forgotten: call again when the next feed has repaired it.
        """
        market_data = self._market_data
        symbols = market_data.symbols.values() if self._symbols is None else self._symbols
        out = np.empty(2 * len(symbols), TICK)
        missed = self._poller.missed
        count = 0
        for symbol in symbols:
            start, end = missed[self._positions[symbol.ring]]
            if start == end:
                continue
            for part in (TRADE_PART, QUOTE_PART):
                cell = out[count : count + 1]
                if self._cache.load(symbol.id, part, cell):
                    count += bool(start <= cell["seq"][0] < end)
        self._poller.forget_missed()
        return out[:count].copy()

    def __iter__(self) -> Iterator[np.void]:
        """Yield records one by one, waiting for them. Convenient, not quick: `poll` is."""
        while True:
            yield from self.poll(timeout=1.0)


def symbol_bitmap(symbols: Sequence[SymbolInfo] | None) -> npt.NDArray[np.uint64] | None:
    """Return the filter of a poller: bit i of little-endian 64-bit words is symbol id i."""
    if symbols is None:
        return None
    ids = np.array([symbol.id for symbol in symbols], dtype=np.uint64)
    words = np.zeros(int(ids.max(initial=0)) // 64 + 1, dtype="<u8")
    np.bitwise_or.at(words, ids // 64, np.uint64(1) << (ids % 64))
    return words
