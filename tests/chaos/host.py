"""The host of a chaos run: its clock can be stepped, and its processes die at a chosen store.

Nothing of it is in what is shipped. The daemon under chaos is the checkout's own Python, with two
extensions compiled anew from the same sources, in which MD_AFTER_STORE of
native/include/mdsys/atomic.h calls tests/chaos/host.c; everywhere else it is nothing.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.native import REPOSITORY

HERE = Path(__file__).parent
BUILD = REPOSITORY / "build" / "chaos"
INSTRUMENTED = ("_listener", "_native")
"""What a feed and the supervisor write shared memory with."""
ROLES = ("other", "feed", "daemon")
PAGE = struct.Struct("<q8Q")
OFF, VICTIM, COUNTDOWN, NEWBORN, STRUCK = 0, 8, 16, 24, 48


def build() -> tuple[Path, Path]:
    """Compile what has changed; return the preloaded library and the folder of the extensions.

    Raises:
        AssertionError: It does not compile.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two runs one compiles
        return _build()


def _build() -> tuple[Path, Path]:
    library = BUILD / "host.so"
    _run(
        *("gcc", "-std=c17", "-D_GNU_SOURCE", "-Dstatic_assert=_Static_assert", "-O2", "-Wall"),
        *(
            "-Wextra",
            "-Werror",
            "-shared",
            "-fPIC",
            "-o",
            str(library),
            str(HERE / "host.c"),
            "-ldl",
        ),
    )
    _run(
        *(sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(BUILD / "lib")),
        *("--build-temp", str(BUILD / "temp")),
        environment={
            "MDSYS_EXT": ",".join(INSTRUMENTED),
            "CFLAGS": f"-include {HERE / 'host.h'}",
        },
    )
    return library, BUILD / "lib" / "mdsys"


def _run(*command: str, environment: Mapping[str, str] | None = None) -> None:
    made = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, f"{' '.join(command)}\n{made.stdout}{made.stderr}"


def plant(tree: Path, extensions: Path) -> None:
    """Lay out a package that is the checkout's but for the instrumented extensions."""
    package = tree / "mdsys"
    package.mkdir(parents=True)
    for each in (REPOSITORY / "mdsys").iterdir():
        if each.name.partition(".")[0] not in INSTRUMENTED and each.name != "__pycache__":
            (package / each.name).symlink_to(each)
    for name in INSTRUMENTED:
        (made,) = extensions.glob(f"{name}.*.so")
        shutil.copy2(made, package)
        (package / f"{name}.pyi").symlink_to(REPOSITORY / "mdsys" / f"{name}.pyi")


class Host:
    """The page that every process of the run looks at.

    Args:
        folder: Of this run.
    """

    def __init__(self, folder: Path) -> None:
        library, extensions = build()
        plant(folder / "tree", extensions)
        page = folder / "host"
        page.write_bytes(bytes(PAGE.size))
        with page.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), PAGE.size)
        self.environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "CHAOS_PAGE": str(page),
            "PYTHONPATH": f"{folder / 'tree'}:{REPOSITORY}",
        }
        """Of the daemon and of what runs beside it."""

    @staticmethod
    def command(*arguments: str) -> Sequence[str]:
        """Return the command line of ``mdsys``; -P: the package of the tree, not of this folder."""
        return [sys.executable, "-P", "-m", "mdsys", *arguments]

    def step_clock(self, by_ns: int) -> None:
        """Step CLOCK_REALTIME."""
        self._put("q", OFF, self._get("q", OFF) + by_ns)

    @property
    def clock_off_ns(self) -> int:
        """How far it is off the machine's."""
        return self._get("q", OFF)

    def kill_after(self, pid: int, stores: int) -> None:
        """Have a process die after so many of its stores from now on, >= 1."""
        self._put("Q", VICTIM, 0)
        self._put("Q", COUNTDOWN, stores)
        self._put("Q", VICTIM, pid)

    def kill_newborn(self, role: str, store: int) -> None:
        """Have the next process of a role die after this one of its stores, >= 1."""
        self._put("Q", NEWBORN + 8 * ROLES.index(role), store)

    def spare(self) -> None:
        """Let nobody die any more."""
        self._put("Q", VICTIM, 0)
        for role in ROLES:
            self.kill_newborn(role, 0)

    def struck(self, role: str) -> int:
        """Return how many have died after a store."""
        return self._get("Q", STRUCK + 8 * ROLES.index(role))

    def _get(self, kind: str, at: int) -> int:
        (value,) = struct.unpack_from(f"<{kind}", self._page, at)
        return int(value)

    def _put(self, kind: str, at: int, value: int) -> None:
        self._page[at : at + 8] = struct.pack(f"<{kind}", value)
