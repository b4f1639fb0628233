"""OpenAlgo's quick scanner takes what the proxy sends for Zerodha, and agrees with the flat one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mdsys.feed.frame import FrameResult
from mdsys.feed.openalgo.dialect import tick
from tests.openalgo_frames import DEPTH, QUOTE, BothDecoders, edited
from tests.quick import BUILDS, taken
from tests.sim_stage import BOOK, TIME_NS, TRADE

BROKER_FIRST = QUOTE.replace(b', "broker": "zerodha"', b"").replace(
    b', "data"', b', "broker": "zerodha", "data"'
)
SENT = {
    "quote": QUOTE,
    "depth": DEPTH,
    "the broker before the data": BROKER_FIRST,
    "fewer keys": edited(QUOTE, ltt=..., average_price=..., open=..., close=...),
    "simulator": b'{"type": "market_data", "symbol": "SBIN", "exchange": "NSE", "mode": 2, '
    b'"data": {"ltp": 1.5, "timestamp": 1723161255343, "volume": 7, "last_quantity": 2}, '
    b'"broker": "simulator"}',
    "an empty side": edited(DEPTH, depth={"buy": [], "sell": []}),
    "a price alone": b'{"type": "market_data", "symbol": "SBIN", "exchange": "NSE", "mode": 1, '
    b'"data": {"ltp": 1.5}}',
}


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("frame", SENT.values(), ids=SENT)
def test_frames_as_the_proxy_sends_them_are_taken(frame: bytes, build: str) -> None:
    assert taken("openalgo", "NSE:SBIN", frame, build)
    assert not taken("openalgo", "NSE:SBIN", frame.replace(b": ", b":", 1), build)


@pytest.mark.parametrize("trade", [TRADE._replace(symbol=BOOK.symbol, id=2_437_377_057), None])
@pytest.mark.parametrize("mode", [1, 2, 3])
def test_frames_as_the_simulator_sends_them_are_taken_in_the_adapters_order(
    mode: int, trade: Any
) -> None:
    frame = tick(mode, BOOK, trade, TIME_NS)
    assert taken("openalgo", f"NSE:{BOOK.symbol.name}", frame.encode())
    data = json.loads(frame)["data"]
    assert list(data) == [key for key in json.loads(DEPTH)["data"] if key in data]
    assert len(data) == ({1: 6, 2: 15, 3: 18} if trade else {1: 5, 2: 12, 3: 15})[mode]


@pytest.mark.parametrize("frame", SENT.values(), ids=SENT)
def test_both_scanners_give_the_same_records(frame: bytes) -> None:
    quick, flat = BothDecoders(), BothDecoders()
    assert quick.decode(frame) == FrameResult.OK
    assert flat.decode(frame.replace(b": ", b":")) == FrameResult.OK
    assert quick.c.counts == flat.c.counts


@pytest.mark.parametrize(
    "frame",
    [
        edited(QUOTE, "NSE:INFY"),  # unknown
        edited(QUOTE, ltp="779.45"),
        edited(QUOTE, ltp=None),
        edited(QUOTE, ltp=...),
        edited(QUOTE, ltp=779.450000000001),
        edited(QUOTE, volume=-1),
        edited(QUOTE, timestamp=1723161255.343),
        edited(DEPTH, depth={"buy": [{"price": 1, "quantity": 1, "orders": 1}] * 101, "sell": []}),
        json.dumps({**json.loads(QUOTE), "more": 1}).encode(),
        QUOTE + b" ",
        QUOTE[:-1],
    ],
)
def test_what_is_rare_or_wrong_is_left_to_the_flat_scanner(frame: bytes) -> None:
    assert not taken("openalgo", "NSE:SBIN", frame)
    BothDecoders(depth=2048).decode(frame)


def test_of_two_names_for_the_open_interest_the_first_counts_and_the_second_stands_in() -> None:
    for changes in ({"oi": 5, "open_interest": 6}, {"oi": ..., "open_interest": 6}):
        both = BothDecoders(["ticker"])
        assert both.decode(edited(DEPTH, **changes)) == FrameResult.OK
