"""Invented markets: random walks by the native generator, under the server's pace."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mdsys._generator import BLOCK_EVENTS, STREAM_BITS, SYMBOLS_MAX, VENUES, payloads
from mdsys._generator import Market as NativeMarket
from mdsys._generator import View as NativeView
from mdsys.sim.dialect import Book, Dialect, Kind, Level, Session, Symbol
from mdsys.sim.frames import Frame, header
from mdsys.sim.source import View

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

    def open(self, dialect: type[Dialect]) -> MarketSource:
        """Return the market as ``dialect``'s venue shows it.

        Raises:
            ValueError: A number is outside its interval, or a name is none.
        """
        if dialect.native is None:
            from mdsys.sim.events import EventSource

            return EventSource(self, "spot")
        return MarketSource(self, dialect.native)


class RandomMarketFace:
    """The market as dialects see it; see mdsys.sim.dialect.Market."""

    def __init__(self, native: NativeMarket, names: Sequence[str]) -> None:
        self._native = native
        self.symbols: Sequence[Symbol] = [
            Symbol(index, name.upper(), *native.decimals(index)) for index, name in enumerate(names)
        ]
        self._by_name = {symbol.name: symbol for symbol in self.symbols}
        if len(self._by_name) != len(names):
            raise ValueError("symbols: two have one name")
        self.started = False

    @property
    def time_ns(self) -> int:
        """Return the next event's time; before the market begins, the clock's."""
        return self._native.time_ns if self.started else time.time_ns()

    def find(self, name: str) -> Symbol | None:
        """Return the symbol of that name, in either case."""
        return self._by_name.get(name.upper())

    def book(self, symbol: Symbol) -> Book:
        """Return the true book as it is now."""
        update_id, bids, asks = self._native.book(symbol.index)
        return Book(
            symbol,
            self.time_ns,
            update_id,
            tuple(map(Level._make, bids)),
            tuple(map(Level._make, asks)),
        )


class MarketSource:
    """A market under way, rendered natively."""

    def __init__(self, spec: RandomMarket, venue: str) -> None:
        assert venue in VENUES
        self.spec = spec
        self._rate = UNPACED_RATE if spec.rate is None else spec.rate
        if isinstance(spec.symbols, int) and spec.symbols > SYMBOLS_MAX:
            raise ValueError(f"{spec.symbols} symbols; a market has at most {SYMBOLS_MAX}")
        names = spec.names
        self.native = NativeMarket(
            names, venue=venue, seed=spec.seed, rate=self._rate, mix=spec.mix
        )
        self.market = RandomMarketFace(self.native, names)
        self._ahead_ns = 0

    @property
    def paced(self) -> bool:
        """Whether the clock is the pace."""
        return self.spec.rate is not None

    def view(self, session: Session) -> View:
        """Return a view of no streams yet."""
        return MarketView(self, session)

    def start(self) -> None:
        """Set the time of the first event."""
        start_ms = self.spec.start_ms
        start_ns = time.time_ns() if start_ms is None else start_ms * 1_000_000
        self.native.set_time(start_ns + self._ahead_ns)
        self.market.started = True

    def shift_time(self, by_ns: int) -> None:
        """Move the venue's clock."""
        self._ahead_ns += by_ns
        if self.market.started:
            self.native.shift_time(by_ns)

    def due_ns(self) -> int | None:
        """Return when the next event is due; None: the market has closed."""
        index = self.native.event_count
        if index == self.spec.events_max:
            return None
        return -(-index * 1_000_000_000 // self._rate)  # rounded up: at that time it is due

    def due_count(self, until_ns: int | None) -> int:
        """Return how many events are due, at most one block."""
        index = self.native.event_count
        count = BLOCK_EVENTS
        if until_ns is not None:
            count = min(count, until_ns * self._rate // 1_000_000_000 + 1 - index)
        if self.spec.events_max is not None:
            count = min(count, self.spec.events_max - index)
        return max(count, 0)

    def advance(self, until_ns: int | None) -> None:
        """Go on by what is due, at most one block."""
        self.native.advance(self.due_count(until_ns))

    def progress(self) -> str:
        """Return how many events there were."""
        return f"{self.native.event_count:,} events"

    def close(self) -> None:
        """Nothing is held."""


class MarketView:
    """What one client sees of a market."""

    def __init__(self, source: MarketSource, session: Session) -> None:
        form = session.form
        self._source = source
        self._combined = form.combined
        self._native = NativeView(
            source.native, combined=form.combined, microseconds=form.microseconds
        )
        self.streams = 0

    def show(self, symbol: Symbol, kinds: Collection[Kind]) -> None:
        """Not for native views: their streams have names."""
        raise NotImplementedError("a native dialect shows streams by their names")

    def hide(self, symbol: Symbol, kinds: Collection[Kind]) -> None:
        """Not for native views: their streams have names."""
        raise NotImplementedError("a native dialect shows streams by their names")

    def show_streams(self, names: Collection[str]) -> None:
        """Show these streams; one that the market has not stays silent, as at the venue."""
        shown = []
        for stream in names:
            name, at, channel = stream.partition("@")
            symbol = self._source.market.find(name)
            bit = STREAM_BITS.get(at + channel)
            # Streams are in small letters at the venue: another spelling is another stream.
            if symbol is not None and bit is not None and name == name.lower():
                shown.append((symbol.index, bit))
        self._native.show(shown)
        self.streams = len(names)

    def close(self) -> None:
        """Nothing is held."""

    def render(self) -> list[bytes]:
        """Return the current block's frames for this client."""
        return self._source.native.render(self._native) if self.streams else []

    def render_frames(self) -> list[Frame]:
        """Return them one by one."""
        return [_labelled(payload) for block in self.render() for payload in payloads(block)]

    @property
    def frames(self) -> Mapping[str, int]:
        """Frames rendered so far, by kind."""
        return self._native.frames

    @property
    def records(self) -> Mapping[str, int]:
        """Records in them, by kind."""
        return self._native.records


def _labelled(payload: bytes) -> Frame:
    """Read off a native frame what it is about."""
    kind: Kind = "quote"
    if b'"e":"trade"' in payload:
        kind = "trade"
    elif b'"e":"depthUpdate"' in payload:
        kind = "depth"
    start = payload.index(b'"s":"') + 5
    symbol = payload[start : payload.index(b'"', start)].decode()
    return Frame(kind, symbol, header(len(payload)) + payload)
