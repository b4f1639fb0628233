"""A process that crashes leaves its memory behind, or it does not: the kernel says which."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ALLOW = (
    "import resource as r; most = r.getrlimit(r.RLIMIT_CORE)[1]; "
    "r.setrlimit(r.RLIMIT_CORE, (most, most)); "
)
FORBID = "from mdsys.host.core_dumps import forbid_core_dumps; forbid_core_dumps(); "
CRASH = "import os; os.abort()"
BECOME = f"import os, sys; os.execv(sys.executable, [sys.executable, '-c', {CRASH!r}])"
"""The way of a feed: another program in the place of a child."""


def dumps(folder: Path, program: str) -> bool:
    """Return whether a program that may dump does so in its crash, into an empty folder."""
    with subprocess.Popen([sys.executable, "-c", ALLOW + program], cwd=folder) as process:
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    assert ended.si_status == signal.SIGABRT
    return ended.si_code == os.CLD_DUMPED


def test_crash_leaves_no_memory_behind_once_that_is_forbidden(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(repository))
    if not dumps(tmp_path, CRASH):
        pytest.skip("nothing dumps here anyway")
    if Path("/proc/sys/kernel/core_pattern").read_text().startswith("|"):
        pytest.skip("the kernel pipes every dump, and says so whatever is in it")
    for program in (CRASH, BECOME):
        assert not dumps(tmp_path, FORBID + program)


def test_what_is_dumped_all_the_same_has_no_memory_in_it(repository: Path) -> None:
    """As where the kernel pipes dumps to a program; the filter holds for children too."""
    child = "import subprocess; subprocess.run(['cat', '/proc/self/coredump_filter'], check=True)"
    ran = subprocess.run(
        [sys.executable, "-c", FORBID + child],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )
    assert int(ran.stdout, 16) == 0


def test_limit_cannot_be_raised_again_by_who_is_not_root(repository: Path) -> None:
    program = (
        f"{FORBID}import os, resource\n"
        "os.geteuid() or os.seteuid(65534)\n"
        "try: resource.setrlimit(resource.RLIMIT_CORE, (1, 1))\n"
        "except (ValueError, OSError): print('refused')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )
    assert ran.stdout == "refused\n"
