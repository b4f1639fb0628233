from __future__ import annotations

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from mdsys.sim import http


def test_a_request_is_taken_apart() -> None:
    request = Request("/a%20b?x=1&y=&x=2", Headers({"X-Key": "v", "Upgrade": "WebSocket"}))
    asked = http.to_request(request, "192.0.2.1")
    assert (asked.path, asked.query, asked.address) == (
        "/a b",
        {"x": "2", "y": ""},
        "192.0.2.1",
    )
    assert asked.headers["x-key"] == "v"
    assert http.is_upgrade(request)


@pytest.mark.parametrize("target", ["//[x/ws", "/?" + "&".join("a" * 1000)])
def test_a_target_that_is_none_has_no_path(target: str) -> None:
    asked = http.to_request(Request(target, Headers()), "")
    assert (asked.path, asked.query) == ("", {})
    assert not http.is_upgrade(Request(target, Headers()))


@pytest.mark.parametrize(
    ("status", "reason", "body", "content"),
    [
        (403, "Forbidden", "no", "text/plain; charset=utf-8"),
        (200, "OK", b'{"a":1}', "application/json"),
        (418, "I'm a Teapot", "", "text/plain; charset=utf-8"),
        (599, "Unknown", "[]", "application/json"),
    ],
)
def test_an_answer_says_what_it_is_and_ends_the_connection(
    status: int, reason: str, body: str | bytes, content: str
) -> None:
    response = http.to_response(status, body, {"X": "1"})
    assert response.reason_phrase == reason
    assert response.headers["Content-Type"] == content
    assert response.headers["Content-Length"] == str(len(body))
    assert response.headers["Connection"] == "close"
    assert response.headers["X"] == "1"
