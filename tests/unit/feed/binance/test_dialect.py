from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mdsys._decode import Decoder
from mdsys._generator import payloads
from mdsys.feed.binance.dialect import BREACHES_BEFORE_BAN, BinanceSession, parse_path
from mdsys.feed.frame import FrameResult, SymbolInfo
from mdsys.feed.venue import Limits
from mdsys.sim.dialect import CloseSocket, Form, Refusal
from mdsys.sim.dialects import find
from mdsys.sim.faults import make
from mdsys.sim.market import RandomMarket
from tests.simulators import FormOnly, RecordingClient, Venue, request

RAW = Form(combined=False)
COMBINED = Form(combined=True)
MARKETS = ("binance", "binance_usdm", "binance_coinm")
PATHS = {
    "binance": "/api/v3/depth",
    "binance_usdm": "/fapi/v1/depth",
    "binance_coinm": "/dapi/v1/depth",
}


@pytest.mark.parametrize(
    ("path", "query", "form", "streams"),
    [
        ("/ws", {}, RAW, []),
        ("/public/ws", {}, RAW, []),
        ("/ws/btcusdt@trade", {}, RAW, ["btcusdt@trade"]),
        ("/ws/a@trade/b@depth@100ms", {}, RAW, ["a@trade", "b@depth@100ms"]),
        ("/stream", {}, COMBINED, []),
        ("/public/stream", {"streams": "a@trade"}, COMBINED, ["a@trade"]),
        (
            "/stream",
            {"streams": "a@trade/b@bookTicker"},
            COMBINED,
            ["a@trade", "b@bookTicker"],
        ),
        (
            "/stream",
            {"streams": "a@trade", "timeUnit": "MICROSECOND"},
            Form(combined=True, microseconds=True),
            ["a@trade"],
        ),
    ],
)
def test_a_path_tells_form_and_streams(
    path: str, query: dict[str, str], form: Form, streams: list[str]
) -> None:
    assert parse_path(request(path, **query)) == (form, streams)


@pytest.mark.parametrize("path", ["/", "", "/wss", "/stream/a@trade", "/api/v3/depth"])
def test_other_paths_are_unknown(path: str) -> None:
    assert parse_path(request(path)) is None
    refusal = Venue("binance").dialect.accept(request(path), RecordingClient())
    assert isinstance(refusal, Refusal)
    assert refusal.status == 404


def opened(streams_max: int = 1024) -> tuple[BinanceSession, RecordingClient]:
    venue = Venue("binance")
    venue.dialect.limits = Limits(streams_per_connection=streams_max)
    session, client = venue.session("/ws")
    assert isinstance(session, BinanceSession)
    return session, client


def ask(session: BinanceSession, **asked: object) -> Any:
    (answer,) = session.hear(json.dumps(asked))
    return json.loads(answer)


