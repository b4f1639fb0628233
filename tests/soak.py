"""The soak: 50,000 symbols on 50 connections of 4 feeds over TLS, and feeds killed at random.

    mdsys sim (a process) --TLS, 50 sockets--> 4 feeds -> 8 rings -> this process: one reader of all
              counts as the venue does          ^ kill -9            holds every trade id to account

Run by ``make soak ARGS="--minutes 10 --seed 7"``; the suite plays a short one. What must hold: no
limit of the venue is broken; no trade is missing that no gap record announces; every symbol ticks
again after the last kill; memory and descriptors of daemon and feeds stay as they are.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import mdsys
from mdsys import ABSENT, Kind, Status
from mdsys.counters.counters import read_counters, total
from mdsys.record.record import Ticks
from mdsys.ring.segment import ROOT_DIR, map_file, segment_path
from tests.daemons import Daemon, instance
from tests.footprints import Footprint, footprint

CONNECTIONS = 50
RATE = 100_000
FEEDS = 4
RINGS = 8
PATIENCE_S = 180.0
"""For what takes seconds on a quiet machine."""
LOOKS_MAX = 20
"""How often descriptors are counted before one more is called a leak."""
RESTART_S = (8.0, 25.0)
"""Between two kills in a long run: Binance allows 300 attempts to connect in five minutes, and a
feed's successor makes 13."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One soak."""

    symbols: int = 50_000
    rate: int = RATE
    """Events a second, of which three in ten are trades, which is what is subscribed."""
    seed: int = 1
    tell: Callable[[str], None] = lambda _: None

    @property
    def per_connection(self) -> int:
        """Symbols of one connection."""
        return -(-self.symbols // CONNECTIONS)


# ---- the programs --------------------------------------------------------------------------------


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that is its own authority; return it and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=soak"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


class Simulator:
    """`mdsys sim`, and what it has to say."""

    def __init__(self, plan: Plan, certificate: Path, key: Path) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mdsys", "sim", "--venue", "binance"),
                *("--listen", "127.0.0.1:0", "--symbols", str(plan.symbols)),
                *("--rate", str(plan.rate), "--seed", str(plan.seed)),
                *("--tls", str(certificate), str(key)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        found = re.search(r"wss://\S+", self._process.stdout.readline())
        assert found, "the simulator does not listen"
        self.url = found.group()
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        self.lines += self._process.stderr

    def end(self) -> list[str]:
        """Stop it; return the limits that were broken."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(PATIENCE_S)
        self._reader.join()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
        broken = [line for line in self.lines if " broke " in line]
        assert broken or "0 limits broken" in self.lines[-1], self.lines[-5:]
        return broken


def config_text(name: str, plan: Plan, url: str, symbols_file: Path) -> str:
    """Return the daemon's configuration."""
    return f"""
instance = "{name}"
rings = {{num_buffers = {RINGS}, buffer_size = "4 MiB", max_symbols = 65536}}
feeds = {{num_processes = {FEEDS}}}
[[venue]]
name = "binance"
symbols_file = "{symbols_file}"
channels = ["trade"]
max_symbols_per_connection = {plan.per_connection}
batch_size = 50
url = "{url}"
"""


@contextlib.contextmanager
def stage(plan: Plan) -> Iterator[Stage]:
    """Give a running venue, daemon and reader; they are gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="mdsys-soak-") as at, instance() as name:
        folder = Path(at)
        certificate, key = make_certificate(folder)
        symbols = folder / "symbols"
        symbols.write_text("".join(f"SYM{number:06d}\n" for number in range(plan.symbols)))
        simulator = Simulator(plan, certificate, key)
        file = folder / "soak.toml"
        file.write_text(config_text(name, plan, simulator.url, symbols))
        process = subprocess.Popen(
            [sys.executable, "-m", "mdsys", "run", "--config", str(file)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "SSL_CERT_FILE": str(certificate)},
        )
        running = Daemon(name, process)
        broken: list[str] = []
        try:
            yield Stage(plan, running, broken)
        finally:
            process.kill()
            running.wait()
            assert process.stderr is not None
            process.stderr.close()
            broken += simulator.end()


# ---- the reader ----------------------------------------------------------------------------------


class Ledger:
    """Every trade id of every symbol: there, or announced as lost, or a fault of ours."""

    def __init__(self, symbol_count: int) -> None:
        self._last = np.zeros(symbol_count + 1, np.int64)
        self.trades = 0
        self.announced = 0
        """Ids in gap records."""
        self.silent = 0
        """Holes that no record announces."""
        self.twice = 0
        self.restarts = 0

    def take(self, ticks: Ticks) -> None:
        """Enter records in the order in which they were read."""
        is_trade = ticks["kind"] == Kind.TRADE
        is_status = ticks["kind"] == Kind.STATUS
        is_gap = is_status & (ticks["what"] == Status.GAP) & (ticks["first_lost"] != ABSENT)
        self.trades += int(is_trade.sum())
        self.restarts += int((is_status & (ticks["what"] == Status.WRITER_RESTARTED)).sum())
        told = ticks[is_trade | is_gap]
        if not len(told):
            return
        gap = told["kind"] == Kind.STATUS
        first = np.where(gap, told["first_lost"], told["trade_id"])
        last = np.where(gap, told["last_lost"], told["trade_id"])
        self.announced += int((last - first + 1)[gap].sum())
        order = np.argsort(told["symbol_id"], kind="stable")
        ids, first, last, gap = told["symbol_id"][order], first[order], last[order], gap[order]
        fresh = np.concatenate([[True], ids[1:] != ids[:-1]])
        # A gap may repeat what is there: a killed feed announces too much, never too little.
        upto = np.where(fresh, self._last[ids], np.concatenate([[0], last[:-1]]))
        known = upto != 0
        self.silent += int((known & (first > upto + 1)).sum())
        self.twice += int((known & ~gap & (first <= upto)).sum())
        np.maximum.at(self._last, ids, last)


@dataclass
class Cost:
    """What messages cost the feeds while nothing went wrong."""

    cpu_ns: int = 0
    records: int = 0
    reads: int = 0

    @property
    def ns(self) -> float:
        """Processor time of a record."""
        return self.cpu_ns / max(self.records, 1)


@dataclass
class Stage:
    """Everything that runs."""

    plan: Plan
    daemon: Daemon
    broken: list[str]
    """Limits that were broken; complete when the stage has been left."""
    cost: Cost = field(default_factory=Cost)

    def __post_init__(self) -> None:
        self.random = random.Random(self.plan.seed)
        self.control = mdsys.control(self.daemon.name)
        self.daemon.wait_for_line("control socket")
        self.md = mdsys.attach(self.daemon.name)
        self.reader = self.md.reader(name="soak")
        self.before = dict(self.reader.heads)
        self.ledger = Ledger(self.plan.symbols)
        self._counters = mdsys._native.Counters(
            map_file(segment_path(ROOT_DIR, self.daemon.name, "counters"))
        )
        self.footprints: dict[int, Footprint] = {}
        """Process -> what it held when it had settled."""

    def until(self, enough: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read on until the daemon's state is enough; return it."""
        deadline = time.monotonic() + PATIENCE_S
        while not enough(state := self.control.status()):
            assert time.monotonic() < deadline, f"{state['subscriptions']}\n{self.daemon.log}"
            self.read(0.25)
        return state

    def read(self, seconds: float) -> None:
        """Take what comes for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.ledger.take(self.reader.poll(count_max=16384, timeout=left))

    def all_confirmed(self) -> dict[str, Any]:
        """Wait until every symbol is confirmed in its connection's present life."""
        return self.until(lambda state: state["subscriptions"]["confirmed"] == self.plan.symbols)

    def all_ticking(self) -> dict[str, Any]:
        """Wait until every symbol has ticked since it was asked for last."""
        return self.until(lambda state: state["subscriptions"]["ticking"] == self.plan.symbols)

    def kill_a_feed(self) -> int:
        """Kill -9 one at random; return which, once its successor runs."""
        feeds = self.control.status()["feeds"]
        victim = self.random.choice([each for each in feeds if each["state"] == "running"])
        os.kill(victim["pid"], signal.SIGKILL)
        number, restarts = victim["feed"], victim["restarts"]

        def is_back(state: dict[str, Any]) -> bool:
            feed = state["feeds"][number]
            return bool(feed["restarts"] > restarts and feed["state"] == "running")

        self.until(is_back)
        return int(number)

    def measure(self, seconds: float) -> None:
        """Add to the cost of a message what a while costs in which all goes well."""
        pids = [feed["pid"] for feed in self.control.status()["feeds"]]
        before = _spent(pids), self._seen()
        self.read(seconds)
        after = _spent(pids), self._seen()
        self.cost.cpu_ns += after[0] - before[0]
        self.cost.records += after[1][0] - before[1][0]
        self.cost.reads += after[1][1] - before[1][1]

    def _seen(self) -> tuple[int, int]:
        all_feeds = total(read_counters(self._counters))
        return all_feeds.counters["records"], all_feeds.histograms["event_to_recv"].count

    def settle(self) -> None:
        """Note what each process holds, where it is the first time that we see it settled."""
        for pid in self._pids():
            self.footprints.setdefault(pid, footprint(pid))

    def _pids(self) -> list[int]:
        return [
            self.daemon.process.pid,
            *(feed["pid"] for feed in self.control.status()["feeds"]),
        ]

    def check_footprints(self) -> None:
        """Hold what the processes hold against what they held when they had settled."""
        for pid in self._pids():
            then, now = self.footprints[pid], footprint(pid)
            for _ in range(LOOKS_MAX):  # one may be open for a moment: a request, a spare's start
                if not now.has_more_descriptors(then):
                    break
                self.read(0.5)
                now = footprint(pid)
            assert not now.has_more_descriptors(then), f"process {pid}: {then} -> {now}"
            assert not now.has_more_memory(then), f"process {pid}: {then} -> {now}"

    def check_ledger(self) -> None:
        """Hold the reader's counts to the conservation law, and the trade ids to theirs."""
        reader, ledger = self.reader, self.ledger
        for _ in range(LOOKS_MAX):  # a record is there before its ring's head tells of it
            heads = reader.heads
            published = sum(heads.values()) - sum(self.before.values())
            accounted = reader.received + reader.filtered + reader.conflated
            accounted += reader.dropped + reader.lost + reader.lag
            more = sum(reader.heads.values()) - sum(heads.values())
            if abs(accounted - published) <= more:
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"{published} published, {accounted} accounted for, {more} more")
        missed = reader.dropped + reader.lost
        assert ledger.silent <= missed, f"{ledger.silent} holes that nobody announces"
        assert ledger.twice == 0


def _spent(pids: list[int]) -> int:
    """Return the processor time of processes: their clocks by clock_getcpuclockid(3)."""
    return sum(time.clock_gettime_ns(~pid << 3 | 2) for pid in pids)


# ---- the play ------------------------------------------------------------------------------------


def soak(plan: Plan, kills: int | None, seconds: float) -> Stage:
    """Play it: so many kills, or as many as there is time for.

    Raises:
        AssertionError: Something did not hold.
    """
    end = time.monotonic() + seconds
    tell = plan.tell
    with stage(plan) as it:
        began = time.monotonic()
        it.daemon.wait_for_line(r"ready: ")
        tell(f"{plan.symbols} symbols confirmed after {time.monotonic() - began:.1f} s")
        it.all_confirmed()
        it.read(1.0)
        it.settle()
        done = 0
        while done < kills if kills is not None else time.monotonic() < end:
            pause_s = 1.0 if kills is not None else it.random.uniform(*RESTART_S)
            it.measure(pause_s)
            started = time.monotonic()
            feed = it.kill_a_feed()
            it.all_confirmed()
            done += 1
            tell(
                f"feed {feed} killed, all confirmed after {time.monotonic() - started:.1f} s; "
                f"{it.ledger.trades} trades, {it.ledger.announced} announced as lost, "
                f"{it.cost.ns:.0f} ns of a feed each"
            )
            it.read(1.0)
            it.settle()
        state = it.all_ticking()
        assert state["subscriptions"]["refused"] == 0
        assert sum(feed["restarts"] for feed in state["feeds"]) == done
        it.check_footprints()
        it.check_ledger()
        assert it.ledger.restarts >= done, "each ring of a killed feed tells its readers"
        tell(f"all {plan.symbols} symbols tick; {done} kills")
        it.reader.close()
        it.md.close()
        assert it.daemon.end() == 0
    assert not it.broken, it.broken
    return it


def main() -> int:
    """Soak for a while, and say what a message costs against 100 symbols."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=int, default=RATE, help="events a second")
    options = parser.parse_args()
    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)

    tell(f"seed {options.seed}; first 100 symbols, for comparison")
    few = soak(Plan(100, options.rate, options.seed, tell), kills=1, seconds=0)
    many = soak(Plan(50_000, options.rate, options.seed, tell), None, options.minutes * 60)
    tell(
        f"a message costs a feed {many.cost.ns:.0f} ns "
        f"({many.cost.records / max(many.cost.reads, 1):.2f} a read); with 100 symbols "
        f"{few.cost.ns:.0f} ns ({few.cost.records / max(few.cost.reads, 1):.2f} a read): "
        f"{many.cost.ns / few.cost.ns:.2f} times"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
