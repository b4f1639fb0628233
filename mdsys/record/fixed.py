"""Decimal text and fixed point: value = integer x 10^-scale, exact or refused.

The plain-Python reference of native/include/mdsys/decimal.h; tests/unit/record/test_fixed.py holds
the two together. Integers only, so no context, precision or rounding mode can touch a value.
"""

from __future__ import annotations

import re
from decimal import Decimal
from enum import IntEnum
from typing import Final

SCALE_MAX: Final = 18
"""Most decimals a record can hold."""

VALUE_MAX: Final = (1 << 63) - 1
"""Largest integer of a record; the smallest is its negative: INT64_MIN stands for "absent"."""

_NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?:(?P<whole>\d+)(?:\.(?P<fraction>\d*))?|\.(?P<bare>\d+))"
    r"(?:[eE](?P<exponent>[+-]?\d+))?",
    re.ASCII,
)
_EXPONENT_MAX = 10**15  # beyond it a value is as good as 0 or infinite, and neither is exact


class FixedProblem(IntEnum):
    """Why a text has no fixed-point value. The numbers of enum md_decimal_result."""

    SYNTAX = 1
    """It is no decimal number."""
    INEXACT = 2
    """It has a digit other than 0 beyond the scale. Comes before OVERFLOW."""
    OVERFLOW = 3
    """It does not fit 63 bits."""


class FixedError(ValueError):
    """A text that cannot be held exactly."""

    def __init__(self, problem: FixedProblem, text: str, scale: int) -> None:
        """Say what is wrong with ``text`` at ``scale``."""
        super().__init__(f"{text[:40]!r} at scale {scale}: {problem.name.lower()}")
        self.problem = problem


def to_fixed(text: str, scale: int) -> int:
    """Return the integer that stands for ``text`` at ``scale``.

    Takes what JSON takes for a number, and also ``+1``, ``1.``, ``.5`` and leading zeros, which
    have one exact meaning each. Blanks, underscores, ``NaN`` and ``Infinity`` are refused.

    Args:
        text: A decimal number, with an exponent or not.
        scale: Decimals, in [0, 18].

    Returns:
        An integer in [-(2^63 - 1), 2^63 - 1].

    Raises:
        FixedError: The text is no number, would have to be rounded, or does not fit.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise FixedError(FixedProblem.SYNTAX, text, scale)
    fraction = match["fraction"] or match["bare"] or ""
    digits = ((match["whole"] or "") + fraction).lstrip("0")
    if not digits:
        return 0
    shift = scale + _exponent(match["exponent"] or "0") - len(fraction)
    significant = digits.rstrip("0")
    shift += len(digits) - len(significant)
    if shift < 0:
        raise FixedError(FixedProblem.INEXACT, text, scale)
    if len(significant) + shift > len(str(VALUE_MAX)):
        raise FixedError(FixedProblem.OVERFLOW, text, scale)
    value: int = int(significant) * 10**shift
    if value > VALUE_MAX:
        raise FixedError(FixedProblem.OVERFLOW, text, scale)
    return -value if match["sign"] == "-" else value


def _exponent(text: str) -> int:
    digits = text.lstrip("+-").lstrip("0")
    size = int(digits or "0") if len(digits) <= len(str(_EXPONENT_MAX)) else _EXPONENT_MAX
    return -size if text.startswith("-") else size


def from_fixed(value: int, scale: int) -> Decimal:
    """Return the exact number that ``value`` stands for at ``scale``, in [0, 18]."""
    return Decimal(f"{value}e-{scale}")


def format_fixed(value: int, scale: int) -> str:
    """Return the shortest plain text of ``value`` at ``scale``: ``61540.01``, ``0.00212``, ``-3``.

    No exponent, and no zeros at the end of a fraction.
    """
    whole, fraction = divmod(abs(value), 10**scale)
    decimals = f"{fraction:0{scale}d}".rstrip("0") if fraction else ""
    return f"{'-' if value < 0 else ''}{whole}{'.' if decimals else ''}{decimals}"
