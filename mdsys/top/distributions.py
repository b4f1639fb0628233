"""Histograms over time: what came in between, and sums whose parts come and go."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

from mdsys.counters.counters import Histogram


def between(then: Histogram | None, now: Histogram) -> Histogram:
    """Return what came since ``then``; all of it, where there is none or it began anew."""
    return now - then if then is not None and now.includes(then) else now


class Sums:
    """Histograms of many holders, by name, which never go down when a holder leaves.

    What a holder had before it was first seen does not count.
    """

    def __init__(self) -> None:
        self.whole: dict[str, Histogram] = {}
        """Name -> the sum."""
        self._last: dict[Hashable, Mapping[str, Histogram]] = {}

    def take(self, holders: Iterable[tuple[Hashable, Mapping[str, Histogram]]]) -> None:
        """Take in what every holder has now."""
        seen = dict(holders)
        for holder, histograms in seen.items():
            last = self._last.get(holder, histograms)
            for name, histogram in histograms.items():
                new = between(last[name], histogram)
                self.whole[name] = self.whole[name] + new if name in self.whole else new
        self._last = seen
