"""What a configuration asks of its host."""

from __future__ import annotations

from dataclasses import replace

from mdsys.config import Config
from mdsys.host.needs import needs_of
from tests.rosters import PlainVenue, config_of


def config(symbols: int = 1) -> Config:
    """Return one of a venue that takes two symbols a connection."""
    venue = {
        "name": "binance",
        "symbols": [f"S{number}" for number in range(symbols)],
        "max_symbols_per_connection": 2,
    }
    return config_of(venue, facts={"binance": PlainVenue()})


def test_each_socket_may_have_a_successor_beside_it() -> None:
    one, two, three, four = (needs_of(config(count)).files for count in range(1, 5))
    assert (two, three, four) == (one, one + 2, one + 2)


def test_core_that_no_feed_is_there_for_is_nobodys() -> None:
    plain = config()
    named = replace(  # put together here: this host need not have so many cores
        plain,
        feeds=replace(plain.feeds, num_processes=1, cores=(2, 3)),
        consumer=replace(plain.consumer, cores={"momentum": 5}),
    )
    assert needs_of(named).cores == {2: "feed 0", 5: "reader momentum"}
