"""What each table shows, a dataclass a row: rates from the history, words from the daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from mdsys.counters.picture import UP, Row
from mdsys.top.history import History
from mdsys.wording import plural, printable

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
WATERMARK_OLD_S: Final = 2.0
"""A writer that lives says twenty times a second that it is up to date."""
FRAME_OLD_S: Final = 30.0
REPLACED: Final = "replaced"
"""Of a ring, as of the whole instance: other files bear its name now."""
LOSSES: Final = {
    "gap_ids": "ids missing",
    "capture_lost_frames": "frames not recorded",
    "readers_ejected": "readers ejected",
    "frames_malformed": "malformed frames",
    "frames_unknown_event": "unknown events",
    "frames_value_refused": "values refused",
    "frames_too_long": "frames too long",
    "frames_protocol": "broken connections",
    "book_mismatches": "wrong checksums",
}
"""Counters that should stand still, and their words in the line of troubles."""


@dataclass(frozen=True, slots=True)
class RingRow:
    """One ring."""

    ring: int
    feed: int
    state: str
    rate: float
    fill: float | None
    """The part of it that its slowest reader has still to read; None: no reader is known."""
    holds_s: float | None
    """How long it takes to write it full, at this rate; None: nothing comes."""
    age_s: float | None
    """Since its writer last was up to date; None: never."""
    symbols: int
    head: int
    depth: int


@dataclass(frozen=True, slots=True)
class ReaderRow:
    """One registered reader."""

    reader: str
    pid: int
    policy: str
    wait: str
    rate: float
    lag: int
    dropped: int
    lost: int
    batch: int | None
    """Records that it asks for at a time; None: each of its calls says how many."""
    idle_s: float
    p50: int | None
    p99: int | None
    losing: bool
    """Whether it lost or dropped any within the last minute."""
    ejected: bool


@dataclass(frozen=True, slots=True)
class ConnectionRow:
    """One connection."""

    connection: int
    venue: str | None
    feed: int
    state: str
    since_s: float
    age_s: float | None
    """Since the last frame; None: there was none."""
    frames: float
    records: float
    size: float
    """Bytes a second."""
    reconnects: int
    symbols: int | None
    ticking: int | None
    refused: int | None
    offset_ns: int | None
    words: str
    lost: bool
    """Whether its socket was lost within the last minute."""


def ring_rows(history: History) -> list[RingRow]:
    """Return the rings."""
    then = {ring.labels["ring"]: ring.values for ring in history.earliest.rings}
    found = []
    for ring in history.look.rings:
        values = ring.values
        rate = history.rate(values["head"], then.get(ring.labels["ring"], NOTHING).get("head"))
        depth, unread = _whole(values["depth"]), values["unread"]
        found.append(
            RingRow(
                int(ring.labels["ring"]),
                int(ring.labels["feed"]),
                REPLACED if ring.words["state"] == "superseded" else ring.words["state"],
                rate,
                None if unread is None or not values["readers"] else min(unread / depth, 1.0),
                depth / rate if rate else None,
                _seconds(values["watermark_age_ns"]),
                _whole(values["symbols"]),
                _whole(values["head"]),
                depth,
            )
        )
    return found


def reader_rows(history: History) -> list[ReaderRow] | None:
    """Return the registered readers; None: the daemon does not tell."""
    told = history.look.told.readers
    return None if told is None else [_reader_row(history, reader) for reader in told]


def _reader_row(history: History, reader: Row) -> ReaderRow:
    number, values, words = reader.labels["number"], reader.values, reader.words
    latency = words["latency_ns"]["recv_to_handler"]
    if not latency["count"]:  # it has no handlers: how old what it reads is
        latency = words["latency_ns"].get("recv_to_read", latency)
    losing = [history.grew((number, name), _whole(values[name])) for name in ("lost", "dropped")]
    return ReaderRow(
        printable(reader.labels["reader"]),
        words["pid"],
        words["policy"],
        words["wait"],
        history.told_rate((number, "received"), _whole(values["received"])),
        _whole(values["lag"]),
        _whole(values["dropped"]),
        _whole(values["lost"]),
        _whole(values["batch"]) or None,  # poll() and its kin keep no size
        words["idle_s"],
        latency["p50"],
        latency["p99"],
        losing=any(losing),
        ejected=bool(values["rings_ejected"]),
    )


def connection_rows(history: History) -> list[ConnectionRow]:
    """Return the connections: those that their feeds have marked, and what the daemon adds."""
    now = history.look
    told = {
        each["connection"]: each for each in (now.told.status or NOTHING).get("connections", ())
    }
    then = {_key(each): each.values for each in history.earliest.connections}
    alive = {feed.labels["feed"] for feed in now.feeds if feed.values["up"]}
    found = []
    for each in now.connections:
        number, values = int(each.labels["connection"]), each.values
        told.pop(number, None)
        before = then.get(_key(each), NOTHING)
        frames, records, size = (
            history.rate(values[name], before.get(name)) for name in ("frames", "records", "bytes")
        )
        # Who has ended marks nothing any more, and has no sockets.
        state = each.words["state"] if each.labels["feed"] in alive else "gone"
        found.append(
            ConnectionRow(
                number,
                each.labels["venue"] or None,
                int(each.labels["feed"]),
                state,
                _seconds(values["state_age_ns"]) or 0.0,
                _seconds(values["last_frame_age_ns"]),
                frames,
                records,
                size,
                _whole(values["reconnects"]),
                each.words.get("symbols"),
                each.words.get("ticking"),
                each.words.get("refused"),
                None if values["offset_ns"] is None else int(values["offset_ns"]),
                printable(each.words.get("words") or ""),
                history.grew(("opens", _key(each)), _whole(values["opens"])),
            )
        )
    return found + [_planned(each) for each in told.values()]


def _planned(words: Mapping[str, Any]) -> ConnectionRow:
    """Return a connection that its feed has not begun with."""
    return ConnectionRow(
        words["connection"],
        words["venue"],
        words["feed"],
        words["state"],
        words["since_s"],
        words["last_frame_s"],
        *(0.0, 0.0, 0.0),
        words["reconnects"],
        words["symbols"],
        words["ticking"],
        words["refused"],
        words["clock_offset_ns"],
        printable(words["words"] or ""),
        lost=False,
    )


def _key(connection: Row) -> tuple[str, str]:
    return connection.labels["feed"], connection.labels["connection"]


def _whole(value: float | None) -> int:
    return int(value or 0)


def _seconds(age_ns: float | None) -> float | None:
    return None if age_ns is None else max(age_ns, 0) / 1e9


def troubles(
    history: History,
    readers: Sequence[ReaderRow] | None,
    connections: Sequence[ConnectionRow],
) -> list[str]:
    """Return what is wrong now, the worst first; nothing of what was wrong an hour ago."""
    now = history.look
    found = []
    if now.running:
        gone = [feed.labels["feed"] for feed in now.feeds if not feed.values["up"]]
        if gone:
            found.append(f"feed {', '.join(gone)} gone")
        states = [feed.words.get("state") for feed in now.feeds]
        if hung := states.count("hung"):
            found.append(f"{plural(hung, 'feed')} hung")
    denied = sum(each.state == "denied" for each in connections)
    if denied:
        found.append(f"{plural(denied, 'connection')} denied")
    if now.running:
        down = sum(each.state not in (*UP, "denied") for each in connections)
        if down:
            found.append(f"{plural(down, 'connection')} down")
    if lost := sum(each.lost for each in connections):
        found.append(f"{plural(lost, 'connection')} back within a minute")
    streams = {state: _whole(now.subscriptions.get(state)) for state in ("stale", "refused")}
    found += [
        f"{count:,} {'stream' if count == 1 else 'streams'} {state}"
        for state, count in streams.items()
        if count
    ]
    losses = {name: _whole(now.counters.get(name)) for name in LOSSES}
    found += [
        f"{LOSSES[name]} ({count:,} in all)"
        for name, count in losses.items()
        if history.grew(name, count)
    ]
    for reader in readers or ():
        if reader.losing:
            given_up = f"{reader.lost:,} lost, {reader.dropped:,} dropped"
            found.append(f"reader {reader.reader} falls behind: {given_up}")
        if reader.ejected:
            found.append(f"reader {reader.reader} is no longer lossless")
    if now.running and now.told.why:
        found.append(now.told.why)
    return found
