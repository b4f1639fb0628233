"""The supervisor: owns the instance, starts the feeds, starts them again when they die.

One process, plain asyncio; nothing here is on a tick's way. A feed that dies takes only its own
rings' symbols down. The supervisor holds the lock and hands it on to the feeds, which the kernel
kills when it dies: so a successor that has the lock is alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mdsys.config import Config
from mdsys.daemon.control import Control
from mdsys.daemon.plan import Assignment, assign
from mdsys.daemon.readers import Readers
from mdsys.errors import ConfigError, ExitCode, NoPermission
from mdsys.feed.backoff import Backoff
from mdsys.feed.plan import FeedPlan
from mdsys.feed.report import MESSAGE_SIZE_MAX, read_message, report_pair
from mdsys.host.cores import core_notices
from mdsys.host.memory import numa_node_of
from mdsys.ring.control_socket import socket_path
from mdsys.ring.rights import group_id, group_name, user_name
from mdsys.ring.segment import ROOT_DIR, Geometry, huge_bytes, open_instance, segment_path
from mdsys.wording import plural

DRAIN_S = 2.0
"""How long a feed may take to stop before it is killed."""
STABLE_S = 30.0
"""A feed that lived this long has proved itself: its next restart is prompt again."""
HEARTBEAT_S = 1.0
SCALE = 8
"""Decimals of prices and sizes where the venue gives none."""
DEFAULT_GROUP = "mdsys"
"""Reads the instance where the configuration names no group and there is one of this name."""

log = logging.getLogger("mdsys.daemon")


def geometry_of(config: Config) -> Geometry:
    """Return the segments' shape that a configuration asks for."""
    return Geometry(
        ring_count=config.rings.num_buffers,
        depth=config.rings.buffer_size // 64,
        max_symbols=config.rings.max_symbols,
        feed_count=config.feeds.num_processes,
        dir=config.memory.dir or ROOT_DIR,
    )


def ring_nodes(geometry: Geometry, cores: Sequence[int]) -> Mapping[int, int]:
    """Return the memory node of each ring's feed; none where the host has but one."""
    if not cores:
        return {}
    nodes = {
        ring: numa_node_of(cores[geometry.feed_of(ring)]) for ring in range(geometry.ring_count)
    }
    return {ring: node for ring, node in nodes.items() if node is not None}


@dataclass(slots=True)
class Feed:
    """One feed process, through all its lives."""

    plan: FeedPlan
    process: subprocess.Popen[bytes] | None = None
    reports: socket.socket | None = None
    started_s: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.2, max_s=10.0))
    answered: set[int] = field(default_factory=set)
    """Connections whose every symbol has been confirmed or refused, in any of its lives."""


