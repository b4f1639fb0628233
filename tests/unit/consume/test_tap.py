"""mdsys tap: exact JSON, readable lines, honest about loss, alive across restarts."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Self

import numpy as np
import pytest

from mdsys import _native
from mdsys.consume import tap_command
from mdsys.consume.tick_text import LineFormat, json_line, rows
from mdsys.errors import NotRunning
from mdsys.record.record import ABSENT, KIND_DTYPE, TICK, Flag, Kind, Status, Ticks
from mdsys.ring.lock import start_ticks
from mdsys.ring.segment import (
    ROOT_DIR,
    Geometry,
    map_file,
    open_instance,
    remove_segments,
    segment_path,
)

SYMBOLS = ("BINANCE:BTCUSDT", "BINANCE:ETHUSDT", "KITE:NSE:INFY")


class Writer:
    """A daemon in this process: an instance whose rings the test writes by hand."""

    def __init__(self, name: str, *, depth: int = 1024, ring_count: int = 2) -> None:
        geometry = Geometry(ring_count, depth, max_symbols=16, feed_count=1, dir=ROOT_DIR)
        self.name = name
        self.stopped = False
        self.instance = open_instance(
            name, geometry, group=None, pid=os.getpid(), now_ns=time.time_ns()
        )
        for number, symbol in enumerate(SYMBOLS):
            if not self.instance.symbols.find(symbol.encode()):
                self.instance.symbols.add(symbol.encode(), number % ring_count, 8, 8)
        self.rings = [
            _native.RingWriter(
                map_file(segment_path(ROOT_DIR, name, f"ring.{ring}"), writable=True),
                os.getpid(),
                start_ticks(os.getpid()),
                time.time_ns(),
            )
            for ring in range(ring_count)
        ]

    def publish(self, ring: int, *records: Ticks) -> None:
        self.rings[ring].publish_records(b"".join(each.tobytes() for each in records))
        self.rings[ring].flush(time.time_ns())

    def stop(self) -> None:
        if self.stopped:
            return
        self.stopped = True
        for ring in self.rings:
            ring.stop()
        self.instance.stop()

    def remove(self) -> None:
        self.stop()
        remove_segments(self.name)
        self.instance.lock.path.unlink(missing_ok=True)


@pytest.fixture
def writer() -> Iterator[Writer]:
    made = Writer(f"test-tap-{os.getpid()}")
    yield made
    made.remove()


def record(kind: Kind, body: tuple[int, int, int, int], **fields: int) -> Ticks:
    out = np.zeros(1, TICK)
    for name, value in {
        "symbol_id": 1,
        "kind": int(kind),
        "price_scale": 8,
        "size_scale": 8,
        "ts_event": 1_700_000_000_123_456_789,
        "ts_recv": 1_700_000_000_123_999_000,
        **fields,
    }.items():
        out[name] = value
    own = out.view(KIND_DTYPE[kind])
    for name, value in zip(KIND_DTYPE[kind].names[8:], body, strict=True):  # type: ignore[index]
        own[name] = value
    return out


def trade(trade_id: int, **fields: int) -> Ticks:
    return record(Kind.TRADE, (6_154_001_000_000, 212_000, trade_id, 0), **fields)


class Tap:
    """``mdsys tap`` as a process, attached before its constructor returns."""

    def __init__(self, instance: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mdsys", "tap", "--instance", instance, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert "listening to" in self.notice()

    def lines(self, count: int) -> list[str]:
        assert self.process.stdout is not None
        return [self.process.stdout.readline().rstrip("\n") for _ in range(count)]

    def notice(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def expected(kind: str, seq: int, **fields: object) -> dict[str, object]:
    return {
        "ring": 0,
        "seq": str(seq),
        "symbol": "BINANCE:BTCUSDT",
        "kind": kind,
        "ts_event": "1700000000123456789",
        "ts_recv": "1700000000123999000",
        **fields,
    }


CASES: dict[str, tuple[Ticks, dict[str, object]]] = {
    "trade": (
        record(Kind.TRADE, (6_154_001_000_000, 212_000, 2**53 + 1, 3), flags=Flag.SELL),
        {"price": "61540.01", "size": "0.00212", "side": "sell", "trade_id": "9007199254740993"},
    ),
    "trade that lacks what can lack": (
        record(Kind.TRADE, (1, ABSENT, ABSENT, ABSENT), ts_event=ABSENT),
        {"ts_event": None, "price": "0.00000001", "size": None, "side": None, "trade_id": None},
    ),
    "quote": (
        record(Kind.QUOTE, (100_000_000, 2**63 - 1, 0, 150_000_000)),
        {
            "bid_price": "1",
            "bid_size": "0",
            "ask_price": "92233720368.54775807",
            "ask_size": "1.5",
        },
    ),
    "ticker": (
        record(Kind.TICKER, (-350_000_000, 1, 10**15, ABSENT)),
        {
            "last_price": "-3.5",
            "last_size": "0.00000001",
            "volume": "10000000",
            "open_interest": None,
        },
    ),
    "level": (
        record(Kind.LEVEL, (5, 0, ABSENT, 77), flags=Flag.BUY, price_scale=0, size_scale=18),
        {"side": "buy", "price": "5", "size": "0", "update_id": "77"},
    ),
    "bar": (
        record(Kind.BAR, (1, 2, 3, 4), price_scale=2),
        {"open": "0.01", "high": "0.02", "low": "0.03", "close": "0.04"},
    ),
    "bar_volume": (
        record(Kind.BAR_VOLUME, (100, 250, 9, 60_000_000_000), price_scale=2, size_scale=0),
        {"volume": "100", "vwap": "2.5", "trade_count": "9", "interval_ns": "60000000000"},
    ),
    "status": (
        record(Kind.STATUS, (Status.GAP, 5, 9, 1), symbol_id=0),
        {
            "symbol": None,
            "what": "gap",
            "first_lost": "5",
            "last_lost": "9",
            "connection": "1",
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_json_is_exact_for_every_kind(name: str) -> None:
    ticks, fields = CASES[name]
    (row,) = rows(ticks)
    symbol = "BINANCE:BTCUSDT" if row.symbol_id else None
    found = json.loads(json_line(row, 0, symbol))
    assert found == {**expected(name.partition(" ")[0], 0), **fields}


def test_json_line_has_no_line_break_whatever_the_symbol_is_called() -> None:
    (row,) = rows(trade(1))
    line = json_line(row, 3, 'X:a"\\\n\u2028b')
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line)["symbol"] == 'X:a"\\\n\u2028b'


def test_record_of_an_unknown_kind_is_shown_rather_than_fatal() -> None:
    ticks = trade(1)
    ticks["kind"] = 200
    (row,) = rows(ticks)
    assert json.loads(json_line(row, 0, "A:B"))["kind"] == "200"
    assert "word2 1" in LineFormat(symbol_width=3, colour=False)(row, 0, "A:B")


@pytest.mark.parametrize(
    ("ticks", "text"),
    [
        (CASES["trade"][0], r"A:B  trade   sell +61540\.01 x 0\.00212 +#9007199254740993"),
        (CASES["quote"][0], r"A:B  quote   bid +1 x 0 +ask 92233720368\.54775807 x 1\.5"),
        (CASES["level"][0], r"A:B  level   bid +5 gone +u77"),
        (
            record(Kind.LEVEL, (ABSENT, ABSENT, ABSENT, 77), flags=Flag.SNAPSHOT | Flag.LAST),
            r"A:B  level   book +- empty +u77",
        ),
        (
            record(Kind.LEVEL, (ABSENT, ABSENT, ABSENT, ABSENT), flags=Flag.SNAPSHOT | Flag.LAST),
            r"A:B  level   book +- empty",
        ),
        (
            record(Kind.LEVEL, (500_000_000, 150_000_000, ABSENT, ABSENT), flags=Flag.BUY),
            r"A:B  level   bid +5 x 1\.5",
        ),
        (CASES["ticker"][0], r"A:B  ticker  last_price -3\.5 .* open_interest -"),
        (CASES["status"][0], r"A:B  status  gap 5\.\.9 connection 1"),
    ],
)
def test_line_for_people_begins_with_the_local_time_of_reception(ticks: Ticks, text: str) -> None:
    (row,) = rows(ticks)
    line = LineFormat(symbol_width=3, colour=False)(row, 0, "A:B")
    assert re.fullmatch(r"\d\d:\d\d:20\.123999  " + text, line)


def test_colour_takes_nothing_from_the_text() -> None:
    for ticks, _ in CASES.values():
        (row,) = rows(ticks)
        plain = LineFormat(symbol_width=3, colour=False)(row, 0, "A:B")
        coloured = LineFormat(symbol_width=3, colour=True)(row, 0, "A:B")
        assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == plain != coloured


def test_lines_that_announce_a_loss_stand_out_from_other_statuses() -> None:
    form = LineFormat(symbol_width=3, colour=True)
    starts = {}
    for what in Status:
        (row,) = rows(record(Kind.STATUS, (what, 5, 9, 1), symbol_id=0))
        starts[what] = form(row, 0, None).split("\x1b")[3].partition("m")[0]
    losses = {what for what, start in starts.items() if start == "[1;31"}
    assert losses == {Status.GAP, Status.CONNECTION_DOWN, Status.READER_EJECTED}
    assert {start for what, start in starts.items() if what not in losses} == {"[33"}


def test_record_that_nobody_stamped_has_no_time() -> None:
    (row,) = rows(trade(1, ts_recv=ABSENT))
    assert LineFormat(symbol_width=3, colour=False)(row, 0, "A:B").startswith("--:--:--")
    assert json.loads(json_line(row, 0, "A:B"))["ts_recv"] is None


def test_prints_what_is_published_from_its_start_on_and_not_before(writer: Writer) -> None:
    writer.publish(0, trade(1))
    with Tap(writer.name, "--json", "--count", "2") as tap:
        writer.publish(0, trade(2))
        writer.publish(1, trade(3, symbol_id=2, ts_recv=1_700_000_000_124_000_000))
        writer.publish(1, trade(4, symbol_id=2))
        found = [json.loads(line) for line in tap.lines(2)]
        assert tap.process.wait(30) == 0
    assert [(each["ring"], each["symbol"], each["trade_id"]) for each in found] == [
        (0, "BINANCE:BTCUSDT", "2"),
        (1, "BINANCE:ETHUSDT", "3"),
    ]


def test_count_is_exact_within_a_batch_and_across_batches(writer: Writer) -> None:
    with Tap(writer.name, "--count", "150") as tap:
        for start in range(0, 200, 40):
            writer.publish(0, *(trade(start + i) for i in range(40)))
        out, _ = tap.process.communicate(timeout=30)
    assert [int(line.rpartition("#")[2]) for line in out.splitlines()] == list(range(150))


def test_symbols_and_globs_and_kinds_pick_and_statuses_of_the_ring_come_along(
    writer: Writer,
) -> None:
    with Tap(writer.name, "--json", "--count", "4", "KITE:NSE:INFY", "*:ETH*") as tap:
        writer.publish(0, trade(1), trade(2, symbol_id=3), CASES["status"][0], trade(3))
        writer.publish(1, trade(4, symbol_id=2))
        writer.publish(0, trade(5, symbol_id=3))
        found = [json.loads(line) for line in tap.lines(4)]
    assert sorted((each["symbol"] or "", each["kind"], each["seq"]) for each in found) == [
        ("", "status", "3"),
        ("BINANCE:ETHUSDT", "trade", "1"),
        ("KITE:NSE:INFY", "trade", "2"),
        ("KITE:NSE:INFY", "trade", "5"),
    ]
    with Tap(writer.name, "--json", "--count", "2", "--kind", "quote", "--kind", "status") as tap:
        writer.publish(0, trade(6), CASES["quote"][0], CASES["status"][0])
        kinds = [json.loads(line)["kind"] for line in tap.lines(2)]
    assert kinds == ["quote", "status"]


def test_kinds_that_it_does_not_know_are_printed_unless_kinds_are_asked_for(writer: Writer) -> None:
    unknown = trade(2)
    unknown["kind"] = 200
    with (
        Tap(writer.name, "--json", "--count", "3") as tap,
        Tap(writer.name, "--json", "--count", "2", "--kind", "trade") as picky,
    ):
        writer.publish(0, trade(1), unknown, trade(3), trade(4))
        kinds = [json.loads(line)["kind"] for line in tap.lines(3)]
        picked = [json.loads(line)["kind"] for line in picky.lines(2)]
    assert kinds == ["trade", "200", "trade"]
    assert picked == ["trade", "trade"]


def test_overrun_tap_tells_the_exact_loss(writer: Writer) -> None:
    with Tap(writer.name, "--json") as tap:
        tap.process.send_signal(signal.SIGSTOP)
        for start in range(0, 3000, 200):
            writer.publish(0, *(trade(start + i) for i in range(200)))
        tap.process.send_signal(signal.SIGCONT)
        notice = tap.notice()
        first = json.loads(tap.lines(1)[0])
        lost = int(first["seq"]) - 1
        assert lost >= 3000 - 1024
        assert f"{lost:,} records lost, {lost:,} in all" in notice


@pytest.mark.parametrize(
    ("terminal", "no_color", "given", "coloured"),
    [
        (True, None, (), True),
        (False, None, (), False),
        (True, "1", (), False),
        (True, "", (), True),
        (False, "1", ("--color", "always"), True),
        (True, None, ("--color=never",), False),
        (True, None, ("--json", "--color=always"), False),
    ],
)
def test_colours_are_for_terminals_unless_asked_otherwise(
    writer: Writer, terminal: bool, no_color: str | None, given: tuple[str, ...], coloured: bool
) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    if no_color is not None:
        environment["NO_COLOR"] = no_color
    reading, program = os.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "mdsys", "tap", "--instance", writer.name, "--count=1", *given],
        stdout=program,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )
    os.close(program)
    assert process.stderr is not None
    with process.stderr:
        assert "listening to" in process.stderr.readline()
        writer.publish(0, CASES["trade"][0])
        line = os.read(reading, 4096).decode()
        os.close(reading)
        assert process.wait(30) == 0
    assert ("\x1b[31m" in line) is coloured, repr(line)


def test_ctrl_c_ends_it_with_success(writer: Writer) -> None:
    with Tap(writer.name) as tap:
        tap.process.send_signal(signal.SIGINT)
        assert tap.process.wait(30) == 0
        assert tap.process.communicate() == ("", "")


def test_closed_pipe_ends_it_with_success_even_in_a_silent_market(writer: Writer) -> None:
    with Tap(writer.name) as tap:
        writer.publish(0, trade(1))
        assert len(tap.lines(1)) == 1
        assert tap.process.stdout is not None
        tap.process.stdout.close()
        assert tap.process.wait(30) == 0
        assert tap.notice() == ""


def test_stopped_instance_is_not_running() -> None:
    writer = Writer(f"test-tap-stopped-{os.getpid()}")
    writer.stop()
    try:
        with pytest.raises(NotRunning, match="is not running"):
            tap_command.main(arguments(writer.name))
    finally:
        writer.remove()


def test_absent_instance_is_not_running() -> None:
    with pytest.raises(NotRunning):
        tap_command.main(arguments("test-tap-never-there"))


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    tap_command.add_arguments(parser)
    return parser.parse_args(["--instance", *given])


@pytest.mark.parametrize(
    "given",
    [
        *[("x", "--count", "0"), ("x", "--count", "-1"), ("x", "--kind", "trad"), ("../x",), ("",)],
        ("x", "--color", "sometimes"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(given: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit):
        arguments(*given)


def test_stopping_and_starting_in_the_same_segments_goes_on_in_sequence(writer: Writer) -> None:
    with Tap(writer.name, "--json") as tap:
        writer.publish(0, trade(1))
        assert json.loads(tap.lines(1)[0])["seq"] == "1"
        writer.stop()
        assert "has stopped" in tap.notice()
        again = Writer(writer.name)
        again.publish(0, trade(2))
        found = [json.loads(line) for line in tap.lines(3)]
        assert "runs again" in tap.notice()
        again.stop()
    # Both rings announce their new writer; the record follows in its ring.
    assert sorted(each.get("what", "") for each in found) == ["", *["writer_restarted"] * 2]
    assert [each["seq"] for each in found if each["ring"] == 0] == ["2", "3"]


def test_tap_is_told_by_the_door_where_the_remover_died_before_the_rings_were_marked(
    writer: Writer,
) -> None:
    tap = tap_command.Tap(writer.name, [])
    assert not tap.superseded
    door = segment_path(ROOT_DIR, writer.name, "symbols")
    _native.supersede_segment(map_file(door, writable=True))
    assert tap.superseded


def test_tap_that_waits_for_the_next_start_says_what_it_cannot_attach(writer: Writer) -> None:
    with Tap(writer.name, "--json") as tap:
        writer.stop()
        remove_segments(writer.name)
        while "replaced or cleaned" not in (notice := tap.notice()):
            assert notice
        door = segment_path(ROOT_DIR, writer.name, "symbols")
        door.write_bytes(b"somebodys file".ljust(4096))
        assert f"instance '{writer.name}': not a finished mdsys segment" in tap.notice()
        door.unlink()
        other = Writer(writer.name)
        assert "attached anew" in tap.notice()
        other.stop()


def test_tap_attaches_anew_when_the_segments_are_replaced(writer: Writer) -> None:
    with Tap(writer.name, "--json", "BINANCE:BTCUSDT") as tap:
        writer.publish(0, trade(1))
        assert json.loads(tap.lines(1)[0])["trade_id"] == "1"
        writer.publish(0, trade(2))
        writer.stop()
        other = Writer(writer.name, depth=2048)
        assert "replaced or cleaned" in tap.notice()
        while "attached anew" not in (notice := tap.notice()):
            assert notice
        other.publish(0, trade(3))
        found = [json.loads(line) for line in tap.lines(2)]
        other.stop()
    assert [(each["seq"], each["trade_id"]) for each in found] == [("2", "2"), ("1", "3")]
