"""A short run of the fuzzer, from frames as the venue sends them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.coinbase_frames import (
    EXCHANGE,
    EXCHANGE_HEARTBEAT,
    heartbeats,
    l2_data,
    market_trades,
    subscriptions,
    ticker,
)
from tests.native import FEED_SOURCES, INCLUDE, POSIX, REPOSITORY, SOURCES, run_program

ADVANCED = (
    l2_data(0),
    l2_data(0, "snapshot"),
    market_trades(0, [1, 2]),
    market_trades(0, [5, 4], "snapshot"),
    ticker(0),
    heartbeats(0),
    subscriptions(0, {"level2": ["BTC-USD"]}),
)


@pytest.mark.fuzz
def test_fuzzer_finds_no_crash_and_no_difference_of_the_scanners(tmp_path: Path) -> None:
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")
    program, corpus = tmp_path / "fuzz_coinbase", tmp_path / "corpus"
    command = [
        *("clang", "-std=c17", "-g", "-O1", "-Wall", "-Wextra", "-Werror", POSIX),
        *("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"),
        *(f"-I{INCLUDE}", f"-I{SOURCES}"),
        str(REPOSITORY / "native" / "fuzz" / "fuzz_coinbase.c"),
        *FEED_SOURCES,
        *("-o", str(program)),
    ]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    if "libclang_rt" in compiled.stderr:
        pytest.skip("clang's run-time (libclang-rt-*-dev) is not installed")
    assert compiled.returncode == 0, compiled.stderr
    corpus.mkdir()
    frames = [b"\0" + frame for frame in (*EXCHANGE.values(), EXCHANGE_HEARTBEAT)]
    frames += [b"\1" + frame for frame in ADVANCED]
    for i, frame in enumerate(frames):
        (corpus / str(i)).write_bytes(frame)
    options = ("-runs=50000", "-max_len=1500", "-seed=1", f"-artifact_prefix={tmp_path}/")
    result = run_program(program, *options, str(corpus), seconds=300)
    assert result.returncode == 0, result.stderr[-4000:]
    assert "Done 50000 runs" in result.stderr
