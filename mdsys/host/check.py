"""What a row of the table is made of: a check, what it found, what would mend it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mdsys.errors import HostError
from mdsys.host.host import Host
from mdsys.host.settings import Setting

APPLY: Final = "mdsys tune apply"
"""The fix of what is too long to be shown: files."""
COMMANDS_MAX: Final = 8
"""Most commands of one fix: a host has hundreds of interrupts."""


class Status(StrEnum):
    """How a check ended; the words of ``doctor --json``."""

    OK = "ok"
    SKIPPED = "skipped"
    """This host has not got what is checked, or does not show it to this user."""
    WARNING = "warning"
    """Slower, less even or less safe than it could be."""
    FAILURE = "failure"
    """The daemon would not start, or would lose data."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found on a host."""

    status: Status
    found: str
    fix: str = ""
    """The command that mends it; empty: nothing to mend, or what ``settings`` say mends it."""
    settings: tuple[Setting, ...] = ()
    """What tune keeps so, those that are so already among them."""


def ok(found: str, *settings: Setting) -> Finding:
    """Return that all is well."""
    return Finding(Status.OK, found, settings=settings)


def skipped(found: str) -> Finding:
    """Return that there was nothing to look at."""
    return Finding(Status.SKIPPED, found)


def warning(found: str, fix: str = "", *settings: Setting) -> Finding:
    """Return that it could be better."""
    return Finding(Status.WARNING, found, fix, settings)


def failure(found: str, fix: str) -> Finding:
    """Return that it cannot go on so."""
    return Finding(Status.FAILURE, found, fix)


def by_settings(host: Host, found: str, *settings: Setting) -> Finding:
    """Return that all is well where every setting is so, else a warning."""
    wrong = any(not setting.is_so(host) for setting in settings)
    return Finding(Status.WARNING if wrong else Status.OK, found, settings=settings)


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table."""

    id: str
    title: str
    why: str
    """Why it matters to mdsys, in a sentence."""
    read: Callable[[Host], Finding]


@dataclass(frozen=True, slots=True)
class Result:
    """A check and what it found."""

    check: Check
    finding: Finding
    fix: str
    """As in the finding, or what the settings come to; empty when there is nothing to do."""


def examine(host: Host, checks: tuple[Check, ...]) -> list[Result]:
    """Look at everything. What a check cannot make sense of is its finding, never an end."""
    return [examine_one(host, check) for check in checks]


def examine_one(host: Host, check: Check) -> Result:
    """Look at one thing."""
    try:
        finding = check.read(host)
        wrong = [setting for setting in finding.settings if not setting.is_so(host)]
    except (OSError, ValueError, LookupError, HostError) as error:
        # A file of /proc that vanished, words that no kernel we know has, a link for a file.
        return Result(check, skipped(f"cannot be read: {error}"), "")
    fix = finding.fix
    if not fix and finding.status is not Status.OK:
        fix = "\n".join(setting.target.shell(setting.wanted) for setting in wrong)
        if len(wrong) > COMMANDS_MAX:
            fix = f"{APPLY}  # {len(wrong)} settings; mdsys tune plan shows each"
    return Result(check, finding, fix)
