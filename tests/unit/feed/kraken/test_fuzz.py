"""A short run of the fuzzer over the Kraken decoders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzzing import fuzz
from tests.kraken_frames import DATA, DATA_V1, book, checksum

WORDS = ("channel", "type", "data", "snapshot", "update", "symbol", "BTC/USD", "checksum", "bids")


@pytest.mark.fuzz
def test_fuzzer_finds_no_crash_and_no_record_of_a_malformed_frame(tmp_path: Path) -> None:
    bids = [(f"{100 - i}.0", "1.0") for i in range(10)]
    better = ("100.5", "2.0")
    course = [book(bids, kind="snapshot"), book([better], [], checksum([better, *bids], []))]
    corpus = {"course": b"\0" + b"\n".join(course)}
    for number, frames in enumerate((DATA, DATA_V1)):
        for name, frame in frames.items():
            corpus[f"{number}_{name}"] = bytes([number]) + frame
    words = tmp_path / "words"
    words.write_text("".join(f'"\\"{word}\\""\n' for word in WORDS))
    fuzz("fuzz_kraken", tmp_path, corpus, runs=100_000, words=words)
