"""Names of symbols."""

from __future__ import annotations

import pytest

from mdsys.errors import UsageError
from mdsys.record.symbol import NAME_SIZE_BYTES_MAX, Symbol


@pytest.mark.parametrize(
    ("name", "venue", "native"),
    [
        ("BINANCE:BTCUSDT", "BINANCE", "BTCUSDT"),
        ("BINANCE_USDM:BTCUSDT_240927", "BINANCE_USDM", "BTCUSDT_240927"),
        ("KITE:NSE:INFY", "KITE", "NSE:INFY"),
        ("KITE::", "KITE", ":"),
        ("KRAKEN:XBT/USD", "KRAKEN", "XBT/USD"),
        ("CRYPTO.COM:btc_usdt", "CRYPTO.COM", "btc_usdt"),
        ("OPRA:SPY   240119C00400000", "OPRA", "SPY   240119C00400000"),
        ("BINANCE:币安人生USDT", "BINANCE", "币安人生USDT"),
    ],
)
def test_the_first_colon_ends_the_venue(name: str, venue: str, native: str) -> None:
    symbol = Symbol.parse(name)
    assert (symbol.venue, symbol.native) == (venue, native)
    assert str(symbol) == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "names no venue"),
        ("BTCUSDT", "names no venue"),
        (":BTCUSDT", "capitals"),
        ("binance:BTCUSDT", "capitals"),
        ("9X:BTCUSDT", "capitals"),
        ("BÖRSE:X", "capitals"),
        ("BINANCE:", "ends after the venue"),
        ("BINANCE: BTC", "space at an end"),
        ("BINANCE:BTC ", "space at an end"),
        ("BINANCE:BTC\n", "control characters"),
        ("BINANCE:B\0C", "control characters"),
        ("BINANCE:B\u00a0C", "control characters"),
        ("BINANCE:B\ud800C", "control characters"),
    ],
)
def test_what_is_no_name_is_refused_with_a_reason(name: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Symbol.parse(name)


def test_length_is_counted_in_bytes_and_ends_at_the_directorys_limit() -> None:
    longest = "X:" + "A" * (NAME_SIZE_BYTES_MAX - 2)
    assert str(Symbol.parse(longest)) == longest
    with pytest.raises(UsageError, match="64 bytes long; at most 63"):
        Symbol.parse(longest + "A")
    with pytest.raises(UsageError, match="64 bytes long"):
        Symbol.parse("XY:" + "ä" * 30 + "A")
