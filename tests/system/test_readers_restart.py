"""Five strategies, each a process, under a daemon that is killed, stopped and started otherwise.

    drop_oldest, Python | conflate, Python | lossless, Numba | lossless, C | lossless, one symbol

The oracle is what stands in the rings, which do not turn here. Forbidden outcomes: a record
unaccounted for over all the daemon's lives, a promised record lost, a status withheld by a filter,
a strategy that ends with its daemon.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mdsys
from mdsys import Kind, Status
from mdsys.record.record import TICK, Ticks
from tests.consumer_program import told_of
from tests.consumers import TERMS, granted, registered_when
from tests.daemons import PATIENCE_S, Daemon, Venue, VenueSocket, daemon, instance, trade
from tests.native import POSIX, PROGRAMS, REPOSITORY, compile_program

pytestmark = pytest.mark.system

ONE, OTHER = "BTCUSDT", "SOLUSDT"
"""In different rings where there are two."""
ROOM: dict[str, Any] = {"symbols": [ONE, OTHER], "buffer_size": "1 MiB"}
"""Rings that hold all, so that nobody is lapped however little of a core it gets."""
BURST = 300
EVENTS = {"daemon_gone": 3, "daemon_back": 3, "reattached": 1, "ejected": 0, "handler_failed": 0}
"""What each strategy is told, and how often."""


class Program:
    """tests/consumer_program.py as a process, attached before the constructor returns."""

    def __init__(self, instance: str, *arguments: str) -> None:
        self.policy, _, self.handler, *rest = arguments
        self.name = f"{self.policy}-{self.handler}"
        self.filtered = bool(rest) and self.handler != "c"
        self.told: list[dict[str, Any]] = []
        self._ended = False
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.consumer_program", instance, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.told.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def kinds(self) -> list[str]:
        """The kinds of its events, in order."""
        return [each["event"] for each in self.told]

    def wait_for(self, event: str, nth: int = 1) -> None:
        """Wait until it has told of an event so many times."""
        with self._news:
            self._news.wait_for(lambda: self._ended or self.kinds.count(event) >= nth, PATIENCE_S)
        assert self.kinds.count(event) >= nth, (self.name, event, self.told)

    def end(self) -> None:
        """End it in order; its last words stand in ``told``."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE_S) == 0, self.name
        self._reader.join(PATIENCE_S)
        assert self.kinds[-1] == "ended"

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


@dataclass
class Story:
    """What came to pass, by the rings and by who sent."""

    sent: dict[str, int] = field(default_factory=lambda: {ONE: 0, OTHER: 0})
    """Trades, by symbol."""
    old: Ticks = field(default_factory=lambda: np.empty(0, TICK))
    """All of the ring of the first three daemons."""
    anew_ns: int = 0
    """Between the third daemon and the last."""
    new: Sequence[Ticks] = ()
    """All of the rings of the last."""
    begun: dict[int, int] = field(default_factory=dict)
    """Ring -> a sequence in there that every strategy has received, if it reads the ring."""
    one: mdsys.SymbolInfo | None = None
    _next: dict[str, int] = field(default_factory=lambda: {ONE: 1, OTHER: 1})

    def send(self, socket: VenueSocket, witness: mdsys.Reader) -> None:
        """Send trades of both symbols, after a hole in the ids, and see them published."""
        for symbol, ids in self._next.items():
            first = ids + 10
            socket.send(*(trade(symbol, number) for number in range(first, first + BURST)))
            self._next[symbol] = first + BURST
            self.sent[symbol] += BURST
        left = len(self._next) * BURST
        while left:
            ticks = witness.poll(4096, timeout=PATIENCE_S)
            assert len(ticks), "the daemon publishes no more"
            left -= int((ticks["kind"] == Kind.TRADE).sum())


def slots(md: mdsys.MarketData, ring: int = 0) -> Ticks:
    """Return all that was ever published in a ring that has not turned yet, from its memory."""
    header = md.rings[ring]
    assert header.head < header.depth
    raw = bytes(md.mappings[ring])[-header.depth * TICK.itemsize :]
    ticks = np.frombuffer(raw, TICK)[1 : header.head + 1]
    assert ticks["seq"].tolist() == list(range(1, header.head + 1))
    return ticks


@contextlib.contextmanager
def five(name: str) -> Iterator[list[Program]]:
    """Run the strategies; those that still live are killed when the block ends."""
    library = compile_program(PROGRAMS / "count_kinds.c", flags=(POSIX, "-shared", "-fPIC"))
    with contextlib.ExitStack() as stack:
        programs = []
        for arguments in (
            ("drop_oldest", "park", "python"),
            ("conflate", "adaptive", "python"),
            ("lossless", "park", "numba"),
            ("lossless", "adaptive", "c", str(library)),
            ("lossless", "park", "python", f"BINANCE:{ONE}"),
        ):
            programs.append(Program(name, *arguments))
            stack.callback(programs[-1].kill)
        for each in programs:
            each.wait_for("attached")
        yield programs


@contextlib.contextmanager
def witnessed(
    venue: Venue, running: Daemon
) -> Iterator[tuple[VenueSocket, mdsys.MarketData, mdsys.Reader]]:
    """Begin when the daemon knows all five, and waits for those that it is to wait for."""
    socket = venue.next_socket()
    running.wait_ready()
    registered_when(running.name, lambda them: len(them) == 5 and all(map(granted, them)))
    with mdsys.attach(running.name) as md, md.reader() as witness:
        yield socket, md, witness


