"""What a feed process makes of its readers' pages."""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest

from mdsys._listener import Feed
from mdsys.feed.orders import ReaderAdd, ReaderRemove
from mdsys.feed.reader_desk import ReaderDesk
from mdsys.feed.report import MESSAGE_SIZE_MAX, Reporter, read_message, report_pair


class StubFeed:
    """What the orders are for, without rings."""

    def __init__(self) -> None:
        self.added: dict[int, tuple[mmap.mmap, list[int], bool]] = {}
        self.ejected: list[tuple[int, int, int]] = []

    def reader_add(self, reader: int, memory: mmap.mmap, rings: list[int], lossless: bool) -> None:
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


def test_page_is_mapped_read_only_and_known_until_its_reader_leaves(
    bench: Bench, page: int
) -> None:
    bench.desk.add(ReaderAdd(7, "lossless", [0, 2]), page)
    memory, rings, lossless = bench.feed.added[7]
    assert (rings, lossless) == ([0, 2], True)
    assert memory[:4] == b"page"
    with pytest.raises(TypeError):
        memory[0] = 1
    bench.desk.remove(ReaderRemove(7))
    assert bench.feed.added == {}


@pytest.mark.parametrize("policy", ["drop_oldest", "conflate", "newest"])
def test_only_lossless_is_lossless(bench: Bench, page: int, policy: str) -> None:
    bench.desk.add(ReaderAdd(7, policy, [0]), page)
    assert not bench.feed.added[7][2]


@pytest.mark.parametrize("seal", [0, fcntl.F_SEAL_GROW, fcntl.F_SEAL_SHRINK])
def test_page_that_could_be_truncated_is_refused(bench: Bench, seal: int) -> None:
    fd = os.memfd_create("mdsys-reader-test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 4096)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seal)
    with pytest.raises(ValueError, match="could be truncated"):
        bench.desk.add(ReaderAdd(7, "lossless", [0]), fd)
    os.close(fd)
    assert bench.feed.added == {}


def test_what_has_no_seals_is_refused(bench: Bench) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(OSError, match=r"."):
        bench.desk.add(ReaderAdd(7, "lossless", [0]), ours.fileno())


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
