"""A consumer: who gets which records, what a failing handler does, and how it lives and ends."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mdsys
from mdsys import Consumer, Flag, HandlerError, HostError, Kind, NotRunning, _consume, _native
from mdsys.consume import place
from mdsys.errors import UsageError
from mdsys.record.record import TICK, Ticks
from mdsys.ring.segment import Instance
from tests.instances import geometry, new_name, running, trades, writer

ENTRY: Any = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p)


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(rings=2, depth=1024, max_symbols=130), symbols=4) as instance:
        yield instance


@pytest.fixture
def ring(instance: Instance) -> _native.RingWriter:
    return writer(instance)


class Collected:
    """A handler that keeps what it gets, and stops the consumer when it has had enough."""

    def __init__(self, consumer: Consumer | None = None, enough: int = 1 << 62) -> None:
        self.parts: list[Ticks] = []
        self.consumer = consumer
        self.enough = enough

    def __call__(self, ticks: Ticks) -> None:
        self.parts.append(ticks.copy())
        if self.consumer is not None and len(self.ticks) >= self.enough:
            self.consumer.stop()

    @property
    def ticks(self) -> Ticks:
        return np.concatenate([np.empty(0, TICK), *self.parts], dtype=TICK)

    @property
    def ids(self) -> list[int]:
        return [int(each) for each in self.ticks["trade_id"]]


def publish(ring: _native.RingWriter, ticks: Ticks) -> None:
    """Publish any number of records, in pieces that a ring takes."""
    for first in range(0, len(ticks), ring.depth // 4):
        ring.publish_records(ticks[first : first + ring.depth // 4])


def run_out(consumer: Consumer) -> None:
    """Run until all that is published by now is handled."""
    consumer.stop()
    consumer.run()


def obeys_the_law(consumer: Consumer) -> bool:
    stats = consumer.stats()
    parts = ("received", "filtered", "conflated", "dropped", "lost")
    return bool(sum(stats[part] for part in parts) == sum(stats["published"].values()))


def mixed(count: int) -> Ticks:
    """Return trades, quotes and statuses of the symbols 0 (statuses), 1 and 3 in turn."""
    ticks = trades(count)
    number = np.arange(count)
    ticks["kind"] = np.choose(number % 3, [Kind.TRADE, Kind.QUOTE, Kind.STATUS])
    ticks["symbol_id"] = np.choose(number % 4, [1, 3, 3, 1])
    ticks["symbol_id"][number % 6 == 2] = 0
    return ticks


# ---- who gets what -----------------------------------------------------------------------------


def test_handler_gets_all_that_is_published_from_its_start_on(
    instance: Instance, ring: _native.RingWriter
) -> None:
    publish(ring, trades(3))
    collected = Collected()
    with Consumer(instance.name, collected) as consumer:
        publish(ring, trades(500, first=3))
        run_out(consumer)
    assert collected.ids == list(range(3, 503))
    assert all(part.dtype == TICK for part in collected.parts)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (None, {1, 2, 7}),
        ("trade", {1, 7}),
        (Kind.QUOTE, {2, 7}),
        (["quote", Kind.TRADE], {1, 2, 7}),
        ("status", {7}),
        ("bar", {7}),
    ],
)
def test_handler_gets_its_kinds_and_every_status(
    instance: Instance, ring: _native.RingWriter, kinds: Any, expected: set[int]
) -> None:
    python, native = Collected(), np.zeros(256, np.int64)

    @ENTRY  # type: ignore[untyped-decorator]
    def count(records: int, n: int, state: int) -> int:
        for i in range(n):
            kind = ctypes.c_uint8.from_address(records + 64 * i + 28).value
            ctypes.c_int64.from_address(state + 8 * kind).value += 1
        return n

    with Consumer(instance.name, symbols="BINANCE:*") as consumer:
        consumer.on(python, kinds=kinds)
        consumer.on(mdsys.native_handler(count, native), kinds=kinds)
        publish(ring, mixed(60))
        run_out(consumer)
        assert consumer.stats()["received"] == 60
    assert set(python.ticks["kind"].tolist()) == expected
    assert set(np.flatnonzero(native).tolist()) == expected
    assert native.sum() == len(python.ticks) == 20 * len(expected)


def test_handler_gets_its_symbols_and_the_statuses_that_touch_them(
    instance: Instance, ring: _native.RingWriter
) -> None:
    one, both = Collected(), Collected()
    with Consumer(instance.name) as consumer:
        consumer.on(one, symbols="BINANCE:S3")
        consumer.on(both, symbols=["BINANCE:S[13]"], kinds=["trade"])
        ticks = mixed(60)
        publish(ring, ticks)
        run_out(consumer)
    number = np.arange(60)
    assert one.ids == number[(ticks["symbol_id"] == 3) | (ticks["symbol_id"] == 0)].tolist()
    assert both.ids == number[np.isin(ticks["kind"], [Kind.TRADE, Kind.STATUS])].tolist()


def test_consumers_symbols_are_all_that_it_reads(
    instance: Instance, ring: _native.RingWriter
) -> None:
    collected = Collected()
    with Consumer(instance.name, collected, symbols=["BINANCE:S1"]) as consumer:
        ticks = mixed(60)
        publish(ring, ticks)
        run_out(consumer)
        stats = consumer.stats()
    wanted = int((ticks["symbol_id"] != 3).sum())
    assert (stats["received"], stats["filtered"]) == (wanted, 60 - wanted)
    assert stats["published"] == {0: 60}
    assert len(collected.ticks) == wanted


def test_python_handlers_share_a_batch_that_none_can_change(
    instance: Instance, ring: _native.RingWriter
) -> None:
    def vandal(ticks: Ticks) -> None:
        ticks["price"] = 0

    for kinds in (None, "trade"):
        with Consumer(instance.name, on_error="skip") as consumer:
            consumer.on(vandal, kinds=kinds)
            after = consumer.on(Collected(), kinds=kinds)
            publish(ring, trades(10))
            run_out(consumer)
            assert consumer.stats()["handler_errors"] > 0
        assert (after.ticks["price"] == trades(10)["price"]).all()


def test_tick_by_tick_handler_gets_rows_in_order(
    instance: Instance, ring: _native.RingWriter
) -> None:
    seen = []
    consumer = Consumer(instance.name, adaptive_batching=False)

    @consumer.on(per="tick", symbols="BINANCE:S1")
    def on_tick(tick: np.void) -> None:
        seen.append((int(tick["seq"]), int(tick["trade_id"])))

    with consumer:
        publish(ring, trades(300))
        run_out(consumer)
    assert seen == [(i + 1, i) for i in range(300)]


def test_state_is_handed_on_and_only_where_it_is_taken(
    instance: Instance, ring: _native.RingWriter
) -> None:
    calls: list[Any] = []
    state = object()
    with Consumer(instance.name, lambda ticks, state: calls.append(state), state=state) as consumer:
        consumer.on(lambda ticks, state: calls.append(state))
        consumer.on(lambda ticks: calls.append("alone"))
        publish(ring, trades(1))
        run_out(consumer)
    assert calls == [state, None, "alone"]


async def never_awaited(_: Any) -> None: ...


@pytest.mark.parametrize(
    "arguments",
    [
        {"policy": "drop_newest"},
        {"policy": ["conflate"]},
        {"wait": "sleep"},
        {"on_error": "ignore"},
        {"on_error": ["stop"]},
        {"batch_size": 0},
        {"batch_size": _consume.BATCH_MAX + 1},
        {"batch_size": 2.0},
        {"batch_size": True},
        {"core": -1},
        {"core": True},
        {"core": "3"},
        {"max_queue_size": 0},
        {"max_queue_size": "10"},
        {"backpressure_threshold": 1.5},
        {"backpressure_threshold": 0},
        {"backpressure_threshold": float("nan")},
        {"backpressure_threshold": True},
        {"backpressure_threshold": "0.5"},
        {"adaptive_batching": 1},
        {"symbols": []},
        {"symbols": 5},
        {"symbols": [5]},
        {"rings": []},
        {"rings": 0},
        {"rings": "01"},
        {"rings": [0.0]},
        {"rings": [-1]},
        {"on_event": 1},
        {"on_event": never_awaited},
        {"instance": print},
        {"state": 1},
    ],
)
def test_wrong_argument_is_refused_at_once(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(arguments))):
        Consumer(**({"instance": "default"} | arguments))


@pytest.mark.parametrize("arguments", [{"symbols": ["BINANCE:NONE"]}, {"rings": [7]}])
def test_what_the_instance_lacks_is_refused_when_it_attaches(
    instance: Instance, arguments: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        Consumer(instance.name, print, **arguments).run()


def test_numbers_of_numpy_are_numbers(instance: Instance) -> None:
    arguments: Any = {
        "core": np.int64(0),
        "rings": np.array([1]),
        "batch_size": np.uint16(7),
        "max_queue_size": np.int32(100),
        "backpressure_threshold": np.float32(0.5),
        "adaptive_batching": np.bool_(False),
    }
    with Consumer(instance.name, **arguments) as consumer:
        assert consumer.stats()["cursors"] == {1: 1}
        assert consumer.stats()["batch"] == {"now": 7, "min": 7, "max": 7}
    with Consumer(instance.name, max_queue_size=1 << 80, backpressure_threshold=1):
        pass


def test_wrong_handlers_are_refused(instance: Instance) -> None:
    consumer = Consumer(instance.name)
    for arguments in (
        {"handler": 1},
        {"handler": print, "kinds": "trades"},
        {"handler": print, "kinds": []},
        {"handler": print, "per": "frame"},
        {"handler": mdsys.handler(lambda tick: None), "per": "batch"},
    ):
        with pytest.raises(UsageError):
            consumer.on(**arguments)
    with pytest.raises(UsageError, match="no handler"):
        consumer.run()
    consumer.on(print, symbols="KITE:*")
    with pytest.raises(UsageError, match="matches no symbol"):
        consumer.run()
    with pytest.raises(NotRunning):
        Consumer(new_name(), print).run()


def none() -> None: ...


def three(ticks: Any, state: Any, more: Any) -> None: ...


def by_name(ticks: Any, *, state: Any) -> None: ...


class Later:
    async def __call__(self, ticks: Any) -> None: ...


@pytest.mark.parametrize(
    ("handler", "arguments", "words"),
    [
        (none, {"per": "tick"}, "handler 'none': takes 0 arguments, is called with a tick"),
        (none, {}, "handler 'none': takes 0 arguments, is called with an array of ticks"),
        (
            three,
            {},
            "handler 'three': takes 3 arguments, is called with an array of ticks and a state",
        ),
        (lambda ticks: None, {"state": 1}, "takes 1 argument, is called with .* and a state"),
        (by_name, {}, "'by_name': missing a required .*'state', is called with an array"),
        (never_awaited, {}, "is async"),
        (Later(), {}, "is async"),
        (mdsys.handler(none), {}, "handler 'none': takes 0 arguments, is called with a tick"),
        (
            mdsys.handler(per="batch")(three),
            {},
            "'three': takes 3 arguments, is called with an array of ticks and a state",
        ),
        (mdsys.native_handler(1), {"state": b"fixed"}, "state bytes: .* writable"),
        (mdsys.native_handler(1), {"state": [1]}, "state list: .* writable"),
        (print, {"symbols": []}, "symbols: none is named"),
        (print, {"symbols": [1]}, "a name or glob"),
    ],
)
def test_handler_that_cannot_be_called_so_is_refused_where_it_is_added(
    handler: Any, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        Consumer("default").on(handler, **arguments)


def test_native_handlers_own_state_must_be_writable() -> None:
    with pytest.raises(UsageError, match="state bytes"):
        mdsys.native_handler(1, b"fixed")


# ---- failing handlers --------------------------------------------------------------------------


def fail_at(*numbers: int) -> Any:
    """Return a handler of ticks that remembers those it has handled."""

    def handle(tick: np.void) -> None:
        if int(tick["trade_id"]) in numbers:
            raise ZeroDivisionError(int(tick["trade_id"]))
        handle.seen.append(int(tick["trade_id"]))  # type: ignore[attr-defined]

    handle.seen = []  # type: ignore[attr-defined]
    return handle


def test_stop_names_tick_and_handler_and_the_next_run_goes_on_behind(
    instance: Instance, ring: _native.RingWriter
) -> None:
    handle = fail_at(3, 5)
    before, after = Collected(), Collected()
    with Consumer(instance.name, before, adaptive_batching=False) as consumer:
        consumer.on(handle, per="tick")
        consumer.on(after)
        publish(ring, trades(10))
        for number in (3, 5):
            with pytest.raises(HandlerError, match=r"trade of BINANCE:S1, sequence") as caught:
                consumer.run()
            assert caught.value.handler is handle
            assert (int(caught.value.tick["trade_id"]), len(caught.value.ticks)) == (number, 1)
            assert isinstance(caught.value.__cause__, ZeroDivisionError)
            assert consumer.stats()["received"] == 10
            assert obeys_the_law(consumer)
        run_out(consumer)
        assert consumer.stats()["handler_errors"] == 2
    assert handle.seen == [0, 1, 2, 4, 6, 7, 8, 9]
    assert before.ids == after.ids == list(range(10))


def test_skip_counts_reports_and_goes_on_behind_the_tick(
    instance: Instance, ring: _native.RingWriter, caplog: pytest.LogCaptureFixture
) -> None:
    handle = fail_at(3, 5)
    events: list[mdsys.Event] = []
    arguments: Any = {"on_error": "skip", "on_event": events.append}
    with Consumer(instance.name, **arguments) as consumer:
        consumer.on(handle, per="tick")
        publish(ring, trades(10))
        run_out(consumer)
        assert consumer.stats()["handler_errors"] == 2
        assert obeys_the_law(consumer)
    assert handle.seen == [0, 1, 2, 4, 6, 7, 8, 9]
    failures = [event for event in events if event.kind == "handler_failed"]
    assert [int(event.error.tick["trade_id"]) for event in failures if event.error is not None] == [
        3,
        5,
    ]
    assert len(caplog.records) == 1, "at most one a second is logged"
    assert "ZeroDivisionError: 3" in caplog.text


def test_failing_batch_is_passed_over_and_reported_whole(
    instance: Instance, ring: _native.RingWriter
) -> None:
    calls: list[int] = []

    def handle(ticks: Ticks) -> None:
        calls.append(len(ticks))
        if len(calls) == 2:
            raise ValueError

    arguments: Any = {"adaptive_batching": False, "batch_size": 10}
    with Consumer(instance.name, handle, **arguments) as consumer:
        publish(ring, trades(30))
        with pytest.raises(HandlerError, match="batch of 10 records") as caught:
            consumer.run()
        assert caught.value.ticks["trade_id"].tolist() == list(range(10, 20))
        run_out(consumer)
    assert calls == [10, 10, 10]


def test_numba_handler_that_fails_is_reported_with_its_tick(
    instance: Instance, ring: _native.RingWriter
) -> None:
    pytest.importorskip("numba")

    @mdsys.handler
    def on_tick(tick: Any, state: Any) -> None:
        if tick.trade_id % 4 == 3:
            raise ValueError("three")
        state.count += 1

    state = np.zeros(1, [("count", "i8")])
    with Consumer(instance.name, on_tick, state=state) as consumer:
        publish(ring, trades(8))
        for number in (3, 7):
            with pytest.raises(HandlerError, match=r"ValueError: three \(called once more") as got:
                consumer.run()
            assert int(got.value.tick["trade_id"]) == number
            assert got.value.handler is on_tick
            assert isinstance(got.value.__cause__, ValueError)
        run_out(consumer)
        assert consumer.stats()["handler_errors"] == 2
    assert state["count"][0] == 6

    events: list[mdsys.Event] = []
    more: Any = {"on_error": "skip", "on_event": events.append}
    with Consumer(instance.name, on_tick, state=state, symbols="BINANCE:S1", **more) as consumer:
        publish(ring, trades(8))
        run_out(consumer)
        assert consumer.stats()["handler_errors"] == 2
    assert state["count"][0] == 12
    assert [e.kind for e in events] == ["handler_failed"] * 2


def test_numba_batch_that_fails_is_reported_whole(
    instance: Instance, ring: _native.RingWriter
) -> None:
    pytest.importorskip("numba")

    @mdsys.handler(per="batch")
    def on_ticks(ticks: Any, state: Any) -> None:
        state[0] += len(ticks)
        if ticks[0].trade_id == 10:
            raise ValueError("ten")

    state = np.zeros(1, np.int64)
    consumer = Consumer(instance.name, adaptive_batching=False, batch_size=20)
    consumer.on(on_ticks, state=state, symbols="BINANCE:S3")
    with consumer:
        ticks = trades(40)
        ticks["symbol_id"][::2] = 3
        ticks["trade_id"] = np.arange(40) // 2
        publish(ring, ticks)
        with pytest.raises(HandlerError, match="ValueError: ten") as caught:
            consumer.run()
        assert caught.value.ticks["trade_id"].tolist() == list(range(10, 20))
        run_out(consumer)
    assert state[0] == 20, "all were seen once"


def test_bare_c_function_names_the_record_it_stopped_at(
    instance: Instance, ring: _native.RingWriter
) -> None:
    calls: list[int] = []

    @ENTRY  # type: ignore[untyped-decorator]
    def two_at_most(_: int, count: int, __: int) -> int:
        calls.append(count)
        return min(count, 2)

    events: list[mdsys.Event] = []
    arguments: Any = {"on_error": "skip", "on_event": events.append, "adaptive_batching": False}
    with Consumer(instance.name, mdsys.native_handler(two_at_most), **arguments) as consumer:
        publish(ring, trades(8))
        run_out(consumer)
        assert consumer.stats()["handler_errors"] == 2
    assert calls == [8, 5, 2]
    failed = [e.error.tick["trade_id"] for e in events if e.error is not None]
    assert failed == [2, 5]


def test_what_on_event_raises_leaves_run(instance: Instance, ring: _native.RingWriter) -> None:
    def on_event(event: mdsys.Event) -> None:
        raise LookupError(event.kind)

    consumer = Consumer(instance.name, fail_at(0), on_error="skip", on_event=on_event)
    with consumer:
        publish(ring, trades(2))
        with pytest.raises(LookupError, match="handler_failed"):
            consumer.run()


# ---- life --------------------------------------------------------------------------------------


def test_stop_from_another_thread_wakes_each_way_of_waiting(instance: Instance) -> None:
    for wait in ("spin", "park", "adaptive"):
        consumer = Consumer(instance.name, wait=wait).attach()
        called = threading.Event()
        consumer.on(lambda ticks, called=called: called.set())
        thread = threading.Thread(target=consumer.run)
        thread.start()
        publish(writer(instance), trades(1))
        assert called.wait(20)
        consumer.stop()
        thread.join(20)
        assert not thread.is_alive()
        consumer.close()


def test_stop_beforehand_ends_the_run_that_follows_and_that_alone(
    instance: Instance, ring: _native.RingWriter
) -> None:
    consumer = Consumer(instance.name)
    collected = consumer.on(Collected(consumer, 5))
    consumer.stop()
    consumer.run()
    assert not consumer.stats()["attached"]
    with consumer:
        publish(ring, trades(5))
        consumer.run()
    assert collected.ids == list(range(5))


def test_stop_of_a_handler_hands_out_what_was_published_by_then(
    instance: Instance, ring: _native.RingWriter
) -> None:
    with Consumer(instance.name) as consumer:
        collected = consumer.on(Collected(consumer, 1))
        publish(ring, trades(700))
        consumer.run()
        assert collected.ids == list(range(700))
        publish(ring, trades(1, first=700))
        assert len(collected.parts) < 700
        consumer.run()
    assert collected.ids == list(range(701))


def test_draining_ends_though_the_writer_goes_on(
    instance: Instance, ring: _native.RingWriter
) -> None:
    """At each tick there come two more."""
    with Consumer(instance.name) as consumer:

        def handle(ticks: Ticks) -> None:
            consumer.stop()
            publish(ring, trades(2 * len(ticks)))

        consumer.on(handle)
        publish(ring, trades(1))
        consumer.run()
        assert obeys_the_law(consumer)


def test_run_attaches_and_detaches_by_itself(instance: Instance, ring: _native.RingWriter) -> None:
    collected = Collected()
    consumer = Consumer(instance.name, collected)

    def on_event(event: mdsys.Event) -> None: ...

    for run in range(2):
        collected.consumer, collected.enough = consumer, 10 * (run + 1)
        publisher = threading.Thread(target=publish_until, args=(ring, consumer, 10))
        publisher.start()
        consumer.run()
        publisher.join()
        assert not consumer.stats()["attached"]
        assert obeys_the_law(consumer)
    assert consumer.stats()["received"] == len(collected.ticks)


def publish_until(ring: _native.RingWriter, consumer: Consumer, count: int) -> None:
    while not consumer.stats()["attached"]:
        os.sched_yield()
    publish(ring, trades(count))


def test_run_within_a_run_is_refused(instance: Instance, ring: _native.RingWriter) -> None:
    refused: list[str] = []

    def handle(_: Ticks) -> None:
        for call in (consumer.run, consumer.close, lambda: consumer.on(print)):
            try:
                call()
            except UsageError as error:
                refused.append(str(error))

    with Consumer(instance.name, handle) as consumer:
        publish(ring, trades(1))
        run_out(consumer)
    assert len(refused) == 3


def test_iterating_gives_batches_until_stop(instance: Instance, ring: _native.RingWriter) -> None:
    handled, ids = Collected(), []
    with Consumer(instance.name, handled) as consumer:
        publish(ring, trades(600))
        for ticks in consumer:
            assert not ticks.flags.writeable
            ids += ticks["trade_id"].tolist()
            consumer.stop()
        assert ids == handled.ids == list(range(600))
        publish(ring, trades(300))
        for ticks in consumer:
            first = ticks["trade_id"].tolist()
            break
        rest = []
        for ticks in consumer:
            rest += ticks["trade_id"].tolist()
            consumer.stop()
    assert first + rest == list(range(300)), "leaving the loop loses nothing"


def test_iterating_without_with_detaches_at_the_end(instance: Instance) -> None:
    consumer = Consumer(instance.name)
    consumer.stop()
    assert list(consumer) == []
    assert not consumer.stats()["attached"]


def test_async_for_gives_batches_and_leaves_the_loop_free(
    instance: Instance, ring: _native.RingWriter
) -> None:
    async def main() -> list[int]:
        ids: list[int] = []
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        def publish_more() -> None:
            publish(ring, trades(50, first=50))

        with Consumer(instance.name) as consumer:
            task = asyncio.ensure_future(other())
            publish(ring, trades(50))
            async for ticks in consumer:
                ids += ticks["trade_id"].tolist()
                if len(ids) == 50:
                    asyncio.get_running_loop().call_soon(publish_more)
                if len(ids) == 100:
                    consumer.stop()
            task.cancel()
            assert obeys_the_law(consumer)
        assert turns > 0
        return ids

    assert asyncio.run(asyncio.wait_for(main(), 30)) == list(range(100))


def test_async_for_is_ended_by_another_thread(instance: Instance) -> None:
    async def main() -> None:
        consumer = Consumer(instance.name)
        loop = asyncio.get_running_loop()
        loop.call_later(0, lambda: threading.Thread(target=consumer.stop).start())
        async for _ in consumer:
            pass

    asyncio.run(asyncio.wait_for(main(), 30))


def test_iteration_that_was_left_standing_ends_for_whoever_comes_next(
    instance: Instance, ring: _native.RingWriter
) -> None:
    seen: list[list[int]] = []
    with Consumer(instance.name, adaptive_batching=False, batch_size=10) as consumer:
        collected = consumer.on(Collected())
        publish(ring, trades(40))
        standing: list[Any] = []
        for _ in range(2):
            standing.append(iter(consumer))
            seen.append(next(standing[-1])["trade_id"].tolist())
        run_out(consumer)
        assert [list(each) for each in standing] == [[], []], "they are at their end"
        assert collected.ids == list(range(40))
        publish(ring, trades(1))
        standing.append(iter(consumer))
        next(standing[-1])
    assert seen == [list(range(10)), list(range(10, 20))]
    assert not consumer.stats()["attached"]
    assert list(standing[-1]) == []
    assert obeys_the_law(consumer)


def test_async_for_may_be_left_by_break(instance: Instance, ring: _native.RingWriter) -> None:
    async def main() -> list[int]:
        ids: list[int] = []
        with Consumer(instance.name, adaptive_batching=False, batch_size=10) as consumer:
            publish(ring, trades(40))
            for _ in range(3):
                async for ticks in consumer:
                    ids += ticks["trade_id"].tolist()
                    break
            consumer.close()
        assert not consumer.stats()["attached"]
        return ids

    assert asyncio.run(asyncio.wait_for(main(), 30)) == list(range(30))


def test_two_iterations_at_a_time_are_refused_while_one_waits(instance: Instance) -> None:
    async def main() -> None:
        with Consumer(instance.name) as consumer:
            first = asyncio.ensure_future(anext(aiter(consumer)))
            await asyncio.sleep(0)
            with pytest.raises(UsageError, match="one at a time"):
                await anext(aiter(consumer))
            consumer.stop()
            with pytest.raises(StopAsyncIteration):
                await first

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize("what", ["consumer", "reader"])
def test_cancellation_in_async_for_is_heeded_on_a_busy_ring(instance: Instance, what: str) -> None:
    """However it falls together with news: what wakes the task must not swallow it."""
    ring, over = writer(instance), threading.Event()

    def keep_busy() -> None:
        while not over.wait(0.0001):
            ring.publish_records(trades(1))
            ring.flush(1)

    async def read(iterator: Any) -> None:
        async for _ in iterator:
            pass

    async def main() -> None:
        with mdsys.attach(instance.name) as md:
            for turn in range(200):
                one: Any = Consumer(instance.name) if what == "consumer" else md.reader()
                task = asyncio.ensure_future(read(one))
                await asyncio.sleep(turn % 20 * 0.0002)
                task.cancel()
                assert await asyncio.wait([task], timeout=20) == ({task}, set())
                assert task.cancelled()
                one.close()

    thread = threading.Thread(target=keep_busy)
    thread.start()
    try:
        asyncio.run(main())
    finally:
        over.set()
        thread.join()


def test_reader_is_closed_while_news_comes(instance: Instance, ring: _native.RingWriter) -> None:
    """The thread of its descriptor, which has just found some, must not miss that it is to end."""

    def open_and_close() -> None:
        with mdsys.attach(instance.name) as md:
            for _ in range(500):
                with md.reader() as reader:
                    reader.fileno()
                    reader.poll()
                    ring.publish_records(trades(1))
                    ring.flush(1)

    closing = threading.Thread(target=open_and_close, daemon=True)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()


def test_consumer_leaves_no_mapping_behind(instance: Instance) -> None:
    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count(f"mdsys.{instance.name}.")

    before = mapped()
    with Consumer(instance.name, print) as consumer:
        attached = weakref.ref(consumer._attached)
        assert mapped() > before
    gc.collect()
    assert attached() is None
    assert mapped() == before


def test_numba_handlers_are_compiled_before_the_first_tick(instance: Instance) -> None:
    pytest.importorskip("numba")
    called = np.zeros(1, np.int64)

    @mdsys.handler
    def on_tick(tick: Any, state: Any) -> None:
        state[0] += 1

    with Consumer(instance.name, on_tick, state=called) as consumer:
        signatures = len(on_tick.dispatcher.signatures)
        assert signatures == 1
        publish(writer(instance), trades(5))
        run_out(consumer)
        assert len(on_tick.dispatcher.signatures) == signatures
    assert called[0] == 5


# ---- its place on the host ---------------------------------------------------------------------


def test_core_is_taken_for_the_run_and_given_back(
    instance: Instance, ring: _native.RingWriter, caplog: pytest.LogCaptureFixture
) -> None:
    before = os.sched_getaffinity(0)
    core = min(before)
    places = []

    def handle(_: Ticks) -> None:
        places.append((os.sched_getaffinity(0), consumer.stats()["core"]))

    with Consumer(instance.name, handle, core=core) as consumer:
        assert consumer.stats()["wait"] == "spin"
        for _ in range(2):
            publish(ring, trades(1))
            run_out(consumer)
        assert consumer.stats()["core"] is None
    assert places == [({core}, core)] * 2
    assert os.sched_getaffinity(0) == before
    said = [record.message for record in caplog.records]
    assert len(said) == len(set(said)), "notices come once"


def test_core_that_is_not_there_ends_the_run(instance: Instance) -> None:
    with pytest.raises(HostError, match="core 8191"):
        Consumer(instance.name, print, core=8191).run()


def test_configured_core_that_is_not_there_is_done_without_and_warned_of(
    instance: Instance, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = Consumer(instance.name, print)
    with consumer:
        attached = consumer._attached
        assert attached is not None
        attached.core = 8191
        with place.own_core(attached, required=False) as found:
            assert found.core is None
            assert "core 8191" in found.notices[0]
        run_out(consumer)
    warned = [each.message for each in caplog.records if each.levelname == "WARNING"]
    assert any("core 8191" in message for message in warned)


# ---- figures -----------------------------------------------------------------------------------


def test_stats_tell_how_it_stands(instance: Instance, ring: _native.RingWriter) -> None:
    arguments: Any = {"symbols": "BINANCE:S1", "name": "s-1", "policy": "conflate"}
    with Consumer(instance.name, print, batch_size=50, **arguments) as consumer:
        publish(ring, trades(8))
        ring.flush(1)
        stats = consumer.stats()
        assert (stats["name"], stats["policy"], stats["wait"]) == ("s-1", "conflate", "adaptive")
        assert stats["registered"] is False
        assert stats["batch"] == {"now": 1, "min": 1, "max": 50}, "before the first run too"
        assert stats["lag"] == 8
        assert stats["cursors"] == {0: 1}
        run_out(consumer)
        stats = consumer.stats()
        assert stats["batch"] == {"now": 1, "min": 1, "max": 50}
        assert stats["lag"] == 0
        assert stats["recv_to_handler"]["count"] == 8
        assert stats["event_to_handler"]["count"] == 8
        assert stats["wake_up"]["count"] == 0
        assert stats["published"] == {0: 8}
    assert consumer.stats()["received"] == 8, "after the end too"


def test_batches_grow_with_the_lag_and_are_one_record_without(
    instance: Instance, ring: _native.RingWriter
) -> None:
    collected = Collected()
    with Consumer(instance.name, collected, batch_size=64) as consumer:
        publish(ring, trades(500))
        run_out(consumer)
        assert consumer.stats()["batch"]["now"] == 1
    assert [len(part) for part in collected.parts][:8] == [1, 2, 4, 8, 16, 32, 64, 64]
    collected = Collected()
    with Consumer(instance.name, collected, batch_size=64, adaptive_batching=False) as consumer:
        publish(ring, trades(130))
        run_out(consumer)
    assert [len(part) for part in collected.parts] == [64, 64, 2]


def test_the_time_of_a_bars_beginning_or_of_an_old_snapshot_is_no_way(
    instance: Instance, ring: _native.RingWriter
) -> None:
    ticks = trades(4)
    ticks["flags"][0] |= Flag.SNAPSHOT
    ticks["kind"][1] = Kind.BAR
    with Consumer(instance.name, print) as consumer:
        publish(ring, ticks)
        ring.flush(1)
        run_out(consumer)
        stats = consumer.stats()
        assert stats["recv_to_handler"]["count"] == 4
        assert stats["event_to_handler"]["count"] == 2
