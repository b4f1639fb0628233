"""What a feed tells its supervisor: log lines and events, one JSON datagram each.

The socket never blocks the feed. When the supervisor does not keep up (somebody stopped reading its
log, say) what does not fit is dropped and counted: ticks go on.
"""

from __future__ import annotations

import json
import logging
import socket
from typing import Any

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
        self._channel = channel
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
            self._channel.send(json.dumps(message).encode())
        except OSError:  # full, or the supervisor is gone and we are about to be
            self._dropped_count += 1


def read_message(data: bytes) -> dict[str, Any]:
    """Read what ``Reporter`` sent."""
    message: dict[str, Any] = json.loads(data)
    return message
