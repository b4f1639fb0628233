"""Whole books by REST, for the feeds whose venues stream differences only.

Wishes are served in the order in which they came, at the pace of the limiter; books that have been
in step before and fresh ones take turns, so that a live book does not wait behind a start of
thousands. A symbol is never asked for twice at one time: a feed judges what it gets, and wishes
again where that does not fit.

How deep: the cheapest snapshot of at least ``DEPTH_LEAST`` levels a side. The feed shows ten; it
knows a side only down to the snapshot's worst level, so the rest is what the price may move before
the book must be had anew. A symbol whose wishes follow one another within ``CALM_S`` gets the next
deeper one each time, and waits a little longer: a quick market pays for its depth, a quiet one
does not, and a book that never fits costs little. After the loss of its socket it begins anew.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mdsys.daemon.rest import RestError
from mdsys.errors import FeedError
from mdsys.feed.venue import BookSnapshots, Fetch
from mdsys.feed.window import MonotonicClock

DEPTH_LEAST: Final = 100
CALM_S: Final = 600.0
"""A book that needed no snapshot for so long begins anew."""
DELAY_S_FIRST: Final = 0.5
DELAY_S_MAX: Final = 60.0
AT_ONE_TIME: Final = 8
"""Requests under way to one venue: the limiter sets the pace, this hides the way there and back."""
COMPLAINT_S: Final = 30.0
"""At most one log line for each venue's failures in so long."""

log = logging.getLogger("mdsys.daemon")

Deliver = Callable[[str, str, bytes, int], None]
"""Takes venue, symbol, the body as the venue sent it, and the levels a side that were asked for."""


def depth_steps(book: BookSnapshots) -> tuple[int, ...]:
    """Return the depths worth asking for, ascending: deeper must be dearer, else it is taken."""
    enough = [depth for depth in sorted(book.weights) if depth >= DEPTH_LEAST]
    steps = enough or [max(book.weights)]
    return tuple(
        depth
        for depth in steps
        if not any(other > depth and book.weights[other] <= book.weights[depth] for other in steps)
    )


@dataclass(slots=True)
class _Past:
    """What a symbol has had."""

    at: float
    """When it was answered last."""
    again: int = 0
    """How many wishes and failures have followed one another since it was calm."""
    step: int = 0
    """Which depth is next."""


