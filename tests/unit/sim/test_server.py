from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websockets_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from mdsys.errors import UsageError
from mdsys.feed.binance.dialect import BinanceSpot
from mdsys.feed.venue import Limits
from mdsys.sim import RandomMarket, Replay, ReplayError, Simulator, server
from tests.simulators import FormOnly

START_MS = 1_723_161_254_000
SYMBOLS = 5
STREAMS = [
    f"sym{index:06d}@{channel}"
    for index in range(SYMBOLS)
    for channel in ("trade", "bookTicker", "depth@100ms")
]
PATH = "/stream?streams=" + "/".join(STREAMS)

# A client that leaves a flood does not wait for the server's last words.
connect = partial(websockets_connect, compression=None, close_timeout=0.05)

Loop = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Loop:
    """Return what runs a coroutine: both loops' transports must serve."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(program: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(program, 60))

    return run


def market(events: int | None, rate: int | None = None) -> RandomMarket:
    return RandomMarket(SYMBOLS, seed=5, rate=rate, start_ms=START_MS, events_max=events)


def expected(spec: RandomMarket, streams: list[str], *, combined: bool = True) -> bytes:
    """Return the frames of a whole market, headers included."""
    source = spec.open(BinanceSpot)
    view = source.view(FormOnly(combined=combined))
    view.show_streams(streams)
    source.start()
    out = b""
    while source.due_ns() is not None:
        source.advance(None)
        out += b"".join(view.render())
    return out


async def request(client: ClientConnection, method: str, *params: str) -> dict[str, Any]:
    """Send a request and return its answer, dropping data that comes before it."""
    await client.send(json.dumps({"method": method, "params": list(params), "id": 7}))
    while True:
        answer: dict[str, Any] = json.loads(await client.recv())
        if "stream" not in answer and "e" not in answer and "u" not in answer:
            return answer


def test_a_client_receives_the_whole_market_and_the_counts_agree(loop: Loop) -> None:
    async def program() -> None:
        async with Simulator(market(20_000)) as sim, connect(sim.url + PATH) as client:
            found: Counter[str] = Counter()
            records: Counter[str] = Counter()
            for _ in range(20_000):
                frame = json.loads(await client.recv())
                kind = {"trade": "trade", "depth@100ms": "depth", "bookTicker": "quote"}[
                    frame["stream"].partition("@")[2]
                ]
                found[kind] += 1
                data = frame["data"]
                records[kind] += len(data["b"]) + len(data["a"]) if kind == "depth" else 1
            await sim.finished()
            assert sim.stats.frames == found
            assert sim.stats.records == records
            assert sim.stats.clients == 1
            assert sim.stats.streams == len(STREAMS)

    loop(program())


def test_picows_receives_every_byte_as_generated(loop: Loop) -> None:
    class Listener(WSListener):
        def __init__(self) -> None:
            self.payloads: list[bytes] = []
            self.done = asyncio.Event()

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            assert frame.msg_type == WSMsgType.TEXT
            assert frame.fin
            self.payloads.append(frame.get_payload_as_bytes())
            if len(self.payloads) == 20_000:
                self.done.set()

    async def program() -> None:
        async with Simulator(market(20_000)) as sim:
            transport, listener = await ws_connect(Listener, sim.url + PATH)
            assert isinstance(listener, Listener)
            await listener.done.wait()
            assert listener.payloads == payloads_of(expected(market(20_000), STREAMS))
            transport.disconnect()
            await transport.wait_disconnected()

    loop(program())


def payloads_of(frames: bytes) -> list[bytes]:
    """Split frames by RFC 6455 and nothing of ours."""
    found = []
    at = 0
    while at < len(frames):
        assert frames[at] == 0x81
        size, start = frames[at + 1], at + 2
        if size == 126:
            size, start = int.from_bytes(frames[start : start + 2]), start + 2
            assert size > 125
        assert size < 0x10000
        at = start + size
        found.append(frames[start:at])
    assert at == len(frames)
    return found


def test_requests_change_what_a_client_gets(loop: Loop) -> None:
    async def program() -> None:
        async with (
            Simulator(market(None, rate=5000)) as sim,
            connect(sim.url + "/ws") as client,
        ):
            assert await request(client, "SUBSCRIBE", "sym000001@trade") == {
                "result": None,
                "id": 7,
            }
            for _ in range(20):
                data = json.loads(await client.recv())
                assert (data["e"], data["s"]) == ("trade", "SYM000001")
            await request(client, "SUBSCRIBE", "sym000002@depth")
            listed = await request(client, "LIST_SUBSCRIPTIONS")
            assert listed["result"] == ["sym000001@trade", "sym000002@depth"]
            await request(client, "UNSUBSCRIBE", "sym000001@trade")
            for _ in range(20):
                data = json.loads(await client.recv())
                assert (data["e"], data["s"]) == ("depthUpdate", "SYM000002")

    loop(program())


def test_an_unknown_stream_is_accepted_and_never_ticks(loop: Loop) -> None:
    async def program() -> None:
        async with Simulator(market(100)) as sim, connect(sim.url + "/ws") as client:
            answer = await request(client, "SUBSCRIBE", "nosuch@trade", "sym000000@nosuch", "x")
            assert answer == {"result": None, "id": 7}
            await sim.finished()
            assert sim.stats.size == 0

    loop(program())


def test_two_clients_see_one_market_each_its_own_streams(loop: Loop) -> None:
    async def receive(client: ClientConnection, count: int) -> list[bytes]:
        return [await client.recv(decode=False) for _ in range(count)]

    async def program() -> None:
        spec = market(5000)
        mine, yours = STREAMS[:6], STREAMS[3:]
        async with (
            Simulator(spec, held=True) as sim,
            connect(sim.url + "/stream?streams=" + "/".join(mine)) as first,
            connect(sim.url + "/ws/" + "/".join(yours)) as second,
        ):
            await sim.subscribed(len(mine) + len(yours))
            assert sim.stats.size == 0
            sim.start()
            first_wanted = payloads_of(expected(spec, mine))
            second_wanted = payloads_of(expected(spec, yours, combined=False))
            first_got, second_got = await asyncio.gather(
                receive(first, len(first_wanted)), receive(second, len(second_wanted))
            )
            assert first_got == first_wanted
            assert second_got == second_wanted

    loop(program())


def test_a_replay_is_served_byte_for_byte_and_the_connection_stays(
    loop: Loop, tmp_path: Path
) -> None:
    async def program() -> None:
        frames = [b'{"stream":"a@trade","data":{"t":%d}}' % index for index in range(3000)]
        path = tmp_path / "capture"
        path.write_bytes(b"".join(b"%d %s\n" % line for line in enumerate(frames)))
        async with (
            Simulator(Replay(path, speed=None)) as sim,
            connect(sim.url + "/stream?streams=a@trade") as client,
        ):
            assert [await client.recv(decode=False) for _ in frames] == frames
            await sim.finished()
            assert await request(client, "LIST_SUBSCRIPTIONS")

    loop(program())


def test_a_damaged_recording_ends_the_pump_with_its_error(loop: Loop, tmp_path: Path) -> None:
    async def program() -> None:
        path = tmp_path / "capture"
        path.write_bytes(b'1 {"stream":"a@trade","data":{}}\n2 nonsense\n')
        async with (
            Simulator(Replay(path, speed=None)) as sim,
            connect(sim.url + "/stream?streams=a@trade"),
        ):
            with pytest.raises(ReplayError, match="capture:2"):
                await sim.finished()

    loop(program())


def test_a_client_that_does_not_read_holds_the_market_up_in_bounded_memory(loop: Loop) -> None:
    async def program() -> None:
        async with Simulator(market(None)) as sim:
            reader, writer = await asyncio.open_connection(*host_and_port(sim), limit=4096)
            writer.write(handshake(PATH))
            await reader.readuntil(b"\r\n\r\n")
            size = -1
            while size != sim.stats.size:  # until the kernel's buffers are full too
                size = sim.stats.size
                for _ in range(2000):
                    await asyncio.sleep(0)
            (client,) = sim._clients
            assert client.socket.paused
            assert client.socket.transport.get_write_buffer_size() < 2 * 1024 * 1024
            # Nothing was dropped meanwhile, and reading makes it go on.
            frames = await reader.readexactly(size)
            assert frames == expected(market(150_000), STREAMS)[:size]
            while sim.stats.size == size:
                await reader.read(65536)
            writer.transport.abort()

    loop(program())


def test_finished_waits_for_the_last_byte(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def program() -> None:
        monkeypatch.setattr(server, "WRITE_HIGH", 1 << 30)  # the pump ends long before the bytes
        spec = market(100_000)
        frames = expected(spec, STREAMS)
        async with Simulator(spec) as sim:
            reader, writer = await asyncio.open_connection(*host_and_port(sim), limit=4096)
            writer.write(handshake(PATH))
            await reader.readuntil(b"\r\n\r\n")
            finished = asyncio.create_task(sim.finished())
            for _ in range(2000):
                await asyncio.sleep(0)
            assert sim.stats.size == len(frames)
            assert not finished.done()
            assert await reader.readexactly(len(frames)) == frames
            await finished
            writer.transport.abort()

    loop(program())


def host_and_port(sim: Simulator) -> tuple[str, int]:
    host, _, port = sim.url.removeprefix("ws://").rpartition(":")
    return host, int(port)


def handshake(path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def test_a_client_that_vanishes_mid_stream_leaves_the_others_alone(loop: Loop) -> None:
    async def program() -> None:
        async with Simulator(market(None)) as sim, connect(sim.url + PATH) as staying:
            leaving = await connect(sim.url + PATH)
            for _ in range(100):
                await leaving.recv()
            leaving.transport.abort()
            for _ in range(20_000):
                await staying.recv()
            while sim.stats.clients != 1:
                await staying.recv()
            assert sim.stats.clients_total == 2

    loop(program())


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 100,  # an unmasked frame
        b"\xff" * 100,  # reserved bits and an unknown opcode
        b"\x82\x84\x00\x00\x00\x00\xff\xfe\xfd\xfc",  # a proper binary frame of nonsense
        b"\x81\xff\x00\x00\x00\x10\x00\x00\x00\x00" + b"\x00" * 64,  # 64 GiB announced
    ],
)
def test_garbage_from_one_client_leaves_the_others_alone(loop: Loop, garbage: bytes) -> None:
    async def program() -> None:
        async with Simulator(market(None, rate=2000)) as sim, connect(sim.url + PATH) as good:
            reader, writer = await asyncio.open_connection(*host_and_port(sim))
            writer.write(handshake("/ws"))
            await reader.readuntil(b"\r\n\r\n")
            writer.write(garbage)
            answer = await reader.read(2)
            # A close frame, or the venue's error for what is no JSON.
            assert answer[:1] in (b"\x88", b"\x81")
            writer.transport.abort()
            for _ in range(100):
                await good.recv()

    loop(program())


def test_garbage_instead_of_a_handshake_leaves_the_server_up(loop: Loop) -> None:
    async def program() -> None:
        async with Simulator(market(None, rate=2000)) as sim:
            reader, writer = await asyncio.open_connection(*host_and_port(sim))
            writer.write(b"\x16\x03\x01\x02\x00\r\n\r\n")
            await reader.read()
            writer.close()
            async with connect(sim.url + PATH) as client:
                await client.recv()

    loop(program())


def test_an_unknown_path_is_refused(loop: Loop) -> None:
    async def program() -> None:
        async with Simulator(market(1)) as sim:
            with pytest.raises(InvalidStatus, match="404"):
                await connect(sim.url + "/api/v3/depth")

    loop(program())


def test_too_many_streams_close_the_connection(loop: Loop) -> None:
    async def program() -> None:
        async with (
            Simulator(market(1), limits=Limits(streams_per_connection=2)) as sim,
            connect(sim.url + PATH) as client,
        ):
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1008

    loop(program())


def test_the_server_pings_and_drops_nobody_who_answers(loop: Loop) -> None:
    async def program() -> None:
        pings = asyncio.Queue[bytes]()
        async with (
            Simulator(market(None, rate=1000), ping_interval_s=0.02) as sim,
            connect(sim.url + PATH) as client,
        ):
            receive = client.protocol.recv_frame

            def notice(frame: Any) -> None:
                if frame.opcode == 9:
                    pings.put_nowait(bytes(frame.data))
                receive(frame)

            client.protocol.recv_frame = notice  # type: ignore[method-assign]
            while pings.qsize() < 3:
                await client.recv()

    loop(program())


@pytest.mark.parametrize("rate", [None, 1_000_000])
def test_the_market_starts_with_the_first_subscription(loop: Loop, rate: int | None) -> None:
    async def program() -> None:
        async with Simulator(market(10, rate)) as sim, connect(sim.url + "/stream") as client:
            assert (await request(client, "LIST_SUBSCRIPTIONS"))["result"] == []
            assert sim.stats.size == 0
            await client.send(json.dumps({"method": "SUBSCRIBE", "params": STREAMS, "id": 1}))
            assert json.loads(await client.recv()) == {"result": None, "id": 1}
            got = [await client.recv(decode=False) for _ in range(10)]
            assert got == payloads_of(expected(market(10, rate), STREAMS))

    loop(program())


def test_leaving_closes_connections_and_the_address_is_free_again(loop: Loop) -> None:
    async def read(client: ClientConnection) -> int | None:
        async for _ in client:
            pass
        return client.close_code

    async def program() -> None:
        async with Simulator(market(None)) as sim:
            client = await connect(sim.url + PATH)
            await client.recv()
            reading = asyncio.create_task(read(client))
            host, port = host_and_port(sim)
        assert await reading == 1001
        with socket.create_server((host, port)):
            pass

    loop(program())


def test_a_taken_address_is_an_error_and_closes_the_recording(loop: Loop, tmp_path: Path) -> None:
    async def program() -> None:
        path = tmp_path / "capture"
        path.write_bytes(b'1 {"stream":"a@trade","data":{}}\n')
        async with Simulator(market(1)) as sim:
            with pytest.raises(OSError, match="in use"):
                await Simulator(Replay(path), port=host_and_port(sim)[1]).__aenter__()

    loop(program())


def test_a_misspelt_venue_is_answered_with_the_right_one() -> None:
    with pytest.raises(UsageError, match="did you mean binance_usdm"):
        Simulator(market(1), venue="binance_usd")
