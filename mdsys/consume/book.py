"""The top of an order book, as the last-value cache holds it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
import numpy.typing as npt

BOOK_USABLE: Final = 1
"""enum md_book_flag."""
BOOK_PARTIAL: Final = 2
LEVEL_COUNT: Final = 10
"""Of each side; MD_CACHE_LEVELS."""


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """The best levels of one symbol, all of one moment."""

    seq: int
    """Ring sequence of the last level record that is in it."""
    ts_event: int
    """The venue's time of that record, ns since the epoch, or ABSENT."""
    ts_recv: int
    usable: bool
    """In step with the venue. When not, only a trader who likes surprises looks at the levels."""
    partial: bool
    """It has moved beyond what the last snapshot told, and a fresh one is on its way: a level that
    has not changed since that snapshot may be missing."""
    bids: npt.NDArray[np.int64]
    """(n, 2): price and size, fixed point, best first; n in [0, 10]."""
    asks: npt.NDArray[np.int64]
    price_scale: int
    size_scale: int

    def levels(self, side: str) -> list[tuple[Decimal, Decimal]]:
        """Return price and size of the ``bids`` or the ``asks``, exactly, best first.

        Raises:
            ValueError: The side is neither.
        """
        if side not in ("bids", "asks"):
            raise ValueError(f"side {side!r}: bids or asks")
        rows = self.bids if side == "bids" else self.asks
        return [
            (Decimal(int(p)).scaleb(-self.price_scale), Decimal(int(s)).scaleb(-self.size_scale))
            for p, s in rows
        ]
