"""A short run of the fuzzer over the decoders of Kite and OpenAlgo."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kite_frames import INFY, frame, packet
from tests.native import FEED_SOURCES, INCLUDE, SOURCES, run_program
from tests.openalgo_frames import DEPTH, QUOTE, edited

FUZZ = Path(__file__).parents[4] / "native" / "fuzz" / "fuzz_brokers.c"
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


def fuzzer(folder: Path) -> Path:
    """Compile the harness, or skip."""
    program = folder / "fuzz_brokers"
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")
    command = [
        *("clang", "-std=c17", "-g", "-O1", "-Wall", "-Wextra", "-Werror"),
        *("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"),
        *(f"-I{INCLUDE}", f"-I{SOURCES}", str(FUZZ), *FEED_SOURCES),
        *(str(SOURCES / name) for name in LINKED),
        *("-o", str(program)),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "libclang_rt" in result.stderr:
        pytest.skip("clang's run-time (libclang-rt-*-dev) is not installed")
    assert result.returncode == 0, result.stderr
    return program


@pytest.mark.fuzz
def test_fuzzer_finds_no_crash_and_no_record_of_a_refused_frame(tmp_path: Path) -> None:
    program = fuzzer(tmp_path)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for i, seed in enumerate(SEEDS):
        (corpus / str(i)).write_bytes(seed)
    options = ("-runs=150000", "-max_len=1500", "-seed=1", f"-artifact_prefix={tmp_path}/")
    result = run_program(program, *options, str(corpus))
    assert result.returncode == 0, result.stderr[-4000:]
    assert "Done 150000 runs" in result.stderr
