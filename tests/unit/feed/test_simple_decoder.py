from __future__ import annotations

import json

import pytest

from mdsys.feed.frame import FrameResult, Record, SymbolInfo
from mdsys.feed.sequence import Ids
from mdsys.feed.simple_decoder import Out, SimpleDecoder
from mdsys.record.record import ABSENT, Flag, Kind, Status

NOW = 5_000
A = SymbolInfo(1, 2, 0)
B = SymbolInfo(2, 8, 8)
Body = tuple[int, int, int, int]


class Recited(SimpleDecoder):
    """Frames that name the calls to be made."""

    def read(self, frame: bytes, out: Out) -> None:
        for call, arguments, keys in json.loads(frame):
            if "ids" in keys:
                keys["ids"] = Ids(keys["ids"])
            getattr(out, call)(*arguments, **keys)


def decoder() -> Recited:
    return Recited({"A": A, "B": B})


def decode(
    made: Recited, *calls: tuple[str, tuple[object, ...], dict[str, object]]
) -> tuple[FrameResult, list[Record]]:
    return made.decode(json.dumps(calls).encode(), NOW, 9)


def trade(
    number: int | None = None, price: object = "1.25", **keys: object
) -> tuple[str, tuple[object, ...], dict[str, object]]:
    return "trade", (keys.pop("symbol", "A"), 7, price, 3), {"trade_id": number, **keys}


def book(
    number: int | None, bids: object, asks: object = (), *, snapshot: bool = False
) -> tuple[str, tuple[object, ...], dict[str, object]]:
    return "book", ("A", 7, bids, asks), {"snapshot": snapshot, "update_id": number}


def statuses(records: list[Record]) -> list[tuple[int, ...]]:
    return [each.body for each in records if each.kind == Kind.STATUS]


def test_records_are_exact_and_bear_the_symbols_scales() -> None:
    result, records = decode(
        decoder(),
        trade(5, side="sell"),
        trade(symbol="B", price="1e-8"),
        ("quote", ("A", ABSENT, ["1.20", 5], None), {}),
        ("ticker", ("A", 7, "1.25"), {"volume": "1000"}),
    )
    assert result is FrameResult.OK
    last = int(Flag.LAST)
    assert records == [
        Record(7, NOW, 1, Kind.TRADE, Flag.SELL | last, 2, 0, (125, 3, 5, ABSENT)),
        Record(7, NOW, 2, Kind.TRADE, last, 8, 8, (1, 300_000_000, ABSENT, ABSENT)),
        Record(ABSENT, NOW, 1, Kind.QUOTE, last, 2, 0, (120, ABSENT, 5, ABSENT)),
        Record(7, NOW, 1, Kind.TICKER, last, 2, 0, (125, ABSENT, 1000, ABSENT)),
    ]


def test_holes_are_announced_and_what_has_been_here_is_dropped() -> None:
    made = decoder()
    _, records = decode(made, trade(5), trade(5), trade(4), trade(8), trade(6), trade(9))
    trades = [(each.body[2], each.late) for each in records if each.kind == Kind.TRADE]
    assert trades == [(5, False), (8, False), (6, True), (9, False)]
    assert statuses(records) == [(Status.GAP, 6, 7, 9)]
    assert (made.duplicates, made.reordered) == (2, 1)
    _, records = decode(made, trade(9), trade(10), trade(1, symbol="B"))
    assert [each.body[2] for each in records] == [10, 1], "each symbol numbers by itself"


def test_ids_that_only_ascend_tell_no_holes() -> None:
    _, records = decode(decoder(), trade(5, ids=1), trade(8, ids=1), trade(6, ids=1))
    assert [(each.body[2], each.late) for each in records] == [(5, False), (8, False), (6, True)]


def test_a_late_quote_is_told_as_late_and_one_that_has_been_here_is_dropped() -> None:
    made = decoder()
    bid = ["1.20", 5]
    for number, late in ((5, [False]), (8, [False]), (6, [True]), (8, [])):
        _, records = decode(made, ("quote", ("A", 7, bid, None), {"update_id": number}))
        assert [each.late for each in records] == late
    assert (made.duplicates, made.reordered) == (1, 1)


def test_levels_that_are_older_than_the_book_are_dropped_and_counted_each() -> None:
    made = decoder()
    rows = [["1.20", "5"], ["1.10", "5"]]
    for number in (40, 42):
        decode(made, book(number, rows))
    for number in (41, 42):
        _, records = decode(made, book(number, rows))
        assert records == []
    assert (made.duplicates, made.reordered) == (2, 2)


