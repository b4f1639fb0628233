from __future__ import annotations

import json

import pytest

from mdsys._decode import DECODERS
from mdsys.errors import ProtocolError
from mdsys.feed.binance.venue import BINANCE, BINANCE_USDM, BinanceVenue
from mdsys.feed.venue import Answer, venues

BOTH = pytest.mark.parametrize("venue", [BINANCE, BINANCE_USDM], ids=["spot", "usdm"])


def test_venues_are_registered_under_their_own_names() -> None:
    assert venues()["binance"] is BINANCE
    assert venues()["binance_usdm"] is BINANCE_USDM


@BOTH
def test_venue_names_a_decoder_that_exists(venue: BinanceVenue) -> None:
    assert venue.decoder in DECODERS


@BOTH
def test_pace_stays_below_the_venues_limit_in_any_second(venue: BinanceVenue) -> None:
    allowed = {"binance": 5, "binance_usdm": 10}[venue.name]
    in_one_second = int(1 / venue.message_interval_s) + 1
    assert in_one_second < allowed  # the pongs count too


@BOTH
def test_stream_names_are_lower_case(venue: BinanceVenue) -> None:
    assert venue.streams("BTCUSDT", ["trade", "quote"]) == ["btcusdt@trade", "btcusdt@bookTicker"]
    assert venue.streams("BTCUSDT_240927", ["book"])[0].startswith("btcusdt_240927@depth@")


@BOTH
@pytest.mark.parametrize(
    ("given", "spelled"),
    [("BTCUSDT", "BTCUSDT"), ("btcusdt", "BTCUSDT"), ("BTC USDT_240927", "BTCUSDT_240927")],
)
def test_symbols_are_spelled_in_capitals_without_blanks(
    venue: BinanceVenue, given: str, spelled: str
) -> None:
    assert venue.spelled(given) == spelled


@BOTH
def test_symbol_beyond_ascii_is_spelled_as_it_is(venue: BinanceVenue) -> None:
    assert venue.spelled("币安人生USDT") == "币安人生USDT"


def test_endpoint_is_for_raw_frames_and_futures_are_routed_to_public() -> None:
    assert BINANCE.endpoint(BINANCE.url) == "wss://stream.binance.com:9443/ws"
    assert BINANCE_USDM.endpoint(BINANCE_USDM.url) == "wss://fstream.binance.com/public/ws"
    assert BINANCE.endpoint("ws://127.0.0.1:9001/") == "ws://127.0.0.1:9001/ws"


@BOTH
def test_subscribe_message_is_what_the_venue_documents(venue: BinanceVenue) -> None:
    message = json.loads(venue.subscribe(["btcusdt@trade", "ethusdt@trade"], 7))
    assert message == {"method": "SUBSCRIBE", "params": ["btcusdt@trade", "ethusdt@trade"], "id": 7}


@pytest.mark.parametrize(
    ("frame", "answer"),
    [
        (b'{"result":null,"id":1}', Answer(1)),
        (
            b'{"error":{"code":2,"msg":"Invalid request"},"id":9}',
            Answer(9, refusal="Invalid request (code 2)"),
        ),
        (b'{"code":2,"msg":"Invalid JSON"}', Answer(None, refusal="Invalid JSON (code 2)")),
        (b'{"e":"serverShutdown","E":1}', Answer(None, notice="the server shuts down soon")),
        (
            b'{"stream":"x","data":{"e":"serverShutdown","E":1}}',
            Answer(None, notice="the server shuts down soon"),
        ),
    ],
)
def test_control_frames_are_read(frame: bytes, answer: Answer) -> None:
    assert BINANCE.answer(frame) == answer


@pytest.mark.parametrize("frame", [b"", b"{", b"[]", b"null", b'{"id":1}', b"\xff"])
def test_what_is_no_answer_is_a_protocol_error(frame: bytes) -> None:
    with pytest.raises(ProtocolError, match="not an answer"):
        BINANCE.answer(frame)
