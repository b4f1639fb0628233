"""Profiles as they run, and two daemons on one host that do not mind each other."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import mdsys
from mdsys import _native
from mdsys.config import PROFILES
from mdsys.errors import ExitCode
from mdsys.ring.control_socket import ask, connect
from mdsys.ring.lock import run_dir
from mdsys.ring.segment import find_segments
from tests.daemons import Daemon, Venue, VenueSocket, instance, read_until, trade, trade_ids

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


@contextlib.contextmanager
def started(
    folder: Path, name: str, url: str, *, profile: str = "latency", unit: str | None = None
) -> Iterator[Daemon]:
    """Run a daemon that its profile alone has shaped, under a unit's name if need be."""
    file = folder / f"{name}.toml"
    file.write_text(
        f'instance = "{name}"\nprofile = "{profile}"\n'
        f'[[venue]]\nname = "binance"\nsymbols = ["BTCUSDT"]\nchannels = ["trade"]\nurl = "{url}"\n'
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "mdsys", "run", "--config", str(file)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MDSYS_UNIT_INSTANCE": name if unit is None else unit},
    )
    running = Daemon(name, process)
    try:
        yield running
    finally:
        process.kill()
        running.wait()
        assert process.stderr is not None
        process.stderr.close()


# ---- profiles -----------------------------------------------------------------------------------


def told_to_readers(name: str, pid: int) -> Mapping[str, object]:
    """Return what the daemon tells a reader that registers."""
    request = {"op": "register", "name": "r", "policy": "drop_oldest", "wait": "park", "rings": [0]}
    with connect(name, pid) as connection:
        _, (fd,) = ask(connection, request, fd_count=1)
        try:
            page = _native.ReaderPage(mmap.mmap(fd, os.fstat(fd).st_size))
        finally:
            os.close(fd)
        return page.defaults()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_what_runs(profile: str, tmp_path: Path) -> None:
    figures = PROFILES[profile]
    cores = len(os.sched_getaffinity(0))
    with (
        instance() as name,
        Venue().listening() as venue,
        started(tmp_path, name, venue.url, profile=profile) as running,
    ):
        running.wait_ready()
        with mdsys.attach(name) as md:
            assert len(md.rings) == figures.num_buffers
            assert {ring.depth * 64 for ring in md.rings} == {figures.buffer_size}
            reader = md.reader()
            venue.next_socket().send(trade("BTCUSDT", 7))
            assert 7 in trade_ids(read_until(reader, lambda ticks: 7 in trade_ids(ticks)))
        told = told_to_readers(name, running.process.pid)
        assert told["batch_size"] == figures.consumer_batch_size
        assert told["max_queue_size"] == figures.max_queue_size
        assert told["threshold"] == figures.backpressure_threshold
        feeds = [running.feed_pid(feed) for feed in range(min(figures.num_processes, cores))]
        assert len(set(feeds)) == len(feeds)
        assert running.end() == 0
        assert f"feed {len(feeds)}: process" not in running.log


# ---- two of them --------------------------------------------------------------------------------


def files_of(name: str) -> list[Path]:
    """Return all that an instance has on this host."""
    return [*find_segments(name), *sorted(run_dir().glob(f"{name}.*"))]


class Pair:
    """A daemon each for two venues, and a reader of each; tests share it, and may end either."""

    def __init__(self, stack: contextlib.ExitStack, tmp_path: Path) -> None:
        self.stack = stack
        self.tmp_path = tmp_path
        self.names = [stack.enter_context(instance()) for _ in range(2)]
        self.venues = [stack.enter_context(Venue().listening()) for _ in range(2)]
        self.sockets: dict[int, VenueSocket] = {}
        self.daemons = [self._launch(index) for index in range(2)]
        for index in range(2):
            self._have(index)
        self.readers = [stack.enter_context(mdsys.attach(name)).reader() for name in self.names]
        self.sent = [0, 0]

    def _launch(self, index: int) -> Daemon:
        made = started(self.tmp_path, self.names[index], self.venues[index].url)
        return self.stack.enter_context(made)

    def _have(self, index: int) -> None:
        self.daemons[index].wait_ready()
        self.sockets[index] = self.venues[index].next_socket()

    def start(self, index: int) -> None:
        """Start one that has ended, as its unit would."""
        self.daemons[index] = self._launch(index)
        self._have(index)

    def heal(self) -> None:
        """Have both run, and attach anew to one whose segments are gone."""
        for index, running in enumerate(self.daemons):
            if running.process.poll() is not None:
                gone = not find_segments(self.names[index])
                self.start(index)
                if gone:
                    md = self.stack.enter_context(mdsys.attach(self.names[index]))
                    self.readers[index] = md.reader()

    def ticks(self, index: int) -> None:
        """Have a venue send, and its reader read that and nothing else."""
        self.sent[index] += 1
        number = 1_000 * (index + 1) + self.sent[index]
        self.sockets[index].send(trade("BTCUSDT", number))
        ticks = read_until(self.readers[index], lambda ticks: number in trade_ids(ticks))
        assert set(trade_ids(ticks)) == {number}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        made = Pair(stack, tmp_path_factory.mktemp("pair"))
        yield made
        for running in made.daemons:
            if running.process.poll() is None:
                assert running.end() == 0, running.log


@pytest.fixture
def pair(both: Pair) -> Pair:
    """Give both, running."""
    both.heal()
    return both


def test_each_answers_for_itself(pair: Pair) -> None:
    for index, name in enumerate(pair.names):
        status = mdsys.control(name).status()
        (feed,) = {each["feed"] for each in status["connections"]}
        assert feed == 0
        assert f'"{pair.venues[index].url}' in json.dumps(status)
        assert pair.venues[1 - index].url not in json.dumps(status)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_ends_one_leaves_the_other_alone_and_the_first_comes_back(
    pair: Pair, number: signal.Signals
) -> None:
    for index in (0, 1):
        pair.ticks(index)
    others = files_of(pair.names[1])
    assert {path.suffix for path in others} >= {".sock", ".lock", ".limits"}
    assert not set(others) & set(files_of(pair.names[0]))
    pids = [pair.daemons[1].process.pid, pair.daemons[1].feed_pid()]

    code = pair.daemons[0].end(number)
    assert code == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    pair.ticks(1)
    assert files_of(pair.names[1]) == others
    assert run_dir().is_dir()

    pair.start(0)
    for index in (0, 1):
        pair.ticks(index)
    assert [pair.daemons[1].process.pid, pair.daemons[1].feed_pid()] == pids
    assert pair.readers[1].lost == 0
    assert "feed 0 ended" not in pair.daemons[1].log


def test_cleaning_one_up_leaves_the_other_alone(pair: Pair) -> None:
    others = files_of(pair.names[1])
    pair.daemons[0].end()
    clean = [sys.executable, "-m", "mdsys", "clean", "--instance"]
    subprocess.run([*clean, pair.names[0]], check=True, capture_output=True)
    assert files_of(pair.names[0]) == []
    assert files_of(pair.names[1]) == others
    pair.ticks(1)
    refused = subprocess.run([*clean, pair.names[1]], capture_output=True, check=False)
    assert refused.returncode == ExitCode.IN_USE
    pair.ticks(1)


def test_a_unit_runs_the_instance_of_its_name_alone(tmp_path: Path) -> None:
    with (
        instance() as name,
        Venue().listening() as venue,
        started(tmp_path, name, venue.url, unit="other") as running,
    ):
        assert running.wait() == ExitCode.CONFIG
        assert f'instance: "{name}", but mdsys@other.service runs it' in running.log
        assert files_of(name) == []
