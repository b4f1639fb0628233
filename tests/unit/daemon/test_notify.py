"""What the service manager hears: by its protocol, and at the right moments."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mdsys.daemon import service as module
from mdsys.daemon.feeds import Feed
from mdsys.daemon.notify import Notifier
from mdsys.daemon.readers import Refused
from mdsys.daemon.roster import Roster
from mdsys.daemon.service import MARGIN_S, READY_S, Service
from mdsys.daemon.subscriptions import State
from tests.instances import geometry, running
from tests.rosters import PLAIN, Instruments, Told, config_of, make_roster, with_list

NOON_S = 1_700_000_000.0  # 22:13:20


class Manager:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def heard(self) -> list[list[str]]:
        """Return the lines of each message since the last call."""
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return messages

    def environment(self, **more: str) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address, **more}


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = f"mdsys-test-{os.getpid()}"
    made = Manager(f"@{name}" if request.param == "abstract" else str(tmp_path / name))
    with made.socket:
        yield made


# ---- the protocol -------------------------------------------------------------------------------


def test_each_word_is_one_message_of_lines(manager: Manager) -> None:
    notifier = Notifier.from_environment(manager.environment())
    notifier.starting(70.5, "starting")
    notifier.ready("3 of 3")
    notifier.status("2 of 3")
    before_us = time.monotonic_ns() // 1000
    notifier.reloading()
    notifier.stopping("ends")
    notifier.ping()
    heard = manager.heard()
    reloading, since = heard.pop(3)
    assert heard == [
        ["EXTEND_TIMEOUT_USEC=70500000", "STATUS=starting"],
        ["READY=1", "STATUS=3 of 3"],
        ["STATUS=2 of 3"],
        ["STOPPING=1", "STATUS=ends"],
        ["WATCHDOG=1"],
    ]
    assert reloading == "RELOADING=1"
    name, _, usec = since.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before_us <= int(usec) <= time.monotonic_ns() // 1000


def test_status_that_quotes_a_line_break_forges_no_word(manager: Manager) -> None:
    Notifier(manager.address).status("down\nREADY=1")
    assert manager.heard() == [["STATUS=down READY=1"]]


def test_children_find_nothing_of_it_in_the_environment() -> None:
    environment = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/"}
    Notifier.from_environment(environment)
    assert environment == {"HOME": "/"}


@pytest.mark.parametrize(
    ("more", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
    ],
)
def test_watchdog_is_ours_where_the_manager_says_so(
    more: dict[str, str], seconds: float | None
) -> None:
    assert Notifier.from_environment({"NOTIFY_SOCKET": "@x", **more}).watchdog_s == seconds


@pytest.mark.parametrize("address", ["", "@", "/", "relative", "vsock:2:1234"])
def test_without_an_address_of_ours_nothing_is_said_and_nobody_watches(address: str) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    notifier.ready("up")
    notifier.ping()
    assert not notifier.heard
    assert notifier.watchdog_s is None


def test_what_a_busy_manager_does_not_take_is_sent_later_in_its_last_wording(
    manager: Manager,
) -> None:
    notifier = Notifier(manager.address)
    taken = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
        flood.setblocking(False)
        flood.connect(manager.socket.getsockname())
        try:
            while True:
                flood.send(b"X=1")
                taken += 1
        except BlockingIOError:
            pass
    notifier.starting(1.0, "starting")
    notifier.ready("1 of 2")
    notifier.ping()
    notifier.status("2 of 2")
    assert manager.heard() == [["X=1"]] * taken
    notifier.flush()
    notifier.flush()
    assert manager.heard() == [["READY=1", "STATUS=2 of 2"]]


def test_a_manager_that_is_gone_is_told_of_once_and_found_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(str(tmp_path / "notify"))
    notifier.ready("up")
    notifier.ping()
    assert len(caplog.messages) == 1
    assert str(tmp_path) in caplog.messages[0]
    manager = Manager(str(tmp_path / "notify"))
    with manager.socket:
        notifier.flush()
        assert manager.heard() == [["READY=1", "STATUS=up"]]


# ---- the moments --------------------------------------------------------------------------------


class World:
    """A service with its manager: a roster of two symbols and two feeds, and a clock."""

    def __init__(self, manager: Manager, roster: Roster, watchdog_s: float | None = None) -> None:
        self.manager = manager
        self.roster = roster
        self.now_s = 100.0
        self.stale = 0
        self.rings = [SimpleNamespace(heartbeat_ns=1, writer_pid=0) for _ in range(2)]
        self.feeds = [Feed(number, [ring], None) for number, ring in enumerate(self.rings)]  # type: ignore[list-item]
        for number in range(2):
            self.begin(number)
        self.service = Service(
            Notifier(manager.address, watchdog_s),
            roster,
            SimpleNamespace(all=self.feeds),
            lambda: self.stale,
            now_s=lambda: NOON_S,
            monotonic_s=lambda: self.now_s,
        )

    def begin(self, number: int) -> None:
        """Have a feed's process run, and beat."""
        process: Any = SimpleNamespace(pid=1_000 + number)
        self.feeds[number].process = process
        self.feeds[number].hung = False
        self.rings[number].writer_pid = process.pid

    def report(self, symbol: str, state: State, venue: str = "binance") -> None:
        self.roster.subscriptions.report(venue, [symbol], None, state, 5)

    def connections(self, state: str) -> None:
        for each in self.roster.connections.all.values():
            each.state = state

    def look(self) -> list[list[str]]:
        """Return what a look tells."""
        self.service.look()
        return self.manager.heard()


