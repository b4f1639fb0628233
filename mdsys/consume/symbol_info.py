"""A symbol as readers know it, and sets of them as bitmaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class SymbolInfo:
    """What never changes about a symbol while its instance lives."""

    name: str
    """VENUE:SYMBOL."""
    id: int
    """In [1, 2^32), as in a record's ``symbol_id``."""
    ring: int
    price_scale: int
    """Prices are integers x 10^-price_scale; in [0, 18]."""
    size_scale: int

    @property
    def venue(self) -> str:
        """What stands before the first colon."""
        return self.name.partition(":")[0]

    @property
    def native(self) -> str:
        """The venue's own name, behind the first colon."""
        return self.name.partition(":")[2]


def symbol_bitmap(symbols: Sequence[SymbolInfo] | None) -> npt.NDArray[np.uint64] | None:
    """Return the filter of a poller: bit i of little-endian 64-bit words is symbol id i."""
    if symbols is None:
        return None
    ids = np.array([symbol.id for symbol in symbols], dtype=np.uint64)
    words = np.zeros(int(ids.max(initial=0)) // 64 + 1, dtype="<u8")
    np.bitwise_or.at(words, ids // 64, np.uint64(1) << (ids % 64))
    return words
