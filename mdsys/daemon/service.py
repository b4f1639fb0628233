"""The daemon as a service: when it is ready, how it is, and whether it lives.

*Ready* is when every stream is confirmed or refused, or asked for where the venue answers nothing;
what waits for a secret that a venue does not take is not waited for. A venue that is down shall not
keep the daemon from starting for ever: at the deadline, which the status line states, it is ready
too, and the status line goes on telling what has not been answered.

*Alive* is who turns its loop. The pings come from the supervisor's, and only while each feed's
heart beats: so they pause from the moment a feed hangs until it has been killed and replaced. A
feed that has died does not hang, and one that begins is given the time that it may take; a market
that is silent stops no heart.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from mdsys.daemon.feeds import Feed
from mdsys.daemon.notify import Notifier
from mdsys.daemon.readers import Refused
from mdsys.daemon.roster import Roster
from mdsys.wording import plural

READY_S = 60.0
"""The deadline, from the start of the feeds on; a manager allows 90 s if it is told nothing."""
MARGIN_S = 10.0
"""By which the manager is asked to be more patient than that."""
LOOK_S = 0.25
"""At most so long apart are two looks at the hearts, which beat every 0.05 s."""

log = logging.getLogger("mdsys.daemon")


class _Feeds(Protocol):
    @property
    def all(self) -> Sequence[Feed]: ...


class Service:
    """Tells the service manager, and says nothing where there is none.

    Args:
        notifier: Speaks to it.
        roster: What is wanted, and what has become of it.
        feeds: The processes.
        stale_count: Returns how many streams are silent beyond their habit.
        now_s: Seconds since the epoch.
        monotonic_s: Seconds.
    """

    def __init__(
        self,
        notifier: Notifier,
        roster: Roster,
        feeds: _Feeds,
        stale_count: Callable[[], int],
        *,
        now_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notifier = notifier
        self._roster = roster
        self._feeds = feeds
        self._stale_count = stale_count
        self._now_s = now_s
        self._monotonic_s = monotonic_s
        self._ready = False
        self._stopping = False
        self._reload_count = 0
        """Reloads under way."""
        self._deadline_s = 0.0
        self._prefix = ""
        self._reload_trouble = ""
        """What came of the last reload, where that is not what was wished for."""
        self._told = ""
        """The last status line."""
        self._beats: Mapping[int, Sequence[int]] = {}
        """Feed -> its heartbeats at the last look."""
        self._due_s = 0.0
        """When the next ping is."""

    def start(self) -> None:
        """Begin to tell, in the running loop."""
        if not self._notifier.heard:
            return
        self._deadline_s = self._monotonic_s() + READY_S
        latest = time.strftime("%H:%M:%S", time.gmtime(self._now_s() + READY_S))
        self._prefix = f"starting, ready at {latest} UTC at the latest: "
        self._told = self._status()
        self._notifier.starting(READY_S + MARGIN_S, self._told)
        if self._notifier.watchdog_s is not None:
            self._watch(min(LOOK_S, self._notifier.watchdog_s / 8))

    def look(self) -> None:
        """See whether all is answered, and tell what has changed."""
        if not self._notifier.heard or self._stopping:
            return
        if not self._ready:
            missing = self._roster.subscriptions.unanswered_count(self._roster.denied())
            late = self._monotonic_s() >= self._deadline_s
            if missing and late:
                log.warning(
                    "counted as started: no answer to %s in %.0f s; it goes on trying",
                    *(plural(missing, "stream"), READY_S),
                )
            if not missing or late:
                self._ready, self._prefix = True, ""
                self._told = self._status()
                self._notifier.ready(self._told)
                return
        status = self._status()
        if status != self._told:
            self._told = status
            self._notifier.status(status)
        self._notifier.flush()

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Tell of a reload, as long as the block lasts, and how it went until the next one.

        Before it is ready it is not told: its end would be taken for that of the start.
        """
        tells = self._ready and not self._stopping
        if tells:
            self._reload_count += 1
            if self._reload_count == 1:
                self._notifier.reloading()
        try:
            yield
            self._reload_trouble = ""
        except Refused:
            self._reload_trouble = "; the last reload was refused: nothing has changed"
            raise
        except Exception:
            self._reload_trouble = "; the last reload broke off: a fault of ours, see the log"
            raise
        finally:
            if tells:
                self._reload_count -= 1
                if not self._reload_count and not self._stopping:
                    self._told = self._status()
                    self._notifier.ready(self._told)

    def stop(self) -> None:
        """Tell that the end has begun; nothing is told after that."""
        self._stopping = True
        self._notifier.stopping("stopping: the feeds close their sockets")

    # ---- how it is ----

    def _status(self) -> str:
        streams = self._roster.subscriptions.funnel()
        connections = list(self._roster.connections.all.values())
        unanswered = self._roster.subscriptions.unanswered_count()
        feeds = self._feeds.all
        up = sum(each.up for each in connections)
        denied = sum(each.state == "denied" for each in connections)
        running = sum(each.state == "running" for each in feeds)
        return (
            f"{self._prefix}{streams['ticking']:,} of {plural(streams['desired'], 'stream')} tick"
            f"{_more(unanswered, 'not answered')}{_more(streams['refused'], 'refused')}"
            f"{_more(self._stale_count(), 'stale')}; "
            f"{up:,} of {plural(len(connections), 'connection')} up{_more(denied, 'denied')}; "
            f"{running} of {plural(len(feeds), 'feed')} up{self._reload_trouble}"
        )

    # ---- whether it lives ----

    def _watch(self, look_s: float) -> None:
        """Ping twice in the time that is allowed, or as soon after that as all hearts beat."""
        assert self._notifier.watchdog_s is not None
        now_s = self._monotonic_s()
        if self._all_turn() and now_s >= self._due_s:
            self._due_s = now_s + self._notifier.watchdog_s / 2 - look_s
            self._notifier.ping()
        asyncio.get_running_loop().call_later(look_s, self._watch, look_s)

    def _all_turn(self) -> bool:
        """Return whether no feed hangs: each that has a heart has beaten since the last look.

        One that was killed for hanging is dead, whenever its successor may begin.
        """
        beats = {
            feed.number: [ring.heartbeat_ns for ring in feed.rings]
            for feed in self._feeds.all
            if feed.beating
        }
        stand = any(self._beats.get(number) == each for number, each in beats.items())
        self._beats = beats
        return not stand and not any(feed.hung and feed.process for feed in self._feeds.all)


def _more(count: int, word: str) -> str:
    return f", {count:,} {word}" if count else ""
