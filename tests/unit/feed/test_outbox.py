from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, cast

import pytest
from picows import WSMsgType, WSTransport

from mdsys.feed.outbox import Outbox
from mdsys.feed.permits import Grant
from mdsys.feed.venue import Limits, Window
from tests.feeds import run, until


class Wire:
    """A transport that notes what is sent, on a clock that sleeping and its delays turn."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.sent: list[tuple[float, Any, bytes]] = []
        self.delays_s: list[float] = []
        """From the call until each message leaves."""

    def send(self, kind: Any, message: bytes) -> None:
        self.now_s += self.delays_s.pop(0) if self.delays_s else 0.0
        self.sent.append((self.now_s - 100.0, kind, message))

    def send_ping(self) -> None:
        self.sent.append((self.now_s - 100.0, "ping", b""))

    def pong(self, payload: bytes) -> None:
        self.sent.append((self.now_s - 100.0, "pong", payload))

    async def sleep(self, delay_s: float) -> None:
        self.now_s += delay_s
        await asyncio.sleep(0)

    def outbox(self, limits: Limits, leave: Callable[[], Awaitable[Grant]] | None = None) -> Outbox:
        transport = cast(WSTransport, self)
        return Outbox(transport, self.pong, limits, leave, self.sleep, lambda: self.now_s)

    def has(self, count: int) -> bool:
        return len(self.sent) >= count

    @property
    def kinds(self) -> Sequence[Any]:
        return [kind for _, kind, _ in self.sent]


TWO_A_SECOND = (Window(2, 1.0),)


def test_messages_are_text_or_binary_and_go_at_once_where_nothing_limits_them() -> None:
    async def main() -> None:
        wire = Wire()
        outbox = wire.outbox(Limits())
        await outbox.send("é")
        await outbox.send(b"\x00")
        assert wire.sent == [(0, WSMsgType.TEXT, "é".encode()), (0, WSMsgType.BINARY, b"\x00")]

    run(main())


def test_no_window_is_ever_broken_by_messages_pings_and_pongs_together() -> None:
    async def main() -> None:
        wire = Wire()
        outbox = wire.outbox(Limits(messages=TWO_A_SECOND, control_frames_count=True))
        tasks = [asyncio.create_task(outbox.send(f"{i}")) for i in range(4)]
        tasks += [asyncio.create_task(outbox.ping()) for _ in range(2)]
        for payload in (b"a", b"b"):
            outbox.pong(payload)
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        await until(lambda: "pong" in wire.kinds)
        times = [at for at, _, _ in wire.sent]
        assert all(later - sooner > 1.0 for sooner, later in zip(times, times[2:], strict=False))
        assert wire.sent[-1][2] == b"b"
        assert len(wire.sent) == 7  # of two PINGs that waited the newest is answered

    run(main())


def test_no_window_is_broken_when_we_are_put_to_sleep_right_before_a_message_leaves() -> None:
    async def main() -> None:
        wire = Wire()
        wire.delays_s = [0.5, 0.0, 0.0, 0.0]
        outbox = wire.outbox(Limits(messages=TWO_A_SECOND))
        for i in range(4):
            await outbox.send(f"{i}")
        times = [at for at, _, _ in wire.sent]
        assert all(later - sooner > 1.0 for sooner, later in zip(times, times[2:], strict=False))

    run(main())


def test_control_frames_that_do_not_count_wait_for_nothing() -> None:
    async def main() -> None:
        wire = Wire()
        outbox = wire.outbox(Limits(messages=TWO_A_SECOND))
        await outbox.send("1")
        await outbox.send("2")
        await outbox.ping()
        outbox.pong(b"x")
        await asyncio.sleep(0)
        assert [at for at, _, _ in wire.sent] == [0, 0, 0, 0]

    run(main())


def test_each_message_asks_leave_and_tells_when_it_has_gone() -> None:
    async def main() -> None:
        wire = Wire()
        told: list[tuple[str, int]] = []

        async def leave() -> Grant:
            return Grant(1, {}, lambda event, **_: told.append((event, len(wire.sent))))

        outbox = wire.outbox(Limits(), leave)
        await outbox.send("1")
        await outbox.ping()
        assert told == [("used", 1)]

    run(main())


@pytest.mark.parametrize("counts", [True, False])
def test_every_ping_that_comes_alone_is_answered(counts: bool) -> None:
    async def main() -> None:
        wire = Wire()
        limits = Limits(messages=TWO_A_SECOND, control_frames_count=counts)
        outbox = wire.outbox(limits)
        for i in range(5):
            outbox.pong(b"%d" % i)
            await until(partial(wire.has, i + 1))
        assert [payload for _, _, payload in wire.sent] == [b"%d" % i for i in range(5)]

    run(main())


def test_closed_outbox_answers_no_ping() -> None:
    async def main() -> None:
        wire = Wire()
        outbox = wire.outbox(Limits())
        outbox.pong(b"x")
        outbox.close()
        await asyncio.sleep(0)
        assert wire.sent == []

    run(main())


def test_messages_are_counted_while_they_wait_also_those_that_are_given_up() -> None:
    async def main() -> None:
        wire = Wire()
        waiting: list[int] = []
        held = asyncio.Event()

        async def leave() -> Grant:
            await held.wait()
            return Grant(1, {}, lambda _, **__: None)

        transport = cast(WSTransport, wire)
        outbox = Outbox(
            transport,
            wire.pong,
            Limits(),
            leave,
            wire.sleep,
            lambda: wire.now_s,
            waiting.append,
        )
        tasks = [asyncio.create_task(outbox.send("1")) for _ in range(3)]
        await asyncio.sleep(0)
        assert sum(waiting) == 3
        tasks[0].cancel()
        held.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(waiting) == 0
        assert len(wire.sent) == 2

    run(main())
