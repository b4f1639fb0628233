"""What a feed process makes of its supervisor's orders, against a venue on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from mdsys.feed.binance.reference import ReferenceDecoder
from mdsys.feed.frame import SymbolInfo
from mdsys.feed.memory import Memory
from mdsys.feed.order_desk import ORDERS_A_TURN, OrderDesk
from mdsys.feed.orders import (
    AnyOrder,
    Capture,
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
from mdsys.feed.plan import ConnectionPlan
from mdsys.feed.report import MESSAGE_SIZE_MAX, Reporter, read_message, report_pair
from mdsys.feed.venue import CHANNELS, BookSnapshots
from mdsys.feed.venue_desk import ABSENT
from mdsys.record.record import Status
from tests.connections import StubVenue
from tests.feeds import CLOSE, TEXT, FeedMemory, Peer, frame, run, serving, trade, until


class Bench:
    """A desk in a loop, and its supervisor, who gives leave for everything."""

    def __init__(self, *symbols: str, venue: StubVenue | None = None) -> None:
        self.memory = FeedMemory(list(symbols))
        self.ours, self.theirs = report_pair()
        self.faults: list[str] = []
        self.refusals: list[str] = []
        """What is said to those who ask for leave, before it is given."""
        self.events: list[dict[str, Any]] = []
        self._news = asyncio.Event()
        self.desk = OrderDesk(
            cast(Memory, self.memory),
            {"binance": venue or StubVenue()},
            Reporter(self.theirs),
            lambda: self.faults.append("fault"),
        )

    def order(self, *orders: AnyOrder, fd: int = -1) -> None:
        for order in orders:
            if fd < 0:
                self.ours.send(order.encode())
            else:
                socket.send_fds(self.ours, [order.encode()], [fd])

    @asynccontextmanager
    async def running(self, *plans: ConnectionPlan) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        with self.ours, self.theirs:
            self.desk.start(plans)
            loop.add_reader(self.theirs, self.desk.take_orders)
            loop.add_reader(self.ours, self._hear)
            try:
                yield
            finally:
                await self.desk.close()
                loop.remove_reader(self.theirs)
                loop.remove_reader(self.ours)

    def _hear(self) -> None:
        message = read_message(self.ours.recv(MESSAGE_SIZE_MAX))
        self.events.append(message)
        self._news.set()
        if message["event"] == "permit":
            number = message["id"]
            refused = bool(self.refusals)
            self.order(Refuse(number, self.refusals.pop()) if refused else Permit(number))

    async def until(self, nth: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait for the nth event with these fields."""
        while True:
            found = [each for each in self.events if fields.items() <= each.items()]
            if len(found) >= nth:
                return found[nth - 1]
            self._news.clear()
            await self._news.wait()

    def statuses(self) -> list[tuple[int, int, int]]:
        return self.memory.statuses()


