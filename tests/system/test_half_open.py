"""A cable that is pulled: two hosts, which are network namespaces, and a link that goes down."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import mdsys
from mdsys import Status
from tests.daemons import instance, read_until, statuses, trade_ids
from tests.simulated import all_tick, daemon_on, status_when, venue_text

pytestmark = pytest.mark.system

VENUE = "10.213.77.2"
OURS = "10.213.77.1"


def ip(*arguments: str, within: int | None = None) -> None:
    """Run ``ip``, in the network namespace of a process."""
    there = [] if within is None else ["nsenter", f"--net=/proc/{within}/ns/net"]
    subprocess.run([*there, "ip", *arguments], check=True, capture_output=True, timeout=20)


@dataclass(frozen=True, slots=True)
class Cable:
    """Two namespaces and what joins them."""

    ours: int
    """A process that lives in ours."""
    venue: int

    def pull(self) -> None:
        """Cut it: nothing arrives, and nobody is told."""
        ip("link", "set", "lane", "down", within=self.venue)

    def plug(self) -> None:
        """Join it again."""
        ip("link", "set", "lane", "up", within=self.venue)


@contextlib.contextmanager
def host() -> Iterator[int]:
    """Keep a network namespace, by a process that waits in it until the block ends."""
    with subprocess.Popen(
        ["unshare", "--net", sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        try:
            if not process.stdout.readline():
                pytest.skip("no rights to make a network namespace")
            yield process.pid
        finally:
            process.kill()


@contextlib.contextmanager
def cable() -> Iterator[Cable]:
    """Join two hosts of our own."""
    with host() as ours, host() as venue:
        try:
            names = ("name", "lane", "netns", str(ours), "type", "veth", "peer", "name", "lane")
            ip("link", "add", *names, "netns", str(venue))
            for pid, address in ((ours, OURS), (venue, VENUE)):
                ip("address", "add", f"{address}/24", "dev", "lane", within=pid)
                ip("link", "set", "lane", "up", within=pid)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no link between two namespaces: {error}")
        yield Cable(ours, venue)


@contextlib.contextmanager
def venue_in(pid: int) -> Iterator[str]:
    """Simulate Binance in a namespace; give its address."""
    sim = [sys.executable, "-m", "mdsys", "sim", "--venue", "binance", "--listen", f"{VENUE}:0"]
    with subprocess.Popen(
        ["nsenter", f"--net=/proc/{pid}/ns/net", *sim, "--symbols", "1", "--rate", "100"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("listening on ").strip()
        finally:
            process.kill()


def test_a_pulled_cable_is_noticed_by_tcp_itself_and_a_mended_one_dialled(tmp_path: Path) -> None:
    """The venue promises no sign of life for 45 s, and its habits are not known yet."""
    with (
        cable() as lane,
        venue_in(lane.venue) as url,
        instance() as name,
        daemon_on(
            tmp_path,
            name,
            venue_text("binance", symbols=1, channels=["trade"], url=url),
            within=["nsenter", f"--net=/proc/{lane.ours}/ns/net"],
        ) as running,
        mdsys.attach(name) as md,
        md.reader() as reader,
    ):
        status_when(name, all_tick)
        lane.pull()
        ticks = read_until(reader, lambda got: Status.CONNECTION_DOWN in statuses(got))
        lane.plug()
        assert running.wait_for_line("binance connection 1: down after")
        assert "mute" not in running.log
        back = read_until(reader, lambda got: len(trade_ids(got)) > 3)
        assert statuses(back)[:2] == [Status.CONNECTION_UP, Status.GAP]
        gap = next(each for each in back if each["kind"] == 7 and each["what"] == Status.GAP)
        last, first = trade_ids(ticks)[-1], trade_ids(back)[0]
        assert (gap["first_lost"], gap["last_lost"]) == (last + 1, first - 1)
