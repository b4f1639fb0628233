"""What a value of the configuration may be.

A check takes what TOML gave and returns the value that is kept, or raises ConfigError with what is
wrong, without the place: the table that asked knows it. Some of these make a check.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from mdsys.errors import ConfigError, NoPermission, UsageError
from mdsys.feed.venue import CHANNELS as CHANNELS
from mdsys.feed.venue import Window
from mdsys.host.cores import allowed_cores, present_cores, set_text
from mdsys.record.symbol import Symbol

T = TypeVar("T")

FILE_SIZE_BYTES_MAX = 64 << 20
"""A larger file is some other file; 2^20 symbols are 20 MB."""
RING_SIZE_BYTES_MIN = 64 * 64  # the ring's least depth, in records
RING_SIZE_BYTES_MAX = 16 << 30
BAD_VALUES_SHOWN_MAX = 10
"""Of one array, or of one file."""


class WrongItems(ConfigError):
    """Some values of an array are wrong; ``found`` has the place of each, and what is wrong."""

    def __init__(self, found: Sequence[tuple[int, str]]) -> None:
        super().__init__(*(problem for _, problem in found))
        self.found = found


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return "; did you mean ...?" with the nearest of ``known``; nothing when none is near."""
    near = difflib.get_close_matches(word.lower(), known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def shown(value: object) -> str:
    """Return a value as a message quotes it: short, and on one line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def string(value: object) -> str:
    """Check that it is a string."""
    if not isinstance(value, str):
        raise ConfigError(f"{shown(value)} is no string")
    return value


def boolean(value: object) -> bool:
    """Check that it is true or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{shown(value)} is neither true nor false")
    return value


def table(value: object) -> dict[str, Any]:
    """Check that it is a table."""
    if not isinstance(value, dict):
        raise ConfigError("must be a table")
    return value


def array_of_tables(value: object) -> list[dict[str, Any]]:
    """Check that it is an array of tables."""
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ConfigError("must be an array of tables: write [[venue]]")
    return value


def integer(least: int, most: int) -> Callable[[object], int]:
    """Make a check for an integer in [least, most]."""

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigError(f"{shown(value)} is no integer")
        if not least <= value <= most:
            raise ConfigError(f"{value} is not in [{least}, {most}]")
        return value

    return check


core = integer(0, 4_095)


def share(value: object) -> float:
    """Check that it is a number in (0, 1]."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ConfigError(f"{shown(value)} is no number")
    if not 0 < value <= 1:  # NaN fails too
        raise ConfigError(f"{value} is not in (0, 1]")
    return float(value)


def matching(pattern: str, words: str) -> Callable[[object], str]:
    """Make a check for a string of a form; ``words`` describe it to people."""
    compiled = re.compile(pattern, re.ASCII)

    def check(value: object) -> str:
        text = string(value)
        if not compiled.fullmatch(text):
            raise ConfigError(f"{shown(text)} is not {words}")
        return text

    return check


# An instance's name becomes part of file names.
instance_name = matching(r"[a-z0-9_-]{1,32}", "1 to 32 of a-z, 0-9, _ and -")
group_name = matching(r"[a-z_][a-z0-9_-]{0,31}", "a group's name")
# [A-Za-z0-9._-]{1,31} is what struct md_reader_page has room for.
reader_name = matching(r"[A-Za-z0-9._-]{1,31}", "a reader's name: 1 to 31 of A-Z a-z 0-9 . _ -")
_calendar_form = matching(r"[A-Za-z0-9_./-]{1,32}", "a calendar's name, as XBOM")


def calendar_name(value: object) -> str:
    """Check the name of one of exchange_calendars' calendars, aliases (BSE) among them."""
    text = _calendar_form(value)
    try:
        from exchange_calendars import get_calendar_names  # 0.5 s: only where one is named
    except ImportError:
        raise ConfigError(
            f"{shown(text)} needs a package: pip install 'mdsys[calendars]'"
        ) from None
    names = get_calendar_names(include_aliases=True)
    if text not in names:
        near = difflib.get_close_matches(text.upper(), names, n=1)
        hint = f"; did you mean {near[0]}?" if near else "; there are XBOM, XNYS, CMES, 24/7, ..."
        raise ConfigError(f"{shown(text)} is no calendar of exchange_calendars{hint}")
    return text


def credential_name(value: object) -> str:
    """Check the name of a secret, and do not show it: it may be the secret itself, misplaced."""
    # It becomes a file's name: no dot in front, so neither .. nor a hidden file.
    if not isinstance(value, str) or not re.fullmatch(
        r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}", value, re.ASCII
    ):
        raise ConfigError("holds what is no name (A-Z a-z 0-9 _ . -, at most 64, no dot in front)")
    return value


