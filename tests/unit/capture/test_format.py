"""Files of a capture: what is whole stays readable, whatever happened to the rest."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from mdsys._capture import ENTRY_SIZE, entry_at
from mdsys.capture.format import (
    CaptureError,
    FileWriter,
    Kind,
    blocks,
    entry,
    head_of,
    json_entry,
)

HEAD = {"instance": "unit", "feed": 0, "began_ns": 1, "connections": []}
FRAMES = [b"%d " % i + random.Random(i).randbytes(i % 90) for i in range(400)]


def written(path: Path, frames: list[bytes], *, ended: bool = True) -> list[int]:
    """Write a file, flushed after each frame; return its size after each."""
    file = FileWriter(path, HEAD)
    sizes = []
    for i, frame in enumerate(frames):
        file.write(entry(Kind.TEXT, frame, i, 1, 1))
        file.flush()
        sizes.append(file.size)
    if ended:
        file.close("the test is over")
    else:
        file.abandon()
    return sizes


def frames_of(path: Path) -> list[bytes]:
    """Return the frames that can be read."""
    found = []
    for block in blocks(path):
        at = 0
        while at < len(block):
            kind, _, _, _, _, size = entry_at(block, at)
            if kind == Kind.TEXT:
                found.append(block[at + ENTRY_SIZE : at + ENTRY_SIZE + size])
            at += ENTRY_SIZE + (size + 7 & ~7)
    return found


def test_what_is_written_is_read_back_byte_for_byte(tmp_path: Path) -> None:
    written(tmp_path / "a", FRAMES)
    assert frames_of(tmp_path / "a") == FRAMES
    head, _ = head_of(tmp_path / "a")
    assert {key: head[key] for key in HEAD} == HEAD


def test_a_file_cut_anywhere_gives_every_frame_that_was_flushed_before(tmp_path: Path) -> None:
    path = tmp_path / "a"
    sizes = written(path, FRAMES[:60], ended=False)
    whole = path.read_bytes()
    for cut in range(sizes[0], len(whole), 7):
        path.write_bytes(whole[:cut])
        found = frames_of(path)
        assert found == FRAMES[: len(found)]
        assert len(found) >= sum(size <= cut for size in sizes)


def test_damage_anywhere_is_an_error_of_ours_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a"
    written(path, FRAMES)
    whole = bytearray(path.read_bytes())
    dice = random.Random(7)
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(3):
            data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(data)
        with contextlib.suppress(CaptureError):
            assert len(frames_of(path)) <= len(FRAMES) + 1


@pytest.mark.parametrize("data", [b"", b"\x00" * 100, b"{}", b"\x28\xb5\x2f\xfd"])
def test_what_is_no_capture_is_refused_in_words(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    with pytest.raises(CaptureError, match=str(path)):
        list(blocks(path))


def test_a_later_format_is_refused_with_its_number(tmp_path: Path) -> None:
    import zstandard

    head = json_entry(Kind.HEAD, {"format": "mdsys capture", "version": 99})
    (tmp_path / "a").write_bytes(zstandard.compress(head))
    with pytest.raises(CaptureError, match="format 99, this mdsys reads 1"):
        head_of(tmp_path / "a")


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    written(tmp_path / "a", FRAMES[:1])
    with pytest.raises(FileExistsError):
        FileWriter(tmp_path / "a", HEAD)