class _Venue:
    """The wishes of one venue; a symbol is in one of four states, or in none.

    Fresh and again wait for a request, later waits for its delay, under way waits for an answer.
    """

    def __init__(
        self,
        name: str,
        book: BookSnapshots,
        fetch: Fetch,
        deliver: Deliver,
        clock: MonotonicClock,
    ) -> None:
        self.name = name
        self.book = book
        self.fetch = fetch
        self.steps = depth_steps(book)
        self._deliver = deliver
        self._clock = clock
        self._fresh: dict[str, None] = {}
        self._again: dict[str, None] = {}
        self._again_is_next = True
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._under_way: dict[str, bool] = {}
        """Symbol -> whether it is still wanted."""
        self.past: dict[str, _Past] = {}
        self.refusals: dict[str, str] = {}
        """Symbol -> the last answer, where it was that asking again is in vain."""
        self._workers: set[asyncio.Task[None]] = set()
        self._failed_count = 0
        self._complained_at = -math.inf

    @property
    def waiting_count(self) -> int:
        return len(self._fresh) + len(self._again) + len(self._later) + len(self._under_way)

    def want(self, symbol: str) -> None:
        if symbol in self._under_way:
            self._under_way[symbol] = True
        elif not (symbol in self._fresh or symbol in self._again or symbol in self._later):
            past = self.past.get(symbol)
            if past is None or self._clock() - past.at > CALM_S:
                self.past.pop(symbol, None)
                self._fresh[symbol] = None
                self._work()
            else:
                past.step = min(past.step + 1, len(self.steps) - 1)
                self._want_again(symbol, past)

    def _want_again(self, symbol: str, past: _Past) -> None:
        """Queue a symbol that has been answered lately: the first time at once."""
        past.again += 1
        if past.again == 1:
            self._again[symbol] = None
            self._work()
            return
        delay_s = min(DELAY_S_MAX, DELAY_S_FIRST * 2.0 ** min(past.again - 2, 16))
        loop = asyncio.get_running_loop()
        self._later[symbol] = loop.call_later(delay_s, self._is_later, symbol)

    def _is_later(self, symbol: str) -> None:
        del self._later[symbol]
        self._again[symbol] = None
        self._work()

    def forget(self, symbol: str) -> None:
        for held in (self._fresh, self._again, self.past, self.refusals):
            held.pop(symbol, None)
        if timer := self._later.pop(symbol, None):
            timer.cancel()
        if symbol in self._under_way:
            self._under_way[symbol] = False

    async def close(self) -> None:
        for symbol in [*self._fresh, *self._again, *self._later, *self._under_way]:
            self.forget(symbol)
        workers = list(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    # ---- work ----

    def _work(self) -> None:
        """Have as many workers as there is work for."""
        if self._workers_are_enough():
            return
        task = asyncio.get_running_loop().create_task(self._serve())
        self._workers.add(task)
        task.add_done_callback(self._workers.discard)

    def _workers_are_enough(self) -> bool:
        idle = len(self._workers) - len(self._under_way)  # begun, and about to take one
        wishes = len(self._fresh) + len(self._again)
        return len(self._workers) >= AT_ONE_TIME or idle >= wishes

    async def _serve(self) -> None:
        while (symbol := self._take()) is not None:
            self._under_way[symbol] = True
            try:
                again = await self._ask(symbol)
            finally:
                wanted = self._under_way.pop(symbol)
            past = self.past.setdefault(symbol, _Past(0.0))
            past.at = self._clock()
            if not wanted:
                self.forget(symbol)
            elif again:
                self._want_again(symbol, past)

    def _take(self) -> str | None:
        """Take the next wish, of the two kinds in turn."""
        queues = [self._again, self._fresh]
        if not self._again_is_next:
            queues.reverse()
        self._again_is_next = not self._again_is_next
        for queue in queues:
            if queue:
                symbol = next(iter(queue))
                del queue[symbol]
                return symbol
        return None

    async def _ask(self, symbol: str) -> bool:
        """Fetch one snapshot and hand it over; return whether to ask again by ourselves."""
        past = self.past.get(symbol)
        depth = self.steps[min(past.step, len(self.steps) - 1) if past else 0]
        try:
            body = await self.fetch(
                self.book.path,
                params=self.book.params(symbol, depth),
                weight=self.book.weights[depth],
            )
        except FeedError as error:
            self._complain(symbol, error)
            if isinstance(error, RestError) and error.is_final:
                self.refusals[symbol] = str(error)
                return False
            return True
        self.refusals.pop(symbol, None)
        if self._under_way[symbol]:
            try:
                self._deliver(self.name, symbol, body, depth)
            except Exception:  # its feed's fault; the other symbols' snapshots go on
                log.exception("%s: the snapshot of %s cannot be handed over", self.name, symbol)
        return False

    def _complain(self, symbol: str, error: FeedError) -> None:
        self._failed_count += 1
        now = self._clock()
        if now - self._complained_at < COMPLAINT_S:
            return
        others = f" (and {self._failed_count - 1} before it)" if self._failed_count > 1 else ""
        log.warning("no snapshot of %s: %s%s", symbol, error, others)
        self._failed_count = 0
        self._complained_at = now


class Snapshots:
    """Fetches snapshots of books, and hands them over. Lives in the supervisor's loop.

    Args:
        deliver: Called with each.
        clock: Seconds that never step back.
    """

    def __init__(self, deliver: Deliver, clock: MonotonicClock = time.monotonic) -> None:
        self._deliver = deliver
        self._clock = clock
        self._venues: dict[str, _Venue] = {}

    def add_venue(self, name: str, book: BookSnapshots, fetch: Fetch) -> None:
        """Take a venue, or another way to ask a known one; its wishes stay."""
        if (venue := self._venues.get(name)) is None:
            self._venues[name] = _Venue(name, book, fetch, self._deliver, self._clock)
        else:
            venue.book, venue.fetch, venue.steps = book, fetch, depth_steps(book)

    def wanted(self, name: str, symbols: Iterable[str]) -> None:
        """Take wishes; a symbol that waits or is under way already has the same wish."""
        for symbol in symbols:
            self._venues[name].want(symbol)

    def forget(self, name: str, symbols: Iterable[str]) -> None:
        """Drop the wishes of symbols that nobody subscribes to any more."""
        if venue := self._venues.get(name):
            for symbol in symbols:
                venue.forget(symbol)

    def lost(self, name: str, symbols: Iterable[str]) -> None:
        """Note that the socket of symbols is gone: their next wish is no sign of a quick market."""
        if venue := self._venues.get(name):
            for symbol in symbols:
                venue.past.pop(symbol, None)

    def waiting(self) -> Mapping[str, int]:
        """Return how many snapshots of each venue are wished for and not there yet."""
        return {name: venue.waiting_count for name, venue in self._venues.items()}

    def refusal(self, name: str, symbol: str) -> str | None:
        """Return the venue's words if it has refused a symbol's snapshot for good; else None."""
        venue = self._venues.get(name)
        return None if venue is None else venue.refusals.get(symbol)

    async def close(self) -> None:
        """Give up everything."""
        for venue in self._venues.values():
            await venue.close()
