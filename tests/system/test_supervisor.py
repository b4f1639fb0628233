"""The daemon as people run it: started, stopped, killed, and started again."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mdsys
from mdsys.daemon.stat_command import take_picture
from tests.daemons import (
    PATIENCE_S,
    Venue,
    config_text,
    daemon,
    instance,
    read_until,
    statuses,
    trade,
    trade_ids,
)

pytestmark = pytest.mark.system


@pytest.fixture
def venue() -> Iterator[Venue]:
    with Venue().listening() as each:
        yield each


@pytest.fixture
def name() -> Iterator[str]:
    with instance() as each:
        yield each


def wait_until_gone(pid: int) -> None:
    """Wait for the end of a process that need not be our child."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        try:
            assert select.select([pidfd], [], [], PATIENCE_S)[0], f"process {pid} lives on"
        finally:
            os.close(pidfd)


def test_daemon_is_ready_when_the_venue_has_confirmed_and_its_ticks_can_be_read(
    tmp_path: Path, venue: Venue, name: str
) -> None:
    with daemon(tmp_path, venue.url, name=name, symbols=["BTCUSDT", "ETHUSDT"]) as running:
        assert running.wait_ready() == "ready: 2 symbols, 1 connection, 1 feed, 1 ring"
        socket = venue.next_socket()
        assert socket.streams == ["btcusdt@trade", "ethusdt@trade"]
        with mdsys.attach(name) as md:
            reader = md.reader()
            socket.send(trade("ETHUSDT", 5, "0.00001234"), trade("BTCUSDT", 1))
            ticks = read_until(reader, lambda ticks: len(trade_ids(ticks)) == 2)
            assert trade_ids(ticks) == [5, 1]
            assert int(ticks["price"][0]) == 1234
            last = md.last_trade("BINANCE:BTCUSDT")
            assert last is not None
            assert int(last["trade_id"]) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_with_0_and_leaves_stopped_segments_and_no_process(
    tmp_path: Path, venue: Venue, name: str, number: signal.Signals
) -> None:
    with daemon(tmp_path, venue.url, name=name, feeds=2, rings=2) as running:
        pids = [running.feed_pid(0), running.feed_pid(1)]
        running.wait_ready()
        with mdsys.attach(name) as md:
            reader = md.reader()
            assert running.end(number) == 0
            assert [ring.state for ring in md.rings] == [2, 2]
            assert take_picture(name)["state"] == "stopped"
            ticks = read_until(reader, lambda ticks: len(ticks) > 0)
            assert statuses(ticks) == [mdsys.Status.CONNECTION_DOWN]
    for pid in pids:
        wait_until_gone(pid)
    assert venue.next_socket().done.wait(PATIENCE_S)


def test_next_start_goes_on_in_the_same_segments(tmp_path: Path, venue: Venue, name: str) -> None:
    with daemon(tmp_path, venue.url, name=name, symbols=["BTCUSDT", "ETHUSDT"]) as running:
        running.wait_ready()
        venue.next_socket().send(trade("BTCUSDT", 1))
        running.end()
    with mdsys.attach(name) as md:
        reader = md.reader()
        ids = {each.name: each.id for each in md.symbols.values()}
        head = md.rings[0].head
        # Another order and one symbol more: those that are known keep their ids.
        with daemon(
            tmp_path, venue.url, name=name, symbols=["SOLUSDT", "ETHUSDT", "BTCUSDT"]
        ) as running:
            running.wait_for_line("adopted")
            running.wait_ready()
            venue.next_socket().send(trade("BTCUSDT", 2))
            ticks = read_until(reader, lambda ticks: bool(trade_ids(ticks)))
            assert [int(seq) for seq in ticks["seq"]] == list(
                range(head + 1, head + 1 + len(ticks))
            )
            assert statuses(ticks)[:2] == [
                mdsys.Status.WRITER_RESTARTED,
                mdsys.Status.CONNECTION_UP,
            ]
            assert reader.epochs == {0: 2}
            known = {each.name: each.id for each in md.symbols.values()}
            assert known == {**ids, "BINANCE:SOLUSDT": 3}
    assert trade_ids(ticks) == [2]


def test_second_daemon_of_one_name_is_refused_with_75_and_harms_nothing(
    tmp_path: Path, venue: Venue, name: str
) -> None:
    with daemon(tmp_path, venue.url, name=name) as running:
        running.wait_ready()
        with daemon(tmp_path, venue.url, name=name) as second:
            assert second.wait() == 75
            assert f"instance '{name}' is in use by process {running.process.pid}" in second.log
        with mdsys.attach(name) as md:
            reader = md.reader()
            venue.next_socket().send(trade("BTCUSDT", 1))
            assert trade_ids(read_until(reader, lambda ticks: len(ticks) > 0)) == [1]


