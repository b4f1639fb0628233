"""Leave to connect, and to send where a venue counts an address's messages: the supervisor's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

from mdsys.feed.orders import Permit, Refuse
from mdsys.feed.venue import Secret

CONNECT = "connect"
MESSAGE = "message"


class NotPermitted(Exception):
    """The supervisor gives no leave until something is mended; its words tell what."""


class Grant:
    """One leave, from when it is given to when what it was for is over.

    Attributes:
        secret: What dials the venue. It is never shown.
    """

    __slots__ = ("_id", "_tell", "_told", "secret")

    def __init__(self, number: int, secret: Secret, tell: Callable[..., object]) -> None:
        self.secret = secret
        self._id = number
        self._tell = tell
        self._told: set[str] = set()

    def used(self) -> None:
        """What was permitted has been done: the windows count from now on."""
        self._say("used")

    def ended(self) -> None:
        """The socket is gone, or there will be none; the secret is forgotten."""
        self.secret = {}
        self._say("ended")

    def _say(self, event: str) -> None:
        if event not in self._told:
            self._told.add(event)
            self._tell(event, id=self._id)


class Permits:
    """Asks for leave, and matches the answers.

    Args:
        tell: ``Reporter.tell``.
    """

    def __init__(self, tell: Callable[..., object]) -> None:
        self._tell = tell
        self._ids = count(1)
        self._asked: dict[int, asyncio.Future[Grant]] = {}

    async def ask(self, what: str, connection: int, *, first: bool = False) -> Grant:
        """Wait for leave. Who stops waiting takes the ask back.

        Args:
            what: CONNECT or MESSAGE.
            connection: Its number.
            first: Of a connect, whether it replaces no lost socket.

        Raises:
            NotPermitted: It is refused.
        """
        number = next(self._ids)
        answer: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._tell("permit", id=number, what=what, connection=connection, count=1, first=first)
        try:
            return await answer
        except asyncio.CancelledError:
            self._asked.pop(number, None)
            self._tell("ended", id=number)  # whether it is on its way, has just come, or waits
            raise

    def granted(self, order: Permit) -> None:
        """Take an answer."""
        answer = self._asked.pop(order.id, None)
        if answer is not None and not answer.done():
            answer.set_result(Grant(order.id, order.secret or {}, self._tell))

    def refused(self, order: Refuse) -> None:
        """Take an answer that is none."""
        answer = self._asked.pop(order.id, None)
        if answer is not None and not answer.done():
            answer.set_exception(NotPermitted(order.words))
