"""Kite packets by the documents' tables, and the two decoders as one.

The tables are those of kite.trade/docs/connect/v3/websocket, "Quote packet structure": byte offsets
and int32 fields. Nothing here comes from the decoders.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence

from mdsys._decode import Decoder
from mdsys.feed.frame import FrameResult, Record, SymbolInfo, to_ticks
from mdsys.feed.kite.reference import ReferenceDecoder

SIZES = {"ltp": 8, "index quote": 28, "index full": 32, "quote": 44, "full": 184}
"""Mode -> bytes of its packet."""

_STOCK = {
    "instrument_token": 0,
    "last_price": 4,
    "last_quantity": 8,
    "average_price": 12,
    "volume": 16,
    "total_buy_quantity": 20,
    "total_sell_quantity": 24,
    "open": 28,
    "high": 32,
    "low": 36,
    "close": 40,
    "last_trade_time": 44,
    "oi": 48,
    "oi_day_high": 52,
    "oi_day_low": 56,
    "exchange_timestamp": 60,
}
_INDEX = {
    "instrument_token": 0,
    "last_price": 4,
    "high": 8,
    "low": 12,
    "open": 16,
    "close": 20,
    "price_change": 24,
    "exchange_timestamp": 28,
}
DEPTH_OFFSET = 64
ROW_SIZE = 12
ROWS = 10

CHANNELS = ("quote", "book", "ticker")

INFY = 408065
"""NSE, segment 1."""
NIFTY_50 = 256265
"""An index, segment 9."""
USDINR = 412931
"""CDS, segment 3."""
BCD = 263942
"""Segment 6."""
BIG = 0xFFFEFD02
"""NFO, segment 2: its first byte is beyond ASCII, and the token beyond int32."""

Row = tuple[int, int, int]
"""Quantity, price, orders."""


def wire(token: int) -> bytes:
    """Return a token as it stands in frames."""
    return token.to_bytes(4, "big")


SYMBOLS: Mapping[bytes, SymbolInfo] = {
    wire(INFY): SymbolInfo(1, 2, 0),
    wire(NIFTY_50): SymbolInfo(2, 2, 0),
    wire(USDINR): SymbolInfo(3, 7, 0),
    wire(BCD): SymbolInfo(4, 4, 0),
    wire(BIG): SymbolInfo(5, 2, 0),
    wire(INFY + 256): SymbolInfo(6, 8, 8),
    wire(INFY + 512): SymbolInfo(7, 1, 0),  # a tenth: most paise must be refused
    wire(INFY + 768): SymbolInfo(8, 18, 18),
    wire(USDINR + 256): SymbolInfo(9, 0, 3),
}
"""With the scales that the venue resolves to, then with odd ones."""


def packet(mode: str, token: int, rows: Sequence[Row] = (), **fields: int) -> bytes:
    """Return a packet's body; fields that are not given are 0.

    Args:
        mode: Of `SIZES`.
        token: The instrument.
        rows: Depth of a full packet, five bids and then five asks; missing ones are empty.
        fields: By their names in the documents. Negative ones are int32, others uint32.
    """
    out = bytearray(SIZES[mode])
    table = _INDEX if mode.startswith("index") else _STOCK
    for name, value in {"instrument_token": token, **fields}.items():
        struct.pack_into(">i" if value < 0 else ">I", out, table[name], value)
    for i, (quantity, price, orders) in enumerate(rows):
        struct.pack_into(">IiH", out, DEPTH_OFFSET + i * ROW_SIZE, quantity, price, orders)
    return bytes(out)


def frame(*packets: bytes) -> bytes:
    """Return the message of some packets."""
    body = b"".join(struct.pack(">H", len(each)) + each for each in packets)
    return struct.pack(">H", len(packets)) + body


class BothDecoders:
    """The C decoder and the reference, fed alike and held to the same answer."""

    def __init__(self, channels: Collection[str] = CHANNELS, *, depth: int = 256) -> None:
        self.c = Decoder("kite", SYMBOLS, depth, channels=channels)
        self.python = ReferenceDecoder(SYMBOLS, channels)
        self._next = 1

    def decode(self, message: bytes, ts_recv: int = 7, connection: int = 3) -> FrameResult:
        """Decode ``message`` with both; fail where they differ in result or in any byte."""
        self.records: list[Record]
        expected, self.records = self.python.decode(message, ts_recv, connection)
        result, ticks = self.c.decode(message, ts_recv, connection)
        assert result == expected, message
        wanted = to_ticks(self.records, self._next).tobytes()
        assert ticks.tobytes() == wanted, f"{message!r}\n{ticks}\n{self.records}"
        self._next += len(self.records)
        return result
