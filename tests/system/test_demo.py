"""mdsys demo: real processes, real sockets, exact sums, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mdsys import Kind, LayoutError, MarketData, NotRunning, Status, attach
from mdsys.daemon.stat_command import take_picture
from mdsys.ring.lock import run_dir
from mdsys.ring.segment import ROOT_DIR
from tests.daemons import PATIENCE_S, statuses

pytestmark = pytest.mark.system

DEMO = (sys.executable, "-m", "mdsys", "demo")
LINE = re.compile(r" *[\d.]+ s +[\d,]+ ticks/s  lost \d+  gaps 0  socket → ring p50 .*")


class Demo:
    """A demo without a terminal, found again by a mark in its environment."""

    def __init__(self, *arguments: str) -> None:
        self.mark = f"MDSYS_TEST_MARK={uuid.uuid4()}"
        name, _, value = self.mark.partition("=")
        self.process = subprocess.Popen(
            [*DEMO, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, name: value},
        )

    def wait_for_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    @contextlib.contextmanager
    def attached(self) -> Iterator[MarketData]:
        """Attach to its instance, once that is there."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                market_data = attach(f"demo-{self.process.pid}")
                break
            except (NotRunning, LayoutError):  # not made, or half made
                assert self.process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
        with market_data:
            yield market_data

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def processes(self) -> dict[int, str]:
        """Every process it has started, itself included: pid -> command line."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (folder / "environ").read_bytes():
                    words = (folder / "cmdline").read_bytes().split(b"\0")
                    found[int(folder.name)] = b" ".join(words).decode()
            except OSError:  # it has just ended, or is not ours to see
                continue
        return found

    def pid_of(self, words: str) -> int:
        (pid,) = (pid for pid, line in self.processes().items() if words in line)
        return pid

    def leftovers(self) -> list[Path]:
        name = f"demo-{self.process.pid}"
        return [*ROOT_DIR.glob(f"mdsys.{name}.*"), *run_dir().glob(f"{name}.*")]


@pytest.fixture
def start() -> Iterator[Callable[..., Demo]]:
    demos: list[Demo] = []

    def start(*arguments: str) -> Demo:
        demos.append(Demo(*arguments))
        return demos[-1]

    yield start
    for demo in demos:
        for pid in demo.processes():
            os.kill(pid, signal.SIGKILL)
        demo.process.communicate()


def check_clean(demo: Demo) -> None:
    assert demo.processes() == {}
    assert demo.leftovers() == []


def test_json_is_one_object_whose_sums_balance_to_the_last_record(
    start: Callable[..., Demo],
) -> None:
    demo = start("--seconds", "1", "--json")
    code, out, err = demo.end()
    assert (code, err) == (0, "")
    figures = json.loads(out)
    assert out.count("\n") == 1
    assert figures["received"] + figures["lost"] == figures["published"] > 1000
    # Every record of the venue is in a ring; every other one there is a status, or of a whole book.
    assert figures["gaps"] == figures["decode_errors"] == 0
    if figures["lost"] == 0:
        own = figures["snapshot_levels"] + figures["statuses"]
        assert figures["sent"] - figures["duplicates"] + own == figures["published"]
    assert figures["symbols"] == 20
    assert figures["seconds"] >= 1
    assert figures["ticks_per_second"] == pytest.approx(
        figures["published"] / figures["seconds"], rel=0.01
    )
    for hop in ("recv_to_ring", "recv_to_reader"):
        latency = figures["latency_ns"][hop]
        assert list(latency) == ["p50", "p99", "p999", "max"]
        assert latency["p50"] <= latency["p99"] <= latency["p999"] <= latency["max"]
    assert sum(ring["published"] for ring in figures["rings"]) == figures["published"]
    check_clean(demo)


def test_without_a_terminal_it_prints_a_line_a_second_and_a_summary(
    start: Callable[..., Demo],
) -> None:
    demo = start("--seconds", "600")
    for _ in range(3):
        assert LINE.fullmatch(demo.wait_for_line().rstrip("\n"))
    demo.process.send_signal(signal.SIGINT)
    code, out, err = demo.end()
    assert (code, err) == (0, "")
    (sums,) = re.findall(r"^.* published$", out, re.MULTILINE)
    words = r"(.*) sent, (.*) twice, (.*) of books, (.*) statuses; "
    words += r"(.*) received \+ (.*) lost = (.*) published"
    match = re.fullmatch(words, sums)
    assert match, sums
    sent, twice, of_books, statuses, received, lost, published = (
        int(word.replace(",", "")) for word in match.groups()
    )
    assert received + lost == published > 0
    if lost == 0:
        assert sent - twice + of_books + statuses == published
    check_clean(demo)


def test_seconds_end_it_by_themselves(start: Callable[..., Demo]) -> None:
    code, out, err = start("--seconds", "0.2").end()
    assert (code, err) == (0, "")
    assert " published" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_in_order(start: Callable[..., Demo], number: signal.Signals) -> None:
    demo = start("--seconds", "600")
    assert LINE.match(demo.wait_for_line())
    demo.process.send_signal(number)
    code, out, err = demo.end()
    assert (code, err) == (0, "")
    assert " published" in out
    check_clean(demo)


def test_signal_before_the_first_tick_leaves_nothing_either(start: Callable[..., Demo]) -> None:
    demo = start("--seconds", "600")
    while len(demo.processes()) < 2:
        assert demo.process.poll() is None
    demo.process.send_signal(signal.SIGINT)
    code, _, err = demo.end()
    assert (code, err) == (0, "")
    check_clean(demo)


def test_impatience_loses_the_summary_and_not_the_cleaning(start: Callable[..., Demo]) -> None:
    demo = start("--seconds", "600")
    assert LINE.match(demo.wait_for_line())
    os.kill(demo.pid_of("mdsys.demo.consumer"), signal.SIGSTOP)  # an end in order never comes
    demo.process.send_signal(signal.SIGINT)
    while any("mdsys.demo.venue" in line for line in demo.processes().values()):
        time.sleep(0.02)  # the first to go in order
    demo.process.send_signal(signal.SIGINT)
    code, out, err = demo.end()
    assert (code, err) == (0, "")
    assert " published" not in out
    check_clean(demo)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("venue", "mdsys.demo.venue"),
        ("daemon", "mdsys run"),
        ("consumer", "mdsys.demo.consumer"),
    ],
)
def test_process_that_dies_is_named_and_the_rest_cleaned_up(
    start: Callable[..., Demo], name: str, words: str
) -> None:
    demo = start("--seconds", "600")
    assert LINE.match(demo.wait_for_line())
    os.kill(demo.pid_of(words), signal.SIGKILL)
    code, out, err = demo.end()
    assert code == 1
    assert err.startswith(f"mdsys: the {name} was killed by SIGKILL")
    assert " published" not in out
    check_clean(demo)


def test_feed_that_dies_is_started_again_by_the_daemon_and_the_sums_still_balance(
    start: Callable[..., Demo],
) -> None:
    demo = start("--json", "--seconds", "600")
    with demo.attached() as market_data:
        reader = market_data.reader()
        while (reader.poll(65_536, PATIENCE_S)["kind"] == Kind.STATUS).all():
            assert demo.process.poll() is None
        (feed,) = take_picture(f"demo-{demo.process.pid}")["feeds"]  # not the spare
        os.kill(feed["pid"], signal.SIGKILL)
        rings = len(market_data.rings)
        up_count = 0
        while up_count < rings:
            ticks = reader.poll(65_536, PATIENCE_S)
            assert len(ticks), "the feed did not come back"
            up_count += statuses(ticks).count(Status.CONNECTION_UP)
    demo.process.send_signal(signal.SIGINT)
    code, out, err = demo.end()
    assert (code, err) == (0, "")
    figures = json.loads(out)
    assert figures["received"] + figures["lost"] == figures["published"]
    assert figures["statuses"] >= 2 * rings, "of each ring's next writer and its connection"
    check_clean(demo)


def test_killed_demo_leaves_no_process_and_the_next_one_removes_its_segments(
    start: Callable[..., Demo],
) -> None:
    demo = start("--seconds", "600")
    assert LINE.match(demo.wait_for_line())
    demo.process.kill()
    demo.process.wait()
    deadline = time.monotonic() + 30
    while demo.processes():
        assert time.monotonic() < deadline, demo.processes()
        time.sleep(0.02)
    assert demo.leftovers()
    assert start("--seconds", "0.2", "--json").end()[0] == 0
    check_clean(demo)


def test_terminal_shows_a_live_table_until_ctrl_c() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS="110", LINES="40")
        os.execv(DEMO[0], DEMO)
    shown = b""
    interrupted = False
    while True:
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # EIO: the other end is closed
            break
        if shown.count(b"top movers") >= 3 and not interrupted:
            os.write(terminal, b"\x03")
            interrupted = True
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    for words in ("ticks/s", "socket → ring", "socket → reader", "reader behind", "top movers"):
        assert words in text
    assert " published" in text
    assert not list(ROOT_DIR.glob(f"mdsys.demo-{pid}.*"))


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_time_that_is_none_is_a_usage_error(seconds: str) -> None:
    done = subprocess.run(
        [*DEMO, "--seconds", seconds], check=False, capture_output=True, text=True
    )
    assert done.returncode == 64
    assert "--seconds" in done.stderr
