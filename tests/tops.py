"""What ``mdsys top`` shows, without a daemon: looks made by hand, and what feeds the view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mdsys import _native
from mdsys.counters.counters import Histogram
from mdsys.counters.picture import Row
from mdsys.top.daemon_words import told
from mdsys.top.source import Look
from mdsys.top.symbols import Ranking, SymbolRow

NOW = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
LATENCY = {"count": 9, "min": 1, "p50": 1_500, "p99": 23_000, "p999": 40_000, "max": 90_000}


def histogram(counts: Mapping[int, int]) -> Histogram:
    """Return a distribution: bucket -> how many."""
    size = _native.histogram_buckets()
    positive, negative = np.zeros(size, np.uint64), np.zeros(size, np.uint64)
    for bucket, count in counts.items():
        positive[bucket] = count
    return Histogram(0, 0, 1 << 40, positive, negative)


def mark(number: int = 1, feed: int = 0, state: str = "ready", **changes: Any) -> Row:
    """Return what is known of a connection: values by their names, words by theirs."""
    values: dict[str, float | None] = {
        "state_age_ns": 60 * SECOND,
        "last_frame_age_ns": SECOND // 10,
        "frames": 1_000,
        "bytes": 100_000,
        "records": 2_000,
        "opens": 1,
        "reconnects": 0,
        "offset_ns": None,
    }
    words = {"state": state, "symbols": 100, "ticking": 300, "refused": 0, "words": None}
    words |= {name: each for name, each in changes.items() if name not in values}
    values |= {name: each for name, each in changes.items() if name in values}
    labels = {"connection": str(number), "venue": "binance", "feed": str(feed)}
    return Row(labels, values, words=words)


def told_connection(number: int = 1, **changes: Any) -> dict[str, Any]:
    """Return what the daemon tells of a connection."""
    return {
        "connection": number,
        "venue": "binance",
        "feed": 0,
        "state": "ready",
        "since_s": 60.0,
        "symbols": 100,
        "ticking": 300,
        "refused": 0,
        "reconnects": 0,
        "last_frame_s": 0.1,
        "clock_offset_ns": None,
        "words": None,
        **changes,
    }


def reader(number: int = 1, **changes: Any) -> Row:
    """Return what the daemon tells of a reader."""
    values = {
        "received": 1_000,
        "lag": 3,
        "dropped": 0,
        "lost": 0,
        "batch": 1,
        "rings_ejected": 0,
        **changes,
    }
    words = {
        "pid": 4_000 + number,
        "policy": "drop_oldest",
        "wait": "adaptive",
        "idle_s": 0.0,
        "latency_ns": {"recv_to_handler": LATENCY},
    }
    labels = {"reader": f"strategy-{number}", "number": str(number)}
    return Row(labels, values, {}, words)


def ring(number: int = 0, **changes: Any) -> Row:
    """Return a ring."""
    values = {
        "head": 10_000,
        "depth": 4_096,
        "symbols": 50,
        "unread": 3,
        "readers": 1,
        "watermark_age_ns": SECOND // 20,
        **changes,
    }
    labels = {"ring": str(number), "feed": "0"}
    return Row(labels, values, words={"state": "running"})


def feed(number: int = 0, *, up: int = 1, state: str = "running") -> Row:
    """Return a feed."""
    return Row({"feed": str(number)}, {"up": up}, words={"state": state})


def status(*connections: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the daemon tells of everything."""
    return {"connections": list(connections), "feeds": [], "limits": []}


def look(**changes: Any) -> Look:
    """Return a look at a small instance that is well."""
    made = Look(
        time_ns=NOW,
        instance="unit",
        state="running",
        pid=4711,
        age_s=8_040.0,
        symbols=100,
        counters={"frames": 100, "bytes": 10_000},
        system={},
        subscriptions={"desired": 1, "ticking": 300},
        hops={"event_to_recv": histogram({}), "recv_to_ring": histogram({100: 10})},
        feeds=[feed()],
        rings=[ring(0), ring(1)],
        connections=[mark()],
        told=told([reader()], status()),
    )
    return replace(made, **changes)


def later(then: Look, seconds: float = 0.5, **changes: Any) -> Look:
    """Return a look some time after another."""
    return replace(then, time_ns=then.time_ns + int(seconds * SECOND), **changes)


def symbol(name: str, **changes: Any) -> SymbolRow:
    """Return a symbol."""
    return replace(SymbolRow(name, 0, 12.0, 0.2, lambda: "61540.01"), **changes)


class Fed:
    """Feeds the view with what a test gives it."""

    def __init__(self, first: Look | None = None) -> None:
        self.next = first or look()
        self.serial: object = self
        self.waiting_for = ""
        self.hottest: Sequence[SymbolRow] = [symbol("BINANCE:BTCUSDT")]
        self.stalest: Sequence[SymbolRow] = [symbol("BINANCE:XLMUSDT", rate=0.0, age_s=90.0)]
        self.patterns: list[str] = []
        self.answers: dict[str, Mapping[str, Any]] = {}

    def look(self) -> Look:
        """Return the next."""
        return self.next

    def ranking(self, look: Look, pattern: str) -> Ranking:
        """Return the symbols that a test has given."""
        self.patterns.append(pattern)
        return Ranking(self.hottest, self.stalest, len(self.hottest), 0, look.symbols)

    def explain(self, symbol: str) -> Mapping[str, Any]:
        """Return what a test has the daemon answer."""
        return self.answers[symbol]
