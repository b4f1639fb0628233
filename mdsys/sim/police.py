"""The venue's limits, counted and held."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from mdsys.feed.venue import Limits, Window
from mdsys.sim.client import SimClient
from mdsys.sim.meter import Meter

# How often it looks at the clock: what arrives is known to have come since the last look but one.
# In a turn of the loop the sockets that are ready are found before the look, and what is late to be
# heard came while they were served; what the turn before the last look has not found came later.
LOOK_S = 0.005


@dataclass(frozen=True, slots=True)
class BrokenLimit:
    """A limit that was broken."""

    what: str
    """A field of mdsys.feed.venue.Limits."""
    connection: int
    """Number of the attempt to connect, from 1; 0: it was a REST request."""
    words: str


class Police:
    """Counts per socket, key and address, and accuses who breaks a limit."""

    def __init__(self, limits: Limits, accuse: Callable[[SimClient, str, str], None]) -> None:
        """Hold ``limits``.

        Args:
            limits: The venue's.
            accuse: Told of a client whose messages broke a limit, of what and in words.
        """
        self.found: list[BrokenLimit] = []
        self._limits = limits
        self._accuse = accuse
        self._looked = self._earliest = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._sockets: dict[SimClient, Meter] = {}
        self._messages = _meters(limits.address_messages)
        self._connects = _meters(limits.connects)
        self._key_connects = _meters(limits.key_connects)
        self._weights = _meters(limits.rest_weight)

    def watch(self) -> None:
        """Begin to look at the clock."""
        self._earliest, self._looked = self._looked, time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self.watch)

    def rest(self) -> None:
        """Stop that."""
        if self._timer is not None:
            self._timer.cancel()

    def note(self, client: SimClient, what: str, words: str) -> None:
        """Write a broken limit down."""
        self.found.append(BrokenLimit(what, client.number, words))

    def connects(self, client: SimClient) -> bool:
        """Count an attempt to connect; tell whether it is one too many."""
        return self._attempt(client, "connects", self._connects[client.address])

    def key_connects(self, client: SimClient) -> bool:
        """Count it for its key too."""
        key = "" if client.session is None else client.session.key
        return bool(key) and self._attempt(client, "key_connects", self._key_connects[key])

    def heard(self, client: SimClient, *, control: bool) -> None:
        """Count a message of a client's."""
        if control and not self._limits.control_frames_count:
            return
        meter = self._sockets.get(client)
        if meter is None:
            meter = self._sockets[client] = Meter(self._limits.messages)
        now = time.monotonic()
        for what, counted in (
            ("messages", meter),
            ("address_messages", self._messages[client.address]),
        ):
            broken = counted.add(1, self._earliest, now)
            if broken is not None:
                self._accuse(client, what, _above(broken))

    def is_crowded(self, client: SimClient, clients: Collection[SimClient], *, keyed: bool) -> bool:
        """Tell whether it is one more than the venue allows for its key or address.

        Half-open sockets do not count, nor those that are being closed.
        """
        most = self._limits.connections
        group = _group(client, keyed=keyed)
        if most is None or not group:
            return False
        others = sum(
            other is not client
            and not other.is_frozen
            and not other.is_leaving
            and _group(other, keyed=keyed) == group
            for other in clients
        )
        return others >= most

    def gone(self, client: SimClient) -> None:
        """Forget a socket that has ended."""
        self._sockets.pop(client, None)

    def rest_weight(self, address: str, weight: int) -> int | None:
        """Count a REST request; return seconds to wait when it is one too many."""
        broken = self._weights[address].add(weight, self._earliest, time.monotonic())
        if broken is None:
            return None
        self.found.append(BrokenLimit("rest_weight", 0, _above(broken)))
        return math.ceil(broken.seconds)

    def weight_used(self, address: str) -> int:
        """Return the weight within the first window."""
        return self._weights[address].used(time.monotonic())

    def _attempt(self, client: SimClient, what: str, meter: Meter) -> bool:
        broken = meter.add(1, self._earliest, time.monotonic())
        if broken is not None:
            self.note(client, what, _above(broken))
        return broken is not None


def _group(client: SimClient, *, keyed: bool) -> str:
    """Return what connections are counted by; "": it is not known yet."""
    if keyed:
        return "" if client.session is None else client.session.key
    return client.address


def _meters(windows: Sequence[Window]) -> defaultdict[str, Meter]:
    return defaultdict(lambda: Meter(windows))


def _above(window: Window) -> str:
    return f"more than {window.count} within {window.seconds:g} s"
