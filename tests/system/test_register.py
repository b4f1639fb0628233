"""The C client of the control socket, against the daemon's server and against impostors."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mdsys import _native
from mdsys.ring.control_socket import socket_path
from mdsys.ring.segment import Instance
from tests.control import PATIENCE_S, serving
from tests.instances import geometry, running
from tests.native import COMPILERS, PROGRAMS, compile_program, patched_include

pytestmark = pytest.mark.system

OK, NO_DAEMON, NO_PERMISSION, REFUSED, TIMEOUT, BAD_ARGUMENT, BAD_ANSWER, BAD_PAGE = (
    0, 2, 3, 4, 5, 6, 7, 8
)  # fmt: skip
DROP_OLDEST, LOSSLESS, PARK = "0", "2", "2"
ARGUMENTS = ("s1", DROP_OLDEST, PARK, "-1", "0")


@pytest.fixture(scope="module")
def client() -> Path:
    return compile_program(PROGRAMS / "register.c")


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(rings=2)) as each:
        yield each


def start(client: Path, instance: Instance, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [client, instance.name, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(client: Path, instance: Instance, *arguments: str) -> tuple[int, str, str]:
    """Return result, its text and the daemon's words, of one that is not to succeed."""
    with start(client, instance, *(arguments or ARGUMENTS)) as process:
        out, _ = process.communicate("\n", timeout=PATIENCE_S)
    line, end = out.splitlines()
    assert end == "0 0", "something is left of it"
    text, _, words = line.partition("|")
    return process.returncode, text, words


@pytest.mark.parametrize(("cc", "language"), sorted(COMPILERS))
def test_registered_it_is_seen_until_it_leaves(instance: Instance, cc: str, language: str) -> None:
    client = compile_program(PROGRAMS / "register.c", cc=cc, language=language)
    with (
        serving(instance) as server,
        start(client, instance, "s1", LOSSLESS, PARK, "1", "1", "0") as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "registered|\n"
        number, name, core, alive = process.stdout.readline().split()
        assert (name, core, alive) == ("s1", "1", "1")
        (reader,) = server.call(server.readers.picture)
        assert reader["reader"] == int(number)
        assert (reader["pid"], reader["policy"], reader["wait"]) == (
            process.pid,
            "lossless",
            "park",
        )
        assert [ring["ring"] for ring in reader["rings"]] == [1, 0]
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert server.next_left() == ("s1", "has left")  # though a child has the connection, too
        out, _ = process.communicate(timeout=PATIENCE_S)
        assert out == "1\n0 0\n"
        assert process.returncode == OK


def test_it_notices_when_the_daemon_is_gone(client: Path, instance: Instance) -> None:
    with contextlib.ExitStack() as life:
        life.enter_context(serving(instance))
        process = start(client, instance, *ARGUMENTS)
        assert process.stdout is not None
        assert process.stdout.readline() == "registered|\n"
        assert process.stdout.readline().endswith(" 1\n")
    with process:
        assert process.communicate("\n", timeout=PATIENCE_S)[0] == "0\n0 0\n"


def test_a_core_of_the_configuration_stands_in_the_page(client: Path, instance: Instance) -> None:
    with serving(instance), start(client, instance, "pinned", *ARGUMENTS[1:]) as process:
        out, _ = process.communicate("\n", timeout=PATIENCE_S)
    assert out.splitlines()[1].split()[1:] == ["pinned", "3", "1"]


def test_what_the_daemon_refuses_is_told_in_its_words(client: Path, instance: Instance) -> None:
    with serving(instance) as server:
        assert ask(client, instance, "s1", DROP_OLDEST, PARK, "-1", "0", "7") == (
            REFUSED,
            "the daemon refused",
            "rings: 7 is not in [0, 1]",
        )
        assert server.count() == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("", DROP_OLDEST, PARK, "-1", "0"),
        ('a","core":0,"x":"', DROP_OLDEST, PARK, "-1", "0"),
        ("x" * 32, DROP_OLDEST, PARK, "-1", "0"),
        ("s1", "3", PARK, "-1", "0"),
        ("s1", DROP_OLDEST, "3", "-1", "0"),
        ("s1", "-1", PARK, "-1", "0"),
        ("s1", DROP_OLDEST, PARK, "-1"),
        ("s1", DROP_OLDEST, PARK, "-1", *["4294967295"] * 257),
    ],
)
def test_a_request_that_nobody_would_take_is_not_sent(
    client: Path, instance: Instance, arguments: tuple[str, ...]
) -> None:
    with serving(instance) as server:
        assert ask(client, instance, *arguments)[0] == BAD_ARGUMENT
        assert server.call(lambda: server.control.requests) == 0


def test_the_longest_request_is_understood(client: Path, instance: Instance) -> None:
    with serving(instance):
        code, _, words = ask(
            client, instance, "x" * 31, LOSSLESS, "0", "2147483647", *["4294967295"] * 256
        )
    assert code == REFUSED
    assert "4294967295 is not in [0, 1]" in words


def test_without_a_daemon_it_says_so(client: Path, instance: Instance) -> None:
    assert ask(client, instance)[0] == NO_DAEMON


