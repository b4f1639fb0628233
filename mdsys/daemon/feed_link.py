"""What the supervisor tells a feed process, over the socket of its reports: readers, and orders."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from mdsys.feed.orders import Order, ReaderAdd, ReaderRemove


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
    """Tells one feed process what to do, and never waits for it.

    What does not fit in the socket is kept. Of readers at most an arrival for each that is here and
    a departure for each that the feed knows, since who comes and goes in between is never told.
    Orders are kept in their order, each once: a feed that takes none is killed within seconds, and
    what waits for it goes with it.
    """

    def __init__(self, channel: socket.socket, rings: Sequence[int]) -> None:
        self._channel = channel
        self._rings = frozenset(rings)
        self._known: set[int] = set()
        self._pending: dict[int, LinkedReader | None] = {}
        """By number, in order; None: it has left."""
        self._orders: deque[tuple[bytes, int]] = deque()
        """With the descriptor that goes with it, ours to close; -1: none."""
        self._waiting = False

    @property
    def waiting_count(self) -> int:
        """Return how many orders the feed has not taken yet."""
        return len(self._orders) + len(self._pending)

    def tell(self, *orders: Order, fd: int = -1) -> None:
        """Send orders, now or as soon as there is room.

        Args:
            orders: In their order.
            fd: Goes with each of them, and is closed here, whatever becomes of them; -1: none.
        """
        if fd >= 0 and len(orders) != 1:
            os.close(fd)
            raise ValueError("a descriptor goes with one order")
        self._orders.extend((order.encode(), fd) for order in orders)
        self.flush()

    def hand(self, order: Order, body: bytes) -> None:
        """Send an order, and with it what is too large for one: a file of memory."""
        fd = os.memfd_create("mdsys-order")
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(body)
            os.lseek(fd, 0, os.SEEK_SET)
        except BaseException:
            os.close(fd)
            raise
        self.tell(order, fd=fd)

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
                self._send_reader(number, reader)
                del self._pending[number]
            while self._orders:
                self._send(*self._orders[0])
                _, fd = self._orders.popleft()
                _close([fd])
        except BlockingIOError:
            self._wait_for_room()
            return
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.ECONNRESET):  # it is ending; its pidfd says so
                self._drop()
            # else: too many descriptors on their way, or no memory; the next beat tries again
        self._stop_waiting()

    def _send_reader(self, number: int, reader: LinkedReader | None) -> None:
        if reader is None:
            self._send(ReaderRemove(number).encode(), -1)
            self._known.discard(number)
        else:
            own = [ring for ring in reader.rings if ring in self._rings]
            self._send(ReaderAdd(number, reader.policy, own).encode(), reader.fd)
            self._known.add(number)

    def _send(self, data: bytes, fd: int) -> None:
        if fd < 0:
            self._channel.send(data)
        else:
            socket.send_fds(self._channel, [data], [fd])

    def _wait_for_room(self) -> None:
        if not self._waiting:
            asyncio.get_running_loop().add_writer(self._channel, self.flush)
            self._waiting = True

    def _stop_waiting(self) -> None:
        if self._waiting:
            asyncio.get_running_loop().remove_writer(self._channel)
            self._waiting = False

    def _drop(self) -> None:
        self._pending.clear()
        _close(fd for _, fd in self._orders)
        self._orders.clear()

    def close(self) -> None:
        """Tell it nothing more."""
        self._drop()
        self._stop_waiting()


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)


class FeedLinks(dict[int, FeedLink]):
    """Those of the feeds that live, by number."""

    def tell(self, feed: int, orders: Iterable[Order]) -> None:
        """Pass orders on to a feed that lives; another has it all from its next plan."""
        if (link := self.get(feed)) is not None:
            link.tell(*orders)
