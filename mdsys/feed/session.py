"""The talk on one socket: opening, subscribing, keeping alive, and hearing what the venue says."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from typing import assert_never

from mdsys.errors import ProtocolError
from mdsys.feed.outbox import Outbox, Sleep
from mdsys.feed.subscription import Subscriptions
from mdsys.feed.veil import Veil
from mdsys.feed.venue import (
    Busy,
    Confirmed,
    Denied,
    Event,
    Leaving,
    Notice,
    Opened,
    Refused,
    Removed,
    Talk,
    Venue,
)

ANSWER_TIMEOUT_S = 10.0

log = logging.getLogger("mdsys.feed")


class Session:
    """One socket's conversation.

    Args:
        name: Of the connection, for the log.
        venue: Its facts.
        talk: Its side of the conversation.
        subscriptions: What is asked on this socket.
        veil: Hides the secrets in what is logged.
        on_ready: Called once, when everything has been answered for the first time.
        sleep: As ``asyncio.sleep``.

    Attributes:
        over: Set when the socket shall be closed; ``ending`` says why.
        leaving: Set when the venue will close it soon.
        ready: Set when everything has been answered.
        denied: The venue's words when it does not take our credential.
        busy: Its words when it will not serve us now.
    """

    def __init__(
        self,
        name: str,
        venue: Venue,
        talk: Talk,
        subscriptions: Subscriptions,
        veil: Veil,
        on_ready: Callable[[], object],
        sleep: Sleep,
    ) -> None:
        self._name = name
        self._venue = venue
        self._talk = talk
        self._veil = veil
        self._on_ready = on_ready
        self._sleep = sleep
        self._opened = asyncio.Event()
        self._news = asyncio.Event()
        self.subscriptions = subscriptions
        self.over = asyncio.Event()
        self.leaving = asyncio.Event()
        self.ready = asyncio.Event()
        self.ending: str | None = None
        self.denied: str | None = None
        self.busy: Busy | None = None
        self.said: str | None = None

    def end(self, why: str) -> None:
        """Have the socket closed; the first reason counts."""
        if self.ending is None:
            self.ending = why
            self.over.set()

    def nudge(self) -> None:
        """Have a look at the subscriptions: they have been changed."""
        self._news.set()

    # ---- what the venue says ----

    def on_control(self, frame: bytes) -> None:
        """Take a frame that is no market data."""
        try:
            for event in self._talk.hear(frame):
                self._take(event)
        except ProtocolError as error:
            log.warning("%s: %s", self._name, self._veil.words(str(error)))
        except Exception:  # noqa: BLE001 - a fault of the venue's module, logged without secrets
            self._log_fault("cannot read a control frame")

    def _take(self, event: Event) -> None:
        match event:
            case Opened():
                self._opened.set()
            case Confirmed():
                if self.subscriptions.confirmed(event):
                    self.nudge()
            case Removed():
                if self.subscriptions.removed(event):
                    self.nudge()
            case Refused():
                words = self._veil.words(event.words)
                own = Refused(words, event.streams, event.request_id)
                if self.subscriptions.refuse(own):
                    self.nudge()
                else:
                    log.warning("%s: the venue refuses: %s", self._name, words)
            case Denied():
                self.denied = self._veil.words(event.words)
                self.end(f"denied: {self.denied}")
            case Busy():
                self.busy = Busy(self._veil.words(event.words), event.wait_s)
                self.end(f"the venue is busy: {self.busy.words}")
            case Leaving():
                log.warning("%s: the venue leaves: %s", self._name, self._veil.words(event.words))
                self.leaving.set()
            case Notice():
                self.said = self._veil.words(event.words)
                log.warning("%s: the venue says: %s", self._name, self.said)
            case _:
                assert_never(event)

    # ---- what we say ----

    async def run(self, outbox: Outbox) -> None:
        """Talk until cancelled.

        Whatever goes wrong ends the socket: one that is up and silent would fool everybody.
        """
        try:
            await self._run(outbox)
        except TimeoutError as error:
            self.end(str(error))
        except Exception as error:  # noqa: BLE001 - as above
            self._log_fault("cannot talk")
            self.end(self._veil.words(f"cannot talk: {type(error).__name__}: {error}"))

    async def _run(self, outbox: Outbox) -> None:
        for message in self._talk.opening():
            await outbox.send(message)
        if self._venue.opens:
            await self._await(self._opened, "the venue did not open the stream")
        tasks = {asyncio.create_task(self._subscribe(outbox))}
        if self._venue.keepalive_s is not None:
            tasks.add(asyncio.create_task(self._keep_alive(outbox, self._venue.keepalive_s)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()

    async def _subscribe(self, outbox: Outbox) -> None:
        subscriptions = self.subscriptions
        while True:
            self._news.clear()
            request = subscriptions.next_request()
            if request is not None:
                for message in request.messages:
                    await outbox.send(message)
                subscriptions.sent(request)
                continue
            if subscriptions.complete and not self.ready.is_set():
                self.ready.set()
                self._on_ready()
            if not subscriptions.awaits_answer:
                await self._news.wait()
                continue
            try:
                await self._await(self._news, "no answer to a subscribe message")
            except TimeoutError as error:
                if not subscriptions.answered_once:
                    raise
                subscriptions.no_answer(str(error))  # to some; the others must not suffer

    async def _keep_alive(self, outbox: Outbox, every_s: float) -> None:
        while True:
            await self._sleep(every_s)
            message = self._talk.keepalive()
            if message is None:
                await outbox.ping()
            else:
                await outbox.send(message)

    async def _await(self, event: asyncio.Event, what: str) -> None:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await event.wait()
        except TimeoutError:
            raise TimeoutError(f"{what} in {ANSWER_TIMEOUT_S:g} s") from None

    def _log_fault(self, what: str) -> None:
        log.error("%s: %s\n%s", self._name, what, self._veil.text(traceback.format_exc()))
