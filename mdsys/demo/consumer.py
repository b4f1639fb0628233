"""The demo's consumer: ``python -m mdsys.demo.consumer``, a strategy that only counts.

Says where it began, then a few times a second what it has seen. When stdin ends, which is after the
daemon has stopped, it reads what is left, says so a last time and ends.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
import time
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mdsys.consume.attach import MarketData, attach
from mdsys.consume.reader import Reader
from mdsys.counters.counters import LINEAR, PERCENTILES, STEPS, Histogram, schema
from mdsys.demo.child import say
from mdsys.record.fixed import format_fixed
from mdsys.record.record import ABSENT, TICK, Flag, Kind, Ticks

REPORT_SECONDS: Final = 0.25
BATCH_COUNT: Final = 4096
IDLE_SECONDS: Final = 50e-6
MOVERS: Final = 5


class Latencies:
    """A histogram that takes many values at once; the buckets are those of counters.h."""

    def __init__(self) -> None:
        self._bucket_count = schema()[2]
        self._positive = np.zeros(self._bucket_count, np.uint64)
        self._negative = np.zeros(self._bucket_count, np.uint64)
        self._sum = 0
        self._min = np.iinfo(np.int64).max
        self._max = np.iinfo(np.int64).min

    def record(self, values_ns: npt.NDArray[np.int64]) -> None:
        """Count ``values_ns``, of any sign."""
        if not len(values_ns):
            return
        buckets = bucket_of(np.abs(values_ns), self._bucket_count)
        ahead = values_ns < 0
        np.add.at(self._positive, buckets[~ahead], 1)
        np.add.at(self._negative, buckets[ahead], 1)
        self._sum += int(values_ns.sum())
        self._min = min(self._min, int(values_ns.min()))
        self._max = max(self._max, int(values_ns.max()))

    def histogram(self) -> Histogram:
        """Return what was counted so far."""
        return Histogram(self._sum, self._min, self._max, self._positive, self._negative)


def bucket_of(magnitudes: npt.NDArray[np.int64], bucket_count: int) -> npt.NDArray[np.int64]:
    """Return the bucket of each magnitude, as md_histogram_bucket does, in [0, bucket_count)."""
    _, bits = np.frexp(magnitudes.astype(np.float64))  # exact below 2^53, 104 days
    octave = np.maximum(bits - 1, 5).astype(np.int64)
    step = (magnitudes >> (octave - 4)) & (STEPS - 1)
    buckets = np.where(magnitudes < LINEAR, magnitudes, LINEAR + (octave - 5) * STEPS + step)
    return np.minimum(buckets, bucket_count - 1)


def summary(histogram: Histogram) -> dict[str, int | None]:
    """Return the percentiles that the demo shows, in ns; None while there are none."""
    found = {name: histogram.percentile(percent) for name, percent in PERCENTILES.items()}
    return {**found, "max": histogram.max_ns if histogram.count else None}


class Tally:
    """What the consumer has seen, symbol by symbol and in all."""

    def __init__(self, market_data: MarketData) -> None:
        self._symbols = list(market_data.symbols.values())
        size = len(self._symbols) + 1  # an id is its place
        self._first = np.full(size, ABSENT, np.int64)
        self._last = np.full(size, ABSENT, np.int64)
        self._trades = np.zeros(size, np.int64)
        self.latencies = Latencies()
        self.status_count = 0
        self.snapshot_level_count = 0
        """Levels of whole books: a snapshot by REST, merged with the changes since."""

    def take(self, ticks: Ticks, read_ns: npt.NDArray[np.int64]) -> None:
        """Count records; ``read_ns`` tells when each was in our hands."""
        kinds = ticks["kind"]
        market = kinds != Kind.STATUS
        self.status_count += int(len(ticks) - market.sum())
        whole = (kinds == Kind.LEVEL) & (ticks["flags"] & Flag.SNAPSHOT != 0)
        self.snapshot_level_count += int(whole.sum())
        self.latencies.record((read_ns - ticks["ts_recv"])[market])
        trades = ticks[kinds == Kind.TRADE]
        ids, prices = trades["symbol_id"], trades["price"]
        self._last[ids] = prices  # of several for one id the last stays
        fresh = self._first[ids] == ABSENT
        self._first[ids[fresh][::-1]] = prices[fresh][::-1]  # so that the first stays
        np.add.at(self._trades, ids, 1)

    def movers(self) -> list[dict[str, Any]]:
        """Return the symbols whose price has moved most since the first trade, most first."""
        seen = np.flatnonzero((self._first != ABSENT) & (self._first > 0))
        change = self._last[seen] / self._first[seen] - 1
        top = np.argsort(-np.abs(change), kind="stable")[:MOVERS]
        return [
            {
                "symbol": self._symbols[place - 1].name,
                "price": format_fixed(int(self._last[place]), self._symbols[place - 1].price_scale),
                "change": float(moved),
                "trades": int(self._trades[place]),
            }
            for place, moved in zip(seen[top], change[top], strict=True)
        ]


def consume(market_data: MarketData, reader: Reader, *, spin: bool) -> None:
    """Read until stdin has ended and nothing is left."""
    tally = Tally(market_data)
    # Per poll only a time is noted; the counting is done for many records at once.
    ticks = np.empty(BATCH_COUNT, TICK)
    read_ns = np.empty(BATCH_COUNT, np.int64)
    count = 0
    stdin = select.poll()
    stdin.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    ending = False
    report_at = 0.0
    while True:
        got = reader.poll_into(ticks[count:])
        if got:
            read_ns[count : count + got] = time.time_ns()
            count += got
        now = time.monotonic()
        if count == BATCH_COUNT or now >= report_at or (ending and not got):
            tally.take(ticks[:count], read_ns[:count])
            count = 0
        if now >= report_at:
            report_at = now + REPORT_SECONDS
            report(market_data, reader, tally)
            if not ending and stdin.poll(0):
                ending = True
                continue  # all that was published before is there by now: read on
        if got:
            continue
        if ending:
            break
        if not spin:
            time.sleep(IDLE_SECONDS)
    report(market_data, reader, tally)


def report(market_data: MarketData, reader: Reader, tally: Tally) -> None:
    """Tell the parent what was seen so far."""
    behind = {
        ring: market_data.rings[ring].head + 1 - cursor for ring, cursor in reader.cursors.items()
    }
    say(
        received=reader.received,
        lost=reader.lost,
        statuses=tally.status_count,
        snapshot_levels=tally.snapshot_level_count,
        behind=behind,
        latency_ns=summary(tally.latencies.histogram()),
        movers=tally.movers(),
    )


def main() -> None:
    """Read the command line and consume."""
    parser = argparse.ArgumentParser(prog="mdsys.demo.consumer")
    parser.add_argument("--instance", required=True)
    parser.add_argument("--core", type=int, help="run, spinning, on this core")
    args = parser.parse_args()
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    with attach(args.instance) as market_data:
        reader = market_data.reader()
        say(cursors=reader.cursors)
        consume(market_data, reader, spin=args.core is not None)


if __name__ == "__main__":
    main()
