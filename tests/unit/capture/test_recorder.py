"""What a recorder does about an instance that is not there, or not there yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdsys.capture.recorder import Recorder
from mdsys.errors import LayoutError, NotRunning
from mdsys.ring.segment import ROOT_DIR, segment_path
from tests.instances import cleaned, new_name


def test_recorder_outlives_a_look_at_segments_that_are_being_made(tmp_path: Path) -> None:
    with cleaned(new_name()) as name:
        segment_path(ROOT_DIR, name, "symbols").write_bytes(bytes(4096))  # its magic comes last
        with pytest.raises(NotRunning, match="is starting"):
            Recorder(name, tmp_path)._begin()


def test_recorder_says_what_is_no_segment_at_all(tmp_path: Path) -> None:
    with cleaned(new_name()) as name:
        segment_path(ROOT_DIR, name, "symbols").write_bytes(b"\x01" * 4096)
        with pytest.raises(LayoutError):
            Recorder(name, tmp_path)._begin()


def test_recorder_without_an_instance_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotRunning):
        Recorder(new_name(), tmp_path)._begin()
