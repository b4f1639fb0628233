"""A trade's condition codes as one integer: what the record's ``conditions`` hold.

Alpaca sends the SIPs' codes, one character each, at most four of them (docs.alpaca.markets, stock
trade conditions): ``["@", "T", "I"]``. The first is the lowest byte, so the integer's bytes, little
end first, are the codes as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mdsys.record.record import ABSENT

OTHER: Final = -1
"""More codes than fit, or one that is not a single ASCII character."""

CODES_MAX: Final = 8


def pack(codes: Sequence[str] | None) -> int:
    """Return the integer of ``codes``: 0 for no codes, ABSENT for no list of them."""
    if codes is None:
        return ABSENT
    if len(codes) > CODES_MAX or not all(len(code) == 1 and 0 < ord(code) < 128 for code in codes):
        return OTHER
    return int.from_bytes("".join(codes).encode(), "little")


def unpack(conditions: int) -> tuple[str, ...] | None:
    """Return the codes of a trade's ``conditions``; None for OTHER and ABSENT."""
    if conditions < 0:
        return None
    return tuple(conditions.to_bytes(CODES_MAX, "little").rstrip(b"\0").decode())
