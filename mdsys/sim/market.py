"""Invented markets: random walks by the native generator, under the server's pace."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mdsys._generator import BLOCK_EVENTS, STREAM_BITS, SYMBOLS_MAX, Market
from mdsys._generator import View as NativeView
from mdsys.sim.binance import Dialect, Form

# Without a pace, events still carry times: as if this many happened in a second.
UNPACED_RATE = 1_000_000


@dataclass(frozen=True, slots=True)
class RandomMarket:
    """A market of random walks; the same values give the same frames, byte for byte.

    Every symbol trades equally often. The market does not wait for subscribers: once it began, a
    stream's ids go on whether or not somebody sees them.
    """

    symbols: int | Sequence[str]
    """Their names, or how many: SYM000000, SYM000001, ..."""
    rate: int | None = None
    """Events a second of all symbols together, in [1, 10^9]; None: as fast as the clients take."""
    seed: int = 0
    """In [0, 2^64)."""
    start_ms: int | None = None
    """Time of the first event, ms since the epoch; None: the moment the market begins."""
    mix: tuple[int, int, int] = (30, 60, 10)
    """Percents of trades, quotes and depth frames."""
    events_max: int | None = None
    """The market closes after so many events; None: never."""

    @property
    def names(self) -> Sequence[str]:
        """The symbols' names."""
        if isinstance(self.symbols, int):
            return [f"SYM{index:06d}" for index in range(self.symbols)]
        return self.symbols

    def open(self, dialect: Dialect) -> MarketSource:
        """Return the market as ``dialect``'s venue shows it.

        Raises:
            ValueError: A number is outside its interval, or a name is none.
        """
        return MarketSource(self, dialect)


class MarketSource:
    """A market under way."""

    def __init__(self, spec: RandomMarket, dialect: Dialect) -> None:
        self.spec = spec
        self._rate = UNPACED_RATE if spec.rate is None else spec.rate
        if isinstance(spec.symbols, int) and spec.symbols > SYMBOLS_MAX:
            raise ValueError(f"{spec.symbols} symbols; a market has at most {SYMBOLS_MAX}")
        names = spec.names
        self.market = Market(
            names, usdm=dialect.usdm, seed=spec.seed, rate=self._rate, mix=spec.mix
        )
        self.symbol_index = {name.lower(): index for index, name in enumerate(names)}
        if len(self.symbol_index) != len(names):
            raise ValueError("symbols: two have one name")

    @property
    def paced(self) -> bool:
        """Whether the clock is the pace."""
        return self.spec.rate is not None

    def view(self, form: Form) -> MarketView:
        """Return a view of no streams yet."""
        return MarketView(self, form)

    def start(self) -> None:
        """Set the time of the first event."""
        start_ms = self.spec.start_ms
        self.market.set_time(time.time_ns() if start_ms is None else start_ms * 1_000_000)

    def due_ns(self) -> int | None:
        """Return when the next event is due; None: the market has closed."""
        index = self.market.event_count
        if index == self.spec.events_max:
            return None
        return -(-index * 1_000_000_000 // self._rate)  # rounded up: at that time it is due

    def advance(self, until_ns: int | None) -> None:
        """Go on by what is due, at most one block."""
        index = self.market.event_count
        count = BLOCK_EVENTS
        if until_ns is not None:
            count = min(count, until_ns * self._rate // 1_000_000_000 + 1 - index)
        if self.spec.events_max is not None:
            count = min(count, self.spec.events_max - index)
        self.market.advance(max(count, 0))

    def progress(self) -> str:
        """Return how many events there were."""
        return f"{self.market.event_count:,} events"

    def close(self) -> None:
        """Nothing is held."""


class MarketView:
    """What one client sees of a market."""

    def __init__(self, source: MarketSource, form: Form) -> None:
        self._source = source
        self._native = NativeView(
            source.market, combined=form.combined, microseconds=form.microseconds
        )

    def show(self, streams: Collection[str]) -> None:
        """Show these streams; one that the market has not stays silent, as at the venue."""
        shown = []
        for stream in streams:
            symbol, at, channel = stream.partition("@")
            index = self._source.symbol_index.get(symbol)
            bit = STREAM_BITS.get(at + channel)
            if index is not None and bit is not None:
                shown.append((index, bit))
        self._native.show(shown)

    def render(self) -> list[bytes]:
        """Return the current block's frames for this client."""
        return self._source.market.render(self._native)

    @property
    def frames(self) -> Mapping[str, int]:
        """Frames rendered so far, by kind."""
        return self._native.frames

    @property
    def records(self) -> Mapping[str, int]:
        """Records in them, by kind."""
        return self._native.records
