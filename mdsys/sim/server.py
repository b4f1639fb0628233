"""The simulated venue's server: handshakes and requests by ``websockets``, data written past it.

One task, the pump, moves the source on block by block and writes each client's share of the block
as ready frames to the client's transport. The library serves the same transports; both write whole
frames, so they never mix. Clients share one market: a client that does not read holds the others
up, and no client ever has more than a block and the high-water mark waiting in memory. Under a
clock the source falls behind meanwhile and then catches up, block by block; nothing is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import ssl as tls
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State

from mdsys._generator import Timer
from mdsys.config import did_you_mean
from mdsys.errors import UsageError
from mdsys.sim.binance import DIALECTS, Subscriptions, parse_target
from mdsys.sim.source import Spec, View

# More than this waiting in a client's transport pauses the pump.
WRITE_HIGH = 256 * 1024
WRITE_LOW = 64 * 1024
# Events due within this time go out together: at 100,000/s a wake-up for each would only burn time.
TICK_NS = 500_000
REQUEST_SIZE_MAX = 256 * 1024
CLOSE_TIMEOUT_S = 2

# What the library logs are the misdeeds of clients, at length.
_quiet = logging.getLogger("mdsys.sim.websockets")
_quiet.setLevel(logging.CRITICAL)


@dataclass(slots=True)
class Stats:
    """What was sent to all clients together, those that left included."""

    clients: int = 0
    """Connected now."""
    clients_total: int = 0
    streams: int = 0
    """Subscribed now."""
    size: int = 0
    """Bytes of frames."""
    frames: Counter[str] = field(default_factory=Counter)
    """By kind: trade, quote, depth, other."""
    records: Counter[str] = field(default_factory=Counter)
    """Records in those frames, by kind: a depth frame holds one per level."""


@dataclass(eq=False, slots=True)
class _Client:
    socket: ServerConnection
    subscriptions: Subscriptions
    view: View


class Simulator:
    """A venue that is not there. An asynchronous context manager: it listens inside.

    The source begins with the first subscription; what comes before a client's own subscription
    is not sent to it. A test whose client subscribes in several messages passes ``held=True``
    and calls ``start`` when ``subscribed`` returns.
    """

    def __init__(
        self,
        source: Spec,
        *,
        venue: str = "binance",
        host: str = "127.0.0.1",
        port: int = 0,
        ssl: tls.SSLContext | None = None,
        held: bool = False,
        ping_interval_s: float | None = None,
        streams_max: int | None = None,
    ) -> None:
        """Open the source; listening begins on entry.

        Args:
            source: A ``RandomMarket`` or a ``Replay``.
            venue: ``binance`` or ``binance_usdm``.
            host: Address to listen on.
            port: In [0, 65535]; 0: a free one, see ``url``.
            ssl: A server's context, for wss.
            held: Wait for ``start`` rather than for the first subscription.
            ping_interval_s: Seconds between pings instead of the venue's.
            streams_max: Streams of one connection instead of the venue's 1024.

        Raises:
            UsageError: There is no such venue.
            ReplayError: A recording cannot be replayed.
            ValueError: A number of the source is outside its interval.
        """
        if venue not in DIALECTS:
            hint = did_you_mean(venue, DIALECTS) or f"; there are {', '.join(DIALECTS)}"
            raise UsageError(f"no simulated venue {venue!r}{hint}")
        self._dialect = DIALECTS[venue]
        self._host = host
        self._port = port
        self._ssl = ssl
        self._held = held
        self._ping_interval_s = ping_interval_s or self._dialect.ping_interval_s
        self._streams_max = streams_max or self._dialect.streams_max
        self._source = source.open(self._dialect)
        self._clients: set[_Client] = set()
        self._departed = Stats()
        self._size = 0
        self._changed = asyncio.Condition()
        self._begin = asyncio.Event()
        self._wanted = asyncio.Event()  # somebody is subscribed to something
        self._server: Server | None = None
        self._pump: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            OSError: The address cannot be had.
        """
        try:
            self._server = await serve(
                self._serve,
                self._host,
                self._port,
                ssl=self._ssl,
                process_request=_refuse_unknown_path,
                compression=None,
                ping_interval=self._ping_interval_s,
                ping_timeout=self._dialect.ping_timeout_s,
                close_timeout=CLOSE_TIMEOUT_S,
                max_size=REQUEST_SIZE_MAX,
                write_limit=(WRITE_HIGH, WRITE_LOW),
                logger=_quiet,
            )
        except BaseException:
            self._source.close()
            raise
        self._port = next(iter(self._server.sockets)).getsockname()[1]
        self._pump = asyncio.create_task(self._run(), name="simulator pump")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop sending and close every connection."""
        assert self._server is not None
        assert self._pump is not None
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)
        self._server.close()
        await self._server.wait_closed()
        self._source.close()

    @property
    def url(self) -> str:
        """Where it listens, without a path: ``ws://127.0.0.1:41231``."""
        scheme = "ws" if self._ssl is None else "wss"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._port}"

    def start(self) -> None:
        """Let a held source begin."""
        self._begin.set()

    async def subscribed(self, streams: int) -> None:
        """Wait until the clients have subscribed to so many streams together."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._stream_count() >= streams)

    async def finished(self) -> None:
        """Wait until the source has ended and its last byte is with the kernel.

        Raises:
            ReplayError: The recording turned out damaged.
        """
        assert self._pump is not None
        await asyncio.shield(self._pump)

    @property
    def stats(self) -> Stats:
        """What was sent so far."""
        views = [client.view for client in self._clients]
        return Stats(
            clients=len(self._clients),
            clients_total=self._departed.clients_total + len(self._clients),
            streams=self._stream_count(),
            size=self._size,
            frames=sum((Counter(view.frames) for view in views), self._departed.frames.copy()),
            records=sum((Counter(view.records) for view in views), self._departed.records.copy()),
        )

    def progress(self) -> str:
        """Return how far the source is, in words."""
        return self._source.progress()

    async def _serve(self, socket: ServerConnection) -> None:
        """Answer one client's requests until it leaves."""
        assert socket.request is not None
        target = parse_target(socket.request.path)
        assert target is not None  # _refuse_unknown_path saw to it
        form, names = target
        subscriptions = Subscriptions(self._streams_max)
        if not subscriptions.add(names):
            await socket.close(1008, "Too many subscriptions")
            return
        client = _Client(socket, subscriptions, self._source.view(form))
        self._clients.add(client)
        try:
            await self._resubscribed(client)
            with suppress(ConnectionClosed):
                async for message in socket:
                    answer = subscriptions.answer(message)
                    # Queued before the view changes: the answer comes before the first data.
                    await socket.send(answer)
                    await self._resubscribed(client)
        finally:
            self._clients.remove(client)
            self._departed.clients_total += 1
            self._departed.frames.update(client.view.frames)
            self._departed.records.update(client.view.records)
            await self._recount()

    async def _resubscribed(self, client: _Client) -> None:
        client.view.show(client.subscriptions.streams)
        if client.subscriptions.streams and not self._held:
            self._begin.set()
        await self._recount()

    async def _recount(self) -> None:
        if self._stream_count():
            self._wanted.set()
        else:
            self._wanted.clear()
        async with self._changed:
            self._changed.notify_all()

    def _stream_count(self) -> int:
        return sum(len(client.subscriptions.streams) for client in self._clients)

    async def _run(self) -> None:
        """Pump: move the source on and write it out, until it ends."""
        source = self._source
        await self._begin.wait()
        start_ns = time.monotonic_ns()
        source.start()
        alarm = _Alarm()
        try:
            while (due_ns := source.due_ns()) is not None:
                if source.paced:
                    now_ns = time.monotonic_ns() - start_ns
                    if due_ns > now_ns:
                        # From one tick to the next, or to the event when that is later.
                        await alarm.until(start_ns + max(due_ns, now_ns + TICK_NS))
                        now_ns = time.monotonic_ns() - start_ns
                    source.advance(now_ns)
                else:
                    await self._wanted.wait()
                    source.advance(None)
                self._write()
                await asyncio.sleep(0)  # uvloop sends when the loop comes round
                await self._drain()
        finally:
            alarm.close()
        for client in self._clients:
            client.socket.transport.set_write_buffer_limits(0)
        await self._drain()

    def _write(self) -> None:
        for client in self._clients:
            transport = client.socket.transport
            if client.socket.state is State.OPEN and not transport.is_closing():
                for block in client.view.render():
                    transport.write(block)
                    self._size += len(block)

    async def _drain(self) -> None:
        for client in tuple(self._clients):
            with suppress(OSError):  # it left; its handler notices too
                await client.socket.drain()


class _Alarm:
    """Sleeps to the microsecond: the loops' own timers count milliseconds."""

    def __init__(self) -> None:
        self._timer = Timer()
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()
        self._loop.add_reader(self._timer.fileno(), self._ring)

    async def until(self, at_ns: int) -> None:
        """Sleep until ``at_ns`` of the monotonic clock."""
        self._rung.clear()
        self._timer.set(at_ns)
        await self._rung.wait()

    def close(self) -> None:
        self._loop.remove_reader(self._timer.fileno())
        self._timer.close()

    def _ring(self) -> None:
        self._timer.clear()
        self._rung.set()


def _refuse_unknown_path(socket: ServerConnection, request: Request) -> Response | None:
    if parse_target(request.path) is None:
        return socket.respond(
            HTTPStatus.NOT_FOUND, "paths: /ws, /ws/<stream>, /stream, /stream?streams=<a>/<b>\n"
        )
    return None
