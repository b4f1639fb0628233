"""Captures read back: others' formats against the decoder alone, times, symbols, damage."""

from __future__ import annotations

import gc
import gzip
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mdsys
from mdsys import TICK, Kind
from mdsys._capture import ENTRY_SIZE, Engine, Sink, entry_at
from mdsys._decode import Decoder
from mdsys.capture.foreign import ForeignSource
from mdsys.capture.format import SUFFIX, CaptureError, FileWriter, json_entry
from mdsys.capture.format import Kind as Kind_
from mdsys.capture.reader import CaptureReader
from mdsys.errors import MdsysError, UsageError
from mdsys.feed.frame import SymbolInfo
from mdsys.record.record import Ticks

SPOT = "hftbacktest/spot__btcusdt_20240808.gz"


def data_file(data_dir: Path, name: str) -> Path:
    path = data_dir / name
    if not path.exists():
        pytest.skip(f"no captured data: {path} does not exist (set MDSYS_DATA)")
    return path


def joined(pieces: Iterator[Ticks]) -> Ticks:
    return np.concatenate([np.empty(0, TICK), *(each.copy() for each in pieces)], dtype=TICK)


def own_capture(source: ForeignSource, folder: Path) -> Path:
    """Write another's recording as a file of ours."""
    file = FileWriter(
        folder / f"a{SUFFIX}", {"instance": "i", "feed": 0, "began_ns": 1, "connections": []}
    )
    for block in source.blocks(0):
        file.write(block)
    file.close("converted")
    return folder


def test_a_recording_of_binance_gives_what_its_decoder_gives(data_dir: Path) -> None:
    path = data_file(data_dir, SPOT)
    decoder = Decoder("binance_spot", {"BTCUSDT": SymbolInfo(1)}, books_by_rest=True)
    decoder.expect_book("BTCUSDT", 1)
    expected = []
    with gzip.open(path) as lines:
        for line in lines:
            ts_recv, _, frame = line.rstrip().partition(b" ")
            if frame.startswith(b'{"lastUpdateId"'):
                ticks = decoder.snapshot("BTCUSDT", frame, 5000, int(ts_recv), 1)[1]
            else:
                ticks = decoder.decode(frame, int(ts_recv), 1)[1]
            expected.append(ticks)
    ticks = joined(iter(mdsys.open_capture(path).reader()))
    wanted = np.concatenate(expected, dtype=TICK)
    wanted["seq"] = 0
    assert len(ticks) == 163_888
    assert ticks.tobytes() == wanted.tobytes()


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("hftbacktest/usdm__btcusdt_20240808.gz", 532_957),
        ("hftbacktest/cm__btcusd_perp_20240808.gz", 319_439),
        ("cryptofeed/BINANCE.ws.1.0.gz", 5_150),
        ("cryptofeed/BINANCE_FUTURES.ws.1.0.gz", 12_482),
        ("cryptofeed/COINBASE.ws.28.0.gz", 14_391),
        ("cryptofeed/KRAKEN.ws.48.0.gz", 4),
        ("cryptofeed/KRAKEN.ws.49.0.gz", 18),
        ("cryptofeed/KRAKEN.ws.50.0.gz", 6_733),
    ],
)
def test_every_recording_of_a_supported_venue_is_known_by_its_content(
    data_dir: Path, name: str, count: int
) -> None:
    reader = mdsys.open_capture(data_file(data_dir, name)).reader()
    ticks = joined(iter(reader))
    assert len(ticks) == count == reader.received
    assert not (ticks["kind"] == Kind.STATUS).any(), "a gap, or a checksum that does not hold"


def test_the_size_of_batches_changes_nothing(data_dir: Path) -> None:
    capture = mdsys.open_capture(data_file(data_dir, "cryptofeed/COINBASE.ws.28.0.gz"))
    whole = joined(iter(capture.reader()))
    for size in (1, 7, 100_000):
        reader = capture.reader()
        out = np.empty(size, TICK)
        pieces = []
        while count := reader.poll_into(out):
            pieces.append(out[:count].copy())
        assert all(len(piece) == size for piece in pieces[:-1])
        assert np.concatenate(pieces, dtype=TICK).tobytes() == whole.tobytes()


def test_start_and_end_cut_by_receive_time_and_leave_the_rest_as_it_is(data_dir: Path) -> None:
    capture = mdsys.open_capture(data_file(data_dir, SPOT))
    whole = joined(iter(capture.reader()))
    start, end = (int(whole["ts_recv"][i]) for i in (50_000, 90_000))
    part = joined(iter(capture.reader(start=start, end=end)))
    chosen = (whole["ts_recv"] >= start) & (whole["ts_recv"] < end)
    assert part.tobytes() == whole[chosen].tobytes()


