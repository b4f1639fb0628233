from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdsys import _native
from mdsys._listener import Feed, FrameListener, VenueFeed
from mdsys.consume.registration import register
from mdsys.counters.counters import parse_histogram
from mdsys.counters.picture import Observer, Row, Told, from_sparse, take, to_sparse
from mdsys.counters.schema import LABELS, metrics_of
from mdsys.errors import NotRunning
from mdsys.ring.segment import ROOT_DIR, Instance, map_file, segment_path
from tests.control import serving
from tests.instances import geometry, running, trades, writer

LIMIT = {
    "what": "connects",
    "scope": "binance address",
    "used": 3,
    "count": 12,
    "seconds": 300.0,
    "waiting": 2,
}


class StoppedClock:
    """Tells one time."""

    def __init__(self, now_ns: int) -> None:
        self.time_ns = now_ns

    def now_ns(self) -> int:
        return self.time_ns


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(rings=2, feeds=1), symbols=3) as made:
        yield made


def feed_of(instance: Instance) -> Feed:
    return Feed({ring: writer(instance, ring) for ring in range(2)}, instance.counters, 0)


def test_every_metric_has_a_value_in_every_row_of_its_scope(instance: Instance) -> None:
    feed = feed_of(instance)
    feed.connection_state(7, 3)
    with serving(instance):
        registered = register(instance.name, os.getpid(), "s1", "conflate", "park", [0, 1])
        assert registered is not None
        told = take(instance.name).told
        assert told is not None
        picture = Observer(instance.name).take(Told(told.readers, [LIMIT]))
        registered.close()
    for scope, labels in LABELS.items():
        assert picture.rows[scope], scope
        for row in picture.rows[scope]:
            assert tuple(row.labels) == labels
            for metric in metrics_of(scope):
                if metric.type == "histogram":
                    assert row.histograms[metric.field].count >= 0
                else:
                    assert metric.field in row.values, (scope, metric.field)
    assert {metric.field for metric in metrics_of("feed")} >= set(picture.rows["feed"][0].values)


