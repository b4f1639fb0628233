"""A short run of the fuzzer over the decoders of Alpaca and Massive, which share their scanner."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.event_frames import Event, frame
from tests.fuzzing import fuzz

LINKED = ("decode_alpaca.c", "decode_massive.c")
T = "2024-03-12T10:38:50.796Z"
SEEDS: dict[int, list[Event]] = {
    0: [
        {"T": "t", "S": "AAPL", "i": 628, "x": "K", "p": 162.92, "s": 3, "c": ["@", "F"], "t": T},
        {"T": "q", "S": "AAPL", "bx": "K", "bp": 91.95, "bs": 2, "ax": "Q", "ap": 92, "as": 1,
         "t": T},
        {"T": "b", "S": "AAPL", "o": 3.5, "h": 4, "l": 3, "c": 3.9, "v": 9, "vw": 3.7, "t": T},
        {"T": "o", "S": "BTC/USD", "b": [{"p": 7.5, "s": 0.2}], "a": [], "r": True, "t": T},
        {"T": "success", "msg": "connected"},
    ],
    1: [
        {"ev": "T", "sym": "AAPL", "i": "401", "p": 2.63, "s": 129, "c": [14], "q": 9,
         "t": 1786649956459, "ds": "129.0"},
        {"ev": "Q", "sym": "AAPL", "bp": 2.62, "ap": 2.64, "bs": 1, "as": 5, "q": 7,
         "t": 1786649956446},
        {"ev": "AM", "sym": "AAPL", "v": 80, "vw": 9.3, "o": 9, "c": 9, "h": 9, "l": 9,
         "s": 1786649956446, "dv": "80.5"},
        {"ev": "status", "status": "success", "message": "x"},
    ],
}  # fmt: skip
"""By the first byte of the fuzzer's input."""


@pytest.mark.fuzz
def test_fuzzer_finds_no_crash_and_no_difference_that_blanks_make(tmp_path: Path) -> None:
    corpus = {}
    for venue, events in SEEDS.items():
        for i, event in enumerate(events):
            corpus[f"{venue}.{i}"] = bytes([venue]) + frame(event)
        corpus[f"{venue}.all"] = bytes([venue]) + frame(*events)
    fuzz("fuzz_events", tmp_path, corpus, runs=60_000, linked=LINKED)
