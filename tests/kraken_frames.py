"""Kraken frames for tests, and the two decoders as one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from mdsys._decode import Decoder
from mdsys.feed.frame import FrameResult, Record, SymbolInfo, to_ticks
from mdsys.feed.kraken.reference import KrakenDecoder
from mdsys.feed.kraken.reference_v1 import KrakenV1Decoder
from mdsys.feed.venue import CHANNELS

SYMBOLS = {
    "BTC/USD": SymbolInfo(1),
    "ETH/USD": SymbolInfo(2, price_scale=2, size_scale=4),
    "SHIB/USD": SymbolInfo(3, price_scale=18, size_scale=0),
    "XBT/USD": SymbolInfo(4),
    'A"B\\C': SymbolInfo(5),
    "币/USD": SymbolInfo(6),
}

TRADE = (
    b'{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell",'
    b'"price":85754.7,"qty":0.00126522,"ord_type":"market","trade_id":88217346,'
    b'"timestamp":"2026-10-06T18:06:02.264627Z"}]}'
)
BOOK = (
    b'{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":['
    b'{"price":45283.5,"qty":0.10000000},{"price":45283.4,"qty":1.54582015},'
    b'{"price":45282.1,"qty":0.10000000},{"price":45281.0,"qty":0.10000000},'
    b'{"price":45280.3,"qty":1.54592586},{"price":45279.0,"qty":0.07990000},'
    b'{"price":45277.6,"qty":0.03310103},{"price":45277.5,"qty":0.30000000},'
    b'{"price":45277.3,"qty":1.54602737},{"price":45276.6,"qty":0.15445238}],"asks":['
    b'{"price":45285.2,"qty":0.00100000},{"price":45286.4,"qty":1.54571953},'
    b'{"price":45286.6,"qty":1.54571109},{"price":45289.6,"qty":1.54560911},'
    b'{"price":45290.2,"qty":0.15890660},{"price":45291.8,"qty":1.54553491},'
    b'{"price":45294.7,"qty":0.04454749},{"price":45296.1,"qty":0.35380000},'
    b'{"price":45297.5,"qty":0.09945542},{"price":45299.5,"qty":0.18772827}],'
    b'"checksum":3310070434}]}'
)
"""The venue's own example, checksum and all: docs.kraken.com, "Book Checksum (v2)"."""
TICKER = (
    b'{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":85754.6,'
    b'"bid_qty":1.25000000,"ask":85754.7,"ask_qty":0.03310103,"last":85754.7,'
    b'"volume":1632.89080960,"vwap":85904.4,"low":84711.0,"high":86613.1,"change":-250.0,'
    b'"change_pct":-0.29,"timestamp":"2026-10-06T18:06:02.264800Z"}]}'
)
OHLC = (
    b'{"channel":"ohlc","type":"update","timestamp":"2026-10-06T18:06:02.264627814Z","data":['
    b'{"symbol":"BTC/USD","open":85754.8,"high":85755.0,"low":85754.7,"close":85754.9,"trades":5,'
    b'"volume":0.00126522,"vwap":85754.7,"interval_begin":"2026-10-06T18:06:00.000000000Z",'
    b'"interval":1,"timestamp":"2026-10-06T18:07:00.000000Z"}]}'
)
DATA = {"trade": TRADE, "book": BOOK, "ticker": TICKER, "ohlc": OHLC}
"""A frame of each channel, in the venue's own order of keys."""

TRADE_V1 = (
    b'[993,[["354.04000000","0.28245396","1618678150.826417","s","m",""],'
    b'["353.81000000","1.71754604","1618678150.827816","b","l",""]],"trade","XBT/USD"]'
)
BOOK_V1 = (
    b'[992,{"as":[["354.80000000","1.40000000","1618678133.020508"]],'
    b'"bs":[["354.15000000","5.00000000","1618678133.365913"]]},"book-10","XBT/USD"]'
)
UPDATE_V1 = (
    b'[992,{"a":[["354.79000000","6.88304291","1618678134.071506"]]},'
    b'{"b":[["354.12000000","0.00000000","1618678133.366461","r"]],"c":"2583817756"},'
    b'"book-10","XBT/USD"]'
)
TICKER_V1 = (
    b'[1840,{"a":["9.608415",188,"188.00000000"],"b":["9.590799",136,"136.81110241"],'
    b'"c":["9.608415","12.00000000"],"v":["206721.01544724","430490.17781308"],'
    b'"p":["9.830615","9.979412"],"t":[2048,4148]},"ticker","XBT/USD"]'
)
DATA_V1 = {"trade": TRADE_V1, "book": BOOK_V1, "update": UPDATE_V1, "ticker": TICKER_V1}

Rows = Sequence[tuple[str, str]]
"""Price and size of each level, as they are written."""


def edited(frame: bytes, **changes: Any) -> bytes:
    """Return a v2 frame with values of its first item changed; left out where None."""
    fields = json.loads(frame)
    item = {**fields["data"][0], **changes}
    fields["data"][0] = {key: value for key, value in item.items() if value is not None}
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def checksum(bids: Rows, asks: Rows) -> int:
    """Return the checksum of a book whose sides are given best first."""
    parts = [part for side in (asks, bids) for level in side[:10] for part in level]
    return crc32("".join(part.replace(".", "").lstrip("0") for part in parts).encode())


def book(
    bids: Rows = (),
    asks: Rows = (),
    crc: int | None = None,
    *,
    kind: str = "update",
    symbol: str = "BTC/USD",
) -> bytes:
    """Return a v2 book frame; without ``crc`` that of these very levels."""

    def side(rows: Rows) -> str:
        return ",".join(f'{{"price":{price},"qty":{size}}}' for price, size in rows)

    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":[{side(bids)}],'
        f'"asks":[{side(asks)}],"checksum":{checksum(bids, asks) if crc is None else crc},'
        '"timestamp":"2026-10-06T18:06:02.000001Z"}]}'
    ).encode()


class BothDecoders:
    """The C decoder and the reference, fed alike and held to the same answer."""

    def __init__(
        self, *, v1: bool = False, depth: int = 256, channels: Sequence[str] = CHANNELS
    ) -> None:
        self.c = Decoder("kraken_v1" if v1 else "kraken", SYMBOLS, depth, channels=channels)
        reference = KrakenV1Decoder if v1 else KrakenDecoder
        self.python: KrakenDecoder | KrakenV1Decoder = reference(SYMBOLS, channels)
        self.records: list[Record] = []
        self._next = 1

    def decode(self, frame: bytes, ts_recv: int = 7, connection: int = 3) -> FrameResult:
        """Decode ``frame`` with both; fail where they differ in result or in any byte."""
        expected, self.records = self.python.decode(frame, ts_recv, connection)
        result, ticks = self.c.decode(frame, ts_recv, connection)
        assert result == expected, frame
        wanted = to_ticks(self.records, self._next).tobytes()
        assert ticks.tobytes() == wanted, f"{frame!r}\n{ticks}\n{self.records}"
        self._next += len(self.records)
        return result
