"""The native loop by itself: its clock, its batch sizes, and who points into which page."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from mdsys import ABSENT, TICK, Kind, _consume, _native
from mdsys.counters.counters import Histogram, parse_histogram
from mdsys.ring.segment import Instance
from tests.instances import geometry, running, trades, writer
from tests.native import PROGRAMS, compile_program, run_program

CONFLATE, DROP_OLDEST = 1, 0
SPIN = 1
TIME, BATCH, NEWS = 0, 1, 4


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(depth=1024), symbols=1) as instance:
        yield instance


def batches(loop: _consume.Loop, most: int = 10_000) -> list[int]:
    """Return how many records each batch had, until the ring is read to its end."""
    counts = []
    for _ in range(most):
        result = loop.run(0.0)
        if result == TIME:
            break
        if result == BATCH:
            counts.append(loop.count)
            loop.done()
    return counts


@pytest.mark.parametrize("wait", ["spin", "adaptive", "park"])
def test_consumer_whose_busy_ring_has_nothing_for_it_looks_at_its_clock(wait: str) -> None:
    program = compile_program(PROGRAMS / "filtered_idle.c", flags=("-D_GNU_SOURCE",))
    result = run_program(program, wait)
    assert result.returncode == 0, result.stdout


def test_fixed_batch_is_itself_again_once_the_press_is_over(instance: Instance) -> None:
    ring = writer(instance)
    loop = _consume.Loop(instance.rings, None, None, DROP_OLDEST, SPIN, 500, 0.5)
    loop.begin(np.empty(80, TICK), [(0, None, 0, None, None)], 10, False)
    for part in range(3):
        ring.publish_records(trades(200, first=200 * part))
    ring.flush(1)
    counts = batches(loop)
    assert max(counts) > 10, "it was never pressed"
    ring.publish_records(trades(100))
    assert set(batches(loop)) == {10}
    assert loop.page.batch == (10, 10, 10)


@pytest.mark.parametrize(("room", "merged"), [(1024, True), (100, False)])
def test_conflation_merges_what_a_batch_has_room_for(
    instance: Instance, room: int, merged: bool
) -> None:
    ring = writer(instance)
    loop = _consume.Loop(instance.rings, None, None, CONFLATE, SPIN, 500, 0.2, 1000)
    loop.begin(np.empty(room, TICK), [(0, None, 0, None, None)], 1, True)
    quotes = trades(200)
    quotes["kind"], quotes["symbol_id"] = Kind.QUOTE, np.arange(1, 201)
    for _ in range(4):  # four of each symbol, round and round
        ring.publish_records(quotes)
    ring.flush(1)
    handed_out = sum(batches(loop))
    assert handed_out + loop.conflated == 800
    assert (loop.conflated > 400) == merged


def test_watcher_that_sleeps_outlives_the_page_that_it_shows_itself_in(instance: Instance) -> None:
    writer(instance)
    poller = _consume.Poller(instance.rings)
    watcher = _consume.Watcher(poller)
    watcher.arm()
    thread = threading.Thread(target=watcher.wait, args=(30.0,))
    thread.start()
    for _ in range(50):
        poller.move(_native.ReaderPage.private())
    watcher.stop()
    thread.join()
    assert poller.page.place(0)[0] == 1


def test_handlers_that_are_refused_leave_those_before_in_place(instance: Instance) -> None:
    ring = writer(instance)
    loop = _consume.Loop(instance.rings)
    loop.begin(np.empty(8, TICK), [(0, None, 0, None, None)], 8, True)
    with pytest.raises(ValueError, match="needs room"):
        loop.begin(np.empty(8, TICK), [(0, None, 1 << Kind.TRADE, None, None)] * 99, 8, True)
    ring.publish_records(trades(3))
    assert sum(batches(loop)) == 3
    with pytest.raises(IndexError):
        loop.pick(1)


def histogram(page: _native.ReaderPage, name: str) -> Histogram:
    return parse_histogram(np.frombuffer(page.histograms()[name], "<u8"))


def test_one_read_in_127_is_timed_by_its_newest_record(instance: Instance) -> None:
    ring = writer(instance)
    poller = _consume.Poller(instance.rings)
    out = np.empty(8, TICK)
    recv_ns = time.time_ns() - 3_600 * 10**9  # an hour ago, the one before it long ago
    for _ in range(128):
        pair = trades(2)
        pair["ts_recv"] = [1, recv_ns]
        ring.publish_records(pair)
        assert poller.poll_into(out) == 2
        assert poller.poll_into(out) == 0  # and nothing is not timed
    read = histogram(poller.page, "recv_to_read")
    assert read.count == 2
    assert 3_600 * 10**9 <= read.min_ns <= read.max_ns < 7_200 * 10**9


def test_record_that_was_never_received_has_no_age(instance: Instance) -> None:
    ring = writer(instance)
    poller = _consume.Poller(instance.rings)
    tick = trades(1)
    tick["ts_recv"] = ABSENT
    ring.publish_records(tick)
    assert poller.poll_into(np.empty(8, TICK)) == 1
    assert histogram(poller.page, "recv_to_read").count == 0


def test_one_batch_in_31_is_timed_from_its_handlers_call_to_their_return(
    instance: Instance,
) -> None:
    ring = writer(instance)
    loop = _consume.Loop(instance.rings, None, None, DROP_OLDEST, SPIN, 500, 0.5)
    loop.begin(np.empty(80, TICK), [(0, None, 0, None, None)], 10, False)
    for number in range(32):
        ring.publish_records(trades(1, first=number))
        assert loop.run(0.0) == BATCH
        timed = histogram(loop.page, "handler").count
        assert timed == (number > 0)  # the first is timed, and under way until it is done
        loop.done()
    assert histogram(loop.page, "handler").count == 2
    assert histogram(loop.page, "handler").min_ns > 0
