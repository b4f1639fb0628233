"""A consumer under the real daemon: waited for, and carried over a restart."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdsys import Consumer, Event, HandlerError, Kind, NotRunning
from mdsys.record.record import Ticks
from tests.daemons import PATIENCE_S, Daemon, Venue, VenueSocket, daemon, instance, trade

pytestmark = pytest.mark.system


class Told:
    """The ids of the trades that came, and what was told, for another thread to wait for."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.kinds: list[str] = []
        self.news = threading.Condition()

    def on_ticks(self, ticks: Ticks) -> None:
        with self.news:
            self.ids += ticks[ticks["kind"] == Kind.TRADE]["trade_id"].tolist()
            self.news.notify_all()

    def on_event(self, event: Event) -> None:
        with self.news:
            self.kinds.append(event.kind)
            self.news.notify_all()

    def wait(self, enough: Any) -> None:
        with self.news:
            assert self.news.wait_for(enough, PATIENCE_S), (self.ids, self.kinds)


@contextlib.contextmanager
def ticking(tmp_path: Path, name: str) -> Iterator[tuple[Venue, Daemon, VenueSocket]]:
    """Give a daemon that is ready, and its socket at the venue."""
    with Venue().listening() as venue, daemon(tmp_path, venue.url, name=name) as running:
        socket = venue.next_socket()
        running.wait_ready()
        yield venue, running, socket


@contextlib.contextmanager
def running_in_a_thread(consumer: Consumer) -> Iterator[None]:
    """Run it until the block ends, however that ends."""
    thread = threading.Thread(target=consumer.run)
    with consumer:
        thread.start()
        try:
            yield
        finally:
            consumer.stop()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


@pytest.fixture
def name() -> Iterator[str]:
    with instance() as each:
        yield each


@pytest.mark.parametrize("wait", ["park", "adaptive"])
def test_lossless_consumer_goes_on_under_the_next_daemon(
    tmp_path: Path, name: str, wait: str
) -> None:
    told = Told()
    arguments: Any = {"policy": "lossless", "wait": wait, "on_event": told.on_event}
    consumer = Consumer(name, told.on_ticks, **arguments)
    with ticking(tmp_path, name) as (venue, first, socket), running_in_a_thread(consumer):
        assert consumer.stats()["registered"] is True
        assert list(consumer.stats()["granted"]) == [0]
        socket.send(*(trade("BTCUSDT", number) for number in range(100)))
        told.wait(lambda: len(told.ids) == 100)
        first.end(signal.SIGKILL)
        told.wait(lambda: "daemon_gone" in told.kinds)
        with daemon(tmp_path, venue.url, name=name) as second:
            new_socket = venue.next_socket()
            second.wait_ready()
            told.wait(lambda: "daemon_back" in told.kinds and "restarted" in told.kinds)
            new_socket.send(*(trade("BTCUSDT", number) for number in range(100, 200)))
            told.wait(lambda: len(told.ids) == 200)
            assert list(consumer.stats()["granted"]) == [0]
            assert second.end() == 0
    stats = consumer.stats()
    assert told.ids == list(range(200))
    assert stats["received"] == sum(stats["published"].values())
    assert stats["lost"] == stats["dropped"] == stats["conflated"] == 0
    assert stats["wake_up"]["count"] == stats["wakes"]
    assert stats["recv_to_handler"]["count"] == stats["received"]


def test_lossless_consumer_that_stands_still_is_ejected_and_told(tmp_path: Path, name: str) -> None:
    told, gate = Told(), threading.Event()

    def handle(ticks: Ticks) -> None:
        told.on_ticks(ticks)
        assert gate.wait(PATIENCE_S)

    consumer = Consumer(name, handle, policy="lossless", on_event=told.on_event)
    with ticking(tmp_path, name) as (_, running, socket), running_in_a_thread(consumer):
        try:
            socket.send(trade("BTCUSDT", 0))
            told.wait(lambda: told.ids == [0])
            socket.send(*(trade("BTCUSDT", number) for number in range(1, 3000)))
            running.wait_for_line("too slow for lossless")
        finally:
            gate.set()
        told.wait(lambda: "ejected" in told.kinds)
        told.wait(lambda: told.ids[-1] == 2999)
        assert list(consumer.stats()["ejected"]) == [0]
        assert running.end() == 0
    stats = consumer.stats()
    assert stats["received"] + stats["lost"] == sum(stats["published"].values())


def test_lossless_consumer_needs_a_daemon(tmp_path: Path, name: str) -> None:
    with ticking(tmp_path, name) as (_, running, _):
        assert running.end() == 0
        with pytest.raises(NotRunning, match="lossless"):
            Consumer(name, print, policy="lossless").run()


def test_venues_time_and_the_failing_tick_come_with_the_error(tmp_path: Path, name: str) -> None:
    def handle(tick: np.void) -> None:
        if tick["kind"] == Kind.TRADE:
            raise ValueError(int(tick["trade_id"]))

    consumer = Consumer(name)
    consumer.on(handle, per="tick")
    with ticking(tmp_path, name) as (_, running, socket), consumer:
        socket.send(trade("BTCUSDT", 7))
        with pytest.raises(HandlerError, match="trade of BINANCE:BTCUSDT") as caught:
            consumer.run()
        stats = consumer.stats()
        assert running.end() == 0
    assert caught.value.tick["trade_id"] == 7
    assert stats["event_to_handler"]["count"] >= 1
    assert stats["event_to_handler"]["max"] > 0
