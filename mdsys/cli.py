"""The ``mdsys`` command: runs the sub-command, turns errors into a line and a code.

Nothing that takes long is imported before ``main`` is in charge: a signal that comes meanwhile
would end us in Python's manner, with a traceback or with 143.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from mdsys.errors import ConfigError, ExitCode, MdsysError

if TYPE_CHECKING:
    from mdsys.commands import Command

STOPS_IN_ORDER = "run"
"""The sub-command that a signal stops in order, with 0; while it is being imported, too."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Args:
        argv: The arguments after the program's name; None: the process's own.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] == STOPS_IN_ORDER:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end_before_the_beginning)
    command: Command | None = None
    try:
        from mdsys import commands

        name, rest = commands.split(arguments)
        command = commands.COMMANDS[name]
        code = commands.run(name, rest)
        sys.stdout.flush()  # here, where a broken pipe is still caught
    except BrokenPipeError:
        # The reader of the pipe has seen enough (tap | head). Python flushes once more when it
        # exits: give it somewhere to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except KeyboardInterrupt:
        ended = command is not None and command.interrupt_is_end
        return ExitCode.OK if ended else 128 + signal.SIGINT
    except ConfigError as error:
        # As a compiler does it: each line begins with the file, and editors jump to it.
        print(error, file=sys.stderr)
        return error.exit_code
    except MdsysError as error:
        return _complain(str(error), error.exit_code)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        denied = isinstance(error, PermissionError)
        return _complain(
            f"{place}{error.strerror or error}",
            ExitCode.NO_PERMISSION if denied else ExitCode.FAILURE,
        )
    return code


def _end_before_the_beginning(*_: object) -> NoReturn:
    """Nothing has been made that would have to be put in order."""
    os._exit(ExitCode.OK)


def _complain(message: str, code: ExitCode) -> ExitCode:
    print(f"mdsys: {message}", file=sys.stderr)
    return code
