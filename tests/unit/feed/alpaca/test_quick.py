"""Alpaca's trades and quotes as it streams them are read by the quick scanner."""

from __future__ import annotations

import pytest

from tests.event_frames import Event, edited, frame
from tests.quick import BUILDS, taken
from tests.unit.feed.alpaca.test_decoders import BAR, BOOK, CRYPTO_TRADE, QUOTE, TRADE, both

SENT = {
    "trade": [TRADE],
    "trade without what may be missing": [edited(TRADE, x=..., c=..., z=...)],
    "quote": [QUOTE],
    "quote without what may be missing": [edited(QUOTE, bx=..., ax=..., c=..., z=...)],
    "several": [TRADE, QUOTE, QUOTE, TRADE],
    "fewer digits of a second": [edited(QUOTE, t="2023-04-06T11:54:21.67Z")],
}


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("events", SENT.values(), ids=SENT)
def test_frames_as_the_venue_sends_them_are_taken(events: list[Event], build: str) -> None:
    raw = frame(*events)
    assert taken("alpaca", "AAPL", raw, build)
    assert not taken("alpaca", "AAPL", raw.replace(b":", b": ", 1), build)


@pytest.mark.parametrize(
    "event",
    [
        *(BAR, BOOK, CRYPTO_TRADE, edited(TRADE, S="MSFT"), edited(TRADE, p=-1)),
        *(
            edited(TRADE, c=["@"] * 9),
            edited(TRADE, c=["AB"]),
            edited(TRADE, c=[]),
            edited(TRADE, c=["\\"]),
        ),
        *(
            edited(TRADE, i=None),
            edited(QUOTE, t="2023-04-06T11:54:21Z"),
            edited(QUOTE, **{"as": ...}),
        ),
    ],
)
def test_what_is_rare_is_left_to_the_general_way_and_read_alike(event: Event) -> None:
    assert not taken("alpaca", "AAPL", frame(event))
    both().decode(frame(event))
    both().decode(frame(QUOTE, event, TRADE))


@pytest.mark.parametrize("event", [TRADE, QUOTE], ids=["trade", "quote"])
def test_both_agree_on_every_truncation_and_bit_flip(event: Event) -> None:
    decoders = both()
    raw = frame(event)
    for size in range(len(raw)):
        decoders.decode(raw[:size])
    for at in range(len(raw)):
        for bit in range(8):
            flipped = bytearray(raw)
            flipped[at] ^= 1 << bit
            decoders.decode(bytes(flipped))
