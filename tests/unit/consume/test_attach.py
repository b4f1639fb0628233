"""Attach, readers and the last-value cache, as a strategy sees them."""

from __future__ import annotations

import mmap
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mdsys
from mdsys import Kind, MarketData, Reader, _native, attach
from mdsys.consume import attach as attach_module
from mdsys.consume.symbol_info import SymbolInfo
from mdsys.errors import HostError, NotRunning, UsageError, WriterGone
from mdsys.record.record import TICK, Ticks
from mdsys.ring.segment import ROOT_DIR, Instance, map_file, segment_path
from tests.instances import (
    cleaned,
    geometry,
    new_name,
    plain,
    running,
    start,
    trades,
    writer,
)
from tests.native import PROGRAMS, compile_program

PARTS = {Kind.TRADE: 1, Kind.TICKER: 1, Kind.QUOTE: 2}
UNREAD_MAX = 64 - 2
"""Of a ring of 64 slots, two of them claimed ahead."""


class Feed:
    """One ring's feed in plain Python: the cell first, then the ring."""

    def __init__(self, instance: Instance, ring: int = 0) -> None:
        self.ring = writer(instance, ring)
        path = Path(f"/dev/shm/mdsys.{instance.name}.cache")
        memory = np.memmap(path, TICK, "r+", offset=4096)
        self.cells = memory[: len(memory) // 9 * 9].reshape(-1, 9)  # nine lines a cell
        self.log: list[bytes] = []

    def store(self, tick: Ticks) -> None:
        """Write the cell alone: what a reader may meet while a record is on its way."""
        stored = tick.copy()
        stored["seq"] = self.ring.next
        self.cells[int(tick["symbol_id"][0]), PARTS[Kind(tick["kind"][0])]] = stored[0]

    def release(self, tick: Ticks) -> None:
        stored = tick.copy()
        stored["seq"] = self.ring.next
        self.log.append(plain(stored))
        self.ring.publish_records(tick)

    def publish(self, tick: Ticks) -> None:
        self.store(tick)
        self.release(tick)


def tick_of(number: int, symbol_id: int, kind: Kind) -> Ticks:
    tick = trades(1, symbol_id=symbol_id, first=number)
    tick["kind"] = kind
    return tick


State = dict[tuple[int, int], bytes]


def apply(state: State, ticks: Ticks, newest: dict[tuple[int, int], int]) -> None:
    """Apply records in order; each (symbol, part) must only ever get newer."""
    for tick in ticks:
        if Kind(tick["kind"]) not in PARTS:
            continue
        key = int(tick["symbol_id"]), PARTS[Kind(tick["kind"])]
        seq = int(tick["seq"])
        assert seq > newest.get(key, 0), "a record came twice, or an older one after it"
        newest[key] = seq
        state[key] = plain(tick)


def state_of(log: list[bytes]) -> State:
    state: State = {}
    for raw in log:
        tick = np.frombuffer(raw, TICK)[0]
        state[int(tick["symbol_id"]), PARTS[Kind(tick["kind"])]] = raw
    return state


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(max_symbols=130), symbols=3) as instance:
        yield instance


@pytest.fixture
def md(instance: Instance) -> Iterator[MarketData]:
    with attach(instance.name) as md:
        yield md


# ---- symbols -----------------------------------------------------------------------------------


def test_symbols_come_by_name_with_all_that_never_changes(md: MarketData) -> None:
    assert list(md.symbols) == ["BINANCE:S1", "BINANCE:S2", "BINANCE:S3"]
    assert md.symbols["BINANCE:S2"] == SymbolInfo("BINANCE:S2", 2, 0, 8, 8)
    assert (md.symbol("BINANCE:S2").venue, md.symbol("BINANCE:S2").native) == ("BINANCE", "S2")
    assert md.symbol_name(3) == "BINANCE:S3"
    assert md.symbol_name(0) is None


def test_symbols_added_later_are_found(instance: Instance, md: MarketData) -> None:
    assert len(md.symbols) == 3
    instance.symbols.add(b"KITE:NSE:INFY", 0, 2, 0)
    assert md.symbol("KITE:NSE:INFY").id == 4
    assert md.symbol("KITE:NSE:INFY").native == "NSE:INFY"
    instance.symbols.add(b"BINANCE:S5", 0, 8, 8)
    assert md.symbol_name(5) == "BINANCE:S5"


