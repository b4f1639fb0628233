"""The example strategy in C: built from the installed headers alone, run, held to the values."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import mdsys
from mdsys.record.record import ABSENT, BODY, KIND_DTYPE, TICK, Flag, Kind, Status, Ticks
from mdsys.ring.segment import Instance, remove_segments
from tests.instances import geometry, running, writer

pytestmark = pytest.mark.system

STRICT = ["-std=c17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]


@pytest.fixture(scope="module", params=["gcc", "clang"])
def strategy(
    request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    compiler = shutil.which(request.param)
    if compiler is None:
        pytest.skip(f"{request.param} is not installed")
    program = tmp_path_factory.mktemp("example") / "strategy"
    source = repository / "native" / "examples" / "strategy.c"
    done = subprocess.run(
        [compiler, *STRICT, "-O2", "-I", mdsys.get_include(), source, "-o", program],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return program


class Venue:
    """An instance of two rings, written here."""

    def __init__(self, instance: Instance) -> None:
        self.name = instance.name
        instance.symbols.add(b"BINANCE:BTCUSDT", 0, 8, 8)
        instance.symbols.add(b"BINANCE:ETHUSDT", 1, 2, 3)
        self._rings = [writer(instance, ring) for ring in range(2)]

    def publish(self, ring: int, *records: Ticks) -> None:
        self._rings[ring].publish_records(b"".join(each.tobytes() for each in records))


@pytest.fixture
def venue() -> Iterator[Venue]:
    with running(geometry(rings=2, depth=1024)) as instance:
        yield Venue(instance)


def record(kind: Kind, symbol_id: int, scales: tuple[int, int], flags: int, *body: int) -> Ticks:
    out = np.zeros(1, TICK)
    out["symbol_id"], out["kind"], out["flags"] = symbol_id, int(kind), flags
    out["price_scale"], out["size_scale"] = scales
    own = out.view(KIND_DTYPE[kind])
    for name, value in zip(BODY[kind], body, strict=True):
        own[name] = value
    return out


BTC = (
    (
        record(Kind.TRADE, 1, (8, 8), Flag.SELL, 6_154_001_000_000, 212_000, 2**53 + 1, 0),
        "BINANCE:BTCUSDT trade sell 61540.01 x 0.00212 id 9007199254740993",
    ),
    (
        record(Kind.QUOTE, 1, (8, 8), 0, 2**63 - 1, -5, 0, ABSENT),
        "BINANCE:BTCUSDT quote 92233720368.54775807 x 0 | -0.00000005 x -",
    ),
    (
        record(Kind.LEVEL, 1, (18, 0), Flag.BUY, 1, 0, ABSENT, 77),
        "BINANCE:BTCUSDT level buy 0.000000000000000001 x 0 update 77",
    ),
    (
        record(Kind.STATUS, 0, (0, 0), 0, Status.GAP, 5, 9, 1),
        "* status 3 lost 5..9",
    ),
)
ETH = (
    record(Kind.TRADE, 2, (2, 3), Flag.BUY, 123_456, 1_500, 4, 0),
    "BINANCE:ETHUSDT trade buy 1234.56 x 1.5 id 4",
)


class Running:
    """The example as a process, attached before the constructor returns."""

    def __init__(self, program: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        assert self.process.stderr.readline().startswith("strategy: attached to")

    def lines(self, count: int) -> list[str]:
        assert self.process.stdout is not None
        return [self.process.stdout.readline().rstrip("\n") for _ in range(count)]

    def interrupt(self) -> tuple[int, str, str]:
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


def test_prints_what_is_published_digit_for_digit(strategy: Path, venue: Venue) -> None:
    running = Running(strategy, venue.name)
    venue.publish(0, *(ticks for ticks, _ in BTC))
    assert running.lines(4) == [text for _, text in BTC]
    venue.publish(1, ETH[0])
    assert running.lines(1) == [ETH[1]]
    assert running.interrupt() == (0, "", "strategy: 5 received, 0 lost\n")


def test_named_symbols_are_all_it_prints_but_for_statuses(strategy: Path, venue: Venue) -> None:
    running = Running(strategy, venue.name, "BINANCE:ETHUSDT")
    venue.publish(0, *(ticks for ticks, _ in BTC))
    venue.publish(1, ETH[0])
    assert sorted(running.lines(2)) == [BTC[3][1], ETH[1]]
    assert running.interrupt() == (0, "", "strategy: 2 received, 0 lost\n")


def test_loss_is_counted_to_the_record(strategy: Path, venue: Venue) -> None:
    running = Running(strategy, venue.name)
    running.process.send_signal(signal.SIGSTOP)
    for _ in range(15):
        venue.publish(0, *[BTC[0][0]] * 200)
    running.process.send_signal(signal.SIGCONT)
    venue.publish(0, ETH[0])  # the last of its ring
    while running.lines(1) != [ETH[1]]:
        pass
    code, out, err = running.interrupt()
    assert (code, out) == (0, "")
    received, lost = (int(word) for word in err.split() if word.isdigit())
    assert received + lost == 15 * 200 + 1
    assert lost >= 15 * 200 - 1024


def test_it_ends_when_the_instance_is_cleaned(strategy: Path, venue: Venue) -> None:
    running = Running(strategy, venue.name)
    venue.publish(0, BTC[0][0])
    remove_segments(venue.name)
    out, err = running.process.communicate(timeout=30)
    assert running.process.returncode == 0
    assert out == BTC[0][1] + "\n"
    assert err.splitlines()[0] == "strategy: the instance was replaced or cleaned"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 64, "usage: "),
        (["--help"], 64, "usage: "),
        (["never-there"], 69, "strategy: instance never-there: No such file or directory"),
        (["x" * 600], 69, "instance name or directory too long"),
    ],
)
def test_wrong_arguments_are_answered(
    strategy: Path, arguments: list[str], code: int, text: str
) -> None:
    done = subprocess.run([strategy, *arguments], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr


def test_unknown_symbol_is_named(strategy: Path, venue: Venue) -> None:
    done = subprocess.run(
        [strategy, venue.name, "BINANCE:ETHUSD"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 64
    assert "no symbol BINANCE:ETHUSD in this instance" in done.stderr
