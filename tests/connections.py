"""A connection's surroundings: a venue of a few lines, and everything that is told of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from mdsys._listener import FrameListener
from mdsys.errors import ProtocolError
from mdsys.feed.backoff import Backoff
from mdsys.feed.connection import Connection
from mdsys.feed.frame import SymbolInfo
from mdsys.feed.orders import Permit, Refuse
from mdsys.feed.pace import Pace
from mdsys.feed.permits import Permits
from mdsys.feed.plan import ConnectionPlan
from mdsys.feed.venue import (
    Busy,
    Confirmed,
    Denied,
    Dial,
    Event,
    Leaving,
    Limits,
    Notice,
    Opened,
    Refused,
    Removed,
    Secret,
    Stream,
    VenueDefaults,
)
from tests.feeds import TEXT, FeedMemory, Peer, until


class StubTalk:
    """Speaks as a venue of a few lines; every answer bears an id, so that it is a control frame."""

    def __init__(self, secret: Secret, opening: Sequence[str] = ()) -> None:
        self.secret = secret
        self._opening = opening

    def opening(self) -> Sequence[str]:
        return self._opening

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> list[str]:
        return [self._message("SUBSCRIBE", streams, request_id)]

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> list[str]:
        return [self._message("UNSUBSCRIBE", streams, request_id)]

    def _message(self, method: str, streams: Sequence[Stream], request_id: int) -> str:
        params = [f"{stream.symbol}@{stream.channel}" for stream in streams]
        return json.dumps({"method": method, "params": params, "id": request_id})

    def hear(self, frame: bytes) -> list[Event]:
        fields = json.loads(frame)
        words = fields.get("words", "")
        streams = [Stream(*name.split("@")) for name in fields.get("streams", ())]
        match fields.get("is", "answer"):
            case "opened":
                return [Opened()]
            case "notice":
                return [Notice(words)]
            case "leaving":
                return [Leaving(words)]
            case "denied":
                return [Denied(words)]
            case "busy":
                return [Busy(words, 5.0)]
            case "removed":
                return [Removed(streams, fields["id"])]
            case "nonsense":
                raise ProtocolError(f"no answer: {words}")
        if "error" in fields:
            return [Refused(fields["error"], streams, fields["id"])]
        return [Confirmed(streams, fields["id"]), Removed(streams, fields["id"])]

    def keepalive(self) -> str | None:
        return None


@dataclass(frozen=True)
class StubVenue(VenueDefaults):
    """A venue whose streams are SYMBOL@CHANNEL, and whose answers name the request."""

    name: str = "binance"
    url: str = "ws://127.0.0.1:1"
    decoder: str = "binance_spot"
    channels: tuple[str, ...] = ("trade", "quote")
    opening: tuple[str, ...] = ()
    talks: list[StubTalk] = field(default_factory=list)

    def dial(self, base: str, secret: Secret) -> Dial:
        if not secret:
            return Dial(f"{base}/stream", f"{base}/stream")
        key = secret["key"]
        headers = {"X-Key": key, "X-Signature": key[::-1]}
        return Dial(f"{base}/stream?key={key}", f"{base}/stream?key=***", headers)

    def talk(self, secret: Secret) -> StubTalk:
        self.talks.append(StubTalk(secret, self.opening))
        return self.talks[-1]

    def python_decoder(
        self, symbols: Mapping[str, SymbolInfo], channels: Collection[str]
    ) -> NoReturn:
        raise NotImplementedError


async def answer_all(peer: Peer, count: int = 1) -> list[dict[str, Any]]:
    """Confirm the client's next requests; return them."""
    requests = []
    for _ in range(count):
        opcode, payload = await peer.receive()
        assert opcode == TEXT, payload
        requests.append(json.loads(payload))
        await peer.say(id=requests[-1]["id"], result=None)
    return requests


