from __future__ import annotations

import gzip
from contextlib import closing
from pathlib import Path

import pytest

from mdsys._generator import payloads
from mdsys.feed.binance.dialect import BinanceSpot
from mdsys.sim import replay
from mdsys.sim.replay import Replay, ReplayError, ReplaySource
from tests.simulators import FormOnly

TRADE = b'{"stream":"btcusdt@trade","data":{"e":"trade","s":"BTCUSDT","t":%d}}'
DEPTH = (
    b'{"stream":"btcusdt@depth@100ms","data":'
    b'{"e":"depthUpdate","b":[["1.0","2"],["0.9","0"]],"a":[["1.1", "3"]]}}'
)
SNAPSHOT = b'{"lastUpdateId":5,"bids":[["1.0","2"]],"asks":[]}'


def write(path: Path, *lines: tuple[int, bytes], packed: bool = True) -> Path:
    text = b"".join(b"%d %s\n" % line for line in lines)
    path.write_bytes(gzip.compress(text) if packed else text)
    return path


def drain(source: ReplaySource, *, combined: bool = True, streams: list[str]) -> list[bytes]:
    view = source.view(FormOnly(combined=combined))
    view.show_streams(streams)
    source.start()
    out = b""
    with closing(source):
        while source.due_ns() is not None:
            source.advance(None)
            out += b"".join(view.render())
    return payloads(out)


@pytest.mark.parametrize("packed", [True, False])
def test_frames_are_replayed_byte_for_byte(tmp_path: Path, packed: bool) -> None:
    odd = b'{ "data" : {"b":1,\t"a":[ ]} , "stream":"btcusdt@trade"}'
    path = write(tmp_path / "a", (5, TRADE % 1), (6, SNAPSHOT), (7, odd), (8, DEPTH), packed=packed)
    streams = ["btcusdt@trade", "btcusdt@depth@100ms"]
    assert drain(Replay(path).open(BinanceSpot), streams=streams) == [TRADE % 1, odd, DEPTH]
    raw = drain(Replay(path).open(BinanceSpot), streams=streams, combined=False)
    assert raw == [
        b'{"e":"trade","s":"BTCUSDT","t":1}',
        b'{"b":1,\t"a":[ ]}',
        DEPTH.partition(b'"data":')[2][:-1],
    ]


def test_snapshots_are_counted_and_passed_over(tmp_path: Path) -> None:
    source = Replay(write(tmp_path / "a", (5, SNAPSHOT), (6, TRADE % 1))).open(BinanceSpot)
    assert drain(source, streams=["btcusdt@trade"]) == [TRADE % 1]
    assert source.snapshot_count == 1


def test_only_subscribed_streams_are_shown_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a", (5, TRADE % 1), (6, DEPTH), (7, DEPTH))
    source = Replay(path).open(BinanceSpot)
    view = source.view(FormOnly(combined=True))
    view.show_streams(["btcusdt@depth@100ms"])
    source.advance(None)
    assert payloads(b"".join(view.render())) == [DEPTH, DEPTH]
    assert view.frames == {"depth": 2}
    assert view.records == {"depth": 6}
    source.close()


def test_files_are_merged_by_receive_time(tmp_path: Path) -> None:
    first = write(tmp_path / "a", (5, TRADE % 1), (7, TRADE % 3), (7, TRADE % 4))
    second = write(tmp_path / "b", (6, TRADE % 2), (7, TRADE % 5), packed=False)
    source = Replay(first, second).open(BinanceSpot)
    assert drain(source, streams=["btcusdt@trade"]) == [TRADE % i for i in range(1, 6)]


def test_pace_is_the_recorded_one_times_the_speed(tmp_path: Path) -> None:
    start = 1_723_161_253_937_085_768
    path = write(
        tmp_path / "a", (start, TRADE % 1), (start + 1000, TRADE % 2), (start + 4000, TRADE % 3)
    )
    source = Replay(path, speed=2).open(BinanceSpot)
    due = []
    while (due_ns := source.due_ns()) is not None:
        source.advance(due_ns - 1)
        assert source.block == []
        source.advance(due_ns)
        due.append(due_ns)
    assert due == [0, 500, 2000]
    assert source.paced
    source.close()


