"""``mdsys top``: an instance in a terminal, live, dead or alive."""

from __future__ import annotations

import argparse
import gc
import sys

from mdsys.errors import ExitCode, UsageError
from mdsys.ring.instance_argument import add_instance_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_instance_argument(parser)


def main(arguments: argparse.Namespace) -> int:
    """Show it until q or Ctrl-C.

    Raises:
        UsageError: There is no terminal.
        NotRunning: The instance has no segments.
        NoPermission: This user may not read them.
        LayoutError: They belong to another version of mdsys.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("top needs a terminal; for a file or a program: mdsys stat --json")
    from mdsys.top.watching import Watching

    watching = Watching(arguments.instance)  # refused here, before the screen is taken
    from mdsys.top.app import Top

    gc.collect()
    gc.freeze()  # what is there now stays: the collector need not walk through it every minute
    try:
        Top(watching).run()
    finally:
        watching.close()
    return ExitCode.OK
