"""The 64-byte record as NumPy sees it, and its names.

The layout is native/include/mdsys/record.h; tests/layout holds C, this dtype and golden bytes
together.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import Final

import numpy as np
import numpy.typing as npt

RECORD_SIZE: Final = 64
"""Bytes of a record, and of a cache line."""

ABSENT: Final = -(1 << 63)
"""What a field holds when the venue sent none (INT64_MIN)."""


class Kind(IntEnum):
    """What a record is. Append-only."""

    TRADE = 1
    QUOTE = 2
    TICKER = 3
    LEVEL = 4
    BAR = 5
    BAR_VOLUME = 6
    STATUS = 7


class Flag(IntFlag):
    """Bits of ``flags``; of a trade the side is the aggressor's, of a level bid or ask."""

    BUY = 1
    SELL = 2
    SNAPSHOT = 4
    LAST = 8
    CONFLATED = 16


SIDE_MASK: Final = 3


class Status(IntEnum):
    """What a status record tells. Append-only. Reserved: numbered, but not sent yet."""

    CONNECTION_UP = 1
    CONNECTION_DOWN = 2
    GAP = 3
    STALE = 4
    RESYNC = 5
    LAPPED = 6  # reserved
    FRAME_REFUSED = 7
    VALUE_REFUSED = 8
    FRAME_INCOMPLETE = 9  # reserved
    WRITER_RESTARTED = 10
    SYMBOL_REFUSED = 11
    READER_EJECTED = 12


BODY: Final[Mapping[Kind, tuple[str, str, str, str]]] = {
    Kind.TRADE: ("price", "size", "trade_id", "conditions"),
    Kind.QUOTE: ("bid_price", "ask_price", "bid_size", "ask_size"),
    Kind.TICKER: ("last_price", "last_size", "volume", "open_interest"),
    Kind.LEVEL: ("price", "size", "orders", "update_id"),
    Kind.BAR: ("open", "high", "low", "close"),
    Kind.BAR_VOLUME: ("volume", "vwap", "trade_count", "interval_ns"),
    Kind.STATUS: ("what", "first_lost", "last_lost", "connection"),
}
"""The four 64-bit integers of each kind's body, in order, at bytes 32, 40, 48 and 56."""

PRICES: Final = frozenset(
    {"price", "bid_price", "ask_price", "last_price", "open", "high", "low", "close", "vwap"}
)
"""Fields that hold integer x 10^-price_scale."""

SIZES: Final = frozenset({"size", "bid_size", "ask_size", "last_size", "volume", "open_interest"})
"""Fields that hold integer x 10^-size_scale."""

HEADER: Final[Mapping[str, tuple[str, int]]] = {
    "seq": ("<u8", 0),
    "ts_event": ("<i8", 8),
    "ts_recv": ("<i8", 16),
    "symbol_id": ("<u4", 24),
    "kind": ("u1", 28),
    "flags": ("u1", 29),
    "price_scale": ("u1", 30),
    "size_scale": ("u1", 31),
}
"""Field: (type, offset in bytes)."""


def _dtype(fields: Mapping[str, tuple[str, int]]) -> np.dtype[np.void]:
    names = list(fields)
    formats = [fields[name][0] for name in names]
    offsets = [fields[name][1] for name in names]
    return np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": RECORD_SIZE}
    )


def _body(kind: Kind) -> dict[str, tuple[str, int]]:
    return {name: ("<i8", 32 + 8 * i) for i, name in enumerate(BODY[kind])}


KIND_DTYPE: Final[Mapping[Kind, np.dtype[np.void]]] = {
    kind: _dtype({**HEADER, **_body(kind)}) for kind in Kind
}
"""One kind's fields alone; ``ticks.view(KIND_DTYPE[Kind.BAR])`` costs nothing."""

TICK: Final = _dtype(
    {
        **HEADER,
        **{
            name: place
            for kind in Kind
            for name, place in _body(kind).items()
            if name != "volume"  # stands at 48 in a ticker and at 32 in a bar_volume
        },
    }
)
"""Any record: the header and, overlapping, the body of every kind. Only the fields of a record's
own ``kind`` mean anything. ``volume`` is in KIND_DTYPE alone, since two kinds hold it in different
places. Join arrays by ``np.concatenate(arrays, dtype=TICK)``: without the dtype NumPy lays the
overlapping fields side by side."""

Ticks = npt.NDArray[np.void]
"""An array of TICK, shape (n,)."""


def side_name(flags: int) -> str | None:
    """Return ``"buy"``, ``"sell"`` or None."""
    return (None, "buy", "sell", None)[flags & SIDE_MASK]
