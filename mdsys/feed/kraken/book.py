"""Kraken's book in plain Python: of the depth subscribed to, held against the venue's checksum.

docs.kraken.com, "Book Checksum" (v1 and v2), read 2026-11. After each update the book is cut to
its depth: no removals come for what others have pushed out. Then a CRC32 over the ten best asks and
the ten best bids must equal the frame's; it is made of each price and size as written, without
the point and without zeros in front.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from zlib import crc32

from mdsys.record.fixed import SCALE_MAX
from mdsys.record.record import Flag

DEPTHS: Final = (10, 25, 100, 500, 1000)
"""What a subscription may ask for."""
DEPTH_MAX: Final = DEPTHS[-1]
CHECKSUM_LEVELS: Final = 10

Change = tuple[Flag, int, int]
"""Side, price, size; size 0: the level is gone."""


def depth_of(count: int) -> int:
    """Return the depth that was asked for, by a snapshot of so many levels, in [0, 1000]."""
    return next(depth for depth in DEPTHS if depth >= count)


def decimals_of(number: str) -> int:
    """Return how many decimals a number's text shows, in [0, 18]."""
    digits, _, exponent = number.lower().partition("e")
    decimals = len(digits.partition(".")[2]) - int(exponent or "0")
    return min(max(decimals, 0), SCALE_MAX)


class Book:
    """One symbol's; void until a snapshot comes."""

    def __init__(self, price_scale: int, size_scale: int) -> None:
        self.in_step = False
        self.depth = DEPTH_MAX
        self._scales = (price_scale, size_scale)
        self._decimals = (0, 0)
        self._sides: dict[Flag, dict[int, int]] = {Flag.BUY: {}, Flag.SELL: {}}

    def clear(self) -> None:
        """Forget all levels; the book is void."""
        self.in_step = False
        for side in self._sides.values():
            side.clear()

    def replace(self, changes: Iterable[Change], depth: int, decimals: tuple[int, int]) -> None:
        """Begin anew with a snapshot.

        Args:
            changes: Its levels.
            depth: Of DEPTHS.
            decimals: The most that its prices and its sizes show.
        """
        self.clear()
        self.in_step = True
        self.depth = depth
        self._decimals = (0, 0)
        self.change(changes, decimals)

    def change(self, changes: Iterable[Change], decimals: tuple[int, int]) -> None:
        """Carry out an update, in its order."""
        self._decimals = (
            max(self._decimals[0], decimals[0]),
            max(self._decimals[1], decimals[1]),
        )
        for side, price, size in changes:
            if size == 0:
                self._sides[side].pop(price, None)
            else:
                self._sides[side][price] = size

    def levels(self, side: Flag) -> list[tuple[int, int]]:
        """Return (price, size) of one side, best first."""
        return sorted(self._sides[side].items(), reverse=side is Flag.BUY)

    def checksum(self) -> int:
        """Return the CRC32 that Kraken sends for this book."""
        parts = []
        for side in (Flag.SELL, Flag.BUY):
            for level in self.levels(side)[:CHECKSUM_LEVELS]:
                for value, scale, decimals in zip(level, self._scales, self._decimals, strict=True):
                    digits = value * 10**decimals // 10**scale
                    parts.append(str(digits) if digits else "")
        return crc32("".join(parts).encode())

    def cut(self, side: Flag) -> list[Change]:
        """Let go what is beyond the depth of one side, and return its removals, worst first."""
        out = [(side, price, 0) for price, _ in reversed(self.levels(side)[self.depth :])]
        self.change(out, (0, 0))
        return out
