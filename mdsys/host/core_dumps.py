"""Keeps a process's memory, and the secrets in it, out of core dumps."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path
from typing import Final

_FILTER: Final = Path("/proc/self/coredump_filter")


def forbid_core_dumps() -> None:
    """Have no crash of this process, or of one it starts from now on, write down its memory.

    The limit holds where dumps are files, and only root can raise it again. Where the kernel pipes
    them to a program it does not look at the limit (core(5)): there the filter leaves nothing of
    the memory in them. Both are inherited by fork and kept over exec.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # a kernel without CONFIG_ELF_CORE writes no dumps at all
        _FILTER.write_text("0")
