"""What a configuration asks of the host: cores, memory, files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mdsys import _native
from mdsys.config import PROFILES, Config

RECORD_SIZE: Final = 64
FILES_SPARE: Final = 256
"""Descriptors of a process besides its sockets and segments: libraries, logs, readers' pages."""
DEFAULT_SYMBOLS_MAX: Final = 65_536


@dataclass(frozen=True, slots=True)
class Needs:
    """What one instance needs."""

    instance: str
    group: str
    """Whose members may read."""
    cores: Mapping[int, str]
    """Core -> who is pinned to it: ``feed 0``, ``reader momentum``."""
    memory_dir: Path | None
    """Where the segments lie; None: /dev/shm."""
    segments: Mapping[str, int]
    """Each segment but the symbol directory -> bytes."""
    directory_bytes: int
    """Of the symbol directory, which is always in /dev/shm."""
    files: int
    """Descriptors that one process may come to hold."""


def needs_of(config: Config) -> Needs:
    """Return what a configuration asks of its host."""
    who = {core: f"reader {name}" for name, core in config.consumer.cores.items()}
    feeds = config.feeds.cores[: config.feeds.num_processes]
    who.update((core, f"feed {index}") for index, core in enumerate(feeds))
    return _needs(
        config.instance,
        config.group or "mdsys",
        who,
        config.memory.dir,
        rings=(config.rings.num_buffers, config.rings.buffer_size),
        symbols_max=config.rings.max_symbols,
        feeds=config.feeds.num_processes,
        sockets=sum(
            -(-len(venue.symbols) // max(1, venue.max_symbols_per_connection))
            for venue in config.venues
        ),
    )


def default_needs() -> Needs:
    """Return what a host is asked for where no configuration is given: the least one's."""
    profile = PROFILES["latency"]
    return _needs(
        "default",
        "mdsys",
        {},
        None,
        rings=(profile.num_buffers, profile.buffer_size),
        symbols_max=DEFAULT_SYMBOLS_MAX,
        feeds=profile.num_processes,
        sockets=1,
    )


def _needs(
    instance: str,
    group: str,
    who: Mapping[int, str],
    memory_dir: Path | None,
    *,
    rings: tuple[int, int],
    symbols_max: int,
    feeds: int,
    sockets: int,
) -> Needs:
    ring_count, ring_bytes = rings
    segments = {
        "cache": _native.cache_size(symbols_max),
        "counters": _native.counters_size(feeds),
        **{f"ring.{i}": _native.ring_size(ring_bytes // RECORD_SIZE) for i in range(ring_count)},
    }
    return Needs(
        instance,
        group,
        who,
        memory_dir,
        segments,
        _native.symbols_size(symbols_max),
        # A planned close has two sockets for one; a segment is open while it is mapped.
        files=2 * sockets + len(segments) + 4 * feeds + FILES_SPARE,
    )
