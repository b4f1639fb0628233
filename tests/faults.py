"""How each fault strikes the venues of a scene, and until when it is watched (tests/episodes.py).

A strike plays one episode: it does what goes wrong at all the venues, and reads until each of them
is well again. What it saw is judged by the rows of tests/system/test_faults.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import mdsys
from mdsys import Status
from tests.episodes import Scene, Seen, reconnects, venue_ticks, wanted
from tests.simulated import (
    ALL,
    FIELDS,
    SOLITARY,
    channels,
    connections_of,
    full,
)

OVERSIZE: Final = 17 << 20
LONG_S: Final = 60.0
"""A daemon that stood still for a second while it learned is patient for longer."""
PUBLIC: Final = tuple(venue for venue in ALL if venue not in FIELDS)
UPS_AND_DOWNS: Final = (Status.CONNECTION_DOWN, Status.CONNECTION_UP)

Strike = Callable[[Scene], None]
Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stage:
    """A scene's arguments: what the episodes share that follow one another on it."""

    options: Mapping[str, Any] = field(default_factory=dict)
    is_slow: bool = False
    """It waits for the daemon's patience, with little to do."""


STAGES: Final[Mapping[str, Stage]] = {
    "turned away": Stage(
        {
            "ready": False,
            "faults": {
                venue: "http,status=429,connection=1,count=1,words=slow down"
                + (
                    ""
                    if venue in SOLITARY
                    else ";http,status=406,connection=2,count=1,words=not now"
                )
                for venue in ALL
            },
        },
        is_slow=True,
    ),
    "pairs": Stage({"per_connection": 2}, is_slow=True),
    "mute": Stage(is_slow=True),
    "half-open": Stage(is_slow=True),
    "frames": Stage(),
    "sockets": Stage(),
    "keys": Stage(),
    "stale keys": Stage(
        {
            "ready": False,
            "word": "stale",
            "faults": dict.fromkeys(PUBLIC, "http,status=403,words=go away"),
        }
    ),
    "refused": Stage(
        {
            "ready": False,
            "per_connection": 2,
            "faults": dict.fromkeys(ALL, "refuse,symbol=*SYM000001,words=out of order"),
        }
    ),
}


def losses(seen: Seen) -> list[Status]:
    """Return what connections did."""
    return [each.what for each in seen.said if each.what in UPS_AND_DOWNS]


# ---- a socket ends, or falls silent --------------------------------------------------------------


def socket_loss(fault: str, **options: Any) -> Strike:
    """Return what ends a socket of each venue."""

    def strike(now: Scene) -> None:
        for venue in now.episode.venues:
            now.strike(venue, fault, **options)
        until_back(now)

    return strike


def until_back(now: Scene) -> None:
    """Wait until one connection has been lost, is back, and everything ticks."""

    def is_back(venue: str, seen: Seen, answer: Answer) -> bool:
        return (
            reconnects(answer, venue) == now.episode.reconnects[venue] + 1
            and losses(seen) == list(UPS_AND_DOWNS)
            and venue_ticks(venue, seen, answer)
        )

    now.until(is_back)
    now.until_more()


def learned(now: Scene, silence_max_s: float = 60.0) -> None:
    """Wait until the daemon knows the habits of all streams: before it, silence means nothing.

    Args:
        now: The scene.
        silence_max_s: No stream may be silent for longer; the more ticks it has seen, the less.
    """
    control = mdsys.control(now.name)

    def knows(venue: str, _: Seen, __: Answer) -> bool:
        return all(
            (stream["silence_max_s"] or LONG_S + 1) <= silence_max_s
            for index in range(2)
            for stream in control.status(full(venue, index))["streams"]
        )

    now.until(knows, patience_s=LONG_S)


def silence(fault: str) -> Strike:
    """Return what lets a socket of each venue fall silent."""
    loses = socket_loss(fault)

    def strike(now: Scene) -> None:
        learned(now)
        loses(now)

    return strike


def mute_symbol(now: Scene) -> None:
    """One symbol of two on a socket falls silent."""
    learned(now, 14.0)
    venues = now.episode.venues
    mutes = {
        venue: now.sims.inject(venue, "mute", symbol="*SYM000001", connection=1) for venue in venues
    }

    def told(venue: str, seen: Seen, _: Answer) -> bool:
        return seen.count(Status.STALE) >= len(channels(venue))

    now.until(told, patience_s=LONG_S)
    for venue, mute in mutes.items():
        now.sims.lift(venue, mute)
    now.until(venue_ticks)
    now.until_more()


# ---- frames that are wrong, missing, double or late ----------------------------------------------


def malformed(now: Scene) -> None:
    """A frame comes that nobody can use."""
    for venue in now.episode.venues:
        now.strike(venue, "malformed")
    now.until(lambda _, seen, __: seen.count(Status.FRAME_REFUSED) > 0)
    now.until(venue_ticks)
    now.until_more()


