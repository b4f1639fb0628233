"""OpenAlgo frames to records in plain Python: what native/src/decode_openalgo.c must do.

One event a frame, {"type":"market_data","symbol":"SBIN","exchange":"NSE","mode":3,"data":{..}}.
Facts: github.com/marketcalls/openalgo, websocket_proxy/server.py and the adapters of
broker/*/streaming, read 2026-11; the project's documents differ from its server. Some thirty
adapters fill ``data``, each a little differently, so what they leave open is read as follows.

- The symbol's name is EXCHANGE:SYMBOL, of the message; the broker's may stand within ``data``.
- A number may be bare or a text. It is taken digit by digit: a price that an adapter's arithmetic
  has left as 779.4500000000001 is refused, not rounded, since nothing tells noise from a digit that
  is meant. With the usual 8 decimals, 779.4499999 is a price like any other.
- ltp makes a ticker; without it there is none. The last quantity is called last_quantity, ltq or
  last_trade_quantity, the open interest oi or open_interest: the first that is there counts. What
  is null is not there.
- depth is the whole book, up to 100 levels a side. A level without a quantity, or with 0, is none.
  The quote is the best price of each side, wherever it stands; a side without levels has none.
- timestamp is meant to be ms; some adapters send seconds. Integers are told apart by their size,
  anything else is no time. It is the proxy's or the broker's, not the exchange's.
- Data with neither ltp nor depth is an unknown event.
- Depth that is refused, or comes with a value that is, leaves the book of before behind: it is out
  of step.

Judged in this order, and the first fault names the result: size, JSON, ``type``, the values' types,
the symbol, then the values in the order ticker, bids, asks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from mdsys.feed.frame import (
    NO_LEVEL,
    FrameResult,
    Record,
    Refused,
    SymbolInfo,
    check_json,
    malformed,
)
from mdsys.record.fixed import FixedError, FixedProblem, to_fixed
from mdsys.record.record import ABSENT, Flag, Kind, Status

_Fields = dict[str, msgspec.Raw]
_OBJECT = msgspec.json.Decoder(_Fields)
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_STRING = msgspec.json.Decoder(str)

ROWS_MAX = 100
"""Levels of a side."""

_NUMBERS = ("ltp", "volume", "last_quantity", "ltq", "last_trade_quantity", "oi", "open_interest")
_ROW = ("price", "quantity", "orders")
_UNITS = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3), (10**18, 1))
_Values = tuple[int, int, int, int]


class _Level(NamedTuple):
    price: int
    size: int
    orders: int


class ReferenceDecoder:
    """One feed's decoder; all that it remembers is whose books are usable.

    Args:
        symbols: By EXCHANGE:SYMBOL.
        channels: Those that are wanted.
    """

    def __init__(self, symbols: Mapping[str, SymbolInfo], channels: Collection[str]) -> None:
        self._symbols = symbols
        self._channels = channels
        self._usable: set[int] = set()

    def decode(
        self, frame: bytes, ts_recv: int, connection: int = 0
    ) -> tuple[FrameResult, list[Record]]:
        """Turn one frame into what goes into the ring, status records among it."""
        try:
            fields = _message(frame)
            symbol, data, depth = self._event(fields)
            try:
                return FrameResult.OK, self._records(symbol, data, depth, ts_recv)
            except Refused as refused:
                if refused.result is not FrameResult.VALUE:
                    raise
            said = [Status.VALUE_REFUSED]
            if depth is not None and symbol.symbol_id in self._usable:
                self._usable.remove(symbol.symbol_id)
                said.append(Status.RESYNC)
            head = (ts_recv, ts_recv, symbol.symbol_id, Kind.STATUS, int(Flag.LAST), 0, 0)
            return FrameResult.VALUE, [
                Record(*head, (int(what), ABSENT, ABSENT, connection)) for what in said
            ]
        except Refused as refused:
            return refused.result, []

    def _event(self, fields: _Fields) -> tuple[SymbolInfo, _Fields, _Depth | None]:
        if _text(fields.get("type")) != "market_data":
            raise Refused(FrameResult.CONTROL)
        name = f"{_text(fields.get('exchange'))}:{_text(fields.get('symbol'))}"
        data = _object(fields.get("data"))
        for key in _NUMBERS:
            _check_number(data.get(key))
        depth = _depth(data.get("depth"))
        if _absent(data.get("ltp")) and depth is None:
            raise Refused(FrameResult.UNKNOWN_EVENT)
        symbol = self._symbols.get(name)
        if symbol is None:
            raise Refused(FrameResult.UNKNOWN_SYMBOL)
        return symbol, data, depth

    def _records(
        self, symbol: SymbolInfo, data: _Fields, depth: _Depth | None, ts_recv: int
    ) -> list[Record]:
        records: list[Record] = []
        ts_event = _time(data.get("timestamp"))

        def add(kind: Kind, flags: int, body: _Values) -> None:
            scales = (symbol.price_scale, symbol.size_scale)
            head = (ts_event, ts_recv, symbol.symbol_id, kind, int(flags), *scales)
            records.append(Record(*head, body))

        if "ticker" in self._channels and not _absent(data.get("ltp")):
            add(Kind.TICKER, Flag.LAST, _ticker(data, symbol))
        if depth is None or not {"quote", "book"} & set(self._channels):
            return records
        bids, asks = (_levels(side, symbol) for side in depth)
        if "quote" in self._channels:
            none = _Level(ABSENT, ABSENT, 0)
            bid = max(bids, key=lambda level: level.price, default=none)
            ask = min(asks, key=lambda level: level.price, default=none)
            add(Kind.QUOTE, Flag.LAST, (bid.price, ask.price, bid.size, ask.size))
        if "book" in self._channels:
            levels = [(Flag.BUY, level) for level in bids] + [(Flag.SELL, level) for level in asks]
            levels = levels or [(Flag(0), _Level(*NO_LEVEL, ABSENT))]
            self._usable.add(symbol.symbol_id)
            for i, (side, level) in enumerate(levels):
                last = Flag.LAST if i == len(levels) - 1 else 0
                flags = side | Flag.SNAPSHOT | last
                add(Kind.LEVEL, flags, (level.price, level.size, level.orders, ABSENT))
        return records


_Depth = tuple[Sequence[_Fields], Sequence[_Fields]]
"""Rows of the bids and of the asks."""


def _message(frame: bytes) -> _Fields:
    """Return a frame's values as they are written, if it can be a market_data."""
    check_json(frame)
    try:
        fields = _OBJECT.decode(frame)
    except msgspec.DecodeError:
        malformed()
    if _absent(fields.get("type")):
        answer = not _absent(fields.get("status"))  # an error has no type
        raise Refused(FrameResult.CONTROL if answer else FrameResult.UNKNOWN_EVENT)
    return fields


