from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mdsys._decode import DECODERS
from mdsys.errors import ProtocolError
from mdsys.feed.frame import FrameResult
from mdsys.feed.kite.venue import KITE, KiteTalk
from mdsys.feed.venue import CHANNELS, Notice, Stream, venues
from tests.kite_frames import BIG, INFY, NIFTY_50, SYMBOLS, frame, packet, wire

SECRET = {"api_key": "the_key", "access_token": "tok+en/&?="}
TOKENS = {"NSE:INFY": INFY, "NSE:NIFTY 50": NIFTY_50, "NFO:FUT": BIG}


def streams(symbol: str, *channels: str) -> list[Stream]:
    return [Stream(symbol, channel, wire(TOKENS[symbol])) for channel in channels]


class Ticker:
    """The venue's side: modes by token, as Zerodha's own clients keep them."""

    def __init__(self) -> None:
        self.modes: dict[int, str] = {}

    def hear(self, messages: Collection[Any]) -> Mapping[int, str]:
        for message in map(json.loads, messages):
            value = message["v"]
            if message["a"] == "subscribe":
                self.modes.update(dict.fromkeys(value, "quote"))
            elif message["a"] == "unsubscribe":
                for token in value:
                    del self.modes[token]
            else:
                assert message["a"] == "mode"
                assert set(value[1]) <= set(self.modes)
                self.modes.update(dict.fromkeys(value[1], value[0]))
        return self.modes


def test_kite_is_registered_and_its_decoder_exists() -> None:
    assert venues()["kite"] is KITE
    assert KITE.decoder in DECODERS
    assert set(KITE.channels) <= set(CHANNELS)
    decoder = KITE.python_decoder(SYMBOLS, ["ticker"])
    result, records = decoder.decode(frame(packet("ltp", INFY, last_price=5)), 7)
    assert (result, records[0].body[0]) == (FrameResult.OK, 5)


def test_secrets_are_in_the_address_and_not_in_what_is_shown() -> None:
    dial = KITE.dial("wss://ws.kite.trade/", SECRET)
    parts = urlsplit(dial.url)
    assert (parts.scheme, parts.netloc, parts.path) == ("wss", "ws.kite.trade", "/")
    assert {key: value[0] for key, value in parse_qs(parts.query).items()} == SECRET
    assert dial.shown == "wss://ws.kite.trade"
    assert dial.headers == {"X-Kite-Version": "3"}
    assert not any(each in repr(dial) + repr(KITE) for each in ("the_key", "tok+", "tok%"))


def test_a_key_has_nine_thousand_instruments() -> None:
    assert (KITE.limits.symbols_per_connection, KITE.limits.connections) == (3000, 3)


@pytest.mark.parametrize(
    ("given", "spelled"),
    [
        ("NSE:INFY", "NSE:INFY"),
        (" nse:INFY ", "NSE:INFY"),
        ("NSE: NIFTY 50", "NSE:NIFTY 50"),
        ("INFY", "NSE:INFY"),
        ("nse:Nifty", "NSE:Nifty"),
    ],
)
def test_symbols_are_spelled_with_the_exchange_in_capitals(given: str, spelled: str) -> None:
    assert KITE.spelled(given) == spelled


def test_messages_are_what_the_venue_documents() -> None:
    talk = KITE.talk(SECRET)
    assert list(talk.opening()) == []
    assert talk.keepalive() is None
    wanted = streams("NSE:INFY", "ticker", "book") + streams("NSE:NIFTY 50", "ticker")
    assert list(talk.subscribe(wanted, 1)) == [
        '{"a":"subscribe","v":[408065,256265]}',
        '{"a":"mode","v":["full",[408065]]}',
    ]
    assert list(talk.unsubscribe(streams("NSE:INFY", "ticker", "book"), 2)) == [
        '{"a":"unsubscribe","v":[408065]}'
    ]


@pytest.mark.parametrize(
    ("symbol", "channels", "mode"),
    [
        ("NSE:INFY", ["ticker"], "quote"),
        ("NSE:INFY", ["quote"], "full"),
        ("NSE:INFY", ["book"], "full"),
        ("NSE:NIFTY 50", ["ticker"], "quote"),
        ("NSE:NIFTY 50", ["ticker", "quote"], "full"),
        ("NFO:FUT", ["ticker"], "full"),  # for the open interest
    ],
)
def test_mode_is_the_least_that_brings_what_is_wanted(
    symbol: str, channels: list[str], mode: str
) -> None:
    assert Ticker().hear(KiteTalk().subscribe(streams(symbol, *channels), 1)) == {
        TOKENS[symbol]: mode
    }


def test_mode_follows_the_channels_as_they_come_and_go() -> None:
    talk, venue = KiteTalk(), Ticker()
    steps = [
        (talk.subscribe, ["ticker"], "quote"),
        (talk.subscribe, ["book"], "full"),
        (talk.subscribe, ["ticker"], "full"),  # asked again: no less than before
        (talk.subscribe, ["quote"], "full"),
        (talk.unsubscribe, ["book"], "full"),
        (talk.unsubscribe, ["quote"], "quote"),
        (talk.unsubscribe, ["ticker"], None),
        (talk.unsubscribe, ["ticker"], None),
        (talk.subscribe, ["book"], "full"),
    ]
    for step, channels, mode in steps:
        modes = venue.hear(step(streams("NSE:INFY", *channels), 1))
        assert modes == ({INFY: mode} if mode else {})


def test_token_that_is_left_in_the_same_breath_gets_no_mode() -> None:
    talk = KiteTalk()
    talk.subscribe(streams("NSE:INFY", "book", "ticker"), 1)
    assert list(talk.unsubscribe(streams("NSE:INFY", "book", "ticker"), 2)) == [
        '{"a":"unsubscribe","v":[408065]}'
    ]


def test_unsubscribe_knows_the_token_of_a_name() -> None:
    talk = KiteTalk()
    talk.subscribe(streams("NSE:INFY", "ticker"), 1)
    assert list(talk.unsubscribe([Stream("NSE:INFY", "ticker")], 2)) == [
        '{"a":"unsubscribe","v":[408065]}'
    ]
    assert list(talk.unsubscribe([Stream("NSE:INFY", "ticker")], 3)) == []
    assert list(talk.unsubscribe([Stream("NSE:NEVER", "book")], 3)) == []


@pytest.mark.parametrize(
    ("message", "events"),
    [
        (b'{"type":"error","data":"Too many tokens"}', [Notice("error: Too many tokens")]),
        (b'{"type":"message","data":"Holiday"}', [Notice("message: Holiday")]),
        (b'{"type":"message","data":{"text":"Holiday"}}', [Notice('message: {"text": "Holiday"}')]),
        (b'{"type":"order","data":{"order_id":"1","user_id":"AB1234"}}', []),
        (b'{"type":"something new"}', []),
        (b'{"type":"error"}', [Notice("error: null")]),
    ],
)
def test_text_messages_are_read(message: bytes, events: list[Notice]) -> None:
    assert list(KiteTalk().hear(message)) == events


def test_long_words_are_cut() -> None:
    (notice,) = KiteTalk().hear(json.dumps({"type": "error", "data": "x" * 9999}).encode())
    assert isinstance(notice, Notice)
    assert len(notice.words) < 250


@pytest.mark.parametrize(
    "message", [b"", b"{", b"[]", b"null", b"{}", b'{"type":1}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_message_is_a_protocol_error(message: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a message of Kite"):
        KiteTalk().hear(message)
