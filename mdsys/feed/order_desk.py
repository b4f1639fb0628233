"""The supervisor's orders, obeyed one by one."""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, assert_never

from mdsys.errors import MdsysError
from mdsys.feed.connection import Connection
from mdsys.feed.connection_desk import ConnectionDesk
from mdsys.feed.memory import Memory
from mdsys.feed.orders import (
    AnyOrder,
    Capture,
    CaptureAgain,
    CaptureEnd,
    CaptureHold,
    Close,
    Connect,
    Permit,
    ReaderAdd,
    ReaderRemove,
    Reconnect,
    Redial,
    Refuse,
    Resubscribe,
    Snapshot,
    Stale,
    Subscribe,
    Unsubscribe,
    receive_order,
)
from mdsys.feed.permits import Permits
from mdsys.feed.plan import ConnectionPlan
from mdsys.feed.reader_desk import ReaderDesk
from mdsys.feed.report import Reporter
from mdsys.feed.venue import Venue
from mdsys.feed.venue_desk import VenueDesk

# After mdsys.feed.memory, which has checked the version of picows that this is compiled for.
from mdsys._listener import FrameListener  # isort: skip

ORDERS_A_TURN = 32
"""Between two looks at the sockets; ticks shall not wait for a reload of 50,000 symbols."""
SNAPSHOT_SIZE_MAX = 64 << 20

log = logging.getLogger("mdsys.feed")


