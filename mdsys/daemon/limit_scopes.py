"""What the venues limit: connects, reconnects, messages and REST, of a key or of our address.

Each such thing is a scope with its own rolling windows, or with places. Scopes are made when they
are first asked for, and begin with what the daemon before us has used of them (``LimitsFile``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from mdsys.daemon.limits_file import Kept
from mdsys.feed.venue import Limits, Window
from mdsys.feed.window import MonotonicClock, RollingWindow

What = Literal["connect", "reconnect", "message", "rest"]

STORM: Final = (Window(10, 1.0),)
"""Reconnects of one venue: what fell at one moment shall not return at one moment."""
CONNECTIONS: Final = "connections"


@dataclass(slots=True, eq=False)
class Scope:
    """One thing that is limited: rolling windows, or places, which sockets take while they live."""

    what: str
    label: str
    windows: RollingWindow
    places: float = math.inf
    """Sockets at one time, where that is what it limits."""
    held: int = 0
    """Granted and not used yet; of places: taken."""
    paused_until: float = 0.0
    """The venue told us to wait."""

    @property
    def is_places(self) -> bool:
        """Return whether a permit keeps its place after its use."""
        return self.what == CONNECTIONS

    @property
    def count_max(self) -> float:
        """Most that can ever be granted at once."""
        return self.places if self.is_places else self.windows.count_max

    def wait_s(self, count: int, now: float) -> float:
        """Return how long until so many more fit; inf: not by time alone."""
        if self.is_places:
            return 0.0 if self.held + count <= self.places else math.inf
        # An ask may be older than a limit that it exceeds: it goes when it is alone.
        fitting = int(min(count, self.count_max))
        return max(self.windows.wait_s(fitting, held=self.held), self.paused_until - now)


class Scopes:
    """All that have been asked for.

    Args:
        clock: Seconds that never step back.
        before: What the daemon before us has used.
    """

    def __init__(self, clock: MonotonicClock, before: Iterable[Kept]) -> None:
        self._clock = clock
        self._limits: dict[str, Limits] = {}
        self._scopes: dict[tuple[str, str, str | None], Scope] = {}
        self._before = {(each.venue, each.what, each.key): each for each in before}
        """Of scopes that nobody has asked for yet."""

    def __iter__(self) -> Iterator[Scope]:
        return iter(self._scopes.values())

    def configure(self, venue: str, limits: Limits) -> None:
        """Take a venue's limits in force, the first time or changed; what is used stays used."""
        self._limits[venue] = limits
        for (of, what, _), scope in self._scopes.items():
            if of == venue:
                scope.places, windows = _bounds(limits, what)
                scope.windows.replace(windows)

    def kept(self) -> list[Kept]:
        """Return what the daemon after us must know."""
        own = [
            Kept(*name, scope.held, scope.windows.past())
            for name, scope in self._scopes.items()
            if scope.windows.count_max < math.inf
        ]
        return [*own, *self._before.values()]

    def of(self, venue: str, what: What, key: str | None) -> Iterator[Scope]:
        """Yield what limits a kind of thing, from the narrowest to the widest."""
        if what in ("connect", "reconnect"):
            yield self._scope(venue, CONNECTIONS, key)
            if key is not None:
                yield self._scope(venue, "key_connects", key)
            if what == "reconnect":
                yield self._scope(venue, "reconnects", None)
            yield self._scope(venue, "connects", None)
        elif what == "message":
            yield self._scope(venue, "address_messages", None)
        else:
            yield self._scope(venue, "rest_weight", None)

    def _scope(self, venue: str, what: str, key: str | None) -> Scope:
        found = self._scopes.get((venue, what, key))
        if found is None:
            places, windows = _bounds(self._limits[venue], what)
            label = f"{venue} address" if key is None else f"{venue} key {key}"
            found = Scope(what, label, RollingWindow(windows, self._clock), places)
            self._scopes[venue, what, key] = found
            if (before := self._before.pop((venue, what, key), None)) is not None:
                self._go_on(found, before)
        return found

    def _go_on(self, scope: Scope, before: Kept) -> None:
        """Count what the daemon before us has used; what it had granted may be as recent as now."""
        now = self._clock()
        for at, count in before.past:
            scope.windows.charge(count, min(at, now))
        if before.held:
            scope.windows.charge(before.held, now)


def _bounds(limits: Limits, what: str) -> tuple[float, tuple[Window, ...]]:
    """Return the places and the windows of a kind of scope."""
    match what:
        case "connections":
            return (math.inf if limits.connections is None else limits.connections), ()
        case "reconnects":
            return math.inf, STORM
        case "connects":
            return math.inf, limits.connects
        case "key_connects":
            return math.inf, limits.key_connects
        case "address_messages":
            return math.inf, limits.address_messages
        case _:
            return math.inf, limits.rest_weight
