"""Kraken's quick scanner takes what the venue sends, and its checksum is the text's."""

from __future__ import annotations

import pytest

from mdsys.feed.frame import FrameResult
from tests.kraken_frames import DATA, TICKER, TRADE, BothDecoders, book, edited
from tests.native import FEED_SOURCES, POSIX, PROGRAMS, compile_program, run_program
from tests.quick import BUILDS, taken

TWO_TRADES = TRADE.replace(b"}]}", b"}," + TRADE.split(b"[")[1].replace(b"346", b"347"))
SENT = {
    "trade": TRADE,
    "two trades": TWO_TRADES,
    "a buyer's limit order": TRADE.replace(b"sell", b"buy").replace(b"market", b"limit"),
    "ticker": TICKER,
    "ticker of 2024": TICKER.replace(b',"timestamp":"2026-10-06T18:06:02.264800Z"', b""),
    "book": book([("100.0", "1.00000000")], [("101.5", "0.00000000"), ("102.0", "12.5")]),
    "book, one side": book([], [("101.5", "0.00000000")]),
    "book without a time": book([("100.0", "1.0")]).replace(
        b',"timestamp":"2026-10-06T18:06:02.000001Z"', b""
    ),
}


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("frame", SENT.values(), ids=SENT)
def test_frames_as_the_venue_sends_them_are_taken(frame: bytes, build: str) -> None:
    assert taken("kraken", "BTC/USD", frame, build)
    assert not taken("kraken", "BTC/USD", frame.replace(b":", b": ", 1), build)


@pytest.mark.parametrize(
    "frame",
    [
        *(DATA["book"], DATA["ohlc"]),  # snapshots and candles
        TRADE.replace(b"BTC/USD", b"ETH/USD"),  # unknown
        TRADE.replace(b"0.00126522", b"0.001265221"),  # does not fit
        TRADE.replace(b"85754.7", b"085754.7"),
        TRADE.replace(b"85754.7", b"85754."),
        TRADE.replace(b"85754.7", b"-85754.7"),
        TRADE.replace(b"85754.7", b"857547e-1"),
        TRADE.replace(b"88217346", b"0"),
        TRADE.replace(b"02.264627Z", b"60.264627Z"),
        TRADE.replace(b"2026-10-06", b"2026-02-29"),
        TRADE.replace(b"02.264627Z", b"02Z"),
        TRADE.replace(b"market", b"markot"),
        TRADE + b" ",
        TRADE[:-1],
        edited(TICKER, last=None),
        book([("100.0", "1.0")], crc=2**32),
    ],
)
def test_what_is_rare_or_wrong_is_left_to_the_flat_scanner(frame: bytes) -> None:
    assert not taken("kraken", "BTC/USD", frame)


@pytest.mark.parametrize(
    "time",
    [
        *("2000-01-01T00:00:00.0Z", "2024-02-29T23:59:59.999999999Z", "2099-12-31T23:59:59.12Z"),
        *("2023-03-01T00:00:00.1Z", "2100-03-01T00:00:00.5Z", "1999-12-31T23:59:59.5Z"),
        *("2026-10-06T18:06:02.12345678Z", "2026-10-06T18:06:02.123456789Z"),
        *("2026-04-31T00:00:00.5Z", "2026-00-01T00:00:00.5Z", "2026-13-01T00:00:00.5Z"),
        *("2026-01-00T00:00:00.5Z", "2026-01-01T24:00:00.5Z", "2026-01-01T00:60:00.5Z"),
        *("2026-10-06T18:06:02.1234567890Z", "2016-12-31T23:59:60.5Z", "2026-10-06t18:06:02.5z"),
    ],
)
def test_times_are_read_as_the_reference_reads_them(time: str) -> None:
    both = BothDecoders()
    both.decode(edited(TRADE, timestamp=time))


def test_two_trades_of_a_frame_are_two_records() -> None:
    both = BothDecoders()
    assert both.decode(TWO_TRADES) == FrameResult.OK
    assert [record.body[2] for record in both.records] == [88217346, 88217347]


def test_a_frame_of_trades_that_ends_badly_publishes_none() -> None:
    both = BothDecoders()
    assert both.decode(TWO_TRADES[:-1]) == FrameResult.MALFORMED
    assert both.records == []


def test_sums_kept_by_level_are_the_checksum_of_the_text() -> None:
    program = compile_program(PROGRAMS / "kraken_checksums.c", flags=(POSIX, *FEED_SOURCES))
    result = run_program(program)
    if result.returncode == 3:
        pytest.skip("this processor has no carry-less product")
    assert result.returncode == 0, result.stderr
