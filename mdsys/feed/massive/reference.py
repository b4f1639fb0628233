"""Massive frames to records in plain Python: native/src/decode_massive.c, event by event.

Sources, read 2026-11: massive.com/docs/websocket/stocks (trades, quotes, aggregates), the model
classes of polygon-io/client-python, and frames of 2026 that public projects hold in their tests.

- ``ds`` and ``dv`` are the exact size and volume, as text; ``s`` and ``v`` beside them are whole
  numbers, which cannot hold fractions of shares. The exact ones count where they are there.
- Quotes' sizes are published as they are sent: shares in streams of 2026, round lots in older ones.
  A side without ``bp`` or ``bs`` is ABSENT there.
- ``q`` ascends for each symbol, with holes, and begins anew each day; so the day goes in front of
  it, and only order and repetition are checked. ``i``, a text, is the record's trade id where it is
  an integer; trades carry no side.
- ``AM`` and ``A`` are bars of a minute and a second; ``ts_event`` is when they begin (``s``), and
  ``vw`` the vwap, an average computed in floating point: where it cannot be held exactly the bar
  goes out without it, after a VALUE_REFUSED status.
- LULD bands, auction imbalances (``NOI``) and fair values (``FMV``) are passed over.
- The venue corrects no trades by stream.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from mdsys.feed.frame import FrameResult, Record, SymbolInfo
from mdsys.feed.json_events import (
    Fields,
    Publisher,
    Refused,
    array,
    events,
    fixed,
    integer,
    integer_of,
    malformed,
    number,
    number_text,
    text,
    value,
)
from mdsys.feed.massive import conditions
from mdsys.feed.sequence import Ids, Order, Sequence
from mdsys.record.record import ABSENT, Kind, Status

BAR_NS: Final = {"A": 10**9, "AM": 60 * 10**9}
SEQUENCE_BITS: Final = 40
MS_MAX: Final = ((1 << 63) - 1) // 10**6
DAY_MS: Final = 86_400_000
NIGHT_MS: Final = 21_600_000
"""06:00 UTC: between two trading days all the year."""

_PASSED_OVER = frozenset({"LULD", "NOI", "FMV"})
_CHANNELS: Final = {"T": "trade", "Q": "quote", "AM": "bar", "A": "bar"}


class _Event:
    """One event whose values are there and of their types."""

    def __init__(self, fields: Fields) -> None:
        self.kind = text(value(fields, "ev"))
        if self.kind not in _CHANNELS:
            return
        self._fields = fields
        self.symbol = text(value(fields, "sym"))
        getattr(self, f"_read_{_CHANNELS[self.kind]}")()

    def _numbers(self, *keys: str) -> tuple[str, ...]:
        return tuple(number(value(self._fields, key)) for key in keys)

    def _exact(self, exact: str, whole: str) -> str:
        raw = value(self._fields, exact)
        return number(value(self._fields, whole)) if raw is None else number_text(raw)

    def _time(self, key: str) -> int:
        ms = integer(value(self._fields, key))
        if not 0 <= ms <= MS_MAX:
            malformed()
        self.ts_event = ms * 10**6
        return ms

    def _sequence(self, ms: int) -> int:
        q = integer(value(self._fields, "q"))
        if not 0 < q < 1 << SEQUENCE_BITS or ms < NIGHT_MS:
            return ABSENT
        return (ms - NIGHT_MS) // DAY_MS << SEQUENCE_BITS | q

    def _read_trade(self) -> None:
        self.sequence = self._sequence(self._time("t"))
        self.prices, self.size = self._numbers("p"), self._exact("ds", "s")
        raw = value(self._fields, "i")
        self.trade_id = ABSENT
        if raw is not None:
            self.trade_id = integer_of(text(raw) if raw.startswith(b'"') else number(raw))
        codes = array(value(self._fields, "c"))
        self.conditions = conditions.pack(
            None if codes is None else [integer(code) for code in codes]
        )

    def _read_quote(self) -> None:
        self.sequence = self._sequence(self._time("t"))
        raw = [value(self._fields, key) for key in ("bp", "ap", "bs", "as")]
        self.sides = [None if written is None else number(written) for written in raw]

    def _read_bar(self) -> None:
        self._time("s")
        self.prices, self.size = self._numbers("o", "h", "l", "c"), self._exact("dv", "v")
        self.trade_count = integer(value(self._fields, "n"))
        vwap = value(self._fields, "vw")
        self.vwap = None if vwap is None else number(vwap)


class ReferenceDecoder:
    """Massive's decoder, with the sequence numbers it has seen last.

    Args:
        symbols: By the venue's own name.
        channels: Those that are wanted.
    """

    def __init__(self, symbols: Mapping[str, SymbolInfo], channels: Collection[str]) -> None:
        self._symbols = symbols
        self._channels = channels
        self._trades: dict[int, Sequence] = {}
        self._last_quote: dict[int, int] = {}
        self._quotes: dict[int, tuple[int, ...]] = {}

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
        if event.kind == "status":
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
        size = fixed(symbol.size_scale, event.size)
        if price is None or size is None:
            out.refuse_value(symbol, event.trade_id, event.trade_id)
        elif event.sequence == ABSENT or self._is_new(event.sequence, symbol, out):
            body = (price[0], size[0], event.trade_id, event.conditions)
            out.record(symbol, Kind.TRADE, event.ts_event, body)

    def _is_new(self, number: int, symbol: SymbolInfo, out: Publisher) -> bool:
        """Tell whether a trade has not been here; a late one counts as new."""
        sequence = self._trades.setdefault(symbol.symbol_id, Sequence())

        def announce(first: int, last: int) -> None:
            out.status(symbol, Status.GAP, first, last)

        order = sequence.order(number, number, announce, Ids.ASCENDING)
        sequence.note(number)
        return order is not Order.AGAIN

    def _publish_quote(self, event: _Event, symbol: SymbolInfo, out: Publisher) -> None:
        body: list[int] = []
        scales = [symbol.price_scale] * 2 + [symbol.size_scale] * 2
        for written, scale in zip(event.sides, scales, strict=True):
            held = [ABSENT] if written is None else fixed(scale, written)
            if held is None:
                out.refuse_value(symbol)
                return
            body += held
        quote = (event.ts_event, *body)
        if event.sequence != ABSENT:
            last = self._last_quote.get(symbol.symbol_id, 0)
            if event.sequence == last and quote == self._quotes.get(symbol.symbol_id):
                return  # one number may tell of several changes, but not of the same one twice
            self._last_quote[symbol.symbol_id] = max(last, event.sequence)
        if event.sequence == ABSENT or event.sequence >= last:
            self._quotes[symbol.symbol_id] = quote
        out.record(symbol, Kind.QUOTE, event.ts_event, (body[0], body[1], body[2], body[3]))

    def _publish_bar(self, event: _Event, symbol: SymbolInfo, out: Publisher) -> None:
        prices = fixed(symbol.price_scale, *event.prices)
        volume = fixed(symbol.size_scale, event.size)
        vwap: list[int] | None = [ABSENT]
        if event.vwap is not None:
            vwap = fixed(symbol.price_scale, event.vwap)
        if prices is None or volume is None or vwap is None:
            out.refuse_value(symbol)
        if prices is None or volume is None:
            return
        volumes = (volume[0], vwap[0] if vwap else ABSENT, event.trade_count, BAR_NS[event.kind])
        out.bar(symbol, event.ts_event, (prices[0], prices[1], prices[2], prices[3]), volumes)
