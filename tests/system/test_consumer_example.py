"""The example consumers in C and C++: built from the headers alone, run, held to the rings."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mdsys
from mdsys.record.record import Kind, Status
from mdsys.ring.segment import remove_segments
from tests.consumers import Consumer, consuming, registered
from tests.daemons import PATIENCE_S, Venue, daemon, instance, read_until, statuses, trade
from tests.instances import geometry, running, trades, writer

pytestmark = pytest.mark.system

STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror", "-O2"]
EXAMPLES = {
    "gcc": ("-std=c17", "consumer.c"),
    "clang": ("-std=c17", "consumer.c"),
    "g++": ("-std=c++17", "consumer.cpp"),
    "clang++": ("-std=c++17", "consumer.cpp"),
}
DEPTH = 1024
POLICIES = ["drop_oldest", "conflate"]
WAITS = ["adaptive", "spin", "park"]


@pytest.fixture(scope="module")
def built(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What has been compiled, by compiler."""
    folder = tmp_path_factory.mktemp("consumer")
    out = {}
    for compiler, (standard, source) in EXAMPLES.items():
        if shutil.which(compiler) is None:
            continue
        program = folder / compiler
        done = subprocess.run(
            [compiler, standard, *STRICT, "-I", mdsys.get_include(),
             repository / "native" / "examples" / source, "-o", program],
            check=False,
            capture_output=True,
            text=True,
        )  # fmt: skip
        assert done.stderr == ""
        assert done.returncode == 0
        out[compiler] = program
    return out


@pytest.fixture(params=list(EXAMPLES))
def program(request: pytest.FixtureRequest, built: dict[str, Path]) -> Path:
    if request.param not in built:
        pytest.skip(f"{request.param} is not installed")
    return built[request.param]


@pytest.fixture(params=[("gcc", "clang"), ("g++", "clang++")], ids=["c", "c++"])
def program_by_any(request: pytest.FixtureRequest, built: dict[str, Path]) -> Path:
    """One of each language, for tests with a daemon, which take seconds."""
    for compiler in request.param:
        if compiler in built:
            return built[compiler]
    pytest.skip("no compiler is installed")


class Rings:
    """An instance of two rings that the test writes. No daemon: nobody can register."""

    def __init__(self, name: str, instance: Any) -> None:
        self.name = name
        self.instance = instance
        self.writers = [writer(instance, ring) for ring in range(2)]

    def publish(self, count: int, ring: int = 0, symbol_id: int = 1) -> None:
        """Publish trades, in frames that the ring takes."""
        for first in range(0, count, 100):
            ticks = trades(min(100, count - first), symbol_id=symbol_id, first=first)
            ticks["conditions"] = 0  # or they could not be one trade
            self.writers[ring].publish_records(ticks)
            self.writers[ring].flush(1)

    def heads(self) -> list[int]:
        return [ring.head for ring in self.instance.rings]


@pytest.fixture
def rings() -> Iterator[Rings]:
    with running(geometry(rings=2, depth=DEPTH), symbols=2) as each:
        yield Rings(each.name, each)


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_record_up_to_the_signal_is_accounted_for(
    program: Path, rings: Rings, policy: str, wait: str
) -> None:
    rings.publish(50)
    with consuming(program, rings.name, policy, wait) as consumer:
        rings.publish(700)
        rings.publish(300, ring=1, symbol_id=2)
        report = consumer.end(signal.SIGINT)
    assert [ring["next"] - 1 for ring in report["rings"]] == rings.heads()
    assert [ring["first"] for ring in report["rings"]] == [51, 1]
    assert report["published"] == 1000
    assert report["trades"] == report["received"]
    assert report["lost"] == 0
    assert report["reader"] == 0
    assert "not registered: no daemon of this instance can be reached" in consumer.said


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize(
    ("policy", "counter"), [("drop_oldest", "dropped"), ("conflate", "conflated")]
)
def test_behind_by_more_than_the_threshold_it_does_as_it_was_told(
    program: Path, rings: Rings, policy: str, counter: str, wait: str
) -> None:
    with consuming(program, rings.name, policy, wait) as consumer:
        consumer.freeze()
        rings.publish(1000)
        consumer.thaw()
        report = consumer.end()
    others = {"dropped", "conflated", "lost"} - {counter}
    assert report[counter] > 0
    assert [report[each] for each in others] == [0, 0]
    assert report["pressed"] > 0
    assert report["rings"][0]["next"] == 1001


@pytest.mark.parametrize("policy", POLICIES)
def test_overrun_it_counts_what_it_lost_to_the_record(
    program: Path, rings: Rings, policy: str
) -> None:
    with consuming(program, rings.name, policy, "park") as consumer:
        consumer.freeze()
        rings.publish(5000)
        consumer.thaw()
        report = consumer.end()
    assert report["lost"] == 5000 - DEPTH // 2  # it goes on half a ring behind the newest
    assert report["laps"] == 1
    assert report["rings"][0]["next"] == 5001


