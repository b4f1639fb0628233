"""What the service manager is told over ``$NOTIFY_SOCKET``: sd_notify(3), read in systemd 252.

Nothing here ever blocks. What cannot be sent now (the manager is busy, or restarts itself) is kept,
one word of each kind, and sent with what comes next. A ping is not kept: it is true now or never.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping

log = logging.getLogger("mdsys.daemon")


class Notifier:
    """Speaks for this process; where nobody has asked for it, says nothing.

    Args:
        address: Of the manager's datagram socket: a path, or ``@`` and a name that is none; empty:
            there is no manager.
        watchdog_s: It wants a ping at least so often; None: it wants none.
    """

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s if address else None
        self.ping_count = 0
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._state = ""
        """Lines that have not been taken; a new state makes an old one void."""
        self._status = ""
        """The same of the status line."""
        self._complained = False

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Notifier:
        """Take what the manager has left there: no child of ours shall speak for us.

        Args:
            environment: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are removed.
        """
        address = environment.pop("NOTIFY_SOCKET", "")
        usec = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "") or str(os.getpid())
        if not address.startswith(("/", "@")) or len(address) < 2:
            return cls()  # vsock: the manager of a virtual machine's host, which runs no daemon
        ours = usec.isascii() and usec.isdigit() and int(usec) > 0 and pid == str(os.getpid())
        return cls(address, int(usec) / 1e6 if ours else None)

    @property
    def heard(self) -> bool:
        """Whether there is a manager."""
        return self._address != ""

    def starting(self, timeout_s: float, status: str) -> None:
        """The start goes on, and shall not be given up before so much time has passed again."""
        self._tell(f"EXTEND_TIMEOUT_USEC={int(timeout_s * 1e6)}", status)

    def ready(self, status: str) -> None:
        """The start is over, or a reload."""
        self._tell("READY=1", status)

    def reloading(self) -> None:
        """A reload has begun; ``ready`` ends it."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """The end has begun."""
        self._tell("STOPPING=1", status)

    def status(self, status: str) -> None:
        """Tell people how it is, in one line."""
        self._tell("", status)

    def ping(self) -> None:
        """Tell that we live."""
        self.ping_count += self._send("WATCHDOG=1")

    def flush(self) -> None:
        """Try once more to send what was not taken."""
        lines = [self._state] if self._state else []
        if self._status:
            lines.append(f"STATUS={self._status}")
        if lines and self._send("\n".join(lines)):
            self._state = self._status = ""

    def _tell(self, state: str, status: str = "") -> None:
        self._state = state or self._state
        self._status = " ".join(status.split()) or self._status
        self.flush()

    def _send(self, text: str) -> bool:
        """Return whether it is done with."""
        if not self.heard:
            return True
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            with socket.socket(socket.AF_UNIX, kind) as each:
                each.sendto(text.encode(), self._address)
        except BlockingIOError:
            return False
        except OSError as error:
            if not self._complained:
                log.warning(
                    "the service manager cannot be told: %s: %s", self._address, error.strerror
                )
            self._complained = True
            return False
        self._complained = False
        return True
