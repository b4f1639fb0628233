"""Which ring a symbol goes to: jump consistent hashing among the rings of its feed.

Jump hash (Lamping and Veach, arXiv:1406.2294) rather than a hash ring with virtual nodes, because
a feed's rings are numbered, equally large and only ever added at the end, which is all that jump
hash asks for. It then gives more for less: each ring gets its share to within the noise of the
hash (a hash ring needs some 1,000 points a node to come within 3%), growing from n to n + 1 moves
the least possible 1/(n+1) and moves it to the new ring only, and there is no table to keep. What
it lacks, weights and the removal of a ring from the middle, rings have no use for.

A placement holds as long as its file: the supervisor asks here once, for a new symbol, and writes
the answer into the symbol directory, which is what everything else looks at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mdsys._native import xxh3_64

_MASK = (1 << 64) - 1
_MULTIPLIER = 2862933555777941757  # of the paper's linear congruential generator


def jump_hash(key: int, bucket_count: int) -> int:
    """Return the bucket of ``key``, in [0, bucket_count).

    Args:
        key: A well-mixed hash, in [0, 2^64).
        bucket_count: In [1, 2^31).
    """
    bucket, candidate = -1, 0
    while candidate < bucket_count:  # about ln(bucket_count) turns
        bucket = candidate
        key = (key * _MULTIPLIER + 1) & _MASK
        candidate = int((bucket + 1) * ((1 << 31) / ((key >> 33) + 1)))
    return bucket


class Partition:
    """The rings of one feed, and which symbol goes to which of them."""

    def __init__(self, rings: Sequence[int]) -> None:
        """Take the feed's rings in their order; a ring added later goes to the end.

        Raises:
            ValueError: There is none, or one stands there twice.
        """
        if not rings or len(set(rings)) != len(rings):
            raise ValueError(f"rings = {list(rings)}: at least one, each once")
        self.rings = tuple(rings)
        self._known: dict[str, int] = {}

    def ring(self, name: str) -> int:
        """Return the ring of ``VENUE:SYMBOL``; asked again, it is a dictionary look-up."""
        ring = self._known.get(name)
        if ring is None:
            ring = self.rings[jump_hash(xxh3_64(name.encode()), len(self.rings))]
            self._known[name] = ring
        return ring


@dataclass(frozen=True, slots=True)
class Balance:
    """How evenly symbols and their traffic lie on the rings."""

    symbols: Mapping[int, int]
    """Ring -> symbols on it; every ring is named, also an empty one."""
    records: Mapping[int, int]
    """Ring -> records published to it."""

    @classmethod
    def of(cls, placement: Iterable[int], records: Mapping[int, int]) -> Balance:
        """Count a placement.

        Args:
            placement: The ring of each symbol, in any order.
            records: Ring -> records published, for every ring there is.

        Raises:
            ValueError: A symbol lies on a ring that ``records`` does not name.
        """
        counts = Counter(placement)
        if strangers := sorted(set(counts) - set(records)):
            raise ValueError(f"symbols on rings {strangers}, which do not exist")
        return cls({ring: counts[ring] for ring in sorted(records)}, dict(sorted(records.items())))

    @property
    def symbols_max_to_mean(self) -> float:
        """Return the fullest ring's symbols over the mean; 1.0 is even, and nothing at all too."""
        return _max_to_mean(self.symbols)

    @property
    def records_max_to_mean(self) -> float:
        """Return the busiest ring's records over the mean."""
        return _max_to_mean(self.records)


def _max_to_mean(counts: Mapping[int, int]) -> float:
    total = sum(counts.values())
    return max(counts.values()) * len(counts) / total if total else 1.0
