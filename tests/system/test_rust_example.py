"""The example reader in Rust, which knows nothing but docs/abi.md, held to what was published."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mdsys import attach
from mdsys.record.record import BODY, HEADER, Kind, Ticks
from tests.daemons import PATIENCE_S
from tests.instances import geometry, running, trades, writer

pytestmark = pytest.mark.system

DEPTH = 64


@pytest.fixture(scope="module")
def reader(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("rustc") is None:
        pytest.skip("rustc is not installed")
    program = tmp_path_factory.mktemp("rust") / "reader"
    source = repository / "native" / "examples" / "reader.rs"
    done = subprocess.run(
        ["rustc", "--edition", "2021", "-O", "-D", "warnings", source, "-o", program],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return program


def lines(ticks: Ticks, name: str) -> list[str]:
    """Return what it prints of trades."""
    fields = [each for each in (*HEADER, *BODY[Kind.TRADE]) if each != "symbol_id"]
    texts = [[str(tick[field]) for field in fields] for tick in ticks]
    return [" ".join([*text[:3], name, *text[3:]]) for text in texts]


def run(reader: Path, *arguments: object) -> tuple[int, str, str]:
    done = subprocess.run(
        [reader, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    return done.returncode, done.stdout, done.stderr


def test_it_prints_every_field_of_what_stands_in_a_ring(reader: Path) -> None:
    with running(geometry(rings=2), symbols=2) as instance, attach(instance.name) as md:
        ring = writer(instance, 1)
        witness = md.reader()
        ring.publish_records(trades(9, symbol_id=2))
        ring.publish_records(trades(1, symbol_id=0))
        ticks = witness.poll()
        code, out, _ = run(reader, instance.name, 1, 10)
    assert code == 0
    expected = lines(ticks[:9], "BINANCE:S2") + lines(ticks[9:], "*")
    assert out.splitlines() == [*expected, "from 1 next 11 lost 0"]


def test_it_goes_on_with_what_comes_and_knows_what_it_lost(reader: Path, tmp_path: Path) -> None:
    # The writer goes round the ring many times a batch: without the recheck records tear.
    count = 50_000
    frames = [trades(16, first=16 * number) for number in range(DEPTH)]
    with running(geometry(depth=DEPTH), symbols=1) as instance:
        ring = writer(instance)
        with (
            (tmp_path / "out").open("w") as out,
            subprocess.Popen([reader, instance.name, "0", str(count)], stdout=out) as process,
        ):
            while process.poll() is None:  # until it has had enough, however quick it is
                for frame in frames:
                    ring.publish_records(frame)
    *records, end = (tmp_path / "out").read_text().splitlines()
    seqs = []
    for line in records:
        seq, event, recv, _, *_, price, size, trade_id, conditions = line.split()
        number = (int(seq) - 1) % (16 * DEPTH)
        expected = (number * 3 + 1, number * 5 + 2, number * 7 + 3, number * 11 + 4, number)
        found = tuple(map(int, (event, recv, price, size, trade_id)))
        assert found == expected, "torn record delivered"
        assert int(conditions) == number * 13 + 5, "torn record delivered"
        seqs.append(int(seq))
    _, first, _, following, _, lost = end.split()
    assert len(seqs) == count
    assert seqs == sorted(set(seqs))
    assert int(following) - int(first) == count + int(lost)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 64, "usage: "),
        (["x", "one", "1"], 64, "usage: "),
        (["never-there", 0, 1], 69, "No such file or directory"),
    ],
)
def test_wrong_arguments_are_answered(
    reader: Path, arguments: list[object], code: int, text: str
) -> None:
    assert run(reader, *arguments)[:2] == (code, "")
    assert text in run(reader, *arguments)[2]


def test_a_segment_that_is_no_more_is_refused(reader: Path) -> None:
    with running() as instance:
        with Path(f"/dev/shm/mdsys.{instance.name}.symbols").open("r+b") as file:
            file.seek(8)  # abi_version
            file.write(b"\xff")
        code, _, err = run(reader, instance.name, 0, 1)
    assert (code, "not of this ABI" in err) == (69, True)
