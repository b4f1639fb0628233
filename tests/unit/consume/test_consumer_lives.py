"""A consumer's signals, and daemons that come and go under it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

import mdsys
from mdsys import Consumer, Event
from mdsys.consume import consumer as module
from mdsys.errors import UsageError
from mdsys.record.record import TICK, Ticks
from mdsys.ring.segment import Instance, remove_segments
from tests.control import PATIENCE_S, serving
from tests.instances import cleaned, geometry, new_name, running, start, trades, writer


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(depth=1024), symbols=2) as instance:
        yield instance


class Told:
    """What a consumer told, for other threads to wait for."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ticks = np.empty(0, TICK)
        self._news = threading.Condition()

    def on_event(self, event: Event) -> None:
        with self._news:
            self.events.append(event)
            self._news.notify_all()

    def on_ticks(self, ticks: Ticks) -> None:
        with self._news:
            self.ticks = np.concatenate([self.ticks, ticks], dtype=TICK)
            self._news.notify_all()

    def wait(self, enough: Callable[[], bool]) -> None:
        with self._news:
            assert self._news.wait_for(enough, PATIENCE_S), (self.kinds, self.ticks)

    def wait_for(self, kind: str) -> None:
        self.wait(lambda: kind in self.kinds)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


class Thread:
    """A consumer that runs in a thread of its own until the block ends."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.raised: Exception | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.consumer.run()
        except Exception as error:  # noqa: BLE001 - the test's to look at
            self.raised = error

    def __enter__(self) -> Self:
        self.consumer.attach()
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.consumer.stop()
        self.thread.join(PATIENCE_S)
        self.consumer.close()
        assert not self.thread.is_alive()


# ---- signals -----------------------------------------------------------------------------------

PROGRAM = """
    import signal, sys, mdsys, numpy as np

    def before(*_): ...

    signal.signal(signal.SIGTERM, before)
    seen = np.memmap({file!r}, np.int64, "r+", shape=(1,))
    {decorator}
    def handle(ticks, seen):
        seen[0] += 1

    consumer = mdsys.Consumer({name!r}, handle, state=seen, wait={wait!r}, symbols="BINANCE:S1")
    with consumer:
        print("attached", flush=True)
        try:
            consumer.run()
            print("returned", flush=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        assert signal.getsignal(signal.SIGTERM) is before
        stats = consumer.stats()
    print(stats["received"], sum(stats["published"].values()))
"""


@pytest.mark.parametrize("wait", ["spin", "park", "adaptive"])
@pytest.mark.parametrize("native", [False, True], ids=["python", "native"])
@pytest.mark.parametrize(
    ("number", "ending"), [(signal.SIGTERM, "returned"), (signal.SIGINT, "interrupted")]
)
def test_signal_ends_the_run(
    instance: Instance, tmp_path: Path, wait: str, native: Any, number: int, ending: str
) -> None:
    if native:
        pytest.importorskip("numba")
    file = tmp_path / "seen"
    file.write_bytes(bytes(8))
    decorator = "@mdsys.handler" if native else ""
    text = textwrap.dedent(PROGRAM).format(
        decorator=decorator, name=instance.name, wait=wait, file=str(file)
    )
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "attached\n"
        writer(instance).publish_records(trades(1))
        while file.read_bytes() == bytes(8):
            assert process.poll() is None
            os.sched_yield()
        process.send_signal(number)
        rest = process.communicate(timeout=PATIENCE_S)[0].splitlines()
        assert rest == [ending, "1 1"]
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def test_sigterm_hands_out_what_was_published_by_then(instance: Instance) -> None:
    told, ring = Told(), writer(instance)

    def handle(ticks: Ticks) -> None:
        if len(told.ticks) == 0:
            ring.publish_records(trades(200, first=1))
            os.kill(os.getpid(), signal.SIGTERM)
        told.on_ticks(ticks)

    before = signal.getsignal(signal.SIGTERM)
    with Consumer(instance.name, handle, symbols="BINANCE:S1") as consumer:
        ring.publish_records(trades(1))
        consumer.run()
    assert told.ticks["trade_id"].tolist() == list(range(201))
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_drains_an_iteration_and_is_given_back(instance: Instance) -> None:
    ring, before = writer(instance), signal.getsignal(signal.SIGTERM)

    def loop(consumer: Consumer) -> list[int]:
        ids: list[int] = []
        for ticks in consumer:
            if not ids:
                ring.publish_records(trades(200, first=1))
                os.kill(os.getpid(), signal.SIGTERM)
            ids += ticks["trade_id"].tolist()
        return ids

    async def async_loop(consumer: Consumer) -> list[int]:
        ids: list[int] = []
        async for ticks in consumer:
            if not ids:
                ring.publish_records(trades(200, first=1))
                asyncio.get_running_loop().call_later(
                    0, lambda: os.kill(os.getpid(), signal.SIGTERM)
                )
            ids += ticks["trade_id"].tolist()
        return ids

    for way in (loop, lambda consumer: asyncio.run(async_loop(consumer))):
        with Consumer(instance.name) as consumer:
            ring.publish_records(trades(1))
            assert way(consumer) == list(range(201))
        assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_is_given_back_in_whichever_order_iterations_end(instance: Instance) -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        own = signal.getsignal(signal.SIGTERM)
        ring = writer(instance)
        first, second = (Consumer(instance.name).attach() for _ in range(2))
        ring.publish_records(trades(1))
        iterators = [iter(first), iter(second)]
        for iterator in iterators:
            next(iterator)
        first.stop()
        assert list(iterators[0]) == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert came == []
        assert list(iterators[1]) == []
        assert signal.getsignal(signal.SIGTERM) is own
        first.close()
        second.close()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_programs_own_sigterm_in_asyncio_is_heeded_too(instance: Instance) -> None:
    async def main() -> None:
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, told.set)
        consumer = Consumer(instance.name)
        loop.call_later(0.01, os.kill, os.getpid(), signal.SIGTERM)
        assert [ticks async for ticks in consumer] == []
        await told.wait()
        told.clear()
        os.kill(os.getpid(), signal.SIGTERM)
        await told.wait()
        loop.remove_signal_handler(signal.SIGTERM)

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_ctrl_c_within_a_handler_loses_nothing(instance: Instance) -> None:
    ids: list[int] = []

    def handle(tick: np.void) -> None:
        ids.append(int(tick["trade_id"]))
        if len(ids) == 5:
            raise KeyboardInterrupt

    consumer = Consumer(instance.name, adaptive_batching=False)
    consumer.on(handle, per="tick")
    with consumer:
        writer(instance).publish_records(trades(10))
        with pytest.raises(KeyboardInterrupt):
            consumer.run()
        consumer.stop()
        consumer.run()
    assert ids == list(range(10))


# ---- the registry ------------------------------------------------------------------------------


def test_daemons_defaults_hold_where_nothing_else_is_said(instance: Instance) -> None:
    with serving(instance), Consumer(instance.name, print, name="pinned") as consumer:
        attached = consumer._attached
        assert attached is not None
        assert (attached.core, attached.batch_max, attached.adaptive) == (3, 200, True)
        assert consumer.stats()["registered"] is True
        with Consumer(instance.name, core=1, batch_size=7, adaptive_batching=False) as other:
            theirs = other._attached
            assert theirs is not None
            assert (theirs.core, theirs.batch_max, theirs.adaptive) == (1, 7, False)


def test_registered_consumer_is_shown_with_its_core_and_counts(instance: Instance) -> None:
    core = min(os.sched_getaffinity(0))
    shown: list[Any] = []
    with serving(instance) as server:

        def handle(ticks: Ticks) -> None:
            shown.extend(server.call(server.readers.picture))

        arguments: Any = {"name": "s1", "core": core, "policy": "conflate"}
        with Consumer(instance.name, handle, **arguments) as consumer:
            writer(instance).publish_records(trades(1))
            consumer.stop()
            consumer.run()
    (reader,) = shown
    assert (reader["name"], reader["policy"], reader["wait"]) == ("s1", "conflate", "spin")
    assert reader["core_now"] == core
    assert reader["received"] == 1


def test_consumer_is_told_of_the_daemons_end_and_return_and_keeps_its_counts(
    instance: Instance,
) -> None:
    told, ring = Told(), writer(instance)
    consumer = Consumer(instance.name, told.on_ticks, on_event=told.on_event)
    with serving(instance) as first, Thread(consumer):
        ring.publish_records(trades(3))
        told.wait(lambda: len(told.ticks) == 3)
        first.close()
        told.wait_for("daemon_gone")
        ring.publish_records(trades(3, first=3))
        told.wait(lambda: len(told.ticks) == 6)
        with serving(instance) as second:
            told.wait_for("daemon_back")
            ring.publish_records(trades(3, first=6))
            told.wait(lambda: len(told.ticks) == 9)
            (shown,) = second.call(second.readers.picture)
            assert shown["received"] == 9
    assert told.ticks["trade_id"].tolist() == list(range(9))
    assert [kind for kind in told.kinds if kind.startswith("daemon")][:2] == [
        "daemon_gone",
        "daemon_back",
    ]
    assert consumer.stats()["published"] == {0: 9}


def test_new_writer_of_a_ring_is_told_with_its_epoch(instance: Instance) -> None:
    told, ring = Told(), writer(instance)
    consumer = Consumer(instance.name, told.on_ticks, on_event=told.on_event)
    with Thread(consumer):
        epoch = ring.epoch
        ring.take_over(os.getpid(), 1, 1)
        told.wait_for("restarted")
    (event,) = told.events
    assert (event.ring, event.count) == (0, epoch + 1)
    assert str(event) == "ring 0 has a new writer"


# ---- other segments ----------------------------------------------------------------------------


def restarted(name: str, rings: int, symbols: int = 3) -> Instance:
    """Start an instance anew with another geometry, as the daemon does."""
    instance = start(name, geometry(rings=rings, depth=256))
    for i in range(symbols):
        instance.symbols.add(f"BINANCE:S{symbols - i}".encode(), i % rings, 8, 8)
    return instance


def test_consumer_attaches_anew_and_counts_on() -> None:
    told = Told()
    state = np.zeros(1, np.int64)

    @mdsys.handler
    def on_tick(tick: Any, state: Any) -> None:
        state[0] += 1

    pytest.importorskip("numba")
    with cleaned(new_name()) as name:
        old = restarted(name, 1)
        consumer = Consumer(name, told.on_ticks, on_event=told.on_event)
        consumer.on(on_tick, symbols=["BINANCE:S1"], state=state)
        with Thread(consumer):
            ring = writer(old)
            ring.publish_records(trades(5, symbol_id=3))  # S1
            told.wait(lambda: len(told.ticks) == 5)
            old.lock.release()
            new = restarted(name, 2)
            told.wait_for("reattached")
            writer(new, 0).publish_records(trades(7, symbol_id=3))
            writer(new, 1).publish_records(trades(2, symbol_id=2))
            told.wait(lambda: len(told.ticks) == 14)
        stats = consumer.stats()
        assert stats["published"] == {0: 12, 1: 2}
        assert stats["received"] == 14
        assert stats["recv_to_handler"]["count"] == 14
        assert state[0] == 12
        new.lock.release()


def test_all_of_the_old_segments_is_read_first() -> None:
    with cleaned(new_name()) as name:
        old = restarted(name, 1)
        told = Told()
        consumer = Consumer(name, told.on_ticks, on_event=told.on_event)
        consumer.attach()
        writer(old).publish_records(trades(60))
        old.lock.release()
        new = restarted(name, 2)
        with Thread(consumer):
            told.wait_for("reattached")
            assert told.ticks["trade_id"].tolist() == list(range(60))
        new.lock.release()


def test_consumer_waits_for_segments_that_were_cleaned_away_and_can_be_stopped() -> None:
    with cleaned(new_name()) as name:
        old = restarted(name, 1)
        consumer = Consumer(name, print)
        with Thread(consumer) as running_one:
            remove_segments(name)
            old.lock.release()
            while consumer.stats()["attached"]:
                os.sched_yield()
        assert running_one.raised is None


def test_symbol_that_the_new_segments_lack_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SYMBOL_RETRIES", 2)
    with cleaned(new_name()) as name:
        old = restarted(name, 1, symbols=3)
        consumer = Consumer(name, print, symbols="BINANCE:S3")
        with Thread(consumer) as thread:
            old.lock.release()
            new = restarted(name, 2, symbols=2)
            thread.thread.join(PATIENCE_S)
        assert isinstance(thread.raised, UsageError)
        new.lock.release()


def test_async_for_goes_on_in_new_segments() -> None:
    with cleaned(new_name()) as name:
        old = restarted(name, 1)

        async def main() -> list[int]:
            ids: list[int] = []
            new: Instance | None = None

            def on_event(event: Event) -> None:
                if event.kind == "reattached":
                    assert new is not None
                    writer(new, 1).publish_records(trades(1, first=9))

            with Consumer(name, on_event=on_event) as consumer:
                writer(old).publish_records(trades(1, first=1))
                async for ticks in consumer:
                    ids += ticks["trade_id"].tolist()
                    if new is None:
                        old.lock.release()
                        new = restarted(name, 2)
                    else:
                        consumer.stop()
            assert new is not None
            new.lock.release()
            return ids

        assert asyncio.run(asyncio.wait_for(main(), PATIENCE_S)) == [1, 9]


def test_daemon_that_comes_back_with_other_segments_is_told() -> None:
    told, gate = Told(), threading.Event()

    def handle(ticks: Ticks) -> None:
        told.on_ticks(ticks)
        assert gate.wait(PATIENCE_S)

    with cleaned(new_name()) as name:
        old = restarted(name, 1)
        ring = writer(old)
        consumer = Consumer(name, handle, on_event=told.on_event)
        with serving(old) as first, Thread(consumer):
            first.close()
            told.wait_for("daemon_gone")
            ring.publish_records(trades(1))
            told.wait(lambda: len(told.ticks) == 1)
            old.lock.release()
            new = restarted(name, 2)
            with serving(new):
                gate.set()
                told.wait_for("reattached")
                told.wait_for("daemon_back")
                assert consumer.stats()["registered"] is True
        assert told.kinds[:3] == ["daemon_gone", "reattached", "daemon_back"]
        new.lock.release()
