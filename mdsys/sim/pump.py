"""The pump: moves the source on block by block and writes each client's share of the block.

Clients share one market: a client that does not read holds the others up, and no client ever has
more than a block and the high-water mark waiting in memory. Under a clock the source falls behind
meanwhile and then catches up, block by block; nothing is dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from mdsys.sim.alarm import Alarm
from mdsys.sim.client import SimClient
from mdsys.sim.source import Source

# Events due within this time go out together: at 100,000/s a wake-up for each would only burn time.
TICK_NS = 500_000


async def pump(
    source: Source,
    clients: Collection[SimClient],
    begin: asyncio.Event,
    wanted: asyncio.Event,
    throw_out: Callable[[SimClient, str], None],
) -> None:
    """Serve a source until it ends and its last byte is with the kernel.

    Args:
        source: Not started yet.
        clients: Those that are open, at any time.
        begin: Set when it may start.
        wanted: Set while somebody is subscribed to something; an unpaced source waits for it.
        throw_out: Ends a client as the venue does, for a reason of `Dialect.breach`.
    """
    await begin.wait()
    start_ns = time.monotonic_ns()
    source.start()
    alarm = Alarm()
    try:
        while (due_ns := source.due_ns()) is not None:
            if source.paced:
                now_ns = time.monotonic_ns() - start_ns
                if due_ns > now_ns:
                    # From one tick to the next, or to the event when that is later.
                    await alarm.until(start_ns + max(due_ns, now_ns + TICK_NS))
                    now_ns = time.monotonic_ns() - start_ns
                source.advance(now_ns)
            else:
                await wanted.wait()
                source.advance(None)
            for client in clients:
                client.pump()
            await asyncio.sleep(0)  # uvloop sends when the loop comes round
            await _drain(clients, throw_out)
    finally:
        alarm.close()
    for client in clients:
        client.socket.transport.set_write_buffer_limits(0)
    await _drain(clients, throw_out)


async def _drain(
    clients: Collection[SimClient], throw_out: Callable[[SimClient, str], None]
) -> None:
    """Wait for slow clients, but not for those that the venue throws out instead."""
    for client in tuple(clients):
        if client.slow_size is not None:
            if client.socket.transport.get_write_buffer_size() > client.slow_size:
                throw_out(client, "slow")
        elif client.socket.paused and not client.is_frozen:
            with suppress(OSError):  # it left; its handler notices too
                await client.socket.drain()
