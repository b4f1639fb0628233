"""A feed process: attaches what it writes, keeps its connections, and does nothing else.

Its loop must be free for the sockets: no REST, no metrics, no log file. What it has to say goes to
the supervisor (mdsys.feed.report); its numbers stand in the counters segment.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import mmap
import os
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop

from mdsys import _native
from mdsys.errors import ExitCode, HostError, MdsysError
from mdsys.feed.connection import Connection
from mdsys.feed.parent import die_with_parent
from mdsys.feed.plan import ConnectionPlan, FeedPlan
from mdsys.feed.report import ReaderAdd, Reporter, receive_order
from mdsys.feed.venue import venues
from mdsys.host import cores
from mdsys.host import memory as host_memory
from mdsys.wording import plural

# After mdsys.feed.connection, which has checked the version of picows that this is compiled for.
from mdsys._listener import Feed, FrameListener, VenueFeed  # isort: skip
from mdsys.ring.lock import start_ticks
from mdsys.ring.segment import ROOT_DIR, map_file, segment_path

HEARTBEAT_S = 0.05
PAGE_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW

log = logging.getLogger("mdsys.feed")


class Memory:
    """The segments of one feed process: its own rings and the cache writable, the rest not.

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
        pid, now_ns = os.getpid(), time.time_ns()
        self.rings = {
            ring: _native.RingWriter(writable(f"ring.{ring}"), pid, start_ticks(pid), now_ns)
            for ring in plan.rings
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
        """Lock the pages, and give what is amiss with them for a thread on ``core``."""
        if notice := host_memory.lock(self.maps.values()):
            yield notice
        rings = {part: each for part, each in self.maps.items() if part.startswith("ring.")}
        if core is not None and (notice := host_memory.node_notice(rings, core)):
            yield notice

    def stop(self) -> None:
        """Mark the rings stopped; nothing may be published any more."""
        self.feed.heartbeat()
        for writer in self.rings.values():
            writer.stop()


class ReaderDesk:
    """Lets the rings' writers know who reads, as the supervisor orders, and says who is ejected.

    A reader may write its page as it likes, so nothing here depends on what stands in it; only its
    size must hold, and that is sealed.
    """

    def __init__(self, feed: Feed, reporter: Reporter) -> None:
        self._feed = feed
        self._reporter = reporter

    def take_orders(self) -> bool:
        """Obey all orders that have come. Returns False when no more can ever come."""
        while True:
            try:
                order = receive_order(self._reporter.channel)
                if isinstance(order, ReaderAdd):
                    self._add(order)
                else:
                    self._feed.reader_remove(order.reader)
            except BlockingIOError:
                return True
            except EOFError:
                return False
            except ConnectionError:
                return False
            except (ValueError, RecursionError, KeyError, OSError, MdsysError) as error:
                log.warning("an order of the supervisor's cannot be obeyed: %s", error)

    def _add(self, order: ReaderAdd) -> None:
        try:
            if fcntl.fcntl(order.fd, fcntl.F_GET_SEALS) & PAGE_SEALS != PAGE_SEALS:
                raise ValueError("a page that could be truncated under our feet")
            size = os.fstat(order.fd).st_size
            memory = mmap.mmap(order.fd, size, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ)
        finally:
            os.close(order.fd)
        self._feed.reader_add(order.reader, memory, list(order.rings), order.lossless)

    def report_ejected(self) -> None:
        """Tell the supervisor whom the writers wait for no more."""
        for reader, ring, sequence in self._feed.take_ejected():
            self._reporter.tell("reader_ejected", reader=reader, ring=ring, sequence=sequence)


class ConnectionDesk:
    """What one connection's fate does to counters, rings and the supervisor's picture."""

    def __init__(self, plan: ConnectionPlan, venue: VenueFeed, reporter: Reporter) -> None:
        self._plan = plan
        self._venue = venue
        self._reporter = reporter
        self._stream_count = 0

    def connect_failed(self) -> None:
        """Count it."""
        self._venue.count_connect_failure()

    def symbol_refused(self, symbol: str) -> None:
        """Tell the symbol's readers."""
        self._venue.symbol_refused(symbol, self._plan.number)
        self._venue.count_subscriptions(0, len(self._plan.channels))

    def subscribed(self, confirmed_count: int, refused_count: int) -> None:
        """Tell the supervisor."""
        self._stream_count = confirmed_count * len(self._plan.channels)
        self._venue.count_subscriptions(self._stream_count, 0)
        self._reporter.tell(
            "subscribed",
            connection=self._plan.number,
            confirmed=confirmed_count,
            refused=refused_count,
        )

    def lost(self) -> None:
        """Take back what was up."""
        self._venue.count_subscriptions(-self._stream_count, 0)
        self._stream_count = 0


def make_connections(plan: FeedPlan, memory: Memory, reporter: Reporter) -> list[Connection]:
    """Return the plan's connections, those of one venue sharing its symbols and decoder."""
    known = venues()
    tls = ssl.create_default_context()  # verifies; SSL_CERT_FILE names a private authority
    feeds: dict[str, VenueFeed] = {}
    for name in dict.fromkeys(connection.venue for connection in plan.connections):
        symbols = [s for each in plan.connections if each.venue == name for s in each.symbols]
        feeds[name] = VenueFeed(
            memory.feed, known[name].decoder, name.upper(), symbols, memory.symbols, memory.cache
        )

    def listener(
        number: int, venue: VenueFeed
    ) -> Callable[[Callable[[bytes], None]], FrameListener]:
        return lambda on_control: FrameListener(venue, number, on_control)

    return [
        Connection(
            each,
            known[each.venue],
            listener(each.number, feeds[each.venue]),
            ConnectionDesk(each, feeds[each.venue], reporter),
            tls,
        )
        for each in plan.connections
    ]


def pin(core: int) -> bool:
    """Stay on one core. Returns False, having said why, when the host forbids it."""
    try:
        cores.pin(core)
    except HostError as error:
        log.warning("%s; running unpinned", error)
        return False
    return True


def _log_loop_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.error("event loop: %s: %r", context["message"], context.get("exception"))


async def run_feed(plan: FeedPlan, reporter: Reporter) -> ExitCode:
    """Be the feed until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.set_exception_handler(_log_loop_error)
    pinned = plan.core is not None and pin(plan.core)  # first: what we allocate is near, then
    memory = Memory(plan)
    for notice in memory.settle(plan.core if pinned else None):
        log.warning("%s", notice)
    connections = make_connections(plan, memory, reporter)
    readers = ReaderDesk(memory.feed, reporter)

    def obey() -> None:
        if not readers.take_orders():
            loop.remove_reader(reporter.channel)

    loop.add_reader(reporter.channel, obey)
    obey()  # the readers of the feed before us, ahead of the first tick
    gc.collect()
    gc.freeze()  # what lives now lives for ever: never look at it again

    def beat() -> None:
        memory.feed.heartbeat()
        memory.feed.count_log_suppressed(reporter.take_dropped_count())
        readers.report_ejected()
        loop.call_later(HEARTBEAT_S, beat)

    def spin() -> None:
        loop.call_soon(spin)  # the loop never sleeps: it polls its sockets turn after turn

    beat()
    if plan.spin and pinned:
        spin()
    log.info(
        "feed %d: process %d, rings %s, %s, %s",
        plan.feed,
        os.getpid(),
        ",".join(map(str, plan.rings)),
        plural(len(connections), "connection"),
        f"spinning on core {plan.core}" if plan.spin and pinned else "sleeping when idle",
    )
    stopping = asyncio.create_task(stop.wait())
    tasks = [asyncio.create_task(connection.run()) for connection in connections]
    done, _ = await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    for task in (stopping, *tasks):
        task.cancel()
    await asyncio.gather(stopping, *tasks, return_exceptions=True)
    memory.stop()
    if stopping in done:
        return ExitCode.OK
    for task in done:  # a connection never ends by itself: a fault of ours
        log.critical("a connection failed", exc_info=task.exception())
    return ExitCode.FAILURE


def main(plan: FeedPlan, reporter: Reporter) -> ExitCode:
    """Run a feed process from its plan to its end."""
    root = logging.getLogger()
    root.addHandler(reporter)
    root.setLevel(logging.INFO)
    try:
        die_with_parent(plan.supervisor_pid)
        with contextlib.closing(uvloop.new_event_loop()) as loop:
            return loop.run_until_complete(run_feed(plan, reporter))
    except Exception:
        log.critical("feed %d failed", plan.feed, exc_info=True)
        return ExitCode.FAILURE
