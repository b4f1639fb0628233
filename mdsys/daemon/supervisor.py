"""The supervisor: owns the segments and the symbol directory, starts the feeds and watches them.

One feed process a set of rings. A feed that ends is reaped, and only then a successor started: it
takes the dead one's rings over (epoch + 1) while the others never notice. When the supervisor
stops, the feeds are stopped first and the segments marked, to be adopted by the next start; when it
is killed, the kernel takes the feeds down. The supervisor holds the lock and hands it on to the
feeds, which the kernel kills when it dies: so a successor that has the lock is alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from mdsys.config import Config, VenueConfig
from mdsys.daemon.control import Control
from mdsys.daemon.credentials import Credentials, wanted_fields
from mdsys.daemon.feed_link import FeedLink
from mdsys.daemon.feeds import Feeds
from mdsys.daemon.leave import Leave
from mdsys.daemon.limiter import Limiter
from mdsys.daemon.limits_file import LimitsFile
from mdsys.daemon.masked_log import mask_log
from mdsys.daemon.notify import Notifier
from mdsys.daemon.operations import Operations
from mdsys.daemon.plan import Placed
from mdsys.daemon.readers import Readers, Refused
from mdsys.daemon.recording import Recording
from mdsys.daemon.reload import Reload
from mdsys.daemon.rest import Rest
from mdsys.daemon.roster import Roster
from mdsys.daemon.service import Service
from mdsys.daemon.sessions import Sessions
from mdsys.daemon.snapshots import Snapshots
from mdsys.daemon.status import Status
from mdsys.daemon.subscriptions import State
from mdsys.daemon.tally import Parts, Tally
from mdsys.daemon.watch import Watch
from mdsys.errors import ConfigError, ExitCode, FeedError, NoPermission
from mdsys.feed.orders import Order, Redial, Snapshot
from mdsys.feed.plan import FeedPlan
from mdsys.feed.venue import Fetch, venues
from mdsys.host.cores import core_notices
from mdsys.host.memory import numa_node_of
from mdsys.metrics.exporter import Exporter
from mdsys.metrics.server import MetricsServer, listen
from mdsys.ring.control_socket import socket_path
from mdsys.ring.rights import group_id, group_name, user_name
from mdsys.ring.segment import ROOT_DIR, Geometry, huge_bytes, open_instance, segment_path
from mdsys.wording import plural

HEARTBEAT_S = 1.0
REST_CLOSE_S = 0.2
"""How long a stop waits for sockets of REST to be closed in order."""
TOO_MANY = (418, 429)
"""HTTP: too many connects; banned for that."""
DEFAULT_GROUP = "mdsys"
"""Reads the instance where the configuration names no group and there is one of this name."""
STREAM_STATES = {
    "requested": State.REQUESTED,
    "confirmed": State.CONFIRMED,
    "refused": State.REFUSED,
    "removed": State.DESIRED,
}

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


def _sessions_of(venue: VenueConfig) -> Sessions | None:
    return None if venue.calendar is None else Sessions.named(venue.calendar)


def _nowhere(venue: str) -> Fetch:
    """Return the REST of a venue without an address: a look-up that asks nobody can do with it."""

    async def fetch(
        path: str,  # noqa: ARG001 - as Fetch
        *,
        params: Mapping[str, str] | None = None,  # noqa: ARG001
        headers: Mapping[str, str] | None = None,  # noqa: ARG001
        weight: int = 1,  # noqa: ARG001
    ) -> bytes:
        raise FeedError(f"{venue}: it has no REST address: give rest_url")

    return fetch


class Supervisor:
    """Runs one instance until it is told to stop.

    Args:
        config: What to run.
        reread: Reads the configuration anew, for a reload; None: it is in memory only.
        given: Returns the secrets that the program which started us gives (Credentials).
        notifier: Speaks to the service manager; None: there is none.

    Raises:
        InstanceInUse: It runs already.
        NoPermission: Segments, lock or group are not ours.
        HostError: No room, or no such directory, or no control socket.
        ConfigError: The symbols do not fit, or there is no such group.
    """

    def __init__(
        self,
        config: Config,
        reread: Callable[[], Config] | None = None,
        given: Callable[[], Mapping[str, Mapping[str, Any]]] = dict,
        *,
        notifier: Notifier | None = None,
    ) -> None:
        self._config = config
        self._venues = venues()
        self._stopping = False
        self._ready = False
        self._links: dict[int, FeedLink] = {}
        """Of the feeds that live."""
        self._done: asyncio.Event = asyncio.Event()
        self.on_started: Callable[[], object] = lambda: None
        """Called when the feeds are started and the control socket answers."""
        geometry = geometry_of(config)
        self.instance = open_instance(
            config.instance,
            geometry,
            group=_usable_group(config.group),
            pid=os.getpid(),
            now_ns=time.time_ns(),
            ring_nodes=ring_nodes(geometry, config.feeds.cores),
        )
        rings = self._rings()
        self._feeds = Feeds(
            {feed: [self.instance.rings[ring] for ring in own] for feed, own in rings.items()},
            config.feeds.cores,
            self._plan_of,
            self,
            self.instance.lock.fd,
        )
        self._feeds.on_all_gone = self._done.set
        try:
            self._feeds.prepare()
            self._assemble(config, reread, given)
            notifier = notifier or Notifier()
            stale_count = self._watch.health.stale_count
            self._service = Service(notifier, self._roster, self._feeds, stale_count)
            self._tally = Tally(
                self.instance.counters,
                Parts(
                    self.instance.rings,
                    self._feeds,
                    self._links,
                    self.readers,
                    self._roster,
                    stale_count,
                    self._limiter,
                    self._rest,
                    self._snapshots,
                    self._reload,
                    self._control,
                    notifier,
                ),
            )
        except BaseException:
            self._feeds.discard()
            self.instance.stop()
            raise

    def _assemble(
        self,
        config: Config,
        reread: Callable[[], Config] | None,
        given: Callable[[], Mapping[str, Mapping[str, Any]]],
    ) -> None:
        """Make the parts, and place what the configuration names."""
        instance = self.instance
        self._credentials = Credentials(wanted_fields(config.venues, self._venues), given=given)
        for problem in self._credentials.read().problems.values():
            log.warning("%s", problem)
        self._limiter = Limiter(file=LimitsFile(instance.lock.path.with_suffix(".limits")))
        self._leave = Leave(
            self._limiter,
            self._credentials,
            lambda venue: bool(self._venues[venue].credential_fields),
        )
        self._rest = Rest(self._limiter, self._credentials.mask)
        self._fetch: dict[str, Fetch] = {}
        self._snapshots = Snapshots(self._deliver_snapshot)
        self._roster = Roster(
            config.instance,
            instance.symbols,
            self._rings(),
            self._tell,
            self._credentials.secret,
            self._fetch_of,
            remedy_of=lambda key: self._credentials.where(key, config.instance),
        )
        self._roster.on_gone = self._snapshots.forget
        sessions: dict[str, Sessions] = {}
        self._watch = Watch(
            self._roster,
            instance.cache,
            instance.counters,
            instance.geometry.feed_count,
            self._tell,
            sessions,
        )
        self._sessions = sessions
        for venue in config.venues:
            self._open_venue(venue, _sessions_of(venue))
        self._roster.begin(config.venues, self._venues)
        self.readers = Readers(
            instance.rings,
            config.consumer,
            epoch=instance.symbols.epoch,
            feed_cores={core: f"feed {i}" for i, core in enumerate(config.feeds.cores)},
        )
        status = Status(
            config.instance,
            self._roster,
            self._watch,
            instance.cache,
            self._feeds,
            self._limiter,
            self._credentials,
            self._snapshots.refusal,
        )
        self._reload = Reload(
            config,
            reread,
            self._venues,
            self._roster,
            self._credentials,
            self._tell,
            self._open_venue_later,
        )
        self._recording = Recording(
            config.instance,
            self._links,
            instance.geometry.feed_count,
            self._roster.connections.addresses,
        )
        self._control = Control(
            socket_path(instance.lock.path.parent, config.instance),
            segment_path(ROOT_DIR, config.instance, "symbols").stat().st_gid,
            self.readers,
            Operations(
                self._roster,
                status,
                self.reload,
                instance.symbols.capacity,
                self._recording,
            ),
        )

        self._metrics: MetricsServer | None = None
        if config.metrics.listen is not None:
            exporter = Exporter(config.instance, self.readers, self._limiter)
            self._metrics = MetricsServer(listen(config.metrics.listen), exporter.gather)

    async def _open_venue_later(self, config: VenueConfig) -> None:
        """Do so while the loop goes on: reading a calendar takes long."""
        self._open_venue(config, await asyncio.to_thread(_sessions_of, config))

    def _open_venue(self, config: VenueConfig, sessions: Sessions | None) -> None:
        """Prepare what is needed of a venue before anything of it is placed."""
        venue = self._venues[config.name]
        self._limiter.configure(config.name, config.limits)
        rest_url = config.rest_url or venue.rest_url
        if rest_url is not None:
            fetch = self._fetch[config.name] = self._rest.fetcher(config.name, rest_url)
            if venue.book_snapshots is not None:
                self._snapshots.add_venue(config.name, venue.book_snapshots, fetch)
        if sessions is not None:
            self._sessions[config.name] = sessions

    def _rings(self) -> Mapping[int, Sequence[int]]:
        geometry = self.instance.geometry
        rings: dict[int, list[int]] = {feed: [] for feed in range(geometry.feed_count)}
        for ring in range(geometry.ring_count):
            rings[geometry.feed_of(ring)].append(ring)
        return rings

    def _fetch_of(self, venue: str) -> Fetch:
        return self._fetch.get(venue) or _nowhere(venue)

    def _plan_of(self, feed: int) -> FeedPlan:
        config = self._config
        cores = config.feeds.cores
        return FeedPlan(
            instance=config.instance,
            feed=feed,
            rings=tuple(self._rings()[feed]),
            core=cores[feed] if cores else None,
            spin=bool(cores),
            lossless_wait_us=config.consumer.lossless_wait_us,
            supervisor_pid=os.getpid(),
            connections=self._roster.plans_of_feed(feed),
        )

    # ---- life ----

    async def run(self) -> ExitCode:
        """Start the feeds and keep them until ``stop`` or a signal, then drain."""
        mask_log(self._credentials.mask)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload_soon)
        self._log_start()
        self._log_core_notices()
        self._control.start()
        if self._metrics is not None:
            await self._metrics.start()
            log.info("metrics at %s", self._metrics.url)
        if not self._stopping:  # told so already, while all of this was being made
            self._feeds.start()
            self._roster.look_up()
            self._service.start()
            self._tally.start()
            self.on_started()
        beating = asyncio.create_task(self._beat())
        await self._done.wait()
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating
        with contextlib.suppress(TimeoutError):  # what it has asked the lock covers: before that
            async with asyncio.timeout(REST_CLOSE_S):
                await self._snapshots.close()
                await self._rest.close()
        if self._metrics is not None:
            await self._metrics.close()
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
        self._service.stop()
        self._roster.stop()
        self._feeds.stop()

    async def reload(self) -> Mapping[str, Any]:
        """Reread the configuration and the credentials, and return what came of it.

        Raises:
            Refused: The configuration is wrong; nothing has changed.
        """
        with self._service.reloading():
            return await self._reload()

    def reload_soon(self) -> None:
        """Do so; the log says what came of it."""

        async def reload() -> None:
            try:
                await self.reload()
            except Refused as error:
                log.warning("not reloaded, nothing has changed: %s", error)

        self._reloading = asyncio.ensure_future(reload())

    async def _beat(self) -> None:
        """Tell whoever looks at the segments that we live, and look at what they hold."""
        while True:
            now_ns = time.time_ns()
            for segment in (self.instance.symbols, self.instance.cache, self.instance.counters):
                segment.beat(now_ns)
            self.readers.beat()
            self._limiter.keep()
            for link in self._links.values():
                link.flush()
            for look in (
                *(partial(self._watch.look, now_ns), self._note_ready),
                *(self._service.look, self._tally.write),
            ):
                try:
                    look()
                except (
                    Exception
                ):  # a fault of ours: whoever looks at our heartbeat must not think us dead
                    log.exception("the instance cannot be looked at")
            await asyncio.sleep(HEARTBEAT_S)

    # ---- what the feeds do (mdsys.daemon.feeds.Events) ----

    def feed_started(self, feed: int, link: FeedLink) -> None:
        """Tell it who reads."""
        self._links[feed] = link
        self.readers.feed_started(feed, link)
        self._recording.feed_started(feed)

    def feed_ended(self, feed: int) -> None:
        """Take back what it had."""
        now_ns = time.time_ns()
        del self._links[feed]
        self.readers.feed_ended(feed)
        self._leave.feed_ended(feed)
        for connection in self._roster.connections.feed_ended(feed, now_ns):
            self._lose(connection.placed, now_ns)

    def feed_told(self, feed: int, message: Mapping[str, Any]) -> None:
        """Take what it has told."""
        match message["event"]:
            case "permit":
                self._ask_leave(feed, message)
            case "used":
                self._leave.used(feed, message["id"])
            case "ended":
                self._leave.ended(feed, message["id"])
            case "connection":
                self._note_connection(feed, message)
            case "streams":
                self._note_streams(feed, message)
            case "snapshots_wanted":
                self._snapshots.wanted(message["venue"], message["symbols"])
            case "reader_ejected":
                self.readers.note_ejected(message["reader"], message["ring"], message["sequence"])
            case other:
                log.warning("feed %d tells of %r, which nobody here knows", feed, other)

    def _ask_leave(self, feed: int, message: Mapping[str, Any]) -> None:
        link = self._links.get(feed)
        connection = self._roster.connections.get(message["connection"], feed)
        if link is not None and connection is not None:  # else it has been ordered to close
            self._leave.ask(feed, link, connection, message)

    def _note_connection(self, feed: int, message: Mapping[str, Any]) -> None:
        now_ns = time.time_ns()
        connection = self._roster.connections.report(feed, message, now_ns)
        if connection is None:
            return
        if connection.state in ("waiting", "denied", "closed"):
            self._lose(connection.placed, now_ns)
        if (
            message["state"] == "waiting"
            and message.get("http") in TOO_MANY
            and connection.placed.key is None
        ):  # of our address, then: the others would only be told the same
            seconds = message.get("delay_s") or 0.0
            self._limiter.pause(connection.placed.venue, "connect", seconds)
        if connection.state == "denied" and connection.placed.key is not None:
            if self._leave.is_outdated(connection):  # it was replaced while that one was tried
                self._tell(feed, [Redial(connection.placed.number)])
            else:
                log.error(
                    "%s connection %d is not dialled again: %s",
                    *(connection.placed.venue, connection.placed.number),
                    self._credentials.where(connection.placed.key, self.instance.name),
                )
        self._note_ready()

    def _lose(self, placed: Placed, now_ns: int) -> None:
        """Take back what was subscribed on a socket that is gone."""
        self._roster.subscriptions.lose(placed.number, now_ns)
        self._snapshots.lost(placed.venue, placed.symbols)

    def _note_streams(self, feed: int, message: Mapping[str, Any]) -> None:
        connection = self._roster.connections.get(message["connection"], feed)
        if connection is None:
            return
        self._roster.subscriptions.report(
            connection.placed.venue,
            message["symbols"],
            message["channel"],
            STREAM_STATES[message["state"]],
            message["at_ns"],
            connection=connection.placed.number,
            words=message.get("words"),
        )
        self._note_ready()

    def _note_ready(self) -> None:
        """Say once that everything that was asked for has been answered."""
        subscriptions = self._roster.subscriptions
        if self._ready or self._stopping or not subscriptions.answered():
            return
        self._ready = True
        refused_count = subscriptions.refused_symbol_count()
        log.info(
            "ready: %s%s, %s, %s, %s",
            plural(subscriptions.symbol_count(), "symbol"),
            f", {refused_count} refused" if refused_count else "",
            plural(len(self._roster.placement.connections), "connection"),
            plural(len(self._feeds.all), "feed"),
            plural(self.instance.geometry.ring_count, "ring"),
        )
        self._service.look()

    def _tell(self, feed: int, orders: Iterable[Order]) -> None:
        """Pass orders on to a feed that lives; another has it all from its next plan."""
        if (link := self._links.get(feed)) is not None:
            link.tell(*orders)

    def _deliver_snapshot(self, venue: str, symbol: str, body: bytes, asked: int) -> None:
        """Hand a book to the feed that keeps it."""
        placed = self._roster.placement.symbols(venue).get(symbol)
        link = None if placed is None else self._links.get(placed.feed)
        if link is not None:
            fd = os.memfd_create("mdsys-snapshot")
            try:
                with open(fd, "wb", closefd=False) as file:
                    file.write(body)
                os.lseek(fd, 0, os.SEEK_SET)
            except BaseException:
                os.close(fd)
                raise
            link.tell(Snapshot(venue, symbol, asked), fd=fd)

    # ---- the log ----

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
        readers = {core: f"reader {name}" for name, core in self._config.consumer.cores.items()}
        notices: dict[str, None] = {}
        for core in self._config.feeds.cores:
            notices.update(dict.fromkeys(core_notices(core, others=readers)))
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
