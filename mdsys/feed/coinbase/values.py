"""Coinbase's JSON in plain Python: what its reference decoders read values with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from mdsys.feed.frame import check_json, malformed
from mdsys.record.fixed import FixedError, FixedProblem, to_fixed
from mdsys.record.record import ABSENT
from mdsys.record.rfc3339 import parse_rfc3339

Fields = Mapping[str, bytes]
"""An object's values as they are written."""

BARE_NUMBER: Final = re.compile(rb"[-0-9]")

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_STRING = msgspec.json.Decoder(str)
_TEXT_SIZE_MAX: Final = 127  # bytes of a number or time in text form
_ID_MAX: Final = (1 << 63) - 2  # so that the id after it fits too


def frame_fields(frame: bytes) -> Fields:
    """Return the object that a frame is."""
    check_json(frame)
    try:
        return object_fields(frame)
    except msgspec.DecodeError:
        malformed()


def object_fields(raw: bytes) -> Fields:
    """Return an object's values; anything else is malformed."""
    if not raw.lstrip(b" \n\r\t").startswith(b"{"):
        malformed()
    return {key: bytes(value) for key, value in _OBJECT.decode(raw).items()}


def array_of(raw: bytes) -> list[bytes]:
    """Return an array's values; anything else is malformed."""
    if not raw.startswith(b"["):
        malformed()
    return [bytes(item) for item in _ARRAY.decode(raw)]


def string(fields: Fields, key: str) -> str:
    """Return what a string means; anything else is malformed."""
    text = maybe_string(fields.get(key, b""))
    if text is None:
        malformed()
    return text


def maybe_string(raw: bytes) -> str | None:
    """Return what a string means; None for anything else."""
    return _STRING.decode(raw) if raw.startswith(b'"') else None


def number(raw: bytes) -> str:
    """Return the text of a number, in quotes or bare; anything else is malformed."""
    text = maybe_string(raw)
    if text is None and BARE_NUMBER.match(raw):
        text = raw.decode()
    if text is None or len(text.encode()) > _TEXT_SIZE_MAX or fixed(text, 0) is FixedProblem.SYNTAX:
        malformed()
    return text


def optional_number(fields: Fields, key: str) -> str | None:
    """Return a number's text; None where there is none: no such key, null, or ""."""
    raw = fields.get(key, b"null")
    return None if raw in (b"null", b'""') else number(raw)


def fixed(text: str | None, scale: int) -> int | FixedProblem:
    """Return a number's value, ABSENT for none, or why it has none."""
    if text is None:
        return ABSENT
    try:
        return to_fixed(text, scale)
    except FixedError as error:
        return error.problem


def fixed_values(texts: Sequence[str | None], scales: Sequence[int]) -> list[int] | None:
    """Return fixed-point values; None when one would have to be rounded or does not fit."""
    values = [fixed(text, scale) for text, scale in zip(texts, scales, strict=True)]
    return None if any(isinstance(value, FixedProblem) for value in values) else values


def time_of(raw: bytes) -> int:
    """Return an RFC 3339 time in ns; anything else is malformed."""
    text = maybe_string(raw)
    ts = None if text is None else parse_rfc3339(text)
    if ts is None:
        malformed()
    return ts


def id_of(text: str) -> int | None:
    """Return 1 to 19 digits as an id; None for anything else, 0, and what is too large."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        return None
    return int(text) if 0 < int(text) <= _ID_MAX else None
