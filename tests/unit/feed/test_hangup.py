"""An open socket that ends in an error and nothing else."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import aiofastnet
import uvloop

from mdsys.feed.hangup import Hangup

TRIES = 20
"""Of so many connections that were reset, uvloop alone lost a few in each of a hundred runs."""


class Protocol(asyncio.Protocol):
    def __init__(self) -> None:
        self.received = b""
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)


async def connect(server: socket.socket) -> tuple[Any, Protocol, socket.socket]:
    loop = asyncio.get_running_loop()
    transport, protocol = await aiofastnet.create_connection(loop, Protocol, *server.getsockname())
    return transport, protocol, server.accept()[0]


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def test_reset_is_noticed_each_time_and_what_had_arrived_is_read() -> None:
    async def program() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            for size in [0, 100] * TRIES:
                transport, protocol, peer = await connect(server)
                hangup = Hangup(transport)
                await asyncio.sleep(0)  # it reads from the loop's next turn on
                peer.send(b"x" * size)
                reset(peer)
                async with asyncio.timeout(20):
                    assert isinstance(await protocol.lost, ConnectionResetError)
                assert protocol.received == b"x" * size
                hangup.close()

    uvloop.run(program())


def test_healthy_socket_is_left_alone_and_a_close_is_no_error() -> None:
    async def program() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            transport, protocol, peer = await connect(server)
            hangup = Hangup(transport)
            peer.sendall(b"tick")
            peer.close()
            async with asyncio.timeout(20):
                assert await protocol.lost is None
            assert protocol.received == b"tick"
            hangup.close()
            hangup.close()

    uvloop.run(program())
