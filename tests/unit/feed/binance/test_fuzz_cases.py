"""The fuzzer's corpus through both decoders, and a short run of the fuzzer itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.binance_frames import BothDecoders
from tests.fuzzing import FUZZ, fuzz

CASES = sorted((FUZZ / "cases").iterdir())


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_decoders_agree_on_a_case_and_on_its_truncations(case: Path) -> None:
    market, frame = case.read_bytes()[:1], case.read_bytes()[1:]
    both = BothDecoders(futures=bool(market[0] & 1), depth=128)
    for size in range(len(frame), -1, -1 if len(frame) < 500 else -7):
        both.decode(frame[:size])


@pytest.mark.fuzz
def test_fuzzer_finds_no_crash_and_no_difference_of_the_scanners(tmp_path: Path) -> None:
    corpus = {case.name: case.read_bytes() for case in CASES}
    fuzz("fuzz_binance", tmp_path, corpus, runs=300_000, words=FUZZ / "binance.dict")
