"""What is asked for over the control socket: changes, the state, a reload; honest and hostile."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import mdsys
from mdsys import ctl_command
from mdsys.cli import main as cli
from mdsys.daemon.control_connection import Held
from mdsys.daemon.operations import NAME_SIZE_MAX, Operations
from mdsys.daemon.readers import Refused
from mdsys.daemon.roster import Outcome
from mdsys.errors import ConfigError, HostError, LayoutError, NotRunning, UsageError
from mdsys.ring.control_client import Control, _requests
from mdsys.ring.control_socket import REQUEST_SIZE_MAX
from mdsys.ring.segment import ROOT_DIR, segment_path
from tests.control import PATIENCE_S, Server, serving
from tests.instances import cleaned, geometry, new_name, running

SYMBOL_COUNT_MAX = 1_000


class Roster:
    """Notes what is asked of it; takes what begins with BINANCE."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []
        self.begun = threading.Event()
        self.go_on: asyncio.Event | None = None
        self.fault: Exception | None = None

    async def subscribe(self, names: list[str]) -> Outcome:
        return await self._change("subscribe", names)

    async def unsubscribe(self, names: list[str]) -> Outcome:
        return await self._change("unsubscribe", names)

    async def _change(self, op: str, names: list[str]) -> Outcome:
        self.asked.append((op, list(names)))
        self.begun.set()
        if self.go_on is not None:
            await self.go_on.wait()
        if self.fault is not None:
            raise self.fault
        refused = {name: "no" for name in names if not name.startswith("BINANCE:")}
        return Outcome([name for name in names if name not in refused], [], refused)


class Status:
    """Answers as a status does."""

    def all(self, now_ns: int) -> dict[str, Any]:
        assert now_ns > 0
        return {"ok": True, "everything": True}

    def symbol(self, name: str, now_ns: int) -> dict[str, Any]:
        assert now_ns > 0
        if name == "nonsense":
            raise UsageError("'nonsense' names no venue")
        if name == "BINANCE:btc":
            raise ConfigError("did you mean BTC?")
        return {"ok": True, "symbol": name}


async def reload() -> Mapping[str, Any]:
    raise Refused("mdsys.toml: rings.num_bufers: unknown key")


@pytest.fixture
def roster() -> Roster:
    return Roster()


@pytest.fixture
def operations(roster: Roster) -> Operations:
    return Operations(roster, Status(), reload, SYMBOL_COUNT_MAX)  # type: ignore[arg-type]


@pytest.fixture
def server(operations: Operations) -> Iterator[Server]:
    with running(geometry()) as instance, serving(instance, operations) as each:
        yield each