def test_a_record_received_where_two_spans_meet_is_in_the_second_alone(data_dir: Path) -> None:
    capture = mdsys.open_capture(data_file(data_dir, SPOT))
    whole = joined(iter(capture.reader()))
    moment = int(whole["ts_recv"][60_000])
    before, after = (
        joined(iter(capture.reader(start=start, end=end)))
        for start, end in ((None, moment), (moment, None))
    )
    assert int(after["ts_recv"][0]) == moment
    assert np.concatenate([before, after], dtype=TICK).tobytes() == whole.tobytes()


def ignored_in(reader: CaptureReader) -> int:
    for _ in reader:
        pass
    return reader.ignored


@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        ("cryptofeed/BINANCE.ws.1.0.gz", 2 + 2),
        ("cryptofeed/BINANCE_FUTURES.ws.1.0.gz", 91 + 67),
        ("cryptofeed/COINBASE.ws.28.0.gz", 0),
        ("cryptofeed/KRAKEN.ws.50.0.gz", 0),
    ],
)
def test_events_that_are_not_read_are_not_lost_without_a_word(
    data_dir: Path, name: str, ignored: int
) -> None:
    path = data_file(data_dir, name)
    with gzip.open(path) as lines:
        found = sum(b'"e":"aggTrade"' in line or b'"e":"kline"' in line for line in lines)
    assert ignored_in(mdsys.open_capture(path).reader()) == found == ignored


def spot_recording(tmp_path: Path, *frames: bytes) -> Path:
    """Write one a second, the first received 10^9 s after the epoch."""
    path = tmp_path / "spot"
    path.write_bytes(b"".join(b"%d %s\n" % (i * 10**9, f) for i, f in enumerate(frames, 10**9)))
    return path


QUOTE = b'{"u":7,"s":"BTCUSDT","b":"1.0","B":"1.0","a":"2.0","A":"1.0"}'
CANDLE = b'{"e":"kline","E":1,"s":"BTCUSDT","k":{}}'
TORN = b'{"e":"trade","s":"BTCUSDT"'
NAMELESS = b'{"u":7,"s" : "BTCUSDT","b":"1.0","B":"1.0","a":"2.0","A":"1.0"}'
INEXACT = b'{"u":7,"s":"BTCUSDT","b":"0.0000000001","B":"1.0","a":"2.0","A":"1.0"}'
ANSWER = b'{"result":null,"id":1}'


@pytest.mark.parametrize(
    ("frame", "ignored"),
    [(QUOTE, 0), (ANSWER, 0), (INEXACT, 0), (CANDLE, 1), (TORN, 1), (NAMELESS, 1)],
)
def test_a_frame_is_ignored_that_is_no_answer_and_that_no_record_tells_of(
    tmp_path: Path, frame: bytes, ignored: int
) -> None:
    path = spot_recording(tmp_path, frame)
    reader = mdsys.open_capture(path, "binance").reader()
    count = len(joined(iter(reader)))
    assert (count, reader.ignored) == (int(frame in {QUOTE, INEXACT}), ignored)


def test_only_frames_between_start_and_end_are_counted_as_ignored(tmp_path: Path) -> None:
    capture = mdsys.open_capture(spot_recording(tmp_path, *[CANDLE] * 9), "binance")
    first = 10**9 * 10**9
    assert ignored_in(capture.reader()) == 9
    assert ignored_in(capture.reader(start=first + 3 * 10**9, end=first + 7 * 10**9)) == 4


def test_an_engine_that_the_collector_takes_apart_frees_its_rings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    cycle: dict[str, Any] = {}  # an empty one is not looked after until the engine is in it, so the
    never: Any = cycle.__getitem__  # engine is cleared first
    engine = Engine(lambda _: ({}, False), never, Sink())
    engine.run(begin(process=1, first=1, epoch=1, ts_recv=1), 0, 1 << 62, 0)
    cycle["engine"] = engine
    del cycle, never, engine
    gc.collect()
    assert not complaints


def test_symbols_choose_records_and_unknown_ones_are_refused(data_dir: Path) -> None:
    capture = mdsys.open_capture(data_file(data_dir, "cryptofeed/BINANCE.ws.1.0.gz"))
    whole = joined(iter(capture.reader()))
    one = joined(iter(capture.reader(["BINANCE:LRCBTC"])))
    number = capture.symbols["BINANCE:LRCBTC"].id
    assert 0 < len(one) < len(whole)
    assert one.tobytes() == whole[whole["symbol_id"] == number].tobytes()
    with pytest.raises(UsageError, match=re.escape("did you mean BINANCE:LRCBTC?")):
        capture.reader(["BINANCE:LRCBT"])


@pytest.mark.parametrize("time", ["yesterday", "2026-11-01T09:15:00"])
def test_a_time_that_is_none_or_bears_no_zone_is_refused(data_dir: Path, time: str) -> None:
    capture = mdsys.open_capture(data_file(data_dir, "cryptofeed/KRAKEN.ws.50.0.gz"))
    with pytest.raises(UsageError, match=time[:10]):
        capture.reader(start=time)


