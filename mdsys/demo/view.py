"""The figures for people: a live table on a terminal, else a line a second; then a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mdsys.demo.stage import HOPS, RATE, Figures
from mdsys.wording import duration

if TYPE_CHECKING:  # a line a second needs no rich
    from rich.console import RenderableType
    from rich.table import Table

HOP_NAMES: Final = {
    HOPS[0]: "socket → ring",
    HOPS[1]: "socket → reader",
}
_COLUMNS = ("p50", "p99", "p999", "max")
_BAR_WIDTH = 10


@dataclass(frozen=True, slots=True)
class Rates:
    """What happened between two looks, a second."""

    total: float
    by_ring: Sequence[float]

    @classmethod
    def between(cls, before: Figures | None, now: Figures) -> Rates:
        """Return the rates since ``before``; None: since the beginning."""
        seconds = now.seconds - (before.seconds if before else 0.0)
        counts = [
            ring.published - (before.rings[place].published if before else 0)
            for place, ring in enumerate(now.rings)
        ]
        by_ring = [count / seconds if seconds > 0 else 0.0 for count in counts]
        return cls(sum(by_ring), by_ring)


def line(figures: Figures, rates: Rates) -> str:
    """Return one line: where there is no terminal."""
    hops = "  ".join(
        f"{HOP_NAMES[hop]} p50 {duration(latency['p50'])} p99 {duration(latency['p99'])}"
        for hop, latency in figures.latency_ns.items()
    )
    top = "".join(f"  {mover['symbol']} {mover['change']:+.2%}" for mover in figures.movers[:1])
    return (
        f"{figures.seconds:5.1f} s  {rates.total:9,.0f} ticks/s  lost {figures.lost:,}  "
        f"gaps {figures.gaps}  {hops}{top}"
    )


def summary(figures: Figures) -> str:
    """Return the last words."""
    rate = f"{figures.ticks_per_second:,.0f} ticks/s"
    faults = f"gaps {figures.gaps}, decode errors {figures.decode_errors}"
    sums = f"{figures.received:,} received + {figures.lost:,} lost"
    verdict = "=" if figures.balanced else "≠"
    own = f"{figures.snapshot_levels:,} of books, {figures.statuses:,} statuses"
    sent = f"{figures.sent:,} sent, {figures.duplicates:,} twice, {own}"
    lines = [
        f"{figures.symbols} symbols, {figures.seconds:.1f} s, {rate}; {faults}",
        f"{sent}; {sums} {verdict} {figures.published:,} published",
    ]
    for hop, latency in figures.latency_ns.items():
        values = "  ".join(f"{name} {duration(latency[name])}" for name in _COLUMNS)
        lines.append(f"{HOP_NAMES[hop]:16} {values}")
    return "\n".join(lines)


def picture(figures: Figures, rates: Rates) -> RenderableType:
    """Return the live table."""
    from rich.columns import Columns
    from rich.console import Group
    from rich.panel import Panel

    head = _grid("right", "left", "right", "left", "right", "left")
    head.add_row(
        *("ticks/s", f"[bold green]{rates.total:,.0f}[/]"),
        *("published", f"[bold]{figures.published:,}[/]"),
        *("symbols", f"[bold]{figures.symbols}[/]"),
    )
    head.add_row(
        *("lost", _bad(figures.lost)),
        *("gaps", _bad(figures.gaps)),
        *("decode errors", _bad(figures.decode_errors)),
    )
    mode = "spinning on cores of their own" if figures.spins else "sleeping when idle"
    return Panel(
        Group(
            head,
            _latencies(figures.latency_ns),
            Columns([_rings(figures, rates), _movers(figures)], padding=(0, 4)),
        ),
        title="[bold]mdsys demo[/]  simulated venue → daemon → shared memory → consumer",
        subtitle=f"{RATE:,} messages/s, {figures.seconds:.1f} s, {mode}",
        padding=(1, 2, 0, 2),
        expand=False,
    )


def _grid(*justify: str) -> Table:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    for each in justify:
        grid.add_column(justify=each)  # type: ignore[arg-type]  # mypy sees a plain str
    return grid


def _table(*columns: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right")
    return table


def _bad(count: int) -> str:
    return f"[bold {'red' if count else 'green'}]{count:,}[/]"


def _latencies(latency_ns: Mapping[str, Mapping[str, int | None]]) -> Table:
    table = _table("latency", "p50", "p99", "p99.9", "max")
    for hop, latency in latency_ns.items():
        table.add_row(HOP_NAMES[hop], *(duration(latency[name]) for name in _COLUMNS))
    return table


def _rings(figures: Figures, rates: Rates) -> Table:
    table = _table("ring", "symbols", "ticks/s", "reader behind")
    for ring, rate in zip(figures.rings, rates.by_ring, strict=True):
        share = min(ring.behind / ring.depth, 1.0)
        full = round(share * _BAR_WIDTH)
        bar = f"[yellow]{'█' * full}[/][dim]{'·' * (_BAR_WIDTH - full)}[/] {share:4.0%}"
        table.add_row(str(ring.ring), str(ring.symbols), f"{rate:,.0f}", bar)
    return table


def _movers(figures: Figures) -> Table:
    table = _table("top movers", "last", "change", "trades")
    for mover in figures.movers:
        colour = "green" if mover["change"] >= 0 else "red"
        table.add_row(
            mover["symbol"],
            mover["price"],
            f"[{colour}]{mover['change']:+.3%}[/]",
            f"{mover['trades']:,}",
        )
    return table
