"""What decoders have in common, in plain Python: results, symbols, records.

A venue's reference decoder, and a user's own one, turn a frame into a `FrameResult` and a list of
`Record`; native/src/feed.h is the same for decoders in C.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from typing import Final, NamedTuple, NoReturn

import numpy as np

from mdsys.record.record import ABSENT, TICK, Ticks

FRAME_SIZE_MAX: Final = 16 << 20
"""Bytes of the largest frame that is looked at; MD_FRAME_SIZE_MAX."""

JSON_DEPTH_MAX: Final = 64
"""Objects and arrays within each other, the outermost counted; deeper is malformed."""


class FrameResult(IntEnum):
    """What became of a frame. The numbers of enum md_frame_result; append-only."""

    OK = 0
    CONTROL = 1
    """An answer to a request, or the venue's word on the connection: no market data."""
    MALFORMED = 2
    UNKNOWN_EVENT = 3
    UNKNOWN_SYMBOL = 4
    VALUE = 5
    """A price or size would have to be rounded, or does not fit."""
    TOO_LONG = 6


class Refused(Exception):
    """The frame as a whole cannot be taken."""

    def __init__(self, result: FrameResult) -> None:
        super().__init__(result)
        self.result = result


def malformed() -> NoReturn:
    """Refuse the frame."""
    raise Refused(FrameResult.MALFORMED)


_IN_QUOTES = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


def check_json(frame: bytes) -> None:
    """Hold a frame to the bounds that are looked at before JSON is: its size, UTF-8, its nesting.

    Raises:
        Refused: It is beyond one of them.
    """
    if len(frame) > FRAME_SIZE_MAX:
        raise Refused(FrameResult.TOO_LONG)
    try:
        str(frame, "utf-8")
    except UnicodeDecodeError:
        malformed()
    if frame.count(b"[") + frame.count(b"{") <= JSON_DEPTH_MAX:
        return  # cannot be too deep
    steps = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
    depths = accumulate(steps.get(byte, 0) for byte in _IN_QUOTES.sub(b"", frame))
    if max(depths) > JSON_DEPTH_MAX:
        malformed()


@dataclass(frozen=True, slots=True)
class SymbolInfo:
    """What a decoder must know of a symbol."""

    symbol_id: int
    """In [1, 2^32)."""
    price_scale: int = 8
    """Decimals, in [0, 18]."""
    size_scale: int = 8
    last_trade_id: int = 0
    """The venue's last one before this process took the symbol over; 0: none is known."""
    last_book_id: int = 0
    """The same of its changes of the book."""


class Record(NamedTuple):
    """A record's fields but its ring sequence, in the order of the layout."""

    ts_event: int
    ts_recv: int
    symbol_id: int
    kind: int
    flags: int
    price_scale: int
    size_scale: int
    body: tuple[int, int, int, int]
    late: bool = False
    """Of a trade or quote: a newer one was told before, so this one is not the symbol's last."""


NO_LEVEL: Final = (ABSENT, ABSENT)
"""Price and size of the one level, of no side, that tells of a whole book without any."""

_ROW = np.dtype([("header", "<u8, <i8, <i8, <u4, u1, u1, u1, u1"), ("body", "<i8", (4,))])


def to_ticks(records: Sequence[Record], seq_first: int = 1) -> Ticks:
    """Return ``records`` as an array of TICK, numbered from ``seq_first`` on."""
    rows = [((seq_first + i, *record[:7]), record.body) for i, record in enumerate(records)]
    return np.array(rows, dtype=_ROW).view(TICK)
