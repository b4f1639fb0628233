"""A consumer that is too slow: each policy, told and counted to the last record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mdsys
from mdsys import Consumer, Event, Flag, Kind
from mdsys.record.record import TICK, Ticks
from mdsys.ring.segment import Instance
from tests.instances import geometry, running, trades, writer

DEPTH = 1024
RESUMED = DEPTH // 2
"""How far behind the head a lapped reader goes on."""


class Feed:
    """One ring's feed in plain Python: the cell first, then the ring."""

    def __init__(self, instance: Instance, ring: int = 0) -> None:
        self.ring = writer(instance, ring)
        path = Path(f"/dev/shm/mdsys.{instance.name}.cache")
        memory = np.memmap(path, TICK, "r+", offset=4096)
        self.cells = memory[: len(memory) // 9 * 9].reshape(-1, 9)  # nine lines a cell

    def publish(self, ticks: Ticks) -> None:
        for first in range(0, len(ticks), 256):
            piece = ticks[first : first + 256].copy()
            piece["seq"] = np.arange(len(piece)) + self.ring.next
            for tick in piece:
                self.cells[int(tick["symbol_id"]), 1 if tick["kind"] == Kind.TRADE else 2] = tick
            self.ring.publish_records(piece)
        self.ring.flush(1)


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(depth=DEPTH), symbols=3) as instance:
        yield instance


def run_out(consumer: Consumer) -> None:
    """Run until all that is published by now is handled."""
    consumer.stop()
    consumer.run()


def published_by_the_law(consumer: Consumer) -> int:
    """Return the sum of the parts, having compared it with the whole."""
    stats = consumer.stats()
    parts = ("received", "filtered", "conflated", "dropped", "lost")
    total = sum(stats[part] for part in parts)
    assert total == sum(stats["published"].values()), stats
    return int(total)


