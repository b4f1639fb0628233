"""What tune has changed, and what was there before: one file, whole or not at all.

It is written before anything is changed, so that whatever end tune meets in the middle, undo knows
all that may have been touched. It says what root will write where, so it is believed only where
root alone could have written it, and of each entry only what tune changes at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from mdsys.errors import HostError, NoPermission
from mdsys.host.host import NEW_SUFFIX, Host, StoredFile
from mdsys.host.settings import Target, target_of

FOLDER: Final = "/var/lib/mdsys"
FILE: Final = f"{FOLDER}/tune.json"
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was, or was about to be, changed."""

    key: str
    was: str | None
    """What brings it back; None: it was not there."""
    set: str
    boot: str
    """The boot in which it was looked at: what is not in a file, a reboot takes back."""

    @property
    def target(self) -> Target:
        """What it is about."""
        return target_of(self.key)


def boot_id(host: Host) -> str:
    """Return what tells this boot from all others."""
    return host.read("/proc/sys/kernel/random/boot_id")


def load(host: Host) -> list[Entry]:
    """Return what is remembered, the oldest first; nothing where nothing is.

    To be called while it is held: the folder has been looked at then.

    Raises:
        HostError: The file is damaged, or somebody else could have written it.
    """
    path = host.path(FILE)
    try:
        status = path.lstat()
    except FileNotFoundError:
        return []
    if not stat.S_ISREG(status.st_mode) or not _is_ours(status):
        raise _unbelieved(path)
    try:
        return _entries(json.loads(path.read_bytes()))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise HostError(
            f"{path} is damaged ({error}): nothing has been changed; what it holds of old values "
            "must be put back by hand, then remove it"
        ) from error


def _is_ours(status: os.stat_result) -> bool:
    """Return whether nobody else can have written there."""
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _unbelieved(path: Path) -> HostError:
    return HostError(
        f"{path} is not believed: others than this user may have written it; nothing has been "
        "changed; look at it, then make it yours (chown, chmod go-w), or move it away"
    )


def _entries(document: Any) -> list[Entry]:
    if document["version"] != VERSION:
        raise ValueError(f"version {document['version']!r}; this mdsys writes {VERSION}")
    return _checked([Entry(**each) for each in document["entries"]])


def _checked(entries: list[Entry]) -> list[Entry]:
    """Return what may be remembered, in either direction: never is written what is refused later.

    Raises:
        ValueError, TypeError: It is not what tune changes, or not as tune notes it.
    """
    for entry in entries:
        texts = (entry.key, entry.set, entry.boot, "" if entry.was is None else entry.was)
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a value that is no text")
        entry.target.shown(entry.was)
    if len({entry.key for entry in entries}) < len(entries):
        raise ValueError("a key that stands twice")
    return entries


def save(host: Host, entries: Sequence[Entry]) -> None:
    """Write it, on the disk when this returns.

    Raises:
        HostError: Undo would refuse it; nothing has been written.
    """
    try:
        _checked(list(entries))
    except (ValueError, TypeError) as error:
        raise HostError(f"{error}: cannot be remembered, so nothing has been changed") from error
    document = {"version": VERSION, "entries": [asdict(each) for each in entries]}
    text = json.dumps(document, indent=1) + "\n"
    host.store(FILE, StoredFile(text, 0o600, os.geteuid(), os.getegid()))


def forget(host: Host) -> None:
    """Remove it: all is as it was."""
    host.discard(FILE + NEW_SUFFIX)
    host.discard(FILE)


@contextlib.contextmanager
def held(host: Host) -> Iterator[None]:
    """Keep every other tune from changing anything meanwhile.

    Raises:
        HostError: Another one is at it, or others may write in the folder: what would be
            remembered there would not be believed when it is to be taken back.
        NoPermission: This user may change nothing.
    """
    if host.is_real and os.geteuid() != 0:
        raise NoPermission("only root may change settings of this host: sudo mdsys tune ...")
    folder = host.path(FOLDER)
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not _is_ours(os.fstat(fd)):
            raise _unbelieved(folder)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise HostError("another mdsys tune is at work: wait for it") from None
    finally:
        os.close(fd)