def test_damaged_entries_end_in_words_and_never_in_a_crash(data_dir: Path, tmp_path: Path) -> None:
    source = ForeignSource.__new__(ForeignSource)
    path = data_file(data_dir, "cryptofeed/BINANCE.ws.1.0.gz")
    source = mdsys.open_capture(path).source  # type: ignore[assignment]
    blocks = list(source.blocks(0))
    dice = random.Random(3)
    refused = 0
    for turn in range(150):
        folder = tmp_path / str(turn)
        folder.mkdir()
        file = FileWriter(
            folder / f"a{SUFFIX}",
            {"instance": "i", "feed": 0, "began_ns": 1, "connections": []},
        )
        for block in blocks:
            data = bytearray(block)
            for _ in range(dice.randrange(4)):
                data[dice.randrange(min(len(data), 4000))] = dice.randrange(256)
            file.write(bytes(data))
        file.close("on purpose")
        try:
            joined(iter(mdsys.open_capture(folder).reader()))
        except MdsysError:
            refused += 1
    assert refused > 10


def test_a_capture_of_ours_is_read_as_the_recording_it_was_made_of(
    data_dir: Path, tmp_path: Path
) -> None:
    capture = mdsys.open_capture(data_file(data_dir, "cryptofeed/KRAKEN.ws.50.0.gz"))
    assert isinstance(capture.source, ForeignSource)
    folder = own_capture(capture.source, tmp_path)
    ours = mdsys.open_capture(folder)
    assert ours.symbols == capture.symbols
    assert joined(iter(ours.reader())).tobytes() == joined(iter(capture.reader())).tobytes()


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.txt", "nothing of the kind\n", "nothing in it tells whose frames"),
        ("b.txt", "", "nothing in it tells whose frames"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CaptureError, match=why):
        mdsys.open_capture(tmp_path / name)
    with pytest.raises(CaptureError, match="no \\*"):
        mdsys.open_capture(tmp_path)
    with pytest.raises(CaptureError, match="there is no such file"):
        mdsys.open_capture(tmp_path / "none")


def test_a_recording_of_a_venue_that_is_not_read_is_refused_in_words_for_python_too(
    data_dir: Path,
) -> None:
    with pytest.raises(CaptureError) as refusal:
        mdsys.open_capture(data_file(data_dir, "cryptofeed/BYBIT.ws.25.0.gz"))
    assert "say it (--venue, in Python venue=), one of binance, " in str(refusal.value)
    assert str(refusal.value).endswith("; or it is of a venue that is not read")


def begin(process: int, first: int, epoch: int, ts_recv: int) -> bytes:
    """Return the BEGIN of a process whose first record in its ring was ``first``."""
    ring = {"ring": 0, "depth": 1024, "epoch": epoch, "first": first, "next": first}
    return json_entry(Kind_.BEGIN, {"process": process, "pid": 1, "rings": [ring]}, ts_recv)


@pytest.mark.parametrize("published", [100, 93, 1_000])
def test_what_a_killed_feed_had_received_and_not_published_is_not_replayed(
    data_dir: Path, tmp_path: Path, published: int
) -> None:
    source = mdsys.open_capture(data_file(data_dir, "cryptofeed/BINANCE.ws.1.0.gz")).source
    (stream,) = source.streams
    opening, *rest = stream.blocks(0)
    state = b"".join(rest)
    venue = opening[ENTRY_SIZE + (entry_at(opening, 0)[5] + 7 & ~7) :]
    capture = own_of(tmp_path, "whole", [begin(1, 1, 1, 1) + venue + state])
    whole = joined(iter(mdsys.open_capture(capture).reader()))[:100]
    at, taken = 0, 0
    while taken < 100:  # so many frames that they hold a hundred records
        at += ENTRY_SIZE + (entry_at(state, at)[5] + 7 & ~7)
        taken = len(
            joined(
                iter(
                    mdsys.open_capture(
                        own_of(tmp_path, f"cut{at}", [begin(1, 1, 1, 1) + venue + state[:at]])
                    ).reader()
                )
            )
        )
    folder = own_of(
        tmp_path,
        "killed",
        [begin(1, 1, 1, 1) + venue + state[:at], begin(2, 1 + published, 2, 1 << 61)],
    )
    reader = mdsys.open_capture(folder).reader()
    ticks = joined(iter(reader))
    assert len(ticks) == min(published, taken)
    assert ticks[:93].tobytes() == whole[:93].tobytes()
    assert reader.mismatches == (published > taken)


def own_of(tmp_path: Path, name: str, files: list[bytes]) -> Path:
    """Write a feed's files, each going on where the one before it ends."""
    folder = tmp_path / name
    folder.mkdir()
    for number, entries in enumerate(files):
        file = FileWriter(
            folder / f"{number}{SUFFIX}",
            {"instance": "i", "feed": 0, "began_ns": number, "connections": []},
        )
        file.write(entries)
        file.close("goes on in the next file")
    return folder
