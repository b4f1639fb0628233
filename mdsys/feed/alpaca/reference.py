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
from typing import ClassVar, Final

from mdsys.feed.alpaca import conditions
from mdsys.feed.event_reference import EventDecoder, EventReader
from mdsys.feed.frame import SymbolInfo, malformed
from mdsys.feed.json_events import (
    Level,
    Publisher,
    array,
    fixed,
    integer,
    number,
    objects,
    text,
    value,
)
from mdsys.record.record import Flag, Status
from mdsys.record.rfc3339 import parse_rfc3339

MINUTE_NS: Final = 60 * 10**9

_TAKER_SIDES: Final = {"B": Flag.BUY, "S": Flag.SELL}


class AlpacaEvent(EventReader):
    """One event of Alpaca's."""

    type_key = "T"
    symbol_key = "S"
    channels: ClassVar[Mapping[str, str]] = {
        "t": "trade",
        "q": "quote",
        "b": "bar",
        "u": "bar",
        "o": "book",
    }
    control = frozenset({"success", "error", "subscription", "c", "x", "s"})
    passed_over = frozenset({"d", "l", "i"})

    def read_time(self) -> int:
        """Return the time in ``t``."""
        ts_event = parse_rfc3339(text(value(self.fields, "t")))
        if ts_event is None:
            malformed()
        return ts_event

    def read_trade(self) -> None:
        """Read a trade."""
        self.prices, self.sizes = self.numbers("p"), self.numbers("s")
        self.trade_id = integer(value(self.fields, "i"))
        codes = array(value(self.fields, "c"))
        self.conditions = conditions.pack(None if codes is None else [text(code) for code in codes])
        side = value(self.fields, "tks")
        self.side = 0 if side is None else _TAKER_SIDES.get(text(side), 0)

    def read_quote(self) -> None:
        """Read a quote."""
        self.prices, self.sizes = self.numbers("bp", "ap"), self.numbers("bs", "as")

    def read_bar(self) -> None:
        """Read a bar."""
        super().read_bar()
        self.sizes, self.interval_ns = self.numbers("v"), MINUTE_NS

    def read_book(self) -> None:
        """Read a book's rows."""
        self.rows = [
            (side, number(value(row, "p")), number(value(row, "s")))
            for side, key in ((Flag.BUY, "b"), (Flag.SELL, "a"))
            for row in objects(value(self.fields, key))
        ]
        reset = value(self.fields, "r")
        if reset not in {None, b"true", b"false"}:
            malformed()
        self.flags = Flag.SNAPSHOT if reset == b"true" else 0


class ReferenceDecoder(EventDecoder):
    """Alpaca's decoder, with the books that are in step."""

    reader = AlpacaEvent

    def __init__(self, symbols: Mapping[str, SymbolInfo], channels: Collection[str]) -> None:
        super().__init__(symbols, channels)
        self._books_in_step: set[int] = set()

    def publish_book(self, event: AlpacaEvent, symbol: SymbolInfo, out: Publisher) -> None:
        """Publish a book's rows, all or none."""
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
