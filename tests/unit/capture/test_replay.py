"""What a replay says of itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mdsys.capture.replay import Replay, Summary
from mdsys.capture.source import open_source
from tests.instances import cleaned, new_name


@pytest.mark.parametrize(
    ("ignored", "told"), [(0, ""), (158, " (158 ignored: they hold nothing that is read)")]
)
def test_the_summary_tells_of_events_that_are_not_read(ignored: int, told: str) -> None:
    summary = Summary(1_535, ignored, 12_482, first_ns=10**9, now_ns=3 * 10**9)
    assert summary.words() == f"1,535 frames{told}, 12,482 records of 2.0 s in 0.0 s"


def recording(tmp_path: Path) -> Path:
    """Write a quote, then a candle, which is not read."""
    quote = b'{"u":7,"s":"BTCUSDT","b":"1.0","B":"1.0","a":"2.0","A":"1.0"}'
    path = tmp_path / "spot"
    path.write_bytes(
        b'1700000000000000000 %s\n1700000000000000001 {"e":"kline","s":"BTCUSDT"}\n' % quote
    )
    return path


def test_a_replay_counts_what_it_cannot_read(tmp_path: Path) -> None:
    with cleaned(new_name()) as name:
        source = open_source(recording(tmp_path), "binance")
        summary = asyncio.run(Replay(source, name, speed=None, reader_count=0).run())
    assert (summary.frames, summary.ignored, summary.records) == (2, 1, 1)


@pytest.mark.parametrize(("count", "words"), [(1, "1 reader"), (2, "2 readers")])
def test_a_replay_that_waits_for_one_reader_does_not_say_readers(
    tmp_path: Path, count: int, words: str
) -> None:
    said: list[str] = []
    with cleaned(new_name()) as name:
        source = open_source(recording(tmp_path), "binance")
        replay = Replay(source, name, speed=None, reader_count=count)
        replay.stop()
        asyncio.run(replay.run(said.append))
    assert said == [f"waiting for {words}"]