def told_by_five(tmp_path: Path, venue: Venue, name: str) -> tuple[Story, list[Program]]:
    """Run the daemons' lives over the strategies, which have ended when this returns."""
    story = Story()
    with contextlib.ExitStack() as stack:
        with daemon(tmp_path, venue.url, name=name, **ROOM) as running:
            running.wait_for_line("ready: ")
            programs = stack.enter_context(five(name))
            old = stack.enter_context(mdsys.attach(name))
            with witnessed(venue, running) as (socket, _, witness):
                story.send(socket, witness)
            running.end(signal.SIGKILL)
        for life in (1, 2):  # after a kill, after a stop: both times the segments are adopted
            for each in programs:
                each.wait_for("daemon_gone", life)
            with daemon(tmp_path, venue.url, name=name, **ROOM) as running:
                running.wait_for_line("adopted")
                for each in programs:
                    each.wait_for("daemon_back", life)
                    each.wait_for("restarted", life)
                with witnessed(venue, running) as (socket, _, witness):
                    story.send(socket, witness)
                assert running.end() == 0
        for each in programs:
            each.wait_for("daemon_gone", 3)
        story.old, story.anew_ns = slots(old), time.time_ns()
        with daemon(tmp_path, venue.url, name=name, rings=2, **ROOM) as running:
            running.wait_for_line("created")
            for each in programs:
                each.wait_for("reattached")
                each.wait_for("daemon_back", 3)
            with witnessed(venue, running) as (socket, md, witness):
                story.begun = witness.cursors
                story.send(socket, witness)
                story.send(socket, witness)
                story.one = md.symbol(f"BINANCE:{ONE}")
                assert story.one.ring != md.symbol(f"BINANCE:{OTHER}").ring
                for each in programs:
                    each.end()
                story.new = [slots(md, ring) for ring in (0, 1)]
            assert running.end() == 0
    return story, programs


def check_published(program: Program, story: Story) -> None:
    """Hold what it counted to the rings: from where it began to the last record of all lives."""
    stats = program.told[-1]["stats"]
    published = {int(ring): count for ring, count in stats["published"].items()}
    assert sum(stats[term] for term in TERMS) == sum(published.values()), "record unaccounted for"
    handled = sum(program.told[-1]["counts"])
    assert handled == stats["received"] + stats["refreshed"], "record received and not handled"
    cursors = {int(ring): cursor for ring, cursor in stats["cursors"].items()}
    for ring, cursor in cursors.items():
        assert cursor == len(story.new[ring]) + 1, "not to the last record"
    published[0] -= len(story.old) + 1 - program.told[0]["cursors"]["0"]
    for ring, count in published.items():  # in the new rings
        most = len(story.new[ring]) if ring in cursors else 0
        least = most + 1 - story.begun[ring] if ring in cursors else 0
        assert least <= count <= most, "record unaccounted for"


def check_lossless(program: Program, story: Story) -> None:
    """Hold a lossless one to what was sent."""
    stats, counts = program.told[-1]["stats"], program.told[-1]["counts"]
    assert stats["lost"] == stats["dropped"] == stats["conflated"] == 0, "promised record lost"
    other = 0 if program.filtered else story.sent[OTHER]
    assert counts[Kind.TRADE] == story.sent[ONE] + other
    assert len(stats["granted"]) == len(stats["cursors"]), "not waited for again"


def check_statuses(program: Program, story: Story) -> None:
    """Hold the statuses that it was told to those in the rings that concern what it reads."""
    assert story.one is not None
    told = [tuple(each) for each in program.told[-1]["statuses"]]
    rings = [story.one.ring] if program.filtered else range(2)

    ids = [0, story.one.id]

    def concerning(ticks: Ticks) -> list[tuple[int, ...]]:
        return told_of(ticks[np.isin(ticks["symbol_id"], ids) | (not program.filtered)])

    first = program.told[0]["cursors"]["0"]
    old = [each for each in told if each[0] < story.anew_ns]
    assert old == concerning(story.old[first - 1 :]), "status withheld"
    assert {each[1] for each in old} >= {
        Status.CONNECTION_UP,
        Status.CONNECTION_DOWN,
        Status.GAP,
        Status.WRITER_RESTARTED,
    }
    everything = [status for ring in rings for status in concerning(story.new[ring])]
    certain = [
        status for ring in rings for status in concerning(story.new[ring][story.begun[ring] - 1 :])
    ]
    assert set(certain) <= set(told[len(old) :]) <= set(everything), "status withheld"
    assert Status.GAP in {each[1] for each in certain}


def test_five_strategies_outlive_their_daemons_and_account_for_every_record(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    with Venue().listening() as venue, instance() as name:
        story, programs = told_by_five(tmp_path, venue, name)
    for each in programs:
        kinds = each.kinds
        assert {kind: kinds.count(kind) for kind in EVENTS} == EVENTS, (each.name, kinds)
        assert kinds[: kinds.index("reattached")].count("restarted") == 2, "of the old ring"
        check_published(each, story)
        if each.policy == "lossless":
            check_lossless(each, story)
        if each.handler == "python" and each.policy != "drop_oldest":
            check_statuses(each, story)
