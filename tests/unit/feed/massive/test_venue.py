"""What Massive's venue says of itself, and the talk on its sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from mdsys._decode import DECODERS
from mdsys.errors import ProtocolError
from mdsys.feed.massive.venue import MASSIVE, MassiveTalk
from mdsys.feed.venue import (
    Busy,
    Confirmed,
    Denied,
    Event,
    Notice,
    Opened,
    Refused,
    Removed,
    Stream,
    venues,
)

SECRET = {"key": "hush"}
TRADE, QUOTE = Stream("AAPL", "trade", b"AAPL"), Stream("BRK.B", "quote", b"BRK.B")
BAR = Stream("O:SPY241220P00720000", "bar")


def status(word: str, message: str = "") -> dict[str, Any]:
    return {"ev": "status", "status": word, "message": message}


def heard(one: MassiveTalk, *events: dict[str, Any]) -> list[Event]:
    return list(one.hear(json.dumps(events).encode()))


def talk() -> MassiveTalk:
    one = MassiveTalk(SECRET)
    assert heard(one, status("connected", "Connected Successfully")) == []
    assert heard(one, status("auth_success", "authenticated")) == [Opened()]
    return one


def subscribed() -> MassiveTalk:
    one = talk()
    one.subscribe([TRADE, QUOTE, BAR], 1)
    return one


def test_the_venue_is_registered_and_its_decoder_exists() -> None:
    assert venues()["massive"] is MASSIVE
    assert MASSIVE.decoder in DECODERS


def test_one_connection_takes_all_symbols() -> None:
    assert MASSIVE.limits.connections == 1
    assert MASSIVE.limits.symbols_per_connection is None
    assert MASSIVE.limits.streams_per_connection is None


def test_symbols_keep_their_small_letters() -> None:
    assert MASSIVE.spelled(" BACpB ") == "BACpB"


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("ws://127.0.0.1:9001", "ws://127.0.0.1:9001/stocks"),
        ("wss://delayed.massive.com/options", "wss://delayed.massive.com/options"),
    ],
)
def test_the_path_chooses_the_cluster_and_the_key_is_not_in_it(base: str, url: str) -> None:
    dial = MASSIVE.dial(base, SECRET)
    assert (dial.url, dial.shown, dict(dial.headers)) == (url, url, {})


def test_what_would_ask_for_more_than_one_symbol_is_refused() -> None:
    async def resolve(names: list[str]) -> Any:
        assert MASSIVE.resolve is not None
        return await MASSIVE.resolve(names, SECRET, None)  # type: ignore[arg-type]

    found = asyncio.run(resolve(["AAPL", "BACpB", "*", "A,T.*", "A B", ""]))
    assert [name for name, one in found.items() if one.refusal] == ["*", "A,T.*", "A B", ""]
    assert found["BACpB"].wire == b"BACpB"


def test_it_authenticates_first_and_opens_once() -> None:
    assert MassiveTalk(SECRET).opening() == ['{"action":"auth","params":"hush"}']
    assert "hush" not in repr(MassiveTalk(SECRET))
    assert heard(talk(), status("auth_success", "authenticated")) == []


def test_channels_are_prefixes() -> None:
    params = "T.AAPL,Q.BRK.B,AM.O:SPY241220P00720000"
    assert talk().subscribe([TRADE, QUOTE, BAR], 1) == [
        f'{{"action":"subscribe","params":"{params}"}}'
    ]
    assert talk().unsubscribe([TRADE, QUOTE, BAR], 1) == [
        f'{{"action":"unsubscribe","params":"{params}"}}'
    ]


def test_each_parameter_is_acknowledged_by_itself() -> None:
    one = subscribed()
    acks = [status("success", f"subscribed to: {name}") for name in ("Q.BRK.B", "T.AAPL")]
    assert heard(one, *acks) == [Confirmed([QUOTE, TRADE])]
    assert heard(one, status("success", "subscribed to: AM.O:SPY241220P00720000")) == [
        Confirmed([BAR])
    ]


def test_several_parameters_in_one_acknowledgement_are_told_apart() -> None:
    one = subscribed()
    assert heard(one, status("success", "subscribed to: T.AAPL, Q.BRK.B")) == [
        Confirmed([TRADE, QUOTE])
    ]


def test_an_end_of_a_subscription_is_no_subscription() -> None:
    one = subscribed()
    heard(one, status("success", "subscribed to: T.AAPL"))
    one.unsubscribe([TRADE], 2)
    assert heard(one, status("success", "unsubscribed to: T.AAPL")) == [Removed([TRADE])]


def test_what_we_did_not_ask_for_is_not_confirmed() -> None:
    assert heard(subscribed(), status("success", "subscribed to: T.MSFT")) == []


def test_a_key_that_is_not_taken_is_denied_in_the_venues_words() -> None:
    words = "Your plan doesn't include websocket access."
    assert heard(MassiveTalk(SECRET), status("auth_failed", words)) == [Denied(words)]


def test_another_connection_of_the_account_is_waited_for() -> None:
    words = "Maximum number of websocket connections exceeded. "
    (event,) = heard(subscribed(), status("max_connections", words))
    assert event == Busy(words, 60.0)


def test_an_error_that_names_a_parameter_refuses_it() -> None:
    one = subscribed()
    words = "not authorized to subscribe to Q.BRK.B."
    assert heard(one, status("error", words)) == [Refused(words, [QUOTE])]


@pytest.mark.parametrize("word", ["error", "auth_timeout", "force_disconnect", ""])
def test_other_words_are_noted(word: str) -> None:
    (event,) = heard(subscribed(), status(word, "its own words"))
    assert isinstance(event, Notice)
    assert "its own words" in event.words


def test_ticks_beside_a_status_are_the_decoders() -> None:
    one = subscribed()
    tick = {"ev": "T", "sym": "AAPL", "status": "auth_failed"}
    assert heard(one, tick, status("success", "subscribed to: T.AAPL")) == [Confirmed([TRADE])]


@pytest.mark.parametrize("raw", [b"", b"{}", b"[1]", b"[", b"\xff"])
def test_what_is_no_array_of_events_breaks_the_contract(raw: bytes) -> None:
    with pytest.raises(ProtocolError, match="no array of events"):
        talk().hear(raw)
