"""What the supervisor tells a feed process of its readers, over the socket of its reports."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from typing import Protocol

from mdsys.feed.report import reader_add, reader_remove


class LinkedReader(Protocol):
    """What a feed is told of."""

    @property
    def number(self) -> int:
        """Which."""

    @property
    def policy(self) -> str:
        """Whether it is lossless."""

    @property
    def rings(self) -> Sequence[int]:
        """What it reads."""

    @property
    def fd(self) -> int:
        """Its page, read-only."""


class FeedLink:
    """Tells one feed process of its rings' readers, and never waits for it.

    What does not fit in the socket is kept: at most an arrival for each reader that is here and a
    departure for each that the feed knows, since who comes and goes in between is never told.
    """

    def __init__(self, channel: socket.socket, rings: Sequence[int]) -> None:
        self._channel = channel
        self._rings = frozenset(rings)
        self._known: set[int] = set()
        self._pending: dict[int, LinkedReader | None] = {}
        """By number, in order; None: it has left."""
        self._waiting = False

    def add(self, reader: LinkedReader) -> None:
        """Tell of a new reader, if it reads any of the feed's rings."""
        if self._rings.intersection(reader.rings):
            self._pending[reader.number] = reader
            self.flush()

    def remove(self, reader: LinkedReader) -> None:
        """Tell that a reader has left, if the feed knows it."""
        self._pending.pop(reader.number, None)
        if reader.number in self._known:
            self._pending[reader.number] = None
            self.flush()

    def flush(self) -> None:
        """Send what can be sent now."""
        try:
            for number, reader in list(self._pending.items()):
                self._send(number, reader)
                del self._pending[number]
        except BlockingIOError:
            self._wait_for_room()
            return
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.ECONNRESET):  # it is ending; its pidfd says so
                self._pending.clear()
            # else: too many descriptors on their way, or no memory; the next beat tries again
        self._stop_waiting()

    def _send(self, number: int, reader: LinkedReader | None) -> None:
        if reader is None:
            self._channel.send(reader_remove(number))
            self._known.discard(number)
        else:
            own = [ring for ring in reader.rings if ring in self._rings]
            socket.send_fds(self._channel, [reader_add(number, reader.policy, own)], [reader.fd])
            self._known.add(number)

    def _wait_for_room(self) -> None:
        if not self._waiting:
            asyncio.get_running_loop().add_writer(self._channel, self.flush)
            self._waiting = True

    def _stop_waiting(self) -> None:
        if self._waiting:
            asyncio.get_running_loop().remove_writer(self._channel)
            self._waiting = False

    def close(self) -> None:
        """Tell it nothing more."""
        self._pending.clear()
        self._stop_waiting()
