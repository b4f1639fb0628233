"""`mdsys top` in a terminal, on a daemon that trades, is killed, and comes back."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import mdsys
from tests.daemons import PATIENCE_S, instance
from tests.simulated import all_tick, daemon_on, status_when, street, venue_text

pytestmark = pytest.mark.system
LINES, COLUMNS = 50, 170
TOKEN = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]P][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[^\[\]P]|[^\x1b]"
)
"""A control sequence, a string (of a title, a question), another escape, or a character."""


class Terminal:
    """A program's terminal, as far as a view needs one: where the cursor goes, what is written."""

    def __init__(self, *command: str) -> None:
        self._fd, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", LINES, COLUMNS, 0, 0))
        ours = ("NO_COLOR", "COLUMNS", "LINES")  # they would count more than the terminal's own
        environment = {key: value for key, value in os.environ.items() if key not in ours}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mdsys", *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**environment, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
            start_new_session=True,
        )
        os.close(theirs)
        self._cells = [[" "] * COLUMNS for _ in range(LINES)]
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._pending = ""
        self._y = self._x = 0

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._fd, keys.encode())

    def text(self) -> str:
        """Return what stands there."""
        return "\n".join("".join(line).rstrip() for line in self._cells)

    def until(self, *words: str) -> str:
        """Return what stands there once all the words do; a pattern each."""
        deadline = time.monotonic() + PATIENCE_S
        while not all(re.search(each, self.text()) for each in words):
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"{words} did not come:\n{self.text()}"
            if select.select([self._fd], [], [], left_s)[0]:
                self._take()
        return self.text()

    def end(self) -> int:
        """Read to the end, and return the exit code."""
        with contextlib.suppress(OSError):  # EIO: the program has gone
            while True:
                self._take()
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """Kill what still runs."""
        self.process.kill()
        self.process.wait()
        os.close(self._fd)

    def _take(self) -> None:
        text, place = self._pending + self._decoder.decode(os.read(self._fd, 1 << 16)), 0
        while match := TOKEN.match(text, place):
            self._put(match[0])
            place = match.end()
        self._pending = text[place:]

    def _put(self, token: str) -> None:
        if move := re.fullmatch(r"\x1b\[(\d*);?(\d*)H", token):
            self._y, self._x = int(move[1] or 1) - 1, int(move[2] or 1) - 1
        elif token == "\r":
            self._x = 0
        elif token == "\n":
            self._y, self._x = min(self._y + 1, LINES - 1), 0
        elif token[0] != "\x1b" and token.isprintable() and self._x < COLUMNS and self._y < LINES:
            self._cells[self._y][self._x] = token
            self._x += 1


@contextlib.contextmanager
def terminal(*command: str) -> Iterator[Terminal]:
    made = Terminal(*command)
    try:
        yield made
    finally:
        made.close()


def test_top_shows_a_daemon_that_trades_dies_and_comes_back(tmp_path: Path) -> None:
    with street(["binance"], symbols=6, rate=300) as venues, instance() as name:
        tables = venue_text("binance", venues["binance"], symbols=6)
        with daemon_on(tmp_path, name, tables) as daemon:
            status_when(name, all_tick)
            with (
                mdsys.attach(name) as market,
                terminal("top", "--instance", name) as screen,
            ):
                reader = market.reader(name="watched")
                reader.poll(timeout=PATIENCE_S)
                shown = screen.until(
                    rf"mdsys top  {name} +running for .*6 symbols",
                    r"watched",
                    r"binance +ready +now",
                    r"BINANCE:SYM00000\d +\d",
                    r"socket → ring +\d+",
                    r"[▁▂▃▄▅▆▇█]{2}",
                )
                assert "18 streams, 18 ticking" in shown
                screen.press("/SYM000003\r")  # in one piece, as a paste comes
                shown = screen.until(r"of 1 that move")
                screen.press("\x1b")
                screen.until(r"of 6 that move")
                daemon.process.send_signal(signal.SIGKILL)
                daemon.process.wait()
                screen.until(r"dead: daemon gone, segments as it left them", r"binance +gone")
                with daemon_on(tmp_path, name, tables):
                    screen.until(r"running for", r"binance +ready +now", r"watched|readers +0")
                    screen.press("q")
                    assert screen.end() == 0


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (("top", "--instance", "test-never-there"), 69, "is not there"),
        (("top", "--instance", "../x"), 64, "usage|must|instance"),
    ],
)
def test_top_refuses_before_it_takes_the_screen(
    command: tuple[str, ...], code: int, words: str
) -> None:
    with terminal(*command) as screen:
        assert screen.end() == code
        assert re.search(words, screen.text())


def test_top_without_a_terminal_names_what_there_is_for_programs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mdsys", "top"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 64
    assert "mdsys stat --json" in done.stderr
