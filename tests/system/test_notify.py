"""The daemon under a service manager: this test, which listens where systemd would."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mdsys
from tests.daemons import PATIENCE_S, Daemon, Venue, config_text, daemon, instance

pytestmark = pytest.mark.system

WATCHDOG_S = 1.0
MUTE_COUNT = 50


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, name: str) -> None:
        self.address = f"@{name}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(PATIENCE_S)
        self.socket.bind(f"\0{name}")
        self.heard: list[str] = []
        """Each message, its lines joined by blanks."""

    def next(self) -> str:
        """Return the next message, waiting for it."""
        self.heard.append(self.socket.recv(4096).decode().replace("\n", " "))
        return self.heard[-1]

    def until(self, pattern: str) -> str:
        """Return the next message that matches, waiting for it."""
        while not re.search(pattern, message := self.next()):
            pass
        return message

    def rest(self) -> list[str]:
        """Return what has come besides, without waiting."""
        messages = []
        self.socket.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                messages.append(self.next())
        self.socket.settimeout(PATIENCE_S)
        return messages


@pytest.fixture
def name() -> Iterator[str]:
    with instance() as each:
        yield each


@pytest.fixture
def manager(name: str) -> Iterator[Manager]:
    made = Manager(name)
    with made.socket:
        yield made


@pytest.fixture
def venue() -> Iterator[Venue]:
    with Venue().listening() as each:
        yield each


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def test_the_manager_is_told_of_the_start_the_state_each_reload_and_the_end(
    tmp_path: Path, manager: Manager, name: str
) -> None:
    environment = {"NOTIFY_SOCKET": manager.address}
    with contextlib.ExitStack() as stack:
        serving = stack.enter_context(contextlib.ExitStack())
        venue = serving.enter_context(Venue().listening())
        running = stack.enter_context(
            daemon(tmp_path, venue.url, name=name, environment=environment)
        )
        assert re.fullmatch(
            r"EXTEND_TIMEOUT_USEC=\d+ STATUS=starting, ready at \d\d:\d\d:\d\d UTC at the latest: "
            r"0 of 1 stream tick, 1 not answered; 0 of 1 connection up; \d of 1 feed up",
            manager.next(),
        )
        socket_of_the_venue = venue.next_socket()
        ready = manager.until("READY=1")
        assert "not answered" not in ready
        assert "1 of 1 connection up" in ready
        running.wait_ready()
        assert not any("READY" in each for each in manager.heard[:-1])
        assert b"NOTIFY_SOCKET" not in environment_of(running.feed_pid())

        running.process.send_signal(signal.SIGHUP)
        assert re.fullmatch(r"RELOADING=1 MONOTONIC_USEC=\d+", manager.until("RELOADING"))
        assert manager.until("READY").startswith("READY=1 STATUS=")
        running.wait_for_line("reloaded: ")
        (tmp_path / f"{name}.toml").write_text("nonsense")
        with pytest.raises(mdsys.HostError):
            mdsys.control(name).reload()
        manager.until("RELOADING")
        manager.until("READY")

        socket_of_the_venue.hang_up()
        serving.close()
        manager.until("^STATUS=.*1 not answered; 0 of 1 connection up")
        assert running.end() == 0
        assert manager.until("STOPPING").startswith("STOPPING=1 STATUS=stopping")
        assert manager.rest() == []


def test_the_watchdog_is_fed_on_a_silent_market_and_not_from_a_hang_to_its_end(
    tmp_path: Path, venue: Venue, manager: Manager, name: str
) -> None:
    """A watchdog that were fed all the same would be about five times in those two seconds."""
    environment = {
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)),
    }
    with daemon(tmp_path, venue.url, name=name, feeds=2, rings=2, environment=environment) as it:
        it.wait_ready()
        manager.until("READY")
        for _ in range(3):  # nobody has sent a tick
            manager.until("WATCHDOG=1")
        pid = it.feed_pid(1)
        os.kill(pid, signal.SIGSTOP)
        manager.rest()
        it.wait_for_line(rf"feed 1 hangs: process {pid} ")
        assert manager.rest().count("WATCHDOG=1") <= 1, "but for one that had seen it beat"
        assert it.feed_pid(1, life=2) != pid
        manager.until("WATCHDOG=1")
        assert it.end() == 0


def test_a_daemon_inside_of_a_program_says_nothing_to_the_programs_manager(
    venue: Venue, manager: Manager, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    config = {
        "instance": name,
        "rings": {"num_buffers": 1, "buffer_size": "64 KiB", "max_symbols": 64},
        "feeds": {"num_processes": 1},
        "venue": [{"name": "binance", "channels": ["trade"], "url": venue.url}],
    }
    with (tmp_path / "log").open("w") as log, mdsys.MarketDataSystem(config, log=log) as system:
        assert system.start(["BINANCE:BTCUSDT"])["settled"]
    assert manager.rest() == []


def test_lines_bear_their_priority_where_the_journal_reads_stderr(
    tmp_path: Path, venue: Venue, name: str
) -> None:
    """Here it listens nowhere; tests/unit/daemon/test_journal.py has what it is sent."""
    if Path("/run/systemd/journal/socket").exists():
        pytest.skip("this host's journal would have the entries")
    stream = "status=$(stat -L -c %d:%i /proc/self/fd/2) && JOURNAL_STREAM=$status exec"
    file = tmp_path / "mdsys.toml"
    file.write_text(config_text(name, venue.url))
    program = [sys.executable, "-m", "mdsys", "run", "--config", str(file)]
    process = subprocess.Popen(
        ["/bin/sh", "-c", f'{stream} "$@"', "sh", *program],
        stderr=subprocess.PIPE,
        text=True,
    )
    running = Daemon(name, process)
    try:
        running.wait_for_line(r"^<6>mdsys\.feed\.0: binance connection 1: up")
        assert running.end() == 0
    finally:
        process.kill()
        running.wait()
        assert process.stderr is not None
        process.stderr.close()


@contextlib.contextmanager
def simulated(symbols: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a venue as a process of its own, and give its address."""
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "mdsys", "sim", "--venue", "binance"),
            *("--listen", "127.0.0.1:0", "--symbols", str(symbols), "--rate", "500"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().removeprefix("listening on ").rstrip()
        finally:
            process.kill()


@pytest.mark.parametrize("who", ["a venue that answers no CLOSE", "a feed that hangs"])
def test_a_stop_waits_for_nobody_and_leaves_segments_to_go_on_in(
    tmp_path: Path, name: str, who: str
) -> None:
    """Of fifty connections. The end itself is waited for; a feed that had to be killed is told."""
    symbols = [f"SYM{index:06d}" for index in range(MUTE_COUNT)]
    keys: dict[str, Any] = {"symbols": symbols, "feeds": 2, "rings": 2, "per_connection": 1}
    with simulated(MUTE_COUNT) as (sim, url):
        with daemon(tmp_path, url, name=name, **keys) as running:
            assert f"{MUTE_COUNT} connections" in running.wait_ready()
            hangs = who == "a feed that hangs"
            os.kill(running.feed_pid(0) if hangs else sim.pid, signal.SIGSTOP)
            assert running.end() == 0
            killed = [line for line in running.lines if "does not stop: killed" in line]
            assert len(killed) == hangs
        sim.send_signal(signal.SIGCONT)
        with mdsys.attach(name) as md:
            assert [ring.state for ring in md.rings] == [2, 2]
            epochs = [ring.epoch for ring in md.rings]
            with daemon(tmp_path, url, name=name, **keys) as running:
                running.wait_for_line("adopted")
                running.wait_ready()
                assert [ring.epoch for ring in md.rings] == [each + 1 for each in epochs]
                assert running.end() == 0
