"""The ``mdsys`` command: finds the sub-command, runs it, turns errors into a line and a code.

Each sub-command is a module beside its stage with ``add_arguments(parser)`` and
``main(args) -> int``. Only the one that was asked for is imported: ``mdsys tap`` needs nothing
but NumPy, also where the daemon's requirements are not installed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import NoReturn

from mdsys import __version__
from mdsys.config_checks import did_you_mean
from mdsys.errors import ConfigError, ExitCode, HostError, MdsysError

PROG = "mdsys"

EXTRAS = {
    "daemon": (
        "aiofastnet",
        "aiohttp",
        "msgspec",
        "picows",
        "prometheus_client",
        "rich",
        "uvloop",
        "websockets",
        "zstandard",
    ),
    "top": ("textual",),
}
"""Extra -> the modules it brings, as in pyproject.toml."""


@dataclass(frozen=True, slots=True)
class Command:
    """One sub-command."""

    module: str
    summary: str
    epilog: str
    extra: str | None
    """The extra of EXTRAS that it needs."""
    interrupt_is_end: bool = False
    """Ctrl-C is the ordinary way to end it, so it exits 0."""
    stops_in_order: bool = False
    """A signal stops it in order, with 0: one that comes while it is being imported, too."""


COMMANDS = {
    "demo": Command(
        "mdsys.demo.command",
        "a simulated venue, the daemon and a consumer in one command",
        "Starts three processes over real sockets and real shared memory, shows a live table,\n"
        "sums up and removes every segment. Without a terminal it prints a line a second.\n\n"
        "  mdsys demo --seconds 10 --json",
        "daemon",
        interrupt_is_end=True,
    ),
    "check": Command(
        "mdsys.check_command",
        "all errors of a config at once, else the effective config",
        "Exits 78 when there are errors. Secrets are masked.\n\n  mdsys check --config mdsys.toml",
        None,
    ),
    "run": Command(
        "mdsys.daemon.run_command",
        "the daemon, in the foreground",
        "Ctrl-C or SIGTERM stops it in order; its segments stay, and the next run goes on in\n"
        "them. Exits 75 when the instance runs already.\n\n"
        "  mdsys run --config mdsys.toml",
        "daemon",
        stops_in_order=True,
    ),
    "clean": Command(
        "mdsys.ring.clean_command",
        "remove a stopped or dead instance's segments",
        "Refuses (75) while the instance runs.\n\n  mdsys clean --instance default",
        None,
    ),
    "sim": Command(
        "mdsys.sim.command",
        "a venue that is not there: a WebSocket server that replays or invents markets",
        "  mdsys sim --venue binance --listen 127.0.0.1:9001 --symbols 100 --rate 50000\n"
        "  mdsys sim --venue binance --listen 127.0.0.1:9001 --replay capture.gz --speed max",
        "daemon",
        interrupt_is_end=True,
    ),
    "tap": Command(
        "mdsys.consume.tap_command",
        "print ticks as they come: tcpdump for market data",
        "  mdsys tap BINANCE:BTCUSDT --kind trade --count 10\n"
        "  mdsys tap 'BINANCE:*' --json | jq .price",
        None,
        interrupt_is_end=True,
    ),
    "record": Command(
        "mdsys.capture.record_command",
        "write what the venues send into files, frame by frame",
        "Ctrl-C ends it. What comes faster than it can be written is counted, and the files say\n"
        "where it is missing; the daemon is never held up. docs/capture.md\n\n"
        "  mdsys record --out captures",
        "daemon",
        interrupt_is_end=True,
    ),
    "replay": Command(
        "mdsys.capture.replay_command",
        "an instance of its own out of a capture, for readers to attach to",
        "Publishes as recorded, or faster; refuses (75) an instance that runs.\n\n"
        "  mdsys replay captures --instance test\n"
        "  mdsys replay captures --instance test --speed max --readers 1",
        "daemon",
        interrupt_is_end=True,
    ),
    "ctl": Command(
        "mdsys.ctl_command",
        "subscribe, unsubscribe, reload, and why a symbol is silent",
        "Asks the running daemon. Exits 1 when it refuses anything, also a single symbol.\n"
        "status counts a stream under each state that it has reached: what ticks is confirmed and\n"
        "requested, too; stat --json counts it once. docs/control-socket.md\n\n"
        "  mdsys ctl status\n"
        "  mdsys ctl status BINANCE:BTCUSDT\n"
        "  mdsys ctl subscribe BINANCE:BTCUSDT BINANCE:ETHUSDT\n"
        "  mdsys ctl reload --json",
        None,
    ),
    "stat": Command(
        "mdsys.daemon.stat_command",
        "counters, latencies and balance, also of a dead daemon",
        "Reads shared memory; who reads it, the running daemon tells. In --json subscriptions\n"
        "counts each stream once, under the state that it is in; ctl status counts it under\n"
        "each that it has reached. docs/counters.md\n\n  mdsys stat --json",
        None,
    ),
    "top": Command(
        "mdsys.top.command",
        "an instance, live: rates, latencies, rings, readers, connections, symbols",
        "Twice a second, from shared memory: also of a dead daemon. ? shows the keys.\n\n"
        "  mdsys top\n"
        "  mdsys top --instance replay",
        "top",
        interrupt_is_end=True,
    ),
    "doctor": Command(
        "mdsys.host.doctor_command",
        "what of this host is wrong for mdsys, why, and what mends it",
        "Exits 2 with warnings, 1 with failures. docs/tuning.md\n\n"
        "  mdsys doctor --config mdsys.toml\n"
        "  mdsys doctor --json | jq '.checks[] | select(.status != \"ok\")'",
        None,
    ),
    "tune": Command(
        "mdsys.host.tune_command",
        "set this host up for mdsys, and take that back",
        "apply asks nothing and remembers what was. docs/tuning.md\n\n"
        "  mdsys tune plan --config mdsys.toml\n"
        "  sudo mdsys tune apply --config mdsys.toml\n"
        "  sudo mdsys tune undo",
        None,
    ),
}


class _Parser(argparse.ArgumentParser):
    """An argparse parser that ends as our other errors do: one line, exit 64."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(ExitCode.USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Args:
        argv: The arguments after the program's name; None: the process's own.
    """
    command = None
    try:
        name, rest = _split(sys.argv[1:] if argv is None else argv)
        command = COMMANDS[name]
        if command.stops_in_order:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, _end_before_the_beginning)
        _require(name, command)
        module = import_module(command.module)
        code: int = module.main(_parse(name, command, module, rest))
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


def _require(name: str, command: Command) -> None:
    """Refuse a command whose extra is not installed, before it has begun anything."""
    wanted = EXTRAS[command.extra] if command.extra else ()
    if missing := [module for module in wanted if find_spec(module) is None]:
        remedy = f"pip install 'mdsys[{command.extra}]'"
        raise HostError(f"{name} needs {', '.join(missing)}: {remedy}")


def _complain(message: str, code: ExitCode) -> ExitCode:
    print(f"{PROG}: {message}", file=sys.stderr)
    return code


def _split(arguments: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return the sub-command's name and the arguments after it."""
    parser = _Parser(
        prog=PROG,
        usage=f"{PROG} COMMAND ...",
        description="Market data from venues' WebSockets into shared memory.",
        epilog="commands:\n"
        + "".join(f"  {name:8}{command.summary}\n" for name, command in COMMANDS.items())
        + f"\n'{PROG} COMMAND --help' tells more; '{PROG} demo' shows all of it at work.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    parser.add_argument("command", metavar="COMMAND", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    if not arguments:
        parser.print_help(sys.stderr)
        raise SystemExit(ExitCode.USAGE)
    chosen = parser.parse_args(arguments)
    name: str = chosen.command
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS) or f"; there are {', '.join(COMMANDS)}"
        parser.error(f"no command {name!r}{hint}")
    return name, chosen.rest


def _parse(
    name: str, command: Command, module: ModuleType, rest: Sequence[str]
) -> argparse.Namespace:
    parser = _Parser(
        prog=f"{PROG} {name}",
        description=f"{command.summary[0].upper()}{command.summary[1:]}.",
        epilog=command.epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    return parser.parse_intermixed_args(rest)  # options may stand among the symbols
