"""Who reads this instance: the supervisor's registry, and what the feeds are told of it.

A registered reader has a page (native/include/mdsys/reader_page.h): a memfd that this process makes
and seals, that the reader alone can write, and that feeds and supervisor map read-only. What
identifies a reader stands here and comes from the kernel; of the page only figures are shown, as
what the reader says of itself.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from mdsys import _native
from mdsys.config import Consumer
from mdsys.config_checks import shown
from mdsys.counters.counters import parse_histogram, percentiles
from mdsys.counters.picture import Row, reader_row, to_sparse
from mdsys.daemon.feed_link import FeedLink

READER_COUNT_MAX = 64
LOSSLESS_COUNT_MAX = 16
"""Of one ring, whose header has a place for each (MD_GRANT_COUNT)."""
POLICIES = ("drop_oldest", "conflate", "lossless")
WAITS = ("adaptive", "spin", "park")
THRESHOLD_MIN = 1e-6
"""The page has millionths."""
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_NAME = re.compile(r"[A-Za-z0-9._-]{1,31}", re.ASCII)
_REGISTER_KEYS = {"op", "name", "policy", "wait", "rings", "core"}

log = logging.getLogger("mdsys.daemon")


class Refused(Exception):
    """A request that is wrong or cannot be met; the message is the answer."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A process, as the kernel tells of it."""

    pid: int
    uid: int
    start_ticks: int
    """Tells a reused pid apart."""


@dataclass(slots=True, eq=False)
class Registered:
    """One reader."""

    number: int
    peer: Peer
    name: str
    policy: str
    wait: str
    rings: tuple[int, ...]
    core: int | None
    """Where it shall run: its own wish, else the configuration's."""
    fd: int
    """Its page, read-only: what feeds are given."""
    page: _native.ReaderPage
    changed_s: float
    """When `polls` was last seen to have changed; monotonic."""
    polls: int = 0
    ejected: dict[int, int] = field(default_factory=dict)
    """Ring -> the first sequence that the writer did not wait for."""

    def __str__(self) -> str:
        return f"reader {self.number} ({self.name!r}, process {self.peer.pid}, {self.policy})"


