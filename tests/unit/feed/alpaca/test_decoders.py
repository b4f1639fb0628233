"""Alpaca's C decoder and its reference under one set of tests: every frame goes through both."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdsys.feed.alpaca import conditions
from mdsys.feed.alpaca.venue import ALPACA
from mdsys.feed.frame import FRAME_SIZE_MAX, FrameResult, SymbolInfo
from mdsys.record.record import ABSENT, Flag, Kind, Status
from tests.event_frames import BothDecoders, Event, edited, frame

SYMBOLS = {
    "AAPL": SymbolInfo(1),
    "BRK.B": SymbolInfo(2, price_scale=4, size_scale=0),
    "BTC/USD": SymbolInfo(3, price_scale=10, size_scale=9),
}

# As the documents and public tests quote them.
TRADE: Event = {
    "T": "t", "S": "AAPL", "i": 628, "x": "K", "p": 162.92, "s": 3,
    "c": ["@", "F", "T", "I"], "z": "C", "t": "2023-04-06T11:54:26.838232225Z",
}  # fmt: skip
CRYPTO_TRADE: Event = {
    "T": "t", "S": "BTC/USD", "p": 47.299, "s": 29.205707815,
    "t": "2024-03-12T10:27:48.858228144Z", "i": 3447222699101865076, "tks": "S",
}  # fmt: skip
QUOTE: Event = {
    "T": "q", "S": "AAPL", "bx": "K", "bp": 91.95, "bs": 200, "ax": "Q", "ap": 91.98, "as": 100,
    "c": ["R"], "z": "C", "t": "2023-04-06T11:54:21.670905508Z",
}  # fmt: skip
BAR: Event = {
    "T": "b", "S": "AAPL", "o": 388.985, "h": 389.13, "l": 388.975, "c": 389.12, "v": 49378,
    "n": 462, "vw": 389.062639, "t": "2021-02-22T19:15:00Z",
}  # fmt: skip
BOOK: Event = {
    "T": "o", "S": "BTC/USD", "t": "2024-03-12T10:38:50.796Z",
    "b": [{"p": 71859.53, "s": 0.27994}, {"p": 71849.4, "s": 0.553986}],
    "a": [{"p": 71939.7, "s": 0.83953}, {"p": 71940.4, "s": 0.28025}], "r": True,
}  # fmt: skip
REMOVAL: Event = {
    "T": "o", "S": "BTC/USD", "t": "2024-03-12T10:39:40.501Z", "b": [{"p": 71849.4, "s": 0}],
    "a": [],
}  # fmt: skip
TIME = 1680782066838232225  # of TRADE


def both(**options: Any) -> BothDecoders:
    return BothDecoders(ALPACA, SYMBOLS, **options)


def test_a_trade_has_its_own_nanoseconds_its_id_and_its_conditions() -> None:
    result, (record,) = both().decode(frame(TRADE))
    assert result == FrameResult.OK
    assert (record.kind, record.symbol_id, record.flags) == (Kind.TRADE, 1, Flag.LAST)
    assert (record.ts_event, record.ts_recv) == (TIME, 7)
    price, size, trade_id, codes = record.body
    assert (price, size, trade_id) == (162_92000000, 3_00000000, 628)
    assert conditions.unpack(codes) == ("@", "F", "T", "I")


def test_a_crypto_trade_keeps_nine_decimals_and_the_takers_side() -> None:
    _, (record,) = both().decode(frame(CRYPTO_TRADE))
    assert record.flags == Flag.SELL | Flag.LAST
    assert record.body == (47_2990000000, 29_205707815, 3447222699101865076, ABSENT)


def test_a_quote_is_published_as_it_is_sent() -> None:
    _, (record,) = both().decode(frame(QUOTE))
    assert (record.kind, record.flags) == (Kind.QUOTE, Flag.LAST)
    assert record.body == (91_95000000, 91_98000000, 200_00000000, 100_00000000)


@pytest.mark.parametrize("kind", ["b", "u"])
def test_a_minute_bar_is_two_records_of_one_frame(kind: str) -> None:
    _, (bar, volume) = both().decode(frame(edited(BAR, T=kind)))
    assert (bar.kind, bar.flags) == (Kind.BAR, 0)
    assert (volume.kind, volume.flags) == (Kind.BAR_VOLUME, Flag.LAST)
    assert bar.ts_event == volume.ts_event == 1614021300 * 10**9
    assert bar.body == (388_98500000, 389_13000000, 388_97500000, 389_12000000)
    assert volume.body == (49378_00000000, 389_06263900, 462, 60 * 10**9)


def test_a_vwap_that_cannot_be_held_costs_the_bar_only_the_vwap() -> None:
    result, records = both().decode(frame(edited(BAR, vw=389.0626392817)))
    assert result == FrameResult.VALUE
    assert [record.kind for record in records] == [Kind.STATUS, Kind.BAR, Kind.BAR_VOLUME]
    assert records[0].body == (Status.VALUE_REFUSED, ABSENT, ABSENT, 3)
    assert records[2].body[1] == ABSENT


def test_a_bar_may_lack_its_vwap_and_its_count() -> None:
    result, (_, volume) = both().decode(frame(edited(BAR, vw=..., n=None)))
    assert (result, volume.body[1:3]) == (FrameResult.OK, (ABSENT, ABSENT))


def test_a_book_begins_with_a_snapshot_and_goes_on_with_changes() -> None:
    decoders = both()
    _, records = decoders.decode(frame(BOOK))
    assert [record.flags & Flag.SNAPSHOT for record in records] == [Flag.SNAPSHOT] * 4
    assert [record.flags & 3 for record in records] == [Flag.BUY] * 2 + [Flag.SELL] * 2
    assert [bool(record.flags & Flag.LAST) for record in records] == [False] * 3 + [True]
    assert decoders.c.book("BTC/USD")[1] == [
        (71859_5300000000, 279940000),
        (71849_4000000000, 553986000),
    ]
    _, (removal,) = decoders.decode(frame(REMOVAL))
    assert removal.flags == Flag.BUY | Flag.LAST
    assert removal.body == (71849_4000000000, 0, ABSENT, ABSENT)
    usable, bids, asks = decoders.c.book("BTC/USD")
    assert (usable, len(bids), len(asks)) == (True, 1, 2)


def test_a_new_snapshot_replaces_the_whole_book() -> None:
    decoders = both()
    decoders.decode(frame(BOOK))
    decoders.decode(frame(edited(BOOK, b=[], a=[{"p": 1, "s": 1}])))
    assert decoders.c.book("BTC/USD") == (True, [], [(1_0000000000, 1_000000000)])


def test_a_level_that_cannot_be_held_voids_the_book_until_the_next_snapshot() -> None:
    decoders = both()
    decoders.decode(frame(BOOK))
    result, records = decoders.decode(frame(edited(REMOVAL, a=[{"p": 1e-11, "s": 1}])))
    assert result == FrameResult.VALUE
    assert [record.body[0] for record in records] == [Status.VALUE_REFUSED, Status.RESYNC]
    assert decoders.c.book("BTC/USD")[0] is False
    assert decoders.c.take_wishes() == [b"BTC/USD"]
    _, records = decoders.decode(frame(edited(REMOVAL, a=[{"p": 1e-11, "s": 1}])))
    assert [record.body[0] for record in records] == [Status.VALUE_REFUSED]
    decoders.decode(frame(BOOK))
    assert decoders.c.book("BTC/USD")[0] is True


@pytest.mark.parametrize("count", [1, 63, 64, 65, 66, 500])
def test_all_events_of_a_frame_come_in_its_order_however_many(count: int) -> None:
    events = [edited(TRADE if i % 3 else QUOTE, S=("AAPL", "BRK.B")[i % 2]) for i in range(count)]
    for i, event in enumerate(events):
        event["bs" if event["T"] == "q" else "i"] = i
    _, records = both(depth=4096).decode(frame(*events))
    numbers = [
        record.body[2] // 10 ** (record.size_scale if record.kind == Kind.QUOTE else 0)
        for record in records
    ]
    assert numbers == list(range(count))


def test_an_event_at_fault_by_itself_costs_the_others_nothing() -> None:
    decoders = both()
    strange = edited(TRADE, S="NOSUCH")
    unheard = {"T": "zz", "S": "AAPL"}
    unfit = edited(TRADE, S="BRK.B", p=1.23456, i=9)
    result, records = decoders.decode(frame(TRADE, strange, unfit, unheard, QUOTE))
    assert result == FrameResult.UNKNOWN_SYMBOL
    assert [record.kind for record in records] == [Kind.TRADE, Kind.STATUS, Kind.QUOTE]
    assert records[1].body == (Status.VALUE_REFUSED, 9, 9, 3)
    assert decoders.decode(frame(unfit, strange, TRADE))[0] == FrameResult.VALUE
    assert decoders.decode(frame(unheard, strange, TRADE))[0] == FrameResult.UNKNOWN_EVENT


@pytest.mark.parametrize("place", [0, 1, 63, 64, 99])
def test_a_malformed_event_refuses_the_whole_frame(place: int) -> None:
    events = [TRADE] * 100
    events[place] = edited(TRADE, p=...)
    assert both().decode(frame(*events)) == (FrameResult.MALFORMED, [])


def test_only_wanted_channels_are_published() -> None:
    decoders = both(channels=("quote",))
    events = [TRADE, QUOTE, BAR, BOOK, edited(TRADE, S="NOSUCH")]
    result, records = decoders.decode(frame(*events))
    assert (result, [record.kind for record in records]) == (FrameResult.OK, [Kind.QUOTE])


@pytest.mark.parametrize(
    "event",
    [
        {"T": "success", "msg": "connected"},
        {"T": "error", "code": 406, "msg": "connection limit exceeded"},
        {"T": "subscription", "trades": ["AAPL"], "quotes": []},
        {"T": "x", "S": "AAPL", "i": 465, "x": "D", "p": 105.31, "s": 300, "a": "C", "z": "C"},
        {"T": "c", "S": "AAPL", "x": "M", "oi": 5, "op": 39.1, "os": 4, "ci": 6, "cp": 39, "cs": 4},
        {"T": "s", "S": "AAPL", "sc": "H", "sm": "Trading Halt", "rc": "T12", "rm": "Halted"},
    ],
    ids=lambda event: str(event["T"]),
)
def test_what_is_no_tick_is_for_the_talk_and_never_a_trade(event: Event) -> None:
    assert both().decode(frame(event)) == (FrameResult.CONTROL, [])
    # However many share its frame, and whatever is wrong with them.
    result, records = both().decode(frame(edited(TRADE, S="NOSUCH"), TRADE, event, QUOTE))
    assert result == FrameResult.CONTROL
    assert [record.kind for record in records] == [Kind.TRADE, Kind.QUOTE]


@pytest.mark.parametrize("kind", ["d", "l", "i"])
def test_what_nobody_subscribes_to_is_passed_over(kind: str) -> None:
    assert both().decode(frame({"T": kind, "S": "AAPL"})) == (FrameResult.OK, [])


def test_trade_ids_are_not_taken_for_a_sequence() -> None:
    decoders = both()
    for trade_id in (5, 5, 1, 100, 2):
        _, (record,) = decoders.decode(frame(edited(TRADE, i=trade_id)))
        assert record.body[2] == trade_id
    assert decoders.c.counts["duplicates"] == decoders.c.counts["gaps"] == 0


@pytest.mark.parametrize(
    ("changes", "trade_id"),
    [({"i": ...}, ABSENT), ({"i": None}, ABSENT), ({"i": 2**63}, ABSENT), ({"i": -1}, ABSENT),
     ({"i": 2**63 - 1}, 2**63 - 1), ({"i": 0}, 0), ({"i": 1.0}, ABSENT)],
)  # fmt: skip
def test_a_trade_id_that_is_no_id_is_absent(changes: Event, trade_id: int) -> None:
    assert both().decode(frame(edited(TRADE, **changes)))[1][0].body[2] == trade_id


@pytest.mark.parametrize(
    ("raw", "result"),
    [
        (b"", FrameResult.MALFORMED),
        (b"[]", FrameResult.OK),
        (b" [ ] \n", FrameResult.OK),
        (b"[", FrameResult.MALFORMED),
        (b"[,]", FrameResult.MALFORMED),
        (b"[null]", FrameResult.MALFORMED),
        (b"[[]]", FrameResult.MALFORMED),
        (b"[{}]", FrameResult.MALFORMED),
        (b"{}", FrameResult.MALFORMED),
        (b'{"T":"t"}', FrameResult.MALFORMED),
        (b'[{"T":1}]', FrameResult.MALFORMED),
        (b'[{"T":null}]', FrameResult.MALFORMED),
        (b'[{"T":"z"}]', FrameResult.UNKNOWN_EVENT),
        (b'[{"T":""}]', FrameResult.UNKNOWN_EVENT),
        (b'[{"T":"' + b"t" * 500 + b'"}]', FrameResult.UNKNOWN_EVENT),
        (b'[{"T":"s\\u0075ccess"}]', FrameResult.CONTROL),
        (b'[{"\\u0054":"success"}]', FrameResult.CONTROL),
        (b'[{"T":"t","T":"success"}]', FrameResult.CONTROL),
        (b'[{"T":"\xff"}]', FrameResult.MALFORMED),
        (frame(TRADE).replace(b'"S"', b'"S\0\0"'), FrameResult.MALFORMED),
        (frame(TRADE).replace(b'"S"', b'"S\\u0000"'), FrameResult.MALFORMED),
        (b'[{"T":"success"}]x', FrameResult.MALFORMED),
        (b'[{"T":"success"}][]', FrameResult.MALFORMED),
        (b'[{"T":"success"},]', FrameResult.MALFORMED),
        (frame(TRADE) * 2, FrameResult.MALFORMED),
        (frame(edited(TRADE, S=1)), FrameResult.MALFORMED),
        (frame(edited(TRADE, S=...)), FrameResult.MALFORMED),
        (frame(edited(TRADE, S="A" * 5000)), FrameResult.UNKNOWN_SYMBOL),
        (frame(edited(TRADE, S="aapl")), FrameResult.UNKNOWN_SYMBOL),
        (frame(edited(TRADE, p="1.5")), FrameResult.MALFORMED),
        (frame(edited(TRADE, p=None)), FrameResult.MALFORMED),
        (frame(edited(TRADE, s=[])), FrameResult.MALFORMED),
        (frame(edited(TRADE, s=True)), FrameResult.MALFORMED),
        (frame(edited(TRADE, i="628")), FrameResult.MALFORMED),
        (frame(edited(TRADE, c="@")), FrameResult.MALFORMED),
        (frame(edited(TRADE, c=[1])), FrameResult.MALFORMED),
        (frame(edited(TRADE, c=[None])), FrameResult.MALFORMED),
        (frame(edited(TRADE, tks=1)), FrameResult.MALFORMED),
        (frame(edited(TRADE, tks="?")), FrameResult.OK),
        (frame(edited(TRADE, t=1680782066)), FrameResult.MALFORMED),
        (frame(edited(TRADE, t="2023-04-06")), FrameResult.MALFORMED),
        (frame(edited(TRADE, t="2023-02-30T00:00:00Z")), FrameResult.MALFORMED),
        (frame(edited(TRADE, t="2023-04-06T11:54:26.8382322251Z")), FrameResult.MALFORMED),
        (frame(edited(TRADE, t="2300-01-01T00:00:00Z")), FrameResult.MALFORMED),
        (frame(edited(TRADE, t="0" * 500)), FrameResult.MALFORMED),
        (frame(edited(QUOTE, bp=...)), FrameResult.MALFORMED),
        (frame(edited(QUOTE, bp=0, bs=0)), FrameResult.OK),
        (frame(edited(BAR, v=...)), FrameResult.MALFORMED),
        (frame(edited(BAR, c=["@"])), FrameResult.MALFORMED),
        (frame(edited(BAR, vw="1")), FrameResult.MALFORMED),
        (frame(edited(BAR, n="1")), FrameResult.MALFORMED),
        (frame(edited(BOOK, r=1)), FrameResult.MALFORMED),
        (frame(edited(BOOK, r=None)), FrameResult.OK),
        (frame(edited(BOOK, b=...)), FrameResult.MALFORMED),
        (frame(edited(BOOK, a={})), FrameResult.MALFORMED),
        (frame(edited(BOOK, a=[1])), FrameResult.MALFORMED),
        (frame(edited(BOOK, a=[{"p": 1}])), FrameResult.MALFORMED),
        (frame(edited(BOOK, a=[{"p": 1, "s": "1"}])), FrameResult.MALFORMED),
        (frame(edited(BOOK, a=[[1, 1]])), FrameResult.MALFORMED),
        (frame(edited(TRADE, p=1e300)), FrameResult.VALUE),
        (frame(edited(TRADE, p=0.000000001)), FrameResult.VALUE),
        (frame(TRADE).replace(b"162.92", b"162." + b"9" * 5000), FrameResult.VALUE),
        (frame(TRADE).replace(b"162.92", b"9" * 5000), FrameResult.VALUE),
        (frame(TRADE).replace(b"162.92", b"1e999999999999"), FrameResult.VALUE),
        (frame(TRADE).replace(b"162.92", b"1629200e-4"), FrameResult.OK),
        (frame(edited(TRADE, y=0)).replace(b"0}", b"[" * 62 + b"]" * 62 + b"}"), FrameResult.OK),
        (
            frame(edited(TRADE, y=0)).replace(b"0}", b"[" * 63 + b"]" * 63 + b"}"),
            FrameResult.MALFORMED,
        ),
        (frame(TRADE).ljust(FRAME_SIZE_MAX), FrameResult.OK),
        (frame(TRADE).ljust(FRAME_SIZE_MAX + 1), FrameResult.TOO_LONG),
    ],
    ids=lambda value: value.name if isinstance(value, FrameResult) else repr(value[:60]),
)
def test_each_frame_gets_its_result(raw: bytes, result: FrameResult) -> None:
    found, records = both().decode(raw)
    assert found == result
    if result not in {FrameResult.OK, FrameResult.VALUE}:
        assert not records


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2**64),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(0, 10**7, places=4).map(float),
    st.text(max_size=6),
    st.sampled_from(["AAPL", "BTC/USD", "B", "S", TRADE["t"], "2024-03-12T10:39:40.501Z"]),
    st.lists(st.sampled_from(["@", "F", "", "XY", 1, {"p": 1, "s": 2.5}, "\0"]), max_size=10),
    st.lists(st.fixed_dictionaries({"p": st.floats(0, 1e5), "s": st.floats(0, 10)}), max_size=4),
)
EVENTS = st.builds(
    lambda event, changes: {**event, **changes},
    st.sampled_from([TRADE, CRYPTO_TRADE, QUOTE, BAR, BOOK, REMOVAL]),
    st.dictionaries(st.sampled_from([*"TStpsicobahlvnr", "vw", "tks", "bp", "as"]), VALUES,
                    max_size=2),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(EVENTS, max_size=5))
def test_decoders_agree_on_generated_frames(events: list[Event]) -> None:
    decoders = both()
    decoders.decode(frame(BOOK))
    decoders.decode_all(events)


def test_a_snapshot_of_a_deep_book_goes_out_in_pieces_and_whole() -> None:
    decoders = both(depth=64)
    rows = [{"p": 100 + i, "s": 1} for i in range(40)]
    _, records = decoders.decode(frame(edited(BOOK, a=rows)))
    assert len(records) == 42
    assert [bool(record.flags & Flag.LAST) for record in records] == [False] * 41 + [True]
    assert decoders.c.book("BTC/USD")[0] is True


@given(st.lists(st.text(st.characters(min_codepoint=1, max_codepoint=127), min_size=1, max_size=1),
                max_size=8))  # fmt: skip
def test_conditions_can_be_read_back(codes: list[str]) -> None:
    assert conditions.unpack(conditions.pack(codes)) == tuple(codes)


@pytest.mark.parametrize("codes", [["@"] * 9, ["XY"], [""], ["é"], ["\0"]])
def test_conditions_that_do_not_fit_are_told_apart_from_none(codes: list[str]) -> None:
    assert conditions.pack(codes) == conditions.OTHER
    assert conditions.unpack(conditions.OTHER) is None
    assert conditions.unpack(conditions.pack(None)) is None
    _, (record,) = both().decode(frame(edited(TRADE, c=codes)))
    assert record.body[3] == conditions.OTHER


def test_frames_are_read_by_meaning_and_not_by_form() -> None:
    spread = json.dumps([TRADE, QUOTE], indent=2).encode()
    assert both().decode(spread) == both().decode(frame(TRADE, QUOTE))
