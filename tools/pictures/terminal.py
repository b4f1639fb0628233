"""The terminal's pictures, docs/{demo,top,tap}.svg, each of a real run."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console, RenderableType
from rich.text import Text

import mdsys
from mdsys.consume.tap_command import Tap
from mdsys.consume.tick_text import LineFormat
from mdsys.demo.stage import Stage
from mdsys.demo.view import Rates, picture
from mdsys.record.record import Kind
from mdsys.top.app import Top
from mdsys.top.watching import Watching
from tests.instances import cleaned
from tests.simulated import Street, all_tick, daemon_on, native, status_when, street, venue_text

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 10
VENUES = ("binance", "binance_usdm", "kraken", "coinbase_exchange")
SYMBOLS = 60
INSTANCE = "pictures"
TOP_SIZE = (170, 44)
TAP_LINES = 24
TAP_LINES_AFTER = 7
"""Of them, those after the trade that is missing."""
CELL_WIDTH = 12.2
"""Of rich's SVG."""
DESCENT = 4
"""What rich's SVG cuts off below the last line, where a font has its underscore."""


def draw_all() -> None:
    """Draw them."""
    asyncio.run(demo())
    with market() as venues:
        asyncio.run(top())
        tap(venues)


async def demo() -> None:
    """Draw the live table of `make demo`, some seconds in."""
    async with Stage() as stage:
        await asyncio.sleep(SECONDS - 1)
        before = stage.figures()
        await asyncio.sleep(1)
        now = stage.figures()
        await stage.end()
    draw("demo", "make demo", 104, picture(now, Rates.between(before, now)))


@contextlib.contextmanager
def market() -> Iterator[Street]:
    """Run a daemon on four simulated venues, with two readers."""
    with (
        TemporaryDirectory() as folder,
        cleaned(INSTANCE),
        street(VENUES, symbols=SYMBOLS, rate=1_500) as venues,
        daemon_on(
            Path(folder),
            INSTANCE,
            *(
                venue_text(
                    venue,
                    venues[venue],
                    symbols=[native(venue, index) for index in range(SYMBOLS)],
                    max_symbols_per_connection=SYMBOLS // 3,
                )
                for venue in VENUES
            ),
            feeds=2,
            rings=4,
            max_symbols=1_024,
        ),
        readers("momentum", "spread"),
    ):
        status_when(INSTANCE, all_tick)
        yield venues


@contextlib.contextmanager
def readers(*names: str) -> Iterator[None]:
    """Read with so many readers, each in a thread."""
    over = threading.Event()

    def read(name: str) -> None:
        with mdsys.attach(INSTANCE) as data:
            reader = data.reader(name=name, wait="park")
            while not over.is_set():
                reader.poll(timeout=0.2)

    threads = [threading.Thread(target=read, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


async def top() -> None:
    """Draw `mdsys top` after some seconds."""
    watching = Watching(INSTANCE)
    app = Top(watching)
    async with app.run_test(size=TOP_SIZE) as pilot:
        await asyncio.sleep(2 * SECONDS)
        await pilot.pause()
        write("top", app.export_screenshot(title="mdsys top"))
    watching.close()


def tap(venues: Street) -> None:
    """Draw some lines of `mdsys tap`: one symbol of each venue, of which one misses a trade."""
    wanted = Tap(INSTANCE, ["*:*000007"])
    form = LineFormat(symbol_width=27, colour=True)
    lines: list[str] = []
    kinds: list[int] = []

    def read(is_enough: Callable[[], bool]) -> None:
        while not is_enough():
            for ring, row in wanted.read():
                lines.append(form(row, ring, wanted.symbol_name(row)))
                kinds.append(row.kind)
            time.sleep(0.001)

    read(lambda: len(lines) >= TAP_LINES)
    venues.inject("binance", "hole", kind="trade", symbol=native("binance", 7))
    read(lambda: Kind.STATUS in kinds[:-TAP_LINES_AFTER])
    end = kinds.index(Kind.STATUS) + TAP_LINES_AFTER + 1
    draw("tap", "mdsys tap", 112, Text.from_ansi("\n".join(lines[max(end - TAP_LINES, 0) : end])))


def draw(name: str, title: str, width: int, what: RenderableType) -> None:
    """Write what rich draws."""
    console = Console(
        record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(what)
    write(name, console.export_svg(title=title, unique_id=f"mdsys-{name}"))


def write(name: str, svg: str) -> None:
    """Write a picture: no font from elsewhere, since in a repository it should ask nobody."""
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"terminal-\d+-", f"mdsys-{name}-", svg)  # not another name at every run
    svg = re.sub(
        r'x="([\d.]+)"( y="[\d.]+" textLength=)"([\d.]+)"([^>]*>)((?:&#160;)+)', shift, svg
    )
    svg = re.sub(
        r'(clip-terminal">\s*<rect [^>]*height=")([\d.]+)',
        lambda match: f"{match[1]}{float(match[2]) + DESCENT:g}",
        svg,
    )
    path = ROOT / "docs" / f"{name}.svg"
    path.write_text(svg)
    print(path.relative_to(ROOT))


def shift(match: re.Match[str]) -> str:
    """Put a text where it begins: some viewers swallow the blanks before it."""
    x, y, length, rest, blanks = match.groups()
    size = len(blanks) // len("&#160;") * CELL_WIDTH
    return f'x="{float(x) + size:g}"{y}"{max(float(length) - size, 0):g}"{rest}'
