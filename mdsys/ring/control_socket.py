"""Where an instance's control socket lies, and how to talk to it; docs/control-socket.md.

One JSON object a line, either way. Standard library only: strategies register by it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
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
"""How long a client waits for an answer, and the daemon for a client to take it."""
_CREDENTIALS: Final = struct.Struct("iII")  # struct ucred, unix(7)


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


def connect(instance: str, writer_pid: int) -> socket.socket:
    """Connect to the daemon of an instance.

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
        connection.settimeout(TIMEOUT_S)
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
    connection: socket.socket, request: dict[str, Any], *, fd_count: int = 0
) -> tuple[dict[str, Any], list[int]]:
    """Send one request and return its answer, and the descriptors that came with it.

    Raises:
        NoDaemon: It ended before it answered.
        HostError: It refused, or did not answer in time; the message says why.
    """
    fds: list[int] = []
    try:
        line = _exchange(connection, json.dumps(request).encode() + b"\n", fds, fd_count)
        return _checked(line), fds
    except BaseException as error:
        for fd in fds:
            os.close(fd)
        if isinstance(error, TimeoutError):
            raise HostError(f"the daemon did not answer in {TIMEOUT_S:.0f} s") from error
        if isinstance(error, OSError):
            raise NoDaemon(f"the daemon is gone: {error}") from error
        raise


def _exchange(connection: socket.socket, line: bytes, fds: list[int], fd_count: int) -> bytes:
    """Send a line and return the one that comes back; descriptors go into ``fds`` at once."""
    connection.sendall(line)
    data = b""
    while not data.endswith(b"\n"):
        if fd_count and not data:
            piece, came, _ = receive_fds(connection, PIECE_SIZE, fd_count)
            fds += came
        else:
            piece = connection.recv(PIECE_SIZE)
        if not piece:
            raise NoDaemon("the daemon ended before it answered")
        data += piece
        if len(data) > ANSWER_SIZE_MAX:
            raise HostError("the daemon's answer has no end")
    return data


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
