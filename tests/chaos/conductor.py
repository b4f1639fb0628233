"""Carries a plan out: strokes at their times, what they leave behind undone later, all tended."""

from __future__ import annotations

import heapq
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from tests.chaos.plan import CALM_LAST_S, Stroke
from tests.chaos.stage import LARGER_BUFFER, VENUES, Stage
from tests.daemons import PATIENCE_S

LOOK_S: Final = 0.25
BURST: Final = 10.0
TRIES: Final = 6
RETRY_S: Final = 2.0
LATE_MAX_S: Final = 0.5
FAULTS: Final = {
    "venue mute": "mute",
    "venue cuts": "cut",
    "venue half-open": "half-open",
    "venue resets": "reset",
    "venue talks nonsense": "malformed",
    "venue leaves out a frame": "hole",
}


class Conductor:
    """Plays one run.

    Args:
        stage: What runs.
        strokes: By time.
        seconds: How long the run is.
    """

    def __init__(self, stage: Stage, strokes: Sequence[Stroke], seconds: float) -> None:
        self._stage = stage
        self._strokes = strokes
        self._seconds = seconds
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._began_s = time.monotonic()
        self._struck_s: float | None = None
        """When the first stroke was from which not all is well again."""
        self.done: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        """Strokes that found nobody, however often they were tried."""
        self.clock_steps_s: list[float] = []

    @property
    def now_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began_s

    def play(self) -> None:
        """Play the plan to its end; then all is well, or said to be not."""
        for stroke in self._strokes:
            # A host that stalls gets the whole plan later, never several strokes of it at once.
            at_s = stroke.at_s + self._late_s
            self._until(at_s)
            self._late_s += max(0.0, self.now_s - at_s - LATE_MAX_S)
            self._try(stroke, TRIES)
        self._until(self._seconds + self._late_s)
        while self._later:
            self._undo_due(float("inf"))
        self._stage.host.spare()
        deadline_s = self.now_s + 2 * PATIENCE_S
        while not (self._stage.is_well() and self._stage.is_complete()):
            self._tend()
            if self.now_s > deadline_s:
                self._stage.broken.append(f"not well in the end: {self._stage.answer()}")
                break
        self._stage.settle()

    def _try(self, stroke: Stroke, tries: int) -> None:
        """Strike; where there is nobody to strike just now, again a little later."""
        if self._strike(stroke):
            self.done[stroke.kind] += 1
            self._stage.tell(str(stroke))
            if self._struck_s is None:
                self._struck_s = self.now_s
        elif tries > 1 and self.now_s < self._seconds + self._late_s - CALM_LAST_S:
            self._after(RETRY_S, lambda: self._try(stroke, tries - 1))
        else:
            self.missed[stroke.kind] += 1
            self._stage.tell(f"{stroke}: nobody there")

    def _until(self, at_s: float) -> None:
        while (left_s := at_s - self.now_s) > 0:
            self._tend(min(left_s, LOOK_S))

    def _tend(self, pause_s: float = LOOK_S) -> None:
        self._undo_due(self.now_s)
        self._stage.tend()
        self._look()
        time.sleep(pause_s)

    def _look(self) -> None:
        """See whether all is well; processes are measured where it has been so for a while."""
        if not self._stage.is_well():
            return
        if self._struck_s is not None:
            self._stage.slowest_s = max(self._stage.slowest_s, self.now_s - self._struck_s)
            self._struck_s = None
            self._well_s = self.now_s
        elif self.now_s - self._well_s > 2.0:
            self._well_s = self.now_s
            self._stage.settle()

    _well_s = 0.0
    _late_s = 0.0
    """How far behind its plan the run is."""

    def _undo_due(self, now_s: float) -> None:
        while self._later and self._later[0][0] <= now_s:
            heapq.heappop(self._later)[2]()

    def _after(self, seconds: float, undo: Callable[[], None]) -> None:
        heapq.heappush(self._later, (self.now_s + seconds, next(self._numbers), undo))

    # ---- the strokes ----

    def _strike(self, stroke: Stroke) -> bool:
        """Do it; return whether there was anybody to do it to."""
        given = stroke.options
        kind = stroke.kind
        if kind.startswith("feed"):
            return self._strike_feed(kind, given)
        if kind.startswith("daemon"):
            return self._strike_daemon(kind, given)
        if kind.startswith("reader"):
            return self._strike_reader(kind, given)
        if kind in FAULTS:
            return self._strike_socket(FAULTS[kind], given)
        stage = self._stage
        if kind == "recorder killed":
            return stage.kill_recorder()
        if kind == "memory full":
            self._after(given["seconds"], stage.make_room)
            return stage.fill() > 0
        if kind == "memory full at a start with larger rings":
            return self._start_larger()
        if kind == "clock steps":
            self.clock_steps_s.append(given["by_s"])
            stage.host.step_clock(int(given["by_s"] * 1e9))
            return True
        assert kind == "burst", kind
        venue = list(VENUES)[given["venue"] % len(VENUES)]
        source: Any = stage.sims[venue]._source
        stage.sims.call(lambda: source.burst(given["seconds"], BURST))
        return True

    def _strike_feed(self, kind: str, given: Any) -> bool:
        stage = self._stage
        pids = stage.feeds()
        if not pids:
            return False
        pid = pids[given["which"] % len(pids)]
        if kind == "feed killed in a store":
            stage.host.kill_after(pid, given["stores"])
            return True
        if kind == "feed killed, and its successor in a store":
            stage.host.kill_newborn("feed", given["stores"])
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP if kind == "feed hangs" else signal.SIGKILL)
        return True

    def _strike_daemon(self, kind: str, given: Any) -> bool:
        stage = self._stage
        if stage.daemon is None:
            return False
        if kind == "daemon stopped":
            stage.expected |= {0, -signal.SIGTERM}  # it may be starting still
            stage.daemon.process.send_signal(signal.SIGTERM)
            return True
        stage.expected |= {-signal.SIGKILL}
        if kind != "daemon killed":
            stage.host.kill_newborn("daemon", given["stores"])
        stage.daemon.process.kill()
        return True

    def _strike_reader(self, kind: str, given: Any) -> bool:
        reader = self._stage.readers[1:][given["which"] % (len(self._stage.readers) - 1)]
        if kind == "reader killed":
            reader.killed = True
            reader.process.kill()
            return True
        with suppress(ProcessLookupError):
            reader.process.send_signal(signal.SIGSTOP)
        self._after(given["seconds"], lambda: _go_on(reader.process))
        return True

    def _strike_socket(self, fault: str, given: Any) -> bool:
        sims = self._stage.sims
        venue = list(VENUES)[given["venue"] % len(VENUES)]
        numbers = sims.call(lambda: sims[venue].connections)
        if not numbers:
            return False
        more = {"count": given["count"]} if "count" in given else {}
        sims.inject(venue, fault, connection=numbers[given["connection"] % len(numbers)], **more)
        return True

    def _start_larger(self) -> bool:
        """Stop the daemon, and start one whose rings the full tmpfs has no room for."""
        stage = self._stage
        if stage.memory is None or stage.daemon is None:
            return False
        daemon, stage.daemon = stage.daemon, None
        stage.stop_recorder()  # a capture is of one instance: the next remembers nothing of it
        daemon.process.send_signal(signal.SIGTERM)
        if (code := stage.bury(daemon)) not in {0, -signal.SIGTERM, -signal.SIGKILL}:
            stage.broken.append(f"daemon: it ended with code {code}: {daemon.lines[-3:]}")
        stage.host.spare()
        stage.fill()
        larger = stage.start_daemon(LARGER_BUFFER)
        code = stage.bury(larger)
        stage.make_room()
        if code != 1 or not larger.lines or "room" not in larger.log:
            stage.broken.append(f"full tmpfs at start: code {code}: {larger.lines[-5:]}")
        return True


def _go_on(process: Any) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGCONT)
