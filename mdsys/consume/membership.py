"""A reader's membership in the registry: taken up, lost with the daemon, taken up again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from mdsys import _native
from mdsys.consume.registration import Application, Registration
from mdsys.errors import HostError, NotRunning
from mdsys.ring.control_socket import NoDaemon
from mdsys.ring.door import is_superseded

FIRST_TIMEOUT_S: Final = 1.0
"""How long a reader that is being made waits for the daemon's answer."""
RETRY_S: Final = 0.5
"""Between two attempts to find a daemon."""


class Membership:
    """Keeps one reader registered, and waits for the daemon at its beginning alone.

    Later the daemon's answer is looked for in passing, however long it takes: neither a stuck
    daemon nor one that comes back costs the reader's loop more than a few system calls.

    Args:
        instance: Its name.
        door: Its symbol directory, as the reader has attached it.
        apply: Asks the daemon; None: there is nothing to register.
        lossless: Whether the reader is nothing without it.

    Raises:
        NotRunning: ``lossless``, and there is no daemon.
        HostError: ``lossless``, and the daemon refuses or does not answer; the message says why.
    """

    def __init__(
        self,
        instance: str,
        door: _native.Symbols,
        apply: Callable[[], Application] | None,
        *,
        lossless: bool,
    ) -> None:
        self._instance = instance
        self._door = door
        self._apply = apply
        self._application: Application | None = None
        self._retry_at = 0.0
        self.registration: Registration | None = None
        self.why_not: str | None = "it reads no ring"
        """Why the daemon does not know this reader; None: it does."""
        self.refusal: str | None = None
        """The same, where there is a daemon: somebody should look into it."""
        if apply is None:
            return
        self._ask(FIRST_TIMEOUT_S)
        if lossless and self.registration is None:
            why, refusal = self.why_not, self.refusal
            self.close()
            if refusal is not None:
                raise HostError(refusal)
            over = is_superseded(door)
            remedy = "attach again" if over else "start it with mdsys run --config FILE"
            raise NotRunning(f"{why}: a lossless reader needs one that waits for it; {remedy}")

    def keep(self) -> bool:
        """Register again if the daemon was restarted; never waits.

        Returns:
            Whether it is another registration now, with a page of its own.
        """
        if self.registration is not None:
            if self.registration.alive():
                return False
            self.registration.close()
            self.registration = None
            self.why_not = "it has hung up"
        if self._apply is None:
            return False
        if self._application is None and not is_superseded(self._door):
            now = time.monotonic()
            if now < self._retry_at:
                return False
            self._retry_at = now + RETRY_S
        self._ask(0)
        return self.registration is not None

    def _ask(self, timeout_s: float) -> None:
        """Apply, or look at what has become of it.

        Whoever runs once the segments were replaced has others, and never takes this reader in.
        """
        assert self._apply is not None
        if is_superseded(self._door):
            self._withdraw()
            self.why_not, self.refusal = replaced(self._instance), None
            return
        try:
            if self._application is None:
                self._application = self._apply()
            self.registration = self._application.granted(timeout_s)
        except NoDaemon:
            self._application = None
            self.why_not = f"no daemon of instance {self._instance!r} answers"
            self.refusal = None
        except HostError as error:
            self._application = None
            self.why_not = self.refusal = str(error)
        else:
            if self.registration is not None:
                self._application = self.why_not = self.refusal = None
            elif timeout_s:
                self.why_not = self.refusal = f"the daemon did not answer in {timeout_s:g} s"

    def page(self) -> _native.ReaderPage:
        """Return where the reader counts: the daemon's page, or one that nobody sees."""
        if self.registration is None:
            return _native.ReaderPage.private()
        return _native.ReaderPage(self.registration.memory, writable=True)

    def forget(self) -> None:
        """After a fork: leave it all to the parent, whose it is."""
        self._apply = self._application = self.registration = None
        self.why_not = "it was made before a fork"

    def close(self) -> None:
        """Leave, for good."""
        self._apply = None
        self._withdraw()
        if self.registration is not None:
            self.registration.close()
            self.registration = None
        self.why_not, self.refusal = "it is closed", None

    def _withdraw(self) -> None:
        if self._application is not None:
            self._application.withdraw()
            self._application = None


def replaced(instance: str) -> str:
    """Return what has become of superseded segments, in words."""
    return f"instance {instance!r} was started anew with other rings or was cleaned"
