"""The client's side of the control socket: whom it finds, whom it believes, what it is told."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mdsys.errors import HostError, NoPermission
from mdsys.ring import control_socket
from mdsys.ring.control_socket import (
    NoDaemon,
    Question,
    ask,
    connect,
    listen,
    peer_of,
    socket_path,
)

NAME = "unit"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Give three directories where the socket may lie, in the order they are looked into."""
    found = [tmp_path / name for name in ("run", "xdg", "tmp")]
    for each in found:
        each.mkdir()
    monkeypatch.setattr(control_socket, "run_dirs", lambda: found)
    return found


@contextlib.contextmanager
def daemon(directory: Path, talk: Callable[[socket.socket], None]) -> Iterator[None]:
    """Listen in this process and talk with the first client."""
    listener = listen(socket_path(directory, NAME), os.getegid())
    listener.settimeout(10)

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as client:
            client.settimeout(10)
            talk(client)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        listener.close()


def answering(data: bytes, fds: list[int] | None = None) -> Callable[[socket.socket], None]:
    def talk(client: socket.socket) -> None:
        client.recv(4096)
        socket.send_fds(client, [data], fds or [])

    return talk


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def exchange() -> dict[str, object]:
    with connect(NAME, os.getpid()) as connection:
        return ask(connection, {"op": "readers"})[0]


def test_daemon_is_found_in_whichever_place_it_lies(places: list[Path]) -> None:
    for place in places:
        with daemon(place, answering(b'{"ok":true,"n":1}\n')):
            assert exchange() == {"ok": True, "n": 1}
        socket_path(place, NAME).unlink()


def test_no_socket_a_dead_one_and_what_is_none_are_no_daemon(places: list[Path]) -> None:
    with pytest.raises(NoDaemon):
        connect(NAME, os.getpid())
    listen(socket_path(places[0], NAME), os.getegid()).close()
    socket_path(places[1], NAME).write_text("")
    with pytest.raises(NoDaemon, match="no daemon of instance 'unit' can be reached"):
        connect(NAME, os.getpid())


