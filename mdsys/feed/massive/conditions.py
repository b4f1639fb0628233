"""A trade's condition codes as one integer: what the record's ``conditions`` hold.

Massive numbers the conditions of all tapes (massive.com/docs, Condition Codes): ``[14, 37, 41]``.
Twelve bits each, the first one lowest, and one more than the code, so that 0 ends the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mdsys.record.record import ABSENT

OTHER: Final = -1
"""More codes than fit, or one beyond CODE_MAX."""

CODES_MAX: Final = 5
CODE_MAX: Final = 4094


def pack(codes: Sequence[int] | None) -> int:
    """Return the integer of ``codes``: 0 for no codes, ABSENT for no list of them."""
    if codes is None:
        return ABSENT
    if len(codes) > CODES_MAX or not all(0 <= code <= CODE_MAX for code in codes):
        return OTHER
    return sum(code + 1 << 12 * i for i, code in enumerate(codes))


def unpack(conditions: int) -> tuple[int, ...] | None:
    """Return the codes of a trade's ``conditions``; None for OTHER and ABSENT."""
    if conditions < 0:
        return None
    codes = []
    while conditions:
        codes.append((conditions & 0xFFF) - 1)
        conditions >>= 12
    return tuple(codes)
