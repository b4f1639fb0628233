"""``mdsys run``: the daemon in the foreground, logging to stderr."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from pathlib import Path

from mdsys.config import Config, load
from mdsys.daemon import handover
from mdsys.daemon.supervisor import Supervisor
from mdsys.errors import MdsysError

log = logging.getLogger("mdsys.daemon")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, metavar="FILE", help="the configuration, in TOML")
    source.add_argument("--handover", type=int, help=argparse.SUPPRESS)


def main(arguments: argparse.Namespace) -> int:
    """Run until a signal."""
    set_up_log()
    if arguments.handover is not None:
        return run_handed(handover.take(arguments.handover))
    config = load(arguments.config)
    _note_not_used(config)

    async def run() -> int:
        return await Supervisor(config, lambda: load(arguments.config)).run()

    return asyncio.run(run())


def run_handed(handed: handover.Handover) -> int:
    """Run for a program, to whom we answer for our start; end with it."""
    told = False

    def tell(error: MdsysError | None = None) -> None:
        nonlocal told
        if not told:
            told = True
            handover.answer(handed.answer_fd, error)

    async def run() -> int:
        config = handed.read_config()
        _note_not_used(config)
        given = handover.given_by(handed.credentials_fd)
        handover.stop_with(handed.parent_pid, lambda: supervisor.stop())  # noqa: PLW0108 - later
        supervisor = Supervisor(config, handed.read_config, given)
        supervisor.on_started = tell
        return await supervisor.run()

    try:
        return asyncio.run(run())
    except MdsysError as error:
        tell(error)
        raise


def _note_not_used(config: Config) -> None:
    if config.not_used:
        log.warning("not used by this version: %s", ", ".join(config.not_used))


class LineFormatter(logging.Formatter):
    """One line a record, whatever it quotes: a venue's words may hold anything."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, control characters escaped; a traceback keeps its line breaks."""
        return "".join(
            c if c.isprintable() or (c == "\n" and record.exc_info) else repr(c)[1:-1]
            for c in super().format(record)
        )


def set_up_log() -> None:
    """Log to stderr, times in UTC."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
