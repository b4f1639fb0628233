"""The simulated venue's server: handshakes and requests by ``websockets``, data written past it.

The library and the pump (mdsys.sim.pump) serve the same transports; both write whole frames, so
they never mix.
"""

from __future__ import annotations

import asyncio
import logging
import ssl as tls
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from mdsys.feed.venue import Limits
from mdsys.sim.client import SimClient, Socket
from mdsys.sim.dialect import CloseSocket
from mdsys.sim.dialects import find
from mdsys.sim.door import Door
from mdsys.sim.exchange import SimExchange
from mdsys.sim.faults import Fault, make, parse
from mdsys.sim.police import BrokenLimit, Police
from mdsys.sim.pump import pump
from mdsys.sim.source import Spec
from mdsys.sim.stats import Stats
from mdsys.sim.trouble import Trouble

# More than this waiting in a client's transport pauses the pump.
WRITE_HIGH = 256 * 1024
WRITE_LOW = 64 * 1024
REQUEST_SIZE_MAX = 256 * 1024
CLOSE_TIMEOUT_S = 2
# Scopes of faults that are not one socket's.
_LASTING = ("upgrade", "subscription", "venue")

_log = logging.getLogger("mdsys.sim")
# What the library logs are the misdeeds of clients, at length.
_quiet = logging.getLogger("mdsys.sim.websockets")
_quiet.setLevel(logging.CRITICAL)


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
        limits: Limits | None = None,
        secrets: Collection[str] | None = None,
        faults: str | Sequence[Fault] = "",
        seed: int = 0,
        tell: Callable[[str], None] = _log.info,
    ) -> None:
        """Open the source; listening begins on entry.

        Args:
            source: A ``RandomMarket`` or a ``Replay``.
            venue: Of mdsys.sim.dialects.
            host: Address to listen on.
            port: In [0, 65535]; 0: a free one, see ``url``.
            ssl: A server's context, for wss.
            held: Wait for ``start`` rather than for the first subscription.
            ping_interval_s: Seconds between pings instead of the venue's.
            limits: Instead of the venue's.
            secrets: The keys or tokens that are valid; None: any.
            faults: What goes wrong, see mdsys.sim.faults.
            seed: Of the faults' chance.
            tell: Told of broken limits and of faults that strike, in words.

        Raises:
            UsageError: There is no such venue or fault.
            ReplayError: A recording cannot be replayed.
            ValueError: A number of the source is outside its interval.
        """
        dialect = find(venue)
        self._faults = parse(faults) if isinstance(faults, str) else list(faults)
        self._host = host
        self._port = port
        self._ssl = ssl
        self._held = held
        self._tell = tell
        self._source = source.open(dialect)
        if any(fault.name == "clock" for fault in self._faults):
            self._source.shift_time(0)  # a recording refuses
        self._exchange = SimExchange(self._source.market, secrets)
        self._dialect = dialect(self._exchange)
        if limits is not None:
            self._dialect.limits = limits
        self._ping_interval_s = ping_interval_s or self._dialect.ping_interval_s
        self._police = Police(self._dialect.limits, self._accuse)
        self._trouble = Trouble(
            self._exchange,
            seed,
            throw_out=self._throw_out,
            close=self._close,
            tell=tell,
            notice_s=self._dialect.notice_s,
        )
        self._clients: set[SimClient] = set()
        self._door = Door(
            self._dialect,
            self._exchange,
            self._police,
            self._clients,
            strike=self._trouble.strike,
            note=self._note,
            tell=tell,
            notify=self._notify_soon,
        )
        self._departed = Stats()
        self._changed = asyncio.Condition()
        self._begin = asyncio.Event()
        self._wanted = asyncio.Event()  # somebody is subscribed to something
        self._server: Server | None = None
        self._pump: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

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
                process_request=self._door.request,
                compression=None,
                create_connection=Socket,
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
        self._pump = asyncio.create_task(
            pump(self._source, self._clients, self._begin, self._wanted, self._throw_out),
            name="simulator pump",
        )
        self._police.watch()
        if self._dialect.heartbeat_s is not None:
            self._spawn(self._beat(self._dialect.heartbeat_s))
        for fault in self._faults:
            if fault.kind.scope not in _LASTING:
                continue  # it waits for its connection
            if fault.after_s is None:
                self._stand(fault)
            else:
                asyncio.get_running_loop().call_later(fault.after_s, self._stand, fault)
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
        self._police.rest()
        self._pump.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self._pump, *self._tasks, return_exceptions=True)
        for client in self._clients:
            if client.is_frozen:
                client.thaw()
                client.socket.transport.abort()
        self._server.close()
        await self._server.wait_closed()
        self._source.close()

    # ---- for tests and programs ----

    @property
    def url(self) -> str:
        """Where it listens, without a path: ``ws://127.0.0.1:41231``."""
        return f"{'ws' if self._ssl is None else 'wss'}://{self._place}"

    @property
    def rest_url(self) -> str:
        """The same for REST: ``http://127.0.0.1:41231``."""
        return f"{'http' if self._ssl is None else 'https'}://{self._place}"

    @property
    def _place(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    def start(self) -> None:
        """Let a held source begin."""
        self._begin.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so that connections, subscriptions or broken limits change."""
        async with self._changed:
            await self._changed.wait_for(is_so)

    async def subscribed(self, streams: int) -> None:
        """Wait until the clients have subscribed to so many streams together."""
        await self.until(lambda: self._stream_count() >= streams)

    async def connected(self, connections: int) -> None:
        """Wait until so many connections have been open, those that ended included."""
        await self.until(lambda: self._departed.clients_total + len(self._clients) >= connections)

    async def finished(self) -> None:
        """Wait until the source has ended and its last byte is with the kernel.

        Raises:
            ReplayError: The recording turned out damaged.
        """
        assert self._pump is not None
        await asyncio.shield(self._pump)

    @property
    def breaches(self) -> Sequence[BrokenLimit]:
        """The venue's limits that were broken, in order."""
        return self._police.found

    @property
    def connections(self) -> Sequence[int]:
        """The numbers of the open connections: which attempt to connect each was, from 1."""
        return sorted(client.number for client in self._clients)

    @property
    def stats(self) -> Stats:
        """What was sent so far."""
        views = [client.view for client in self._clients if client.view is not None]
        return Stats(
            clients=len(self._clients),
            clients_total=self._departed.clients_total + len(self._clients),
            attempts=self._door.attempts,
            streams=self._stream_count(),
            size=self._departed.size + sum(client.size for client in self._clients),
            frames=sum((Counter(view.frames) for view in views), self._departed.frames.copy()),
            records=sum((Counter(view.records) for view in views), self._departed.records.copy()),
        )

    def progress(self) -> str:
        """Return how far the source is, in words."""
        return self._source.progress()

    def inject(self, name: str, *, connection: int | None = None, **options: object) -> Fault:
        """Let something go wrong now.

        Args:
            name: Of mdsys.sim.faults.FAULTS.
            connection: Its number; one to come: as soon as it is open. None: each open one.
            options: The fault's own, and ``count`` or ``every``.

        Returns:
            The fault, for ``lift``.

        Raises:
            UsageError: There is no such fault or option.
        """
        fault = make(name, connection, **options)
        if fault.kind.scope in _LASTING:
            self._stand(fault)
            return fault
        if connection is not None and connection > self._door.attempts:
            self._faults.append(fault)
        for client in tuple(self._clients):
            if fault.concerns(client.number):
                self._trouble.arm(client, fault)
        return fault

    def lift(self, fault: Fault) -> None:
        """End a fault that lasts. What it withheld meanwhile is lost."""
        fault.lifted = True
        if fault.name == "clock":
            self._source.shift_time(-_clock_ns(fault))

    # ---- clients ----

    async def _serve(self, socket: ServerConnection) -> None:
        """Answer one client's requests until it leaves."""
        assert isinstance(socket, Socket)
        client = socket.client
        assert client is not None
        assert client.session is not None
        client.view = self._source.view(client.session)
        self._clients.add(client)
        try:
            await self._converse(client)
        except CloseSocket as order:
            client.is_leaving = True
            client.say(order.messages)
            await socket.close(order.code, order.reason)
        except ConnectionClosed:
            pass
        except Exception:  # noqa: BLE001 - a dialect's; the other clients go on
            _log.exception("connection %d: the dialect failed", client.number)
            await socket.close(1011, "the simulator failed")
        finally:
            self._clients.remove(client)
            self._police.gone(client)
            client.close_view()
            self._departed.clients_total += 1
            self._departed.size += client.size
            self._departed.frames.update(client.view.frames)
            self._departed.records.update(client.view.records)
            await self._recount()

    async def _converse(self, client: SimClient) -> None:
        session = client.session
        assert session is not None
        if self._dialect.hello_s is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(self._dialect.hello_s, self._throw_out_silent, client)
        client.say(session.greet())
        for fault in self._faults:
            if fault.concerns(client.number) and fault.kind.scope not in _LASTING:
                self._trouble.arm(client, fault)
        self._hold_to_connections(client)
        await self._resubscribed(client)
        key = session.key
        async for message in client.socket:
            if client.is_leaving or client.is_frozen:
                continue
            # Written before the next block is rendered: the answer comes before the first data.
            client.say(session.hear(message))
            if session.key != key:
                key = session.key
                self._hold_to_connections(client)
            await client.socket.drain()
            await self._resubscribed(client)

    def _hold_to_connections(self, client: SimClient) -> None:
        if self._police.is_crowded(client, self._clients, keyed=self._dialect.keyed):
            self._accuse(client, "connections", "one more than allowed")

    def _note(self, client: SimClient, what: str, words: str) -> None:
        """Write down a limit that the dialect saw broken, and answers as it likes."""
        self._police.note(client, what, words)
        self._tell(f"connection {client.number}: broke {what}: {words}")
        self._notify_soon()

    def _accuse(self, client: SimClient, what: str, words: str) -> None:
        """Throw out who broke a limit."""
        if not client.is_leaving:
            self._note(client, what, words)
            self._throw_out(client, what)

    def _throw_out(self, client: SimClient, what: str) -> None:
        if client.is_open and not client.is_leaving:
            breach = self._dialect.breach(what)
            client.say(breach.messages)
            self._close(client, breach.code, breach.reason)

    def _throw_out_silent(self, client: SimClient) -> None:
        if not client.has_spoken:
            self._throw_out(client, "hello")

    def _close(self, client: SimClient, code: int, reason: str) -> None:
        client.is_leaving = True
        if code == 0:
            client.socket.transport.abort()
        else:
            self._spawn(client.socket.close(code, reason))

    def _stand(self, fault: Fault) -> None:
        """Let a fault of the whole venue begin."""
        if fault.lifted:
            return
        if fault.name == "clock":
            self._source.shift_time(_clock_ns(fault))
        else:
            self._exchange.stand(fault)
        self._tell(f"fault {fault.name}")

    async def _resubscribed(self, client: SimClient) -> None:
        if client.streams and not self._held:
            self._begin.set()
        await self._recount()

    async def _recount(self) -> None:
        if self._stream_count():
            self._wanted.set()
        else:
            self._wanted.clear()
        await self._notify()

    def _notify_soon(self) -> None:
        self._spawn(self._notify())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _stream_count(self) -> int:
        return sum(client.streams for client in self._clients)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the dialect failed", exc_info=error)

    async def _beat(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            for client in tuple(self._clients):
                if client.session is not None:
                    client.say(client.session.heartbeat())


def _clock_ns(fault: Fault) -> int:
    return round((fault.number("ahead") or 0) * 1e9)
