"""Invented markets for dialects in Python: each event as an object, to who is shown it.

The native market skips what nobody is shown; an event costs its renderings, never a look at every
client.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Literal, cast

from mdsys._generator import KINDS as NATIVE_KINDS
from mdsys.sim.dialect import KINDS, Depth, Event, Kind, Level, Quote, Session, Symbol, Trade
from mdsys.sim.frames import Frame, to_frame
from mdsys.sim.market import MarketSource, RandomMarket
from mdsys.sim.source import View

assert tuple(NATIVE_KINDS) == KINDS
_BIT = {kind: 1 << number for number, kind in enumerate(KINDS)}

# Rendering in Python takes some ten microseconds: a block is a few milliseconds.
BLOCK_SHOWN = 256


class EventSource(MarketSource):
    """A market under way, rendered by sessions."""

    def __init__(self, spec: RandomMarket, venue: str) -> None:
        super().__init__(spec, venue)
        self._wanted = bytearray(len(self.market.symbols))
        self._audience: dict[tuple[int, Kind], list[EventView]] = {}

    def view(self, session: Session) -> View:
        """Return a view of no streams yet."""
        return EventView(self, session)

    def advance(self, until_ns: int | None) -> None:
        """Go on by what is due, at most one block, and have it rendered."""
        count = self.due_count(until_ns)
        for _ in range(BLOCK_SHOWN):
            before = self.native.event_count
            raw = self.native.next(self._wanted, count)
            if raw is None:
                break
            count -= self.native.event_count - before
            kind = KINDS[raw[0]]
            event = _event(kind, self.market.symbols[raw[1]], raw)
            for view in self._audience[raw[1], kind]:
                view.take(event)

    def join(self, symbol: Symbol, kind: Kind, view: EventView) -> None:
        """Let ``view`` take these events from now on."""
        self._audience.setdefault((symbol.index, kind), []).append(view)
        self._wanted[symbol.index] |= _BIT[kind]

    def part(self, symbol: Symbol, kind: Kind, view: EventView) -> None:
        """Let it take them no more."""
        views = self._audience[symbol.index, kind]
        views.remove(view)
        if not views:
            del self._audience[symbol.index, kind]
            self._wanted[symbol.index] &= ~_BIT[kind]


def _event(kind: Kind, symbol: Symbol, raw: tuple[object, ...]) -> Event:
    if kind == "trade":
        _, _, time_ns, number, price, lots, buyer_is_maker = cast(
            "tuple[int, int, int, int, int, int, bool]", raw
        )
        side: Literal["buy", "sell"] = "sell" if buyer_is_maker else "buy"
        return Trade("trade", symbol, time_ns, number, price, lots, side)
    if kind == "quote":
        _, _, time_ns, number, bid, ask = cast(
            "tuple[int, int, int, int, tuple[int, int], tuple[int, int]]", raw
        )
        return Quote("quote", symbol, time_ns, number, Level(*bid), Level(*ask))
    _, _, time_ns, number, first, previous, bids, asks = cast(
        "tuple[int, int, int, int, int, int, tuple[tuple[int, int], ...], "
        "tuple[tuple[int, int], ...]]",
        raw,
    )
    return Depth(
        "depth",
        symbol,
        time_ns,
        number,
        first,
        previous,
        tuple(map(Level._make, bids)),
        tuple(map(Level._make, asks)),
    )


class EventView:
    """What one client sees of a market."""

    def __init__(self, source: EventSource, session: Session) -> None:
        self._source = source
        self._session = session
        self._shown: dict[tuple[Symbol, Kind], None] = {}
        self._ready: list[Frame] = []
        self.frames: Counter[str] = Counter()
        self.records: Counter[str] = Counter()

    @property
    def streams(self) -> int:
        """How many pairs of symbol and kind are shown."""
        return len(self._shown)

    def show(self, symbol: Symbol, kinds: Collection[Kind]) -> None:
        """Show these events too."""
        for kind in kinds:
            if (symbol, kind) not in self._shown:
                self._shown[symbol, kind] = None
                self._source.join(symbol, kind, self)

    def hide(self, symbol: Symbol, kinds: Collection[Kind]) -> None:
        """Show these events no more."""
        for kind in kinds:
            if (symbol, kind) in self._shown:
                del self._shown[symbol, kind]
                self._source.part(symbol, kind, self)

    def show_streams(self, names: Collection[str]) -> None:
        """Not for dialects in Python: they have symbols and kinds."""
        raise NotImplementedError("only a native dialect shows streams by their names")

    def close(self) -> None:
        """Take nothing any more."""
        for symbol, kind in tuple(self._shown):
            self.hide(symbol, [kind])
        self._ready.clear()

    def take(self, event: Event) -> None:
        """Have an event rendered."""
        self.records[event.kind] += (
            len(event.bids) + len(event.asks) if event.kind == "depth" else 1
        )
        message = self._session.render(event)
        if message is not None:
            self._ready.append(Frame(event.kind, event.symbol.name, to_frame(message)))

    def render(self) -> list[bytes]:
        """Return the current block's frames for this client."""
        return (
            [b"".join(frame.data for frame in frames)] if (frames := self.render_frames()) else []
        )

    def render_frames(self) -> list[Frame]:
        """Return them one by one."""
        frames = self._ready
        self._ready = []
        frames += [Frame("other", "", to_frame(message)) for message in self._session.flush()]
        for frame in frames:
            self.frames[frame.kind] += 1
        return frames
