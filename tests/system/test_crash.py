"""kill -9 of a feed after every one of its stores: what readers see, and what the next feed finds.

The rounds are those of native/tests/crash_writer.c.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mdsys import ABSENT, TICK, Kind, MarketData, Reader, Status, attach
from mdsys.record.record import Ticks
from mdsys.ring.segment import Instance
from tests.instances import geometry, plain, running, writer
from tests.native import PROGRAMS, compile_program

pytestmark = pytest.mark.system

RECORDS_A_ROUND = 7
PARTS = {Kind.TRADE: "last_trade", Kind.QUOTE: "last_quote"}


@pytest.fixture(scope="module")
def program() -> Path:
    return compile_program(PROGRAMS / "crash_writer.c", flags=("-D_GNU_SOURCE",))


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(depth=64), symbols=2) as instance:
        yield instance


def feed(
    program: Path, name: str, first: int, rounds: int = 1, *, k: int = 0, mode: str = "publish"
) -> int | None:
    """Run a feed; return how many stores it made, or None when it was killed after store k."""
    command = [str(program), name, mode, str(k), str(first), str(rounds)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode in (0, -signal.SIGKILL), result.stderr
    return int(result.stdout) if result.returncode == 0 else None


def row(kind: Kind, symbol_id: int, flags: int, number: int, body: tuple[int, ...]) -> np.void:
    tick = np.zeros(1, TICK)
    tick["kind"], tick["symbol_id"], tick["flags"] = kind, symbol_id, flags
    tick["ts_event"], tick["ts_recv"] = number * 10 + 1, number * 10 + 2
    tick["price_scale"] = tick["size_scale"] = 8
    return np.void(tick.tobytes()[8:32] + np.array(body, "<i8").tobytes())


def expected_round(number: int) -> list[np.void]:
    """Return what one round publishes, without sequences."""
    n = number * 10

    def trade(symbol_id: int) -> np.void:
        return row(Kind.TRADE, symbol_id, 9, number, (n + 3, n + 4, number + 1, n + 5))

    def quote(symbol_id: int) -> np.void:
        return row(Kind.QUOTE, symbol_id, 8, number, (n + 3, n + 4, n + 5, n + 6))

    levels = [
        row(Kind.LEVEL, 1, 13 if i == 2 else 5, number, (n + i, n + 4, ABSENT, number + 1))
        for i in range(3)
    ]
    return [trade(1), quote(2), *levels, trade(2), quote(1)]


def payload(tick: np.void) -> np.void:
    return np.void(tick.tobytes()[8:])


def drain(reader: Reader) -> list[np.void]:
    out: list[np.void] = []
    while len(ticks := reader.poll()):
        out += list(ticks)
    return out


def is_status(tick: np.void, what: Status) -> bool:
    return bool(tick["kind"] == Kind.STATUS and tick["what"] == what)


def state_of(log: list[np.void]) -> dict[tuple[int, str], bytes]:
    """Return the last record of every symbol and part."""
    return {
        (int(tick["symbol_id"]), PARTS[Kind(tick["kind"])]): plain(tick)
        for tick in log
        if tick["kind"] in PARTS
    }


def cells_of(md: MarketData) -> dict[tuple[int, str], bytes]:
    cells = {}
    for symbol in md.symbols.values():
        for part in PARTS.values():
            last: np.void | None = getattr(md, part)(symbol.name)
            if last is not None:
                cells[symbol.id, part] = last.tobytes()
    return cells


def take_over(instance: Instance) -> tuple[int, int, int]:
    """Be the next feed: return the sequence it finds, and what it repaired."""
    ring = writer(instance)
    torn, republished = ring.repair(instance.cache, instance.symbols)
    return ring.next, torn, republished


def test_book_of_a_dead_feed_is_not_to_be_used_from_the_take_over_on(
    program: Path, instance: Instance
) -> None:
    feed(program, instance.name, 1)
    with attach(instance.name) as md:
        before = md.book("BINANCE:S1")
        assert before is not None
        assert before.usable
        take_over(instance)
        after = md.book("BINANCE:S1")
        assert after is not None
        assert not after.usable
        assert after.seq == before.seq


def check_whole(log: list[np.void], ring_next: int, reader: Reader, md: MarketData) -> None:
    """Check that every record was delivered once, in order, and the cells are the log's state."""
    assert [int(tick["seq"]) for tick in log] == list(range(1, len(log) + 1))
    assert (reader.received, reader.lost) == (len(log), 0)
    assert ring_next == len(log) + 1, "received + lost == published"
    assert cells_of(md) == state_of(log)
    assert len(reader.refresh()) == 0, "it has missed nothing"
    assert state_of(list(md.reader().refresh())) == state_of(log), "who comes now has missed all"


def test_feed_publishes_what_the_test_expects(program: Path, instance: Instance) -> None:
    with attach(instance.name) as md:
        reader = md.reader()
        feed(program, instance.name, 0, 2)
        log = drain(reader)
        assert [payload(tick) for tick in log] == expected_round(0) + expected_round(1)
        check_whole(log, 2 * RECORDS_A_ROUND + 1, reader, md)
        assert reader.epochs == {0: 1}


