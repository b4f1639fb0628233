from __future__ import annotations

import json
from typing import Any

import pytest

from mdsys._decode import DECODERS
from mdsys.errors import ProtocolError
from mdsys.feed.openalgo.venue import OPENALGO, OpenAlgoTalk
from mdsys.feed.venue import (
    CHANNELS,
    Busy,
    Confirmed,
    Denied,
    Event,
    Message,
    Notice,
    Opened,
    Refused,
    Removed,
    Stream,
    venues,
)
from tests.openalgo_frames import SYMBOLS

SECRET = {"api_key": "the_key"}
OPEN = b'{"type":"auth","status":"success","broker":"zerodha","user_id":"u"}'


def streams(*names: str) -> list[Stream]:
    """Return streams of ``NSE:SBIN@book`` and the like."""
    return [
        Stream(symbol, channel) for symbol, _, channel in (each.partition("@") for each in names)
    ]


def opened() -> OpenAlgoTalk:
    talk = OPENALGO.talk(SECRET)
    talk.opening()
    assert list(talk.hear(OPEN)) == [Opened()]
    return talk


class Server:
    """The proxy's side, as websocket_proxy/server.py keeps its index of subscriptions."""

    def __init__(self, talk: OpenAlgoTalk, **refused: str) -> None:
        self.talk = talk
        self.refused = refused
        self.subscribed: set[tuple[str, str]] = set()

    def answer(self, message: Message) -> dict[str, Any]:
        request = json.loads(message)
        if request["action"] == "unsubscribe":
            for each in request["symbols"]:
                self.subscribed.discard((f"{each['exchange']}:{each['symbol']}", each["mode"]))
            return {"type": "unsubscribe", "status": "success", "request_id": request["request_id"]}
        assert request["action"] == "subscribe"
        entries = []
        for each in request["symbols"]:
            entry = {**each, "status": "success"}
            if words := self.refused.get(each["symbol"]):
                entry |= {"status": "error", "message": words}
            else:
                self.subscribed.add((f"{each['exchange']}:{each['symbol']}", request["mode"]))
            entries.append(entry)
        status = "partial" if self.refused else "success"
        answer = {"type": "subscribe", "status": status, "subscriptions": entries}
        return {**answer, "request_id": request["request_id"]}

    def hear(self, messages: Any) -> list[Event]:
        """Answer all messages, and return what the talk makes of the answers."""
        events: list[Event] = []
        for message in messages:
            events += self.talk.hear(json.dumps(self.answer(message)).encode())
        return events


def test_openalgo_is_registered_and_its_decoder_exists() -> None:
    assert venues()["openalgo"] is OPENALGO
    assert OPENALGO.decoder in DECODERS
    assert set(OPENALGO.channels) <= set(CHANNELS)
    assert OPENALGO.python_decoder(SYMBOLS, ["ticker"]).decode(b"{}", 7)[1] == []
    assert OPENALGO.dial("ws://here:8765", SECRET).url == "ws://here:8765"


def test_first_words_are_the_key_and_opening_waits_for_the_answer() -> None:
    talk = OPENALGO.talk(SECRET)
    assert list(map(json.loads, talk.opening())) == [
        {"action": "authenticate", "api_key": "the_key"}
    ]
    assert list(talk.hear(OPEN)) == [Opened()]
    assert "the_key" not in repr(talk)


def test_wrong_key_is_denied_with_the_servers_words() -> None:
    talk = OPENALGO.talk(SECRET)
    talk.opening()
    frame = b'{"status":"error","code":"AUTHENTICATION_ERROR","message":"Invalid API key"}'
    assert list(talk.hear(frame)) == [Denied("Invalid API key (code AUTHENTICATION_ERROR)")]


def test_broker_that_is_down_while_authenticating_is_to_be_tried_later() -> None:
    talk = OPENALGO.talk(SECRET)
    talk.opening()
    frame = b'{"status":"error","code":"BROKER_INIT_ERROR","message":"Token expired"}'
    assert list(talk.hear(frame)) == [Busy("Token expired (code BROKER_INIT_ERROR)", 30.0)]


