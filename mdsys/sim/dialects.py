"""Which venues can be simulated. A dialect's module is imported when its venue is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Final, cast

from mdsys.config_checks import did_you_mean
from mdsys.errors import UsageError
from mdsys.sim.dialect import Dialect

DIALECTS: Final = {
    "binance": "mdsys.feed.binance.dialect:BinanceSpot",
    "binance_usdm": "mdsys.feed.binance.dialect:BinanceUsdm",
    "binance_coinm": "mdsys.feed.binance.dialect:BinanceCoinm",
    "kraken": "mdsys.feed.kraken.dialect:Kraken",
    "coinbase_exchange": "mdsys.feed.coinbase.dialect:CoinbaseExchange",
    "coinbase_advanced": "mdsys.feed.coinbase.dialect:CoinbaseAdvanced",
    "kite": "mdsys.feed.kite.dialect:Kite",
    "alpaca": "mdsys.feed.alpaca.dialect:Alpaca",
    "massive": "mdsys.feed.massive.dialect:Massive",
    "openalgo": "mdsys.feed.openalgo.dialect:OpenAlgo",
}
"""Venue -> module:class."""


def find(venue: str) -> type[Dialect]:
    """Return the dialect of ``venue``.

    Raises:
        UsageError: There is none.
    """
    if venue not in DIALECTS:
        hint = did_you_mean(venue, DIALECTS) or f"; there are {', '.join(DIALECTS)}"
        raise UsageError(f"no simulated venue {venue!r}{hint}")
    module, _, name = DIALECTS[venue].partition(":")
    return cast("type[Dialect]", getattr(import_module(module), name))