def test_subscribe_list_and_unsubscribe_answer_like_the_venue() -> None:
    session, client = opened()
    names = ["b@trade", "a@bookTicker"]
    message = json.dumps({"method": "SUBSCRIBE", "params": names, "id": 1})
    assert session.hear(message) == ['{"result":null,"id":1}']
    assert client.streams == names
    assert ask(session, method="SUBSCRIBE", params=["b@trade"], id="x1") == {
        "result": None,
        "id": "x1",
    }
    assert ask(session, method="LIST_SUBSCRIPTIONS", id=3) == {"result": names, "id": 3}
    assert ask(session, method="UNSUBSCRIBE", params=["b@trade", "no@trade"], id=None) == {
        "result": None,
        "id": None,
    }
    assert client.streams == ["a@bookTicker"]


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        ("", 3, "Invalid JSON"),
        ('{"method"', 3, "line 1 column 10"),
        (b"\xff\x00garbage", 3, "Invalid JSON"),
        ("[" * 100_000, 3, "Invalid JSON"),
        ("1" * 5000, 3, "Invalid JSON"),
        ("[]", 2, "object"),
        ('{"method":"SUBSCRIBE","params":["a@trade"]}', 2, "request ID"),
        ('{"method":"SUBSCRIBE","params":["a@trade"],"id":1.5}', 2, "request ID"),
        ('{"method":"SUBSCRIBE","params":["a@trade"],"id":true}', 2, "request ID"),
        ('{"params":["a@trade"],"id":1}', 2, "missing field `method`"),
        ('{"method":"SUSCRIBE","params":[],"id":1}', 2, "unknown variant `SUSCRIBE`"),
        ('{"method":"SUBSCRIBE","id":1}', 2, "params"),
        ('{"method":"SUBSCRIBE","params":"a@trade","id":1}', 2, "params"),
        ('{"method":"SUBSCRIBE","params":["a@trade",1],"id":1}', 2, "params"),
        (json.dumps({"method": "SUBSCRIBE", "params": ["a" * 129], "id": 1}), 2, "too long"),
    ],
)
def test_malformed_requests_get_the_venues_errors_and_change_nothing(
    message: str | bytes, code: int, words: str
) -> None:
    session, client = opened()
    (text,) = session.hear(message)
    answer = json.loads(text)
    assert answer["error"]["code"] == code
    assert words in answer["error"]["msg"]
    assert client.streams == []


def test_the_error_carries_the_requests_id() -> None:
    assert ask(opened()[0], method="X", id=9)["id"] == 9


def test_too_many_streams_are_refused_as_a_whole_and_noted() -> None:
    session, client = opened(streams_max=2)
    ask(session, method="SUBSCRIBE", params=["a@trade"], id=1)
    answer = ask(session, method="SUBSCRIBE", params=["b@trade", "c@trade"], id=2)
    assert answer == {"error": {"code": 4, "msg": "Too many subscriptions"}, "id": 2}
    assert client.streams == ["a@trade"]
    assert client.breaches == ["streams_per_connection"]
    assert ask(session, method="SUBSCRIBE", params=["a@trade", "b@trade"], id=3)["result"] is None


def test_too_many_streams_in_the_path_close_the_socket() -> None:
    venue = Venue("binance")
    venue.dialect.limits = Limits(streams_per_connection=1)
    with pytest.raises(CloseSocket) as caught:
        venue.session("/ws/a@trade/b@trade")
    assert caught.value.code == 1008


def test_a_refused_stream_refuses_its_request_with_the_faults_words() -> None:
    venue = Venue("binance")
    venue.exchange.stand(make("refuse", symbol="SYM000001", words="Invalid symbol"))
    session, client = venue.session("/ws")
    assert isinstance(session, BinanceSession)
    both = ["sym000000@trade", "sym000001@trade"]
    answer = ask(session, method="SUBSCRIBE", params=both, id=4)
    assert answer == {"error": {"code": 2, "msg": "Invalid symbol"}, "id": 4}
    assert ask(session, method="SUBSCRIBE", params=both[:1], id=5)["result"] is None
    assert client.streams == both[:1]


@pytest.mark.parametrize("path", ["/ws", "/stream"])
def test_spot_announces_its_end_and_futures_do_not(path: str) -> None:
    session, _ = Venue("binance").session(path)
    (notice,) = session.leave()
    fields = json.loads(notice)
    assert fields.get("data", fields)["e"] == "serverShutdown"
    assert ("data" in fields) == (path == "/stream")
    session, _ = Venue("binance_usdm").session(path)
    assert list(session.leave()) == []


def test_who_goes_on_after_429_is_banned_with_418() -> None:
    dialect = Venue("binance").dialect
    statuses = [dialect.breach("rest_weight").status for _ in range(BREACHES_BEFORE_BAN + 1)]
    assert statuses == [429] * BREACHES_BEFORE_BAN + [418]
    assert dialect.breach("messages").code == 1008


