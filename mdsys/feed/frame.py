"""What decoders have in common, in plain Python: results, symbols, records.

A venue's reference decoder, and a user's own one, turn a frame into a `FrameResult` and a list of
`Record`; native/src/feed.h is the same for decoders in C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np

from mdsys.record.record import TICK, Ticks

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


@dataclass(frozen=True, slots=True)
class SymbolInfo:
    """What a decoder must know of a symbol."""

    symbol_id: int
    """In [1, 2^32)."""
    price_scale: int = 8
    """Decimals, in [0, 18]."""
    size_scale: int = 8


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


_ROW = np.dtype([("header", "<u8, <i8, <i8, <u4, u1, u1, u1, u1"), ("body", "<i8", (4,))])


def to_ticks(records: Sequence[Record], seq_first: int = 1) -> Ticks:
    """Return ``records`` as an array of TICK, numbered from ``seq_first`` on."""
    rows = [((seq_first + i, *record[:-1]), record.body) for i, record in enumerate(records)]
    return np.array(rows, dtype=_ROW).view(TICK)
