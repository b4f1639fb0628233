"""One line on standard error that tells how far a long operation is, where somebody looks.

On a terminal it changes in place and is gone in the end; elsewhere there is none, so that logs and
pipes hold what was said and nothing else.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Final, TextIO

from mdsys.wording import printable, span

PATIENCE_S: Final = 0.5
"""What is done sooner needs no words."""
PERIOD_S: Final = 0.25
_ERASE: Final = "\r\x1b[K"


class Progress:
    """The line of one program.

    Args:
        name: Stands before it, as ``mdsys record``.
        out: Where it goes; None: standard error.
    """

    def __init__(self, name: str, out: TextIO | None = None) -> None:
        self._name = name
        self._out = sys.stderr if out is None else out
        self.is_terminal = self._out.isatty()
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Print a line that stays, in a log too."""
        self._write(f"{self._name}: {text}\n")

    def tell(self, text: str) -> None:
        """Show how far it is; in a log say it, for which the caller asks more seldom."""
        (self.show if self.is_terminal else self.say)(text)

    def show(self, text: str) -> None:
        """Show how far it is, instead of what was shown before."""
        if self.is_terminal:
            self._write(f"{self._name}: {printable(text)}")

    def erase(self) -> None:
        """Take away what is shown: something else is about to be printed, or all is done."""
        if self.is_terminal:
            self._write("")

    @contextlib.contextmanager
    def during(self, text: str) -> Iterator[None]:
        """Show, from half a second on, what is being done and for how long, until it is."""
        if not self.is_terminal:
            yield
            return
        done = threading.Event()
        began_s = time.monotonic()

        def tell() -> None:
            wait_s = PATIENCE_S
            while not done.wait(wait_s):
                self.show(f"{text}, {span(time.monotonic() - began_s)}")
                wait_s = PERIOD_S

        thread = threading.Thread(target=tell, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.erase()

    def _write(self, text: str) -> None:
        with self._lock:
            self._out.write(f"{_ERASE if self.is_terminal else ''}{text}")
            self._out.flush()
