"""What can go wrong on purpose: the faults' names, when they strike, and how they are written.

A specification has faults, separated by semicolons; a fault has a name and then, by commas, when it
strikes and how::

    mute,connection=2,after=5s;hole,every=10000;http,status=429,connection=3
    refuse,symbol=SYM00001*,words=Invalid symbol

``after`` counts frames of market data on a connection, or with an ``s`` seconds since it opened
(since the start for faults of the whole venue). Chance is seeded, per fault and
connection: the same seed strikes the same frames.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from random import Random
from typing import Final, Literal

from mdsys.config_checks import did_you_mean
from mdsys.errors import UsageError
from mdsys.sim.frames import Frame

Scope = Literal["socket", "frame", "upgrade", "subscription", "venue"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to fail."""

    scope: Scope
    what: str
    options: Mapping[str, str] = field(default_factory=dict)
    """Name -> default; "" where there is none."""


FAULTS: Final[Mapping[str, Kind]] = {
    "mute": Kind(
        "socket",
        "the socket stays open and says nothing; PINGs and PONGs go on. With kind or symbol: "
        "only that market data is silent",
        {"kind": "*", "symbol": "*"},
    ),
    "half-open": Kind(
        "socket", "nothing is read, sent or acknowledged any more, and no FIN says so"
    ),
    "cut": Kind("frame", "the socket ends in the middle of a frame", {"kind": "*", "symbol": "*"}),
    "reset": Kind("socket", "the socket is reset (RST)"),
    "close": Kind("socket", "the venue closes", {"code": "1001", "reason": ""}),
    "malformed": Kind("socket", "an extra frame that is nothing a venue sends"),
    "oversized": Kind("socket", "an extra frame of so many bytes", {"size": "2097152"}),
    "slow": Kind(
        "socket",
        "the client is thrown out as too slow. With size: once so many bytes wait for it, and "
        "the market does not wait",
        {"size": ""},
    ),
    "lifetime": Kind(
        "socket",
        "the venue's close after 24 hours, its notice first where it has one; notice: seconds "
        "between the two",
        {"notice": ""},
    ),
    "expire": Kind(
        "socket", "the client's key or token expires: it is thrown out and not taken again"
    ),
    "hole": Kind("frame", "a frame is not sent", {"kind": "*", "symbol": "*"}),
    "duplicate": Kind("frame", "a frame is sent twice", {"kind": "*", "symbol": "*"}),
    "reorder": Kind(
        "frame",
        "a frame is sent after the next one of its kind and symbol",
        {"kind": "*", "symbol": "*"},
    ),
    "http": Kind(
        "upgrade",
        "upgrades are refused: 403, 406, 429, .. count: how many (default all)",
        {"status": "403", "words": ""},
    ),
    "refuse": Kind(
        "subscription",
        "subscriptions are refused in the venue's manner, those whose symbol and channel match",
        {"symbol": "*", "channel": "*", "words": "Subscription failed"},
    ),
    "clock": Kind("venue", "the venue's clock is ahead, by so many seconds", {"ahead": "5"}),
}
_WHEN: Final = ("connection", "after", "every", "count")


@dataclass(eq=False, slots=True)
class Fault:
    """One fault, and when it strikes. ``lift`` ends what lasts."""

    name: str
    connection: int | None = None
    """The number of the attempt to connect, from 1; None: each of them."""
    after_frames: int | None = None
    after_s: float | None = None
    every: int | None = None
    """Strikes by chance, once in so many frames."""
    count: int | None = None
    """Times in all on one connection (``http``: in all); None: once, or without end with every."""
    options: dict[str, str] = field(default_factory=dict)
    lifted: bool = False

    @property
    def kind(self) -> Kind:
        """What it does."""
        return FAULTS[self.name]

    def option(self, name: str) -> str:
        """Return what was given, or the default."""
        return self.options.get(name, self.kind.options[name])

    def number(self, name: str) -> float | None:
        """Return an option as a number; None: it was not given and has no default."""
        text = self.option(name)
        return float(text) if text else None

    def concerns(self, connection: int) -> bool:
        """Whether it is meant for this connection."""
        return not self.lifted and self.connection in (None, connection)

    def matches(self, frame: Frame) -> bool:
        """Whether it is meant for this frame."""
        return fnmatchcase(frame.kind, self.option("kind")) and fnmatchcase(
            frame.symbol, self.option("symbol")
        )

    @property
    def is_partial(self) -> bool:
        """Whether it leaves some market data alone."""
        return any(self.option(name) != "*" for name in ("kind", "symbol"))

    def lift(self) -> None:
        """End it: what it withheld meanwhile is lost."""
        self.lifted = True