@pytest.mark.parametrize(
    ("given", "spelled"),
    [("NSE:SBIN", "NSE:SBIN"), (" nse: sbin", "NSE:SBIN"), ("sbin", "NSE:SBIN"), ("NSE:", "NSE:")],
)
def test_symbols_are_spelled_in_capitals(given: str, spelled: str) -> None:
    assert OPENALGO.spelled(given) == spelled


def test_messages_are_what_the_server_reads() -> None:
    talk = opened()
    messages = talk.subscribe(streams("NSE:SBIN@ticker", "NSE_INDEX:NIFTY@book"), 9)
    assert list(map(json.loads, messages)) == [
        {
            "action": "subscribe", "symbols": [{"symbol": "SBIN", "exchange": "NSE"}],
            "mode": "Quote", "depth": 5, "request_id": 1,
        },
        {
            "action": "subscribe", "symbols": [{"symbol": "NIFTY", "exchange": "NSE_INDEX"}],
            "mode": "Depth", "depth": 5, "request_id": 2,
        },
    ]  # fmt: skip
    (message,) = talk.unsubscribe(streams("NSE_INDEX:NIFTY@book"), 10)
    assert json.loads(message) == {
        "action": "unsubscribe",
        "symbols": [{"symbol": "NIFTY", "exchange": "NSE_INDEX", "mode": "Depth"}],
        "request_id": 3,
    }
    assert json.loads(str(talk.keepalive())) == {"action": "ping"}


def test_each_symbol_is_in_one_mode_whatever_comes_and_goes() -> None:
    talk = opened()
    server = Server(talk)

    def after(messages: Any) -> tuple[list[Event], set[str]]:
        return server.hear(messages), {mode for _, mode in server.subscribed}

    ticker, book, quote = streams("NSE:SBIN@ticker", "NSE:SBIN@book", "NSE:SBIN@quote")
    assert after(talk.subscribe([ticker], 1)) == ([Confirmed([ticker])], {"Quote"})
    assert after(talk.subscribe([book], 2)) == ([Confirmed([book])], {"Depth"})
    assert after(talk.subscribe([quote, ticker], 3)) == ([Confirmed([quote, ticker])], {"Depth"})
    assert after(talk.unsubscribe([quote], 4)) == ([Removed((quote,))], {"Depth"})
    events, modes = after(talk.unsubscribe([book], 5))
    assert (events, modes) == ([Removed((book,)), Confirmed([ticker])], {"Quote"})
    assert after(talk.unsubscribe([ticker], 6)) == ([Removed((ticker,))], set())
    assert after(talk.subscribe([book, ticker], 7)) == ([Confirmed([book, ticker])], {"Depth"})


def test_old_mode_is_left_before_the_new_one_is_entered() -> None:
    talk = opened()
    talk.subscribe(streams("NSE:SBIN@ticker"), 1)
    actions = [json.loads(each)["action"] for each in talk.subscribe(streams("NSE:SBIN@book"), 2)]
    assert actions == ["unsubscribe", "subscribe"]
    actions = [json.loads(each)["action"] for each in talk.unsubscribe(streams("NSE:SBIN@book"), 3)]
    assert actions == ["unsubscribe", "subscribe"]


def test_refusal_of_one_symbol_is_its_own_with_the_brokers_words() -> None:
    talk = opened()
    wanted = streams("NSE:SBIN@book", "NSE:SBIN@ticker", "NSE:NONE@book", "NSE:GONE@book")
    events = Server(talk, NONE="Token not found", GONE="Expired").hear(talk.subscribe(wanted, 1))
    assert events == [
        Confirmed(wanted[:2]),
        Refused("Token not found", wanted[2:3]),
        Refused("Expired", wanted[3:]),
    ]