def test_dead_instance_is_told_of_as_the_living_but_for_what_its_daemon_knows(
    instance: Instance,
) -> None:
    child = subprocess.run(  # whose pid nobody has any more
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    before = take(instance.name)
    instance.symbols.take_over(int(child.stdout), 1, time.time_ns())
    after = take(instance.name)
    assert (before.state, before.alive) == ("running", True)
    assert (after.state, after.alive) == ("dead", False)
    assert after.why == f"no daemon of instance {instance.name!r} can be reached"
    assert after.told is None
    assert not after.rows["reader"]
    assert not after.rows["limiter"]
    assert after.rows["system"][0].values["up"] == 0
    assert {row.values["unread"] for row in after.rows["ring"]} == {None}
    assert after.rows["feed"][0].values.keys() == before.rows["feed"][0].values.keys()


def test_no_instance_is_no_picture() -> None:
    with pytest.raises(NotRunning):
        take("no-such-instance")


def test_ages_are_measured_against_the_clock_and_never_of_what_never_was(
    instance: Instance,
) -> None:
    ring = writer(instance, 0)
    ring.flush(5_000)
    picture = Observer(instance.name, StoppedClock(8_000)).take()
    ages = [row.values["watermark_age_ns"] for row in picture.rows["ring"]]
    assert ages == [3_000, None]
    assert picture.taken_ns == 8_000


def test_what_came_while_a_picture_was_taken_came_now_and_not_in_the_future(
    instance: Instance,
) -> None:
    feed = feed_of(instance)
    venue = VenueFeed(feed, "binance_spot", "BINANCE", [], instance.symbols, instance.cache)
    feed.connection_state(1, 3)
    FrameListener(venue, 1, lambda _: None)
    writer(instance, 0).flush(8_000)
    picture = Observer(instance.name, StoppedClock(5_000)).take()
    ages = {
        value
        for row in (*picture.rows["ring"], *picture.rows["connection"], *picture.rows["system"])
        for name, value in row.values.items()
        if name.endswith("_age_ns")
    }
    assert ages == {0, None}


def test_connection_is_in_one_state_and_has_its_venue(instance: Instance) -> None:
    feed = feed_of(instance)
    venue = VenueFeed(feed, "binance_spot", "BINANCE", [], instance.symbols, instance.cache)
    for number, state in ((1, 1), (2, 5)):
        feed.connection_state(number, state)
        FrameListener(venue, number, lambda _: None)
    dialled, denied = Observer(instance.name).take().rows["connection"]
    assert dialled.labels == {"connection": "1", "venue": "binance", "feed": "0"}
    states = {name: value for name, value in denied.values.items() if name.startswith("state_")}
    assert states.pop("state_age_ns") is not None
    assert [name for name, value in states.items() if value] == ["state_denied"]
    assert len(states) == 5
    assert denied.words["state"] == "denied"
    assert denied.values["offset_ns"] is None
    assert denied.values["last_frame_age_ns"] is None
    assert denied.values["reconnects"] == 0


def test_connection_of_a_feed_that_was_killed_is_not_up(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = feed_of(instance)
    for number, state in ((1, 1), (2, 3), (3, 5)):
        feed.connection_state(number, state)
    observer = Observer(instance.name)

    def states() -> list[str]:
        return [row.words["state"] for row in observer.take().rows["connection"]]

    assert states() == ["connecting", "ready", "denied"]
    for ring in observer.rings:
        instance.rings[ring.index].take_over(1 << 22, 1, 1)  # no process has such a number
    assert states() == ["waiting", "waiting", "denied"]
    (row,) = (row for row in observer.take().rows["connection"] if row.labels["connection"] == "2")
    assert (row.values["state_ready"], row.values["state_waiting"]) == (0, 1)


def test_long_name_of_a_venue_is_cut_and_read_to_its_end(instance: Instance) -> None:
    feed = feed_of(instance)
    venue = VenueFeed(feed, "binance_spot", "V" * 40, [], instance.symbols, instance.cache)
    feed.connection_state(1, 1)
    FrameListener(venue, 1, lambda _: None)
    (row,) = Observer(instance.name).take().rows["connection"]
    assert row.labels["venue"] == "v" * 23


def test_what_is_unread_of_a_ring_is_the_largest_lag(instance: Instance) -> None:
    lags = [(0, 5), (1, 0)], [(0, 9)]
    readers = [
        Row({}, {}, words={"rings": [{"ring": ring, "lag": lag} for ring, lag in each]})
        for each in lags
    ]
    first, second = Observer(instance.name).take(Told(readers)).rows["ring"]
    assert (first.values["unread"], first.values["readers"]) == (9, 2)
    assert (second.values["unread"], second.values["readers"]) == (0, 1)


def test_limit_is_shown_with_its_fill_and_its_window(instance: Instance) -> None:
    told = Told(limits=[LIMIT, {**LIMIT, "what": "connections", "seconds": None, "count": 0}])
    window, places = Observer(instance.name).take(told).rows["limiter"]
    assert window.labels == {"limit": "connects", "scope": "binance address", "window": "300s"}
    assert window.values == {"used": 3, "count": 12, "fill": 0.25, "waiting": 2}
    assert places.labels["window"] == ""
    assert places.values["fill"] is None


def test_observer_sees_what_comes_after_it(instance: Instance) -> None:
    observer = Observer(instance.name)
    observer.take()
    instance.symbols.add(b"BINANCE:NEW", 1, 8, 8)
    ring = writer(instance, 1)
    ring.publish_records(trades(5))
    row = observer.take().rows["ring"][1]
    assert row.values["symbols"] == 2
    assert row.values["head"] == 5
    assert not observer.is_superseded
    instance.symbols.take_over(os.getpid(), 1, 1)
    _native.supersede_segment(instance_map(instance))
    assert observer.is_superseded


def instance_map(instance: Instance) -> mmap.mmap:
    return map_file(segment_path(ROOT_DIR, instance.name, "symbols"), writable=True)


def test_readers_numbers_are_those_of_its_page(instance: Instance) -> None:
    with serving(instance) as server:
        registered = register(instance.name, os.getpid(), "s1", "drop_oldest", "park", [0])
        assert registered is not None
        (row,) = take(instance.name).rows["reader"]
        (own,) = server.call(server.readers.rows)
        registered.close()
    assert row.labels == own.labels == {"reader": "s1", "number": str(registered.reader)}
    assert row.values == own.values
    assert row.values["rings_read"] == 1
    assert row.histograms.keys() == own.histograms.keys()


@given(
    st.dictionaries(st.integers(0, 1183), st.integers(1, (1 << 64) - 1), max_size=40),
    *(st.integers(-(1 << 63), (1 << 63) - 1) for _ in range(3)),
)
def test_histogram_comes_through_json_as_it_was(
    filled: dict[int, int], total: int, least: int, largest: int
) -> None:
    words = np.zeros(4 + 2 * _native.histogram_buckets(), "<u8")
    words[1:4] = np.array([total, least, largest], np.int64).view(np.uint64)
    for bucket, count in filled.items():
        words[4 + bucket] = count
    told: Any = json.loads(json.dumps(to_sparse(words.tobytes())))
    found, expected = from_sparse(told), parse_histogram(words)
    assert (found.sum_ns, found.min_ns, found.max_ns) == (total, least, largest)
    assert (found.positive == expected.positive).all()
    assert (found.negative == expected.negative).all()
