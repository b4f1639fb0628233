"""What a program hands to the daemon that it starts: mdsys.daemon.system is the other side.

Three descriptors are inherited, and by nobody further down. The first is told on the command line
and holds the rest; neither the configuration nor a secret is ever there, in the environment or in a
file that has a name.

    handover      memfd   what to run, who runs it, the numbers of the other two
    credentials   memfd   name -> fields; written anew before a reload
    answer        pipe    one line from us: that we are up, or why we are not
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from mdsys import errors
from mdsys.config import Config
from mdsys.config_file import load, parse
from mdsys.errors import ConfigError, HostError, MdsysError

READ_SIZE: Final = 1 << 20
Given = Mapping[str, Mapping[str, Any]]
"""Credentials: name -> fields."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What the daemon is told."""

    parent_pid: int
    credentials_fd: int
    answer_fd: int
    file: str | None
    """The configuration's; None: it is in ``tables``."""
    tables: Mapping[str, Any]
    folder: str
    """Where relative file names in ``tables`` start."""

    def read_config(self) -> Config:
        """Read the configuration; its venues may be without symbols, which come later.

        Raises:
            ConfigError: It is wrong.
            NoPermission: The file may not be read.
        """
        if self.file is not None:
            return load(Path(self.file), symbols_later=True)
        return parse(self.tables, folder=Path(self.folder), symbols_later=True)


# ---- the program's side -------------------------------------------------------------------------


def to_memfd(name: str, value: object, fd: int = -1) -> int:
    """Write a value as JSON into an anonymous file, of ours alone; return its descriptor.

    Args:
        name: Of a new one.
        value: What JSON can hold.
        fd: One that is written anew; -1: none.
    """
    data = json.dumps(value).encode()
    if fd < 0:
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.ftruncate(fd, 0)  # a reader in between finds nothing, and keeps what it has
    written = 0
    while written < len(data):
        written += os.pwrite(fd, data[written:], written)
    return fd


def offer(handover: Handover) -> int:
    """Return a descriptor that the daemon reads a handover from.

    Raises:
        ConfigError: The tables hold what no TOML file could.
    """
    try:
        return to_memfd("mdsys-handover", asdict(handover))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config: {error}") from None


def error_of(answer: bytes) -> MdsysError | None:
    """Return what the daemon answered as the error that it is; None: it is up.

    Raises:
        ValueError: It has not answered.
    """
    told = json.loads(answer)
    kind = getattr(errors, str(told["error"]), HostError) if told["error"] else None
    if kind is None:
        return None
    return kind(*told["words"]) if issubclass(kind, MdsysError) else HostError(*told["words"])


# ---- the daemon's side --------------------------------------------------------------------------


def take(fd: int) -> Handover:
    """Read what we were handed, and see to it that nobody inherits it from us.

    Raises:
        HostError: It is no handover: nobody but a program of ours says --handover.
    """
    try:
        _keep(fd)
        handover = Handover(**_read(fd))
        for inherited in (handover.credentials_fd, handover.answer_fd):
            _keep(inherited)
        os.close(fd)
    except (OSError, ValueError, TypeError) as error:
        raise HostError(f"--handover {fd}: {error}") from None
    return handover


def _keep(fd: int) -> None:
    os.set_inheritable(fd, False)  # noqa: FBT003 - no keyword is taken


def _read(fd: int) -> Any:
    data = b""
    while piece := os.pread(fd, READ_SIZE, len(data)):
        data += piece
    return json.loads(data)


def given_by(fd: int) -> Callable[[], Given]:
    """Return what reads the credentials; while they are being written they are those before."""
    last: Given = {}

    def read() -> Given:
        nonlocal last
        with contextlib.suppress(ValueError):
            last = _read(fd)
        return last

    return read


def answer(fd: int, error: MdsysError | None = None) -> None:
    """Tell the program that we are up, or why we are not; the first word counts."""
    words: list[str] = []
    if error is not None:
        words = list(error.problems) if isinstance(error, ConfigError) else [str(error)]
    told = {"error": type(error).__name__ if error else None, "words": words}
    with contextlib.suppress(OSError):  # it may be gone, which the watch below notices
        os.write(fd, json.dumps(told).encode() + b"\n")
    os.close(fd)


def stop_with(parent_pid: int, stop: Callable[[], object]) -> None:
    """Call ``stop`` in the running loop when the program that started us ends, however it does.

    Its end, and not that of the thread that started us, as PR_SET_PDEATHSIG would have it.

    Raises:
        HostError: It has ended already.
    """
    try:
        pidfd = os.pidfd_open(parent_pid)
    except OSError as error:
        raise HostError(f"process {parent_pid} cannot be watched: {error.strerror}") from None
    if os.getppid() != parent_pid:  # looked at while we hold it: the number was its own until now
        os.close(pidfd)
        raise HostError(f"the program that started us, process {parent_pid}, is gone")
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        stop()

    loop.add_reader(pidfd, ended)
