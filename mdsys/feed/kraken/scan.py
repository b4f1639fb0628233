"""What both Kraken reference decoders read with: native/src/kraken_scan.h."""

from __future__ import annotations

import re
from itertools import accumulate

import msgspec

from mdsys.feed.frame import FRAME_SIZE_MAX, JSON_DEPTH_MAX, FrameResult
from mdsys.feed.json_events import Refused, malformed

_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_STRING = msgspec.json.Decoder(str)
_IN_QUOTES = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_INTEGER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def judged(frame: bytes) -> None:
    """Refuse a frame by its size, its encoding or its nesting; the JSON decoder judges the rest."""
    if len(frame) > FRAME_SIZE_MAX:
        raise Refused(FrameResult.TOO_LONG)
    try:
        str(frame, "utf-8")
    except UnicodeDecodeError:
        malformed()
    if frame.count(b"[") + frame.count(b"{") > JSON_DEPTH_MAX:
        steps = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
        bare = _IN_QUOTES.sub(b"", frame)
        if max(accumulate(steps.get(byte, 0) for byte in bare)) > JSON_DEPTH_MAX:
            malformed()


def string(raw: msgspec.Raw | None) -> str:
    """Return what a string means; anything else, or nothing, is malformed."""
    if raw is None or not bytes(raw).startswith(b'"'):
        malformed()
    return _STRING.decode(raw)


def array(raw: msgspec.Raw | None) -> list[msgspec.Raw]:
    """Return an array's values; anything else, or nothing, is malformed."""
    if raw is None or not bytes(raw).startswith(b"["):
        malformed()
    return _ARRAY.decode(raw)


def uint(text: str, least: int, most: int) -> int:
    """Return an integer in [least, most] without sign, point and leading zeros."""
    if not _INTEGER.fullmatch(text) or not least <= int(text) <= most:
        malformed()
    return int(text)