# ---- order books by REST ----


def book_of(venue: Venue, market: str, symbol: str = "SYM000001", limit: int = 100) -> Any:
    reply = venue.dialect.rest(request(PATHS[market], symbol=symbol, limit=str(limit)))
    assert reply is not None
    assert reply.status == 200
    return json.loads(reply.body)


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("seed", range(6))
def test_a_book_by_rest_and_the_diffs_after_it_make_the_venues_book(market: str, seed: int) -> None:
    """By the venue's own rules: they hold wherever between two diffs the answer was taken."""
    venue = Venue(market, symbols=1, seed=seed)
    venue.source.start()
    view = venue.source.view(FormOnly(combined=False))
    view.show_streams(["sym000000@depth@100ms"])
    symbol = venue.source.market.symbols[0]
    diffs: list[dict[str, Any]] = []

    def advance(events: int) -> None:
        for _ in range(events):
            venue.source.native.advance(1)
            diffs.extend(json.loads(text) for block in view.render() for text in payloads(block))

    advance(40)  # the stream is open before the answer is asked for
    for _ in range(60):
        snapshot = book_of(venue, market, symbol.name)
        last_id = snapshot["lastUpdateId"]
        known = len(diffs)
        while len(diffs) == known:
            advance(1)
        follows = diffs[-1]
        if follows["u"] == last_id:
            pass  # in the answer already, the venue's rules drop it
        elif market == "binance":
            assert follows["U"] <= last_id + 1 <= follows["u"]
        elif follows["pu"] != last_id:  # else it is what the one before left
            assert follows["pu"] < last_id
            assert follows["U"] <= last_id <= follows["u"]
        now = book_of(venue, market, symbol.name)
        assert now["lastUpdateId"] == follows["u"]
        for side, name in (("b", "bids"), ("a", "asks")):
            levels = dict(map(tuple, snapshot[name])) | dict(map(tuple, follows[side]))
            rebuilt = {price: size for price, size in levels.items() if float(size) != 0}
            assert dict(map(tuple, now[name])).items() <= rebuilt.items()
            best = max(rebuilt, key=float) if name == "bids" else min(rebuilt, key=float)
            assert best == now[name][0][0]
        advance(seed)


def diffs_of(venue: Venue) -> Callable[[int], list[bytes]]:
    """Return what advances the market and gives the frames of its first symbol."""
    venue.source.start()
    view = venue.source.view(FormOnly(combined=False))
    view.show_streams([f"sym000000@{name}" for name in ("trade", "bookTicker", "depth@100ms")])

    def advance(events: int) -> list[bytes]:
        venue.source.native.advance(events)
        return [text for block in view.render() for text in payloads(block)]

    return advance


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("seed", range(3))
def test_the_decoder_makes_the_true_book_of_it_and_finds_nothing_wrong(
    market: str, seed: int
) -> None:
    venue = Venue(market, symbols=1, seed=seed)
    name = venue.dialect.venue.decoder  # type: ignore[attr-defined]
    decoder = Decoder(name, {"SYM000000": SymbolInfo(1)}, books_by_rest=True)
    advance = diffs_of(venue)
    symbol = venue.source.market.symbols[0]
    decoder.expect_book("SYM000000")
    for step in range(200):
        for frame in advance(1 + step % 7):
            assert decoder.decode(frame)[0] == FrameResult.OK
        if step == 20:
            assert not decoder.book("SYM000000")[0]
            reply = venue.dialect.rest(request(PATHS[market], symbol="SYM000000", limit="100"))
            assert reply is not None
            body = reply.body.encode() if isinstance(reply.body, str) else reply.body
            assert decoder.snapshot("SYM000000", body, 100)[0] == FrameResult.OK
    frame = b""
    while b"depthUpdate" not in frame:  # so that the two are of one moment
        (frame,) = advance(1)
        decoder.decode(frame)
    usable, *sides = decoder.book("SYM000000")
    assert usable
    true = venue.source.market.book(symbol)
    for found, levels_true in zip(sides, (true.bids, true.asks), strict=True):
        expected = [
            (
                level.price * 10 ** (8 - symbol.price_decimals),
                level.size * 10 ** (8 - symbol.size_decimals),
            )
            for level in levels_true[:10]
        ]
        assert found == expected
    counts = decoder.counts
    assert (counts["gaps"], counts["reordered"], counts["duplicates"]) == (0, 0, 0)
    assert counts["book_resyncs"] == 0


