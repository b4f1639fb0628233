"""``mdsys record``: writes what the venues send, frame by frame, into files."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path
from typing import Final

from mdsys.capture.recorder import FILE_SIZE, Recorder
from mdsys.errors import ExitCode, HostError
from mdsys.ring.instance_argument import add_instance_argument

PROGRESS_S: Final = 1.0
PROGRESS_QUIET_S: Final = 60.0
"""Where nobody looks: into a log."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to")
    add_instance_argument(parser)
    parser.add_argument(
        "--file-mib",
        type=int,
        default=FILE_SIZE >> 20,
        metavar="N",
        help="size of a file after which the next begins (default %(default)s)",
    )


def main(arguments: argparse.Namespace) -> int:
    """Record until Ctrl-C or SIGTERM.

    Raises:
        NotRunning: No daemon of this instance can be reached.
        NoPermission: It does not let this user in.
        HostError: It refuses, or the disk is full.
    """
    shown = _Shown()
    recorder = Recorder(
        arguments.instance,
        arguments.out,
        file_size=max(arguments.file_mib, 1) << 20,
        say=shown.line,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: recorder.stop())
    done = threading.Event()
    period_s = PROGRESS_S if shown.is_terminal else PROGRESS_QUIET_S

    def progress() -> None:
        while not done.wait(period_s):
            shown.progress(recorder.progress())

    watcher = threading.Thread(target=progress, daemon=True)
    watcher.start()
    try:
        recorder.run()
    except OSError as error:
        raise HostError(
            f"{error.filename or arguments.out}: {error.strerror}: stopped; what is written is "
            f"readable ({recorder.progress()})"
        ) from error
    finally:
        done.set()
        watcher.join()
    shown.line(recorder.progress())
    return ExitCode.OK


class _Shown:
    """Standard error: lines, and on a terminal one more that changes."""

    def __init__(self) -> None:
        self.is_terminal = sys.stderr.isatty()

    def line(self, text: str) -> None:
        print(f"{self._erase()}mdsys record: {text}", file=sys.stderr, flush=True)

    def progress(self, text: str) -> None:
        end = "" if self.is_terminal else "\n"
        print(f"{self._erase()}mdsys record: {text}", end=end, file=sys.stderr, flush=True)

    def _erase(self) -> str:
        return "\r\x1b[K" if self.is_terminal else ""
