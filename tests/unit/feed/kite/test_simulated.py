"""The simulator, the look-up, the talk and the decoder together, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import urllib.request
from collections.abc import Mapping

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from mdsys._decode import Decoder
from mdsys.feed.frame import FrameResult, SymbolInfo
from mdsys.feed.kite.instruments import Instruments
from mdsys.feed.kite.venue import KITE
from mdsys.feed.venue import Stream
from mdsys.sim import RandomMarket
from mdsys.sim.server import Simulator

SECRET = {"api_key": "key", "access_token": "good"}
NAMES = [f"NSE:SYM{i:06d}" for i in range(5)]
FRAMES = 300


def simulator() -> Simulator:
    return Simulator(RandomMarket(symbols=5, rate=3000, seed=3), venue="kite", secrets=["good"])


def get(url: str, headers: Mapping[str, str]) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers))) as answer:
        return gzip.decompress(answer.read())


def test_names_are_resolved_subscribed_and_decoded() -> None:
    async def main() -> None:
        async with asyncio.timeout(30), simulator() as sim:

            async def fetch(
                path: str,
                *,
                params: Mapping[str, str] | None = None,
                headers: Mapping[str, str] | None = None,
                weight: int = 1,
            ) -> bytes:
                assert (params, weight) == (None, 1)
                return await asyncio.to_thread(get, sim.rest_url + path, headers or {})

            found = await Instruments().resolve(NAMES, SECRET, fetch)
            infos = {
                each.wire: SymbolInfo(i + 1, each.price_scale, each.size_scale)
                for i, each in enumerate(found.values())
            }
            decoder = Decoder("kite", infos)
            dial = KITE.dial(sim.url, SECRET)
            streams = [
                Stream(name, channel, found[name].wire)
                for name in NAMES
                for channel in KITE.channels
            ]
            async with connect(
                dial.url, additional_headers=dict(dial.headers), max_queue=None
            ) as socket:
                for message in KITE.talk(SECRET).subscribe(streams, 1):
                    await socket.send(message)
                for _ in range(FRAMES):
                    frame = await socket.recv(decode=False)
                    assert decoder.decode(frame)[0] == FrameResult.OK
            assert decoder.counts["tickers"] >= FRAMES
            assert all(decoder.book(each.wire)[0] for each in found.values())
            assert sim.breaches == []

    asyncio.run(main())


def test_dead_token_is_refused_at_the_door() -> None:
    async def main() -> None:
        async with asyncio.timeout(30), simulator() as sim:
            dial = KITE.dial(sim.url, {**SECRET, "access_token": "of yesterday"})
            with pytest.raises(InvalidStatus) as refusal:
                await connect(dial.url)
            assert refusal.value.response.status_code == 403
            assert b"TokenException" in refusal.value.response.body

    asyncio.run(main())


def test_fourth_socket_of_a_key_is_refused() -> None:
    async def main() -> None:
        async with asyncio.timeout(30), simulator() as sim:
            dial = KITE.dial(sim.url, SECRET)
            sockets = [await connect(dial.url) for _ in range(3)]
            with pytest.raises(InvalidStatus) as refusal:
                await connect(dial.url)
            assert refusal.value.response.status_code == 429
            async with connect(KITE.dial(sim.url, {**SECRET, "api_key": "another"}).url):
                pass
            for socket in sockets:
                await socket.close()

    asyncio.run(main())
