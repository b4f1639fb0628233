"""What several test files need."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# No test asserts a time: an example may take as long as a busy machine makes it.
settings.register_profile("mdsys", deadline=None)
settings.load_profile("mdsys")

# A shell that runs the suite in the background has it ignore Ctrl-C, which programs inherit; the
# ones started here are sent it, and must meet it as they do in a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return where captured data lies (MDSYS_DATA, else beside the tree); it may not exist."""
    return Path(os.environ.get("MDSYS_DATA", REPOSITORY.parent / "shared" / "data"))
