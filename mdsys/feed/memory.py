"""The segments of one feed process: its own rings and the cache writable, the rest not."""

from __future__ import annotations

import logging
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path

from mdsys import _native
from mdsys.feed.pins import check_pins
from mdsys.feed.plan import FeedPlan
from mdsys.host import memory as host_memory

check_pins()  # the listener is compiled against them

from mdsys._listener import Feed  # noqa: E402 - after the check
from mdsys.ring.lock import start_ticks  # noqa: E402
from mdsys.ring.segment import ROOT_DIR, map_file, segment_path  # noqa: E402

log = logging.getLogger("mdsys.feed")


class Memory:
    """What a feed writes, and what it reads of the others.

    Taking the rings over is part of it: epoch + 1, a writer_restarted status where there was a
    writer before, and cells that it left half-written made whole.
    """

    def __init__(self, plan: FeedPlan) -> None:
        self.symbols = _native.Symbols(map_file(segment_path(ROOT_DIR, plan.instance, "symbols")))
        directory = Path(self.symbols.dir)

        self.maps: dict[str, mmap.mmap] = {}

        def writable(part: str) -> mmap.mmap:
            path = segment_path(directory, plan.instance, part)
            mapping = self.maps[part] = map_file(path, writable=True)
            return mapping

        self.cache = _native.Cache(writable("cache"), writable=True)
        counters = _native.Counters(writable("counters"), writable=True)
        maps = {ring: writable(f"ring.{ring}") for ring in plan.rings}
        # First, since it takes seconds: who has taken rings over and does not beat is said to hang.
        self._lock_notice = host_memory.lock(self.maps.values())
        pid, now_ns = os.getpid(), time.time_ns()
        self.rings = {
            ring: _native.RingWriter(each, pid, start_ticks(pid), now_ns)
            for ring, each in maps.items()
        }
        for ring, writer in self.rings.items():
            torn, republished = writer.repair(self.cache, self.symbols)
            if torn or republished:
                log.warning(
                    "ring %d: the writer before was killed: %d half-written cells emptied, "
                    "%d records published late",
                    ring,
                    torn,
                    republished,
                )
        self.feed = Feed(self.rings, counters, plan.feed, plan.lossless_wait_us * 1_000)

    def settle(self, core: int | None) -> Iterator[str]:
        """Give what is amiss with the pages for a thread on ``core``; they are locked."""
        if self._lock_notice:
            yield self._lock_notice
        rings = {part: each for part, each in self.maps.items() if part.startswith("ring.")}
        if core is not None and (notice := host_memory.node_notice(rings, core)):
            yield notice

    def stop(self) -> None:
        """Mark the rings stopped; nothing may be published any more."""
        self.feed.heartbeat()
        for writer in self.rings.values():
            writer.stop()