def test_coinm_names_the_pair() -> None:
    source = RandomMarket(["BTCUSD_PERP", "ETHUSD"], seed=1).open(find("binance_coinm"))
    source.start()
    view = source.view(FormOnly(combined=False))
    view.show_streams(["btcusd_perp@bookTicker", "ethusd@depth@0ms"])
    source.advance(None)
    found = [json.loads(text) for block in view.render() for text in payloads(block)]
    assert {(data["s"], data["ps"]) for data in found} == {
        ("BTCUSD_PERP", "BTCUSD"),
        ("ETHUSD", "ETHUSD"),
    }


@pytest.mark.parametrize(
    ("market", "keys"),
    [
        ("binance", "lastUpdateId bids asks"),
        ("binance_usdm", "lastUpdateId E T bids asks"),
        ("binance_coinm", "lastUpdateId E T symbol pair bids asks"),
    ],
)
def test_a_book_has_the_venues_keys_and_as_many_levels_as_asked(market: str, keys: str) -> None:
    book = book_of(Venue(market), market, limit=5)
    assert " ".join(book) == keys
    assert len(book["bids"]) == len(book["asks"]) == 5
    assert float(book["bids"][0][0]) < float(book["asks"][0][0])
    decimals = {len(text.partition(".")[2]) for row in book["bids"] for text in row}
    assert decimals == {8} or market != "binance"


@pytest.mark.parametrize(
    ("market", "limit", "weight"),
    [
        ("binance", 1, 5),
        ("binance", 100, 5),
        ("binance", 101, 25),
        ("binance", 1000, 50),
        ("binance", 5000, 250),
        ("binance_usdm", 5, 2),
        ("binance_usdm", 100, 5),
        ("binance_usdm", 1000, 20),
        ("binance_coinm", 500, 10),
    ],
)
def test_a_book_weighs_what_the_documents_say(market: str, limit: int, weight: int) -> None:
    reply = Venue(market).dialect.rest(request(PATHS[market], symbol="sym000000", limit=str(limit)))
    assert reply is not None
    assert (reply.status, reply.weight) == (200, weight)


@pytest.mark.parametrize("limit", ["0", "-1", "5001", "x", "", "9" * 30, "\u0661"])
def test_an_impossible_limit_is_refused(limit: str) -> None:
    reply = Venue("binance").dialect.rest(request("/api/v3/depth", symbol="SYM000000", limit=limit))
    assert reply is not None
    assert reply.status == 400


def test_futures_take_only_the_documented_limits() -> None:
    venue = Venue("binance_usdm")
    reply = venue.dialect.rest(request("/fapi/v1/depth", symbol="SYM000000", limit="101"))
    assert reply is not None
    assert reply.status == 400


def test_an_unknown_symbol_is_refused_by_name_and_an_unknown_path_not_answered() -> None:
    venue = Venue("binance")
    reply = venue.dialect.rest(request("/api/v3/depth", symbol="NOSUCH"))
    assert reply is not None
    assert (reply.status, json.loads(reply.body)["code"]) == (400, -1121)
    assert venue.dialect.rest(request("/fapi/v1/depth", symbol="SYM000000")) is None


def test_the_used_weight_is_told() -> None:
    assert Venue("binance").dialect.rest_headers(55) == {"X-MBX-USED-WEIGHT-1M": "55"}
