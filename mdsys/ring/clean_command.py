"""``mdsys clean``: remove the segments of an instance that nobody runs any more."""

from __future__ import annotations

import argparse
import os

from mdsys.ring.instance_argument import add_instance_argument
from mdsys.ring.lock import Lock
from mdsys.ring.segment import find_segments, remove_segments

BLOCK_SIZE = 512
"""Bytes that st_blocks counts in, whatever the file system; stat(2)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``mdsys clean``."""
    add_instance_argument(parser)


def main(args: argparse.Namespace) -> int:
    """Remove what is there; readers that are still attached are told, and keep what they map.

    Root removes what a dead daemon of any user left: that is asked for by name here, and nobody
    else could. The lock file goes too: the next start makes its own.

    Raises:
        InstanceInUse: A daemon runs under this name.
        NoPermission: The segments belong to another user.
    """
    name: str = args.instance
    lock = Lock.take(name)
    try:
        paths = find_segments(name)
        sizes = {path: path.lstat().st_blocks * BLOCK_SIZE for path in paths}
        removed = remove_segments(name, foreign=os.geteuid() == 0)
    finally:
        lock.remove()
    if not removed:
        print(f"instance {name!r} has no segments: nothing to remove")
        return 0
    for path in removed:
        print(f"removed {path} ({sizes[path] / 1024:,.0f} KiB)")
    total = sum(sizes[path] for path in removed)
    print(f"instance {name!r}: {len(removed)} segments, {total / 2**20:,.1f} MiB freed")
    return 0
