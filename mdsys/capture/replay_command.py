"""``mdsys replay``: an instance of its own out of a capture."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path
from typing import Final

from mdsys.capture.foreign import DIALECTS
from mdsys.capture.replay import Replay
from mdsys.capture.source import open_source
from mdsys.config_checks import instance_name
from mdsys.errors import ConfigError, ExitCode
from mdsys.progress import Progress

PROGRESS_S: Final = 1.0
PROGRESS_QUIET_S: Final = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("capture", type=Path, metavar="DIR|FILE", help="what mdsys record wrote")
    parser.add_argument(
        "--instance",
        type=checked_instance,
        required=True,
        metavar="I",
        help="the name to run under",
    )
    parser.add_argument(
        "--speed", type=_speed, default=1.0, metavar="X|max", help="times the recorded pace"
    )
    parser.add_argument(
        "--readers", type=int, default=0, metavar="N", help="wait for so many readers first"
    )
    parser.add_argument(
        "--venue", choices=sorted(DIALECTS), help="whose frames another's recording holds"
    )


def checked_instance(text: str) -> str:
    """Return an instance's name, if it can be one."""
    try:
        return instance_name(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0, or max")
    return speed


def main(arguments: argparse.Namespace) -> int:
    """Replay until the end or Ctrl-C.

    Raises:
        InstanceInUse: The instance runs.
        CaptureError: It is no capture, or damaged.
        HostError: There is no room.
    """
    shown = Progress("mdsys replay")
    with shown.during(f"reading {arguments.capture}"):
        source = open_source(arguments.capture, arguments.venue)

    async def run() -> str:
        replay = Replay(
            source, arguments.instance, speed=arguments.speed, reader_count=arguments.readers
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, replay.stop)
        showing = asyncio.create_task(_show(replay, shown))
        try:
            summary = await replay.run(shown.say)
        finally:
            showing.cancel()
        return summary.words()

    shown.say(asyncio.run(run()))
    return ExitCode.OK


async def _show(replay: Replay, shown: Progress) -> None:
    while True:
        await asyncio.sleep(PROGRESS_S if shown.is_terminal else PROGRESS_QUIET_S)
        shown.tell(replay.summary.words())
