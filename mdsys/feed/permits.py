"""Leave to connect, and to send where a venue counts an address's messages: the supervisor's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(slots=True, eq=False)
class _Asked:
    what: str
    answer: asyncio.Future[Grant]


class Permits:
    """Asks for leave, and matches the answers.

    Args:
        tell: ``Reporter.tell``.
    """

    def __init__(self, tell: Callable[..., object]) -> None:
        self._tell = tell
        self._ids = count(1)
        self._asked: dict[int, _Asked] = {}

    async def ask(self, what: str, connection: int, *, first: bool = False) -> Grant:
        """Wait for leave. Who stops waiting gives it back when it comes.

        Args:
            what: CONNECT or MESSAGE.
            connection: Its number.
            first: Of a connect, whether it replaces no lost socket.

        Raises:
            NotPermitted: It is refused.
        """
        number = next(self._ids)
        asked = _Asked(what, asyncio.get_running_loop().create_future())
        self._asked[number] = asked
        self._tell("permit", id=number, what=what, connection=connection, count=1, first=first)
        try:
            return await asked.answer
        except asyncio.CancelledError:
            answer = asked.answer
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                _give_back(asked.what, answer.result())  # it came as we were told to stop
            raise

    def granted(self, order: Permit) -> None:
        """Take an answer."""
        asked = self._asked.pop(order.id, None)
        if asked is None:
            return
        grant = Grant(order.id, order.secret or {}, self._tell)
        if not asked.answer.done():
            asked.answer.set_result(grant)
        else:
            _give_back(asked.what, grant)

    def refused(self, order: Refuse) -> None:
        """Take an answer that is none."""
        asked = self._asked.pop(order.id, None)
        if asked is not None and not asked.answer.done():
            asked.answer.set_exception(NotPermitted(order.words))


def _give_back(what: str, grant: Grant) -> None:
    """Nobody waits for it any more."""
    if what == CONNECT:
        grant.ended()
    else:
        grant.used()
