"""README.md, word for word: its commands, configurations and programs, run against each other.

Only three words are changed, so that a test meets neither another test nor a daemon of this
machine's owner: the venue's port, the instance, and an end for what goes on until Ctrl-C.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mdsys
from mdsys.daemon.stat_command import take_picture
from tests.daemons import PATIENCE_S, Daemon, instance

pytestmark = pytest.mark.system

ADDRESS = "127.0.0.1:9001"
FILE_NAME = re.compile(r"(?:# |/\* )([a-z]+\.[a-z]+)")


class Readme:
    """README's fenced blocks."""

    def __init__(self, text: str) -> None:
        blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        self.commands: list[str] = [
            line for language, block in blocks if language == "sh" for line in block.splitlines()
        ]
        self.targets = set(re.findall(r"^make (\w+)", text.replace("`", "\n"), re.MULTILINE))
        self.python = [block for language, block in blocks if language == "python"]
        self.files: dict[str, str] = {}
        for language, block in blocks:
            if language in ("toml", "c"):
                name = FILE_NAME.match(block)
                assert name, f"a file without a name:\n{block}"
                self.files[name[1]] = block
        assert {language for language, _ in blocks} == {"sh", "python", "toml", "c"}

    def take(self, *words: str) -> str:
        """Return the one command that begins so, and take it out."""
        begins = [shlex.split(line)[: len(words)] == [*words] for line in self.commands]
        assert begins.count(True) == 1, f"{words} in {self.commands}"
        return self.commands.pop(begins.index(True))


@pytest.fixture
def readme(repository: Path) -> Readme:
    return Readme((repository / "README.md").read_text())