def test_kill_after_any_store_of_a_publish_tears_and_hides_nothing(program: Path) -> None:
    with running(symbols=2) as instance:
        feed(program, instance.name, 0)
        count = feed(program, instance.name, 1)
    assert count is not None
    assert count > 100
    delivered_before = 0
    outcomes = set()
    for k in range(1, count + 1):
        with running(symbols=2) as instance, attach(instance.name) as md:
            reader = md.reader()
            feed(program, instance.name, 0)
            assert feed(program, instance.name, 1, k=k) is None
            log = drain(reader)
            start = RECORDS_A_ROUND + 1  # behind the status of the second feed
            assert is_status(log[start - 1], Status.WRITER_RESTARTED)
            got = [payload(tick) for tick in log[start:]]
            assert got == expected_round(1)[: len(got)], f"torn record delivered, k={k}"
            assert len(got) >= delivered_before, f"record lost that had reached the ring, k={k}"
            delivered_before = len(got)

            epoch = reader.epochs[0]
            ring_next, torn, republished = take_over(instance)
            assert reader.epochs[0] == epoch + 1
            after = drain(reader)
            assert is_status(after[0], Status.WRITER_RESTARTED)
            # What had reached its cell and not the ring comes now; nothing else does.
            assert len(after) == 1 + republished
            assert [payload(tick) for tick in after[1:]] == expected_round(1)[len(got) :][
                :republished
            ]
            assert torn + republished <= 1
            outcomes.add((torn, republished))
            check_whole(log + after, ring_next, reader, md)
    assert outcomes == {(0, 0), (1, 0), (0, 1)}


def test_trade_that_was_lost_with_its_feed_is_announced_by_the_next(program: Path) -> None:
    with running(symbols=2) as instance:
        feed(program, instance.name, 0)
        count = feed(program, instance.name, 1)
    assert count is not None
    gaps = 0
    for k in range(1, count + 1, 3):
        with running(symbols=2) as instance, attach(instance.name) as md:
            reader = md.reader()
            feed(program, instance.name, 0)
            feed(program, instance.name, 1, k=k)
            feed(program, instance.name, 2)
            log = drain(reader)
            for symbol_id in (1, 2):
                seen = {
                    int(tick["trade_id"])
                    for tick in log
                    if (tick["kind"], tick["symbol_id"]) == (Kind.TRADE, symbol_id)
                }
                lost = {
                    number
                    for tick in log
                    if is_status(tick, Status.GAP) and tick["symbol_id"] == symbol_id
                    for number in range(int(tick["first_lost"]), int(tick["last_lost"]) + 1)
                }
                gaps += len(lost)
                assert seen | lost == {1, 2, 3}, f"loss not announced, k={k}"
    assert gaps > 0


def test_kill_after_any_store_of_the_recovery_is_recovered_from(program: Path) -> None:
    # The first feed dies with a trade in its cell and not in the ring: the worst there is to mend.
    with running(symbols=2) as instance:
        feed(program, instance.name, 0)
        k_first = first_store_that(program, republished=1)
        feed(program, instance.name, 1, k=k_first)
        count = feed(program, instance.name, 2, 0, mode="recover")
    assert count is not None
    assert count > 20
    for k in range(1, count + 1):
        with running(symbols=2) as instance, attach(instance.name) as md:
            reader = md.reader()
            feed(program, instance.name, 0)
            feed(program, instance.name, 1, k=k_first)
            assert feed(program, instance.name, 2, 0, k=k, mode="recover") is None
            ring_next, _, _ = take_over(instance)
            log = drain(reader)
            check_whole(log, ring_next, reader, md)
            feed(program, instance.name, 2)
            log += drain(reader)
            trades = [
                int(tick["trade_id"])
                for tick in log
                if tick["kind"] == Kind.TRADE and tick["symbol_id"] == 1
            ]
            gaps = [
                int(tick["first_lost"])
                for tick in log
                if is_status(tick, Status.GAP) and tick["symbol_id"] == 1
            ]
            assert sorted(trades + gaps) == [1, 2, 3], f"k={k}"


def first_store_that(program: Path, *, republished: int) -> int:
    """Return the first k after which a repair republishes so many records."""
    for k in range(1, 100):
        with running(symbols=2) as instance:
            feed(program, instance.name, 0)
            feed(program, instance.name, 1, k=k)
            if take_over(instance)[2] == republished:
                return k
    raise AssertionError


def test_feed_killed_a_turn_after_its_last_flush_is_followed_by_the_next_number(
    program: Path,
) -> None:
    with running(symbols=2) as instance:
        path = instance.rings[0]
        feed(program, instance.name, 0, 40)
        before = path.head
        assert before == 40 * RECORDS_A_ROUND
        assert take_over(instance)[0] == before + 2


def test_reader_that_was_lapped_meanwhile_accounts_for_every_record(
    program: Path, instance: Instance
) -> None:
    with attach(instance.name) as md:
        reader = md.reader()
        feed(program, instance.name, 0, 30)
        feed(program, instance.name, 30, 5, k=200)
        ring_next, _, _ = take_over(instance)
        ticks: list[Ticks] = []
        while len(batch := reader.poll(16)):
            ticks.append(batch)
        assert reader.lost > 0
        assert reader.received + reader.lost == ring_next - 1
        assert state_of([tick for batch in ticks for tick in batch]) == cells_of(md)
        assert len(reader.refresh()) == 0, "all that it missed has a successor that it read"
        assert state_of(list(md.reader().refresh())) == cells_of(md)
