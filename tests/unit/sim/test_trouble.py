"""Faults on real sockets: what a client sees of each."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import uvloop
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websockets_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from mdsys.sim import RandomMarket, Simulator, dialects

# A client that leaves a flood does not wait for the server's last words.
connect = partial(websockets_connect, compression=None, close_timeout=0.05, max_size=None)
START_MS = 1_723_161_254_000

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(program: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(program, 60))

    return run


@asynccontextmanager
async def simulated(
    *, faults: str = "", rate: int | None = None, streams: str = "trade", **options: Any
) -> AsyncIterator[tuple[Simulator, ClientConnection]]:
    """One symbol, one client, connection 1."""
    spec = RandomMarket(1, seed=5, rate=rate, start_ms=START_MS, mix=(50, 50, 0))
    path = "/ws/" + "/".join(f"sym000000@{name}" for name in streams.split())
    async with (
        Simulator(spec, faults=faults, **options) as sim,
        connect(sim.url + path) as client,
    ):
        yield sim, client


async def everything(client: ClientConnection) -> None:
    """Read until the socket ends."""
    while True:
        await client.recv()


async def trade_ids(client: ClientConnection, count: int) -> list[int]:
    return [json.loads(await client.recv())["t"] for _ in range(count)]


def test_a_hole_loses_one_frame(run: Run) -> None:
    async def program() -> None:
        async with simulated(faults="hole,after=10") as (_, client):
            ids = await trade_ids(client, 20)
            steps = [later - earlier for earlier, later in itertools.pairwise(ids)]
            assert steps == [1] * 9 + [2] + [1] * 9

    run(program())


def test_a_duplicate_comes_twice_and_a_reordered_frame_after_the_next(run: Run) -> None:
    async def program() -> None:
        async with simulated(faults="duplicate,after=5;reorder,after=10") as (_, client):
            ids = await trade_ids(client, 14)
            first = ids[0]
            steps = [0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 11, 10, 12]
            assert [number - first for number in ids] == steps

    run(program())


def test_a_fault_of_one_kind_leaves_the_other_alone(run: Run) -> None:
    async def program() -> None:
        async with simulated(faults="mute,kind=trade,after=20", streams="trade bookTicker") as (
            _,
            client,
        ):
            frames = [json.loads(await client.recv()) for _ in range(500)]
            trades = [index for index, frame in enumerate(frames) if "t" in frame]
            assert trades
            assert max(trades) < 20

    run(program())


def test_a_mute_socket_says_nothing_but_answers_pings_and_speaks_again(run: Run) -> None:
    async def program() -> None:
        async with simulated(rate=2000) as (sim, client):
            first = (await trade_ids(client, 1))[0]
            mute = sim.inject("mute", connection=1)
            await client.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
            await (await client.ping())  # what was on its way is here
            while client.recv_messages.frames.queue:
                await client.recv()
            await (await client.ping())
            assert not client.recv_messages.frames.queue
            sim.lift(mute)
            assert (await trade_ids(client, 1))[0] > first

    run(program())


def test_a_cut_ends_in_the_middle_of_a_frame(run: Run) -> None:
    async def program() -> None:
        async with simulated(faults="cut,after=3") as (_, client):
            await trade_ids(client, 3)
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.rcvd is None

    run(program())


def test_a_reset_is_a_reset(run: Run) -> None:
    async def program() -> None:
        spec = RandomMarket(1, seed=5, rate=1, start_ms=START_MS)
        async with Simulator(spec) as sim:
            host, _, port = sim.url.removeprefix("ws://").rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(
                b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            await reader.readuntil(b"\r\n\r\n")
            await sim.connected(1)
            sim.inject("reset")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    run(program())


def test_garbage_and_size_come_as_extra_frames(run: Run) -> None:
    async def program() -> None:
        async with simulated(faults="malformed,after=2;oversized,after=4,size=3000000") as (
            _,
            client,
        ):
            texts = [await client.recv(decode=False) for _ in range(8)]
            with pytest.raises(ValueError, match="Expecting value"):
                json.loads(texts[2])
            assert len(texts[5]) == 3_000_000
            ids = [json.loads(text)["t"] for at, text in enumerate(texts) if at not in (2, 5)]
            assert ids == list(range(ids[0], ids[0] + 6))  # nothing is lost by it

    run(program())


@pytest.mark.parametrize(
    ("fault", "code"),
    [("close,code=1012,reason=maintenance", 1012), ("slow", 1008), ("lifetime,notice=0", 1001)],
)
def test_the_venue_closes(run: Run, fault: str, code: int) -> None:
    async def program() -> None:
        async with simulated(faults=f"{fault},after=50", rate=2000) as (sim, client):
            with pytest.raises(ConnectionClosed) as caught:
                await everything(client)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == code
            await sim.until(lambda: sim.stats.clients == 0)

    run(program())


def test_the_end_of_a_lifetime_is_announced(run: Run) -> None:
    async def program() -> None:
        async with simulated(rate=2000) as (sim, client):
            sim.inject("lifetime", notice=0.05)
            heard = [json.loads(text)["e"] async for text in client]
            assert heard.count("serverShutdown") == 1
            assert heard.index("serverShutdown") < len(heard) - 1  # data goes on until the close

    run(program())


def test_a_slow_client_is_thrown_out_and_does_not_hold_the_market_up(run: Run) -> None:
    async def program() -> None:
        async with simulated(faults="slow,connection=2,size=100000") as (sim, client):
            host, _, port = sim.url.removeprefix("ws://").rpartition(":")
            with socket.create_connection((host, int(port))) as lazy:
                lazy.sendall(
                    b"GET /ws/sym000000@trade HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                    b"Sec-WebSocket-Version: 13\r\n\r\n"
                )
                while 2 not in sim.connections:
                    await client.recv()
                while 2 in sim.connections:  # the library waits for its close to be answered
                    await client.recv()

    run(program())


def test_half_open_is_silent_and_unacknowledged(run: Run) -> None:
    async def program() -> None:
        async with simulated(rate=500) as (sim, client):
            await client.recv()
            raw = client.transport.get_extra_info("socket")

            def unacknowledged() -> int:
                # struct tcp_info (linux/tcp.h): tcpi_unacked is the seventh 32-bit word.
                info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
                return int.from_bytes(info[8 + 4 * 4 : 8 + 4 * 5], "little")

            sim.inject("half-open", connection=1)
            await client.send("anything")
            while not unacknowledged():  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(0)
            pong = await client.ping()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pong, 0.3)
            assert unacknowledged()
            client.transport.abort()

    run(program())


def test_upgrades_are_refused_as_often_as_asked(run: Run) -> None:
    async def program() -> None:
        spec = RandomMarket(1, seed=5, rate=100)
        async with Simulator(spec, faults="http,status=429,words=slow down,count=2") as sim:
            for _ in range(2):
                with pytest.raises(InvalidStatus) as caught:
                    await connect(sim.url + "/ws")
                assert caught.value.response.status_code == 429
                assert caught.value.response.body == b"slow down"
            async with connect(sim.url + "/ws"):
                assert sim.connections == [3]
            sim.inject("http", status=403, connection=5)
            async with connect(sim.url + "/ws"):
                with pytest.raises(InvalidStatus, match="403"):
                    await connect(sim.url + "/ws")

    run(program())


def test_the_clock_runs_ahead_and_back(run: Run) -> None:
    async def program() -> None:
        async with simulated(rate=1000) as (sim, client):
            times = [json.loads(await client.recv())["E"]]
            clock = sim.inject("clock", ahead=60)
            while times[-1] - times[0] < 50_000:
                times.append(json.loads(await client.recv())["E"])
            assert times[-1] - times[-2] >= 60_000
            sim.lift(clock)
            while times[-1] - times[0] > 50_000:
                times.append(json.loads(await client.recv())["E"])

    run(program())


def test_a_fault_may_wait_for_a_connection_to_come(run: Run) -> None:
    async def program() -> None:
        async with simulated(rate=1000) as (sim, client):
            sim.inject("close", connection=2, code=1013)
            async with connect(sim.url + "/ws") as second:
                with pytest.raises(ConnectionClosed):
                    await second.recv()
            await client.recv()

    run(program())


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be a venue ``toy``."""
    monkeypatch.setitem(dialects.DIALECTS, "toy", "tests.simulators:Toy")


