"""The feed processes: started, watched, and started again.

A feed that ends is replaced at once, and ever more slowly if it goes on ending; one that lives but
has stopped beating is killed first. Spare processes that have imported everything wait for a plan,
one for every two feeds, so that a killed feed's successor begins its work within milliseconds, also
when half of them are killed at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, time_ns
from typing import Any, Protocol

from mdsys import _native
from mdsys.daemon.connections import age_s
from mdsys.daemon.credentials import without_credentials
from mdsys.daemon.feed_link import FeedLink
from mdsys.feed.backoff import Backoff
from mdsys.feed.plan import FeedPlan
from mdsys.feed.report import MESSAGE_SIZE_MAX, read_message, report_pair

DRAIN_S = 1.5
"""How long a feed may take to stop before it is killed: all of a stop shall take less than 2 s."""
STABLE_S = 5.0
"""A feed that lived this long has proved itself: its next restart is prompt again."""
LOOK_S = 0.25
"""How often the feeds' heartbeats are looked at."""
HANG_S = 2.0
"""A feed beats twenty times a second; one that has not for so long hangs. Tests alone change it."""
START_S = 30.0
"""How long a new feed may take until it first beats: it maps and locks gigabytes."""
HEARD_AT_ONCE = 256
"""Messages of one feed before the others' turn."""
SPARE_DELAY_S = 1.0
"""From the start of a feed or a spare to that of the next spare, which must not take their time."""

log = logging.getLogger("mdsys.daemon")


class Events(Protocol):
    """Who hears of the feeds' lives."""

    def feed_started(self, feed: int, link: FeedLink) -> None:
        """A process has begun; it knows what its plan tells."""

    def feed_told(self, feed: int, message: Mapping[str, Any]) -> None:
        """It has told something that is not a log line."""

    def feed_ended(self, feed: int) -> None:
        """It is gone, and all its sockets; its link takes nothing more."""


class _Process:
    """One process, from its start as a spare to its end. The plan comes through a pipe.

    Raises:
        OSError: It cannot be had.
    """

    def __init__(self, lock_fd: int) -> None:
        self.reports, theirs = report_pair()
        read_fd, self._plan_fd = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "mdsys.feed"),  # -P: never from here
                    *("--plan-fd", str(read_fd), "--report-fd", str(theirs.fileno())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(read_fd, theirs.fileno(), lock_fd),
                process_group=0,  # a Ctrl-C is ours alone
                env=without_credentials(os.environ),
            )
            try:
                self.pidfd = os.pidfd_open(self._process.pid)
            except OSError:  # nobody would notice its end: two writers of one ring must never be
                self._process.kill()
                self._process.wait()
                raise
        except BaseException:
            self.reports.close()
            os.close(self._plan_fd)
            raise
        finally:
            os.close(read_fd)
            theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def give(self, plan: FeedPlan) -> None:
        """Tell it what to be. A thread writes: a pipe holds less than a large plan."""
        fd, self._plan_fd = self._plan_fd, -1

        def write() -> None:
            with contextlib.suppress(OSError), os.fdopen(fd, "wb") as file:  # it may have died
                file.write(plan.to_line())

        asyncio.get_running_loop().run_in_executor(None, write)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def bury(self) -> int:
        """Reap what has ended; return its code."""
        code = self._process.wait()
        os.close(self.pidfd)
        self.reports.close()
        if self._plan_fd >= 0:
            os.close(self._plan_fd)
        return code


@dataclass(slots=True, eq=False)
class Feed:
    """One feed, through all its lives."""

    number: int
    rings: Sequence[_native.Ring]
    """Headers of those it writes."""
    core: int | None
    process: _Process | None = None
    link: FeedLink | None = None
    started_s: float = 0.0
    started_ns: int = 0
    """The same, since the epoch."""
    restarts: int = 0
    hangs: int = 0
    """Times it was killed because it did not beat."""
    failures: int = 0
    """Ends since it last proved itself."""
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.2, max_s=10.0))
    beats: Sequence[int] = ()
    """Its heartbeats when last looked at."""
    silent_s: float = 0.0
    """How long they have not changed, as far as we were awake to see it."""
    hung: bool = False
    """It was killed for that."""

    @property
    def beating(self) -> bool:
        """Whether this life has beaten yet."""
        return self.process is not None and self.rings[0].writer_pid == self.process.pid

    @property
    def state(self) -> str:
        """Return "waiting" (for its restart), "starting", "running" or "hung"."""
        if self.process is None:
            return "waiting"
        if self.hung:
            return "hung"
        return "running" if self.beating else "starting"


