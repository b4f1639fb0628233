"""The yardstick: a market-data pipeline as it is usually written in Python. A program, not a bench.

    websockets (asyncio) -> msgspec, typed -> float() -> struct.pack_into a ring in shared memory

As quick as its parts allow: no compression, Structs told apart by their tag, text left as bytes.
Use: bench_ingest_plain.py URL RING_FILE DEPTH SYMBOL... ; the file's first word counts records.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import struct
import sys
import time

import msgspec
from websockets.asyncio.client import connect

HEADER_SIZE = 4096
RECORD = struct.Struct("<QqqIIdddd")
COUNT = struct.Struct("<Q")


class Quote(msgspec.Struct, tag_field="e", tag="bookTicker"):
    """A bookTicker frame."""

    u: int
    s: str
    b: str
    B: str
    a: str
    A: str
    T: int
    E: int


class Trade(msgspec.Struct, tag_field="e", tag="trade"):
    """A trade frame."""

    E: int
    T: int
    s: str
    t: int
    p: str
    q: str
    X: str
    m: bool


async def run(url: str, ring: mmap.mmap, depth: int, symbols: list[str]) -> None:
    """Subscribe, and store every tick."""
    decode = msgspec.json.Decoder(Quote | Trade).decode
    ids = {symbol: number for number, symbol in enumerate(symbols, start=1)}
    pack, pack_count, now_ns = RECORD.pack_into, COUNT.pack_into, time.time_ns
    params = [f"{s.lower()}@{stream}" for s in symbols for stream in ("trade", "bookTicker")]
    count = 0
    async with connect(f"{url}/ws", compression=None, max_size=2**20) as socket:
        await socket.send(json.dumps({"method": "SUBSCRIBE", "params": params, "id": 1}))
        await socket.recv()
        while True:
            tick = decode(await socket.recv(decode=False))
            at = HEADER_SIZE + count % depth * RECORD.size
            count += 1
            if type(tick) is Quote:
                body = float(tick.b), float(tick.a), float(tick.B), float(tick.A)
                kind = 2
            else:
                body = float(tick.p), float(tick.q), float(tick.t), 0.0
                kind = 1
            pack(ring, at, count, tick.T * 1_000_000, now_ns(), ids[tick.s], kind, *body)
            pack_count(ring, 0, count)


def main() -> None:
    """Map the ring that the bench has made, and run."""
    url, file, depth, *symbols = sys.argv[1:]
    descriptor = os.open(file, os.O_RDWR)
    ring = mmap.mmap(descriptor, 0)
    asyncio.run(run(url, ring, int(depth), symbols))


if __name__ == "__main__":
    main()
