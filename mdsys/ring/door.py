"""The way into an instance: its symbol directory, the door, and whether one may come in just now.

A start publishes the door last of all segments; who replaces or removes them marks the door first.
So what cannot be attached is told apart here, and here alone: not there; not there yet, or no
more; of another make.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mdsys import _native
from mdsys.errors import LayoutError, NotRunning
from mdsys.ring.segment import ROOT_DIR, SUPERSEDED, instances, map_file, segment_path

MAGIC_SIZE: Final = 8
"""Bytes that every segment begins with (native/include/mdsys/segment.h)."""


def open_door(instance: str) -> _native.Symbols:
    """Map an instance's symbol directory.

    Raises:
        NotRunning: There is none, or it is being made or removed at this moment.
        NoPermission: This user may not read it.
        LayoutError: It is another version's, or no segment at all.
    """
    path = segment_path(ROOT_DIR, instance, "symbols")
    try:
        with contextlib.suppress(LayoutError):
            return _native.Symbols(map_file(path))
        if _half_made(path):
            raise _starting(instance)
        return _native.Symbols(map_file(path))  # it may have become whole between the two looks
    except FileNotFoundError as error:
        raise _not_there(instance) from error
    except LayoutError as error:
        raise LayoutError(f"instance {instance!r}: {error}") from error


@contextlib.contextmanager
def behind_door(instance: str, door: _native.Symbols) -> Iterator[None]:
    """Map the other segments within: all of it is of one life, the door's, or refused.

    Never the old symbols with the new rings: what was mapped before the door was marked is of its
    life, and it is looked at once more at the end.

    Raises:
        NotRunning: One is not there, or they were replaced or removed meanwhile.
        LayoutError: One is another version's, or does not fit the others.
    """
    try:
        yield
    except (FileNotFoundError, LayoutError) as error:
        if is_superseded(door):
            raise _starting(instance) from error
        if isinstance(error, FileNotFoundError):
            raise _not_there(instance) from error
        raise LayoutError(f"instance {instance!r}: {error}") from error
    if is_superseded(door):
        raise _starting(instance)


def is_superseded(door: _native.Symbols) -> bool:
    """Return whether the segments behind a door were replaced or removed: nothing more will come.

    Asked of the door and of no other segment: who removes them may die before the rings are marked.
    """
    return door.state == SUPERSEDED


def _half_made(path: Path) -> bool:
    """Return whether a file, which cannot be attached, is a segment that is being made or removed.

    Its magic comes last and goes first.
    """
    try:
        memory = map_file(path)
    except LayoutError:  # too short, or nothing that could be a segment
        status = path.lstat()
        return stat.S_ISREG(status.st_mode) and status.st_size == 0
    return not any(memory[:MAGIC_SIZE])


def _starting(instance: str) -> NotRunning:
    return NotRunning(
        f"instance {instance!r} is starting: try again; if its start was killed, start it with "
        "mdsys run --config FILE"
    )


def _not_there(instance: str) -> NotRunning:
    """Return the error for who finds no segments, naming the instances that have some."""
    there = ", ".join(instances()) or "none"
    return NotRunning(
        f"instance {instance!r} is not there (found: {there}); start it with "
        "mdsys run --config FILE"
    )
