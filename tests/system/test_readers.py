"""Readers under what happens to programs: many of them, stopped, killed.

The oracle is the writer's own count: of each reader, whatever it went through and to the last
record, received + filtered + conflated + dropped + lost is what was published. The forbidden
outcomes: a record unaccounted for; a lossless reader's record lost though it was promised; a status
withheld by a filter; a writer that a dead or stopped reader holds up.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

import mdsys
from mdsys import Status
from mdsys.daemon.stat_command import take_picture
from mdsys.record.record import TICK, Ticks
from tests.consumers import (
    TERMS,
    Consumer,
    check_promise,
    consuming,
    granted,
    registered,
    registered_when,
)
from tests.daemons import PATIENCE_S, daemon, instance
from tests.full_rate import FullRate, Published, publishing
from tests.native import REPOSITORY, compile_program

pytestmark = pytest.mark.system

POLICIES = ("drop_oldest", "conflate", "lossless")
WAITS = ("adaptive", "spin", "park")
DEPTH = 16_384
STOPPED_S = 10.0
"""How long a reader is stopped."""
PATIENT_MS = 20_000
"""A lossless reader runs within this time, however many want its core."""
STOPPED_PATIENCE_MS = 1_000
FREED = 100 * DEPTH
"""More than a writer publishes that anybody holds up."""
KILLS = 24


@pytest.fixture(scope="module")
def example() -> Path:
    return compile_program(REPOSITORY / "native" / "examples" / "consumer.c", flags=())


@contextlib.contextmanager
def sixteen(example: Path, name: str, symbol: str) -> Iterator[list[Consumer]]:
    """Run readers of every policy with every wait, half of them of one symbol alone."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                consuming(example, name, POLICIES[i % 3], WAITS[i // 3 % 3], *[symbol][: i % 2])
            )
            for i in range(16)
        ]


def ended(consumers: list[Consumer]) -> list[dict[str, Any]]:
    """End them all at once; return their reports, each of which adds up."""
    for each in consumers:
        each.process.send_signal(signal.SIGTERM)
    return [each.end(None) for each in consumers]


def check_counted(report: dict[str, Any], last: Published, policy: str, *, filtered: bool) -> None:
    """Hold a report, of all that was ever published, to the writer's own count."""
    (ring,) = report["rings"]
    assert (ring["first"], ring["next"]) == (1, last.published + 1), "not to the last record"
    assert sum(report[term] for term in TERMS) == last.published, "record unaccounted for"
    if policy == "lossless" and not ring["ejected"]:
        check_promise(report)
        assert report["lost"] == 0, "record lost that was promised"
        assert report["trades"] == (last.trades[2] if filtered else sum(last.trades))
        told = last.concerning(2) if filtered else sum(last.statuses)
        assert report["statuses"] == told, "status withheld"


# ---- many --------------------------------------------------------------------------------------


def test_sixteen_readers_of_one_ring_at_full_rate_account_for_every_record(example: Path) -> None:
    with (
        publishing(DEPTH, PATIENT_MS) as feed,
        sixteen(example, feed.instance.name, "BINANCE:S2") as consumers,
    ):
        readers = registered(feed.instance.name)
        assert [each["pid"] for each in readers] == [each.process.pid for each in consumers]
        lossy = [i for i in range(16) if POLICIES[i % 3] != "lossless"]
        feed.go()
        before = feed.wait_for(10 * DEPTH)
        # Under full rate: all that there was when they were told. (A lossless one that leaves then
        # is waited for, for as long as the writer's patience lasts, before it is seen to be gone.)
        early = ended([consumers[i] for i in lossy[:6]])
        feed.wait_for(10 * DEPTH)
        last = feed.pause()
        rest = [i for i in range(16) if i not in lossy[:6]]
        late = ended([consumers[i] for i in rest])
        assert not registered(feed.instance.name)
        assert (last.ejected, last.waits > 0) == (0, True)
    for report in early:
        assert report["rings"][0]["first"] == 1
        assert report["rings"][0]["next"] > before.published
    for i, report in zip(rest, late, strict=True):
        check_counted(report, last, POLICIES[i % 3], filtered=bool(i % 2))


