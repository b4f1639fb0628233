"""One connection to a venue: dial, subscribe, and when the socket is lost, again.

What the venue sends goes from the listener straight to the decoder; only its answers to our
requests, and the end of a socket, come by here.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from mdsys.feed.backoff import Uniform
from mdsys.feed.dialling import Dialler, Failed, NotAdmitted, Socket
from mdsys.feed.outbox import Sleep
from mdsys.feed.pace import Pace
from mdsys.feed.permits import Permits
from mdsys.feed.plan import ConnectionPlan
from mdsys.feed.subscription import Told
from mdsys.feed.succession import Succession
from mdsys.feed.tls import default_tls
from mdsys.feed.venue import Stream, Venue
from mdsys.wording import plural

GOODBYE_S = 0.5
"""At a stop; longer than the listener waits for the answer to its CLOSE."""
log = logging.getLogger("mdsys.feed")


class Desk(Protocol):
    """Who hears of one connection's fate: the supervisor, the counters, the rings."""

    def state(
        self,
        state: str,
        words: str | None = None,
        *,
        http: int | None = None,
        delay_s: float | None = None,
    ) -> None:
        """The connection has come into a state (mdsys.feed.report)."""

    def streams(
        self, state: str, streams: Sequence[Stream], words: str | None, listener: Any
    ) -> None:
        """Streams have come into a state, on a listener's socket; None: there is no socket."""

    def connect_failed(self) -> None:
        """An attempt to connect failed."""

    def lost(self) -> None:
        """The open socket is gone, and its subscriptions with it."""

    def overlap(self, by: int) -> None:
        """1: two sockets are open, and the same comes on both; -1: no longer."""


