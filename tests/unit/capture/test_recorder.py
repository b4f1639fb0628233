"""What a recorder does about an instance that is not there, or not there yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdsys.capture.format import file_name, newest_ns
from mdsys.capture.recorder import Counts, Recorder
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


def test_files_sort_as_they_were_written_though_the_clock_was_set_back(tmp_path: Path) -> None:
    day_ns = 86_400 * 10**9
    now_ns = 1_790_000_000 * 10**9 + 5
    counts = Counts(newest_ns=newest_ns(tmp_path, "i"))
    names = []
    for at_ns in (now_ns, now_ns + day_ns, now_ns + 10**9):
        names.append(file_name("i", 0, counts.next_ns(at_ns)))
        (tmp_path / names[-1]).touch()
    (tmp_path / "other.feed0.20990101T000000.000000000.mdsys.zst").touch()
    (tmp_path / "notes.txt").touch()
    another = Counts(newest_ns=newest_ns(tmp_path, "i"))  # a recorder that is started anew
    names.append(file_name("i", 0, another.next_ns(now_ns + 2 * 10**9)))
    assert names == sorted(set(names))
    assert another.newest_ns == now_ns + day_ns + 2