def test_what_was_missed_while_nobody_was_here_is_announced() -> None:
    made = Recited({"A": SymbolInfo(1, 2, 0, last_trade_id=5, last_book_id=40), "B": B})
    _, records = decode(made, trade(8), book(50, [["1.20", "5"]], snapshot=True))
    assert statuses(records) == [(Status.GAP, 6, 7, 9), (Status.GAP, 41, 49, 9)]
    _, records = decode(made, book(51, [["1.20", "6"]]), trade(1, symbol="B"))
    assert statuses(records) == []


def test_a_whole_book_without_a_level_is_told_by_one_of_no_side() -> None:
    _, records = decode(decoder(), book(40, [], snapshot=True))
    whole = Flag.SNAPSHOT | Flag.LAST
    assert [(each.flags, each.body) for each in records] == [(whole, (ABSENT, ABSENT, ABSENT, 40))]
    assert decode(decoder(), book(40, [])) == (FrameResult.OK, [])


def test_levels_end_with_the_last_of_their_frame() -> None:
    _, records = decode(
        decoder(), book(40, [["1.20", "5"], ["1.10", "0"]], [["1.30", "1"]], snapshot=True)
    )
    whole = Flag.SNAPSHOT
    assert [(each.flags, each.body) for each in records] == [
        (whole | Flag.BUY, (120, 5, ABSENT, 40)),
        (whole | Flag.BUY, (110, 0, ABSENT, 40)),
        (whole | Flag.SELL | Flag.LAST, (130, 1, ABSENT, 40)),
    ]


def test_a_hole_in_a_book_takes_it_out_of_step_until_a_snapshot_of_whatever_id() -> None:
    made = decoder()
    decode(made, book(40, [["1.20", "5"]], snapshot=True))
    _, records = decode(made, book(42, [["1.10", "5"]]))
    assert statuses(records) == [(Status.GAP, 41, 41, 9), (Status.RESYNC, ABSENT, ABSENT, 9)]
    _, records = decode(made, book(42, [["1.10", "5"]], snapshot=True))
    assert [each.kind for each in records] == [Kind.LEVEL]
    _, records = decode(made, book(43, [["1.10", "6"]]))
    assert statuses(records) == []


@pytest.mark.parametrize("price", ["1.255", "1e30", "x", ""])
def test_a_value_that_does_not_fit_is_told_and_the_others_go_on(price: str) -> None:
    result, records = decode(decoder(), trade(5, price), trade(6))
    assert result is FrameResult.VALUE
    assert statuses(records) == [(Status.VALUE_REFUSED, ABSENT, ABSENT, 9)]
    assert records[-1].body[2] == 6


def test_a_book_that_lacks_a_level_is_out_of_step() -> None:
    _, records = decode(decoder(), book(1, [["1.20", "5"], ["1.255", "5"]], snapshot=True))
    assert statuses(records)[-1][0] == Status.RESYNC
    assert all(each.kind == Kind.STATUS for each in records)


def test_strangers_and_unknown_events_are_the_frames_result_and_nothing_else() -> None:
    result, records = decode(decoder(), trade(1, symbol="X"), ("unknown", (), {}), trade(2))
    assert result is FrameResult.UNKNOWN_SYMBOL
    assert len(records) == 1
    assert decode(decoder(), ("unknown", (), {})) == (FrameResult.UNKNOWN_EVENT, [])
    assert decode(decoder(), ("control", (), {})) == (FrameResult.CONTROL, [])


def test_a_float_is_refused_since_it_is_rounded_already() -> None:
    with pytest.raises(TypeError, match="parse_float=str"):
        decode(decoder(), trade(1, 1.25))


def test_a_side_that_is_none_refuses_the_frame() -> None:
    with pytest.raises(KeyError):
        decode(decoder(), trade(1, side="sideways"))


def test_a_frame_that_is_refused_half_way_has_used_up_no_ids() -> None:
    made = decoder()
    decode(made, trade(1))
    with pytest.raises(TypeError, match="float"):
        decode(made, trade(2), trade(5), trade(6, price=1.5))
    _, records = decode(made, trade(6))
    assert [record.kind for record in records] == [Kind.STATUS, Kind.TRADE]
    assert records[0].body[1:3] == (2, 5)
