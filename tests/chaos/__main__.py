"""The chaos run: ``make chaos ARGS="--minutes 10 --seed 1"``; see docs/reliability.md.

Exit code 0: every law held; 1: not. The report goes to stdout, what happens meanwhile to stderr.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.conductor import Conductor
from tests.chaos.laws import close, laws, report, shown
from tests.chaos.plan import schedule
from tests.chaos.reader import MANNERS
from tests.chaos.stage import MEMORY_MIB, raised

CLONE_NEWNS = 0x00020000


def mount_memory(at: Path) -> Path | None:
    """Mount a small tmpfs that nobody but this process and its children sees; it goes with us.

    Returns:
        Where; None: there can be none here.
    """
    if os.geteuid() != 0 or ctypes.CDLL(None).unshare(CLONE_NEWNS) != 0:
        return None
    at.mkdir()
    for command in (
        ("mount", "--make-rprivate", "/"),
        ("mount", "-t", "tmpfs", "-o", f"size={MEMORY_MIB}m", "tmpfs", str(at)),
    ):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return None
    return at


def main() -> int:
    """Play, judge, report."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--readers", type=int, default=len(MANNERS), help="at least 2")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.add_argument("--plan", action="store_true", help="show what would happen, and end")
    options = parser.parse_args()
    seconds = options.minutes * 60
    strokes = schedule(options.seed, seconds)
    if options.plan:
        print("\n".join(f"{each.at_s:8.3f}  {each}" for each in strokes))
        return 0
    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="mdsys-chaos-", ignore_cleanup_errors=True) as at:
        folder = Path(at)
        memory = mount_memory(folder / "memory")
        tell("raising the stage")
        with raised(folder, options.seed, memory, tell, options.readers) as stage:
            tell(f"all ticks; {len(strokes)} strokes in {seconds:.0f} s")
            conductor = Conductor(stage, strokes, seconds)
            conductor.play()
            tell("coming to rest")
            close(stage)
            held = list(laws(stage))
            head = {
                "seed": options.seed,
                "seconds": seconds,
                "clock_stepped_s": conductor.clock_steps_s,
                "missed": dict(conductor.missed),
            }
            made = report(stage, held, head, conductor.done)
        if memory is not None:
            subprocess.run(("umount", "--lazy", str(memory)), check=True)
    print(json.dumps(made, indent=1) if options.json else shown(made))
    return 0 if made["held"] else 1


if __name__ == "__main__":
    sys.exit(main())
