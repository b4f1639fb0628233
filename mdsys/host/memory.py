"""Where shared memory lies: on which NUMA node, and whether it may ever leave.

A page that lies on another node costs each access half as much again or more; one that was swapped
out costs milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import re
import resource
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from mdsys.host.cores import read, read_set

MPOL_PREFERRED: Final = 1
"""From linux/mempolicy.h: that node where it has room, else the nearest that has."""
SYS_MBIND: Final[Mapping[str, int]] = {"x86_64": 237, "aarch64": 235}
"""From asm/unistd.h; libc has no name for it."""
MADV_POPULATE_READ: Final = 22
MADV_POPULATE_WRITE: Final = 23
"""From linux/mman.h, since 5.14; Python 3.11 has no names for them."""
NODE_COUNT_MAX: Final = 1_024
"""Most that any Linux is built for (MAX_NUMNODES)."""

_ROOT: Final = Path("/")
_LONG_BITS: Final = 8 * ctypes.sizeof(ctypes.c_ulong)
_libc = ctypes.CDLL(None, use_errno=True)


def numa_node_of(core: int, *, root: Path = _ROOT) -> int | None:
    """Return the memory node of a core; None where there is nothing to choose.

    That is a host with one node, a core that is not there, or one whose node has no memory: the
    kernel knows which is nearest to that.
    """
    nodes = root / "sys/devices/system/node"
    with_memory = read_set(nodes / "has_memory")
    if len(with_memory) < 2:
        return None
    for node in sorted(with_memory):
        if core in read_set(nodes / f"node{node}" / "cpulist"):
            return node
    return None


def address_of(mapping: mmap.mmap) -> int:
    """Return where a mapping begins, also a read-only one; it can be closed as before."""
    import numpy as np  # 0.1 s, which who only asks a daemon does not pay

    data: tuple[int, bool] = np.frombuffer(mapping, np.uint8, 1).__array_interface__["data"]
    return data[0]


def prefer_node(mapping: mmap.mmap, node: int) -> None:
    """Have the pages that a shared file has not got yet come from ``node``, whoever touches them.

    The file remembers it (its inode does, in a tmpfs and in a hugetlbfs), so that it holds for
    allocation by posix_fallocate as well. Pages that are there stay where they are.

    Raises:
        OSError: The kernel refuses: no such node, none that we may use, or no right to choose.
    """
    number = SYS_MBIND.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if not 0 <= node < NODE_COUNT_MAX:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    mask = (ctypes.c_ulong * (NODE_COUNT_MAX // _LONG_BITS))()
    mask[node // _LONG_BITS] = 1 << node % _LONG_BITS
    failed = _libc.syscall(
        ctypes.c_long(number),
        ctypes.c_void_p(address_of(mapping)),
        ctypes.c_ulong(len(mapping)),
        ctypes.c_int(MPOL_PREFERRED),
        mask,
        ctypes.c_ulong(NODE_COUNT_MAX + 1),  # the kernel takes one less than it is told
        ctypes.c_uint(0),
    )
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def node_notice(mappings: Mapping[str, mmap.mmap], core: int, *, root: Path = _ROOT) -> str | None:
    """Return what to say of memory that does not lie on the node of the core that uses it.

    So of rings that were made for another core and adopted, and of a node that was full. Only what
    this process has touched is known to lie anywhere: ask after ``lock``.

    Args:
        mappings: What the user calls it -> the mapping.
        core: On which the thread that uses them runs.
        root: Where /proc and /sys lie.
    """
    node = numa_node_of(core, root=root)
    if node is None:
        return None
    places = _places(root)
    far: list[str] = []
    for name, mapping in mappings.items():
        found = re.findall(r" N(\d+)=(\d+)", places.get(address_of(mapping), ""))
        pages = {int(on): int(count) for on, count in found}
        if 2 * pages.get(node, 0) < sum(pages.values()):
            far.append(name)
    if not far:
        return None
    return (
        f"{', '.join(far)} {'lies' if len(far) == 1 else 'lie'} on another memory node than core "
        f"{core}, whose node is {node}: each access from there takes half as long again or longer; "
        "stop, mdsys clean and start again, or choose a core of the other node"
    )


def lock(mappings: Iterable[mmap.mmap], *, root: Path = _ROOT) -> str | None:
    """Bring all of the mappings in now, and keep them in memory for as long as they are mapped.

    After it no access waits for a page, not even for the entry of one that is there already. Where
    the host forbids the keeping, they are brought in all the same.

    Returns:
        None, or what to say once: how much may be swapped out, and what to do.
    """
    total = refused = reason = 0
    places: Mapping[int, str] | None = None
    for mapping in mappings:
        total += len(mapping)
        address = address_of(mapping)
        if not _libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(len(mapping))):
            continue
        error = ctypes.get_errno()
        _touch(mapping)
        if places is None:
            places = _places(root)
        if " huge" not in places.get(address, ""):  # a hugetlbfs is never swapped out anyway
            refused += len(mapping)
            reason = error
    if not refused:
        return None
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    at_most = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit >> 10} KiB"
    return (
        f"{refused >> 10} of {total >> 10} KiB of shared memory are not locked "
        f"({os.strerror(reason)}; the limit is {at_most}): swapped out, they cost milliseconds at "
        "the next tick; LimitMEMLOCK=infinity in the systemd unit, or ulimit -l unlimited"
    )


def _places(root: Path) -> Mapping[int, str]:
    """Return where each mapping of this process lies: its address -> what numa_maps says of it."""
    lines = (line.partition(" ") for line in read(root / "proc/self/numa_maps").splitlines())
    return {int(address, 16): f" {rest}" for address, _, rest in lines}


def _touch(mapping: mmap.mmap) -> None:
    """Bring pages in as mlock does, to be written if they may be; nothing is changed in them."""
    for advice in (MADV_POPULATE_WRITE, MADV_POPULATE_READ):
        with contextlib.suppress(OSError):  # not writable, or an older kernel
            mapping.madvise(advice)
            return
