"""Kraken values to records: what both reference decoders end in; native/src/kraken_publish.h."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from mdsys.feed.frame import FrameResult, SymbolInfo, malformed
from mdsys.feed.json_events import Body, Publisher
from mdsys.feed.kraken.book import DEPTH_MAX, Book, Change, decimals_of, depth_of
from mdsys.feed.sequence import Order, Sequence
from mdsys.record.fixed import FixedError, to_fixed
from mdsys.record.record import ABSENT, Flag, Kind, Status

CONDITION_LIMIT: Final = 0
CONDITION_MARKET: Final = 1
CONDITION_NOT_SAID: Final = 254
CONDITION_OTHER: Final = 255
"""A trade's conditions: by what order it was struck."""

Rows = list[tuple[str, str]]
"""Price and size of each change of one side, as they are written."""


class Candle(NamedTuple):
    """A bar's values."""

    begin: int
    prices: Body
    volumes: Body


class Desk:
    """What becomes of an item that has been checked: its records, and what is to be remembered.

    Args:
        channels: Those that are wanted.
    """

    def __init__(self, channels: Collection[str]) -> None:
        self._channels = channels
        self._books: dict[int, Book] = {}
        self._trades: dict[int, Sequence] = {}
        self._candles: dict[int, Candle] = {}
        self._seeded: dict[int, int] = {}
        """Symbol -> ts_recv of its first candles: if those of a snapshot, they are history."""

    def trade(
        self,
        out: Publisher,
        symbol: SymbolInfo,
        ts_event: int,
        texts: tuple[str, str],
        trade_id: int | None,
        flags: int,
        conditions: int,
    ) -> None:
        """Publish a trade: price and size, and its contiguous id where the venue sends one."""
        order = Order.NEXT
        if trade_id is not None:
            order = self._order(out, symbol, trade_id)
        values = _fixed(symbol, [texts])
        if values is None:
            out.problem(FrameResult.VALUE)
            if order is not Order.AGAIN:
                lost = ABSENT if trade_id is None else trade_id
                out.refuse_value(symbol, lost, lost)
        elif order is not Order.AGAIN:
            price, size = values[0]
            body = (price, size, ABSENT if trade_id is None else trade_id, conditions)
            out.record(symbol, Kind.TRADE, ts_event, body, flags)

    def _order(self, out: Publisher, symbol: SymbolInfo, trade_id: int) -> Order:
        sequence = self._trades.setdefault(symbol.symbol_id, Sequence())
        order = sequence.order(
            trade_id, trade_id, lambda first, last: out.status(symbol, Status.GAP, first, last)
        )
        sequence.note(trade_id)
        return order

    def ticker(
        self,
        out: Publisher,
        symbol: SymbolInfo,
        ts_event: int,
        prices: Iterable[str | None],
        sizes: Iterable[str | None],
    ) -> None:
        """Publish a ticker, which is two things: the best of the book, and the last trade.

        Prices are those of bid, ask and last trade; sizes those of bid, ask, day and last trade.
        """
        try:
            bid, ask, last = (_fixed_or_none(text, symbol.price_scale) for text in prices)
            bid_size, ask_size, volume, last_size = (
                _fixed_or_none(text, symbol.size_scale) for text in sizes
            )
        except FixedError:
            out.refuse_value(symbol)
            return
        if "quote" in self._channels:
            out.record(symbol, Kind.QUOTE, ts_event, (bid, ask, bid_size, ask_size))
        if "ticker" in self._channels:
            out.record(symbol, Kind.TICKER, ts_event, (last, last_size, volume, ABSENT))

    def candle(
        self, out: Publisher, symbol: SymbolInfo, candle: Candle, ts_recv: int, *, snapshot: bool
    ) -> None:
        """Note the running candle. When it is a later one, the one before is complete."""
        running = self._candles.get(symbol.symbol_id)
        if running is None:
            self._seeded[symbol.symbol_id] = ts_recv
        elif candle.begin < running.begin:
            return
        elif candle.begin > running.begin:
            history = snapshot and self._seeded[symbol.symbol_id] == ts_recv
            if not history:
                out.bar(symbol, running.begin, running.prices, running.volumes)
        self._candles[symbol.symbol_id] = candle

    @staticmethod
    def check_depth(sides: Iterable[Rows]) -> None:
        """Refuse more levels of a side than any subscription has."""
        if any(len(rows) > DEPTH_MAX for rows in sides):
            malformed()

    def book(
        self,
        out: Publisher,
        symbol: SymbolInfo,
        ts_event: int,
        sides: tuple[Rows, Rows],
        *,
        snapshot: bool,
        checksum: int | None,
        depth: int | None = None,
    ) -> None:
        """Publish a depth message, bids and asks, and what follows from it.

        ``checksum`` None: the message has none. ``depth`` None: that of the subscription shows in
        the snapshot's count of levels.
        """
        book = self._books.setdefault(symbol.symbol_id, Book(symbol.price_scale, symbol.size_scale))
        changes: list[Change] = []
        for side, rows in zip((Flag.BUY, Flag.SELL), sides, strict=True):
            values = _fixed(symbol, rows)
            if values is None:
                out.refuse_value(symbol)
                _unsync(out, symbol, book)
                return
            changes += [(side, price, size) for price, size in values]
        out.levels(symbol, ts_event, changes, Flag.SNAPSHOT if snapshot else 0)
        every = [row for rows in sides for row in rows]
        decimals = (
            max((decimals_of(price) for price, _ in every), default=0),
            max((decimals_of(size) for _, size in every), default=0),
        )
        if snapshot:
            book.replace(changes, depth or depth_of(max(map(len, sides))), decimals)
        elif book.in_step:
            book.change(changes, decimals)
        else:
            return
        if checksum is not None and book.checksum() != checksum:
            _unsync(out, symbol, book)
            return
        for side in (Flag.BUY, Flag.SELL):
            out.levels(symbol, ts_event, book.cut(side), 0)


def _unsync(out: Publisher, symbol: SymbolInfo, book: Book) -> None:
    if book.in_step:
        out.status(symbol, Status.RESYNC)
    book.clear()


def _fixed(symbol: SymbolInfo, rows: Iterable[tuple[str, str]]) -> list[tuple[int, int]] | None:
    """Return prices and sizes; None when one would have to be rounded or does not fit."""
    try:
        return [
            (to_fixed(price, symbol.price_scale), to_fixed(size, symbol.size_scale))
            for price, size in rows
        ]
    except FixedError:
        return None


def _fixed_or_none(text: str | None, scale: int) -> int:
    return ABSENT if text is None else to_fixed(text, scale)
