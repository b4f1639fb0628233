from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdsys.config_file import parse
from mdsys.daemon.plan import PIECE_SIZE, Growth, Placed, Placement, Terms, terms_of
from mdsys.errors import ConfigError
from mdsys.feed.venue import Limits
from mdsys.ring.partition import Partition


def terms(
    size: int = 100,
    connections: int | None = None,
    keys: tuple[str | None, ...] = (None,),
    venue: str = "binance",
) -> Terms:
    return Terms(venue, "venue[0]", size, connections, keys)


def names(count: int, first: int = 0) -> list[str]:
    return [f"S{i}" for i in range(first, first + count)]


def rings(feed_count: int, each: int = 2) -> dict[int, list[int]]:
    return {feed: [feed + feed_count * i for i in range(each)] for feed in range(feed_count)}


def nothing(name: str) -> None:
    return None


@dataclass
class Added:
    """All pieces of what has come, put together."""

    opened: list[Placed] = field(default_factory=list)
    grown: list[tuple[Placed, list[str]]] = field(default_factory=list)
    rings: dict[str, int] = field(default_factory=dict)

    def take(self, growth: Growth) -> None:
        placed = growth.placed
        self.rings |= {f"{placed.venue.upper()}:{name}": r for name, r in growth.rings.items()}
        if growth.opened:
            self.opened.append(placed)
        elif self.grown and self.grown[-1][0] is placed:
            self.grown[-1][1].extend(growth.symbols)
        elif placed not in self.opened:
            self.grown.append((placed, list(growth.symbols)))


def add(
    placement: Placement,
    terms: Terms,
    symbols: Sequence[str],
    ring_of: Callable[[str], int | None],
) -> Added:
    added = Added()
    for growth in placement.add(terms, symbols, ring_of):
        added.take(growth)
    return added


def sizes(placement: Placement) -> dict[int, int]:
    return {number: len(each.symbols) for number, each in placement.connections.items()}


def picture(placement: Placement) -> list[tuple[int, int, str | None, list[str]]]:
    return [
        (each.number, each.feed, each.key, list(each.symbols))
        for each in placement.connections.values()
    ]


def test_few_symbols_need_one_connection_and_the_other_feeds_stay_idle() -> None:
    placement = Placement(rings(2))
    (placed,) = add(placement, terms(), names(3), nothing).opened
    assert (placed.number, placed.feed, list(placed.symbols)) == (1, 0, names(3))
    assert placement.of_feed(1) == []


def test_symbols_are_cut_into_even_connections_dealt_to_the_least_loaded_feed() -> None:
    placement = Placement(rings(2))
    add(placement, terms(100), names(250), nothing)
    assert sizes(placement) == {1: 83, 2: 83, 3: 84}
    assert [each.number for each in placement.of_feed(0)] == [1, 3]


def test_fifty_thousand_symbols_on_fifty_connections_over_four_feeds_are_even() -> None:
    placement = Placement(rings(4, each=3))
    change = add(placement, terms(1_000), names(50_000), nothing)
    assert {len(each.symbols) for each in change.opened} == {1_000}
    assert sorted(len(placement.of_feed(feed)) for feed in range(4)) == [12, 12, 13, 13]
    assert len(change.rings) == 50_000


def test_symbols_are_placed_in_pieces_each_of_which_is_whole() -> None:
    placement = Placement(rings(2))
    pieces = placement.add(terms(2 * PIECE_SIZE), names(3 * PIECE_SIZE), nothing)
    assert placement.connections == {}  # nothing is there that has not been taken
    there: list[str] = []
    opened: list[bool] = []
    for growth in pieces:
        assert len(growth.symbols) <= PIECE_SIZE
        assert list(growth.rings) == growth.symbols
        there += growth.symbols
        opened.append(growth.opened)
        assert list(placement.symbols("binance")) == there
    assert there == names(3 * PIECE_SIZE)
    assert opened.count(True) == len(placement.connections) == 2


def test_new_symbol_goes_to_the_ring_that_the_partition_of_its_feed_names() -> None:
    change = add(Placement(rings(2, each=3)), terms(), names(50), nothing)
    partition = Partition(rings(2, each=3)[0])
    assert change.rings == {f"BINANCE:S{i}": partition.ring(f"BINANCE:S{i}") for i in range(50)}
    assert list(change.rings) == [f"BINANCE:S{i}" for i in range(50)]


def test_known_symbol_keeps_its_ring_and_goes_to_the_feed_that_owns_it() -> None:
    placement = Placement(rings(2))
    known = {"BINANCE:S1": 3, "BINANCE:GONE": 1}
    change = add(placement, terms(), names(3), known.get)
    (placed,) = change.opened  # ring 3 is feed 1's; new symbols fill the same connection
    assert (placed.feed, list(placed.symbols)) == (1, ["S1", "S0", "S2"])
    assert set(change.rings) == {"BINANCE:S0", "BINANCE:S2"}
    assert set(change.rings.values()) <= {1, 3}