class Armed:
    """A fault that waits for its frame on one connection."""

    def __init__(self, fault: Fault, seed: int, number: int, connection: int) -> None:
        self.fault = fault
        self.held: Frame | None = None
        """Of ``reorder``: what waits for its successor."""
        self._random = Random(f"{seed}/{number}/{connection}")
        self._wait = fault.after_frames or 0
        forever = fault.every is not None and fault.count is None
        self._left = math.inf if forever else fault.count or 1

    @property
    def is_spent(self) -> bool:
        """Whether it will never strike again."""
        return self.fault.lifted or (self._left <= 0 and self.held is None)

    def strikes(self, frame: Frame) -> bool:
        """Tell whether this frame is the one."""
        fault = self.fault
        if fault.lifted or self._left <= 0:
            return False
        if fault.kind.scope == "frame" and not fault.matches(frame):
            return False
        if self._wait > 0:
            self._wait -= 1
            return False
        if fault.every is not None and self._random.randrange(fault.every) != 0:
            return False
        self._left -= 1
        return True


def parse(text: str) -> list[Fault]:
    """Return the faults of a specification.

    Raises:
        UsageError: It is none; the message names the place.
    """
    return [_parse_one(part) for part in text.split(";") if part.strip()]


def make(name: str, connection: int | None = None, **options: object) -> Fault:
    """Return a fault that strikes at once.

    Raises:
        UsageError: There is no such fault, or no such option.
    """
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    if connection is not None:
        given.append(f"connection={connection}")
    return _build(name, given)


def _parse_one(part: str) -> Fault:
    name, *given = (piece.strip() for piece in part.split(","))
    return _build(name, given)


def _build(name: str, given: Iterable[str]) -> Fault:
    if name not in FAULTS:
        hint = did_you_mean(name, FAULTS) or f"; there are {', '.join(FAULTS)}"
        raise UsageError(f"fault {name!r}: there is none{hint}")
    fault = Fault(name)
    known = (*_WHEN, *FAULTS[name].options)
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or key not in known:
            hint = did_you_mean(key, known) or f"; it takes {', '.join(known)}"
            raise UsageError(f"fault {name}: {pair!r}: expected KEY=VALUE{hint}")
        if key == "after" and value.endswith("s"):
            fault.after_s = _number(name, key, value.removesuffix("s"))
        elif key == "after":
            fault.after_frames = _whole(name, key, value, 0)
        elif key in ("connection", "every", "count"):
            setattr(fault, key, _whole(name, key, value, 1))
        else:
            if key in ("size", "notice", "ahead", "status", "code"):
                _number(name, key, value)
            fault.options[key] = value
    scope = fault.kind.scope
    if scope in ("subscription", "venue") and fault.connection is not None:
        raise UsageError(f"fault {name}: it is not one connection's")
    if scope in ("upgrade", "subscription", "venue") and (
        fault.every is not None or fault.after_frames is not None
    ):
        raise UsageError(f"fault {name}: it takes after=SECONDSs, no frames are counted for it")
    if scope == "frame" and fault.after_s is not None:
        raise UsageError(f"fault {name}: it strikes a frame: after=FRAMES")
    return fault


def _whole(name: str, key: str, value: str, least: int) -> int:
    if value.isdecimal() and value.isascii() and len(value) <= 12 and int(value) >= least:
        return int(value)
    raise UsageError(f"fault {name}: {key}={value}: expected a whole number of at least {least}")


def _number(name: str, key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf and not (key == "ahead" and -math.inf < number < math.inf):
        raise UsageError(f"fault {name}: {key}={value}: expected a number")
    return number


def describe() -> str:
    """Return the list of faults for a help text."""
    parts = [textwrap.fill(_WHEN_TEXT, 96)]
    for name, kind in FAULTS.items():
        options = ", ".join(
            f"{option}={default}" if default else option for option, default in kind.options.items()
        )
        text = f"{name:<10} {kind.what}{f' ({options})' if options else ''}"
        parts.append(textwrap.fill(text, 96, initial_indent="  ", subsequent_indent=" " * 13))
    return "\n".join(parts)


_WHEN_TEXT: Final = (
    "When: connection=N (the attempt to connect, from 1; default each), after=N frames of market "
    "data or after=Ns seconds, every=N (by chance, once in so many frames), count=N times. symbol, "
    "kind (trade, quote, depth) and channel take patterns with *, ? and []."
)
