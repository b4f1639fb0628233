from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest

from mdsys.feed import report as module
from mdsys.feed.report import (
    MESSAGE_SIZE_MAX,
    SYMBOLS_MAX,
    TEXT_SIZE_MAX,
    Reporter,
    read_message,
    report_pair,
)
from mdsys.feed.venue import Stream
from tests.feeds import run


@pytest.fixture
def record() -> logging.LogRecord:
    place = ("session.py", 9)
    return logging.LogRecord(
        "mdsys.feed", logging.WARNING, *place, "up: %s", ("\x00é\n",), None, func="_take"
    )


def received(channel: socket.socket) -> list[dict[str, Any]]:
    """Return what has come."""
    messages = []
    while True:
        try:
            messages.append(read_message(channel.recv(MESSAGE_SIZE_MAX)))
        except BlockingIOError:
            return messages


def test_events_and_log_lines_arrive_whole_and_in_order(record: logging.LogRecord) -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        reporter = Reporter(theirs)
        reporter.tell("connection", connection=3, state="open", words=None)
        reporter.handle(record)
        assert received(ours) == [
            {"event": "connection", "connection": 3, "state": "open", "words": None},
            {
                "event": "log",
                "level": logging.WARNING,
                "text": "up: \x00é\n",
                "origin": ["session.py", 9, "_take"],
            },
        ]


def test_longest_line_of_characters_that_grow_when_escaped_still_fits() -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        text = "\U0001f4a5" * 99_999
        record = logging.LogRecord("mdsys.feed", logging.ERROR, "", 0, text, (), None)
        Reporter(theirs).handle(record)
        assert read_message(ours.recv(MESSAGE_SIZE_MAX))["text"] == text[:TEXT_SIZE_MAX]


def test_lone_surrogates_of_a_venue_s_words_do_no_harm() -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        Reporter(theirs).tell("connection", words="\ud800")
        assert received(ours)[0]["words"] == "\ud800"


def test_supervisor_that_does_not_read_never_blocks_the_feed_and_loses_log_lines_only(
    record: logging.LogRecord,
) -> None:
    async def main() -> None:
        ours, theirs = report_pair()
        with ours, theirs:
            reporter = Reporter(theirs)
            for number in range(5_000):
                reporter.tell("used", id=number)
                reporter.handle(record)
            dropped = reporter.take_dropped_count()
            assert 0 < dropped < 5_000
            assert reporter.take_dropped_count() == 0
            messages = received(ours)  # there is room now, and older events wait for it
            reporter.tell("used", id=5_000)
            while len(messages) < 10_001 - dropped:
                messages += received(ours)
                await asyncio.sleep(0)
            assert [each["id"] for each in messages if each["event"] == "used"] == list(
                range(5_001)
            )
            reporter.handle(record)  # and there is room again
            assert len(received(ours)) == 1

    run(main())


def test_events_beyond_all_bounds_are_reported_as_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "WAITING_SIZE_MAX", 100_000)

    async def main() -> None:
        ours, theirs = report_pair()
        with ours, theirs:
            reporter = Reporter(theirs)
            overflows: list[int] = []
            told = 0
            reporter.on_overflow = lambda: overflows.append(told)
            while not overflows and told < 100_000:
                reporter.tell("used", id=told)
                told += 1
            assert 1_000 < told < 100_000
            asyncio.get_running_loop().remove_writer(theirs)

    run(main())


def test_supervisor_that_is_gone_is_no_error(record: logging.LogRecord) -> None:
    async def main() -> None:
        ours, theirs = report_pair()
        with theirs:
            reporter = Reporter(theirs)
            while reporter.take_dropped_count() == 0:
                reporter.handle(record)
            reporter.tell("used", id=1)
            ours.close()
            for _ in range(3):
                reporter.handle(record)
                reporter.tell("used", id=2)
                await asyncio.sleep(0)
            assert reporter.take_dropped_count() == 3

    run(main())


def streams_of(count: int, *channels: str) -> list[Stream]:
    return [Stream(f"S{i}", channel) for i in range(count) for channel in channels]


def test_streams_of_all_channels_are_told_once_a_symbol() -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        streams = streams_of(2, "trade", "quote")
        Reporter(theirs).tell_streams(3, "refused", streams, ("quote", "trade"), "no")
        (message,) = received(ours)
        assert message.pop("at_ns") > 0
        assert message == {
            "event": "streams",
            "connection": 3,
            "state": "refused",
            "symbols": ["S0", "S1"],
            "channel": None,
            "words": "no",
        }


@pytest.mark.parametrize(
    "streams",
    [
        streams_of(2, "trade"),
        [Stream("A", "trade"), Stream("B", "quote")],
        [Stream("A", "trade"), Stream("A", "quote"), Stream("B", "quote")],
        [],
    ],
)
def test_streams_of_some_channels_are_told_channel_by_channel(streams: list[Stream]) -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        Reporter(theirs).tell_streams(3, "confirmed", streams, ("trade", "quote"))
        told = [
            (symbol, message["channel"])
            for message in received(ours)
            for symbol in message["symbols"]
        ]
        assert sorted(told) == sorted(stream[:2] for stream in streams)


def test_long_lists_of_the_longest_names_go_in_pieces_that_fit() -> None:
    async def main() -> None:
        ours, theirs = report_pair()
        with ours, theirs:
            names = [f"{i:03d}" + "\U0001f4a5" * 14 for i in range(2 * SYMBOLS_MAX + 1)]
            streams = [Stream(name, "trade") for name in names]
            Reporter(theirs).tell_streams(3, "requested", streams, ("trade",), "w" * 200)
            messages: list[dict[str, Any]] = []
            while len(messages) < 3:
                messages += received(ours)
                await asyncio.sleep(0)
            assert [name for each in messages for name in each["symbols"]] == names

    run(main())