class Newcomer:
    """Somebody who types, in a folder of their own, with `.venv` activated."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "HOME": str(folder)}
        self.environment.pop("XDG_CONFIG_HOME", None)

    def type(self, line: str, *more: str) -> str:
        """Run a line to its end; return what it prints."""
        done = subprocess.run(
            ["sh", "-c", f"{line.partition(' # ')[0]} {shlex.join(more)}"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def start(
        self, line: str, *, stdout: int = subprocess.DEVNULL, stderr: int = subprocess.DEVNULL
    ) -> Iterator[subprocess.Popen[str]]:
        """Run a line that goes on until Ctrl-C."""
        with subprocess.Popen(
            shlex.split(line),
            cwd=self.folder,
            env=self.environment,
            stdout=stdout,
            stderr=stderr,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextlib.contextmanager
    def start_daemon(self, line: str, name: str) -> Iterator[Daemon]:
        """Run a daemon, its log read."""
        with self.start(line, stderr=subprocess.PIPE) as process:
            daemon = Daemon(name, process)
            try:
                yield daemon
            finally:
                process.kill()
                daemon.wait()


def test_makefile_has_the_targets(readme: Readme, repository: Path) -> None:
    makefile = (repository / "Makefile").read_text()
    assert {"demo", "install", "pictures", "test", "wheel"} == readme.targets
    for target in readme.targets:
        assert re.search(rf"^{target}:.* ## ", makefile, re.MULTILINE)


def test_a_newcomer_sees_ticks_in_the_terminal_in_python_and_in_c(
    readme: Readme, tmp_path: Path
) -> None:
    if shutil.which("mdsys", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("this environment has no mdsys program; make builds one that has")
    newcomer = Newcomer(tmp_path)
    for target in ("demo", "test"):
        readme.take("make", target)  # what builds this environment and runs this test
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(instance())

        sim = stack.enter_context(
            newcomer.start(
                readme.take("mdsys", "sim").replace(ADDRESS, "127.0.0.1:0"),
                stdout=subprocess.PIPE,
            )
        )
        assert sim.stdout is not None
        address = sim.stdout.readline().strip().rpartition("/")[2]
        assert ADDRESS in readme.files["feed.toml"]
        for file, text in readme.files.items():
            head = f'instance = "{name}"\n' if "[[venue]]" in text else ""
            ours = text.replace(ADDRESS, address).replace('"default"', f'"{name}"')
            (tmp_path / file).write_text(head + ours)

        daemon = stack.enter_context(newcomer.start_daemon(readme.take("mdsys", "run"), name))
        daemon.wait_ready()

        lines = newcomer.type(
            readme.take("mdsys", "tap"), "--instance", name, "--count", "40"
        ).splitlines()
        assert len(lines) == 40
        assert all(" BINANCE:SYM00000" in line for line in lines)
        assert name in newcomer.type(readme.take("mdsys", "stat"), "--instance", name)
        assert "BTCUSDT" in newcomer.type(readme.take("mdsys", "check", "--config", "binance.toml"))

        told = newcomer.type(readme.take("mdsys", "ctl", "subscribe"), "--instance", name)
        assert "1 symbol, 0 unchanged, 0 refused" in told
        told = newcomer.type(readme.take("mdsys", "ctl", "status", "#"), "--instance", name)
        assert re.search(r"^symbols +3 ", told, re.MULTILINE)
        told = newcomer.type(
            readme.take("mdsys", "ctl", "status", "BINANCE:SYM000002"), "--instance", name
        )
        assert told.startswith("BINANCE:SYM000002: ")

        recorder = stack.enter_context(
            newcomer.start(
                with_instance(readme.take("mdsys", "record"), name), stderr=subprocess.PIPE
            )
        )

        wait_for_everything(name, "BINANCE:SYM000000")
        program, strategy, inside, backtest = readme.python
        assert 'attach("default")' in program
        (tmp_path / "watch.py").write_text(program.replace('"default"', f'"{name}"'))
        trades, bid, level = newcomer.type("python watch.py").strip().rsplit("\n", 2)
        assert re.fullmatch(r"\[[\d. \n]*\]", trades), trades
        assert int(bid) > 0
        assert re.fullmatch(r"\(Decimal\('[\d.]+'\), Decimal\('[\d.]+'\)\)", level)

        (tmp_path / "strategy.py").write_text(strategy.replace('"default"', f'"{name}"'))
        with newcomer.start("python strategy.py", stdout=subprocess.PIPE) as running:
            while not any(r["name"] == "strategy" and r["received"] for r in readers_of(name)):
                assert running.poll() is None
            running.send_signal(signal.SIGTERM)
            said, _ = running.communicate(timeout=PATIENCE_S)
            assert running.returncode == 0
            figures = ast.literal_eval(said[said.index("{") :])
            taken = ("received", "filtered", "conflated", "dropped", "lost")
            published = sum(figures["published"].values())
            assert sum(figures[word] for word in taken) == published > 0

        assert newcomer.type(readme.take("cc")) == ""
        with newcomer.start(readme.take("./trades"), stdout=subprocess.PIPE) as trader:
            assert trader.stdout is not None
            for _ in range(3):
                assert float(trader.stdout.readline()) > 0

        end_of_recording(recorder, newcomer.folder / "captures")
        (tmp_path / "backtest.py").write_text(backtest)
        assert re.match(r"\d+ \[[\d. ]+\]\n", newcomer.type("python backtest.py"))

        assert daemon.end(signal.SIGINT) == 0
        (tmp_path / "inside.py").write_text(inside)
        said, messages = newcomer.type("python inside.py").splitlines()
        funnel = ast.literal_eval(said)
        assert int(messages) >= 0
        assert funnel["desired"] == funnel["confirmed"] == 9  # three channels of three symbols

        again = stack.enter_context(instance())
        newcomer.type(
            readme.take("mdsys", "replay").replace("--instance again", f"--instance {again}")
        )
        newcomer.type(f"mdsys clean --instance {again}")

        (tmp_path / "nse.txt").write_text("NSE:INFY\n")
        newcomer.type(readme.take("install"))
        assert "nse.txt" in newcomer.type(readme.take("mdsys", "check", "--config", "kite.toml"))
        assert "removed" in newcomer.type(readme.take("mdsys", "clean"), "--instance", name)
        assert readme.commands == [], "nobody has tried these"


def with_instance(line: str, name: str) -> str:
    """Return a command as it is typed where the instance is another."""
    return f"{line.partition(' # ')[0]} --instance {name}"


def end_of_recording(recorder: subprocess.Popen[str], folder: Path) -> None:
    """Send Ctrl-C once something has been recorded."""
    assert recorder.stderr is not None
    while not any(each.stat().st_size for each in folder.glob("*.zst")):
        assert recorder.stderr.readline(), "the recorder has ended"
    recorder.send_signal(signal.SIGINT)
    recorder.communicate(timeout=PATIENCE_S)
    assert recorder.returncode == 0


def readers_of(name: str) -> list[dict[str, Any]]:
    """Return the registered readers."""
    readers = take_picture(name)["readers"]
    assert readers is not None
    return list(readers)


def wait_for_everything(name: str, symbol: str) -> None:
    """Wait until a symbol has had trade, quote and book; each poll waits for a record."""
    with mdsys.attach(name) as md:
        reader = md.reader([symbol])
        while None in (md.last_quote(symbol), md.last_trade(symbol), md.book(symbol)):
            assert len(reader.poll(timeout=PATIENCE_S)), f"{symbol} is silent"
