"""A short run of the fuzzer, from frames as the venue sends them."""

from __future__ import annotations

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
from tests.fuzzing import fuzz

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
    frames = [b"\0" + frame for frame in (*EXCHANGE.values(), EXCHANGE_HEARTBEAT)]
    frames += [b"\1" + frame for frame in ADVANCED]
    fuzz("fuzz_coinbase", tmp_path, {str(i): e for i, e in enumerate(frames)}, runs=50_000)