ASKED = "0 of 2 streams tick, 2 not answered; 0 of 2 connections up; 2 of 2 feeds up"
SYMBOLS = {"name": "binance", "symbols": ["A", "B"], "max_symbols_per_connection": 1}


@pytest.fixture
def world(manager: Manager) -> Iterator[World]:
    with running(geometry(rings=2, feeds=2)) as instance:
        facts = {"binance": PLAIN}
        configs = config_of(SYMBOLS, facts=facts).venues
        yield World(manager, make_roster(instance, Told(), configs, facts))


def test_it_is_ready_when_each_stream_is_confirmed_or_refused_and_tells_how_it_is(
    world: World,
) -> None:
    world.service.start()
    assert world.manager.heard() == [
        [
            f"EXTEND_TIMEOUT_USEC={int(READY_S + MARGIN_S) * 1_000_000}",
            f"STATUS=starting, ready at 22:14:20 UTC at the latest: {ASKED}",
        ]
    ]
    assert world.look() == []
    world.connections("open")
    world.report("A", State.REQUESTED)
    world.report("B", State.REFUSED)
    ((status,),) = world.look()
    assert status.endswith("0 of 2 streams tick, 1 not answered, 1 refused; 2 of 2 connections up"
                           "; 2 of 2 feeds up")  # fmt: skip
    world.report("A", State.CONFIRMED)
    assert world.look() == [
        [
            "READY=1",
            "STATUS=0 of 2 streams tick, 1 refused; 2 of 2 connections up; 2 of 2 feeds up",
        ]
    ]
    assert world.look() == []


def test_status_is_told_when_it_changes_and_ready_once(world: World) -> None:
    world.service.start()
    for symbol in "AB":
        world.report(symbol, State.CONFIRMED)
    world.look()
    world.manager.heard()
    world.report("A", State.TICKING)
    world.stale = 1
    world.feeds[1].process = None
    world.connections("denied")
    assert world.look() == [
        ["STATUS=1 of 2 streams tick, 1 stale; 0 of 2 connections up, 2 denied; 1 of 2 feeds up"]
    ]
    world.report("A", State.DESIRED)
    ((status,),) = world.look()
    assert "1 not answered" in status
    assert world.look() == []


def test_requested_is_enough_where_the_venue_answers_nothing(manager: Manager) -> None:
    facts = {"kite": with_list(Instruments({"X": 1}).resolve)}
    with running(geometry(rings=2, feeds=2)) as instance:
        configs = config_of(
            {"name": "kite", "symbols": ["X"], "credentials": ["k"]}, facts=facts
        ).venues
        world = World(manager, make_roster(instance, Told(), configs, facts))
        world.service.start()
        manager.heard()
        assert world.look() == []
        world.report("X", State.REQUESTED, "kite")
        assert world.look()[0][0] == "READY=1"


