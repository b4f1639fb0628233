"""What a feed attaches, and in which order."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable

import pytest

from mdsys.feed.memory import Memory
from mdsys.feed.plan import FeedPlan
from mdsys.host import memory as host_memory
from tests.instances import geometry, running


def test_rings_are_locked_before_they_are_taken_over_since_that_takes_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writers: list[int] = []
    with running(geometry()) as instance:

        def lock(maps: Iterable[mmap.mmap]) -> str:
            assert len(list(maps)) == 3
            writers.append(instance.rings[0].writer_pid)
            return "not locked"

        monkeypatch.setattr(host_memory, "lock", lock)
        memory = Memory(FeedPlan(instance.name, 0, (0,), None, False, 0, os.getpid(), ()))
        assert writers == [0]
        assert instance.rings[0].writer_pid == os.getpid()
        assert list(memory.settle(None)) == ["not locked"]
        memory.stop()
