"""Coinbase frames for tests, and the two decoders of a feed as one."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from mdsys._decode import Decoder
from mdsys.feed.coinbase.advanced_reference import AdvancedReference
from mdsys.feed.coinbase.exchange_reference import ExchangeReference
from mdsys.feed.frame import FrameResult, Record, SymbolInfo, to_ticks
from mdsys.feed.venue import CHANNELS

SYMBOLS = {
    "BTC-USD": SymbolInfo(1),
    "ETH-USD": SymbolInfo(2, price_scale=2, size_scale=4),
    "BTC-PERP-INTX": SymbolInfo(3),
    "A\\B": SymbolInfo(4),
    "币安-USD": SymbolInfo(5),
    "TINY-USD": SymbolInfo(6, price_scale=18, size_scale=0),
}
REFERENCES = {"coinbase_exchange": ExchangeReference, "coinbase_advanced": AdvancedReference}

MATCH = (
    b'{"type":"match","trade_id":280232,"maker_order_id":"2a0da34e-61f7-4c36-88e5-c9dd15927b16",'
    b'"taker_order_id":"3c82abaa-c01e-4608-be59-6a1e69742891","side":"sell","size":"985",'
    b'"price":"0.00001305","product_id":"BTC-USD","sequence":177100030,'
    b'"time":"2021-04-17T16:43:37.089723Z"}'
)
TICKER = (
    b'{"type":"ticker","sequence":333938798,"product_id":"BTC-USD","price":"14.7775",'
    b'"open_24h":"14.6647","volume_24h":"94381.28000000","low_24h":"14.3691","high_24h":"16.55",'
    b'"volume_30d":"2295579.57000000","best_bid":"14.7550","best_bid_size":"0.5",'
    b'"best_ask":"14.8060","best_ask_size":"12.25","side":"buy",'
    b'"time":"2021-04-17T16:43:30.244075Z","trade_id":881613,"last_size":"0.04"}'
)
SNAPSHOT = (
    b'{"type":"snapshot","product_id":"BTC-USD","asks":[["14.8024","12.77"],["14.8069","12.49"],'
    b'["888888004.0000","1"]],"bids":[["14.7550","3.0"]],"time":"2021-04-17T16:43:37.000001Z"}'
)
L2UPDATE = (
    b'{"type":"l2update","product_id":"BTC-USD","changes":[["sell","0.00001306","660.5"]],'
    b'"time":"2021-04-17T16:43:37.075687Z"}'
)
EXCHANGE_HEARTBEAT = (
    b'{"type":"heartbeat","last_trade_id":0,"product_id":"BTC-USD","sequence":14011426656,'
    b'"time":"2020-05-12T05:20:06.782635Z"}'
)
EXCHANGE = {"match": MATCH, "ticker": TICKER, "snapshot": SNAPSHOT, "l2update": L2UPDATE}
"""By kind, in the venue's own order of keys."""


def envelope(channel: str, number: int, event: str) -> bytes:
    """Return a frame of Advanced Trade."""
    return (
        f'{{"channel":"{channel}","timestamp":"2026-09-26T04:15:38.40993531Z",'
        f'"sequence_num":{number},"events":[{event}]}}'
    ).encode()


def l2_data(number: int = 0, kind: str = "update", product: str = "BTC-USD") -> bytes:
    """Return levels of two sides, a removed one among them."""
    return envelope(
        "l2_data",
        number,
        f'{{"type":"{kind}","product_id":"{product}","updates":[{{"side":"bid",'
        '"event_time":"2026-09-26T04:15:38.391474Z","price_level":"120.73",'
        '"new_quantity":"42.55393162"},{"side":"offer","event_time":"2026-09-26T04:15:38.391474Z",'
        '"price_level":"120.75","new_quantity":"0"}]}',
    )


def market_trades(
    number: int, ids: Collection[int | str], kind: str = "update", product: str = "BTC-USD"
) -> bytes:
    """Return trades of those ids."""
    trades = ",".join(
        f'{{"product_id":"{product}","trade_id":"{trade_id}","price":"120.71","size":"1.2908",'
        '"time":"2026-09-26T04:15:00.114692Z","side":"SELL"}'
        for trade_id in ids
    )
    return envelope("market_trades", number, f'{{"type":"{kind}","trades":[{trades}]}}')


def ticker(number: int = 0, **changes: str) -> bytes:
    """Return a ticker, some of its values changed."""
    fields = {
        "type": "ticker",
        "product_id": "BTC-USD",
        "price": "79914.6",
        "volume_24_h": "14174.4213",
        "low_24_h": "79445",
        "high_24_h": "80206",
        "low_52_w": "57705.8",
        "high_52_w": "126340.3",
        "price_percent_chg_24_h": "0.27303411671707",
        "best_bid": "79914.5",
        "best_ask": "79914.6",
        "best_bid_quantity": "0.7944",
        "best_ask_quantity": "0.7554",
        **changes,
    }
    event = json.dumps({"type": "update", "tickers": [fields]}, separators=(",", ":"))
    return envelope("ticker", number, event)


def heartbeats(number: int) -> bytes:
    """Return a heartbeat of Advanced Trade."""
    return envelope(
        "heartbeats",
        number,
        '{"current_time":"2026-09-05 22:10:30.25788961 +0000 UTC m=+139651.272674714",'
        '"heartbeat_counter":139651}',
    )


def subscriptions(number: int, listed: Mapping[str, Collection[str]]) -> bytes:
    """Return a list of subscriptions of Advanced Trade."""
    event = {"subscriptions": {name: list(products) for name, products in listed.items()}}
    return envelope("subscriptions", number, json.dumps(event))


def edited(frame: bytes, **changes: Any) -> bytes:
    """Return a frame with values changed, or left out where the change is ``...``."""
    fields = {**json.loads(frame), **changes}
    kept = {key: value for key, value in fields.items() if value is not ...}
    return json.dumps(kept, separators=(",", ":"), ensure_ascii=False).encode()


class BothDecoders:
    """A C decoder and its reference, fed alike and held to the same answer."""

    def __init__(
        self,
        name: str,
        symbols: Mapping[str, SymbolInfo] = SYMBOLS,
        *,
        channels: Collection[str] = CHANNELS,
        depth: int = 256,
    ) -> None:
        self.c = Decoder(name, symbols, depth, channels=channels)
        self.python = REFERENCES[name](symbols, channels)
        self.records: list[Record] = []
        """Of the last frame."""
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
