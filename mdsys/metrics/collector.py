"""A ``Picture`` as Prometheus' metric families, by the schema: no metric exists outside it.

A histogram is exported twice. As a histogram, whose bounds are powers of two nanoseconds: there our
own buckets begin, so its counts are exact. And as a summary of the last minute,
``..._last_minute_seconds{quantile="0.99"}``, from the fine buckets: within 3.2 % of the truth,
where ``histogram_quantile`` over powers of two may be wrong by half.

Every sample has the label ``system``, the instance's name (``instance`` is Prometheus' own), and
none has a symbol's: there may be 100,000 of those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Final

import numpy as np
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from mdsys.counters.counters import LINEAR, STEPS, Histogram
from mdsys.counters.picture import Picture, Row
from mdsys.counters.schema import LABELS, Metric, Scope, metrics
from mdsys.metrics.text import Labels

QUANTILES: Final = (0.5, 0.9, 0.99, 0.999)
OCTAVES: Final = range(5, 35)
"""31 ns to 17 s."""
SIGNED_OCTAVES: Final = range(20, 38)
"""1 ms to 137 s, either way: venues' times are in ms."""
OCTAVE_LEAST: Final = 5
LABELS_KEPT_MAX: Final = 1 << 15
"""Sets of labels: 256 connections in each of their states, readers and rings are 2,500."""
SPREADS_KEPT_MAX: Final = 1 << 9
"""Rows with histograms, by bounds and by quantiles: 64 readers and 64 feeds are 384."""
Pairs = tuple[tuple[str, str], ...]


def is_signed(metric: Metric) -> bool:
    """Return whether values below 0 are no exception: one of its ends is a venue's clock."""
    return metric.field.startswith("event_to_")


def last_minute_name(metric: Metric) -> str:
    """Return the family of a histogram's quantiles."""
    return f"{metric.name.removesuffix('_seconds')}_last_minute_seconds"


def _bucket_of(octave: int) -> int:
    """Return the bucket that begins at 2^octave."""
    return LINEAR + STEPS * (octave - OCTAVE_LEAST)


@lru_cache(LABELS_KEPT_MAX)
def _labelled(pairs: Pairs) -> Labels:
    return Labels(dict(pairs))


@lru_cache(SPREADS_KEPT_MAX)
def _spread(pairs: Pairs, name: str, values: tuple[str, ...]) -> tuple[Labels, ...]:
    """Return labels of a row with one more, for each of its values."""
    return tuple(Labels(dict(pairs) | {name: value}) for value in values)


def _bound(ns: int) -> str:
    return f"{ns / 1e9:.12g}"


_BOUNDS: Final = (*(_bound((1 << octave) - 1) for octave in OCTAVES), "+Inf")
"""A whole number of ns below 2^k is at most 2^k - 1: ``le`` includes its bound."""
_PLACES: Final = np.array([_bucket_of(octave) for octave in OCTAVES])
_SIGNED_BOUNDS: Final = (
    *(_bound(-(1 << octave)) for octave in reversed(SIGNED_OCTAVES)),
    _bound(-1),
    *(_bound((1 << octave) - 1) for octave in SIGNED_OCTAVES),
    "+Inf",
)
_SIGNED_PLACES: Final = np.array([_bucket_of(octave) for octave in SIGNED_OCTAVES])


_PERCENTS: Final = tuple(100 * quantile for quantile in QUANTILES)
_QUANTILES: Final = tuple(map(str, QUANTILES))


def cumulative(histogram: Histogram, *, signed: bool) -> list[tuple[str, float]]:
    """Return bounds and how many values lie at or below each, exactly."""
    below_zero = int(histogram.negative.sum())
    sums = np.cumsum(histogram.positive) + below_zero
    if not signed:
        counts = [*sums[_PLACES - 1].tolist(), int(sums[-1])]
        return list(zip(_BOUNDS, counts, strict=True))
    # From 2^k on by magnitude is at most -2^k.
    negative = below_zero - np.cumsum(histogram.negative)[_SIGNED_PLACES[::-1] - 1]
    counts = [*negative.tolist(), below_zero, *sums[_SIGNED_PLACES - 1].tolist(), int(sums[-1])]
    return list(zip(_SIGNED_BOUNDS, counts, strict=True))


LastMinute = Callable[[Row, str], Histogram]
"""Returns what a row's histogram, by its field, has taken in over the last minute."""


class PictureCollector(Collector):
    """What is exported of one picture.

    Args:
        picture: What there is.
        last_minute: Of its histograms.
    """

    def __init__(self, picture: Picture, last_minute: LastMinute) -> None:
        self._last_minute = last_minute
        self._rows: Mapping[Scope, Sequence[tuple[Row, Pairs]]] = {
            scope: [
                (row, (("system", picture.instance), *((name, row.labels[name]) for name in names)))
                for row in picture.rows[scope]
            ]
            for scope, names in LABELS.items()
        }

    def collect(self) -> Iterator[Family]:
        """Yield every family once, in the schema's order; one without samples is left out."""
        for _, group in groupby(metrics(), lambda metric: (metric.scope, metric.family)):
            for family in self._families(list(group)):
                if family.samples:
                    yield family

    def _families(self, group: Sequence[Metric]) -> Sequence[Family]:
        """Return the families of metrics of one name."""
        first = group[0]
        if first.type == "histogram":
            return self._histogram(first), self._summary(first)
        make = CounterMetricFamily if first.type == "counter" else GaugeMetricFamily
        family = make(first.name, first.family_help)
        for metric in group:
            scale, field, name = metric.scale, metric.field, first.name
            own = tuple(metric.labels.items())
            for row, pairs in self._rows[metric.scope]:
                if (value := row.values.get(field)) is not None:
                    family.samples.append(Sample(name, _labelled(pairs + own), value * scale))
        return (family,)

    def _histogram(self, metric: Metric) -> Family:
        family = HistogramMetricFamily(metric.name, metric.help)
        signed = is_signed(metric)
        bounds = _SIGNED_BOUNDS if signed else _BOUNDS
        bucket = f"{metric.name}_bucket"
        for row, pairs in self._rows[metric.scope]:
            histogram = row.histograms[metric.field]
            counts = cumulative(histogram, signed=signed)
            family.samples += [
                Sample(bucket, labels, count)
                for labels, (_, count) in zip(_spread(pairs, "le", bounds), counts, strict=True)
            ]
            if not signed:  # a sum that may fall is no counter, and there is no count without it
                labels = _labelled(pairs)
                family.add_sample(f"{metric.name}_count", labels, counts[-1][1])
                family.add_sample(f"{metric.name}_sum", labels, histogram.sum_ns / 1e9)
        return family

    def _summary(self, metric: Metric) -> Family:
        name = last_minute_name(metric)
        family = SummaryMetricFamily(name, f"{metric.help}; quantiles of the last minute")
        for row, pairs in self._rows[metric.scope]:
            found = self._last_minute(row, metric.field).percentiles(_PERCENTS)
            for labels, ns in zip(_spread(pairs, "quantile", _QUANTILES), found, strict=True):
                family.add_sample(name, labels, math.nan if ns is None else ns / 1e9)
        return family