def test_a_long_file_comes_in_blocks(tmp_path: Path) -> None:
    path = write(tmp_path / "a", *[(i, TRADE % i) for i in range(1, 2001)])
    source = Replay(path, speed=None).open(BinanceSpot)
    assert not source.paced
    source.advance(None)
    assert len(source.block) == replay.BLOCK_LINES
    assert len(drain(source, streams=["btcusdt@trade"])) == 2000 - replay.BLOCK_LINES


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"no-number {}", "expected '<receive_ns> <frame>'"),
        (b"-5 {}", "expected '<receive_ns> <frame>'"),
        (b"12345", "expected '<receive_ns> <frame>'"),
        (b"", "expected '<receive_ns> <frame>'"),
        (b"9" * 20 + b" {}", "expected '<receive_ns> <frame>'"),
        (b"7 {}", "not a combined frame"),
        (b'7 {"e":"trade","s":"BTCUSDT"}', "not a combined frame"),
        (b'7 {"stream":"a@trade","data":{', "not a combined frame"),
        (b'7 {"stream":"\xff","data":{}}', "not a combined frame"),
        (b'7 {"stream":5,"data":{}}', "not a combined frame"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path: Path, line: bytes, words: str) -> None:
    path = tmp_path / "bad"
    path.write_bytes(b"5 " + TRADE % 1 + b"\n" + line + b"\n6 " + TRADE % 2 + b"\n")
    with pytest.raises(ReplayError) as caught:
        drain(Replay(path).open(BinanceSpot), streams=[])
    assert str(caught.value).startswith(f"{path}:2: ")
    assert words in str(caught.value)


def test_a_truncated_gzip_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", *[(i, TRADE % i) for i in range(1, 20_000)])
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ReplayError, match=r"a\.gz:\d{3,}: the file is damaged"):
        drain(Replay(path).open(BinanceSpot), streams=[])


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(b"\x1f\x8b" + b"\xff" * 100)
    with pytest.raises(ReplayError, match="damaged"):
        Replay(path).open(BinanceSpot)


def test_a_missing_file_is_named_with_what_is_wanted(tmp_path: Path) -> None:
    good = write(tmp_path / "a", (5, TRADE % 1))
    with pytest.raises(ReplayError, match=r"nothing\.gz: No such file.*--replay takes"):
        Replay(good, tmp_path / "nothing.gz").open(BinanceSpot)


def test_a_file_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="no frames"):
        Replay(write(tmp_path / "a")).open(BinanceSpot)


def test_an_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "LINE_SIZE_MAX", 1 << 20)
    path = tmp_path / "a"
    path.write_bytes(b"5 " + b"x" * (1 << 20))
    with pytest.raises(ReplayError, match=r"a:1: the line is longer than 1 MiB"):
        Replay(path).open(BinanceSpot)


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf")])
def test_an_impossible_speed_is_refused(tmp_path: Path, speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        Replay(tmp_path / "a", speed=speed)


def test_captured_files_replay_byte_for_byte(data_dir: Path) -> None:
    paths = sorted((data_dir / "hftbacktest").glob("spot__*.gz"))
    if not paths:
        pytest.skip(f"no captured data in {data_dir}")
    lines: list[tuple[int, bytes]] = []
    for path in paths:
        with gzip.open(path) as file:
            for text in file:
                receive, _, frame = text.rstrip(b"\n").partition(b" ")
                if b'"stream"' in frame:
                    lines.append((int(receive), frame))
    lines.sort(key=lambda line: line[0])  # stable, as the merge is
    source = Replay(*paths, speed=None).open(BinanceSpot)
    streams = [
        f"{symbol}@{channel}"
        for symbol in ("btcusdt", "ethusdt")
        for channel in ("trade", "bookTicker", "depth@100ms")
    ]
    assert drain(source, streams=streams) == [frame for _, frame in lines]
    assert source.snapshot_count == len(paths)
