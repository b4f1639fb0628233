"""Wishes for books' snapshots: what is asked for, when, how deep, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from mdsys.daemon import snapshots as module
from mdsys.daemon.rest import RestError
from mdsys.daemon.snapshots import Snapshots, depth_steps
from mdsys.errors import FeedError
from mdsys.feed.venue import BookSnapshots

SPOT = BookSnapshots("/depth", 5_000, {100: 5, 500: 25, 1_000: 50, 5_000: 250})


class Exchange:
    """Answers requests when the test lets it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int]] = []
        self.open: dict[str, asyncio.Future[bytes]] = {}
        self.at_one_time_max = 0
        self.answers_at_once = False
        self.failure: FeedError | None = None

    async def fetch(
        self,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        weight: int = 1,
    ) -> bytes:
        assert path == "/depth"
        assert params is not None
        symbol = params["symbol"]
        self.asked.append((symbol, int(params["limit"]), weight))
        assert symbol not in self.open, "asked for twice at one time"
        if self.failure is not None:
            raise self.failure
        if self.answers_at_once:
            return symbol.encode()
        self.open[symbol] = asyncio.get_running_loop().create_future()
        self.at_one_time_max = max(self.at_one_time_max, len(self.open))
        try:
            return await self.open[symbol]
        finally:
            del self.open[symbol]

    async def answer(self, symbol: str) -> None:
        self.open[symbol].set_result(symbol.encode())
        await settle()

    @property
    def symbols(self) -> list[str]:
        return [symbol for symbol, _, _ in self.asked]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


Scenario = Callable[[Snapshots, Exchange, list[str], Clock], Awaitable[None]]


def play(scenario: Scenario) -> None:
    async def run() -> None:
        exchange, clock = Exchange(), Clock()
        delivered: list[str] = []

        def deliver(venue: str, symbol: str, body: bytes, asked: int) -> None:
            assert (venue, body) == ("v", symbol.encode())
            assert asked in SPOT.weights
            delivered.append(symbol)

        snapshots = Snapshots(deliver, clock)
        snapshots.add_venue("v", SPOT, exchange.fetch)
        try:
            await scenario(snapshots, exchange, delivered, clock)
        finally:
            await snapshots.close()
        assert snapshots.waiting() == {"v": 0}

    asyncio.run(run())


def test_a_wish_is_fetched_and_delivered_once() -> None:
    async def scenario(s: Snapshots, exchange: Exchange, delivered: list[str], _: Clock) -> None:
        s.wanted("v", ["A", "B", "A"])
        s.wanted("v", ["A"])
        await settle()
        s.wanted("v", ["A"])  # under way
        assert exchange.asked == [("A", 100, 5), ("B", 100, 5)]
        await exchange.answer("A")
        await exchange.answer("B")
        assert delivered == ["A", "B"]
        assert s.waiting() == {"v": 0}
        assert len(exchange.asked) == 2

    play(scenario)


def test_so_many_requests_are_under_way_at_one_time_and_first_come_first() -> None:
    async def scenario(s: Snapshots, exchange: Exchange, delivered: list[str], _: Clock) -> None:
        names = [f"S{number}" for number in range(30)]
        s.wanted("v", names)
        await settle()
        assert s.waiting() == {"v": 30}
        while exchange.open:
            await exchange.answer(next(iter(exchange.open)))
        assert exchange.at_one_time_max == module.AT_ONE_TIME
        assert exchange.symbols == names
        assert delivered == names

    play(scenario)


def test_a_live_book_does_not_wait_behind_a_start_of_thousands() -> None:
    async def scenario(s: Snapshots, exchange: Exchange, _: list[str], __: Clock) -> None:
        s.wanted("v", ["LIVE"])
        await settle()
        await exchange.answer("LIVE")
        s.wanted("v", [f"S{number}" for number in range(1_000)])
        await settle()
        s.wanted("v", ["LIVE"])
        await exchange.answer("S0")
        await exchange.answer("S1")
        assert "LIVE" in exchange.symbols[1:]

    play(scenario)


def test_fresh_books_come_in_turn_with_those_that_had_one() -> None:
    async def scenario(s: Snapshots, exchange: Exchange, _: list[str], __: Clock) -> None:
        old = [f"OLD{number}" for number in range(50)]
        exchange.answers_at_once = True
        s.wanted("v", old)
        await settle()
        exchange.answers_at_once = False
        exchange.asked.clear()
        s.wanted("v", [*old, *(f"NEW{number}" for number in range(50))])
        await settle()
        while len(exchange.asked) < 40:
            await exchange.answer(next(iter(exchange.open)))
        assert 15 <= sum(symbol.startswith("NEW") for symbol in exchange.symbols) <= 25

    play(scenario)


def test_a_book_that_needs_snapshot_after_snapshot_gets_deeper_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "DELAY_S_MAX", 0.0)

    async def scenario(s: Snapshots, exchange: Exchange, _: list[str], clock: Clock) -> None:
        exchange.answers_at_once = True
        for _again in range(6):
            s.wanted("v", ["A"])
            await settle()
            await asyncio.sleep(0.001)
            await settle()
        assert [depth for _, depth, _ in exchange.asked] == [100, 500, 1_000, 5_000, 5_000, 5_000]
        assert exchange.asked[-1][2] == 250
        clock.now += module.CALM_S + 1
        s.wanted("v", ["A"])
        await settle()
        assert exchange.asked[-1] == ("A", 100, 5)

    play(scenario)


