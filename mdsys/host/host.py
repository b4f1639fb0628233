"""One host, as doctor and tune see it: files below a root, programs, and what the kernel is asked.

All that they read and write goes through a Host, so that a test can hand them another machine: a
folder with a /proc and a /sys of its own. Below another root than / no program is ever run and no
system call asked, for they would speak of, or change, the machine that runs the test.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import stat
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mdsys.errors import HostError
from mdsys.host import cores
from mdsys.host.needs import Needs, default_needs

PROGRAM_TIMEOUT_S: Final = 20
"""Longest that a program may take; none of those run here takes a second."""
NEW_SUFFIX: Final = ".mdsys-new"
"""Of a file in the making. No program reads such a name: sysctl.d and its like want .conf."""
_ADMIN_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
"""A user's PATH often lacks sbin; and root should run nothing out of a PATH of somebody's."""
_STA_UNSYNC: Final = 0x40
"""Of linux/timex.h."""
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file's content and whose it is: what brings it back exactly."""

    text: str
    """Bytes that are no UTF-8 as surrogates (PEP 383), so that JSON can hold them."""
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True)
class Host:
    """A machine, and what mdsys asks of it."""

    root: Path = Path("/")
    needs: Needs = field(default_factory=default_needs)

    @property
    def is_real(self) -> bool:
        """Whether it is the machine that this runs on."""
        return self.root == Path("/")

    def path(self, name: str) -> Path:
        """Return where a file of the host lies; ``name`` begins with / as on the host."""
        return self.root / name.lstrip("/")

    # ---- reading -------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Return whether there is such a file or folder."""
        with contextlib.suppress(OSError):
            return self.path(name).exists()
        return False

    def read(self, name: str) -> str:
        """Return what a file says, stripped; nothing where it is not there or not ours."""
        return cores.read(self.path(name))

    def raw(self, name: str) -> str | None:
        """Return what a file says, to the byte; None where it is not there or not ours."""
        try:
            return self.path(name).read_bytes().decode("utf-8", "surrogateescape")
        except OSError:
            return None

    def read_set(self, name: str) -> frozenset[int]:
        """Return the numbers of a kernel's list, as ``0-3,8``."""
        return cores.read_set(self.path(name))

    def number(self, name: str) -> int | None:
        """Return the whole number that a file holds; None where it holds none."""
        text = self.read(name)
        return int(text) if re.fullmatch(r"-?\d{1,19}", text, re.ASCII) else None

    def names(self, folder: str) -> list[str]:
        """Return what lies in a folder, numbers in their order; nothing where it is not ours."""
        try:
            found = [each.name for each in self.path(folder).iterdir()]
        except OSError:
            return []
        return sorted(found, key=lambda name: (not name.isdecimal(), name.zfill(20), name))

    def commands_running(self) -> frozenset[str]:
        """Return the names of all processes, as the kernel cuts them: 15 characters."""
        return frozenset(
            self.read(f"/proc/{pid}/comm") for pid in self.names("/proc") if pid.isdecimal()
        )

    def mounts(self) -> Iterator[tuple[str, str, str]]:
        """Give each mount: where, of what type, with what options; later ones cover earlier."""
        for line in self.read("/proc/self/mounts").splitlines():
            parts = line.split(" ")
            if len(parts) >= 4:
                yield parts[1].replace("\\040", " "), parts[2], parts[3]

    def mount_of(self, folder: str) -> tuple[str, str, str] | None:
        """Return the mount in which a folder lies."""
        best: tuple[str, str, str] | None = None
        for mount in self.mounts():
            inside = Path(folder).is_relative_to(mount[0])
            if inside and (best is None or len(mount[0]) >= len(best[0])):
                best = mount
        return best

    # ---- asking --------------------------------------------------------------------------------

    def program(self, *argv: str) -> str | None:
        """Return what a program prints; None where it is not there, fails, or the root is a fake.

        Its words are asked for in English: they are parsed.
        """
        if not self.is_real:
            return None
        try:
            done = subprocess.run(
                argv,
                check=True,
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=PROGRAM_TIMEOUT_S,
                env={"PATH": _ADMIN_PATH, "LC_ALL": "C"},
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout

    def space(self, folder: str) -> tuple[int, int] | None:
        """Return bytes in all and bytes free where a folder lies; None where that is not told."""
        if not self.is_real:
            return None
        try:
            status = os.statvfs(folder)
        except OSError:
            return None
        return status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize

    def clock_error_us(self) -> int | None:
        """Return how far off the kernel holds its clock to be at most.

        Returns:
            Microseconds; -1 when nothing disciplines the clock; None when that is not told.
        """
        if not self.is_real:
            return None
        timex = ctypes.create_string_buffer(512)  # struct timex is 208 bytes; all 0: only ask
        state = _libc.adjtimex(timex)
        _modes, _offset, _freq, error_max, _error, status = struct.unpack_from("@Illlli", timex)
        if state < 0:
            return None
        return -1 if status & _STA_UNSYNC else int(error_max)

    # ---- changing ------------------------------------------------------------------------------

    def set_value(self, name: str, text: str) -> None:
        """Write a setting of the kernel's: a file of /proc or /sys, which must be there."""
        fd = os.open(self.path(name), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())  # in one piece: each write is a setting of its own
        finally:
            os.close(fd)

    def stored(self, name: str) -> StoredFile | None:
        """Return a file as it lies on the disk; None: there is none.

        Raises:
            HostError: It is a link or no file: nothing that may be replaced and brought back.
        """
        path = self.path(name)
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(status.st_mode):
            raise HostError(f"{path} is no regular file: move it out of the way")
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        return StoredFile(text, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)

    def store(self, name: str, file: StoredFile) -> None:
        """Put a file in its place, whole or not at all, and on the disk when this returns."""
        path = self.path(name)
        new = path.with_name(path.name + NEW_SUFFIX)
        self.discard(name + NEW_SUFFIX)  # a killed one's
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as out:
            out.write(file.text.encode("utf-8", "surrogateescape"))
            out.flush()
            status = os.fstat(fd)
            if (status.st_uid, status.st_gid) != (file.uid, file.gid):
                os.fchown(fd, file.uid, file.gid)
            os.fchmod(fd, file.mode)
            os.fsync(fd)
        new.replace(path)
        _sync(path.parent)

    def discard(self, name: str) -> None:
        """Remove a file, if there is one."""
        path = self.path(name)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
            _sync(path.parent)


def _sync(folder: Path) -> None:
    """Have a folder's names on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
