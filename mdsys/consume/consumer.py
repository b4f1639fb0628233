"""A consumer: reads, keeps up or degrades as it was asked to, and calls a strategy's handlers.

The loop is native (native/include/mdsys/consumer.h) and comes back here for what only Python can
do: call Python's handlers, tell of events, see signals, and attach anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

from mdsys.consume.arguments import plain_function
from mdsys.consume.attachment import Attachment, Settings
from mdsys.consume.consumer_stats import Totals
from mdsys.consume.dispatch import BATCH, FAILED, NEWS, TIME, Dispatch
from mdsys.consume.event import Event
from mdsys.consume.place import own_core
from mdsys.consume.route import Route
from mdsys.consume.sigterm import heeding_sigterm
from mdsys.errors import HostError, LayoutError, NotRunning, UsageError
from mdsys.record.record import Ticks

SLICE_S: Final = 0.05
"""Between two looks for signals and at the daemon: a run ends at most so late."""
RETRY_S: Final = 0.05
"""Between two attempts to attach anew."""
SYMBOL_RETRIES: Final = 200
"""A new daemon's directory may be a moment without its symbols; then they are not there at all."""
REFRESH_SHARE: Final = 0.1
"""Most of its time that a consumer under overload spends on the cache."""

Function = TypeVar("Function")
log = logging.getLogger("mdsys.consume")