def test_unknown_symbol_is_a_usage_error(md: MarketData) -> None:
    for call in (md.last_trade, md.last_quote, md.symbol):
        with pytest.raises(UsageError, match="'BINANCE:NONE' is not in instance"):
            call("BINANCE:NONE")
    with pytest.raises(UsageError, match="matches no symbol"):
        md.reader(["KITE:*"])
    with pytest.raises(UsageError):
        md.reader(["BINANCE:S1", "S2"])


def test_globs_pick_each_symbol_once(md: MarketData) -> None:
    picked = md.match(["BINANCE:S2", "BINANCE:*", "BINANCE:S[12]"])
    assert [symbol.id for symbol in picked] == [2, 1, 3]


# ---- readers -----------------------------------------------------------------------------------


def test_reader_begins_at_the_head(instance: Instance, md: MarketData) -> None:
    feed = Feed(instance)
    feed.publish(tick_of(1, 1, Kind.TRADE))
    reader = md.reader()
    assert len(reader.poll()) == 0
    feed.publish(tick_of(2, 1, Kind.TRADE))
    assert reader.poll()["seq"].tolist() == [2]
    assert reader.cursors == {0: 3}


def test_polled_array_is_the_callers_own(instance: Instance, md: MarketData) -> None:
    feed, reader = Feed(instance), md.reader()
    feed.publish(tick_of(1, 1, Kind.TRADE))
    first = reader.poll()
    feed.publish(tick_of(2, 1, Kind.TRADE))
    second = reader.poll()
    assert (first["trade_id"][0], second["trade_id"][0]) == (1, 2)
    assert first.dtype == TICK
    assert first.flags.owndata
    assert first.flags.writeable


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 1000])
def test_poll_returns_at_most_count_max(instance: Instance, md: MarketData, count: int) -> None:
    reader = md.reader()
    ring = writer(instance)
    ring.publish_records(trades(16))
    assert len(reader.poll(count)) == min(count, 16)


@pytest.mark.parametrize("count", [0, -1, -255])
def test_poll_of_less_than_one_record_is_refused(md: MarketData, count: int) -> None:
    with pytest.raises(ValueError, match="count_max"):
        md.reader().poll(count)


def test_filtered_reader_sees_its_symbols_and_accounts_for_the_rest(
    instance: Instance, md: MarketData
) -> None:
    for i in range(4, 130):
        instance.symbols.add(f"BINANCE:S{i}".encode(), 0, 8, 8)
    reader = md.reader(["BINANCE:S1", "BINANCE:S63", "BINANCE:S64", "BINANCE:S128"])
    ring = writer(instance)
    ids = [1, 2, 62, 63, 64, 65, 127, 128, 129, 0]
    ticks = trades(len(ids))
    ticks["symbol_id"] = ids
    ticks["kind"][-1] = Kind.STATUS
    ring.publish_records(ticks)
    assert reader.poll()["symbol_id"].tolist() == [1, 63, 64, 128, 0]
    assert (reader.received, reader.filtered, reader.lost) == (5, 5, 0)


def test_reader_of_some_symbols_reads_only_their_rings() -> None:
    with running(geometry(rings=3), symbols=3) as instance, attach(instance.name) as md:
        writers = [writer(instance, ring) for ring in range(3)]
        reader = md.reader(["BINANCE:S1", "BINANCE:S3"])
        for i, ring in enumerate(writers):
            ring.publish_records(trades(2, symbol_id=i + 1))
        assert reader.poll()["symbol_id"].tolist() == [1, 1, 3, 3]
        assert reader.cursors == {0: 3, 2: 3}
        assert reader.epochs == {0: 1, 2: 1}


def test_reader_of_some_rings_reads_only_those() -> None:
    with running(geometry(rings=2), symbols=4) as instance, attach(instance.name) as md:
        reader = md.reader(rings=[0])
        for ring in range(2):
            writer(instance, ring).publish_records(trades(3, symbol_id=ring + 1))
        assert reader.poll()["symbol_id"].tolist() == [1, 1, 1]
        assert reader.cursors == {0: 4}
        one = md.reader("BINANCE:S2", rings=[1])
        assert list(one.cursors) == [1]
        for rings in ([2], [], 0, ["0"], [-1]):
            with pytest.raises(UsageError, match="rings"):
                md.reader(rings=rings)  # type: ignore[arg-type]


