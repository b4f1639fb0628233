"""One connection's life against servers that refuse, forget and hang up."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from mdsys._listener import FrameListener
from mdsys.feed import connection as module
from mdsys.feed.backoff import Backoff
from mdsys.feed.connection import STABLE_S, Connection
from mdsys.feed.plan import ConnectionPlan
from mdsys.record.record import Status
from tests.feeds import CLOSE, TEXT, FeedMemory, StubVenue, frame, run, serving, trade

TLS = ssl.create_default_context()


class Life:
    """A connection with everything around it noted, and a clock that tests turn."""

    def __init__(self, symbols: tuple[str, ...] = ("BTCUSDT",)) -> None:
        self.memory = FeedMemory(list(symbols))
        self.symbols = symbols
        self.events: list[tuple[Any, ...]] = []
        self.subscribed_once = asyncio.Event()
        self.delays: list[float] = []
        self.delay_count_wanted = 0
        self.enough_delays = asyncio.Event()
        self.now_s = 0.0

    def connect_failed(self) -> None:
        self.events.append(("failed",))

    def symbol_refused(self, symbol: str) -> None:
        self.events.append(("refused", symbol))

    def subscribed(self, confirmed_count: int, refused_count: int) -> None:
        self.events.append(("subscribed", confirmed_count, refused_count))
        self.subscribed_once.set()

    def lost(self) -> None:
        self.events.append(("lost",))

    async def sleep(self, delay_s: float) -> None:
        if delay_s:
            self.delays.append(delay_s)
        if len(self.delays) == self.delay_count_wanted:
            self.enough_delays.set()
        await asyncio.sleep(0)

    def connection(self, address: str) -> Connection:
        plan = ConnectionPlan(3, "binance", f"ws://{address}", self.symbols, ("trade",), 50)
        return Connection(
            plan,
            StubVenue(),
            lambda on_control: FrameListener(self.memory.venue, 3, on_control),
            self,
            TLS,
            backoff=Backoff(1.0, 8.0, lambda _, high: high),
            sleep=self.sleep,
            clock=lambda: self.now_s,
        )


async def answer_all(peer: Any, count: int = 1) -> None:
    for _ in range(count):
        opcode, payload = await peer.receive()
        assert opcode == TEXT
        answer = {"result": None, "id": json.loads(payload)["id"]}
        await peer.send(frame(json.dumps(answer).encode()))


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_subscribes_over_the_socket_and_says_so_when_answered() -> None:
    async def main() -> None:
        life = Life(("BTCUSDT", "ETHUSDT"))
        asked = []

        async def script(peer: Any) -> None:
            _, payload = await peer.receive()
            asked.append(json.loads(payload))
            assert life.events == []
            await peer.send(frame(b'{"result":null,"id":1}'))
            await peer.receive_close()

        async with serving(script) as address:
            task = asyncio.create_task(life.connection(address).run())
            await life.subscribed_once.wait()
            await cancelled(task)
        assert asked == [
            {"method": "SUBSCRIBE", "params": ["BTCUSDT@trade", "ETHUSDT@trade"], "id": 1}
        ]
        assert life.events == [("subscribed", 2, 0), ("lost",)]

    run(main())


def test_cancelling_closes_with_1000_and_tells_the_rings() -> None:
    async def main() -> None:
        life = Life()
        codes = []

        async def script(peer: Any) -> None:
            await answer_all(peer)
            codes.append(await peer.receive_close())
            await peer.send(frame(b"\x03\xe8", CLOSE))

        async with serving(script) as address:
            task = asyncio.create_task(life.connection(address).run())
            await life.subscribed_once.wait()
            await cancelled(task)
        assert codes == [1000]
        whats = [what for what, _, _ in life.memory.statuses()]
        assert whats == [Status.CONNECTION_UP, Status.CONNECTION_DOWN]

    run(main())


def test_lost_connection_is_made_again_and_subscribed_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        life = Life()
        visits = 0
        enough = asyncio.Event()

        async def script(peer: Any) -> None:
            nonlocal visits
            visits += 1
            await answer_all(peer)
            await peer.send(frame(trade(visits)))
            if visits == 3:
                enough.set()
                await peer.receive_close()
            elif visits == 2:
                await peer.send(frame(b"\x03\xf0slow down", CLOSE))

        async with serving(script) as address:
            task = asyncio.create_task(life.connection(address).run())
            await enough.wait()
            await cancelled(task)
        assert life.events == [("subscribed", 1, 0), ("lost",)] * 3
        records = life.memory.records()
        assert [int(r["trade_id"]) for r in records[records["kind"] == 1]] == [1, 2, 3]
        assert life.delays == [1.0, 2.0]  # data flowed, but not for long: the backoff goes on

    with caplog.at_level(logging.INFO, "mdsys.feed"):
        run(main())
    assert "the server hung up without a CLOSE; next try in 1.0 s" in caplog.text
    assert "closed by the venue: 1008 slow down; next try in 2.0 s" in caplog.text


@pytest.mark.parametrize(("data", "delays"), [(True, [1.0, 1.0]), (False, [1.0, 2.0])])
def test_backoff_begins_anew_only_after_a_long_life_with_data(
    data: bool, delays: list[float]
) -> None:
    async def main() -> None:
        life = Life()
        visits = 0
        enough = asyncio.Event()

        async def script(peer: Any) -> None:
            nonlocal visits
            visits += 1
            if visits == 3:
                enough.set()
                await peer.receive_close()
                return
            await answer_all(peer)
            if data:
                await peer.send(frame(trade(visits)))
            life.now_s += STABLE_S

        async with serving(script) as address:
            task = asyncio.create_task(life.connection(address).run())
            await enough.wait()
            await cancelled(task)
        assert life.delays == delays

    run(main())


def test_server_that_is_not_there_is_tried_again_with_growing_delays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        life = Life()

        async def script(peer: Any) -> None:
            pass

        async with serving(script) as address:
            pass  # and now nobody listens there
        task = asyncio.create_task(life.connection(address).run())
        life.delay_count_wanted = 5
        await life.enough_delays.wait()
        await cancelled(task)
        assert life.delays[:5] == [1.0, 2.0, 4.0, 8.0, 8.0]
        assert life.events[:5] == [("failed",)] * 5
        assert life.memory.statuses() == []

    run(main())
    assert "cannot connect to ws://127.0.0.1:" in caplog.text


def test_refused_symbol_is_reported_with_the_venues_words_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        life = Life(("A", "B", "C"))

        async def script(peer: Any) -> None:
            while True:
                opcode, payload = await peer.receive()
                if opcode == CLOSE:
                    return
                request = json.loads(payload)
                answer = {"id": request["id"], "result": None}
                if "B@trade" in request["params"]:
                    answer = {"id": request["id"], "error": "no such symbol"}
                await peer.send(frame(json.dumps(answer).encode()))

        async with serving(script) as address:
            task = asyncio.create_task(life.connection(address).run())
            await life.subscribed_once.wait()
            await cancelled(task)
        assert life.events == [("refused", "B"), ("subscribed", 2, 1), ("lost",)]

    run(main())
    assert "binance connection 3: B refused: no such symbol" in caplog.text


def test_subscribe_that_nobody_answers_ends_the_socket(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.05)

    async def main() -> None:
        life = Life()

        async def script(peer: Any) -> None:
            await peer.receive()
            assert await peer.receive_close() == 1000

        async with serving(script) as address:
            task = asyncio.create_task(life.connection(address).run())
            life.delay_count_wanted = 1
            await life.enough_delays.wait()
            await cancelled(task)
        assert ("lost",) in life.events
        assert life.subscribed_once.is_set() is False

    run(main())
    assert "no answer to a subscribe message in 0.05 s" in caplog.text


def test_socket_that_cannot_be_subscribed_is_closed_and_made_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe = StubVenue.subscribe
    attempts = 0

    def fail_once(self: StubVenue, streams: Sequence[str], request_id: int) -> str:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise KeyError("a bug")
        return subscribe(self, streams, request_id)

    monkeypatch.setattr(StubVenue, "subscribe", fail_once)

    async def main() -> None:
        life = Life()
        codes: list[int] = []

        async def script(peer: Any) -> None:
            if codes:  # its second visit
                await answer_all(peer)
            codes.append(await peer.receive_close())

        async with serving(script) as address:
            task = asyncio.create_task(life.connection(address).run())
            await life.subscribed_once.wait()
            await cancelled(task)
        assert life.events == [("lost",), ("subscribed", 1, 0), ("lost",)]
        assert codes == [1000, 1000]

    run(main())
    assert "binance connection 3: cannot subscribe" in caplog.text
    assert "cannot subscribe: KeyError: 'a bug'; next try in 1.0 s" in caplog.text


def test_what_the_venue_says_by_itself_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        life = Life()
        said = asyncio.Event()

        async def script(peer: Any) -> None:
            await peer.send(frame(b'{"id":null,"notice":"shutting down"}'))
            await peer.send(frame(b'{"id":99,"error":"whose?"}'))
            await answer_all(peer)
            said.set()
            await peer.receive_close()

        async with serving(script) as address:
            task = asyncio.create_task(life.connection(address).run())
            await life.subscribed_once.wait()
            await cancelled(task)

    run(main())
    assert "the venue says: shutting down" in caplog.text
    assert "the venue refuses: whose?" in caplog.text


def test_messages_keep_the_venues_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StubVenue, "message_interval_s", 0.3)
    monkeypatch.setattr(StubVenue, "streams_per_message_max", 1)

    async def main() -> None:
        life = Life(("A", "B", "C"))

        async def script(peer: Any) -> None:
            await answer_all(peer, 3)
            await peer.receive_close()

        async with serving(script) as address:
            task = asyncio.create_task(life.connection(address).run())
            await life.subscribed_once.wait()
            await cancelled(task)
        assert life.delays == [0.3, 0.3]  # none before the first

    run(main())
