"""The names of real instruments, from the captured listings."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest


def real_names(data_dir: Path) -> list[str]:
    """Return 31,671 names as VENUE:SYMBOL; skip the test where they are absent."""
    path = data_dir / "instrument_lists" / "universe.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return [f"{venue}:{symbol}" for venue, symbol in csv.reader(file)]
