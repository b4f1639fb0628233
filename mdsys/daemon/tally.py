"""The supervisor's own numbers, written where everybody can read them: the counters segment.

Each part counts for itself; here that is gathered once a second, and stays readable when the
supervisor is dead.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from mdsys import _native
from mdsys.counters.schema import fields
from mdsys.daemon.control import Control
from mdsys.daemon.feed_link import FeedLink
from mdsys.daemon.feeds import Feeds
from mdsys.daemon.limiter import Limiter
from mdsys.daemon.notify import Notifier
from mdsys.daemon.readers import Readers
from mdsys.daemon.reload import Reload
from mdsys.daemon.rest import Rest
from mdsys.daemon.roster import Roster
from mdsys.daemon.snapshots import Snapshots

LAG_EVERY_S = 0.1
"""How often the loop's own lateness is looked at."""
RATE_SPAN_S = 0.9
"""No rate is taken of a shorter time: what came in a burst would count for a whole second."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Whose numbers they are."""

    rings: Sequence[_native.Ring]
    feeds: Feeds
    links: Mapping[int, FeedLink]
    readers: Readers
    roster: Roster
    stale_count: Callable[[], int]
    limiter: Limiter
    rest: Rest
    snapshots: Snapshots
    reload: Reload
    control: Control
    notifier: Notifier


class Rate:
    """Records a second, now and at most."""

    def __init__(self) -> None:
        self.now = 0
        self.max = 0
        self._count = 0
        self._at_s: float | None = None

    def note(self, count: int, now_s: float) -> None:
        """Take in how many there have been by now."""
        if self._at_s is None:
            self._count, self._at_s = count, now_s
        elif (passed_s := now_s - self._at_s) >= RATE_SPAN_S:
            self.now = round((count - self._count) / passed_s)
            self.max = max(self.max, self.now)
            self._count, self._at_s = count, now_s


class Tally:
    """Writes them; the supervisor's alone.

    Args:
        counters: The segment, writable.
        parts: Whose numbers.
        monotonic_s: Seconds.
    """

    def __init__(
        self,
        counters: _native.Counters,
        parts: Parts,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counters = counters
        self._parts = parts
        self._monotonic_s = monotonic_s
        self._rate = Rate()
        self._started_ns = time.time_ns()
        self._places = {name: i for i, name in enumerate(fields("system"))}
        first = len(self._places)
        self._streams = {name: first + i for i, name in enumerate(fields("subscriptions"))}
        self._lives = {name: i for i, name in enumerate(fields("lives"))}
        counters.begin_supervisor()

    def start(self) -> None:
        """Look at the loop's lateness from now on, in the running loop."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + LAG_EVERY_S
        loop.call_at(due_s, partial(self._look, loop, due_s))

    def _look(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        now_s = loop.time()
        self._counters.record_loop_lag(max(0, round((now_s - due_s) * 1e9)))
        due_s = now_s + LAG_EVERY_S
        loop.call_at(due_s, partial(self._look, loop, due_s))

    def write(self) -> None:
        """Bring them up to date."""
        parts = self._parts
        self._rate.note(sum(ring.head for ring in parts.rings), self._monotonic_s())
        control = parts.control.picture()
        numbers = {
            "started_ns": self._started_ns,
            "records_rate": self._rate.now,
            "records_rate_max": self._rate.max,
            "readers": len(parts.readers),
            "readers_registered": parts.readers.registered_count,
            "limiter_grants": parts.limiter.grant_count,
            "limiter_held": parts.limiter.held_count,
            "reconnects_held": parts.limiter.held_reconnect_count,
            "limiter_waiting": parts.limiter.waiting_count,
            "rest_requests": parts.rest.request_count,
            "rest_failures": parts.rest.failure_count,
            "rest_refusals": parts.rest.refusal_count,
            "snapshots_waiting": sum(parts.snapshots.waiting().values()),
            "reloads": parts.reload.done_count,
            "reloads_refused": parts.reload.refused_count,
            **{f"control_{name}": value for name, value in control.items()},
            "watchdog_pings": parts.notifier.ping_count,
            "log_suppressed": sum(
                getattr(handler, "dropped_count", 0) for handler in logging.getLogger().handlers
            ),
        }
        for name, place in self._places.items():
            self._counters.set_supervisor(place, numbers[name])
        streams = self._stream_counts()
        for name, place in self._streams.items():
            self._counters.set_supervisor(place, streams[name])
        self._write_lives()

    def _stream_counts(self) -> Mapping[str, int]:
        """Return how many streams are in each state, and in no other."""
        roster = self._parts.roster
        reached = roster.subscriptions.funnel()
        return {
            "desired": reached["desired"] - reached["requested"] - reached["refused"],
            "requested": reached["requested"] - reached["confirmed"],
            "confirmed": reached["confirmed"] - reached["ticking"],
            "ticking": reached["ticking"],
            "refused": reached["refused"],
            "stale": self._parts.stale_count(),
            "symbols": roster.subscriptions.symbol_count(),
        }

    def _write_lives(self) -> None:
        for feed in self._parts.feeds.all:
            link = self._parts.links.get(feed.number)
            numbers = {
                "restarts": feed.restarts,
                "hangs": feed.hangs,
                "started_ns": feed.started_ns,
                "orders_waiting": 0 if link is None else link.waiting_count,
            }
            for name, place in self._lives.items():
                self._counters.set_life(feed.number, place, numbers[name])
