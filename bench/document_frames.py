"""Frames of kinds that the simulated venues do not send: bars, and packets of Kite's indices.

Each is the venue's own example (docs.kraken.com, docs.alpaca.markets, massive.com/docs,
kite.trade/docs/connect/v3; read 2026-11), its keys in the venue's order, with numbers that move.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

KITE_INDEX_TOKEN = 265
"""Its last byte is the segment of indices: 9."""
_START = datetime(2026, 11, 2, 14, 30, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Prices:
    """What happened in one minute; prices in hundredths."""

    open: int
    high: int
    low: int
    close: int
    volume: int
    trades: int


Make = Callable[[str, datetime, Prices], bytes]


def messages_of(venue: str, kind: str, symbol: str, count: int) -> list[bytes]:
    """Return the frames of so many minutes, one after the other."""
    make = MAKERS[venue, kind]
    minutes = enumerate(_market(count))
    return [make(symbol, _START + timedelta(minutes=n), prices) for n, prices in minutes]


def _market(count: int) -> Iterator[Prices]:
    random = np.random.default_rng(7)
    first = 45_000
    for steps in random.integers(-40, 41, (count, 3)).tolist():
        prices = [first, *(first + step for step in steps)]
        volume, trades = random.integers([1_000, 10], [900_000, 4_000]).tolist()
        yield Prices(first, max(prices), min(prices), prices[-1], volume, trades)
        first = max(prices[-1], 10_000)


def _money(hundredths: int) -> str:
    """Return it as venues write a number: without zeros at its end."""
    return f"{hundredths / 100:.15g}"


def _vwap(prices: Prices) -> str:
    return f"{(prices.high + prices.low + prices.close) / 300:.4f}"


def _kraken_bar(symbol: str, _time: datetime, prices: Prices) -> bytes:
    """Return an update of the running candle: Kraken sends it anew with each trade.

    It is published when the next one begins, so of frames of one minute there is no record.
    """
    names = ("open", "high", "low", "close")
    four = ",".join(f'"{name}":{getattr(prices, name) / 100:.2f}' for name in names)
    begin, end = (f"{each:%Y-%m-%dT%H:%M:%S}" for each in (_START, _START + timedelta(minutes=1)))
    return (
        f'{{"channel":"ohlc","type":"update","timestamp":"{begin}.264627814Z","data":['
        f'{{"symbol":"{symbol}",{four},"trades":{prices.trades},'
        f'"volume":{prices.volume / 1e8:.8f},"vwap":{_vwap(prices)},'
        f'"interval_begin":"{begin}.000000000Z","interval":1,"timestamp":"{end}.000000Z"}}]}}'
    ).encode()


def _alpaca_bar(symbol: str, time: datetime, prices: Prices) -> bytes:
    return (
        f'[{{"T":"b","S":"{symbol}","o":{_money(prices.open)},"h":{_money(prices.high)},'
        f'"l":{_money(prices.low)},"c":{_money(prices.close)},"v":{prices.volume},'
        f'"n":{prices.trades},"vw":{_vwap(prices)},"t":"{time:%Y-%m-%dT%H:%M:%S}Z"}}]'
    ).encode()


def _massive_bar(symbol: str, time: datetime, prices: Prices) -> bytes:
    start_ms = int(time.timestamp()) * 1000
    all_day = 1_000_000 + prices.volume
    return (
        f'[{{"ev":"AM","sym":"{symbol}","v":{prices.volume},"av":{all_day},"vw":{_vwap(prices)},'
        f'"o":{_money(prices.open)},"c":{_money(prices.close)},"h":{_money(prices.high)},'
        f'"l":{_money(prices.low)},"a":{_vwap(prices)},"z":80,"s":{start_ms},'
        f'"e":{start_ms + 60_000},"dv":"{prices.volume}.243177","dav":"{all_day}.243177"}}]'
    ).encode()


def _kite_packet(prices: Prices, *more: int) -> bytes:
    change = prices.close - prices.open
    fields = (prices.close, prices.high, prices.low, prices.open, prices.open, change, *more)
    packet = struct.pack(f">I{len(fields)}i", KITE_INDEX_TOKEN, *fields)
    return struct.pack(">HH", 1, len(packet)) + packet


def _kite_index_quote(_symbol: str, _time: datetime, prices: Prices) -> bytes:
    return _kite_packet(prices)


def _kite_index_full(_symbol: str, time: datetime, prices: Prices) -> bytes:
    return _kite_packet(prices, int(time.timestamp()))


MAKERS: Mapping[tuple[str, str], Make] = {
    ("kraken", "bar"): _kraken_bar,
    ("alpaca", "bar"): _alpaca_bar,
    ("massive", "bar"): _massive_bar,
    ("kite", "index_quote"): _kite_index_quote,
    ("kite", "index_full"): _kite_index_full,
}
"""(Venue, kind): of modes of Kite's indices, both of which become a ticker; else of a channel."""