def test_a_dead_daemons_socket_is_no_daemon(client: Path, instance: Instance) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path_of(instance)))
    try:
        assert ask(client, instance)[0] == NO_DAEMON
    finally:
        path_of(instance).unlink()


def test_somebody_else_who_listens_is_not_talked_to(client: Path, instance: Instance) -> None:
    program = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen();"
        "print(flush=True); c = s.accept()[0]; sys.exit(len(c.recv(1)))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path_of(instance)], stdout=subprocess.PIPE
    ) as impostor:
        assert impostor.stdout is not None
        impostor.stdout.readline()
        assert ask(client, instance)[0] == NO_DAEMON
        assert impostor.wait(PATIENCE_S) == 0, "it was told something"
    path_of(instance).unlink()


# ---- a daemon that lies --------------------------------------------------------------------------


def path_of(instance: Instance) -> Path:
    return socket_path(instance.lock.path.parent, instance.name)


@contextlib.contextmanager
def answering(instance: Instance, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """Serve one client by ``answer``, in the process that writes the directory."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path_of(instance)))
        listener.listen()
        listener.settimeout(PATIENCE_S)

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.settimeout(PATIENCE_S)
                request = b""
                while not request.endswith(b"\n"):
                    request += client.recv(4096)
                assert json.loads(request)["op"] == "register"
                with contextlib.suppress(OSError):  # it hangs up on us when it has had enough
                    answer(client)
                    while client.recv(4096):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join(PATIENCE_S)
            path_of(instance).unlink()


def page_of(size: int, *, created: bool) -> int:
    """Return a descriptor of a file of this size."""
    fd = os.memfd_create("page")
    os.ftruncate(fd, size)
    if created:
        with mmap.mmap(fd, size) as memory:
            _native.ReaderPage.create(memory, 1, b"s1", 1, True, 0.5, 1, -1)
            _native.publish_segment(memory, 1)
    return fd


def send_with(data: bytes, *fds: int) -> Callable[[socket.socket], None]:
    def answer(client: socket.socket) -> None:
        socket.send_fds(client, [data], fds)
        for fd in fds:
            os.close(fd)

    return answer


SIZE = _native.reader_page_size()
FINE = b'{"ok":true,"reader":1}\n'


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda: send_with(b"\n"), BAD_ANSWER),
        (lambda: send_with(b"[]\n"), BAD_ANSWER),
        (lambda: send_with(b'{"ok"\n'), BAD_ANSWER),
        (lambda: send_with(b"\0" * 10 + b"\n"), BAD_ANSWER),
        (lambda: send_with(b"x" * 5000), BAD_ANSWER),
        (lambda: send_with(b'{"ok":false}\n'), REFUSED),
        (lambda: send_with(b'{"ok":false,"error":"\\"ok\\":true"}\n'), REFUSED),
        (lambda: send_with(b'{"ok":false,"error":"' + b"\\" * 999 + b"\n"), REFUSED),
        (lambda: send_with(FINE), BAD_PAGE),
        (lambda: send_with(FINE, page_of(0, created=False)), BAD_PAGE),
        (lambda: send_with(FINE, page_of(SIZE - 1, created=False)), BAD_PAGE),
        (lambda: send_with(FINE, page_of(SIZE, created=False)), BAD_PAGE),
        (lambda: lambda client: client.shutdown(socket.SHUT_RDWR), NO_DAEMON),
    ],
)
def test_a_wrong_answer_is_refused(
    client: Path,
    instance: Instance,
    answer: Callable[[], Callable[[socket.socket], None]],
    code: int,
) -> None:
    with answering(instance, answer()):
        assert ask(client, instance)[0] == code


def test_of_several_descriptors_one_is_taken_and_none_is_kept_open(
    client: Path, instance: Instance
) -> None:
    pages = [page_of(SIZE, created=True) for _ in range(3)]
    with (
        answering(instance, send_with(FINE, *pages)),
        start(client, instance, *ARGUMENTS) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "registered|\n"
        process.stdout.readline()
        links = [str(each.readlink()) for each in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert not [link for link in links if "memfd" in link], "the mapping is enough"
        process.communicate("\n", timeout=PATIENCE_S)


def test_an_answer_in_pieces_is_put_together(client: Path, instance: Instance) -> None:
    def answer(to: socket.socket) -> None:
        to.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        send_with(FINE[:1], page_of(SIZE, created=True))(to)
        for i in range(1, len(FINE)):
            to.send(FINE[i : i + 1])

    with answering(instance, answer), start(client, instance, *ARGUMENTS) as process:
        out, _ = process.communicate("\n", timeout=PATIENCE_S)
    assert out.splitlines()[0] == "registered|"


def test_a_daemon_that_never_answers_is_waited_for_only_so_long(instance: Instance) -> None:
    include = patched_include("control.h", {"INT64_C(5000000000)": "INT64_C(50000000)"})
    client = compile_program(PROGRAMS / "register.c", include=include)
    with answering(instance, lambda to: None):
        assert ask(client, instance)[0] == TIMEOUT
