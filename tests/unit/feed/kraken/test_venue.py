"""What is said to Kraken, and what its answers mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from mdsys._decode import DECODERS
from mdsys.errors import ProtocolError
from mdsys.feed.frame import FrameResult
from mdsys.feed.kraken.venue import KRAKEN, KrakenTalk
from mdsys.feed.venue import CHANNELS, Confirmed, Event, Notice, Refused, Removed, Stream, venues
from tests.kraken_frames import SYMBOLS, TRADE

BTC, ETH = "BTC/USD", "ETH/USD"
TIMES = {"time_in": "2026-10-06T18:06:01.981684Z", "time_out": "2026-10-06T18:06:01.981723Z"}


def streams(channel: str, *symbols: str) -> list[Stream]:
    return [Stream(symbol, channel) for symbol in symbols]


def told(messages: Sequence[Any]) -> list[Any]:
    return [json.loads(message) for message in messages]


def heard(talk: KrakenTalk, **fields: Any) -> list[Event]:
    return list(talk.hear(json.dumps({**fields, **TIMES}).encode()))


def acknowledged(
    talk: KrakenTalk, request_id: int, channel: str, symbol: str, method: str = "subscribe"
) -> list[Event]:
    result = {"channel": channel, "snapshot": True, "symbol": symbol}
    return heard(talk, method=method, result=result, success=True, req_id=request_id)


def refused(
    talk: KrakenTalk, request_id: int, symbol: str, method: str = "subscribe"
) -> list[Event]:
    words = f"Currency pair not supported {symbol}"
    return heard(talk, error=words, method=method, success=False, symbol=symbol, req_id=request_id)


def test_kraken_is_registered_and_its_decoder_exists() -> None:
    assert venues()["kraken"] is KRAKEN
    assert KRAKEN.decoder in DECODERS
    assert tuple(KRAKEN.channels) == CHANNELS
    decoder = KRAKEN.python_decoder(SYMBOLS, ["trade"])
    assert decoder.decode(TRADE, 7)[0] == FrameResult.OK


@pytest.mark.parametrize(
    ("base", "url"),
    [
        (KRAKEN.url, "wss://ws.kraken.com/v2"),
        ("wss://beta-ws.kraken.com/v2/", "wss://beta-ws.kraken.com/v2"),
        ("ws://127.0.0.1:9001", "ws://127.0.0.1:9001/v2"),
        ("ws://127.0.0.1:9001/", "ws://127.0.0.1:9001/v2"),
    ],
)
def test_v2_is_dialled(base: str, url: str) -> None:
    dial = KRAKEN.dial(base, {})
    assert (dial.url, dial.shown, dial.headers) == (url, url, {})


def test_small_letters_of_a_name_are_kept() -> None:
    assert KRAKEN.spelled(" TSLAx/USD ") == "TSLAx/USD"


@pytest.mark.parametrize(
    ("channel", "params"),
    [
        ("trade", {"channel": "trade"}),
        ("quote", {"channel": "ticker", "event_trigger": "bbo"}),
        ("ticker", {"channel": "ticker", "event_trigger": "bbo"}),
        ("book", {"channel": "book", "depth": 10}),
        ("bar", {"channel": "ohlc", "interval": 1}),
    ],
)
def test_messages_are_what_the_venue_documents(channel: str, params: dict[str, Any]) -> None:
    talk = KRAKEN.talk({})
    assert list(talk.opening()) == []
    both = {**params, "symbol": [BTC, ETH]}
    assert told(talk.subscribe(streams(channel, BTC, ETH), 1)) == [
        {"method": "subscribe", "params": {**both, "snapshot": True}, "req_id": 1}
    ]
    assert told(talk.unsubscribe(streams(channel, BTC, ETH), 2)) == [
        {"method": "unsubscribe", "params": both, "req_id": 2}
    ]


def test_each_symbol_is_answered_by_itself() -> None:
    talk = KrakenTalk()
    talk.subscribe(streams("book", BTC, ETH, "NO/SUCH"), 5)
    assert acknowledged(talk, 5, "book", ETH) == [Confirmed(streams("book", ETH))]
    assert refused(talk, 5, "NO/SUCH") == [
        Refused("Currency pair not supported NO/SUCH", streams("book", "NO/SUCH"))
    ]
    assert acknowledged(talk, 5, "book", BTC) == [Confirmed(streams("book", BTC))]
    talk.unsubscribe(streams("book", BTC), 6)
    assert acknowledged(talk, 6, "book", BTC, "unsubscribe") == [Removed(streams("book", BTC))]


def test_a_refusal_that_names_no_symbol_is_of_the_whole_request() -> None:
    talk = KrakenTalk()
    talk.subscribe(streams("trade", BTC, ETH), 5)
    fields = {"method": "subscribe", "success": False, "error": "Malformed request"}
    assert heard(talk, **fields, req_id=5) == [Refused("Malformed request", request_id=5)]
    assert heard(talk, **fields, req_id=6) == [Notice("Malformed request")]
    assert heard(talk, **fields) == [Notice("Malformed request")]


def test_too_many_messages_refuse_nothing() -> None:
    talk = KrakenTalk()
    talk.subscribe(streams("trade", BTC), 5)
    words = "Exceeded msg rate"
    assert heard(talk, error=words, method="subscribe", success=False, req_id=5) == [Notice(words)]
    assert heard(talk, error=words) == [Notice(words)]


def test_what_is_not_there_is_removed_whatever_the_venue_says() -> None:
    talk = KrakenTalk()
    talk.unsubscribe(streams("trade", BTC), 5)
    words = "Subscription Not Found"
    assert heard(talk, error=words, method="unsubscribe", success=False, symbol=BTC, req_id=5) == [
        Removed(streams("trade", BTC)),
        Notice(words),
    ]


def test_a_warning_is_told_once_a_socket() -> None:
    talk = KrakenTalk()
    talk.subscribe(streams("bar", BTC, ETH), 1)
    result = {"channel": "ohlc", "warnings": ["timestamp is deprecated, use interval_begin"]}

    def answer(symbol: str) -> list[Event]:
        own = {**result, "symbol": symbol}
        return heard(talk, method="subscribe", result=own, success=True, req_id=1)

    assert answer(BTC) == [
        Confirmed(streams("bar", BTC)),
        Notice("timestamp is deprecated, use interval_begin"),
    ]
    assert answer(ETH) == [Confirmed(streams("bar", ETH))]


class TestQuotesAndTickersShareASubscription:
    def test_the_second_is_confirmed_by_a_pong_behind_the_first(self) -> None:
        talk = KrakenTalk()
        assert told(talk.subscribe(streams("quote", BTC), 1))[0]["method"] == "subscribe"
        messages = told(talk.subscribe(streams("ticker", BTC, ETH), 2))
        assert messages[0]["params"]["symbol"] == [ETH]
        assert messages[1] == {"method": "ping", "req_id": 2}
        assert acknowledged(talk, 1, "ticker", BTC) == [Confirmed(streams("quote", BTC))]
        assert acknowledged(talk, 2, "ticker", ETH) == [Confirmed(streams("ticker", ETH))]
        assert heard(talk, method="pong", req_id=2) == [Confirmed(streams("ticker", BTC))]
        assert heard(talk, method="pong", req_id=2) == []

    def test_a_refusal_of_the_first_is_one_of_the_second(self) -> None:
        talk = KrakenTalk()
        talk.subscribe(streams("quote", BTC), 1)
        talk.subscribe(streams("ticker", BTC), 2)
        words = f"Currency pair not supported {BTC}"
        assert refused(talk, 1, BTC) == [Refused(words, streams("quote", BTC))]
        assert heard(talk, method="pong", req_id=2) == [Refused(words, streams("ticker", BTC))]
        again = told(talk.subscribe(streams("ticker", BTC), 3))
        assert [message["method"] for message in again] == ["subscribe"]

    def test_it_ends_with_the_last_of_them(self) -> None:
        talk = KrakenTalk()
        talk.subscribe(streams("quote", BTC), 1)
        talk.subscribe(streams("ticker", BTC), 2)
        assert told(talk.unsubscribe(streams("quote", BTC), 3)) == [{"method": "ping", "req_id": 3}]
        assert heard(talk, method="pong", req_id=3) == [Removed(streams("quote", BTC))]
        last = told(talk.unsubscribe(streams("ticker", BTC), 4))
        assert [message["method"] for message in last] == ["unsubscribe"]
        fresh = told(talk.subscribe(streams("quote", BTC), 5))
        assert [message["method"] for message in fresh] == ["subscribe"]


def test_a_ping_without_a_number_is_the_sign_of_life() -> None:
    talk = KrakenTalk()
    message = talk.keepalive()
    assert message is not None
    assert json.loads(message) == {"method": "ping"}
    assert heard(talk, method="pong") == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"system": "online", "upcoming_maintenance": [], "emergency": []}, []),
        ({"system": "maintenance"}, ["the exchange is in maintenance"]),
        (
            {"system": "online", "upcoming_maintenance": [{"from": "x"}]},
            ['upcoming_maintenance: [{"from":"x"}]'],
        ),
    ],
)
def test_status_is_told_when_it_is_not_the_usual(status: dict[str, Any], words: list[str]) -> None:
    events = heard(KrakenTalk(), channel="status", type="update", data=[status])
    assert events == [Notice(each) for each in words]


@pytest.mark.parametrize(
    "frame",
    [
        *(b"", b"{", b"[]", b"null", b"\xff", b"{}", b'{"method":"subscribe"}'),
        *(b'{"method":"subscribe","success":1}', b'{"channel":"status"}', b"[" * 10**5),
        b'{"method":"add_order","success":true}',
    ],
)
def test_what_is_no_answer_is_a_protocol_error(frame: bytes) -> None:
    with pytest.raises(ProtocolError, match="not an answer"):
        list(KrakenTalk().hear(frame))


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "subscribe", "success": True},
        {"method": "subscribe", "success": True, "result": [], "req_id": "x"},
        {"method": "subscribe", "success": True, "result": {"symbol": 1, "warnings": 1}},
        {"method": "unsubscribe", "success": False, "symbol": {}},
        {"method": "pong", "req_id": True},
        {"channel": "status", "data": [1, None, {"system": None}]},
    ],
)
def test_odd_answers_confirm_nothing(fields: dict[str, Any]) -> None:
    events = heard(KrakenTalk(), **fields)
    assert not any(isinstance(event, Confirmed | Removed) for event in events)
