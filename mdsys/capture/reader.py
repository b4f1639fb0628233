"""``mdsys.open_capture``: a capture's records, decoded in this process, for backtests.

    capture = mdsys.open_capture("captures/")
    for ticks in capture.reader(["BINANCE:BTCUSDT"], start="2026-11-01T09:15:00+05:30"):
        ...

Complete, in one order, and byte for byte what was published but for ``seq``, which is 0.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from datetime import datetime
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from mdsys._capture import Sink
from mdsys.capture.format import CaptureError
from mdsys.capture.merge import NEVER, Merge
from mdsys.capture.source import Source, open_source
from mdsys.consume.symbol_info import SymbolInfo
from mdsys.errors import UsageError
from mdsys.record.record import TICK, Ticks

COUNT_DEFAULT: Final = 4096

Time = int | str | datetime
"""ns since the epoch, or a date and time with its zone."""


class Capture:
    """A capture that can be read, as often as one likes."""

    def __init__(self, source: Source) -> None:
        self.source = source

    @cached_property
    def symbols(self) -> dict[str, SymbolInfo]:
        """What was recorded, by name. The first look goes through all files."""
        found: dict[str, SymbolInfo] = {}
        venues: dict[int, str] = {}
        rings: list[int] = []
        for story in self.source.stories():
            if story[0] == "begin":
                rings = [each["ring"] for each in story[1]["rings"]]
            elif story[0] == "venue":
                venues[story[1]] = story[2]["venue"]
            else:
                _, venue, name, number, ring, price_scale, size_scale = story
                full = f"{venues[venue]}:{name}"
                info = SymbolInfo(full, number, rings[ring], price_scale, size_scale)
                if found.setdefault(full, info) != info:
                    raise CaptureError(
                        f"{full}: id, ring or scale changed in between: the instance was begun "
                        "anew; give the files from before or from after that"
                    )
        return found

    def reader(
        self,
        symbols: Collection[str] | None = None,
        start: Time | None = None,
        end: Time | None = None,
        *,
        rings: Collection[int] | None = None,
    ) -> CaptureReader:
        """Return a reader from the beginning, or from ``start`` on.

        Args:
            symbols: ``VENUE:SYMBOL`` names; None: all. Statuses of their rings always come, too.
            start: Records received before are left out.
            end: Those received then or after, as well: days that meet share no record.
            rings: Of these rings alone.

        Raises:
            UsageError: A symbol was not recorded, or a time is none.
        """
        ids = None
        if symbols is not None:
            chosen = [self._symbol(name) for name in symbols]
            ids = [each.id for each in chosen]
            own = {each.ring for each in chosen}
            rings = own if rings is None else own.intersection(rings)
        return CaptureReader(self.source, ids, rings, _ns(start, 0), _ns(end, NEVER))

    def _symbol(self, name: str) -> SymbolInfo:
        if (found := self.symbols.get(name)) is None:
            near = get_close_matches(name, self.symbols, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"{name} was not recorded{hint}")
        return found


class CaptureReader:
    """A place in a capture. One thread's."""

    def __init__(
        self,
        source: Source,
        ids: Collection[int] | None,
        rings: Collection[int] | None,
        start_ns: int,
        end_ns: int,
    ) -> None:
        self._sink = Sink(ids)
        self._last_ns = end_ns - 1
        self._merge = Merge(
            source,
            lambda _name, number, *_: (number, 0),
            start_ns=start_ns,
            sink=self._sink,
            rings=None if rings is None else set(rings),
        )
        self.received = 0
        """Records given so far."""

    @property
    def lost(self) -> int:
        """Entries, frames nearly all of them, that the recorder was too slow for."""
        return sum(engine.lost for engine in self._merge.engines)

    @property
    def ignored(self) -> int:
        """Frames so far that no record could be made of, of whatever symbol.

        Their event is none that mdsys reads (an ``aggTrade``, a ``kline``), their symbol is not
        known, or they are malformed.
        """
        return sum(engine.ignored for engine in self._merge.engines)

    @property
    def mismatches(self) -> int:
        """How often the feed had published other than was decoded here, by its own count.

        Never, unless a part of the capture is missing without a word, or decoders have changed.
        """
        return sum(engine.mismatches for engine in self._merge.engines)

    def poll(self, count_max: int = COUNT_DEFAULT) -> Ticks:
        """Return the next records, at most ``count_max``; none when the capture is at its end.

        Raises:
            CaptureError: A file is damaged, at this place.
        """
        out = np.empty(count_max, TICK)
        return out[: self.poll_into(out)]

    def poll_into(self, out: Ticks) -> int:
        """Fill ``out`` with the next records; return how many: fewer only at the end."""
        count = 0
        while count < len(out):
            if not len(self._sink) and not self._decode():
                break
            count += self._sink.take_into(out[count:])
        self.received += count
        return count

    def _decode(self) -> bool:
        while not len(self._sink):
            if not self._merge.run(self._last_ns):
                return False
        return True

    def __iter__(self) -> Iterator[Ticks]:
        """Give batches to the end."""
        while len(ticks := self.poll()):
            yield ticks


def open_capture(path: str | os.PathLike[str], venue: str | None = None) -> Capture:
    """Open a capture: what ``mdsys record`` wrote, or a recording in another known format.

    Args:
        path: The directory, or a file.
        venue: Whose frames another's recording holds, where its content does not tell.

    Raises:
        CaptureError: It is none.
    """
    return Capture(open_source(Path(path), venue))


def _ns(time: Time | None, default: int) -> int:
    if time is None:
        return default
    if isinstance(time, int):
        return time
    try:
        moment = datetime.fromisoformat(time) if isinstance(time, str) else time
    except ValueError:
        raise UsageError(f"{time!r} is no date and time, as 2026-11-01T09:15:00+05:30") from None
    if moment.tzinfo is None:
        raise UsageError(f"{moment} has no zone: say +00:00 for UTC")
    return int(moment.timestamp()) * 10**9 + moment.microsecond * 1000
