"""How Binance's stream servers speak: paths, requests, answers, pings.

Error texts as in binance/binance-spot-api-docs web-socket-streams.md ("Error messages") and as
seen from the live server ({"error":{..},"id":..}; code 4 "Too many subscriptions"); read 2026-11.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS")
# Names are at most this long here, so that a client cannot make the server hold megabytes.
STREAM_NAME_SIZE_MAX = 128
ID_TEXT_SIZE_MAX = 36


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between the venue's servers."""

    name: str
    usdm: bool
    ping_interval_s: float
    ping_timeout_s: float
    streams_max: int = 1024
    """Of one connection."""


DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect("binance", usdm=False, ping_interval_s=20, ping_timeout_s=60),
        Dialect("binance_usdm", usdm=True, ping_interval_s=180, ping_timeout_s=600),
    )
}


@dataclass(frozen=True, slots=True)
class Form:
    """How a client wants its frames, told by the path it dialled."""

    combined: bool
    """{"stream":..,"data":..} instead of the data alone."""
    microseconds: bool = False


def parse_target(target: str) -> tuple[Form, list[str]] | None:
    """Return the form and the streams that a request's path asks for; None: there is no such path.

    /ws, /ws/a, /ws/a/b: raw. /stream, /stream?streams=a/b: combined.
    """
    try:
        parts = urlsplit(target)
        query = parse_qs(parts.query, max_num_fields=16)
    except ValueError:
        return None
    head, _, tail = parts.path.removeprefix("/").partition("/")
    microseconds = query.get("timeUnit", [""])[-1].upper() == "MICROSECOND"
    if head == "ws":
        return Form(combined=False, microseconds=microseconds), _names(tail)
    if head == "stream" and not tail:
        names = _names(query.get("streams", [""])[-1])
        return Form(combined=True, microseconds=microseconds), names
    return None


def _names(text: str) -> list[str]:
    return [name for name in text.split("/") if name]


class Subscriptions:
    """One connection's streams, in the order of subscription."""

    def __init__(self, streams_max: int) -> None:
        self.streams: dict[str, None] = {}
        self._streams_max = streams_max

    def add(self, names: list[str]) -> bool:
        """Subscribe to all of ``names``, or to none when they would be too many."""
        together = {**self.streams, **dict.fromkeys(names)}
        if len(together) > self._streams_max or any(
            len(name) > STREAM_NAME_SIZE_MAX for name in names
        ):
            return False
        self.streams = together
        return True

    def answer(self, message: str | bytes) -> str:
        """Carry out one request and return the venue's answer."""
        try:
            request = json.loads(message)
        except (ValueError, RecursionError) as error:
            line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
            return _error(3, f"Invalid JSON: expected value at line {line} column {column}")
        if not isinstance(request, dict):
            return _error(2, "Invalid request: expected an object")
        request_id = request.get("id", NO_ID)
        if not _is_id(request_id):
            return _error(2, "Invalid request: request ID must be an unsigned integer")
        method = request.get("method")
        if method is None:
            return _error(2, "Invalid request: missing field `method`", request_id)
        if method not in METHODS:
            expected = ", ".join(f"`{name}`" for name in METHODS)
            return _error(
                2,
                f"Invalid request: unknown variant `{str(method)[:40]}`, "
                f"expected one of {expected}",
                request_id,
            )
        if method == "LIST_SUBSCRIPTIONS":
            return _dump({"result": list(self.streams), "id": request_id})
        names = request.get("params")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return _error(
                2, "Invalid request: invalid type: `params`, expected strings", request_id
            )
        if method == "UNSUBSCRIBE":
            for name in names:
                self.streams.pop(name, None)
        elif not self.add(names):
            return _error(4, "Too many subscriptions", request_id)
        return _dump({"result": None, "id": request_id})


NO_ID = object()  # null is an id too


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= ID_TEXT_SIZE_MAX and value.isalnum()
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**63
    return value is None


def _error(code: int, text: str, request_id: object = NO_ID) -> str:
    answer: dict[str, Any] = {"error": {"code": code, "msg": text}}
    if request_id is not NO_ID:
        answer["id"] = request_id
    return _dump(answer)


def _dump(answer: dict[str, Any]) -> str:
    return json.dumps(answer, separators=(",", ":"))


@lru_cache(maxsize=4096)
def stream_kind(stream: str) -> str:
    """Return what a stream's frames are: trade, quote, depth or other."""
    channel = stream.partition("@")[2]
    if channel == "trade":
        return "trade"
    if channel == "bookTicker":
        return "quote"
    return "depth" if channel.partition("@")[0] == "depth" else "other"


def frame_header(size: int) -> bytes:
    """Return the header of a server's whole text frame of ``size`` bytes (RFC 6455 section 5.2)."""
    if size <= 125:
        return bytes((0x81, size))
    if size <= 0xFFFF:
        return b"\x81\x7e" + size.to_bytes(2)
    return b"\x81\x7f" + size.to_bytes(8)