def plan(address: str, *symbols: str, number: int = 3, **keys: Any) -> ConnectionPlan:
    channels = keys.pop("channels", ("trade",))
    return ConnectionPlan(number, "binance", f"ws://{address}", symbols, channels, 50, **keys)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Requests(list[tuple[str, list[str]]]):
    """A venue that confirms everything, and notes what it was asked."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []

    async def __call__(self, peer: Peer) -> None:
        self.peers.append(peer)
        while True:
            opcode, payload = await peer.receive()
            if opcode == CLOSE:
                return
            if opcode == TEXT:
                request = json.loads(payload)
                self.append((request["method"], request["params"]))
                await peer.say(id=request["id"])


def test_connections_of_the_plan_are_opened_and_their_data_is_published() -> None:
    async def main() -> None:
        bench = Bench("A", "B")
        venue = Requests()
        async with (
            serving(venue) as address,
            bench.running(plan(address, "A"), plan(address, "B", number=4)),
        ):
            for number in (3, 4):
                await bench.until(event="connection", connection=number, state="ready")
            assert len(bench.desk) == 2
            await venue.peers[0].send(frame(trade(1, symbol="A")), frame(trade(9, symbol="B")))
            await until(lambda: bench.memory.counter("trades") >= 2)
            assert bench.memory.counter("subscriptions_confirmed") == 2
            assert bench.memory.counter("subscriptions_requested") == 2
        assert bench.memory.counter("subscriptions_confirmed") == 0
        assert bench.memory.counter("connections") == 0
        assert bench.faults == []

    run(main())


def test_connection_comes_grows_shrinks_and_goes_by_order() -> None:
    async def main() -> None:
        bench = Bench("A", "B", "C")
        venue = Requests()
        async with serving(venue) as address, bench.running():
            bench.order(
                Connect(plan(address, "A")), Subscribe(3, [("B", None), ("C", b"c7".hex())])
            )
            await bench.until(event="connection", state="ready")
            await venue.peers[0].send(frame(trade(1, symbol="c7")))
            await until(lambda: bench.memory.counter("trades") >= 1)
            bench.order(Unsubscribe(3, ["A", "B"]))
            await bench.until(event="streams", state="removed", symbols=["A", "B"])
            bench.order(Close(3))
            await bench.until(event="connection", state="closed")
            assert len(bench.desk) == 0
            bench.order(Connect(plan(address, "A")))  # the number may be used again
            await bench.until(2, event="connection", state="ready")
        assert venue == [
            ("SUBSCRIBE", ["A@trade", "B@trade", "C@trade"]),
            ("UNSUBSCRIBE", ["A@trade", "B@trade"]),
            ("SUBSCRIBE", ["A@trade"]),
        ]

    run(main())


def test_mute_streams_and_mute_sockets_are_asked_for_again_by_order() -> None:
    async def main() -> None:
        bench = Bench("A", "B")
        venue = Requests()
        async with serving(venue) as address, bench.running(plan(address, "A", "B")):
            await bench.until(event="connection", state="ready")
            bench.order(Resubscribe(3, ["B"], "trade"))
            await bench.until(2, event="streams", state="confirmed")
            bench.order(Reconnect(3, "mute"))
            await bench.until(2, event="connection", state="ready")
        assert venue[1:3] == [("UNSUBSCRIBE", ["B@trade"]), ("SUBSCRIBE", ["B@trade"])]
        assert len(venue.peers) == 2

    run(main())


def test_denied_connection_is_dialled_again_by_order() -> None:
    async def main() -> None:
        bench = Bench("A")
        venue = Requests()
        async with serving(venue) as address, bench.running():
            bench.refusals.append("no key_a")
            bench.order(Connect(plan(address, "A")))
            told = await bench.until(event="connection", state="denied")
            assert told["words"] == "no key_a"
            bench.order(Redial(3))
            await bench.until(event="connection", state="ready")

    run(main())


def test_refused_symbol_is_told_to_its_readers_and_counted() -> None:
    async def main() -> None:
        bench = Bench("A")

        async def refuse(peer: Peer) -> None:
            await peer.receive()
            await peer.say(id=1, error="delisted")
            await peer.receive_close()

        async with serving(refuse) as address, bench.running(plan(address, "A")):
            told = await bench.until(event="streams", state="refused")
            assert (told["symbols"], told["words"]) == (["A"], "delisted")
            whats = [what for what, _, _ in bench.statuses()]
            assert whats == [Status.CONNECTION_UP, Status.SYMBOL_REFUSED]
            assert bench.memory.counter("subscriptions_refused") == 1
            assert bench.memory.counter("subscriptions_requested") == 0

    run(main())


def test_stale_channel_is_told_to_its_symbol_s_readers() -> None:
    async def main() -> None:
        bench = Bench("A", "B")
        async with serving(Requests()) as address, bench.running(plan(address, "A", "B")):
            await bench.until(event="connection", state="ready")
            bench.order(Stale("binance", ["A", "B", "X"], "trade", [17, 0, 5]))
            bench.order(Stale("binance", ["B"], "book"))
            await until(lambda: bench.memory.counter("statuses") >= 4)
            assert bench.statuses()[1:] == [
                (Status.STALE, 17, CHANNELS.index("trade")),
                (Status.STALE, ABSENT, CHANNELS.index("trade")),
                (Status.STALE, ABSENT, CHANNELS.index("book")),
            ]

    run(main())


REST = StubVenue(channels=("trade", "book"), book_snapshots=BookSnapshots("/depth", 5000, {100: 5}))
DIFF = (
    '{{"e":"depthUpdate","E":1,"s":"A","U":{0},"u":{1},"b":[["9.0","1.0"]],"a":[["11.0","2.0"]]}}'
)


def body(last_id: int) -> int:
    """Return a REST snapshot as the supervisor hands it over."""
    fd = os.memfd_create("mdsys-test")
    text = {"lastUpdateId": last_id, "bids": [["9.5", "3.0"]], "asks": [["10.5", "4.0"]]}
    os.write(fd, json.dumps(text).encode())
    return fd


def test_book_of_a_rest_venue_wants_a_snapshot_once_its_changes_come_and_gets_it() -> None:
    async def main() -> None:
        bench = Bench("A", venue=REST)
        venue = Requests()
        async with (
            serving(venue) as address,
            bench.running(plan(address, "A", channels=("trade", "book"))),
        ):
            told = await bench.until(event="snapshots_wanted")
            assert (told["venue"], told["connection"], told["symbols"]) == ("binance", 3, ["A"])
            confirmed = await bench.until(event="streams", state="confirmed")
            assert confirmed["channel"] is None
            await venue.peers[0].send(frame(DIFF.format(11, 12).encode()))
            await until(lambda: bench.memory.counter("levels") >= 2)
            old = body(5)
            bench.order(Snapshot("binance", "A"), fd=old)  # older than the first change
            await bench.until(2, event="snapshots_wanted")
            new = body(11)
            bench.order(Snapshot("binance", "A"), fd=new)
            await until(lambda: bench.memory.counter("book_snapshots") >= 1)
            os.close(old)
            os.close(new)

    run(main())


def test_book_by_stream_that_is_out_of_step_is_asked_for_again() -> None:
    async def main() -> None:
        bench = Bench("A", "B", venue=StubVenue(channels=("trade", "book")))
        venue = Requests()
        async with (
            serving(venue) as address,
            bench.running(plan(address, "A", "B", channels=("trade", "book"))),
        ):
            await bench.until(event="connection", state="ready")
            for first in (11, 20):  # and what was in between is lost
                await venue.peers[0].send(frame(DIFF.format(first, first + 1).encode()))
            await bench.until(2, event="streams", state="confirmed")
        assert venue[1:] == [("UNSUBSCRIBE", ["A@book"]), ("SUBSCRIBE", ["A@book"])]
        assert not [each for each in bench.events if each["event"] == "snapshots_wanted"]

    run(main())


@dataclass(frozen=True)
class PythonVenue(StubVenue):
    """Its decoder is the reference of another's."""

    decoder: None = None  # type: ignore[assignment]

    def python_decoder(  # type: ignore[override]
        self, symbols: Mapping[str, SymbolInfo], channels: Collection[str]
    ) -> ReferenceDecoder:
        return ReferenceDecoder(symbols, futures=False)


