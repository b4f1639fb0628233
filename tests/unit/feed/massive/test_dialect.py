"""Massive's dialect against the talk and the decoder that will hear it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from mdsys.feed.event_dialect import EVENTS_MAX
from mdsys.feed.frame import SymbolInfo
from mdsys.feed.massive.dialect import Massive
from mdsys.feed.massive.venue import MASSIVE, MassiveTalk
from mdsys.feed.venue import Busy, Confirmed, Denied, Event, Opened, Refused, Removed, Stream
from mdsys.record.record import Kind
from mdsys.sim.dialect import CloseSocket, Message, Refusal, Request, Session
from tests.event_frames import BothDecoders
from tests.sim_stage import DEPTH, QUOTE, SYMBOLS, TRADE, FakeClient, FakeExchange

FIRST, SECOND = (symbol.name for symbol in SYMBOLS)


class Meeting:
    """A talk and a session, each hearing the other."""

    def __init__(self, **exchange: Any) -> None:
        self.client = FakeClient()
        self.dialect = Massive(FakeExchange(**exchange))
        session = self.dialect.accept(Request("/stocks", {}, {}), self.client)
        assert isinstance(session, Session)
        self.session = session
        self.talk = MassiveTalk({"key": "good"})
        assert self.heard(self.session.greet()) == []

    def heard(self, answers: Sequence[Message]) -> list[Event]:
        return [event for each in answers for event in self.talk.hear(_bytes(each))]

    def say(self, messages: Sequence[Message]) -> list[Event]:
        return [event for each in messages for event in self.heard(self.session.hear(each))]

    def opened(self) -> Meeting:
        assert self.say(self.talk.opening()) == [Opened()]
        return self


def _bytes(message: Message) -> bytes:
    return message.encode() if isinstance(message, str) else message


def test_paths_that_are_no_clusters_are_not_found() -> None:
    found = Massive(FakeExchange()).accept(Request("/", {}, {}), FakeClient())
    assert found == Refusal(404, "not found")


def test_each_parameter_is_confirmed_and_shown() -> None:
    meeting = Meeting().opened()
    streams = [Stream(FIRST, "trade"), Stream(SECOND, "quote"), Stream(FIRST, "bar")]
    assert meeting.say(meeting.talk.subscribe(streams, 1)) == [Confirmed(streams)]
    assert meeting.client.shown == {(FIRST, "trade"), (SECOND, "quote")}
    assert meeting.say(meeting.talk.unsubscribe(streams[:1], 2)) == [Removed(streams[:1])]
    assert meeting.client.shown == {(SECOND, "quote")}


def test_an_unknown_ticker_is_confirmed_and_an_unknown_channel_is_not_answered() -> None:
    meeting = Meeting().opened()
    unknown = [Stream("NOSUCH", "trade")]
    assert meeting.say(meeting.talk.subscribe(unknown, 1)) == [Confirmed(unknown)]
    assert meeting.session.hear('{"action":"subscribe","params":"ZZ.SYM000000"}') == []
    assert meeting.client.shown == set()


def test_a_faulty_symbol_is_refused_by_its_parameter_and_the_others_are_not() -> None:
    meeting = Meeting(refused={SECOND: "not authorized"}).opened()
    streams = [Stream(FIRST, "trade"), Stream(SECOND, "trade")]
    assert meeting.say(meeting.talk.subscribe(streams, 1)) == [
        Confirmed(streams[:1]),
        Refused("not authorized: T.SYM000001", streams[1:]),
    ]


def test_a_bad_key_hears_so_and_is_hung_up_on() -> None:
    meeting = Meeting(keys=())
    with pytest.raises(CloseSocket) as closed:
        meeting.say(meeting.talk.opening())
    assert meeting.heard(closed.value.messages) == [Denied("authentication failed")]


def test_who_does_not_authenticate_is_hung_up_on() -> None:
    with pytest.raises(CloseSocket):
        Meeting().session.hear('{"action":"subscribe","params":"T.SYM000000"}')


def test_one_connection_too_many_is_told_so() -> None:
    meeting = Meeting()
    (event,) = meeting.heard(meeting.dialect.breach("connections").messages)
    assert isinstance(event, Busy)
    assert meeting.dialect.breach("slow").code == 0


@pytest.mark.parametrize("message", ["x", "[]", "{}", '{"action":"auth","params":1}'])
def test_what_is_not_understood_is_an_error(message: str) -> None:
    (answer,) = Meeting().session.hear(message)
    assert json.loads(answer)[0]["status"] == "error"


def test_what_is_rendered_is_decoded_to_the_same_values() -> None:
    session = Meeting().session
    assert session.render(TRADE) is session.render(QUOTE) is session.render(DEPTH) is None
    decoders = BothDecoders(MASSIVE, {FIRST: SymbolInfo(1), SECOND: SymbolInfo(2)})
    (raw,) = session.flush()
    _, (trade, quote) = decoders.decode(_bytes(raw))
    assert (trade.kind, trade.ts_event) == (Kind.TRADE, TRADE.time_ns // 10**6 * 10**6)
    assert trade.body[:3] == (123_40000000, 7_00000000, TRADE.id)
    assert quote.body == (100_01000000, 100_02000000, 1_50000000, 2000000)
    session.render(TRADE)  # again: the same number
    (raw,) = session.flush()
    assert decoders.decode(_bytes(raw))[1] == []


def test_frames_grow_with_what_has_gathered_and_no_further_than_they_may() -> None:
    session = Meeting().session
    for count in (1, 50, 2 * EVENTS_MAX + 1):
        for _ in range(count):
            session.render(TRADE)
        frames = session.flush()
        assert len(frames) == -(-count // EVENTS_MAX)
        assert sum(len(json.loads(each)) for each in frames) == count
