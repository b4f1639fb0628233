"""The line that tells how far something is: on a terminal, and nowhere else."""

from __future__ import annotations

import io
import threading

import pytest

from mdsys import progress
from mdsys.progress import Progress


class Out(io.StringIO):
    """A stream that is a terminal or is none."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal
        self.shown = threading.Event()

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str) -> int:
        if ", 0 s" in text:
            self.shown.set()
        return super().write(text)


def test_log_holds_what_was_said_and_nothing_else() -> None:
    out = Out(terminal=False)
    line = Progress("mdsys x", out)
    line.show("half")
    with line.during("waiting"):
        line.say("done")
    line.erase()
    assert out.getvalue() == "mdsys x: done\n"


def test_log_is_told_what_a_terminal_is_shown() -> None:
    log, terminal = Out(terminal=False), Out(terminal=True)
    for out in (log, terminal):
        Progress("mdsys x", out).tell("half")
    assert log.getvalue() == "mdsys x: half\n"
    assert terminal.getvalue() == "\r\x1b[Kmdsys x: half"


def test_line_on_a_terminal_changes_in_place_and_words_that_stay_replace_it() -> None:
    out = Out(terminal=True)
    line = Progress("mdsys x", out)
    line.show("a\nb")
    line.say("done")
    assert out.getvalue() == "\r\x1b[Kmdsys x: a\\nb\r\x1b[Kmdsys x: done\n"


def test_long_operation_is_told_while_it_lasts_and_erased_when_it_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    out = Out(terminal=True)

    def fail() -> None:
        with Progress("mdsys x", out).during("asking"):
            assert out.shown.wait(20)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert "mdsys x: asking, 0 s" in out.getvalue()
    assert out.getvalue().endswith("\r\x1b[K")


def test_short_operation_needs_no_words() -> None:
    out = Out(terminal=True)
    with Progress("mdsys x", out).during("asking"):
        pass
    assert out.getvalue() == "\r\x1b[K"
