"""Whether the quick scanners take frames, rather than leave them to the flat ones."""

from __future__ import annotations

from tests.native import FEED_SOURCES, POSIX, PROGRAMS, compile_program, run_program

BUILDS = {"sse2": (), "portable": ("-DMD_DECIMAL_PORTABLE", "-DKRAKEN_PORTABLE")}
"""For x86-64, and what other processors get."""


def taken(venue: str, symbol: str, frame: bytes, build: str = "sse2") -> bool:
    """Tell whether the venue's quick scanner takes a whole frame."""
    program = compile_program(
        PROGRAMS / "quick_takes.c", flags=(POSIX, *BUILDS[build], *FEED_SOURCES)
    )
    code = run_program(program, venue, symbol, frame.decode()).returncode
    assert code in (0, 1)
    return code == 0
