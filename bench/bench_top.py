"""What does `mdsys top` cost, with 5,000 symbols on 50 connections?

    core B: this process, the venue          anywhere: mdsys run, and mdsys top in a terminal of
    bursts of frames on every connection     170 x 50 whose output is read and thrown away

``top.cpu`` is top's processor time, all threads, as percent of a core, from its second look on; its
ratio is to the 2 % that it may take. ``top.start`` is its processor time from its start until then.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.lib import ROOT, Context, Result
from bench.many import ManyReceiver, Shape

NAMES = ("top.cpu", "top.start")
SHAPE = Shape(5_000, 50)
SIZE = (50, 170)
"""Lines and columns."""
CPU_SHARE_MAX = 0.02
FRAMES_A_BURST = 1_600
"""Two chunks for each connection."""
PAUSE_S = 0.1
SETTLE_S = 3.0


def run(context: Context) -> list[Result]:
    """Start it all, let it settle, and read the clock of its process."""
    seconds = 6 * context.seconds
    with (
        TemporaryDirectory(prefix="mdsys-bench-") as folder,
        receiver(context, Path(folder)) as market,
        terminal(market.instance) as (process, drawn),
    ):
        clock = cpu_clock(process.pid)
        play(market, SETTLE_S)
        began, started_s, before = time.monotonic(), time.clock_gettime(clock), drawn[0]
        play(market, seconds)
        share = (time.clock_gettime(clock) - started_s) / (time.monotonic() - began)
        if process.poll() is not None:
            raise RuntimeError(f"mdsys top ended with {process.returncode}")
        context.notice(f"top.cpu: {(drawn[0] - before) / seconds / 1000:.1f} kB a second drawn")
    text = f"2 % of a core; {seconds:.0f} s"
    return [
        Result("top.cpu", 100 * share, "%", text, share / CPU_SHARE_MAX),
        Result("top.start", 1000 * started_s, "ms", f"the first {SETTLE_S:.0f} s", 1.0),
    ]


@contextlib.contextmanager
def receiver(context: Context, folder: Path) -> Iterator[ManyReceiver]:
    """Start the daemon, its feed on the first core."""
    made = ManyReceiver(context.cores[0], folder, None, SHAPE)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def terminal(instance: str) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """Run top in a terminal; the list holds how many bytes it has drawn."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", *SIZE, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(
        [sys.executable, "-m", "mdsys", "top", "--instance", instance],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    )
    os.close(theirs)
    drawn = [0]

    def drain() -> None:
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while piece := os.read(ours, 1 << 16):
                drawn[0] += len(piece)

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        yield process, drawn
    finally:
        process.kill()
        process.wait()
        thread.join()
        os.close(ours)


def play(market: ManyReceiver, seconds: float) -> None:
    """Keep the market going."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        market.play(FRAMES_A_BURST)
        time.sleep(PAUSE_S)


def cpu_clock(pid: int) -> int:
    """Return the clock of a process's time, all threads (clock_getcpuclockid(3))."""
    return ~pid << 3 | 2