class Consumer:
    """Reads an instance and calls handlers; docs/consumers.md is the guide.

    One thread's, but for `stop` and `stats`. `run` attaches, and detaches when it returns; in a
    ``with`` block the consumer stays attached from run to run.

    Args:
        instance: Its name in the daemon's configuration.
        handler: As of `on`, for all kinds and symbols; more by `on`.
        symbols: Names or globs to read at all; None: every symbol.
        rings: Numbers of the rings to read; None: all, or those of the symbols.
        name: In the daemon's registry, [A-Za-z0-9._-]{1,31}; None: the program's.
        policy: ``drop_oldest``, ``conflate`` or ``lossless``: what to do when it falls behind.
        wait: ``spin``, ``park`` or ``adaptive``; None: spin where ``core`` is given, else adaptive.
        core: To be pinned to; None: as the daemon's configuration says for this name, else none.
        state: The handler's, see `on`.
        on_error: What a failing handler does: ``stop`` raises HandlerError out of `run`, ``skip``
            counts and reports it and goes on behind the tick.
        batch_size: Most records a handler is called with, while not past the threshold.
        adaptive_batching: Whether the batch grows with the lag, and is one record without.
        backpressure_threshold: The share of ``max_queue_size`` at which the policy acts, in (0, 1].
        max_queue_size: Records of a ring that may wait; the ring's size where that is less.
        on_event: Called with each `Event`, between two batches; what it raises leaves `run`.

    The last five but ``on_event`` come from the daemon's configuration where they are None.
    """

    def __init__(
        self,
        instance: str = "default",
        handler: Any = None,
        *,
        symbols: str | Iterable[str] | None = None,
        rings: Iterable[int] | None = None,
        name: str | None = None,
        policy: str = "drop_oldest",
        wait: str | None = None,
        core: int | None = None,
        state: Any = None,
        on_error: str = "stop",
        batch_size: int | None = None,
        adaptive_batching: bool | None = None,
        backpressure_threshold: float | None = None,
        max_queue_size: int | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        """See the class."""
        self._settings = Settings.checked(
            instance=instance,
            symbols=symbols,
            rings=rings,
            name=name,
            policy=policy,
            wait=wait,
            core=core,
            batch_size=batch_size,
            adaptive_batching=adaptive_batching,
            backpressure_threshold=backpressure_threshold,
            max_queue_size=max_queue_size,
        )
        if on_event is not None:
            plain_function("on_event", on_event)
        self._on_event = on_event
        self._dispatch = Dispatch(on_error, self._tell)
        self._attached: Attachment | None = None
        self._past = Totals()
        self._events: deque[Event] = deque()
        self._noticed: set[str] = set()
        self._core_now: int | None = None
        self._running = False
        self._stopping = False
        self._standing: contextlib.ExitStack | None = None
        """What an iteration holds that waits for its caller to go on."""
        self._refresh_at = 0.0
        self._wake: Callable[[], object] = _nothing
        self._unwatch: Callable[[], object] = _nothing
        if handler is not None:
            self.on(handler, state=state)
        elif state is not None:
            raise UsageError("state: whose? give it with a handler")

    @overload
    def on(
        self,
        handler: Function,
        *,
        kinds: Any = None,
        symbols: str | Iterable[str] | None = None,
        state: Any = None,
        per: str | None = None,
    ) -> Function: ...
    @overload
    def on(
        self,
        handler: None = None,
        *,
        kinds: Any = None,
        symbols: str | Iterable[str] | None = None,
        state: Any = None,
        per: str | None = None,
    ) -> Callable[[Function], Function]: ...
    def on(
        self,
        handler: Any = None,
        *,
        kinds: Any = None,
        symbols: str | Iterable[str] | None = None,
        state: Any = None,
        per: str | None = None,
    ) -> Any:
        """Call a handler with what this consumer reads; also a decorator.

        Native ones are called first, each in the order of these calls. All get every status that
        concerns the ring or one of their symbols, whatever their kinds: look at ``kind`` first.

        Args:
            handler: What `mdsys.handler` or `mdsys.native_handler` made, or any Python callable.
                A callable gets an array of TICK, a read-only view that is valid until it returns
                (keep ``ticks.copy()``), and then the state, if there is one or it takes two.
            kinds: `Kind` or its name, one or several; None: all.
            symbols: Names or globs among the consumer's; None: all.
            state: What the handler is called with as well. A Numba handler's is an array, see
                `mdsys.handler`; a C function's any writable buffer.
            per: Of a Python callable: ``batch`` (None), or ``tick``: a row at a time, convenient
                and slow.

        Raises:
            UsageError: One of these is not what it should be.
        """
        if handler is None:
            return lambda function: self.on(
                function, kinds=kinds, symbols=symbols, state=state, per=per
            )
        if self._running:
            raise UsageError("on: not while the consumer runs")
        self._dispatch.routes.append(Route(handler, kinds, symbols, state, per))
        return handler

    # ---- attached ----

    def attach(self) -> Self:
        """Warm up and take a place at the head of the rings, if that is not done yet.

        Handlers are compiled first and the rings brought into memory, so that the first tick waits
        for nothing.

        Raises:
            NotRunning: There is no such instance; or ``lossless``, and no daemon that could wait.
            UsageError: A symbol is not in it, or a Numba handler cannot be compiled.
            HostError: ``lossless``, and the daemon refuses; Numba is not installed.
        """
        for route in self._dispatch.routes:
            route.compile()
        if self._attached is None:
            # Of the past nothing is handed out: `MarketData.last_quote` has it.
            self._attach().loop.forget_missed()
        return self

    def _attach(self) -> Attachment:
        attached = Attachment(self._settings)
        attached.reader.page.core = self._core_now
        self._dispatch.forget()
        self._attached = attached
        if self._stopping:
            attached.loop.stop()
        self._notice_refusal(attached)
        return attached

    def close(self) -> None:
        """Detach, and end an iteration that was left; `stats` stay."""
        self._end_standing()
        if self._running:
            raise UsageError("close: not while the consumer runs; stop() ends it")
        self._detach()

    def _detach(self) -> None:
        attached = self._attached
        if attached is None:
            return
        self._unwatch()
        self._unwatch = _nothing
        past = self._past.plus(attached.reader, attached.begun)
        self._past, self._attached = past, None
        attached.close()

    def __enter__(self) -> Self:
        """Attach, and stay so until the block ends."""
        return self.attach()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Detach."""
        self.close()

    # ---- running ----

    def run(self) -> None:
        """Read and call the handlers until `stop` or SIGTERM, and then what was published by then.

        SIGTERM is heeded in the main thread alone. Ctrl-C raises KeyboardInterrupt at once.

        Raises:
            HandlerError: A handler failed, and ``on_error`` is ``stop``. In a ``with`` block
                another `run` goes on behind the tick.
            UsageError: There is no handler.
            MdsysError: As of `attach`.
        """
        if not self._dispatch.routes:
            raise UsageError("run: there is no handler; give one, or iterate")
        turns = self._turns(SLICE_S, iterating=False)
        with self._session(), contextlib.closing(turns):
            for _ in turns:
                time.sleep(RETRY_S)

    def __iter__(self) -> Iterator[Ticks]:
        """Yield batches until `stop` or SIGTERM, and then what was published by then.

        Handlers go first. Each batch is a read-only view of all that the consumer reads, valid
        until the next.
        """
        with self._iteration(SLICE_S) as (turns, held):
            for ticks in turns:
                if ticks is None:
                    time.sleep(RETRY_S)
                else:
                    with self._left_standing(held):
                        yield ticks

    async def __aiter__(self) -> AsyncIterator[Ticks]:
        """Yield batches as `__iter__` does, the event loop being free while there are none."""
        loop = asyncio.get_running_loop()
        news = asyncio.Event()
        with self._iteration(0.0) as (turns, held):
            held.callback(self._stop_watching)
            self._wake = lambda: loop.call_soon_threadsafe(news.set)
            for ticks in turns:
                if ticks is not None:
                    with self._left_standing(held):
                        yield ticks
                    await asyncio.sleep(0)  # a busy ring must not starve the event loop
                    continue
                attached = self._attached
                news.clear()
                if attached is not None:
                    fd = attached.reader.fileno()
                    attached.reader.rearm()
                    loop.add_reader(fd, news.set)  # as of Reader.batches
                    self._unwatch = functools.partial(loop.remove_reader, fd)
                # Not wait_for: before Python 3.12 it swallows a cancellation that meets news.
                timer = loop.call_later(SLICE_S, news.set)
                try:
                    await news.wait()
                finally:
                    timer.cancel()
                    self._unwatch()
                    self._unwatch = _nothing

    @contextlib.contextmanager
    def _iteration(
        self, seconds: float
    ) -> Iterator[tuple[Generator[Ticks | None, None, None], contextlib.ExitStack]]:
        """Give turns to iterate over, and what holds all that goes with them until the end."""
        with contextlib.ExitStack() as held:
            held.enter_context(self._session())
            turns = self._turns(seconds, iterating=True)
            yield held.enter_context(contextlib.closing(turns)), held

    @contextlib.contextmanager
    def _left_standing(self, held: contextlib.ExitStack) -> Iterator[None]:
        """While the caller has a batch: he may never come back, of which we are not told."""
        self._standing = held
        try:
            yield
        finally:
            if self._standing is held:
                self._standing = None

    def _end_standing(self) -> None:
        """End an iteration that was left by ``break``; if it goes on after all, it is at its end.

        Of an asynchronous one it is the event loop that would end it, and only some time later.
        """
        held, self._standing = self._standing, None
        if held is not None:
            held.close()

    def _stop_watching(self) -> None:
        self._unwatch()
        self._wake = self._unwatch = _nothing

    def stop(self) -> None:
        """End `run` or an iteration, from any thread, a handler or a signal's; also beforehand."""
        self._stopping = True
        attached = self._attached
        if attached is not None:
            attached.loop.stop()
        self._wake()

    @contextlib.contextmanager
    def _session(self) -> Iterator[None]:
        stopping = self._stopping
        self._end_standing()
        self._stopping = stopping  # also beforehand
        if self._running:
            raise UsageError("the consumer runs already: one thread's, one at a time")
        self._running = True
        own = self._attached is None
        try:
            self.attach()
            assert self._attached is not None
            required = self._settings.core is not None
            with heeding_sigterm(self.stop), own_core(self._attached, required=required) as found:
                self._core_now = self._attached.reader.page.core = found.core
                # What of the host costs time matters to who asked for a core.
                level = logging.INFO if self._attached.core is None else logging.WARNING
                self._notice(level, *found.notices)
                yield
        finally:
            self._running = self._stopping = False
            self._core_now = None
            if self._attached is not None:
                self._attached.reader.page.core = None
                self._attached.loop.go_on()
            if own:
                self._detach()

    def _notice(self, level: int, *notices: str) -> None:
        """Say each once."""
        for notice in notices:
            if notice not in self._noticed:
                self._noticed.add(notice)
                log.log(level, "%s", notice)

    def _notice_refusal(self, attached: Attachment) -> None:
        if (refusal := attached.reader.refusal) is not None:
            self._notice(logging.WARNING, f"not in the daemon's registry: {refusal}")

    def _turns(self, seconds: float, *, iterating: bool) -> Generator[Ticks | None, None, None]:
        """Read and hand out, in slices of ``seconds``.

        Yields:
            Batches, where iterating; None: there is nothing to do but to wait a little.
        """
        attached = self._attached
        assert attached is not None
        attached.begin(self._dispatch.routes, iterating=iterating)
        heads: dict[int, int] | None = None  # up to which it reads before it ends
        look_at = 0.0
        while True:
            if self._stopping:
                heads = attached.reader.heads if heads is None else heads
                attached.loop.go_on()
            if heads is not None and attached.has_read(heads):
                self._look()
                self._refresh_at = 0.0
                yield from self._refresh(attached, iterating=iterating)
                return
            result = attached.loop.run(seconds if heads is None else 0.0)
            if result == BATCH:
                yield from self._dispatch.hand_out(attached, iterating=iterating)
            elif result == FAILED:
                self._dispatch.native_failed(attached)
            now = time.monotonic()
            if now >= look_at or result == NEWS:
                look_at = now + SLICE_S
                self._look()
                yield from self._refresh(attached, iterating=iterating)
                if heads is None and attached.is_over():
                    yield from self._attach_anew()
                    if self._attached is None:  # stopped
                        return
                    attached = self._attached
                    attached.begin(self._dispatch.routes, iterating=iterating)
                    look_at = 0.0
            if result == TIME and seconds == 0 and heads is None:
                yield None

    # ---- looking after itself ----

    def _look(self) -> None:
        """Tell what has happened."""
        if self._attached is not None:
            self._events.extend(self._attached.watch.look())
            self._notice_refusal(self._attached)
        while self._events:
            self._tell(self._events.popleft())

    def _tell(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)

    def _refresh(self, attached: Attachment, *, iterating: bool) -> Iterator[Ticks]:
        """After a loss: hand out what the cache has of it, and nothing else in between.

        A cell that a dead feed has left half-written is waited for; what was handed out then comes
        once more with it.
        """
        began = time.monotonic()
        loop, market_data = attached.loop, attached.market_data
        if not loop.has_missed or began < self._refresh_at:
            return
        after = busy_count = 0
        while loop.has_missed and not busy_count:
            count, after, busy_count = loop.refresh_into(
                market_data.directory, market_data.cache, attached.batch, after
            )
            if count:
                yield from self._dispatch.load(attached, count, iterating=iterating)
            elif after >= len(market_data.directory):
                break
        now = time.monotonic()
        self._refresh_at = now + (now - began) / REFRESH_SHARE

    def _attach_anew(self) -> Iterator[None]:
        """Wait for the segments of the next daemon; handlers keep their states.

        What was published there before counts as missed, so that a refresh brings it.
        """
        registered = self._attached is not None and self._attached.watch.registered
        self._detach()
        missing_count = 0
        while not self._stopping:
            try:
                self._attach().watch.registered = registered
            except UsageError:  # a symbol is missing
                missing_count += 1
                if missing_count == SYMBOL_RETRIES:
                    raise
            except (NotRunning, LayoutError, HostError):
                pass
            else:
                text = f"attached to the new segments of instance {self._settings.instance!r}"
                self._events.append(Event("reattached", text=text))
                self._refresh_at = 0.0
                return
            yield None

    # ---- figures ----

    def stats(self) -> dict[str, Any]:
        """Return counts, since the consumer was made, and how it stands.

        From other threads than its own too; but only while no batch is being read is it exact that
        received + filtered + conflated + dropped + lost == the sum of published.
        """
        attached, past = self._attached, self._past
        settings = self._settings
        shown: dict[str, Any] = {
            "name": settings.name,
            "policy": settings.policy,
            "wait": settings.wait,
            "attached": attached is not None,
        }
        if attached is None:
            return shown | past.shown()
        reader = attached.reader
        now, least, most = reader.page.batch
        return (
            shown
            | past.plus(reader, attached.begun).shown()
            | {
                "registered": reader.registered,
                "not_registered": reader.not_registered,
                "core": reader.page.core,
                "batch": {"now": now, "min": least, "max": most},
                "lag": reader.lag,
                "cursors": reader.cursors,
                "granted": reader.granted,
                "ejected": reader.ejected,
            }
        )


def _nothing() -> None:
    pass
