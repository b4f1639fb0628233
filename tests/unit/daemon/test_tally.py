from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mdsys.counters.picture import Observer, Row
from mdsys.counters.schema import fields
from mdsys.daemon.tally import LAG_EVERY_S, Parts, Rate, Tally
from mdsys.ring.segment import Instance
from tests.instances import geometry, running, trades, writer

CONTROL = {"connections": 4, "waiting": 1, "requests": 9, "refused": 2, "dropped": 3}


class Readers:
    registered_count = 11

    def __len__(self) -> int:
        return 5


class World:
    """Parts that have counted something, and the clock."""

    def __init__(self, instance: Instance) -> None:
        self.now_s = 100.0
        self.funnel = {"desired": 10, "requested": 8, "confirmed": 6, "ticking": 3, "refused": 1}
        subscriptions = SimpleNamespace(funnel=lambda: self.funnel, symbol_count=lambda: 4)
        self.feed = SimpleNamespace(number=0, restarts=2, hangs=1, started_ns=77)
        self.links: dict[int, Any] = {0: SimpleNamespace(waiting_count=6)}
        parts = SimpleNamespace(
            rings=instance.rings,
            feeds=SimpleNamespace(all=[self.feed]),
            links=self.links,
            readers=Readers(),
            roster=SimpleNamespace(subscriptions=subscriptions),
            stale_count=lambda: 7,
            limiter=SimpleNamespace(
                grant_count=21, held_count=22, held_reconnect_count=23, waiting_count=24
            ),
            rest=SimpleNamespace(request_count=31, failure_count=32, refusal_count=33),
            snapshots=SimpleNamespace(waiting=lambda: {"a": 40, "b": 1}),
            reload=SimpleNamespace(done_count=51, refused_count=52),
            control=SimpleNamespace(picture=lambda: CONTROL),
            notifier=SimpleNamespace(ping_count=61),
        )
        self.tally = Tally(instance.counters, cast(Parts, parts), lambda: self.now_s)
        self.name = instance.name

    def row(self, scope: Any) -> Row:
        (row,) = Observer(self.name).take().rows[scope]
        return row


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(depth=1024), symbols=1) as made:
        yield made


def test_each_number_stands_in_its_own_place(instance: Instance) -> None:
    world = World(instance)
    world.tally.write()
    values = dict(world.row("system").values)
    assert values.pop("started_ns")
    assert values.pop("beat_age_ns") is not None
    assert values == {
        "records_rate": 0,
        "records_rate_max": 0,
        "readers": 5,
        "readers_registered": 11,
        "limiter_grants": 21,
        "limiter_held": 22,
        "reconnects_held": 23,
        "limiter_waiting": 24,
        "rest_requests": 31,
        "rest_failures": 32,
        "rest_refusals": 33,
        "snapshots_waiting": 41,
        "reloads": 51,
        "reloads_refused": 52,
        **{f"control_{name}": value for name, value in CONTROL.items()},
        "watchdog_pings": 61,
        "log_suppressed": 0,
        "up": 1,
    }
    feed = world.row("feed").values
    assert {name: feed[name] for name in fields("lives")} == {
        "restarts": 2,
        "hangs": 1,
        "started_ns": 77,
        "orders_waiting": 6,
    }


def test_each_stream_is_counted_in_the_one_state_that_it_is_in(instance: Instance) -> None:
    world = World(instance)
    world.tally.write()
    assert world.row("subscriptions").values == {
        "desired": 1,
        "requested": 2,
        "confirmed": 3,
        "ticking": 3,
        "refused": 1,
        "stale": 7,
        "symbols": 4,
    }
    states = [world.row("subscriptions").values[name] or 0 for name in fields("subscriptions")[:5]]
    assert sum(states) == world.funnel["desired"]


def test_feed_without_a_process_has_no_orders_waiting(instance: Instance) -> None:
    world = World(instance)
    world.links.clear()
    world.tally.write()
    assert world.row("feed").values["orders_waiting"] == 0


def test_rate_is_of_the_time_that_has_passed_and_the_largest_stays(instance: Instance) -> None:
    world = World(instance)
    ring = writer(instance)
    world.tally.write()
    for published, passed_s, now, most in (
        (200, 2.0, 100, 100),
        (150, 1.0, 150, 150),
        (0, 1, 0, 150),
    ):
        ring.publish_records(trades(published))
        world.now_s += passed_s
        world.tally.write()
        values = world.row("system").values
        assert (values["records_rate"], values["records_rate_max"]) == (now, most)


def test_records_of_an_earlier_daemon_are_no_rate(instance: Instance) -> None:
    writer(instance).publish_records(trades(200))
    world = World(instance)
    world.tally.write()
    world.now_s += 1
    world.tally.write()
    assert world.row("system").values["records_rate_max"] == 0


def test_burst_of_a_moment_is_not_taken_for_that_of_a_second() -> None:
    rate = Rate()
    rate.note(0, 10.0)
    rate.note(1_000, 10.01)
    assert (rate.now, rate.max) == (0, 0)
    rate.note(1_000, 11.0)
    assert rate.max == 1_000


def test_new_supervisor_begins_at_0(instance: Instance) -> None:
    World(instance).tally.write()
    world = World(instance)
    values = world.row("system").values
    assert values["limiter_grants"] == 0
    assert values["started_ns"] is None
    assert world.row("feed").values["restarts"] == 0


def test_lateness_of_the_loop_is_recorded_ten_times_a_second(instance: Instance) -> None:
    world = World(instance)
    calls: list[Any] = []

    class Loop:
        now_s = 50.0

        def time(self) -> float:
            return self.now_s

        def call_at(self, when: float, call: Any) -> None:
            calls.append((when, call))

    loop = Loop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "get_running_loop", lambda: loop)
        world.tally.start()
    for late_s in (0.0, 0.5, 0.0):
        when, call = calls.pop()
        assert when == pytest.approx(loop.now_s + LAG_EVERY_S)
        loop.now_s = when + late_s
        call()
    lag = world.row("system").histograms["loop_lag"]
    assert lag.count == 3
    assert lag.max_ns == pytest.approx(500_000_000, abs=10)
    assert lag.percentile(50) == pytest.approx(0, abs=10)