class OrderDesk:
    """Keeps the feed's connections, as ordered.

    Args:
        memory: What the feed writes.
        venues: By name.
        reporter: Where orders come from, and reports go to.
        on_fault: Called when a connection fails by a fault of ours.
    """

    def __init__(
        self,
        memory: Memory,
        venues: Mapping[str, Venue],
        reporter: Reporter,
        on_fault: Callable[[], object],
    ) -> None:
        self._memory = memory
        self._venues = venues
        self._reporter = reporter
        self._on_fault = on_fault
        self._permits = Permits(reporter.tell)
        self._desks: dict[str, VenueDesk] = {}
        self._connections: dict[int, tuple[Connection, asyncio.Task[None]]] = {}
        self._recorder = -1
        """Its connection to the daemon, as long as we copy for it."""
        self.readers = ReaderDesk(memory.feed, reporter)

    def __len__(self) -> int:
        """Return how many connections there are."""
        return len(self._connections)

    # ---- orders ----

    def take_orders(self, count_max: int = ORDERS_A_TURN) -> bool:
        """Obey orders that have come. Returns False when no more can ever come."""
        for _ in range(count_max):
            try:
                order, fd = receive_order(self._reporter.channel)
            except BlockingIOError:
                return True
            except (EOFError, ConnectionError):
                return False
            except (ValueError, RecursionError, OSError) as error:
                log.warning("an order of the supervisor's cannot be obeyed: %s", error)
                continue
            try:
                self._obey(order, fd)
            except (ValueError, KeyError, OSError, MdsysError) as error:
                log.warning("an order of the supervisor's cannot be obeyed: %s", error)
            finally:
                if fd >= 0:
                    os.close(fd)
        return True

    def _obey(self, order: AnyOrder, fd: int) -> None:
        match order:
            case ReaderAdd():
                self.readers.add(order, fd)
            case ReaderRemove():
                self.readers.remove(order)
            case Permit():
                self._permits.granted(order)
            case Refuse():
                self._permits.refused(order)
            case Connect():
                self.connect(order.plan)
            case Close():
                self._close(order.connection)
            case Subscribe():
                self._subscribe(order)
            case Unsubscribe():
                self._unsubscribe(order)
            case Resubscribe():
                self._connection(order.connection).resubscribe(order.symbols, order.channel)
            case Reconnect():
                self._connection(order.connection).reconnect(order.words)
            case Redial():
                self._connection(order.connection).redial()
            case Stale():
                self._desk(order.venue).stale(order)
            case Snapshot():
                self._desk(order.venue).snapshot(order, _whole(fd))
            case Capture():
                self._memory.feed.capture(mmap.mmap(fd, os.fstat(fd).st_size))
            case CaptureHold():
                self._let_recorder_go()
                self._recorder = os.dup(fd)
            case CaptureAgain():
                self._memory.feed.capture_state()
            case CaptureEnd():
                self._memory.feed.capture_end()
                self._let_recorder_go()
            case _:
                assert_never(order)

    def _let_recorder_go(self) -> None:
        if self._recorder >= 0:
            os.close(self._recorder)
            self._recorder = -1

    def _connection(self, number: int) -> Connection:
        if number not in self._connections:
            raise ValueError(f"there is no connection {number}")
        return self._connections[number][0]

    def _desk(self, venue: str) -> VenueDesk:
        if venue not in self._desks:
            raise ValueError(f"there is no venue {venue} here")
        return self._desks[venue]

    # ---- connections ----

    def start(self, plans: tuple[ConnectionPlan, ...]) -> None:
        """Begin with these: the venues' symbols first, then the connections.

        Raises:
            ValueError: Symbols and directory do not agree.
            ConfigError: There is no such venue.
        """
        for name in dict.fromkeys(plan.venue for plan in plans):
            own = [plan for plan in plans if plan.venue == name]
            wires: dict[str, bytes] = {}
            for plan in own:
                wires.update(_wires(plan))
            channels = dict.fromkeys(channel for plan in own for channel in plan.channels)
            self._desks[name] = self._new_desk(name, wires, tuple(channels))
        for plan in plans:
            self.connect(plan)

    def connect(self, plan: ConnectionPlan) -> None:
        """Begin a connection.

        Raises:
            ValueError: Its number is taken, or symbols and directory do not agree.
            ConfigError: There is no such venue.
        """
        if plan.number in self._connections:
            raise ValueError(f"connection {plan.number} is here already")
        wires = _wires(plan)
        if plan.venue in self._desks:
            desk = self._desks[plan.venue]
            desk.add(wires)
        else:
            desk = self._desks[plan.venue] = self._new_desk(plan.venue, wires, plan.channels)

        def listen(
            on_control: Callable[[bytes], None], on_ping: Callable[[bytes], None] | None
        ) -> FrameListener:
            return FrameListener(desk.feed, plan.number, on_control, on_ping)

        connection = Connection(
            plan,
            self._venues[plan.venue],
            listen,
            ConnectionDesk(
                plan,
                self._memory.feed,
                desk.feed,
                self._reporter,
                books_by_rest=desk.books_by_rest,
            ),
            self._permits,
        )
        desk.settle(plan.symbols, connection)
        task = asyncio.create_task(connection.run())
        self._connections[plan.number] = (connection, task)
        task.add_done_callback(self._ended)

    def _new_desk(
        self, venue: str, wires: Mapping[str, bytes], channels: tuple[str, ...]
    ) -> VenueDesk:
        return VenueDesk(self._venues[venue], self._memory, self._reporter, wires, channels)

    def _subscribe(self, order: Subscribe) -> None:
        connection = self._connection(order.connection)
        wires = {name: bytes.fromhex(wire or "") for name, wire in order.symbols}
        desk = self._desks[connection.plan.venue]
        desk.add(wires)
        desk.settle(wires, connection)
        connection.subscribe(wires)

    def _unsubscribe(self, order: Unsubscribe) -> None:
        connection = self._connection(order.connection)
        self._desks[connection.plan.venue].leave(order.symbols, connection)
        connection.unsubscribe(order.symbols)

    def _close(self, number: int) -> None:
        connection = self._connection(number)
        self._desks[connection.plan.venue].leave(connection.symbols, connection)
        self._connections.pop(number)[1].cancel()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """A connection ends when it is closed, and by nothing else but a fault of ours."""
        if not task.cancelled():
            log.critical("a connection failed", exc_info=task.exception())
            self._on_fault()

    def take_wishes(self) -> None:
        """Have the books that are out of step brought up to date."""
        for desk in self._desks.values():
            desk.take_wishes()

    async def close(self) -> None:
        """Close all connections, in a hurry."""
        tasks = [task for _, task in self._connections.values()]
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
        self._let_recorder_go()


def _wires(plan: ConnectionPlan) -> dict[str, bytes]:
    return {name: plan.wires.get(name, b"") for name in plan.symbols}


def _whole(fd: int) -> bytes:
    """Return what a file in memory holds.

    Raises:
        ValueError: It is too large.
    """
    size = os.fstat(fd).st_size
    if size > SNAPSHOT_SIZE_MAX:
        raise ValueError(f"a snapshot of {size} bytes")
    return os.pread(fd, size, 0)
