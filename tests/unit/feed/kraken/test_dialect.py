"""The simulator's Kraken: what it says is what the decoders and the talk take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdsys._decode import Decoder
from mdsys.feed.frame import FrameResult, SymbolInfo
from mdsys.feed.kraken.dialect import Kraken, KrakenSession
from mdsys.feed.kraken.reference import KrakenDecoder
from mdsys.feed.kraken.venue import KRAKEN
from mdsys.feed.venue import Confirmed, Refused, Removed, Stream
from mdsys.record.record import Flag, Kind
from mdsys.sim.dialect import (
    Depth,
    Event,
    Level,
    Message,
    Quote,
    Refusal,
    Request,
    Trade,
)
from tests.still_market import SYMBOLS, FakeClient, FakeExchange

NOW = 1_791_309_962_264_627_123
INFOS = {symbol.name: SymbolInfo(symbol.index + 1) for symbol in SYMBOLS}
E8 = 10**8


class Rig:
    """A client with the venue's talk and decoders on one session of the simulator's."""

    def __init__(self, dialect: Kraken | None = None) -> None:
        self.exchange = FakeExchange(NOW)
        self.dialect = dialect or Kraken(self.exchange)
        if dialect is not None:
            assert isinstance(dialect.exchange, FakeExchange)
            self.exchange = dialect.exchange
        self.client = FakeClient()
        session = self.dialect.accept(Request("/v2", {}, {}), self.client)
        assert isinstance(session, KrakenSession)
        self.session = session
        self.talk = KRAKEN.talk({})
        self.c = Decoder("kraken", INFOS)
        self.python = KrakenDecoder(INFOS)
        self.answers: list[Any] = []
        self._last_id = 0
        self.take(self.session.greet())

    def take(self, messages: Sequence[Message]) -> list[Any]:
        """Decode what the simulator has said; give its answers to the talk."""
        records = []
        for message in messages:
            assert isinstance(message, str)
            frame = message.encode()
            result, ticks = self.c.decode(frame, NOW)
            expected, own = self.python.decode(frame, NOW)
            assert result == expected
            assert len(ticks) == len(own)
            assert result in (FrameResult.OK, FrameResult.CONTROL)
            records += own
            if result == FrameResult.CONTROL:
                self.answers += self.talk.hear(frame)
        return records

    def subscribe(self, channel: str, *names: str) -> list[Any]:
        """Subscribe through the talk; returns the records of the snapshots."""
        self._last_id += 1
        streams = [Stream(name, channel) for name in names]
        messages = self.talk.subscribe(streams, self._last_id)
        return [record for message in messages for record in self.take(self.session.hear(message))]

    def unsubscribe(self, channel: str, *names: str) -> None:
        self._last_id += 1
        streams = [Stream(name, channel) for name in names]
        for message in self.talk.unsubscribe(streams, self._last_id):
            self.take(self.session.hear(message))

    def see(self, event: Event) -> list[Any]:
        """Show an event; returns the records it became."""
        frame = self.session.render(event)
        return self.take([*([] if frame is None else [frame]), *self.session.flush()])


def trade(number: int, time_ns: int = NOW) -> Trade:
    return Trade("trade", SYMBOLS[0], time_ns, 10**8 + number, 10000 + number, 7, "buy")


def depth() -> Depth:
    return Depth("depth", SYMBOLS[0], NOW, 7, 6, 5, (), ())


@pytest.mark.parametrize("channel", ["trade", "quote", "book", "ticker", "bar"])
def test_a_subscription_is_acknowledged_and_ends(channel: str) -> None:
    rig = Rig()
    rig.subscribe(channel, "SYM000000", "SYM000001")
    both = [Stream("SYM000000", channel), Stream("SYM000001", channel)]
    assert rig.answers == [Confirmed([stream]) for stream in both]
    assert rig.client.shown
    rig.unsubscribe(channel, "SYM000000", "SYM000001")
    assert rig.answers[2:] == [Removed([stream]) for stream in both]
    assert rig.client.shown == set()


def test_channels_that_need_the_same_events_do_not_hide_them_from_each_other() -> None:
    rig = Rig()
    rig.subscribe("trade", "SYM000000")
    rig.subscribe("bar", "SYM000000")
    rig.unsubscribe("trade", "SYM000000")
    assert rig.client.shown == {("SYM000000", "trade")}


def test_a_quote_and_a_ticker_of_one_symbol_are_both_confirmed() -> None:
    rig = Rig()
    rig.subscribe("quote", "SYM000000")
    rig.subscribe("ticker", "SYM000000")
    assert [each.streams[0].channel for each in rig.answers] == ["quote", "ticker"]


@pytest.mark.parametrize("name", ["NO/SUCH", "sym000000", ""])
def test_an_unknown_pair_is_refused_in_the_venues_words(name: str) -> None:
    rig = Rig()
    rig.subscribe("trade", name, "SYM000000")
    assert rig.answers == [
        Refused(f"Currency pair not supported {name}", [Stream(name, "trade")]),
        Confirmed([Stream("SYM000000", "trade")]),
    ]


def test_a_fault_refuses_in_its_own_words() -> None:
    rig = Rig()
    rig.exchange.refused["SYM000000 ticker"] = "not today"
    rig.subscribe("quote", "SYM000000")
    rig.subscribe("ticker", "SYM000000")
    assert [each.words for each in rig.answers] == ["not today", "not today"]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("{", "Malformed request"),
        ("[]", "Malformed request"),
        ('{"method":"subscribe"}', "Malformed request"),
        (
            '{"method":"fly","params":{"channel":"book","symbol":["SYM000000"]}}',
            "Malformed request",
        ),
        (
            '{"method":"subscribe","params":{"channel":"level9","symbol":["SYM000000"]}}',
            "Unsupported channel",
        ),
        (
            '{"method":"subscribe","params":{"channel":"book","symbol":["SYM000000"],"depth":11}}',
            "Subscription depth not supported",
        ),
        (
            '{"method":"unsubscribe","params":{"channel":"book","symbol":["SYM000000"]}}',
            "Subscription Not Found",
        ),
    ],
)
def test_what_cannot_be_carried_out_is_said(message: str, words: str) -> None:
    (answer,) = Rig().session.hear(message)
    assert json.loads(answer)["error"] == words


def test_another_path_is_not_there() -> None:
    assert Kraken(FakeExchange(NOW)).accept(Request("/", {}, {}), FakeClient()) == Refusal(404)


def test_trades_have_their_ids_and_times() -> None:
    rig = Rig()
    rig.subscribe("trade", "SYM000000")
    (record,) = rig.see(trade(1))
    assert record.ts_event == NOW // 1000 * 1000
    assert record.flags == Flag.BUY | Flag.LAST
    assert record.body == (10001 * 10**6, 7 * 10**5, 10**8 + 1, 1)


def test_a_snapshot_of_trades_has_no_hole_before_what_follows() -> None:
    first = Rig()
    first.subscribe("trade", "SYM000000")
    first.see(trade(1))
    first.see(trade(2))
    second = Rig(first.dialect)
    snapshot = second.subscribe("trade", "SYM000000")
    assert [record.body[2] - 10**8 for record in snapshot] == [1, 2]
    assert all(record.flags & Flag.SNAPSHOT for record in snapshot)
    assert len(second.see(trade(3))) == 1
    second.unsubscribe("trade", "SYM000000")
    first.unsubscribe("trade", "SYM000000")
    assert Rig(first.dialect).subscribe("trade", "SYM000000") == []


def test_quotes_make_tickers() -> None:
    rig = Rig()
    rig.subscribe("quote", "SYM000000")
    rig.see(trade(1))
    quote = Quote("quote", SYMBOLS[0], NOW, 77, Level(9999, 10), Level(10001, 30))
    records = rig.see(quote)
    assert [record.kind for record in records] == [Kind.QUOTE, Kind.TICKER]
    assert records[0].body == (9999 * 10**6, 10001 * 10**6, 10 * 10**5, 30 * 10**5)
    assert records[1].body[0] == 10001 * 10**6


def test_candles_run_with_the_trades_and_end_with_the_minute() -> None:
    rig = Rig()
    rig.subscribe("bar", "SYM000000")
    assert rig.see(trade(1)) == []
    assert rig.see(trade(5)) == []
    bar, volume = rig.see(trade(6, NOW + 60 * 10**9))
    assert bar.ts_event == NOW - NOW % (60 * 10**9)
    assert bar.body == (10001 * 10**6, 10005 * 10**6, 10001 * 10**6, 10005 * 10**6)
    assert volume.body[2:] == (2, 60 * 10**9)


LEVELS = st.dictionaries(st.integers(1, 60), st.integers(1, 10**6), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(LEVELS, LEVELS), min_size=1, max_size=8))
def test_books_follow_the_market_and_every_checksum_holds(
    course: list[tuple[dict[int, int], dict[int, int]]],
) -> None:
    rig = Rig()

    def move(bids: dict[int, int], asks: dict[int, int]) -> None:
        rig.exchange.bids = [Level(price, bids[price]) for price in sorted(bids, reverse=True)]
        rig.exchange.asks = [Level(100 + price, asks[price]) for price in sorted(asks)]

    move(*course[0])
    rig.subscribe("book", "SYM000000")
    for bids, asks in course[1:]:
        move(bids, asks)
        rig.see(depth())
        usable, shown_bids, shown_asks = rig.c.book("SYM000000")
        assert usable
        for shown, levels in ((shown_bids, rig.exchange.bids), (shown_asks, rig.exchange.asks)):
            wanted = [(level.price * 10**6, level.size * 10**5) for level in levels[:10]]
            assert shown == wanted
    assert rig.c.counts["book_mismatches"] == 0


def test_nothing_is_said_of_a_change_beyond_the_depth() -> None:
    rig = Rig()
    rig.exchange.bids = [Level(100 - i, 5) for i in range(20)]
    rig.subscribe("book", "SYM000000")
    rig.exchange.bids = [*rig.exchange.bids[:12], Level(50, 1)]
    assert rig.session.render(depth()) is None


def test_heartbeats_fill_the_silence_of_a_subscriber() -> None:
    rig = Rig()
    assert rig.session.heartbeat() == []
    rig.subscribe("trade", "SYM000000")
    assert rig.session.heartbeat() == ['{"channel":"heartbeat"}']
    rig.see(trade(1))
    assert rig.session.heartbeat() == []
    assert rig.session.heartbeat() == ['{"channel":"heartbeat"}']


def test_who_sends_too_much_is_told_so_first() -> None:
    breach = Kraken(FakeExchange(NOW)).breach("messages")
    assert json.loads(breach.messages[0])["error"] == "Exceeded msg rate"
