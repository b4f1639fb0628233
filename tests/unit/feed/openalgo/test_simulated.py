"""The simulator, the talk and the decoder together, over a real socket."""

from __future__ import annotations

import asyncio

from websockets.asyncio.client import connect

from mdsys._decode import Decoder
from mdsys.feed.frame import FrameResult, SymbolInfo
from mdsys.feed.openalgo.venue import OPENALGO
from mdsys.feed.venue import Confirmed, Event, Opened, Refused, Stream
from mdsys.sim import RandomMarket
from mdsys.sim.server import Simulator

SECRET = {"api_key": "good"}
NAMES = [f"NSE:SYM{i:06d}" for i in range(5)]
FRAMES = 300


def test_symbols_are_subscribed_acknowledged_and_decoded() -> None:
    async def main() -> None:
        market = RandomMarket(symbols=5, rate=3000, seed=3)
        async with (
            asyncio.timeout(30),
            Simulator(market, venue="openalgo", secrets=["good"]) as sim,
            connect(OPENALGO.dial(sim.url, SECRET).url, max_queue=None) as socket,
        ):
            decoder = Decoder("openalgo", {name: SymbolInfo(i + 1) for i, name in enumerate(NAMES)})
            talk = OPENALGO.talk(SECRET)
            streams = [Stream(name, each) for name in NAMES for each in OPENALGO.channels]
            unknown = Stream("NSE:NONE", "ticker")
            events: list[Event] = []
            for message in (*talk.opening(), *talk.subscribe([*streams, unknown], 1)):
                await socket.send(message)
            frames = 0
            while frames < FRAMES:
                frame = await socket.recv(decode=False)
                result, _ = decoder.decode(frame)
                if result == FrameResult.CONTROL:
                    events += talk.hear(frame)
                else:
                    assert result == FrameResult.OK
                    frames += 1
            assert events[0] == Opened()
            assert Confirmed(streams) in events
            words = "Symbol NONE not found for exchange NSE"
            assert Refused(words, [unknown]) in events
            assert decoder.counts["tickers"] == FRAMES
            assert all(decoder.book(name)[0] for name in NAMES)
            assert sim.breaches == []

    asyncio.run(main())