def test_same_name_at_two_venues_is_two_symbols() -> None:
    placement = Placement(rings(1))
    one = add(placement, terms(), ["BTCUSDT"], nothing)
    other = add(placement, terms(venue="binance_usdm"), ["BTCUSDT"], nothing)
    assert [*one.rings, *other.rings] == ["BINANCE:BTCUSDT", "BINANCE_USDM:BTCUSDT"]
    assert [each.venue for each in placement.connections.values()] == ["binance", "binance_usdm"]


def test_keys_are_dealt_to_connections_each_within_its_own_limit() -> None:
    placement = Placement(rings(2))
    add(placement, terms(10, connections=3, keys=("a", "b")), names(60), nothing)
    keys = [each.key for each in placement.connections.values()]
    assert sorted(key or "" for key in keys) == ["a", "a", "a", "b", "b", "b"]
    placement.remove("binance", list(placement.connections[2].symbols))
    (again,) = add(
        placement, terms(10, connections=3, keys=("a", "b")), names(10, first=100), nothing
    ).opened
    assert again.key == keys[1]


def test_a_venue_of_one_connection_lives_in_one_feed() -> None:
    placement = Placement(rings(4))
    add(placement, terms(1_000, connections=1), names(900), nothing)
    assert sizes(placement) == {1: 900}


# ---- what does not fit --------------------------------------------------------------------------


def test_a_venue_of_one_connection_comes_back_to_its_feed_whoever_is_idle() -> None:
    placement = Placement(rings(2))
    lonely = terms(connections=1, venue="alpaca")
    first = add(placement, lonely, ["A"], nothing)
    placement.remove("alpaca", ["A"])
    add(placement, terms(2), names(2), nothing)
    assert [each.feed for each in placement.of_venue("binance")] == [0]
    second = add(placement, lonely, ["B"], nothing)
    assert [each.feed for each in first.opened + second.opened] == [0, 0]
    add(placement, lonely, ["A"], first.rings.get)
    assert len(placement.of_venue("alpaca")) == 1


def test_a_venue_of_one_connection_lives_where_the_directory_has_its_symbols() -> None:
    placement = Placement(rings(2))
    placement.remember("alpaca", 1)
    (placed,) = add(placement, terms(connections=1, venue="alpaca"), ["B"], nothing).opened
    assert placed.feed == 1


def test_more_connections_than_the_limit_tells_how_many_are_needed_and_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        Placement(rings(2)).add(terms(100, connections=1), names(250), nothing)
    assert str(caught.value) == (
        "venue[0].limits.connections: 1, but 250 symbols of binance need 3 connections of 100"
    )


def test_too_few_keys_tells_how_many_it_takes() -> None:
    kite = terms(3_000, connections=3, keys=("a", "b"), venue="kite")
    with pytest.raises(ConfigError) as caught:
        Placement(rings(2)).add(kite, names(50_000), nothing)
    assert str(caught.value) == (
        "venue[0].credentials: 2 keys of 3 connections each, but 50000 symbols of kite need 17 "
        "connections of 3000: 6 keys"
    )


def test_a_directory_that_scatters_what_would_fit_tells_the_remedy() -> None:
    known = {"BINANCE:S0": 0, "BINANCE:S1": 1}
    with pytest.raises(ConfigError, match=r"binds them to 2 feeds: mdsys clean"):
        Placement(rings(2)).add(terms(100, connections=1), names(2), known.get)


def test_a_feed_has_no_more_connections_than_the_counters_have_places() -> None:
    with pytest.raises(ConfigError, match=r"feed 0 would need 257 with 257 symbols"):
        Placement(rings(1)).add(terms(1), names(257), nothing)


def test_what_does_not_fit_changes_nothing() -> None:
    placement = Placement(rings(2))
    add(placement, terms(10, connections=2), names(15), nothing)
    before = picture(placement)
    with pytest.raises(ConfigError, match=r"6 symbols of binance beside the 15 there are need 3"):
        add(placement, terms(10, connections=2), names(6, first=15), nothing)
    assert picture(placement) == before
    add(placement, terms(10, connections=2), names(5, first=15), nothing)
    assert sizes(placement) == {1: 10, 2: 10}


# ---- coming and going ---------------------------------------------------------------------------