def test_sixteen_readers_of_a_daemon_at_full_rate_account_for_every_record(
    example: Path, tmp_path: Path
) -> None:
    symbols = ["SYM000000", "SYM000001"]
    with (
        simulator() as url,
        instance() as name,
        daemon(tmp_path, url, name=name, symbols=symbols, channels=["trade", "quote"]) as running,
    ):
        running.wait_ready()
        with sixteen(example, name, "BINANCE:SYM000001") as consumers, mdsys.attach(name) as md:
            (ring,) = md.rings
            assert len(registered(name)) == 16
            head = published_beyond(md, ring.head + 50_000)
            early = ended(consumers[:8])
            published_beyond(md, head + 50_000)
            assert running.end() == 0
            late = ended(consumers[8:])
            assert min(each["rings"][0]["next"] for each in early) > head
            assert {each["rings"][0]["next"] for each in late} == {ring.head + 1}
    for i, report in enumerate(early + late):
        if POLICIES[i % 3] == "lossless":
            check_promise(report)


@contextlib.contextmanager
def simulator() -> Iterator[str]:
    """Serve two symbols as fast as they are taken; give the address."""
    command = [sys.executable, "-m", "mdsys", "sim", "--venue", "binance"]
    market = ["--listen", "127.0.0.1:0", "--symbols", "2", "--rate", "max"]
    with subprocess.Popen(
        [*command, *market], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("listening on ").rstrip("\n")
        finally:
            process.kill()


def published_beyond(md: mdsys.MarketData, sequence: int) -> int:
    """Return the head once it is beyond."""
    with md.reader(wait="park") as reader:
        while (head := md.rings[0].head) <= sequence:
            assert len(reader.poll(4096, timeout=PATIENCE_S)), "the daemon has stopped publishing"
    return head


# ---- stopped -----------------------------------------------------------------------------------


class StatusListener:
    """A lossless reader in a thread, of a symbol that has no ticks: it keeps every status."""

    def __init__(self, name: str, symbol: str) -> None:
        self._md = mdsys.attach(name)
        self.reader = self._md.reader([symbol], policy="lossless", wait="park")
        self.ticks: list[Ticks] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while True:
            stopping = self._stopping.is_set()
            ticks = self.reader.poll(1024, timeout=0.05)
            self.ticks.append(ticks)
            if stopping and not self.reader.lag:
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self.reader.close()
        self._md.close()

    def end(self) -> Ticks:
        """Return all that it was told, to the last."""
        self._stopping.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return np.concatenate(self.ticks, dtype=TICK)


def test_readers_stopped_for_ten_seconds_at_full_rate_lose_exactly_what_passed_them_by(
    example: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        publishing(DEPTH, STOPPED_PATIENCE_MS) as feed,
        StatusListener(feed.instance.name, "BINANCE:S3") as listener,
        consuming(example, feed.instance.name, "lossless", "park", "BINANCE:S2") as honest,
        consuming(example, feed.instance.name, "drop_oldest", "park") as quick,
        contextlib.ExitStack() as stack,
    ):
        name = feed.instance.name
        victims = {
            policy: stack.enter_context(consuming(example, name, policy, "park"))
            for policy in POLICIES
        }
        numbers = {each["pid"]: each["reader"] for each in registered(name)}
        stuck = numbers[victims["lossless"].process.pid]
        feed.go()
        feed.wait_for(DEPTH)
        for each in victims.values():
            each.freeze()
        begin = feed.wait_for(0)
        during = feed.wait_for(FREED, STOPPED_S)  # the publisher goes on
        assert during.ejected == 1
        picture = {each["pid"]: each for each in take_picture(name)["readers"]}
        places = {policy: picture[each.process.pid]["rings"][0] for policy, each in victims.items()}
        for each in victims.values():
            each.thaw()
        feed.wait_for(DEPTH)
        last = feed.pause()
        reports = {policy: each.end() for policy, each in victims.items()}
        others = [quick.end(), honest.end()]
        statuses = listener.end()

        ejected = places["lossless"]["ejected"]
        assert 0 < ejected <= begin.published + 1
        assert feed.instance.rings[0].grant(stuck) is None, "it has left"
        assert reports["lossless"]["rings"][0]["ejected"] == ejected
        assert reports["lossless"]["rings"][0]["granted_from"] == 1
        told = statuses[statuses["what"] == Status.READER_EJECTED]
        assert [(int(t["connection"]), int(t["first_lost"])) for t in told] == [(stuck, ejected)]
        assert f"ring 0 goes on without it from {ejected} on" in caplog.text
        for policy, report in reports.items():
            check_counted(report, last, policy, filtered=False)
            passed_by = during.published + 1 - places[policy]["next"]
            assert passed_by > FREED
            assert report["lost"] >= passed_by - DEPTH, "record that was overwritten not lost"
        for report, policy in zip(others, ("drop_oldest", "lossless"), strict=True):
            assert report["rings"][0]["ejected"] == 0
            check_counted(report, last, policy, filtered=policy == "lossless")
        assert listener.reader.ejected == {}
        assert listener.reader.lost == 0
        assert len(statuses) == last.concerning(3), "status withheld"


# ---- killed ------------------------------------------------------------------------------------

VICTIM = """
import array, json, mmap, os, socket, sys
stage, path, offset, first = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
request = {"op": "register", "name": stage, "policy": "lossless", "wait": "park", "rings": [0]}
line = json.dumps(request).encode() + b"\\n"
if stage == "half_asked":
    connection.sendall(line[:20])
elif stage != "connected":
    connection.sendall(line)
if stage in ("received", "mapped", "granted"):
    _, control, _, _ = connection.recvmsg(65536, 64)
    (fd,) = array.array("i", control[0][2])
if stage in ("mapped", "granted"):
    page = mmap.mmap(fd, os.fstat(fd).st_size)
if stage == "granted":
    page[offset : offset + 8] = first.to_bytes(8, "little")
    print("reads", flush=True)
    sys.stdin.read()
os.kill(os.getpid(), 9)
"""
STAGES = ("connected", "half_asked", "asked", "received", "mapped")


def victim(feed: FullRate, stage: str, first: int = 0) -> subprocess.Popen[str]:
    """Start a lossless reader that dies while it registers, or, granted, when it is killed."""
    offset = mdsys._native.reader_page_size() - 256 * 128
    arguments = [stage, feed.server.path, offset, first]
    return subprocess.Popen(
        [sys.executable, "-S", "-c", VICTIM, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_until_gone(feed: FullRate, but: int) -> None:
    """Wait until the registry has no more than some readers; the bound is the test's."""
    while len(registered(feed.instance.name)) > but:
        pass


def test_reader_killed_at_any_stage_of_registering_is_forgotten_and_holds_nobody_up(
    example: Path,
) -> None:
    with (
        publishing(DEPTH, PATIENT_MS) as feed,
        consuming(example, feed.instance.name, "lossless", "park", "BINANCE:S2") as other,
    ):
        feed.go()
        for stage in STAGES:
            process = victim(feed, stage)
            process.communicate(timeout=PATIENCE_S)
            assert process.returncode == -signal.SIGKILL
            wait_until_gone(feed, 1)
            feed.wait_for(DEPTH)
        last = feed.pause()
        check_counted(other.end(), last, "lossless", filtered=True)
        assert last.ejected == 0


def test_lossless_reader_that_is_killed_is_waited_for_no_more(example: Path) -> None:
    with (
        publishing(DEPTH, PATIENT_MS) as feed,
        consuming(example, feed.instance.name, "drop_oldest", "park") as other,
    ):
        process = victim(feed, "granted", first=1)
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "reads\n"
            readers = registered_when(
                feed.instance.name, lambda readers: all(map(granted, readers))
            )
            (number,) = (each["reader"] for each in readers if each["name"] == "granted")
            process.kill()
        assert feed.server.next_left()[0] == "granted"
        feed.pause()
        assert feed.instance.rings[0].grant(number) is None
        feed.go()
        feed.wait_for(FREED)
        last = feed.pause()
        assert (last.ejected, last.waits) == (0, 0), "a dead reader held the writer up"
        check_counted(other.end(), last, "drop_oldest", filtered=False)


def test_readers_killed_at_random_moments_leave_registry_feed_and_others_as_they_were(
    example: Path,
) -> None:
    dice = random.Random(20_260_101)
    with (
        publishing(DEPTH, 50) as feed,
        consuming(example, feed.instance.name, "conflate", "park") as other,
    ):
        name = feed.instance.name
        feed.go()
        for i in range(KILLS):
            arguments = [name, POLICIES[i % 3], dice.choice(WAITS)]
            process = subprocess.Popen([example, *arguments], stderr=subprocess.DEVNULL)
            time.sleep(dice.expovariate(100))  # no event: the moment is to be any
            process.kill()
            process.wait()
        wait_until_gone(feed, 1)
        assert feed.server.readers.left.qsize() > KILLS // 4, "most died before they were readers"
        feed.wait_for(FREED)
        last = feed.pause()
        rings = feed.instance.rings
        used = range(1 << 32, (1 << 32) + KILLS + 2)
        assert not any(rings[0].grant(number) for number in used), "a dead reader's grant"
        check_counted(other.end(), last, "conflate", filtered=False)
        wait_until_gone(feed, 0)
