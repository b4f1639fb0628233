"""The daemon's log: the journal's own protocol where stderr is its stream, else lines."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import pytest

from mdsys.daemon import journal as module
from mdsys.daemon.journal import (
    SEALS,
    JournalHandler,
    LineFormatter,
    encode,
    is_stream,
    priority_of,
    set_up_log,
)
from mdsys.feed.dialling import Dialler
from tests.control import open_descriptors

LARGE = 1 << 20


def decode(entry: bytes) -> dict[str, str]:
    """Read an entry by the protocol's words: NAME=value, or NAME, size, value."""
    fields = {}
    while entry:
        name, _, rest = entry.partition(b"\n")
        if b"=" in name:
            name, _, value = name.partition(b"=")
            entry = rest
        else:
            (size,) = struct.unpack_from("<Q", rest)
            value, entry = rest[8 : 8 + size], rest[8 + size :]
            assert entry[:1] == b"\n"
            entry = entry[1:]
        assert name.decode() not in fields
        fields[name.decode()] = value.decode()
    return fields


class Journal:
    """The journal's end of its socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(str(path))

    def next(self) -> dict[str, str]:
        """Return the fields of the next entry."""
        data, fds, _, _ = socket.recv_fds(self.socket, 1 << 20, 1)
        for fd in fds:
            assert data == b""
            assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS
            data = os.pread(fd, os.fstat(fd).st_size, 0)
            os.close(fd)
        return decode(data)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "socket")
    with made.socket:
        yield made


@pytest.fixture
def handler(journal: Journal) -> Iterator[JournalHandler]:
    made = JournalHandler("eu", io.StringIO(), journal.path)
    yield made
    made.close()


def record(
    text: str, name: str = "mdsys.daemon", level: int = logging.WARNING, **more: Any
) -> logging.LogRecord:
    made = logging.LogRecord(name, level, "/x/leave.py", 7, "%s", (text,), None, func="ask")
    made.created, made.msecs = 1_700_000_000.123, 123
    made.__dict__.update(more)
    return made


# ---- entries ------------------------------------------------------------------------------------


def test_entry_tells_what_where_how_bad_and_whose(
    journal: Journal, handler: JournalHandler
) -> None:
    handler.emit(record("é up"))
    assert journal.next() == {
        "MESSAGE": "é up",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "mdsys@eu",
        "SYSLOG_PID": str(os.getpid()),
        "LOGGER": "mdsys.daemon",
        "MDSYS_INSTANCE": "eu",
        "CODE_FILE": "/x/leave.py",
        "CODE_LINE": "7",
        "CODE_FUNC": "ask",
    }


def test_line_about_a_connection_names_its_venue_and_number(
    journal: Journal, handler: JournalHandler
) -> None:
    handler.emit(record("binance_usdm connection 12: up, wss://x"))
    entry = journal.next()
    assert (entry["MDSYS_VENUE"], entry["MDSYS_CONNECTION"]) == ("binance_usdm", "12")
    handler.emit(record("the venue says: binance connection 3 is closed"))  # not ours to believe
    assert "MDSYS_VENUE" not in journal.next()


def test_connections_are_named_in_the_log_as_is_read_here() -> None:
    plan: Any = SimpleNamespace(venue="binance_usdm", number=12, first=True)
    dialler = Dialler(plan, *[None] * 6)  # type: ignore[arg-type]
    match = module._CONNECTION.match(f"{dialler.name}: up")
    assert match is not None
    assert match.groups() == ("binance_usdm", "12")


def test_what_a_feed_tells_bears_its_number_and_its_own_place_in_the_code(
    journal: Journal, handler: JournalHandler
) -> None:
    handler.emit(record("x", "mdsys.feed.3"))
    entry = journal.next()
    assert entry["MDSYS_FEED"] == "3"
    assert not any(name.startswith("CODE_") for name in entry), "not that of who repeats it"
    handler.emit(record("x", "mdsys.feed.3", origin=["/x/session.py", 9, "_take"]))
    entry = journal.next()
    assert (entry["CODE_FILE"], entry["CODE_LINE"]) == ("/x/session.py", "9")
    assert entry["CODE_FUNC"] == "_take"


@pytest.mark.parametrize(
    ("level", "priority"), [(10, 7), (20, 6), (25, 6), (30, 4), (40, 3), (50, 2), (60, 2)]
)
def test_levels_are_those_of_syslog(level: int, priority: int) -> None:
    assert priority_of(level) == priority


def test_value_of_several_lines_bears_its_size() -> None:
    entry = encode([("MESSAGE", "a\nPRIORITY=0\n"), ("PRIORITY", "6")])
    assert entry == b"MESSAGE\n" + struct.pack("<Q", 13) + b"a\nPRIORITY=0\n\nPRIORITY=6\n"
    assert decode(entry) == {"MESSAGE": "a\nPRIORITY=0\n", "PRIORITY": "6"}


@pytest.mark.parametrize("hostile", ["x\nPRIORITY=0", "x\nPRIORITY\n\1\0\0\0\0\0\0\0000", "\ud800"])
def test_what_a_venue_says_forges_no_field(
    journal: Journal, handler: JournalHandler, hostile: str
) -> None:
    handler.emit(record(hostile))
    entry = journal.next()
    assert entry["PRIORITY"] == "4"
    assert entry["MESSAGE"].isprintable()


def test_traceback_keeps_its_lines_in_an_entry(journal: Journal, handler: JournalHandler) -> None:
    try:
        int("a fault")
    except ValueError:
        handler.emit(record("failed", exc_info=sys.exc_info()))
    lines = journal.next()["MESSAGE"].splitlines()
    assert lines[0] == "failed"
    assert lines[-1].startswith("ValueError: ")


def test_entry_larger_than_a_datagram_comes_whole_in_a_sealed_file(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUFFER_SIZE", LARGE // 8)  # some hosts allow more than they should
    handler = JournalHandler("eu", io.StringIO(), journal.path)
    before = open_descriptors()
    handler.emit(record("y" * LARGE))
    assert journal.socket.recv(1, socket.MSG_PEEK) == b"", "no entry in the datagram itself"
    assert journal.next()["MESSAGE"] == "y" * LARGE
    assert open_descriptors() == before
    handler.close()


# ---- a journal that does not take them ----------------------------------------------------------


def test_a_journal_that_does_not_keep_up_is_not_waited_for_and_told_what_it_missed(
    journal: Journal, handler: JournalHandler
) -> None:
    sent = 0
    while not handler.dropped_count:
        handler.emit(record(f"line {sent}"))
        sent += 1
    handler.emit(record("missed too"))
    assert handler.dropped_count == 2
    for number in range(sent - 1):
        entry = journal.next()
        assert entry["MESSAGE"] == f"line {number}"
        assert "MDSYS_DROPPED" not in entry
    handler.emit(record("after"))
    handler.emit(record("later"))
    assert journal.next()["MDSYS_DROPPED"] == "2"
    assert "MDSYS_DROPPED" not in journal.next()
    assert handler.dropped_count == 2


def test_where_it_does_not_listen_lines_with_priorities_go_to_its_stream(tmp_path: Path) -> None:
    stream = io.StringIO()
    handler = JournalHandler("eu", stream, tmp_path / "none")
    handler.emit(record("down"))
    try:
        int("a fault")
    except ValueError:
        handler.emit(record("failed", level=logging.ERROR, exc_info=sys.exc_info()))
    handler.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "<4>mdsys.daemon: down"
    assert len(lines) > 3
    assert all(line.startswith("<3>") for line in lines[1:])


# ---- which of the two ---------------------------------------------------------------------------


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield root
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[TextIO]:
    with (tmp_path / "stderr").open("w+") as file:
        yield file


def test_the_journal_is_used_where_it_is_who_reads_stderr(
    stream: TextIO,
    journal: Journal,
    root: logging.Logger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status = os.fstat(stream.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    monkeypatch.setattr(JournalHandler.__init__, "__defaults__", (journal.path,))
    set_up_log("eu", stream)
    root.info("up")
    assert journal.next()["MESSAGE"] == "up"
    assert Path(stream.name).read_text() == ""


@pytest.mark.parametrize("variable", [None, "", "8:1", "nonsense"])
def test_lines_are_written_where_stderr_goes_elsewhere(
    stream: TextIO,
    variable: str | None,
    root: logging.Logger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    if variable is not None:  # inherited from who was the journal's, as a shell of a service
        monkeypatch.setenv("JOURNAL_STREAM", variable)
    set_up_log("eu", stream)
    root.handle(record("up: é"))
    expected = "2023-11-14T22:13:20.123Z WARNING mdsys.daemon: up: é\n"
    assert Path(stream.name).read_text() == expected


def test_a_descriptor_that_is_closed_is_no_stream(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    status = os.fstat(fd)
    assert is_stream(f"{status.st_dev}:{status.st_ino}", fd)
    os.close(fd)
    assert not is_stream(f"{status.st_dev}:{status.st_ino}", fd)


@pytest.fixture
def formatter() -> LineFormatter:
    return LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


@pytest.mark.parametrize(
    "hostile", ["\n2023 INFO forged", "\r", "\x1b[31m", "\u2028", "\u202e", "\0"]
)
def test_what_a_venue_says_cannot_forge_a_line_or_drive_a_terminal(
    formatter: LineFormatter, hostile: str
) -> None:
    line = formatter.format(record(f"says {hostile}"))
    assert line.isprintable()
    assert len(line.splitlines()) == 1


def test_traceback_keeps_its_lines(formatter: LineFormatter) -> None:
    made = record("failed")
    try:
        int("a fault")
    except ValueError:
        made.exc_info = sys.exc_info()
    lines = formatter.format(made).splitlines()
    assert lines[-1].startswith("ValueError: ")
    assert len(lines) > 2
