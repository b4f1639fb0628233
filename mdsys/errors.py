"""Every error that mdsys raises on purpose, grouped by what the caller does next.

Each class carries the exit code that the command line ends with. A message names the place and,
where there is one, the remedy; the command line prints it as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, ClassVar


class ExitCode(IntEnum):
    """What ``mdsys`` ends with; the numbers above 2 are those of sysexits(3)."""

    OK = 0
    FAILURE = 1
    WARNINGS = 2  # doctor only
    USAGE = 64
    UNAVAILABLE = 69
    IN_USE = 75
    NO_PERMISSION = 77
    CONFIG = 78


class MdsysError(Exception):
    """Whatever mdsys refuses or finds broken."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILURE


class UsageError(MdsysError):
    """The command line asks for what there is not: ask otherwise."""

    exit_code = ExitCode.USAGE


class ConfigError(MdsysError):
    """The configuration is wrong: refuse to start."""

    exit_code = ExitCode.CONFIG

    def __init__(self, *problems: str) -> None:
        """Take every problem found, one line each: people mend a file once, not key by key."""
        super().__init__("\n".join(problems))
        self.problems: Sequence[str] = problems


class HostError(MdsysError):
    """The machine is not prepared; the message holds the command to run."""


class NoPermission(HostError):
    """The operating system forbids it: other rights or another user are needed."""

    exit_code = ExitCode.NO_PERMISSION


class InstanceInUse(HostError):
    """Another daemon runs under this instance name: stop it or choose another name."""

    exit_code = ExitCode.IN_USE


class NotRunning(MdsysError):
    """No instance of this name is there: start it."""

    exit_code = ExitCode.UNAVAILABLE


class LayoutError(MdsysError):
    """A segment has another magic, version or size than this build: upgrade one of the two."""


class FeedError(MdsysError):
    """Something about a venue's stream."""


class ProtocolError(FeedError):
    """The venue broke its contract: skip what it sent, and count it."""


class RingError(MdsysError):
    """Something about a ring."""


class WriterGone(RingError):
    """The writer stopped or died; what it published can still be read."""

    exit_code = ExitCode.UNAVAILABLE


class HandlerError(MdsysError):
    """A consumer's handler failed; what it raised is the cause, where that is known."""

    def __init__(self, message: str, handler: object, ticks: Any) -> None:
        """Take what tells which call failed."""
        super().__init__(message)
        self.handler = handler
        self.ticks = ticks
        """A copy of what the handler was called with: one record, or a batch."""

    @property
    def tick(self) -> Any:
        """The record at which it failed, a copy; of a batch, which is handled as one, the first."""
        return self.ticks[0]
