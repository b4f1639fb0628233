"""The counters segment as numbers; native/include/mdsys/schema.h names them.

Read without a lock while the feeds write: each number is whole, two of them may be of moments a few
nanoseconds apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from mdsys import _native
from mdsys.counters.schema import fields

LINEAR = 32
"""Magnitudes below this have a bucket each."""
STEPS = 16
"""Buckets of each power of two above."""
OCTAVE_MAX = 40
OPEN_FROM_NS = (2 * STEPS - 1) << (OCTAVE_MAX - 5)
"""17.7 minutes: where the last bucket begins, which takes all that is larger as well."""
OPEN_MAX = (1 << 63) - 1
"""Where it ends."""
HISTOGRAM_HEAD_WORDS = 4
"""count, sum, min, max."""
PERCENTILES = {"p50": 50.0, "p99": 99.0, "p999": 99.9}
"""Those that are shown."""

Buckets = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Histogram:
    """A distribution of signed nanoseconds; a percentile is within 3.2% of the true one.

    Least and largest are exact. The sum is modulo 2^64, as a signed number.
    """

    sum_ns: int
    min_ns: int
    max_ns: int
    positive: Buckets
    negative: Buckets

    @property
    def count(self) -> int:
        """Values recorded."""
        return int(self.positive.sum()) + int(self.negative.sum())

    def percentile(self, percent: float) -> int | None:
        """Return the value below or at which ``percent``, in [0, 100], of all values lie.

        None while there are none, and where it is one of those beyond 17 minutes either way, which
        share a bucket.
        """
        return self.percentiles((percent,))[0]

    def percentiles(self, percents: Sequence[float]) -> list[int | None]:
        """Return ``percentile`` of each, for little more than the price of one."""
        sums = np.cumsum(np.concatenate([self.negative[::-1], self.positive]))
        count = int(sums[-1]) if len(sums) else 0  # before anything is attached there is no bucket
        if count == 0:
            return [None] * len(percents)
        ranks = [max(1, -(-count * percent // 100)) for percent in percents]
        places = np.searchsorted(sums, ranks) - len(self.negative)
        return [self._middle(place) for place in places.tolist()]

    def _middle(self, place: int) -> int | None:
        """Return what stands for the values of a bucket; below 0 it is one of negative values."""
        index, extreme_ns = (place, self.max_ns) if place >= 0 else (-place - 1, self.min_ns)
        if index == len(self.positive) - 1 and abs(extreme_ns) >> OCTAVE_MAX:
            return None
        middle = bucket_middle(index) if place >= 0 else -bucket_middle(index)
        return min(max(middle, self.min_ns), self.max_ns)

    def includes(self, earlier: Histogram) -> bool:
        """Return whether this is the same histogram, some time later: no bucket has lost any."""
        return bool(
            len(self.positive) == len(earlier.positive)
            and np.all(self.positive >= earlier.positive)
            and np.all(self.negative >= earlier.negative)
        )

    def __sub__(self, earlier: Histogram) -> Histogram:
        """Return what has come since ``earlier``, which this includes.

        Its least and largest are bounds: those of the buckets, within those that are known.
        """
        positive, negative = self.positive - earlier.positive, self.negative - earlier.negative
        least, largest = _bounds(positive, negative)
        return Histogram(
            wrapped(self.sum_ns - earlier.sum_ns),
            max(least, self.min_ns),
            min(largest, self.max_ns),
            positive,
            negative,
        )

    def __add__(self, other: Histogram) -> Histogram:
        """Return the distribution of both."""
        if not self.count:
            return other
        if not other.count:
            return self
        return Histogram(
            self.sum_ns + other.sum_ns,
            min(self.min_ns, other.min_ns),
            max(self.max_ns, other.max_ns),
            self.positive + other.positive,
            self.negative + other.negative,
        )


@dataclass(frozen=True, slots=True)
class FeedCounters:
    """One feed's block."""

    counters: Mapping[str, int]
    histograms: Mapping[str, Histogram]


