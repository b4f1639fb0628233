"""Captured market data through the whole system, held against what was captured.

    capture ─▶ simulator ─ws─▶ mdsys run ─▶ shared memory ─▶ a reader in this process

Records are matched to frames by their order. Two oracles: every number of every frame, by plain
json and decimal; and Binance's own, that a bookTicker with the update id of a depth frame equals
the top of the book rebuilt from all depth so far (the counts, of those whose bookTicker came first,
are those of the captures' README).
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mdsys
from mdsys.record.record import SIDE_MASK, TICK, Flag, Kind, Ticks
from mdsys.sim import Replay, Simulator
from tests.daemons import PATIENCE_S, Daemon, daemon, instance, statuses

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SCALE = 8
"""Decimals of every price and size here."""

Top = tuple[int, int, int, int]
"""Best bid, its size, best ask, its size; times 10^SCALE."""

Row = tuple[int, int, int, int, int, int, int]
"""A record: kind, flags, ts_event and the four of its body."""


def frames_of(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the book snapshot and the stream frames of a capture, in order."""
    snapshot: dict[str, Any] = {}
    frames = []
    with gzip.open(path, "rt") as file:
        for line in file:
            message = json.loads(line.partition(" ")[2])
            if "data" in message:
                frames.append(message["data"])
            else:
                snapshot = message
    return snapshot, frames


def record_count(frame: dict[str, Any]) -> int:
    """Return how many records a frame is to become."""
    return len(frame["b"]) + len(frame["a"]) if frame.get("e") == "depthUpdate" else 1


def fixed(text: str) -> int:
    """Return the integer that stands for a decimal number, by nothing of ours."""
    value = Decimal(text).scaleb(SCALE)
    assert value == value.to_integral_value()
    return int(value)


def rows_of(ticks: Ticks) -> list[Row]:
    """Return records as tuples of Python integers: NumPy's rows are slow to take apart."""
    assert set(ticks["price_scale"].tolist()) == set(ticks["size_scale"].tolist()) == {SCALE}
    columns = ("kind", "flags", "ts_event", "bid_price", "ask_price", "bid_size", "ask_size")
    return list(zip(*(ticks[name].tolist() for name in columns), strict=True))


@dataclass
class Book:
    """A book rebuilt from level records."""

    futures: bool
    synced_at: int
    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)
    began: bool = False

    def takes(self, frame: dict[str, Any]) -> bool:
        """Whether a depth frame goes into the book: Binance's rule for the first, then all."""
        if not self.began and frame["u"] > self.synced_at - self.futures:
            first = self.synced_at + (not self.futures)
            assert frame["U"] <= first <= frame["u"], "the snapshot does not meet the stream"
            self.began = True
        return self.began

    def set(self, row: Row) -> None:
        """Apply one level record."""
        _, flags, _, price, size, _, _ = row
        side = self.bids if flags & SIDE_MASK == Flag.BUY else self.asks
        if size:
            side[price] = size
        else:
            side.pop(price, None)

    def top(self) -> Top:
        """Return the best of both sides."""
        bid, ask = max(self.bids), min(self.asks)
        return bid, self.bids[bid], ask, self.asks[ask]


def expected_rows(frame: dict[str, Any]) -> list[Row]:
    """Return what a frame must have become."""
    ms = frame.get("T", frame.get("E"))
    ts_event = mdsys.ABSENT if ms is None else ms * 1_000_000
    if frame.get("e") == "depthUpdate":
        levels = [(Flag.BUY, *row) for row in frame["b"]] + [
            (Flag.SELL, *row) for row in frame["a"]
        ]
        flags = [
            side | (Flag.LAST if place == len(levels) else 0)
            for place, (side, _, _) in enumerate(levels, 1)
        ]
        return [
            (Kind.LEVEL, flag, ts_event, fixed(price), fixed(size), mdsys.ABSENT, frame["u"])
            for flag, (_, price, size) in zip(flags, levels, strict=True)
        ]
    if frame.get("e") == "trade":
        flag = Flag.LAST | (Flag.SELL if frame["m"] else Flag.BUY)
        price, size = fixed(frame["p"]), fixed(frame["q"])
        return [(Kind.TRADE, flag, ts_event, price, size, frame["t"], 0)]
    bid, ask, bid_size, ask_size = (fixed(frame[key]) for key in "baBA")
    return [(Kind.QUOTE, Flag.LAST, ts_event, bid, ask, bid_size, ask_size)]


def matched(frames: list[dict[str, Any]], rows: list[Row]) -> Iterator[tuple[Any, list[Row]]]:
    """Pair each frame with its records, by order."""
    at = 0
    for frame in frames:
        count = record_count(frame)
        yield frame, rows[at : at + count]
        at += count
    assert at == len(rows)


def join(md: mdsys.MarketData) -> tuple[mdsys.Reader, int]:
    """Return a reader of a ring that is at rest, and the ring's head."""
    reader, head = md.reader(), md.rings[0].head
    assert reader.cursors == {0: head + 1}
    return reader, head