def _absent(raw: msgspec.Raw | None) -> bool:
    return raw is None or bytes(raw) == b"null"


def _text(raw: msgspec.Raw | None) -> str:
    if raw is None or not bytes(raw).startswith(b'"'):
        malformed()
    return _STRING.decode(raw)


def _object(raw: msgspec.Raw | None) -> _Fields:
    if raw is None or not bytes(raw).startswith(b"{"):
        malformed()
    return _OBJECT.decode(raw)


def _check_number(raw: msgspec.Raw | None) -> None:
    if raw is not None and not _absent(raw) and bytes(raw)[:1] not in b'"-0123456789':
        malformed()


def _depth(raw: msgspec.Raw | None) -> _Depth | None:
    """Return the rows of both sides; None when neither is there."""
    if _absent(raw):
        return None
    fields = _object(raw)
    sides = [fields.get("buy"), fields.get("sell")]
    if all(_absent(side) for side in sides):
        return None
    bids, asks = (_rows(side) for side in sides)
    return bids, asks


def _rows(raw: msgspec.Raw | None) -> Sequence[_Fields]:
    if raw is None or _absent(raw):
        return ()
    if not bytes(raw).startswith(b"["):
        malformed()
    rows = [_object(row) for row in _ARRAY.decode(raw)]
    if len(rows) > ROWS_MAX:
        malformed()
    for row in rows:
        for key in _ROW:
            _check_number(row.get(key))
    return rows


def _fixed(raw: msgspec.Raw | None, scale: int) -> int:
    """Return a number, bare or a text; ABSENT for none."""
    if raw is None or _absent(raw):
        return ABSENT
    try:
        return to_fixed(bytes(raw).decode().strip('"'), scale)
    except FixedError as error:
        if error.problem is FixedProblem.SYNTAX:
            malformed()
        raise Refused(FrameResult.VALUE) from None


def _ticker(data: _Fields, symbol: SymbolInfo) -> _Values:
    def first(*keys: str) -> msgspec.Raw | None:
        return next((data[key] for key in keys if not _absent(data.get(key))), None)

    return (
        _fixed(data.get("ltp"), symbol.price_scale),
        _fixed(first("last_quantity", "ltq", "last_trade_quantity"), symbol.size_scale),
        _fixed(data.get("volume"), symbol.size_scale),
        _fixed(first("oi", "open_interest"), symbol.size_scale),
    )


def _levels(rows: Sequence[_Fields], symbol: SymbolInfo) -> list[_Level]:
    levels = []
    for row in rows:
        size = _fixed(row.get("quantity"), symbol.size_scale)
        price = _fixed(row.get("price"), symbol.price_scale)
        orders = _fixed(row.get("orders"), 0)
        if size in (0, ABSENT):
            continue
        if price == ABSENT or size < 0:
            malformed()
        levels.append(_Level(price, size, orders))
    return levels


def _time(raw: msgspec.Raw | None) -> int:
    """Return ns since the epoch of an integer of s, ms, us or ns; ABSENT for anything else."""
    text = b"" if raw is None else bytes(raw)
    if not text.isdigit() or len(text) > 18 or int(text) == 0:
        return ABSENT
    written = int(text)
    ns = written * next(unit for below, unit in _UNITS if written < below)
    return ns if ns < 1 << 63 else ABSENT
