"""The client of the registry, against the real server."""

from __future__ import annotations

import gc
import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from mdsys import _native
from mdsys.consume import registration as module
from mdsys.consume.registration import Registration, register
from mdsys.errors import HostError
from mdsys.ring import control_socket
from mdsys.ring.segment import Instance
from tests.control import Server, open_descriptors, serving
from tests.instances import geometry, new_name, running


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(rings=2)) as each:
        yield each


@pytest.fixture
def server(instance: Instance) -> Iterator[Server]:
    with serving(instance) as each:
        yield each


def registered(server: Server, name: str = "s1", core: int | None = None) -> Registration:
    found = register(server.instance.name, os.getpid(), name, "lossless", "park", range(2), core)
    assert found is not None
    return found


def test_registration_holds_a_page_that_this_process_can_write(server: Server) -> None:
    entry = registered(server, "pinned")
    page = _native.ReaderPage(entry.memory, writable=True)
    assert page.reader_id == entry.reader
    assert page.name == "pinned"
    assert page.defaults()["core"] == entry.core == 3
    page.core = 1
    (shown,) = server.call(server.readers.picture)
    assert (shown["core_now"], shown["pid"]) == (1, os.getpid())
    assert [ring["ring"] for ring in shown["rings"]] == [0, 1]
    entry.close()


def test_entry_ends_when_it_is_closed_and_the_page_stays(server: Server) -> None:
    entry = registered(server)
    assert entry.alive()
    entry.close()
    assert server.next_left() == ("s1", "has left")
    assert not entry.alive()
    entry.memory[4096] = 1
    entry.close()


def test_entry_ends_with_the_daemon(server: Server) -> None:
    entry = registered(server)
    assert entry.alive()
    server.close()
    assert not entry.alive()
    entry.close()


def test_no_daemon_is_none() -> None:
    assert register(new_name(), os.getpid(), "s1", "lossless", "park", [0]) is None


def test_daemon_that_is_not_the_writer_is_none(server: Server) -> None:
    name = server.instance.name
    assert register(name, os.getppid(), "s1", "lossless", "park", [0]) is None


def test_refusal_is_raised_with_the_daemons_words_and_leaves_nothing(server: Server) -> None:
    before = open_descriptors()
    with pytest.raises(HostError, match=r"the daemon refused: rings: 5 is not in \[0, 1\]"):
        register(server.instance.name, os.getpid(), "s1", "lossless", "park", [5])
    assert server.count() == 0
    server.call(lambda: None)
    assert open_descriptors() == before


def test_daemon_that_stops_at_this_moment_is_none(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = control_socket.connect

    def connect_and_stop(instance: str, writer_pid: int) -> socket.socket:
        connection = connect(instance, writer_pid)
        server.close()
        return connection

    monkeypatch.setattr(module, "connect", connect_and_stop)
    assert register(server.instance.name, os.getpid(), "s1", "lossless", "park", [0]) is None


def test_answer_without_a_page_is_refused(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    def answer(*_: object) -> tuple[dict[str, object], list[int]]:
        return {"reader": 1, "core": 1, "core_users": []}, []

    monkeypatch.setattr(control_socket.Question, "answer", answer)
    with pytest.raises(HostError, match="without a page"):
        registered(server)


def test_daemon_that_is_stuck_is_not_waited_for_longer_and_nothing_is_left(server: Server) -> None:
    before = open_descriptors()
    with server.stuck(), pytest.raises(HostError, match=r"did not answer in 0\.05 s"):
        register(server.instance.name, os.getpid(), "s1", "conflate", "park", [0], timeout_s=0.05)
    assert server.next_left() == ("s1", "has left")
    assert server.count() == 0
    assert open_descriptors() == before


def test_descriptor_of_the_page_is_closed_once_it_is_mapped(server: Server) -> None:
    gc.collect()  # what other tests have left to the collector must not close in between
    server.call(lambda: None)  # it has begun to listen
    before = open_descriptors()
    entry = registered(server)
    # Ours: socket and mmap's own. The server's, which is this process too: socket, page, mmap's
    # own, and the one that tells of our death. (What the server has passed on, its loop closes.)
    server.call(lambda: None)
    assert open_descriptors() - before == 2 + 4
    assert len(entry.memory) % mmap.PAGESIZE == 0
    entry.close()


def test_forked_child_that_closes_does_not_end_its_parents_entry(server: Server) -> None:
    # In a process of its own: a fork of this one would take pytest with it.
    code = """
import os, sys
from mdsys.consume.registration import register
entry = register(sys.argv[1], int(sys.argv[2]), "parent", "lossless", "park", [0])
pid = os.fork()
if pid == 0:
    entry.close()
    os._exit(0)
os.waitpid(pid, 0)
print(entry.alive())
pid = os.fork()
if pid == 0:
    sys.stdin.read()  # holds the connection open
    os._exit(0)
entry.close()
print(entry.alive(), flush=True)
"""
    done = subprocess.Popen(
        [sys.executable, "-c", code, server.instance.name, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout is not None
    assert done.stdout.readline() == "True\n"
    assert server.next_left() == ("parent", "has left")
    assert done.stdout.readline() == "False\n"
    done.communicate()


def test_bare_install_can_register() -> None:
    code = """
import sys
for name in ("picows", "uvloop", "msgspec", "websockets", "aiofastnet", "rich"):
    sys.modules[name] = None  # the [daemon] extra
import mdsys.consume.registration
"""
    subprocess.run([sys.executable, "-c", code], check=True)
