"""OpenAlgo's dialect against the talk and the decoder that will hear it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from mdsys._decode import Decoder
from mdsys.feed.frame import FrameResult, SymbolInfo
from mdsys.feed.openalgo.dialect import OpenAlgo
from mdsys.feed.openalgo.venue import OPENALGO
from mdsys.feed.venue import (
    Confirmed,
    Denied,
    Event,
    Limits,
    Notice,
    Opened,
    Refused,
    Removed,
    Stream,
)
from mdsys.record.record import KIND_DTYPE, Kind, Ticks
from mdsys.sim.dialect import Message, Request, Session
from tests.sim_stage import BOOK, DEPTH, QUOTE, SYMBOLS, TIME_NS, TRADE, FakeClient, FakeExchange

FIRST, SECOND = (f"NSE:{symbol.name}" for symbol in SYMBOLS)
E8 = 10**8


class Meeting:
    """A talk, a decoder and a session, each hearing the other."""

    def __init__(self, key: str = "good", limits: Limits | None = None, **exchange: Any) -> None:
        self.client = FakeClient()
        self.dialect = OpenAlgo(FakeExchange(**exchange))
        if limits is not None:
            self.dialect.limits = limits
        session = self.dialect.accept(Request("/", {}, {}), self.client)
        assert isinstance(session, Session)
        self.session = session
        self.talk = OPENALGO.talk({"api_key": key})
        self.decoder = Decoder("openalgo", {FIRST: SymbolInfo(1), SECOND: SymbolInfo(2)}, 256)

    def say(self, messages: Iterable[Message]) -> list[Event]:
        answers = [answer for each in messages for answer in self.session.hear(each)]
        for answer in answers:
            assert self.decoder.decode(str(answer).encode())[0] == FrameResult.CONTROL
        return [event for each in answers for event in self.talk.hear(str(each).encode())]

    def opened(self) -> Meeting:
        assert self.say(self.talk.opening()) == [Opened()]
        return self

    def decoded(self, frame: Message | None) -> Ticks:
        assert isinstance(frame, str)
        json.loads(frame)
        result, ticks = self.decoder.decode(frame.encode())
        assert result == FrameResult.OK
        return ticks


def test_key_opens_and_is_what_connections_are_counted_by() -> None:
    meeting = Meeting().opened()
    assert (meeting.session.key, meeting.session.secret) == ("good", "good")


@pytest.mark.parametrize(
    ("key", "words"), [("bad", "Invalid API key"), ("", "API key is required")]
)
def test_wrong_key_is_denied_in_the_servers_words(key: str, words: str) -> None:
    meeting = Meeting(key)
    denied = Denied(f"{words} (code AUTHENTICATION_ERROR)")
    assert meeting.say(meeting.talk.opening()) == [denied]
    assert meeting.session.key == ""


def test_whoever_has_not_authenticated_gets_nothing() -> None:
    meeting = Meeting()
    book = [Stream(FIRST, "book")]
    (message,) = meeting.talk.subscribe(book, 1)
    words = "You must authenticate first (code NOT_AUTHENTICATED)"
    assert meeting.say([message]) == [Refused(words, tuple(book))]
    assert meeting.dialect.breach("hello").code == 4401


def test_symbols_are_confirmed_and_shown_as_their_mode_needs() -> None:
    meeting = Meeting().opened()
    streams = [Stream(FIRST, "ticker"), Stream(SECOND, "book")]
    events = meeting.say(meeting.talk.subscribe(streams, 1))
    assert events == [Confirmed(streams[:1]), Confirmed(streams[1:])]
    second = {(SYMBOLS[1].name, kind) for kind in ("trade", "quote", "depth")}
    assert meeting.client.shown == {(SYMBOLS[0].name, "trade")} | second
    assert meeting.say(meeting.talk.unsubscribe(streams[1:], 2)) == [Removed(tuple(streams[1:]))]
    assert meeting.client.shown == {(SYMBOLS[0].name, "trade")}


def test_mode_goes_up_and_down_with_what_is_wanted() -> None:
    meeting = Meeting().opened()
    for channels, leave, count in (
        (["ticker"], False, 1),
        (["book"], False, 3),
        (["book"], True, 1),
        (["ticker"], True, 0),
    ):
        streams = [Stream(FIRST, channel) for channel in channels]
        talk = meeting.talk.unsubscribe if leave else meeting.talk.subscribe
        meeting.say(talk(streams, 1))
        assert len(meeting.client.shown) == count


def test_unknown_symbol_and_one_that_a_fault_refuses_keep_their_own_words() -> None:
    meeting = Meeting(refused={SECOND: "broker says no"}).opened()
    streams = [Stream(FIRST, "book"), Stream(SECOND, "book"), Stream("BSE:SYM000000", "book")]
    assert meeting.say(meeting.talk.subscribe(streams, 1)) == [
        Confirmed(streams[:1]),
        Refused("broker says no", streams[1:2]),
        Refused("Symbol SYM000000 not found for exchange BSE", streams[2:]),
    ]


def test_more_symbols_than_allowed_are_a_breach() -> None:
    meeting = Meeting(limits=Limits(symbols_per_connection=1)).opened()
    meeting.say(meeting.talk.subscribe([Stream(FIRST, "ticker")], 1))
    meeting.say(meeting.talk.subscribe([Stream(FIRST, "book")], 2))
    assert meeting.client.breaches == []
    second = [Stream(SECOND, "ticker")]
    (refused,) = meeting.say(meeting.talk.subscribe(second, 3))
    assert refused == Refused("Maximum symbols per connection reached: 1", second)
    assert meeting.client.breaches == ["symbols_per_connection"]


def test_trade_in_mode_quote_is_read_exactly() -> None:
    meeting = Meeting().opened()
    meeting.say(meeting.talk.subscribe([Stream(FIRST, "ticker")], 1))
    (tick,) = meeting.decoded(meeting.session.render(TRADE))
    fields = tick.view(KIND_DTYPE[Kind.TICKER])
    assert [int(fields[name]) for name in ("last_price", "last_size", "volume")] == [
        *(12_340 * 10**6, 7 * E8, 1 * E8)
    ]
    assert tick["ts_event"] == TIME_NS // 10**6 * 10**6


@pytest.mark.parametrize("event", [QUOTE, DEPTH], ids=["quote", "depth"])
def test_depth_is_read_exactly(event: Any) -> None:
    meeting = Meeting().opened()
    meeting.say(meeting.talk.subscribe([Stream(SECOND, "book")], 1))
    ticks = meeting.decoded(meeting.session.render(event))
    assert list(ticks["kind"]) == [Kind.TICKER, Kind.QUOTE, *[Kind.LEVEL] * 3]
    quote = [int(ticks[1][name]) for name in ("bid_price", "bid_size", "ask_price", "ask_size")]
    bid, ask = BOOK.bids[0], BOOK.asks[0]
    scaled = [bid.price * 10**4, bid.size * 10**5, ask.price * 10**4, ask.size * 10**5]
    assert quote == scaled


def test_event_that_nobody_subscribed_to_is_not_shown() -> None:
    meeting = Meeting().opened()
    assert meeting.session.render(TRADE) is None


def test_ping_is_answered_and_means_nothing() -> None:
    meeting = Meeting()
    message = meeting.talk.keepalive()
    assert message is not None
    assert meeting.say([message]) == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "INVALID_JSON"),
        ("[]", "INVALID_JSON"),
        ('{"action":"dance"}', "INVALID_ACTION"),
        ('{"action":"subscribe"}', "INVALID_PARAMETERS"),
        ('{"action":"subscribe","symbols":[{}],"mode":9}', "INVALID_MODE"),
        ('{"action":"subscribe","symbols":[{}],"mode":true}', "INVALID_MODE"),
    ],
)
def test_message_that_is_none_gets_the_servers_error(message: str, code: str) -> None:
    (event,) = Meeting().opened().say([message])
    assert isinstance(event, Notice)
    assert f"(code {code})" in event.words