def collect(
    md: mdsys.MarketData, reader: mdsys.Reader, head_before: int, running: Daemon, count: int
) -> Ticks:
    """Read ``count`` market records, stop the daemon, and account for all that its ring got.

    Returns:
        The market records; of statuses only those may come that tell of the connection.
    """
    (ring,) = md.rings
    parts: list[Ticks] = []
    while sum(int((part["kind"] != Kind.STATUS).sum()) for part in parts) < count:
        parts.append(reader.poll(65536, PATIENCE_S))
        assert len(parts[-1]), "records are missing"
    assert running.end() == 0
    while len(rest := reader.poll(65536)):
        parts.append(rest)
    assert reader.received + reader.lost == ring.head - head_before
    assert reader.lost == 0
    ticks: Ticks = np.concatenate(parts, dtype=TICK)
    assert set(statuses(ticks)) <= {mdsys.Status.CONNECTION_UP, mdsys.Status.CONNECTION_DOWN}
    market: Ticks = ticks[ticks["kind"] != Kind.STATUS]
    return market


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """Give a port that refuses connections until a program listens on it, which one may.

    Bound, it is given to nobody who asks for a free one; not listening, it keeps nobody from
    binding it too who, as asyncio does, sets SO_REUSEADDR; socket(7).
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextlib.contextmanager
def sim(listen: str, venue: str, path: Path) -> Iterator[None]:
    """Run `mdsys sim` with a replay, as fast as it is read."""
    arguments = ("--venue", venue, "--listen", listen, "--replay", str(path), "--speed", "max")
    with subprocess.Popen(
        [sys.executable, "-m", "mdsys", "sim", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield
        finally:
            process.kill()


@dataclass(frozen=True)
class Capture:
    """A file of captured frames, and how often its bookTicker and depth name the same update."""

    file: str
    venue: str
    symbol: str
    oracle_count: int

    def path(self, data_dir: Path) -> Path:
        """Return where it lies; skip the test where it does not."""
        path = data_dir / "hftbacktest" / self.file
        if not path.exists():
            pytest.skip(f"{path} is not here; set MDSYS_DATA to the captures' directory")
        return path

    def keys(self) -> dict[str, Any]:
        """Return the daemon's configuration for it."""
        return {
            "venue": self.venue,
            "symbols": [self.symbol],
            "channels": ["trade", "quote", "book"],
            "buffer_size": "64 MiB",
        }

    def check(self, snapshot: dict[str, Any], frames: list[dict[str, Any]], ticks: Ticks) -> None:
        """Hold the records against the frames, and the book that they make against the quotes."""
        book = Book(self.venue == "binance_usdm", snapshot["lastUpdateId"])
        book.bids = {fixed(price): fixed(size) for price, size in snapshot["bids"]}
        book.asks = {fixed(price): fixed(size) for price, size in snapshot["asks"]}
        quotes: dict[int, Top] = {}
        tops: dict[int, Top] = {}
        quoted_before = 0
        for frame, records in matched(frames, rows_of(ticks)):
            assert records == expected_rows(frame), frame
            if frame.get("e") == "depthUpdate":
                if book.takes(frame):
                    for row in records:
                        book.set(row)
                    tops[frame["u"]] = book.top()
                    quoted_before += frame["u"] in quotes
            elif frame.get("e") != "trade":
                ((_, _, _, bid, ask, bid_size, ask_size),) = records
                quotes[frame["u"]] = (bid, bid_size, ask, ask_size)
        assert quoted_before == self.oracle_count
        assert all(quotes[u] == tops[u] for u in quotes.keys() & tops.keys())


SPOT_ETH = Capture("spot__ethusdt_20240808.gz", "binance", "ETHUSDT", 577)
CAPTURES = (
    Capture("spot__btcusdt_20240808.gz", "binance", "BTCUSDT", 564),
    SPOT_ETH,
    Capture("usdm__btcusdt_20240808.gz", "binance_usdm", "BTCUSDT", 503),
)


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda capture: capture.file)
def test_captured_frames_arrive_exactly_and_rebuild_the_venues_own_top_of_book(
    tmp_path: Path, data_dir: Path, capture: Capture
) -> None:
    path = capture.path(data_dir)
    snapshot, frames = frames_of(path)
    count = sum(map(record_count, frames))

    async def through_the_system() -> Ticks:
        replay = Replay(path, speed=None)
        async with Simulator(replay, venue=capture.venue, held=True) as simulator:
            with (
                instance() as name,
                daemon(tmp_path, simulator.url, name=name, **capture.keys()) as running,
            ):
                await asyncio.to_thread(running.wait_ready)
                with mdsys.attach(name) as md:
                    reader, head = join(md)
                    simulator.start()
                    return await asyncio.to_thread(collect, md, reader, head, running, count)

    capture.check(snapshot, frames, asyncio.run(through_the_system()))


def test_the_programs_carry_a_capture_exactly_when_the_daemon_is_there_before_the_venue(
    tmp_path: Path, data_dir: Path
) -> None:
    path = SPOT_ETH.path(data_dir)
    snapshot, frames = frames_of(path)
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(reserved_port())
        name = stack.enter_context(instance())
        url = f"ws://127.0.0.1:{port}"
        running = stack.enter_context(daemon(tmp_path, url, name=name, **SPOT_ETH.keys()))
        running.wait_for_line("cannot connect")
        md = stack.enter_context(mdsys.attach(name))
        reader, head = join(md)
        stack.enter_context(sim(f"127.0.0.1:{port}", SPOT_ETH.venue, path))
        ticks = collect(md, reader, head, running, sum(map(record_count, frames)))
    SPOT_ETH.check(snapshot, frames, ticks)
