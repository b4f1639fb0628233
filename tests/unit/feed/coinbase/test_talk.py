"""The talk with both of Coinbase's feeds, and what they tell of themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mdsys._decode import DECODERS
from mdsys.errors import ProtocolError
from mdsys.feed.coinbase.advanced import COINBASE_ADVANCED
from mdsys.feed.coinbase.exchange import COINBASE_EXCHANGE
from mdsys.feed.coinbase.ledger import NOT_LISTED
from mdsys.feed.frame import FrameResult, SymbolInfo
from mdsys.feed.venue import CHANNELS, Confirmed, Refused, Removed, Stream, Venue, Window
from tests.coinbase_frames import MATCH, subscriptions

VENUES: list[Venue] = [COINBASE_EXCHANGE, COINBASE_ADVANCED]


def said(messages: Any) -> list[Any]:
    return [json.loads(message) for message in messages]


def listing(**channels: list[str]) -> bytes:
    """Return the Exchange's list of subscriptions."""
    listed = [{"name": n, "product_ids": p, "account_ids": None} for n, p in channels.items()]
    return json.dumps({"type": "subscriptions", "channels": listed}).encode()


@pytest.mark.parametrize("venue", VENUES, ids=lambda venue: venue.name)
def test_facts_are_those_of_the_documents(venue: Venue) -> None:
    assert venue.limits.connects == (Window(8, 1.0),)
    per_second = {"coinbase_exchange": 100, "coinbase_advanced": 8}[venue.name]
    assert venue.limits.address_messages == (Window(per_second, 1.0),)
    assert venue.acknowledges
    assert not venue.opens
    assert venue.credential_fields == ()
    assert venue.book_snapshots is None  # books come by stream
    assert set(venue.channels) <= set(CHANNELS)
    assert venue.decoder in DECODERS
    assert venue.dial("wss://x", {}).url == "wss://x"
    assert venue.spelled(" btc-usd ") == "BTC-USD"
    assert venue.talk({}).keepalive() is None


def test_the_python_decoder_is_the_feeds_own() -> None:
    decoder = COINBASE_EXCHANGE.python_decoder({"BTC-USD": SymbolInfo(1)}, ["trade"])
    assert decoder.decode(MATCH, 7)[0] == FrameResult.OK
    decoder = COINBASE_ADVANCED.python_decoder({"BTC-USD": SymbolInfo(1)}, ["trade"])
    assert decoder.decode(subscriptions(0, {}), 7)[0] == FrameResult.CONTROL


@pytest.mark.parametrize("venue", VENUES, ids=lambda venue: venue.name)
@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"type":"subscriptions"}',
        b'{"type":"subscriptions","channels":[7]}',
        b'{"channel":"subscriptions","events":[{}]}',
        b'{"channel":"subscriptions","events":7}',
        b'{"type":"surprise"}',
        b"\xff",
    ],
)
def test_what_is_no_answer_is_a_breach_of_the_protocol(venue: Venue, frame: bytes) -> None:
    with pytest.raises(ProtocolError, match="not an answer"):
        list(venue.talk({}).hear(frame))


