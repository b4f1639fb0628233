"""``mdsys demo``: all of it at work, in one command."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Final

from mdsys.demo.stage import Figures, Stage
from mdsys.demo.view import Rates, line, picture, summary
from mdsys.errors import MdsysError
from mdsys.progress import Progress

SECONDS_DEFAULT: Final = 5.0
"""Where nobody is there to press Ctrl-C."""
REFRESH_SECONDS: Final = 0.25
LINE_SECONDS: Final = 1.0

Show = Callable[[Figures, Rates], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``mdsys demo``."""
    parser.add_argument(
        "--seconds",
        type=_seconds,
        metavar="N",
        help=f"how long (on a terminal until Ctrl-C, else {SECONDS_DEFAULT:.0f})",
    )
    parser.add_argument(
        "--json", action="store_true", help="print nothing but one object at the end"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds above 0")
    return seconds


def main(args: argparse.Namespace) -> int:
    """Run the demo until its time is over, Ctrl-C or SIGTERM.

    Raises:
        MdsysError: A process of it failed, or the sums do not balance.
    """
    live = sys.stdout.isatty() and not args.json
    seconds = args.seconds or (None if live else SECONDS_DEFAULT)
    try:
        figures = asyncio.run(run(seconds, _viewer(live=live, quiet=args.json), live=live))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None  # asked twice
    if args.json:
        print(json.dumps(as_json(figures)))
    else:
        print(summary(figures))
    if not figures.balanced:
        raise MdsysError(
            f"{figures.received} received + {figures.lost} lost is not "
            f"{figures.published} published: a fault of ours, please report it"
        )
    return 0


def as_json(figures: Figures) -> dict[str, object]:
    """Return what ``--json`` prints."""
    return {
        "seconds": round(figures.seconds, 3),
        "symbols": figures.symbols,
        "sent": figures.sent,
        "published": figures.published,
        "received": figures.received,
        "lost": figures.lost,
        "snapshot_levels": figures.snapshot_levels,
        "duplicates": figures.duplicates,
        "statuses": figures.statuses,
        "gaps": figures.gaps,
        "decode_errors": figures.decode_errors,
        "ticks_per_second": round(figures.ticks_per_second, 1),
        "latency_ns": figures.latency_ns,
        "rings": [asdict(ring) for ring in figures.rings],
        "movers": list(figures.movers),
        "spins": figures.spins,
    }


async def run(
    seconds: float | None, viewer: contextlib.AbstractContextManager[Show], *, live: bool
) -> Figures:
    """Run the demo.

    Args:
        seconds: How long the market runs; None: until a signal.
        viewer: Gives what is shown the figures with.
        live: Whether it is shown often.
    """
    stop = asyncio.Event()
    task = asyncio.current_task()
    assert task is not None

    def on_signal() -> None:
        if stop.is_set():
            task.cancel()  # asked twice: no summary, but still the cleaning
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    async with contextlib.AsyncExitStack() as stack:
        with Progress("mdsys demo").during("starting a venue, a daemon and a consumer"):
            stage = await stack.enter_async_context(Stage())
        with viewer as show:
            await _watch(stage, seconds, stop, show, REFRESH_SECONDS if live else LINE_SECONDS)
        return await stage.end()


async def _watch(
    stage: Stage, seconds: float | None, stop: asyncio.Event, show: Show, interval: float
) -> None:
    """Show the figures until it is time to stop.

    Raises:
        ChildDied: A process ended by itself.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    end = math.inf if seconds is None else began + seconds
    stopping = asyncio.create_task(stop.wait())
    dying = asyncio.create_task(stage.died())
    before: Figures | None = None
    look = began
    try:
        while not stopping.done() and loop.time() < end:
            look = max(look + interval, loop.time())
            await asyncio.wait(
                {stopping, dying},
                timeout=max(min(look, end) - loop.time(), 0),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if dying.done():
                raise dying.result()
            now = stage.figures()
            show(now, Rates.between(before, now))
            before = now
    finally:
        stopping.cancel()
        dying.cancel()


@contextlib.contextmanager
def _viewer(*, live: bool, quiet: bool) -> Iterator[Show]:
    if quiet:
        yield lambda *_: None
    elif not live:
        yield lambda figures, rates: print(line(figures, rates), flush=True)
    else:
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(), auto_refresh=False, transient=False) as table:
            yield lambda figures, rates: table.update(picture(figures, rates), refresh=True)
