"""The lock of an instance: a file outside its segments, and who may write them holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mdsys.errors import InstanceInUse, NoPermission
from mdsys.ring.rights import user_name

ORPHAN_WAIT_SECONDS: Final = 5.0
"""How long the feeds of a killed supervisor may take to die."""
_PF_EXITING: Final = 0x4
"""Of linux/sched.h, in field 9 of /proc/PID/stat."""


def run_dirs() -> list[Path]:
    """Return where locks and control sockets may lie, the best place first."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return [
        Path("/run/mdsys"),
        *([Path(runtime) / "mdsys"] if runtime else []),
        Path(f"/tmp/mdsys-{os.getuid()}"),  # noqa: S108  whose it is, is checked by all who use it
    ]


def run_dir() -> Path:
    """Return where locks and control sockets lie, made if need be.

    /run/mdsys when it is ours to write (or to make), else $XDG_RUNTIME_DIR/mdsys, else
    /tmp/mdsys-UID.

    Raises:
        NoPermission: None of them can be had.
    """
    candidates = run_dirs()
    for path in candidates:
        with contextlib.suppress(OSError):
            path.mkdir(mode=0o755 if path.parent == Path("/run") else 0o700, exist_ok=True)
            status = path.stat(follow_symlinks=False)
            if status.st_uid == os.getuid() and os.access(path, os.W_OK):
                return path
    raise NoPermission(
        f"no directory for the lock: {', '.join(map(str, candidates))} cannot be written; "
        "set XDG_RUNTIME_DIR or run: install -d -o $USER /run/mdsys"
    )


def start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 when there is none."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = status.rpartition(")")[2].split()  # from field 3 on; a name may hold blanks and ")"
    # Dead and not reaped yet is dead; so is who is dying: its lock is given back a moment earlier
    # than its state says so, and it runs none of its code any more.
    dead = fields[0] in "ZX" or int(fields[6]) & _PF_EXITING
    return 0 if dead else int(fields[19])


@dataclass(slots=True)
class Lock:
    """The right to write an instance's segments."""

    fd: int
    path: Path
    found: bool
    """Whether somebody had it before us, who may have left segments and limits behind."""

    @classmethod
    def take(cls, instance: str, *, orphan_wait: float = ORPHAN_WAIT_SECONDS) -> Lock:
        """Take the lock of ``instance``.

        Waits, at most ``orphan_wait`` seconds, when its owner is dead and its feeds are not yet.

        Raises:
            InstanceInUse: Somebody alive holds it.
            NoPermission: The lock file cannot be opened.
        """
        path = run_dir() / f"{instance}.lock"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        deadline = time.monotonic() + orphan_wait
        while True:
            try:
                fd = os.open(path, flags, 0o600)
            except PermissionError as error:
                owner = user_name(path.stat(follow_symlinks=False).st_uid)
                raise NoPermission(
                    f"{path} belongs to {owner}: remove it once they run no daemon of this name"
                ) from error
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                words = os.pread(fd, 64, 0).split()
                os.close(fd)
                pid, ticks = (int(words[0]), int(words[1])) if len(words) == 2 else (0, 0)
                if (pid and start_ticks(pid) == ticks) or time.monotonic() > deadline:
                    raise InstanceInUse(
                        f"instance {instance!r} is in use by process {pid}; "
                        "stop it or choose another instance name"
                    ) from None
                time.sleep(0.02)
                continue
            if _is_named(fd, path):
                break
            os.close(fd)  # it was removed between our open and our flock: there may be a new one
        found = os.fstat(fd).st_size > 0
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()} {start_ticks(os.getpid())}\n".encode(), 0)
        return cls(fd, path, found)

    def release(self) -> None:
        """Give it back; the file stays, for the feeds that may hold it still."""
        os.close(self.fd)

    def give_up(self) -> None:
        """Give it back after a start that came to nothing: what a daemon before us left stays."""
        if self.found:
            self.release()
        else:
            self.remove()

    def remove(self) -> None:
        """Give it back and remove the file. Only where it was handed on to nobody.

        So go the control socket and the limits' windows that a daemon left beside it. Unlinked
        while it is held: who opened the file before finds out in ``take`` that what it locked
        bears the name no more.
        """
        for suffix in (".sock", ".limits", ".limits.new"):
            self.path.with_suffix(suffix).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        os.close(self.fd)


def _is_named(fd: int, path: Path) -> bool:
    """Return whether ``path`` names the open file."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False