def misplaced(fault: str) -> Strike:
    """Return what makes a frame of trades be missing, come twice, or late."""

    def strike(now: Scene) -> None:
        names = ("duplicates", "reordered", "gaps", "gap_ids")
        before = {name: now.counter(name) for name in names}
        for venue in now.episode.venues:
            options: dict[str, Any] = {"kind": "trade"}
            if venue == "coinbase_advanced":  # a frame of many trades has no kind
                options = {"kind": "other"}
            elif venue in SOLITARY:  # nor has one of many events: a trade is among so many
                options = {"kind": "other", "count": 40}
            now.strike(venue, fault, **options)
        for _ in range(3):
            now.until_more()
        now.until(venue_ticks)
        now.episode.counted = {name: now.counter(name) - before[name] for name in names}

    return strike


def book_hole(now: Scene) -> None:
    """A change of a book goes missing."""
    for venue in now.episode.venues:
        # Kraken numbers nothing: what its checksum cannot tell has done no harm.
        now.strike(venue, "hole", kind="depth", count=5)
    now.until(lambda _, seen, __: seen.count(Status.RESYNC) > 0)
    with mdsys.attach(now.name) as md:

        def usable(venue: str, _: Seen, __: Answer) -> bool:
            books = [md.book(symbol) for symbol in wanted(venue)]
            return all(book is not None and book.usable for book in books)

        now.until(usable)
        now.until_more()
        now.until(usable)


# ---- the venue itself ----------------------------------------------------------------------------


def clock_ahead(now: Scene) -> None:
    """The venues' clocks jump a minute ahead."""
    for venue in now.episode.venues:
        now.sims.inject(venue, "clock", ahead=60)
    now.until_more()
    now.until(lambda _, seen, __: max(seen.ahead_ns, default=0) > 55_000_000_000)
    now.until(venue_ticks)
    now.episode.state_then = now.state()


def planned_close(now: Scene) -> None:
    """The venue says that it leaves, and closes its sockets a second later."""
    (venue,) = now.episode.venues
    attempts = now.sims.call(lambda: now.sims[venue].stats.attempts)
    numbers = [each["connection"] for each in connections_of(now.state(), venue)]
    now.sims.inject(venue, "lifetime", notice=1)
    now.sims.until(venue, lambda sim: sim.stats.attempts == attempts + len(numbers))
    for number in numbers:
        now.running.wait_for_line(f"{venue} connection {number}: replaced")
    now.sims.until(venue, lambda sim: sim.stats.clients == len(numbers))
    now.until_more()
    now.until(venue_ticks)


def turned_away(now: Scene) -> None:
    """The first attempt to connect is answered with 429, the second with 406."""

    def waits(venue: str, _: Seen, answer: Answer) -> bool:
        own = connections_of(answer, venue)
        return bool(own) and all(
            each["state"] == "waiting" and each["http"] in (406, 429) for each in own
        )

    now.until(waits)
    now.episode.state_then = now.state()
    now.until(venue_ticks, patience_s=45)
    now.until_more()


def denied(now: Scene) -> None:
    """A key that is wrong from the start; where there is none, the venue bars the door."""

    def is_denied(venue: str, _: Seen, answer: Answer) -> bool:
        own = connections_of(answer, venue)
        # Kite's list of symbols wants the token too: nothing is dialled without it.
        return all(each["state"] == "denied" for each in own) and (bool(own) or venue == "kite")

    now.until(is_denied)
    episode, control = now.episode, mdsys.control(now.name)
    episode.state_then = now.state()
    episode.symbols_then = {venue: control.status(full(venue, 0)) for venue in episode.venues}
    episode.attempts_then = now.sims.call(
        lambda: {venue: now.sims[venue].stats.attempts for venue in episode.venues}
    )
    mend(now, "fresh")


def expired(now: Scene) -> None:
    """The keys expire while everything ticks."""
    for venue in now.episode.venues:
        now.strike(venue, "expire")

    def is_denied(venue: str, _: Seen, answer: Answer) -> bool:
        return any(each["state"] == "denied" for each in connections_of(answer, venue))

    now.until(is_denied)
    now.episode.state_then = now.state()
    mend(now, "fresh")


def mend(now: Scene, word: str) -> None:
    """Replace every secret, open barred doors, and have the daemon read its secrets anew."""
    for venue in now.episode.venues:
        if venue in FIELDS:
            now.secrets.write(venue, word)
        else:
            for fault in now.sims[venue]._faults:
                now.sims.lift(venue, fault)
    now.episode.reloaded = mdsys.control(now.name).reload()
    now.until(venue_ticks)
    now.until_more()


def refused(now: Scene) -> None:
    """The venue takes one symbol of two, on one socket."""

    def settled(venue: str, _: Seen, answer: Answer) -> bool:
        own = connections_of(answer, venue)
        half = len(channels(venue))
        return bool(own) and own[0]["ticking"] == half and own[0]["state"] == "ready"

    now.until(settled)
    now.until_more(symbols=[0])
    episode, control = now.episode, mdsys.control(now.name)
    episode.state_then = now.state()
    episode.symbols_then = {venue: control.status(full(venue, 1)) for venue in episode.venues}
