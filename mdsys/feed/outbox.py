"""What one socket sends, at the venue's pace."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from picows import WSMsgType, WSTransport

from mdsys.feed.permits import Grant
from mdsys.feed.venue import Limits, Message
from mdsys.feed.window import RollingWindow

Sleep = Callable[[float], Awaitable[None]]


class Outbox:
    """Sends messages and control frames, each in its turn.

    Args:
        transport: The open socket.
        send_pong: Answers a PING; it knows whether the peer takes anything.
        limits: The windows of its messages, and whether control frames count.
        leave: Asks the supervisor for a message's turn; None: the venue counts no address's.
        sleep: As ``asyncio.sleep``.
        clock: Monotonic seconds.
        count_waiting: Called with 1 when a message begins to wait for its turn, then with -1.
    """

    def __init__(
        self,
        transport: WSTransport,
        send_pong: Callable[[bytes], object],
        limits: Limits,
        leave: Callable[[], Awaitable[Grant]] | None,
        sleep: Sleep,
        clock: Callable[[], float],
        count_waiting: Callable[[int], object] = int,
    ) -> None:
        self._transport = transport
        self._answer = send_pong
        self._window = RollingWindow(limits.messages, clock)
        self._control_counts = limits.control_frames_count
        self._leave = leave
        self._sleep = sleep
        self._count_waiting = count_waiting
        self._turn = asyncio.Lock()  # fair: nobody waits for more than those before
        self._pong: bytes | None = None
        self._ponging: asyncio.Task[None] | None = None

    async def send(self, message: Message) -> None:
        """Send a message when its turn comes."""
        self._count_waiting(1)
        try:
            grant = await self._leave() if self._leave is not None else None
            try:
                async with self._turn, self._room():
                    if isinstance(message, str):
                        self._transport.send(WSMsgType.TEXT, message.encode())
                    else:
                        self._transport.send(WSMsgType.BINARY, message)
            finally:
                if grant is not None:
                    grant.used()
        finally:
            self._count_waiting(-1)

    async def ping(self) -> None:
        """Send a WebSocket PING when its turn comes."""
        async with self._turn, self._room(counts=self._control_counts):
            self._transport.send_ping()

    def pong(self, payload: bytes) -> None:
        """Answer a PING when our turn comes; of several that wait the newest (RFC 6455 5.5.3)."""
        self._pong = payload
        if self._ponging is None or self._ponging.done():
            self._ponging = asyncio.create_task(self._send_pong())

    async def _send_pong(self) -> None:
        while (payload := self._pong) is not None:
            async with self._turn, self._room(counts=self._control_counts):
                payload, self._pong = self._pong or payload, None
                self._answer(payload)

    @contextlib.asynccontextmanager
    async def _room(self, *, counts: bool = True) -> AsyncIterator[None]:
        """Wait until one more fits, and count it in once it has gone.

        By the time after: we may be put to sleep between the two, and who charges by the time
        before has the message leave later than the window knows, and the next ones too soon.
        """
        while counts and (wait_s := self._window.wait_s()) > 0:
            await self._sleep(wait_s)
        try:
            yield
        finally:
            if counts:
                self._window.charge()

    def close(self) -> None:
        """Send nothing more."""
        if self._ponging is not None:
            self._ponging.cancel()
