"""Massive's C decoder and its reference under one set of tests: every frame goes through both."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdsys.feed.frame import FRAME_SIZE_MAX, FrameResult, SymbolInfo
from mdsys.feed.massive import conditions
from mdsys.feed.massive.venue import MASSIVE
from mdsys.record.record import ABSENT, Flag, Kind, Status
from tests.event_frames import BothDecoders, Event, edited, frame

SYMBOLS = {
    "NVDA": SymbolInfo(1),
    "BRK.B": SymbolInfo(2, price_scale=4, size_scale=0),
    "O:SPY241220P00720000": SymbolInfo(3),
}

# As public tests hold them from live streams of 2026.
TRADE: Event = {
    "ev": "T", "sym": "NVDA", "i": "40161", "x": 4, "p": 225.63, "s": 129, "c": [14, 37, 41],
    "t": 1786649956459, "pt": 1786649956458, "q": 9059424, "z": 3, "trfi": 202,
    "trft": 1786649956459, "ds": "129.0",
}  # fmt: skip
QUOTE: Event = {
    "ev": "Q", "sym": "NVDA", "i": [604], "bx": 10, "ax": 15, "bp": 225.62, "ap": 225.64,
    "bs": 100, "as": 500, "t": 1786649956446, "pt": 1786649956446, "q": 106078192, "z": 3,
}  # fmt: skip
BAR: Event = {
    "ev": "AM", "sym": "NVDA", "v": 80, "av": 144673, "vw": 296.32, "o": 296.31, "c": 296.33,
    "h": 296.4, "l": 296.3, "a": 296.6776, "z": 80, "s": 1782124920000, "e": 1782124980000,
    "dv": "80.243177", "dav": "144673.243177",
}  # fmt: skip
STATUS: Event = {"ev": "status", "status": "success", "message": "subscribed to: T.NVDA"}
DAY_MS = 86_400_000


def both(**options: Any) -> BothDecoders:
    return BothDecoders(MASSIVE, SYMBOLS, **options)


def test_a_trade_has_its_exact_size_its_id_and_its_conditions() -> None:
    result, (record,) = both().decode(frame(TRADE))
    assert result == FrameResult.OK
    assert (record.kind, record.symbol_id, record.flags) == (Kind.TRADE, 1, Flag.LAST)
    assert record.ts_event == 1786649956459 * 10**6
    assert record.body[:3] == (225_63000000, 129_00000000, 40161)
    assert conditions.unpack(record.body[3]) == (14, 37, 41)


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"s": 0, "ds": "0.5"}, 50000000),  # a fraction of a share
        ({"s": ..., "ds": "0.5"}, 50000000),
        ({"ds": ...}, 129_00000000),
        ({"ds": None}, 129_00000000),
        ({"s": 2.5, "ds": ...}, 2_50000000),
        ({"ds": "1e2"}, 100_00000000),
    ],
)
def test_the_exact_size_counts_where_it_is_sent(changes: Event, size: int) -> None:
    assert both().decode(frame(edited(TRADE, **changes)))[1][0].body[1] == size


@pytest.mark.parametrize(
    ("changes", "trade_id"),
    [({"i": ...}, ABSENT), ({"i": "A12"}, ABSENT), ({"i": ""}, ABSENT), ({"i": "007"}, ABSENT),
     ({"i": str(2**63)}, ABSENT), ({"i": str(2**63 - 1)}, 2**63 - 1), ({"i": 12}, 12),
     ({"i": "0"}, 0), ({"i": "-1"}, ABSENT), ({"i": 1.5}, ABSENT)],
)  # fmt: skip
def test_a_trade_id_that_is_no_integer_is_absent(changes: Event, trade_id: int) -> None:
    assert both().decode(frame(edited(TRADE, **changes)))[1][0].body[2] == trade_id


def test_a_quote_is_published_as_it_is_sent_and_lacks_the_side_that_is_not() -> None:
    _, (record,) = both().decode(frame(QUOTE))
    assert (record.kind, record.ts_event) == (Kind.QUOTE, 1786649956446 * 10**6)
    assert record.body == (225_62000000, 225_64000000, 100_00000000, 500_00000000)
    _, (record,) = both().decode(frame(edited(QUOTE, bp=..., bs=None)))
    assert record.body == (ABSENT, 225_64000000, ABSENT, 500_00000000)


@pytest.mark.parametrize(("kind", "seconds"), [("AM", 60), ("A", 1)])
def test_a_bar_begins_when_it_says_and_has_its_exact_volume(kind: str, seconds: int) -> None:
    _, (bar, volume) = both().decode(frame(edited(BAR, ev=kind)))
    assert (bar.kind, bar.flags) == (Kind.BAR, 0)
    assert (volume.kind, volume.flags) == (Kind.BAR_VOLUME, Flag.LAST)
    assert bar.ts_event == volume.ts_event == 1782124920000 * 10**6
    assert bar.body == (296_31000000, 296_40000000, 296_30000000, 296_33000000)
    assert volume.body == (80_24317700, 296_32000000, ABSENT, seconds * 10**9)


def test_a_vwap_that_cannot_be_held_costs_the_bar_only_the_vwap() -> None:
    result, records = both().decode(frame(edited(BAR, vw=296.3199999999)))
    assert result == FrameResult.VALUE
    assert [record.kind for record in records] == [Kind.STATUS, Kind.BAR, Kind.BAR_VOLUME]
    assert records[2].body[1] == ABSENT


def sequenced(event: Event, *numbers: int) -> bytes:
    return frame(*(edited(event, q=q, i=str(q)) for q in numbers))


def test_a_trade_that_comes_twice_is_dropped_and_a_late_one_is_not() -> None:
    decoders = both()
    _, records = decoders.decode(sequenced(TRADE, 10, 25, 25, 20, 26))
    assert [record.body[2] for record in records] == [10, 25, 20, 26]
    counts = decoders.c.counts
    assert (counts["duplicates"], counts["reordered"], counts["gaps"]) == (1, 1, 0)


def test_holes_of_the_sequence_are_no_gaps() -> None:
    decoders = both()
    _, records = decoders.decode(sequenced(TRADE, 1, 1000, 10**9))
    assert [record.kind for record in records] == [Kind.TRADE] * 3


def test_the_sequence_begins_anew_each_day() -> None:
    decoders = both()
    tomorrow = edited(TRADE, t=TRADE["t"] + DAY_MS)
    for event in (TRADE, tomorrow):
        for q in range(1, 50):
            assert decoders.decode(sequenced(event, q))[1][0].body[2] == q
    counts = decoders.c.counts
    assert (counts["trades"], counts["duplicates"], counts["reordered"]) == (98, 0, 0)


def test_the_day_ends_when_nobody_trades() -> None:
    evening = 1786665600000 - 1  # 19:59 in New York, in summer
    decoders = both()
    for at, q in ((evening, 100), (evening + 3_600_000 * 3, 101), (evening + 3_600_000 * 9, 1)):
        decoders.decode(frame(edited(TRADE, t=at, q=q)))
    counts = decoders.c.counts
    assert (counts["trades"], counts["duplicates"], counts["reordered"]) == (3, 0, 0)


def test_a_numbering_begun_anew_within_a_day_is_announced_and_followed() -> None:
    decoders = both()
    decoders.decode(sequenced(TRADE, 1 << 30))
    _, records = decoders.decode(sequenced(TRADE, *range(1, 50)))
    gap = [i for i, record in enumerate(records) if record.kind == Kind.STATUS]
    assert [records[i].body[:3] for i in gap] == [(Status.GAP, ABSENT, ABSENT)]
    assert len(records) == 50
    assert decoders.decode(sequenced(TRADE, 49, 50))[1][0].body[2] == 50


@pytest.mark.parametrize("q", [..., None, 0, -1, 1.5, 1 << 40, 2**64])
def test_a_trade_without_a_usable_sequence_is_published_all_the_same(q: Any) -> None:
    decoders = both()
    for _ in range(3):
        assert len(decoders.decode(frame(edited(TRADE, q=q)))[1]) == 1
    assert len(decoders.decode(sequenced(TRADE, 5))[1]) == 1


def test_a_quote_is_dropped_only_where_all_of_it_comes_twice() -> None:
    decoders = both()
    another = edited(QUOTE, bp=225.61)
    late = edited(QUOTE, q=5)
    raw = frame(QUOTE, QUOTE, another, another, late, another, QUOTE)
    _, records = decoders.decode(raw)
    assert [record.body[0] for record in records] == [
        *(225_62000000, 225_61000000, 225_62000000, 225_62000000)
    ]
    counts = decoders.c.counts
    assert (counts["duplicates"], counts["reordered"]) == (3, 1)


def test_quotes_without_a_sequence_are_never_dropped() -> None:
    plain = edited(QUOTE, q=...)
    assert len(both().decode(frame(plain, plain, QUOTE, plain))[1]) == 4


def test_an_event_at_fault_by_itself_costs_the_others_nothing() -> None:
    unfit = edited(TRADE, sym="BRK.B", p=1.23456, i="9")
    strange = edited(TRADE, sym="NOSUCH")
    result, records = both().decode(frame(TRADE, unfit, strange, {"ev": "ZZ"}, QUOTE))
    assert result == FrameResult.VALUE
    assert [record.kind for record in records] == [Kind.TRADE, Kind.STATUS, Kind.QUOTE]
    assert records[1].body == (Status.VALUE_REFUSED, 9, 9, 3)


def test_a_status_among_ticks_reaches_the_talk_and_costs_no_tick() -> None:
    assert both().decode(frame(STATUS)) == (FrameResult.CONTROL, [])
    result, records = both().decode(frame(TRADE, STATUS, edited(TRADE, sym="NOSUCH"), QUOTE))
    assert result == FrameResult.CONTROL
    assert [record.kind for record in records] == [Kind.TRADE, Kind.QUOTE]


@pytest.mark.parametrize("kind", ["LULD", "NOI", "FMV"])
def test_what_nobody_subscribes_to_is_passed_over(kind: str) -> None:
    assert both().decode(frame({"ev": kind, "T": "NVDA", "t": 1})) == (FrameResult.OK, [])


def test_only_wanted_channels_are_published() -> None:
    raw = frame(TRADE, QUOTE, BAR, edited(TRADE, sym="NOSUCH"))
    result, records = both(channels=("quote",)).decode(raw)
    assert (result, [record.kind for record in records]) == (FrameResult.OK, [Kind.QUOTE])


def test_names_of_classes_of_shares_and_of_options_are_found() -> None:
    names = ("BRK.B", "O:SPY241220P00720000")
    raw = frame(*(edited(TRADE, sym=name, q=...) for name in names))
    assert [record.symbol_id for record in both().decode(raw)[1]] == [2, 3]


@pytest.mark.parametrize("count", [64, 65, 66, 700])
def test_all_events_of_a_frame_come_in_its_order_however_many(count: int) -> None:
    _, records = both(depth=4096).decode(sequenced(TRADE, *range(1, count + 1)))
    assert [record.body[2] for record in records] == list(range(1, count + 1))


@pytest.mark.parametrize(
    ("raw", "result"),
    [
        (b"", FrameResult.MALFORMED),
        (b"[]", FrameResult.OK),
        (b'{"ev":"status"}', FrameResult.MALFORMED),
        (b'["status"]', FrameResult.MALFORMED),
        (b'[{"ev":"Z"}]', FrameResult.UNKNOWN_EVENT),
        (b'[{"ev":"AMX"}]', FrameResult.UNKNOWN_EVENT),
        (b'[{"ev":3}]', FrameResult.MALFORMED),
        (b"[{}]", FrameResult.MALFORMED),
        (frame(edited(TRADE, sym=...)), FrameResult.MALFORMED),
        (frame(edited(TRADE, sym=7)), FrameResult.MALFORMED),
        (frame(edited(TRADE, sym="nvda")), FrameResult.UNKNOWN_SYMBOL),
        (frame(edited(TRADE, p=...)), FrameResult.MALFORMED),
        (frame(edited(TRADE, p="225.63")), FrameResult.MALFORMED),
        (frame(edited(TRADE, s=..., ds=...)), FrameResult.MALFORMED),
        (frame(edited(TRADE, ds=129)), FrameResult.MALFORMED),
        (frame(edited(TRADE, ds="")), FrameResult.MALFORMED),
        (frame(edited(TRADE, ds="129 ")), FrameResult.MALFORMED),
        (frame(edited(TRADE, ds="1" * 128)), FrameResult.MALFORMED),
        (frame(edited(TRADE, ds="1" * 127)), FrameResult.VALUE),
        (frame(TRADE).replace(b"129.0", b"12\\u0039.0"), FrameResult.MALFORMED),
        (frame(edited(TRADE, t=...)), FrameResult.MALFORMED),
        (frame(edited(TRADE, t="1786649956459")), FrameResult.MALFORMED),
        (frame(edited(TRADE, t=1786649956459.5)), FrameResult.MALFORMED),
        (frame(edited(TRADE, t=-1)), FrameResult.MALFORMED),
        (frame(edited(TRADE, t=9223372036854)), FrameResult.OK),
        (frame(edited(TRADE, t=9223372036855)), FrameResult.MALFORMED),
        (frame(edited(TRADE, t=1786649956459000000)), FrameResult.MALFORMED),
        (frame(edited(TRADE, t=0)), FrameResult.OK),
        (frame(edited(TRADE, i=[])), FrameResult.MALFORMED),
        (frame(edited(TRADE, i=True)), FrameResult.MALFORMED),
        (frame(edited(TRADE, q="1")), FrameResult.MALFORMED),
        (frame(edited(TRADE, c=14)), FrameResult.MALFORMED),
        (frame(edited(TRADE, c=["@"])), FrameResult.MALFORMED),
        (frame(edited(QUOTE, bp="1")), FrameResult.MALFORMED),
        (frame(edited(QUOTE, q=[])), FrameResult.MALFORMED),
        (frame(edited(QUOTE, c=1, i=1)), FrameResult.OK),
        (frame(edited(QUOTE, bp=1e-9)), FrameResult.VALUE),
        (frame(edited(BAR, s=...)), FrameResult.MALFORMED),
        (frame(edited(BAR, o=...)), FrameResult.MALFORMED),
        (frame(edited(BAR, dv=..., v=...)), FrameResult.MALFORMED),
        (frame(edited(BAR, n="1")), FrameResult.MALFORMED),
        (frame(edited(BAR, h=1e300)), FrameResult.VALUE),
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
    st.integers(0, 5000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(0, 10**7, places=4).map(float),
    st.decimals(0, 10**7, places=9).map(str),
    st.text(max_size=6),
    st.sampled_from(["NVDA", "T", "Q", "A", "AM", "12", 1786649956459, 1786649956459 + DAY_MS]),
    st.lists(st.sampled_from([0, 14, 4094, 4095, 1.5, "x", -1]), max_size=7),
)
EVENTS = st.builds(
    lambda event, changes: {**event, **changes},
    st.sampled_from([TRADE, QUOTE, BAR, STATUS]),
    st.dictionaries(st.sampled_from(["ev", "sym", "bp", "as", "vw", "ds", "dv", *"tpsicqohlvn"]),
                    VALUES, max_size=2),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(EVENTS, max_size=5))
def test_decoders_agree_on_generated_frames(events: list[Event]) -> None:
    decoders = both()
    decoders.decode_all(events)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([TRADE, QUOTE]), st.integers(1, 12)), max_size=60))
def test_decoders_agree_on_any_order_of_the_sequence(steps: list[tuple[Event, int]]) -> None:
    decoders = both()
    for event, step in steps:
        decoders.decode(frame(edited(event, q=step if step < 9 else step << 24)))


@given(st.lists(st.integers(0, conditions.CODE_MAX), max_size=conditions.CODES_MAX))
def test_conditions_can_be_read_back(codes: list[int]) -> None:
    assert conditions.unpack(conditions.pack(codes)) == tuple(codes)


@pytest.mark.parametrize("codes", [[1] * 6, [4095], [-1], [2**70], [1.5]])
def test_conditions_that_do_not_fit_are_told_apart_from_none(codes: list[Any]) -> None:
    _, (record,) = both().decode(frame(edited(TRADE, c=codes)))
    assert record.body[3] == conditions.OTHER
    assert conditions.unpack(conditions.OTHER) is None
    assert both().decode(frame(edited(TRADE, c=[])))[1][0].body[3] == 0
    assert both().decode(frame(edited(TRADE, c=...)))[1][0].body[3] == ABSENT
