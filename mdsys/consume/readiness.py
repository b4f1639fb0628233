"""A descriptor that tells when a reader has something to read."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Final

from mdsys import _consume

SLICE_SECONDS: Final = 1.0


class Readiness:
    """A thread that sleeps on the doorbell and makes an eventfd readable.

    A doorbell is no descriptor, and one that the daemon would write for us would be a descriptor
    that we could make it block on. So a thread of ours stands between.
    """

    def __init__(self, poller: _consume.Poller) -> None:
        self._watcher = _consume.Watcher(poller)
        self._watcher.arm()
        self._armed = threading.Event()
        self._armed.set()
        self._ending = False
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._watch, name="mdsys-readiness", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            self._armed.wait()
            self._armed.clear()  # here, so that one that `close` sets from now on is not undone
            if self._ending:
                return
            # Also where there is nothing: only who polls sees that the daemon was restarted.
            self._watcher.wait(SLICE_SECONDS)
            os.eventfd_write(self.fd, 1)

    def poke(self) -> None:
        """Make the descriptor readable, so that the reader polls and arms anew: it has moved."""
        self._watcher.stop()

    def rearm(self) -> None:
        """Wait for what comes next; the reader has just polled."""
        with contextlib.suppress(BlockingIOError):  # it watches still: from there on will do
            os.eventfd_read(self.fd)
            self._watcher.arm()  # the thread waits for us: nobody else looks at it
            self._armed.set()

    def close(self) -> None:
        """End the thread."""
        self._ending = True
        self._watcher.stop()
        self._armed.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        os.close(self.fd)
