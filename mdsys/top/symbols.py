"""Which symbols move most, and which have been silent longest, of as many as there are.

Nobody counts by symbol: a count a symbol would cost the feed a cache line a tick. But each cell of
the last-value cache has a version, which goes up by two whenever its trade, quote or book is
stored. So one pass over that word of every cell, against the same pass some seconds ago, ranks
them all by what moved. Who has been silent longest is read off the times in the cells, which are
three lines of each and not one: that pass comes less often.

Both passes are held to a share of a core, whatever it costs here: none comes sooner than 1 / SHARE
times what the last one took.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from mdsys.errors import HostError
from mdsys.record.fixed import format_fixed
from mdsys.record.record import ABSENT, TICK
from mdsys.top.source import Attachment

SHOWN_MAX: Final = 50
"""Rows of a list."""
SILENT_NS: Final = 1_000_000_000
"""Who has spoken within this is not silent."""
WINDOW_S: Final = 5.0
"""What a symbol's rate is taken over: shorter, and the list would never stand still."""
SHARE: Final = 0.003
"""Of a core, for each of the two passes."""
NAME_COUNT_MAX: Final = 2_000
"""Names learned at one look: a screen must not wait for 65,536 of them."""
_GEOMETRY: Final = struct.Struct("<QII")
"""cells_offset, cell_stride and capacity: struct md_cache_header (native/include/mdsys/cache.h)."""
_GEOMETRY_OFFSET: Final = 128
_TRADE: Final = 1

