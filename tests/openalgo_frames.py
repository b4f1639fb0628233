"""OpenAlgo frames for tests, and the two decoders as one."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from mdsys._decode import Decoder
from mdsys.feed.frame import FrameResult, Record, SymbolInfo, to_ticks
from mdsys.feed.openalgo.reference import ReferenceDecoder

SYMBOLS = {
    "NSE:SBIN": SymbolInfo(1),
    "NSE_INDEX:NIFTY": SymbolInfo(2, 2, 0),
    "NFO:NIFTY24NOV26FUT": SymbolInfo(3, 2, 0),
    "CRYPTO:SOL_INR": SymbolInfo(4, 18, 18),
    'NSE:A"B\\C': SymbolInfo(5, 2, 0),
    "NSE:" + "L" * 40: SymbolInfo(6, 2, 0),
    ":": SymbolInfo(7, 2, 0),
}
CHANNELS = ("quote", "book", "ticker")

# A tick as broker/zerodha/streaming/zerodha_adapter.py fills it, in what the server puts around it.
QUOTE = json.dumps(
    {
        "type": "market_data",
        "symbol": "SBIN",
        "exchange": "NSE",
        "mode": 2,
        "data": {
            "symbol": "SBIN", "exchange": "NSE", "mode": "quote", "ltp": 779.45,
            "ltt": 1723161255000, "timestamp": 1723161255343, "volume": 1192471,
            "last_quantity": 7, "average_price": 778.11, "total_buy_quantity": 256443,
            "total_sell_quantity": 363009, "open": 775.0, "high": 781.2, "low": 772.05,
            "close": 774.9,
        },
        "broker": "zerodha",
    }
).encode()  # fmt: skip

BUY = [
    {"price": 779.4, "quantity": 5, "orders": 1},
    {"price": 779.35, "quantity": 140, "orders": 2},
]
SELL = [{"price": 779.5, "quantity": 172, "orders": 3}, {"price": 0, "quantity": 0, "orders": 0}]
DEPTH = json.dumps(
    {
        "type": "market_data",
        "symbol": "SBIN",
        "exchange": "NSE",
        "mode": 3,
        "data": {
            **json.loads(QUOTE)["data"],
            "mode": "full", "oi": 0, "open_interest": 0, "depth": {"buy": BUY, "sell": SELL},
        },
        "broker": "zerodha",
    }
).encode()  # fmt: skip


def edited(message: bytes, symbol: str = "NSE:SBIN", **changes: Any) -> bytes:
    """Return a frame of another symbol, with values of its data changed, or left out for ...."""
    fields = json.loads(message)
    fields["exchange"], _, fields["symbol"] = symbol.partition(":")
    data = {**fields["data"], **changes}
    fields["data"] = {key: value for key, value in data.items() if value is not ...}
    return json.dumps(fields).encode()


class BothDecoders:
    """The C decoder and the reference, fed alike and held to the same answer."""

    def __init__(self, channels: Collection[str] = CHANNELS, *, depth: int = 1024) -> None:
        self.c = Decoder("openalgo", SYMBOLS, depth, channels=channels)
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
