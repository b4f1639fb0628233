"""Frames of events, at each venue that sends them: what the quick scanner takes, and both decoders
alike on whatever else may come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdsys.feed.frame import FrameResult
from tests.event_frames import BothDecoders, Event, edited, frame
from tests.quick import BUILDS, taken
from tests.unit.feed.alpaca import test_decoders as alpaca
from tests.unit.feed.massive import test_decoders as massive


class Sent(NamedTuple):
    """What a venue streams."""

    both: Callable[..., BothDecoders]
    trade: Event
    quote: Event
    others: tuple[Event, ...]


SENT = {
    "alpaca": Sent(
        *(alpaca.both, alpaca.TRADE, alpaca.QUOTE),
        (alpaca.BOOK, alpaca.REMOVAL, alpaca.CRYPTO_TRADE, alpaca.BAR),
    ),
    "massive": Sent(
        *(massive.both, edited(massive.TRADE, ds=...), massive.QUOTE),
        (massive.TRADE, massive.BAR, massive.STATUS),
    ),
}
EVENTS = [
    pytest.param(sent.both, event, id=f"{venue}-{next(iter(event.values()))}-{i}")
    for venue, sent in SENT.items()
    for i, event in enumerate((sent.trade, sent.quote, *sent.others))
]
ALPACA, MASSIVE = ("alpaca", "AAPL"), ("massive", "NVDA")
A, M = alpaca, massive
STOCK_BOOK: Event = edited(A.BOOK, S="AAPL")
TAKEN: dict[str, tuple[tuple[str, str], list[Event]]] = {
    "trade": (ALPACA, [A.TRADE]),
    "trade without what may be missing": (ALPACA, [edited(A.TRADE, x=..., c=..., z=...)]),
    "quote": (ALPACA, [A.QUOTE]),
    "quote without what may be missing": (
        ALPACA,
        [edited(A.QUOTE, bx=..., ax=..., c=..., z=...)],
    ),
    "book": (ALPACA, [STOCK_BOOK]),
    "book's change": (ALPACA, [edited(A.REMOVAL, S="AAPL")]),
    "several": (ALPACA, [A.TRADE, A.QUOTE, STOCK_BOOK, A.QUOTE, A.TRADE]),
    "fewer digits of a second": (ALPACA, [edited(A.QUOTE, t="2023-04-06T11:54:21.67Z")]),
    "massive's trade": (MASSIVE, [M.TRADE]),
    "massive's trade without what may be missing": (
        MASSIVE,
        [edited(M.TRADE, x=..., c=..., pt=..., z=..., trfi=..., trft=..., ds=...)],
    ),
    "massive's quote": (MASSIVE, [M.QUOTE]),
    "massive's quote without what may be missing": (
        MASSIVE,
        [edited(M.QUOTE, i=..., bx=..., ax=..., pt=..., z=...)],
    ),
    "massive's several": (
        MASSIVE,
        [M.TRADE, M.QUOTE, edited(M.QUOTE, q=5), edited(M.TRADE, q=9)],
    ),
}
LEFT: list[tuple[tuple[str, str], Event]] = [
    *(
        (ALPACA, event)
        for event in (
            *(A.BAR, A.BOOK, A.CRYPTO_TRADE, edited(A.TRADE, S="MSFT"), edited(A.TRADE, p=-1)),
            *(edited(A.TRADE, c=["@"] * 9), edited(A.TRADE, c=["AB"]), edited(A.TRADE, c=[])),
            *(edited(A.TRADE, c=["\\"]), edited(A.TRADE, i=None), edited(A.QUOTE, **{"as": ...})),
            edited(A.QUOTE, t="2023-04-06T11:54:21Z"),
            *(edited(STOCK_BOOK, r=False), edited(STOCK_BOOK, a=[{"s": 1, "p": 2}])),
            edited(STOCK_BOOK, b=[{"p": 1, "s": 1}] * 257),
            edited(STOCK_BOOK, b=[{"p": 1e-9, "s": 1}]),
        )
    ),
    *(
        (MASSIVE, event)
        for event in (
            *(M.BAR, edited(M.TRADE, sym="MSFT"), edited(M.TRADE, i="007"), edited(M.TRADE, p=-1)),
            *(edited(M.TRADE, c=[1] * 6), edited(M.TRADE, c=[4095]), edited(M.TRADE, c=[])),
            *(edited(M.TRADE, ds=".5"), edited(M.TRADE, t=10**14), edited(M.QUOTE, bp=...)),
        )
    ),
]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize(("names", "events"), TAKEN.values(), ids=TAKEN)
def test_frames_as_the_venue_sends_them_are_taken_by_the_quick_scanner(
    names: tuple[str, str], events: list[Event], build: str
) -> None:
    raw = frame(*events)
    assert taken(*names, raw, build)
    assert not taken(*names, raw.replace(b":", b": ", 1), build)
    SENT[names[0]].both().decode(raw)


@pytest.mark.parametrize(("names", "event"), LEFT)
def test_what_is_rare_is_left_to_the_general_way_and_read_alike(
    names: tuple[str, str], event: Event
) -> None:
    sent = SENT[names[0]]
    assert not taken(*names, frame(event))
    sent.both(depth=4096).decode(frame(event))
    sent.both(depth=4096).decode(frame(sent.quote, event, sent.trade))


@pytest.mark.parametrize(("both", "event"), EVENTS)
def test_both_agree_on_every_truncation_and_bit_flip(both: Any, event: Event) -> None:
    decoders = both(depth=8192)
    raw = frame(event)
    for whole in (raw, frame(event, event)):
        for size in range(len(whole)):
            assert decoders.decode(whole[:size])[0] == FrameResult.MALFORMED
    for at in range(len(raw)):
        for bit in range(8):
            flipped = bytearray(raw)
            flipped[at] ^= 1 << bit
            decoders.decode(bytes(flipped))


@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
@pytest.mark.parametrize(
    "written", [b"03", b"00", b"3.", b".3", b"3.e1", b"+3", b"3_0", b"3x", b"--3"]
)
@pytest.mark.parametrize("decimals", [b"", b".5"])
def test_a_number_is_what_json_takes_for_one(sent: Sent, written: bytes, decimals: bytes) -> None:
    raw = frame(edited(sent.trade, s=70707)).replace(b"70707", written + decimals)
    assert sent.both().decode(raw)[0] == FrameResult.MALFORMED


@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
def test_numbers_with_any_count_of_digits_before_and_behind_the_point_are_read_alike(
    sent: Sent,
) -> None:
    decoders = sent.both(depth=4096)
    for whole in range(1, 20):
        for decimals in range(12):
            written = (
                "1234567890123456789"[:whole] + "." * (decimals > 0) + "9876543210123"[:decimals]
            )
            for key in ("s", "p"):
                raw = frame(edited(sent.trade, **{key: 70707}))
                decoders.decode(raw.replace(b"70707", written.encode()))
                decoders.decode(raw.replace(b"70707", b"0" + written[whole:].encode()))


def test_the_exact_size_may_be_the_last_thing_of_a_frame_and_of_any_length() -> None:
    decoders = massive.both(depth=4096)
    for written in ("5", "0", "0.5", "12.25", "123456.7", "12345678", "1234567.12345678", "1.", ""):
        decoders.decode(frame(edited(massive.TRADE, q=..., ds=written)))


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 256])
def test_books_are_whole_however_many_events_and_rows_share_a_frame(count: int, rows: int) -> None:
    decoders = alpaca.both(depth=1 << 17)
    changes = [
        edited(A.REMOVAL, S="AAPL", b=[{"p": 1 + i, "s": j + 1} for j in range(rows)], a=[])
        for i in range(count)
    ]
    result, records = decoders.decode(frame(STOCK_BOOK, *changes, A.TRADE))
    assert result == FrameResult.OK
    assert len(records) == 4 + count * rows + 1


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_decoders_agree_on_spoilt_frames(data: st.DataObject) -> None:
    sent = data.draw(st.sampled_from(list(SENT.values())))
    raw = bytearray(frame(sent.trade, sent.quote, *sent.others))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.sampled_from(b'"\\,:[]{}0e.-tn \xc3\x80') | st.integers(0, 255))
    sent.both().decode(bytes(raw))
