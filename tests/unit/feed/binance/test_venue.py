from __future__ import annotations

import json

import pytest

from mdsys._decode import DECODERS
from mdsys.errors import ProtocolError
from mdsys.feed.binance.venue import BINANCE, BINANCE_COINM, BINANCE_USDM, BinanceVenue
from mdsys.feed.venue import (
    BUILT_IN,
    Confirmed,
    Event,
    Leaving,
    Notice,
    Refused,
    Removed,
    Stream,
    Window,
    venues,
)

ALL = (BINANCE, BINANCE_USDM, BINANCE_COINM)
EACH = pytest.mark.parametrize("venue", ALL, ids=lambda venue: venue.name)


@EACH
def test_venue_is_registered_under_its_own_name(venue: BinanceVenue) -> None:
    assert venue.name in BUILT_IN
    assert venues()[venue.name] is venue


@EACH
def test_venue_names_a_decoder_that_exists(venue: BinanceVenue) -> None:
    assert venue.decoder in DECODERS


@pytest.mark.parametrize(
    ("venue", "messages", "weight"),
    [(BINANCE, 5, 6000), (BINANCE_USDM, 10, 2400), (BINANCE_COINM, 10, 2400)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_limits_are_the_documented_ones(venue: BinanceVenue, messages: int, weight: int) -> None:
    limits = venue.limits
    assert limits.messages == (Window(messages, 1),)
    assert limits.control_frames_count
    assert limits.connects == (Window(300, 300),)
    assert limits.rest_weight == (Window(weight, 60),)
    assert limits.streams_per_connection == 1024


@pytest.mark.parametrize(
    ("venue", "stream"),
    [
        (BINANCE, "btcusdt@depth@100ms"),
        (BINANCE_USDM, "btcusdt@depth@0ms"),
        (BINANCE_COINM, "btcusdt@depth@0ms"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_requests_are_what_the_venue_documents(venue: BinanceVenue, stream: str) -> None:
    talk = venue.talk({})
    assert list(talk.opening()) == []
    streams = [Stream("BTCUSDT", "trade"), Stream("ETHUSDT", "quote"), Stream("BTCUSDT", "book")]
    (message,) = talk.subscribe(streams, 7)
    names = ["btcusdt@trade", "ethusdt@bookTicker", stream]
    assert json.loads(message) == {"method": "SUBSCRIBE", "params": names, "id": 7}
    (message,) = talk.unsubscribe(streams[:1], 8)
    assert json.loads(message) == {"method": "UNSUBSCRIBE", "params": names[:1], "id": 8}
    assert talk.keepalive() is None


@EACH
@pytest.mark.parametrize(
    ("given", "spelled"),
    [("BTCUSDT", "BTCUSDT"), ("btcusdt", "BTCUSDT"), ("BTC USD_240927", "BTCUSD_240927")],
)
def test_symbols_are_spelled_in_capitals_without_blanks(
    venue: BinanceVenue, given: str, spelled: str
) -> None:
    assert venue.spelled(given) == spelled


@EACH
def test_symbol_beyond_ascii_is_spelled_as_it_is(venue: BinanceVenue) -> None:
    assert venue.spelled("币安人生USDT") == "币安人生USDT"


@pytest.mark.parametrize(
    ("venue", "base", "url"),
    [
        (BINANCE, BINANCE.url, "wss://stream.binance.com:9443/ws"),
        (BINANCE_USDM, BINANCE_USDM.url, "wss://fstream.binance.com/public/ws"),
        (BINANCE_COINM, BINANCE_COINM.url, "wss://dstream.binance.com/ws"),
        (BINANCE, "ws://127.0.0.1:9001/", "ws://127.0.0.1:9001/ws"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_raw_frames_are_dialled_and_nothing_is_secret(
    venue: BinanceVenue, base: str, url: str
) -> None:
    dial = venue.dial(base, {})
    assert (dial.url, dial.shown, dict(dial.headers)) == (url, url, {})


def test_answers_belong_to_what_was_asked() -> None:
    talk = BINANCE.talk({})
    streams = [Stream("BTCUSDT", "trade")]
    talk.subscribe(streams, 1)
    talk.unsubscribe(streams, 2)
    talk.unsubscribe(streams, 3)
    assert list(talk.hear(b'{"result":null,"id":2}')) == [Removed(request_id=2)]
    assert list(talk.hear(b'{"result":null,"id":1}')) == [Confirmed(request_id=1)]
    assert list(talk.hear(b'{"error":{"code":2,"msg":"no"},"id":3}')) == [Notice("no (code 2)")]
    talk.subscribe(streams, 3)
    assert list(talk.hear(b'{"result":null,"id":3}')) == [Confirmed(request_id=3)]


@pytest.mark.parametrize(
    ("frame", "event"),
    [
        (
            b'{"error":{"code":2,"msg":"Invalid request"},"id":9}',
            Refused("Invalid request (code 2)", request_id=9),
        ),
        (b'{"code":2,"msg":"Invalid JSON"}', Notice("Invalid JSON (code 2)")),
        (b'{"e":"serverShutdown","E":1}', None),
        (b'{"stream":"x","data":{"e":"serverShutdown","E":1}}', None),
    ],
)
def test_refusals_and_notices_are_read(frame: bytes, event: Event | None) -> None:
    (heard,) = BINANCE.talk({}).hear(frame)
    if event is None:
        assert isinstance(heard, Leaving)
        assert "serverShutdown" in heard.words
    else:
        assert heard == event


def test_an_answer_to_nobody_says_nothing() -> None:
    assert list(BINANCE.talk({}).hear(b'{"result":[],"id":"x"}')) == []


def test_the_venues_words_are_bounded() -> None:
    (heard,) = BINANCE.talk({}).hear(b'{"error":"' + b"x" * 9999 + b'","id":1}')
    assert isinstance(heard, Refused)
    assert len(heard.words) <= 200


@pytest.mark.parametrize(
    "frame", [b"", b"{", b"[]", b"null", b'{"id":1}', b"\xff", b"[" * 100_000, b"1" * 5000]
)
def test_what_is_no_answer_is_a_protocol_error(frame: bytes) -> None:
    with pytest.raises(ProtocolError, match="not an answer"):
        list(BINANCE.talk({}).hear(frame))


@EACH
def test_book_snapshots_cost_what_the_documents_say(venue: BinanceVenue) -> None:
    books = venue.book_snapshots
    assert books is not None
    weights = {100: 5, 500: 25, 1000: 50, 5000: 250} if venue is BINANCE else None
    assert books.weights == (weights or {50: 2, 100: 5, 500: 10, 1000: 20})
    assert books.params("BTCUSDT", 100) == {"symbol": "BTCUSDT", "limit": "100"}
    assert max(books.weights) == books.depth_max
