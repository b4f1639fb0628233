"""Looks at an instance that lives, stops, dies, comes back, and is replaced."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from mdsys.errors import LayoutError, NotRunning
from mdsys.ring.segment import ROOT_DIR, Instance, remove_segments, segment_path
from mdsys.top.source import Source
from tests.instances import cleaned, geometry, new_name, running, start, trades, writer


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(rings=2, feeds=2), symbols=3) as made:
        yield made


def test_look_tells_what_the_segments_hold(instance: Instance) -> None:
    published = writer(instance, 1)
    published.publish_records(trades(5).tobytes())
    published.flush(time.time_ns())
    look = Source(instance.name).look()
    assert look.running
    assert look.pid == os.getpid()
    assert look.age_s is not None
    assert look.age_s > 0
    assert [ring.values["head"] for ring in look.rings] == [0, 5]
    assert [ring.values["symbols"] for ring in look.rings] == [2, 1]
    assert [feed.labels["feed"] for feed in look.feeds] == ["0", "1"]
    assert look.hops["recv_to_ring"].count == 0


def test_absent_instance_is_not_running() -> None:
    with pytest.raises(NotRunning, match="not there"):
        Source("test-top-never-there")


def test_cache_that_is_smaller_than_the_directory_is_refused(instance: Instance) -> None:
    with running(geometry(max_symbols=32)) as other:
        small = segment_path(ROOT_DIR, other.name, "cache").read_bytes()
    path = segment_path(ROOT_DIR, instance.name, "cache")
    path.unlink()
    path.write_bytes(small)
    with pytest.raises(LayoutError, match=f"'{instance.name}': the cache has fewer cells"):
        Source(instance.name)


def test_stopped_daemon_leaves_its_numbers(instance: Instance) -> None:
    source = Source(instance.name)
    for segment in (*instance.rings, instance.counters, instance.cache, instance.symbols):
        segment.stop()
    look = source.look()
    assert look.state == "stopped"
    assert look.age_s is None
    assert look.told.why == "the daemon is stopped"
    assert len(look.rings) == 2


def test_killed_daemon_is_dead(instance: Instance) -> None:
    source = Source(instance.name)
    assert source.look().running
    instance.symbols.take_over(2**22 + 7, 1, 1)  # a pid that no process can have
    look = source.look()
    assert look.state == "dead"
    assert look.told.readers is None


def test_daemon_of_another_pid_namespace_lives_as_long_as_it_beats(instance: Instance) -> None:
    instance.symbols.take_over(2**22 + 7, 1, time.time_ns())
    instance.symbols.beat(time.time_ns())
    assert Source(instance.name).look().running


def test_daemon_that_was_seen_and_is_killed_is_dead_however_lately_it_beat(
    instance: Instance,
) -> None:
    source = Source(instance.name)
    assert source.look().running
    instance.symbols.take_over(2**22 + 7, 1, time.time_ns())
    instance.symbols.beat(time.time_ns())
    assert source.look().state == "dead"


def test_daemon_that_adopts_the_segments_is_seen_without_attaching_anew(
    instance: Instance,
) -> None:
    source = Source(instance.name)
    attachment = source.attachment
    instance.symbols.take_over(2**22 + 7, 1, 1)
    assert not source.look().running
    instance.lock.release()
    again = start(instance.name, instance.geometry)
    assert source.look().running
    assert source.attachment is attachment
    again.lock.release()
    instance.lock = type(instance.lock).take(instance.name)  # as the fixture left it


def test_replaced_segments_are_waited_for_and_attached() -> None:
    with cleaned(new_name()) as name:
        first = start(name, geometry())
        source = Source(name)
        before = source.attachment
        first.stop()  # gives its lock back
        remove_segments(name)
        look = source.look()
        assert look.state == "replaced"
        assert "not there" in source.waiting_for
        assert source.attachment is before
        second = start(name, geometry(rings=3))
        look = source.look()
        assert look.running
        assert len(look.rings) == 3
        assert source.waiting_for == ""
        assert source.attachment is not before
        second.lock.release()
