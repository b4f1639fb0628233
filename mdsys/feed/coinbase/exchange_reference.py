"""The Exchange feed to records in plain Python: one event a frame, flat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mdsys.feed.coinbase.reference import Depth, Reference, Ticker, Trade
from mdsys.feed.coinbase.values import (
    BARE_NUMBER,
    Fields,
    array_of,
    id_of,
    maybe_string,
    number,
    optional_number,
    string,
    time_of,
)
from mdsys.feed.frame import FrameResult, Refused, malformed
from mdsys.feed.sequence import Ids
from mdsys.record.record import ABSENT, Flag

_SIDES: Final[Mapping[str | None, Flag]] = {"buy": Flag.BUY, "sell": Flag.SELL}
_AGGRESSOR: Final = {Flag.BUY: Flag.SELL, Flag.SELL: Flag.BUY}
"""Of a trade whose maker's side is given."""


class ExchangeReference(Reference):
    """The Exchange feed: one event a frame, flat."""

    def message(self, fields: Fields) -> FrameResult:
        """Tell the kind of message, and publish its event."""
        kind = maybe_string(fields.get("type", b""))
        if kind in ("subscriptions", "error"):
            return FrameResult.CONTROL
        if kind == "heartbeat":
            return FrameResult.OK
        if kind in ("match", "last_match"):
            return self.publish([_match(fields, Flag.SNAPSHOT if kind == "last_match" else 0)])
        if kind == "ticker":
            return self.publish([_exchange_ticker(fields)])
        if kind in ("snapshot", "l2update"):
            return self._book_frame(fields, kind)
        return FrameResult.UNKNOWN_EVENT

    def _book_frame(self, fields: Fields, kind: str) -> FrameResult:
        """Publish levels, or take the book out of step when the frame cannot be taken.

        A book that misses a change is wrong from then on, and nothing here is numbered.
        """
        product = string(fields, "product_id")
        try:
            depth = _exchange_depth(fields, product, Flag.SNAPSHOT if kind == "snapshot" else 0)
        except Refused:
            if product in self.symbols and "book" in self.channels:
                self.unsync(self.symbols[product])
            raise
        return self.publish([depth])


def _match(fields: Fields, flags: int) -> Trade:
    product = string(fields, "product_id")
    ts_event = time_of(fields.get("time", b""))
    raw_id = fields.get("trade_id", b"")
    trade_id = id_of(raw_id.decode()) if BARE_NUMBER.match(raw_id) else None
    maker = _SIDES.get(maybe_string(fields.get("side", b"")))
    if trade_id is None or maker is None:
        malformed()
    price, size = (number(fields.get(key, b"")) for key in ("price", "size"))
    return Trade(
        product, ts_event, flags | _AGGRESSOR[maker], price, size, trade_id, Ids.CONTIGUOUS
    )


def _exchange_ticker(fields: Fields) -> Ticker:
    quote = ("best_bid", "best_ask", "best_bid_size", "best_ask_size")
    return Ticker(
        string(fields, "product_id"),
        _maybe_time(fields),
        [optional_number(fields, key) for key in quote],
        [optional_number(fields, key) for key in ("price", "last_size", "volume_24h")],
    )


def _maybe_time(fields: Fields) -> int:
    return time_of(fields["time"]) if "time" in fields else ABSENT


def _exchange_depth(fields: Fields, product: str, flags: int) -> Depth:
    ts_event = _maybe_time(fields)
    levels: list[tuple[Flag, str, str]] = []
    if flags:
        for key, side in (("bids", Flag.BUY), ("asks", Flag.SELL)):
            levels += [
                (side, *_price_size(array_of(row))) for row in array_of(fields.get(key, b""))
            ]
    else:
        for row in array_of(fields.get("changes", b"")):
            cells = array_of(row)
            own = _SIDES.get(maybe_string(cells[0]) if cells else None)
            if own is None:
                malformed()
            levels.append((own, *_price_size(cells[1:])))
    return Depth(product, ts_event, flags, levels)


def _price_size(cells: Sequence[bytes]) -> tuple[str, str]:
    if len(cells) < 2:
        malformed()
    return number(cells[0]), number(cells[1])