class TestExchange:
    def test_one_message_asks_for_several_channels_and_one_heartbeat(self) -> None:
        talk = COINBASE_EXCHANGE.talk({})
        assert list(talk.opening()) == []
        streams = [Stream(p, c) for c in ("trade", "quote", "ticker", "book") for p in ("A", "B")]
        assert said(talk.subscribe(streams, 1)) == [
            {
                "type": "subscribe",
                "channels": [
                    {"name": "matches", "product_ids": ["A", "B"]},
                    {"name": "ticker", "product_ids": ["A", "B"]},
                    {"name": "level2_batch", "product_ids": ["A", "B"]},
                    {"name": "heartbeat", "product_ids": ["A"]},
                ],
            }
        ]
        everything = listing(
            matches=["B", "A"], ticker=["A", "B"], level2_50=["A", "B"], heartbeat=["A"]
        )
        (event,) = talk.hear(everything)
        assert isinstance(event, Confirmed)
        assert sorted(event.streams) == sorted(streams)
        (message,) = said(talk.subscribe([Stream("C", "trade")], 2))
        assert [channel["name"] for channel in message["channels"]] == ["matches"]

    def test_a_refusal_is_of_the_whole_request_in_the_venues_words(self) -> None:
        talk = COINBASE_EXCHANGE.talk({})
        talk.subscribe([Stream("A", "trade"), Stream("FOO-BAR", "trade")], 5)
        error = (
            b'{"type":"error","message":"Failed to subscribe",'
            b'"reason":"FOO-BAR is not a valid product"}'
        )
        words = "Failed to subscribe: FOO-BAR is not a valid product"
        assert list(talk.hear(error)) == [Refused(words, request_id=5)]
        (message,) = said(talk.subscribe([Stream("A", "trade")], 6))
        assert {"name": "heartbeat", "product_ids": ["A"]} in message["channels"]
        assert list(talk.hear(listing(matches=["A"]))) == [Confirmed([Stream("A", "trade")])]

    def test_streams_end_with_their_channel(self) -> None:
        talk = COINBASE_EXCHANGE.talk({})
        talk.subscribe([Stream("A", "quote"), Stream("A", "ticker")], 1)
        talk.hear(listing(ticker=["A"], heartbeat=["A"]))
        assert said(talk.unsubscribe([Stream("A", "ticker"), Stream("A", "quote")], 2)) == [
            {"type": "unsubscribe", "channels": [{"name": "ticker", "product_ids": ["A"]}]}
        ]
        (event,) = talk.hear(listing(heartbeat=["A"]))
        assert event == Removed([Stream("A", "ticker"), Stream("A", "quote")])


class TestAdvanced:
    def test_heartbeats_come_first_and_each_message_has_one_channel(self) -> None:
        talk = COINBASE_ADVANCED.talk({})
        assert said(talk.opening()) == [{"type": "subscribe", "channel": "heartbeats"}]
        streams = [Stream("A", "book"), Stream("B", "book")]
        assert said(talk.subscribe(streams, 1)) == [
            {"type": "subscribe", "product_ids": ["A", "B"], "channel": "level2"}
        ]
        beats = {"heartbeats": ["heartbeats"]}
        assert list(talk.hear(subscriptions(0, beats))) == []
        listed = subscriptions(1, {**beats, "level2": ["A"]})
        assert list(talk.hear(listed)) == [
            Confirmed([Stream("A", "book")]),
            Refused(NOT_LISTED, [Stream("B", "book")]),
        ]

    def test_an_error_refuses_the_request_in_the_venues_words(self) -> None:
        talk = COINBASE_ADVANCED.talk({})
        talk.subscribe([Stream("A", "trade")], 4)
        error = b'{"type":"error","message":"authentication failure"}'
        assert list(talk.hear(error)) == [Refused("authentication failure", request_id=4)]

    def test_streams_of_several_channels_end_by_a_message_each(self) -> None:
        talk = COINBASE_ADVANCED.talk({})
        streams = [Stream("A", "trade"), Stream("A", "book"), Stream("B", "book")]
        for request_id, channel in enumerate(("trade", "book"), 1):
            talk.subscribe([s for s in streams if s.channel == channel], request_id)
            talk.hear(subscriptions(0, {"market_trades": ["A"], "level2": ["A", "B"]}))
        assert said(talk.unsubscribe(streams, 3)) == [
            {"type": "unsubscribe", "product_ids": ["A"], "channel": "market_trades"},
            {"type": "unsubscribe", "product_ids": ["A", "B"], "channel": "level2"},
        ]
        assert list(talk.hear(subscriptions(1, {"level2": ["A", "B"]}))) == [Removed(streams[:1])]
        assert list(talk.hear(subscriptions(2, {}))) == [Removed(streams[1:])]
