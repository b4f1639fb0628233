from __future__ import annotations

import json

import pytest

from mdsys.sim.binance import Form, Subscriptions, frame_header, parse_target, stream_kind

RAW = Form(combined=False)
COMBINED = Form(combined=True)


@pytest.mark.parametrize(
    ("target", "form", "streams"),
    [
        ("/ws", RAW, []),
        ("/ws/btcusdt@trade", RAW, ["btcusdt@trade"]),
        ("/ws/a@trade/b@depth@100ms", RAW, ["a@trade", "b@depth@100ms"]),
        ("/stream", COMBINED, []),
        ("/stream?streams=a@trade/b@bookTicker", COMBINED, ["a@trade", "b@bookTicker"]),
        (
            "/stream?streams=a@trade&timeUnit=MICROSECOND",
            Form(combined=True, microseconds=True),
            ["a@trade"],
        ),
    ],
)
def test_a_path_tells_form_and_streams(target: str, form: Form, streams: list[str]) -> None:
    assert parse_target(target) == (form, streams)


@pytest.mark.parametrize("target", ["/", "/wss", "/stream/a@trade", "/api/v3/depth", "//[x/ws"])
def test_other_paths_are_unknown(target: str) -> None:
    assert parse_target(target) is None


def ask(subscriptions: Subscriptions, **request: object) -> object:
    return json.loads(subscriptions.answer(json.dumps(request)))


def test_subscribe_list_and_unsubscribe_answer_like_the_venue() -> None:
    subscriptions = Subscriptions(1024)
    names = ["b@trade", "a@bookTicker"]
    message = json.dumps({"method": "SUBSCRIBE", "params": names, "id": 1})
    assert subscriptions.answer(message) == '{"result":null,"id":1}'
    assert ask(subscriptions, method="SUBSCRIBE", params=["b@trade"], id="x1") == {
        "result": None,
        "id": "x1",
    }
    assert ask(subscriptions, method="LIST_SUBSCRIPTIONS", id=3) == {"result": names, "id": 3}
    assert ask(subscriptions, method="UNSUBSCRIBE", params=["b@trade", "no@trade"], id=None) == {
        "result": None,
        "id": None,
    }
    assert list(subscriptions.streams) == ["a@bookTicker"]


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
    ],
)
def test_malformed_requests_get_the_venues_errors_and_change_nothing(
    message: str | bytes, code: int, words: str
) -> None:
    subscriptions = Subscriptions(1024)
    answer = json.loads(subscriptions.answer(message))
    assert answer["error"]["code"] == code
    assert words in answer["error"]["msg"]
    assert subscriptions.streams == {}


def test_the_error_carries_the_requests_id() -> None:
    assert ask(Subscriptions(1), method="X", id=9)["id"] == 9  # type: ignore[index]


def test_too_many_streams_are_refused_as_a_whole() -> None:
    subscriptions = Subscriptions(2)
    assert subscriptions.add(["a@trade"])
    answer = ask(subscriptions, method="SUBSCRIBE", params=["b@trade", "c@trade"], id=1)
    assert answer == {"error": {"code": 4, "msg": "Too many subscriptions"}, "id": 1}
    assert list(subscriptions.streams) == ["a@trade"]
    assert subscriptions.add(["a@trade", "b@trade"])


def test_an_endless_name_is_refused() -> None:
    assert not Subscriptions(1024).add(["a" * 129])


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        ("a@trade", "trade"),
        ("a@bookTicker", "quote"),
        ("a@depth", "depth"),
        ("a@depth@0ms", "depth"),
        ("a@aggTrade", "other"),
        ("a", "other"),
    ],
)
def test_streams_have_kinds(stream: str, kind: str) -> None:
    assert stream_kind(stream) == kind


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (0xFFFF, b"\x81\x7e\xff\xff"),
        (0x10000, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_headers_take_the_fewest_bytes(size: int, header: bytes) -> None:
    assert frame_header(size) == header
