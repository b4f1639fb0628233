"""Binance frames to records in plain Python: what the C decoder must do, frame by frame.

Slow and plain on purpose; a model for whoever adds a venue. native/src/decode_binance.c is held
against it on every captured frame and on generated ones, refusals included. A frame is judged in
this order, and the first fault names its result: size, JSON, kind of message, the values it must
have and their types, the symbol, then prices and sizes in the record's order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Sequence as Items
from typing import Final, NamedTuple, NoReturn

import msgspec

from mdsys.feed.frame import FrameResult, Record, Refused, SymbolInfo, check_json, malformed
from mdsys.feed.sequence import Announce, Order, Sequence
from mdsys.record.fixed import FixedError, FixedProblem, to_fixed
from mdsys.record.record import ABSENT, Flag, Kind, Status

_Fields = dict[str, msgspec.Raw]
_OBJECT = msgspec.json.Decoder(_Fields)
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_STRING = msgspec.json.Decoder(str)

CONDITIONS: Final[Mapping[str, int]] = {"MARKET": 0, "INSURANCE_FUND": 1, "ADL": 2, "NA": 3}
"""A USD-M trade's X -> the record's conditions."""
CONDITION_OTHER: Final = 255

_ANSWER_KEYS = ("id", "result", "error", "code")
_ID_MAX = (1 << 63) - 2  # so that the id after it fits too
_TEXT_SIZE_MAX = 127  # bytes of a number in text form


class _Arrival(NamedTuple):
    ts_recv: int
    connection: int


class ReferenceDecoder:
    """One venue's decoder, with the ids it has seen last. It keeps no book.

    Args:
        symbols: By the venue's own name.
        futures: USD-M and coin-M: a depth frame continues the one whose ``u`` is its ``pu``.
            Spot: the one whose ``u`` is its ``U`` - 1.
    """

    def __init__(
        self,
        symbols: Mapping[str, SymbolInfo],
        *,
        futures: bool,
    ) -> None:
        self._symbols = symbols
        self._futures = futures
        self._sequences: defaultdict[tuple[Kind, int], Sequence] = defaultdict(Sequence)
        self._quotes: dict[int, tuple[int, tuple[int, int, int, int]]] = {}

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
        records: list[Record] = []
        try:
            self._message(_fields(frame), _Arrival(ts_recv, connection), records)
        except Refused as refused:
            return refused.result, records
        return FrameResult.OK, records

    def _message(self, fields: _Fields, arrival: _Arrival, out: list[Record]) -> None:
        if "e" in fields:
            event = _text(fields["e"])
        elif any(key in fields for key in _ANSWER_KEYS):
            raise Refused(FrameResult.CONTROL)
        else:
            event = "bookTicker" if "u" in fields else ""  # spot sends that one without "e"
        if event == "trade":
            self._trade(fields, arrival, out)
        elif event == "bookTicker":
            self._quote(fields, arrival, out)
        elif event == "depthUpdate":
            self._depth(fields, arrival, out)
        elif event == "serverShutdown":
            raise Refused(FrameResult.CONTROL)
        else:
            raise Refused(FrameResult.UNKNOWN_EVENT)

    def _trade(self, fields: _Fields, arrival: _Arrival, out: list[Record]) -> None:
        name, ts_event = _text(_value(fields, "s")), _time(fields)
        trade_id = _uint(_value(fields, "t"))
        numbers = [_number(_value(fields, key)) for key in "pq"]
        maker = bytes(_value(fields, "m"))
        conditions = CONDITIONS["MARKET"]
        if "X" in fields:
            conditions = CONDITIONS.get(_text(fields["X"]), CONDITION_OTHER)
        if maker not in (b"true", b"false"):
            malformed()
        symbol = self._symbol(name)
        values = _values(numbers, [symbol.price_scale, symbol.size_scale])
        sequence = self._sequences[Kind.TRADE, symbol.symbol_id]
        order = sequence.order(trade_id, trade_id, _announce(symbol, arrival, out))
        if order is Order.AGAIN:
            return
        sequence.note(trade_id)
        if values is None:
            _refuse_value(symbol, trade_id, trade_id, arrival, out)
        side = Flag.SELL if maker == b"true" else Flag.BUY  # the aggressor's
        body = (values[0], values[1], trade_id, conditions)
        out.append(_record(symbol, Kind.TRADE, side | Flag.LAST, ts_event, arrival, body))

    def _quote(self, fields: _Fields, arrival: _Arrival, out: list[Record]) -> None:
        name, ts_event = _text(_value(fields, "s")), _time(fields)
        update_id = _uint(_value(fields, "u"))
        numbers = [_number(_value(fields, key)) for key in "baBA"]
        symbol = self._symbol(name)
        scales = [symbol.price_scale] * 2 + [symbol.size_scale] * 2
        values = _values(numbers, scales)
        sequence = self._sequences[Kind.QUOTE, symbol.symbol_id]
        if values is None:
            sequence.note(update_id)
            _refuse_value(symbol, update_id, update_id, arrival, out)
        body = (values[0], values[1], values[2], values[3])
        # Ids ascend with holes by design, and one id may tell of several changes.
        if update_id >= sequence.last:
            if update_id == sequence.last and self._quotes.get(symbol.symbol_id) == (
                ts_event,
                body,
            ):
                return
            self._quotes[symbol.symbol_id] = (ts_event, body)
            sequence.note(update_id)
        out.append(_record(symbol, Kind.QUOTE, Flag.LAST, ts_event, arrival, body))

    def _depth(self, fields: _Fields, arrival: _Arrival, out: list[Record]) -> None:
        name, ts_event = _text(_value(fields, "s")), _time(fields)
        first, latest = _uint(_value(fields, "U")), _uint(_value(fields, "u"))
        sides = [bytes(_value(fields, key)) for key in "ba"]
        if first > latest or not all(side.startswith(b"[") for side in sides):
            malformed()
        if self._futures:
            first = _uint(_value(fields, "pu")) + 1
            if first > latest:
                malformed()
        symbol = self._symbol(name)
        levels = _levels(sides, symbol)
        sequence = self._sequences[Kind.LEVEL, symbol.symbol_id]
        order = sequence.order(first, latest, _announce(symbol, arrival, out))
        if order is not Order.NEXT:
            return  # older than the book: quantities are absolute, so it tells nothing
        sequence.note(latest)
        if levels is None:
            _refuse_value(symbol, first, latest, arrival, out)
        for i, (side, price, size) in enumerate(levels):
            flags = side | Flag.LAST if i == len(levels) - 1 else side
            body = (price, size, ABSENT, latest)
            out.append(_record(symbol, Kind.LEVEL, flags, ts_event, arrival, body))

    def _symbol(self, name: str) -> SymbolInfo:
        symbol = self._symbols.get(name)
        if symbol is None:
            raise Refused(FrameResult.UNKNOWN_SYMBOL)
        return symbol


def _fields(frame: bytes) -> _Fields:
    """Return the message's values as they are written, the ``data`` of a combined stream's."""
    check_json(frame)
    try:
        fields = _OBJECT.decode(frame)
        if bytes(fields.get("data", b"")).startswith(b"{"):
            fields = _OBJECT.decode(fields["data"])
    except msgspec.DecodeError:
        malformed()
    return fields


def _value(fields: _Fields, key: str) -> msgspec.Raw:
    if key not in fields:
        malformed()
    return fields[key]


def _text(raw: msgspec.Raw) -> str:
    if not bytes(raw).startswith(b'"'):
        malformed()
    return _STRING.decode(raw)


def _uint(raw: msgspec.Raw) -> int:
    text = bytes(raw)
    if not text.isdigit() or len(text) > 19 or int(text) > _ID_MAX:
        malformed()
    return int(text)


def _number(raw: msgspec.Raw) -> str:
    """Return the text of a number, given as a string or bare."""
    text = bytes(raw)
    if text.startswith(b'"'):
        return _STRING.decode(raw)
    if text[:1] not in b"-0123456789":
        malformed()
    return text.decode()


def _time(fields: _Fields) -> int:
    """Return the event's own time, else the message's, else ABSENT, in ns."""
    ts_event = ABSENT
    for key in "ET":
        if key in fields:
            written = _uint(fields[key])
            ts_event = written * (1_000_000 if written < 10**13 else 1_000)  # ms, or us
            if ts_event >= 1 << 63:
                malformed()
    return ts_event


def _values(texts: Items[str], scales: Items[int]) -> list[int] | None:
    """Return the fixed-point values; None when one would have to be rounded or does not fit."""
    values = []
    for text, scale in zip(texts, scales, strict=True):
        if len(text.encode()) > _TEXT_SIZE_MAX:
            malformed()
        try:
            values.append(to_fixed(text, scale))
        except FixedError as error:
            if error.problem is FixedProblem.SYNTAX:
                malformed()
            return None
    return values


def _levels(sides: Items[bytes], symbol: SymbolInfo) -> list[tuple[Flag, int, int]] | None:
    levels = []
    for side, rows in zip((Flag.BUY, Flag.SELL), sides, strict=True):
        for row in _ARRAY.decode(rows):
            if not bytes(row).startswith(b"["):
                malformed()
            cells = _ARRAY.decode(row)
            if len(cells) < 2:  # more than two are fine: spot sent an empty list there until 2019
                malformed()
            values = []
            for cell, scale in zip(cells, (symbol.price_scale, symbol.size_scale), strict=False):
                value = _values([_number(cell)], [scale])
                if value is None:
                    return None
                values += value
            if values[1] < 0:  # no quantity
                malformed()
            levels.append((side, values[0], values[1]))
    return levels


def _record(
    symbol: SymbolInfo,
    kind: Kind,
    flags: int,
    ts_event: int,
    arrival: _Arrival,
    body: tuple[int, int, int, int],
) -> Record:
    return Record(
        ts_event,
        arrival.ts_recv,
        symbol.symbol_id,
        kind,
        int(flags),
        symbol.price_scale,
        symbol.size_scale,
        body,
    )


def _announce(symbol: SymbolInfo, arrival: _Arrival, out: list[Record]) -> Announce:
    def announce(first: int, last: int) -> None:
        out.append(_status(symbol, Status.GAP, first, last, arrival))

    return announce


def _status(
    symbol: SymbolInfo, what: Status, first_lost: int, last_lost: int, arrival: _Arrival
) -> Record:
    body = (int(what), first_lost, last_lost, arrival.connection)
    ts = arrival.ts_recv
    return Record(ts, ts, symbol.symbol_id, Kind.STATUS, int(Flag.LAST), 0, 0, body)


def _refuse_value(
    symbol: SymbolInfo, first: int, latest: int, arrival: _Arrival, out: list[Record]
) -> NoReturn:
    out.append(_status(symbol, Status.VALUE_REFUSED, first, latest, arrival))
    raise Refused(FrameResult.VALUE)
