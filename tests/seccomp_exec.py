"""Run a program under system call filters as systemd would load them; standard library only.

    python seccomp_exec.py FILTERS PROGRAM [ARGUMENT]...

FILTERS is JSON: {"allowed": [system call...], "families": [number...], "deny_write_execute": bool}.
The caller has set no_new_privs. tests/sandbox.py says where the lists come from.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import sys

ALLOW = 0x7FFF0000  # seccomp.h of libseccomp: SCMP_ACT_ALLOW
EQUAL, MASKED_EQUAL, GREATER = 4, 7, 6  # enum scmp_compare
SHM_EXEC = 0o100000


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


class Filter:
    """One filter; what several say of a call, the strictest decides."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2")
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))

    def rule(self, action: int, call: str, *comparisons: Comparison) -> None:
        """Add a rule; a call that this kernel's library does not know is left out."""
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:  # unknown, or of another architecture
            return
        array = (Comparison * max(1, len(comparisons)))(*comparisons)
        failed = self._library.seccomp_rule_add_array(
            *(self._context, ctypes.c_uint32(action), number, len(comparisons), array)
        )
        assert not failed, (call, failed)

    def load(self) -> None:
        """Put it in force, for ever."""
        failed = self._library.seccomp_load(self._context)
        assert not failed, failed


def refuse(number: int) -> int:
    """Return SCMP_ACT_ERRNO."""
    return 0x00050000 | number


def main() -> None:
    """Load all filters, the list of allowed calls last, and become the program."""
    filters = json.loads(sys.argv[1])
    families = sorted(filters["families"])
    socket = Filter(ALLOW)
    for family in range(families[-1]):
        if family not in families:
            socket.rule(refuse(errno.EAFNOSUPPORT), "socket", Comparison(0, EQUAL, family))
    socket.rule(refuse(errno.EAFNOSUPPORT), "socket", Comparison(0, GREATER, families[-1]))
    socket.load()
    if filters["deny_write_execute"]:
        both, execute = mmap.PROT_WRITE | mmap.PROT_EXEC, mmap.PROT_EXEC
        memory = Filter(ALLOW)
        memory.rule(refuse(errno.EPERM), "mmap", Comparison(2, MASKED_EQUAL, both, both))
        for call in ("mprotect", "pkey_mprotect"):
            memory.rule(refuse(errno.EPERM), call, Comparison(2, MASKED_EQUAL, execute, execute))
        memory.rule(refuse(errno.EPERM), "shmat", Comparison(2, MASKED_EQUAL, SHM_EXEC, SHM_EXEC))
        memory.load()
    namespaces = Filter(
        ALLOW
    )  # RestrictNamespaces=: its flags cannot be looked at, so clone is used
    namespaces.rule(refuse(errno.ENOSYS), "clone3")
    namespaces.load()
    calls = Filter(refuse(errno.EPERM))
    for call in filters["allowed"]:
        calls.rule(ALLOW, call)
    calls.load()
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
