"""``mdsys run``: the daemon in the foreground, logging to stderr."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from pathlib import Path

from mdsys.config import load
from mdsys.daemon.supervisor import Supervisor

log = logging.getLogger("mdsys.daemon")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "--config", required=True, type=Path, metavar="FILE", help="the configuration, in TOML"
    )


def main(arguments: argparse.Namespace) -> int:
    """Run until a signal."""
    set_up_log()
    config = load(arguments.config)
    if config.not_used:
        log.warning("not used by this version: %s", ", ".join(config.not_used))

    async def run() -> int:
        return await Supervisor(config).run()

    return asyncio.run(run())


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
