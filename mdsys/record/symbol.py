"""Names of symbols: ``VENUE:NATIVE_SYMBOL``, as ``BINANCE:BTCUSDT`` or ``KITE:NSE:INFY``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mdsys.errors import UsageError

NAME_SIZE_BYTES_MAX = 63
"""Bytes of a name in UTF-8; the directory's entry holds them and a NUL."""

_VENUE = re.compile(r"[A-Z][A-Z0-9_.-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol's two halves; ``str()`` puts them together again."""

    venue: str
    """Upper case: ``BINANCE_USDM``."""
    native: str
    """As the venue itself writes it; it may hold colons, and letters beyond ASCII."""

    def __str__(self) -> str:
        """Return ``VENUE:NATIVE_SYMBOL``."""
        return f"{self.venue}:{self.native}"

    @classmethod
    def parse(cls, name: str) -> Symbol:
        """Split a name at its first colon.

        Raises:
            UsageError: It is no symbol's name; the message says what is wrong with it.
        """
        venue, colon, native = name.partition(":")
        if not colon:
            raise UsageError(f"{name!r} names no venue: write VENUE:SYMBOL, as BINANCE:BTCUSDT")
        if not _VENUE.fullmatch(venue):
            raise UsageError(f"{name!r}: a venue is written in capitals, as BINANCE_USDM")
        if not native:
            raise UsageError(f"{name!r} ends after the venue: write VENUE:SYMBOL")
        # Options bear inner spaces: "SPY   240119C00400000". Printable excludes control
        # characters, lone surrogates and every space but the plain one.
        if not native.isprintable() or native != native.strip():
            raise UsageError(f"{name!r}: control characters or a space at an end of the symbol")
        if (size := len(name.encode())) > NAME_SIZE_BYTES_MAX:
            raise UsageError(f"{name!r} is {size} bytes long; at most {NAME_SIZE_BYTES_MAX} fit")
        return cls(venue, native)
