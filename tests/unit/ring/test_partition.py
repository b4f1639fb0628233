"""Placement of symbols on rings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from mdsys.ring.partition import Balance, Partition, jump_hash
from tests.universe import real_names


def generated_names() -> list[str]:
    return [f"BINANCE:SYM{index:06d}" for index in range(30_000)]


@pytest.fixture(params=["generated", "real"])
def names(request: pytest.FixtureRequest, data_dir: Path) -> Sequence[str]:
    return generated_names() if request.param == "generated" else real_names(data_dir)


@pytest.mark.parametrize(
    ("key", "bucket_count", "bucket"),
    [(0, 1, 0), (1, 1, 0), (42, 57, 43), (0xDEAD10CC, 666, 361), (256, 1024, 520)],
)
def test_jump_hash_agrees_with_published_values(key: int, bucket_count: int, bucket: int) -> None:
    # The vectors of github.com/lithammer/go-jump-consistent-hash and of its ports.
    assert jump_hash(key, bucket_count) == bucket


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16, 63])
def test_growth_by_one_ring_moves_its_share_and_only_to_the_new_ring(
    names: Sequence[str], count: int
) -> None:
    before, after = Partition(range(count)), Partition(range(count + 1))
    moved = [name for name in names if before.ring(name) != after.ring(name)]
    share = 1 / (count + 1)
    # Each name moves with probability 1/(n+1): six standard deviations of that binomial.
    tolerance = 6 * math.sqrt(len(names) * share * (1 - share))
    assert abs(len(moved) - len(names) * share) < tolerance
    assert {after.ring(name) for name in moved} == {count}


@pytest.mark.parametrize("count", [2, 4, 12, 64])
def test_rings_share_the_symbols_evenly(names: Sequence[str], count: int) -> None:
    partition = Partition(range(count))
    balance = Balance.of(map(partition.ring, names), dict.fromkeys(range(count), 0))
    mean = len(names) / count
    assert sum(balance.symbols.values()) == len(names)
    assert max(abs(n - mean) for n in balance.symbols.values()) < 6 * math.sqrt(mean)
    assert balance.symbols_max_to_mean == max(balance.symbols.values()) / mean


def test_a_feed_places_only_on_its_own_rings() -> None:
    rings = (7, 3, 11)
    partition = Partition(rings)
    assert {partition.ring(name) for name in generated_names()} == set(rings)


def test_a_ring_added_at_the_end_takes_from_all_whatever_the_numbers() -> None:
    before, after = Partition((7, 3)), Partition((7, 3, 11))
    moved = {(before.ring(n), after.ring(n)) for n in generated_names()}
    assert moved == {(7, 7), (3, 3), (7, 11), (3, 11)}


def test_a_placement_is_the_same_in_every_process_and_release() -> None:
    # Golden: files outlive builds, so these may never change.
    partition = Partition(range(8))
    names = ["BINANCE:BTCUSDT", "BINANCE:ETHUSDT", "BINANCE_USDM:BTCUSDT", "KITE:NSE:INFY"]
    assert [partition.ring(name) for name in names] == [1, 1, 3, 7]


def test_a_second_look_up_does_not_hash_again(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = Partition(range(4))
    first = partition.ring("BINANCE:BTCUSDT")
    monkeypatch.setattr("mdsys.ring.partition.jump_hash", lambda *_: pytest.fail("hashed again"))
    assert partition.ring("BINANCE:BTCUSDT") == first


@pytest.mark.parametrize("rings", [(), (1, 1)])
def test_impossible_rings_are_refused(rings: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one, each once"):
        Partition(rings)


def test_balance_counts_empty_rings_and_traffic() -> None:
    balance = Balance.of([0, 0, 2], {2: 300, 0: 100, 1: 0, 3: 0})
    assert balance.symbols == {0: 2, 1: 0, 2: 1, 3: 0}
    assert balance.symbols_max_to_mean == pytest.approx(2 / 0.75)
    assert balance.records_max_to_mean == 3.0


def test_balance_of_nothing_is_even() -> None:
    assert Balance.of([], {0: 0, 1: 0}).symbols_max_to_mean == 1.0


def test_balance_refuses_a_symbol_on_no_ring() -> None:
    with pytest.raises(ValueError, match=r"rings \[5\]"):
        Balance.of([5], {0: 0})
