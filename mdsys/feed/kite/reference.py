"""Kite frames to records in plain Python: what native/src/decode_kite.c must do, frame by frame.

A frame is a count and so many packets, each a length and a body; all of it big-endian. A body's
length is its kind: 8 ltp, 28 and 32 index, 44 quote, 184 full. Facts: kite.trade/docs/connect/v3/
websocket, and Zerodha's own clients pykiteconnect (kiteconnect/ticker.py) and gokiteconnect
(ticker/ticker.go), read 2026-11. What they leave open is read as follows.

- A frame is judged as a whole by its lengths: they must fill it exactly. Then each packet by
  itself: its kind, its symbol, its values. One that is refused does not take the others with it;
  the frame's result is that of the first.
- A frame of one byte is a heartbeat, whatever the byte.
- Prices are signed (commodities have traded below zero); quantities are not, although the
  documents call them int32: the clients read them unsigned, and a day's volume can pass 2^31.
- Prices have 7 decimals in segment 3 (CDS), 4 in 6 (BCD), else 2; the token's last byte is the
  segment. Quantities are whole.
- The time of an event is exchange_timestamp, when the exchange made the picture: the depth, the
  volume and the open interest are of then. last_trade_time may be hours older and is not used.
  ltp, quote and index quote packets have no time, and 0 is none.
- A depth row without a quantity is no level. A side without a first level has no price and no size
  in a quote, and no levels in a book.
- A full packet that is refused leaves the book of before behind: it is out of step.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from mdsys.feed.frame import FRAME_SIZE_MAX, NO_LEVEL, FrameResult, Record, SymbolInfo
from mdsys.record.record import ABSENT, Flag, Kind, Status

LTP: Final = 8
INDEX_QUOTE: Final = 28
INDEX_FULL: Final = 32
QUOTE: Final = 44
FULL: Final = 184
"""Bytes of a packet, by its kind."""

SEGMENT_CDS: Final = 3
SEGMENT_BCD: Final = 6

_VALUE_MAX = (1 << 63) - 1
_SIDE_ROWS = 5
_Values = tuple[int, int, int, int]


class _Row(NamedTuple):
    price: int
    size: int
    orders: int


class _Tick(NamedTuple):
    """What a packet says, at the symbol's scales; only what is wanted."""

    ts_event: int
    ticker: _Values
    bids: list[_Row | None]
    asks: list[_Row | None]


def price_decimals(token: bytes) -> int:
    """Return how many decimals the prices of a token's segment have."""
    return {SEGMENT_CDS: 7, SEGMENT_BCD: 4}.get(token[3], 2)


