"""Faults at work: which strike which client, and what a strike on a socket does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mdsys.sim.client import SimClient
from mdsys.sim.exchange import SimExchange
from mdsys.sim.faults import Armed, Fault

# Neither JSON nor anything binary that a venue sends.
GARBAGE = b'{"e":"trade","s":\x00'


class Trouble:
    """Arms clients with faults and carries out those of the scope ``socket``."""

    def __init__(
        self,
        exchange: SimExchange,
        seed: int,
        *,
        throw_out: Callable[[SimClient, str], None],
        close: Callable[[SimClient, int, str], None],
        tell: Callable[[str], None],
        notice_s: float,
    ) -> None:
        """Take the means.

        Args:
            exchange: Told of secrets that expire.
            seed: Of chance.
            throw_out: Ends a socket as the venue does, for a reason of `Dialect.breach`.
            close: Ends a socket with a WebSocket close, or cuts it off with code 0.
            tell: Told what happens, in words.
            notice_s: Between a venue's notice and its close.
        """
        self._exchange = exchange
        self._seed = seed
        self._throw_out = throw_out
        self._close = close
        self._tell = tell
        self._notice_s = notice_s
        self._armed_count = 0

    def arm(self, client: SimClient, fault: Fault) -> None:
        """Let a fault happen to a client, at once or when its time comes."""
        if fault.after_s is not None:
            asyncio.get_running_loop().call_later(fault.after_s, self.strike, client, fault)
        elif fault.kind.scope == "frame" or fault.after_frames or fault.every is not None:
            number = self._armed_count
            self._armed_count += 1
            client.armed.append(Armed(fault, self._seed, number, client.number))
        else:
            self.strike(client, fault)

    def strike(self, client: SimClient, fault: Fault) -> None:
        """Carry out a fault of the scope ``socket``, if the socket is still there."""
        if fault.lifted or not client.is_open or client.session is None:
            return
        self.told(client, fault)
        match fault.name:
            case "mute":
                client.mutes.append(fault)
            case "half-open":
                client.freeze()
            case "reset":
                client.reset()
            case "close":
                self._close(client, int(fault.number("code") or 0), fault.option("reason"))
            case "malformed":
                client.send_garbage(GARBAGE)
            case "oversized":
                client.send_garbage(b"x" * int(fault.number("size") or 0))
            case "slow":
                size = fault.number("size")
                if size is None:
                    self._throw_out(client, "slow")
                else:
                    client.slow_size = int(size)
            case "lifetime":
                client.say(client.session.leave())
                wait_s = fault.number("notice")
                wait_s = self._notice_s if wait_s is None else wait_s
                loop = asyncio.get_running_loop()
                loop.call_later(wait_s, self._throw_out, client, "lifetime")
            case "expire":
                self._exchange.expire(client.session.secret)
                self._throw_out(client, "expired")
            case _:
                raise AssertionError(fault.name)

    def told(self, client: SimClient, fault: Fault) -> None:
        """Say that it happens."""
        self._tell(f"connection {client.number}: fault {fault.name}")
