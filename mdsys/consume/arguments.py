"""What callers may say of readers, consumers and handlers: checked once, told in one voice.

A check takes the argument's name and what was given, and returns what is kept. NumPy's numbers are
numbers; True and False are none.
"""

from __future__ import annotations

import inspect
import operator
import re
import sys
from collections.abc import Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Final

import numpy as np

from mdsys.errors import UsageError

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,31}", re.ASCII)


def choice(what: str, given: object, known: Sequence[str]) -> str:
    """Check that it is one of some words."""
    if not isinstance(given, str) or given not in known:
        raise UsageError(f"{what} {given!r}: one of {', '.join(known)}")
    return given


def text(what: str, given: object, expected: str) -> str:
    """Check that it is a string."""
    if not isinstance(given, str):
        raise UsageError(f"{what} {given!r}: {expected}")
    return given


def whole(what: str, given: Any, least: int, most: int | None = None) -> int:
    """Check that it is a whole number in [least, most]; most None: any."""
    try:
        number = operator.index(given)
    except TypeError:
        number = least - 1
    if isinstance(given, (bool, np.bool_)) or number < least or (most and number > most):
        bounds = f"{least} or more" if most is None else f"{least} to {most}"
        raise UsageError(f"{what} {given!r}: a whole number, {bounds}")
    return number


def share(what: str, given: Any) -> float:
    """Check that it is a number in (0, 1]."""
    real = isinstance(given, Real) and not isinstance(given, (bool, np.bool_))
    number = float(given) if real else 0.0
    if not 0 < number <= 1:  # NaN fails too
        raise UsageError(f"{what} {given!r}: a share in (0, 1]")
    return number


def boolean(what: str, given: object) -> bool:
    """Check that it is true or false."""
    if not isinstance(given, (bool, np.bool_)):
        raise UsageError(f"{what} {given!r}: True or False")
    return bool(given)


def names(what: str, given: object) -> list[str]:
    """Check that it is a name or glob, or several."""
    several = [given] if isinstance(given, str) else _listed(given)
    if several is None or not all(isinstance(each, str) for each in several):
        raise UsageError(
            f"{what} {given!r}: a name or glob, or several, such as ['BINANCE:BTCUSDT']"
        )
    return several


def ring_numbers(what: str, given: object) -> list[int]:
    """Check that it is some numbers of rings; whether there are such the instance knows."""
    several = None if isinstance(given, (str, bytes)) else _listed(given)
    if not several:
        raise UsageError(f"{what} {given!r}: numbers of rings, at least one, such as [0, 1]")
    return [whole(f"{what}:", each, 0) for each in several]


def _listed(given: object) -> list[Any] | None:
    return list(given) if isinstance(given, Iterable) else None


def reader_name(given: object) -> str:
    """Check a name in the registry; None: this program's."""
    if given is None:
        return program_name()
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        raise UsageError(f"name {given!r}: 1 to 31 of A-Z a-z 0-9 . _ -")
    return given


def program_name() -> str:
    """Return this program's name as the registry takes it."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", Path(sys.argv[0] if sys.argv else "").stem)[:31]
    return name or "python"


def plain_function(what: str, given: Any) -> None:
    """Check that it can be called, and does its work when it is."""
    if not callable(given):
        raise UsageError(f"{what} {given!r}: not callable")
    for each in (given, getattr(given, "__call__", None)):  # noqa: B004 - of an object its method
        if inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each):
            raise UsageError(
                f"{what} {given!r}: is async, and nobody would await it; give a plain function, "
                "or iterate with async for"
            )


def writable_buffer(what: str, given: Any) -> None:
    """Check that C code can work on it in place."""
    try:
        view = memoryview(given)
    except TypeError:
        view = None
    if view is None or view.readonly or not view.c_contiguous:
        raise UsageError(
            f"{what} {type(given).__name__}: a C function takes a writable, contiguous buffer: "
            "an array, a ctypes structure, a bytearray"
        )
