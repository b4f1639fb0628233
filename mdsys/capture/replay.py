"""A capture published into an instance of its own: segments, lock, control socket, readers.

One process does it all: nothing comes from outside, so nothing has to be kept apart. It publishes
in small steps and looks after the readers in between. A lossless reader holds it up for as long as
it goes on reading: a replay has no venue that would not wait.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, cast

from mdsys import _native
from mdsys._capture import cell_address, stories_in
from mdsys._listener import Feed
from mdsys.capture.format import CaptureError
from mdsys.capture.merge import NEVER, Merge
from mdsys.capture.source import Source
from mdsys.config import Consumer
from mdsys.daemon.control import Control
from mdsys.daemon.feed_link import FeedLink
from mdsys.daemon.readers import Readers, Registered
from mdsys.errors import HostError
from mdsys.ring.control_socket import socket_path
from mdsys.ring.lock import start_ticks
from mdsys.ring.segment import ROOT_DIR, Geometry, Instance, map_file, open_instance, segment_path
from mdsys.wording import plural

BEAT_S: Final = 0.05
TURN_S: Final = 0.002
"""Publishing at a stretch before the control socket has its turn."""
STUCK_S: Final = 10.0
"""A lossless reader that takes nothing for so long is left to its writer, who ejects it."""
PATIENCE_NS: Final = 1_000_000_000
LOSSLESS: Final = "lossless"
DEFAULTS: Final = Consumer(
    consumer_batch_size=200,
    adaptive_batching=True,
    backpressure_threshold=0.8,
    max_queue_size=10_000,
    cores={},
    lossless_wait_us=PATIENCE_NS // 1000,
)


@dataclass(slots=True)
class Summary:
    """What a replay has done."""

    frames: int = 0
    ignored: int = 0
    """Of them those that no record could be made of; see ``CaptureReader.ignored``."""
    records: int = 0
    first_ns: int = 0
    now_ns: int = 0
    started_s: float = 0.0
    stopped: bool = False
    """Before its end."""

    def words(self) -> str:
        """Return it in words."""
        took_s = time.monotonic() - self.started_s if self.started_s else 0.0
        span_s = max(self.now_ns - self.first_ns, 0) / 1e9
        speed = f", {span_s / took_s:,.1f} times as fast as recorded" if took_s > 0 else ""
        ignored = f" ({self.ignored:,} ignored: they hold nothing that is read)"
        return (
            f"{self.frames:,} frames{ignored if self.ignored else ''}, {self.records:,} records "
            f"of {span_s:,.1f} s in {took_s:,.1f} s{speed}"
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """What a capture needs of an instance."""

    rings: Mapping[int, int]
    """Number -> depth."""
    of_stream: list[list[int]]
    symbol_count: int


def shape_of(source: Source) -> Shape:
    """Look through a capture.

    Raises:
        CaptureError: It is damaged, or of instances of several shapes.
    """
    rings: dict[int, int] = {}
    names: set[tuple[str, str]] = set()
    venues: dict[int, str] = {}
    streams: list[list[int]] = []
    for stream in source.streams:
        own: list[int] | None = None
        for block in stream.blocks(0):
            for story in stories_in(block):
                if story[0] == "begin":
                    here = [each["ring"] for each in story[1]["rings"]]
                    if own not in (None, here) or any(
                        rings.setdefault(each["ring"], each["depth"]) != each["depth"]
                        for each in story[1]["rings"]
                    ):
                        raise CaptureError(
                            "its rings changed in between: replay the files from before and from "
                            "after that apart"
                        )
                    own = here
                elif story[0] == "venue":
                    venues[story[1]] = story[2]["venue"]
                else:
                    names.add((venues[story[1]], story[2]))
        streams.append(own or [])
    if len(set(rings.values())) != 1:
        raise CaptureError("there is nothing in it to replay, or its rings differ in depth")
    return Shape(rings, streams, len(names))


class _Link:
    """Tells a feed in this process of the readers; stands for ``FeedLink``.

    Args:
        feed: Which.
        rings: What it writes.
        lossless: Number -> reader, kept here for all feeds.
    """

    def __init__(self, feed: Feed, rings: list[int], lossless: dict[int, Registered]) -> None:
        self._feed = feed
        self._rings = frozenset(rings)
        self._lossless = lossless

    def add(self, reader: Registered) -> None:
        if reader.policy == LOSSLESS:
            self._lossless[reader.number] = reader
        if self._rings.intersection(reader.rings):
            size = os.fstat(reader.fd).st_size
            page = mmap.mmap(reader.fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
            self._feed.reader_add(reader.number, page, reader.rings, reader.policy == LOSSLESS)

    def remove(self, reader: Registered) -> None:
        self._lossless.pop(reader.number, None)
        self._feed.reader_remove(reader.number)

    def flush(self) -> None:
        pass


class Replay:
    """One replay, from its segments to its end.

    Args:
        source: What.
        name: Of the instance.
        speed: Times the recorded pace, above 0; None: as fast as the readers take it.
        reader_count: How many readers to wait for before the first frame.

    Raises:
        InstanceInUse: It runs already.
        CaptureError: The capture is damaged.
        HostError: There is no room for the segments, or symbols stand otherwise in those there are.
    """

    def __init__(
        self, source: Source, name: str, *, speed: float | None = 1.0, reader_count: int = 0
    ) -> None:
        self.summary = Summary()
        self._first = 0
        """Records that the rings had before."""
        self._source = source
        self._speed = speed
        self._reader_count = reader_count
        self._stop = asyncio.Event()
        self._lossless: dict[int, Registered] = {}
        self._shape = shape_of(source)
        depth = next(iter(self._shape.rings.values()))
        geometry = Geometry(
            ring_count=max(self._shape.rings) + 1,
            depth=depth,
            max_symbols=max(64, self._shape.symbol_count),
            feed_count=max(len(self._shape.of_stream), 1),
            dir=ROOT_DIR,
        )
        self._instance = open_instance(
            name, geometry, group=None, pid=os.getpid(), now_ns=time.time_ns()
        )
        try:
            self._assemble(self._instance)
        except BaseException:
            self._instance.discard()
            raise

    def _assemble(self, instance: Instance) -> None:
        name, directory = instance.name, instance.geometry.dir
        pid, now_ns = os.getpid(), time.time_ns()
        self._writers: dict[int, _native.RingWriter] = {}
        for ring in range(instance.geometry.ring_count):
            memory = map_file(segment_path(directory, name, f"ring.{ring}"), writable=True)
            self._writers[ring] = _native.RingWriter(memory, pid, start_ticks(pid), now_ns)
            self._writers[ring].repair(instance.cache, instance.symbols)
        used = {ring for own in self._shape.of_stream for ring in own}
        self._feeds: list[Feed] = []
        self.readers = Readers(instance.rings, DEFAULTS, epoch=instance.symbols.epoch)
        for i, own in enumerate(self._shape.of_stream):
            spare = [ring for ring in self._writers if ring not in used] if i == 0 else []
            mine = {ring: self._writers[ring] for ring in (*own, *spare)}
            feed = Feed(mine, instance.counters, i, PATIENCE_NS)
            self._feeds.append(feed)
            self.readers.feed_started(i, cast("FeedLink", _Link(feed, list(mine), self._lossless)))
        self._merge = Merge(
            self._source, self._symbol, targets=[feed.addresses for feed in self._feeds]
        )
        self._control = Control(
            socket_path(instance.lock.path.parent, name),
            segment_path(ROOT_DIR, name, "symbols").stat().st_gid,
            self.readers,
        )

    def _symbol(
        self, name: str, _recorded: int, ring: int, price_scale: int, size_scale: int
    ) -> tuple[int, int]:
        symbols = self._instance.symbols
        number = symbols.find(name.encode())
        if number == 0:
            number = symbols.add(name.encode(), ring, price_scale, size_scale)
        elif symbols.entry(number)[2:] != (ring, price_scale, size_scale):
            raise HostError(
                f"{name} stands otherwise in the instance that is there; run: "
                f"mdsys clean --instance {self._instance.name}"
            )
        return number, cell_address(self._instance.cache, number)

    # ---- life ----

    def stop(self) -> None:
        """End before the capture does."""
        self._stop.set()

    async def run(self, say: Callable[[str], None] = lambda _: None) -> Summary:
        """Publish it all; the segments are left stopped.

        Args:
            say: Called with what is waited for.

        Raises:
            CaptureError: The capture is damaged, at this place.
        """
        self._control.start()
        beating = asyncio.create_task(self._beat())
        try:
            if self._reader_count:
                say(f"waiting for {plural(self._reader_count, 'reader')}")
            while not (self._stop.is_set() or self._are_readers_there()):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), BEAT_S / 5)
            await self._publish()
        finally:
            beating.cancel()
            self._control.close()
            self._look()
            for writer in self._writers.values():
                writer.stop()
            self._instance.stop()
        self.summary.stopped = self._stop.is_set()
        return self.summary

    def _are_readers_there(self) -> bool:
        for feed in self._feeds:
            feed.heartbeat()  # grants what lossless readers are promised
        rings = self._instance.rings
        return len(self.readers) >= self._reader_count and all(
            rings[ring].grant(reader.number) is not None
            for reader in self._lossless.values()
            for ring in reader.rings
        )

    async def _publish(self) -> None:
        summary, merge = self.summary, self._merge
        self._first = sum(ring.head for ring in self._instance.rings)
        summary.started_s = time.monotonic()
        summary.first_ns = summary.now_ns = merge.next_ns
        while not self._stop.is_set() and merge.next_ns != NEVER:
            until_ns = NEVER - 1
            if self._speed is not None:
                passed_s = time.monotonic() - summary.started_s
                until_ns = summary.first_ns + int(passed_s * self._speed * 1e9)
            turn_s = time.monotonic() + TURN_S
            while time.monotonic() < turn_s and self._has_room() and merge.run(until_ns):
                pass
            self._look()
            await self._rest(until_ns)

    async def _rest(self, until_ns: int) -> None:
        """Give others their turn, until there is something to do."""
        wait_s = 0.0
        next_ns = self._merge.next_ns
        if self._speed is not None and NEVER > next_ns > until_ns:
            wait_s = min((next_ns - until_ns) / 1e9 / self._speed, BEAT_S)
        elif not self._has_room():
            stuck_s = time.monotonic() + STUCK_S
            while not self._has_room() and not self._stop.is_set():
                await asyncio.sleep(0.0005)
                if time.monotonic() > stuck_s:
                    break
        await asyncio.sleep(wait_s)

    def _has_room(self) -> bool:
        """Return whether each lossless reader has most of its rings free."""
        half = self._instance.geometry.depth // 2
        heads = [ring.head for ring in self._instance.rings] if self._lossless else []
        return not any(
            place and heads[ring] - place >= half and ring not in reader.ejected
            for reader in self._lossless.values()
            for ring in reader.rings
            for place in (reader.page.place(ring)[0],)
        )

    def _look(self) -> None:
        """Show the readers how far it is."""
        for feed in self._feeds:
            feed.heartbeat()
            for number, ring, sequence in feed.take_ejected():
                self.readers.note_ejected(number, ring, sequence)
        summary = self.summary
        engines = self._merge.engines
        summary.frames = sum(engine.frames for engine in engines)
        summary.ignored = sum(engine.ignored for engine in engines)
        summary.now_ns = max(engine.clock_ns for engine in engines)
        summary.records = sum(ring.head for ring in self._instance.rings) - self._first

    async def _beat(self) -> None:
        instance = self._instance
        while True:
            now_ns = time.time_ns()
            for segment in (instance.symbols, instance.cache, instance.counters):
                segment.beat(now_ns)
            self.readers.beat()
            for feed in self._feeds:
                feed.heartbeat()
            await asyncio.sleep(BEAT_S)
