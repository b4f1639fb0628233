"""One client of the control socket, of every kind: honest, wrong, hostile, dying."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys

import pytest

from mdsys import _native
from mdsys.daemon import control_connection as module
from mdsys.ring.control_socket import REQUEST_SIZE_MAX
from mdsys.ring.lock import start_ticks
from tests.control import PATIENCE_S, REGISTER, Client, Server, open_descriptors

CHILD = """
import json, os, socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
request = json.dumps(
    {"op": "register", "name": "child", "policy": "lossless", "wait": "park", "rings": [0]}
).encode() + b"\\n"
"""


def child(server: Server, code: str) -> subprocess.Popen[bytes]:
    """Start a process that is connected as ``client`` and has ``request``."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD + code, str(server.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def said(process: subprocess.Popen[bytes]) -> bytes:
    """Return the next line of a child, without its end."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate(timeout=PATIENCE_S)


# Honest clients


def test_reader_that_registers_gets_its_number_the_defaults_and_a_page_it_can_write(
    server: Server,
) -> None:
    with server.connect() as client:
        client.sendall(json.dumps({**REGISTER, "name": "pinned"}).encode() + b"\n")
        line, fds, _, _ = socket.recv_fds(client, 4096, 4)
        answer = json.loads(line)
        number = answer.pop("reader")
        assert answer == {
            "ok": True,
            "core": 3,
            "batch_size": 200,
            "adaptive": True,
            "threshold": 0.8,
            "max_queue_size": 10_000,
            "core_users": [],
        }
        (fd,) = fds
        page = _native.ReaderPage(os.pread(fd, os.fstat(fd).st_size, 0))
        assert (page.reader_id, page.name) == (number, "pinned")
        os.pwrite(fd, b"\1", 4096)
        os.close(fd)


def test_reader_is_told_who_else_runs_on_its_core(server: Server) -> None:
    with Client(server) as first, Client(server) as elsewhere, Client(server) as second:
        number = first.ask({**REGISTER, "core": 3})["reader"]
        assert elsewhere.ask({**REGISTER, "core": 2})["core_users"] == []
        (other,) = second.ask({**REGISTER, "core": 3})["core_users"]
        assert f"reader {number} " in other


def test_readers_are_told_with_the_process_that_the_kernel_names(server: Server) -> None:
    with Client(server) as reader, Client(server) as other:
        number = reader.ask(REGISTER)["reader"]
        answer = other.ask({"op": "readers"})
        assert answer["ok"] is True
        (shown,) = answer["readers"]
        assert (shown["reader"], shown["name"]) == (number, "s1")
        assert (shown["pid"], shown["uid"]) == (os.getpid(), os.getuid())
        assert shown["start_ticks"] == start_ticks(os.getpid())
        assert answer["control"] == {
            "connections": 2,
            "waiting": 0,
            "requests": 2,
            "refused": 0,
            "dropped": 0,
        }


def test_requests_may_come_in_one_piece_or_byte_by_byte(server: Server) -> None:
    with Client(server) as client:
        client.send(b'{"op":"readers"}\n' * 3 + b'{"op":"rea')
        assert [client.answer()["ok"] for _ in range(3)] == [True] * 3
        for byte in b'ders"}\n':
            client.send(bytes([byte]))
        assert client.answer()["ok"] is True


def test_pipelined_question_sees_the_reader_that_the_line_before_registered(
    server: Server,
) -> None:
    with Client(server) as client:
        lines = [{"op": "readers"}, REGISTER, {"op": "readers"}]
        client.send(b"".join(json.dumps(each).encode() + b"\n" for each in lines))
        assert client.answer()["readers"] == []
        client.answer()
        assert len(client.answer()["readers"]) == 1


def test_client_that_closes_its_half_still_gets_its_answer(server: Server) -> None:
    with Client(server) as client:  # as socat does
        client.send(b'{"op":"readers"}\n')
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer()["readers"] == []
        assert client.ended()


def test_answer_larger_than_the_sockets_buffer_arrives_whole(server: Server) -> None:
    with Client(server) as client:
        big = {"ok": True, "x": "y" * 4_000_000}
        server.call(lambda: setattr(server.readers, "picture", lambda **_: big))
        assert client.ask({"op": "readers"})["readers"] == big
        assert client.ask({"op": "readers"})["readers"] == big


# Wrong ones


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", "no JSON"),
        (b"\x00", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"{", "no JSON"),
        (b'{"op":"readers"}x', "no JSON"),
        (b"[" * 4000, "no JSON"),
        (b"[]", "no JSON object"),
        (b"3", "no JSON object"),
        (b"null", "no JSON object"),
        (b'"register"', "no JSON object"),
        (b"{}", "op: null is none of"),
        (b'{"op":null}', "op: null is none of"),
        (b'{"op":"Register"}', 'op: "Register" is none of'),
        (b'{"op":["register"]}', "op: "),
        (b'{"op":{"op":"register"}}', "op: "),
        (b'{"op":"\\ud800"}', "op: "),
        (b'{"op":1' + b"0" * 4000 + b"}", "op: "),
        (b'{"op":NaN}', "op: NaN is none of"),
        (b'{"op":' + b"[" * 900 + b"]" * 900 + b"}", "."),
        (b'{"op":"readers","x":1}', "readers takes histograms, true or false, and no more"),
        (b'{"op":"register"}', "name: "),
        (b'{"op":"status","op":"readers"}', "op stands twice"),
        (b'{"op":"readers","op":"readers"}', "op stands twice"),
        (b'{"op":"readers","\\u006fp":"readers"}', "op stands twice"),
        (b'{"op":"readers","x":[{"y":{"a":1,"b":2,"a":1}}]}', "a stands twice"),
        (b'{"op":"readers","":1,"":1}', " stands twice"),
        (b'{"op":"readers","\\ud800":1,"\\ud800":1}', " stands twice"),
        (b'{"%s":1,"%s":1}' % ((b"x" * 2_000,) * 2), "xxx... stands twice"),
    ],
)
def test_wrong_line_gets_an_error_line_and_changes_nothing_and_the_connection_goes_on(
    server: Server, line: bytes, words: str
) -> None:
    with Client(server) as client:
        client.send(line + b"\n")
        answer = client.answer()
        assert answer["ok"] is False
        assert words in answer["error"] or words == "."
        assert len(answer["error"]) < 500
        assert server.count() == 0
        assert client.ask({"op": "readers"})["control"]["refused"] == 1


def test_nesting_of_any_depth_is_answered(server: Server) -> None:
    with Client(server) as client:  # somewhere it can still be read, but not be quoted any more
        for depth in range(900, 1_010):
            client.send(b'{"op":' + b"[" * depth + b"]" * depth + b"}\n")
            assert client.answer()["ok"] is False


def test_second_registration_on_one_connection_is_refused(server: Server) -> None:
    with Client(server) as client:
        assert client.ask(REGISTER)["ok"] is True
        assert "registered a reader already" in client.ask(REGISTER)["error"]
        assert server.count() == 1


def test_refused_registration_leaves_no_descriptor_and_may_be_followed_by_a_right_one(
    server: Server,
) -> None:
    with Client(server) as client:
        client.ask({"op": "readers"})
        before = open_descriptors()
        for _ in range(50):
            assert client.ask({**REGISTER, "rings": [7]})["ok"] is False
        assert open_descriptors() == before
        assert client.ask(REGISTER)["ok"] is True


# Hostile ones


def test_longest_request_is_read_and_a_longer_one_ends_the_connection(server: Server) -> None:
    with Client(server) as client:
        line = b'{"op":"readers"}'
        client.send(line + b" " * (REQUEST_SIZE_MAX - len(line)) + b"\n")
        assert client.answer()["ok"] is True
        client.send(line + b" " * (REQUEST_SIZE_MAX + 1 - len(line)) + b"\n")
        assert client.answer() == {"ok": False, "error": "a request may have 4096 bytes"}
        assert client.ended()
    with Client(server) as client:
        assert client.ask({"op": "readers"})["control"]["dropped"] == 1


def test_line_without_end_is_not_kept(server: Server) -> None:
    with Client(server) as client:
        client.send(b"x" * (REQUEST_SIZE_MAX + 1))
        assert client.answer()["ok"] is False
        assert client.ended()


def test_registered_reader_that_floods_is_reaped(server: Server) -> None:
    with Client(server) as client:
        client.ask(REGISTER)
        client.send(b"x" * (REQUEST_SIZE_MAX + 1))
        assert server.next_left() == ("s1", "sent a request without end")


def test_client_that_asks_for_nothing_gives_its_place_away_and_a_reader_keeps_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.05)
    with Client(server) as reader, Client(server) as idle:
        reader.ask(REGISTER)
        idle.send(b'{"op":"rea')  # half a request is none
        assert idle.ended()
        assert reader.ask({"op": "readers"})["control"]["dropped"] == 1


def test_client_that_does_not_take_its_answers_is_not_read_and_then_dropped(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    with Client(server) as client:
        client.ask(REGISTER)
        client.socket.settimeout(0)
        full = False
        while not full:  # of our own socket, too: so the server has stopped to read
            try:
                client.socket.send(b'{"op":"readers"}\n' * 200)
            except BlockingIOError:
                full = True
        connections = server.call(lambda: list(server.control._connections))
        assert all(len(each._in) <= REQUEST_SIZE_MAX + 1 for each in connections)
        assert server.next_left() == ("s1", "does not take its answers")
    with Client(server) as other:
        assert other.ask({"op": "readers"})["control"]["dropped"] == 1


def test_answer_that_nobody_would_read_to_its_end_is_not_sent(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_SIZE_MAX", 1_000)
    with Client(server) as client:
        assert client.ask({"op": "readers"})["ok"] is True
        server.call(lambda: setattr(server.readers, "picture", lambda **_: "y" * 1_000))
        assert "obeyed, but" in client.ask({"op": "readers"})["error"]
        assert client.ask({"op": "none"})["ok"] is False


def test_fault_of_ours_is_answered_and_the_connection_goes_on(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: bool) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(server.readers, "picture", fail)
    with Client(server) as client:
        assert client.ask({"op": "readers"}) == {"ok": False, "error": "ValueError: broken"}
        assert client.ask({"op": "none"})["ok"] is False
    assert caplog.messages == ["control socket: a request failed"]


def test_page_that_could_not_be_handed_over_is_closed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise BlockingIOError

    monkeypatch.setattr(module, "TIMEOUT_S", 0.05)
    with Client(server) as witness, Client(server) as client:
        witness.ask({"op": "readers"})
        client.ask({"op": "readers"})
        before = open_descriptors()
        with monkeypatch.context() as patch:
            patch.setattr(socket, "send_fds", full)
            client.send(json.dumps(REGISTER).encode() + b"\n")
            assert server.next_left() == ("s1", "does not take its answers")
        assert client.ended()
        witness.ask({"op": "readers"})
        assert open_descriptors() == before - 1  # the server's end of the connection


def test_descriptors_that_a_client_sends_are_not_kept(server: Server) -> None:
    with Client(server) as client:
        client.ask({"op": "readers"})
        before = open_descriptors()
        for _ in range(20):
            socket.send_fds(client.socket, [b'{"op":"readers"}\n'], [0, 1, 2])
            client.answer()
        assert open_descriptors() == before


# Deaths


def test_reader_that_closes_is_reaped_and_leaves_no_descriptor(server: Server) -> None:
    with Client(server) as warm:
        warm.ask({"op": "readers"})
    before = None
    for _ in range(20):
        with server.connect() as client:
            client.sendall(json.dumps(REGISTER).encode() + b"\n")
            _, (fd,), _, _ = socket.recv_fds(client, 4096, 1)
            os.close(fd)
        assert server.next_left() == ("s1", "has left")
        server.call(lambda: None)
        before = before or open_descriptors()
    assert open_descriptors() == before
    assert server.count() == 0


def test_killed_reader_is_reaped(server: Server) -> None:
    process = child(
        server, "client.sendall(request); client.recv(1); print(1, flush=True); input()"
    )
    assert said(process) == b"1"
    assert server.count() == 1
    process.send_signal(signal.SIGKILL)
    name, why = server.next_left()
    assert (name, why in {"has left", "has died"}) == ("child", True)
    end(process)


def test_reader_whose_forked_child_holds_the_socket_is_reaped_when_it_dies(
    server: Server,
) -> None:
    process = child(
        server,
        """
