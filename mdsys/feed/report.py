"""What a feed tells its supervisor: one JSON datagram each, over one socket.

Neither end ever blocks. A log line that does not fit is dropped and counted. An event is never: it
waits until there is room. What can wait is bounded, since whatever makes new events (a connection,
an answer, a book's snapshot) needs an order of the supervisor first; a feed whose events pile up
all the same ends, and begins anew. What the supervisor tells a feed is in mdsys.feed.orders.

Events, with their fields:

``permit``            id, what, connection, count, first: asks for leave. what: "connect", which
                      takes a place among the connections and brings the secret, or "message".
                      first: of a connect, that it replaces no lost socket: there was none, or it
                      is still open. Answered by the order ``permit`` or ``refuse``.
``used``              id: the permitted thing has been done, just now.
``ended``             id: the socket of a permitted connect is gone; without ``used`` before it,
                      nothing has been done by this leave, had or still asked for, nor will be.
``connection``        connection, state, words, http, delay_s. state: "connecting", "open" (the
                      handshake is done), "ready" (each stream is answered, or requested where the
                      venue does not answer), "waiting" (it is lost, and dialled again after
                      delay_s), "denied" (it is not dialled until ``redial``), "closed".
``streams``           connection, state, symbols, channel (null: each of the plan's), words, at_ns.
                      state: "requested", "confirmed", "refused", "removed".
``snapshots_wanted``  venue, connection, symbols: their books need a snapshot by REST.
``reader_ejected``    reader, ring, sequence.
``log``               level, text, origin: file, line and function that wrote it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

from mdsys.feed.venue import Stream

MESSAGE_SIZE_MAX = 64 << 10
TEXT_SIZE_MAX = 4096
"""Characters of a log line, of which JSON makes at most 12 bytes each."""
SYMBOLS_MAX = 350
"""Of one event: a name has up to 59 bytes, of which JSON makes at most three times as many."""
WAITING_SIZE_MAX = 64 << 20
"""Bytes of events that wait; 150,000 streams in three states are some 10 MB."""


def report_pair() -> tuple[socket.socket, socket.socket]:
    """Return the supervisor's end and the feed's, neither of them blocking."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)


class Reporter(logging.Handler):
    """The feed's end; also the handler of its log.

    Args:
        channel: Where the supervisor's orders come, too.
    """

    def __init__(self, channel: socket.socket) -> None:
        super().__init__()
        self.channel = channel
        self.on_overflow: Callable[[], object] = lambda: None
        """Called when more events wait than may."""
        self._dropped_count = 0
        self._waiting: deque[bytes] = deque()
        self._waiting_size = 0
        self._gone = False

    def tell(self, event: str, **fields: Any) -> None:
        """Send one event, now or as soon as there is room."""
        data = json.dumps({"event": event, **fields}, separators=(",", ":")).encode()
        if not self._waiting and self._send(data):
            return
        if self._gone:
            return
        if not self._waiting:
            asyncio.get_running_loop().add_writer(self.channel, self._flush)
        self._waiting.append(data)
        self._waiting_size += len(data)
        if self._waiting_size > WAITING_SIZE_MAX:
            self.on_overflow()

    def tell_streams(
        self,
        connection: int,
        state: str,
        streams: Collection[Stream],
        channels: Collection[str],
        words: str | None = None,
    ) -> None:
        """Send the ``streams`` events of streams that have come into a state together.

        Args:
            connection: Whose.
            state: "requested", "confirmed", "refused" or "removed".
            streams: Which.
            channels: Those of the connection's plan.
            words: The venue's.
        """
        at_ns = time.time_ns()
        by_channel: dict[str, list[str]] = {}
        for symbol, channel, _ in streams:
            by_channel.setdefault(channel, []).append(symbol)
        lists: list[tuple[str | None, Sequence[str]]] = list(by_channel.items())
        same = all(symbols == lists[0][1] for _, symbols in lists)
        if same and set(by_channel) == set(channels):
            lists = [(None, lists[0][1])]
        for named, symbols in lists:
            for at in range(0, len(symbols), SYMBOLS_MAX):
                self.tell(
                    "streams",
                    connection=connection,
                    state=state,
                    symbols=symbols[at : at + SYMBOLS_MAX],
                    channel=named,
                    words=words,
                    at_ns=at_ns,
                )

    def emit(self, record: logging.LogRecord) -> None:
        """Send one log line, if there is room."""
        text = self.format(record)
        # Of a traceback the end tells more.
        text = text[-TEXT_SIZE_MAX:] if record.exc_info else text[:TEXT_SIZE_MAX]
        origin = [record.pathname, record.lineno, record.funcName]
        line = json.dumps({"event": "log", "level": record.levelno, "text": text, "origin": origin})
        if self._waiting or not self._send(line.encode()):
            self._dropped_count += 1

    @property
    def waiting_count(self) -> int:
        """Return how many events the supervisor has not taken yet."""
        return len(self._waiting)

    def take_dropped_count(self) -> int:
        """Return how many log lines did not fit since the last call."""
        count, self._dropped_count = self._dropped_count, 0
        return count

    def _send(self, data: bytes) -> bool:
        try:
            self.channel.send(data)
        except BlockingIOError:
            return False
        except OSError:  # the supervisor is gone, and we are about to be
            self._gone = True
            return False
        return True

    def _flush(self) -> None:
        while self._waiting:
            if not self._send(self._waiting[0]):
                if not self._gone:
                    return
                self._waiting.clear()
                break
            self._waiting_size -= len(self._waiting.popleft())
        self._waiting_size = 0
        asyncio.get_running_loop().remove_writer(self.channel)


def read_message(data: bytes) -> dict[str, Any]:
    """Read what ``Reporter`` sent."""
    message: dict[str, Any] = json.loads(data)
    return message
