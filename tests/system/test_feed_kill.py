"""kill -9 of a feed, and a feed that hangs: its own rings alone, and fresh ticks soon."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import mdsys
from mdsys import Kind, Status
from mdsys.record.record import Ticks
from tests.daemons import (
    Daemon,
    Venue,
    VenueSocket,
    daemon,
    instance,
    read_until,
    statuses,
    trade,
    trade_ids,
)

pytestmark = pytest.mark.system

SYMBOLS = ["BTCUSDT", "ETHUSDT"]


class Running(NamedTuple):
    """Two feeds, a connection, a symbol and a ring each."""

    daemon: Daemon
    venue: Venue
    sockets: dict[str, VenueSocket]
    """By symbol."""
    md: mdsys.MarketData

    def ring(self, symbol: str) -> int:
        return self.md.symbol(f"BINANCE:{symbol}").ring

    def feed(self, symbol: str) -> int:
        return self.md.rings[self.ring(symbol)].feed

    def reader(self, symbol: str) -> mdsys.Reader:
        return self.md.reader(rings=[self.ring(symbol)])


def by_symbol(socket: VenueSocket) -> str:
    (stream,) = socket.streams
    return stream.partition("@")[0].upper()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with (
        instance() as name,
        Venue().listening() as venue,
        daemon(
            tmp_path, venue.url, name=name, symbols=SYMBOLS, feeds=2, rings=2, per_connection=1
        ) as each,
    ):
        each.wait_ready()
        sockets = {by_symbol(socket): socket for socket in (venue.next_socket() for _ in SYMBOLS)}
        with mdsys.attach(name) as md:
            yield Running(each, venue, sockets, md)
        assert each.end() == 0


def check_untouched(it: Running, reader: mdsys.Reader, symbol: str, epoch: int) -> None:
    """Check that a ring knows nothing of another feed's end: sequences, epoch, statuses."""
    ticks = read_until(reader, lambda ticks: 3 in trade_ids(ticks))
    assert trade_ids(ticks) == [1, 2, 3]
    assert statuses(ticks) == []
    assert np.all(np.diff(ticks["seq"].astype(np.int64)) == 1)
    assert it.md.rings[it.ring(symbol)].epoch == epoch
    assert reader.lost == 0


def check_taken_over(ticks: Ticks, first: int, last: int) -> None:
    """Check what a reader is told of a feed that was replaced: what it may have missed."""
    told = statuses(ticks)
    assert told.count(Status.WRITER_RESTARTED) == 1
    assert told.index(Status.WRITER_RESTARTED) < told.index(Status.CONNECTION_UP)
    gap = ticks[(ticks["kind"] == Kind.STATUS) & (ticks["what"] == Status.GAP)]
    assert [(int(each["first_lost"]), int(each["last_lost"])) for each in gap] == [(first, last)]
    assert np.all(np.diff(ticks["seq"].astype(np.int64)) == 1), "the sequence goes on"


def test_killed_feed_takes_down_its_rings_alone_and_its_successor_tells_what_is_lost(
    running: Running,
) -> None:
    victim, other = SYMBOLS
    pid = running.daemon.feed_pid(running.feed(victim))
    theirs, ours = running.reader(victim), running.reader(other)
    epoch = running.md.rings[running.ring(other)].epoch
    old_epoch = running.md.rings[running.ring(victim)].epoch
    running.sockets[other].send(trade(other, 1))
    running.sockets[victim].send(trade(victim, 1))
    before = read_until(theirs, lambda ticks: 1 in trade_ids(ticks))
    os.kill(pid, signal.SIGKILL)
    running.sockets[other].send(trade(other, 2))
    fresh = running.venue.next_socket()
    assert by_symbol(fresh) == victim
    fresh.send(trade(victim, 5))  # 2, 3 and 4 came while nobody listened
    after = read_until(theirs, lambda ticks: 5 in trade_ids(ticks))
    check_taken_over(after, 2, 4)
    assert int(after["seq"][0]) == int(before["seq"][-1]) + 1
    assert running.md.rings[running.ring(victim)].epoch == old_epoch + 1
    running.sockets[other].send(trade(other, 3))
    check_untouched(running, ours, other, epoch)
    feeds = mdsys.control(running.daemon.name).status()["feeds"]
    assert sorted(feed["restarts"] for feed in feeds) == [0, 1]
    assert running.daemon.feed_pid(running.feed(victim), life=2) != pid


def test_feed_that_hangs_is_found_by_its_heartbeat_killed_and_replaced(running: Running) -> None:
    victim, other = SYMBOLS
    pid = running.daemon.feed_pid(running.feed(victim))
    theirs, ours = running.reader(victim), running.reader(other)
    epoch = running.md.rings[running.ring(other)].epoch
    running.sockets[other].send(trade(other, 1), trade(other, 2))
    running.sockets[victim].send(trade(victim, 1))
    read_until(theirs, lambda ticks: 1 in trade_ids(ticks))
    os.kill(pid, signal.SIGSTOP)
    number = running.feed(victim)
    running.daemon.wait_for_line(rf"feed {number} hangs: process {pid} has not beaten for [\d.]+ s")
    running.daemon.wait_for_line(rf"feed {number} hung and was killed; starting it again")
    fresh = running.venue.next_socket()
    assert by_symbol(fresh) == victim
    fresh.send(trade(victim, 3))
    check_taken_over(read_until(theirs, lambda ticks: 3 in trade_ids(ticks)), 2, 2)
    running.sockets[other].send(trade(other, 3))
    check_untouched(running, ours, other, epoch)


def test_two_of_four_feeds_killed_at_once_both_tick_again_and_neither_is_kept_waiting(
    tmp_path: Path,
) -> None:
    names = ["AUSDT", "BUSDT", "CUSDT", "DUSDT"]
    with (
        instance() as name,
        Venue().listening() as venue,
        daemon(
            tmp_path, venue.url, name=name, symbols=names, feeds=4, rings=4, per_connection=1
        ) as each,
    ):
        each.wait_ready()
        for _ in names:
            venue.next_socket()
        control = mdsys.control(name)
        pids = [feed["pid"] for feed in control.status()["feeds"]]
        with mdsys.attach(name) as md:
            feed_of = {
                symbol: md.rings[md.symbol(f"BINANCE:{symbol}").ring].feed for symbol in names
            }
            victims = names[:2]
            readers = {
                symbol: md.reader(rings=[md.symbol(f"BINANCE:{symbol}").ring]) for symbol in victims
            }
            for symbol in victims:
                os.kill(pids[feed_of[symbol]], signal.SIGKILL)
            for _ in victims:
                fresh = venue.next_socket()
                fresh.send(trade(by_symbol(fresh), 7))
            for reader in readers.values():
                read_until(reader, lambda ticks: 7 in trade_ids(ticks))
        restarts = [feed["restarts"] for feed in control.status()["feeds"]]
        assert sorted(restarts) == [0, 0, 1, 1]
        assert each.log.count("starting it again in 0.00 s") == 2
        assert each.end() == 0
