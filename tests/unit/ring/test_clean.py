"""mdsys clean: removes what nobody runs, and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdsys import cli
from mdsys.consume.attach import attach
from mdsys.ring.lock import Lock, run_dir
from mdsys.ring.segment import (
    ROOT_DIR,
    SUPERSEDED,
    Geometry,
    Instance,
    find_segments,
    open_instance,
    remove_segments,
)

DEPTH = 1024


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-clean-{os.getpid()}"
    yield name
    remove_segments(name)
    (run_dir() / f"{name}.lock").unlink(missing_ok=True)


def start(name: str, directory: Path = ROOT_DIR) -> Instance:
    geometry = Geometry(2, DEPTH, max_symbols=16, feed_count=1, dir=directory)
    return open_instance(name, geometry, group=None, pid=os.getpid(), now_ns=time.time_ns())


def clean(name: str) -> int:
    return cli.main(["clean", "--instance", name])


def test_stopped_instance_is_removed_whole_and_the_memory_is_told(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    start(name).stop()
    paths = find_segments(name)
    size = sum(path.stat().st_blocks * 512 for path in paths)
    assert clean(name) == 0
    assert not any(path.exists() for path in paths)
    *lines, last = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[1] for line in lines) == sorted(map(str, paths))
    assert size > 2 * DEPTH * 64
    assert last == f"instance {name!r}: {len(paths)} segments, {size / 2**20:,.1f} MiB freed"


def test_segments_in_another_directory_are_found_through_the_root(
    name: str, tmp_path: Path
) -> None:
    start(name, tmp_path).stop()
    assert list(tmp_path.glob("mdsys.*"))
    assert clean(name) == 0
    assert not list(tmp_path.glob("mdsys.*"))
    assert not find_segments(name, tmp_path)


def test_instance_in_use_is_left_alone(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    instance = start(name)
    paths = find_segments(name)
    try:
        assert clean(name) == 75
    finally:
        instance.stop()
    assert find_segments(name) == paths
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"instance {name!r} is in use by process {os.getpid()}" in captured.err


def test_nothing_there_is_no_error_and_leaves_no_lock_file(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert clean(name) == 0
    assert "nothing to remove" in capsys.readouterr().out
    assert not (run_dir() / f"{name}.lock").exists()


def test_attached_reader_is_told_that_its_segments_are_gone(name: str) -> None:
    start(name).stop()
    with attach(name) as market_data:
        assert clean(name) == 0
        assert [ring.state for ring in market_data.rings] == [SUPERSEDED] * 2


def test_lock_is_free_again_afterwards_and_its_file_is_gone(name: str) -> None:
    instance = start(name)
    instance.stop()
    assert instance.lock.path.exists()
    assert clean(name) == 0
    assert not instance.lock.path.exists()
    Lock.take(name, orphan_wait=0).release()


def test_lock_file_of_an_instance_without_segments_is_removed_too(name: str) -> None:
    lock = Lock.take(name)
    lock.release()
    assert clean(name) == 0
    assert not lock.path.exists()


def test_daemon_with_another_run_directory_is_left_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    instance = start(name)
    paths = find_segments(name)
    monkeypatch.setattr(os, "getpid", lambda: 0)  # the writer seems to be another process
    monkeypatch.setattr("mdsys.ring.lock.run_dir", lambda: tmp_path)
    assert clean(name) == 75
    monkeypatch.undo()
    instance.stop()
    assert find_segments(name) == paths
    assert list(tmp_path.iterdir()) == []
    assert f"instance {name!r} is in use by process {os.getpid()}" in capsys.readouterr().err


def test_what_is_not_this_instances_stays(name: str) -> None:
    start(name).stop()
    near = [ROOT_DIR / f"mdsys.{name}{suffix}" for suffix in ("x.symbols", ".ring.0.bak", ".sock")]
    try:
        for path in near:
            path.touch()
        assert clean(name) == 0
        assert all(path.exists() for path in near)
    finally:
        for path in near:
            path.unlink(missing_ok=True)


def test_damaged_root_does_not_keep_it_from_being_removed(name: str) -> None:
    start(name).stop()
    (ROOT_DIR / f"mdsys.{name}.symbols").write_bytes(b"not a segment")
    assert clean(name) == 0
    assert not find_segments(name)


@pytest.mark.parametrize("bad", ["../default", "A", "", "x" * 33])
def test_name_that_is_none_is_a_usage_error(bad: str) -> None:
    with pytest.raises(SystemExit) as exit_info:
        clean(bad)
    assert exit_info.value.code == 64
