"""The reference decoders of Alpaca and Massive, as far as one: native/src/event_venue.h in Python.

A venue says what its types and keys mean (`EventReader`); what becomes of an event that has been
read is the same for both (`EventDecoder`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

from mdsys.feed.frame import FrameResult, Record, Refused, SymbolInfo
from mdsys.feed.json_events import Fields, Publisher, events, fixed, integer, number, text, value
from mdsys.feed.sequence import Ids, Order, Sequence
from mdsys.record.record import ABSENT, Kind, Status


class EventReader:
    """One event whose values are there and of their types; reading it raises Refused where not."""

    type_key: ClassVar[str]
    symbol_key: ClassVar[str]
    channels: ClassVar[Mapping[str, str]]
    """Type -> channel: what is published."""
    control: ClassVar[Collection[str]]
    passed_over: ClassVar[Collection[str]]

    trade_id: int
    conditions: int
    side: int = 0
    sequence: int = ABSENT
    interval_ns: int
    vwap: str | None

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self.kind = text(value(fields, self.type_key))
        self.channel = self.channels.get(self.kind)
        if self.channel is None:
            return
        self.symbol = text(value(fields, self.symbol_key))
        self.ts_event = self.read_time()
        getattr(self, f"read_{self.channel}")()

    def read_time(self) -> int:
        """Return when it was, in ns."""
        raise NotImplementedError

    def numbers(self, *keys: str) -> tuple[str, ...]:
        """Return bare numbers, none of which may be missing."""
        return tuple(number(value(self.fields, key)) for key in keys)

    def number_if_any(self, key: str) -> str | None:
        """Return a bare number that the venue may leave out."""
        raw = value(self.fields, key)
        return None if raw is None else number(raw)

    def read_bar(self) -> None:
        """Read all of a bar but its volume and interval."""
        self.prices: tuple[str | None, ...] = self.numbers("o", "h", "l", "c")
        self.trade_count = integer(value(self.fields, "n"))
        self.vwap = self.number_if_any("vw")
        self.sizes: tuple[str | None, ...] = ()


class EventDecoder:
    """A venue's decoder, with the sequence numbers it has seen last.

    Args:
        symbols: By the venue's own name.
        channels: Those that are wanted.
    """

    reader: ClassVar[type[EventReader]]

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
            found = [self.reader(fields) for fields in events(frame)]
        except Refused as refused:
            return refused.result, []
        out = Publisher(ts_recv, connection)
        for event in found:
            self._publish(event, out)
        return out.result, out.records

    def _publish(self, event: EventReader, out: Publisher) -> None:
        if event.kind in event.control:
            out.problem(FrameResult.CONTROL)
        elif event.channel is None:
            if event.kind not in event.passed_over:
                out.problem(FrameResult.UNKNOWN_EVENT)
        elif event.channel in self._channels:
            symbol = self._symbols.get(event.symbol)
            if symbol is None:
                out.problem(FrameResult.UNKNOWN_SYMBOL)
            else:
                getattr(self, f"publish_{event.channel}")(event, symbol, out)

    def publish_trade(self, event: EventReader, symbol: SymbolInfo, out: Publisher) -> None:
        """Publish a trade that has not been here."""
        price = _held(symbol.price_scale, event.prices)
        size = _held(symbol.size_scale, event.sizes)
        if price is None or size is None:
            out.refuse_value(symbol, event.trade_id, event.trade_id)
        elif event.sequence == ABSENT or self._is_new(event.sequence, symbol, out):
            body = (price[0], size[0], event.trade_id, event.conditions)
            out.record(symbol, Kind.TRADE, event.ts_event, body, event.side)

    def _is_new(self, number: int, symbol: SymbolInfo, out: Publisher) -> bool:
        """Tell whether a trade has not been here; a late one counts as new."""
        sequence = self._trades.setdefault(symbol.symbol_id, Sequence())

        def announce(first: int, last: int) -> None:
            out.status(symbol, Status.GAP, first, last)

        order = sequence.order(number, number, announce, Ids.ASCENDING)
        sequence.note(number)
        return order is not Order.AGAIN

    def publish_quote(self, event: EventReader, symbol: SymbolInfo, out: Publisher) -> None:
        """Publish a quote, unless its number and all of its values have been here."""
        prices = _held(symbol.price_scale, event.prices)
        sizes = _held(symbol.size_scale, event.sizes)
        if prices is None or sizes is None:
            out.refuse_value(symbol)
            return
        body = (prices[0], prices[1], sizes[0], sizes[1])
        quote = (event.ts_event, *body)
        last = self._last_quote.get(symbol.symbol_id, 0)
        if event.sequence != ABSENT:
            if event.sequence == last and quote == self._quotes.get(symbol.symbol_id):
                return  # one number may tell of several changes, but not of the same one twice
            self._last_quote[symbol.symbol_id] = max(last, event.sequence)
        if event.sequence == ABSENT or event.sequence >= last:
            self._quotes[symbol.symbol_id] = quote
        out.record(symbol, Kind.QUOTE, event.ts_event, body)

    def publish_bar(self, event: EventReader, symbol: SymbolInfo, out: Publisher) -> None:
        """Publish a bar, if need be without its vwap, which was computed in floating point."""
        prices = _held(symbol.price_scale, event.prices)
        volume = _held(symbol.size_scale, event.sizes)
        vwap = _held(symbol.price_scale, (event.vwap,))
        if prices is None or volume is None or vwap is None:
            out.refuse_value(symbol)
        if prices is None or volume is None:
            return
        volumes = (
            *(volume[0], vwap[0] if vwap else ABSENT),
            *(event.trade_count, event.interval_ns),
        )
        out.bar(symbol, event.ts_event, (prices[0], prices[1], prices[2], prices[3]), volumes)


def _held(scale: int, texts: Collection[str | None]) -> list[int] | None:
    """Return values that can all be held, ABSENT for those that were not sent; else None."""
    held: list[int] = []
    for written in texts:
        one = [ABSENT] if written is None else fixed(scale, written)
        if one is None:
            return None
        held += one
    return held
