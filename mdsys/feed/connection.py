"""One connection to a venue: connect, subscribe, and when it is lost, again.

What the venue sends goes from the listener straight to the decoder; only its answers to our
requests, and the end of a socket, come by here.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from picows import WSMsgType, WSProtocolError, WSTransport

from mdsys.errors import ProtocolError
from mdsys.feed.backoff import Backoff
from mdsys.feed.plan import ConnectionPlan
from mdsys.feed.subscription import Subscriptions
from mdsys.feed.transport import open_socket
from mdsys.feed.venue import Venue
from mdsys.wording import plural

ANSWER_TIMEOUT_S = 10.0
STABLE_S = 30.0
"""A socket that brought data and lived this long has proved itself: the next backoff begins anew.
A server that lets us in, sends one frame and hangs up is no reason to knock twice a second."""
GOODBYE_S = 0.5
"""At a stop; longer than the listener waits for the answer to its CLOSE."""

log = logging.getLogger("mdsys.feed")


class Listener(Protocol):
    """What a connection needs of ``mdsys._listener.FrameListener``."""

    frames: int
    """Data frames decoded without complaint."""

    def close(self, code: int, reason: str) -> None:
        """Send CLOSE, ignore what still comes, and hang up soon."""

    def abandon(self) -> None:
        """Hang up as soon as there is a socket."""


class Reports(Protocol):
    """Who hears of one connection's fate: the supervisor, the counters, the rings."""

    def connect_failed(self) -> None:
        """An attempt to connect failed."""

    def symbol_refused(self, symbol: str) -> None:
        """The venue will not send ``symbol``."""

    def subscribed(self, confirmed_count: int, refused_count: int) -> None:
        """Each symbol is confirmed or refused."""

    def lost(self) -> None:
        """The open socket is gone, and its subscriptions with it."""


class Connection:
    """Keeps one socket alive until it is cancelled.

    Args:
        plan: What to connect to and to ask for.
        venue: Its facts and messages.
        listen: Makes the listener of a fresh socket from the handler of its control frames.
        reports: Hears what becomes of it.
        tls: Verifies wss servers.
        backoff: Delay before the next try.
        sleep: As ``asyncio.sleep``.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        plan: ConnectionPlan,
        venue: Venue,
        listen: Callable[[Callable[[bytes], None]], Any],
        reports: Reports,
        tls: ssl.SSLContext,
        *,
        backoff: Backoff | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._venue = venue
        self._listen = listen
        self._reports = reports
        self._tls = tls
        self._backoff = backoff or Backoff()
        self._sleep = sleep
        self._clock = clock
        self._url = venue.endpoint(plan.url or venue.url)
        self._name = f"{plan.venue} connection {plan.number}"

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        while True:
            try:
                words = await self._session()
            except (OSError, TimeoutError) as error:
                words = f"cannot connect to {self._url}: {error or type(error).__name__}"
                self._reports.connect_failed()
            delay = self._backoff.next_s()
            log.warning("%s: %s; next try in %.1f s", self._name, words, delay)
            await self._sleep(delay)

    async def _session(self) -> str:
        """Live through one socket.

        Returns:
            Why it ended.
        """
        session = _Session(
            self._name, self._plan, self._venue, self._reports, self._sleep, self._clock
        )
        listener = self._listen(session.on_control)
        transport = await open_socket(self._url, listener, tls=self._tls)
        up_since = self._clock()
        log.info("%s: up, %s", self._name, self._url)
        subscribing = asyncio.create_task(session.subscribe(transport, listener))
        gone = asyncio.ensure_future(transport.wait_disconnected())
        try:
            await asyncio.wait([gone])
        except asyncio.CancelledError:
            listener.close(1000, "")
            await asyncio.wait([gone], timeout=GOODBYE_S)
            raise
        finally:
            subscribing.cancel()
            error = gone.exception() if gone.done() else None
            self._reports.lost()
        lived_s = self._clock() - up_since
        if listener.frames and lived_s >= STABLE_S:
            self._backoff.reset()
        why = session.gave_up or _why(transport, error)
        return f"down after {lived_s:.1f} s, {listener.frames} frames: {why}"


class _Session:
    """The talk on one socket."""

    def __init__(
        self,
        name: str,
        plan: ConnectionPlan,
        venue: Venue,
        reports: Reports,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._venue = venue
        self._reports = reports
        self._sleep = sleep
        self._clock = clock
        self._next_turn_s = clock()
        self._subscriptions = Subscriptions(venue, plan.symbols, plan.channels, plan.batch_size)
        self._answered = asyncio.Event()
        self.gave_up: str | None = None

    def on_control(self, frame: bytes) -> None:
        """Take a frame that is no market data."""
        try:
            answer = self._venue.answer(frame)
        except ProtocolError as error:
            log.warning("%s: %s", self._name, error)
            return
        if answer.notice is not None:
            log.warning("%s: the venue says: %s", self._name, answer.notice)
        refused_before = len(self._subscriptions.refused)
        if self._subscriptions.take(answer):
            for symbol, words in list(self._subscriptions.refused.items())[refused_before:]:
                log.warning("%s: %s refused: %s", self._name, symbol, words)
                self._reports.symbol_refused(symbol)
            self._answered.set()
        elif answer.refusal is not None:
            log.warning("%s: the venue refuses: %s", self._name, answer.refusal)

    async def subscribe(self, transport: WSTransport, listener: Listener) -> None:
        """Send what is wanted at the venue's pace, until each symbol is answered.

        Whatever goes wrong ends the socket: one that is up and silent would fool everybody.
        """
        try:
            await self._subscribe(transport)
        except TimeoutError:
            self._give_up(listener, f"no answer to a subscribe message in {ANSWER_TIMEOUT_S:g} s")
        except Exception as error:  # a fault of ours, or of an installed venue
            log.exception("%s: cannot subscribe", self._name)
            self._give_up(listener, f"cannot subscribe: {type(error).__name__}: {error}")

    def _give_up(self, listener: Listener, why: str) -> None:
        self.gave_up = why
        listener.close(1000, "")

    async def _subscribe(self, transport: WSTransport) -> None:
        subscriptions = self._subscriptions
        while not subscriptions.complete:
            self._answered.clear()
            message = subscriptions.next_message()
            if message is not None:
                await self._turn_to_send()
                transport.send(WSMsgType.TEXT, message)
                continue
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await self._answered.wait()
        confirmed, refused = subscriptions.confirmed_count, len(subscriptions.refused)
        self._reports.subscribed(confirmed, refused)
        log.info("%s: %s confirmed, %d refused", self._name, plural(confirmed, "symbol"), refused)

    async def _turn_to_send(self) -> None:
        """Wait for our turn: the one place where a limiter over several sockets will go."""
        wait_s = self._next_turn_s - self._clock()
        if wait_s > 0:
            await self._sleep(wait_s)
        self._next_turn_s = self._clock() + self._venue.message_interval_s


def _why(transport: WSTransport, error: BaseException | None) -> str:
    """Return in words why a socket ended."""
    handshake: Any = transport.close_handshake  # picows' stubs have its enums wrong
    if isinstance(error, WSProtocolError):
        return f"closed by us: {error.code} {error}"
    if error is not None:  # out of a callback of ours
        return f"closed by us: {type(error).__name__}: {error}"
    if handshake is None:
        return "the server hung up without a CLOSE"
    by, info = "us", handshake.sent
    if handshake.recv is not None and handshake.recv_then_sent:
        by, info = "the venue", handshake.recv
    return (
        f"closed by {by}: {info.code:d} {info.reason or ''}".rstrip() if info else f"closed by {by}"
    )
