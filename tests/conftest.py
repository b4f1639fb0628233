"""What several test files need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return where captured data lies (MDSYS_DATA, else beside the tree); it may not exist."""
    return Path(os.environ.get("MDSYS_DATA", REPOSITORY.parent / "shared" / "data"))
