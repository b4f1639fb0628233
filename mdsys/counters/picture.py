"""Everything that an instance tells of itself at one moment, by the schema.

Shared memory tells of feeds, connections, rings, subscriptions and the supervisor, also when all
of them are dead. Who reads, how full the venues' limits are, and the words beside the numbers only
the living daemon knows: it is asked over its control socket, or, in its own process, hands over a
``Told`` that it has made itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from mdsys import _native
from mdsys.clock import SYSTEM_CLOCK, Clock
from mdsys.counters.counters import Histogram, parse_histogram, parse_words
from mdsys.counters.schema import Scope, fields
from mdsys.errors import HostError
from mdsys.record.record import ABSENT
from mdsys.ring.control_socket import NoDaemon, ask, connect
from mdsys.ring.door import behind_door, is_superseded, open_door
from mdsys.ring.lock import start_ticks
from mdsys.ring.segment import map_file, segment_path

STATES: Final = ("new", "running", "stopped", "superseded")
"""Of a segment: enum md_segment_state."""
CONNECTION_STATES: Final = ("free", "connecting", "open", "ready", "waiting", "denied")
"""Of a connection: enum md_connection_state."""
UP: Final = ("open", "ready")
"""States of a connection that has a socket."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing of a scope: a feed, a connection, a ring."""

    labels: Mapping[str, str]
    """What tells it from the others: ``mdsys.counters.schema.LABELS``."""
    values: Mapping[str, float | None]
    """Field -> value, as in the schema; None: not known, or there is none."""
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    words: Mapping[str, Any] = field(default_factory=dict)
    """What is no number: states, processes, a venue's words."""


@dataclass(frozen=True, slots=True)
class Told:
    """What only the daemon knows."""

    readers: Sequence[Row] = ()
    """Of the scope ``reader``; ``words["rings"]``: what is told of each of its rings."""
    limits: Sequence[Mapping[str, Any]] = ()
    """As ``status`` answers: what, scope, used, count, seconds, waiting."""
    connections: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Number -> what ``status`` answers of it: url, words, retry_s, its streams."""
    feeds: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Number -> what ``status`` answers of it: state, core."""
    answers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The whole answers ``readers`` and ``status``, where the daemon was asked for them."""
    silence_limits_ns: Mapping[int, int] = field(default_factory=dict)
    """Number of a connection -> silent for longer it is dialled anew."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An instance at one moment."""

    instance: str
    taken_ns: int
    state: str
    """Of the instance: running, stopped, dead (its supervisor was killed), superseded."""
    pid: int
    """Of the supervisor, now or at last."""
    alive: bool
    dir: Path
    rows: Mapping[Scope, Sequence[Row]]
    told: Told | None
    """None: the daemon was not asked, or did not answer."""
    why: str | None
    """Why there is no answer."""