class Life:
    """A connection with everything around it noted, and a clock that tests turn.

    It is the connection's desk, the supervisor that gives it leave, and its memory.
    """

    def __init__(self, *symbols: str) -> None:
        self.symbols = symbols or ("BTCUSDT",)
        self.memory = FeedMemory(list(self.symbols))
        self.venue = StubVenue()
        self.secret: dict[str, str] = {}
        self.free_leaves = 1_000
        """How often leave is given without ``give_leave``."""
        self.refusal: str | None = None
        """Why there is no leave."""
        self.sleeps = True
        """Whether a sleep ends by itself."""
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.delays: list[float] = []
        self.now_s = 0.0
        self.listeners: list[FrameListener] = []
        self.overlaps: list[int] = []
        self._news = asyncio.Condition()
        self._wakers: set[asyncio.Task[None]] = set()
        self.permits = Permits(self.tell)
        self._asked: list[int] = []

    # ---- what is told ----

    def _note(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))
        task = asyncio.create_task(self._wake())
        self._wakers.add(task)
        task.add_done_callback(self._wakers.discard)

    async def _wake(self) -> None:
        async with self._news:
            self._news.notify_all()

    def tell(self, event: str, **fields: Any) -> None:
        self._note(event, **fields)
        if event != "permit":
            return
        self._asked.append(fields["id"])
        if self.refusal is not None:
            refuse = Refuse(self._asked.pop(), self.refusal)
            asyncio.get_running_loop().call_soon(self.permits.refused, refuse)
        elif self.free_leaves > 0:
            self.free_leaves -= 1
            asyncio.get_running_loop().call_soon(self.give_leave)

    def give_leave(self) -> None:
        """Grant what has been asked for."""
        for number in self._asked:
            self.permits.granted(Permit(number, dict(self.secret) or None))
        self._asked.clear()

    def state(self, state: str, words: str | None = None, **fields: Any) -> None:
        self._note("state", state=state, words=words, **fields)

    def stream_state(
        self, state: str, streams: Sequence[Stream], words: str | None, listener: Any
    ) -> None:
        names = [f"{stream.symbol}@{stream.channel}" for stream in streams]
        self._note("streams", state=state, streams=names, words=words, listener=listener)

    def connect_failed(self) -> None:
        self._note("failed")

    def lost(self) -> None:
        self._note("lost")

    def overlap(self, by: int) -> None:
        self.overlaps.append(by)
        self.memory.venue.overlap(by)
        self._note("overlap", state="on" if by > 0 else "off")

    # ---- what tests ask ----

    @property
    def stages(self) -> list[tuple[str, str]]:
        """What the supervisor and the counters were told, without leave."""
        return [
            (event, fields.get("state", ""))
            for event, fields in self.events
            if event in ("state", "streams", "lost", "failed")
        ]

    @property
    def told(self) -> list[tuple[str, int]]:
        """Permits, and what became of them."""
        return [
            (event, fields["id"])
            for event, fields in self.events
            if event in ("permit", "used", "ended")
        ]

    def streams(self, state: str) -> list[str]:
        """Return the streams that have come into a state, in order."""
        return [
            name
            for event, fields in self.events
            if event == "streams" and fields["state"] == state
            for name in fields["streams"]
        ]

    def words(self, state: str) -> list[str]:
        """Return what was said with a state."""
        return [fields["words"] for _, fields in self.events if fields.get("state") == state]

    def count(self, event: str, state: str | None = None) -> int:
        """Return how often something was told; of a permit: asked."""
        return sum(
            each == event and state in (None, fields.get("state", fields.get("what", "")))
            for each, fields in self.events
        )

    async def until(self, event: str, state: str, nth: int = 1) -> None:
        """Wait until something has been told so often."""
        async with self._news:
            await self._news.wait_for(lambda: self.count(event, state) >= nth)

    async def frames(self, count: int) -> None:
        """Wait until so many data frames have been decoded in all."""
        await until(lambda: sum(listener.frames for listener in self.listeners) >= count)

    # ---- its surroundings ----

    async def sleep(self, delay_s: float) -> None:
        if delay_s:
            self.delays.append(delay_s)
            self._note("sleep")
        if not self.sleeps and delay_s:
            await asyncio.Event().wait()
        self.now_s += delay_s
        await asyncio.sleep(0)

    def listen(
        self, on_control: Callable[[bytes], None], on_ping: Callable[[bytes], None] | None
    ) -> FrameListener:
        self.listeners.append(FrameListener(self.memory.venue, 3, on_control, on_ping))
        return self.listeners[-1]

    @asynccontextmanager
    async def running(
        self, address: str, *, limits: Limits | None = None, channels: Sequence[str] = ("trade",)
    ) -> AsyncIterator[Connection]:
        """Run a connection until the block ends."""
        plan = ConnectionPlan(
            3,
            "binance",
            f"ws://{address}",
            self.symbols,
            tuple(channels),
            50,
            limits=limits or Limits(),
        )

        def top(_: float, high: float) -> float:
            return high

        connection = Connection(
            plan,
            self.venue,
            self.listen,
            _DeskOf(self),
            self.permits,
            pace=Pace(top, Backoff(1.0, 8.0, top)),
            sleep=self.sleep,
            clock=lambda: self.now_s,
            uniform=top,
        )
        task = asyncio.create_task(connection.run())
        try:
            yield connection
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class _DeskOf:
    """A life as the connection sees it; ``streams`` asks there."""

    def __init__(self, life: Life) -> None:
        self.state = life.state
        self.streams = life.stream_state
        self.connect_failed = life.connect_failed
        self.lost = life.lost
        self.overlap = life.overlap
