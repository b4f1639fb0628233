"""Coinbase frames to records in plain Python: what the C decoders must do, frame by frame.

Slow and plain on purpose. native/src/decode_coinbase.c is held against it on every captured frame
and on generated ones, refusals included. A frame is judged in this order, and the first fault names
its result: size, JSON, kind of message, then all that it must hold and its types, whatever the
products. What is left can only be wrong by itself, event by event: an unknown product, a value that
the product's scales cannot hold.

Here is what both feeds have in common; exchange_reference.py and advanced_reference.py read theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from mdsys.feed.coinbase.values import Fields, fixed_values, frame_fields
from mdsys.feed.frame import NO_LEVEL, FrameResult, Record, Refused, SymbolInfo
from mdsys.feed.sequence import Ids, Order
from mdsys.feed.sequence import Sequence as Numbering
from mdsys.feed.venue import CHANNELS
from mdsys.record.record import ABSENT, Flag, Kind, Status


class Trade(NamedTuple):
    """A trade, as it is written."""

    product: str
    ts_event: int
    flags: int
    price: str
    size: str
    id: int | None
    ids: Ids


class Ticker(NamedTuple):
    """The best of a book and the last trade, as they are written."""

    product: str
    ts_event: int
    quote: Sequence[str | None]
    """Bid, ask, bid size, ask size."""
    last: Sequence[str | None]
    """Price, size, volume."""


class Depth(NamedTuple):
    """Levels, as they are written: all of a book, or changes."""

    product: str
    ts_event: int
    flags: int
    levels: Sequence[tuple[Flag, str, str]]


class Reference:
    """One decoder's state, and what its events come to.

    Args:
        symbols: By product.
        channels: Those that are wanted.
    """

    def __init__(
        self, symbols: Mapping[str, SymbolInfo], channels: Collection[str] = CHANNELS
    ) -> None:
        self.symbols = symbols
        self.channels = frozenset(channels)
        self._trade_ids: dict[int, Numbering] = {}
        self.books: dict[int, int] = {}  # symbol id of a usable book -> its connection
        self._ts_recv = self.connection = 0
        self._out: list[Record] = []

    def decode(
        self, frame: bytes, ts_recv: int, connection: int = 0
    ) -> tuple[FrameResult, list[Record]]:
        """Turn one frame into what goes into the ring, status records among it.

        Args:
            frame: One whole text message.
            ts_recv: When the socket read returned, ns since the epoch.
            connection: The number that status records bear.

        Returns:
            What became of the frame, and its records in order.
        """
        self._ts_recv, self.connection, self._out = ts_recv, connection, []
        try:
            result = self.message(frame_fields(frame))
        except Refused as refused:
            result = refused.result
        return result, self._out

    def message(self, fields: Fields) -> FrameResult:
        """Read one message and publish what it holds: the feed's own."""
        raise NotImplementedError

    def publish(
        self, events: Iterable[Trade | Ticker | Depth], *, late: bool = False
    ) -> FrameResult:
        """Publish each event; the result is the first that is not right."""
        results = [self._event(event, late=late) for event in events]
        return next((result for result in results if result), FrameResult.OK)

    def _event(self, event: Trade | Ticker | Depth, *, late: bool) -> FrameResult:
        symbol = self.symbols.get(event.product)
        if symbol is None:
            return FrameResult.UNKNOWN_SYMBOL
        if isinstance(event, Trade):
            return self._trade(symbol, event)
        if isinstance(event, Ticker):
            return self._ticker(symbol, event)
        return self._depth(symbol, event, late=late)

    def _trade(self, symbol: SymbolInfo, trade: Trade) -> FrameResult:
        if "trade" not in self.channels:
            return FrameResult.OK
        numbering = self._trade_ids.setdefault(symbol.symbol_id, Numbering())
        if (
            trade.id is not None
            and trade.ids is Ids.ASCENDING
            and trade.flags & Flag.SNAPSHOT
            and trade.id <= numbering.last
        ):
            return FrameResult.OK  # a snapshot holds what has been here
        values = fixed_values((trade.price, trade.size), (symbol.price_scale, symbol.size_scale))
        if trade.id is not None:
            announce = partial(self.status, symbol, Status.GAP)
            if numbering.order(trade.id, trade.id, announce, trade.ids) is Order.AGAIN:
                return FrameResult.OK if values is not None else FrameResult.VALUE
            numbering.note(trade.id)
        trade_id = ABSENT if trade.id is None else trade.id
        if values is None:
            return self._refuse_value(symbol, trade_id)
        self._record(symbol, Kind.TRADE, trade.flags, trade.ts_event, [*values, trade_id, 0])
        return FrameResult.OK

    def _ticker(self, symbol: SymbolInfo, ticker: Ticker) -> FrameResult:
        """Make a quote if there is a bid or an ask, and a ticker if there is a price.

        Each may be refused by itself.
        """
        price, size = symbol.price_scale, symbol.size_scale
        result = FrameResult.OK
        if "quote" in self.channels:
            quote = fixed_values(ticker.quote, (price, price, size, size))
            if quote is None:
                result = self._refuse_value(symbol)
            elif quote[:2] != [ABSENT, ABSENT]:
                self._record(symbol, Kind.QUOTE, 0, ticker.ts_event, quote)
        if "ticker" in self.channels:
            last = fixed_values(ticker.last, (price, size, size))
            if last is None:
                result = self._refuse_value(symbol)
            elif last[0] != ABSENT:
                self._record(symbol, Kind.TICKER, 0, ticker.ts_event, [*last, ABSENT])
        return result

    def _depth(self, symbol: SymbolInfo, depth: Depth, *, late: bool) -> FrameResult:
        if "book" not in self.channels:
            return FrameResult.OK
        if late:  # the book has gone on without these levels
            if self.books.get(symbol.symbol_id) == self.connection:
                self.unsync(symbol)
            return FrameResult.OK
        levels = []
        for side, price, size in depth.levels:
            values = fixed_values((price, size), (symbol.price_scale, symbol.size_scale))
            if values is None:
                self._refuse_value(symbol)
                self.unsync(symbol)
                return FrameResult.VALUE
            levels.append((side, values))
        if depth.flags & Flag.SNAPSHOT and not levels:
            levels = [(Flag(0), list(NO_LEVEL))]
        for i, (side, values) in enumerate(levels):
            last = Flag.LAST if i == len(levels) - 1 else 0
            body = [*values, ABSENT, ABSENT]
            self._record(symbol, Kind.LEVEL, depth.flags | side, depth.ts_event, body, last)
        if depth.flags & Flag.SNAPSHOT:
            self.books[symbol.symbol_id] = self.connection
        return FrameResult.OK

    def unsync(self, symbol: SymbolInfo) -> None:
        """Take a book out of step until the next snapshot; told where there was one to use."""
        if self.books.pop(symbol.symbol_id, None) is not None:
            self.status(symbol, Status.RESYNC, ABSENT, ABSENT)

    def _record(
        self,
        symbol: SymbolInfo,
        kind: Kind,
        flags: int,
        ts_event: int,
        body: Sequence[int],
        last: int = Flag.LAST,
    ) -> None:
        one, two, three, four = body
        self._out.append(
            Record(
                ts_event,
                self._ts_recv,
                symbol.symbol_id,
                kind,
                int(flags | last),
                symbol.price_scale,
                symbol.size_scale,
                (one, two, three, four),
            )
        )

    def status(self, symbol: SymbolInfo | None, what: Status, first: int, last: int) -> None:
        """Publish a status record; no symbol: it concerns the whole ring."""
        body = (int(what), first, last, self.connection)
        ts, whose = self._ts_recv, 0 if symbol is None else symbol.symbol_id
        self._out.append(Record(ts, ts, whose, Kind.STATUS, int(Flag.LAST), 0, 0, body))

    def _refuse_value(self, symbol: SymbolInfo, trade_id: int = ABSENT) -> FrameResult:
        self.status(symbol, Status.VALUE_REFUSED, trade_id, trade_id)
        return FrameResult.VALUE
