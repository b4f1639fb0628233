from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdsys.config import Config, parse
from mdsys.daemon.plan import assign
from mdsys.errors import ConfigError
from mdsys.ring.partition import Partition


class Facts:
    channels = ("trade", "quote", "book")
    streams_per_connection_max = 1024

    def spelled(self, symbol: str) -> str:
        return symbol


VENUES = {"binance": Facts(), "binance_usdm": Facts()}


def config(*venues: dict[str, Any]) -> Config:
    return parse(
        {"venue": [{"name": "binance", "channels": ["trade"], **venue} for venue in venues]},
        venues=VENUES,
    )


def names(count: int) -> list[str]:
    return [f"S{i}" for i in range(count)]


def rings(feed_count: int, each: int = 2) -> dict[int, list[int]]:
    return {feed: [feed + feed_count * i for i in range(each)] for feed in range(feed_count)}


def test_few_symbols_need_one_connection_and_the_other_feeds_stay_idle() -> None:
    outcome = assign(config({"symbols": names(3)}), {}, rings(2))
    (plan,) = outcome.connections[0]
    assert plan.number == 1
    assert plan.symbols == ("S0", "S1", "S2")
    assert outcome.connections[1] == []


def test_symbols_are_cut_into_even_connections_dealt_to_the_least_loaded_feed() -> None:
    outcome = assign(
        config({"symbols": names(250), "max_symbols_per_connection": 100}), {}, rings(2)
    )
    sizes = {f: [len(c.symbols) for c in own] for f, own in outcome.connections.items()}
    assert sizes == {0: [83, 84], 1: [83]}
    numbers = sorted(c.number for own in outcome.connections.values() for c in own)
    assert numbers == [1, 2, 3]
    assert outcome.symbol_count == 250


def test_streams_of_all_channels_count_against_the_venues_bound() -> None:
    outcome = assign(
        config({"symbols": names(1000), "channels": ["trade", "quote", "book"]}), {}, rings(1)
    )
    assert all(len(c.symbols) * 3 <= 1024 for c in outcome.connections[0])
    assert len(outcome.connections[0]) == 3


def test_new_symbol_goes_to_the_ring_that_the_partition_of_its_feed_names() -> None:
    outcome = assign(config({"symbols": names(50)}), {}, rings(2, each=3))
    partition = Partition(rings(2, each=3)[0])
    assert outcome.new_rings == {
        f"BINANCE:S{i}": partition.ring(f"BINANCE:S{i}") for i in range(50)
    }


def test_known_symbol_keeps_its_ring_and_goes_to_the_feed_that_owns_it() -> None:
    known = {"BINANCE:S1": 3, "BINANCE:GONE": 1}
    outcome = assign(config({"symbols": names(3)}), known, rings(2))
    assert "BINANCE:S1" not in outcome.new_rings
    (plan,) = outcome.connections[1]  # ring 3 is feed 1's; new symbols fill the same connection
    assert plan.symbols == ("S1", "S0", "S2")
    assert set(outcome.new_rings.values()) <= {1, 3}


def test_same_name_at_two_venues_is_two_symbols() -> None:
    outcome = assign(
        config({"symbols": ["BTCUSDT"]}, {"name": "binance_usdm", "symbols": ["BTCUSDT"]}),
        {},
        rings(1),
    )
    assert list(outcome.new_rings) == ["BINANCE:BTCUSDT", "BINANCE_USDM:BTCUSDT"]
    assert [c.venue for c in outcome.connections[0]] == ["binance", "binance_usdm"]


def test_more_connections_than_the_limit_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"venue\[0\]\.limits\.connections: 1, but 250 symbols"):
        assign(
            config(
                {
                    "symbols": names(250),
                    "max_symbols_per_connection": 100,
                    "limits": {"connections": 1},
                }
            ),
            {},
            rings(2),
        )


@given(
    st.integers(1, 60),
    st.integers(1, 25),
    st.integers(1, 4),
    st.dictionaries(st.integers(0, 80), st.integers(0, 7)),
)
def test_every_symbol_is_on_one_connection_in_the_feed_of_its_ring(
    count: int, size: int, feed_count: int, old: dict[int, int]
) -> None:
    own = rings(feed_count)
    known = {f"BINANCE:S{i}": ring % (2 * feed_count) for i, ring in old.items()}
    outcome = assign(
        config({"symbols": names(count), "max_symbols_per_connection": size}), known, own
    )
    seen = [s for plans in outcome.connections.values() for p in plans for s in p.symbols]
    assert sorted(seen) == sorted(names(count))
    final = {**known, **outcome.new_rings}
    for feed, plans in outcome.connections.items():
        for plan in plans:
            assert 1 <= len(plan.symbols) <= size
            assert all(final[f"BINANCE:{s}"] in own[feed] for s in plan.symbols)
    assert not set(outcome.new_rings) & set(known)