class Told:
    """What a consumer told, and what its handler got, in their order."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ticks = np.empty(0, TICK)

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def on_ticks(self, ticks: Ticks) -> None:
        self.ticks = np.concatenate([self.ticks, ticks], dtype=TICK)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def count(self, kind: str) -> int:
        return sum(event.count for event in self.events if event.kind == kind)

    @property
    def snapshots(self) -> Ticks:
        return self._flagged(Flag.SNAPSHOT)

    @property
    def from_ring(self) -> Ticks:
        return self._flagged(0)

    def _flagged(self, flag: int) -> Ticks:
        ticks: Ticks = self.ticks[(self.ticks["flags"] & Flag.SNAPSHOT) == flag]
        return ticks


def consumer_of(instance: Instance, told: Told, **arguments: Any) -> Consumer:
    return Consumer(instance.name, told.on_ticks, on_event=told.on_event, **arguments)


def of_symbols(count: int, first: int = 0) -> Ticks:
    """Return trades of the symbols 1, 2 and 3 in turn."""
    ticks = trades(count, first=first)
    ticks["symbol_id"] = np.arange(count) % 3 + 1
    return ticks


def test_drop_oldest_skips_to_half_the_threshold_and_refreshes(instance: Instance) -> None:
    told, feed = Told(), Feed(instance)
    limits: Any = {"batch_size": 20, "max_queue_size": 200, "backpressure_threshold": 0.5}
    with consumer_of(instance, told, adaptive_batching=False, **limits) as consumer:
        rare = trades(1, symbol_id=3, first=10_000)
        feed.publish(np.concatenate([of_symbols(20), trades(20), rare, trades(259)], dtype=TICK))
        run_out(consumer)
        stats = consumer.stats()
        assert published_by_the_law(consumer) == 300
    assert stats["dropped"] > 0
    assert stats["lost"] == 0
    assert told.count("dropped") == stats["dropped"]
    assert told.kinds == ["pressed", "dropped", "released"]
    assert stats["pressed"] == stats["jumps"] == 1
    # Read: 20, then 160 (past the threshold batches are larger), then it skips.
    assert len(told.from_ring) == stats["received"] == 300 - stats["dropped"]
    (seq,) = np.flatnonzero(np.diff(told.from_ring["seq"].astype(np.int64)) != 1)
    assert 300 - int(told.from_ring["seq"][seq + 1]) < 50


def test_what_was_skipped_comes_from_the_cache_also_to_native_handlers(instance: Instance) -> None:
    told, feed = Told(), Feed(instance)
    snapshots = np.zeros(4, np.int64)

    @mdsys.handler
    def on_tick(tick: Any, state: Any) -> None:
        if tick.flags & 4:
            state[tick.symbol_id] = tick.trade_id

    pytest.importorskip("numba")
    consumer = consumer_of(instance, told, batch_size=10)
    consumer.on(on_tick, state=snapshots, kinds="trade")
    with consumer:
        feed.publish(trades(1, symbol_id=2, first=77))  # overwritten before it is read
        feed.publish(trades(DEPTH + 200, symbol_id=1, first=100))
        run_out(consumer)
        stats = consumer.stats()
        assert published_by_the_law(consumer) == DEPTH + 201
    assert told.count("lost") == stats["lost"] > 0
    assert told.snapshots["trade_id"].tolist() == [77], "of symbol 1 the ring has newer ones"
    assert snapshots.tolist() == [0, 0, 77, 0]
    assert stats["refreshed"] == 1
    assert len(told.from_ring) == stats["received"]


def test_the_past_is_not_handed_out(instance: Instance) -> None:
    told, feed = Told(), Feed(instance)
    feed.publish(trades(1, symbol_id=2, first=77))
    with consumer_of(instance, told) as consumer:
        feed.publish(trades(DEPTH + 200, symbol_id=1))
        run_out(consumer)
        assert consumer.stats()["lost"] > 0
    assert len(told.snapshots) == 0


def test_failing_refresh_goes_on_in_the_next_run(instance: Instance) -> None:
    seen: list[int] = []
    feed = Feed(instance)

    def handle(tick: np.void) -> None:
        if tick["flags"] & Flag.SNAPSHOT:
            seen.append(int(tick["trade_id"]))
            if len(seen) == 1:
                raise ValueError

    consumer = Consumer(instance.name)
    consumer.on(handle, per="tick")
    with consumer:
        feed.publish(trades(1, symbol_id=2, first=77))
        feed.publish(trades(1, symbol_id=3, first=78))
        feed.publish(trades(DEPTH + 200, symbol_id=1))
        consumer.stop()
        with pytest.raises(mdsys.HandlerError):
            consumer.run()
        run_out(consumer)
        assert published_by_the_law(consumer) == DEPTH + 202
    assert seen[:2] == [77, 78]


def test_conflating_merges_and_tells_how_much(instance: Instance) -> None:
    told, feed = Told(), Feed(instance)
    limits: Any = {"batch_size": 20, "max_queue_size": 200, "backpressure_threshold": 0.5}
    with consumer_of(instance, told, policy="conflate", **limits) as consumer:
        ticks = of_symbols(900)
        ticks["conditions"] = 0
        ticks["size"] = 1
        feed.publish(ticks)
        run_out(consumer)
        stats = consumer.stats()
        assert published_by_the_law(consumer) == 900
    assert stats["conflated"] == told.count("conflating") > 0
    assert stats["lost"] == stats["dropped"] == 0
    merged = told.ticks[(told.ticks["flags"] & Flag.CONFLATED) != 0]
    assert len(merged) > 0
    assert int(told.ticks["size"].sum()) == 900, "no volume is lost"
    assert told.kinds[0] == "pressed"
    assert len(told.ticks) == stats["received"] < 900


def test_a_wakened_consumer_that_keeps_up_has_nothing_to_tell(instance: Instance) -> None:
    told, feed = Told(), Feed(instance)
    with consumer_of(instance, told) as consumer:
        for number in range(20):
            feed.publish(of_symbols(100, first=100 * number))
            run_out(consumer)
    assert told.kinds == []
    assert told.ticks["trade_id"].tolist() == list(range(2000))


def test_overrun_is_told_by_ring() -> None:
    with running(geometry(rings=3, depth=DEPTH), symbols=3) as instance:
        told = Told()
        feeds = [Feed(instance, ring) for ring in range(3)]
        with consumer_of(instance, told) as consumer:
            feeds[0].publish(trades(10))
            feeds[2].publish(trades(3 * DEPTH))
            run_out(consumer)
            assert published_by_the_law(consumer) == 10 + 3 * DEPTH
            assert consumer.stats()["published"] == {0: 10, 1: 0, 2: 3 * DEPTH}
        lost = Counter({event.ring: event.count for event in told.events if event.kind == "lost"})
        assert lost == {2: 3 * DEPTH - RESUMED}


@settings(max_examples=30, deadline=None)
@given(
    policy=st.sampled_from(["drop_oldest", "conflate"]),
    wanted=st.sampled_from([None, ["BINANCE:S1"], ["BINANCE:S2", "BINANCE:S3"]]),
    adaptive=st.booleans(),
    batch_size=st.integers(1, 300),
    queue=st.integers(1, 2000),
    threshold=st.floats(0.01, 1),
    bursts=st.lists(st.integers(0, 1500), max_size=6),
)
def test_the_law_holds_for_every_policy_and_filter(
    policy: str,
    wanted: list[str] | None,
    adaptive: bool,
    batch_size: int,
    queue: int,
    threshold: float,
    bursts: list[int],
) -> None:
    limits: Any = {"max_queue_size": queue, "backpressure_threshold": threshold}
    sizes: Any = {"batch_size": batch_size, "adaptive_batching": adaptive}
    with running(geometry(rings=2, depth=DEPTH), symbols=3) as instance:
        told = Told()
        feeds = [Feed(instance), Feed(instance, 1)]
        with consumer_of(
            instance, told, policy=policy, symbols=wanted, rings=[0, 1], **limits, **sizes
        ) as consumer:
            published = 0
            for number, burst in enumerate(bursts):
                feeds[number % 2].publish(of_symbols(burst))
                published += burst
                run_out(consumer)
                assert published_by_the_law(consumer) == published
            stats = consumer.stats()
        assert len(told.from_ring) == stats["received"]
        assert len(told.snapshots) == stats["refreshed"]
        assert told.count("lost") == stats["lost"]
        assert told.count("dropped") == stats["dropped"]
        assert told.count("conflating") == stats["conflated"]
        assert stats["recv_to_handler"]["count"] == stats["received"]