def test_other_symbols_are_filtered_and_statuses_are_not(program: Path, rings: Rings) -> None:
    status = trades(1, symbol_id=0)
    status["kind"] = Kind.STATUS
    with consuming(program, rings.name, "drop_oldest", "park", "BINANCE:S2") as consumer:
        rings.publish(30)
        rings.publish(20, ring=1, symbol_id=2)
        rings.writers[0].publish_records(status)
        report = consumer.end()
    assert (report["received"], report["filtered"]) == (21, 30)
    assert (report["trades"], report["statuses"]) == (20, 1)


def test_it_ends_by_itself_when_the_instance_is_cleaned(program: Path, rings: Rings) -> None:
    with consuming(program, rings.name, "conflate", "park") as consumer:
        rings.publish(5)
        remove_segments(rings.name)
        report = consumer.end(None)
    assert report["received"] == 5


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 64, "usage: "),
        (["{}", "drop_newest", "park"], 64, "usage: "),
        (["{}", "conflate", "sleep"], 64, "usage: "),
        (["{}", "conflate", "park", "BINANCE:S3"], 64, "no symbol BINANCE:S3 in this instance"),
        (["never-there", "conflate", "park"], 69, "never-there: No such file or directory"),
        (["{}", "lossless", "park"], 69, "no daemon of this instance can be reached"),
    ],
)
def test_what_cannot_be_is_said_and_why(
    program: Path, rings: Rings, arguments: list[str], code: int, text: str
) -> None:
    arguments = [each.format(rings.name) for each in arguments]
    done = subprocess.run(
        [program, *arguments], check=False, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr


# ---- with a daemon -------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", ["adaptive", "park"])
def test_lossless_it_receives_everything_from_the_grant_on(
    program_by_any: Path, tmp_path: Path, wait: str
) -> None:
    with (
        Venue().listening() as venue,
        instance() as name,
        daemon(tmp_path, venue.url, name=name) as running_daemon,
    ):
        socket = venue.next_socket()
        running_daemon.wait_ready()
        with (
            mdsys.attach(name) as md,
            md.reader() as witness,
            consuming(program_by_any, name, "lossless", wait) as consumer,
        ):
            (mine,) = [each for each in registered(name) if each["name"].startswith("consumer-c")]
            assert (mine["pid"], mine["policy"], mine["wait"]) == (
                consumer.process.pid,
                "lossless",
                wait,
            )
            assert mine["rings"][0]["granted_from"]
            count = 4 * DEPTH
            socket.send(*(trade("BTCUSDT", number) for number in range(1, count + 1)))
            read_until(witness, lambda ticks: bool((ticks["trade_id"] == count).any()))
            report = consumer.end()
            assert "not registered" not in consumer.said
        (ring,) = report["rings"]
        assert report["reader"] == mine["reader"]
        assert ring["first"] <= ring["granted_from"]
        assert ring["ejected"] == 0
        assert (report["trades"], report["lost"], report["dropped"]) == (count, 0, 0)
        assert running_daemon.end() == 0


def test_too_slow_for_lossless_it_is_ejected_told_and_still_accounts_for_all(
    program_by_any: Path, tmp_path: Path
) -> None:
    with (
        Venue().listening() as venue,
        instance() as name,
        daemon(tmp_path, venue.url, name=name) as running_daemon,
    ):
        socket = venue.next_socket()
        running_daemon.wait_ready()
        with (
            mdsys.attach(name) as md,
            md.reader() as witness,
            consuming(program_by_any, name, "lossless", "park") as consumer,
        ):
            consumer.freeze()
            count = 3 * DEPTH
            socket.send(*(trade("BTCUSDT", number) for number in range(1, count + 1)))
            ticks = read_until(witness, lambda ticks: bool((ticks["trade_id"] == count).any()))
            if witness.lost == 0:
                assert Status.READER_EJECTED in statuses(ticks)
            consumer.thaw()
            report = consumer.end()
        (ring,) = report["rings"]
        assert ring["ejected"] >= ring["granted_from"]
        assert report["lost"] > 0
        assert running_daemon.end() == 0


def test_it_registers_again_with_a_restarted_daemon(program_by_any: Path, tmp_path: Path) -> None:
    with Venue().listening() as venue, instance() as name:
        with daemon(tmp_path, venue.url, name=name) as first:
            venue.next_socket()
            first.wait_ready()
            consumer = Consumer(program_by_any, name, "lossless", "park")
            (before,) = registered(name)
            assert first.end() == 0
        try:
            with daemon(tmp_path, venue.url, name=name) as second:
                socket = venue.next_socket()
                second.wait_ready()
                second.wait_for_line(r"reader \d+ \('consumer-c\w*', .*lossless\) registered")
                (after,) = registered(name)
                with mdsys.attach(name) as md, md.reader() as witness:
                    socket.send(trade("BTCUSDT", 7))
                    read_until(witness, lambda ticks: bool((ticks["trade_id"] == 7).any()))
                report = consumer.end()
                assert second.end() == 0
        finally:
            consumer.kill()
    assert before["pid"] == after["pid"]
    assert before["reader"] != after["reader"] == report["reader"]
    assert (report["trades"], report["lost"]) == (1, 0)
