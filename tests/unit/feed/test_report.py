from __future__ import annotations

import logging

import pytest

from mdsys.feed.report import MESSAGE_SIZE_MAX, TEXT_SIZE_MAX, Reporter, read_message, report_pair


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