_WINDOW = re.compile(r"([0-9]{1,10})/([0-9]{0,6}(?:\.[0-9]{1,3})?)(s|m|h|d)", re.ASCII)
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def windows(value: object) -> tuple[Window, ...]:
    """Check rolling windows, as ``8/s 300/5m``: so many within any second, and any five minutes."""
    text = string(value)
    found = []
    for word in text.split(" "):
        if not (written := _WINDOW.fullmatch(word)):
            raise ConfigError(
                f'{shown(text)} is no limit: COUNT/TIME, as "5/s", "6000/m" or "8/s 300/5m"'
            )
        count, seconds = int(written[1]), float(written[2] or 1) * _UNIT_S[written[3]]
        if not 1 <= count < 1 << 31:
            raise ConfigError(f"{shown(word)}: the count is not in [1, {(1 << 31) - 1}]")
        if not 0 < seconds <= 86_400:
            raise ConfigError(f"{shown(word)}: the time is not in (0, 1 day]")
        found.append(Window(count, seconds))
    return tuple(found)


def windows_text(values: Iterable[Window]) -> str:
    """Return windows as ``windows`` reads them."""
    return " ".join(f"{each.count}/{_time_text(each.seconds)}" for each in values)


def _time_text(seconds: float) -> str:
    for unit in "dhm":
        if seconds % _UNIT_S[unit] == 0:
            break
    else:
        unit = "s"
    number = f"{seconds / _UNIT_S[unit]:.3f}".rstrip("0").rstrip(".")
    return unit if number == "1" else f"{number}{unit}"


def one_of(words: Collection[str]) -> Callable[[object], str]:
    """Make a check for one of some words."""

    def check(value: object) -> str:
        text = string(value)
        if text not in words:
            hint = did_you_mean(text, words) or f"; there are {', '.join(words)}"
            raise ConfigError(f"{shown(text)} is unknown{hint}")
        return text

    return check


def channel(venue: str, has: Collection[str]) -> Callable[[object], str]:
    """Make a check for a channel that a venue has."""

    def check(value: object) -> str:
        text = string(value)
        if text in CHANNELS and text not in has:
            raise ConfigError(f"{venue} has no channel {shown(text)}; it has {', '.join(has)}")
        return one_of(has)(text)

    return check


