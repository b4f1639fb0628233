from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mdsys.config import Config
from mdsys.config_file import load
from mdsys.daemon import handover, run_command
from mdsys.daemon.notify import Notifier
from mdsys.errors import ConfigError

PATIENCE_S = 30.0


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


class IdleSupervisor:
    """Stands for the daemon."""

    def __init__(self, config: Config, reread: Callable[[], Config], *, notifier: Notifier) -> None:
        os.kill(
            os.getpid(), signal.SIGHUP
        )  # somebody is early with a reload: nobody must die of it
        assert reread() == config
        assert not notifier.heard

    async def run(self) -> int:
        return 0


@pytest.mark.parametrize("lines", [(), ("feeds.num_processes: 2, not the profile's 8: ...", "x")])
def test_figures_that_were_capped_are_logged_a_line_each(
    lines: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(run_command, "Supervisor", IdleSupervisor)
    monkeypatch.setattr(run_command, "set_up_log", lambda _: None)
    monkeypatch.setattr(run_command, "load", lambda path: replace(load(path), capped=lines))
    caplog.set_level(logging.INFO)
    path = tmp_path / "c.toml"
    path.write_text('[[venue]]\nname = "binance"\nsymbols = ["BTCUSDT"]\n')
    assert run_command.main(argparse.Namespace(config=path, handover=None)) == 0
    assert [each.getMessage() for each in caplog.records] == list(lines)


@pytest.mark.parametrize(
    ("unit", "said"), [("eu", 78), ("default", None), ("", None), (None, None)]
)
def test_a_unit_runs_the_instance_of_its_name_only(
    unit: str | None, said: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_command, "Supervisor", IdleSupervisor)
    monkeypatch.setattr(run_command, "set_up_log", lambda _: None)
    monkeypatch.delenv(run_command.UNIT_INSTANCE, raising=False)
    if unit is not None:
        monkeypatch.setenv(run_command.UNIT_INSTANCE, unit)
    path = tmp_path / "eu.toml"
    path.write_text('[[venue]]\nname = "binance"\nsymbols = ["BTCUSDT"]\n')
    arguments = argparse.Namespace(config=path, handover=None)
    if said is None:
        assert run_command.main(arguments) == 0
        return
    with pytest.raises(ConfigError) as refused:
        run_command.main(arguments)
    assert refused.value.exit_code == said
    assert str(refused.value).startswith(f'{path}: instance: "default", but mdsys@eu.service')


def test_neither_a_daemon_nor_its_children_speak_for_the_program_that_starts_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "@nobody")
    monkeypatch.setattr(handover, "take", lambda fd: fd)
    monkeypatch.setattr(
        run_command, "run_handed", lambda fd: fd + len(os.environ.get("NOTIFY_SOCKET", ""))
    )
    assert run_command.main(argparse.Namespace(config=None, handover=5)) == 5


STUCK = """
import asyncio, os, sys, threading
from mdsys.daemon.run_command import _run

class Supervisor:
    async def run(self):
        asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
        return 3

def main():
    code = asyncio.run(_run(Supervisor))
    print("unreachable")
    sys.exit(code)

main()
"""


def test_the_end_does_not_wait_for_a_thread_that_hangs() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert (ended.returncode, ended.stdout) == (3, b""), ended.stderr


class SlowlyMade:
    """Stands for a daemon that is stopped while its segments and symbols are being made."""

    def __init__(self, number: int) -> None:
        os.kill(os.getpid(), number)
        self.made = True

    async def run(self) -> int:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in run_command.STOPPING:
            loop.add_signal_handler(number, stopped.set)
        async with asyncio.timeout(PATIENCE_S):
            await stopped.wait()
        return 0 if self.made else 1


@pytest.mark.parametrize("number", run_command.STOPPING)
def test_stop_while_the_daemon_is_being_made_waits_for_its_handler(number: int) -> None:
    before = [signal.getsignal(each) for each in run_command.STOPPING]
    try:
        # What nobody waits for would end the tests: SIG_DFL of SIGTERM, KeyboardInterrupt.
        make: Any = lambda: SlowlyMade(number)  # noqa: E731
        assert asyncio.run(run_command._run(make)) == 0
    finally:
        for each, handler in zip(run_command.STOPPING, before, strict=True):
            signal.signal(each, handler)
