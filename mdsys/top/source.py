"""Where the numbers of ``mdsys top`` come from: pictures of the instance, one life after another.

A picture (`mdsys.counters.picture`) is of shared memory, also of a dead daemon's; what only a
living one knows is asked beside it. What this gives is cumulative and of one moment, a `Look`; what
happened between two of them is `mdsys.top.history`'s.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from mmap import mmap
from operator import add
from typing import Final

from mdsys import _native
from mdsys.clock import SYSTEM_CLOCK, Clock
from mdsys.counters.counters import Histogram
from mdsys.counters.picture import Observer, Picture, Row, segment_state
from mdsys.errors import LayoutError, NoPermission, NotRunning
from mdsys.ring.door import behind_door
from mdsys.ring.lock import start_ticks
from mdsys.ring.segment import map_file, segment_path
from mdsys.top.daemon_words import DaemonWords, Told
from mdsys.top.distributions import Sums

HEARTBEAT_NS_MAX: Final = 5_000_000_000
"""The supervisor beats every second."""


@dataclass(frozen=True, slots=True)
class Look:
    """All that is known at one moment, since the segments were made."""

    time_ns: int
    instance: str
    state: str
    """``running``, ``stopped``, ``dead`` (it was killed), ``replaced``."""
    pid: int
    age_s: float | None
    """Of the supervisor's process; None: it does not live, or not where we can see it."""
    symbols: int
    counters: Mapping[str, float]
    """Of all feeds together."""
    system: Mapping[str, float | None]
    """The supervisor's."""
    subscriptions: Mapping[str, float | None]
    """Streams, by how far they have come."""
    hops: Mapping[str, Histogram]
    """Of all feeds, then of all readers, in the order of a tick's way."""
    feeds: Sequence[Row]
    rings: Sequence[Row]
    connections: Sequence[Row]
    told: Told

    @property
    def running(self) -> bool:
        """Whether a supervisor writes these segments."""
        return self.state == "running"


class Attachment:
    """One life of an instance's segments.

    Raises:
        NotRunning: There are none, or they are being made at this moment.
        NoPermission: This user may not read them.
        LayoutError: Another version of mdsys wrote them.
    """

    def __init__(self, instance: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self.observer = Observer(instance, clock)
        with behind_door(instance, self.symbols):
            self.cache_map: mmap = map_file(segment_path(self.observer.dir, instance, "cache"))
            self.cache = _native.Cache(self.cache_map)
            if self.cache.capacity < self.symbols.capacity:
                raise LayoutError("the cache has fewer cells than there are symbols")

    @property
    def symbols(self) -> _native.Symbols:
        """The directory."""
        return self.observer.symbols


class Source:
    """Looks at an instance, through every life of its segments and its daemon.

    Args:
        instance: Its name.
        clock: Tells the time of a look.

    Raises:
        NotRunning: It has no segments.
        NoPermission: This user may not read them.
        LayoutError: They belong to another version of mdsys.
    """

    def __init__(self, instance: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self._instance = instance
        self._clock = clock
        self._words = DaemonWords(instance)
        self.waiting_for = ""
        """Why the next life's segments cannot be attached yet; empty: they need not be."""
        self._begin(Attachment(instance, clock))

    def _begin(self, attachment: Attachment) -> None:
        self.attachment = attachment
        self._seen_alive = False
        """Whether its supervisor's process was ever to be seen from here."""
        self._readers = Sums()
        self._summed: object = None
        self.waiting_for = ""

    def close(self) -> None:
        """Hang up; the mappings go with the object."""
        self._words.close()

    def look(self) -> Look:
        """Return the numbers as they are now; attach anew first, if the segments were replaced."""
        if self.attachment.observer.is_superseded:
            self._attach_anew()
        observer, symbols = self.attachment.observer, self.attachment.symbols
        state = self._state()
        told = (
            self._words.now(symbols.writer_pid) if state == "running" else self._words.none(state)
        )
        picture = observer.take(told.known, told.why)
        feeds = picture.rows["feed"]
        return Look(
            time_ns=picture.taken_ns,
            instance=self._instance,
            state=state,
            pid=picture.pid,
            age_s=_age_s(symbols) if state == "running" else None,
            symbols=len(symbols),
            counters=_total(feeds),
            system=picture.rows["system"][0].values,
            subscriptions=picture.rows["subscriptions"][0].values,
            hops=_feed_hops(feeds) | self._reader_hops(picture),
            feeds=feeds,
            rings=picture.rows["ring"],
            connections=picture.rows["connection"],
            told=told,
        )

    def _state(self) -> str:
        symbols = self.attachment.symbols
        state = segment_state(symbols)
        if state == "running":
            self._seen_alive = True
        elif state == "superseded":
            return "replaced"
        elif state == "dead" and not self._seen_alive:  # of another pid namespace, if it beats
            beat_age_ns = self._clock.now_ns() - symbols.heartbeat_ns
            return "running" if beat_age_ns < HEARTBEAT_NS_MAX else "dead"
        return state

    def _attach_anew(self) -> None:
        try:
            attachment = Attachment(self._instance, self._clock)
        except (NotRunning, NoPermission, LayoutError) as error:
            self.waiting_for = str(error)
            return
        self._begin(attachment)

    def _reader_hops(self, picture: Picture) -> dict[str, Histogram]:
        if picture.told is not None and picture.told is not self._summed:
            self._summed = picture.told
            self._readers.take(
                (reader.labels["number"], reader.histograms) for reader in picture.told.readers
            )
        return self._readers.whole


def _total(feeds: Sequence[Row]) -> dict[str, float]:
    whole: dict[str, float] = {}
    for feed in feeds:
        for name, value in feed.values.items():
            whole[name] = whole.get(name, 0) + (value or 0)
    return whole


def _feed_hops(feeds: Sequence[Row]) -> dict[str, Histogram]:
    if not feeds:
        return {}
    return {
        name: reduce(add, (feed.histograms[name] for feed in feeds)) for name in feeds[0].histograms
    }


def _age_s(segment: _native.Segment) -> float | None:
    """Return how long the writer's process has lived."""
    if start_ticks(segment.writer_pid) != segment.writer_start_ticks:
        return None
    began_s = segment.writer_start_ticks / os.sysconf("SC_CLK_TCK")
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - began_s, 0.0)