def list_of(check: Callable[[object], T], *, least: int = 0) -> Callable[[object], tuple[T, ...]]:
    """Make a check for an array of at least so many values, each checked, each kept once."""

    def check_all(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise ConfigError("must be an array")  # unshown: it may be a secret
        wrong: list[tuple[int, str]] = []
        kept: list[T] = []
        for index, each in enumerate(value):
            try:
                kept.append(check(each))
            except ConfigError as error:
                wrong.append((index, str(error)))
        if wrong:
            raise WrongItems(wrong)
        if len(value) < least:
            raise ConfigError("is empty")
        return tuple(dict.fromkeys(kept))

    return check_all


def cores(value: object) -> tuple[int, ...]:
    """Check that it is an array of distinct cores which this process may run on."""
    numbers = list_of(core, least=1)(value)
    if isinstance(value, list) and len(numbers) < len(value):
        raise ConfigError("names a core twice")
    _check_there(numbers)
    return numbers


def cores_by_name(value: object) -> dict[str, int]:
    """Check that it is a table of readers' names, each with a core of its own that exists."""
    problems: list[str] = []
    found: dict[str, int] = {}
    owners: dict[int, str] = {}
    for name, number in table(value).items():
        try:
            reader_name(name)
        except ConfigError as error:
            problems.append(str(error))
            continue
        try:
            found[name] = present_core(number)
        except ConfigError as error:
            problems.append(f"{name}: {error}")
            continue
        if (owner := owners.setdefault(number, name)) != name:
            problems.append(f"{name}: core {number} is {owner}'s")
    if problems:
        raise ConfigError(*problems)
    return found


def present_core(value: object) -> int:
    """Check that it is a core of this host; who may run there its own process finds out."""
    number, present = core(value), present_cores()
    if present and number not in present:
        raise ConfigError(f"this host has no core {number}; it has {set_text(present)}")
    return number


def _check_there(numbers: Iterable[int]) -> None:
    there = allowed_cores()  # not the affinity, which lacks isolated cores
    if missing := [number for number in numbers if number not in there]:
        raise ConfigError(f"this process has no core {missing}; it has {set_text(there)}")


def ring_size(value: object) -> int:
    """Check a ring's size in bytes, which may bear a unit: a power of 2 in [4 KiB, 16 GiB]."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        written = re.fullmatch(r"([0-9]{1,12}) ?(|KiB|MiB|GiB)", string(value))
        if not written:
            raise ConfigError(f'{shown(value)} is not a size: bytes, or as "2 MiB"')
        size = int(written[1]) << {"": 0, "KiB": 10, "MiB": 20, "GiB": 30}[written[2]]
    if not RING_SIZE_BYTES_MIN <= size <= RING_SIZE_BYTES_MAX:
        raise ConfigError(f"{size} bytes are not in [4 KiB, 16 GiB]")
    if size & (size - 1):
        below = 1 << size.bit_length() - 1
        near = f"{size_text(below)} or {size_text(2 * below)}"
        raise ConfigError(f"{shown(value)} is no power of 2; near it are {near}")
    return size


def size_text(size: int) -> str:
    """Return a size in its largest whole unit: ``2 MiB``."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size and size % (1 << shift) == 0:
            return f"{size >> shift} {unit}"
    return str(size)


def folder(value: object) -> Path:
    """Check that it is an absolute path."""
    path = Path(string(value))
    if not path.is_absolute():
        raise ConfigError(f"{shown(value)} is no absolute path")
    return path


def existing_folder(value: object) -> Path:
    """Check that it is the absolute path of a directory of this host."""
    path = folder(value)
    if not path.is_dir():
        raise ConfigError(f"{shown(value)} is no directory on this host")
    return path


def host_port(value: object) -> str:
    """Check an address to listen on, HOST:PORT."""
    text = string(value)
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not re.fullmatch(r"\[[0-9a-fA-F:.]+\]" if bracketed else r"[A-Za-z0-9_.-]+", host):
        raise ConfigError(f"{shown(text)} is not HOST:PORT, as 127.0.0.1:9464 or [::1]:9464")
    _check_port(text, port)
    return text


def _check_port(text: str, port: str) -> None:
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65_535:
        raise ConfigError(f"{shown(text)} has no port in [1, 65535]")


def url(*schemes: str) -> Callable[[object], str]:
    """Make a check for a URL of one of some schemes, with a host and without secrets in front."""
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)

    def check(value: object) -> str:
        text = string(value)
        masked = masked_url(text)
        place = shown(masked)
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ConfigError(f"{place} holds what no URL may hold")
        try:
            parts = urlsplit(text)
            host = parts.hostname
        except ValueError as error:
            raise ConfigError(f"{place}: {error}") from None
        if parts.scheme not in schemes:
            raise ConfigError(f"{place} does not begin with {wanted}")
        if not host:
            raise ConfigError(f"{place} names no host")
        if parts.username is not None:
            raise ConfigError(f"{place} holds a user name: secrets belong under credentials")
        if parts.fragment:
            raise ConfigError(f"{place} has a fragment (#...), which is never sent")
        after_host = parts.netloc[parts.netloc.rfind("]") + 1 :]
        if ":" in after_host:
            _check_port(masked, after_host.rpartition(":")[2])
        return text

    return check


