"""The demo's venue: ``python -m mdsys.demo.venue``, a simulated Binance that waits for its cue.

Says where it listens, begins its market at the first line on stdin, closes in order when stdin
ends, and says how many records it has sent.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import uvloop

from mdsys.demo.child import say
from mdsys.sim import RandomMarket, Simulator


async def serve(market: RandomMarket) -> None:
    """Be the venue until stdin ends."""
    loop = asyncio.get_running_loop()
    cues = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(cues), sys.stdin)
    # Held, so that the consumer is there before the first tick.
    async with Simulator(market, venue="binance", held=True) as simulator:
        say(url=simulator.url)
        if await cues.readline():
            simulator.start()
            await cues.read()
    # The closing handshake is done: whatever was sent, the daemon has read.
    say(sent=sum(simulator.stats.records.values()))


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="mdsys.demo.venue")
    parser.add_argument("--rate", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("symbols", nargs="+")
    args = parser.parse_args()
    market = RandomMarket(args.symbols, rate=args.rate, seed=args.seed)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(market))


if __name__ == "__main__":
    main()
