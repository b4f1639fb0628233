"""``mdsys run``: the daemon in the foreground, for people, for systemd and for a program."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from mdsys.config import Config
from mdsys.config_file import load
from mdsys.daemon import handover
from mdsys.daemon.journal import set_up_log
from mdsys.daemon.notify import Notifier
from mdsys.daemon.supervisor import Supervisor
from mdsys.errors import ConfigError, MdsysError, UsageError
from mdsys.host.core_dumps import forbid_core_dumps

UNIT_INSTANCE: Final = "MDSYS_UNIT_INSTANCE"
"""Set by systemd/mdsys@.service: NAME of mdsys@NAME."""
STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
THREADS_S: Final = 0.1
"""How long the end waits for threads: one may hang on a name server for half a minute."""

log = logging.getLogger("mdsys.daemon")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--config", type=Path, metavar="FILE", help="the configuration, in TOML")
    source.add_argument("--handover", type=int, help=argparse.SUPPRESS)


def main(arguments: argparse.Namespace) -> int:
    """Run until a signal."""
    forbid_core_dumps()  # before there is a secret to be in one
    # Until the supervisor listens, it reads what a reload would read anew.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    notifier = Notifier.from_environment(os.environ)
    if arguments.handover is not None:  # the manager knows the program, not us
        return run_handed(handover.take(arguments.handover))
    if arguments.config is None:
        raise UsageError("the following arguments are required: --config; see mdsys run --help")
    config = load(arguments.config)
    check_unit_instance(config, arguments.config, os.environ.get(UNIT_INSTANCE))
    set_up_log(config.instance)
    _note_capped(config)

    def make() -> Supervisor:
        return Supervisor(config, lambda: load(arguments.config), notifier=notifier)

    return asyncio.run(_run(make))


async def _run(make: Callable[[], Supervisor]) -> int:
    """Run a supervisor, and leave no thread that would hold up our end."""
    threads = ThreadPoolExecutor(thread_name_prefix="mdsys")
    loop = asyncio.get_running_loop()
    loop.set_default_executor(threads)
    for number in STOPPING:
        # What comes while the supervisor is being made waits until the loop turns: for its handler.
        loop.add_signal_handler(number, _wait)
    code = await make().run()
    end = threading.Thread(target=threads.shutdown, daemon=True)
    end.start()
    end.join(THREADS_S)
    if end.is_alive():  # all is done and marked: what it would bring nobody wants any more
        logging.shutdown()
        os._exit(code)
    return code


def _wait() -> None:
    """Take the signal's usual deed away from it; never called."""


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

    def make() -> Supervisor:
        config = handed.read_config()
        set_up_log(config.instance)
        _note_capped(config)
        given = handover.given_by(handed.credentials_fd)
        handover.stop_with(handed.parent_pid, lambda: supervisor.stop())  # noqa: PLW0108 - later
        supervisor = Supervisor(config, handed.read_config, given)
        supervisor.on_started = tell
        return supervisor

    try:
        return asyncio.run(_run(make))
    except MdsysError as error:
        tell(error)
        raise


def _note_capped(config: Config) -> None:
    for line in config.capped:
        log.info("%s", line)
