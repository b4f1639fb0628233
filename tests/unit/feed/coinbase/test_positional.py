"""The fast scanners take what the venue sends, rather than leave it to the flat ones."""

from __future__ import annotations

import pytest

from tests.coinbase_frames import L2UPDATE, MATCH, TICKER, edited, l2_data, market_trades, ticker
from tests.native import FEED_SOURCES, POSIX, PROGRAMS, compile_program, run_program

BUILDS = {"sse2": (), "portable": ("-DMD_DECIMAL_PORTABLE",)}
"""For x86-64, and what other processors get."""

EXCHANGE = {
    "match": MATCH,
    "ticker": TICKER,
    "ticker of 2021": edited(TICKER, best_bid_size=..., best_ask_size=...),
    "l2update": L2UPDATE,
    "l2update, both sides": edited(L2UPDATE, changes=[["buy", "1.5", "2"], ["sell", "7", "0"]]),
}
ADVANCED = {
    "l2_data": l2_data(0),
    "l2_data of 2023": l2_data(0).replace(b'"timestamp"', b'"client_id":"","timestamp"'),
    "market_trades": market_trades(0, [1]),
    "market_trades, sixteen": market_trades(0, range(1, 17)),
    "ticker": ticker(0),
}


def taken(frame: bytes, feed: str, build: str = "sse2") -> bool:
    program = compile_program(
        PROGRAMS / "coinbase_takes.c", flags=(POSIX, *BUILDS[build], *FEED_SOURCES)
    )
    code = run_program(program, feed, frame.decode()).returncode
    assert code in (0, 1)
    return code == 0


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize(
    ("feed", "frame"),
    [("exchange", frame) for frame in EXCHANGE.values()]
    + [("advanced", frame) for frame in ADVANCED.values()],
    ids=[*EXCHANGE, *(f"advanced {name}" for name in ADVANCED)],
)
def test_frames_as_the_venue_sends_them_are_taken(feed: str, frame: bytes, build: str) -> None:
    assert taken(frame, feed, build)
    assert not taken(frame.replace(b":", b": ", 1), feed, build)


@pytest.mark.parametrize(
    "frame",
    [
        l2_data(1),  # 0 is due
        l2_data(0, "snapshot"),
        l2_data(0).replace(b"38.391474", b"38.391475", 1),  # two times
        market_trades(0, [2, 1]),  # to be turned round
        market_trades(0, range(1, 18)),
        market_trades(0, [1]).replace(b"SELL", b"UNKNOWN"),
        ticker(0, best_bid=""),
    ],
)
def test_what_is_rare_is_left_to_the_flat_scanner(frame: bytes) -> None:
    assert not taken(frame, "advanced")
