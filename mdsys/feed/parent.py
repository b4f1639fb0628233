"""A child process that must not outlive its parent."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

from mdsys.errors import HostError

PR_SET_PDEATHSIG: Final = 1
"""From linux/prctl.h."""

_libc = ctypes.CDLL(None, use_errno=True)  # here, since a forked child should not load libraries


def die_with_parent(parent_pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent dies, however it dies.

    Raises:
        HostError: The parent is dead already.
    """
    _libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before we asked
        raise HostError(f"the parent, process {parent_pid}, is gone")
