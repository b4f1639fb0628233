"""The book that a feed keeps, against a plain dictionary: changes, snapshots by REST, holes.

The frames are Binance's, whose books need all of it; the venue here is the model: it has the true
book at every id, cuts its changes into frames, and answers snapshots of any past moment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdsys import Flag, Kind, Status
from mdsys._decode import Decoder
from mdsys.feed.frame import FrameResult, SymbolInfo
from mdsys.record.record import ABSENT, Ticks
from tests.coinbase_frames import envelope
from tests.kraken_frames import book as kraken_book
from tests.native import PROGRAMS, SOURCES, compile_program, run_program, sanitizer_flags
from tests.openalgo_frames import DEPTH, edited

ONE = 10**8
NAME = "BTCUSDT"
Side = dict[int, int]
Top = tuple[list[tuple[int, int]], list[tuple[int, int]]]


def top_of(bids: Side, asks: Side, count: int = 10) -> Top:
    best_bids = sorted(bids.items(), reverse=True)[:count]
    best_asks = sorted(asks.items())[:count]
    return (
        [(price * ONE, size * ONE) for price, size in best_bids],
        [(price * ONE, size * ONE) for price, size in best_asks],
    )


@dataclass
class Venue:
    """The truth, change by change; an id each."""

    sides: tuple[Side, Side] = field(default_factory=lambda: ({}, {}))
    last_id: int = 1000
    history: dict[int, tuple[Side, Side]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.history[self.last_id] = ({}, {})

    def frame(self, changes: list[tuple[int, int, int]]) -> bytes:
        """Make changes (side, price, size) and return the frame that tells of them."""
        first = self.last_id + 1
        rows: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for side, price, size in changes:
            self.last_id += 1
            if size:
                self.sides[side][price] = size
            else:
                self.sides[side].pop(price, None)
            rows[side][price] = size
            self.history[self.last_id] = (dict(self.sides[0]), dict(self.sides[1]))
        bids, asks = ([[str(p), str(s)] for p, s in side.items()] for side in rows)
        return json.dumps(
            {
                "e": "depthUpdate",
                "E": 1700000000001,
                "s": NAME,
                "U": first,
                "u": self.last_id,
                "b": bids,
                "a": asks,
            }
        ).encode()

    def snapshot(self, at: int, limit: int) -> bytes:
        """Return the REST answer of the moment of an id."""
        bids, asks = top_of(*self.history[at], limit)
        return json.dumps(
            {
                "lastUpdateId": at,
                "bids": [[str(p // ONE), str(s // ONE)] for p, s in bids],
                "asks": [[str(p // ONE), str(s // ONE)] for p, s in asks],
            }
        ).encode()


def decoder(depth: int = 4096) -> Decoder:
    made = Decoder("binance_spot", {NAME: SymbolInfo(1)}, depth, books_by_rest=True)
    made.expect_book(NAME)
    assert made.take_wishes() == [NAME.encode()]
    return made


def statuses(ticks: Ticks) -> list[Status]:
    return [Status(int(tick["what"])) for tick in ticks[ticks["kind"] == Kind.STATUS]]


change = st.tuples(st.integers(0, 1), st.integers(1, 40), st.integers(0, 5))
changes = st.lists(change, min_size=1, max_size=8)


@given(st.lists(changes, min_size=1, max_size=30), st.data())
@settings(deadline=None, max_examples=300)
def test_whatever_moment_the_snapshot_is_of_the_book_is_the_venues(
    script: list[list[tuple[int, int, int]]], data: st.DataObject
) -> None:
    venue, c = Venue(), decoder()
    missed = data.draw(st.integers(0, 3), "frames before we were subscribed")
    for each in script[:missed]:
        venue.frame(each)
    subscribed_at = venue.last_id
    asked_at = data.draw(st.integers(0, len(script)), "frames seen when the answer comes")
    seen = script[missed : missed + asked_at]
    for each in seen:
        c.decode(venue.frame(each))
    if not seen:
        c.expect_book(NAME)
    at = data.draw(st.integers(subscribed_at, venue.last_id), "the moment it is of")
    result, _ = c.snapshot(NAME, venue.snapshot(at, 1000))
    assert result is FrameResult.OK
    for each in script[missed + asked_at :]:
        c.decode(venue.frame(each))
        usable, *top = c.book(NAME)
        if usable:
            assert tuple(top) == top_of(*venue.sides)
    if at == venue.last_id or seen:
        usable, *top = c.book(NAME)
        assert usable
        if script[missed:]:
            assert tuple(top) == top_of(*venue.sides)


def test_a_snapshot_older_than_the_first_change_is_refused_and_another_wished_for() -> None:
    venue, c = Venue(), decoder()
    old = venue.last_id
    venue.frame([(0, 10, 1), (1, 20, 1)])
    c.decode(venue.frame([(0, 11, 1)]))
    c.take_wishes()
    result, ticks = c.snapshot(NAME, venue.snapshot(old, 100))
    assert result is FrameResult.OK
    assert len(ticks) == 0
    assert not c.book(NAME)[0]
    assert c.take_wishes() == [NAME.encode()]


def test_a_snapshot_ahead_of_the_changes_drops_those_it_holds_already() -> None:
    venue, c = Venue(), decoder()
    c.decode(venue.frame([(0, 10, 1)]))
    late = [venue.frame([(0, 10, 2)]), venue.frame([(0, 10, 3)])]
    c.snapshot(NAME, venue.snapshot(venue.last_id, 100))
    for frame in late:
        _, ticks = c.decode(frame)
        assert len(ticks) == 0
    assert c.book(NAME) == (True, [(10 * ONE, 3 * ONE)], [])
    c.decode(venue.frame([(0, 10, 4)]))
    assert c.book(NAME) == (True, [(10 * ONE, 4 * ONE)], [])


def test_the_snapshot_goes_into_the_ring_as_the_book_is_then() -> None:
    venue, c = Venue(), decoder()
    c.decode(venue.frame([(0, 10, 1), (0, 9, 2), (1, 20, 3)]))
    at = venue.last_id
    c.decode(venue.frame([(0, 10, 0), (1, 21, 4)]))
    _, ticks = c.snapshot(NAME, venue.snapshot(at, 100))
    assert [int(t["price"]) // ONE for t in ticks] == [9, 20, 21]
    assert all(int(t["flags"]) & Flag.SNAPSHOT for t in ticks)
    assert [bool(t["flags"] & Flag.LAST) for t in ticks] == [False, False, True]
    assert {int(t["update_id"]) for t in ticks} == {venue.last_id}


def test_a_hole_voids_the_book_until_a_snapshot_from_behind_it() -> None:
    venue, c = Venue(), decoder()
    c.decode(venue.frame([(0, 10, 1)]))
    c.snapshot(NAME, venue.snapshot(venue.last_id, 100))
    before = venue.last_id
    assert c.book(NAME)[0]
    c.take_wishes()
    venue.frame([(0, 11, 1)])
    _, ticks = c.decode(venue.frame([(0, 12, 1)]))
    assert statuses(ticks) == [Status.GAP, Status.RESYNC]
    assert not c.book(NAME)[0]
    assert c.take_wishes() == [NAME.encode()]
    c.snapshot(NAME, venue.snapshot(before, 100))
    assert not c.book(NAME)[0]
    c.snapshot(NAME, venue.snapshot(venue.last_id, 100))
    assert (True, *top_of(*venue.sides)) == c.book(NAME)


def test_the_end_of_the_socket_voids_the_book_and_a_late_answer_is_dropped() -> None:
    venue, c = Venue(), decoder()
    c.decode(venue.frame([(0, 10, 1)]))
    body = venue.snapshot(venue.last_id, 100)
    c.snapshot(NAME, body)
    assert statuses(c.hang_up()) == [Status.RESYNC]
    assert not c.book(NAME)[0]
    _, ticks = c.snapshot(NAME, body)
    assert len(ticks) == 0
    assert not c.book(NAME)[0]


def test_ids_missed_while_away_are_announced_when_the_snapshot_comes_first() -> None:
    venue, c = Venue(), decoder()
    c.decode(venue.frame([(0, 10, 1)]))
    seen = venue.last_id
    c.hang_up()
    venue.frame([(0, 11, 1), (0, 12, 1)])
    c.expect_book(NAME)
    _, ticks = c.snapshot(NAME, venue.snapshot(venue.last_id, 100))
    gap = ticks[0]
    assert (gap["what"], gap["first_lost"], gap["last_lost"]) == (
        Status.GAP,
        seen + 1,
        venue.last_id,
    )
    assert c.book(NAME)[0]


def test_a_book_that_moves_beyond_the_snapshot_asks_for_another_and_stays_in_step() -> None:
    venue, c = Venue(), decoder()
    for price in range(1, 31):
        c.decode(venue.frame([(0, price, 1), (1, price + 40, 1)]))
    c = decoder()  # subscribes anew, and asks for 12 levels
    c.decode(venue.frame([(0, 30, 2)]))
    c.take_wishes()
    c.snapshot(NAME, venue.snapshot(venue.last_id, 12), asked=12)
    assert c.take_wishes() == []
    for price in range(30, 24, -1):
        c.decode(venue.frame([(0, price, 0)]))
    assert c.take_wishes() == [NAME.encode()]
    known = c.book(NAME)
    assert known[0]
    assert known[1] == top_of(*venue.sides)[0][: len(known[1])]
    at = venue.last_id
    c.decode(venue.frame([(0, 24, 0)]))  # removed after the moment of the answer
    c.snapshot(NAME, venue.snapshot(at, 12), asked=12)
    assert (True, *top_of(*venue.sides)) == c.book(NAME)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"code":-1121,"msg":"Invalid symbol."}',
        b'{"lastUpdateId":1,"bids":[["1","1"]]}',
        b'{"lastUpdateId":-1,"bids":[],"asks":[]}',
        b'{"lastUpdateId":1,"bids":[["1","0"]],"asks":[]}',
        b'{"lastUpdateId":1,"bids":[["1","1"],["2","1"]],"asks":[]}',
        b'{"lastUpdateId":1,"bids":[],"asks":[["2","1"],["1","1"]]}',
        b'{"lastUpdateId":1,"bids":[["x","1"]],"asks":[]}',
        b'{"lastUpdateId":1,"bids":[["1"]],"asks":[]}',
        b'{"lastUpdateId":1,"bids":[["1","1"]],"asks":[]',
    ],
)
def test_an_answer_that_is_no_book_is_refused_whole(body: bytes) -> None:
    c = decoder()
    result, ticks = c.snapshot(NAME, body)
    assert result is FrameResult.MALFORMED
    assert len(ticks) == 0
    assert not c.book(NAME)[0]


def test_a_level_that_does_not_fit_refuses_the_answer() -> None:
    c = decoder()
    body = b'{"lastUpdateId":1,"bids":[["0.123456789","1"]],"asks":[]}'
    assert c.snapshot(NAME, body)[0] is FrameResult.VALUE


def test_a_snapshot_larger_than_a_quarter_of_the_ring_goes_out_in_pieces_whole() -> None:
    venue, c = Venue(), decoder(depth=256)
    for price in range(1, 101):
        venue.frame([(0, price, 1), (1, price + 200, 1)])
    c.expect_book(NAME)
    _, ticks = c.snapshot(NAME, venue.snapshot(venue.last_id, 1000))
    assert len(ticks) == 200
    assert np.count_nonzero(ticks["flags"] & Flag.LAST) == 1
    assert ticks[-1]["flags"] & Flag.LAST
    assert (True, *top_of(*venue.sides)) == c.book(NAME)


def test_an_answer_from_before_the_book_ran_out_does_not_bring_removed_levels_back() -> None:
    venue, c = Venue(), decoder()
    for price in range(1, 31):
        venue.frame([(0, price, 1), (1, price + 40, 1)])
    c.decode(venue.frame([(0, 30, 2)]))
    c.take_wishes()
    old = venue.last_id
    c.snapshot(NAME, venue.snapshot(old, 12), asked=12)
    for price in range(30, 24, -1):  # these leave no trace: the book is in step
        c.decode(venue.frame([(0, price, 0)]))
    assert c.take_wishes() == [NAME.encode()]
    c.snapshot(NAME, venue.snapshot(old, 12), asked=12)
    known = c.book(NAME)[1]
    assert known == top_of(*venue.sides)[0][: len(known)]
    assert c.take_wishes() == [NAME.encode()]
    c.snapshot(NAME, venue.snapshot(venue.last_id, 12), asked=12)
    assert (True, *top_of(*venue.sides)) == c.book(NAME)


@pytest.mark.parametrize(
    "body", [b"{}", b'{"lastUpdateId":1,"bids":[["0.123456789","1"]],"asks":[]}']
)
def test_an_answer_that_is_refused_leaves_the_wish_for_another(body: bytes) -> None:
    venue, c = Venue(), decoder()
    c.decode(venue.frame([(0, 10, 1)]))
    c.take_wishes()
    assert c.snapshot(NAME, body)[0] is not FrameResult.OK
    assert c.take_wishes() == [NAME.encode()]
    c.snapshot(NAME, venue.snapshot(venue.last_id, 100))
    assert c.snapshot(NAME, body)[0] is not FrameResult.OK
    assert c.take_wishes() == []  # nobody waits for one


@pytest.mark.parametrize("sanitizer", ["address,undefined", None], ids=["sanitized", "plain"])
def test_an_answer_that_there_is_no_memory_for_is_refused_whole(sanitizer: str | None) -> None:
    flags = () if sanitizer is None else sanitizer_flags("gcc", sanitizer)
    sources = [str(SOURCES / f"{name}.c") for name in ("feed", "publish")]
    program = compile_program(PROGRAMS / "book_memory.c", flags=("-D_GNU_SOURCE", *flags, *sources))
    result = run_program(program)
    steps = "8 8\n"  # each side makes room three times while it is read, and once to be merged
    assert (result.returncode, result.stdout) == (0, steps), result.stderr


def level2(price: int, size: int = 1) -> bytes:
    return json.dumps(
        {
            "type": "l2update",
            "product_id": "BTC-USD",
            "changes": [["buy", str(price), str(size)]],
            "time": "2021-04-17T16:43:37.089723Z",
        }
    ).encode()


WHOLE = b'{"type":"snapshot","product_id":"BTC-USD","bids":[["100","1"]],"asks":[["200","1"]]}'


def test_a_late_change_by_the_socket_that_had_the_book_before_is_dropped() -> None:
    c = Decoder("coinbase_exchange", {"BTC-USD": SymbolInfo(1)})
    c.decode(WHOLE, connection=1)
    c.decode(WHOLE, connection=2)
    _, ticks = c.decode(level2(150), connection=1)
    assert len(ticks) == 0
    assert c.book("BTC-USD")[1] == [(100 * ONE, ONE)]
    c.decode(level2(101), connection=2)
    assert c.book("BTC-USD")[1] == [(101 * ONE, ONE), (100 * ONE, ONE)]


EMPTY: dict[str, tuple[str, str, bytes]] = {
    "coinbase exchange": (
        "coinbase_exchange",
        "X",
        b'{"type":"snapshot","product_id":"X","bids":[],"asks":[]}',
    ),
    "coinbase advanced": (
        "coinbase_advanced",
        "X",
        envelope("l2_data", 0, '{"type":"snapshot","product_id":"X","updates":[]}'),
    ),
    "kraken": ("kraken", "X", kraken_book(kind="snapshot", symbol="X")),
    "alpaca": (
        "alpaca",
        "X",
        b'[{"T":"o","S":"X","t":"2024-03-12T10:38:50.796Z","b":[],"a":[],"r":true}]',
    ),
    "openalgo": (
        "openalgo",
        "NSE:X",
        edited(DEPTH, "NSE:X", depth={"buy": [], "sell": []}),
    ),
}


@pytest.mark.parametrize(("name", "symbol", "frame"), EMPTY.values(), ids=EMPTY)
def test_a_whole_book_without_a_level_is_told_by_one_of_no_side(
    name: str, symbol: str, frame: bytes
) -> None:
    c = Decoder(name, {symbol: SymbolInfo(1)}, 64, channels=["book"])
    result, ticks = c.decode(frame)
    assert result is FrameResult.OK
    assert [row(each) for each in ticks] == [NOTHING]
    assert c.book(symbol) == (True, [], [])
    assert c.counts["book_snapshots"] == 1


def test_a_book_that_a_snapshot_by_rest_finds_empty_is_told_as_such() -> None:
    venue, c = Venue(), decoder()
    _, ticks = c.snapshot(NAME, venue.snapshot(venue.last_id, 100))
    assert [row(each) for each in ticks] == [(*NOTHING[:-1], venue.last_id)]
    assert c.book(NAME) == (True, [], [])


NOTHING = (Kind.LEVEL, Flag.SNAPSHOT | Flag.LAST, ABSENT, ABSENT, ABSENT, ABSENT)


def row(tick: Any) -> tuple[int, ...]:
    names = ("kind", "flags", "price", "size", "orders", "update_id")
    return tuple(int(tick[name]) for name in names)


def test_changes_of_a_book_that_went_with_another_socket_make_it_wish_for_a_snapshot() -> None:
    c = Decoder("coinbase_exchange", {"BTC-USD": SymbolInfo(1)})
    c.decode(WHOLE, connection=1)
    c.decode(WHOLE, connection=2)
    c.hang_up(2)
    assert c.take_wishes() == []
    c.decode(level2(101), connection=1)
    assert c.take_wishes() == [b"BTC-USD"]
    assert not c.book("BTC-USD")[0]
