"""What processes hold, for runs that show that it stays as it is."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

MEMORY_SLACK_KIB = 12 * 1024
"""What allocators may keep beside what they had."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds."""

    memory_kib: int
    """Its own, without what it shares."""
    descriptors: int
    targets: str = field(default="", compare=False)

    def has_more_descriptors(self, then: Footprint) -> bool:
        """Whether it holds more than before: a leak at each kill is two by now; one may be open."""
        return self.descriptors > then.descriptors + 1

    def has_more_memory(self, then: Footprint) -> bool:
        """Whether it holds more than an allocator keeps."""
        return self.memory_kib - then.memory_kib > MEMORY_SLACK_KIB + then.memory_kib // 10


def footprint(pid: int) -> Footprint:
    """Return what a process holds now.

    Raises:
        OSError: There is none.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    if found is None:
        raise ProcessLookupError(f"process {pid} has ended")
    targets = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            targets.append(re.sub(r"\d+", "N", str(each.readlink())))
    counts = sorted(Counter(targets).items())
    shown = ", ".join(f"{count} {target}" for target, count in counts)
    return Footprint(int(found.group(1)), len(targets), shown)
