"""A reader: a place in some rings of an instance, and what Python does with it."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

import numpy as np

from mdsys import _consume, _native
from mdsys.consume.arguments import choice, reader_name, ring_numbers, share, whole
from mdsys.consume.membership import Membership, replaced
from mdsys.consume.readiness import Readiness
from mdsys.consume.registration import Application, Registration
from mdsys.consume.symbol_info import SymbolInfo, symbol_bitmap
from mdsys.errors import HostError, UsageError, WriterGone
from mdsys.record.record import TICK, Ticks
from mdsys.ring.door import is_superseded

if TYPE_CHECKING:
    from mdsys.consume.attach import MarketData

POLICIES: Final = ("drop_oldest", "conflate", "lossless")
"""By their numbers in enum md_policy."""
WAITS: Final = ("adaptive", "spin", "park")
"""By their numbers in enum md_wait."""
LOOK_S: Final = 0.05
"""Between two looks at the registration of a reader that is never done."""
POLL_COUNT_DEFAULT: Final = 256
THRESHOLD_DEFAULT: Final = 0.8
QUEUE_MAX: Final = 1 << 32
"""More than a ring has."""
GRANT_SECONDS: Final = 2.0
"""A feed looks at its readers at each flush, every 50 ms when idle."""

_readers: weakref.WeakSet[Reader] = weakref.WeakSet()
"""Those of this process."""


class Reader:
    """A place in some rings of an instance. One thread's. Made by `MarketData.reader`.

    For all of its rings together, since the reader was made: ``received + filtered + conflated +
    dropped + lost`` is exactly what was published up to ``cursors``. A reader that was overrun goes
    on half a ring behind the newest record; ``lost`` tells what it missed, `refresh` what is true
    now.
    """

    def __init__(
        self,
        market_data: MarketData,
        symbols: Sequence[SymbolInfo] | None,
        *,
        rings: Iterable[int] | None = None,
        policy: str = "drop_oldest",
        wait: str = "adaptive",
        name: str | None = None,
        max_queue_size: int | None = None,
        backpressure_threshold: float | None = None,
        core: int | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        """See `MarketData.reader`.

        core: Where its thread runs, for the registry. defaults: A consumer's, as of
        `_native.ReaderPage.defaults`, where no daemon has others.
        """
        self.policy = choice("policy", policy, POLICIES)
        self.wait = choice("wait", wait, WAITS)
        self.name = reader_name(name)
        self._instance = market_data.instance
        self._directory, self._cache = market_data.directory, market_data.cache
        indices = _ring_indices(market_data, symbols, rings)
        self._rings = [market_data.rings[i] for i in indices]
        self._positions = {ring: place for place, ring in enumerate(indices)}
        self._readiness: Readiness | None = None
        self._unwatch: Callable[[], object] | None = None
        queue = _queue(policy, max_queue_size, backpressure_threshold)
        self._membership = self._join(core)
        page = self._membership.page()
        self.defaults = defaults
        if defaults is not None:
            self.defaults = defaults = page.defaults() if page.reader_id else defaults
            if max_queue_size is None:
                max_queue_size = defaults["max_queue_size"]
            if backpressure_threshold is None:
                backpressure_threshold = defaults["threshold"]
            queue = _queue(policy, max_queue_size, backpressure_threshold)
        self._poller = _consume.Loop(
            self._rings,
            symbol_bitmap(symbols),
            page,
            POLICIES.index(policy),
            WAITS.index(wait),
            *queue,
            market_data.directory.capacity,
        )
        if policy == "lossless":
            self._wait_for_grants()
        self._scratch = np.empty(POLL_COUNT_DEFAULT, TICK)
        self.poll_into: Callable[..., int] = self._poller.poll_into
        self._look_at = 0.0
        _readers.add(self)

    # ---- the registry ----

    def _join(self, core: int | None) -> Membership:
        """Ask the daemon to take us in."""
        instance, directory = self._instance, self._directory
        name, policy, wait, rings = self.name, self.policy, self.wait, list(self._positions)

        def apply() -> Application:  # holds no reader, which could not be forgotten then
            return Application(instance, directory.writer_pid, name, policy, wait, rings, core)

        lossless = bool(rings) and policy == "lossless"
        return Membership(instance, directory, apply if rings else None, lossless=lossless)

    def _wait_for_grants(self) -> None:
        """Return once every writer has said that it waits for us.

        Raises:
            HostError: One does not answer, or has no room for another lossless reader.
        """
        deadline = time.monotonic() + GRANT_SECONDS
        while len(self.granted) < len(self._rings):
            if time.monotonic() > deadline:
                waiting = ", ".join(map(str, self._positions.keys() - self.granted.keys()))
                self.close()
                raise HostError(
                    f"the writers of the rings {waiting} do not wait for this reader: their feed "
                    "is dead or stuck, or has its 16 lossless readers (mdsys stat tells)"
                )
            time.sleep(0.002)

    def keep_registered(self) -> bool:
        """Register again if the daemon was restarted; cheap, and never waits for it.

        Returns:
            Whether the daemon knows this reader.
        """
        if self._membership.keep():
            page = self._membership.page()
            page.core = self._poller.page.core
            self._poller.move(page)
            if self._readiness is not None:
                self._readiness.poke()  # the new daemon looks at another page
        return self.registered

    @property
    def registered(self) -> bool:
        """Whether the daemon knew this reader when it last looked."""
        return self.registration is not None

    @property
    def registration(self) -> Registration | None:
        """What the daemon answered; None: it does not know this reader."""
        return self._membership.registration

    @property
    def not_registered(self) -> str | None:
        """Why the daemon does not know this reader; None: it does."""
        return self._membership.why_not

    @property
    def refusal(self) -> str | None:
        """The same where there is a daemon, which refused or did not answer; else None."""
        return self._membership.refusal

    @property
    def loop(self) -> _consume.Loop:
        """What it reads with; `mdsys.Consumer` runs it."""
        return self._poller

    @property
    def page(self) -> _native.ReaderPage:
        """What `mdsys stat` sees of this reader: counters, batch size, histograms."""
        return self._poller.page

    @property
    def granted(self) -> dict[int, int]:
        """Ring -> the sequence from which on its writer overwrites nothing that is unread."""
        return {ring: grant[0] for ring, grant in self._grants() if grant is not None}

    @property
    def ejected(self) -> dict[int, int]:
        """Ring -> the first sequence that its writer no longer keeps: this reader was too slow."""
        return {ring: grant[1] for ring, grant in self._grants() if grant is not None and grant[1]}

    def _grants(self) -> Iterator[tuple[int, tuple[int, int] | None]]:
        reader_id = self.registration.reader if self.registration else 0
        for ring, place in self._positions.items():
            yield ring, self._rings[place].grant(reader_id) if reader_id else None

    # ---- counts ----

    @property
    def received(self) -> int:
        """Records handed out so far."""
        return self._poller.received

    @property
    def filtered(self) -> int:
        """Records read so far that were not of the wanted symbols."""
        return self._poller.filtered

    @property
    def conflated(self) -> int:
        """Records merged into another that was handed out."""
        return self._poller.conflated

    @property
    def dropped(self) -> int:
        """Records that the drop_oldest policy skipped."""
        return self._poller.dropped

    @property
    def lost(self) -> int:
        """Records that were overwritten before they were read, exactly."""
        return self._poller.lost

    @property
    def lag(self) -> int:
        """Records published and not yet read."""
        return sum(self._poller.lags)

    @property
    def cursors(self) -> dict[int, int]:
        """The next sequence to be read, by ring."""
        return dict(zip(self._positions, self._poller.cursors, strict=True))

    @property
    def heads(self) -> dict[int, int]:
        """The newest sequence published, by ring; 0 before the first."""
        return {ring: self._rings[place].head for ring, place in self._positions.items()}

    @property
    def epochs(self) -> dict[int, int]:
        """How many writers each ring has had; a restarted daemon or feed adds one."""
        return {ring: self._rings[place].epoch for ring, place in self._positions.items()}

    # ---- reading ----

    def poll(self, count_max: int = POLL_COUNT_DEFAULT, timeout: float = 0) -> Ticks:
        """Read what is new.

        Args:
            count_max: Most records to return, >= 1.
            timeout: Seconds to wait for the first one, >= 0; 0 does not wait.

        Returns:
            Records, dtype TICK, shape (n,), n in [0, count_max], the caller's own. Records of one
            ring are in order, rings follow one another.

        Raises:
            ValueError: ``count_max`` is below 1.
            UsageError: The reader is closed.
            WriterGone: All has been read and the segments were replaced: attach anew.
        """
        if count_max < 1:
            raise ValueError(f"count_max {count_max}: at least 1")
        if count_max > len(self._scratch):
            self._scratch = np.empty(count_max, TICK)
        scratch = self._scratch if count_max == len(self._scratch) else self._scratch[:count_max]
        count = self.poll_into(scratch, timeout)
        if count == 0:
            self.check()
        elif (now := time.monotonic()) >= self._look_at:
            self._look_at = now + LOOK_S
            self.keep_registered()
        self.rearm()
        return scratch[:count].copy()

    @property
    def superseded(self) -> bool:
        """Whether the segments were replaced: nothing more will ever be published in them."""
        return is_superseded(self._directory)

    def check(self) -> None:
        """Raise WriterGone when the segments were replaced."""
        self.keep_registered()
        if self.superseded:
            raise WriterGone(f"{replaced(self._instance)}: attach again")

    def refresh(self) -> Ticks:
        """Return the last trades and quotes among what this reader has missed.

        For who comes late, and after each lap or jump (`lost` or `dropped` has grown): a new reader
        has missed all that was before it, a lapped one what was overwritten. What is returned here,
        `poll` has not returned and never will; what is newer, `poll` returns. So call either
        whenever you like and apply what each returns as it comes: that gives the present state,
        with none missed and none repeated. Only when two laps pass without a refresh, or one before
        the first refresh, may it repeat what was polled since the older stretch; the state is right
        all the same.

        Returns:
            Records, dtype TICK, shape (n,), flagged as snapshot, at most two a symbol; those are
            left out that have had none, or whose last one was not missed. Another call returns what
            was missed since.

        Raises:
            HostError: A cell is half-written, which only a dead feed leaves behind. Nothing is
                forgotten: call again when the next feed has repaired it.
        """
        parts = list(self.refresh_parts(np.empty(4096, TICK)))
        return np.concatenate(parts, dtype=TICK) if parts else np.empty(0, TICK)

    def refresh_parts(self, room: Ticks) -> Iterator[Ticks]:
        """Yield what `refresh` returns in pieces of at most ``len(room)`` records (>= 2)."""
        self._check_open()
        directory = self._directory
        after, busy_count = 0, 0
        while self._poller.has_missed and not busy_count:
            count, after, busy_count = self._poller.refresh_into(
                directory, self._cache, room, after
            )
            if count:
                yield room[:count].copy()
            if not count and after >= len(directory):
                break
        if busy_count:
            raise HostError("a cell of the last-value cache is half-written: is the feed dead?")

    def __iter__(self) -> Iterator[np.void]:
        """Yield records one by one, waiting for them. Convenient, not quick: `poll` is."""
        while True:
            yield from self.poll(timeout=1.0)

    # ---- asyncio ----

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to read, for event loops.

        The first call starts a thread that sleeps on the doorbell. Readable until the next `poll`;
        sometimes for nothing.
        """
        self._check_open()
        if self._readiness is None:
            self._readiness = Readiness(self._poller)
        return self._readiness.fd

    def rearm(self) -> None:
        """After a read that was no `poll`: `fileno` is to tell of what comes next."""
        if self._readiness is not None:
            self._readiness.rearm()

    async def __aiter__(self) -> AsyncIterator[np.void]:
        """Yield records one by one, the event loop being free while there are none."""
        async for ticks in self.batches():
            for tick in ticks:
                yield tick

    async def batches(self, count_max: int = POLL_COUNT_DEFAULT) -> AsyncIterator[Ticks]:
        """Yield what is new, in arrays of 1 to ``count_max`` records, waiting for it in asyncio.

        Raises:
            WriterGone: The segments were replaced: attach anew.
        """
        loop = asyncio.get_running_loop()
        news = asyncio.Event()
        while True:
            ticks = self.poll(count_max)
            if len(ticks):
                yield ticks
                await asyncio.sleep(0)  # a busy ring must not starve the event loop
                continue
            news.clear()
            # Watched only while we wait: it stays readable until the next poll, and the event loop
            # would spin on it for as long as our caller has something else to wait for.
            fd = self.fileno()
            loop.add_reader(fd, news.set)
            self._unwatch = functools.partial(loop.remove_reader, fd)
            # Not wait_for: before Python 3.12 it swallows a cancellation that meets news.
            timer = loop.call_later(1.0, news.set)
            try:
                await news.wait()
            finally:
                timer.cancel()
                self._stop_watching()

    def _stop_watching(self) -> None:
        unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            unwatch()

    # ---- the end ----

    def close(self) -> None:
        """Leave the registry and end the thread of `fileno`; counts can still be looked at."""
        self.poll_into = _closed
        self._stop_watching()  # before its number is another descriptor's
        if self._readiness is not None:
            self._readiness.close()
            self._readiness = None
        if self.registered:
            self._poller.leave()
        self._membership.close()

    def _become_a_childs(self) -> None:
        """After a fork: the page, the registration and the thread are the parent's."""
        self._membership.forget()
        self._poller.move(_native.ReaderPage.private())
        self._readiness = self._unwatch = None

    def _check_open(self) -> None:
        if self.poll_into is _closed:
            _closed()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def __del__(self) -> None:
        """Close what was forgotten; at the interpreter's end that is left to the kernel."""
        if sys.is_finalizing():
            return
        if hasattr(self, "poll_into"):
            self.close()
        elif hasattr(self, "_membership"):  # it has not become one
            self._membership.close()


