"""``mdsys tap``: print ticks as they come, from the newest on."""

from __future__ import annotations

import argparse
import heapq
import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from mdsys import _consume
from mdsys.consume.attach import MarketData, attach
from mdsys.consume.symbol_info import symbol_bitmap
from mdsys.consume.tick_text import LineFormat, Row, json_line, rows
from mdsys.errors import LayoutError, NotRunning, UsageError
from mdsys.record.record import TICK, Kind
from mdsys.ring.door import is_superseded
from mdsys.ring.instance_argument import add_instance_argument
from mdsys.ring.lock import start_ticks

RUNNING: Final = 1
BATCH_COUNT: Final = 1024
IDLE_SECONDS: Final = 0.002
CHECK_SECONDS: Final = 0.5
"""How often a silent instance is looked at more closely."""
HEARTBEAT_NS_MAX: Final = 5_000_000_000
"""The supervisor beats every second."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``mdsys tap``."""
    parser.add_argument(
        "symbols",
        nargs="*",
        metavar="SYMBOL|GLOB",
        help="BINANCE:BTCUSDT, 'BINANCE:*USDT'; default: all. A glob picks among the symbols "
        "known when it starts",
    )
    add_instance_argument(parser)
    parser.add_argument(
        "--kind",
        action="append",
        choices=[kind.name.lower() for kind in Kind],
        help="only records of this kind; may be given several times",
    )
    parser.add_argument("--count", type=_count, metavar="N", help="end after so many records")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="buys green, sells red, what is amiss yellow or bold red; auto (the default): on a "
        "terminal, unless NO_COLOR is set",
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:18]) > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")
    return int(text)


def main(args: argparse.Namespace) -> int:
    """Print until ``--count`` is reached, Ctrl-C, or until nobody reads the output.

    Raises:
        NotRunning: There is no such instance, or it has stopped.
        UsageError: A symbol is not in it.
    """
    # Without --kind everything, also what only a newer writer knows.
    kinds = {Kind[name.upper()] for name in args.kind} if args.kind else range(256)
    tap = Tap(args.instance, args.symbols)
    if not tap.running:
        raise NotRunning(
            f"instance {args.instance!r} is not running; start it with mdsys run --config FILE"
        )
    _notice(f"listening to {tap}")  # whoever starts us knows from when on nothing is missed
    write = json_line if args.json else _line_format(tap, args.color)
    left: int = args.count or sys.maxsize
    checked_at = time.monotonic()
    while True:
        superseded = tap.superseded  # asked first: what is unread then is still read
        batch = tap.read()
        if tap.newly_lost:
            _notice(f"too slow: {tap.newly_lost:,} records lost, {tap.lost:,} in all")
        lines = [
            write(row, ring, tap.symbol_name(row)) for ring, row in batch if row.kind in kinds
        ][:left]
        if lines:
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()
            left -= len(lines)
            if left == 0:
                return 0
        if batch:
            continue
        if superseded:
            tap = _attach_anew(args.instance, args.symbols)
        elif time.monotonic() - checked_at >= CHECK_SECONDS:
            checked_at = time.monotonic()
            tap.tell_changes()
            _check_stdout()
        time.sleep(IDLE_SECONDS)


class Tap:
    """An attached instance, read ring by ring: a status of a whole ring names no ring itself.

    Args:
        instance: Its name.
        patterns: Names or globs; none: everything.

    Raises:
        NotRunning: It has no segments, or they are being made at this moment.
        UsageError: A pattern matches no symbol.
        LayoutError: Its segments are another version's.
    """

    def __init__(self, instance: str, patterns: Sequence[str]) -> None:
        self.market_data: MarketData = attach(instance)
        self.newly_lost = 0
        """Records lost before those that `read` returned last."""
        wanted = None
        rings: Sequence[int] = range(len(self.market_data.rings))
        if patterns:
            picked = self.market_data.match(patterns)
            wanted = symbol_bitmap(picked)
            rings = sorted({symbol.ring for symbol in picked})
        self._pollers = {
            ring: _consume.Poller([self.market_data.rings[ring]], wanted) for ring in rings
        }
        self.before_count = sum(sum(poller.cursors) - 1 for poller in self._pollers.values())
        """Records published before we came."""
        self._scratch = np.empty(BATCH_COUNT, TICK)
        self._lost_by_ring = dict.fromkeys(rings, 0)
        self._was_running = self.running

    def __str__(self) -> str:
        """Return what is read, in words."""
        rings = ", ".join(map(str, self._pollers))
        return f"instance {self.market_data.instance!r}, rings {rings}"

    @property
    def lost(self) -> int:
        """Records overwritten before they were read, exactly."""
        return sum(self._lost_by_ring.values())

    @property
    def superseded(self) -> bool:
        """Whether the files have been replaced, so that nothing more will come."""
        return is_superseded(self.market_data.directory)

    @property
    def running(self) -> bool:
        """Whether a supervisor lives.

        Its pid tells at once; its heartbeat tells also from within another pid namespace.
        """
        cache = self.market_data.cache
        if cache.state != RUNNING:
            return False
        lives = cache.writer_start_ticks == start_ticks(cache.writer_pid) != 0
        return lives or time.time_ns() - cache.heartbeat_ns < HEARTBEAT_NS_MAX

    def read(self) -> list[tuple[int, Row]]:
        """Return what is new as (ring, record): each ring in its order, rings merged by time."""
        batches = []
        lost_before = self.lost
        for ring, poller in self._pollers.items():
            count = poller.poll_into(self._scratch)
            self._lost_by_ring[ring] = poller.lost
            if count:
                batches.append([(ring, row) for row in rows(self._scratch[:count])])
        self.newly_lost = self.lost - lost_before
        return list(heapq.merge(*batches, key=lambda entry: entry[1].ts_recv))

    def symbol_name(self, row: Row) -> str | None:
        """Return VENUE:SYMBOL of a record; None when it is about its whole ring."""
        return self.market_data.symbol_name(row.symbol_id)

    def tell_changes(self) -> None:
        """Say when the daemon has stopped or is back, so that silence explains itself."""
        running = self.running
        if running != self._was_running:
            self._was_running = running
            _notice(
                f"instance {self.market_data.instance!r} "
                + ("runs again" if running else "has stopped; waiting for its next start")
            )


def _line_format(tap: Tap, color: str) -> Callable[[Row, int, str | None], str]:
    names = tap.market_data.symbols
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR")  # no-color.org: not empty
    return LineFormat(
        symbol_width=min(max(map(len, names), default=0), 32),
        colour=wanted if color == "auto" else color == "always",
    )


def _attach_anew(instance: str, patterns: Sequence[str]) -> Tap:
    """Wait for the instance's next segments, however long that takes."""
    _notice(f"instance {instance!r} was replaced or cleaned; waiting for its next start")
    reason = ""
    while True:
        try:
            tap = Tap(instance, patterns)
        except (NotRunning, LayoutError, UsageError) as error:  # not there, newer, no symbols
            if not isinstance(error, NotRunning) and str(error) != reason:
                reason = str(error)
                _notice(reason)
            time.sleep(0.05)
            _check_stdout()
            continue
        _notice(f"attached anew, after {tap.before_count:,} records that it had published")
        return tap


def _check_stdout() -> None:
    """End also in a silent market when whoever read our output is gone.

    Raises:
        BrokenPipeError: It is.
    """
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors are always reported
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        raise BrokenPipeError


def _notice(text: str) -> None:
    print(f"mdsys tap: {text}", file=sys.stderr, flush=True)