def test_reader_of_no_symbol_reads_nothing(instance: Instance, md: MarketData) -> None:
    reader = md.reader([])
    Feed(instance).publish(tick_of(1, 1, Kind.TRADE))
    assert len(reader.poll()) == 0
    assert len(reader.refresh()) == 0


def test_reader_outlives_its_market_data(instance: Instance) -> None:
    feed = Feed(instance)
    with attach(instance.name) as md:
        reader = md.reader()
    feed.publish(tick_of(1, 1, Kind.TRADE))
    assert len(reader.poll()) == 1


def test_attach_in_the_midst_of_a_start_with_other_rings_mixes_no_segments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the reader is told of no end, has the old names, and is never registered."""
    with cleaned(new_name()) as name:
        old = start(name, geometry(depth=64))
        new: list[Instance] = []

        def mapped(path: Path) -> mmap.mmap:
            if not new and not path.name.endswith(".symbols"):  # the door was opened
                old.lock.release()
                new.append(start(name, geometry(depth=128)))
            return map_file(path)

        monkeypatch.setattr(attach_module, "map_file", mapped)
        with pytest.raises(NotRunning, match="is starting: try again"):
            attach(name)
        with attach(name) as md:
            assert md.rings[0].depth == 128
        new[0].lock.release()


def test_reader_of_rings_that_their_remover_left_unmarked_is_told_all_the_same(
    instance: Instance, md: MarketData
) -> None:
    reader = md.reader()
    writer(instance).publish_records(trades(3))
    door = segment_path(ROOT_DIR, instance.name, "symbols")
    _native.supersede_segment(map_file(door, writable=True))
    assert len(reader.poll()) == 3
    with pytest.raises(WriterGone):
        reader.poll()


def test_iteration_yields_record_by_record(instance: Instance, md: MarketData) -> None:
    feed, reader = Feed(instance), md.reader()
    for number in range(3):
        feed.publish(tick_of(number, 1, Kind.TRADE))
    records = iter(reader)
    assert [int(next(records)["seq"]) for _ in range(3)] == [1, 2, 3]


# ---- last values -------------------------------------------------------------------------------


def test_last_values_are_none_before_the_first_and_whole_after(
    instance: Instance, md: MarketData
) -> None:
    assert md.last_trade("BINANCE:S1") is None
    assert md.last_quote("BINANCE:S1") is None
    feed = Feed(instance)
    feed.publish(tick_of(7, 1, Kind.TRADE))
    trade = md.last_trade("BINANCE:S1")
    assert trade is not None
    assert (int(trade["trade_id"]), int(trade["seq"])) == (7, 1)
    assert md.last_quote("BINANCE:S1") is None
    assert md.last_trade("BINANCE:S2") is None
    feed.publish(tick_of(8, 1, Kind.QUOTE))
    quote = md.last_quote("BINANCE:S1")
    assert quote is not None
    assert (int(quote["seq"]), int(quote["kind"])) == (2, Kind.QUOTE)


def test_refresh_leaves_to_the_ring_what_the_ring_will_bring(
    instance: Instance, md: MarketData
) -> None:
    feed = Feed(instance)
    feed.publish(tick_of(1, 1, Kind.TRADE))
    late = tick_of(2, 1, Kind.TRADE)
    feed.store(late)
    reader = md.reader()
    assert len(reader.refresh()) == 0, "record 2 is in the cell and not yet in the ring"
    feed.release(late)
    assert len(reader.refresh()) == 0, "record 2 is in the ring and not yet read"
    assert reader.poll()["seq"].tolist() == [2]
    assert len(reader.refresh()) == 0, "record 2 has been read"


def test_refresh_after_a_lap_holds_what_was_overwritten_and_nothing_else(
    instance: Instance, md: MarketData
) -> None:
    feed, reader = Feed(instance), md.reader()
    feed.publish(tick_of(1, 3, Kind.QUOTE))
    assert reader.poll()["seq"].tolist() == [1]
    assert len(reader.refresh()) == 0, "nothing was there before it"
    feed.publish(tick_of(2, 2, Kind.TRADE))
    for number in range(3, 103):
        feed.publish(tick_of(number, 1, Kind.QUOTE))
    batch = reader.poll(16)
    assert batch["seq"].tolist() == [71, 72, 73, 74, 75], "half a ring behind, and a short batch"
    assert reader.lost == 69
    assert reader.refresh()["seq"].tolist() == [2], "1 was read; 102, the last quote, will be"
    assert len(reader.refresh()) == 0
    assert reader.poll()["seq"].tolist() == list(range(76, 103))
    assert len(reader.refresh()) == 0


def test_each_ring_is_refreshed_for_what_was_missed_of_it() -> None:
    with running(geometry(rings=2), symbols=4) as instance, attach(instance.name) as md:
        feeds = [Feed(instance, ring) for ring in range(2)]
        reader = md.reader()
        for i, feed in enumerate(feeds):
            feed.publish(tick_of(1, i + 1, Kind.TRADE))
        for number in range(2, 102):
            feeds[1].publish(tick_of(number, 4, Kind.QUOTE))
        assert len(reader.poll()) == 1 + 32
        assert reader.refresh()["symbol_id"].tolist() == [2], "ring 0 was not lapped"
        assert len(reader.refresh()) == 0


def test_refresh_of_a_reader_with_a_filter_holds_its_symbols_only(
    instance: Instance, md: MarketData
) -> None:
    feed = Feed(instance)
    for symbol_id in (1, 2, 3):
        feed.publish(tick_of(symbol_id, symbol_id, Kind.TRADE))
    assert md.reader(["BINANCE:S2"]).refresh()["symbol_id"].tolist() == [2]


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("publish"), st.integers(1, 3), st.sampled_from(list(PARTS)), st.integers(1, 80)
        ),
        st.tuples(st.just("half"), st.integers(1, 3), st.sampled_from(list(PARTS))),
        st.tuples(st.just("join")),
        st.tuples(st.just("poll"), st.integers(1, 80)),
        st.tuples(st.just("refresh")),
    ),
    max_size=40,
)


class Strategy:
    """A reader, and what it makes of all that it is given, in the order it is given."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.state: State = {}
        self.newest: dict[tuple[int, int], int] = {}
        self.seen: set[int] = set()
        self.owed = 1
        """Stretches missed and not refreshed: at first, all before it."""

    def apply(self, ticks: Ticks, *, again: bool) -> None:
        """Apply records; unless ``again`` is set, none may have come before."""
        for tick in ticks:
            key = int(tick["symbol_id"]), PARTS[Kind(tick["kind"])]
            seq = int(tick["seq"])
            assert again or seq not in self.seen, "a record came twice"
            assert seq >= self.newest.get(key, 0), "an older record came after a newer one"
            self.seen.add(seq)
            self.newest[key] = seq
            self.state[key] = plain(tick)

    def poll(self, count: int) -> None:
        lost = self.reader.lost
        self.apply(self.reader.poll(count), again=False)
        self.owed += self.reader.lost > lost

    def refresh(self) -> None:
        self.apply(self.reader.refresh(), again=self.owed > 1)
        self.owed = 0
        assert len(self.reader.refresh()) == 0, "what was missed is told once"


