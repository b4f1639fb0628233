"""A market that can run ten times as fast for a while, and that writes down what it sends.

A second generator of the same seed goes along: what it gives is what is rendered, event by event.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mdsys._generator import Market as NativeMarket
from mdsys.sim.dialect import Dialect
from mdsys.sim.events import EventSource
from mdsys.sim.market import MarketSource, RandomMarket
from tests.chaos.truth import Truth

_TRADES_AND_QUOTES = 0b011


class Witnessed(MarketSource):
    """Beside a source: the truth, and a pace that changes."""

    def __init__(self, spec: RandomMarket, venue: str) -> None:
        super().__init__(spec, venue)
        self._twin = NativeMarket(
            spec.names, venue=venue, seed=spec.seed, rate=self._rate, mix=spec.mix
        )
        self._all = bytearray([_TRADES_AND_QUOTES]) * len(spec.names)
        self.truth: Truth | None = None
        self._closed = False
        self._factor = 1.0
        self._since = (0, 0)
        """Real and market time at which the factor began, ns."""
        self._wish: tuple[float, float] | None = None
        self._until_ns = 0
        """When the burst ends, real time; 0: there is none."""
        self._shifted_ns = 0

    def burst(self, seconds: float, factor: float) -> None:
        """Run so many times as fast for a while; from the simulator's loop."""
        self._wish = seconds, factor

    def close_market(self) -> None:
        """Trade no more; what is sent arrives."""
        self._closed = True

    def due_ns(self) -> int | None:
        """Return when the next event is due, in real time."""
        due_ns = None if self._closed else super().due_ns()
        if due_ns is None:
            return None
        real_ns, market_ns = self._since
        return real_ns + max(0, int((due_ns - market_ns) / self._factor))

    def advance(self, until_ns: int | None) -> None:
        """Go on, and note what is about to be sent."""
        assert until_ns is not None
        if self._wish is not None:
            seconds, factor = self._wish
            self._wish = None
            self._turn(until_ns, factor)
            self._until_ns = until_ns + int(seconds * 1e9)
        elif self._until_ns and until_ns >= self._until_ns:
            self._turn(self._until_ns, 1.0)
            self._until_ns = 0
        market_ns = self._market_ns(until_ns)
        # The venue's clock shows real time all the same.
        self.native.shift_time(until_ns - market_ns - self._shifted_ns)
        self._shifted_ns = until_ns - market_ns
        before = self.native.event_count
        super().advance(market_ns)
        self._note(self.native.event_count - before)

    def _market_ns(self, real_ns: int) -> int:
        return self._since[1] + int((real_ns - self._since[0]) * self._factor)

    def _turn(self, real_ns: int, factor: float) -> None:
        self._since = real_ns, self._market_ns(real_ns)
        self._factor = factor

    def _note(self, count: int) -> None:
        truth, twin = self.truth, self._twin
        assert truth is not None
        end = twin.event_count + count
        while (left := end - twin.event_count) > 0:
            event = twin.next(self._all, left)
            if event is None:
                return
            # A trade: price, lots, whether the buyer is the maker; a quote: bid, ask.
            _, symbol, _, number, *rest = cast("tuple[Any, ...]", event)
            if event[0] == 0:
                truth.add_trade(symbol, number, rest[0], rest[1], buy=not rest[2])
                self._note_top(symbol)
            else:
                truth.add_quote(symbol, rest[0], rest[1])

    def _note_top(self, symbol: int) -> None:
        """A snapshot may quote the book as a trade has left it."""
        assert self.truth is not None
        _, bids, asks = self._twin.book(symbol)
        self.truth.add_quote(symbol, bids[0], asks[0])


class _NativeSource(Witnessed):
    """Rendered natively."""


class _PythonSource(Witnessed, EventSource):
    """Rendered by sessions."""


@dataclass(frozen=True, slots=True)
class ChaosMarket(RandomMarket):
    """A market whose truth is written into a folder."""

    folder: Path = Path()
    venue: str = ""

    def open(self, dialect: type[Dialect]) -> MarketSource:
        """Return the market as ``dialect``'s venue shows it."""
        source = (
            _PythonSource(self, "spot")
            if dialect.native is None
            else _NativeSource(self, dialect.native)
        )
        decimals = [source.native.decimals(index) for index in range(len(self.names))]
        source.truth = Truth(self.folder, self.venue, decimals)
        for symbol in range(len(decimals)):
            source._note_top(symbol)
        return source
