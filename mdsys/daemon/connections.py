"""What is known of each connection: what its feed last told, and the marks of its socket."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mdsys.daemon.plan import Placed
from mdsys.record.record import ABSENT

UP = ("open", "ready")
"""States in which there is a socket that the venue sends on."""
WORDS_SIZE_MAX = 400


@dataclass(slots=True, eq=False)
class Connection:
    """One connection of the placement."""

    placed: Placed
    shown_url: str
    """Without secrets."""
    state: str = "planned"
    """Until its feed tells otherwise: connecting, open, ready, waiting, denied, closed."""
    since_ns: int = 0
    opened_ns: int = 0
    """When its socket came up."""
    words: str | None = None
    """Why it is in this state, the venue's words among it."""
    http: int | None = None
    """Status of an upgrade that was refused."""
    retry_ns: int | None = None
    """When it is dialled again."""
    dialled: bool = False
    """Whether it has been connected before, in any life of its feed."""
    reconnects: int = 0
    secret_version: int = 0
    """Of the secret that it was last given to dial with (``Credentials.version``)."""

    @property
    def up(self) -> bool:
        """Whether there is a socket."""
        return self.state in UP


class Connections:
    """All of them, by number."""

    def __init__(self) -> None:
        self.all: dict[int, Connection] = {}

    def add(self, placed: Placed, shown_url: str, now_ns: int) -> None:
        """Take in a new one."""
        self.all[placed.number] = Connection(placed, shown_url, since_ns=now_ns)

    def remove(self, number: int) -> None:
        """Forget one that is closed for good."""
        self.all.pop(number, None)

    def get(self, number: int, feed: int) -> Connection | None:
        """Return a connection of a feed; None: it is not, or no more."""
        found = self.all.get(number)
        return found if found is not None and found.placed.feed == feed else None

    def report(self, feed: int, message: Mapping[str, Any], now_ns: int) -> Connection | None:
        """Take over what a feed tells of one of its connections, and return that."""
        found = self.get(message["connection"], feed)
        if found is None:
            return None
        state = message["state"]
        if state == "open":
            found.reconnects += found.dialled
            found.dialled = True
            found.opened_ns = now_ns
        words = message.get("words")
        found.words = words[:WORDS_SIZE_MAX] if words else None
        found.http = message.get("http")
        delay_s = message.get("delay_s")
        found.retry_ns = None if delay_s is None else now_ns + int(delay_s * 1e9)
        found.state = state
        found.since_ns = now_ns
        return found

    def feed_ended(self, feed: int, now_ns: int) -> list[Connection]:
        """Note that a feed's sockets are all gone; return its connections."""
        own = [each for each in self.all.values() if each.placed.feed == feed]
        for each in own:
            each.state = "planned"
            each.since_ns = now_ns
            each.words = "its feed has ended"
            each.retry_ns = None
        return own

    def addresses(self, feed: int) -> list[dict[str, Any]]:
        """Return where a feed's connections lead, for whoever records them."""
        return [
            {"connection": number, "venue": each.placed.venue, "url": each.shown_url}
            for number, each in self.all.items()
            if each.placed.feed == feed
        ]

    def picture(
        self,
        funnels: Mapping[int, Mapping[str, int]],
        marks: Mapping[int, Mapping[str, Any]],
        now_ns: int,
        numbers: Iterable[int] | None = None,
    ) -> list[dict[str, Any]]:
        """Return what ``status`` tells.

        Args:
            funnels: Number -> counts of its streams' states.
            marks: Number -> what its block in the counters segment says.
            now_ns: ns since the epoch.
            numbers: Which; None: all.
        """
        chosen = self.all if numbers is None else {n: self.all[n] for n in numbers if n in self.all}
        return [
            _shown(number, each, funnels.get(number, {}), marks.get(number, {}), now_ns)
            for number, each in chosen.items()
        ]


def _shown(
    number: int,
    each: Connection,
    funnel: Mapping[str, int],
    mark: Mapping[str, Any],
    now_ns: int,
) -> dict[str, Any]:
    last_frame_ns = mark.get("last_frame_ns", 0)
    offset_ns = mark.get("offset_ns", ABSENT)
    return {
        "connection": number,
        "venue": each.placed.venue,
        "feed": each.placed.feed,
        "state": each.state,
        "since_s": age_s(each.since_ns, now_ns),
        "url": each.shown_url,
        "key": each.placed.key,
        "symbols": len(each.placed.symbols),
        "streams": funnel.get("desired", 0),
        "requested": funnel.get("requested", 0),
        "confirmed": funnel.get("confirmed", 0),
        "ticking": funnel.get("ticking", 0),
        "refused": funnel.get("refused", 0),
        "last_frame_s": age_s(last_frame_ns, now_ns) if last_frame_ns else None,
        "frames": mark.get("frames", 0),
        "bytes": mark.get("bytes", 0),
        "records": mark.get("records", 0),
        "clock_offset_ns": None if offset_ns == ABSENT else offset_ns,
        "reconnects": each.reconnects,
        "retry_s": None
        if each.retry_ns is None
        else max(0.0, round((each.retry_ns - now_ns) / 1e9, 1)),
        "http": each.http,
        "words": each.words,
    }


def age_s(then_ns: int, now_ns: int) -> float:
    """Return how long ago something was; what has come meanwhile was now."""
    return max(0.0, round((now_ns - then_ns) / 1e9, 3))