def test_book_whose_socket_was_lost_begins_anew_with_the_cheapest_snapshot() -> None:
    async def scenario(s: Snapshots, exchange: Exchange, _: list[str], __: Clock) -> None:
        exchange.answers_at_once = True
        for _life in range(4):
            s.wanted("v", ["A"])
            await settle()
            s.lost("v", ["A", "NOBODY"])
        s.lost("no such venue", ["A"])
        assert exchange.asked == [("A", 100, 5)] * 4

    play(scenario)


def test_wishes_that_follow_one_another_wait_longer_and_longer() -> None:
    async def scenario(s: Snapshots, exchange: Exchange, _: list[str], __: Clock) -> None:
        delays: list[float] = []
        loop = asyncio.get_running_loop()
        call_later = loop.call_later

        def noted(delay: float, *rest: object) -> asyncio.TimerHandle:
            delays.append(delay)
            return call_later(0.0, *rest)  # type: ignore[arg-type]

        loop.call_later = noted  # type: ignore[method-assign,assignment]
        exchange.answers_at_once = True
        for _again in range(12):
            s.wanted("v", ["A"])
            await settle()
        assert delays == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]  # the first two wait for nothing
        assert len(exchange.asked) == 12

    play(scenario)


def test_what_fails_for_now_is_asked_again_at_the_same_depth(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(s: Snapshots, exchange: Exchange, delivered: list[str], _: Clock) -> None:
        exchange.failure = RestError("v: GET /depth: HTTP 503: busy", 503)
        s.wanted("v", ["A"])
        await settle()
        assert exchange.asked == [("A", 100, 5)] * 2  # once more at once, then later
        assert s.waiting() == {"v": 1}
        exchange.failure = None
        s.forget("v", ["A"])
        s.wanted("v", ["A"])
        await settle()
        await exchange.answer("A")
        assert delivered == ["A"]

    play(scenario)
    assert caplog.text.count("no snapshot of A: v: GET /depth: HTTP 503: busy") == 1


def test_what_the_venue_does_not_know_is_not_asked_for_again() -> None:
    async def scenario(s: Snapshots, exchange: Exchange, _: list[str], __: Clock) -> None:
        exchange.failure = RestError('v: GET /depth: HTTP 400: {"msg":"Invalid symbol."}', 400)
        s.wanted("v", ["A"])
        await settle()
        assert len(exchange.asked) == 1
        assert s.waiting() == {"v": 0}

    play(scenario)


def test_words_of_a_refused_snapshot_are_kept_until_it_comes_or_nobody_wants_it() -> None:
    words = 'v: GET /depth: HTTP 400: {"code":-1121,"msg":"Invalid symbol."}'

    async def scenario(s: Snapshots, exchange: Exchange, _: list[str], __: Clock) -> None:
        exchange.failure = RestError(words, 400)
        s.wanted("v", ["A", "B"])
        await settle()
        assert [s.refusal("v", each) for each in "ABC"] == [words, words, None]
        assert s.refusal("unknown", "A") is None
        s.forget("v", ["B"])
        assert s.refusal("v", "B") is None
        exchange.failure, exchange.answers_at_once = None, True
        s.wanted("v", ["A"])
        await settle()
        assert s.refusal("v", "A") is None

    play(scenario)


def test_what_nobody_wants_any_more_is_neither_asked_for_nor_delivered() -> None:
    async def scenario(s: Snapshots, exchange: Exchange, delivered: list[str], _: Clock) -> None:
        names = [f"S{number}" for number in range(12)]
        s.wanted("v", names)
        await settle()
        s.forget("v", ["S0", "S11"])
        while exchange.open:
            await exchange.answer(next(iter(exchange.open)))
        assert "S11" not in exchange.symbols
        assert delivered == names[1:11]
        s.wanted("v", ["S1", "S2"])
        await settle()
        s.forget("v", ["S1", "S2"])
        s.wanted("v", ["S1"])  # wanted again while it is under way
        await exchange.answer("S1")
        await exchange.answer("S2")
        assert delivered == [*names[1:11], "S1"]

    play(scenario)


def test_a_delivery_that_fails_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        exchange = Exchange()
        exchange.answers_at_once = True
        delivered: list[str] = []

        def deliver(_: str, symbol: str, __: bytes, ___: int) -> None:
            if symbol == "A":
                raise OSError("its feed is gone")
            delivered.append(symbol)

        snapshots = Snapshots(deliver)
        snapshots.add_venue("v", SPOT, exchange.fetch)
        snapshots.wanted("v", ["A", "B"])
        await settle()
        assert delivered == ["B"]
        await snapshots.close()

    asyncio.run(run())
    assert "the snapshot of A cannot be handed over" in caplog.text


@pytest.mark.parametrize(
    ("weights", "steps"),
    [
        ({100: 5, 500: 25, 1_000: 50, 5_000: 250}, (100, 500, 1_000, 5_000)),
        ({50: 2, 100: 5, 500: 10, 1_000: 20}, (100, 500, 1_000)),
        ({100: 5, 500: 5, 1_000: 10}, (500, 1_000)),
        ({20: 1, 50: 2}, (50,)),
    ],
)
def test_the_cheapest_depth_with_slack_comes_first(
    weights: dict[int, int], steps: tuple[int, ...]
) -> None:
    assert depth_steps(BookSnapshots("/depth", 5_000, weights)) == steps
