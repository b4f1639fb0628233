"""What several test files need."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from tests.native import SCRATCH

# No test asserts a time: an example may take as long as a busy machine makes it.
settings.register_profile("mdsys", deadline=None)
settings.load_profile("mdsys")

# A shell that runs the suite in the background has it ignore Ctrl-C, which programs inherit; the
# ones started here are sent it, and must meet it as they do in a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(__file__).parent
REPOSITORY = HERE.parent

LONGEST = (
    "system/test_soak.py",
    "system/test_limits.py",
    "system/test_chaos.py",
    "system/test_faults.py",
    "system/test_wheel.py",
    "system/test_install.py",
    "stress/test_consume.py",
    "stress/test_models.py",
    "stress/test_stress.py",
    "system/test_demo.py",
    "unit/consume/test_book.py",
    "system/test_consumer_example.py",
    "system/test_sim.py",
    "system/test_readers.py",
    "unit/feed/binance/test_agreement.py",
    "unit/feed/test_json_events.py",
)
"""Files that take longest, the longest first."""
STARTING_PROGRAMS = ("system", "stress", "replay")
"""Folders whose files take longer than the others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have workers begin with the long files, so that all of them end at about the same time."""

    def turn(item: pytest.Item) -> int:
        path = item.path.relative_to(HERE)
        if path.as_posix() in LONGEST:
            return LONGEST.index(path.as_posix())
        return len(LONGEST) + (path.parts[0] not in STARTING_PROGRAMS)

    assert all((HERE / name).is_file() for name in LONGEST)
    items.sort(key=turn)


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder of what is compiled for a test: one, which the workers inherit."""
    if not hasattr(config, "workerinput"):
        os.environ[SCRATCH] = tempfile.mkdtemp(prefix="mdsys-native-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove it."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(SCRATCH))


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return where captured data lies (MDSYS_DATA, else beside the tree); it may not exist."""
    return Path(os.environ.get("MDSYS_DATA", REPOSITORY.parent / "shared" / "data"))