@pytest.mark.usefixtures("toy")
def test_an_expired_key_is_thrown_out_and_refused_at_the_door(run: Run) -> None:
    async def program() -> None:
        async with (
            Simulator(RandomMarket(1, rate=1), venue="toy") as sim,
            connect(sim.url + "/?key=old") as client,
        ):
            assert await client.recv() == "hello"
            sim.inject("expire")
            assert await client.recv() == "out: expired"
            with pytest.raises(ConnectionClosed):
                await client.recv()
            with pytest.raises(InvalidStatus, match="403"):
                await connect(sim.url + "/?key=old")
            async with connect(sim.url + "/?key=new") as newer:
                assert await newer.recv() == "hello"

    run(program())


@pytest.mark.usefixtures("toy")
def test_a_simulator_may_know_its_keys(run: Run) -> None:
    async def program() -> None:
        async with Simulator(RandomMarket(1, rate=1), venue="toy", secrets=["good"]) as sim:
            with pytest.raises(InvalidStatus, match="403"):
                await connect(sim.url + "/?key=bad")
            async with connect(sim.url + "/?key=good") as client:
                assert await client.recv() == "hello"

    run(program())


@pytest.mark.usefixtures("toy")
def test_subscriptions_are_refused_by_symbol_and_channel_in_words(run: Run) -> None:
    async def program() -> None:
        faults = "refuse,symbol=SYM00000[1-3],channel=trade,words=not entitled"
        async with (
            Simulator(RandomMarket(5, rate=1), venue="toy", faults=faults) as sim,
            connect(sim.url + "/?key=k") as client,
        ):
            await client.recv()
            answers = {}
            for asked in ("SYM000000 trade", "SYM000001 trade", "SYM000001 quote"):
                await client.send(f"show {asked}")
                answers[asked] = await client.recv()
            assert answers["SYM000001 trade"] == "refused SYM000001 not entitled"
            assert list(answers.values()).count("done") == 2

    run(program())