def test_killed_feed_is_started_again_and_only_its_rings_notice(
    tmp_path: Path, venue: Venue, name: str
) -> None:
    symbols = ["BTCUSDT", "ETHUSDT"]
    with daemon(
        tmp_path, venue.url, name=name, symbols=symbols, feeds=2, rings=2, per_connection=1
    ) as running:
        pids = {running.feed_pid(0), running.feed_pid(1)}
        running.wait_ready()
        sockets = {each.streams[0]: each for each in (venue.next_socket(), venue.next_socket())}
        with mdsys.attach(name) as md:
            reader = md.reader()
            sockets["btcusdt@trade"].send(trade("BTCUSDT", 1))
            read_until(reader, lambda ticks: trade_ids(ticks) == [1])
            victim = md.rings[md.symbol("BINANCE:BTCUSDT").ring].writer_pid
            assert victim in pids
            os.kill(victim, signal.SIGKILL)
            running.wait_for_line(r"feed \d was killed by SIGKILL; starting it again in 0\.\d+ s")
            again = venue.next_socket()
            assert again.streams == ["btcusdt@trade"]
            again.send(trade("BTCUSDT", 4))
            ticks = read_until(reader, lambda ticks: bool(trade_ids(ticks)))
            assert statuses(ticks) == [
                mdsys.Status.WRITER_RESTARTED,
                mdsys.Status.CONNECTION_UP,
                mdsys.Status.GAP,  # trades 2 and 3 were missed
            ]
            gap = ticks[ticks["what"] == mdsys.Status.GAP][-1]
            assert (int(gap["first_lost"]), int(gap["last_lost"])) == (2, 3)
            ring = md.symbol("BINANCE:BTCUSDT").ring
            assert reader.epochs == {ring: 2, 1 - ring: 1}
            sockets["ethusdt@trade"].send(trade("ETHUSDT", 9))
            assert trade_ids(read_until(reader, lambda ticks: len(ticks) > 0)) == [9]


def test_feeds_die_with_a_killed_supervisor_and_the_next_one_takes_over(
    tmp_path: Path, venue: Venue, name: str
) -> None:
    with daemon(tmp_path, venue.url, name=name) as running:
        pid = running.feed_pid()
        running.wait_ready()
        assert running.end(signal.SIGKILL) == -signal.SIGKILL
        wait_until_gone(pid)
        with daemon(tmp_path, venue.url, name=name) as second:
            second.wait_ready()
            with mdsys.attach(name) as md:
                assert md.rings[0].epoch == 2
                assert md.rings[0].writer_pid == second.feed_pid() != pid


def test_symbol_that_the_venue_refuses_is_told_in_the_log_the_ring_and_the_count(
    tmp_path: Path, name: str
) -> None:
    def refuse(stream: str) -> str | None:
        return "Invalid symbol" if stream.startswith("nosuch") else None

    with (
        Venue(refuse).listening() as venue,
        daemon(tmp_path, venue.url, name=name, symbols=["BTCUSDT", "NOSUCH"]) as running,
    ):
        running.wait_for_line(r"NOSUCH refused: Invalid symbol \(code 2\)")
        assert running.wait_ready() == "ready: 2 symbols, 1 refused, 1 connection, 1 feed, 1 ring"
        running.end()
    assert take_picture(name)["feeds"][0]["counters"]["subscriptions_refused"] == 1


def test_bad_config_is_refused_with_78_before_anything_is_made(tmp_path: Path, name: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(config_text(name, "ws://127.0.0.1:1").replace("symbols =", "symbol ="))
    done = subprocess.run(
        [sys.executable, "-m", "mdsys", "run", "--config", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    assert "symbol: unknown key; did you mean symbols?" in done.stderr
    assert not list(Path("/dev/shm").glob(f"mdsys.{name}.*"))


def test_directory_that_is_full_of_old_symbols_is_a_config_error_with_the_remedy(
    tmp_path: Path, venue: Venue, name: str
) -> None:
    first = [f"A{i}" for i in range(40)]
    with daemon(tmp_path, venue.url, name=name, symbols=first) as running:
        running.wait_ready()
        running.end()
    with daemon(tmp_path, venue.url, name=name, symbols=[f"B{i}" for i in range(40)]) as running:
        assert running.wait() == 78
    assert f"mdsys clean --instance {name}" in running.log


def test_stat_tells_of_a_dead_daemon_what_it_told_of_the_living(
    tmp_path: Path, venue: Venue, name: str
) -> None:
    with daemon(tmp_path, venue.url, name=name) as running:
        running.wait_ready()
        with mdsys.attach(name) as md:
            reader = md.reader()
            venue.next_socket().send(trade("BTCUSDT", 1), trade("BTCUSDT", 2))
            read_until(reader, lambda ticks: len(trade_ids(ticks)) == 2)
        alive = take_picture(name)
        running.end(signal.SIGKILL)
    dead = take_picture(name)
    assert alive["state"] == "running"
    assert dead["state"] == "dead"
    assert alive["feeds"][0]["alive"]
    for picture in (alive, dead):
        assert picture["feeds"][0]["counters"]["trades"] == 2
        assert picture["rings"][0]["head"] >= 3
        assert picture["rings"][0]["symbols"] == 1


def test_stat_of_no_instance_ends_with_69() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mdsys", "stat", "--instance", "no-such"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 69
    assert "mdsys run" in done.stderr