class Observer:
    """Takes pictures of one instance, as often as wanted: its segments stay mapped.

    Args:
        instance: Its name.
        clock: What ages are measured against.

    Raises:
        NotRunning: There are no segments of this instance.
        NoPermission: This user may not read them.
        LayoutError: Another version of mdsys wrote them.
    """

    def __init__(self, instance: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self.instance = instance
        self._clock = clock
        self.symbols = open_door(instance)
        self.dir = Path(self.symbols.dir)
        with behind_door(instance, self.symbols):
            self.counters = _native.Counters(map_file(segment_path(self.dir, instance, "counters")))
            self.rings = [
                _native.Ring(map_file(segment_path(self.dir, instance, f"ring.{index}")))
                for index in range(self.symbols.ring_count)
            ]
        self._placed: Counter[int] = Counter()
        self._ticks_of: Callable[[int], int] = start_ticks
        self._placed_count = 0

    @property
    def is_superseded(self) -> bool:
        """Return whether other files bear these names now: make another observer."""
        return is_superseded(self.symbols)

    def take(self, told: Told | None = None, why: str | None = None) -> Picture:
        """Return how it stands, from shared memory and what the daemon has told.

        Args:
            told: From ``ask_daemon``, or made in the daemon itself; None: only shared memory.
            why: Why there is none.
        """
        now_ns = self._clock.now_ns()
        self._ticks_of = cache(start_ticks)  # many segments are of few processes
        known = told or Told()
        readers_known = told is not None
        feeds = [self._feed(feed, now_ns, known) for feed in range(len(self.counters))]
        alive = self._is_alive(self.symbols)
        return Picture(
            self.instance,
            now_ns,
            segment_state(self.symbols, self._ticks_of),
            self.symbols.writer_pid,
            alive,
            self.dir,
            {
                **self._supervisor(now_ns),
                "limiter": [_limit(limit) for limit in known.limits],
                "feed": feeds,
                "connection": [
                    _connection(feed, mark, now_ns, known, lost=alive and not row.values["up"])
                    for feed, row in enumerate(feeds)
                    for mark in self.counters.connections(feed)
                ],
                "ring": self._rings(now_ns, known.readers if readers_known else None),
                "reader": known.readers,
            },
            told,
            why,
        )

    def _is_alive(self, segment: _native.Segment) -> bool:
        return is_alive(segment, self._ticks_of)

    def _supervisor(self, now_ns: int) -> dict[Scope, Sequence[Row]]:
        system, subscriptions = fields("system"), fields("subscriptions")
        numbers, histograms = parse_words(
            self.counters.supervisor(), system + subscriptions, fields("system_histograms")
        )
        values: dict[str, float | None] = {name: numbers[name] for name in system}
        if not numbers["started_ns"]:  # a replay's, or one before the first second of its life
            values["started_ns"] = None
        values["up"] = int(self._is_alive(self.symbols))
        values["beat_age_ns"] = _age_ns(self.symbols.heartbeat_ns, now_ns)
        return {
            "system": [Row({}, values, histograms)],
            "subscriptions": [Row({}, {name: numbers[name] for name in subscriptions})],
        }

    def _feed(self, feed: int, now_ns: int, told: Told) -> Row:
        numbers, histograms = parse_words(
            self.counters.block(feed), fields("feeds"), fields("feed_histograms")
        )
        lives, _ = parse_words(self.counters.life(feed), fields("lives"))
        own = [ring for ring in self.rings if ring.feed == feed]
        alive = bool(own) and self._is_alive(own[0])
        values: dict[str, float | None] = {**numbers, **lives, "up": int(alive)}
        values["started_ns"] = lives["started_ns"] or None
        beat_ns = max((ring.heartbeat_ns for ring in own), default=0)
        values["beat_age_ns"] = _age_ns(beat_ns, now_ns)
        words = {
            "pid": own[0].writer_pid if own else None,
            "rings": [ring.index for ring in own],
            **told.feeds.get(feed, {}),
        }
        return Row({"feed": str(feed)}, values, histograms, words)

    def _rings(self, now_ns: int, readers: Sequence[Row] | None) -> list[Row]:
        placed = self._placement()
        lags: dict[int, list[int]] = {ring.index: [] for ring in self.rings}
        for reader in readers or ():
            for each in reader.words["rings"]:
                lags[each["ring"]].append(each["lag"])
        return [
            Row(
                {"ring": str(ring.index), "feed": str(ring.feed)},
                {
                    "head": ring.head,
                    "depth": ring.depth,
                    "epoch": ring.epoch,
                    "symbols": placed[ring.index],
                    "unread": None if readers is None else max(lags[ring.index], default=0),
                    "readers": None if readers is None else len(lags[ring.index]),
                    "watermark_age_ns": _age_ns(ring.watermark_ns, now_ns),
                },
                words={"state": segment_state(ring, self._ticks_of)},
            )
            for ring in self.rings
        ]

    def _placement(self) -> Counter[int]:
        """Return ring -> symbols; entries are only ever added."""
        count = len(self.symbols)
        for symbol_id in range(self._placed_count + 1, count + 1):
            self._placed[self.symbols.entry(symbol_id)[2]] += 1
        self._placed_count = count
        return self._placed


def take(instance: str, clock: Clock = SYSTEM_CLOCK) -> Picture:
    """Return how an instance stands, its daemon asked if it lives.

    Raises:
        NotRunning: There are no segments of this instance.
        NoPermission: This user may not read them.
        LayoutError: Another version of mdsys wrote them.
    """
    observer = Observer(instance, clock)
    try:
        return observer.take(ask_daemon(instance, observer.symbols.writer_pid))
    except (NoDaemon, HostError) as error:
        return observer.take(why=str(error))


def ask_daemon(instance: str, writer_pid: int) -> Told:
    """Return what the daemon of an instance tells.

    Args:
        instance: Its name.
        writer_pid: Who writes its symbol directory.

    Raises:
        NoDaemon: There is none.
        HostError: It does not answer, or does not let us in.
    """
    with connect(instance, writer_pid) as connection:
        readers, _ = ask(connection, {"op": "readers", "histograms": True})
        try:
            status, _ = ask(connection, {"op": "status"})
        except HostError:  # a replay has readers, and no venues
            status = {}
    return Told(
        [told_reader(each) for each in readers["readers"]],
        status.get("limits", ()),
        {each["connection"]: each for each in status.get("connections", ())},
        {each["feed"]: each for each in status.get("feeds", ())},
        {"readers": readers, "status": status},
    )


def reader_row(shown: Mapping[str, Any], histograms: Mapping[str, Histogram]) -> Row:
    """Return the row of a reader.

    Args:
        shown: What the request ``readers`` answers of it.
        histograms: Those of its page, whole.
    """
    values: dict[str, float | None] = {name: shown[name] for name in fields("readers")}
    values |= {
        "polls": shown["polls"],
        "lag": shown["lag"],
        "batch": shown["batch"]["now"],
        "idle_ns": shown["idle_s"] * 1e9,
        "rings_read": len(shown["rings"]),
        "rings_ejected": sum(ring["ejected"] is not None for ring in shown["rings"]),
    }
    labels = {"reader": shown["name"], "number": str(shown["reader"])}
    return Row(labels, values, histograms, shown)


def told_reader(shown: Mapping[str, Any]) -> Row:
    """Return a reader's row of what the daemon answers to ``readers`` with histograms."""
    return reader_row(
        shown, {name: from_sparse(each) for name, each in shown["histograms"].items()}
    )


def to_sparse(words: bytes) -> list[Any]:
    """Return a histogram as JSON has it: sum, least, largest, and the buckets that hold anything.

    Of each of these index and count; those of negative values follow the others.
    """
    head = np.frombuffer(words, "<i8", 4)
    buckets = np.frombuffer(words, "<u8", offset=32)
    filled = np.flatnonzero(buckets)
    pairs = np.stack((filled.astype(np.uint64), buckets[filled]), axis=1)  # a count may be any
    return [*head[1:].tolist(), pairs.tolist()]


def from_sparse(sparse: Sequence[Any]) -> Histogram:
    """Return the histogram that ``to_sparse`` was given."""
    *head, pairs = sparse
    words = np.zeros(4 + 2 * _native.histogram_buckets(), "<u8")
    words[1:4] = np.array(head, np.int64).view(np.uint64)
    for bucket, count in pairs:
        words[4 + bucket] = count
    return parse_histogram(words)


def _connection(
    feed: int,
    mark: Mapping[str, Any],
    now_ns: int,
    told: Told,
    *,
    lost: bool,
) -> Row:
    """Return the row of a connection; ``lost``: its feed has died, and will be replaced."""
    number = mark["connection"]
    state = CONNECTION_STATES[mark["state"]] if mark["state"] < len(CONNECTION_STATES) else "?"
    if lost and state != "denied":  # who was killed marks nothing any more, and has no sockets
        state = "waiting"
    shown = told.connections.get(number, {})
    values: dict[str, float | None] = {
        name: mark[name] for name in ("frames", "bytes", "records", "opens")
    }
    values |= {f"state_{each}": int(each == state) for each in CONNECTION_STATES[1:]}
    values |= {
        "offset_ns": None if mark["offset_ns"] == ABSENT else mark["offset_ns"],
        "state_age_ns": _age_ns(mark["since_ns"], now_ns),
        "last_frame_age_ns": _age_ns(mark["last_frame_ns"], now_ns),
        "silence_limit_ns": told.silence_limits_ns.get(number),
        "last_data_age_ns": _age_ns(mark["last_data_ns"], now_ns),
        "reconnects": max(0, mark["opens"] - 1),
    }
    venue = shown.get("venue") or mark["venue"].lower()
    labels = {"connection": str(number), "venue": venue, "feed": str(feed)}
    return Row(labels, values, words={**shown, "state": state})


def _limit(limit: Mapping[str, Any]) -> Row:
    seconds = limit["seconds"]
    return Row(
        {
            "limit": limit["what"],
            "scope": limit["scope"],
            "window": "" if seconds is None else f"{seconds:g}s",
        },
        {
            "used": limit["used"],
            "count": limit["count"],
            "fill": limit["used"] / limit["count"] if limit["count"] else None,
            "waiting": limit["waiting"],
        },
    )


def is_alive(segment: _native.Segment, ticks_of: Callable[[int], int] = start_ticks) -> bool:
    """Return whether the process that wrote last still lives, and is no other with its number.

    Args:
        segment: Anyone's.
        ticks_of: Process -> when it started, 0: there is none.
    """
    ticks = ticks_of(segment.writer_pid)
    return ticks != 0 and ticks == segment.writer_start_ticks


def segment_state(segment: _native.Segment, ticks_of: Callable[[int], int] = start_ticks) -> str:
    """Return the segment's state; ``dead`` is one that a writer that was killed left running."""
    state = STATES[segment.state] if segment.state < len(STATES) else f"unknown {segment.state}"
    return "dead" if state == "running" and not is_alive(segment, ticks_of) else state


def _age_ns(time_ns: int, now_ns: int) -> int | None:
    """Return how long ago that was; None: never. What has come since ``now_ns`` was now."""
    return max(now_ns - time_ns, 0) if time_ns else None
