"""Alpaca frames to records in plain Python: native/src/decode_alpaca.c, event by event.

Sources: docs.alpaca.markets, "Real-time Stock Data" and "Real-time Crypto Data", read 2026-11.

- Quotes' sizes are published as they are sent: shares in streams of 2026, round lots in older ones.
- Trade ids are unique for one exchange and day only, and have holes: they are carried, not checked.
- Of bars ``b`` (the minute that has ended) and ``u`` (the same minute anew, because a late trade
  changed it: the newer one counts) are published, ``ts_event`` being when the minute began. ``d``,
  the day so far, is not.
- ``vwap`` is an average that the venue computes in floating point. Where it cannot be held exactly
  the bar goes out without it, after a VALUE_REFUSED status.
- A correction (``c``), a cancel (``x``) or a halt (``s``) is no trade. There is no record for them:
  such frames are control frames, and the talk passes them on in words.
- LULD bands (``l``) and imbalances (``i``) are passed over; nobody subscribes to them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from mdsys.feed.alpaca import conditions
from mdsys.feed.frame import FrameResult, Record, SymbolInfo
from mdsys.feed.json_events import (
    Fields,
    Level,
    Publisher,
    Refused,
    array,
    events,
    fixed,
    integer,
    malformed,
    number,
    objects,
    text,
    value,
)
from mdsys.record.record import ABSENT, Flag, Kind, Status
from mdsys.record.rfc3339 import parse_rfc3339

MINUTE_NS: Final = 60 * 10**9

_CONTROL = frozenset({"success", "error", "subscription", "c", "x", "s"})
_PASSED_OVER = frozenset({"d", "l", "i"})
_CHANNELS: Final = {"t": "trade", "q": "quote", "b": "bar", "u": "bar", "o": "book"}
_TAKER_SIDES: Final = {"B": Flag.BUY, "S": Flag.SELL}


class _Event:
    """One event whose values are there and of their types."""

    def __init__(self, fields: Fields) -> None:
        self.kind = text(value(fields, "T"))
        if self.kind not in _CHANNELS:
            return
        self._fields = fields
        self.symbol = text(value(fields, "S"))
        ts_event = parse_rfc3339(text(value(fields, "t")))
        if ts_event is None:
            malformed()
        self.ts_event: int = ts_event
        getattr(self, f"_read_{_CHANNELS[self.kind]}")()

    def _numbers(self, *keys: str) -> tuple[str, ...]:
        return tuple(number(value(self._fields, key)) for key in keys)

    def _read_trade(self) -> None:
        self.prices, self.sizes = self._numbers("p"), self._numbers("s")
        self.trade_id = integer(value(self._fields, "i"))
        codes = array(value(self._fields, "c"))
        self.conditions = conditions.pack(None if codes is None else [text(code) for code in codes])
        side = value(self._fields, "tks")
        self.side = 0 if side is None else _TAKER_SIDES.get(text(side), 0)

    def _read_quote(self) -> None:
        self.prices, self.sizes = self._numbers("bp", "ap"), self._numbers("bs", "as")

    def _read_bar(self) -> None:
        self.prices, self.sizes = self._numbers("o", "h", "l", "c"), self._numbers("v")
        self.trade_count = integer(value(self._fields, "n"))
        vwap = value(self._fields, "vw")
        self.vwap = None if vwap is None else number(vwap)

    def _read_book(self) -> None:
        self.rows = [
            (side, number(value(row, "p")), number(value(row, "s")))
            for side, key in ((Flag.BUY, "b"), (Flag.SELL, "a"))
            for row in objects(value(self._fields, key))
        ]
        reset = value(self._fields, "r")
        if reset not in {None, b"true", b"false"}:
            malformed()
        self.flags = Flag.SNAPSHOT if reset == b"true" else 0


class ReferenceDecoder:
    """Alpaca's decoder.

    Args:
        symbols: By the venue's own name.
        channels: Those that are wanted.
    """

    def __init__(self, symbols: Mapping[str, SymbolInfo], channels: Collection[str]) -> None:
        self._symbols = symbols
        self._channels = channels
        self._books_in_step: set[int] = set()

    def decode(
        self, frame: bytes, ts_recv: int, connection: int = 0
    ) -> tuple[FrameResult, list[Record]]:
        """Turn one frame into what goes into the ring, status records among it."""
        try:
            found = [_Event(fields) for fields in events(frame)]
        except Refused as refused:
            return refused.result, []
        out = Publisher(ts_recv, connection)
        for event in found:
            self._publish(event, out)
        return out.result, out.records

    def _publish(self, event: _Event, out: Publisher) -> None:
        if event.kind in _CONTROL:
            out.problem(FrameResult.CONTROL)
        elif event.kind not in _CHANNELS:
            if event.kind not in _PASSED_OVER:
                out.problem(FrameResult.UNKNOWN_EVENT)
        elif (channel := _CHANNELS[event.kind]) in self._channels:
            symbol = self._symbols.get(event.symbol)
            if symbol is None:
                out.problem(FrameResult.UNKNOWN_SYMBOL)
            else:
                getattr(self, f"_publish_{channel}")(event, symbol, out)

    def _publish_trade(self, event: _Event, symbol: SymbolInfo, out: Publisher) -> None:
        price = fixed(symbol.price_scale, *event.prices)
        size = fixed(symbol.size_scale, *event.sizes)
        if price is None or size is None:
            out.refuse_value(symbol, event.trade_id, event.trade_id)
            return
        body = (price[0], size[0], event.trade_id, event.conditions)
        out.record(symbol, Kind.TRADE, event.ts_event, body, event.side)

    def _publish_quote(self, event: _Event, symbol: SymbolInfo, out: Publisher) -> None:
        prices = fixed(symbol.price_scale, *event.prices)
        sizes = fixed(symbol.size_scale, *event.sizes)
        if prices is None or sizes is None:
            out.refuse_value(symbol)
            return
        body = (prices[0], prices[1], sizes[0], sizes[1])
        out.record(symbol, Kind.QUOTE, event.ts_event, body)

    def _publish_bar(self, event: _Event, symbol: SymbolInfo, out: Publisher) -> None:
        prices = fixed(symbol.price_scale, *event.prices)
        volume = fixed(symbol.size_scale, *event.sizes)
        vwap: list[int] | None = [ABSENT]
        if event.vwap is not None:
            vwap = fixed(symbol.price_scale, event.vwap)
        if prices is None or volume is None or vwap is None:
            out.refuse_value(symbol)
        if prices is None or volume is None:
            return
        volumes = (volume[0], vwap[0] if vwap else ABSENT, event.trade_count, MINUTE_NS)
        out.bar(symbol, event.ts_event, (prices[0], prices[1], prices[2], prices[3]), volumes)

    def _publish_book(self, event: _Event, symbol: SymbolInfo, out: Publisher) -> None:
        levels: list[Level] = []
        for side, written_price, written_size in event.rows:
            price = fixed(symbol.price_scale, written_price)
            size = fixed(symbol.size_scale, written_size)
            if price is None or size is None:
                out.refuse_value(symbol)
                if symbol.symbol_id in self._books_in_step:  # it lacks these changes from now on
                    self._books_in_step.remove(symbol.symbol_id)
                    out.status(symbol, Status.RESYNC)
                return
            levels.append((side, price[0], size[0]))
        out.levels(symbol, event.ts_event, levels, event.flags)
        if event.flags:
            self._books_in_step.add(symbol.symbol_id)
