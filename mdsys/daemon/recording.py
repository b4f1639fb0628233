"""Who records: one ring for a feed's frames, given to the feed and to the recorder.

The ring is a memfd of ours, sealed, so that nobody can truncate it under the other's feet. It
outlives the feed: a successor goes on in it, told of it ahead of its first tick.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mdsys._capture import CaptureRing
from mdsys.config_checks import shown
from mdsys.daemon.control_connection import Held
from mdsys.daemon.feed_link import FeedLink
from mdsys.daemon.readers import SEALS, Refused
from mdsys.feed.orders import Capture, CaptureAgain, CaptureEnd, CaptureHold

RING_SIZE: Final = 64 << 20
RING_SIZES: Final = (1 << 16, 1 << 30)
"""The least and the most that a recorder may ask for; each a power of 2."""
PAGE_SIZE: Final = 4096
"""In front of the ring: its header."""


@dataclass(slots=True)
class _Ring:
    fd: int
    holder: Held


class Recording:
    """Hands out rings, one a feed, as long as the recorder's connection lasts.

    Args:
        instance: Its name.
        links: Of the feeds that live.
        feed_count: Of all.
        connections: Returns what there is to tell of a feed's connections.
    """

    def __init__(
        self,
        instance: str,
        links: Mapping[int, FeedLink],
        feed_count: int,
        connections: Callable[[int], list[dict[str, Any]]],
    ) -> None:
        self._instance = instance
        self._links = links
        self._feed_count = feed_count
        self._connections = connections
        self._rings: dict[int, _Ring] = {}

    def record(self, request: Mapping[str, Any], held: Held) -> dict[str, Any]:
        """Begin to record a feed; the ring goes with the answer.

        Raises:
            Refused: There is no such feed, or somebody records it, or no memory is to be had.
        """
        feed = self._feed(request)
        size = request.get("ring_size", RING_SIZE)
        if (
            not isinstance(size, int)
            or not RING_SIZES[0] <= size <= RING_SIZES[1]
            or size & (size - 1)
        ):
            raise Refused(f"ring_size: {shown(size)} is no power of 2 in {list(RING_SIZES)}")
        if feed in self._rings:
            raise Refused(f"feed {feed} is being recorded already")
        if held.on_close:
            raise Refused("this connection records already: one connection for each feed")
        fd = _new_ring(size)
        held.fd = os.dup(fd)
        self._rings[feed] = _Ring(fd, held)
        held.on_close.append(lambda: self._end(feed))
        self._tell(feed)
        return {
            "ok": True,
            "instance": self._instance,
            "feed": feed,
            "feeds": self._feed_count,
            "connections": self._connections(feed),
        }

    def again(self, request: Mapping[str, Any], held: Held) -> dict[str, Any]:
        """Have a feed tell its state anew: the recorder begins another file.

        Raises:
            Refused: This connection does not record it.
        """
        feed = self._feed(request)
        ring = self._rings.get(feed)
        if ring is None or ring.holder is not held:
            raise Refused(f"feed {feed} is not recorded by this connection")
        if (link := self._links.get(feed)) is not None:
            link.tell(CaptureAgain())
        return {"ok": True, "feed": feed, "connections": self._connections(feed)}

    def feed_started(self, feed: int) -> None:
        """A feed has begun anew: let it go on where the one before it was."""
        if feed in self._rings:
            self._tell(feed)

    def _tell(self, feed: int) -> None:
        if (link := self._links.get(feed)) is not None:
            ring = self._rings[feed]
            # A killed daemon's connections end before its feeds do, and those still copy.
            link.tell(CaptureHold(), fd=os.dup(ring.holder.connection.fileno()))
            link.tell(Capture(), fd=os.dup(ring.fd))

    def _end(self, feed: int) -> None:
        os.close(self._rings.pop(feed).fd)
        if (link := self._links.get(feed)) is not None:
            link.tell(CaptureEnd())

    def _feed(self, request: Mapping[str, Any]) -> int:
        feed = request.get("feed")
        if not isinstance(feed, int) or isinstance(feed, bool) or not 0 <= feed < self._feed_count:
            raise Refused(f"feed: {shown(feed)} is not in [0, {self._feed_count - 1}]")
        return feed


def _new_ring(size: int) -> int:
    try:
        fd = os.memfd_create("mdsys-capture", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise Refused(f"no memory file: {error.strerror}") from error
    try:
        os.ftruncate(fd, PAGE_SIZE + size)
        os.posix_fallocate(fd, 0, PAGE_SIZE + size)  # full memory is an answer, never a SIGBUS
        with mmap.mmap(fd, PAGE_SIZE + size) as memory:
            CaptureRing.create(memory, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except OSError as error:
        os.close(fd)
        raise Refused(f"no memory for a ring of {size >> 20} MiB: {error.strerror}") from error
    except BaseException:
        os.close(fd)
        raise
    return fd
