"""Everything that runs in a chaos run, and how each part is started again, as systemd would.

3 simulators (threads of the conductor) ──▶ mdsys run: 2 feeds ──▶ 4 rings ──▶ 6 readers
  each writes down what it sends             on a small tmpfs                  mdsys record
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import mdsys
from mdsys.errors import MdsysError
from mdsys.sim.market import MarketSource
from tests.chaos.host import Host
from tests.chaos.market import ChaosMarket
from tests.chaos.reader import MANNERS
from tests.daemons import PATIENCE_S, Daemon
from tests.footprints import Footprint, footprint
from tests.instances import cleaned, new_name
from tests.simulated import Street, all_tick, street, venue_text

VENUES: Final[Mapping[str, int]] = {"binance": 800, "kraken": 200, "coinbase_exchange": 200}
"""Whose trade ids prove a loss -> events a second."""
SYMBOLS: Final = 8
FEEDS: Final = 2
RINGS: Final = 4
BUFFER, LARGER_BUFFER = "2 MiB", "4 MiB"
MEMORY_MIB: Final = 40
"""The tmpfs: room for the segments, and for little else."""
RESTART_S: Final = 0.2
"""From the end of a daemon or a recorder to its next start."""
FATAL: Final = ("Traceback", "Fatal Python error", "event loop:", "cannot be looked at")
"""What no log may hold."""


@dataclass(slots=True)
class Reader:
    """One reader: as many processes as it takes."""

    manner: str
    process: subprocess.Popen[bytes]
    out: Path
    killed: bool = False
    """By us: it is to be started again."""


@dataclass
class Stage:
    """What runs, and what was found amiss so far."""

    name: str
    folder: Path
    host: Host
    sims: Street
    memory: Path | None
    """The small tmpfs; None: there can be none here."""
    tell: Callable[[str], None]
    broken: list[str] = field(default_factory=list)
    daemon: Daemon | None = None
    readers: list[Reader] = field(default_factory=list)
    outs: list[Path] = field(default_factory=list)
    """Of all readers, those that were killed too."""
    footprints: dict[str, tuple[Footprint, Footprint]] = field(default_factory=dict)
    """Process -> what it held when first and last seen settled."""
    daemon_lives: int = 0
    feed_lives: int = 0
    recorder_lives: int = 0
    slowest_s: float = 0.0
    """From a stroke to all streams ticking."""
    expected: set[int] = field(default_factory=set)
    """How the daemon may end just now."""

    def __post_init__(self) -> None:
        self._recorder: subprocess.Popen[bytes] | None = None
        self._start_s = 0.0
        self.ending = False
        self.captures: list[tuple[Path, bool]] = []
        """Folders, and whether their recorder was killed."""

    # ---- the daemon ----

    def config(self, buffer: str = BUFFER) -> Path:
        """Write the configuration; return its file."""
        memory = "" if self.memory is None else f'[memory]\ndir = "{self.memory}"\n'
        file = self.folder / f"{buffer.replace(' ', '')}.toml"
        file.write_text(
            f'instance = "{self.name}"\n[rings]\nnum_buffers = {RINGS}\nbuffer_size = "{buffer}"\n'
            f"max_symbols = 64\n{memory}[feeds]\nnum_processes = {FEEDS}\n"
            + "".join(
                venue_text(venue, self.sims[venue], symbols=SYMBOLS, max_symbols_per_connection=4)
                for venue in VENUES
            )
        )
        return file

    def start_daemon(self, buffer: str = BUFFER) -> Daemon:
        """Start one and return it; it may not come up."""
        process = subprocess.Popen(
            self.host.command("run", "--config", str(self.config(buffer))),
            stderr=subprocess.PIPE,
            text=True,
            env=self.host.environment,
        )
        return Daemon(self.name, process)

    def bury(self, daemon: Daemon) -> int:
        """Wait for a daemon's end; look through its log; return its exit code."""
        code = daemon.wait()
        assert daemon.process.stderr is not None
        daemon.process.stderr.close()
        for line in daemon.lines:
            if any(word in line for word in FATAL):
                at = daemon.lines.index(line)
                self.broken.append("log: " + " | ".join(daemon.lines[max(0, at - 2) : at + 12]))
                break
        self.feed_lives += sum(": process " in line for line in daemon.lines)
        return code

    def tend(self) -> None:
        """Start again what has ended; note what ended that nobody has killed."""
        if self.daemon is not None and self.daemon.process.poll() is not None:
            daemon, self.daemon = self.daemon, None
            struck = self.host.struck("daemon")
            code = self.bury(daemon)
            full = code == 1 and "no room" in daemon.log  # segments anew, and the tmpfs is filled
            foreseen = code in self.expected or full or (code == -signal.SIGKILL and struck)
            if not foreseen:
                last = " | ".join(daemon.lines[-5:])
                self.broken.append(f"daemon: it ended with code {code}: {last}")
            self._start_s = time.monotonic() + RESTART_S
        if self.daemon is None and not self.ending and time.monotonic() >= self._start_s:
            self.expected = set()
            self.daemon = self.start_daemon()
            self.daemon_lives += 1
        self._tend_readers()
        self._tend_recorder()

    def _tend_readers(self) -> None:
        for place, reader in enumerate(self.readers):
            code = reader.process.poll()
            if code is None or self.ending:
                continue
            if not reader.killed:
                self.broken.append(
                    f"reader {reader.manner}: it ended with code {code}: "
                    f"{reader.out.with_suffix('.log').read_text()[-800:]}"
                )
            self.readers[place] = self.start_reader(reader.manner)

    def start_reader(self, manner: str) -> Reader:
        """Start one."""
        out = self.folder / f"reader.{len(self.outs)}.json"
        self.outs.append(out)
        with out.with_suffix(".log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "tests.chaos.reader", self.name, manner),
                    *(str(self.folder / "truth"), str(out)),
                ],
                stderr=log,
                env=self.host.environment,
            )
        return Reader(manner, process, out)

    def _tend_recorder(self) -> None:
        if self._recorder is not None and self._recorder.poll() is None:
            return
        if self._recorder is not None and self._recorder.returncode not in (0, 69):
            self.captures[-1] = (self.captures[-1][0], True)
            if self._recorder.returncode != -signal.SIGKILL:
                log = _log(self.captures[-1][0]).read_text()
                self.broken.append(f"recorder: code {self._recorder.returncode}: {log[-800:]}")
        self._recorder = None
        if not self.ending and self.daemon is not None and self.answer() is not None:
            out = self.folder / f"capture.{self.recorder_lives}"
            with _log(out).open("wb") as file:
                self._recorder = subprocess.Popen(
                    self.host.command("record", "--out", str(out), "--instance", self.name),
                    stdout=file,
                    stderr=file,
                    env=self.host.environment,
                )
            self.captures.append((out, False))
            self.recorder_lives += 1

    def kill_recorder(self) -> bool:
        """Kill -9; return whether there was one."""
        if self._recorder is None or self._recorder.poll() is not None:
            return False
        self._recorder.kill()
        self._recorder.wait()
        return True

    def stop_recorder(self) -> None:
        """End it in order."""
        if self._recorder is not None:
            with contextlib.suppress(ProcessLookupError):
                self._recorder.send_signal(signal.SIGINT)
            self._recorder.wait(PATIENCE_S)
            self._tend_recorder()

    # ---- what is so ----

    def answer(self) -> Mapping[str, Any] | None:
        """Return what the daemon says; None: nothing."""
        try:
            return mdsys.control(self.name).status()
        except (MdsysError, OSError):
            return None

    def feeds(self) -> list[int]:
        """Return the feeds' processes that live."""
        answer = self.answer()
        return [] if answer is None else [f["pid"] for f in answer["feeds"] if f["pid"]]

    def is_well(self) -> bool:
        """Whether every stream ticks and every feed runs."""
        answer = self.answer()
        return (
            answer is not None
            and all_tick(answer)
            and all(feed["state"] == "running" for feed in answer["feeds"])
        )

    def is_complete(self) -> bool:
        """Whether everybody is there: the readers are registered, the recorder records."""
        try:
            answer = mdsys.control(self.name)._ask([{"op": "readers"}])
        except (MdsysError, OSError):
            return False
        pids = {each["pid"] for each in answer["readers"]}
        return (
            pids == {each.process.pid for each in self.readers}
            and self._recorder is not None
            and any(self.captures[-1][0].glob("*"))
        )

    def settle(self) -> None:
        """Note what each process holds; all is well, and everybody is there."""
        if not self.is_complete():
            return
        pids = {f"feed {pid}": pid for pid in self.feeds()}
        if self.daemon is not None:
            pids[f"daemon {self.daemon.process.pid}"] = self.daemon.process.pid
        pids |= {f"{each.manner} {each.process.pid}": each.process.pid for each in self.readers}
        pids["conductor"] = os.getpid()
        for name, pid in pids.items():
            with contextlib.suppress(OSError):
                now = footprint(pid)
                self.footprints[name] = (self.footprints.get(name, (now, now))[0], now)

    def sources(self) -> Mapping[str, MarketSource]:
        """Return the markets by venue."""
        return {venue: self.sims[venue]._source for venue in self.sims}  # type: ignore[misc]

    def fill(self) -> int:
        """Fill the tmpfs to the last byte; return how many it took."""
        if self.memory is None:
            return 0
        size = 0
        with (self.memory / "filler").open("ab", buffering=0) as file:
            for step in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        size += file.write(bytes(step))
        return size

    def make_room(self) -> None:
        """Take the filler away."""
        if self.memory is not None:
            (self.memory / "filler").unlink(missing_ok=True)


