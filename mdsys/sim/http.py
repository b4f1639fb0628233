"""HTTP between the library's objects and the dialects'."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

from mdsys.sim.dialect import Request

FIELDS_MAX = 32


def to_request(request: HttpRequest, address: str) -> Request:
    """Return a request as dialects see it; a target that is none becomes one without a path."""
    try:
        parts = urlsplit(request.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=FIELDS_MAX))
        path = unquote(parts.path)
    except ValueError:
        path, query = "", {}
    headers = {name.lower(): value for name, value in request.headers.raw_items()}
    return Request(path, query, headers, address)


def is_upgrade(request: HttpRequest) -> bool:
    """Whether a WebSocket is asked for."""
    return any("websocket" in value.lower() for value in request.headers.get_all("Upgrade"))


def to_response(status: int, body: str | bytes, headers: Mapping[str, str]) -> Response:
    """Return an answer after which the connection ends."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    payload = body.encode() if isinstance(body, str) else body
    is_json = payload[:1] in (b"{", b"[")
    fields = {
        "Content-Type": "application/json" if is_json else "text/plain; charset=utf-8",
        **headers,
        "Content-Length": str(len(payload)),
        "Connection": "close",
    }
    return Response(status, reason, Headers(fields), payload)
