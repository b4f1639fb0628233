"""``mdsys ctl`` and ``mdsys.control`` against a running daemon, its feed and a venue."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mdsys
from mdsys.cli import main as cli
from mdsys.daemon.stat_command import take_picture
from mdsys.record.symbol import Symbol
from tests.daemons import (
    PATIENCE_S,
    Daemon,
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


def until(control: mdsys.Control, enough: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the first state that is enough: what feeds tell is on its way a moment."""
    deadline = time.monotonic() + PATIENCE_S
    while not enough(answer := control.status()):
        assert time.monotonic() < deadline, json.dumps(answer, indent=1)
    return answer


def test_funnel_goes_from_desired_to_ticking_and_a_refusal_is_no_success(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(stream: str) -> str | None:
        return "Invalid symbol" if stream.startswith("nosuch") else None

    symbols = ["BTCUSDT", "ETHUSDT", "NOSUCH"]
    with (
        Venue(refuse).listening() as venue,
        daemon(tmp_path, venue.url, name=name, symbols=symbols) as running,
    ):
        assert running.wait_ready() == "ready: 3 symbols, 1 refused, 1 connection, 1 feed, 1 ring"
        control = mdsys.control(name)
        answer = control.status()
        expected = {"desired": 3, "requested": 2, "confirmed": 2, "ticking": 0, "refused": 1}
        assert answer["subscriptions"] == answer["symbols"] == expected
        venue.next_socket().send(trade("BTCUSDT", 1))
        answer = until(control, lambda state: state["subscriptions"]["ticking"] == 1)
        (connection,) = answer["connections"]
        assert connection["venue"] == "binance"
        assert connection["state"] == "ready"
        assert connection["url"] == venue.url
        assert connection["frames"] >= 1
        assert {key: connection[key] for key in expected if key != "desired"} == {
            **{key: value for key, value in answer["subscriptions"].items() if key != "desired"}
        }
        (feed,) = answer["feeds"]
        assert (feed["state"], feed["restarts"], feed["pid"]) == ("running", 0, running.feed_pid())
        assert cli(["ctl", "status", "--instance", name, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["subscriptions"]["ticking"] == 1
        assert cli(["ctl", "status", "--instance", name]) == 0
        assert "ready" in capsys.readouterr().out


def test_status_of_a_symbol_says_why_it_is_silent(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(stream: str) -> str | None:
        return "Invalid symbol" if stream.startswith("nosuch") else None

    with (
        Venue(refuse).listening() as venue,
        daemon(tmp_path, venue.url, name=name, symbols=["BTCUSDT", "ETHUSDT", "NOSUCH"]) as running,
    ):
        running.wait_ready()
        control = mdsys.control(name)
        refused = control.status("BINANCE:NOSUCH")
        assert refused["state"] == "refused"
        assert refused["why"] == "binance refused it: Invalid symbol (code 2)"
        assert refused["words"] == "Invalid symbol (code 2)"
        quiet = control.status("BINANCE:ETHUSDT")
        assert quiet["state"] == "confirmed"
        assert quiet["why"] == "binance has confirmed it and has sent no trade yet"
        assert quiet["last_tick_s"] is None
        assert quiet["connection"]["state"] == "ready"
        assert quiet["session"] == "none"
        stranger = control.status("BINANCE:SOLUSDT")
        assert stranger["state"] == "not wanted"
        assert stranger["remedy"] == f"mdsys ctl subscribe BINANCE:SOLUSDT --instance {name}"
        with pytest.raises(mdsys.HostError, match="did you mean SOLUSDT"):
            control.status("BINANCE:solusdt")
        venue.next_socket().send(trade("ETHUSDT", 1))
        until(control, lambda state: state["subscriptions"]["ticking"] == 1)
        ticking = control.status("BINANCE:ETHUSDT")
        assert ticking["why"].startswith("it ticks: the last trade ")
        assert ticking["last_tick_s"] is not None
        assert cli(["ctl", "status", "BINANCE:NOSUCH", "--instance", name]) == 0
        assert "why:        binance refused it" in capsys.readouterr().out


def test_symbols_come_and_go_on_the_open_socket_and_the_others_never_notice(
    tmp_path: Path, venue: Venue, name: str
) -> None:
    with daemon(tmp_path, venue.url, name=name, symbols=["BTCUSDT"]) as running:
        running.wait_ready()
        socket = venue.next_socket()
        control = mdsys.control(name)
        with mdsys.attach(name) as md:
            reader = md.reader()
            assert control.subscribe(["BINANCE:ETHUSDT", "BINANCE:BTCUSDT"]) == {
                "ok": True,
                "accepted": 1,
                "unchanged": 1,
                "refused_count": 0,
                "refused": {},
            }
            assert socket.news.get(timeout=PATIENCE_S) == ("SUBSCRIBE", ["btcusdt@trade"])
            assert socket.news.get(timeout=PATIENCE_S) == ("SUBSCRIBE", ["ethusdt@trade"])
            socket.send(trade("BTCUSDT", 1), trade("ETHUSDT", 7))
            ticks = read_until(reader, lambda ticks: len(trade_ids(ticks)) == 2)
            assert trade_ids(ticks) == [1, 7]
            assert mdsys.Status.CONNECTION_DOWN not in statuses(ticks)
            assert control.unsubscribe(["BINANCE:BTCUSDT"])["accepted"] == 1
            assert socket.news.get(timeout=PATIENCE_S) == ("UNSUBSCRIBE", ["btcusdt@trade"])
            socket.send(trade("ETHUSDT", 8))
            assert trade_ids(read_until(reader, lambda ticks: bool(trade_ids(ticks)))) == [8]
        answer = until(control, lambda state: state["subscriptions"]["ticking"] == 1)
        assert answer["subscriptions"]["desired"] == 1
        assert control.status("BINANCE:BTCUSDT")["state"] == "not wanted"
        assert [each["reconnects"] for each in answer["connections"]] == [0]


def test_symbols_beyond_a_connections_room_get_a_new_one(
    tmp_path: Path, venue: Venue, name: str
) -> None:
    with daemon(
        tmp_path, venue.url, name=name, symbols=["BTCUSDT"], per_connection=1, feeds=2, rings=2
    ) as running:
        running.wait_ready()
        first = venue.next_socket()
        control = mdsys.control(name)
        assert control.subscribe(["BINANCE:ETHUSDT"])["accepted"] == 1
        second = venue.next_socket()
        assert second.streams == ["ethusdt@trade"]
        answer = until(control, lambda state: state["subscriptions"]["confirmed"] == 2)
        assert sorted(each["feed"] for each in answer["connections"]) == [0, 1]
        assert control.unsubscribe(["BINANCE:ETHUSDT"])["accepted"] == 1
        assert second.done.wait(PATIENCE_S)
        assert not first.done.is_set()
        until(control, lambda state: len(state["connections"]) == 1)


@pytest.mark.parametrize("how", ["ctl", "SIGHUP"])
def test_reload_takes_symbols_over_and_names_what_only_a_restart_can(
    tmp_path: Path, venue: Venue, name: str, how: str
) -> None:
    with daemon(tmp_path, venue.url, name=name, symbols=["BTCUSDT", "ETHUSDT"]) as running:
        running.wait_ready()
        socket = venue.next_socket()
        text = config_text(name, venue.url, symbols=["ETHUSDT", "SOLUSDT"], rings=1)
        file = tmp_path / f"{name}.toml"
        file.write_text(text.replace('"64 KiB"', '"128 KiB"'))
        control = mdsys.control(name)
        if how == "ctl":
            answer = control.reload()
            assert answer["subscribed"]["accepted"] == answer["unsubscribed"]["accepted"] == 1
            assert answer["not_reloaded"] == ["rings.buffer_size"]
        else:
            running.process.send_signal(signal.SIGHUP)
            running.wait_for_line("a restart alone takes over: rings.buffer_size")
        running.wait_for_line("reloaded: 1 symbol came, 1 went, 0 refused")
        until(control, lambda state: state["subscriptions"]["confirmed"] == 2)
        assert sorted(socket.streams) == ["ethusdt@trade", "solusdt@trade"]
        assert not socket.done.is_set()


def test_reload_of_a_wrong_file_changes_nothing(tmp_path: Path, venue: Venue, name: str) -> None:
    with daemon(tmp_path, venue.url, name=name) as running:
        running.wait_ready()
        file = tmp_path / f"{name}.toml"
        file.write_text(file.read_text().replace("symbols =", "symbol ="))
        control = mdsys.control(name)
        with pytest.raises(mdsys.HostError, match="did you mean symbols"):
            control.reload()
        running.process.send_signal(signal.SIGHUP)
        running.wait_for_line("not reloaded, nothing has changed: .*did you mean symbols")
        assert control.status()["subscriptions"]["confirmed"] == 1


def test_lost_connection_takes_its_streams_back_until_they_are_confirmed_anew(
    tmp_path: Path, venue: Venue, name: str
) -> None:
    with daemon(tmp_path, venue.url, name=name) as running:
        running.wait_ready()
        socket = venue.next_socket()
        control = mdsys.control(name)
        socket.send(trade("BTCUSDT", 1))
        until(control, lambda state: state["subscriptions"]["ticking"] == 1)
        socket.hang_up()
        venue.next_socket()
        answer = until(
            control,
            lambda state: (
                state["connections"][0]["reconnects"] == 1
                and state["subscriptions"]["confirmed"] == 1
            ),
        )
        assert answer["subscriptions"]["ticking"] == 0


# ---- feeds --------------------------------------------------------------------------------------


def first_tick_after(
    running: Daemon, venue: Venue, name: str, strike: Callable[[int], None]
) -> list[mdsys.Status]:
    """Strike the feed's process; return the statuses until a tick of its successor is read."""
    running.wait_ready()
    venue.next_socket()
    with mdsys.attach(name) as md:
        reader = md.reader()
        strike(md.rings[0].writer_pid)
        venue.next_socket().send(trade("BTCUSDT", 5))
        ticks = read_until(reader, lambda ticks: bool(trade_ids(ticks)))
        assert trade_ids(ticks) == [5]
        return statuses(ticks)


def test_feed_that_hangs_is_killed_and_replaced(tmp_path: Path, venue: Venue, name: str) -> None:
    with daemon(tmp_path, venue.url, name=name) as running:
        found = first_tick_after(running, venue, name, lambda pid: os.kill(pid, signal.SIGSTOP))
        assert found[0] == mdsys.Status.WRITER_RESTARTED
        running.wait_for_line(r"feed 0 hangs: process \d+ has not beaten for 2\.\d s: killed")
        running.wait_for_line("feed 0 hung and was killed; starting it again in 0.00 s")
        (feed,) = mdsys.control(name).status()["feeds"]
        assert (feed["state"], feed["restarts"]) == ("running", 1)


def test_killed_feed_is_replaced_at_once_and_its_funnel_begins_anew(
    tmp_path: Path, venue: Venue, name: str
) -> None:
    with daemon(tmp_path, venue.url, name=name) as running:
        first_tick_after(running, venue, name, lambda pid: os.kill(pid, signal.SIGKILL))
        running.wait_for_line("feed 0 was killed by SIGKILL; starting it again in 0.00 s")
        control = mdsys.control(name)
        answer = until(control, lambda state: state["subscriptions"]["ticking"] == 1)
        assert answer["feeds"][0]["restarts"] == 1
        assert take_picture(name)["feeds"][0]["pid"] == answer["feeds"][0]["pid"]


def test_state_can_be_asked_for_while_a_feed_is_dead(
    tmp_path: Path, venue: Venue, name: str
) -> None:
    with daemon(tmp_path, venue.url, name=name) as running:
        running.wait_ready()
        venue.next_socket()
        control = mdsys.control(name)
        with mdsys.attach(name) as md:
            pid = md.rings[0].writer_pid
        os.kill(pid, signal.SIGSTOP)
        assert control.status("BINANCE:BTCUSDT")["symbol"] == str(Symbol("BINANCE", "BTCUSDT"))
        assert control.subscribe(["BINANCE:ETHUSDT"])["accepted"] == 1  # told to its successor
        venue.next_socket()
        answer = until(control, lambda state: state["subscriptions"]["confirmed"] == 2)
        assert answer["subscriptions"]["desired"] == 2