def local_rest(url: str | None) -> str | None:
    """Return where REST goes by default beside a ``url`` of this very host: to the same port.

    A stand-in for the venue is asked for everything: nothing of a test goes to the venue itself.
    """
    if url is None:
        return None
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost" or host.endswith(".localhost")
    if not local:
        return None
    return urlunsplit(("https" if parts.scheme == "wss" else "http", parts.netloc, "", "", ""))


def masked_url(text: str) -> str:
    """Return a URL fit to be shown: no user, no password, no value of any parameter."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return "***"
    netloc = parts.netloc.rpartition("@")[2]
    if "@" in parts.netloc:
        netloc = f"***@{netloc}"
    names = [quote(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    query = "&".join(f"{name}=***" for name in names)
    return urlunsplit(parts._replace(netloc=netloc, query=query))


def symbol_of(venue: str, spelled: Callable[[str], str]) -> Callable[[object], str]:
    """Make a check for a symbol in a venue's own writing, into which ``spelled`` brings any.

    A venue confirms a subscription to what it does not have; the symbol would stay silent.
    """
    prefix = venue.upper() or "VENUE"

    def check(value: object) -> str:
        native = string(value)
        try:
            Symbol.parse(f"{prefix}:{native}")
        except UsageError as error:
            raise ConfigError(str(error)) from None
        check_spelling(venue, native, spelled)
        return native

    return check


def check_spelling(venue: str, native: str, spelled: Callable[[str], str]) -> None:
    """Check that half a name is in a venue's own writing.

    Raises:
        ConfigError: It is not; the words say how the venue writes it.
    """
    if (right := spelled(native)) != native:
        hint = f"; did you mean {right}?" if right else ""
        raise ConfigError(f"{shown(native)} is not how {venue} writes a symbol{hint}")


def symbols_file(
    folder: Path, symbol: Callable[[object], str]
) -> Callable[[object], tuple[str, tuple[str, ...]]]:
    """Make a check for a file of symbols, one a line; empty lines and # lines do not count.

    It returns the file's name as it was given, and its symbols, each once.
    """

    def check(value: object) -> tuple[str, tuple[str, ...]]:
        name = string(value)
        path = folder / name
        problems: list[str] = []
        symbols: list[str] = []
        for number, line in enumerate(read_text(path).split("\n"), 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            try:
                symbols.append(symbol(text))
            except ConfigError as error:
                problems.append(f"{path}:{number}: {error}")
        if len(problems) > BAD_VALUES_SHOWN_MAX:
            more_count = len(problems) - BAD_VALUES_SHOWN_MAX
            problems[BAD_VALUES_SHOWN_MAX:] = [f"and {more_count} more lines are wrong"]
        if problems:
            raise ConfigError(*problems)
        return name, tuple(dict.fromkeys(symbols))

    return check


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        ConfigError: It is not there, no text, or far too large.
        NoPermission: It may not be read.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_SIZE_BYTES_MAX + 1)
        if len(raw) > FILE_SIZE_BYTES_MAX:
            raise ConfigError(f"{path}: larger than {size_text(FILE_SIZE_BYTES_MAX)}")
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except PermissionError as error:
        raise NoPermission(f"{path}: {error.strerror}: run as a user who may read it") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no text in UTF-8"
        raise ConfigError(f"{path}: {why}") from None