class Readers:
    """The registry of one instance.

    Args:
        rings: Every ring, in order; read only.
        defaults: What a reader is told that does not say otherwise.
        epoch: Of the symbol directory: readers' numbers begin anew with each supervisor, in a range
            of its own, so that a grant in a ring's header is never taken for another reader's.
        feed_cores: Core -> the feed that is pinned to it.
        monotonic_s: The clock that tells how long a reader has been idle.
    """

    def __init__(
        self,
        rings: Sequence[_native.Ring],
        defaults: Consumer,
        *,
        epoch: int,
        feed_cores: Mapping[int, str] = MappingProxyType({}),
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rings = rings
        self._defaults = defaults
        self._number = epoch << 32
        self._feed_cores = feed_cores
        self._monotonic_s = monotonic_s
        self._readers: dict[int, Registered] = {}
        self._feeds: dict[int, FeedLink] = {}

    def __len__(self) -> int:
        return len(self._readers)

    def register(self, request: Mapping[str, Any], peer: Peer) -> tuple[Registered, int]:
        """Take a reader in and tell the feeds.

        Args:
            request: What it sent, keys and values unchecked.
            peer: Who sent it.

        Returns:
            The reader, and its page's descriptor, writable: for the caller to send and to close.

        Raises:
            Refused: The request is wrong, or there is no room.
        """
        name, policy, wait, rings, core = self._checked(request)
        if core is None:
            core = self._defaults.cores.get(name)
        number = self._number + 1
        try:
            writable = os.memfd_create("mdsys-reader", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            raise Refused(f"no memory file: {error.strerror}") from error
        try:
            self._lay_out(writable, number, name, core)
            fd = os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                size = os.fstat(fd).st_size
                memory = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
                page = _native.ReaderPage(memory)
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            os.close(writable)
            raise Refused(f"no page: {error.strerror or error}") from error
        except BaseException:
            os.close(writable)
            raise
        self._number = number
        reader = Registered(
            number, peer, name, policy, wait, rings, core, fd, page, self._monotonic_s()
        )
        self._readers[number] = reader
        for feed in self._feeds.values():
            feed.add(reader)
        log.info("%s registered", reader)
        return reader, writable

    def others_on_core(self, reader: Registered) -> list[str]:
        """Return who else has said that it runs on the core of ``reader``: feeds and readers."""
        if reader.core is None:
            return []
        feed = self._feed_cores.get(reader.core)
        others = [
            str(other)
            for other in self._readers.values()
            if other is not reader and other.core == reader.core
        ]
        return [*([feed] if feed else []), *others]

    def _checked(
        self, request: Mapping[str, Any]
    ) -> tuple[str, str, str, tuple[int, ...], int | None]:
        for key in request:
            if key not in _REGISTER_KEYS:
                raise Refused(f"unknown key {shown(key)}")
        name, policy, wait = (request.get(key) for key in ("name", "policy", "wait"))
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise Refused(f"name: {shown(name)} is not 1 to 31 of A-Z a-z 0-9 . _ -")
        if policy not in POLICIES:
            raise Refused(f"policy: {shown(policy)} is none of {', '.join(POLICIES)}")
        if wait not in WAITS:
            raise Refused(f"wait: {shown(wait)} is none of {', '.join(WAITS)}")
        rings, core = request.get("rings"), request.get("core")
        if not isinstance(rings, list) or not rings:
            raise Refused("rings: must be an array of at least one ring's number")
        for ring in rings:
            if not _is_integer(ring, 0, len(self._rings) - 1):
                raise Refused(f"rings: {shown(ring)} is not in [0, {len(self._rings) - 1}]")
        if len(set(rings)) < len(rings):
            raise Refused("rings: names a ring twice")
        if core is not None and not _is_integer(core, 0, 4_095):
            raise Refused(f"core: {shown(core)} is neither null nor in [0, 4095]")
        if len(self._readers) >= READER_COUNT_MAX:
            raise Refused(f"{READER_COUNT_MAX} readers are registered: there is no more room")
        if policy == "lossless":
            others = [each for each in self._readers.values() if each.policy == "lossless"]
            for ring in rings:
                if sum(ring in each.rings for each in others) >= LOSSLESS_COUNT_MAX:
                    raise Refused(f"ring {ring} has {LOSSLESS_COUNT_MAX} lossless readers already")
        return name, str(policy), str(wait), tuple(rings), core

    def _lay_out(self, fd: int, number: int, name: str, core: int | None) -> None:
        """Write the page's first half, and seal its size: truncated, it would be our SIGBUS."""
        size = -(-_native.reader_page_size() // mmap.PAGESIZE) * mmap.PAGESIZE
        os.ftruncate(fd, size)
        defaults = self._defaults
        with mmap.mmap(fd, size) as memory:
            _native.ReaderPage.create(
                memory,
                number,
                name.encode(),
                defaults.consumer_batch_size,
                defaults.adaptive_batching,
                max(defaults.backpressure_threshold, THRESHOLD_MIN),
                defaults.max_queue_size,
                -1 if core is None else core,
            )
            _native.publish_segment(memory, time.time_ns())
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)

    def remove(self, reader: Registered, why: str) -> None:
        """Forget a reader, and have the feeds forget it."""
        del self._readers[reader.number]
        for feed in self._feeds.values():
            feed.remove(reader)
        os.close(reader.fd)
        log.info("%s %s", reader, why)

    def note_ejected(self, number: int, ring: int, sequence: int) -> None:
        """Remember that a feed waits for a reader no more."""
        reader = self._readers.get(number)
        if reader is None:  # it left at the same moment
            return
        reader.ejected[ring] = sequence
        log.warning(
            "%s is too slow for lossless: ring %d goes on without it from %d on",
            reader,
            ring,
            sequence,
        )

    def beat(self) -> None:
        """Look who has polled since the last time; try again what a feed could not be told."""
        now_s = self._monotonic_s()
        for reader in self._readers.values():
            if (polls := reader.page.polls) != reader.polls:
                reader.polls, reader.changed_s = polls, now_s
        for feed in self._feeds.values():
            feed.flush()

    # ---- feeds ----

    def feed_started(self, feed: int, link: FeedLink) -> None:
        """Tell a new feed process of every reader; the link stays the caller's to close."""
        self._feeds[feed] = link
        for reader in self._readers.values():
            link.add(reader)

    def feed_ended(self, feed: int) -> None:
        """Tell it nothing more."""
        self._feeds.pop(feed)

    # ---- what they do ----

    @property
    def registered_count(self) -> int:
        """How many have registered in the daemon's life."""
        return self._number & 0xFFFFFFFF

    def picture(self, *, histograms: bool = False) -> list[dict[str, Any]]:
        """Return what the request ``readers`` answers.

        Args:
            histograms: Whether to tell the whole histograms as well.
        """
        now_s = self._monotonic_s()
        return [self._told(reader, now_s, histograms) for reader in self._readers.values()]

    def _told(self, reader: Registered, now_s: float, histograms: bool) -> dict[str, Any]:  # noqa: FBT001
        told = self._shown(reader, now_s)
        words = reader.page.histograms()
        told["latency_ns"] = {
            name: percentiles(parse_histogram(np.frombuffer(each, "<u8")))
            for name, each in words.items()
        }
        if histograms:
            told["histograms"] = {name: to_sparse(each) for name, each in words.items()}
        return told

    def rows(self) -> list[Row]:
        """Return the same for a picture of our own, without percentiles: they cost the most."""
        now_s = self._monotonic_s()
        return [
            reader_row(
                self._shown(reader, now_s),
                {
                    name: parse_histogram(np.frombuffer(words, "<u8"))
                    for name, words in reader.page.histograms().items()
                },
            )
            for reader in self._readers.values()
        ]

    def _shown(self, reader: Registered, now_s: float) -> dict[str, Any]:
        page = reader.page
        batch, batch_min, batch_max = page.batch
        rings = [self._ring(reader, ring) for ring in reader.rings]
        idle_s = 0.0 if page.polls != reader.polls else now_s - reader.changed_s
        return {
            "reader": reader.number,
            "name": reader.name,
            "pid": reader.peer.pid,
            "uid": reader.peer.uid,
            "start_ticks": reader.peer.start_ticks,
            "core": reader.core,
            "core_now": page.core,
            "policy": reader.policy,
            "wait": reader.wait,
            "idle_s": round(idle_s, 1),
            "polls": page.polls,
            "batch": {"now": batch, "min": batch_min, "max": batch_max},
            "lag": sum(ring["lag"] for ring in rings),
            **page.counters(),
            "rings": rings,
        }

    def _ring(self, reader: Registered, ring: int) -> dict[str, Any]:
        """Return one ring of a reader. The page says what it likes: the lag is put in bounds."""
        next_, lost, dropped, asleep = reader.page.place(ring)
        header = self._rings[ring]
        lag = header.head - next_ + 1 if next_ else 0
        granted_from, ejected = header.grant(reader.number) or (None, 0)
        return {
            "ring": ring,
            "next": next_,
            "lag": min(max(lag, 0), header.depth),
            "lost": lost,
            "dropped": dropped,
            "asleep": bool(asleep),
            "granted_from": granted_from,
            "ejected": ejected or reader.ejected.get(ring),
        }


def _is_integer(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
