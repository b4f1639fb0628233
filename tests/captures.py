"""A recorder without a daemon: what a feed copies, in files as ``mdsys record`` writes them."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

import mdsys
from mdsys import TICK
from mdsys._capture import CaptureRing
from mdsys.capture.format import SUFFIX, FileWriter
from mdsys.capture.reader import CaptureReader
from mdsys.capture.source import CONTINUES
from mdsys.record.record import Ticks


def new_ring(size: int) -> tuple[mmap.mmap, CaptureRing]:
    """Return an empty ring, and the recorder's end."""
    memory = mmap.mmap(-1, 4096 + size)
    CaptureRing.create(memory, size)
    return memory, CaptureRing(memory)


def kept(recorder: CaptureRing, folder: Path) -> Path:
    """Write all that waits into files, each BEGIN into one of its own; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    file: FileWriter | None = None
    count = 0
    while (piece := recorder.drain(1 << 20))[0]:
        data, _, missing, begins = piece
        assert missing == 0, "entries were lost"
        if begins or file is None:
            if file is not None:
                file.close(CONTINUES)
            head = {"instance": "i", "feed": 0, "began_ns": count, "connections": []}
            file = FileWriter(folder / f"{count:04}{SUFFIX}", head)
            count += 1
        file.write(data)
    if file is not None:
        file.close("the recorder was stopped")
    return folder


def replayed(folder: Path, ring: int) -> tuple[Ticks, CaptureReader]:
    """Return a ring's records as the capture has them, and who read them."""
    reader = mdsys.open_capture(folder).reader(rings=[ring])
    pieces = [each.copy() for each in reader]
    return np.concatenate([np.empty(0, TICK), *pieces], dtype=TICK), reader
