"""Frames that are JSON arrays of flat events, in plain Python: native/src/json_events.h.

A frame is judged in this order, and the first fault refuses all of it: size, JSON, an array of
objects, then event by event the values it must have and their types. What is left can only be wrong
by itself: an unknown kind, an unknown symbol, a value that does not fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from mdsys.feed.frame import NO_LEVEL, FrameResult, Record, SymbolInfo, check_json, malformed
from mdsys.record.fixed import FixedError, FixedProblem, to_fixed
from mdsys.record.record import ABSENT, Flag, Kind, Status

Fields = dict[str, msgspec.Raw]
"""An event's values as they are written."""

_EVENTS = msgspec.json.Decoder(list[Fields])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECTS = msgspec.json.Decoder(list[Fields])
_STRING = msgspec.json.Decoder(str)
_INTEGER = re.compile(r"0|[1-9][0-9]{0,18}")
_TEXT_SIZE_MAX: Final = 127
_INT_MAX: Final = (1 << 63) - 1


def events(frame: bytes) -> list[Fields]:
    """Return a frame's events.

    Raises:
        Refused: It is too long, no JSON, nested too deep, or no array of objects.
    """
    check_json(frame)
    try:
        return _EVENTS.decode(frame)
    except msgspec.DecodeError:
        malformed()


def value(fields: Mapping[str, msgspec.Raw], key: str) -> bytes | None:
    """Return a value as it is written; None: it is not there, or null."""
    raw = bytes(fields.get(key, b"null"))
    return None if raw == b"null" else raw


def text(raw: bytes | None) -> str:
    """Return what a string means; anything else is malformed."""
    if raw is None or not raw.startswith(b'"'):
        malformed()
    return _STRING.decode(raw)


def number(raw: bytes | None) -> str:
    """Return the text of a bare number; anything else is malformed."""
    if raw is None or raw[:1] not in b"-0123456789":
        malformed()
    return raw.decode()


def number_text(raw: bytes | None) -> str:
    """Return a number that is written as a string, plainly; anything else is malformed."""
    written = text(raw)
    if b"\\" in (raw or b"") or len(written) > _TEXT_SIZE_MAX:
        malformed()
    try:
        to_fixed(written, 0)
    except FixedError as error:
        if error.problem is FixedProblem.SYNTAX:
            malformed()
    return written


def integer(raw: bytes | None) -> int:
    """Return a number in [0, 2^63 - 1]; ABSENT for none and for any other number."""
    return ABSENT if raw is None else integer_of(number(raw))


def integer_of(written: str) -> int:
    """Return the value of an integer in [0, 2^63 - 1] as JSON writes it; else ABSENT."""
    if _INTEGER.fullmatch(written) is None or int(written) > _INT_MAX:
        return ABSENT
    return int(written)


def array(raw: bytes | None) -> list[bytes] | None:
    """Return an array's values as they are written; None for none."""
    if raw is None:
        return None
    if not raw.startswith(b"["):
        malformed()
    return [bytes(item) for item in _ARRAY.decode(raw)]


def objects(raw: bytes | None) -> list[Fields]:
    """Return an array's objects; anything else is malformed."""
    if raw is None or not raw.startswith(b"["):
        malformed()
    try:
        return _OBJECTS.decode(raw)
    except msgspec.DecodeError:
        malformed()


def fixed(scale: int, *texts: str) -> list[int] | None:
    """Return the fixed-point values; None when one would have to be rounded or does not fit."""
    try:
        return [to_fixed(written, scale) for written in texts]
    except FixedError:
        return None


Body = tuple[int, int, int, int]
Level = tuple[Flag, int, int]
"""Side, price, size."""


class Publisher:
    """One frame's records, in the order in which they go into the ring; and what became of it.

    Args:
        ts_recv: When the frame was read.
        connection: What status records bear.
    """

    def __init__(self, ts_recv: int, connection: int) -> None:
        self.records: list[Record] = []
        self.result = FrameResult.OK
        self._ts_recv = ts_recv
        self._connection = connection

    def problem(self, result: FrameResult) -> None:
        """Note an event that is not taken.

        The first names the frame's result; but what is for the talk must reach it.
        """
        if FrameResult.CONTROL in {result, self.result}:
            self.result = FrameResult.CONTROL
        elif self.result is FrameResult.OK:
            self.result = result

    def status(
        self, symbol: SymbolInfo, what: Status, first: int = ABSENT, last: int = ABSENT
    ) -> None:
        """Add a status of one symbol."""
        body = (int(what), first, last, self._connection)
        self._add(symbol, Kind.STATUS, Flag.LAST, self._ts_recv, body, scaled=False)

    def refuse_value(self, symbol: SymbolInfo, first: int = ABSENT, last: int = ABSENT) -> None:
        """Say that a value of an event cannot be held."""
        self.status(symbol, Status.VALUE_REFUSED, first, last)
        self.problem(FrameResult.VALUE)

    def record(
        self, symbol: SymbolInfo, kind: Kind, ts_event: int, body: Body, flags: int = 0
    ) -> None:
        """Add a record that is a message by itself."""
        self._add(symbol, kind, flags | Flag.LAST, ts_event, body)

    def bar(self, symbol: SymbolInfo, ts_event: int, prices: Body, volumes: Body) -> None:
        """Add a bar: two records, one message."""
        self._add(symbol, Kind.BAR, 0, ts_event, prices)
        self._add(symbol, Kind.BAR_VOLUME, Flag.LAST, ts_event, volumes)

    def levels(
        self, symbol: SymbolInfo, ts_event: int, levels: Sequence[Level], flags: int
    ) -> None:
        """Add the levels of one depth message, without ids."""
        if flags & Flag.SNAPSHOT and not levels:
            levels = [(Flag(0), *NO_LEVEL)]
        for i, (side, price, size) in enumerate(levels):
            last = Flag.LAST if i == len(levels) - 1 else 0
            body = (price, size, ABSENT, ABSENT)
            self._add(symbol, Kind.LEVEL, side | flags | last, ts_event, body)

    def _add(
        self,
        symbol: SymbolInfo,
        kind: Kind,
        flags: int,
        ts_event: int,
        body: Body,
        *,
        scaled: bool = True,
    ) -> None:
        scales = (symbol.price_scale, symbol.size_scale) if scaled else (0, 0)
        self.records.append(
            Record(ts_event, self._ts_recv, symbol.symbol_id, kind, int(flags), *scales, body)
        )
