"""One reader of a chaos run: ``python -m tests.chaos.reader INSTANCE MANNER TRUTH OUT``.

It checks each record it is given against what the venues sent, and after each read that its counts
add up to what was published. What it has found stands in a file, so that a SIGKILL takes none of it
along. SIGTERM lets it read to the end, and hold its place against the heads of the rings.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import mdsys
from mdsys import Kind, Status
from mdsys.errors import HostError, LayoutError, NotRunning, WriterGone
from tests.chaos.truth import Account, Truth

COUNTS: Final = ("received", "filtered", "conflated", "dropped", "lost")
NO_DAEMON_S: Final = 0.05
WRITE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Manner:
    """How a reader reads."""

    policy: str = "drop_oldest"
    symbols: tuple[str, ...] | None = None
    count_max: int = 8192
    naps_s: tuple[float, float] = (0, 0)
    """Between two reads."""
    options: dict[str, Any] = field(default_factory=dict)


MANNERS: Final = {
    "auditor": Manner(),
    "dropping": Manner(
        naps_s=(0, 1.5), count_max=64, options={"max_queue_size": 3000, "wait": "park"}
    ),
    "conflating": Manner(
        policy="conflate",
        naps_s=(0, 0.4),
        count_max=32,
        options={"max_queue_size": 200, "wait": "park"},
    ),
    "lossless": Manner(policy="lossless", naps_s=(0, 0.02), count_max=1024),
    "filtering": Manner(symbols=("*:SYM000001",), options={"wait": "spin"}, naps_s=(0, 0.01)),
    "overrun": Manner(naps_s=(5, 60)),
}
"""The auditor holds every id to account, is never killed, and sees all that can be seen."""


@dataclass(slots=True)
class Result:
    """What one reader has seen, all its attachments together."""

    manner: str
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    published: int = 0
    """Up to its cursors, since it attached; the rings' own count."""
    checked: int = 0
    torn: int = 0
    unlawful: int = 0
    """Reads after which the counts did not add up."""
    attachments: int = 0
    restarts: int = 0
    """WRITER_RESTARTED that it was told."""
    ended: bool = False
    """It was not killed."""
    at_heads: bool = True
    """In the end it had read all."""
    complete: bool = False
    """The auditor: the last trade sent of each symbol has come."""
    examples: list[str] = field(default_factory=list)
    balance: dict[str, int] = field(default_factory=dict)
    """The auditor's."""


class Program:
    """The reader's life."""

    def __init__(self, instance: str, manner: str, truth: Path, out: Path) -> None:
        self._instance = instance
        self._manner = MANNERS[manner]
        venues = sorted(path.name.partition(".")[0] for path in truth.glob("*.ends"))
        self._account = Account({venue: Truth(truth, venue) for venue in venues})
        self._audits = manner == "auditor"
        self._random = random.Random(os.getpid())
        self._out = out
        self._before = Result(manner)
        """Of the attachments that are over."""
        self._now = Result(manner)
        self._stop = False
        self._write_s = 0.0
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, *_: object) -> None:
        self._stop = True

    def run(self) -> None:
        """Attach, again and again, until told to stop."""
        while True:
            try:
                with mdsys.attach(self._instance) as md:
                    self._read_all(md)
                    break
            except (NotRunning, WriterGone, HostError, LayoutError):
                # None there; it was made anew; a lossless one was not granted; it is half made.
                if self._stop:
                    break
                time.sleep(NO_DAEMON_S)
        self._now.ended = True
        self._now.complete = self._account.is_complete()
        if self._audits:
            self._now.balance = self._account.balance()
        self._write()

    def _read_all(self, md: mdsys.MarketData) -> None:
        manner = self._manner
        symbols = list(manner.symbols) if manner.symbols else None
        if symbols and not md.symbols:
            raise NotRunning("its symbols are not there yet")
        self._before = self._now
        self._before.attachments += 1
        if self._before.attachments > 1:
            self._account.attach_anew()
        with md.reader(symbols, policy=manner.policy, **manner.options) as reader:
            first = reader.cursors
            missed = 0
            while True:
                ticks = reader.poll(manner.count_max, 0.2)
                if len(ticks):
                    if int(ticks["symbol_id"].max()) >= self._known or not self._known:
                        self._learn(md)
                    self._take(ticks)
                self._count(reader, first)
                if (given_up := reader.lost + reader.dropped) > missed:
                    missed = given_up
                    self._refresh(reader)
                if self._stop and not len(ticks):
                    break
                self._nap(self._random.uniform(*manner.naps_s), reader)
            heads = reader.heads
            self._now.at_heads = all(at == heads[ring] + 1 for ring, at in reader.cursors.items())

    def _nap(self, seconds: float, reader: mdsys.Reader) -> None:
        """Sleep, but not beyond the end, nor that of the segments.

        Their whole backlog comes before WriterGone: at its own pace a slow one would be at it for
        minutes, and unknown to the new daemon for as long.
        """
        end = time.monotonic() + seconds
        while not (self._stop or reader.superseded) and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))

    _known = 0

    def _learn(self, md: mdsys.MarketData) -> None:
        names = {symbol.id: symbol.name for symbol in md.symbols.values()}
        self._known = max(names, default=0) + 1
        self._account.learn(names)

    def _take(self, ticks: Any) -> None:
        is_status = ticks["kind"] == Kind.STATUS
        restarted = is_status & (ticks["what"] == Status.WRITER_RESTARTED)
        self._before.restarts += int(restarted.sum())
        self._account.take(ticks, count=self._audits)

    def _refresh(self, reader: mdsys.Reader) -> None:
        with suppress(HostError):  # the feed is dead; the next one repairs the cell
            self._account.take(reader.refresh(), count=False)

    def _count(self, reader: mdsys.Reader, first: dict[int, int]) -> None:
        """See whether the law holds at this moment."""
        now = {name: getattr(reader, name) for name in COUNTS}
        published = sum(at - first[ring] for ring, at in reader.cursors.items())
        before = self._before
        before.unlawful += sum(now.values()) != published
        self._now = Result(**asdict(before))
        self._now.counts = {name: before.counts[name] + now[name] for name in COUNTS}
        self._now.published += published
        self._now.checked, self._now.torn = self._account.checked, self._account.torn
        self._now.examples = self._account.examples
        if (at := time.monotonic()) >= self._write_s:
            self._write_s = at + WRITE_S
            self._now.complete = self._audits and self._account.is_complete()
            self._write()

    def _write(self) -> None:
        new = self._out.with_suffix(".new")
        new.write_text(json.dumps(asdict(self._now)))
        new.rename(self._out)


if __name__ == "__main__":
    Program(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])).run()
