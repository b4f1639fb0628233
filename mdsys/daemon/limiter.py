"""Who may connect, send or ask by REST next, so that no limit of a venue is ever broken.

The limits that no single socket can keep by itself (of a key, of our address, of REST) are kept in
the supervisor, which outlives its feeds. A permit is charged from its grant until its holder says
that the thing is done, and for the window's length from then: however long a feed dawdles between
the two, and even if it dies there, no two windows' worth can fall into one.

Asks are answered in the order in which they came, wherever they compete. One that must wait for its
key holds up others of that key, never those of another key; one that waits for the address alone
holds up all behind it: so nobody starves, neither a large request nor a busy key's.

What is used is kept in a file (``LimitsFile``), so that neither the end of a feed nor that of the
daemon gives anything back.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Final, Literal, Protocol

from mdsys.daemon.limit_scopes import Scope, Scopes, What
from mdsys.daemon.limits_file import LimitsFile
from mdsys.errors import FeedError
from mdsys.feed.venue import Limits
from mdsys.feed.window import MonotonicClock

log = logging.getLogger("mdsys.daemon")

WAKE_MARGIN_S: Final = 0.001
"""Added to a timer: a loop may wake a little early, and would find that it does not fit yet."""


class Timer(Protocol):
    """What ``call_later`` returns."""

    def cancel(self) -> None:
        """Do not call."""


CallLater = Callable[[float, Callable[[], None]], Timer]


@dataclass(slots=True, eq=False)
class Permit:
    """An ask, and what became of it."""

    venue: str
    what: What
    key: str | None
    holder: Hashable
    """Whose it is; when that one ends, so do its permits."""
    count: int
    granted: Callable[[Permit], None] = field(repr=False)
    scopes: tuple[Scope, ...] = field(repr=False)
    """From the narrowest to the widest."""
    number: int = 0
    state: Literal["waiting", "granted", "used", "over"] = "waiting"
    """used: a connect's, its socket may be open; over: it counts in its windows alone."""


@dataclass(frozen=True, slots=True)
class Usage:
    """One limit, as ``ctl status`` shows it."""

    what: str
    scope: str
    used: int
    count: int
    seconds: float | None
    """None: at one time."""
    waiting: int
    """Asks that this limit holds up, or that wait behind them."""


