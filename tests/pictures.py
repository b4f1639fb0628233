"""Pictures of instances that never were: every number of the schema is there, and is not 0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from mdsys import _native
from mdsys.counters.counters import Histogram, parse_histogram
from mdsys.counters.picture import Picture, Row, Told
from mdsys.counters.schema import LABELS, Scope, metrics_of
from tests.instances import NOW

_memory = bytearray(_native.counters_size(1))
_native.Counters.create(_memory, 1)
_native.publish_segment(_memory, NOW)
_counters = _native.Counters(_memory, True)


def histogram(values_ns: Iterable[int]) -> Histogram:
    """Return what C makes of values."""
    _counters.begin_supervisor()
    for value_ns in values_ns:
        _counters.record_loop_lag(value_ns)
    size = 4 + 2 * _native.histogram_buckets()
    return parse_histogram(np.frombuffer(_counters.supervisor(), "<u8")[-size:])


def picture(counts: Mapping[Scope, int] | None = None, latency: Histogram | None = None) -> Picture:
    """Return a picture.

    Args:
        counts: Scope -> rows; None or not there: one.
        latency: What all histograms hold; None: some of everything.
    """
    latency = latency or histogram([-5, 40, 1_000, 7_000_000])
    rows: dict[Scope, list[Row]] = {}
    for scope, names in LABELS.items():
        own = metrics_of(scope)
        rows[scope] = [
            Row(
                {name: f"{name}-{number}" for name in names},
                {each.field: 3 + number for each in own if each.type != "histogram"},
                {each.field: latency for each in own if each.type == "histogram"},
            )
            for number in range((counts or {}).get(scope, 1))
        ]
    return Picture("i", NOW, "running", 1, True, Path("/dev/shm"), rows, Told(), None)
