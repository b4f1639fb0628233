"""A socket that ends in an error and nothing else: a RST, or a peer that answers no more.

uvloop 0.23 loses such an end of a socket that it watches by ``add_reader``, which is how aiofastnet
reads: libuv reports it as an error of the poll, the reader is not called, and nothing ever comes
again. (Measured: of 200 connections that were reset while nothing was on its way 80 stayed open for
good; with asyncio's own loop none.) A mute socket would be found by its silence, after tens of
seconds. An epoll of our own has the end as an event like any other.
"""

from __future__ import annotations

import asyncio
import select
from typing import Any

READS_MAX = 256
"""To empty what the kernel holds: at most tcp_rmem[2], 32 MB, a quarter of a MiB a read."""


class Hangup:
    """Watches one open socket.

    Args:
        transport: aiofastnet's.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()  # EPOLLERR and EPOLLHUP come unasked
        self._epoll.register(
            transport.get_extra_info("socket").fileno(), select.EPOLLET | select.EPOLLONESHOT
        )
        self._loop.add_reader(self._epoll.fileno(), self._read)

    def _read(self) -> None:
        """Read as the loop should have: what had arrived, then the error, which ends it."""
        transport = self._transport
        self.close()
        for _ in range(READS_MAX):
            if transport.is_closing():
                return
            transport._read_ready()  # noqa: SLF001 - what the loop would have called
        transport.abort()

    def close(self) -> None:
        """Watch no more."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
