"""Kraken v2 frames to records in plain Python: what native/src/kraken_v2.h must do.

Objects with a channel, numbers as JSON numbers, RFC 3339 times. A frame is judged in this order,
and the first fault refuses all of it: size, JSON, channel, its type and data, then item by item the
values it must have and their types. What is left can only be wrong by itself: an unknown symbol, a
value that does not fit; then the other items go on, and the first such problem names the result.

Wire format: docs.kraken.com, "Spot WebSocket v2" (trade, book, ticker, ohlc), read 2026-11.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import msgspec

from mdsys.feed.frame import FrameResult, Record, Refused, SymbolInfo, check_json, malformed
from mdsys.feed.json_events import Fields, Publisher
from mdsys.feed.kraken.publish import (
    CONDITION_LIMIT,
    CONDITION_MARKET,
    CONDITION_NOT_SAID,
    CONDITION_OTHER,
    Candle,
    Desk,
    Rows,
)
from mdsys.feed.kraken.scan import array, string, uint
from mdsys.feed.venue import CHANNELS
from mdsys.record.fixed import FixedError, to_fixed
from mdsys.record.record import ABSENT, Flag
from mdsys.record.rfc3339 import parse_rfc3339

_OBJECT = msgspec.json.Decoder(Fields)
_TRADE_ID_MAX = (1 << 63) - 2  # so that the id after it fits too
_INT_MAX = (1 << 63) - 1
_CRC_MAX = (1 << 32) - 1
_INTERVAL_MAX = 1_000_000  # minutes
_MINUTE_NS = 60_000_000_000

_ORDER_TYPES = {"limit": CONDITION_LIMIT, "market": CONDITION_MARKET}
_SIDES = {"buy": Flag.BUY, "sell": Flag.SELL}


class _Arrival(NamedTuple):
    """A frame's items are published by this."""

    desk: Desk
    out: Publisher
    ts_recv: int
    snapshot: bool


_Publish = Callable[[_Arrival, SymbolInfo], None]
"""Publishes one item that has been checked."""


class KrakenDecoder:
    """One socket's frames, v2.

    Args:
        symbols: By the venue's own name.
        channels: Those that are wanted.
    """

    def __init__(
        self, symbols: Mapping[str, SymbolInfo], channels: Collection[str] = CHANNELS
    ) -> None:
        self._symbols = symbols
        self._channels = channels
        self._desk = Desk(channels)

    def decode(
        self, frame: bytes, ts_recv: int, connection: int = 0
    ) -> tuple[FrameResult, list[Record]]:
        """Turn one frame into what goes into the ring, status records among it."""
        publisher = Publisher(ts_recv, connection)
        try:
            self._message(frame, publisher, ts_recv)
        except Refused as refused:
            return refused.result, publisher.records
        return publisher.result, publisher.records

    def _message(self, frame: bytes, publisher: Publisher, ts_recv: int) -> None:
        check_json(frame)
        try:
            fields = _OBJECT.decode(frame)
        except msgspec.DecodeError:
            malformed()
        if "channel" not in fields:
            answer = "method" in fields or "error" in fields
            raise Refused(FrameResult.CONTROL if answer else FrameResult.UNKNOWN_EVENT)
        channel = string(fields["channel"])
        if channel not in _DATA:
            if channel == "heartbeat":
                return
            raise Refused(FrameResult.CONTROL if channel == "status" else FrameResult.UNKNOWN_EVENT)
        kind = string(fields.get("type"))
        if kind not in ("snapshot", "update"):
            malformed()
        check, serves = _DATA[channel]
        items: list[tuple[str, _Publish]] = []
        for raw in array(fields.get("data")):
            item = _object(raw)
            items.append((string(item.get("symbol")), check(item)))
        if not any(each in self._channels for each in serves):
            return
        arrival = _Arrival(self._desk, publisher, ts_recv, kind == "snapshot")
        for name, publish in items:
            symbol = self._symbols.get(name)
            if symbol is None:
                publisher.problem(FrameResult.UNKNOWN_SYMBOL)
            else:
                publish(arrival, symbol)