class ReferenceDecoder:
    """One feed's decoder; all that it remembers is whose books are usable.

    Args:
        symbols: By the four bytes of the token as they are sent.
        channels: Those that are wanted.
    """

    def __init__(self, symbols: Mapping[bytes, SymbolInfo], channels: Collection[str]) -> None:
        self._symbols = symbols
        self._channels = channels
        self._usable: set[int] = set()

    def decode(
        self, frame: bytes, ts_recv: int, connection: int = 0
    ) -> tuple[FrameResult, list[Record]]:
        """Turn one binary frame into what goes into the ring, status records among it."""
        if len(frame) > FRAME_SIZE_MAX:
            return FrameResult.TOO_LONG, []
        if len(frame) == 1:
            return FrameResult.OK, []
        packets = split(frame)
        if packets is None:
            return FrameResult.MALFORMED, []
        records: list[Record] = []
        results = [self._packet(packet, ts_recv, connection, records) for packet in packets]
        return next((each for each in results if each), FrameResult.OK), records

    def _packet(
        self, packet: bytes, ts_recv: int, connection: int, out: list[Record]
    ) -> FrameResult:
        if len(packet) not in (LTP, INDEX_QUOTE, INDEX_FULL, QUOTE, FULL):
            return FrameResult.UNKNOWN_EVENT
        symbol = self._symbols.get(packet[:4])
        if symbol is None:
            return FrameResult.UNKNOWN_SYMBOL
        tick = self._tick(packet, symbol)
        if tick is None:
            said = [Status.VALUE_REFUSED]
            if len(packet) == FULL and symbol.symbol_id in self._usable:
                self._usable.remove(symbol.symbol_id)
                said.append(Status.RESYNC)
            for what in said:
                body = (int(what), ABSENT, ABSENT, connection)
                head = (ts_recv, ts_recv, symbol.symbol_id, Kind.STATUS, int(Flag.LAST), 0, 0)
                out.append(Record(*head, body))
            return FrameResult.VALUE

        def add(kind: Kind, flags: int, body: _Values) -> None:
            scales = (symbol.price_scale, symbol.size_scale)
            head = (tick.ts_event, ts_recv, symbol.symbol_id, kind, int(flags), *scales)
            out.append(Record(*head, body))

        if "ticker" in self._channels:
            add(Kind.TICKER, Flag.LAST, tick.ticker)
        if "quote" in self._channels and len(packet) == FULL:
            none = _Row(ABSENT, ABSENT, 0)
            bid, ask = tick.bids[0] or none, tick.asks[0] or none
            add(Kind.QUOTE, Flag.LAST, (bid.price, ask.price, bid.size, ask.size))
        if "book" in self._channels and len(packet) == FULL:
            levels = [(Flag.BUY, row) for row in tick.bids if row]
            levels += [(Flag.SELL, row) for row in tick.asks if row]
            levels = levels or [(Flag(0), _Row(*NO_LEVEL, ABSENT))]
            self._usable.add(symbol.symbol_id)
            for i, (side, row) in enumerate(levels):
                last = Flag.LAST if i == len(levels) - 1 else 0
                flags = side | Flag.SNAPSHOT | last
                add(Kind.LEVEL, flags, (row.price, row.size, row.orders, ABSENT))
        return FrameResult.OK

    def _tick(self, packet: bytes, symbol: SymbolInfo) -> _Tick | None:
        """Return what is wanted of a packet; None when a value of it cannot be held."""
        shift = symbol.price_scale - price_decimals(packet)
        try:
            ticker = (ABSENT, ABSENT, ABSENT, ABSENT)
            if "ticker" in self._channels:
                ticker = _ticker(packet, shift, symbol.size_scale)
            bids, asks = self._depth(packet, shift, symbol.size_scale)
        except ValueError:
            return None
        return _Tick(_time(packet), ticker, bids, asks)

    def _depth(
        self, packet: bytes, shift: int, size_scale: int
    ) -> tuple[list[_Row | None], list[_Row | None]]:
        wanted = {"quote", "book"} & set(self._channels)
        if len(packet) != FULL or not wanted:
            return [], []
        rows: list[_Row | None] = []
        for i, (size, price, orders) in enumerate(struct.iter_unpack(">IiHxx", packet[64:])):
            if size == 0 or ("book" not in wanted and i % _SIDE_ROWS != 0):
                rows.append(None)
            else:
                rows.append(_Row(_scaled(price, shift), _scaled(size, size_scale), orders))
        return rows[:_SIDE_ROWS], rows[_SIDE_ROWS:]


def split(frame: bytes) -> list[bytes] | None:
    """Return a frame's packets; None when their lengths do not fill it exactly."""
    if len(frame) < 2:
        return None
    (count,) = struct.unpack_from(">H", frame)
    packets, at = [], 2
    for _ in range(count):
        if len(frame) - at < 2:
            return None
        (size,) = struct.unpack_from(">H", frame, at)
        packets.append(frame[at + 2 : at + 2 + size])
        at += 2 + size
    return packets if at == len(frame) else None


def _ticker(packet: bytes, shift: int, size_scale: int) -> _Values:
    (last_price,) = struct.unpack_from(">i", packet, 4)
    last_size = volume = open_interest = ABSENT
    if len(packet) >= QUOTE:
        last_size, volume = (
            _scaled(struct.unpack_from(">I", packet, offset)[0], size_scale) for offset in (8, 16)
        )
    if len(packet) == FULL:
        open_interest = _scaled(struct.unpack_from(">I", packet, 48)[0], size_scale)
    return _scaled(last_price, shift), last_size, volume, open_interest


def _time(packet: bytes) -> int:
    offset = {INDEX_FULL: 28, FULL: 60}.get(len(packet))
    if offset is None:
        return ABSENT
    (seconds,) = struct.unpack_from(">I", packet, offset)
    return int(seconds) * 1_000_000_000 if seconds else ABSENT


def _scaled(value: int, shift: int) -> int:
    """Return value x 10^shift.

    Raises:
        ValueError: It would have to be rounded, or does not fit.
    """
    scaled, rest = (value * 10**shift, 0) if shift >= 0 else divmod(value, 10**-shift)
    if rest != 0 or abs(scaled) > _VALUE_MAX:
        raise ValueError(value)
    return int(scaled)