def _log(capture: Path) -> Path:
    return capture.with_name(f"{capture.name}.log")


def results(stage: Stage) -> Sequence[dict[str, Any]]:
    """Return what all readers have found, those that were killed as far as they had told."""
    found = []
    for out in stage.outs:
        with contextlib.suppress(FileNotFoundError):  # killed before it had read anything
            found.append(json.loads(out.read_text()))
    return found


@contextlib.contextmanager
def raised(
    folder: Path, seed: int, memory: Path | None, tell: Callable[[str], None], readers: int
) -> Iterator[Stage]:
    """Give a running stage; nothing of it is left when the block ends."""
    host = Host(folder)
    truth = folder / "truth"
    truth.mkdir()
    markets = {
        venue: ChaosMarket(
            SYMBOLS, rate=rate, seed=seed, mix=(30, 50, 20), folder=truth, venue=venue
        )
        for venue, rate in VENUES.items()
    }
    extra = () if memory is None else (memory,)
    with cleaned(new_name(), *extra) as name, street(VENUES, markets=markets) as sims:
        stage = Stage(name, folder, host, sims, memory, tell)
        try:
            stage.tend()
            _wait(stage, stage.is_well)
            stage.readers = [stage.start_reader(manner) for manner in list(MANNERS)[:readers]]
            yield stage
        finally:
            stage.ending = True
            host.spare()
            stage.kill_recorder()
            for reader in stage.readers:
                reader.process.kill()
                reader.process.wait()
            if stage.daemon is not None:
                stage.daemon.process.kill()
                stage.bury(stage.daemon)
            stage.make_room()


def _wait(stage: Stage, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        stage.tend()
        assert time.monotonic() < deadline, stage.daemon.log if stage.daemon else stage.broken
        time.sleep(0.1)
