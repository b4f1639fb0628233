"""``mdsys clean``: remove the segments of an instance that nobody runs any more."""

from __future__ import annotations

import argparse

from mdsys.ring.instance_argument import add_instance_argument
from mdsys.ring.segment import Lock, find_segments, remove_segments

BLOCK_SIZE = 512
"""Bytes that st_blocks counts in, whatever the file system; stat(2)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``mdsys clean``."""
    add_instance_argument(parser)


def main(args: argparse.Namespace) -> int:
    """Remove what is there; readers that are still attached are told, and keep what they map.

    Raises:
        InstanceInUse: A daemon runs under this name.
        NoPermission: The segments or the lock belong to another user.
    """
    name: str = args.instance
    if not find_segments(name):
        print(f"instance {name!r} has no segments: nothing to remove")
        return 0
    lock = Lock.take(name)
    try:
        # Under the lock: who held it until now may have made or removed some.
        sizes = {path: path.stat().st_blocks * BLOCK_SIZE for path in find_segments(name)}
        removed = remove_segments(name)
    finally:
        lock.release()
    for path in removed:
        print(f"removed {path} ({sizes[path] / 1024:,.0f} KiB)")
    total = sum(sizes[path] for path in removed)
    print(f"instance {name!r}: {len(removed)} segments, {total / 2**20:,.1f} MiB freed")
    return 0
