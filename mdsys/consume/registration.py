"""A reader's entry in the daemon's registry, and the page that it alone may write.

Registered, a reader is seen by `mdsys stat`, woken by the writers' doorbell, and waited for where
it is lossless. The entry lasts as long as this process and the connection do. Standard library
only; docs/control-socket.md has the requests, for other languages.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mdsys.errors import HostError
from mdsys.ring.control_socket import TIMEOUT_S, NoDaemon, Question, connect


@dataclass(slots=True)
class Registration:
    """What keeps a reader registered. Made by `register`."""

    reader: int
    """Its number, which no other reader of the instance has had or will have."""
    core: int | None
    """Where it shall run: as it asked, else as the daemon's configuration says."""
    core_users: Sequence[str]
    """Who else runs on that core."""
    memory: mmap.mmap
    """Its page, struct md_reader_page, writable."""
    connection: socket.socket
    _pid: int = field(default_factory=os.getpid)

    def alive(self) -> bool:
        """Return whether the daemon still holds the entry; never waits."""
        try:
            return self.connection.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:  # reset, or closed by us
            return False

    def close(self) -> None:
        """Leave the registry. The page stays mapped for who still counts in it."""
        if self._pid == os.getpid():  # a forked child must not end its parent's entry
            with contextlib.suppress(OSError):  # the daemon was first
                # And not close alone: a child may hold the connection open.
                self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()


class Application:
    """A registration that has been asked for. Arguments as of `register`.

    Raises:
        NoDaemon: There is none to talk to.
        NoPermission: This user may not talk to it.
    """

    def __init__(
        self,
        instance: str,
        writer_pid: int,
        name: str,
        policy: str,
        wait: str,
        rings: Sequence[int],
        core: int | None = None,
    ) -> None:
        request: dict[str, Any] = {
            "op": "register",
            "name": name,
            "policy": policy,
            "wait": wait,
            "rings": list(rings),
            "core": core,
        }
        self._connection = connect(instance, writer_pid)
        try:
            self._question = Question(self._connection, request, fd_count=1)
        except BaseException:
            self._connection.close()
            raise

    def granted(self, timeout_s: float) -> Registration | None:
        """Return the registration.

        Args:
            timeout_s: How long to wait for it; 0 does not wait.

        Returns:
            None: the daemon has not answered yet. Ask again, or `withdraw`.

        Raises:
            NoDaemon: It ended before it answered.
            HostError: It refuses; the message says why.
        """
        try:
            answer = self._question.answer(timeout_s)
            if answer is None:
                return None
            said, fds = answer
            memory = _map(fds)
            self._connection.settimeout(0)  # from here on nobody waits for it
            return Registration(
                said["reader"], said["core"], said["core_users"], memory, self._connection
            )
        except BaseException:
            self._connection.close()
            raise

    def withdraw(self) -> None:
        """Have it forgotten, by the daemon too."""
        self._question.forget()
        self._connection.close()


def register(
    instance: str,
    writer_pid: int,
    name: str,
    policy: str,
    wait: str,
    rings: Sequence[int],
    core: int | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
) -> Registration | None:
    """Register a reader with the daemon of an instance, and wait until it is done.

    Args:
        instance: Its name.
        writer_pid: Who writes its symbol directory: only this process is believed.
        name: For people, [A-Za-z0-9._-]{1,31}; need not be unique.
        policy: drop_oldest, conflate or lossless.
        wait: adaptive, spin or park.
        rings: The numbers of those it reads, at least one.
        core: Where it means to run; None: wherever the daemon's configuration says.
        timeout_s: How long the daemon may take.

    Returns:
        The registration; None when there is no daemon to talk to.

    Raises:
        HostError: The daemon refuses, or does not answer; the message says why.
        NoPermission: This user may not talk to it.
    """
    try:
        application = Application(instance, writer_pid, name, policy, wait, rings, core)
        registration = application.granted(timeout_s)
    except NoDaemon:
        return None
    if registration is None:
        application.withdraw()
        raise HostError(f"the daemon did not answer in {timeout_s:g} s")
    return registration


def _map(fds: Sequence[int]) -> mmap.mmap:
    """Map the page that came with the answer, and close its descriptor."""
    try:
        if len(fds) != 1:
            raise HostError("the daemon's answer came without a page")
        return mmap.mmap(fds[0], os.fstat(fds[0]).st_size)
    finally:
        for fd in fds:
            os.close(fd)