class Feeds:
    """All feed processes of an instance.

    Args:
        rings: Feed -> headers of its rings.
        cores: Feed i is pinned to cores[i]; empty: to none.
        plan_of: Returns what a feed shall do, when it is started.
        lock_fd: The instance's lock, which lasts as long as any of them.
    """

    def __init__(
        self,
        rings: Mapping[int, Sequence[_native.Ring]],
        cores: Sequence[int],
        plan_of: Callable[[int], FeedPlan],
        lock_fd: int,
    ) -> None:
        self.all = [
            Feed(number, own, cores[number] if cores else None) for number, own in rings.items()
        ]
        self.on_all_gone: Callable[[], None] = lambda: None
        """Called once, after a stop."""
        self._plan_of = plan_of
        self._events: Events
        self._lock_fd = lock_fd
        self._spares: list[_Process] = []
        self._spare_timer: asyncio.TimerHandle | None = None
        self._stopping = False
        self._looked_s = 0.0

    def prepare(self) -> None:
        """Begin to start processes, in the running loop: they import while the plans are made."""
        with contextlib.suppress(OSError):  # ``start`` will find out
            for _ in self.all:
                self._add_spare()

    def start(self, events: Events) -> None:
        """Start all of them, in the running loop.

        Args:
            events: Hears of their lives.
        """
        self._events = events
        for feed in self.all:
            self._start(feed)
        self._looked_s = monotonic()
        asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def stop(self) -> None:
        """Stop them in order; ``on_all_gone`` is called when the last is gone."""
        self._stopping = True
        loop = asyncio.get_running_loop()
        if self._spare_timer is not None:
            self._spare_timer.cancel()
        for spare in self._spares:
            spare.signal(signal.SIGKILL)
        for feed in self.all:
            if feed.process is not None:
                feed.process.signal(signal.SIGTERM)
                loop.call_later(DRAIN_S, self._kill_late, feed, feed.process)
        self._finish_when_all_are_gone()

    def _kill_late(self, feed: Feed, process: _Process) -> None:
        if feed.process is process:
            log.warning("feed %d does not stop: killed", feed.number)
            process.signal(signal.SIGKILL)

    def _finish_when_all_are_gone(self) -> None:
        if self._stopping and not self._spares and all(feed.process is None for feed in self.all):
            self.on_all_gone()

    # ---- one life ----

    def _start(self, feed: Feed) -> None:
        """Start a feed, or try again later."""
        if self._stopping:
            return
        try:
            process = self._take_spare() or _Process(self._lock_fd)
        except OSError as error:  # no memory, too many processes: it may pass
            self._start_later(feed, f"cannot be started: {error}")
            return
        feed.process = process
        feed.started_s = monotonic()
        feed.started_ns = time_ns()
        feed.silent_s = 0.0
        feed.beats = ()
        feed.hung = False
        loop = asyncio.get_running_loop()
        loop.add_reader(process.pidfd, self._reap, feed, process)
        loop.add_reader(process.reports, self._hear, feed, process.reports)
        process.give(self._plan_of(feed.number))
        feed.link = FeedLink(process.reports, [ring.index for ring in feed.rings])
        self._events.feed_started(feed.number, feed.link)
        self._start_spare_soon()

    def _start_later(self, feed: Feed, why: str) -> None:
        """Start it again: the first time at once."""
        delay_s = feed.backoff.next_s() if feed.failures else 0.0
        feed.failures += 1
        feed.restarts += 1
        log.error("feed %d %s; starting it again in %.2f s", feed.number, why, delay_s)
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self._start, feed)
        else:
            self._start(feed)

    def _reap(self, feed: Feed, process: _Process) -> None:
        """A feed has ended: bury it, and start it again unless we stop."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(process.pidfd)
        self._hear(feed, process.reports)  # its last words
        loop.remove_reader(process.reports)
        assert feed.link is not None
        feed.link.close()
        feed.link = None
        feed.process = None
        code = process.bury()
        self._events.feed_ended(feed.number)
        if self._stopping:
            self._finish_when_all_are_gone()
            return
        if monotonic() - feed.started_s >= STABLE_S:
            feed.backoff.reset()
            feed.failures = 0
        self._start_later(feed, "hung and was killed" if feed.hung else _ending(code))

    def _hear(self, feed: Feed, reports: socket.socket) -> None:
        """Take what a feed has told; some of it at a time, so that none holds up the loop."""
        for _ in range(HEARD_AT_ONCE):
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
                logging.getLogger(f"mdsys.feed.{feed.number}").log(
                    message["level"],
                    "%s",
                    message["text"],
                    extra={"origin": message.get("origin")},
                )
            else:
                self._events.feed_told(feed.number, message)

    # ---- whether they live ----

    def _look(self) -> None:
        """Kill who hangs: he holds his rings, and only his end gives them to another."""
        now_s = monotonic()
        # Not more than we slept on purpose: while the whole host stood still nobody could beat.
        passed_s = min(now_s - self._looked_s, 2 * LOOK_S)
        self._looked_s = now_s
        for feed in self.all:
            if feed.process is None or feed.hung:
                continue
            beats = [ring.heartbeat_ns for ring in feed.rings]
            feed.silent_s = 0.0 if beats != feed.beats else feed.silent_s + passed_s
            feed.beats = beats
            if feed.silent_s > (HANG_S if feed.beating else START_S) and not self._stopping:
                log.error(
                    "feed %d hangs: process %d has not beaten for %.1f s: killed",
                    *(feed.number, feed.process.pid, feed.silent_s),
                )
                feed.hung = True
                feed.hangs += 1
                feed.process.signal(signal.SIGKILL)
        if not self._stopping:
            asyncio.get_running_loop().call_later(LOOK_S, self._look)

    # ---- the spares ----

    @property
    def _spare_count(self) -> int:
        """How many there should be."""
        return (len(self.all) + 1) // 2

    def _start_spare_soon(self) -> None:
        if self._spare_timer is not None:
            self._spare_timer.cancel()
        loop = asyncio.get_running_loop()
        self._spare_timer = loop.call_later(SPARE_DELAY_S, self._start_spare)

    def _start_spare(self) -> None:
        """Have one process more that only waits; without it a restart takes longer, no more."""
        self._spare_timer = None
        if self._stopping or len(self._spares) >= self._spare_count:
            return
        with contextlib.suppress(OSError):
            self._add_spare()
            self._start_spare_soon()

    def _add_spare(self) -> None:
        process = _Process(self._lock_fd)
        self._spares.append(process)
        asyncio.get_running_loop().add_reader(process.pidfd, self._reap_spare, process)

    def _take_spare(self) -> _Process | None:
        """Return the one that has waited longest."""
        if not self._spares:
            return None
        process = self._spares.pop(0)
        asyncio.get_running_loop().remove_reader(process.pidfd)
        return process

    def _reap_spare(self, process: _Process) -> None:
        """It has ended before it was needed; the next start of a feed makes another."""
        asyncio.get_running_loop().remove_reader(process.pidfd)
        process.bury()
        self._spares.remove(process)
        self._finish_when_all_are_gone()

    def discard(self) -> None:
        """End what was prepared and will not be started; they hold the lock no more."""
        while (process := self._take_spare()) is not None:
            process.signal(signal.SIGKILL)
            process.bury()

    # ---- what they do ----

    def picture(self, now_ns: int) -> list[dict[str, Any]]:
        """Return what ``status`` tells of them."""
        return [
            {
                "feed": feed.number,
                "pid": None if feed.process is None else feed.process.pid,
                "state": feed.state,
                "restarts": feed.restarts,
                "core": feed.core,
                "beat_age_s": age_s(max(ring.heartbeat_ns for ring in feed.rings), now_ns)
                if feed.beating
                else None,
            }
            for feed in self.all
        ]


def _ending(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with code {code}"
