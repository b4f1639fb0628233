"""A socket whose end is known is replaced before: its successor subscribes to everything first."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

from mdsys.feed.backoff import Uniform
from mdsys.feed.dialling import Failed, NotAdmitted, Socket
from mdsys.feed.outbox import Sleep
from mdsys.feed.pace import Pace
from mdsys.feed.venue import Venue

AGE_SHARE = (0.85, 0.95)
"""Of its lifetime, when a socket is replaced: sockets opened together do not end together."""
TURN_S = 30.0
"""How long a successor waits for leave before the old socket makes room for it."""
FIRST_DATA_S = 10.0
"""How long a successor at a venue that does not answer may take until something comes."""
LOOK_S = 0.05

log = logging.getLogger("mdsys.feed")


class Succession:
    """From the first word of a socket's end to a successor that has everything.

    Args:
        name: Of the connection, for the log.
        venue: Its facts.
        old: The socket.
        dial: Opens another; it is given what to call when leave for that is there.
        begin: Begins to talk on the other.
        on_overlap: Called with 1 when two are open, with -1 when the successor has failed.
        on_failure: Called when an attempt to connect failed.
        pace: Delays before the next try.
        alone: Whether the venue allows one socket: the old one is closed first.
        sleep: As ``asyncio.sleep``.
        uniform: Source of randomness.

    Attributes:
        dialling: Whether a successor is on its way.
        successor: It, once it is open.
    """

    def __init__(
        self,
        name: str,
        venue: Venue,
        old: Socket,
        dial: Callable[[Callable[[], object]], Awaitable[Socket]],
        begin: Callable[[Socket], object],
        *,
        on_overlap: Callable[[int], object],
        on_failure: Callable[[], object],
        pace: Pace,
        alone: bool,
        sleep: Sleep = asyncio.sleep,
        uniform: Uniform = random.uniform,
    ) -> None:
        self._name = name
        self._venue = venue
        self._old = old
        self._dial = dial
        self._begin = begin
        self._on_overlap = on_overlap
        self._on_failure = on_failure
        self._pace = pace
        self._alone = alone
        self._sleep = sleep
        self._uniform = uniform
        self.dialling = False
        self.successor: Socket | None = None

    async def run(self) -> None:
        """Return when the successor has everything, or when the old socket has ended."""
        await self._planned_end()
        while not self._old.ended:
            try:
                delay_s = await self._put_beside()
            except NotAdmitted as refusal:  # the old one may last all the same
                log.warning("%s: cannot be replaced: %s", self._name, refusal)
                await asyncio.wait({self._old.gone})
                return
            if self.successor is not None or self._old.ended:
                return
            await self._sleep(delay_s)

    async def _planned_end(self) -> None:
        """Wait until the venue says that it leaves, or the socket is of age."""
        waits: set[asyncio.Future[Any]] = {
            asyncio.create_task(self._old.session.leaving.wait()),
        }
        if self._venue.lifetime_s is not None:
            age_s = self._venue.lifetime_s * self._uniform(*AGE_SHARE)
            waits.add(asyncio.ensure_future(self._sleep(age_s)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    async def _put_beside(self) -> float:
        """Open a successor, and wait until it has everything or the old socket has ended.

        Returns:
            If it came to nothing, how long to wait before the next try.

        Raises:
            NotAdmitted: It came to nothing, and will not.
        """
        self.dialling = True
        try:
            successor = self.successor = await self._dial_beside()
        except Failed as failure:
            self._on_failure()
            log.warning("%s: cannot be replaced: %s", self._name, failure)
            return self._pace.after_failure(failure)
        finally:
            self.dialling = False
        self._on_overlap(1)
        self._begin(successor)
        if self._old.ended or await self._has_everything(successor):
            return 0.0
        self.successor = None
        self._on_overlap(-1)
        successor.close()
        log.warning("%s: its successor is gone: %s", self._name, successor.why())
        if successor.session.denied is not None:
            raise NotAdmitted(successor.session.denied)
        return self._pace.after_loss()

    async def _dial_beside(self) -> Socket:
        """Dial while the old socket is open; it makes room when it must."""
        words = "it makes room for its successor"
        if self._alone:
            self._old.session.end(words)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(TURN_S, self._old.session.end, words)
        try:
            return await self._dial(timer.cancel)
        finally:
            timer.cancel()

    async def _has_everything(self, successor: Socket) -> bool:
        """Wait until a successor is as good as the old socket; False: it is gone instead."""
        ready = asyncio.create_task(successor.session.ready.wait())
        over = asyncio.create_task(successor.session.over.wait())
        ends: set[asyncio.Future[Any]] = {ready, over, successor.gone}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
            over.cancel()
        looks = 0 if self._venue.acknowledges else round(FIRST_DATA_S / LOOK_S)
        while looks and not successor.listener.frames and not successor.ended:
            await self._sleep(LOOK_S)
            looks -= 1
        return successor.session.ready.is_set() and not successor.ended
