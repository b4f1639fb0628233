"""Dialects in Python on real sockets: what they are shown, and when."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from functools import partial
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websockets_connect
from websockets.exceptions import ConnectionClosed

from mdsys.errors import UsageError
from mdsys.feed.venue import Limits
from mdsys.sim import RandomMarket, Replay, Simulator, dialects
from mdsys.sim.dialect import Book, Depth, Event, Quote, Session, Symbol, Trade
from mdsys.sim.events import EventSource
from tests.simulators import Toy, ToySession

connect = partial(websockets_connect, compression=None, close_timeout=0.05)
START_MS = 1_723_161_254_000


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be a venue ``toy`` without limits."""
    monkeypatch.setitem(dialects.DIALECTS, "toy", "tests.simulators:Toy")
    monkeypatch.setattr(Toy, "limits", Limits())


def run(program: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(program, 60))


class Recorder(Session):
    """Keeps what it is shown, with the true book where it is depth."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.books: list[Book] = []
        self.source: EventSource | None = None

    def render(self, event: Event) -> None:
        self.events.append(event)
        if event.kind == "depth" and self.source is not None:
            self.books.append(self.source.market.book(event.symbol))


def shown(spec: RandomMarket, *what: str, blocks: int | None = None) -> Recorder:
    """Return what a session sees that is shown ``SYM000001 trade`` and the like."""
    source = spec.open(Toy)
    assert isinstance(source, EventSource)
    recorder = Recorder()
    recorder.source = source
    view = source.view(recorder)
    for each in what:
        name, kind = each.split()
        symbol = source.market.find(name)
        assert symbol is not None
        view.show(symbol, [kind])  # type: ignore[list-item]
    source.start()
    while source.due_ns() is not None and blocks != 0:
        source.advance(None)
        view.render()
        blocks = None if blocks is None else blocks - 1
    return recorder


ALL = [f"SYM00000{index} {kind}" for index in range(3) for kind in ("trade", "quote", "depth")]
SPEC = RandomMarket(3, seed=2, start_ms=START_MS, rate=1000, events_max=5000)


def test_every_event_is_shown_once_in_order() -> None:
    recorder = shown(SPEC, *ALL)
    assert len(recorder.events) == 5000
    times = [event.time_ns for event in recorder.events]
    assert times == [START_MS * 10**6 + index * 10**6 for index in range(5000)]
    kinds = Counter(event.kind for event in recorder.events)
    assert kinds["quote"] > kinds["trade"] > kinds["depth"] > 0


def test_what_is_not_shown_is_passed_over_and_changes_nothing() -> None:
    few = shown(SPEC, "SYM000001 trade", "SYM000002 depth")
    everything = shown(SPEC, *ALL)

    def plain(recorder: Recorder) -> list[tuple[object, ...]]:
        return [
            (event.kind, event.symbol.name, *event[2:])
            for event in recorder.events
            if (event.kind, event.symbol.name) in (("trade", "SYM000001"), ("depth", "SYM000002"))
        ]

    assert plain(few) == plain(everything)
    assert len(plain(few)) == len(few.events) > 500


def test_a_book_rebuilt_from_depth_is_the_true_book_after_each() -> None:
    recorder = shown(SPEC, "SYM000000 depth")
    sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
    previous = None
    depths = [event for event in recorder.events if isinstance(event, Depth)]
    assert len(depths) == len(recorder.books) > 100
    for event, book in zip(depths, recorder.books, strict=True):
        assert previous in (None, event.previous_id)
        assert event.previous_id < event.first_id <= event.id
        previous = event.id
        assert book.id == event.id
        for side, changes, true in zip(
            sides, (event.bids, event.asks), (book.bids, book.asks), strict=True
        ):
            side.update({level.price: level.size for level in changes})
            rebuilt = {price: size for price, size in side.items() if size}
            assert rebuilt == {level.price: level.size for level in true}
        assert max(p for p, s in sides[0].items() if s) == book.bids[0].price
        assert book.bids[0].price < book.asks[0].price


def test_quotes_show_the_top_and_trades_have_contiguous_ids_and_a_side() -> None:
    recorder = shown(SPEC, *ALL)
    trades = [event for event in recorder.events if isinstance(event, Trade)]
    for symbol in {event.symbol for event in trades}:
        ids = [event.id for event in trades if event.symbol is symbol]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert {event.side for event in trades} == {"buy", "sell"}
    quotes = [event for event in recorder.events if isinstance(event, Quote)]
    assert all(quote.bid.price < quote.ask.price for quote in quotes)


@pytest.mark.parametrize(
    ("ticks", "decimals", "text"),
    [(1234, 8, "0.00001234"), (6153720, 2, "61537.20"), (5, 0, "5"), (0, 3, "0.000")],
)
def test_prices_and_sizes_are_exact_texts(ticks: int, decimals: int, text: str) -> None:
    assert Symbol(0, "X", decimals, 0).price(ticks) == text
    assert Symbol(0, "X", 0, decimals).size(ticks) == text


def test_two_clients_each_get_their_own_and_the_answer_first() -> None:
    async def ask(client: ClientConnection, message: str) -> None:
        await client.send(message)
        while await client.recv() != "done":
            pass

    async def program() -> None:
        spec = RandomMarket(3, rate=3000, seed=1)
        async with (
            Simulator(spec, venue="toy") as sim,
            connect(sim.url + "/?key=a") as first,
            connect(sim.url + "/?key=b") as second,
        ):
            for client in (first, second):
                assert await client.recv() == "hello"
            await ask(first, "show SYM000001 trade")
            await ask(second, "show SYM000001 trade")
            await ask(second, "show SYM000002 depth")
            assert sim.stats.streams == 3
            found = {" ".join(str(await second.recv()).split()[:2]) for _ in range(300)}
            assert found == {"trade SYM000001", "depth SYM000002"}
            await ask(second, "hide SYM000001 trade")
            found = {str(await second.recv()).split()[0] for _ in range(100)}
            assert found == {"depth"}
            found = {" ".join(str(await first.recv()).split()[:2]) for _ in range(300)}
            assert found == {"trade SYM000001"}

    run(program())


def test_a_client_that_leaves_is_shown_nothing_more_and_counts_stay() -> None:
    async def program() -> None:
        spec = RandomMarket(1, rate=3000, seed=1)
        async with Simulator(spec, venue="toy") as sim:
            async with connect(sim.url + "/?key=a") as client:
                await client.send("show SYM000000 trade")
                for _ in range(50):
                    await client.recv()
            await sim.until(lambda: sim.stats.clients == 0)
            stats = sim.stats
            assert stats.frames["trade"] >= 48
            assert stats.streams == 0
            source = sim._source
            assert isinstance(source, EventSource)
            assert not any(source._wanted)

    run(program())


def test_a_book_may_be_asked_for_before_the_market_begins() -> None:
    async def program() -> None:
        async with (
            Simulator(RandomMarket(1, rate=1), venue="toy", held=True) as sim,
            connect(sim.url + "/?key=a") as client,
        ):
            await client.recv()
            await client.send("book SYM000000")
            assert str(await client.recv()).endswith(" 20")

    run(program())


def test_heartbeats_come_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    async def program() -> None:
        monkeypatch.setattr(Toy, "heartbeat_s", 0.01)
        async with (
            Simulator(RandomMarket(1, rate=1), venue="toy") as sim,
            connect(sim.url + "/?key=a") as client,
        ):
            assert [await client.recv() for _ in range(3)] == ["hello", "beat", "beat"]

    run(program())


def test_a_dialects_mistake_closes_its_socket_and_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def program() -> None:
        async with (
            Simulator(RandomMarket(1, rate=1000), venue="toy") as sim,
            connect(sim.url + "/?key=a") as client,
            connect(sim.url + "/?key=b") as other,
        ):
            await client.send("fail")
            assert await client.recv() == "hello"
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1011
            await other.send("show SYM000000 trade")
            for _ in range(20):
                await other.recv()

    run(program())
    assert "a dialect's mistake" in caplog.text


def test_frames_that_a_dialect_keeps_come_after_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Event] = []

    def render(_: ToySession, event: Event) -> None:
        kept.append(event)

    def flush(_: ToySession) -> list[str]:
        words = [f"{len(kept)} events"] if kept else []
        kept.clear()
        return words

    async def program() -> None:
        monkeypatch.setattr(ToySession, "render", render)
        monkeypatch.setattr(ToySession, "flush", flush)
        async with (
            Simulator(RandomMarket(1, events_max=1000), venue="toy") as sim,
            connect(sim.url + "/?key=a") as client,
        ):
            await client.send("show SYM000000 trade")
            words = [await client.recv() for _ in range(2)]
            assert words == ["hello", "done"]
            await sim.finished()
            sizes: list[int] = []
            while sum(sizes) < sim.stats.records["trade"]:
                sizes.append(int(str(await client.recv()).split()[0]))
            assert len(sizes) < 10

    run(program())


def test_a_recording_of_another_venue_is_refused() -> None:
    with pytest.raises(UsageError, match="only Binance's recordings"):
        Simulator(Replay("x"), venue="toy")
