"""A short run of the fuzzer over the decoders of Kite and OpenAlgo."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzzing import fuzz
from tests.kite_frames import INFY, frame, packet
from tests.openalgo_frames import DEPTH, QUOTE, edited

LINKED = ("decode_kite.c", "decode_openalgo.c")
KITE, OPENALGO = b"\0", b"\1"
ROWS = [(5, 157340, 1), (140, 157300, 2), (0, 0, 0), (0, 0, 0), (0, 0, 0), (172, 157370, 3)]
SEEDS = [
    KITE + frame(packet("full", INFY, ROWS, last_price=157370, exchange_timestamp=1625461887)),
    KITE + frame(packet("quote", INFY, volume=7), packet("ltp", INFY, last_price=-1)),
    KITE + frame(packet("index quote", INFY), packet("index full", INFY)),
    OPENALGO + QUOTE,
    OPENALGO + DEPTH,
    OPENALGO + edited(QUOTE, "N" * 63 + ":L"),  # fills the room for a name to the brim
    OPENALGO + b'{"status":"error","code":"NOT_AUTHENTICATED"}',
]


@pytest.mark.fuzz
def test_fuzzer_finds_no_crash_and_no_record_of_a_refused_frame(tmp_path: Path) -> None:
    corpus = {str(i): seed for i, seed in enumerate(SEEDS)}
    fuzz("fuzz_brokers", tmp_path, corpus, runs=150_000, linked=LINKED)
