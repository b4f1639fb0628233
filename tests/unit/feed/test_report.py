from __future__ import annotations

import json
import logging
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from mdsys.feed.report import (
    MESSAGE_SIZE_MAX,
    ORDER_SIZE_MAX,
    TEXT_SIZE_MAX,
    ReaderAdd,
    ReaderRemove,
    Reporter,
    read_message,
    reader_add,
    reader_remove,
    receive_order,
    report_pair,
)


@pytest.fixture
def record() -> logging.LogRecord:
    return logging.LogRecord("mdsys.feed", logging.WARNING, "", 0, "up: %s", ("\x00é\n",), None)


def test_events_and_log_lines_arrive_whole_and_in_order(record: logging.LogRecord) -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        reporter = Reporter(theirs)
        reporter.tell("subscribed", connection=3, confirmed=5, refused=0)
        reporter.handle(record)
        assert read_message(ours.recv(MESSAGE_SIZE_MAX)) == {
            "event": "subscribed",
            "connection": 3,
            "confirmed": 5,
            "refused": 0,
        }
        line = read_message(ours.recv(MESSAGE_SIZE_MAX))
        assert line == {"event": "log", "level": logging.WARNING, "text": "up: \x00é\n"}


def test_longest_line_of_characters_that_grow_when_escaped_still_fits() -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        text = "\U0001f4a5" * 99_999
        record = logging.LogRecord("mdsys.feed", logging.ERROR, "", 0, text, (), None)
        Reporter(theirs).handle(record)
        assert read_message(ours.recv(MESSAGE_SIZE_MAX))["text"] == text[:TEXT_SIZE_MAX]


def test_supervisor_that_does_not_read_never_blocks_the_feed(record: logging.LogRecord) -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        reporter = Reporter(theirs)
        for _ in range(10_000):
            reporter.handle(record)
        assert 0 < reporter.take_dropped_count() < 10_000
        assert reporter.take_dropped_count() == 0


def test_supervisor_that_is_gone_is_no_error(record: logging.LogRecord) -> None:
    ours, theirs = report_pair()
    with theirs:
        ours.close()
        reporter = Reporter(theirs)
        reporter.handle(record)
        assert reporter.take_dropped_count() == 1


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_orders_arrive_with_the_page_and_in_order_beside_the_reports() -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        number = (1 << 40) + 17
        page = os.memfd_create("mdsys-reader-test")
        os.write(page, b"page")
        socket.send_fds(ours, [reader_add(number, "lossless", [0, 7])], [page])
        os.close(page)
        ours.send(reader_remove(number))
        Reporter(theirs).tell("subscribed", connection=3)
        order = receive_order(theirs)
        assert isinstance(order, ReaderAdd)
        assert (order.reader, order.lossless, order.rings) == (number, True, [0, 7])
        assert os.pread(order.fd, 4, 0) == b"page"
        assert not os.get_inheritable(order.fd)
        os.close(order.fd)
        assert receive_order(theirs) == ReaderRemove(number)
        with pytest.raises(BlockingIOError):
            receive_order(theirs)
        assert read_message(ours.recv(MESSAGE_SIZE_MAX))["connection"] == 3


def test_reader_of_every_ring_there_can_be_fits_in_an_order() -> None:
    assert len(reader_add((1 << 64) - 1, "drop_oldest", list(range(256)))) <= ORDER_SIZE_MAX


@pytest.mark.parametrize("policy", ["drop_oldest", "conflate", "newest"])
def test_only_lossless_is_lossless(policy: str) -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        socket.send_fds(ours, [reader_add(1, policy, [0])], [0])
        order = receive_order(theirs)
        assert isinstance(order, ReaderAdd)
        os.close(order.fd)
        assert not order.lossless


ADD: dict[str, Any] = json.loads(reader_add(1, "lossless", [0]))


@pytest.mark.parametrize(
    ("data", "fd_count"),
    [
        (b"x", 0),
        (b"\xff\xfe\x00", 1),
        (b"[]", 1),
        (b"{}", 0),
        (b'{"do":"nothing"}', 1),
        (b'{"do":"reader_remove"}', 0),
        (b'{"do":"reader_remove","reader":"1"}', 0),
        (reader_add(1, "lossless", [0]), 0),
        (reader_add(1, "lossless", [0]), 2),
        (json.dumps({**ADD, "rings": 0}).encode(), 1),
        (json.dumps({**ADD, "rings": ["0"]}).encode(), 1),
        (json.dumps({**ADD, "rings": [True]}).encode(), 1),
        (json.dumps({**ADD, "reader": 1.5}).encode(), 1),
        (json.dumps({**ADD, "policy": None}).encode(), 1),
        (reader_remove(1) + b" " * ORDER_SIZE_MAX, 0),
    ],
)
def test_garbage_is_received_refused_and_leaves_no_descriptor(data: bytes, fd_count: int) -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        before = open_descriptors()
        socket.send_fds(ours, [data], [0] * fd_count)
        with pytest.raises(ValueError, match=r"."):
            receive_order(theirs)
        assert open_descriptors() == before
        ours.send(reader_remove(5))
        assert receive_order(theirs) == ReaderRemove(5)


def test_supervisor_that_is_gone_is_the_end_of_the_orders() -> None:
    ours, theirs = report_pair()
    with theirs:
        ours.close()
        with pytest.raises(EOFError):
            receive_order(theirs)
