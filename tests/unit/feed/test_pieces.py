"""Frames of more levels than a quarter of the ring: they go out in pieces, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mdsys._decode import Decoder
from mdsys.feed.frame import FrameResult, SymbolInfo
from mdsys.record.record import Flag, Kind, Status, Ticks
from tests.coinbase_frames import envelope
from tests.kraken_frames import book as kraken_book

DEPTH = 64
"""Of the ring, so that a piece is 16 levels."""
COUNT = 40
"""Levels of a frame: two pieces have gone out before the last one is looked at."""
GOOD, INEXACT, MALFORMED = "7", "0.1234567890123456789", "x"
Size = str


def dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def rows(last: Size) -> list[tuple[str, Size]]:
    """Return prices and sizes, best first; the last size is the one that may be bad."""
    return [(str(1_000 - i), last if i == COUNT - 1 else "5") for i in range(COUNT)]


def binance(last: Size) -> bytes:
    head = {"e": "depthUpdate", "E": 1700000000001, "s": "X", "U": 1, "u": 40}
    return dump({**head, "b": rows(last), "a": []})


def kraken(last: Size) -> bytes:
    return kraken_book(rows(last), symbol="X", kind="snapshot")


def exchange(last: Size) -> bytes:
    return dump({"type": "snapshot", "product_id": "X", "bids": rows(last), "asks": []})


def exchange_changes(last: Size) -> bytes:
    changes = [("buy", *row) for row in rows(last)]
    time = "2021-04-17T16:43:37.089723Z"
    return dump({"type": "l2update", "product_id": "X", "changes": changes, "time": time})


def advanced(last: Size) -> bytes:
    time = "2026-09-26T04:15:38.391474Z"
    updates = [
        {"side": "bid", "event_time": time, "price_level": price, "new_quantity": size}
        for price, size in rows(last)
    ]
    event = {"type": "update", "product_id": "X", "updates": updates}
    return envelope("l2_data", 0, dump(event).decode())


def alpaca(last: Size) -> bytes:
    levels = ",".join(f'{{"p":{price},"s":{size}}}' for price, size in rows(last))
    time = "2024-03-12T10:38:50.796Z"
    return f'[{{"T":"o","S":"X","t":"{time}","b":[{levels}],"a":[]}}]'.encode()


def openalgo(last: Size) -> bytes:
    buy = [{"price": price, "quantity": size, "orders": 1} for price, size in rows(last)]
    data = {"ltp": "1", "depth": {"buy": buy, "sell": []}}
    return json.dumps(
        {"type": "market_data", "symbol": "X", "exchange": "NSE", "mode": 3, "data": data}
    ).encode()


FRAMES: dict[str, tuple[str, Callable[[Size], bytes]]] = {
    "binance": ("binance_spot", binance),
    "kraken": ("kraken", kraken),
    "coinbase exchange": ("coinbase_exchange", exchange),
    "coinbase exchange, changes": ("coinbase_exchange", exchange_changes),
    "coinbase advanced": ("coinbase_advanced", advanced),
    "alpaca": ("alpaca", alpaca),
    "openalgo": ("openalgo", openalgo),
}


def decode(name: str, frame: bytes) -> tuple[FrameResult, Ticks]:
    symbol = "NSE:X" if name == "openalgo" else "X"
    made = Decoder(name, {symbol: SymbolInfo(1, 0, 0)}, DEPTH, channels=["book"])
    return made.decode(frame)


@pytest.mark.parametrize(("name", "frame"), FRAMES.values(), ids=FRAMES)
def test_a_long_frame_goes_out_in_pieces_and_ends_once(
    name: str, frame: Callable[[Size], bytes]
) -> None:
    result, ticks = decode(name, frame(GOOD))
    assert result is FrameResult.OK
    assert list(ticks["kind"]) == [Kind.LEVEL] * COUNT
    assert list(np.flatnonzero(ticks["flags"] & Flag.LAST)) == [COUNT - 1]


@pytest.mark.parametrize("last", [INEXACT, MALFORMED])
@pytest.mark.parametrize(("name", "frame"), FRAMES.values(), ids=FRAMES)
def test_a_long_frame_whose_last_level_is_bad_publishes_none_of_its_levels(
    name: str, frame: Callable[[Size], bytes], last: Size
) -> None:
    result, ticks = decode(name, frame(last))
    assert result is (FrameResult.VALUE if last == INEXACT else FrameResult.MALFORMED)
    told = [int(each["what"]) for each in ticks]
    assert list(ticks["kind"]) == [Kind.STATUS] * len(ticks)
    assert told[:1] == ([Status.VALUE_REFUSED] if last == INEXACT else [])
    assert Status.FRAME_INCOMPLETE not in told