def _closed(*_: object) -> NoReturn:
    raise UsageError("the reader is closed")


def _queue(policy: str, max_queue_size: Any, threshold: Any) -> tuple[int, float]:
    """Return (queue_max, threshold) for the poller; queue_max 0: the policy never acts."""
    if policy == "drop_oldest" and max_queue_size is None and threshold is None:
        return 0, 1.0
    if max_queue_size is not None:
        max_queue_size = whole("max_queue_size", max_queue_size, 1)
    if threshold is not None:
        threshold = share("backpressure_threshold", threshold)
    return min(max_queue_size or QUEUE_MAX, QUEUE_MAX), threshold or THRESHOLD_DEFAULT


def _ring_indices(
    market_data: MarketData, symbols: Sequence[SymbolInfo] | None, rings: Iterable[int] | None
) -> list[int]:
    """Return the rings to read, ascending."""
    count = len(market_data.rings)
    if rings is None:
        return list(range(count)) if symbols is None else sorted({s.ring for s in symbols})
    chosen = sorted(set(ring_numbers("rings", rings)))
    if chosen[-1] >= count:
        raise UsageError(f"rings {chosen}: there are 0 to {count - 1}")
    if symbols is not None and (others := {s.ring for s in symbols} - set(chosen)):
        raise UsageError(f"some of the symbols are in the rings {sorted(others)}, not in {chosen}")
    return chosen


def _after_fork() -> None:
    for reader in list(_readers):
        reader._become_a_childs()  # noqa: SLF001


os.register_at_fork(after_in_child=_after_fork)
