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
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mdsys.config import Config
from mdsys.daemon.control import Control
from mdsys.daemon.credentials import Credentials, wanted_fields
from mdsys.daemon.feed_link import FeedLinks
from mdsys.daemon.feed_news import FeedNews
from mdsys.daemon.feeds import Feeds
from mdsys.daemon.leave import Leave
from mdsys.daemon.limiter import Limiter
from mdsys.daemon.limits_file import LimitsFile
from mdsys.daemon.masked_log import mask_log
from mdsys.daemon.notify import Notifier
from mdsys.daemon.operations import Operations
from mdsys.daemon.readers import Readers, Refused
from mdsys.daemon.recording import Recording
from mdsys.daemon.reload import Reload
from mdsys.daemon.rest import Rest
from mdsys.daemon.roster import Roster
from mdsys.daemon.segments import open_segments, rings_of_feeds
from mdsys.daemon.service import Service
from mdsys.daemon.snapshots import Snapshots
from mdsys.daemon.status import Status
from mdsys.daemon.tally import Parts, Tally
from mdsys.daemon.venue_needs import VenueNeeds
from mdsys.daemon.watch import Watch
from mdsys.errors import ExitCode
from mdsys.feed.orders import Snapshot
from mdsys.feed.plan import FeedPlan
from mdsys.feed.venue import venues
from mdsys.host.cores import core_notices
from mdsys.metrics.exporter import Exporter
from mdsys.metrics.server import MetricsServer, listen
from mdsys.ring.control_socket import socket_path
from mdsys.ring.segment import ROOT_DIR, huge_bytes, segment_path
from mdsys.wording import plural

HEARTBEAT_S = 1.0
REST_CLOSE_S = 0.2
"""How long a stop waits for sockets of REST to be closed in order."""

log = logging.getLogger("mdsys.daemon")


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
        HostError: No room, or no such directory, or no control socket, or none for the metrics.
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
        self._reload_asked = False
        """By a signal, and not begun yet."""
        self._reloading: asyncio.Task[None] | None = None
        self._links = FeedLinks()
        self._done: asyncio.Event = asyncio.Event()
        self.on_started: Callable[[], object] = lambda: None
        """Called when the feeds are started and the control socket answers."""
        self._metrics_listener: socket.socket | None = None
        with contextlib.ExitStack() as undo:  # of a start that fails, from its last step back
            self.instance = open_segments(config, lambda: self._listen_for_metrics(undo))
            undo.callback(self.instance.discard)
            self._rings = rings = rings_of_feeds(self.instance.geometry)
            self._feeds = Feeds(
                {feed: [self.instance.rings[ring] for ring in own] for feed, own in rings.items()},
                config.feeds.cores,
                self._plan_of,
                self.instance.lock.fd,
            )
            self._feeds.on_all_gone = self._done.set
            undo.callback(self._feeds.discard)
            self._feeds.prepare()
            self._assemble(config, reread, given)
            undo.callback(self._control.close)
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
            undo.pop_all()

    def _listen_for_metrics(self, undo: contextlib.ExitStack) -> None:
        """Take the port while a start that does not get it leaves everything as it was."""
        if self._config.metrics.listen is not None:
            self._metrics_listener = undo.enter_context(listen(self._config.metrics.listen))

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

        def remedy_of(key: str) -> str:
            return self._credentials.where(key, config.instance)

        self._limiter = Limiter(file=LimitsFile(instance.lock.path.with_suffix(".limits")))
        leave = Leave(
            self._limiter,
            self._credentials,
            lambda venue: bool(self._venues[venue].credential_fields),
        )
        self._rest = Rest(self._limiter, self._credentials.mask)
        self._snapshots = Snapshots(self._deliver_snapshot)
        needs = VenueNeeds(self._venues, self._limiter, self._rest, self._snapshots)
        self._roster = Roster(
            config.instance,
            instance.symbols,
            self._rings,
            self._links.tell,
            self._credentials.secret,
            needs.fetch_of,
            remedy_of=remedy_of,
        )
        self._roster.on_gone = self._snapshots.forget
        self._watch = Watch(
            self._roster,
            instance.cache,
            instance.counters,
            instance.geometry.feed_count,
            self._links.tell,
            needs.sessions,
        )
        for venue in config.venues:
            needs.open(venue)
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
            self._links.tell,
            needs.open_later,
        )
        recording = Recording(
            config.instance,
            self._links,
            instance.geometry.feed_count,
            self._roster.connections.addresses,
        )
        self._news = FeedNews(
            self._links,
            self._roster,
            self.readers,
            recording,
            leave,
            self._limiter,
            self._snapshots,
            remedy_of,
            self._note_ready,
        )
        self._metrics: MetricsServer | None = None
        if self._metrics_listener is not None:
            exporter = Exporter(
                config.instance, self.readers, self._limiter, self._watch.silence_limits_ns
            )
            self._metrics = MetricsServer(self._metrics_listener, exporter.gather)
        self._control = Control(
            socket_path(instance.lock.path.parent, config.instance),
            segment_path(ROOT_DIR, config.instance, "symbols").stat().st_gid,
            self.readers,
            Operations(
                self._roster,
                status,
                self.reload,
                instance.symbols.capacity,
                recording,
            ),
        )

    def _plan_of(self, feed: int) -> FeedPlan:
        config = self._config
        cores = config.feeds.cores
        return FeedPlan(
            instance=config.instance,
            feed=feed,
            rings=tuple(self._rings[feed]),
            core=cores[feed] if cores else None,
            spin=bool(cores),
            lossless_wait_us=config.consumer.lossless_wait_us,
            supervisor_pid=os.getpid(),
            connections=self._roster.carriage.plans_of_feed(feed),
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
            self._feeds.start(self._news)
            self._roster.look_ups.start()
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
        self._roster.look_ups.stop()
        self._feeds.stop()

    async def reload(self) -> Mapping[str, Any]:
        """Reread the configuration and the credentials, and return what came of it.

        Raises:
            Refused: The configuration is wrong; nothing has changed.
        """
        with self._service.reloading():
            return await self._reload()

    def reload_soon(self) -> None:
        """Do so; the log says what came of it. Asked again meanwhile, it is done once more then."""
        self._reload_asked = True
        if self._reloading is None:
            self._reloading = asyncio.create_task(self._reload_as_asked())

    async def _reload_as_asked(self) -> None:
        while self._reload_asked and not self._stopping:
            self._reload_asked = False
            try:
                await self.reload()
            except Refused as error:
                log.warning("not reloaded, nothing has changed: %s", error)
            except Exception:  # a fault of ours: the next one shall be done all the same
                log.exception("a reload broke off")
        self._reloading = None

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

    def _deliver_snapshot(self, venue: str, symbol: str, body: bytes, asked: int) -> None:
        """Hand a book to the feed that keeps it."""
        placed = self._roster.placement.symbols(venue).get(symbol)
        link = None if placed is None else self._links.get(placed.feed)
        if link is not None:
            link.hand(Snapshot(venue, symbol, asked), body)

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
