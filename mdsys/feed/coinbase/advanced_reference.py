"""Advanced Trade to records in plain Python: a numbered envelope, and in it an array of events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from mdsys.feed.coinbase.reference import Depth, Reference, Ticker, Trade
from mdsys.feed.coinbase.values import (
    Fields,
    array_of,
    id_of,
    maybe_string,
    number,
    object_fields,
    optional_number,
    string,
    time_of,
)
from mdsys.feed.frame import FrameResult, SymbolInfo, malformed
from mdsys.feed.sequence import Ids, Order
from mdsys.feed.sequence import Sequence as Numbering
from mdsys.feed.venue import CHANNELS
from mdsys.record.record import ABSENT, Flag, Status

_MAKERS: Final[Mapping[str | None, Flag]] = {"BUY": Flag.SELL, "SELL": Flag.BUY}
"""The maker's side -> the aggressor's."""
_BOOK_SIDES: Final[Mapping[str | None, Flag]] = {
    "bid": Flag.BUY,
    "offer": Flag.SELL,
    "ask": Flag.SELL,
}
_Event = Trade | Ticker | Depth


class AdvancedReference(Reference):
    """Advanced Trade: a numbered envelope, and in it an array of events.

    Only a frame that is right has its number noted: one that is refused leaves a hole, and the next
    one tells of the loss and takes the books out of step. One that fills a hole is late.
    """

    def __init__(
        self, symbols: Mapping[str, SymbolInfo], channels: Collection[str] = CHANNELS
    ) -> None:
        super().__init__(symbols, channels)
        self._numbers: dict[int, Numbering] = {}  # connection -> sequence_num + 1: 0 is none

    def message(self, fields: Fields) -> FrameResult:
        """Judge the whole frame, note its number, and publish its events."""
        if "channel" not in fields:
            is_error = maybe_string(fields.get("type", b"")) == "error"
            return FrameResult.CONTROL if is_error else FrameResult.UNKNOWN_EVENT
        channel = string(fields, "channel")
        number = fields.get("sequence_num", b"")
        sequence = 0 if number == b"0" else id_of(number.decode("utf-8", "replace"))
        if sequence is None:
            malformed()
        reader = _READERS.get(channel)
        if reader is None:
            again = self._order(sequence) is Order.AGAIN
            if channel == "subscriptions" and not again:
                return FrameResult.CONTROL
            known = channel in ("subscriptions", "heartbeats")
            return FrameResult.OK if known else FrameResult.UNKNOWN_EVENT
        ts_sent = time_of(fields.get("timestamp", b""))
        events = [
            item
            for raw in array_of(fields.get("events", b""))
            for item in _advanced_event(raw, reader, ts_sent)
        ]
        order = self._order(sequence)
        if order is Order.AGAIN:
            return FrameResult.OK
        return self.publish(events, late=order is Order.LATE)

    def _order(self, sequence: int) -> Order:
        """Note a frame's number; a hole takes the connection's books out of step."""
        numbers = self._numbers.setdefault(self.connection, Numbering())

        def announce(first: int, last: int) -> None:
            self.status(None, Status.GAP, first - 1, last - 1)
            for symbol in self.symbols.values():
                if self.books.get(symbol.symbol_id) == self.connection:
                    self.unsync(symbol)

        order = numbers.order(sequence + 1, sequence + 1, announce, restarts=False)
        numbers.note(sequence + 1)
        return order


class _Reader(NamedTuple):
    """How a channel's events are read."""

    items: str
    """The array's key."""
    read: Callable[[Fields, list[Fields], int, int], list[_Event]]
    """Event, its items, the envelope's time, MD_FLAG_SNAPSHOT or 0."""


def _advanced_event(raw: bytes, reader: _Reader, ts_sent: int) -> list[_Event]:
    event = object_fields(raw)
    kind = maybe_string(event.get("type", b""))
    if kind not in ("snapshot", "update"):
        malformed()
    items = [object_fields(item) for item in array_of(event.get(reader.items, b""))]
    return reader.read(event, items, ts_sent, Flag.SNAPSHOT if kind == "snapshot" else 0)


def _read_trades(_event: Fields, items: list[Fields], _ts_sent: int, flags: int) -> list[_Event]:
    """Oldest first: snapshots come newest first."""
    trades = [_advanced_trade(item, flags) for item in items]
    ids = [ABSENT if trade.id is None else trade.id for trade in trades]
    return list(reversed(trades)) if ids and ids[-1] < ids[0] else list(trades)


def _advanced_trade(fields: Fields, flags: int) -> Trade:
    product, side = string(fields, "product_id"), string(fields, "side")
    trade_id = id_of(string(fields, "trade_id"))
    ts_event = time_of(fields.get("time", b""))
    price, size = (number(fields.get(key, b"")) for key in ("price", "size"))
    ids = Ids.CONTIGUOUS if product.count("-") < 2 else Ids.ASCENDING  # spot products, and others
    return Trade(product, ts_event, flags | _MAKERS.get(side, Flag(0)), price, size, trade_id, ids)


def _read_tickers(_event: Fields, items: list[Fields], ts_sent: int, _flags: int) -> list[_Event]:
    quote = ("best_bid", "best_ask", "best_bid_quantity", "best_ask_quantity")
    return [
        Ticker(
            string(item, "product_id"),
            ts_sent,
            [optional_number(item, key) for key in quote],
            [optional_number(item, "price"), None, optional_number(item, "volume_24_h")],
        )
        for item in items
    ]


def _read_levels(event: Fields, items: list[Fields], ts_sent: int, flags: int) -> list[_Event]:
    product = string(event, "product_id")
    levels, times = [], []
    for item in items:
        times.append(time_of(item.get("event_time", b"")))
        side = _BOOK_SIDES.get(maybe_string(item.get("side", b"")))
        if side is None:
            malformed()
        price, size = (number(item.get(key, b"")) for key in ("price_level", "new_quantity"))
        levels.append((side, price, size))
    newest = max(times, default=0)
    return [Depth(product, newest if newest > 0 else ts_sent, flags, levels)]


_READERS: Final[Mapping[str, _Reader]] = {
    "l2_data": _Reader("updates", _read_levels),
    "market_trades": _Reader("trades", _read_trades),
    "ticker": _Reader("tickers", _read_tickers),
}
