"""The ranking of symbols, off the cells of a real cache."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import numpy as np
import pytest

from mdsys.ring.segment import Instance, map_file, segment_path
from mdsys.top import symbols
from mdsys.top.source import Attachment
from mdsys.top.symbols import SHOWN_MAX, Pace, Ranking, SymbolWatch
from tests.instances import NOW, geometry, running, trades

SECOND = 1_000_000_000
VERSION, TRADE, QUOTE_RECV, HEARD_BOOK = 0, 8, 18, 64
"""Words of a cell (native/include/mdsys/cache.h)."""


class Cells:
    """The feed's side of the cells."""

    def __init__(self, instance: Instance) -> None:
        path = segment_path(instance.geometry.dir, instance.name, "cache")
        self.memory: mmap.mmap = map_file(path, writable=True)
        capacity = instance.geometry.max_symbols
        words = np.frombuffer(self.memory, "<u8", (capacity + 1) * 72, 4096)
        self.words = words.reshape(-1, 72)

    def move(self, symbol_id: int, times: int = 1, heard_ns: int = NOW - SECOND) -> None:
        """Store a quote so often."""
        self.words[symbol_id, VERSION] += np.uint64(2 * times)
        self.words[symbol_id, QUOTE_RECV] = heard_ns


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(max_symbols=300), symbols=3) as made:
        yield made


def watch(instance: Instance) -> SymbolWatch:
    return SymbolWatch(Attachment(instance.name), share=1e9)


def names(ranking: Ranking) -> tuple[list[str], list[str]]:
    return [row.symbol for row in ranking.hottest], [row.symbol for row in ranking.stalest]


def test_hottest_are_those_whose_cells_changed_most(instance: Instance) -> None:
    cells, seen = Cells(instance), watch(instance)
    cells.move(1, 1_000)  # before we came
    seen.look(0.0)
    cells.move(2, 30)
    cells.move(3, 10)
    seen.look(2.0)
    ranking = seen.ranking(NOW)
    assert [(row.symbol, row.rate) for row in ranking.hottest] == [
        ("BINANCE:S2", 15.0),
        ("BINANCE:S3", 5.0),
    ]
    assert ranking.moving == 2


def test_rates_are_of_the_last_seconds(instance: Instance) -> None:
    cells, seen = Cells(instance), watch(instance)
    for second in range(20):
        cells.move(1 if second < 10 else 2, 7)
        seen.look(float(second))
    assert names(seen.ranking(NOW))[0] == ["BINANCE:S2"]
    assert seen.rates().tolist() == [0, 7, 0]


def test_stalest_have_been_silent_longest_and_who_never_spoke_is_counted(
    instance: Instance,
) -> None:
    cells, seen = Cells(instance), watch(instance)
    cells.move(1, heard_ns=NOW - 5 * SECOND)
    cells.move(3, heard_ns=NOW - 90 * SECOND)
    seen.look(0.0)
    ranking = seen.ranking(NOW)
    assert [(row.symbol, row.age_s) for row in ranking.stalest] == [
        ("BINANCE:S3", 90.0),
        ("BINANCE:S1", 5.0),
    ]
    assert ranking.never == 1


def test_who_spoke_within_a_second_is_not_silent(instance: Instance) -> None:
    cells, seen = Cells(instance), watch(instance)
    cells.move(1, heard_ns=NOW - SECOND + 1)
    cells.move(2, heard_ns=NOW + SECOND)  # a cell that was written after the look's time was taken
    seen.look(0.0)
    ranking = seen.ranking(NOW)
    assert ranking.stalest == []
    assert ranking.never == 1


def test_any_channel_counts_as_a_sign_of_life(instance: Instance) -> None:
    cells, seen = Cells(instance), watch(instance)
    cells.move(1, heard_ns=NOW - 90 * SECOND)
    for word in range(3):  # book, ticker, bar
        cells.words[1, HEARD_BOOK + word] = NOW - (3 - word) * SECOND
        seen.look(float(word))
        (row,) = seen.ranking(NOW).stalest
        assert row.age_s == 3 - word


def test_symbols_that_come_later_are_taken_in(instance: Instance) -> None:
    cells, seen = Cells(instance), watch(instance)
    seen.look(0.0)
    new = instance.symbols.add(b"BINANCE:NEW", 0, 8, 8)
    cells.move(new, 4)
    seen.look(1.0)
    assert names(seen.ranking(NOW)) == (["BINANCE:NEW"], ["BINANCE:NEW"])


def test_filter_picks_before_the_ranking_is_cut(instance: Instance) -> None:
    cells, seen = Cells(instance), watch(instance)
    added = [instance.symbols.add(f"KRAKEN:Q{i}".encode(), 0, 8, 8) for i in range(SHOWN_MAX + 20)]
    seen.look(0.0)
    for symbol_id in added:
        cells.move(symbol_id, 100)
    cells.move(2, 1)
    seen.look(1.0)
    assert len(seen.ranking(NOW).hottest) == SHOWN_MAX
    picked = seen.ranking(NOW, "binance:s")
    assert names(picked) == (["BINANCE:S2"], ["BINANCE:S2"])
    assert (picked.picked, picked.moving, picked.never) == (3, 1, 2)
    assert names(seen.ranking(NOW, "no such")) == ([], [])


def test_last_price_is_the_last_trades_and_exact(instance: Instance) -> None:
    cells, seen = Cells(instance), watch(instance)
    cells.move(1)
    cells.move(2)
    tick = trades(1)
    tick["seq"], tick["price"] = 1, 6_154_001_000_000
    cells.words[1, TRADE : TRADE + 8] = np.frombuffer(tick.tobytes(), "<u8")
    seen.look(0.0)
    found = {row.symbol: row.last() for row in seen.ranking(NOW).stalest}
    assert found == {"BINANCE:S1": "61540.01", "BINANCE:S2": None}


def test_half_written_cell_of_a_dead_feed_has_no_price(instance: Instance) -> None:
    cells, seen = Cells(instance), watch(instance)
    cells.move(1)
    cells.words[1, VERSION] += np.uint64(1)
    seen.look(0.0)
    (row,) = seen.ranking(NOW).stalest
    assert row.last() is None


def test_pass_that_took_long_is_not_repeated_soon() -> None:
    spent = 0.0

    def work() -> None:
        nonlocal spent
        spent += 0.01

    pace = Pace(0.004, cpu=lambda: spent)
    assert pace.due(0.0)
    pace.run(0.0, work)
    assert not pace.due(2.4)
    assert pace.due(2.6)


def test_names_are_learned_a_screenful_at_a_time(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(symbols, "NAME_COUNT_MAX", 2)
    seen = watch(instance)
    picked = []
    for second in range(3):
        seen.look(float(second))
        picked.append(seen.ranking(NOW).picked)
    assert picked == [2, 3, 3]