def test_decoder_in_python_learns_of_symbols_that_come_later() -> None:
    async def main() -> None:
        bench = Bench("A", "B", venue=PythonVenue())
        venue = Requests()
        async with serving(venue) as address, bench.running(plan(address, "A")):
            await bench.until(event="connection", state="ready")
            bench.order(Subscribe(3, [("B", b"b7".hex())]))
            await bench.until(2, event="streams", state="confirmed")
            await venue.peers[0].send(frame(trade(1, symbol="A")), frame(trade(1, symbol="b7")))
            await until(lambda: bench.memory.counter("trades") >= 2)

    run(main())


def test_orders_that_cannot_be_obeyed_are_logged_and_end_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        bench = Bench("A")
        null = os.open("/dev/null", os.O_RDONLY)
        before = open_descriptors()
        async with serving(Requests()) as address, bench.running(plan(address, "A")):
            await bench.until(event="connection", state="ready")
            bench.ours.send(b"garbage")
            bench.ours.send(b"[" * 4000)
            bench.order(
                ReaderRemove(5),
                Close(99),
                Subscribe(99, []),
                Subscribe(3, [("STRANGER", None)]),
                Subscribe(3, [("A", "no hex")]),
                Stale("kraken", ["A"], "trade"),
                Stale("binance", ["A"], "depth"),
                Connect(plan(address, "A")),
                Connect(replace(plan(address, "A", number=4), venue="nowhere")),
            )
            bench.order(ReaderAdd(6, "lossless", [0]), Capture(), fd=null)
            bench.order(Snapshot("kraken", "A"), fd=null)
            bench.order(CaptureEnd(), Permit(77), Refuse(78, "no"), Resubscribe(3, ["A"], "trade"))
            await bench.until(2, event="streams", state="confirmed")
            assert len(bench.desk) == 1
        assert bench.faults == []
        os.close(null)
        assert open_descriptors() <= before

    run(main())
    assert caplog.text.count("cannot be obeyed") == 13


