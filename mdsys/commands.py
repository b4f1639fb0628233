"""The sub-commands of ``mdsys``: their table, and what may stand behind each.

Each is a module beside its stage with ``add_arguments(parser)`` and ``main(args) -> int``. Only the
one that was asked for is imported: ``mdsys tap`` needs nothing but NumPy, also where the daemon's
requirements are not installed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from mdsys.errors import ExitCode, HostError

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


class Command(NamedTuple):
    """One sub-command."""

    module: str
    summary: str
    epilog: str
    extra: str | None
    """The extra of EXTRAS that it needs."""
    interrupt_is_end: bool = False
    """Ctrl-C is the ordinary way to end it, so it exits 0."""


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


def run(name: str, rest: Sequence[str]) -> int:
    """Run a sub-command with the arguments that stand behind its name; return its exit code.

    Raises:
        HostError: What it needs is not installed.
    """
    command = COMMANDS[name]
    _require(name, command)
    module = import_module(command.module)
    code: int = module.main(_parse(name, command, module, rest))
    return code


def _require(name: str, command: Command) -> None:
    """Refuse a command whose extra is not installed, before it has begun anything."""
    wanted = EXTRAS[command.extra] if command.extra else ()
    if missing := [module for module in wanted if find_spec(module) is None]:
        remedy = f"pip install 'mdsys[{command.extra}]'"
        raise HostError(f"{name} needs {', '.join(missing)}: {remedy}")


class _Parser(argparse.ArgumentParser):
    """An argparse parser that ends as our other errors do: one line, exit 64."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(ExitCode.USAGE)


class _Version(argparse.Action):
    """Looks for the version when it is asked for: that takes as long as all the rest."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from mdsys import __version__

        print(f"{PROG} {__version__}")
        parser.exit()


def split(arguments: Sequence[str]) -> tuple[str, Sequence[str]]:
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
    parser.add_argument("--version", action=_Version, nargs=0, help="print it and exit")
    parser.add_argument("command", metavar="COMMAND", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    if not arguments:
        parser.print_help(sys.stderr)
        raise SystemExit(ExitCode.USAGE)
    chosen = parser.parse_args(arguments)
    name: str = chosen.command
    if name not in COMMANDS:
        from mdsys.config_checks import did_you_mean

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
