"""Kite's dialect against the talk, the look-up and the decoders that will hear it."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from mdsys._decode import Decoder
from mdsys.feed.frame import FrameResult, SymbolInfo
from mdsys.feed.kite.dialect import EXPIRED, Kite, token
from mdsys.feed.kite.instruments import Instruments, headers
from mdsys.feed.kite.reference import ReferenceDecoder
from mdsys.feed.kite.venue import KITE
from mdsys.feed.venue import Event, Limits, Notice, Resolution, Stream
from mdsys.record.record import KIND_DTYPE, Kind, Ticks
from mdsys.sim.dialect import Message, Refusal, Reply, Request, Session
from tests.sim_stage import BOOK, DEPTH, QUOTE, SYMBOLS, TIME_NS, TRADE, FakeClient, FakeExchange

SECRET = {"api_key": "key", "access_token": "good"}
FIRST, SECOND = (f"NSE:{symbol.name}" for symbol in SYMBOLS)
WIRES = {f"NSE:{symbol.name}": token(symbol).to_bytes(4, "big") for symbol in SYMBOLS}
SECOND_NS = 10**9


def request(**query: str) -> Request:
    return Request("/", query, {})


def streams(symbol: str, *channels: str) -> list[Stream]:
    return [Stream(symbol, channel, WIRES[symbol]) for channel in channels]


class Meeting:
    """A talk, a decoder and a session."""

    def __init__(self, limits: Limits | None = None, **exchange: Any) -> None:
        self.client = FakeClient()
        self.dialect = Kite(FakeExchange(**exchange))
        if limits is not None:
            self.dialect.limits = limits
        session = self.dialect.accept(request(**SECRET), self.client)
        assert isinstance(session, Session)
        self.session = session
        self.talk = KITE.talk(SECRET)
        symbols = {wire: SymbolInfo(i + 1, 2, 0) for i, wire in enumerate(WIRES.values())}
        self.decoder = Decoder("kite", symbols, 256)

    def say(self, messages: Iterable[Message]) -> list[Message]:
        return [answer for each in messages for answer in self.session.hear(each)]

    def decoded(self, frame: Message | None) -> Ticks:
        assert isinstance(frame, bytes)
        result, ticks = self.decoder.decode(frame)
        assert result == FrameResult.OK
        return ticks

    def heard(self, answers: Sequence[Message]) -> list[Event]:
        texts = [each for each in answers if isinstance(each, str)]
        return [event for each in texts for event in self.talk.hear(each.encode())]


@pytest.mark.parametrize(
    "query", [{}, {"api_key": "key"}, {"access_token": "good"}, {**SECRET, "access_token": "old"}]
)
def test_wrong_token_is_refused_with_403(query: Mapping[str, str]) -> None:
    refusal = Kite(FakeExchange()).accept(request(**query), FakeClient())
    assert isinstance(refusal, Refusal)
    assert refusal.status == 403
    assert "TokenException" in refusal.body


def test_sockets_are_counted_by_key_and_too_many_get_429() -> None:
    meeting = Meeting()
    assert (meeting.session.key, meeting.session.secret) == ("key", "good")
    assert meeting.dialect.keyed
    assert meeting.dialect.limits.connections == 3
    assert meeting.dialect.breach("connections").status == 429
    assert meeting.dialect.breach("expired").status == 403


def test_subscription_shows_the_state_at_once_in_its_mode() -> None:
    meeting = Meeting()
    first, second = meeting.say(meeting.talk.subscribe(streams(FIRST, "ticker", "book"), 1))
    assert list(meeting.decoded(first)["kind"]) == [Kind.TICKER]
    ticks = meeting.decoded(second)
    assert list(ticks["kind"]) == [Kind.TICKER, Kind.QUOTE, *[Kind.LEVEL] * 3]
    quote = [int(ticks[1][name]) for name in ("bid_price", "bid_size", "ask_price", "ask_size")]
    assert quote == [*BOOK.bids[0], *BOOK.asks[0]]
    assert set(ticks["ts_event"]) == {TIME_NS // SECOND_NS * SECOND_NS}
    assert meeting.client.shown == {(SYMBOLS[0].name, kind) for kind in ("trade", "quote", "depth")}


def test_ticker_alone_is_shown_trades_and_unsubscribing_hides_them() -> None:
    meeting = Meeting()
    meeting.say(meeting.talk.subscribe(streams(FIRST, "ticker"), 1))
    assert meeting.client.shown == {(SYMBOLS[0].name, "trade")}
    meeting.say(meeting.talk.subscribe(streams(FIRST, "quote"), 2))
    assert len(meeting.client.shown) == 3
    meeting.say(meeting.talk.unsubscribe(streams(FIRST, "quote"), 3))
    assert meeting.client.shown == {(SYMBOLS[0].name, "trade")}
    meeting.say(meeting.talk.unsubscribe(streams(FIRST, "ticker"), 4))
    assert meeting.client.shown == set()
    assert meeting.session.render(TRADE) is None


def test_events_become_packets_that_the_decoders_read_alike() -> None:
    meeting = Meeting()
    meeting.say(meeting.talk.subscribe(streams(FIRST, "ticker"), 1))
    meeting.say(meeting.talk.subscribe(streams(SECOND, "book"), 2))
    trade = meeting.session.render(TRADE)
    (tick,) = meeting.decoded(trade)
    fields = tick.view(KIND_DTYPE[Kind.TICKER])
    assert [int(fields[name]) for name in ("last_price", "last_size", "volume")] == [12_340, 7, 1]
    for event in (QUOTE, DEPTH):
        assert len(meeting.decoded(meeting.session.render(event))) == 5
    reference = ReferenceDecoder({WIRES[FIRST]: SymbolInfo(1, 2, 0)}, ["ticker"])
    assert isinstance(trade, bytes)
    assert reference.decode(trade, 0)[1][0].body[:3] == (12_340, 7, 1)


def test_heartbeat_is_one_byte() -> None:
    meeting = Meeting()
    assert meeting.session.heartbeat() == [b"\0"]
    assert len(meeting.decoded(b"\0")) == 0


def test_unknown_tokens_are_passed_over_in_silence() -> None:
    meeting = Meeting()
    for number in (0, 1, 256, 258, 4711, (len(SYMBOLS) + 1) << 8 | 1, -255):
        assert meeting.session.hear(json.dumps({"a": "subscribe", "v": [number]})) == []
    assert meeting.client.shown == set()


def test_mode_of_a_token_that_is_not_subscribed_changes_nothing() -> None:
    meeting = Meeting()
    message = json.dumps({"a": "mode", "v": ["full", [token(SYMBOLS[0])]]})
    assert meeting.session.hear(message) == []
    assert meeting.client.shown == set()


def test_refusal_by_a_fault_is_an_error_and_the_others_are_shown() -> None:
    meeting = Meeting(refused={FIRST: "no such instrument"})
    wanted = streams(FIRST, "ticker") + streams(SECOND, "ticker")
    answers = meeting.say(meeting.talk.subscribe(wanted, 1))
    assert meeting.heard(answers) == [Notice("error: no such instrument")]
    assert meeting.client.shown == {(SYMBOLS[1].name, "trade")}


def test_more_instruments_than_allowed_are_a_breach() -> None:
    meeting = Meeting(Limits(symbols_per_connection=1))
    meeting.say(meeting.talk.subscribe(streams(FIRST, "ticker"), 1))
    meeting.say(meeting.talk.subscribe(streams(FIRST, "book"), 2))
    assert meeting.client.breaches == []
    answers = meeting.say(meeting.talk.subscribe(streams(SECOND, "ticker"), 3))
    assert meeting.client.breaches == ["symbols_per_connection"]
    assert meeting.heard(answers) == [Notice("error: more than 1 instruments on a connection")]


@pytest.mark.parametrize(
    "message", ["", "[]", "{}", '{"a":"subscribe"}', '{"a":"jump","v":[]}', '{"a":"mode","v":[1]}',
                '{"a":"subscribe","v":5}', '{"a":"subscribe","v":["x"]}',
                '{"a":"mode","v":["half",[]]}'],
)  # fmt: skip
def test_message_that_is_none_is_an_error(message: str) -> None:
    meeting = Meeting()
    assert meeting.heard(meeting.session.hear(message)) == [Notice("error: Invalid message")]


def test_list_of_instruments_resolves_the_markets_symbols() -> None:
    dialect = Kite(FakeExchange())

    async def fetch(
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        weight: int = 1,
    ) -> bytes:
        assert (params, weight) == (None, 1)
        lower = {name.lower(): value for name, value in (headers or {}).items()}
        reply = dialect.rest(Request(path, {}, lower))
        assert isinstance(reply, Reply)
        assert isinstance(reply.body, bytes)
        assert (reply.status, reply.headers["Content-Encoding"]) == (200, "gzip")
        return gzip.decompress(reply.body)

    names = [FIRST, SECOND, EXPIRED, "NSE:SYM00000"]
    found = asyncio.run(Instruments().resolve(names, SECRET, fetch))
    assert [found[name] for name in names[:2]] == [
        Resolution(WIRES[FIRST], 2, 0),
        Resolution(WIRES[SECOND], 2, 0),
    ]
    assert "expired on 2020-01-30" in str(found[EXPIRED].refusal)
    assert "did you mean NSE:SYM00000" in str(found[names[3]].refusal)


@pytest.mark.parametrize(
    "given", [{}, {"authorization": "good"}, headers({**SECRET, "access_token": "old"})]
)
def test_list_of_instruments_wants_a_token(given: Mapping[str, str]) -> None:
    lower = {name.lower(): value for name, value in given.items()}
    reply = Kite(FakeExchange()).rest(Request("/instruments", {}, lower))
    assert reply is not None
    assert reply.status == 403


def test_other_paths_are_not_there() -> None:
    dialect = Kite(FakeExchange())
    assert dialect.rest(Request("/quote", {}, {})) is None
    assert dialect.accept(Request("/ws", SECRET, {}), FakeClient()) == Refusal(404)
