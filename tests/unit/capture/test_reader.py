"""Captures read back: others' formats against the decoder alone, times, symbols, damage."""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import mdsys
from mdsys import TICK, Kind
from mdsys._capture import ENTRY_SIZE, entry_at
from mdsys._decode import Decoder
from mdsys.capture.foreign import ForeignSource
from mdsys.capture.format import SUFFIX, CaptureError, FileWriter, json_entry
from mdsys.capture.format import Kind as Kind_
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
    chosen = (whole["ts_recv"] >= start) & (whole["ts_recv"] <= end)
    assert part.tobytes() == whole[chosen].tobytes()


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