class Limiter:
    """The limits of all venues, in the supervisor's loop: one timer, and nothing polls.

    Args:
        clock: Seconds that never step back.
        call_later: As the event loop's, which it is where None is given.
        file: Where what is used is kept; None: nowhere.
    """

    def __init__(
        self,
        clock: MonotonicClock = time.monotonic,
        call_later: CallLater | None = None,
        file: LimitsFile | None = None,
    ) -> None:
        self._clock = clock
        self._call_later = call_later
        self._scopes = Scopes(clock, file.read() if file else ())
        self._lanes: dict[tuple[Scope, ...], deque[Permit]] = {}
        """Asks that need the very same scopes, first come first."""
        self._granted: set[Permit] = set()
        """Granted and not used yet, and sockets that take a place."""
        self._file = file
        self._unkept = False
        """Whether anything has changed since the file was written."""
        self.grant_count = 0
        self.held_count = 0
        """Asks that could not be granted at once."""
        self.held_reconnect_count = 0
        self._number = 0
        self._timer: Timer | None = None
        self._passing = False

    def configure(self, venue: str, limits: Limits) -> None:
        """Take a venue's limits in force, the first time or changed; what is used stays used."""
        self._scopes.configure(venue, limits)
        self._pass()

    def ask(
        self,
        venue: str,
        what: What,
        granted: Callable[[Permit], None],
        *,
        key: str | None = None,
        holder: Hashable = None,
        count: int = 1,
    ) -> Permit:
        """Ask for a permit; ``granted`` is called when it is there, perhaps before this returns.

        Args:
            venue: Whose limits, as configured.
            what: connect, or reconnect where it replaces a socket that was lost; message, on any
                socket of the venue; rest.
            granted: Called once, unless the ask is withdrawn or its holder ends.
            key: Name of the credential, where the venue has keys.
            holder: Who will use it, as the number of a feed.
            count: Messages, or the weight of a request; in [1, 2^31).

        Raises:
            FeedError: So many are never allowed.
        """
        scopes = tuple(self._scopes.of(venue, what, key))
        for scope in scopes:
            if count > scope.count_max:
                raise FeedError(
                    f"{venue}: {scope.what} of {count}, but {scope.count_max} at once is all that "
                    "its limits allow"
                )
        self._number += 1
        permit = Permit(venue, what, key, holder, count, granted, scopes, self._number)
        self._lanes.setdefault(scopes, deque()).append(permit)
        self._pass()
        if permit.state == "waiting":
            self.held_count += 1
            self.held_reconnect_count += what == "reconnect"
        return permit

    async def wait(self, venue: str, what: What, *, count: int = 1) -> Permit:
        """Wait for a permit, as ``ask``; given up when cancelled."""
        there: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()

        def grant(permit: Permit) -> None:
            if not there.done():
                there.set_result(permit)

        permit = self.ask(venue, what, grant, count=count)
        try:
            return await there
        except asyncio.CancelledError:
            self.withdraw(permit)
            raise

    def used(self, permit: Permit) -> None:
        """Note that what was permitted has been done, now at the latest."""
        if permit.state != "granted":
            return
        _charge(permit)
        self._unkept = True
        if any(scope.is_places for scope in permit.scopes):
            permit.state = "used"
        else:
            permit.state = "over"
            self._granted.discard(permit)
        self._pass()

    def withdraw(self, permit: Permit) -> None:
        """Take back an ask, or a permit of which nothing has been done and nothing will be."""
        if permit.state == "waiting":
            lane = self._lanes[permit.scopes]
            lane.remove(permit)
            if not lane:
                del self._lanes[permit.scopes]
        elif permit.state == "granted":
            for scope in permit.scopes:
                scope.held -= permit.count
            self._granted.discard(permit)
            self._unkept = True
        else:
            return
        permit.state = "over"
        self._pass()

    def released(self, permit: Permit) -> None:
        """Note that the socket that a used permit opened has ended."""
        if permit.state == "used":
            self._release([permit])
            self._pass()

    def holder_ended(self, holder: Hashable) -> None:
        """Note that a holder is gone, with its sockets.

        What it had been permitted and had not reported may have been done: it counts from now.
        """
        for lane in list(self._lanes.values()):
            for permit in [each for each in lane if each.holder == holder]:
                permit.state = "over"
                lane.remove(permit)
                if not lane:
                    del self._lanes[permit.scopes]
        self._release([each for each in self._granted if each.holder == holder])
        self._pass()

    def pause(self, venue: str, what: What, seconds: float) -> None:
        """Grant nothing of this kind for so long: the venue said so (Retry-After)."""
        for scope in self._scopes.of(venue, what, None):
            if not scope.is_places:
                scope.paused_until = max(scope.paused_until, self._clock() + seconds)

    def correct(self, venue: str, what: What, used: int, seconds: float) -> None:
        """Believe the venue when it has counted more than we did in a window of this length."""
        for scope in self._scopes.of(venue, what, None):
            scope.windows.raise_to(used, seconds, held=scope.held)
        self._unkept = True

    def keep(self) -> None:
        """Write down what is used, if it is not; also called now and then."""
        if self._file is not None and self._unkept:
            self._unkept = False
            self._file.write(self._scopes.kept())

    @property
    def waiting_count(self) -> int:
        """Return how many asks wait."""
        return sum(len(lane) for lane in self._lanes.values())

    def usage(self) -> list[Usage]:
        """Return what is used of each limit."""
        rows: list[Usage] = []
        for scope in self._scopes:
            waiting = sum(len(lane) for lane in self._lanes.values() if scope in lane[0].scopes)
            if scope.is_places and scope.places < math.inf:
                places = int(scope.places)
                rows.append(Usage(scope.what, scope.label, scope.held, places, None, waiting))
            rows += [
                Usage(scope.what, scope.label, used, window.count, window.seconds, waiting)
                for window, used in scope.windows.usage(held=scope.held)
            ]
        return rows

    # ---- granting ----

    def _release(self, permits: Iterable[Permit]) -> None:
        """End permits: what they hold of windows is charged now, their places are free."""
        self._unkept = True
        for permit in permits:
            if permit.state == "granted":
                _charge(permit)
            for scope in permit.scopes:
                if scope.is_places:
                    scope.held -= permit.count
            permit.state = "over"
            self._granted.discard(permit)

    def _pass(self) -> None:
        """Grant what can be granted, and set the timer for what comes next."""
        if self._passing:  # from inside a ``granted``: the pass that calls it goes on
            return
        self._passing = True
        try:
            permits, next_s = self._grant()
            while permits:
                self._unkept = True
                self.keep()  # before anybody can use it
                for permit in permits:
                    if permit.state == "granted":  # not withdrawn by one before it
                        self._tell(permit)
                permits, next_s = self._grant()
        finally:
            self._passing = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if next_s < math.inf:
            call_later = self._call_later or asyncio.get_running_loop().call_later
            self._timer = call_later(next_s + WAKE_MARGIN_S, self._wake)

    def _tell(self, permit: Permit) -> None:
        try:
            permit.granted(permit)
        except Exception:  # one caller's fault is not the others'
            log.exception("a permit of %s could not be handed over", permit.venue)
            self.withdraw(permit)

    def _wake(self) -> None:
        self._timer = None
        self._pass()

    def _grant(self) -> tuple[list[Permit], float]:
        """Grant, in the order of the asks, what fits.

        Returns:
            What was granted, and the seconds until more may fit: inf where only an event brings it.
        """
        now = self._clock()
        granted: list[Permit] = []
        next_s = math.inf
        shut: set[Scope] = set()
        heads = [(lane[0].number, lane) for lane in self._lanes.values()]
        heapify(heads)
        while heads:
            _, lane = heappop(heads)
            permit = lane[0]
            for scope in permit.scopes:
                if scope in shut:  # held up with, and waking with, the one that shut it
                    break
                if (wait_s := scope.wait_s(permit.count, now)) > 0.0:
                    shut.add(scope)
                    next_s = min(next_s, wait_s)
                    break
            else:
                for scope in permit.scopes:
                    scope.held += permit.count
                permit.state = "granted"
                self.grant_count += 1
                self._granted.add(permit)
                granted.append(permit)
                lane.popleft()
                if lane:
                    heappush(heads, (lane[0].number, lane))
                else:
                    del self._lanes[permit.scopes]
        return granted, next_s


def _charge(permit: Permit) -> None:
    """Count a granted permit into its windows as of now; its place it keeps."""
    for scope in permit.scopes:
        if not scope.is_places:
            scope.held -= permit.count
            scope.windows.charge(permit.count)
