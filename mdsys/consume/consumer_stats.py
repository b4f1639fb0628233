"""What a consumer has received and how late: one count over all the segments it has read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mdsys.consume.reader import Reader
from mdsys.counters.counters import Histogram, parse_histogram, percentiles
from mdsys.counters.schema import fields


@dataclass(slots=True)
class Totals:
    """Sums over readers' lives."""

    counters: Counter[str] = field(default_factory=Counter)
    histograms: dict[str, Histogram] = field(default_factory=dict)
    published: Counter[int] = field(default_factory=Counter)
    """By ring: from where the reader began up to its cursor."""

    def add(self, reader: Reader, begun: Mapping[int, int]) -> None:
        """Take in what a reader has counted since it began at the cursors ``begun``."""
        self.counters.update(reader.page.counters())
        for name, raw in reader.page.histograms().items():
            histogram = parse_histogram(np.frombuffer(raw, "<u8"))
            known = self.histograms.get(name)
            self.histograms[name] = histogram if known is None else known + histogram
        for ring, cursor in reader.cursors.items():
            self.published[ring] += cursor - begun[ring]

    def plus(self, reader: Reader, begun: Mapping[int, int]) -> Totals:
        """Return the sum with a reader that still lives."""
        sum_ = Totals(self.counters.copy(), dict(self.histograms), self.published.copy())
        sum_.add(reader, begun)
        return sum_

    def shown(self) -> dict[str, Any]:
        """Return them by name; histograms as percentiles."""
        empty = np.zeros(0, "<u8")
        nothing = Histogram(0, 0, 0, empty, empty)
        return {
            **{name: self.counters[name] for name in fields("readers")},
            **{
                name: percentiles(self.histograms.get(name, nothing))
                for name in fields("reader_histograms")
            },
            "published": dict(sorted(self.published.items())),
        }
