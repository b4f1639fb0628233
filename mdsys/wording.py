"""Words for people: log lines, tables, messages; numbers with their units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

NONE: Final = "-"
"""For what is not there, or is not known."""
_TIMES: Final = (("ns", 1), ("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000))
_SIZES: Final = ("B", "kB", "MB", "GB", "TB")
_SPANS: Final = ((86_400, "d", "h"), (3_600, "h", "min"), (60, "min", "s"))
_BLOCKS: Final = "▁▂▃▄▅▆▇█"


def plural(count: int, noun: str) -> str:
    """Return ``1 ring``, ``2 rings``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def printable(text: str) -> str:
    """Return a venue's words, or anybody's, fit for a terminal: on one line, with no controls."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def duration(ns: float | None) -> str:
    """Return ``850 ns``, ``12.3 µs``, ``4.56 ms``, ``1.20 s``; from two minutes on ``2 min 5 s``.

    Three digits, also where the last is 0: numbers below one another stay aligned.
    """
    if ns is None:
        return NONE
    if abs(ns) >= 120e9:
        return f"{'-' if ns < 0 else ''}{span(abs(ns) / 1e9)}"
    for unit, size in _TIMES[:-1]:
        if abs(ns) < 999.5 * size:
            return f"{ns:.0f} ns" if size == 1 else f"{_three(ns / size)} {unit}"
    return f"{_three(ns / 1e9)} s"


def span(seconds: float) -> str:
    """Return whole ``45 s``, ``2 min 5 s``, ``3 h 20 min``, ``12 d 4 h``: the two largest units."""
    whole = int(seconds)
    for size, name, next_name in _SPANS:
        if whole >= size:
            rest = whole % size // {"h": 3_600, "min": 60, "s": 1}[next_name]
            return f"{whole // size} {name} {rest} {next_name}"
    return f"{whole} s"


def byte_count(count: float) -> str:
    """Return ``512 B``, ``12.3 kB``, ``4.56 MB``: powers of 1,000."""
    for place, unit in enumerate(_SIZES):
        if count < 999.5 * 1_000**place or place == len(_SIZES) - 1:
            return f"{count:.0f} B" if place == 0 else f"{_three(count / 1_000**place)} {unit}"
    raise AssertionError


def share(part: float) -> str:
    """Return a share of 1 as ``0 %``, ``0.4 %``, ``42 %``; what is not nothing never shows as 0."""
    percent = 100 * part
    if percent == 0 or percent >= 9.95:
        return f"{percent:.0f} %"
    return f"{max(percent, 0.1):.1f} %"


def spark(values: Sequence[float | None], width: int, full: float | None = None) -> str:
    """Return the last ``width`` values as a line of bars, the oldest first.

    A moment of which nothing is known, or when there was nothing, is blank, and so is the rest of
    the line where there are fewer.

    Args:
        values: The newest last.
        width: Of the line.
        full: What a whole bar stands for, an empty one for 0; None: the largest that is shown.
    """
    shown = values[-width:] if width > 0 else ()
    largest = full or max((value for value in shown if value is not None), default=0.0)
    line = "".join(
        " "
        if value is None or value <= 0
        else _BLOCKS[min(int(value / largest * len(_BLOCKS)), len(_BLOCKS) - 1)]
        for value in shown
    )
    return line.ljust(width)


def _three(value: float) -> str:
    size = abs(value)
    return f"{value:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"
