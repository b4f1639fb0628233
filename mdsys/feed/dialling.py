"""From the leave to connect to an open socket."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from picows import WSProtocolError, WSTransport

from mdsys.feed.hangup import Hangup
from mdsys.feed.outbox import Outbox, Sleep
from mdsys.feed.permits import CONNECT, MESSAGE, Grant, NotPermitted, Permits
from mdsys.feed.plan import ConnectionPlan
from mdsys.feed.session import Session
from mdsys.feed.subscription import Subscriptions, Told, batch_streams
from mdsys.feed.transport import UpgradeRefused, open_socket
from mdsys.feed.veil import Veil
from mdsys.feed.venue import Stream, Venue

DENYING = (401, 403)
"""HTTP statuses that say that the credential is no good; dialling on would only get us banned."""
TURNING_AWAY = (406, 418, 429, 503)
"""Those that say that we come too often, or are too many."""


class Failed(Exception):
    """It did not come to an open socket; the words are fit to be shown.

    Attributes:
        http: The status of the server's answer; None: it gave none.
        turned_away: Whether it was too much for the venue.
        retry_after_s: How long it asks us to stay away.
    """

    def __init__(
        self,
        words: str,
        http: int | None = None,
        *,
        turned_away: bool = False,
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(words)
        self.http = http
        self.turned_away = turned_away
        self.retry_after_s = retry_after_s


class NotAdmitted(Exception):
    """No socket until something is mended; the words are fit to be shown."""

    def __init__(self, words: str, http: int | None = None) -> None:
        super().__init__(words)
        self.http = http


@dataclass(slots=True, eq=False)
class Socket:
    """One open socket, with all that belongs to it alone."""

    grant: Grant
    session: Session
    listener: Any
    """An ``mdsys._listener.FrameListener``."""
    transport: WSTransport
    outbox: Outbox
    hangup: Hangup
    veil: Veil
    shown: str
    """Its address, without secrets."""
    since_s: float
    speaks: bool
    """Whether what becomes of its streams is told; of a successor's not before it takes over."""
    gone: asyncio.Future[None] = field(init=False)
    talking: asyncio.Task[None] = field(init=False)

    def start(self) -> None:
        """Begin to talk."""
        self.gone = asyncio.ensure_future(self.transport.wait_disconnected())
        self.gone.add_done_callback(self._bury)
        self.talking = asyncio.create_task(self.session.run(self.outbox))

    def _bury(self, gone: asyncio.Future[None]) -> None:
        if not gone.cancelled():
            gone.exception()  # it is looked at by ``why``, or by nobody
        self.talking.cancel()
        self.hangup.close()
        self.outbox.close()
        self.grant.ended()

    def close(self) -> None:
        """Send CLOSE and hang up soon; ``gone`` tells when."""
        self.talking.cancel()
        self.listener.close(1000, "")

    @property
    def ended(self) -> bool:
        """Whether it is gone, or about to be closed."""
        return self.gone.done() or self.session.over.is_set()

    def why(self) -> str:
        """Return in words why it ended."""
        if self.session.ending is not None:
            return self.session.ending
        error = self.gone.exception() if self.gone.done() else None
        words = self.veil.words(_why(self.transport, error, self.listener.error))
        # What a venue says last is most likely why it hangs up.
        return words if self.session.said is None else f"{words}; it had said: {self.session.said}"


