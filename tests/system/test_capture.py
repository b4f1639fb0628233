"""Venues, a daemon of two feeds, readers and a recorder at once; then the capture is read back.

Forbidden outcomes: a replayed record that was not published, one published that is not replayed, a
file that its writer's end has made unreadable, a feed that copies for nobody.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import mdsys
from mdsys import TICK, Kind, Status
from mdsys.capture.format import head_of
from mdsys.capture.recorder import Recorder
from mdsys.errors import ExitCode, HostError
from mdsys.record.record import Ticks
from tests.daemons import PATIENCE_S, instance, statuses
from tests.native import REPOSITORY
from tests.simulated import (
    ALL,
    FIELDS,
    Secrets,
    all_tick,
    daemon_on,
    status_when,
    street,
    venue_text,
)

pytestmark = pytest.mark.system

RINGS = 3
FAULTS = {
    "binance": "hole,every=150;duplicate,every=90;reorder,every=110;reset,after=900",
    "binance_usdm": "hole,kind=depth,every=40;malformed,every=300",
    "kraken": "hole,kind=depth,every=60;close,after=700",
    "coinbase_advanced": "hole,every=200;duplicate,every=130",
    "coinbase_exchange": "hole,every=150",
}


def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so that nobody tells of."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextlib.contextmanager
def recording(name: str, out: Path, *, file_size: int = 1 << 30) -> Iterator[Recorder]:
    """Record in a thread until the block ends."""
    recorder = Recorder(name, out, file_size=file_size)
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(recorder.run)
        try:
            yield recorder
        finally:
            recorder.stop()
        done.result(PATIENCE_S)


def more(recorder: Recorder, count: int) -> None:
    """Wait until so many frames more have been written."""
    wanted = recorder.counts.frames + count
    until(lambda: recorder.counts.frames >= wanted)


def everything(read: Callable[[], Ticks]) -> Ticks:
    """Return what ``read`` gives until it gives nothing, without the rings' sequences."""
    pieces = []
    while len(ticks := read()):
        pieces.append(ticks.copy())
    ticks = np.concatenate([np.empty(0, TICK), *pieces], dtype=TICK)
    ticks["seq"] = 0
    return ticks


def replayed_of(out: Path, ring: int) -> Ticks:
    """Return a ring's records as the capture has them."""
    reader = mdsys.open_capture(out).reader(rings=[ring])
    ticks = everything(reader.poll)
    assert (reader.lost, reader.mismatches) == (0, 0)
    return ticks


