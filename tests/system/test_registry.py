"""The registry of a real daemon: who reads, who is waited for, who has gone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mdsys import _native
from mdsys.consume.registration import Registration, register
from mdsys.daemon.stat_command import take_picture
from mdsys.ring.control_socket import ask, connect, socket_path
from mdsys.ring.lock import run_dir
from mdsys.ring.segment import ROOT_DIR, map_file, segment_path
from tests.daemons import Daemon, Venue, daemon, instance, trade

pytestmark = pytest.mark.system


@pytest.fixture
def venue() -> Iterator[Venue]:
    with Venue().listening() as each:
        yield each


@pytest.fixture
def name() -> Iterator[str]:
    with instance() as each:
        yield each


def ring_of(name: str, ring: int = 0) -> _native.Ring:
    return _native.Ring(map_file(segment_path(ROOT_DIR, name, f"ring.{ring}")))


@contextlib.contextmanager
def registered(running: Daemon, *rings: int) -> Iterator[Registration]:
    """Register a lossless reader that has shown where it is, and will read no more."""
    entry = register(running.name, running.process.pid, "s1", "lossless", "park", rings or [0])
    assert entry is not None
    for ring in rings or [0]:
        offset = _native.reader_page_size() - (256 - ring) * 128
        next_ = ring_of(running.name, ring).head + 1
        entry.memory[offset : offset + 8] = next_.to_bytes(8, "little")
    try:
        yield entry
    finally:
        entry.close()


def readers_when(
    running: Daemon, enough: Callable[[list[dict[str, Any]]], bool]
) -> list[dict[str, Any]]:
    """Return the readers as the daemon tells them, once they are as they should be."""
    with connect(running.name, running.process.pid) as connection:
        while True:  # each answer takes a turn of the daemon's loop; the bound is the test's
            readers: list[dict[str, Any]] = ask(connection, {"op": "readers"})[0]["readers"]
            if enough(readers):
                return readers


def granted(readers: list[dict[str, Any]]) -> bool:
    return bool(readers) and all(
        ring["granted_from"] is not None for reader in readers for ring in reader["rings"]
    )


def test_lossless_reader_is_granted_by_each_feed_whose_ring_it_reads_and_forgotten_when_it_leaves(
    tmp_path: Path, venue: Venue, name: str
) -> None:
    with daemon(tmp_path, venue.url, name=name, feeds=2, rings=2) as running:
        running.wait_ready()
        rings = [ring_of(name, each) for each in range(2)]
        with registered(running, 0, 1) as entry:
            readers = readers_when(running, granted)
            assert [ring["granted_from"] for ring in readers[0]["rings"]] == [
                (each.grant(entry.reader) or (0,))[0] for each in rings
            ]
        with registered(running, 0, 1) as second:  # told after the first has been forgotten
            readers_when(running, granted)
            for each in rings:
                assert each.grant(second.reader) is not None
                assert each.grant(entry.reader) is None


def test_feed_that_is_started_again_waits_for_the_readers_that_were_there(
    tmp_path: Path, venue: Venue, name: str
) -> None:
    with daemon(tmp_path, venue.url, name=name) as running:
        running.wait_ready()
        with registered(running) as entry:
            readers_when(running, granted)
            os.kill(running.feed_pid(), signal.SIGKILL)
            running.feed_pid(life=2)
            readers = readers_when(running, granted)
            assert ring_of(name).epoch == 2
            assert [each["reader"] for each in readers] == [entry.reader]
            assert entry.alive()


def test_lossless_reader_that_never_reads_is_ejected_and_log_and_stat_say_so(
    tmp_path: Path, venue: Venue, name: str
) -> None:
    with daemon(tmp_path, venue.url, name=name, buffer_size="4 KiB") as running:
        running.wait_ready()
        socket = venue.next_socket()
        with registered(running) as entry:
            readers_when(running, granted)
            socket.send(*(trade("BTCUSDT", number) for number in range(1, 200)))
            line = running.wait_for_line(
                rf"reader {entry.reader} \('s1', process {os.getpid()}, lossless\) is too slow for "
                r"lossless: ring 0 goes on without it from (\d+) on"
            )
            picture = take_picture(name)
            (reader,) = picture["readers"]
            assert reader["rings"][0]["ejected"] == int(line.group(1))
            assert picture["feeds"][0]["counters"]["readers_ejected"] == 1


def test_readers_that_are_killed_all_at_once_are_forgotten_and_the_daemon_goes_on(
    tmp_path: Path, venue: Venue, name: str
) -> None:
    code = """
import os, sys
from mdsys.consume.registration import register
for _ in range(60):
    if register(sys.argv[1], int(sys.argv[2]), "victim", sys.argv[3], "park", [0]) is None:
        sys.exit("no daemon")
    sys.argv[3] = "conflate"
os.kill(os.getpid(), 9)
"""
    with daemon(tmp_path, venue.url, name=name) as running:
        running.wait_ready()
        for _ in range(3):
            done = subprocess.run(
                [sys.executable, "-c", KEEP + code, name, str(running.process.pid), "lossless"],
                capture_output=True,
                check=False,
            )
            assert done.returncode == -signal.SIGKILL, done.stderr
            readers_when(running, lambda readers: not readers)
        with registered(running):
            (reader,) = readers_when(running, granted)
            assert reader["reader"] & 0xFFFFFFFF == 181


KEEP = """
import mdsys.consume.registration as registration
kept, original = [], registration.register
def keep(*arguments):
    kept.append(original(*arguments))
    return kept[-1]
registration.register = keep
"""


def test_reader_outlives_its_daemon_and_registers_with_the_next_under_another_number(
    tmp_path: Path, venue: Venue, name: str
) -> None:
    with daemon(tmp_path, venue.url, name=name) as running:
        running.wait_ready()
        with registered(running) as entry:
            running.end(signal.SIGKILL)
            assert not entry.alive()
        picture = take_picture(name)
        assert (picture["state"], picture["readers"]) == ("dead", None)
        assert register(name, running.process.pid, "s1", "conflate", "park", [0]) is None
    with daemon(tmp_path, venue.url, name=name) as second:
        second.wait_ready()
        with registered(second) as again:
            assert again.reader > entry.reader
            assert again.alive()
            path = socket_path(run_dir(), name)
            assert path.exists()
            assert second.end() == 0
            assert not again.alive()
            assert not path.exists()
