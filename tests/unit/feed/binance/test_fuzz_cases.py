"""The fuzzer's corpus through both decoders, and a short run of the fuzzer itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.binance_frames import BothDecoders
from tests.native import FEED_SOURCES, INCLUDE, SOURCES, run_program

FUZZ = Path(__file__).parents[4] / "native" / "fuzz"
CASES = sorted((FUZZ / "cases").iterdir())


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_decoders_agree_on_a_case_and_on_its_truncations(case: Path) -> None:
    market, frame = case.read_bytes()[:1], case.read_bytes()[1:]
    both = BothDecoders(futures=bool(market[0] & 1), depth=128)
    for size in range(len(frame), -1, -1 if len(frame) < 500 else -7):
        both.decode(frame[:size])


def fuzzer(folder: Path) -> Path:
    """Compile the harness, or skip."""
    program = folder / "fuzz_binance"
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")
    command = [
        *("clang", "-std=c17", "-g", "-O1", "-Wall", "-Wextra", "-Werror"),
        *("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"),
        *(f"-I{INCLUDE}", f"-I{SOURCES}", str(FUZZ / "fuzz_binance.c"), *FEED_SOURCES),
        *("-o", str(program)),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "libclang_rt" in result.stderr:
        pytest.skip("clang's run-time (libclang-rt-*-dev) is not installed")
    assert result.returncode == 0, result.stderr
    return program


@pytest.mark.fuzz
def test_fuzzer_finds_no_crash_and_no_difference_of_the_scanners(tmp_path: Path) -> None:
    program = fuzzer(tmp_path)
    corpus = tmp_path / "corpus"
    shutil.copytree(FUZZ / "cases", corpus)
    result = run_program(
        program,
        "-runs=300000",
        "-max_len=1500",
        "-seed=1",
        f"-dict={FUZZ / 'binance.dict'}",
        f"-artifact_prefix={tmp_path}/",
        str(corpus),
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert "Done 300000 runs" in result.stderr
