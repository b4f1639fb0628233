"""``mdsys run``: the daemon in the foreground, logging to stderr."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
from pathlib import Path
from typing import Final

from mdsys.config import Config, load
from mdsys.daemon import handover
from mdsys.daemon.supervisor import Supervisor
from mdsys.errors import ConfigError, MdsysError

UNIT_INSTANCE: Final = "MDSYS_UNIT_INSTANCE"
"""Set by systemd/mdsys@.service: NAME of mdsys@NAME."""

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
    check_unit_instance(config, arguments.config, os.environ.get(UNIT_INSTANCE))
    _note_not_used(config)

    async def run() -> int:
        return await Supervisor(config, lambda: load(arguments.config)).run()

    return asyncio.run(run())


def check_unit_instance(config: Config, path: Path, unit: str | None) -> None:
    """Refuse a configuration that is not of the unit's name: two units could mean one instance.

    Args:
        config: As it was read.
        path: From where.
        unit: As UNIT_INSTANCE tells; None or empty: no unit of ours has started us.

    Raises:
        ConfigError: They differ.
    """
    if unit and config.instance != unit:
        raise ConfigError(
            f'{path}: instance: "{config.instance}", but mdsys@{unit}.service runs it: write '
            f'instance = "{unit}"'
        )


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
