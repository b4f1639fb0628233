from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mdsys import errors
from mdsys.daemon import handover
from mdsys.daemon.handover import Handover
from mdsys.errors import ConfigError, HostError, InstanceInUse, MdsysError, NoPermission

TABLES = {"venue": [{"name": "binance"}]}


def handed(**keys: Any) -> Handover:
    fields: dict[str, Any] = {
        "parent_pid": os.getpid(),
        "credentials_fd": 0,
        "answer_fd": 1,
        "file": None,
        "tables": TABLES,
        "folder": ".",
    }
    return Handover(**{**fields, **keys})


@pytest.mark.parametrize(
    "error",
    [
        None,
        ConfigError("c: venue: missing", "c: rigns: unknown key"),
        InstanceInUse("instance 'a' is in use by process 7"),
        NoPermission("/dev/shm/mdsys.a.symbols: permission denied"),
        HostError("no room"),
    ],
)
def test_daemon_answers_with_its_own_error_whole(error: MdsysError | None) -> None:
    read_fd, write_fd = os.pipe()
    handover.answer(write_fd, error)
    with os.fdopen(read_fd, "rb") as pipe:
        came = handover.error_of(pipe.read())
    assert type(came) is type(error)
    assert str(came) == str(error)
    if isinstance(error, ConfigError):
        assert isinstance(came, ConfigError)
        assert list(came.problems) == list(error.problems)


def test_an_error_of_another_version_is_still_one() -> None:
    came = handover.error_of(b'{"error": "NewError", "words": ["new words"]}')
    assert type(came) is HostError
    assert str(came) == "new words"


def test_a_daemon_that_has_not_answered_has_not() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        handover.error_of(b"")


def test_answer_to_a_program_that_is_gone_is_nobodys_error() -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    handover.answer(write_fd)


def test_handover_comes_whole_and_is_inherited_no_further() -> None:
    credentials = handover.to_memfd("mdsys-test", {"a": {"key": "s3cret"}})
    read_fd, write_fd = os.pipe()
    try:
        for fd in (credentials, write_fd):
            os.set_inheritable(fd, True)
        offered = handed(credentials_fd=credentials, answer_fd=write_fd)
        fd = handover.offer(offered)
        assert handover.take(fd) == offered
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        assert not os.get_inheritable(credentials)
        assert not os.get_inheritable(write_fd)
        assert handover.given_by(credentials)() == {"a": {"key": "s3cret"}}
    finally:
        for each in (credentials, read_fd, write_fd):
            os.close(each)


def test_a_secret_is_in_no_handover(tmp_path: Path) -> None:
    fd = handover.offer(handed())
    try:
        assert b"s3cret" not in os.pread(fd, 1 << 20, 0)
    finally:
        os.close(fd)


@pytest.mark.parametrize("content", ["", "[]", '{"file": null}', "{"])
def test_what_is_no_handover_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(content)
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(HostError, match=f"--handover {fd}"):
            handover.take(fd)
    finally:
        os.close(fd)
    with pytest.raises(HostError, match="--handover 1234567"):
        handover.take(1_234_567)


def test_tables_that_no_file_could_hold_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"config: .*not JSON serializable"):
        handover.offer(handed(tables={"instance": object()}))


def test_credentials_that_are_being_written_are_those_before() -> None:
    fd = handover.to_memfd("mdsys-test", {"a": {"key": "one"}})
    try:
        given = handover.given_by(fd)
        assert given() == {"a": {"key": "one"}}
        os.ftruncate(fd, 5)
        assert given() == {"a": {"key": "one"}}
        handover.to_memfd("", {"a": {"key": "a longer one"}}, fd)
        assert given() == {"a": {"key": "a longer one"}}
        handover.to_memfd("", {}, fd)
        assert given() == {}
    finally:
        os.close(fd)


def test_venues_of_a_handed_configuration_may_be_without_symbols(tmp_path: Path) -> None:
    assert handed().read_config().venues[0].symbols == ()
    file = tmp_path / "mdsys.toml"
    file.write_text('[[venue]]\nname = "binance"\n')
    assert handed(file=str(file)).read_config().venues[0].symbols == ()
    (tmp_path / "list").write_text("BTCUSDT\n")
    tables = {"venue": [{"name": "binance", "symbols_file": "list"}]}
    config = handed(tables=tables, folder=str(tmp_path)).read_config()
    assert config.venues[0].symbols == ("BTCUSDT",)


def test_we_end_with_the_program_that_started_us() -> None:
    program = (
        "import asyncio, os, sys\n"
        "from mdsys.daemon.handover import stop_with\n"
        "async def run():\n"
        "    over = asyncio.Event()\n"
        "    stop_with(int(sys.argv[1]), over.set)\n"
        "    os.write(1, b'watching')\n"
        "    await over.wait()\n"
        "    os.write(1, b', over')\n"
        "asyncio.run(run())\n"
    )
    # A shell that starts the program, and is killed once that watches it.
    script = '"$0" -c "$1" $$ & read line; exit'
    with subprocess.Popen(
        ["sh", "-c", script, sys.executable, program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as shell:
        assert shell.stdout is not None
        assert shell.stdout.read(8) == b"watching"
        shell.kill()
        assert shell.stdout.read() == b", over"


def test_a_program_that_is_gone_already_is_not_waited_for() -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with pytest.raises(HostError, match=f"process {other.pid}, is gone"):
            asyncio.run(_watch(other.pid))  # it lives, but has not started us
    finally:
        other.communicate()
    with pytest.raises(HostError, match="cannot be watched"):
        asyncio.run(_watch(other.pid))


async def _watch(pid: int) -> None:
    handover.stop_with(pid, lambda: None)


def test_every_error_that_a_start_may_raise_has_a_name_to_travel_by() -> None:
    for kind in (ConfigError, InstanceInUse, NoPermission, HostError):
        assert getattr(errors, kind.__name__) is kind
