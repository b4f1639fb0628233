"""The simulator's Coinbase: what it says is what the decoders and the talks take."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from mdsys.feed.coinbase.advanced import COINBASE_ADVANCED
from mdsys.feed.coinbase.dialect import CoinbaseAdvanced, CoinbaseExchange
from mdsys.feed.coinbase.exchange import COINBASE_EXCHANGE
from mdsys.feed.coinbase.ledger import NOT_LISTED
from mdsys.feed.frame import FrameResult, SymbolInfo
from mdsys.feed.venue import Confirmed, Refused, Removed, Stream, Talk
from mdsys.record.record import Kind
from mdsys.sim.dialect import (
    Depth,
    Dialect,
    Event,
    Level,
    Message,
    Quote,
    Refusal,
    Request,
    Session,
    Symbol,
    Trade,
)
from tests.coinbase_frames import BothDecoders
from tests.still_market import SYMBOLS, FakeClient, FakeExchange

NOW = 1_618_677_817_075_687_123
NAMES = [symbol.name for symbol in SYMBOLS]


def trade(number: int, symbol: Symbol = SYMBOLS[0]) -> Trade:
    return Trade("trade", symbol, NOW, 10**8 + number, 10000, 7, "buy")


QUOTE = Quote("quote", SYMBOLS[0], NOW, 77, Level(9999, 10), Level(10001, 30))
DEPTH = Depth("depth", SYMBOLS[0], NOW, 7, 6, 5, (Level(9999, 0),), (Level(10002, 5),))


class Rig:
    """One client of a dialect, the talk on it, and both decoders behind it."""

    def __init__(self, dialect: type[Dialect], decoder: str, talk: Talk) -> None:
        self.exchange = FakeExchange(NOW)
        self.client = FakeClient()
        session = dialect(self.exchange).accept(Request("/", {}, {}), self.client)
        assert isinstance(session, Session)
        self.session = session
        self.talk = talk
        infos = {name: SymbolInfo(i + 1) for i, name in enumerate(NAMES)}
        self.both = BothDecoders(decoder, infos)
        self.kinds: list[Kind] = []

    def tell(self, messages: Iterable[Message]) -> list[Any]:
        """Say this to the venue; return what the talk makes of the answers."""
        return self.hear([answer for m in messages for answer in self.session.hear(m)])

    def hear(self, frames: Sequence[Message]) -> list[Any]:
        """Take what the venue says: each frame is good, and one is data or an answer."""
        events: list[Any] = []
        self.kinds = []
        for frame in frames:
            text = frame.encode() if isinstance(frame, str) else frame
            result = self.both.decode(text, NOW)
            assert result in (FrameResult.OK, FrameResult.CONTROL), text
            self.kinds += [Kind(record.kind) for record in self.both.records]
            if result == FrameResult.CONTROL:
                events += self.talk.hear(text)
        return events

    def render(self, *events: Event) -> list[Kind]:
        """Let the market do this; return the kinds of records that come of it."""
        frames = [self.session.render(event) for event in events]
        assert self.hear([*(f for f in frames if f is not None), *self.session.flush()]) == []
        assert Kind.STATUS not in self.kinds
        return self.kinds


@pytest.fixture
def exchange() -> Rig:
    return Rig(CoinbaseExchange, "coinbase_exchange", COINBASE_EXCHANGE.talk({}))


@pytest.fixture
def advanced() -> Rig:
    rig = Rig(CoinbaseAdvanced, "coinbase_advanced", COINBASE_ADVANCED.talk({}))
    assert rig.tell(rig.talk.opening()) == []
    return rig


@pytest.mark.parametrize("dialect", [CoinbaseExchange, CoinbaseAdvanced])
def test_only_the_root_is_served(dialect: type[Dialect]) -> None:
    answer = dialect(FakeExchange(NOW)).accept(Request("/ws", {}, {}), FakeClient())
    assert isinstance(answer, Refusal)
    assert answer.status == 404


class TestExchange:
    def test_what_is_asked_for_is_confirmed_and_then_told(self, exchange: Rig) -> None:
        streams = [Stream(n, c) for n in NAMES[:2] for c in ("trade", "quote", "ticker", "book")]
        (event,) = exchange.tell(exchange.talk.subscribe(streams, 1))
        assert isinstance(event, Confirmed)
        assert sorted(event.streams) == sorted(streams)
        assert exchange.kinds == [Kind.LEVEL] * 6
        assert exchange.render(trade(1)) == [Kind.TRADE]
        assert exchange.render(QUOTE) == [Kind.QUOTE, Kind.TICKER]
        assert exchange.render(DEPTH) == [Kind.LEVEL] * 2
        usable, bids, asks = exchange.both.c.book(NAMES[0])
        assert (usable, bids, asks[0]) == (True, [(9998000000, 2000000)], (10001000000, 3000000))
        assert len(exchange.session.heartbeat()) == 1
        assert exchange.hear(exchange.session.heartbeat()) == []

    def test_a_client_that_comes_later_gets_the_last_match(self, exchange: Rig) -> None:
        exchange.render(trade(1), trade(2))
        exchange.tell(exchange.talk.subscribe([Stream(NAMES[0], "trade")], 1))
        assert exchange.kinds == [Kind.TRADE]
        assert exchange.both.records[0].body[2] == 10**8 + 2
        assert exchange.render(trade(3)) == [Kind.TRADE]

    @pytest.mark.parametrize(
        ("product", "channel", "reason"),
        [
            ("FOO-BAR", "matches", "FOO-BAR is not a valid product"),
            (NAMES[0], "level2", "level2, level3, and full channels now require authentication"),
            (NAMES[0], "candles", "candles is not a valid channel"),
            (NAMES[1], "matches", "no, not this one"),
        ],
    )
    def test_a_refusal_says_why_and_subscribes_nothing(
        self, exchange: Rig, product: str, channel: str, reason: str
    ) -> None:
        exchange.exchange.refused[f"{NAMES[1]} matches"] = "no, not this one"
        exchange.talk.subscribe([Stream(NAMES[0], "trade"), Stream(product, "trade")], 9)
        message = {"type": "subscribe", "product_ids": [NAMES[0], product], "channels": [channel]}
        (event,) = exchange.tell([json.dumps(message)])
        assert isinstance(event, Refused)
        assert event.request_id == 9
        assert event.words.startswith(f"Failed to subscribe: {reason}")
        assert exchange.client.shown == set()

    def test_what_is_ended_is_hidden_and_the_rest_goes_on(self, exchange: Rig) -> None:
        streams = [Stream(NAMES[0], channel) for channel in ("trade", "quote")]
        exchange.tell(exchange.talk.subscribe(streams, 1))
        assert exchange.tell(exchange.talk.unsubscribe(streams[1:], 2)) == [Removed(streams[1:])]
        assert exchange.client.shown == {(NAMES[0], "trade")}
        assert exchange.tell(exchange.talk.unsubscribe(streams[:1], 3)) == [Removed(streams[:1])]
        assert exchange.client.shown == set()

    @pytest.mark.parametrize("message", ["", "[]", "{}", '{"type":"subscribe","channels":[]}'])
    def test_nonsense_is_an_error(self, exchange: Rig, message: str) -> None:
        (answer,) = exchange.session.hear(message)
        assert json.loads(answer)["type"] == "error"


class TestAdvanced:
    def test_what_is_asked_for_is_told_and_confirmed(self, advanced: Rig) -> None:
        for i, channel in enumerate(("book", "trade", "quote")):
            streams = [Stream(name, channel) for name in NAMES[:2]]
            (event,) = advanced.tell(advanced.talk.subscribe(streams, i))
            assert event == Confirmed(streams)
        assert advanced.render(trade(1), trade(2)) == [Kind.TRADE] * 2
        assert advanced.render(QUOTE) == [Kind.QUOTE, Kind.TICKER]
        assert advanced.render(DEPTH) == [Kind.LEVEL] * 2
        assert advanced.both.c.book(NAMES[0])[0] is True
        assert advanced.hear(advanced.session.heartbeat()) == []

    def test_a_client_that_comes_later_gets_the_trades_of_before(self, advanced: Rig) -> None:
        advanced.render(trade(1), trade(2))
        advanced.tell(advanced.talk.subscribe([Stream(NAMES[0], "trade")], 1))
        assert advanced.kinds == [Kind.TRADE] * 2
        assert advanced.render(trade(3)) == [Kind.TRADE]

    def test_a_product_that_is_not_there_or_refused_is_left_out(self, advanced: Rig) -> None:
        advanced.exchange.refused[f"{NAMES[1]} market_trades"] = "unheard"
        streams = [Stream(name, "trade") for name in (*NAMES, "FOO-BAR")]
        assert advanced.tell(advanced.talk.subscribe(streams, 1)) == [
            Confirmed([streams[0], streams[2]]),
            Refused(NOT_LISTED, [streams[1], streams[3]]),
        ]

    def test_what_is_ended_is_hidden(self, advanced: Rig) -> None:
        streams = [Stream(NAMES[0], "trade")]
        advanced.tell(advanced.talk.subscribe(streams, 1))
        assert advanced.tell(advanced.talk.unsubscribe(streams, 2)) == [Removed(streams)]
        assert advanced.client.shown == set()

    @pytest.mark.parametrize(
        ("message", "words"),
        [
            ("", "failed to parse message"),
            ('{"type":"subscribe","channel":"level3"}', "authentication failure"),
            ('{"type":"hello","channel":"level2"}', "authentication failure"),
        ],
    )
    def test_nonsense_is_an_error(self, advanced: Rig, message: str, words: str) -> None:
        advanced.talk.subscribe([Stream(NAMES[0], "trade")], 5)
        assert advanced.tell([message]) == [Refused(words, request_id=5)]
