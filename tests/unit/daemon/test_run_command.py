from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mdsys.config import Config
from mdsys.daemon import run_command
from mdsys.daemon.run_command import LineFormatter
from mdsys.errors import ConfigError


class IdleSupervisor:
    """Stands for the daemon."""

    def __init__(self, config: Config, reread: Callable[[], Config]) -> None:
        assert reread() == config

    async def run(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        (
            '[metrics]\nlisten = "127.0.0.1:9464"\n[consumer]\nmax_queue_size = 99\n',
            ["not used by this version: metrics.listen"],
        ),
    ],
)
def test_keys_that_this_version_does_not_use_are_logged_on_one_line(
    text: str,
    lines: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(run_command, "Supervisor", IdleSupervisor)
    monkeypatch.setattr(run_command, "set_up_log", lambda: None)
    path = tmp_path / "c.toml"
    path.write_text(f'{text}[[venue]]\nname = "binance"\nsymbols = ["BTCUSDT"]\n')
    assert run_command.main(argparse.Namespace(config=path, handover=None)) == 0
    assert [each.getMessage() for each in caplog.records] == lines


@pytest.mark.parametrize(
    ("unit", "said"), [("eu", 78), ("default", None), ("", None), (None, None)]
)
def test_a_unit_runs_the_instance_of_its_name_only(
    unit: str | None, said: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_command, "Supervisor", IdleSupervisor)
    monkeypatch.setattr(run_command, "set_up_log", lambda: None)
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


@pytest.fixture
def formatter() -> LineFormatter:
    return LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


def record(text: str) -> logging.LogRecord:
    made = logging.LogRecord("mdsys.feed.0", logging.WARNING, "", 0, "%s", (text,), None)
    made.created, made.msecs = 1_700_000_000.123, 123
    return made


def test_line_has_utc_time_level_and_name(formatter: LineFormatter) -> None:
    expected = "2023-11-14T22:13:20.123Z WARNING mdsys.feed.0: up: é"
    assert formatter.format(record("up: é")) == expected


@pytest.mark.parametrize(
    "hostile", ["\n2023 INFO forged", "\r", "\x1b[31m", "\u2028", "\u202e", "\0"]
)
def test_what_a_venue_says_cannot_forge_a_line_or_drive_a_terminal(
    formatter: LineFormatter, hostile: str
) -> None:
    line = formatter.format(record(f"says {hostile}"))
    assert line.isprintable()
    assert len(line.splitlines()) == 1


def test_traceback_keeps_its_lines(formatter: LineFormatter) -> None:
    made = record("failed")
    try:
        int("a fault")
    except ValueError:
        made.exc_info = sys.exc_info()
    lines = formatter.format(made).splitlines()
    assert lines[-1].startswith("ValueError: ")
    assert len(lines) > 2
