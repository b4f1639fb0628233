"""Who reads the feed's rings."""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import TYPE_CHECKING

from mdsys.feed.orders import LOSSLESS, ReaderAdd, ReaderRemove
from mdsys.feed.report import Reporter

if TYPE_CHECKING:
    from mdsys._listener import Feed

PAGE_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class ReaderDesk:
    """Lets the rings' writers know who reads, as the supervisor orders, and says who is ejected.

    A reader may write its page as it likes, so nothing here depends on what stands in it; only its
    size must hold, and that is sealed.
    """

    def __init__(self, feed: Feed, reporter: Reporter) -> None:
        self._feed = feed
        self._reporter = reporter

    def add(self, order: ReaderAdd, fd: int) -> None:
        """Take a reader's page.

        Raises:
            ValueError: It could be truncated under our feet.
            OSError: It cannot be mapped.
            MdsysError: It is no reader's page.
        """
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & PAGE_SEALS != PAGE_SEALS:
            raise ValueError("a page that could be truncated under our feet")
        size = os.fstat(fd).st_size
        memory = mmap.mmap(fd, size, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ)
        self._feed.reader_add(order.reader, memory, order.rings, order.policy == LOSSLESS)

    def remove(self, order: ReaderRemove) -> None:
        """Forget one."""
        self._feed.reader_remove(order.reader)

    def report_ejected(self) -> None:
        """Tell the supervisor whom the writers wait for no more."""
        for reader, ring, sequence in self._feed.take_ejected():
            self._reporter.tell("reader_ejected", reader=reader, ring=ring, sequence=sequence)
