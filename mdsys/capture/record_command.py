"""``mdsys record``: writes what the venues send, frame by frame, into files."""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path
from typing import Final

from mdsys.capture.recorder import FILE_SIZE, Recorder
from mdsys.errors import ExitCode, HostError
from mdsys.progress import Progress
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
    shown = Progress("mdsys record")
    recorder = Recorder(
        arguments.instance,
        arguments.out,
        file_size=max(arguments.file_mib, 1) << 20,
        say=shown.say,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: recorder.stop())
    done = threading.Event()
    period_s = PROGRESS_S if shown.is_terminal else PROGRESS_QUIET_S

    def progress() -> None:
        while not done.wait(period_s):
            shown.tell(recorder.progress())

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
    shown.say(recorder.progress())
    return ExitCode.OK