def run_script(script: list[tuple[object, ...]], *, prompt: bool) -> int:
    """Follow a feed; a prompt strategy refreshes before its next lap. Returns how many laps."""
    laps = 0
    with running(symbols=3) as instance, attach(instance.name) as md:
        feed = Feed(instance)
        joined: list[Strategy] = []
        waiting: Ticks | None = None  # in its cell, not yet in the ring
        number = 0

        def poll(strategy: Strategy, count: int) -> None:
            lapped = feed.ring.next - strategy.reader.cursors[0] > UNREAD_MAX
            if prompt and lapped and strategy.owed:
                strategy.refresh()
            lost = strategy.reader.lost
            strategy.poll(count)
            assert (strategy.reader.lost > lost) == lapped

        for step in script:
            if waiting is not None and step[0] in ("publish", "half"):
                feed.release(waiting)
                waiting = None
            match step:
                case "publish", int(symbol_id), Kind() as kind, int(count):
                    for _ in range(count):
                        number += 1
                        feed.publish(tick_of(number, symbol_id, kind))
                case "half", int(symbol_id), Kind() as kind:
                    number += 1
                    waiting = tick_of(number, symbol_id, kind)
                    feed.store(waiting)
                case ("join",) if len(joined) < 3:
                    joined.append(Strategy(md.reader()))
                case "poll", int(count):
                    for strategy in joined:
                        poll(strategy, count)
                case ("refresh",):
                    for strategy in joined:
                        strategy.refresh()
        if waiting is not None:
            feed.release(waiting)
        for strategy in joined:
            while strategy.reader.cursors[0] < feed.ring.next:
                poll(strategy, 1000)
            strategy.refresh()
            assert strategy.state == state_of(feed.log)
            laps += strategy.reader.lost > 0
    return laps


