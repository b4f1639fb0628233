"""What tests of the feed need: its memory without files, servers that misbehave byte by byte."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import mmap
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import uvloop

from mdsys import _consume, _native
from mdsys._listener import Feed, VenueFeed
from mdsys.counters.counters import Histogram, parse_block
from mdsys.counters.schema import fields
from mdsys.record.record import TICK, Kind

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


def frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True, rsv: int = 0) -> bytes:
    """Return a server's WebSocket frame (RFC 6455 5.2)."""
    head = bytes([fin << 7 | rsv << 4 | opcode])
    size = len(payload)
    if size < 126:
        return head + bytes([size]) + payload
    if size < 1 << 16:
        return head + b"\x7e" + struct.pack(">H", size) + payload
    return head + b"\x7f" + struct.pack(">Q", size) + payload


def trade(trade_id: int, price: str = "61540.01", symbol: str = "BTCUSDT") -> bytes:
    """Return a spot trade in the venue's own key order."""
    return (
        f'{{"e":"trade","E":1700000000001,"s":"{symbol}","t":{trade_id},"p":"{price}",'
        f'"q":"0.00212000","T":1700000000000,"m":true,"M":true}}'
    ).encode()


class Peer:
    """The server's end of one socket, after the handshake."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes = b""
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.request = request
        """The upgrade that was asked for."""

    async def send(self, *parts: bytes) -> None:
        """Send bytes in one write, so that they arrive in one read."""
        self.writer.write(b"".join(parts))
        await self.writer.drain()

    async def say(self, **fields: Any) -> None:
        """Send one control frame."""
        await self.send(frame(json.dumps(fields).encode()))

    async def accept(self, request: bytes) -> None:
        """Let the client in."""
        await self.send(acceptance(request))

    async def receive(self) -> tuple[int, bytes]:
        """Return opcode and payload of the client's next frame."""
        head = await self.reader.readexactly(2)
        size = head[1] & 127
        if size == 126:
            size = struct.unpack(">H", await self.reader.readexactly(2))[0]
        mask = await self.reader.readexactly(4)
        masked = await self.reader.readexactly(size)
        return head[0] & 15, bytes(b ^ mask[i % 4] for i, b in enumerate(masked))

    async def receive_close(self) -> int:
        """Return the code of the client's CLOSE, passing over what comes before."""
        while True:
            opcode, payload = await self.receive()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big")

    async def hang_up(self) -> None:
        """Close the socket without a word."""
        self.writer.close()

    def reset(self) -> None:
        """Have the kernel send a RST."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def acceptance(request: bytes) -> bytes:
    """Return the answer to an upgrade."""
    key = next(
        line.split(b": ")[1] for line in request.split(b"\r\n") if b"ec-WebSocket-Key" in line
    )
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


@asynccontextmanager
async def serving(
    talk: Callable[[Peer], Awaitable[None]], *, raw: bool = False, ssl: Any = None
) -> AsyncIterator[str]:
    """Serve ``talk`` on a free port; yields HOST:PORT. A fault in ``talk`` is the test's fault."""
    faults: list[BaseException] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = b""
            if not raw:
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(acceptance(request))
            await talk(Peer(reader, writer, request))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client may leave whenever it likes
        except BaseException as error:
            faults.append(error)
            raise
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=ssl)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.close()
        await server.wait_closed()
    if faults:
        raise faults[0]


class FeedMemory:
    """One feed's segments in anonymous memory, and what stands in them."""

    def __init__(
        self,
        names: list[str],
        ring_count: int = 1,
        *,
        depth: int = 1024,
        patience_ns: int = 1_000_000,
    ) -> None:
        def mapping(size: int) -> mmap.mmap:
            return mmap.mmap(-1, -(-size // 4096) * 4096)

        symbols = mapping(_native.symbols_size(16))
        _native.Symbols.create(symbols, 16, ring_count, 1, b"/dev/shm", b"unit")
        cache = mapping(_native.cache_size(16))
        _native.Cache.create(cache, 16)
        counters = mapping(_native.counters_size(1))
        _native.Counters.create(counters, 1)
        rings = [mapping(_native.ring_size(depth)) for _ in range(ring_count)]
        for index, ring in enumerate(rings):
            _native.Ring.create(ring, depth, index, 0)
        for memory in (symbols, cache, counters, *rings):
            _native.publish_segment(memory, time.time_ns())
        self.symbols = _native.Symbols(symbols, True)
        for index, name in enumerate(names):
            self.symbols.add(b"BINANCE:" + name.encode(), index % ring_count, 8, 8)
        self.cache = _native.Cache(cache, True)
        self.counter_segment = _native.Counters(counters, True)
        self._names = names
        self.maps = rings
        self._patience_ns = patience_ns
        self.take_over()
        self.rings = [_native.Ring(ring) for ring in rings]
        self._poller = _consume.Poller(self.rings)

    def take_over(self) -> None:
        """Be a feed process that begins (mdsys.feed.memory); the one before publishes no more."""
        self.writers = {
            index: _native.RingWriter(ring, os.getpid(), 1, time.time_ns())
            for index, ring in enumerate(self.maps)
        }
        for writer in self.writers.values():
            writer.repair(self.cache, self.symbols)
        self.feed = Feed(self.writers, self.counter_segment, 0, self._patience_ns)
        self.venue = VenueFeed(
            self.feed, "binance_spot", "BINANCE", self._names, self.symbols, self.cache
        )

    def new_page(self, reader: int, name: bytes = b"test") -> mmap.mmap:
        """Return a reader's page as the daemon lays it out, not added to the feed yet."""
        page = mmap.mmap(-1, -(-_native.reader_page_size() // 4096) * 4096)
        _native.ReaderPage.create(page, reader, name, 200, True, 0.8, 10_000, -1)
        _native.publish_segment(page, time.time_ns())
        return page

    def records(self) -> np.ndarray[Any, Any]:
        """Return what was published since the last call."""
        out = np.zeros(4096, TICK)
        return out[: self._poller.poll_into(out)]

    def statuses(self) -> list[tuple[int, int, int]]:
        """Return (what, first_lost, last_lost) of the status records since the last call."""
        records = self.records()
        return [
            (int(r["what"]), int(r["first_lost"]), int(r["last_lost"]))
            for r in records[records["kind"] == Kind.STATUS]
        ]

    def histogram(self, name: str) -> Histogram:
        """Return one histogram."""
        return parse_block(self.counter_segment.block(0)).histograms[name]

    def counter(self, name: str) -> int:
        """Return one counter."""
        names = fields("feeds")
        words = struct.unpack_from(f"<{len(names)}Q", self.counter_segment.block(0))
        return int(words[names.index(name)])


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine on the loop that the feed uses, with a bound."""

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    """Wait for what rings no bell: a counter, a flag of the other end of a socket."""
    while not condition():  # noqa: ASYNC110 - bounded by ``run``
        await asyncio.sleep(0)
