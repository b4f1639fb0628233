"""md.book: what a reader sees of a book, and that it is what the ring's levels make."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mdsys
from mdsys.consume.book import LEVEL_COUNT, Book
from mdsys.errors import UsageError
from mdsys.record.record import SIDE_MASK, TICK, Flag, Kind, Status, Ticks
from tests.daemons import PATIENCE_S, instance, read_until, statuses
from tests.instances import running
from tests.simulated import native, street

REPOSITORY = Path(__file__).parents[3]
VENUES = ("binance", "kraken", "coinbase_exchange")
"""A book by REST and differences; by stream with a checksum; by stream, the whole of it first."""


def book(bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> Book:
    rows = [np.array(side, np.int64).reshape(-1, 2) for side in (bids, asks)]
    return Book(7, 1, 2, True, False, rows[0], rows[1], price_scale=2, size_scale=0)


def test_levels_are_exact_and_best_first() -> None:
    made = book([(120, 5), (110, 1)], [(130, 3)])
    assert made.levels("bids") == [(Decimal("1.20"), Decimal(5)), (Decimal("1.10"), Decimal(1))]
    assert made.levels("asks") == [(Decimal("1.30"), Decimal(3))]
    assert book([], []).levels("asks") == []


def test_a_side_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="side 'bid': bids or asks"):
        book([], []).levels("bid")


def test_there_is_no_book_before_the_first_and_none_of_a_stranger() -> None:
    with running(symbols=1) as made, mdsys.attach(made.name) as md:
        assert md.book("BINANCE:S1") is None
        with pytest.raises(UsageError, match="'BINANCE:S2' is not in instance"):
            md.book("BINANCE:S2")


def rebuilt(ticks: Ticks) -> tuple[list[list[int]], list[list[int]]]:
    """Return the top of the book that the level records of one symbol make, best first."""
    sides: dict[int, dict[int, int]] = {Flag.BUY: {}, Flag.SELL: {}}
    whole = False
    for tick in ticks[ticks["kind"] == Kind.LEVEL]:
        snapshot = bool(tick["flags"] & Flag.SNAPSHOT)
        if snapshot and not whole:  # the first level of a whole book
            for side in sides.values():
                side.clear()
        whole = snapshot and not tick["flags"] & Flag.LAST
        if not tick["flags"] & SIDE_MASK:  # of a whole book without a level
            continue
        levels = sides[int(tick["flags"]) & SIDE_MASK]
        levels[int(tick["price"])] = int(tick["size"])
        if tick["size"] == 0:
            del levels[int(tick["price"])]
    bids = sorted(sides[Flag.BUY].items(), reverse=True)[:LEVEL_COUNT]
    asks = sorted(sides[Flag.SELL].items())[:LEVEL_COUNT]
    return [list(each) for each in bids], [list(each) for each in asks]


def configuration(name: str, sims: Any) -> dict[str, Any]:
    venues = [
        {"name": v, "channels": ["book"], "url": sims[v].url, "rest_url": sims[v].rest_url}
        for v in VENUES
    ]
    rings = {"num_buffers": 1, "buffer_size": "4 MiB", "max_symbols": 64}
    return {"instance": name, "rings": rings, "venue": venues}


@pytest.mark.system
def test_the_book_of_the_cache_is_what_the_levels_of_the_ring_make(tmp_path: Path) -> None:
    symbols = [f"{venue.upper()}:{native(venue, 0)}" for venue in VENUES]
    with (
        instance() as name,
        street(VENUES, symbols=1, rate=200, mix=(0, 0, 100)) as sims,
        (tmp_path / "log").open("wb") as log,
        mdsys.MarketDataSystem(configuration(name, sims), log=log) as system,
    ):
        system.start()
        with mdsys.attach(name) as md:
            reader = md.reader()  # before the first level is there
            assert system.start(symbols)["subscriptions"]["confirmed"] == len(symbols)
            ticks = read_until(reader, lambda ticks: len(ticks) > 2_000)
            for symbol in symbols:
                found = md.book(symbol)
                assert found is not None
                assert found.usable, symbol
                while ticks["seq"][-1] < found.seq:
                    ticks = np.concatenate([ticks, reader.poll(timeout=PATIENCE_S)], dtype=TICK)
                own = ticks[ticks["symbol_id"] == md.symbol(symbol).id]
                levels = own[(own["kind"] == Kind.LEVEL) & (own["seq"] <= found.seq)]
                assert levels["seq"][-1] == found.seq
                assert levels["ts_recv"][-1] == found.ts_recv
                assert (found.bids.tolist(), found.asks.tolist()) == rebuilt(levels), symbol
                assert found.levels("bids")[0][0] < found.levels("asks")[0][0]
            assert reader.lost == 0


def snapshot_after_loss(ticks: Ticks) -> Ticks:
    """Return the levels of whole books that came after a socket was lost."""
    down = ticks[(ticks["kind"] == Kind.STATUS) & (ticks["what"] == Status.CONNECTION_DOWN)]
    whole: Ticks = ticks[(ticks["kind"] == Kind.LEVEL) & (ticks["flags"] & Flag.SNAPSHOT > 0)]
    return whole[whole["seq"] > down["seq"][0]] if len(down) else whole[:0]


@pytest.mark.system
def test_a_book_whose_thread_is_lost_says_so_until_a_snapshot_has_come(tmp_path: Path) -> None:
    symbol = f"KRAKEN:{native('kraken', 0)}"
    with (
        instance() as name,
        street(VENUES, symbols=1, rate=100, mix=(0, 0, 100)) as sims,
        (tmp_path / "log").open("wb") as log,
        mdsys.MarketDataSystem(configuration(name, sims), log=log) as system,
    ):
        system.start([symbol])
        with mdsys.attach(name) as md:
            reader = md.reader([symbol])

            def usable(ticks: Ticks) -> bool:
                book = md.book(symbol)
                return book is not None and book.usable and len(ticks) > 0

            read_until(reader, usable)
            sims.inject("kraken", "reset")
            ticks = read_until(reader, lambda ticks: len(snapshot_after_loss(ticks)) > 0)
            read_until(reader, usable)
            whole = snapshot_after_loss(ticks)
            before = ticks[ticks["seq"] < whole["seq"][0]]
            assert Status.RESYNC in statuses(before)


def test_the_guides_program_prints_a_book(capsys: pytest.CaptureFixture[str]) -> None:
    text = (REPOSITORY / "docs" / "consumers.md").read_text()
    (program,) = re.findall(
        r"^```python\n((?:(?!```).)*md\.book.*?)^```$", text, re.MULTILINE | re.DOTALL
    )
    with running() as made:
        made.symbols.add(b"KRAKEN:BTC/USD", 0, 8, 8)
        exec(
            compile(program.replace('"default"', repr(made.name)), "docs/consumers.md", "exec"), {}
        )
    assert capsys.readouterr().out == "no book yet\n"
