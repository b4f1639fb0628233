"""The tables' columns: title, width, what is sorted by, what stands there, and when it is amiss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

from mdsys.counters.picture import UP
from mdsys.top.rows import FRAME_OLD_S, WATERMARK_OLD_S, ConnectionRow, ReaderRow, RingRow
from mdsys.top.symbols import SymbolRow
from mdsys.wording import NONE, byte_count, duration, share, span

Tone = Literal["plain", "dim", "bold", "warn", "bad"]
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Column(Generic[R]):
    """One column."""

    title: str
    width: int
    value: Callable[[R], Any]
    """What is sorted by; None stands last either way."""
    text: Callable[[R], str]
    tone: Callable[[R], Tone] = lambda _: "plain"
    need: int = 0
    """Where there is not room for all, those with the greatest go first; 0: never."""
    left: bool = False
    """Whether it is words, that begin on the left."""
    descending: bool = False
    """Which way it is first sorted."""
    grows: bool = False
    """Whether it takes the room that is left."""


@dataclass(frozen=True, slots=True)
class Layout(Generic[R]):
    """One table."""

    title: str
    columns: Sequence[Column[R]]
    sort: str
    """Title of the column that it is sorted by at first."""
    name: Callable[[R], str]
    """What the filter looks at."""


def fit(columns: Sequence[Column[R]], width: int) -> list[tuple[Column[R], int]]:
    """Return the columns that have room, with their widths: two blanks stand between them."""
    kept = list(columns)
    while sum(each.width + 2 for each in kept) - 2 > width:
        least = max(kept, key=lambda each: each.need)
        if least.need == 0:
            break
        kept.remove(least)
    left = width - (sum(each.width + 2 for each in kept) - 2)
    growing = next((each for each in kept if each.grows), None)
    return [(each, each.width + max(left, 0) * (each is growing)) for each in kept]


def ordered(rows: Sequence[R], column: Column[R], *, descending: bool) -> list[R]:
    """Return the rows sorted; equals keep their order, and None stands last either way."""
    there = [row for row in rows if column.value(row) is not None]
    rest = [row for row in rows if column.value(row) is None]
    return sorted(there, key=column.value, reverse=descending) + rest


def count(value: float) -> str:
    """Return ``12,345``; from a billion on ``1.2 bn``, since a column holds eleven characters."""
    return f"{value:,.0f}" if value < 999_999_999.5 else f"{value / 1e9:,.1f} bn"


def per_second(value: float) -> str:
    """Return a rate: digits where it is small, ``0`` only of nothing."""
    return f"{value:,.1f}" if 0 < value < 9.95 else f"{value:,.0f}"


def _seconds(value: float | None) -> str:
    return NONE if value is None else duration(value * 1e9) if value >= 0.0005 else "0 ms"


def latency(ns: float | None) -> str:
    """Return a duration in eight characters: from two minutes on its largest unit alone."""
    return " ".join(duration(ns).split()[:2])


def _age(seconds: float | None) -> str:
    """Return an age that does not flicker: what came within a second came now."""
    return NONE if seconds is None else "now" if seconds < 1 else span(seconds)


def _or(value: object | None) -> str:
    return NONE if value is None else count(value) if isinstance(value, int) else str(value)


def _state(row: RingRow | ConnectionRow) -> Tone:
    if row.state in ("denied", "dead", "gone"):
        return "bad"
    return "dim" if row.state in (*UP, "running") else "warn"


def _old(row: RingRow) -> Tone:
    return "warn" if row.age_s is None or row.age_s > WATERMARK_OLD_S else "dim"


RINGS: Final[Layout[RingRow]] = Layout(
    "rings",
    (
        Column("ring", 4, lambda r: r.ring, lambda r: str(r.ring)),
        Column("feed", 4, lambda r: r.feed, lambda r: str(r.feed), need=5),
        Column("state", 9, lambda r: r.state, lambda r: r.state, _state, need=4, left=True),
        Column("records/s", 10, lambda r: r.rate, lambda r: per_second(r.rate), descending=True),
        Column(
            "fill",
            5,
            lambda r: r.fill,
            lambda r: NONE if r.fill is None else share(r.fill),
            lambda r: (
                "bad" if (r.fill or 0) >= 0.8 else "warn" if (r.fill or 0) >= 0.5 else "plain"
            ),
            descending=True,
        ),
        Column("watermark", 11, lambda r: r.age_s, lambda r: _age(r.age_s), _old),
        Column("holds", 11, lambda r: r.holds_s, lambda r: _seconds(r.holds_s), need=3),
        Column("symbols", 10, lambda r: r.symbols, lambda r: count(r.symbols), need=6),
        Column("records", 11, lambda r: r.head, lambda r: count(r.head), need=7, descending=True),
        Column("slots", 11, lambda r: r.depth, lambda r: count(r.depth), need=8),
    ),
    "ring",
    lambda r: f"ring {r.ring} feed {r.feed}",
)


READERS: Final[Layout[ReaderRow]] = Layout(
    "readers",
    (
        Column("reader", 12, lambda r: r.reader, lambda r: r.reader, left=True, grows=True),
        Column(
            "records/s",
            10,
            lambda r: r.rate,
            lambda r: per_second(r.rate),
            need=1,
            descending=True,
        ),
        Column(
            "lag",
            11,
            lambda r: r.lag,
            lambda r: count(r.lag),
            lambda r: "warn" if r.losing else "plain",
            descending=True,
        ),
        Column(
            "dropped",
            11,
            lambda r: r.dropped,
            lambda r: count(r.dropped),
            lambda r: "warn" if r.losing and r.dropped else "plain" if r.dropped else "dim",
            need=1,
            descending=True,
        ),
        Column(
            "lost",
            11,
            lambda r: r.lost,
            lambda r: count(r.lost),
            lambda r: "bad" if r.losing and r.lost else "plain" if r.lost else "dim",
            descending=True,
        ),
        Column("batch", 7, lambda r: r.batch, lambda r: _or(r.batch), need=3, descending=True),
        Column("p50", 7, lambda r: r.p50, lambda r: latency(r.p50), need=4, descending=True),
        Column("p99", 7, lambda r: r.p99, lambda r: latency(r.p99), need=2, descending=True),
        Column(
            "idle",
            11,
            lambda r: r.idle_s,
            lambda r: _seconds(r.idle_s) if r.idle_s >= 1 else "no",
            lambda r: "warn" if r.idle_s >= 5 else "dim",
            need=5,
            descending=True,
        ),
        Column(
            "policy",
            11,
            lambda r: r.policy,
            lambda r: r.policy,
            lambda r: "bad" if r.ejected else "dim",
            need=6,
            left=True,
        ),
        Column("wait", 8, lambda r: r.wait, lambda r: r.wait, lambda _: "dim", need=7, left=True),
        Column("pid", 8, lambda r: r.pid, lambda r: str(r.pid), lambda _: "dim", need=8),
    ),
    "lag",
    lambda r: r.reader,
)

CONNECTIONS: Final[Layout[ConnectionRow]] = Layout(
    "connections",
    (
        Column("conn", 4, lambda r: r.connection, lambda r: str(r.connection)),
        Column("venue", 17, lambda r: r.venue, lambda r: _or(r.venue), left=True, need=2),
        Column("state", 10, lambda r: r.state, lambda r: r.state, _state, left=True),
        Column(
            "frame",
            11,
            lambda r: r.age_s,
            lambda r: _age(r.age_s),
            lambda r: "warn" if r.age_s is None or r.age_s > FRAME_OLD_S else "plain",
            descending=True,
        ),
        Column(
            "records/s",
            9,
            lambda r: r.records,
            lambda r: per_second(r.records),
            need=1,
            descending=True,
        ),
        Column(
            "frames/s",
            8,
            lambda r: r.frames,
            lambda r: per_second(r.frames),
            need=5,
            descending=True,
        ),
        Column(
            "bytes/s", 7, lambda r: r.size, lambda r: byte_count(r.size), need=3, descending=True
        ),
        Column(
            "lost",
            6,
            lambda r: r.reconnects,
            lambda r: count(r.reconnects),
            lambda r: "warn" if r.lost else "plain" if r.reconnects else "dim",
            need=1,
            descending=True,
        ),
        Column("symbols", 7, lambda r: r.symbols, lambda r: _or(r.symbols), need=7),
        Column("ticking", 7, lambda r: r.ticking, lambda r: _or(r.ticking), need=8),
        Column(
            "refused",
            7,
            lambda r: r.refused,
            lambda r: _or(r.refused),
            lambda r: "bad" if r.refused else "dim",
            need=4,
            descending=True,
        ),
        Column("clock", 8, lambda r: r.offset_ns, lambda r: latency(r.offset_ns), need=9),
        Column("since", 11, lambda r: r.since_s, lambda r: _seconds(r.since_s), need=10),
        Column(
            "words",
            8,
            lambda r: r.words,
            lambda r: "" if r.state in UP else r.words,
            lambda _: "dim",
            need=6,
            left=True,
            grows=True,
        ),
    ),
    "conn",
    lambda r: f"{r.connection} {r.venue or ''} {r.state} feed {r.feed}",
)


def _symbols(title: str, sort: str) -> Layout[SymbolRow]:
    return Layout(
        title,
        (
            Column("symbol", 16, lambda r: r.symbol, lambda r: r.symbol, left=True, grows=True),
            Column(
                "changes/s",
                9,
                lambda r: r.rate,
                lambda r: per_second(r.rate),
                need=int(sort != "changes/s"),
                descending=True,
            ),
            Column(
                "last tick",
                11,
                lambda r: r.age_s,
                lambda r: _age(r.age_s),
                need=int(sort != "last tick"),
                descending=True,
            ),
            Column("last price", 15, lambda _: None, lambda r: _or(r.last()), need=2),
            Column("ring", 4, lambda r: r.ring, lambda r: str(r.ring), lambda _: "dim", need=3),
        ),
        sort,
        lambda r: r.symbol,
    )


HOTTEST: Final = _symbols("hottest symbols", "changes/s")
STALEST: Final = _symbols("stalest symbols", "last tick")

LAYOUTS: Final[Mapping[str, Layout[Any]]] = {
    "connections": CONNECTIONS,
    "readers": READERS,
    "rings": RINGS,
    "hottest": HOTTEST,
    "stalest": STALEST,
}
"""All, in the order that Tab goes."""