client.sendall(request)
client.recv(1)
pid = os.fork()
if pid == 0:
    sys.stdout.close()
    while client.recv(4096):  # until the server hangs up
        pass
    os._exit(0)
print(pid, flush=True)
input()
""",
    )
    forked = int(said(process))
    pidfd = os.pidfd_open(forked)
    try:
        process.send_signal(signal.SIGKILL)
        assert server.next_left() == ("child", "has died")
        assert select.select([pidfd], [], [], PATIENCE_S)[0], "the child was not hung up on"
    finally:
        os.close(pidfd)
        end(process)


@pytest.mark.parametrize("reaped", [True, False])
def test_registration_by_a_child_whose_connecting_parent_is_dead_is_refused(
    server: Server, reaped: bool
) -> None:
    process = child(
        server,
        """
ours, theirs = os.pipe()
if os.fork():
    os._exit(0)
os.setsid()
print(os.getpid(), flush=True)
input()
client.sendall(request)
print(client.recv(4096).decode(), end="", flush=True)
""",
    )
    said(process)
    if reaped:
        process.wait(PATIENCE_S)
    else:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    answer = json.loads(said(process))
    assert answer["ok"] is False
    assert f"process {process.pid} " in answer["error"]
    assert server.count() == 0
    end(process)


@pytest.mark.parametrize(
    "code",
    [
        "os.kill(os.getpid(), 9)",
        "client.sendall(request[:20]); os.kill(os.getpid(), 9)",
        "client.sendall(request); os.kill(os.getpid(), 9)",
        "client.sendall(request); client.recv(1); os.kill(os.getpid(), 9)",
        "client.sendall(request); client.shutdown(socket.SHUT_RD); os.kill(os.getpid(), 9)",
        "client.sendall(request * 2); client.close(); os.kill(os.getpid(), 9)",
    ],
)
def test_death_at_any_moment_of_the_registration_leaves_nothing(server: Server, code: str) -> None:
    with Client(server) as witness:
        witness.ask({"op": "readers"})
        before = open_descriptors()
        process = child(server, code)
        assert process.wait(PATIENCE_S) == -signal.SIGKILL
        end(process)
        while True:  # the server sees it go in its own time; the bound is the test's
            answer = witness.ask({"op": "readers"})
            if answer["control"]["connections"] == 1 and not answer["readers"]:
                break
        assert open_descriptors() == before