def assert_published(replayed: Ticks, published: Ticks, *, to_the_end: bool = False) -> None:
    """The replayed records are a stretch of what was published, byte for byte."""
    assert len(replayed) > 100, "too few to say anything"
    data, first = published.tobytes(), replayed[:8].tobytes()
    at = data.find(first)
    while at % TICK.itemsize:
        at = data.find(first, at + 1)
    assert at >= 0, "the first records were never published"
    stretch = published[at // TICK.itemsize :]
    length = min(len(stretch), len(replayed))
    same = stretch[:length].tobytes() == replayed[:length].tobytes()
    if not same:
        where = next(i for i in range(length) if stretch[i].tobytes() != replayed[i].tobytes())
        pytest.fail(f"record {where}: published {stretch[where]}, replayed {replayed[where]}")
    assert len(replayed) <= len(stretch), "more was replayed than published"
    if to_the_end:
        assert len(replayed) == len(stretch)


def test_what_is_replayed_is_what_was_published_through_kills_gaps_and_rotation(
    tmp_path: Path,
) -> None:
    secrets = Secrets(tmp_path)
    words = {venue: secrets.write(venue) for venue in FIELDS}
    out = tmp_path / "captures"
    with (
        instance() as name,
        street(ALL, symbols=4, rate=250, faults=FAULTS) as venues,
        daemon_on(
            tmp_path,
            name,
            *(
                venue_text(
                    venue,
                    venues[venue],
                    symbols=4,
                    **({"credentials": [words[venue]]} if venue in words else {}),
                )
                for venue in venues
            ),
            feeds=2,
            rings=RINGS,
            buffer_size="16 MiB",
            secrets=secrets,
        ) as running,
    ):
        status_when(name, lambda answer: answer["subscriptions"]["ticking"] > 60)
        market_data = mdsys.attach(name)
        readers = [market_data.reader(rings=[ring]) for ring in range(RINGS)]
        with recording(name, out, file_size=10_000) as recorder:
            more(recorder, 2_000)
            venues.inject("binance", "reset")
            venues.inject("kraken", "close")
            more(recorder, 1_000)
            for feed, life in ((0, 1), (1, 1), (0, 2)):
                os.kill(running.feed_pid(feed, life), signal.SIGKILL)
                running.feed_pid(feed, life + 1)
                more(recorder, 2_000)
        published = [everything(reader.poll) for reader in readers]
        assert all(reader.lost == 0 for reader in readers)
        for reader in readers:
            reader.close()
        assert running.end() == ExitCode.OK
    heads = [head_of(path)[0] for path in sorted(out.iterdir())]
    assert len(heads) > 8, "nothing was rotated"
    assert {each["url"][:5] for head in heads for each in head["connections"]} == {"ws://"}
    told: set[Status] = set()
    for ring in range(RINGS):
        replayed = replayed_of(out, ring)
        assert_published(replayed, published[ring])
        told |= set(statuses(replayed))
    assert told >= {
        *(Status.WRITER_RESTARTED, Status.GAP, Status.RESYNC),
        *(Status.CONNECTION_UP, Status.CONNECTION_DOWN, Status.FRAME_REFUSED),
    }
    whole = mdsys.open_capture(out)
    everywhere = everything(whole.reader().poll)
    again = everything(whole.reader().poll)
    assert everywhere.tobytes() == again.tobytes(), "not the same twice"
    steps = np.diff(everywhere["ts_recv"])
    assert (steps > -1_000_000_000).all(), "not by time of receipt"  # one turn of a feed's loop
    for ring in range(RINGS):
        own = [each.id for each in whole.symbols.values() if each.ring == ring]
        alone = replayed_of(out, ring)
        ticks, expected = (
            each[np.isin(each["symbol_id"], own) & (each["kind"] != Kind.STATUS)]
            for each in (everywhere, alone)
        )
        assert ticks.tobytes() == expected.tobytes(), "another order within a ring"


@contextlib.contextmanager
def small_daemon(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a daemon on one venue."""
    with (
        instance() as name,
        street(["binance"], rate=500) as venues,
        daemon_on(tmp_path, name, venue_text("binance", venues["binance"])) as running,
    ):
        status_when(name, all_tick)
        yield name, running.process


def record_command(
    name: str, out: Path, preexec_fn: Callable[[], None] | None = None
) -> subprocess.Popen[str]:
    """Start ``mdsys record``."""
    return subprocess.Popen(
        [sys.executable, "-m", "mdsys", "record", "--out", str(out), "--instance", name],
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        preexec_fn=preexec_fn,  # noqa: PLW1509 - this process runs no threads then
    )


def has_frames(out: Path) -> bool:
    """Whether something of a feed's has been written."""
    return any(path.stat().st_size > 4_000 for path in out.glob("*")) if out.exists() else False


def test_a_killed_recorder_leaves_readable_files_and_the_next_one_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "captures"
    with small_daemon(tmp_path) as (name, _):
        reader = mdsys.attach(name).reader()
        process = record_command(name, out)
        until(lambda: has_frames(out))
        with pytest.raises(HostError, match="feed 0 is being recorded already"):
            Recorder(name, tmp_path / "other").run()
        process.kill()
        process.communicate()
        cut = list(out.iterdir())
        with recording(name, out) as recorder:
            until(lambda: recorder.counts.frames > 500)
        published = everything(reader.poll)
        reader.close()
    assert len(list(out.iterdir())) == 2
    first = everything(mdsys.open_capture(cut[0]).reader().poll)
    assert_published(first, published)
    last = max(out.iterdir())
    assert_published(everything(mdsys.open_capture(last).reader().poll), published)


def test_ctrl_c_ends_a_recording_with_all_that_was_copied(tmp_path: Path) -> None:
    out = tmp_path / "captures"
    with small_daemon(tmp_path) as (name, _):
        process = record_command(name, out)
        until(lambda: has_frames(out))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == ExitCode.OK, said
        assert f"recording 1 feed of instance {name}, into" in said
        assert "0 lost" in said.splitlines()[-1]
        recorded = re.findall(r"([\d,]+) frames", said)[-1]
    with instance() as name:  # at the recorded pace: a time that is none would be waited for
        process = replay_command(out, name, "--speed", "10")
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == ExitCode.OK, said
        assert f"{recorded} frames" in said.splitlines()[-1]


def test_a_full_disk_ends_the_recorder_in_words_and_what_is_written_is_readable(
    tmp_path: Path,
) -> None:
    out = tmp_path / "captures"

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    with small_daemon(tmp_path) as (name, _):
        process = record_command(name, out, preexec_fn=limited)
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == ExitCode.FAILURE
        assert "File too large: stopped; what is written is readable" in said
    assert len(everything(mdsys.open_capture(out).reader().poll)) > 100


def test_nobody_to_record_is_said_so(tmp_path: Path) -> None:
    process = record_command("never-there", tmp_path)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == ExitCode.UNAVAILABLE
    assert "is not there" in said


def test_a_recorder_outlives_the_daemon_and_records_the_next(tmp_path: Path) -> None:
    out = tmp_path / "captures"
    with instance() as name, street(["kraken"], rate=500) as venues:
        tables = venue_text("kraken", venues["kraken"])
        with daemon_on(tmp_path, name, tables):
            status_when(name, all_tick)
            recorder = Recorder(name, out)
            thread = threading.Thread(target=recorder.run)
            thread.start()
            until(lambda: recorder.counts.frames > 300)
        before = recorder.counts.frames
        with daemon_on(tmp_path, name, tables):
            until(lambda: recorder.counts.frames > before + 300)
            recorder.stop()
            thread.join(PATIENCE_S)
    ticks = everything(mdsys.open_capture(out).reader().poll)
    assert len(ticks) > 600


def replay_command(capture: Path, name: str, *arguments: str) -> subprocess.Popen[str]:
    """Start ``mdsys replay``."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "mdsys", "replay", str(capture)),
            *("--instance", name, *arguments),
        ],
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def test_a_replay_publishes_to_a_lossless_reader_what_was_recorded(
    tmp_path: Path, data_dir: Path
) -> None:
    capture = data_dir / "hftbacktest" / "spot__ethusdt_20240808.gz"
    if not capture.exists():
        pytest.skip(f"no captured data: {capture} does not exist")
    expected = everything(mdsys.open_capture(capture).reader().poll)
    with instance() as name:
        process = replay_command(capture, name, "--speed", "max", "--readers", "1")
        reader = lossless_reader(name)
        pieces: list[Ticks] = []
        while True:
            ticks = reader.poll(timeout=0.2)
            if len(ticks):
                pieces.append(ticks.copy())
            elif process.poll() is not None:
                break
        _, said = process.communicate()
        assert process.returncode == ExitCode.OK, said
        got = np.concatenate(pieces, dtype=TICK)
        got["seq"] = 0
        assert reader.lost == 0
        reader.close()
        assert got.tobytes() == expected.tobytes()
        assert f"{len(expected):,} records" in said
        assert "waiting for 1 reader\n" in said
        book = mdsys.attach(name).book("BINANCE:ETHUSDT")
        assert book is not None
        assert book.usable


def lossless_reader(name: str) -> mdsys.Reader:
    """Return a reader as soon as the instance takes one."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return mdsys.attach(name).reader(policy="lossless")
        except mdsys.NotRunning:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_replay_refuses_an_instance_that_runs(tmp_path: Path, data_dir: Path) -> None:
    capture = data_dir / "cryptofeed" / "KRAKEN.ws.50.0.gz"
    if not capture.exists():
        pytest.skip(f"no captured data: {capture} does not exist")
    with small_daemon(tmp_path) as (name, _):
        process = replay_command(capture, name)
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == ExitCode.IN_USE, said
