"""Alpaca's dialect against the talk and the decoder that will hear it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from mdsys.feed.alpaca.dialect import Alpaca
from mdsys.feed.alpaca.venue import ALPACA, AlpacaTalk
from mdsys.feed.event_dialect import EVENTS_MAX
from mdsys.feed.frame import SymbolInfo
from mdsys.feed.venue import Busy, Confirmed, Denied, Event, Opened, Refused, Removed, Stream
from mdsys.record.record import Flag, Kind
from mdsys.sim.dialect import CloseSocket, Message, Refusal, Request, Session
from tests.event_frames import BothDecoders
from tests.sim_stage import DEPTH, QUOTE, SYMBOLS, TRADE, FakeClient, FakeExchange

FIRST, SECOND = (symbol.name for symbol in SYMBOLS)
STOCKS, CRYPTO = "/v2/iex", "/v1beta3/crypto/us"
SECRET = {"key": "good", "secret": "s"}


class Meeting:
    """A talk and a session, each hearing the other."""

    def __init__(self, path: str = STOCKS, **exchange: Any) -> None:
        self.client = FakeClient()
        self.dialect = Alpaca(FakeExchange(**exchange))
        session = self.dialect.accept(Request(path, {}, {}), self.client)
        assert isinstance(session, Session)
        self.session = session
        self.talk = AlpacaTalk(SECRET)
        self.events = self.heard(self.session.greet())

    def heard(self, answers: Sequence[Message]) -> list[Event]:
        return [event for each in answers for event in self.talk.hear(_bytes(each))]

    def say(self, messages: Sequence[Message]) -> list[Event]:
        return [event for each in messages for event in self.heard(self.session.hear(each))]

    def opened(self) -> Meeting:
        assert self.say(self.talk.opening()) == [Opened()]
        return self


def _bytes(message: Message) -> bytes:
    return message.encode() if isinstance(message, str) else message


def decoded(session: Session) -> list[Any]:
    decoders = BothDecoders(ALPACA, {FIRST: SymbolInfo(1), SECOND: SymbolInfo(2)}, depth=8192)
    return [record for each in session.flush() for record in decoders.decode(_bytes(each))[1]]


def test_paths_that_are_no_streams_are_not_found() -> None:
    assert Alpaca(FakeExchange()).accept(Request("/", {}, {}), FakeClient()) == Refusal(
        404, "not found"
    )


def test_a_subscription_is_confirmed_by_the_list_and_shown() -> None:
    meeting = Meeting().opened()
    streams = [Stream(FIRST, "trade"), Stream(SECOND, "trade")]
    assert meeting.say(meeting.talk.subscribe(streams, 1)) == [Confirmed(streams)]
    assert meeting.say(meeting.talk.subscribe([Stream(FIRST, "quote")], 2)) == [
        Confirmed([Stream(FIRST, "quote")])
    ]
    assert meeting.client.shown == {(FIRST, "trade"), (SECOND, "trade"), (FIRST, "quote")}
    assert meeting.say(meeting.talk.unsubscribe(streams, 3)) == [Removed(streams)]
    assert meeting.client.shown == {(FIRST, "quote")}


def test_corrections_come_with_trades_of_stocks() -> None:
    meeting = Meeting().opened()
    meeting.session.hear('{"action":"subscribe","trades":["SYM000000"]}')
    (answer,) = meeting.session.hear('{"action":"subscribe","quotes":["SYM000001"]}')
    lists = json.loads(answer)[0]
    assert (lists["corrections"], lists["cancelErrors"]) == ([FIRST], [FIRST])


def test_a_symbol_that_is_not_traded_is_not_in_the_list() -> None:
    meeting = Meeting().opened()
    unknown = Stream("NOSUCH", "trade")
    (event,) = meeting.say(meeting.talk.subscribe([unknown], 1))
    assert isinstance(event, Refused)
    assert event.streams == [unknown]


def test_a_faulty_symbol_refuses_the_request_and_changes_nothing() -> None:
    meeting = Meeting(refused={SECOND: "its own words"}).opened()
    streams = [Stream(FIRST, "trade"), Stream(SECOND, "trade")]
    (event,) = meeting.say(meeting.talk.subscribe(streams, 1))
    assert event == Refused("its own words (code 400)", request_id=1)
    assert meeting.client.shown == set()


def test_orderbooks_are_crypto_alone() -> None:
    stream = Stream(SECOND, "book")
    meeting = Meeting().opened()
    (event,) = meeting.say(meeting.talk.subscribe([stream], 1))
    assert event == Refused("invalid subscribe action for this feed (code 410)", (stream,))
    meeting = Meeting(CRYPTO).opened()
    assert meeting.say(meeting.talk.subscribe([stream], 2)) == [Confirmed([stream])]


def test_the_limit_of_the_free_plan_refuses_and_changes_nothing() -> None:
    class Free(Alpaca):
        limits = ALPACA.limits.__class__(streams_per_connection=2)

    client = FakeClient()
    session = Free(FakeExchange()).accept(Request(STOCKS, {}, {}), client)
    assert isinstance(session, Session)
    session.hear('{"action":"auth","key":"good","secret":"s"}')
    (answer,) = session.hear(
        '{"action":"subscribe","trades":["SYM000000","SYM000001"],"quotes":["SYM000001"]}'
    )
    assert json.loads(answer)[0]["code"] == 405
    assert client.shown == set()
    (answer,) = session.hear('{"action":"subscribe","trades":["SYM000000","SYM000001"]}')
    assert json.loads(answer)[0]["trades"] == [FIRST, SECOND]
    (answer,) = session.hear('{"action":"subscribe","trades":["SYM000000"],"bars":["SYM000000"]}')
    assert json.loads(answer)[0]["bars"] == [FIRST]


def test_a_bad_key_hears_so_and_is_hung_up_on() -> None:
    meeting = Meeting(keys=())
    with pytest.raises(CloseSocket) as closed:
        meeting.say(meeting.talk.opening())
    (event,) = meeting.heard(closed.value.messages)
    assert event == Denied("auth failed (code 402)")


def test_limits_are_broken_in_the_venues_words() -> None:
    meeting = Meeting()
    breach = meeting.dialect.breach("connections")
    (event,) = meeting.heard(breach.messages)
    assert isinstance(event, Busy)
    assert breach.code == 1008


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('{"action":"subscribe","trades":["A"]}', 401),
        ("{}", 400),
        ("[]", 400),
        ("x", 400),
        ('{"action":"dance"}', 401),
    ],
)
def test_what_is_said_before_the_authentication_is_an_error(message: str, code: int) -> None:
    (answer,) = Meeting().session.hear(message)
    assert json.loads(answer)[0]["code"] == code


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('{"action":"auth","key":"good","secret":"s"}', 403),
        ('{"action":"dance"}', 400),
        ('{"action":"subscribe","trades":"A"}', 400),
        ('{"action":"subscribe","trades":[1]}', 400),
        ('{"action":"subscribe","news":["A"]}', 410),
    ],
)
def test_what_is_not_understood_is_an_error(message: str, code: int) -> None:
    (answer,) = Meeting().opened().session.hear(message)
    assert json.loads(answer)[0]["code"] == code


def test_a_message_that_is_too_long_is_noted_and_hung_up_on() -> None:
    meeting = Meeting().opened()
    with pytest.raises(CloseSocket):
        meeting.session.hear('{"action":"subscribe","trades":["' + "A" * 20_000 + '"]}')
    assert meeting.client.breaches == ["streams_per_message"]


def test_the_venues_longest_message_of_ours_is_short_enough() -> None:
    streams = [Stream(f"SYM{i:06d}", "bar") for i in range(ALPACA.limits.streams_per_message or 0)]
    (message,) = AlpacaTalk(SECRET).subscribe(streams, 1)
    assert len(message) < 16_384


def test_what_is_rendered_is_decoded_to_the_same_values() -> None:
    stocks = Meeting().session
    assert stocks.render(TRADE) is stocks.render(QUOTE) is None
    trade, quote = decoded(stocks)
    assert (trade.kind, trade.ts_event, trade.flags) == (Kind.TRADE, TRADE.time_ns, Flag.LAST)
    assert trade.body[:3] == (123_40000000, 7_00000000, TRADE.id)
    assert quote.body == (100_01000000, 100_02000000, 1_50000000, 2000000)
    assert stocks.flush() == []
    crypto = Meeting(CRYPTO).session
    crypto.render(TRADE)
    (trade,) = decoded(crypto)
    assert trade.flags == Flag.SELL | Flag.LAST


def test_a_book_begins_with_its_snapshot_in_the_answer() -> None:
    meeting = Meeting(CRYPTO).opened()
    meeting.session.hear('{"action":"subscribe","trades":["SYM000000"]}')
    messages = meeting.session.hear('{"action":"subscribe","orderbooks":["SYM000001"]}')
    decoders = BothDecoders(ALPACA, {SECOND: SymbolInfo(2)})
    for message in messages:
        decoders.decode(_bytes(message))
    usable, bids, asks = decoders.c.book(SECOND)
    assert (usable, bids, len(asks)) == (True, [(100_01000000, 1_50000000)], 2)
    meeting.session.render(DEPTH)
    for message in meeting.session.flush():
        decoders.decode(_bytes(message))
    assert decoders.c.book(SECOND)[1] == [(100_00000000, 500000)]


def test_frames_grow_with_what_has_gathered_and_no_further_than_they_may() -> None:
    session = Meeting().session
    for count in (1, 50, 2 * EVENTS_MAX + 1):
        for _ in range(count):
            session.render(TRADE)
        frames = session.flush()
        assert len(frames) == -(-count // EVENTS_MAX)
        assert sum(len(json.loads(each)) for each in frames) == count