def test_symbol_that_the_answer_passes_over_is_refused() -> None:
    talk = opened()
    wanted = streams("NSE:SBIN@book", "NSE:@book")
    talk.subscribe(wanted, 1)
    entry = {"symbol": "SBIN", "exchange": "NSE", "status": "success"}
    answer = {"type": "subscribe", "status": "success", "subscriptions": [entry, 5]}
    events = talk.hear(json.dumps({**answer, "request_id": 1}).encode())
    assert list(events) == [
        Confirmed(wanted[:1]),
        Refused("not in OpenAlgo's answer", wanted[1:]),
    ]


def test_refused_channel_does_not_decide_the_mode() -> None:
    talk = opened()
    server = Server(talk, SBIN="no depth here")
    server.hear(talk.subscribe(streams("NSE:SBIN@book"), 1))
    server.refused.clear()
    server.hear(talk.subscribe(streams("NSE:SBIN@ticker"), 2))
    assert server.subscribed == {("NSE:SBIN", "Quote")}


@pytest.mark.parametrize(
    ("code", "event"),
    [
        ("SERVER_ERROR", Refused("boom (code SERVER_ERROR)", request_id=71)),
        ("PROCESSING_ERROR", Refused("boom (code PROCESSING_ERROR)", request_id=71)),
        (
            "BROKER_ERROR",
            Refused("boom (code BROKER_ERROR)", tuple(streams("NSE:SBIN@book", "NSE:INFY@book"))),
        ),
        (
            "NOT_AUTHENTICATED",
            Refused(
                "boom (code NOT_AUTHENTICATED)", tuple(streams("NSE:SBIN@book", "NSE:INFY@book"))
            ),
        ),
    ],
)
def test_error_belongs_to_the_oldest_open_request(code: str, event: Refused) -> None:
    talk = opened()
    messages = [
        *talk.subscribe(streams("NSE:SBIN@book", "NSE:INFY@book"), 71),
        *talk.subscribe(streams("NSE:TCS@book"), 72),
    ]
    error = json.dumps({"status": "error", "code": code, "message": "boom"}).encode()
    assert list(talk.hear(error)) == [event]
    assert Server(talk).hear(messages[1:]) == [Confirmed(streams("NSE:TCS@book"))]
    with pytest.raises(ProtocolError):
        Server(talk).hear(messages[:1])


def test_error_of_an_unsubscription_still_removes_and_of_nothing_is_a_notice() -> None:
    talk = opened()
    book = streams("NSE:SBIN@book")
    Server(talk).hear(talk.subscribe(book, 1))
    talk.unsubscribe(book, 2)
    error = b'{"status":"error","code":"SERVER_ERROR","message":"boom"}'
    assert list(talk.hear(error)) == [Notice("boom (code SERVER_ERROR)"), Removed(tuple(book))]
    assert list(talk.hear(error)) == [Notice("boom (code SERVER_ERROR)")]


@pytest.mark.parametrize(
    "frame", [b'{"type":"pong","server_timestamp":1}', b'{"type":"order_update","orderid":"1"}']
)
def test_other_messages_mean_nothing_here(frame: bytes) -> None:
    assert list(opened().hear(frame)) == []


@pytest.mark.parametrize(
    "frame",
    [
        *(b"", b"{", b"[]", b"null", b"{}", b'{"type":5}', b'{"status":"success"}', b"\xff"),
        b"[" * 100_000,
        b'{"type":"subscribe","request_id":1}',
        b'{"type":"subscribe","request_id":true}',
        b'{"type":"unsubscribe","request_id":{}}',
        b'{"type":"unsubscribe"}',
    ],
)
def test_what_answers_nothing_is_a_protocol_error(frame: bytes) -> None:
    talk = opened()
    if b"request_id" not in frame or b"true" in frame:
        talk.subscribe(streams("NSE:SBIN@book"), 1)  # its number is 1, which is not true
    with pytest.raises(ProtocolError, match="not a message of OpenAlgo"):
        list(talk.hear(frame))


def test_answer_of_the_other_kind_is_a_protocol_error() -> None:
    talk = opened()
    talk.subscribe(streams("NSE:SBIN@book"), 1)
    with pytest.raises(ProtocolError):
        talk.hear(b'{"type":"unsubscribe","request_id":1}')
