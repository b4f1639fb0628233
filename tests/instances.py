"""Instances of their own for tests, which leave nothing behind."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mdsys import TICK, Flag, Kind, _native
from mdsys.errors import InstanceInUse
from mdsys.record.record import Ticks
from mdsys.ring.lock import Lock, run_dir, start_ticks
from mdsys.ring.segment import (
    ROOT_DIR,
    Geometry,
    Instance,
    map_file,
    open_instance,
    remove_segments,
    segment_path,
)

NOW = 1_700_000_000_000_000_000
"""A time, ns since the epoch: no test looks at a clock."""

_numbers = itertools.count()


def new_name() -> str:
    """Return an instance name that nobody else uses."""
    return f"test-{os.getpid()}-{next(_numbers)}"


def geometry(
    *,
    rings: int = 1,
    depth: int = 64,
    max_symbols: int = 64,
    feeds: int = 1,
    directory: Path = ROOT_DIR,
) -> Geometry:
    """Return a small geometry."""
    return Geometry(rings, depth, max_symbols, feeds, directory)


def start(name: str, shape: Geometry, *, group: str | None = None) -> Instance:
    """Open an instance as the supervisor of this process."""
    return open_instance(name, shape, group=group, pid=os.getpid(), now_ns=NOW)


@contextlib.contextmanager
def cleaned(name: str, *directories: Path) -> Iterator[str]:
    """Remove whatever an instance leaves, lock file included, when the test is done."""
    try:
        yield name
    finally:
        with contextlib.suppress(InstanceInUse):  # by ourselves, when a test has failed
            Lock.take(name).remove()  # waits for the feeds of a daemon that was killed
        remove_segments(name, *directories)
        for suffix in ("lock", "limits", "limits.new"):
            (run_dir() / f"{name}.{suffix}").unlink(missing_ok=True)


@contextlib.contextmanager
def running(shape: Geometry | None = None, symbols: int = 0) -> Iterator[Instance]:
    """Give a running instance; symbols are BINANCE:S1, BINANCE:S2 ..., dealt out to the rings."""
    shape = shape or geometry()
    with cleaned(new_name(), shape.dir) as name:
        instance = start(name, shape)
        for i in range(symbols):
            instance.symbols.add(f"BINANCE:S{i + 1}".encode(), i % shape.ring_count, 8, 8)
        try:
            yield instance
        finally:
            instance.lock.release()


def writer(instance: Instance, ring: int = 0) -> _native.RingWriter:
    """Become the writer of one ring."""
    path = segment_path(instance.geometry.dir, instance.name, f"ring.{ring}")
    pid = os.getpid()
    return _native.RingWriter(map_file(path, writable=True), pid, start_ticks(pid), NOW)


def trades(count: int, *, symbol_id: int = 1, first: int = 0) -> Ticks:
    """Return ``count`` trades whose every field tells which one it is."""
    ticks = np.zeros(count, TICK)
    number = np.arange(first, first + count)
    ticks["ts_event"], ticks["ts_recv"] = number * 3 + 1, number * 5 + 2
    ticks["symbol_id"], ticks["kind"], ticks["flags"] = symbol_id, Kind.TRADE, 8
    ticks["price_scale"], ticks["size_scale"] = 8, 8
    ticks["price"], ticks["size"] = number * 7 + 3, number * 11 + 4
    ticks["trade_id"], ticks["conditions"] = number, number * 13 + 5
    return ticks


def plain(tick: np.void | Ticks) -> bytes:
    """Return a record as the feed wrote it, whether it came by the ring or by a refresh."""
    copy = tick.copy()
    copy["flags"] &= ~np.uint8(Flag.SNAPSHOT)
    return copy.tobytes()
