"""What a feed and its supervisor tell each other: one JSON datagram each, over one socket.

The feed tells log lines and events. The socket never blocks the feed: when the supervisor does not
keep up (somebody stopped reading its log, say) what does not fit is dropped and counted, and ticks
go on. The supervisor tells who reads the feed's rings, each reader's page with it as a descriptor.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mdsys.descriptors import receive_fds

MESSAGE_SIZE_MAX = 64 << 10
TEXT_SIZE_MAX = 4096
"""Characters of a log line, of which JSON makes at most 12 bytes each."""


def report_pair() -> tuple[socket.socket, socket.socket]:
    """Return the supervisor's end and the feed's, neither of them blocking."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)


class Reporter(logging.Handler):
    """The feed's end; also the handler of its log."""

    def __init__(self, channel: socket.socket) -> None:
        super().__init__()
        self.channel = channel
        """Where the supervisor's orders come."""
        self._dropped_count = 0

    def tell(self, event: str, **fields: Any) -> None:
        """Send one event."""
        self._send({"event": event, **fields})

    def emit(self, record: logging.LogRecord) -> None:
        """Send one log line."""
        text = self.format(record)
        # Of a traceback the end tells more.
        text = text[-TEXT_SIZE_MAX:] if record.exc_info else text[:TEXT_SIZE_MAX]
        self._send({"event": "log", "level": record.levelno, "text": text})

    def take_dropped_count(self) -> int:
        """Return how many messages did not fit since the last call."""
        count, self._dropped_count = self._dropped_count, 0
        return count

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self.channel.send(json.dumps(message).encode())
        except OSError:  # full, or the supervisor is gone and we are about to be
            self._dropped_count += 1


def read_message(data: bytes) -> dict[str, Any]:
    """Read what ``Reporter`` sent."""
    message: dict[str, Any] = json.loads(data)
    return message


ORDER_SIZE_MAX = 4096
"""An order's bytes; one that names 256 rings has 1.2 KB."""
LOSSLESS = "lossless"


@dataclass(frozen=True, slots=True)
class ReaderAdd:
    """A reader of some of the feed's rings has come."""

    reader: int
    lossless: bool
    rings: Sequence[int]
    fd: int
    """Its page, read-only; the receiver's to close."""


@dataclass(frozen=True, slots=True)
class ReaderRemove:
    """It has left."""

    reader: int


def reader_add(reader: int, policy: str, rings: Sequence[int]) -> bytes:
    """Write the order that goes with a page's descriptor."""
    order = {"do": "reader_add", "reader": reader, "policy": policy, "rings": rings}
    return json.dumps(order, separators=(",", ":")).encode()


def reader_remove(reader: int) -> bytes:
    """Write the order."""
    return json.dumps({"do": "reader_remove", "reader": reader}).encode()


def receive_order(channel: socket.socket) -> ReaderAdd | ReaderRemove:
    """Receive what ``reader_add`` or ``reader_remove`` wrote.

    Raises:
        BlockingIOError: There is nothing.
        EOFError: The supervisor is gone.
        ValueError: It was something else; it is received all the same, and nothing of it is left.
    """
    data, fds, whole = receive_fds(channel, ORDER_SIZE_MAX, 1)
    try:
        if not data and not fds:
            raise EOFError
        if not whole:
            raise ValueError("too long, or with more than one descriptor")
        order = json.loads(data)
        match order:
            case {
                "do": "reader_add",
                "reader": int(reader),
                "policy": str(policy),
                "rings": list(),
            }:
                rings = order["rings"]
                if len(fds) == 1 and all(type(ring) is int for ring in rings):
                    return ReaderAdd(reader, policy == LOSSLESS, rings, fds.pop())
            case {"do": "reader_remove", "reader": int(reader)}:
                return ReaderRemove(reader)
        raise ValueError(f"no order: {data[:80]!r}")
    finally:
        for fd in fds:
            os.close(fd)