class Dialler:
    """Opens the sockets of one connection.

    Args:
        plan: What to connect to.
        venue: Its facts and messages.
        listen: Makes the listener of a fresh socket from the handlers of its control frames and,
            where they count as messages, of its PINGs.
        permits: Gives leave.
        tls: Makes what verifies wss servers.
        sleep: As ``asyncio.sleep``.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        plan: ConnectionPlan,
        venue: Venue,
        listen: Callable[[Callable[[bytes], None], Callable[[bytes], None] | None], Any],
        permits: Permits,
        tls: Callable[[], ssl.SSLContext],
        sleep: Sleep,
        clock: Callable[[], float],
    ) -> None:
        self._plan = plan
        self._venue = venue
        self._listen = listen
        self._permits = permits
        self._tls = tls
        self._sleep = sleep
        self._clock = clock
        self._first = plan.first
        self.name = f"{plan.venue} connection {plan.number}"

    async def dial(
        self,
        told: Callable[[Socket], Told],
        on_ready: Callable[[Socket], object],
        *,
        speaks: bool = True,
        on_leave: Callable[[], object] = lambda: None,
    ) -> Socket:
        """Wait for leave, and open a socket; nothing is said on it yet.

        Args:
            told: Given the socket, gives who hears of its streams.
            on_ready: Called when the socket's subscriptions have been answered.
            speaks: Whether it is the connection's one socket.
            on_leave: Called when leave is given.

        Raises:
            Failed: No socket; trying again may help.
            NotAdmitted: No socket; trying again will not help.
        """
        try:
            grant = await self._permits.ask(
                CONNECT, self._plan.number, first=self._first or not speaks
            )
        except NotPermitted as error:
            raise NotAdmitted(str(error)) from error
        on_leave()
        try:
            return await self._open(grant, told, on_ready, speaks=speaks)
        except BaseException:
            grant.ended()
            raise

    async def _open(
        self,
        grant: Grant,
        told: Callable[[Socket], Told],
        on_ready: Callable[[Socket], object],
        *,
        speaks: bool,
    ) -> Socket:
        plan, venue = self._plan, self._venue
        veil = Veil(grant.secret)
        try:
            talk = venue.talk(grant.secret)
            dial = venue.dial(plan.url or venue.url, grant.secret)
        except Exception as error:  # noqa: BLE001 - most likely a secret that it cannot use
            words = veil.words(f"cannot be dialled: {type(error).__name__}: {error}")
            raise NotAdmitted(words) from None
        veil.add(dial)
        made: list[Socket] = []

        def tell(state: str, streams: Sequence[Stream], words: str | None) -> None:
            told(made[0])(state, streams, words)

        subscriptions = Subscriptions(
            talk,
            batch_streams(venue, plan),
            tell,
            acknowledges=venue.acknowledges,
            groups_by_channel=venue.groups_by_channel,
        )
        session = Session(
            self.name,
            venue,
            talk,
            subscriptions,
            veil,
            lambda: on_ready(made[0]),
            self._sleep,
        )

        def on_ping(payload: bytes) -> None:
            if made:  # else it came with the upgrade's answer, and will come again
                made[0].outbox.pong(payload)

        counted = plan.limits.control_frames_count and bool(plan.limits.messages)
        listener = self._listen(session.on_control, on_ping if counted else None)
        listener.quiet = not speaks
        self._first = False
        try:
            transport = await open_socket(
                dial.url,
                listener,
                tls=self._tls() if dial.url.startswith("wss:") else None,
                headers=dial.headers,
            )
        except UpgradeRefused as error:
            words = veil.words(error.words or str(error))
            if error.status in DENYING:
                raise NotAdmitted(words, error.status) from None
            raise Failed(
                f"HTTP {error.status} from {dial.shown}: {words}",
                error.status,
                turned_away=error.status in TURNING_AWAY,
                retry_after_s=error.retry_after_s or 0.0,
            ) from None
        except (OSError, ValueError) as error:  # ValueError: an address that is none
            words = veil.words(f"{error}" or type(error).__name__)
            raise Failed(f"cannot connect to {dial.shown}: {words}") from None
        finally:
            grant.used()
            grant.secret = {}
        outbox = Outbox(
            transport,
            listener.pong,
            plan.limits,
            self._leave_to_send(),
            self._sleep,
            self._clock,
            listener.count_waiting,
        )
        made.append(
            Socket(
                grant,
                session,
                listener,
                transport,
                outbox,
                Hangup(transport.underlying_transport),
                veil,
                dial.shown,
                self._clock(),
                speaks,
            )
        )
        return made[0]

    def _leave_to_send(self) -> Callable[[], Any] | None:
        if not self._plan.limits.address_messages:
            return None
        return lambda: self._permits.ask(MESSAGE, self._plan.number)


def _why(transport: WSTransport, fault: BaseException | None, lost: Exception | None) -> str:
    """Return in words why a socket ended.

    Args:
        transport: Its own.
        fault: What picows, or a callback of ours, ended it for.
        lost: What the kernel or TLS ended it for.
    """
    handshake: Any = transport.close_handshake  # picows' stubs have its enums wrong
    if isinstance(fault, WSProtocolError):
        return f"closed by us: {fault.code} {fault}"
    if fault is not None:
        return f"closed by us: {type(fault).__name__}: {fault}"
    if handshake is None:
        return "the server hung up without a CLOSE" if lost is None else _lost_by(lost)
    by, info = "us", handshake.sent
    if handshake.recv is not None and handshake.recv_then_sent:
        by, info = "the venue", handshake.recv
    return (
        f"closed by {by}: {info.code:d} {info.reason or ''}".rstrip() if info else f"closed by {by}"
    )


def _lost_by(error: Exception) -> str:
    """Return what an error of the socket means."""
    match getattr(error, "errno", None):
        case errno.ECONNRESET:
            return "connection reset by peer (RST): by the server, or by something on the way"
        case errno.EPIPE:
            return "the server had closed the connection when we wrote to it"
        case errno.ETIMEDOUT:
            return "the other end no longer answers: what we sent was not acknowledged in time"
        case errno.EHOSTUNREACH | errno.ENETUNREACH | errno.ENETDOWN:
            return f"there is no way to the server any more: {error}"
    return f"the connection was lost: {type(error).__name__}: {error}"
