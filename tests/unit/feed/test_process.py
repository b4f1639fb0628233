"""What a feed process makes of its supervisor's orders."""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from mdsys._listener import Feed
from mdsys.errors import LayoutError
from mdsys.feed.process import ReaderDesk
from mdsys.feed.report import (
    MESSAGE_SIZE_MAX,
    Reporter,
    read_message,
    reader_add,
    reader_remove,
    report_pair,
)


class StubFeed:
    """What the orders are for, without rings."""

    def __init__(self) -> None:
        self.added: dict[int, tuple[mmap.mmap, list[int], bool]] = {}
        self.ejected: list[tuple[int, int, int]] = []

    def reader_add(self, reader: int, memory: mmap.mmap, rings: list[int], lossless: bool) -> None:
        if 99 in rings:
            raise LayoutError("no page of this version")
        self.added[reader] = (memory, rings, lossless)

    def reader_remove(self, reader: int) -> None:
        del self.added[reader]

    def take_ejected(self) -> list[tuple[int, int, int]]:
        taken, self.ejected = self.ejected, []
        return taken


class Bench:
    """A desk, and its supervisor's end."""

    def __init__(self) -> None:
        self.ours, self.theirs = report_pair()
        self.feed = StubFeed()
        self.desk = ReaderDesk(cast(Feed, self.feed), Reporter(self.theirs))

    def add(self, reader: int, rings: list[int], page: int, policy: str = "lossless") -> None:
        socket.send_fds(self.ours, [reader_add(reader, policy, rings)], [page])


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    with made.ours, made.theirs:
        yield made


@pytest.fixture
def page() -> Iterator[int]:
    """Give a page as the supervisor hands it out: sealed, and here read-only."""
    fd = os.memfd_create("mdsys-reader-test", os.MFD_ALLOW_SEALING)
    os.write(fd, b"page" * 1024)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    reading = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    os.close(fd)
    yield reading
    os.close(reading)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_orders_are_obeyed_all_at_once_and_the_page_is_mapped_read_only(
    bench: Bench, page: int
) -> None:
    before = open_descriptors()
    bench.add(7, [0, 2], page)
    bench.add(8, [2], page, "conflate")
    bench.add(9, [2], page)
    bench.ours.send(reader_remove(9))
    assert bench.desk.take_orders()
    assert {reader: added[1:] for reader, added in bench.feed.added.items()} == {
        7: ([0, 2], True),
        8: ([2], False),
    }
    memory = bench.feed.added[7][0]
    assert memory[:4] == b"page"
    with pytest.raises(TypeError):
        memory[0] = 1
    bench.feed.added.clear()
    assert open_descriptors() - before <= 1  # mmap keeps one of its own while `memory` lives
    del memory
    assert open_descriptors() == before


def test_page_that_could_be_truncated_is_refused(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    fd = os.memfd_create("mdsys-reader-test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 4096)
    bench.add(7, [0], fd)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    bench.add(8, [0], fd)
    os.close(fd)
    assert bench.desk.take_orders()
    assert bench.feed.added == {}
    assert caplog.text.count("could be truncated") == 2


def test_garbage_ends_nothing(bench: Bench, page: int, caplog: pytest.LogCaptureFixture) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    before = open_descriptors()
    bench.ours.send(b"garbage")
    bench.ours.send(b"[" * 4000)
    bench.ours.send(reader_remove(5))  # of whom it knows nothing
    bench.add(6, [0], null)  # what has no seals
    bench.add(7, [0], page)
    with caplog.at_level(logging.WARNING):
        assert bench.desk.take_orders()
    assert list(bench.feed.added) == [7]
    assert caplog.text.count("cannot be obeyed") == 4
    bench.feed.added.clear()
    assert open_descriptors() == before
    os.close(null)


def test_page_that_the_rings_writers_refuse_ends_nothing(
    bench: Bench, page: int, caplog: pytest.LogCaptureFixture
) -> None:
    bench.add(6, [99], page)
    bench.add(7, [0], page)
    assert bench.desk.take_orders()
    assert list(bench.feed.added) == [7]
    assert "cannot be obeyed: no page of this version" in caplog.text


def test_end_of_the_supervisor_is_told_apart_from_no_orders(bench: Bench) -> None:
    assert bench.desk.take_orders() is True
    bench.ours.close()
    assert bench.desk.take_orders() is False


def test_ejections_are_reported_once_each(bench: Bench) -> None:
    bench.feed.ejected = [(7, 0, 123), (8, 2, 456)]
    bench.desk.report_ejected()
    bench.desk.report_ejected()
    reports: list[dict[str, Any]] = [
        read_message(bench.ours.recv(MESSAGE_SIZE_MAX)) for _ in range(2)
    ]
    assert reports == [
        {"event": "reader_ejected", "reader": 7, "ring": 0, "sequence": 123},
        {"event": "reader_ejected", "reader": 8, "ring": 2, "sequence": 456},
    ]
    with pytest.raises(BlockingIOError):
        bench.ours.recv(1)