def test_a_venue_that_is_down_holds_the_start_up_to_the_deadline_and_is_told_of_then(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.service.start()
    world.manager.heard()
    world.report("A", State.CONFIRMED)
    world.now_s += READY_S - 1
    assert not any("READY=1" in each for each in world.look())
    world.now_s += 1
    ((state, status),) = world.look()
    assert state == "READY=1"
    assert status.startswith("STATUS=0 of 2 streams tick, 1 not answered;")
    assert caplog.messages == [
        "counted as started: no answer to 1 stream in 60 s; it goes on trying"
    ]


def test_a_secret_that_a_venue_does_not_take_is_not_waited_for(world: World) -> None:
    world.service.start()
    world.manager.heard()
    world.connections("denied")
    ((state, status),) = world.look()
    assert state == "READY=1"
    assert "2 not answered; 0 of 2 connections up, 2 denied" in status


def test_a_list_that_a_venue_denies_is_not_waited_for_but_one_out_of_reach_is(
    manager: Manager,
) -> None:
    facts = {"kite": with_list(Instruments({}).resolve)}
    with running(geometry(rings=2, feeds=2)) as instance:
        configs = config_of(
            {"name": "kite", "symbols": ["X"], "credentials": ["k"]}, facts=facts
        ).venues
        world = World(manager, make_roster(instance, Told(), configs, facts))
        desk = world.roster.desks["kite"]
        world.service.start()
        manager.heard()
        desk.looking_up = True
        assert world.look() == []
        desk.denied = True
        assert world.look()[0][0] == "READY=1"


def test_a_reload_is_told_from_its_begin_to_its_end_and_two_at_once_as_one(world: World) -> None:
    world.connections("denied")
    world.service.start()
    world.look()
    world.manager.heard()
    with world.service.reloading():
        with world.service.reloading():
            assert [each[0] for each in world.manager.heard()] == ["RELOADING=1"]
        assert world.manager.heard() == []
    assert [each[0] for each in world.manager.heard()] == ["READY=1"]
    with pytest.raises(RuntimeError), world.service.reloading():
        raise RuntimeError
    assert [each[0] for each in world.manager.heard()] == ["RELOADING=1", "READY=1"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Refused("c.toml: a: b"), "; the last reload was refused: nothing has changed"),
        (KeyError("ours"), "; the last reload broke off: a fault of ours, see the log"),
    ],
)
def test_a_reload_that_came_to_nothing_stands_in_the_status_until_one_is_done(
    world: World, error: Exception, words: str
) -> None:
    world.service.start()
    with pytest.raises(type(error)), world.service.reloading():
        raise error  # before it is ready
    world.manager.heard()
    ((status,),) = world.look()
    assert status.endswith(ASKED + words)
    world.connections("denied")
    assert world.look()[0][1].endswith("2 of 2 feeds up" + words)
    with world.service.reloading():
        pass
    ((_, _), (_, status)) = world.manager.heard()
    assert status.endswith("2 of 2 feeds up")


def test_a_reload_before_it_is_ready_does_not_make_it_so(world: World) -> None:
    world.service.start()
    world.manager.heard()
    with world.service.reloading():
        pass
    assert world.manager.heard() == []


def test_after_a_stop_nothing_else_is_told(world: World) -> None:
    world.connections("denied")
    world.service.start()
    world.look()
    with world.service.reloading():
        world.manager.heard()
        world.service.stop()
    assert [each[0] for each in world.manager.heard()] == ["STOPPING=1"]
    world.stale = 7
    assert world.look() == []


# ---- the watchdog -------------------------------------------------------------------------------


class Hearts:
    """Moves a world's clock and its feeds' hearts, from one look of the watchdog to the next."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.look_s = 0.0
        loop = SimpleNamespace(call_later=self._later)
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
        world.service.start()
        world.manager.heard()

    def _later(self, delay_s: float, *_: object) -> None:
        self.look_s = delay_s

    def pings(self, seconds: float, *beating: int) -> int:
        """Return how many pings come while some feeds beat."""
        for _ in range(round(seconds / self.look_s)):
            self.world.now_s += self.look_s
            for number in beating:
                self.world.rings[number].heartbeat_ns += 1
            self.world.service._watch(self.look_s)
        return self.world.manager.heard().count(["WATCHDOG=1"])


@pytest.fixture
def hearts(world: World, monkeypatch: pytest.MonkeyPatch) -> Hearts:
    watched = World(world.manager, world.roster, watchdog_s=20.0)
    return Hearts(watched, monkeypatch)


def test_two_pings_come_in_the_time_that_is_allowed_however_silent_the_market(
    hearts: Hearts,
) -> None:
    assert hearts.look_s == module.LOOK_S
    assert 4 <= hearts.pings(40.0, 0, 1) <= 5


def test_no_ping_comes_from_a_feeds_last_beat_on_until_it_is_killed(hearts: Hearts) -> None:
    world = hearts.world
    hearts.pings(20.0, 0, 1)
    assert hearts.pings(20.0, 0) == 0
    world.feeds[1].hung = True
    assert hearts.pings(20.0, 0) == 0
    # Its successor may have to wait; that must not end the daemon, and with it the other feeds.
    world.feeds[1].process = None
    assert hearts.pings(module.LOOK_S, 0) == 1, "it is overdue: it comes at once"


def test_a_feed_that_died_or_begins_does_not_hang(hearts: Hearts) -> None:
    world = hearts.world
    world.feeds[0].process = None
    assert hearts.pings(20.0, 1) >= 2
    world.feeds[0].process = SimpleNamespace(pid=77)  # type: ignore[assignment]
    assert world.feeds[0].state == "starting"
    assert hearts.pings(20.0, 1) >= 2


def test_a_manager_that_wants_no_pings_gets_none(world: World) -> None:
    world.service.start()  # outside of a loop: a timer would fail
    assert world.manager.heard()[0][0].startswith("EXTEND")
