"""Ids in order, late, again and begun anew: the Python twin, and C held against it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdsys import ABSENT, Status
from mdsys._decode import Decoder
from mdsys.feed.frame import SymbolInfo
from mdsys.feed.sequence import RESTART_COUNT, RESTART_DISTANCE, Ids, Order, Sequence
from mdsys.record.record import Kind
from tests.feeds import trade

FAR = 10 * RESTART_DISTANCE


class Watched:
    """A sequence, and the holes that it has announced."""

    def __init__(self) -> None:
        self.sequence = Sequence()
        self.holes: list[tuple[int, int]] = []

    def take(self, first: int, latest: int | None = None, ids: Ids = Ids.CONTIGUOUS) -> Order:
        latest = first if latest is None else latest
        order = self.sequence.order(first, latest, lambda *hole: self.holes.append(hole), ids)
        if order is Order.NEXT:
            self.sequence.note(latest)
        return order


def test_the_first_id_is_the_next_whatever_it_is() -> None:
    watched = Watched()
    assert watched.take(1_000) is Order.NEXT
    assert watched.take(1_001) is Order.NEXT
    assert watched.holes == []


def test_a_hole_is_announced_once_and_what_fills_it_is_late() -> None:
    watched = Watched()
    watched.take(10)
    assert watched.take(15) is Order.NEXT
    assert watched.holes == [(11, 14)]
    assert watched.take(11) is Order.LATE
    assert watched.take(14) is Order.LATE
    assert watched.take(14) is Order.AGAIN  # the second time it fills nothing
    assert watched.take(12, 13) is Order.LATE
    assert watched.take(12) is Order.AGAIN
    assert watched.holes == [(11, 14)]


def test_each_of_several_holes_is_filled_once() -> None:
    watched = Watched()
    taken = [watched.take(number) for number in (1, 2, 4, 6, 3, 5, 3, 5)]
    assert taken == [Order.NEXT] * 4 + [Order.LATE] * 2 + [Order.AGAIN] * 2
    assert watched.holes == [(3, 3), (5, 5)]


def test_an_id_in_the_middle_of_a_hole_fills_it_once() -> None:
    watched = Watched()
    taken = [watched.take(number) for number in (1, 10, 5, 5, 4, 6, 5)]
    assert taken[2:] == [Order.LATE, Order.AGAIN, Order.LATE, Order.LATE, Order.AGAIN]


def test_an_id_that_was_here_is_again() -> None:
    watched = Watched()
    for number in (10, 11, 12):
        watched.take(number)
    assert [watched.take(number) for number in (10, 11, 12)] == [Order.AGAIN] * 3
    assert watched.take(13) is Order.NEXT


def test_ascending_ids_have_no_holes_and_step_back_late() -> None:
    watched = Watched()
    watched.take(10, ids=Ids.ASCENDING)
    assert watched.take(20, ids=Ids.ASCENDING) is Order.NEXT
    assert watched.take(15, ids=Ids.ASCENDING) is Order.LATE
    assert watched.take(20, ids=Ids.ASCENDING) is Order.AGAIN
    assert watched.holes == []


def test_a_message_that_overlaps_the_last_id_is_the_next() -> None:
    watched = Watched()
    watched.take(10, 20)
    assert watched.take(15, 25) is Order.NEXT
    assert watched.take(26, 26) is Order.NEXT
    assert watched.holes == []


def test_numbering_begun_anew_is_noticed_after_so_many_in_a_row() -> None:
    watched = Watched()
    watched.take(FAR)
    taken = [watched.take(number) for number in range(1, RESTART_COUNT + 2)]
    assert taken == [Order.AGAIN] * (RESTART_COUNT - 1) + [Order.NEXT] * 2
    assert watched.holes == [(ABSENT, ABSENT)]


def test_a_slow_repetition_beside_the_live_numbering_is_no_restart() -> None:
    watched = Watched()
    watched.take(FAR)
    for i in range(10 * RESTART_COUNT):
        assert watched.take(1 + i) is Order.AGAIN
        assert watched.take(FAR + 1 + i) is Order.NEXT
    assert watched.holes == []


steps = st.lists(
    st.one_of(
        st.tuples(st.just("next"), st.integers(1, 3)),
        st.tuples(st.just("skip"), st.integers(1, 50)),
        st.tuples(st.just("back"), st.integers(0, 60)),
        st.tuples(st.just("restart"), st.integers(1, RESTART_COUNT + 3)),
    ),
    max_size=40,
)


@given(steps)
@settings(deadline=None, max_examples=200)
def test_the_decoders_in_c_order_trades_as_the_twin_does(script: list[tuple[str, int]]) -> None:
    decoder = Decoder("binance_spot", {"BTCUSDT": SymbolInfo(1)})
    watched = Watched()
    at = FAR
    low = 1
    for step, count in script:
        match step:
            case "next":
                ids = range(at + 1, at + 1 + count)
            case "skip":
                ids = range(at + 1 + count, at + 2 + count)
            case "back":
                ids = range(max(1, at - count), max(1, at - count) + 1)
            case _:
                ids = range(low, low + count)
                low += count
        for number in ids:
            told = len(watched.holes)
            order = watched.take(number)
            _, ticks = decoder.decode(trade(number))
            trades = ticks[ticks["kind"] == Kind.TRADE]
            holes = [
                (int(tick["first_lost"]), int(tick["last_lost"]))
                for tick in ticks[ticks["kind"] == Kind.STATUS]
                if tick["what"] == Status.GAP
            ]
            assert holes == watched.holes[told:]
            assert len(trades) == (order is not Order.AGAIN)
        at = watched.sequence.last
    late_and_again = decoder.counts["reordered"], decoder.counts["duplicates"]
    assert sum(late_and_again) + decoder.counts["trades"] >= len(script)


def test_a_late_trade_goes_into_the_ring_and_not_into_the_cell() -> None:
    # The cell is seen by the next quote-less look at the last trade: here through a second decoder
    # call that repeats the newest one and is dropped, since it is the cell's.
    decoder = Decoder("binance_spot", {"BTCUSDT": SymbolInfo(1)})
    for number in (10, 12, 11):
        decoder.decode(trade(number))
    assert decoder.counts["trades"] == 3
    assert decoder.counts["reordered"] == 1
    _, ticks = decoder.decode(trade(13))
    assert [int(tick["trade_id"]) for tick in ticks] == [13]  # 12 is still the last id


@pytest.mark.parametrize("ids", Ids)
def test_sequences_are_independent(ids: Ids) -> None:
    one, two = Watched(), Watched()
    one.take(5, ids=ids)
    assert two.take(1, ids=ids) is Order.NEXT
