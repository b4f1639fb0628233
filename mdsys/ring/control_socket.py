"""Where an instance's control socket lies, and how to talk to it; docs/control-socket.md.

One JSON object a line, either way. Standard library only: strategies register by it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from pathlib import Path
from typing import Any, Final

from mdsys.descriptors import receive_fds
from mdsys.errors import HostError, NoPermission
from mdsys.ring.lock import run_dirs

REQUEST_SIZE_MAX: Final = 4096
"""Bytes of one request, its line feed not counted."""
ANSWER_SIZE_MAX: Final = 16 << 20
"""More than any answer: 64 readers of 256 rings are some 2 MB."""
PIECE_SIZE: Final = 1 << 16
TIMEOUT_S: Final = 5.0
"""How long a client waits for an answer if it may wait, and the daemon for it to be taken."""
_CREDENTIALS: Final = struct.Struct("iII")  # struct ucred, unix(7)
_SO_PEERGROUPS: Final = 59
"""Of asm-generic/socket.h; Linux 4.13 and later, and no constant of Python's."""
_GROUPS_SIZE_MAX: Final = 1024
"""Bytes, as much as Python's getsockopt takes: 256 groups."""


class NoDaemon(Exception):
    """Nobody is there to talk to."""


def socket_path(run_dir: Path, instance: str) -> Path:
    """Return where the socket lies; the daemon's lock lies beside it."""
    return run_dir / f"{instance}.sock"


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """Return process and user of the other end, by the kernel's word: who connected or listens."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return pid, uid


def groups_of(connection: socket.socket) -> set[int]:
    """Return the groups of the process that connected, by the kernel's word.

    Of one with more than 256 besides its own, that one alone: ``sg GROUP`` makes another its own.
    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, _, gid = _CREDENTIALS.unpack(raw)
    try:
        more = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_SIZE_MAX)
    except OSError:  # ERANGE
        more = b""
    return {gid, *struct.unpack(f"{len(more) // 4}I", more)}


def connect(instance: str, writer_pid: int) -> socket.socket:
    """Connect to the daemon of an instance, which need not take notice: this never waits.

    Args:
        instance: Its name.
        writer_pid: Who writes its symbol directory. A socket in a directory that anybody may make
            (/tmp) is believed only when this process listens.

    Raises:
        NoDaemon: It does not run, or its run directory is not to be seen from here.
        NoPermission: Its socket is there and does not let this user in.
    """
    forbidden: Path | None = None
    for directory in run_dirs():
        path = socket_path(directory, instance)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(0)
        try:
            connection.connect(str(path))
            if peer_of(connection)[0] == writer_pid:
                return connection
        except PermissionError:  # of the socket, or of the way to it: then it is not for us
            forbidden = path if os.path.lexists(path) else forbidden
        except OSError:  # none, or a dead daemon's, or a path that is too long to be a socket's
            pass
        connection.close()
    if forbidden is not None:
        raise NoPermission(
            f"{forbidden}: permission denied: its users must be in the group that reads "
            f"instance {instance!r}; log in again if you were added to it just now"
        )
    raise NoDaemon(f"no daemon of instance {instance!r} can be reached")


def ask(
    connection: socket.socket,
    request: dict[str, Any],
    *,
    fd_count: int = 0,
    timeout_s: float | None = None,
) -> tuple[dict[str, Any], list[int]]:
    """Send one request and return its answer, and the descriptors that came with it.

    Args:
        connection: Of `connect`.
        request: As of `Question`.
        fd_count: As of `Question`.
        timeout_s: How long to wait for the answer; None: TIMEOUT_S.

    Raises:
        NoDaemon: It ended before it answered.
        HostError: It refused, or did not answer in time; the message says why.
    """
    timeout_s = TIMEOUT_S if timeout_s is None else timeout_s
    question = Question(connection, request, fd_count=fd_count)
    answer = question.answer(timeout_s)
    if answer is None:
        question.forget()
        raise HostError(f"the daemon did not answer in {timeout_s:g} s")
    return answer


class Question:
    """A request that has been sent, and as much of its answer as has come.

    Args:
        connection: Not to be used otherwise until the answer is there.
        request: At most REQUEST_SIZE_MAX bytes as JSON: what a socket takes at once.
        fd_count: Most descriptors that may come with the answer.

    Raises:
        NoDaemon: It has ended.
    """

    def __init__(
        self, connection: socket.socket, request: dict[str, Any], *, fd_count: int = 0
    ) -> None:
        self._connection = connection
        self._fd_count = fd_count
        self._fds: list[int] = []
        self._data = b""
        connection.settimeout(0)
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise NoDaemon(f"the daemon is gone: {error}") from error

    def answer(self, timeout_s: float) -> tuple[dict[str, Any], list[int]] | None:
        """Return the answer, and the descriptors that came with it, the caller's to close.

        Args:
            timeout_s: How long to wait for it; 0 does not wait.

        Returns:
            None: it has not come in time. Ask again, or `forget` it.

        Raises:
            NoDaemon: It ended before it answered.
            HostError: It refused; the message says why.
        """
        deadline = time.monotonic() + timeout_s
        try:
            while not self._data.endswith(b"\n"):
                self._connection.settimeout(max(deadline - time.monotonic(), 0))
                self._receive()
            answer = _checked(self._data)
        except (BlockingIOError, TimeoutError):
            return None
        except OSError as error:
            self.forget()
            raise NoDaemon(f"the daemon is gone: {error}") from error
        except BaseException:
            self.forget()
            raise
        fds, self._fds = self._fds, []
        return answer, fds

    def _receive(self) -> None:
        if self._fd_count and not self._data:
            piece, came, _ = receive_fds(self._connection, PIECE_SIZE, self._fd_count)
            self._fds += came
        else:
            piece = self._connection.recv(PIECE_SIZE)
        if not piece:
            raise NoDaemon("the daemon ended before it answered")
        self._data += piece
        if len(self._data) > ANSWER_SIZE_MAX:
            raise HostError("the daemon's answer has no end")

    def forget(self) -> None:
        """Close what has come with the answer so far."""
        while self._fds:
            os.close(self._fds.pop())


def _checked(line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise HostError("the daemon's answer is no JSON") from error
    if not isinstance(answer, dict):
        raise HostError("the daemon's answer is no object")
    if answer.get("ok") is not True:
        raise HostError(f"the daemon refused: {answer.get('error')}")
    return answer


def listen(path: Path, gid: int) -> socket.socket:
    """Return a socket that listens at ``path``, for the owner and the group.

    Whoever holds the instance's lock may call this: what lies there is a dead daemon's.

    Raises:
        HostError: It cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        listener.bind(str(path))
        os.chown(path, -1, gid, follow_symlinks=False)
        path.chmod(0o660)
        listener.listen(128)  # not before: until now nobody could connect, whatever the umask
    except OSError as error:
        listener.close()
        raise HostError(
            f"{path}: {error.strerror or error}: the control socket cannot be made; its path may "
            "have 107 bytes: set XDG_RUNTIME_DIR to a shorter one, or run: "
            "install -d -o $USER /run/mdsys"
        ) from error
    return listener