def _trade(item: Fields) -> _Publish:
    side = _SIDES.get(string(item.get("side")))
    texts = (_number(item.get("price")), _number(item.get("qty")))
    ts_event = _time(item.get("timestamp"))
    trade_id = uint(_json_number(item.get("trade_id")), 1, _TRADE_ID_MAX)
    conditions = CONDITION_NOT_SAID
    if "ord_type" in item:
        conditions = _ORDER_TYPES.get(string(item["ord_type"]), CONDITION_OTHER)
    if side is None:
        malformed()

    def publish(arrival: _Arrival, symbol: SymbolInfo) -> None:
        flags = side | Flag.SNAPSHOT if arrival.snapshot else side
        arrival.desk.trade(arrival.out, symbol, ts_event, texts, trade_id, int(flags), conditions)

    return publish


def _book(item: Fields) -> _Publish:
    ts_event = _time(item["timestamp"]) if "timestamp" in item else ABSENT
    checksum = uint(_json_number(item.get("checksum")), 0, _CRC_MAX)
    sides = (_rows(item.get("bids")), _rows(item.get("asks")))
    Desk.check_depth(sides)

    def publish(arrival: _Arrival, symbol: SymbolInfo) -> None:
        arrival.desk.book(
            arrival.out, symbol, ts_event, sides, snapshot=arrival.snapshot, checksum=checksum
        )

    return publish


def _rows(raw: msgspec.Raw | None) -> Rows:
    rows = []
    for each in () if raw is None else array(raw):
        level = _object(each)
        rows.append((_number(level.get("price")), _number(level.get("qty"))))
    return rows


def _ticker(item: Fields) -> _Publish:
    if not {"bid", "bid_qty", "ask", "ask_qty"} <= item.keys():
        malformed()
    prices = [_number_or_none(item.get(key)) for key in ("bid", "ask", "last")]
    sizes = [_number_or_none(item.get(key)) for key in ("bid_qty", "ask_qty", "volume")]
    ts_event = _time(item["timestamp"]) if "timestamp" in item else ABSENT

    def publish(arrival: _Arrival, symbol: SymbolInfo) -> None:
        arrival.desk.ticker(arrival.out, symbol, ts_event, prices, [*sizes, None])

    return publish


def _ohlc(item: Fields) -> _Publish:
    prices = [_number(item.get(key)) for key in ("open", "high", "low", "close", "vwap")]
    volume = _number(item.get("volume"))
    begin = _time(item.get("interval_begin"))
    trade_count = uint(_json_number(item.get("trades")), 0, _INT_MAX)
    interval = uint(_json_number(item.get("interval")), 1, _INTERVAL_MAX)

    def publish(arrival: _Arrival, symbol: SymbolInfo) -> None:
        try:
            first, high, low, last, vwap = (to_fixed(p, symbol.price_scale) for p in prices)
            fixed = to_fixed(volume, symbol.size_scale)
        except FixedError:
            arrival.out.refuse_value(symbol)
            return
        volumes = (fixed, vwap, trade_count, interval * _MINUTE_NS)
        candle = Candle(begin, (first, high, low, last), volumes)
        arrival.desk.candle(arrival.out, symbol, candle, arrival.ts_recv, snapshot=arrival.snapshot)

    return publish


_Check = Callable[[Fields], _Publish]
_DATA: Mapping[str, tuple[_Check, tuple[str, ...]]] = {
    "trade": (_trade, ("trade",)),
    "book": (_book, ("book",)),
    "ticker": (_ticker, ("quote", "ticker")),
    "ohlc": (_ohlc, ("bar",)),
}
"""Kraken's channel -> how an item is checked, and the channels it serves."""


def _object(raw: msgspec.Raw) -> Fields:
    if not bytes(raw).startswith(b"{"):
        malformed()
    return _OBJECT.decode(raw)


def _json_number(raw: msgspec.Raw | None) -> str:
    """Return the text of a number; anything else is malformed."""
    text = b"" if raw is None else bytes(raw)
    if not text or text[:1] not in b"-0123456789":
        malformed()
    return text.decode()


def _number(raw: msgspec.Raw | None) -> str:
    """Return the text of a number without a sign."""
    text = _json_number(raw)
    if text.startswith("-"):
        malformed()
    return text


def _number_or_none(raw: msgspec.Raw | None) -> str | None:
    return None if raw is None or bytes(raw) == b"null" else _number(raw)


def _time(raw: msgspec.Raw | None) -> int:
    ns = parse_rfc3339(string(raw))
    if ns is None:
        malformed()
    return ns