Versions = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class SymbolRow:
    """One symbol."""

    symbol: str
    ring: int
    rate: float
    """Times a second that its trade, quote or book changed."""
    age_s: float | None
    """Since anything came; None: nothing ever has."""
    last: Callable[[], str | None]
    """Gives its last trade's price, exact; asked of those rows alone that are to be seen."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """What there is to show of the symbols."""

    hottest: Sequence[SymbolRow]
    stalest: Sequence[SymbolRow]
    moving: int
    """How many changed within the window."""
    never: int
    """How many nothing has ever come of."""
    picked: int
    """How many the filter lets through."""


class Pace:
    """Holds work to a share of a core.

    Args:
        share: Of a core, in (0, 1].
        cpu: Tells seconds of this thread's processor time.
    """

    def __init__(self, share: float, cpu: Callable[[], float] = time.thread_time) -> None:
        self._share = share
        self._cpu = cpu
        self._next_s = -np.inf

    def due(self, now_s: float) -> bool:
        """Whether the next turn may come."""
        return now_s >= self._next_s

    def run(self, now_s: float, work: Callable[[], None]) -> None:
        """Do it, and be not due again until its share allows."""
        began = self._cpu()
        work()
        self._next_s = now_s + (self._cpu() - began) / self._share


class SymbolWatch:
    """Ranks the symbols of an attachment.

    Args:
        attachment: Whose.
        share: Of a core, for each pass.
    """

    def __init__(self, attachment: Attachment, share: float = SHARE) -> None:
        self._symbols = attachment.symbols
        self._cache = attachment.cache
        offset, stride, capacity = _GEOMETRY.unpack_from(attachment.cache_map, _GEOMETRY_OFFSET)
        # Cells are at [1, capacity]. A version is the first word of its cell, aligned and so whole.
        self._versions: Versions = np.ndarray(
            (capacity + 1,), "<u8", attachment.cache_map, offset, (stride,)
        )
        self._names: list[str] = []
        self._rings: list[int] = []
        self._record = np.empty(1, TICK)
        self._passes: deque[tuple[float, Versions]] = deque()
        self._heard = np.zeros(0, np.int64)
        self._moves, self._silences = Pace(share), Pace(share)
        self._filter = ""
        self._mask = np.zeros(0, bool)

    def look(self, now_s: float) -> None:
        """Look at the cells, as far as that is due.

        Args:
            now_s: Seconds of a steady clock.
        """
        self._learn()
        if self._moves.due(now_s):
            self._moves.run(now_s, lambda: self._look_moves(now_s))
        if self._silences.due(now_s):
            self._silences.run(now_s, self._look_silences)

    def _learn(self) -> None:
        """Take in names, as many at a time as a screen can wait for."""
        first = len(self._names) + 1
        for symbol_id in range(first, min(len(self._symbols) + 1, first + NAME_COUNT_MAX)):
            name, _, ring, _, _ = self._symbols.entry(symbol_id)
            self._names.append(name)
            self._rings.append(ring)

    def _look_moves(self, now_s: float) -> None:
        self._passes.append((now_s, self._versions[1 : len(self._names) + 1].copy()))
        while len(self._passes) > 2 and now_s - self._passes[1][0] >= WINDOW_S:
            self._passes.popleft()

    def _look_silences(self) -> None:
        self._heard = self._heard_of(np.arange(1, len(self._names) + 1, dtype=np.uint32))

    def _heard_of(self, ids: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        heard = np.empty((len(ids), 5), np.int64)
        self._cache.heard(ids, heard)
        last: npt.NDArray[np.int64] = heard.max(axis=1, initial=0)
        return last

    def rates(self) -> npt.NDArray[np.float64]:
        """Return how often a second each symbol's last values changed, by id less 1."""
        if len(self._passes) < 2:
            return np.zeros(len(self._names))
        (then_s, then), (now_s, now) = self._passes[0], self._passes[-1]
        moved = now.copy()
        moved[: len(then)] -= then  # a symbol that was not there then was at 0
        return (moved >> np.uint64(1)) / max(now_s - then_s, 1e-9)

    def ranking(self, now_ns: int, pattern: str = "") -> Ranking:
        """Return the hottest and the stalest.

        Args:
            now_ns: ns since the epoch.
            pattern: Names must hold it, whatever its case; empty: all.
        """
        rates = self.rates()
        mask = self._picked(pattern)
        count = min(len(rates), len(mask))
        rates, mask = rates[:count], mask[:count]
        hot = np.where(mask, rates, 0.0)
        heard = self._heard[:count]
        there = mask[: len(heard)] & (heard > 0) & (heard <= now_ns - SILENT_NS)
        silent = np.where(there, heard, np.iinfo(np.int64).max)
        order = _least(silent, SHOWN_MAX)
        stalest = order[silent[order] < np.iinfo(np.int64).max]
        hottest = _least(-hot, SHOWN_MAX)
        hottest = hottest[hot[hottest] > 0]
        return Ranking(
            self._rows(hottest, rates, now_ns),
            self._rows(stalest, rates, now_ns),
            moving=int(np.count_nonzero(hot)),
            never=int(np.count_nonzero(mask[: len(heard)] & (heard == 0))),
            picked=int(np.count_nonzero(mask)),
        )

    def _picked(self, pattern: str) -> npt.NDArray[np.bool_]:
        wanted = pattern.upper()
        known = 0 if wanted != self._filter else len(self._mask)
        new = [wanted in name.upper() for name in self._names[known:]]
        if new or wanted != self._filter:
            self._mask = np.concatenate([self._mask[:known], np.array(new, bool)])
            self._filter = wanted
        return self._mask

    def _rows(
        self, places: npt.NDArray[np.intp], rates: npt.NDArray[np.float64], now_ns: int
    ) -> list[SymbolRow]:
        heard = self._heard_of((places + 1).astype(np.uint32))
        return [
            SymbolRow(
                self._names[place],
                self._rings[place],
                float(rates[place]),
                max(now_ns - last_ns, 0) / 1e9 if last_ns else None,
                partial(self._last_price, place),
            )
            for place, last_ns in zip(places.tolist(), heard.tolist(), strict=True)
        ]

    def _last_price(self, place: int) -> str | None:
        try:
            if not self._cache.load(place + 1, _TRADE, self._record):
                return None
        except HostError:  # half-written, which only a dead feed leaves behind
            return None
        price = int(self._record["price"][0])  # of a ticker: the last one, in the same place
        return None if price == ABSENT else format_fixed(price, int(self._record["price_scale"][0]))


def _least(values: npt.NDArray[np.generic], count: int) -> npt.NDArray[np.intp]:
    """Return the places of the least values, in order; of equals the first come first."""
    if len(values) <= count:
        return np.argsort(values, kind="stable")
    chosen = np.sort(np.argpartition(values, count)[:count])
    return chosen[np.argsort(values[chosen], kind="stable")]
