"""Tries what a user should not be able to: one attempt after the other, each told by its errno.

Run as another user, ``python tests/intruder.py < attempts``, a JSON array of ``[verb, argument]``,
it prints an array of what came of each: a name of errno, or "done". Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

PTRACE_ATTACH, PTRACE_DETACH, PIDFD_GETFD = 16, 17, 438
DONE = "done"

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def opened(path: str, flags: int) -> Iterator[int]:
    """Hold a file open."""
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def read(path: str) -> None:
    """Read a file."""
    with opened(path, os.O_RDONLY) as fd:
        os.read(fd, 1)


def write(path: str) -> None:
    """Open a file to write it."""
    with opened(path, os.O_RDWR):
        pass


def append(path: str) -> None:
    """Open a file to write at its end."""
    with opened(path, os.O_WRONLY | os.O_APPEND):
        pass


def map_to_write(path: str) -> None:
    """Map what can be read so that it could be written."""
    with opened(path, os.O_RDONLY) as fd:
        mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE).close()


def protect_to_write(path: str) -> None:
    """Map it to be read, and have the mapping made writable."""
    _libc.mmap.restype = ctypes.c_void_p
    _libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    with opened(path, os.O_RDONLY) as fd:
        at = _libc.mmap(None, ctypes.c_size_t(4096), 1, 1, fd, ctypes.c_long(0))
        _checked(_libc.mprotect(at, 4096, 3))


def reopen_to_write(path: str) -> None:
    """Open it to be read, and that descriptor's file once more, to be written."""
    with opened(path, os.O_RDONLY) as fd:
        write(f"/proc/self/fd/{fd}")


def resize(path: str) -> None:
    """Cut a file."""
    os.truncate(path, 0)


def resize_open(path: str) -> None:
    """Cut a file that is open to be read."""
    with opened(path, os.O_RDONLY) as fd:
        os.ftruncate(fd, 0)


def rename(path: str) -> None:
    """Give a file another name."""
    Path(path).rename(f"{path}.taken")


def make(path: str) -> None:
    """Make a file."""
    with opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL):
        pass


def connect(path: str) -> None:
    """Connect to a socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(path)
        client.sendall(b'{"op":"readers"}\n')
        if b'"ok":true' not in client.recv(1 << 16).replace(b" ", b""):
            raise PermissionError(errno.EPERM, "answered, and refused")


def trace(pid: str) -> None:
    """Attach to a process as a debugger does."""
    _libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    _checked(_libc.ptrace(PTRACE_ATTACH, int(pid), None, None))
    os.waitpid(int(pid), 0)
    _libc.ptrace(PTRACE_DETACH, int(pid), None, None)


def peek(pid: str) -> None:
    """Read a process's memory by process_vm_readv."""
    local = (ctypes.c_size_t * 2)(ctypes.addressof(ctypes.create_string_buffer(8)), 8)
    remote = (ctypes.c_size_t * 2)(0x400000, 8)
    _checked(_libc.process_vm_readv(int(pid), local, 1, remote, 1, 0))


def take_fd(pid: str) -> None:
    """Take a process's descriptor 0 by pidfd_getfd."""
    pidfd = os.pidfd_open(int(pid))
    try:
        os.close(_checked(_libc.syscall(PIDFD_GETFD, pidfd, 0, 0)))
    finally:
        os.close(pidfd)


def alert(pid: str) -> None:
    """Send a process a signal, one that it would not mind."""
    os.kill(int(pid), signal.SIGURG)


def move(pid: str) -> None:
    """Move a process to another core."""
    os.sched_setaffinity(int(pid), os.sched_getaffinity(0))


def allow_core(pid: str) -> None:
    """Have a process dump its memory when it crashes."""
    _, most = resource.prlimit(int(pid), resource.RLIMIT_CORE)
    resource.prlimit(int(pid), resource.RLIMIT_CORE, (most or 1 << 20, most or 1 << 20))


def _checked(result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


VERBS: Mapping[str, Callable[[str], Any]] = {
    **{each.__name__: each for each in (read, write, append, map_to_write, protect_to_write)},
    **{each.__name__: each for each in (reopen_to_write, resize, resize_open, rename, make)},
    **{each.__name__: each for each in (connect, trace, peek, take_fd, alert, move, allow_core)},
    "list": os.listdir,
    "unlink": os.unlink,
    "open_up": lambda path: Path(path).chmod(0o666),
    "take_over": lambda path: os.chown(path, os.getuid(), -1),
    "touch": os.utime,
}


def attempt(verb: str, argument: str) -> str:
    """Try; return what came of it."""
    try:
        VERBS[verb](argument)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return DONE


if __name__ == "__main__":
    json.dump([attempt(verb, argument) for verb, argument in json.load(sys.stdin)], sys.stdout)
