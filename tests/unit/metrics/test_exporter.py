"""A scrape of real segments, a real registry and a real limiter."""

from __future__ import annotations

import ctypes
import math
import os
import struct
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mdsys.config import Consumer
from mdsys.daemon.limiter import Limiter
from mdsys.daemon.readers import Peer, Readers
from mdsys.feed.venue import Limits, Window
from mdsys.metrics.exporter import Exporter
from mdsys.ring.segment import Instance
from tests.instances import NOW, geometry, running, trades, writer

SECOND_NS = 1_000_000_000


class Stopped:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.ns = NOW

    def now_ns(self) -> int:
        return self.ns


class Stage:
    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.clock = Stopped()
        self.readers = Readers(instance.rings, Consumer(10, True, 0.5, 1_000, {}, 1_000), epoch=1)
        self.limiter = Limiter(clock=lambda: self.clock.ns / 1e9, call_later=lambda *_: Never())
        self.silence_limits_ns: dict[int, int] = {}
        self.exporter = Exporter(
            instance.name,
            self.readers,
            self.limiter,
            lambda: dict(self.silence_limits_ns),
            self.clock,
        )

    def lag(self, *values_ns: int) -> None:
        """Record what the supervisor's loop lagged."""
        for value_ns in values_ns:
            self.instance.counters.record_loop_lag(value_ns)

    def scrape(self, after_s: int = 15) -> dict[str, float]:
        """Return the samples by ``name{labels}``, the instance's own left out."""
        self.clock.ns += after_s * SECOND_NS
        text = b"".join(self.exporter.gather()()).decode()
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                assert sample.labels.pop("system") == self.instance.name
                labels = ",".join(f"{key}={value}" for key, value in sample.labels.items())
                found[f"{sample.name}{{{labels}}}"] = sample.value
        return found


class Never:
    def cancel(self) -> None:
        """Nothing was planned."""


@pytest.fixture
def stage() -> Iterator[Stage]:
    with running(geometry(rings=2), symbols=3) as instance:
        yield Stage(instance)


MEDIAN = "mdsys_loop_lag_last_minute_seconds{quantile=0.5}"
COUNT = "mdsys_loop_lag_seconds_count{}"


def test_quantiles_are_of_the_last_minute_and_counts_of_all_time(stage: Stage) -> None:
    stage.lag(*[1_000] * 100)
    assert stage.scrape()[MEDIAN] == pytest.approx(1e-6, rel=0.05)
    for _ in range(4):
        stage.lag(1_000)
        stage.scrape()
    stage.lag(*[1_000_000] * 10)
    found = stage.scrape()  # of the last minute are 3 or 4 of the short ones
    assert found[MEDIAN] == pytest.approx(1e-3, rel=0.05)
    assert found[COUNT] == 114


def test_what_was_before_the_daemon_is_not_of_its_last_minute() -> None:
    with running() as instance:
        instance.counters.record_loop_lag(1_000)
        found = Stage(instance).scrape()
        assert math.isnan(found[MEDIAN])
        assert found[COUNT] == 1


def test_quantiles_are_no_number_when_a_minute_has_brought_nothing(stage: Stage) -> None:
    stage.lag(1_000)
    assert not math.isnan(stage.scrape()[MEDIAN])
    for _ in range(5):
        found = stage.scrape()
    assert math.isnan(found[MEDIAN])


def test_clock_that_is_set_back_does_no_harm(stage: Stage) -> None:
    stage.lag(1_000)
    stage.scrape()
    stage.scrape(after_s=-3_600)
    stage.lag(1_000_000)
    assert stage.scrape()[MEDIAN] == pytest.approx(1e-3, rel=0.05)


def test_scrapes_without_pause_do_not_shorten_the_minute(stage: Stage) -> None:
    stage.lag(1_000)
    for _ in range(50):
        found = stage.scrape(after_s=1)
    assert found[MEDIAN] == pytest.approx(1e-6, rel=0.05)


def test_rings_and_readers_are_those_of_the_instance(stage: Stage) -> None:
    request = {"op": "register", "name": "s1", "policy": "drop_oldest", "wait": "park"}
    peer = Peer(os.getpid(), 0, 1)
    reader, fd = stage.readers.register(request | {"rings": [0, 1]}, peer)
    os.close(fd)
    writer(stage.instance, 1).publish_records(trades(5))
    found = stage.scrape()
    own = f"reader=s1,number={reader.number}"
    assert found[f"mdsys_reader_rings{{{own}}}"] == 2
    assert found[f"mdsys_reader_records_total{{{own},outcome=lost}}"] == 0
    assert found["mdsys_ring_records_total{ring=1,feed=0}"] == 5
    assert found["mdsys_ring_records_total{ring=0,feed=0}"] == 0
    assert found["mdsys_ring_readers{ring=0,feed=0}"] == 1
    assert found["mdsys_ring_symbols{ring=0,feed=0}"] == 2
    stage.readers.remove(reader, "it left")
    assert not [name for name in stage.scrape() if name.startswith("mdsys_reader_")]


def test_limits_are_those_of_the_limiter(stage: Stage) -> None:
    stage.limiter.configure("binance", Limits(rest_weight=(Window(100, 60.0),)))
    permit = stage.limiter.ask("binance", "rest", lambda _: None, count=30)
    stage.limiter.used(permit)
    found = stage.scrape(after_s=1)
    own = "limit=rest_weight,scope=binance address,window=60s"
    assert found[f"mdsys_limiter_used{{{own}}}"] == 30
    assert 0.3 <= found[f"mdsys_limiter_fill_ratio{{{own}}}"] <= 0.31
    assert found[f"mdsys_limiter_waiting{{{own}}}"] == 0


def test_gather_copies_what_a_thread_may_not_look_at(stage: Stage) -> None:
    request = {"op": "register", "name": "s1", "policy": "drop_oldest", "wait": "park"}
    reader, fd = stage.readers.register(request | {"rings": [0]}, Peer(os.getpid(), 0, 1))
    os.close(fd)
    render = stage.exporter.gather()
    stage.readers.remove(reader, "it left")  # meanwhile, in the loop
    assert b'reader="s1"' in b"".join(render())


def test_connections_are_told_with_venue_and_state(stage: Stage) -> None:
    writer(stage.instance)  # its feed lives
    at = stage.instance.counters.connection_address(0)
    block = (ctypes.c_char * 128).from_address(at)  # struct md_connection_block
    fields = (7, 3, NOW, NOW, NOW, 11, 22, 33, 2, -5_000, b"KITE")
    struct.pack_into("<II3q4Qq24s", block, 0, *fields)
    found = stage.scrape(after_s=2)
    own = "connection=7,venue=kite,feed=0"
    assert found[f"mdsys_connection_state{{{own},state=ready}}"] == 1
    assert found[f"mdsys_connection_state{{{own},state=denied}}"] == 0
    assert found[f"mdsys_connection_last_frame_age_seconds{{{own}}}"] == pytest.approx(2)
    assert found[f"mdsys_connection_clock_offset_seconds{{{own}}}"] == pytest.approx(-5e-6)
    assert found[f"mdsys_connection_reconnects_total{{{own}}}"] == 1
    limit = f"mdsys_connection_silence_limit_seconds{{{own}}}"
    assert limit not in found, "its venue promises nothing"
    stage.silence_limits_ns[7] = 45 * SECOND_NS
    assert stage.scrape()[limit] == 45
