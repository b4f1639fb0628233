"""What has been used of the venues' limits, kept for the daemon that comes after this one.

The windows live in the supervisor; without this a daemon that is killed and started again, and
again, would begin each time with empty ones. A small file beside the instance's lock, 0600, is
replaced at each batch of grants before anything that was granted is told. So at any moment it holds
all that may have been done. Times are of the monotonic clock, which goes on until the next boot.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Final

import msgspec

SIZE_MAX: Final = 16 << 20
COUNT_MAX: Final = 1 << 31
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

log = logging.getLogger("mdsys.daemon")


class Kept(msgspec.Struct, frozen=True):
    """What has been used of one scope's windows."""

    venue: str
    what: str
    key: str | None
    held: int
    """Granted, and not known to be used; it may have been used until its holder's end."""
    past: list[tuple[float, int]]
    """When (seconds of the monotonic clock, ascending), and how much."""

    def sound(self) -> bool:
        """Return whether it is what a limiter could have kept."""
        return 0 <= self.held < COUNT_MAX and all(
            isfinite(at) and 0 < count < COUNT_MAX for at, count in self.past
        )


class _Content(msgspec.Struct, frozen=True):
    boot_id: str
    scopes: list[Kept]


class LimitsFile:
    """The file of one instance.

    Args:
        path: Where; the lock of the instance is held.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new = path.with_name(path.name + ".new")
        self._boot_id = BOOT_ID.read_text().strip()
        self._failed = False

    def read(self) -> list[Kept]:
        """Return what the daemon before us has used; nothing where it cannot be read."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(fd, "rb") as file:
                if os.fstat(fd).st_uid != os.geteuid():  # /tmp is everybody's
                    return []
                content = msgspec.json.decode(file.read(SIZE_MAX), type=_Content)
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            log.warning("%s: %s: the venues' limits begin anew", self._path, error)
            return []
        if content.boot_id != self._boot_id:
            return []
        return [kept for kept in content.scopes if kept.sound()]

    def write(self, scopes: Sequence[Kept]) -> None:
        """Replace it, whole: whoever kills us leaves the old one or the new one."""
        data = msgspec.json.encode(_Content(self._boot_id, list(scopes)))
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            with os.fdopen(os.open(self._new, flags, 0o600), "wb") as file:
                file.write(data)
            self._new.rename(self._path)
        except OSError as error:  # the limits hold all the same, as long as we live
            if not self._failed:
                log.warning("%s: %s: a restart will not know of it", self._path, error)
            self._failed = True
