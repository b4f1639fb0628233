"""Binance frames for tests, and the two decoders as one."""

from __future__ import annotations

import json
from typing import Any

from mdsys._decode import Decoder
from mdsys.feed.binance.reference import ReferenceDecoder
from mdsys.feed.frame import FrameResult, Record, SymbolInfo, to_ticks
from mdsys.record.record import RECORD_SIZE

SYMBOLS = {
    "BTCUSDT": SymbolInfo(1),
    "ETHUSDT": SymbolInfo(2, price_scale=2, size_scale=4),
    "1000SATS": SymbolInfo(3, price_scale=18, size_scale=0),
    "币安人生USDT": SymbolInfo(4),
    'A"B\\C': SymbolInfo(5),
    "A\\B": SymbolInfo(6),
}
DECODER_NAMES = {False: "binance_spot", True: "binance_usdm"}

TRADE = {
    False: b'{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000",'
    b'"q":"0.02000000","T":1723161255342,"m":true,"M":true}',
    True: b'{"e":"trade","E":1723161256323,"T":1723161256322,"s":"BTCUSDT","t":5266583935,'
    b'"p":"61800.30","q":"0.006","X":"MARKET","m":false}',
}
QUOTE = {
    False: b'{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000",'
    b'"a":"61837.64000000","A":"1.54698000"}',
    True: b'{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT","b":"61800.20","B":"2.507",'
    b'"a":"61800.30","A":"2.510","T":1723161256313,"E":1723161256314}',
}
DEPTH = {
    False: b'{"e":"depthUpdate","E":1723161255308,"s":"BTCUSDT","U":50093239203,"u":50093239207,'
    b'"b":[["55653.87000000","0.00000000"]],'
    b'"a":[["61838.04000000","0.32332000"],["61844.30000000","0.40163000"]]}',
    True: b'{"e":"depthUpdate","E":1723161256299,"T":1723161256298,"s":"BTCUSDT","U":5123107832006,'
    b'"u":5123107837557,"pu":5123107831937,'
    b'"b":[["58710.20","0.014"],["61496.50","0.010"]],"a":[["61838.10","0.000"]]}',
}
"""By kind and market (False spot, True futures), byte for byte as the venue sends them."""


def combined(frame: bytes, stream: str = "btcusdt@trade") -> bytes:
    """Return the combined-stream form of a raw frame."""
    return b'{"stream":"' + stream.encode() + b'","data":' + frame + b"}"


def edited(frame: bytes, **changes: Any) -> bytes:
    """Return a frame with values changed, or left out where the change is None."""
    fields = {**json.loads(frame), **changes}
    kept = {key: value for key, value in fields.items() if value is not None}
    return json.dumps(kept, separators=(",", ":"), ensure_ascii=False).encode()


class BothDecoders:
    """The C decoder and the reference, fed alike and held to the same answer."""

    def __init__(self, *, futures: bool, depth: int = 256) -> None:
        self.c = Decoder(DECODER_NAMES[futures], SYMBOLS, depth)
        self.python = ReferenceDecoder(SYMBOLS, futures=futures)
        self._next = 1

    def decode(self, frame: bytes, ts_recv: int = 7, connection: int = 3) -> FrameResult:
        """Decode ``frame`` with both; fail where they differ in result or in any byte."""
        self.records: list[Record]
        expected, self.records = self.python.decode(frame, ts_recv, connection)
        result, ticks = self.c.decode(frame, ts_recv, connection)
        assert result == expected, frame
        wanted = to_ticks(self.records, self._next).tobytes()
        assert ticks.tobytes() == wanted, f"{frame!r}\n{ticks}\n{self.records}"
        assert len(wanted) == RECORD_SIZE * len(self.records)
        self._next += len(self.records)
        return result