def test_symbols_that_come_later_fill_the_room_there_is_and_move_nobody() -> None:
    placement = Placement(rings(2))
    add(placement, terms(10), names(15), nothing)
    before = {number: list(each.symbols) for number, each in placement.connections.items()}
    change = add(placement, terms(10), names(7, first=15), nothing)
    assert [(each.number, added) for each, added in change.grown] == [
        (1, ["S15", "S16", "S17"]),
        (2, ["S18", "S19"]),
    ]
    (opened,) = change.opened
    assert (opened.number, list(opened.symbols)) == (3, ["S20", "S21"])
    for number, symbols in before.items():
        assert list(placement.connections[number].symbols)[: len(symbols)] == symbols


def test_known_symbol_that_comes_later_goes_to_its_own_feed_though_another_has_room() -> None:
    placement = Placement(rings(2))
    add(placement, terms(10), names(5), nothing)
    change = add(placement, terms(10), ["OLD"], {"BINANCE:OLD": 1}.get)
    assert change.grown == []
    assert [(each.feed, list(each.symbols)) for each in change.opened] == [(1, ["OLD"])]
    assert change.rings == {}


def test_symbols_that_go_close_a_connection_with_the_last_and_its_number_is_not_used_again() -> (
    None
):
    placement = Placement(rings(2))
    add(placement, terms(2), names(4), nothing)
    change = placement.remove("binance", ["S0", "NOSUCH", "S2", "S3"])
    assert [(each.number, gone) for each, gone in change.shrunk] == [(1, ["S0"])]
    assert [each.number for each in change.closed] == [2]
    assert sizes(placement) == {1: 1}
    add(placement, terms(2), names(3, first=10), nothing)
    assert list(placement.connections) == [1, 3]


def test_closed_connections_give_their_place_back() -> None:
    placement = Placement(rings(1))
    for turn in range(3):
        add(placement, terms(1, connections=200), names(200, first=200 * turn), nothing)
        placement.remove("binance", names(200, first=200 * turn))
    assert placement.connections == {}


@given(
    st.integers(1, 25),
    st.integers(1, 4),
    st.dictionaries(st.integers(0, 80), st.integers(0, 7)),
    st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 60), max_size=40)), max_size=8),
)
def test_whatever_comes_and_goes_every_symbol_is_on_one_connection_in_the_feed_of_its_ring(
    size: int,
    feed_count: int,
    old: dict[int, int],
    steps: list[tuple[bool, set[int]]],
) -> None:
    own = rings(feed_count)
    directory = {f"BINANCE:S{i}": ring % (2 * feed_count) for i, ring in old.items()}
    placement = Placement(own)
    wanted: set[str] = set()
    for comes, numbers in steps:
        symbols = [f"S{i}" for i in sorted(numbers)]
        before = {s: placed.number for s, placed in placement.symbols("binance").items()}
        if comes:
            symbols = [each for each in symbols if each not in wanted]
            added = add(placement, terms(size), symbols, directory.get)
            assert not set(added.rings) & set(directory)
            assert all(placement.connections[each.number] is each for each in added.opened)
            assert all(set(new) <= set(each.symbols) for each, new in added.grown)
            directory |= added.rings
            wanted |= set(symbols)
        else:
            removal = placement.remove("binance", symbols)
            assert all(each.number not in placement.connections for each in removal.closed)
            wanted -= set(symbols)
        check(placement, wanted, size, lambda ring: ring % feed_count, directory)
        for symbol, placed in placement.symbols("binance").items():
            assert before.get(symbol, placed.number) == placed.number


def check(
    placement: Placement,
    wanted: set[str],
    size: int,
    feed_of: Callable[[int], int],
    directory: dict[str, int],
) -> None:
    seen = [symbol for each in placement.connections.values() for symbol in each.symbols]
    assert sorted(seen) == sorted(wanted)
    for each in placement.connections.values():
        assert 1 <= len(each.symbols) <= size
        for symbol in each.symbols:
            assert feed_of(directory[f"BINANCE:{symbol}"]) == each.feed
            assert placement.symbols("binance")[symbol] is each


# ---- terms --------------------------------------------------------------------------------------


def test_terms_are_the_configurations() -> None:
    class Facts:
        channels = ("trade", "quote", "book")
        limits = Limits(streams_per_connection=1024, connections=7)
        channels_default = ("trade", "quote", "book")
        credential_fields = ("key",)

        def spelled(self, symbol: str) -> str:
            return symbol

    config = parse(
        {
            "venue": [
                {
                    "name": "kite",
                    "symbols": ["A"],
                    "channels": ["trade", "quote", "book"],
                    "credentials": ["a", "b"],
                }
            ]
        },
        venues={"kite": Facts()},
    )
    found = terms_of(config.venues[0], 4)
    assert found == Terms("kite", "venue[4]", 341, 7, ("a", "b"))
    assert found.connections_all == 14