def talk(server: Server, *requests: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Send requests at once, and return their answers."""
    with server.connect() as client, client.makefile("rb") as file:
        client.sendall(b"".join(json.dumps(each).encode() + b"\n" for each in requests))
        return [json.loads(file.readline()) for _ in requests]


# ---- requests -----------------------------------------------------------------------------------


def test_change_is_answered_with_counts_and_each_refusal(server: Server, roster: Roster) -> None:
    (answer,) = talk(server, {"op": "subscribe", "symbols": ["BINANCE:A", "X:B"]})
    assert answer == {
        "ok": True,
        "accepted": 1,
        "unchanged": 0,
        "refused_count": 1,
        "refused": {"X:B": "no"},
    }
    assert roster.asked == [("subscribe", ["BINANCE:A", "X:B"])]


def test_list_that_comes_in_pieces_is_one_change(server: Server, roster: Roster) -> None:
    answers = talk(
        server,
        {"op": "subscribe", "symbols": ["BINANCE:A"], "more": True},
        {"op": "unsubscribe", "symbols": ["BINANCE:Z"]},
        {"op": "subscribe", "symbols": ["BINANCE:B"], "more": True},
        {"op": "subscribe", "symbols": []},
    )
    assert [answer.get("held") for answer in answers] == [1, None, 2, None]
    assert roster.asked == [
        ("unsubscribe", ["BINANCE:Z"]),
        ("subscribe", ["BINANCE:A", "BINANCE:B"]),
    ]


def test_pieces_of_a_connection_that_ends_are_nobodys(server: Server, roster: Roster) -> None:
    talk(server, {"op": "subscribe", "symbols": ["BINANCE:A"], "more": True})
    talk(server, {"op": "subscribe", "symbols": ["BINANCE:B"]})
    assert roster.asked == [("subscribe", ["BINANCE:B"])]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"op": "subscribe"}, "symbols: must be an array"),
        ({"op": "subscribe", "symbols": "BINANCE:A"}, "symbols: must be an array"),
        ({"op": "subscribe", "symbols": [1]}, "symbols: must be an array"),
        ({"op": "subscribe", "symbols": ["X" * (NAME_SIZE_MAX + 1)]}, "longer than any name"),
        ({"op": "subscribe", "symbols": [], "more": 1}, "more: 1 is neither"),
        ({"op": "subscribe", "symbols": [], "symbol": 1}, 'unknown key "symbol"'),
        ({"op": "status", "symbol": 7}, "symbol: 7 is no name"),
        ({"op": "status", "symbol": "nonsense"}, "'nonsense' names no venue"),
        ({"op": "status", "symbol": "BINANCE:btc"}, "did you mean BTC?"),
        ({"op": "status", "all": True}, 'unknown key "all"'),
        ({"op": "reload", "file": "x"}, 'unknown key "file"'),
        ({"op": "reload"}, "rings.num_bufers: unknown key"),
        ({"op": "restart"}, "is none of register, readers, subscribe, unsubscribe, status, reload"),
        ({"op": ["status"]}, "is none of"),
    ],
)
def test_wrong_request_is_refused_changes_nothing_and_the_connection_goes_on(
    server: Server, roster: Roster, request_: dict[str, Any], words: str
) -> None:
    refusal, answer = talk(server, request_, {"op": "status"})
    assert refusal["ok"] is False
    assert words in refusal["error"]
    assert answer == {"ok": True, "everything": True}
    assert roster.asked == []


def test_wrong_piece_drops_the_pieces_before_it(server: Server, roster: Roster) -> None:
    talk(
        server,
        {"op": "subscribe", "symbols": ["BINANCE:A"], "more": True},
        {"op": "subscribe", "symbols": [7], "more": True},
        {"op": "subscribe", "symbols": ["BINANCE:B"]},
    )
    assert roster.asked == [("subscribe", ["BINANCE:B"])]


def test_names_that_are_kept_are_bounded_over_all_connections(operations: Operations) -> None:
    request = {"op": "subscribe", "symbols": ["BINANCE:A"] * 100, "more": True}
    connection = socket.socket(socket.AF_UNIX)
    several = [Held(connection) for _ in range(4)]

    def flood() -> None:
        for turn in range(1_000):
            operations.obey(request, several[turn % 4])

    with pytest.raises(Refused, match="more than the 1000"):
        flood()
    assert sum(len(names) for held in several for names in held.names.values()) <= 2_000
    del several[:]  # the connections end
    assert operations.obey(request, Held(connection)) == {"ok": True, "held": 100}
    connection.close()


def test_change_that_takes_time_holds_up_its_own_connection_alone(
    server: Server, roster: Roster
) -> None:
    go_on = roster.go_on = asyncio.Event()
    with server.connect() as slow, slow.makefile("rb") as file:
        request = json.dumps({"op": "subscribe", "symbols": ["BINANCE:A"]}).encode()
        slow.sendall(request + b'\n{"op":"status"}\n')
        assert roster.begun.wait(PATIENCE_S)
        assert talk(server, {"op": "status"}) == [{"ok": True, "everything": True}]
        server.call(go_on.set)
        assert json.loads(file.readline())["accepted"] == 1
        assert json.loads(file.readline())["everything"] is True


def test_change_goes_on_when_the_client_leaves_before_its_answer(
    server: Server, roster: Roster
) -> None:
    go_on = roster.go_on = asyncio.Event()
    with server.connect() as client:
        client.sendall(b'{"op":"subscribe","symbols":["BINANCE:A"]}\n')
        assert roster.begun.wait(PATIENCE_S)
    server.call(go_on.set)
    assert talk(server, {"op": "status"})[0]["ok"]
    assert roster.asked == [("subscribe", ["BINANCE:A"])]


def test_fault_of_ours_is_an_error_line_and_the_connection_goes_on(
    server: Server, roster: Roster
) -> None:
    roster.fault = KeyError("oops")
    refusal, answer = talk(server, {"op": "subscribe", "symbols": []}, {"op": "status"})
    assert refusal == {"ok": False, "error": "KeyError: 'oops'"}
    assert answer["ok"]


# ---- the client ---------------------------------------------------------------------------------


def test_control_asks_the_daemon_whose_directory_it_is(server: Server) -> None:
    control = mdsys.control(server.instance.name)
    assert control.status() == {"ok": True, "everything": True}
    assert control.status("BINANCE:A") == {"ok": True, "symbol": "BINANCE:A"}
    assert control.subscribe(["BINANCE:A", "Y:1"])["refused"] == {"Y:1": "no"}
    assert control.unsubscribe(iter(["BINANCE:A"]))["accepted"] == 1
    with pytest.raises(HostError, match=r"refused: mdsys\.toml: rings\.num_bufers"):
        control.reload()


def test_long_list_goes_in_requests_of_the_allowed_size_and_is_one_change(
    server: Server, roster: Roster
) -> None:
    names = [f'BINANCE:{number:0>40}é"' for number in range(900)]
    assert mdsys.control(server.instance.name).subscribe(names)["accepted"] == 900
    assert roster.asked == [("subscribe", names)]
    requests = list(_requests("subscribe", names))
    assert len(requests) > 5
    assert all(len(json.dumps(each)) <= REQUEST_SIZE_MAX for each in requests)
    assert [each.get("more", False) for each in requests] == [True] * (len(requests) - 1) + [False]


def test_name_that_fits_in_no_request_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no symbol's name is so long"):
        list(_requests("subscribe", ["X" * 5_000]))


def test_control_of_no_instance_and_of_a_stopped_one_is_not_running() -> None:
    with pytest.raises(NotRunning, match="mdsys run"):
        Control("no-such-instance").status()
    with running(geometry()) as instance:
        instance.symbols.stop()
        with pytest.raises(NotRunning, match="mdsys run"):
            Control(instance.name).status()


# ---- the command --------------------------------------------------------------------------------


def test_command_prints_what_came_of_a_change_and_fails_with_any_refusal(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    name = server.instance.name
    assert cli(["ctl", "subscribe", "BINANCE:A", "BINANCE:B", "--instance", name]) == 0
    assert capsys.readouterr().out == "subscribed: 2 symbols, 0 unchanged, 0 refused\n"
    assert cli(["ctl", "subscribe", "--instance", name, "BINANCE:A", "Y:B"]) == 1
    assert capsys.readouterr().out.endswith("1 refused\n  Y:B: no\n")
    assert cli(["ctl", "unsubscribe", "--json", "BINANCE:A", "--instance", name]) == 0
    assert json.loads(capsys.readouterr().out)["accepted"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["subscribe"], "needs at least one SYMBOL"),
        (["unsubscribe"], "needs at least one SYMBOL"),
        (["reload", "BINANCE:A"], "takes no SYMBOL"),
        (["status", "BINANCE:A", "BINANCE:B"], "takes one SYMBOL"),
    ],
)
def test_wrong_command_line_is_a_usage_error(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(["ctl", *arguments]) == 64
    assert words in capsys.readouterr().err


def test_refused_reload_and_no_daemon_have_their_exit_codes(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(["ctl", "reload", "--instance", server.instance.name]) == 1
    assert "rings.num_bufers: unknown key" in capsys.readouterr().err
    assert cli(["ctl", "status", "--instance", "no-such-instance"]) == 69


def test_words_of_a_venue_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    answer = {
        "accepted": 0,
        "unchanged": 0,
        "refused_count": 1,
        "refused": {"BINANCE:A": "bad\x1b[31m\nforged"},
    }
    ctl_command.print_answer("subscribe", answer, sys.stdout)
    assert capsys.readouterr().out.splitlines()[1] == "  BINANCE:A: bad\\x1b[31m\\nforged"


@pytest.mark.parametrize(
    ("count", "in_answer", "more"),
    [
        (20, 20, None),
        (21, 21, "  and 1 more: --json shows all"),
        (49_980, 10_000, "  and 49,960 more: --json shows the first 10,000"),
    ],
)
def test_thousands_of_refusals_do_not_flood_the_terminal(
    count: int, in_answer: int, more: str | None
) -> None:
    refused = {f"KITE:NSE:S{n}": "unknown" for n in range(in_answer)}
    change = {"accepted": 0, "unchanged": 0, "refused_count": count, "refused": refused}
    none = {**change, "refused_count": 0, "refused": {}}
    reload = {
        "subscribed": change,
        "unsubscribed": none,
        "credentials_changed": [],
        "credential_problems": {},
        "redialled": [],
        "not_reloaded": [],
    }
    for action, answer in (("subscribe", change), ("reload", reload)):
        out = io.StringIO()
        ctl_command.print_answer(action, answer, out)
        lines = out.getvalue().splitlines()
        assert lines[1:21] == [f"  KITE:NSE:S{n}: unknown" for n in range(20)]
        assert [line for line in lines if "more" in line] == ([more] if more else [])
        assert len(lines) <= 24


@pytest.mark.parametrize(
    ("state", "retry_s", "frame_s", "shown"),
    [
        ("waiting", 3.2, 78.0, "waiting for 17.8 s, dialled again in 3.2 s, last frame 78.0 s ago"),
        ("ready", None, 0.1, "ready for 17.8 s, last frame 0.1 s ago"),
        ("connecting", None, None, "connecting for 17.8 s, no frame yet"),
    ],
)
def test_status_of_a_symbol_says_what_its_connections_ages_are_of(
    state: str, retry_s: float | None, frame_s: float | None, shown: str
) -> None:
    connection = {
        "connection": 1,
        "url": "ws://there",
        "feed": 0,
        "state": state,
        "since_s": 17.8,
        "retry_s": retry_s,
    }
    answer: dict[str, Any] = {
        "symbol": "BINANCE:A",
        "state": "desired",
        "streams": [],
        "why": "it is so",
        "remedy": None,
        "connection": connection,
        "last_frame_s": frame_s,
        "session": "none",
    }
    out = io.StringIO()
    ctl_command.print_answer("status", answer, out)
    assert out.getvalue().splitlines()[-1] == f"connection: 1 to ws://there, feed 0, {shown}"


# ---- a daemon that is not there yet -------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 4_096])
def test_control_of_an_instance_that_is_being_made_says_that_it_is_starting(size: int) -> None:
    with cleaned(new_name()) as name:
        path = segment_path(ROOT_DIR, name, "symbols")
        path.write_bytes(bytes(size))
        with pytest.raises(NotRunning, match=f"instance '{name}' is starting"):
            mdsys.control(name).status()
        path.unlink()


def test_control_of_segments_of_another_make_says_so() -> None:
    with cleaned(new_name()) as name:
        path = segment_path(ROOT_DIR, name, "symbols")
        path.write_bytes(b"somebodys file".ljust(4_096))
        with pytest.raises(LayoutError):
            mdsys.control(name).status()
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(LayoutError, match="not a regular file"):
            mdsys.control(name).status()
        path.unlink()


def test_control_of_a_daemon_that_lives_and_does_not_listen_yet_says_that_it_is_starting() -> None:
    with running() as instance, pytest.raises(NotRunning, match=f"{os.getpid()} is starting"):
        mdsys.control(instance.name).status()
