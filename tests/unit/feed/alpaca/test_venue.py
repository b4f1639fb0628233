"""What Alpaca's venue says of itself, and the talk on its sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from mdsys import config_file
from mdsys._decode import DECODERS
from mdsys.errors import ProtocolError
from mdsys.feed.alpaca.venue import ALPACA, AlpacaTalk
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

SECRET = {"key": "PK123", "secret": "hush"}
AAPL, BRK = Stream("AAPL", "trade", b"AAPL"), Stream("BRK.B", "trade")
AAPL_BAR = Stream("AAPL", "bar", b"AAPL")
BTC_BOOK = Stream("BTC/USD", "book")


def talk() -> AlpacaTalk:
    one = AlpacaTalk(SECRET)
    assert heard(one, {"T": "success", "msg": "connected"}) == []
    assert heard(one, {"T": "success", "msg": "authenticated"}) == [Opened()]
    return one


def heard(one: AlpacaTalk, *events: dict[str, Any]) -> list[Event]:
    return list(one.hear(json.dumps(events).encode()))


def asked(messages: Sequence[str | bytes]) -> Any:
    (message,) = messages
    assert isinstance(message, str)
    return json.loads(message)


def listing(**lists: list[str]) -> dict[str, Any]:
    return {"T": "subscription", "trades": [], "quotes": [], "bars": [], **lists}


def test_the_venue_is_registered_and_its_decoder_exists() -> None:
    assert venues()["alpaca"] is ALPACA
    assert ALPACA.decoder in DECODERS


def test_one_session_takes_all_symbols() -> None:
    assert ALPACA.limits.connections == 1
    assert ALPACA.limits.symbols_per_connection is None
    assert ALPACA.limits.streams_per_connection is None


def test_symbols_are_spelled_in_capitals() -> None:
    assert [ALPACA.spelled(name) for name in ("aapl", " brk.b ", "btc/usd")] == [
        *("AAPL", "BRK.B", "BTC/USD")
    ]


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("ws://127.0.0.1:9001", "ws://127.0.0.1:9001/v2/iex"),
        ("ws://127.0.0.1:9001/", "ws://127.0.0.1:9001/v2/iex"),
        ("wss://stream.data.alpaca.markets/v2/sip", "wss://stream.data.alpaca.markets/v2/sip"),
    ],
)
def test_the_path_chooses_the_stream_and_the_secret_is_not_in_it(base: str, url: str) -> None:
    dial = ALPACA.dial(base, SECRET)
    assert (dial.url, dial.shown, dict(dial.headers)) == (url, url, {})


def test_crypto_gets_the_decimals_it_needs_and_wildcards_are_refused() -> None:
    async def fetch(path: str, **_: Any) -> bytes:
        raise AssertionError(path)

    found = asyncio.run(_resolve(["AAPL", "BTC/USD", "*", "A*", ""], fetch))
    assert (found["AAPL"].wire, found["AAPL"].price_scale, found["AAPL"].size_scale) == (
        *(b"AAPL", 8, 8),
    )
    assert (found["BTC/USD"].price_scale, found["BTC/USD"].size_scale) == (10, 9)
    assert [name for name, one in found.items() if one.refusal] == ["*", "A*", ""]


async def _resolve(names: list[str], fetch: Any) -> Any:
    assert ALPACA.resolve is not None
    return await ALPACA.resolve(names, SECRET, fetch)


def test_it_authenticates_first() -> None:
    assert asked(AlpacaTalk(SECRET).opening()) == {
        "action": "auth", "key": "PK123", "secret": "hush",
    }  # fmt: skip
    assert "hush" not in repr(AlpacaTalk(SECRET))


def test_it_opens_once() -> None:
    assert heard(talk(), {"T": "success", "msg": "authenticated"}) == []


def test_configuration_without_channels_asks_for_no_book_which_stocks_do_not_have() -> None:
    venue = {"name": "alpaca", "symbols": ["AAPL"], "credentials": ["a"]}
    assert config_file.parse({"venue": [venue]}).venues[0].channels == ("trade", "quote")
    crypto = {**venue, "channels": ["trade", "book"]}
    assert config_file.parse({"venue": [crypto]}).venues[0].channels == ("trade", "book")


def test_channels_are_the_venues_lists() -> None:
    streams = [AAPL, BRK, AAPL_BAR, BTC_BOOK, Stream("AAPL", "quote")]
    lists = {
        "trades": ["AAPL", "BRK.B"],
        "bars": ["AAPL"],
        "updatedBars": ["AAPL"],
        "orderbooks": ["BTC/USD"],
        "quotes": ["AAPL"],
    }
    assert asked(talk().subscribe(streams, 1)) == {"action": "subscribe", **lists}
    assert asked(talk().unsubscribe(streams, 1)) == {"action": "unsubscribe", **lists}


def test_the_whole_list_confirms_what_stands_in_it_and_refuses_what_does_not() -> None:
    one = talk()
    one.subscribe([AAPL, AAPL_BAR, BRK], 1)
    events = heard(one, listing(trades=["AAPL"], bars=["AAPL"], updatedBars=["AAPL"]))
    assert events == [
        Refused("not in the venue's list of subscriptions", [BRK]),
        Confirmed([AAPL, AAPL_BAR]),
    ]


def test_a_second_answer_confirms_only_what_is_new() -> None:
    one = talk()
    one.subscribe([AAPL], 1)
    one.subscribe([BRK], 2)
    assert heard(one, listing(trades=["AAPL"])) == [Confirmed([AAPL])]
    assert heard(one, listing(trades=["AAPL", "BRK.B"])) == [Confirmed([BRK])]


def test_what_vanishes_from_the_list_is_refused() -> None:
    one = talk()
    one.subscribe([AAPL], 1)
    heard(one, listing(trades=["AAPL"]))
    one.subscribe([BRK], 2)
    words = "no longer in the venue's list of subscriptions"
    assert heard(one, listing(trades=["BRK.B"])) == [Confirmed([BRK]), Refused(words, [AAPL])]
    assert heard(one, listing()) == [Refused(words, [BRK])]
    assert heard(one, listing()) == []


def test_an_unsubscribed_stream_is_removed_and_not_missed() -> None:
    one = talk()
    one.subscribe([AAPL, BRK], 1)
    heard(one, listing(trades=["AAPL", "BRK.B"]))
    one.unsubscribe([AAPL], 2)
    assert heard(one, listing(trades=["BRK.B"])) == [Removed([AAPL])]
    assert heard(one, listing(trades=["BRK.B"])) == []


def test_an_unsubscribe_that_changed_nothing_is_noted() -> None:
    one = talk()
    one.subscribe([AAPL], 1)
    heard(one, listing(trades=["AAPL"]))
    one.unsubscribe([AAPL], 2)
    (event,) = heard(one, listing(trades=["AAPL"]))
    assert isinstance(event, Notice)


def test_lists_that_are_null_are_empty() -> None:
    one = talk()
    one.subscribe([AAPL], 1)
    assert heard(one, {"T": "subscription", "trades": ["AAPL"], "quotes": None}) == [
        Confirmed([AAPL])
    ]


@pytest.mark.parametrize(
    ("code", "words"), [(400, "invalid syntax"), (405, "symbol limit exceeded")]
)
def test_an_error_refuses_the_request_whose_turn_it_is(code: int, words: str) -> None:
    one = talk()
    one.subscribe([AAPL], 7)
    one.subscribe([BRK, AAPL_BAR], 8)
    assert heard(one, listing(trades=["AAPL"])) == [Confirmed([AAPL])]
    error = {"T": "error", "code": code, "msg": words}
    assert heard(one, error) == [Refused(f"{words} (code {code})", request_id=8)]
    # It has changed nothing: what was held still is, and the next answer is the next request's.
    one.subscribe([BRK], 9)
    assert heard(one, listing(trades=["AAPL", "BRK.B"])) == [Confirmed([BRK])]


@pytest.mark.parametrize("code", [409, 410])
def test_a_channel_that_is_not_to_be_had_is_refused_for_each_stream_at_once(code: int) -> None:
    one = talk()
    one.subscribe([AAPL, BRK], 7)
    one.subscribe([AAPL_BAR], 8)
    error = {"T": "error", "code": code, "msg": "no"}
    assert heard(one, error) == [Refused(f"no (code {code})", (AAPL, BRK))]
    assert heard(one, listing(bars=["AAPL"])) == [Confirmed([AAPL_BAR])]


def test_an_error_to_an_unsubscribe_refuses_no_stream() -> None:
    one = talk()
    one.unsubscribe([AAPL], 1)
    error = {"T": "error", "code": 400, "msg": "invalid syntax"}
    assert heard(one, error) == [Notice("invalid syntax (code 400)")]


@pytest.mark.parametrize(
    ("code", "kind"),
    [(401, Notice), (402, Denied), (403, Notice), (404, Notice), (406, Busy), (407, Notice),
     (409, Denied), (500, Notice), (999, Notice), (None, Notice)],
)  # fmt: skip
def test_the_venues_words_reach_the_user_whatever_the_error(code: int | None, kind: type) -> None:
    one = AlpacaTalk(SECRET)
    (event,) = heard(one, {"T": "error", "code": code, "msg": "its own words"})
    assert isinstance(event, kind)
    assert isinstance(event, Notice | Denied | Busy)
    assert "its own words" in event.words


def test_a_half_dead_session_is_waited_for() -> None:
    (event,) = heard(talk(), {"T": "error", "code": 406, "msg": "connection limit exceeded"})
    assert isinstance(event, Busy)
    assert event.wait_s > 90


def test_an_error_that_is_nobodys_leaves_requests_waiting() -> None:
    one = talk()
    one.subscribe([AAPL], 1)
    heard(one, {"T": "error", "code": 407, "msg": "slow client"})
    assert heard(one, listing(trades=["AAPL"])) == [Confirmed([AAPL])]


def test_corrections_cancels_and_halts_are_passed_on_in_words() -> None:
    correction = {
        "T": "c", "S": "EEM", "x": "M", "oi": 1, "op": 39.1582, "os": 44, "ci": 2, "cp": 39.18,
        "cs": 45,
    }  # fmt: skip
    cancel = {"T": "x", "S": "GOOGL", "i": 465, "x": "D", "p": 105.31, "s": 300, "a": "C"}
    halt = {"T": "s", "S": "AAPL", "sc": "H", "sm": "Trading Halt"}
    events = heard(talk(), correction, {"T": "t", "S": "AAPL"}, cancel, halt)
    assert events == [
        Notice("EEM: trade 1 on M (44 at 39.1582) is corrected: trade 2, 45 at 39.18"),
        Notice("GOOGL: trade 465 on D (300 at 105.31) is cancelled (action C)"),
        Notice("AAPL: Trading Halt (H), ? (?)"),
    ]


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"{}", b"[1]", b"[", b"\xff", b"[{1:2}]"),
        *(b'[{"T":"subscription","trades":5}]', b'[{"T":"subscription","trades":[5]}]'),
    ],
)
def test_what_is_no_array_of_events_breaks_the_contract(raw: bytes) -> None:
    with pytest.raises(ProtocolError, match="no array of events"):
        talk().hear(raw)


def test_a_list_of_fifty_thousand_symbols_is_reconciled() -> None:
    one = talk()
    names = [f"SYM{i:06d}" for i in range(50_000)]
    streams = [Stream(name, "trade") for name in names]
    for i in range(0, 50_000, 10_000):
        one.subscribe(streams[i : i + 10_000], i)
        (event,) = heard(one, listing(trades=names[: i + 10_000]))
        assert isinstance(event, Confirmed)
        assert list(event.streams) == streams[i : i + 10_000]