def test_late_and_lapped_readers_neither_miss_nor_repeat() -> None:
    laps = 0

    @given(steps)
    @settings(deadline=None, max_examples=150, derandomize=True)
    def run(script: list[tuple[object, ...]]) -> None:
        nonlocal laps
        laps += run_script(script, prompt=True)

    run()
    assert laps > 20, "the scripts hardly lap anybody"


@given(steps)
@settings(deadline=None, max_examples=100, derandomize=True)
def test_reader_that_is_lapped_again_before_it_refreshes_is_told_the_present_state(
    script: list[tuple[object, ...]],
) -> None:
    run_script(script, prompt=False)


def test_joins_while_a_feed_runs_neither_miss_nor_repeat() -> None:
    # Joins again and again, catches up, and compares with a reader that saw everything.
    program = compile_program(PROGRAMS / "crash_writer.c", flags=("-D_GNU_SOURCE",))
    rounds, per_round = 20_000, 7
    with (
        running(geometry(depth=1 << 19), symbols=2) as instance,
        attach(instance.name) as md,
    ):
        everything = md.reader()
        joins: list[tuple[int, State, int]] = []
        command = [str(program), instance.name, "publish", "0", "0", str(rounds), "32"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as feed:
            while feed.poll() is None or len(joins) < 20:
                reader = md.reader()
                start = reader.cursors[0]
                state: State = {}
                newest: dict[tuple[int, int], int] = {}
                for _ in range(len(joins) % 3):  # refreshed at once, or some batches later
                    apply(state, reader.poll(64), newest)
                apply(state, reader.refresh(), newest)
                head = md.rings[0].head  # what a cell held back is not newer than this
                while reader.cursors[0] <= head:
                    apply(state, reader.poll(64), newest)
                assert reader.lost == 0
                joins.append((start, state, reader.cursors[0]))
        assert feed.returncode == 0
        log = everything.poll(rounds * per_round + 1)
        assert len(log) == rounds * per_round
        assert log["seq"].tolist() == list(range(1, len(log) + 1))
        state, at = {}, 1
        for start, found, end in sorted(joins, key=lambda join: join[2]):
            apply(state, log[at - 1 : end - 1], {})
            at = end
            assert found == state, f"joined at {start}"


def test_last_values_of_a_running_feed_are_whole_even_on_one_core() -> None:
    # Sharing a core, the feed is interrupted inside a cell sooner or later. Readers wait then.
    program = compile_program(PROGRAMS / "crash_writer.c", flags=("-D_GNU_SOURCE",))
    affinity = os.sched_getaffinity(0)
    core = {min(affinity)}
    with running(symbols=2) as instance, attach(instance.name) as md:
        os.sched_setaffinity(0, core)
        try:
            command = [str(program), instance.name, "publish", "0", "0", "400000"]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as feed:
                newest = 0
                while feed.poll() is None:
                    for _ in range(2000):
                        quote = md.last_quote("BINANCE:S1")
                        if quote is not None:
                            body = int(quote["ts_event"]) + 2
                            assert int(quote["bid_price"]) == body, "torn record delivered"
                            assert int(quote["ask_size"]) == body + 3, "torn record delivered"
                            assert int(quote["seq"]) >= newest
                            newest = int(quote["seq"])
        finally:
            os.sched_setaffinity(0, affinity)
        assert newest > 0


def test_a_dead_feeds_half_written_cell_is_an_error_of_the_host(
    instance: Instance, md: MarketData
) -> None:
    feed = Feed(instance)
    feed.publish(tick_of(1, 1, Kind.TRADE))
    version = feed.cells[1].view("<u8")
    version[0] += 1
    with pytest.raises(HostError, match="half-written"):
        md.last_trade("BINANCE:S1")
    reader = md.reader()
    with pytest.raises(HostError, match="half-written"):
        reader.refresh()
    assert md.last_trade("BINANCE:S2") is None, "the others are as they were"
    version[0] += 1
    assert reader.refresh()["seq"].tolist() == [1], "what could not be told is not forgotten"


def test_bare_names_are_there() -> None:
    assert {"attach", "TICK", "KIND_DTYPE", "ABSENT", "to_columns", "WriterGone"} <= set(dir(mdsys))
