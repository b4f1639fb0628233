"""What both Kraken reference decoders read with: native/src/kraken_scan.h."""

from __future__ import annotations

import re

import msgspec

from mdsys.feed.frame import malformed

_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_STRING = msgspec.json.Decoder(str)
_INTEGER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


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
