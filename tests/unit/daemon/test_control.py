"""The control socket's own life, whom it lets in, and how many."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from typing import Any

import pytest

from mdsys.daemon import control as module
from mdsys.daemon.control import CONNECTION_COUNT_MAX, Control
from mdsys.errors import HostError
from mdsys.ring.segment import Instance
from tests.control import PATIENCE_S, REGISTER, Client, Server, serving

# Whom it lets in


def test_129th_connection_is_told_so_and_there_is_room_when_another_leaves(
    server: Server,
) -> None:
    clients = [Client(server) for _ in range(CONNECTION_COUNT_MAX)]
    try:
        assert all(each.ask({"op": "readers"})["ok"] for each in clients)
        with Client(server) as late:
            assert "128 are connected" in late.answer()["error"]
            assert late.ended()
        with clients.pop():
            pass
        while True:  # the server sees it leave in its own time
            with Client(server) as late:
                late.send(b'{"op":"readers"}\n')
                if late.answer()["ok"]:
                    break
    finally:
        for each in clients:
            with each:
                pass


def test_want_of_descriptors_at_accept_passes(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ACCEPT_AGAIN_S", 0.01)
    failures = iter([OSError(24, "Too many open files")])
    listener = server.control._listener

    class Failing:
        """The listener, whose first accept fails."""

        def accept(self) -> Any:
            for error in failures:
                raise error
            return listener.accept()

        def fileno(self) -> int:
            return listener.fileno()

        def close(self) -> None:
            listener.close()

    server.call(lambda: setattr(server.control, "_listener", Failing()))
    with Client(server) as client:
        assert client.ask({"op": "readers"})["ok"] is True


# The socket's own life


def test_socket_lets_in_owner_and_group_and_goes_when_the_daemon_stops(instance: Instance) -> None:
    with serving(instance) as server:
        status = server.path.stat()
        assert stat.S_ISSOCK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o660
        with Client(server) as client:
            client.ask(REGISTER)
            server.close()
            assert client.ended()
        assert not server.path.exists()
        assert server.next_left() == ("s1", "is left to itself: the daemon stops")


def test_group_of_the_instance_is_the_sockets(server: Server, instance: Instance) -> None:
    server.close()
    if os.geteuid():
        pytest.skip("only root may give files to any group")
    control = Control(server.path, 12345, server.readers)
    assert server.path.stat().st_gid == 12345
    server.call(control.close)


STRANGER = """
import os, socket, sys
groups = [int(each) for each in sys.argv[4:]]
os.setgroups(groups)
os.setresgid(*[int(sys.argv[3])] * 3)
os.setresuid(*[int(sys.argv[2])] * 3)
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
try:
    client.sendall(b'{"op":"subscribe"}\\n{"op":"readers"}\\n')
except OSError:  # it has hung up already
    pass
sys.stdout.buffer.write(client.makefile("rb").readline())
"""
NOBODY = 65_534


def heard(server: Server, uid: int, gid: int, *groups: int) -> str:
    """Return the first line that a process of some user and groups is answered."""
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, server.path, *map(str, (uid, gid, *groups))],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_socket_that_lets_everybody_in_still_hears_root_owner_and_group_alone(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = 54_321
    monkeypatch.setattr(server.control, "_gid", group)
    server.path.chmod(0o666)
    turned_away = '{"ok":false,"error":"uid 65534 is not in the group '
    assert heard(server, NOBODY, NOBODY).startswith(turned_away)
    assert heard(server, NOBODY, NOBODY, 1, 2, 3).startswith(turned_away)
    assert heard(server, NOBODY, 0).startswith(turned_away), "root's group is nothing special"
    assert server.call(lambda: (server.control.requests, server.control.dropped)) == (0, 3)
    assert heard(server, NOBODY, NOBODY, *range(1_000, 1_400)).startswith(turned_away)
    for let_in in (
        (0, NOBODY),
        (NOBODY, group),
        (NOBODY, NOBODY, 1, group),
        (NOBODY, group, *range(1_000, 1_400)),
    ):
        assert "is none of" in heard(server, *let_in), let_in
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    assert "is none of" in heard(server, NOBODY, NOBODY)


@pytest.mark.parametrize("remains", ["socket", "file"])
def test_what_a_dead_daemon_left_in_its_place_is_replaced(instance: Instance, remains: str) -> None:
    path = instance.lock.path.with_suffix(".sock")
    if remains == "file":
        path.write_text("")
    else:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    with serving(instance) as server, Client(server) as client:
        assert client.ask({"op": "readers"})["ok"] is True


def test_path_that_is_too_long_for_a_socket_is_told_with_the_remedy(
    server: Server,
) -> None:
    with pytest.raises(HostError, match="set XDG_RUNTIME_DIR to a shorter one"):
        Control(server.path.parent / ("x" * 120), os.getegid(), server.readers)
