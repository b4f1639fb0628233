"""An instance's segments as its configuration asks for them: their shape, and who may read."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence

from mdsys.config import Config
from mdsys.errors import ConfigError, NoPermission
from mdsys.host.memory import numa_node_of
from mdsys.ring.rights import group_id, group_name, user_name
from mdsys.ring.segment import ROOT_DIR, Geometry, Instance, open_instance

DEFAULT_GROUP = "mdsys"
"""Reads the instance where the configuration names no group and there is one of this name."""

log = logging.getLogger("mdsys.daemon")


def open_segments(config: Config, before: Callable[[], object]) -> Instance:
    """Take the instance over, or make it; the caller is its supervisor.

    Args:
        config: What it shall be.
        before: As of ``open_instance``: what else can fail, and needs no segments.

    Raises:
        InstanceInUse: It runs already.
        NoPermission: Segments, lock or group are not ours.
        HostError: No room, or no such directory.
        ConfigError: There is no such group.
    """
    geometry = _geometry_of(config)
    return open_instance(
        config.instance,
        geometry,
        group=_usable_group(config.group),
        pid=os.getpid(),
        now_ns=time.time_ns(),
        ring_nodes=_ring_nodes(geometry, config.feeds.cores),
        before=before,
    )


def rings_of_feeds(geometry: Geometry) -> Mapping[int, Sequence[int]]:
    """Return the rings of each feed."""
    rings: dict[int, list[int]] = {feed: [] for feed in range(geometry.feed_count)}
    for ring in range(geometry.ring_count):
        rings[geometry.feed_of(ring)].append(ring)
    return rings


def _geometry_of(config: Config) -> Geometry:
    """Return the segments' shape that a configuration asks for."""
    return Geometry(
        ring_count=config.rings.num_buffers,
        depth=config.rings.buffer_size // 64,
        max_symbols=config.rings.max_symbols,
        feed_count=config.feeds.num_processes,
        dir=config.memory.dir or ROOT_DIR,
    )


def _ring_nodes(geometry: Geometry, cores: Sequence[int]) -> Mapping[int, int]:
    """Return the memory node of each ring's feed; none where the host has but one."""
    if not cores:
        return {}
    nodes = {
        ring: numa_node_of(cores[geometry.feed_of(ring)]) for ring in range(geometry.ring_count)
    }
    return {ring: node for ring, node in nodes.items() if node is not None}


def _usable_group(name: str | None) -> str | None:
    """Return the group that shall read, None for our own.

    One that the configuration names must be had, or the start fails; the default one need not.
    """
    if name is not None:
        return name
    try:
        group_id(DEFAULT_GROUP)
    except (ConfigError, NoPermission) as error:
        log.warning(
            "only %s and the group %s can read the instance: %s",
            user_name(os.geteuid()),
            group_name(os.getegid()),
            error,
        )
        return None
    return DEFAULT_GROUP
