"""Whoever attaches while an instance is being made or replaced is told so, and nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import mdsys
from mdsys import _native
from mdsys.capture.recorder import Recorder
from mdsys.consume import attach as attach_module
from mdsys.consume.tap_command import Tap
from mdsys.counters import picture
from mdsys.errors import LayoutError, NotRunning
from mdsys.ring import door, segment
from mdsys.ring.segment import ROOT_DIR, Instance, map_file, segment_path
from mdsys.top import source
from tests.instances import cleaned, geometry, new_name, start

ATTACH: dict[str, Callable[[str], object]] = {
    "a reader": mdsys.attach,
    "stat": picture.take,
    "top": source.Source,
    "tap": lambda name: Tap(name, []),
    "a recorder": lambda name: Recorder(name, Path("/nowhere"))._begin(),
    "ctl": lambda name: mdsys.control(name).status(),
}
"""Everything that comes in by the door."""
STARTING = "is starting: try again"


@pytest.fixture
def name() -> Iterator[str]:
    with cleaned(new_name()) as name:
        yield name


def found(attach: Callable[[str], object], name: str) -> str:
    """Return what comes of attaching, in a word; what is no NotRunning is raised."""
    try:
        attach(name)
    except NotRunning as error:
        if "can be reached" in str(error):  # it is whole, and has no daemon
            return "whole"
        return "starting" if STARTING in str(error) else "not there"
    return "whole"


def at_each_step(start: Callable[[], Instance], look: Callable[[], str]) -> list[str]:
    """Start, and look before each line that makes or removes a segment; return each new sight.

    It is what a daemon that is killed at that line leaves behind.
    """
    sights: list[str] = []
    steps = {
        each.__code__ for each in (segment._create, segment.create_file, segment.remove_segments)
    }

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code not in steps:
            return None
        if event == "line" and (sight := look()) not in sights[-1:]:
            sights.append(sight)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        made = start()
    finally:
        sys.settrace(before)
    made.lock.release()
    return sights


@pytest.mark.parametrize("who", ATTACH)
def test_start_that_is_stopped_at_any_step_is_a_start(name: str, who: str) -> None:
    sights = at_each_step(lambda: start(name, geometry(rings=2)), lambda: found(ATTACH[who], name))
    assert sights == ["not there", "starting", "whole"]


@pytest.mark.parametrize("who", ATTACH)
def test_start_with_other_rings_is_one_too(name: str, who: str) -> None:
    start(name, geometry(rings=2)).lock.release()
    sights = at_each_step(lambda: start(name, geometry(rings=3)), lambda: found(ATTACH[who], name))
    assert sights == ["whole", "starting", "not there", "starting", "whole"]


@pytest.mark.parametrize(
    ("module", "attach"),
    [(attach_module, mdsys.attach), (picture, picture.Observer), (source, source.Attachment)],
)
def test_what_is_replaced_behind_an_open_door_is_not_mixed_with_it(
    monkeypatch: pytest.MonkeyPatch, name: str, module: Any, attach: Callable[[str], object]
) -> None:
    start(name, geometry(depth=64)).lock.release()
    new: list[Instance] = []

    def mapped(path: Path) -> Any:
        if not new:  # the door is open
            new.append(start(name, geometry(depth=128, max_symbols=32)))
        return map_file(path)

    monkeypatch.setattr(module, "map_file", mapped)
    with pytest.raises(NotRunning, match=STARTING):
        attach(name)
    attach(name)
    new[0].lock.release()


def test_what_is_removed_behind_an_open_door_was_a_matter_of_time(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    start(name, geometry()).lock.release()

    def mapped(path: Path) -> Any:
        segment.remove_segments(name)
        return map_file(path)

    monkeypatch.setattr(attach_module, "map_file", mapped)
    with pytest.raises(NotRunning, match=STARTING):
        mdsys.attach(name)


def test_door_that_becomes_whole_between_two_looks_is_opened(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    start(name, geometry()).lock.release()
    path = segment_path(ROOT_DIR, name, "symbols")
    whole = path.read_bytes()
    path.write_bytes(bytes(8) + whole[8:])
    half_made = door._half_made

    def later(path: Path) -> bool:
        path.write_bytes(whole)
        return half_made(path)

    monkeypatch.setattr(door, "_half_made", later)
    assert door.open_door(name).ring_count == 1


@pytest.mark.parametrize("part", ["cache", "ring.0"])
def test_segment_that_is_missing_behind_a_whole_door_is_not_there(name: str, part: str) -> None:
    start(name, geometry()).lock.release()
    segment_path(ROOT_DIR, name, part).unlink()
    with pytest.raises(NotRunning, match="is not there"):
        mdsys.attach(name)


@pytest.mark.parametrize("who", ATTACH)
def test_another_make_is_no_start(name: str, who: str) -> None:
    start(name, geometry()).lock.release()
    with segment_path(ROOT_DIR, name, "symbols").open("r+b") as file:
        os.pwrite(file.fileno(), b"\x07", 8)
    with pytest.raises(LayoutError, match=f"instance '{name}': .* has ABI 7"):
        ATTACH[who](name)


@pytest.mark.parametrize("who", ATTACH)
def test_what_is_no_segment_is_no_start(name: str, who: str) -> None:
    segment_path(ROOT_DIR, name, "symbols").write_bytes(b"somebodys file".ljust(4_096))
    with pytest.raises(LayoutError, match=name):
        ATTACH[who](name)


def test_door_alone_tells_that_nothing_more_will_come(name: str) -> None:
    start(name, geometry()).lock.release()
    with mdsys.attach(name) as md:
        assert not door.is_superseded(md.directory)
        path = segment_path(ROOT_DIR, name, "symbols")
        _native.supersede_segment(map_file(path, writable=True))
        assert door.is_superseded(md.directory)