class Connection:
    """Keeps one socket alive until it is cancelled.

    Args:
        plan: What to connect to and to ask for.
        venue: Its facts and messages.
        listen: Makes the listener of a fresh socket: ``Dialler``.
        desk: Hears what becomes of it.
        permits: Gives leave.
        tls: Makes what verifies wss servers.
        pace: Delays before the next try.
        sleep: As ``asyncio.sleep``.
        clock: Monotonic seconds.
        uniform: Source of randomness.
    """

    def __init__(
        self,
        plan: ConnectionPlan,
        venue: Venue,
        listen: Callable[[Callable[[bytes], None], Callable[[bytes], None] | None], Any],
        desk: Desk,
        permits: Permits,
        tls: Callable[[], ssl.SSLContext] = default_tls,
        *,
        pace: Pace | None = None,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        uniform: Uniform = random.uniform,
    ) -> None:
        self.plan = plan
        self._venue = venue
        self._desk = desk
        self._pace = pace or Pace(uniform)
        self._sleep = sleep
        self._clock = clock
        self._uniform = uniform
        self._dialler = Dialler(plan, venue, listen, permits, tls, sleep, clock)
        self._name = self._dialler.name
        self._wires = {name: plan.wires.get(name, b"") for name in plan.symbols}
        """What is wanted now."""
        self._departing: dict[tuple[str, str], Stream] = {}
        """What is wanted no more, and the venue has not let go."""
        self._socket: Socket | None = None
        self._succession: Succession | None = None
        self._redial = asyncio.Event()
        self._prompt = False
        """Whether the next try needs no delay."""
        self._closing: set[asyncio.Task[None]] = set()
        """Sockets that have been replaced, on their way out."""

    # ---- orders ----

    @property
    def symbols(self) -> Sequence[str]:
        """What is wanted now."""
        return list(self._wires)

    def subscribe(self, wires: Mapping[str, bytes]) -> None:
        """Want more symbols, each with what names it on the wire, empty where that is its name."""
        fresh = {name: wire for name, wire in wires.items() if name not in self._wires}
        self._wires.update(fresh)
        streams = list(self._streams(fresh))
        for stream in streams:
            self._departing.pop(stream[:2], None)
        for socket in self._open():
            socket.session.subscriptions.subscribe(streams)
            socket.session.nudge()

    def unsubscribe(self, names: Iterable[str]) -> None:
        """Want symbols no more."""
        leaving = {name: self._wires[name] for name in names if name in self._wires}
        for name in leaving:
            del self._wires[name]
        streams = list(self._streams(leaving))
        self._departing.update((stream[:2], stream) for stream in streams)
        if self._socket is None:
            self._forget_departing()
        for socket in self._open():
            socket.session.subscriptions.unsubscribe(streams)
            socket.session.nudge()

    def resubscribe(self, names: Iterable[str], channel: str) -> Sequence[str]:
        """Ask again for streams that are mute, or whose book is out of step.

        Returns:
            The symbols for which it is too early: they have just been asked for.
        """
        own = {name: self._wires[name] for name in names if name in self._wires}
        streams = [each for each in self._streams(own) if each.channel == channel]
        early: Sequence[Stream] = ()
        for socket in self._open():
            early = socket.session.subscriptions.resubscribe(streams)
            socket.session.nudge()
        return [stream.symbol for stream in early]

    def reconnect(self, words: str) -> None:
        """Hang up and dial again at once."""
        if self._socket is not None:
            self._prompt = True
            self._socket.session.end(words)

    def redial(self) -> None:
        """Dial now if nothing else is on: something has been mended."""
        self._redial.set()

    def _open(self) -> Iterable[Socket]:
        return [each for each in (self._socket, self._successor) if each is not None]

    def _streams(self, wires: Mapping[str, bytes]) -> Iterable[Stream]:
        for name, wire in wires.items():
            for channel in self.plan.channels:
                yield Stream(name, channel, wire)

    # ---- life ----

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        try:
            while True:
                if self._socket is None:
                    self._socket = await self._reach()
                    self._come_up(self._socket)
                await self._live(self._socket)
        finally:
            await self._leave()

    async def _reach(self) -> Socket:
        """Dial until a socket is open."""
        while True:
            self._desk.state("connecting")
            try:
                return await self._dialler.dial(self._told, self._on_ready)
            except NotAdmitted as refusal:
                if refusal.http is not None:
                    self._desk.connect_failed()
                await self._denied(str(refusal), refusal.http)
            except Failed as failure:
                self._desk.connect_failed()
                delay_s = self._pace.after_failure(failure)
                await self._wait(str(failure), delay_s, failure.http)

    def _come_up(self, socket: Socket) -> None:
        """Begin to talk on the connection's one socket."""
        log.info("%s: up, %s", self._name, socket.shown)
        self._desk.state("open")
        self._begin(socket)

    def _begin(self, socket: Socket) -> None:
        socket.session.subscriptions.subscribe(self._streams(self._wires))
        socket.start()

    async def _live(self, socket: Socket) -> None:
        """Live through one socket: until it is lost, or a successor has taken its place."""
        succession = self._succession = self._succession_of(socket)
        succeeding = asyncio.create_task(succession.run())
        over = asyncio.create_task(socket.session.over.wait())
        ends: set[asyncio.Future[Any]] = {socket.gone, over, succeeding}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if succession.dialling:  # one is on its way: no need for another
                await self._end(socket)
                self._desk.state("waiting", socket.why(), delay_s=0.0)
                self._desk.state("connecting")
                await asyncio.wait({succeeding})
        finally:
            over.cancel()
            succeeding.cancel()
            await asyncio.gather(succeeding, return_exceptions=True)
        if succession.successor is not None:
            await self._take_over(socket, succession.successor)
        else:
            await self._lost(socket)

    async def _end(self, socket: Socket) -> None:
        """Close a socket that is over, or gone; without another its streams are lost."""
        socket.speaks = False
        socket.close()
        await asyncio.wait({socket.gone}, timeout=GOODBYE_S)
        if self._socket is socket:
            self._socket = None
            self._desk.lost()
            self._forget_departing()

    async def _lost(self, socket: Socket) -> None:
        """Close what is over, say so, and wait as long as is right."""
        await self._end(socket)
        session, frames = socket.session, socket.listener.frames
        lived_s = self._clock() - socket.since_s
        self._pace.note_life(lived_s, brought_data=frames > 0)
        why = f"down after {lived_s:.1f} s, {frames} frames: {socket.why()}"
        if session.denied is not None:
            await self._denied(session.denied, None)
        elif session.busy is not None:
            await self._wait(why, self._pace.after_busy(session.busy.wait_s))
        elif self._prompt:
            self._prompt = False
            await self._wait(why, 0.0)
        else:
            await self._wait(why, self._pace.after_loss())

    async def _wait(self, words: str, delay_s: float, http: int | None = None) -> None:
        """Stay away for a while, or until somebody says that something has been mended."""
        log.warning("%s: %s; next try in %.1f s", self._name, words, delay_s)
        self._desk.state("waiting", words, http=http, delay_s=delay_s)
        self._redial.clear()
        sleeping = asyncio.ensure_future(self._sleep(delay_s))
        mended = asyncio.create_task(self._redial.wait())
        try:
            await asyncio.wait({sleeping, mended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            mended.cancel()

    async def _denied(self, words: str, http: int | None) -> None:
        """Stay away until somebody says that something has been mended."""
        log.error("%s: denied: %s; not dialled until told to", self._name, words)
        self._desk.state("denied", words, http=http)
        self._redial.clear()
        await self._redial.wait()

    # ---- replacing a socket in time ----

    def _succession_of(self, old: Socket) -> Succession:
        async def dial(on_leave: Callable[[], object]) -> Socket:
            return await self._dialler.dial(
                self._told, self._on_ready, speaks=False, on_leave=on_leave
            )

        return Succession(
            self._name,
            self._venue,
            old,
            dial,
            self._begin,
            on_overlap=self._desk.overlap,
            on_failure=self._desk.connect_failed,
            pace=self._pace,
            alone=self.plan.limits.connections == 1,
            sleep=self._sleep,
            uniform=self._uniform,
        )

    @property
    def _successor(self) -> Socket | None:
        return None if self._succession is None else self._succession.successor

    async def _take_over(self, old: Socket, successor: Socket) -> None:
        """Make the successor the connection's socket."""
        lost = old.ended
        if lost:
            speaking = self._socket is old
            await self._end(old)
            if speaking:
                self._desk.state("waiting", old.why(), delay_s=0.0)
        old.speaks = False
        old.listener.quiet = True
        old.close()
        closing = asyncio.create_task(self._see_off(old))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        self._socket, self._succession = successor, None
        self._prompt = False
        self._forget_departing()
        successor.speaks = True
        successor.listener.come_forward(lost)
        log.info("%s: replaced, %s%s", self._name, successor.shown, "; it was lost" * lost)
        self._desk.state("open")
        for told in successor.session.subscriptions.picture():
            self._desk.streams(*told, successor.listener)
        if successor.session.ready.is_set():
            self._desk.state("ready")

    async def _see_off(self, old: Socket) -> None:
        try:
            await asyncio.wait({old.gone})
        finally:
            self._desk.overlap(-1)

    # ---- what is told ----

    def _told(self, socket: Socket) -> Told:
        return partial(self._tell, socket) if socket.speaks else _nobody

    def _tell(
        self, socket: Socket, state: str, streams: Sequence[Stream], words: str | None
    ) -> None:
        if state == "removed":
            for stream in streams:
                self._departing.pop(stream[:2], None)
        self._desk.streams(state, streams, words, socket.listener)

    def _on_ready(self, socket: Socket) -> None:
        subscriptions = socket.session.subscriptions
        refused = len(subscriptions.refused)
        count = len(self._wires) * len(self.plan.channels) - refused
        stage = "confirmed" if self._venue.acknowledges else "requested"
        log.info("%s: %s %s, %d refused", self._name, plural(count, "stream"), stage, refused)
        if socket.speaks:
            self._desk.state("ready")

    def _forget_departing(self) -> None:
        """With the socket went what had been unsubscribed on it."""
        if self._departing:
            gone = list(self._departing.values())
            self._departing.clear()
            self._desk.streams("removed", gone, None, None)

    async def _leave(self) -> None:
        """Close whatever is open, in a hurry."""
        leaving = list(self._open())
        for socket in leaving:
            socket.close()
        gone: set[asyncio.Future[Any]] = {each.gone for each in leaving} | self._closing
        if gone:
            await asyncio.wait(gone, timeout=GOODBYE_S)
        if self._successor is not None:
            self._desk.overlap(-1)
        if self._socket is not None:
            self._desk.lost()
        self._socket = self._succession = None
        self._desk.state("closed")


def _nobody(state: str, streams: Sequence[Stream], words: str | None) -> None:
    """Hear of a successor's streams, which nobody is told before it takes over."""
