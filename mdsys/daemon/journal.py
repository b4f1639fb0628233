"""The daemon's log: entries with fields where stderr is the journal's, else lines on stderr.

An entry is one datagram (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/, read in November 2026), or a
sealed memfd where it is larger than one may be. docs/install.md lists the fields.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TextIO

JOURNAL: Final = Path("/run/systemd/journal/socket")
BUFFER_SIZE: Final = 8 << 20
"""As much as sd_journal_send(3) asks for: a burst of lines is kept, not lost."""
SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
"""The journal maps no file that may still change."""
_CONNECTION = re.compile(r"([a-z][a-z0-9_]*) connection ([0-9]+)\b", re.ASCII)
"""How each line about a connection begins, whoever writes it: ``mdsys.feed.dialling`` names it."""
_FEED = re.compile(r"mdsys\.feed\.([0-9]+)", re.ASCII)
"""The logger of what a feed has told."""


def priority_of(level: int) -> int:
    """Return the level of syslog(3) for one of ours."""
    for least, priority in (
        (logging.CRITICAL, 2),
        (logging.ERROR, 3),
        (logging.WARNING, 4),
        (logging.INFO, 6),
    ):
        if level >= least:
            return priority
    return 7


def is_stream(variable: str | None, fd: int) -> bool:
    """Return whether a descriptor is the stream that ``$JOURNAL_STREAM`` names."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return variable == f"{status.st_dev}:{status.st_ino}"


class LineFormatter(logging.Formatter):
    """One line a record, whatever it quotes: a venue's words may hold anything."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, control characters escaped; a traceback keeps its line breaks."""
        return "".join(
            c if c.isprintable() or (c == "\n" and record.exc_info) else repr(c)[1:-1]
            for c in super().format(record)
        )


class _PriorityFormatter(LineFormatter):
    """Lines for a stream that the journal reads, which takes their priority from ``<N>``."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{priority_of(record.levelno)}>"
        return "\n".join(prefix + line for line in super().format(record).split("\n"))


class JournalHandler(logging.Handler):
    """Sends records to the journal; where it does not listen, they are lines for its stream.

    Args:
        instance: Which daemon's.
        stream: What the journal reads besides: stderr.
        path: Where it listens.
    """

    def __init__(self, instance: str, stream: TextIO, path: Path = JOURNAL) -> None:
        super().__init__()
        self.setFormatter(LineFormatter("%(message)s"))
        self.dropped_count = 0
        """Records that the journal did not take in time, since the daemon's start."""
        self._told_count = 0
        """Of them those that a later record has told of."""
        self._instance = instance
        self._path = str(path)
        self._lines = logging.StreamHandler(stream)
        self._lines.setFormatter(_PriorityFormatter("%(name)s: %(message)s"))
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_UNIX, kind)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_SIZE)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; never wait for the journal, which the feeds would wait for then."""
        dropped_count = self.dropped_count
        try:
            self._send(encode(self._fields(record)))
            self._told_count = dropped_count
        except BlockingIOError:
            self.dropped_count += 1
        except OSError:
            self._lines.emit(record)
        except Exception:  # noqa: BLE001 - as every handler of the library does
            self.handleError(record)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> Iterator[tuple[str, str]]:
        """Give the fields; of what a feed has told, ``record.origin`` is where in its code."""
        message = self.format(record)
        yield "MESSAGE", message
        yield "PRIORITY", str(priority_of(record.levelno))
        yield "SYSLOG_IDENTIFIER", f"mdsys@{self._instance}"
        yield "SYSLOG_PID", str(os.getpid())
        yield "LOGGER", record.name
        yield "MDSYS_INSTANCE", self._instance
        if self.dropped_count > self._told_count:
            yield "MDSYS_DROPPED", str(self.dropped_count - self._told_count)
        if (feed := _FEED.fullmatch(record.name)) is not None:
            yield "MDSYS_FEED", feed[1]
        if (connection := _CONNECTION.match(message)) is not None:
            yield "MDSYS_VENUE", connection[1]
            yield "MDSYS_CONNECTION", connection[2]
        origin = getattr(record, "origin", None) or (
            (record.pathname, record.lineno, record.funcName) if feed is None else ()
        )
        for name, value in zip(("CODE_FILE", "CODE_LINE", "CODE_FUNC"), origin, strict=False):
            yield name, str(value)

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendto(data, self._path)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_large(data)

    def _send_large(self, data: bytes) -> None:
        """Send an entry as a file; a datagram holds no more than the buffer."""
        fd = os.memfd_create("mdsys-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(data)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))]
            self._socket.sendmsg([], rights, 0, self._path)
        finally:
            os.close(fd)


def encode(fields: Iterable[tuple[str, str]]) -> bytes:
    """Return an entry in the journal's native format: a value of several lines bears its size."""
    out = bytearray()
    for name, value in fields:
        data = value.encode("utf-8", "surrogateescape")
        if b"\n" in data:
            out += name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
        else:
            out += name.encode() + b"=" + data + b"\n"
    return bytes(out)


def set_up_log(instance: str, stream: TextIO | None = None) -> None:
    """Log from now on: to the journal where stderr is its stream, else lines with times in UTC.

    Args:
        instance: Whose log it is.
        stream: Instead of stderr.
    """
    stream = stream or sys.stderr
    if is_stream(os.environ.get("JOURNAL_STREAM"), stream.fileno()):
        handler: logging.Handler = JournalHandler(instance, stream)
    else:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
