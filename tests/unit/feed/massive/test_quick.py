"""Massive's trades and quotes as it streams them are read by the quick scanner."""

from __future__ import annotations

import pytest

from tests.event_frames import Event, edited, frame
from tests.quick import BUILDS, taken
from tests.unit.feed.massive.test_decoders import BAR, QUOTE, TRADE, both

SENT = {
    "trade": [TRADE],
    "trade without what may be missing": [
        edited(TRADE, x=..., c=..., pt=..., z=..., trfi=..., trft=..., ds=...)
    ],
    "quote": [QUOTE],
    "quote without what may be missing": [edited(QUOTE, i=..., bx=..., ax=..., pt=..., z=...)],
    "several": [TRADE, QUOTE, edited(QUOTE, q=5), edited(TRADE, q=9)],
}


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("events", SENT.values(), ids=SENT)
def test_frames_as_the_venue_sends_them_are_taken(events: list[Event], build: str) -> None:
    raw = frame(*events)
    assert taken("massive", "NVDA", raw, build)
    assert not taken("massive", "NVDA", raw.replace(b":", b": ", 1), build)


@pytest.mark.parametrize(
    "event",
    [
        *(BAR, edited(TRADE, sym="MSFT"), edited(TRADE, i="007"), edited(TRADE, p=-1)),
        *(edited(TRADE, c=[1, 2, 3, 4, 5, 6]), edited(TRADE, c=[4095]), edited(TRADE, c=[])),
        *(edited(TRADE, ds=".5"), edited(TRADE, t=10**14), edited(QUOTE, bp=...)),
    ],
)
def test_what_is_rare_is_left_to_the_general_way_and_read_alike(event: Event) -> None:
    assert not taken("massive", "NVDA", frame(event))
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
