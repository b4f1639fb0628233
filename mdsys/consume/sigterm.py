"""SIGTERM, heeded by whatever runs in the main thread."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


class _Sigterm:
    """Who heeds it now. Two consumers may be iterated side by side, and end in any order."""

    def __init__(self) -> None:
        self.stops: list[Callable[[], object]] = []
        self._before: Any = signal.SIG_DFL

    def take(self) -> None:
        """Be called when it comes."""
        if signal.getsignal(signal.SIGTERM) != self.come:
            self._before = signal.signal(signal.SIGTERM, self.come)

    def give_back(self) -> None:
        """Have who was there before be called again, if nobody else has taken it since."""
        if signal.getsignal(signal.SIGTERM) == self.come:
            with contextlib.suppress(ValueError):  # an iterator is forgotten in another thread
                signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)

    def come(self, *_: object) -> None:
        """Stop all; where there is nobody left, as after that ValueError, it is not for us."""
        if not self.stops:
            self.give_back()
            signal.raise_signal(signal.SIGTERM)
        for stop in list(self.stops):
            stop()


_sigterm = _Sigterm()


@contextlib.contextmanager
def heeding_sigterm(stop: Callable[[], object]) -> Iterator[None]:
    """Have SIGTERM call ``stop`` in the block, where this thread may say so.

    In asyncio too: its own `add_signal_handler` would take the place of another that is set there
    for good, while beside this one that other is still called.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _sigterm.take()
    _sigterm.stops.append(stop)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # we are a child by now
            _sigterm.stops.remove(stop)
        if not _sigterm.stops:
            _sigterm.give_back()


def _after_fork() -> None:
    """A child has no part in its parent's consumers, and ends as its parent would without them."""
    if _sigterm.stops:
        _sigterm.stops.clear()
        _sigterm.give_back()


os.register_at_fork(after_in_child=_after_fork)
