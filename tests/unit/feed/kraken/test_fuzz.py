"""A short run of the fuzzer over the Kraken decoders."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kraken_frames import DATA, DATA_V1, book, checksum
from tests.native import FEED_SOURCES, INCLUDE, SOURCES, run_program

FUZZ = Path(__file__).parents[4] / "native" / "fuzz"
WORDS = ("channel", "type", "data", "snapshot", "update", "symbol", "BTC/USD", "checksum", "bids")


def fuzzer(folder: Path) -> Path:
    """Compile the harness, or skip."""
    program = folder / "fuzz_kraken"
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")
    command = [
        *("clang", "-std=c17", "-g", "-O1", "-Wall", "-Wextra", "-Werror"),
        *("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"),
        *(f"-I{INCLUDE}", f"-I{SOURCES}", str(FUZZ / "fuzz_kraken.c"), *FEED_SOURCES),
        *("-o", str(program)),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "libclang_rt" in result.stderr:
        pytest.skip("clang's run-time (libclang-rt-*-dev) is not installed")
    assert result.returncode == 0, result.stderr
    return program


@pytest.mark.fuzz
def test_fuzzer_finds_no_crash_and_no_record_of_a_malformed_frame(tmp_path: Path) -> None:
    program = fuzzer(tmp_path)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    bids = [(f"{100 - i}.0", "1.0") for i in range(10)]
    better = ("100.5", "2.0")
    course = [book(bids, kind="snapshot"), book([better], [], checksum([better, *bids], []))]
    (corpus / "course").write_bytes(b"\0" + b"\n".join(course))
    for number, frames in enumerate((DATA, DATA_V1)):
        for name, frame in frames.items():
            (corpus / f"{number}_{name}").write_bytes(bytes([number]) + frame)
    words = tmp_path / "words"
    words.write_text("".join(f'"\\"{word}\\""\n' for word in WORDS))
    result = run_program(
        program,
        "-runs=100000",
        "-max_len=1500",
        "-seed=1",
        f"-dict={words}",
        f"-artifact_prefix={tmp_path}/",
        str(corpus),
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert "Done 100000 runs" in result.stderr
