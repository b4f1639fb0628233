"""Kraken v1 frames to records in plain Python: what native/src/kraken_v1.h must do.

For captures. Arrays, ``[channel id, payload, channel name, pair]``, a book's update in one payload
or two, one a side; numbers as strings, times in decimal seconds, trades without ids. Judged in the
order of mdsys.feed.kraken.reference. docs.kraken.com, "Spot WebSocket v1", read 2026-11.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from mdsys.feed.frame import FrameResult, Record, Refused, SymbolInfo, check_json, malformed
from mdsys.feed.json_events import Fields, Publisher
from mdsys.feed.kraken.book import DEPTHS
from mdsys.feed.kraken.publish import (
    CONDITION_LIMIT,
    CONDITION_MARKET,
    CONDITION_OTHER,
    Desk,
    Rows,
)
from mdsys.feed.kraken.scan import array, string, uint
from mdsys.feed.venue import CHANNELS
from mdsys.record.fixed import FixedError, FixedProblem, to_fixed
from mdsys.record.record import ABSENT, Flag

_OBJECT = msgspec.json.Decoder(Fields)
_ANY = msgspec.json.Decoder(msgspec.Raw)
_BOOKS = {f"book-{depth}": depth for depth in DEPTHS}
_PAYLOADS_MAX = 2
_CRC_MAX = (1 << 32) - 1
_SIDES = {"b": Flag.BUY, "s": Flag.SELL}
_ORDER_TYPES = {"l": CONDITION_LIMIT, "m": CONDITION_MARKET}


class KrakenV1Decoder:
    """One socket's frames, v1.

    Args:
        symbols: By the venue's own name, ``XBT/USD``.
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
            self._message(frame, publisher)
        except Refused as refused:
            return refused.result, publisher.records
        return publisher.result, publisher.records

    def _message(self, frame: bytes, publisher: Publisher) -> None:
        check_json(frame)
        try:
            whole = bytes(_ANY.decode(frame)).strip()
            if whole.startswith(b"{"):
                _answer(_OBJECT.decode(whole))
                return
        except msgspec.DecodeError:
            malformed()
        elements = array(msgspec.Raw(whole))
        if len(elements) < 4:
            malformed()
        if len(elements) > 3 + _PAYLOADS_MAX:
            raise Refused(FrameResult.UNKNOWN_EVENT)
        payloads = elements[1:-2]
        channel, pair = string(elements[-2]), string(elements[-1])
        if channel in _BOOKS:
            self._book(payloads, pair, _BOOKS[channel], publisher)
            return
        if channel not in ("trade", "ticker"):
            raise Refused(FrameResult.UNKNOWN_EVENT)
        if len(payloads) != 1:
            malformed()
        if channel == "trade":
            self._trades(payloads[0], pair, publisher)
        else:
            self._ticker(payloads[0], pair, publisher)

    def _book(
        self, payloads: Sequence[msgspec.Raw], pair: str, depth: int, publisher: Publisher
    ) -> None:
        fields: Fields = {}
        for payload in payloads:
            fields.update(_object(payload))
        snapshot = "as" in fields or "bs" in fields
        if snapshot == ("a" in fields or "b" in fields):
            malformed()
        if not snapshot and "c" not in fields:
            malformed()
        checksum = uint(_between_quotes(fields["c"]), 0, _CRC_MAX) if "c" in fields else None
        times: list[int] = []
        keys = ("bs", "as") if snapshot else ("b", "a")
        sides = (_rows(fields.get(keys[0]), times), _rows(fields.get(keys[1]), times))
        Desk.check_depth(sides)
        symbol = self._symbol(pair, "book")
        if symbol is not None:
            self._desk.book(
                publisher,
                symbol,
                max(times, default=ABSENT),
                sides,
                snapshot=snapshot,
                checksum=checksum,
                depth=depth,
            )

    def _trades(self, payload: msgspec.Raw, pair: str, publisher: Publisher) -> None:
        trades = []
        for raw in array(payload):
            cells = array(raw)
            if len(cells) < 5:
                malformed()
            texts, ts_event = (_number(cells[0]), _number(cells[1])), _time(cells[2])
            side = _SIDES.get(string(cells[3]))
            conditions = _ORDER_TYPES.get(string(cells[4]), CONDITION_OTHER)
            if side is None:
                malformed()
            trades.append((ts_event, texts, int(side), conditions))
        symbol = self._symbol(pair, "trade")
        if symbol is not None:
            for ts_event, texts, flags, conditions in trades:
                self._desk.trade(publisher, symbol, ts_event, texts, None, flags, conditions)

    def _ticker(self, payload: msgspec.Raw, pair: str, publisher: Publisher) -> None:
        fields = _object(payload)
        numbers = []
        for key, count, first, second in (("b", 3, 0, 2), ("a", 3, 0, 2), ("c", 2, 0, 1)):
            cells = array(fields.get(key))
            if len(cells) < count:
                malformed()
            numbers.append((_number(cells[first]), _number(cells[second])))
        volumes = array(fields.get("v"))
        if len(volumes) < 2:
            malformed()
        volume = _number(volumes[1])  # of 24 hours; before it stands today's
        symbol = self._symbol(pair, "quote", "ticker")
        if symbol is not None:
            (bid, bid_size), (ask, ask_size), (last, last_size) = numbers
            self._desk.ticker(
                publisher,
                symbol,
                ABSENT,
                (bid, ask, last),
                (bid_size, ask_size, volume, last_size),
            )

    def _symbol(self, pair: str, *serves: str) -> SymbolInfo | None:
        """Return whose records are wanted; None: nobody's."""
        if not any(channel in self._channels for channel in serves):
            return None
        symbol = self._symbols.get(pair)
        if symbol is None:
            raise Refused(FrameResult.UNKNOWN_SYMBOL)
        return symbol


def _rows(raw: msgspec.Raw | None, times: list[int]) -> Rows:
    """Read one side's rows; their times go to ``times``."""
    rows = []
    for each in () if raw is None else array(raw):
        cells = array(each)
        if len(cells) < 3:
            malformed()
        rows.append((_number(cells[0]), _number(cells[1])))
        times.append(_time(cells[2]))
    return rows


def _answer(fields: Fields) -> None:
    if "event" not in fields:
        raise Refused(FrameResult.UNKNOWN_EVENT)
    event = fields["event"]
    if not bytes(event).startswith(b'"') or string(event) != "heartbeat":
        raise Refused(FrameResult.CONTROL)


def _object(raw: msgspec.Raw) -> Fields:
    if not bytes(raw).startswith(b"{"):
        malformed()
    return _OBJECT.decode(raw)


def _between_quotes(raw: msgspec.Raw) -> str:
    """Return a string's text as it is written."""
    string(raw)
    return bytes(raw)[1:-1].decode()


def _number(raw: msgspec.Raw) -> str:
    """Return the text of a number, given as a string and without a sign."""
    text = _between_quotes(raw)
    try:
        to_fixed(text, 0)
    except FixedError as error:
        if error.problem is FixedProblem.SYNTAX:
            malformed()
    if text[0] in "+-":
        malformed()
    return text


def _time(raw: msgspec.Raw) -> int:
    """Read decimal seconds, as ns."""
    try:
        return to_fixed(_number(raw), 9)
    except FixedError:
        malformed()