@cache
def schema() -> tuple[Mapping[str, str], Mapping[str, str], int]:
    """Return a feed's counters and histograms, name -> help, and the buckets of a sign."""
    lists = _native.schema()
    counters, histograms = (
        {field: help_ for field, *_, help_ in lists[name]} for name in ("feeds", "feed_histograms")
    )
    return counters, histograms, _native.histogram_buckets()


def bucket_middle(index: int) -> int:
    """Return the middle of the magnitudes of one bucket, rounded down."""
    if index < LINEAR:
        return index
    octave, step = divmod(index - LINEAR, STEPS)
    width = 2 << octave
    return (STEPS + step) * width + (width - 1) // 2


def bucket_end(index: int) -> int:
    """Return the largest magnitude of one bucket; the last one has no end but this."""
    if index < LINEAR:
        return index
    octave, step = divmod(index - LINEAR, STEPS)
    return ((STEPS + step + 1) << (octave + 1)) - 1


def wrapped(value: int) -> int:
    """Return a sum modulo 2^64, as a signed number."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _bounds(positive: Buckets, negative: Buckets) -> tuple[int, int]:
    """Return what lies beyond no value of any bucket that is filled: least and largest."""
    above, below = np.flatnonzero(positive), np.flatnonzero(negative)
    last = len(positive) - 1

    def end(index: int) -> int:
        return OPEN_MAX if index == last else bucket_end(index)

    def begin(index: int) -> int:
        return 0 if index == 0 else bucket_end(index - 1) + 1

    if not len(above) and not len(below):
        return 0, 0
    least = -end(int(below[-1])) if len(below) else begin(int(above[0]))
    largest = end(int(above[-1])) if len(above) else -begin(int(below[0]))
    return least, largest


def parse_histogram(words: Buckets) -> Histogram:
    """Read one struct md_histogram, whatever stands in it."""
    head, buckets = words[:HISTOGRAM_HEAD_WORDS].view("<i8"), words[HISTOGRAM_HEAD_WORDS:]
    sum_ns, min_ns, max_ns = map(int, head[1:])
    half = len(buckets) // 2
    return Histogram(sum_ns, min_ns, max_ns, buckets[:half], buckets[half:])


def parse_block(block: bytes) -> FeedCounters:
    """Read the bytes of one feed's block."""
    return FeedCounters(*parse_words(block, fields("feeds"), fields("feed_histograms")))


def parse_words(
    block: bytes, numbers: Sequence[str], histograms: Sequence[str] = ()
) -> tuple[dict[str, int], dict[str, Histogram]]:
    """Read a block of numbers, and histograms behind them.

    Args:
        block: Its bytes, more than these perhaps.
        numbers: Their names, in order.
        histograms: The same.
    """
    words = np.frombuffer(block, "<u8")
    size = HISTOGRAM_HEAD_WORDS + 2 * _native.histogram_buckets()
    end = len(numbers) + size * len(histograms)
    each = words[len(numbers) : end].reshape(len(histograms), size)
    return (
        dict(zip(numbers, words[: len(numbers)].tolist(), strict=True)),
        {name: parse_histogram(each[place]) for place, name in enumerate(histograms)},
    )


def percentiles(histogram: Histogram) -> dict[str, int | None]:
    """Return what is shown of a histogram, in ns; None is what is not there, or beyond telling."""
    count = histogram.count
    return {
        "count": count,
        "min": histogram.min_ns if count else None,
        **dict(zip(PERCENTILES, histogram.percentiles([*PERCENTILES.values()]), strict=True)),
        "max": histogram.max_ns if count else None,
    }


def read_counters(segment: _native.Counters) -> Sequence[FeedCounters]:
    """Return every feed's numbers as they are now."""
    return [parse_block(segment.block(feed)) for feed in range(len(segment))]


def total(feeds: Sequence[FeedCounters]) -> FeedCounters:
    """Return the sum over feeds, of which there is at least one."""
    first, *others = feeds
    counters = dict(first.counters)
    histograms = dict(first.histograms)
    for feed in others:
        for name, value in feed.counters.items():
            counters[name] += value
        for name, histogram in feed.histograms.items():
            histograms[name] = histograms[name] + histogram
    return FeedCounters(counters, histograms)