class Supervisor:
    """Runs one instance until it is told to stop.

    Args:
        config: What to run.

    Raises:
        InstanceInUse: It runs already.
        NoPermission: Segments, lock or group are not ours.
        HostError: No room, or no such directory, or no control socket.
        ConfigError: The symbols do not fit, or there is no such group.
    """

    def __init__(self, config: Config) -> None:
        self._stopping = False
        self._ready = False
        self._refused_count = 0
        self._done: asyncio.Event = asyncio.Event()
        self._reader_cores = config.consumer.cores
        geometry = geometry_of(config)
        self.instance = open_instance(
            config.instance,
            geometry,
            group=_usable_group(config.group),
            pid=os.getpid(),
            now_ns=time.time_ns(),
            ring_nodes=ring_nodes(geometry, config.feeds.cores),
        )
        try:
            self._assignment = self._place(config)
            self.readers = Readers(
                self.instance.rings,
                config.consumer,
                epoch=self.instance.symbols.epoch,
                feed_cores={core: f"feed {i}" for i, core in enumerate(config.feeds.cores)},
            )
            self._control = Control(
                socket_path(self.instance.lock.path.parent, config.instance),
                segment_path(ROOT_DIR, config.instance, "symbols").stat().st_gid,
                self.readers,
            )
        except BaseException:
            self.instance.stop()
            raise
        self._feeds = [
            Feed(self._feed_plan(config, feed, rings)) for feed, rings in self._rings().items()
        ]

    def _rings(self) -> Mapping[int, Sequence[int]]:
        geometry = self.instance.geometry
        rings: dict[int, list[int]] = {feed: [] for feed in range(geometry.feed_count)}
        for ring in range(geometry.ring_count):
            rings[geometry.feed_of(ring)].append(ring)
        return rings

    def _place(self, config: Config) -> Assignment:
        """Assign the symbols, and write the new ones into the directory."""
        symbols = self.instance.symbols
        known: dict[str, int] = {}
        for symbol_id in range(1, len(symbols) + 1):
            name, _, ring, _, _ = symbols.entry(symbol_id)
            known[name] = ring
        assignment = assign(config, known, self._rings())
        if len(known) + len(assignment.new_rings) > symbols.capacity:
            raise ConfigError(
                f"rings.max_symbols: {symbols.capacity}, but {len(known)} symbols of earlier runs "
                f"and {len(assignment.new_rings)} new ones need more; ids are never reused: "
                f"raise it, or run: mdsys clean --instance {config.instance}"
            )
        for name, ring in assignment.new_rings.items():
            symbols.add(name.encode(), ring, SCALE, SCALE)
        return assignment

    def _feed_plan(self, config: Config, feed: int, rings: Sequence[int]) -> FeedPlan:
        cores = config.feeds.cores
        return FeedPlan(
            instance=config.instance,
            feed=feed,
            rings=tuple(rings),
            core=cores[feed] if cores else None,
            spin=bool(cores),
            lossless_wait_us=config.consumer.lossless_wait_us,
            supervisor_pid=os.getpid(),
            connections=tuple(self._assignment.connections[feed]),
        )

    async def run(self) -> ExitCode:
        """Start the feeds and keep them until ``stop`` or a signal, then drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        self._log_start()
        self._log_core_notices()
        self._control.start()
        for feed in self._feeds:
            self._start(feed)
        beating = asyncio.create_task(self._beat())
        await self._done.wait()
        beating.cancel()
        self._control.close()  # while the lock is held: the next daemon's has the same name
        self.instance.stop()
        log.info("stopped; the segments stay, for the next start to go on in")
        return ExitCode.OK

    def stop(self) -> None:
        """Stop the feeds in order; ``run`` returns when the last is gone."""
        if self._stopping:
            return
        self._stopping = True
        log.info("stopping")
        loop = asyncio.get_running_loop()
        for feed in self._feeds:
            if feed.process is not None:
                feed.process.send_signal(signal.SIGTERM)
                loop.call_later(DRAIN_S, self._kill, feed, feed.process)
        self._finish_when_all_are_gone()

    def _kill(self, feed: Feed, process: subprocess.Popen[bytes]) -> None:
        if feed.process is process:
            log.warning("feed %d does not stop: killed", feed.plan.feed)
            process.kill()

    def _finish_when_all_are_gone(self) -> None:
        if self._stopping and all(feed.process is None for feed in self._feeds):
            self._done.set()

    # ---- feeds ----

    def _start(self, feed: Feed) -> None:
        """Start a feed, or try again later."""
        if self._stopping:
            return
        try:
            self._spawn(feed)
        except OSError as error:  # no memory, too many processes: it may pass
            self._start_later(feed, f"cannot be started: {error}")

    def _start_later(self, feed: Feed, why: str) -> None:
        delay_s = feed.backoff.next_s()
        log.error("feed %d %s; starting it again in %.2f s", feed.plan.feed, why, delay_s)
        asyncio.get_running_loop().call_later(delay_s, self._start, feed)

    def _spawn(self, feed: Feed) -> None:
        """Start a process; the plan goes through a memory file, reports come through a socket.

        Raises:
            OSError: It cannot be had.
        """
        ours, theirs = report_pair()
        plan_fd = os.memfd_create("mdsys-plan")
        with os.fdopen(plan_fd, "wb") as file, theirs:
            file.write(feed.plan.to_line())
            file.flush()
            file.seek(0)
            process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "mdsys.feed"),  # -P: never from here
                    *("--plan-fd", str(plan_fd), "--report-fd", str(theirs.fileno())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(plan_fd, theirs.fileno(), self.instance.lock.fd),
                process_group=0,  # a Ctrl-C is ours alone
            )
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError:  # nobody would notice its end: two writers of one ring must never be
            process.kill()
            process.wait()
            raise
        feed.process = process
        feed.reports = ours
        feed.started_s = time.monotonic()
        loop = asyncio.get_running_loop()
        loop.add_reader(pidfd, self._reap, feed, pidfd)
        loop.add_reader(ours, self._hear, feed, ours)
        self.readers.feed_started(feed.plan.feed, ours, feed.plan.rings)

    def _reap(self, feed: Feed, pidfd: int) -> None:
        """A feed has ended: bury it, and start it again unless we stop."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(pidfd)
        os.close(pidfd)
        assert feed.process is not None
        assert feed.reports is not None
        code = feed.process.wait()
        self._hear(feed, feed.reports)  # its last words
        loop.remove_reader(feed.reports)
        self.readers.feed_ended(feed.plan.feed)
        feed.reports.close()
        feed.process = None
        if self._stopping:
            self._finish_when_all_are_gone()
            return
        if time.monotonic() - feed.started_s >= STABLE_S:
            feed.backoff.reset()
        self._start_later(feed, _ending(code))

    def _hear(self, feed: Feed, reports: socket.socket) -> None:
        """Take what a feed has reported."""
        while True:
            try:
                data = reports.recv(MESSAGE_SIZE_MAX)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:  # it is ending; its pidfd will say so
                asyncio.get_running_loop().remove_reader(reports)
                return
            message = read_message(data)
            if message["event"] == "log":
                logging.getLogger(f"mdsys.feed.{feed.plan.feed}").log(
                    message["level"], "%s", message["text"]
                )
            elif message["event"] == "subscribed":
                self._note_subscribed(feed, message["connection"], message["refused"])
            elif message["event"] == "reader_ejected":
                self.readers.note_ejected(message["reader"], message["ring"], message["sequence"])

    def _note_subscribed(self, feed: Feed, connection: int, refused_count: int) -> None:
        """Say once that everything that was asked for has been answered."""
        if connection not in feed.answered:
            feed.answered.add(connection)
            self._refused_count += refused_count
        total = self._assignment.connection_count
        if not self._ready and sum(len(each.answered) for each in self._feeds) == total:
            self._ready = True
            refused = f", {self._refused_count} refused" if self._refused_count else ""
            log.info(
                "ready: %s%s, %s, %s, %s",
                plural(self._assignment.symbol_count, "symbol"),
                refused,
                plural(total, "connection"),
                plural(len(self._feeds), "feed"),
                plural(self.instance.geometry.ring_count, "ring"),
            )

    # ---- the rest ----

    async def _beat(self) -> None:
        """Tell whoever looks at the segments that we live, and look who of them does."""
        while True:
            now_ns = time.time_ns()
            for segment in (self.instance.symbols, self.instance.cache, self.instance.counters):
                segment.beat(now_ns)
            self.readers.beat()
            await asyncio.sleep(HEARTBEAT_S)

    def _log_start(self) -> None:
        geometry = self.instance.geometry
        first = geometry.dir / f"mdsys.{self.instance.name}.ring.0"
        log.info(
            "instance %s: %s, %s of %d records in %s (%s), %s, process %d",
            self.instance.name,
            "adopted" if self.instance.adopted else "created",
            plural(geometry.ring_count, "ring"),
            geometry.depth,
            geometry.dir,
            "2 MB pages" if huge_bytes(first) else "4 KB pages",
            plural(geometry.feed_count, "feed"),
            os.getpid(),
        )
        log.info("control socket %s", self._control.path)

    def _log_core_notices(self) -> None:
        """Say once what will take time from the cores that the feeds are given."""
        readers: dict[int, str] = {core: f"reader {n}" for n, core in self._reader_cores.items()}
        notices: dict[str, None] = {}
        for feed in self._feeds:
            if feed.plan.core is not None:
                notices.update(dict.fromkeys(core_notices(feed.plan.core, others=readers)))
        for notice in notices:  # a quota is the same for all; every other one names its core
            log.warning("%s", notice)


def _usable_group(name: str | None) -> str | None:
    """Return the group that shall read, None for our own.

    One that the configuration names must be had, or the start fails; the default one need not.
    """
    if name is not None:
        return name
    try:
        group_id(DEFAULT_GROUP)
    except (ConfigError, NoPermission) as error:
        log.warning(
            "only %s and the group %s can read the instance: %s",
            user_name(os.geteuid()),
            group_name(os.getegid()),
            error,
        )
        return None
    return DEFAULT_GROUP


def _ending(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with code {code}"
