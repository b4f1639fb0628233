"""Limits on real sockets: the simulator counts as the venue does, and proves breaches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websockets_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from mdsys.feed.venue import Limits, Window
from mdsys.sim import RandomMarket, Simulator, dialects, police
from mdsys.sim.client import SimClient
from tests.simulators import Toy

connect = partial(websockets_connect, compression=None, close_timeout=0.05)
MARKET = RandomMarket(3, rate=1)


class Address:
    """All that is asked of a client."""

    address = "127.0.0.1"


def run(program: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(program, 60))


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be a venue ``toy``."""
    monkeypatch.setitem(dialects.DIALECTS, "toy", "tests.simulators:Toy")


async def closed(client: ClientConnection) -> tuple[int, str]:
    """Read until the venue closes; return its code and reason."""
    with suppress(ConnectionClosed):
        while True:
            await client.recv()
    assert client.close_code is not None
    return client.close_code, client.close_reason or ""


async def get(sim: Simulator, target: str) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of a GET request."""
    host, _, port = sim.rest_url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


@pytest.mark.parametrize(
    ("venue", "most"), [("binance", 5), ("binance_usdm", 10), ("binance_coinm", 10)]
)
def test_one_message_too_many_in_a_second_closes_and_is_proven(venue: str, most: int) -> None:
    async def program() -> None:
        told: list[str] = []
        async with (
            Simulator(MARKET, venue=venue, tell=told.append) as sim,
            connect(sim.url + "/ws") as client,
        ):
            for number in range(most):
                await client.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
                await client.recv()
            assert list(sim.breaches) == []
            await client.send('{"method":"LIST_SUBSCRIPTIONS","id":99}')
            assert await closed(client) == (1008, "Too many requests")
            (broken,) = sim.breaches
            assert (broken.what, broken.connection) == ("messages", 1)
            assert broken.words == f"more than {most} within 1 s"
            assert told == [f"connection 1: broke messages: more than {most} within 1 s"]

    run(program())


@pytest.mark.parametrize(("last_s", "accused"), [(1.006, 0), (0.9, 1)])
def test_message_that_came_while_others_were_served_is_not_dated_after_that(
    monkeypatch: pytest.MonkeyPatch, last_s: float, accused: int
) -> None:
    async def program() -> None:
        now_s = 0.0
        monkeypatch.setattr(police, "time", SimpleNamespace(monotonic=lambda: now_s))
        found: list[str] = []
        limits = Limits(messages=(Window(2, 1.0),))
        watch = police.Police(limits, lambda _, __, words: found.append(words))
        client = cast(SimClient, Address())

        def look(*times_s: float) -> None:
            nonlocal now_s
            for each in times_s:
                now_s = each
                watch.watch()

        look(0.0, 0.005)
        # The message comes at 0.006, right after the sockets were looked at. 300 ms pass over
        # others; then the clock is looked at, and then the sockets again.
        look(0.306)
        watch.heard(client, control=False)
        look(0.5, 0.505, 0.51)
        watch.heard(client, control=False)
        look(last_s - 0.01, last_s - 0.005, last_s)
        watch.heard(client, control=False)
        watch.rest()
        assert len(found) == accused

    run(program())


def test_pings_and_pongs_count_where_the_venue_counts_them() -> None:
    async def program() -> None:
        limits = Limits(messages=(Window(5, 60),), control_frames_count=True)
        for counted in (True, False):
            if not counted:
                limits = Limits(messages=(Window(5, 60),))
            async with (
                Simulator(MARKET, limits=limits) as sim,
                connect(sim.url + "/ws", ping_interval=None) as client,
            ):
                for _ in range(3):
                    await client.ping()
                    await client.pong()
                await (await client.ping()) if not counted else await closed(client)
                assert len(sim.breaches) == counted

    run(program())


def test_messages_of_all_sockets_of_an_address_count_together() -> None:
    async def program() -> None:
        limits = Limits(address_messages=(Window(3, 60),))
        async with (
            Simulator(MARKET, limits=limits) as sim,
            connect(sim.url + "/ws") as first,
            connect(sim.url + "/ws") as second,
        ):
            for client in (first, second, first, second):
                await client.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
                if client is first:
                    await client.recv()
            assert await closed(second) == (1008, "Too many requests")
            assert [broken.what for broken in sim.breaches] == ["address_messages"]

    run(program())


def test_one_attempt_to_connect_too_many_is_turned_away() -> None:
    async def program() -> None:
        limits = Limits(connects=(Window(2, 60),))
        async with Simulator(MARKET, limits=limits) as sim:
            for _ in range(2):
                async with connect(sim.url + "/ws"):
                    pass
            with pytest.raises(InvalidStatus, match="429"):
                await connect(sim.url + "/ws")
            assert [(broken.what, broken.connection) for broken in sim.breaches] == [
                ("connects", 3)
            ]
            assert sim.stats.attempts == 3

    run(program())


def test_attempts_with_one_key_count_for_that_key() -> None:
    async def program() -> None:
        limits = Limits(key_connects=(Window(1, 60),))
        async with Simulator(MARKET, venue="toy", limits=limits) as sim:
            async with connect(sim.url + "/?key=a"), connect(sim.url + "/?key=b"):
                pass
            with pytest.raises(InvalidStatus, match="406"):
                await connect(sim.url + "/?key=a")
            assert [broken.what for broken in sim.breaches] == ["key_connects"]

    run(program())


@pytest.mark.parametrize("late", [False, True])
def test_one_socket_too_many_of_a_key_is_closed_in_the_venues_words(late: bool) -> None:
    async def program() -> None:
        async with (
            Simulator(MARKET, venue="toy") as sim,
            connect(sim.url + "/?key=k"),
            connect(sim.url + "/?key=k"),
            connect(sim.url + "/?key=other"),
            connect(sim.url + f"/?key={'unknown' if late else 'k'}") as client,
        ):
            assert await client.recv() == "hello"
            if late:  # the key comes by message
                await client.send("key k")
                assert await client.recv() == "keyed"
            assert await client.recv() == "out: connections"
            assert (await closed(client))[0] == 1008
            assert [(broken.what, broken.connection) for broken in sim.breaches] == [
                ("connections", 4)
            ]

    run(program())


def test_a_socket_that_ended_or_is_half_open_makes_room() -> None:
    async def program() -> None:
        async with Simulator(MARKET, venue="toy") as sim, connect(sim.url + "/?key=k") as first:
            async with connect(sim.url + "/?key=k"):
                pass
            await sim.until(lambda: sim.stats.clients == 1)
            async with connect(sim.url + "/?key=k"):
                await sim.connected(3)
                sim.inject("half-open", connection=1)
                async with connect(sim.url + "/?key=k") as client:
                    assert await client.recv() == "hello"
                    await client.send("book SYM000001")
                    assert str(await client.recv()).startswith("book")
            assert list(sim.breaches) == []
            first.transport.abort()

    run(program())


def test_rest_weights_are_counted_and_too_many_answered_by_the_server() -> None:
    async def program() -> None:
        async with Simulator(MARKET, venue="toy") as sim:
            for _ in range(2):
                assert (await get(sim, "/rest"))[::2] == (200, b"weighed")
            assert (await get(sim, "/nosuch"))[0] == 404
            status, headers, _ = await get(sim, "/rest")
            assert (status, headers["retry-after"]) == (406, "60")
            assert [(broken.what, broken.connection) for broken in sim.breaches] == [
                ("rest_weight", 0)
            ]

    run(program())


def test_order_books_are_served_on_the_port_of_the_streams() -> None:
    async def program() -> None:
        async with Simulator(MARKET, venue="binance_usdm") as sim:
            status, headers, body = await get(sim, "/fapi/v1/depth?symbol=SYM000002&limit=20")
            assert (status, headers["content-type"]) == (200, "application/json")
            assert headers["x-mbx-used-weight-1m"] == "2"
            assert len(json.loads(body)["asks"]) == 20
            assert (await get(sim, "/fapi/v1/depth?symbol=NO"))[0] == 400

    run(program())


def test_who_says_nothing_in_time_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def program() -> None:
        monkeypatch.setattr(Toy, "hello_s", 0.1)
        async with (
            Simulator(MARKET, venue="toy") as sim,
            connect(sim.url + "/?key=a") as quiet,
            connect(sim.url + "/?key=b") as client,
        ):
            await client.send("book SYM000001")
            assert await closed(quiet) == (1008, "hello")
            await client.send("book SYM000001")
            await client.recv()

    run(program())
