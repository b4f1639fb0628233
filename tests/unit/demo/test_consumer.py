"""The demo's consumer: its histogram is the daemon's, its movers are the first and last trades."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import numpy as np
import pytest

from mdsys.consume.attach import MarketData, attach
from mdsys.counters.counters import bucket_middle, schema
from mdsys.demo.consumer import BATCH_COUNT, Latencies, Tally, bucket_of, consume, summary
from mdsys.record.record import Kind, Ticks
from mdsys.ring.segment import Instance
from tests.instances import geometry, running, trades, writer

BUCKETS = schema()[2]


def test_bucket_holds_what_is_near_its_middle() -> None:
    values = np.unique(
        np.concatenate([np.arange(4096), np.geomspace(1, 2**40 - 1, 20_000).astype(np.int64)])
    )
    buckets = bucket_of(values, BUCKETS)
    assert (np.diff(buckets) >= 0).all()
    assert set(buckets[:32]) == set(range(32))
    middles = np.array([bucket_middle(int(bucket)) for bucket in buckets])
    assert (np.abs(middles - values) <= values * 0.032).all()


@pytest.mark.parametrize(
    ("value", "bucket"),
    [(31, 31), (32, 32), (33, 32), (34, 33), (63, 47), (64, 48), (2**40 - 1, 591), (2**40, 591)],
)
def test_bucket_edges_are_those_of_counters_h(value: int, bucket: int) -> None:
    assert bucket_of(np.array([value]), BUCKETS).tolist() == [bucket]
    assert BUCKETS == 592


def test_latencies_of_either_sign_are_counted_in_batches_as_one_by_one() -> None:
    values = np.array([5, -7, 1_000_000, 40, 40, -3_000_000_000, 0], np.int64)
    together, apart = Latencies(), Latencies()
    together.record(values)
    for value in values:
        apart.record(np.array([value]))
    for found in (together.histogram(), apart.histogram()):
        assert found.count == 7
        assert (found.min_ns, found.max_ns, found.sum_ns) == (
            -3_000_000_000,
            1_000_000,
            values.sum(),
        )
        assert summary(found) == {
            "p50": 5,
            "p99": pytest.approx(1_000_000, rel=0.032),
            "p999": pytest.approx(1_000_000, rel=0.032),
            "max": 1_000_000,
        }


def test_no_latencies_are_no_numbers() -> None:
    latencies = Latencies()
    latencies.record(np.array([], np.int64))
    assert summary(latencies.histogram()) == dict.fromkeys(("p50", "p99", "p999", "max"))


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(rings=2, depth=16_384), symbols=3) as instance:
        yield instance


@pytest.fixture
def market_data(instance: Instance) -> Iterator[MarketData]:
    with attach(instance.name) as market_data:
        yield market_data


def prices(*rows: tuple[int, int]) -> Ticks:
    out = trades(len(rows))
    for place, (symbol_id, price) in enumerate(rows):
        out[place]["symbol_id"], out[place]["price"] = symbol_id, price
    return out


def test_movers_compare_each_symbols_last_trade_with_its_first(market_data: MarketData) -> None:
    tally = Tally(market_data)
    stamps = np.zeros(8, np.int64)
    first = prices((1, 100), (2, 200), (1, 300), (1, 110), (2, 190))
    tally.take(first, stamps[:5])
    tally.take(prices((1, 120), (2, 150)), stamps[:2])
    assert tally.movers() == [
        {"symbol": "BINANCE:S2", "price": "0.0000015", "change": -0.25, "trades": 3},
        {"symbol": "BINANCE:S1", "price": "0.0000012", "change": pytest.approx(0.2), "trades": 4},
    ]


def test_what_is_no_trade_moves_nothing_and_statuses_have_no_latency(
    market_data: MarketData,
) -> None:
    tally = Tally(market_data)
    ticks = prices((1, 100), (0, 0), (2, 7))
    ticks["kind"] = (Kind.TRADE, Kind.STATUS, Kind.QUOTE)
    ticks["ts_recv"] = (90, 10, 60)
    tally.take(ticks, np.full(3, 100, np.int64))
    assert [mover["symbol"] for mover in tally.movers()] == ["BINANCE:S1"]
    assert tally.status_count == 1
    assert tally.latencies.histogram().count == 2
    assert tally.latencies.histogram().max_ns == 40


def test_what_is_unread_when_the_end_comes_is_still_read(
    instance: Instance,
    market_data: MarketData,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reader = market_data.reader()
    ring = writer(instance)
    for first in range(0, 3 * BATCH_COUNT, BATCH_COUNT // 4):
        ring.publish_records(trades(BATCH_COUNT // 4, first=first))
    ours, theirs = os.pipe()
    os.close(theirs)
    with os.fdopen(ours) as ended:  # the first look at stdin finds it so
        monkeypatch.setattr("sys.stdin", ended)
        consume(market_data, reader, spin=False)
    first_report, *_, last_report = map(json.loads, capsys.readouterr().out.splitlines())
    assert first_report["received"] == BATCH_COUNT, "the end came when most was unread"
    assert (last_report["received"], last_report["lost"]) == (3 * BATCH_COUNT, 0)
    assert last_report["behind"] == {"0": 0, "1": 0}
    assert sum(mover["trades"] for mover in last_report["movers"]) == 3 * BATCH_COUNT