def test_socket_of_another_process_is_not_believed_and_the_right_one_behind_it_is_found(
    places: list[Path],
) -> None:
    code = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print(1, flush=True)\n"
        "sys.stdin.read()"
    )
    squatter = subprocess.Popen(
        [sys.executable, "-c", code, str(socket_path(places[0], NAME))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert squatter.stdout is not None
        squatter.stdout.readline()
        with pytest.raises(NoDaemon):
            connect(NAME, os.getpid())
        with connect(NAME, squatter.pid) as connection:
            assert peer_of(connection)[0] == squatter.pid
        with daemon(places[2], answering(b'{"ok":true}\n')):
            assert exchange() == {"ok": True}
    finally:
        squatter.communicate()


def test_path_that_is_too_long_to_be_a_sockets_is_passed_over(
    places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_socket, "run_dirs", lambda: [places[0] / ("x" * 120), places[1]])
    with daemon(places[1], answering(b'{"ok":true}\n')):
        assert exchange() == {"ok": True}


def test_socket_that_does_not_let_us_in_is_told_with_the_remedy(
    places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forbidding(socket.socket):
        def connect(self, address: object) -> None:
            raise PermissionError(13, "Permission denied")

    listener = listen(socket_path(places[1], NAME), os.getegid())
    with listener, monkeypatch.context() as patch:
        patch.setattr(socket, "socket", Forbidding)
        with pytest.raises(NoPermission, match="must be in the group that reads instance 'unit'"):
            connect(NAME, 1)
        socket_path(places[1], NAME).unlink()  # as where the way to it is closed to us
        with pytest.raises(NoDaemon):
            connect(NAME, 1)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\n", "no JSON"),
        (b"\xff\n", "no JSON"),
        (b"[" * 100_000 + b"\n", "no JSON"),
        (b"[]\n", "no object"),
        (b"{}\n", "refused: None"),
        (b'{"ok":false,"error":"no room"}\n', "the daemon refused: no room"),
        (b'{"ok":1}\n', "refused"),
    ],
)
def test_answer_that_is_none_is_an_error_and_leaves_no_descriptor(
    places: list[Path], answer: bytes, words: str
) -> None:
    before = open_descriptors()
    with (
        daemon(places[0], answering(answer, [0])),
        connect(NAME, os.getpid()) as connection,
        pytest.raises(HostError, match=words),
    ):
        ask(connection, {}, fd_count=1)
    assert open_descriptors() == before


@pytest.mark.parametrize("answer", [b"", b'{"ok":true'])
def test_daemon_that_ends_before_it_has_answered_is_no_daemon(
    places: list[Path], answer: bytes
) -> None:
    with (
        daemon(places[0], answering(answer)),
        connect(NAME, os.getpid()) as connection,
        pytest.raises(NoDaemon),
    ):
        ask(connection, {})


def test_answer_in_pieces_arrives_whole_with_its_descriptor(places: list[Path]) -> None:
    big = {"ok": True, "x": "y" * 1_000_000}

    def talk(client: socket.socket) -> None:
        client.recv(4096)
        line = json.dumps(big).encode() + b"\n"
        socket.send_fds(client, [line[:1]], [0])
        client.sendall(line[1:])

    with daemon(places[0], talk), connect(NAME, os.getpid()) as connection:
        answer, fds = ask(connection, {}, fd_count=1)
    assert answer == big
    assert len(fds) == 1
    os.close(fds[0])


def test_answer_without_end_is_not_kept(
    places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_socket, "ANSWER_SIZE_MAX", 1 << 17)

    def talk(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client.sendall(b"x" * 65536)

    with (
        daemon(places[0], talk),
        connect(NAME, os.getpid()) as connection,
        pytest.raises(HostError, match="no end"),
    ):
        ask(connection, {})


def test_daemon_that_does_not_answer_is_told(places: list[Path]) -> None:
    listener = listen(socket_path(places[0], NAME), os.getegid())
    with (
        listener,
        connect(NAME, os.getpid()) as connection,
        pytest.raises(HostError, match=r"did not answer in 0\.05 s"),
    ):
        ask(connection, {}, timeout_s=0.05)


def test_daemon_whose_answer_never_ends_is_not_waited_for_longer(places: list[Path]) -> None:
    """Each piece comes in time, and there is always another."""
    before, over = open_descriptors(), threading.Event()

    def talk(client: socket.socket) -> None:
        client.recv(4096)
        socket.send_fds(client, [b"{"], [0])
        while not over.wait(0.001):
            client.sendall(b" ")

    with daemon(places[0], talk), connect(NAME, os.getpid()) as connection:
        try:
            with pytest.raises(HostError, match=r"did not answer in 0\.1 s"):
                ask(connection, {}, fd_count=1, timeout_s=0.1)
        finally:
            over.set()
    assert open_descriptors() == before


def test_answer_may_be_looked_for_without_waiting(places: list[Path]) -> None:
    half, whole = threading.Event(), threading.Event()

    def talk(client: socket.socket) -> None:
        client.recv(4096)
        assert half.wait(10)
        client.sendall(b'{"ok":')
        assert whole.wait(10)
        client.sendall(b"true}\n")

    with daemon(places[0], talk), connect(NAME, os.getpid()) as connection:
        question = Question(connection, {})
        assert question.answer(0) is None
        half.set()
        assert question.answer(0.05) is None
        whole.set()
        assert question.answer(10) == ({"ok": True}, [])


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_rights_of_the_socket_do_not_depend_on_the_umask(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "a.sock"
    old = os.umask(mask)
    try:
        listener = listen(path, os.getegid())
    finally:
        os.umask(old)
    with listener:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_socket_that_cannot_be_made_leaves_no_descriptor(tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(HostError, match="the control socket cannot be made"):
        listen(tmp_path / "none" / "a.sock", os.getegid())
    assert open_descriptors() == before
