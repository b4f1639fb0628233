"""What takes long to make and several files here look at: the wheel."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as ``make wheel`` does."""
    # One for all workers of a run: it takes a minute, and two at once would be in each other's way.
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    dist = base / "dist"
    with (base / "wheel.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not dist.exists():
            _make_wheel(repository, dist)
    (path,) = dist.glob("*.whl")
    return path


def _make_wheel(repository: Path, dist: Path) -> None:
    ours = ("PYTHON", "MAKE", "MDSYS")
    made = subprocess.run(
        ["make", "-C", repository, "wheel", f"DIST={dist}"],
        capture_output=True,
        text=True,
        env={key: value for key, value in os.environ.items() if not key.startswith(ours)},
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