@pytest.mark.parametrize("end", ["order", "close", "another"])
def test_recorders_connection_ends_when_we_copy_no_more(end: str) -> None:
    async def main() -> None:
        bench = Bench("A")
        recorder, held = socket.socketpair()
        another = socket.socketpair()
        with bench.ours, bench.theirs, recorder, another[0], another[1]:
            bench.order(CaptureHold(), fd=held.fileno())
            held.close()  # and with it the daemon's
            recorder.setblocking(False)
            bench.desk.take_orders()
            with pytest.raises(BlockingIOError):
                recorder.recv(1)
            if end == "order":
                bench.order(CaptureEnd())
            elif end == "another":
                bench.order(CaptureHold(), fd=another[1].fileno())
            else:
                await bench.desk.close()
            bench.desk.take_orders()
            assert recorder.recv(1) == b""
            await bench.desk.close()

    run(main())


def test_orders_do_not_keep_the_sockets_waiting() -> None:
    async def main() -> None:
        bench = Bench("A")
        with bench.ours, bench.theirs:
            for _ in range(5):
                bench.order(ReaderRemove(1))
            bench.desk.take_orders(3)
            left = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    receive_order(bench.theirs)
                    left += 1
            assert left == 2
        assert ORDERS_A_TURN < 100

    run(main())


def test_end_of_the_supervisor_is_told_apart_from_no_orders() -> None:
    async def main() -> None:
        bench = Bench("A")
        with bench.theirs:
            assert bench.desk.take_orders() is True
            bench.ours.close()
            assert bench.desk.take_orders() is False

    run(main())


def test_plan_whose_symbols_are_not_in_the_directory_is_refused() -> None:
    async def main() -> None:
        bench = Bench("A")
        stranger = plan("127.0.0.1:1", "STRANGER")
        with bench.ours, bench.theirs, pytest.raises(ValueError, match="STRANGER is not in"):
            bench.desk.start((stranger,))

    run(main())


def test_fault_of_ours_in_a_connection_ends_the_feed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("mdsys.feed.connection.Connection.run", fail)

    async def main() -> None:
        bench = Bench("A")
        async with bench.running(plan("127.0.0.1:1", "A")):
            await until(lambda: bench.faults)

    with caplog.at_level(logging.CRITICAL):
        run(main())
    assert "a bug" in caplog.text
