"""What takes long to make and several files here look at: the wheel."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as ``make wheel`` does."""
    dist = tmp_path_factory.mktemp("dist")
    ours = ("PYTHON", "MAKE", "MDSYS")
    made = subprocess.run(
        ["make", "-C", repository, "wheel", f"DIST={dist}"],
        capture_output=True,
        text=True,
        env={key: value for key, value in os.environ.items() if not key.startswith(ours)},
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    (path,) = dist.glob("*.whl")
    return path
