"""The wheel: what is in it, and what it can do where there is nothing but NumPy.

The empty environment stands for another team's: its own interpreter, its own installation, and
only shared memory in common with ours.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import daemons

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

NUMPY_PARTS = ("numpy", "numpy.libs", "numpy-*.dist-info")
Run = Callable[..., subprocess.CompletedProcess[str]]


def clean_environment() -> dict[str, str]:
    """Return the environment without what would lead back to this source tree."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MAKE", "MDSYS"))}


@pytest.fixture(scope="module")
def empty(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function that runs a program of an environment with NumPy and the wheel only."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder / "venv", with_pip=True, symlinks=True)
    ours = Path(sysconfig.get_path("purelib"))
    (theirs,) = (folder / "venv" / "lib").glob("python*/site-packages")
    for pattern in NUMPY_PARTS:  # the one requirement, without a network
        for part in ours.glob(pattern):
            (theirs / part.name).symlink_to(part)

    def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [folder / "venv" / "bin" / program, *arguments],
            capture_output=True,
            text=True,
            cwd=folder,
            env=clean_environment(),
            check=False,
            timeout=120,
        )

    installed = run("python", "-m", "pip", "install", "--no-index", "--no-deps", wheel)
    assert installed.returncode == 0, installed.stderr
    return run


def test_the_wheel_is_portable(wheel: Path) -> None:
    assert "-manylinux_2_" in wheel.name or ".manylinux_2_" in wheel.name
    assert "linux_x86_64" not in wheel.name.replace("manylinux", "").split(".")


def test_the_wheel_holds_what_others_build_on_and_no_sources(wheel: Path, repository: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    headers = (repository / "native" / "include").rglob("*.h")
    expected = {f"mdsys/include/{p.relative_to(repository / 'native/include')}" for p in headers}
    expected |= {"mdsys/py.typed", "mdsys/_native.pyi"}
    assert expected <= names
    assert not [n for n in names if n.endswith((".c", ".pyx", ".pxd", ".pyc"))]
    about = wheel.name.split("-cp")[0] + ".dist-info"
    assert not [n for n in names if n.split("/")[0] not in ("mdsys", about)]
    extensions = {n.split("/")[1].split(".")[0] for n in names if n.endswith(".so")}
    assert extensions == {p.stem for p in (repository / "native/bind").glob("_*.pyx")}


def test_a_bare_installation_wants_numpy_and_nothing_else(empty: Run) -> None:
    checked = empty("python", "-m", "pip", "check")
    assert checked.returncode == 0, checked.stdout
    listed = json.loads(empty("python", "-m", "pip", "list", "--format=json").stdout)
    names = {each["name"] for each in listed} - {"pip", "setuptools"}
    assert names == {"mdsys", "numpy"}
    code = "import mdsys, sys; print(mdsys.TICK.itemsize, 'picows' in sys.modules, mdsys.__file__)"
    size, picows, place = empty("python", "-c", code).stdout.split()
    assert (size, picows) == ("64", "False")
    assert "empty" in place


@pytest.mark.parametrize("command", ["run", "sim", "demo"])
def test_a_bare_installation_names_the_extra_that_a_command_needs(empty: Run, command: str) -> None:
    ended = empty("mdsys", command)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"mdsys: {command} needs aiofastnet, ")
    assert ended.stderr.endswith(": pip install 'mdsys[daemon]'\n")


@pytest.mark.parametrize("command", ["tap", "stat"])
def test_a_bare_installation_can_look_for_an_instance(empty: Run, command: str) -> None:
    ended = empty("mdsys", command, "--instance", "no-such-instance")
    assert ended.returncode == 69
    assert ended.stderr.startswith("mdsys: ")
    assert ended.stderr.count("\n") == 1


def test_a_c_program_builds_with_the_installed_headers(
    empty: Run, repository: Path, tmp_path: Path
) -> None:
    asked = empty("python", "-c", "import mdsys; print(mdsys.get_include())")
    include = asked.stdout.strip()
    assert include.endswith("site-packages/mdsys/include")
    examples = sorted((repository / "native" / "examples").glob("*.c"))
    assert examples
    compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"
    flags = ["-std=c17", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{include}"]
    for example in examples:
        program = tmp_path / example.stem
        subprocess.run([compiler, *flags, "-o", program, example], check=True)
        ended = subprocess.run(
            [program, "no-such-instance", "drop_oldest", "park"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        assert ended.returncode not in (0, None)
        assert "no-such-instance" in ended.stderr


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[str]:
    """Run a simulated venue and the daemon from the development environment."""
    listen = ["--venue", "binance", "--listen", "127.0.0.1:0"]
    market = ["--symbols", "3", "--rate", "2000", "--seed", "1"]
    sim = subprocess.Popen(
        [sys.executable, "-m", "mdsys", "sim", *listen, *market],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert sim.stdout is not None
        url = sim.stdout.readline().split()[-1]
        symbols = [f"SYM{number:06d}" for number in range(3)]
        channels = ["trade", "quote"]
        with (
            daemons.instance() as name,
            daemons.daemon(tmp_path, url, name=name, symbols=symbols, channels=channels) as running,
        ):
            running.wait_ready()
            yield name
            assert running.end() == 0
    finally:
        sim.kill()
        sim.communicate()


READ = """
import mdsys, sys
with mdsys.attach(sys.argv[1]) as md:
    assert sorted(md.symbols) == [f"BINANCE:SYM{i:06d}" for i in range(3)], md.symbols
    reader = md.reader(["BINANCE:SYM000001"])
    trades = 0
    while trades < 100:
        ticks = reader.poll(timeout=10)
        assert len(ticks), "nothing came for ten seconds"
        columns = mdsys.to_columns(ticks, kind="trade", price="decimal")
        assert all(price > 0 for price in columns["price"])
        trades += len(columns["price"])
    quote = md.last_quote("BINANCE:SYM000001")
    assert 0 < quote["bid_price"] < quote["ask_price"]
"""


def test_a_bare_installation_reads_another_installations_daemon(empty: Run, instance: str) -> None:
    ended = empty("python", "-c", READ, instance)
    assert ended.returncode == 0, ended.stderr


def test_a_bare_installation_taps_another_installations_daemon(empty: Run, instance: str) -> None:
    ended = empty("mdsys", "tap", "--instance", instance, "--json", "--count", "20")
    assert ended.returncode == 0, ended.stderr
    ticks = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(ticks) == 20
    assert {tick["symbol"] for tick in ticks} <= {f"BINANCE:SYM{i:06d}" for i in range(3)}
