"""The last minute of an instance: what changed between looks, a second, and how it went.

Of one that does not run there is no last minute: its latencies are all that it ever measured.

looks, two a second:   L L L L L L L ...     rates: over the last second and a bit
marks, one a second:   M   M   M   M ...     latencies of the last minute, sparklines
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mdsys.top.distributions import between
from mdsys.top.source import Look

SECONDS: Final = 60
MARK_NS: Final = 950_000_000
"""From one mark to the next: every other look, also when one is a little early."""
RATE_LOOKS: Final = 4
"""Intervals that a rate is taken over: long enough to be read, short enough to be of now."""
GROWN_NS: Final = 60_000_000_000
"""How long a loss stays coloured."""
TOLD_NS: Final = 2_000_000_000
TOLD_COUNT: Final = 4
"""What the daemon tells comes once a second: a rate of it is taken over three answers."""


@dataclass(frozen=True, slots=True)
class Latency:
    """A hop's last minute, or its whole life, ns; None: nothing came, or it is beyond telling."""

    count: int
    p50: int | None
    p99: int | None
    p999: int | None
    worst: int | None
    """The middle of the last bucket that something fell into: within 3.2 %."""
    seconds: Sequence[float | None]
    """The p99 of each second, the newest last."""


class History:
    """What looks add up to. Begins anew whenever the numbers do."""

    def __init__(self) -> None:
        self._begin(None)

    def _begin(self, serial: object) -> None:
        self._serial = serial
        self._looks: deque[Look] = deque(maxlen=RATE_LOOKS + 1)
        self._marks: deque[Look] = deque(maxlen=SECONDS + 1)
        self._published: deque[float | None] = deque(maxlen=SECONDS)
        self._p99: dict[str, deque[float | None]] = {}
        self._told: dict[Hashable, deque[tuple[int, int]]] = {}
        self._grown: dict[Hashable, tuple[int, int, int]] = {}
        self._fullest = 0.0
        self._latencies: Mapping[str, Latency] = {}
        self.whole_life = False
        """Whether the latencies are of all that was ever measured."""

    def add(self, look: Look, serial: object) -> None:
        """Take in a look; of another ``serial`` than the last, it is of other segments."""
        if serial is not self._serial or self._went_back(look):
            self._begin(serial)
        self._looks.append(look)
        if self._marks and look.time_ns - self._marks[-1].time_ns < MARK_NS:
            return
        if self._marks:
            self._mark(self._marks[-1], look)
        self._marks.append(look)
        self._latencies = self._measure()

    def _went_back(self, look: Look) -> bool:
        """Whether the clock was set back, or counters begin anew."""
        if not self._looks:
            return False
        last = self._looks[-1]
        return look.time_ns < last.time_ns or len(look.rings) != len(last.rings)

    def _mark(self, then: Look, now: Look) -> None:
        seconds = (now.time_ns - then.time_ns) / 1e9
        rate = (published(now) - published(then)) / seconds
        self._fullest = max(self._fullest, rate)
        self._published.append(rate)
        self._forget(now.time_ns - GROWN_NS)
        for hop, histogram in now.hops.items():
            line = self._p99.setdefault(hop, deque(maxlen=SECONDS))
            value = between(then.hops.get(hop), histogram).percentile(99.0)
            line.append(None if value is None else float(value))

    def _forget(self, before_ns: int) -> None:
        """Forget what has not been asked about since: readers come and go."""
        self._grown = {key: each for key, each in self._grown.items() if each[2] >= before_ns}
        self._told = {key: each for key, each in self._told.items() if each[-1][0] >= before_ns}

    @property
    def peak(self) -> float:
        """Records of the fullest second: of the daemon's life, or of what we have seen."""
        return max(self._fullest, self.look.system.get("records_rate_max") or 0.0)

    @property
    def look(self) -> Look:
        """The newest."""
        return self._looks[-1]

    @property
    def seconds(self) -> float:
        """What rates are taken over; 0 at the first look."""
        return (self._looks[-1].time_ns - self._looks[0].time_ns) / 1e9

    @property
    def earliest(self) -> Look:
        """The look that rates begin with."""
        return self._looks[0]

    def rate(self, now: float | None, then: float | None) -> float:
        """Return a second's share of what came since `earliest`; None: it was not there then."""
        known = now is not None and then is not None and self.seconds
        return max(now - then, 0.0) / self.seconds if known else 0.0  # type: ignore[operator]

    def counter_rate(self, name: str) -> float:
        """Return how much a counter of all feeds goes up a second."""
        return self.rate(self.look.counters.get(name, 0), self.earliest.counters.get(name))

    def told_rate(self, key: Hashable, value: int) -> float:
        """Return how fast a number goes up that the daemon tells, less often than we look."""
        now_ns = self.look.time_ns
        told = self._told.setdefault(key, deque(maxlen=TOLD_COUNT))
        if not told or told[-1][1] != value or now_ns - told[-1][0] >= TOLD_NS:
            told.append((now_ns, value))
        (then_ns, then), (last_ns, last) = told[0], told[-1]
        return max(last - then, 0) / (last_ns - then_ns) * 1e9 if last_ns > then_ns else 0.0

    @property
    def published(self) -> Sequence[float | None]:
        """Records published, of each of the last seconds."""
        return tuple(self._published)

    def latencies(self) -> Mapping[str, Latency]:
        """Return each hop's, as they were at the last mark: see `whole_life`."""
        return self._latencies

    def _measure(self) -> Mapping[str, Latency]:
        self.whole_life = not self.look.running
        first = {} if self.whole_life else self._marks[0].hops
        found = {}
        for hop, histogram in self.look.hops.items():
            came = between(first.get(hop), histogram)
            p50, p99, p999, worst = (came.percentile(each) for each in (50.0, 99.0, 99.9, 100.0))
            line = tuple(self._p99.get(hop, ()))
            found[hop] = Latency(came.count, p50, p99, p999, worst, line)
        return found

    def grew(self, key: Hashable, value: int) -> bool:
        """Whether a count went up within the last minute, as far as we have looked."""
        now_ns = self.look.time_ns
        last, grown_ns, _ = self._grown.get(key, (value, 0, now_ns))
        if value > last:
            grown_ns = now_ns
        self._grown[key] = value, grown_ns, now_ns
        return grown_ns > 0 and now_ns - grown_ns < GROWN_NS


def published(look: Look) -> int:
    """Return the records of all rings, ever."""
    return sum(int(ring.values["head"] or 0) for ring in look.rings)
