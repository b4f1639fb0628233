"""Which stream has fallen silent that should not have: judged by the silences each has shown.

A stream that ticks once an hour must not look dead, and one that ticks a hundred times a second
and stopped must not look quiet. So each is held against itself: it is stale when it has been silent
for longer than a few times the longest silence it has shown lately. Streams that are silent
together are judged together: a connection's channel, with all its symbols, shows only short
silences, so a mute one is found in seconds, whatever its symbols' own habits. A stream that has
ticked once has no habit yet: it is held against the quietest of those beside it. No I/O and no
clock: the supervisor looks once a second and carries out the verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mdsys.feed.venue import CHANNELS

SECOND = 1_000_000_000
STREAM_FLOOR_NS = 10 * SECOND
"""No silence of a single stream is judged that is shorter."""
CHANNEL_FLOOR_NS = 5 * SECOND
"""The same of all streams of a connection's channel together."""
SILENCES_MIN = 1
"""A stream that has shown fewer is not judged by itself, but by its peers."""
PEERS_MIN = 30
PEER_SILENCES_MIN = 4
"""A peer is a stream of the same channel and connection that has shown so many."""
PEER_FACTOR = 4
"""How many times as long as the quietest peer may be silent."""
PEER_FLOOR_NS = 3_600 * SECOND
"""No silence after a single tick is judged that is shorter."""
FEW_FACTORS = (20_000.0, 200.0, 50.0)
"""How many times the longest of one, two, three silences the next one may last."""
LIMIT_MAX_NS = 366 * 86_400 * SECOND
SPELL_SILENCES = 128
SPELL_NS = 1_800 * SECOND
"""*Lately* is the spell that runs and the one before; a spell has at least so many silences, and
lasts at least so long."""
RETRY_FIRST_NS = 30 * SECOND
RETRY_MAX_NS = 3_600 * SECOND
"""A stale stream is subscribed anew at once, then after this, then twice this, up to the last."""

Times = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]
_WIDTH = len(CHANNELS)


def _factor(count: Times) -> npt.NDArray[np.float64]:
    """Return how many times its longest silence a stream may be silent that has shown ``count``."""
    few = np.array((1.0, *FEW_FACTORS))
    return np.where(
        count < len(few), few[np.minimum(count, len(few) - 1)], 4.0 + 80.0 / np.maximum(count, 1)
    )


class Silences:
    """The silences of many streams, and which of them is too long.

    With n silences shown lately, the longest of them L, the next one may last k L: k = 4 + 80 / n,
    and far more while n is less than 4 (FEW_FACTORS). A stream whose ticks come at random (Poisson)
    breaks that by chance with a probability of 1 / C(n + k, n): over its first 128 silences less
    than 3e-4 in all, and later less than 5.2e-4 a day whatever its rate, since n is then at least
    what a spell holds. (The
    chance that one of n + 1 exponential times is more than k times the largest of the n others is
    the product of i / (i + k), i = 1..n.)

    One that has ticked once (n = 0) tells nothing about its rate; what it may be told by its peers'
    ways is the caller's to say.

    Args:
        floor_ns: No shorter silence is too long.
    """

    def __init__(self, floor_ns: int) -> None:
        self._floor_ns = floor_ns
        self._heard = np.zeros(0, np.int64)
        """When each was last heard, as far as we have looked."""
        self._longest = np.zeros((2, 0), np.int64)
        """Of the spell that runs, and of the one before."""
        self._count = np.zeros((2, 0), np.int64)
        self._spell_ns = np.zeros(0, np.int64)
        """When the spell began."""
        self._limit = np.zeros(0, np.int64)
        """How long each may be silent; 0: it is not judged yet."""
        self.stale = np.zeros(0, np.bool_)

    def grow(self, count: int) -> None:
        """Have room for ``count`` streams."""
        if (more := count - len(self._heard)) > 0:
            for name in ("_heard", "_longest", "_count", "_spell_ns", "_limit", "stale"):
                array = getattr(self, name)
                pad = [(0, 0)] * (array.ndim - 1) + [(0, more)]
                setattr(self, name, np.pad(array, pad))

    def forget(self, places: Rows) -> None:
        """What stands at ``places`` is another stream now."""
        for array in (self._heard, self._spell_ns, self._limit, self.stale):
            array[places] = 0
        self._longest[:, places] = 0
        self._count[:, places] = 0

    def set_back(self, now_ns: int) -> None:
        """The clock was set back to this: habits stay, no time of ours lies ahead."""
        for array in (self._heard, self._spell_ns):
            np.minimum(array, now_ns, out=array)

    def look(
        self, now_ns: int, heard: Times, from_ns: Times, once_ns: Times | int = 0
    ) -> tuple[Bools, Times]:
        """Judge every stream.

        Args:
            now_ns: ns since the epoch, as all times.
            heard: When each was last heard; 0: never.
            from_ns: From when on its silence counts, since it was asked for then, or its market
                opened; 0: it is not judged now.
            once_ns: How long each may be silent if it has ticked once; 0: no one can say.

        Returns:
            Which have become stale since the last look, and how long each is silent.
        """
        news = heard > self._heard
        # A silence that began before is no habit of the stream's. One that was too long ended it
        # is believed up to what was allowed: a market that calms down teaches us in a few steps.
        whole = news & (self._heard >= from_ns) & (self._heard > 0) & (from_ns > 0)
        lasted = np.where(self.stale, self._limit, heard - self._heard)
        counted = whole | (news & self.stale)
        self._longest[0] = np.where(counted, np.maximum(self._longest[0], lasted), self._longest[0])
        self._count[0] += counted
        self.stale &= ~news & (from_ns > 0)
        np.maximum(self._heard, heard, out=self._heard)
        self._turn(now_ns, news)
        silent_ns = now_ns - np.maximum(self._heard, from_ns)
        count = self._count.sum(axis=0)
        allowed = self._longest.max(axis=0) * _factor(count)
        limit = np.maximum(self._floor_ns, np.minimum(allowed, LIMIT_MAX_NS)).astype(np.int64)
        once = np.where(self._heard > 0, once_ns, 0)
        self._limit = np.where(count >= SILENCES_MIN, limit, once)
        stale = (from_ns > 0) & (self._limit > 0) & (silent_ns > self._limit)
        fresh = stale & ~self.stale
        self.stale |= stale
        return fresh, silent_ns

    def _turn(self, now_ns: int, news: Bools) -> None:
        """Begin a new spell where the old one is full."""
        self._spell_ns = np.where(news & (self._spell_ns == 0), now_ns, self._spell_ns)
        full = news & (self._count[0] >= SPELL_SILENCES) & (now_ns - self._spell_ns >= SPELL_NS)
        if full.any():
            for array in (self._longest, self._count):
                array[1, full] = array[0, full]
                array[0, full] = 0
            self._spell_ns[full] = now_ns

    def limit_s(self, place: int) -> float | None:
        """Return how long one may be silent; None: it is not judged yet."""
        if place >= len(self._limit) or self._limit[place] == 0:
            return None
        return float(self._limit[place]) / SECOND

    def known_limits(self) -> Times:
        """Return how long each may be silent that has a habit and is well; 0 for the others."""
        known = (self._count.sum(axis=0) >= PEER_SILENCES_MIN) & ~self.stale
        return np.where(known, self._limit, 0)


class _Retries:
    """When what is stale is tried again: at once, then ever more rarely."""

    def __init__(self) -> None:
        self._next_ns = np.zeros(0, np.int64)
        self._wait_ns = np.zeros(0, np.int64)

    def grow(self, count: int) -> None:
        if (more := count - len(self._next_ns)) > 0:
            self._next_ns = np.pad(self._next_ns, (0, more))
            self._wait_ns = np.pad(self._wait_ns, (0, more))

    def set_back(self, now_ns: int) -> None:
        """The clock was set back to this: nothing waits longer for it."""
        np.minimum(self._next_ns, now_ns + self._wait_ns, out=self._next_ns)

    def due(self, now_ns: int, stale: Bools) -> Bools:
        """Return which are to be tried now; they are taken as tried."""
        due = stale & (now_ns >= self._next_ns)
        wait = np.clip(2 * self._wait_ns, RETRY_FIRST_NS, RETRY_MAX_NS)
        self._wait_ns = np.where(due, wait, self._wait_ns)
        self._next_ns = np.where(due, now_ns + self._wait_ns, self._next_ns)
        # Who has been well for as long as the last wait has proved itself.
        well = ~stale & (now_ns >= self._next_ns + self._wait_ns)
        self._wait_ns[well] = 0
        return due


@dataclass(slots=True)
class Verdict:
    """What is to be done."""

    stale: list[tuple[int, int, Rows]] = field(default_factory=list)
    """(Connection, column of CHANNELS, rows) that have fallen silent: tell their readers."""
    resubscribe: list[tuple[int, int, Rows]] = field(default_factory=list)
    """The same of what is to be subscribed anew."""
    reconnect: list[tuple[int, str]] = field(default_factory=list)
    """(Connection, why): it is mute."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a connection's socket itself shows."""

    opened_ns: int
    """When it came into its state; it is open."""
    last_frame_ns: int
    """When any frame last came; 0: none yet."""
    silence_s: float | None
    """A healthy one is never silent for so long; None: the venue promises nothing."""


class Health:
    """Judges an instance's streams, a row a symbol as in ``Subscriptions``."""

    def __init__(self) -> None:
        self._streams = Silences(STREAM_FLOOR_NS)
        self._stream_retries = _Retries()
        self._channels = Silences(CHANNEL_FLOOR_NS)
        self._channel_retries = _Retries()
        self._socket_retries = _Retries()
        self._told_ns: dict[int, int] = {}
        """Connection -> when the socket that was ordered away came up."""

    def forget(self, rows: list[int]) -> None:
        """Other symbols stand in these rows now."""
        self._grow(max(rows, default=-1) + 1)
        places = np.array(rows, np.intp)[:, None] * _WIDTH + np.arange(_WIDTH)
        self._streams.forget(places.ravel())

    def set_back(self, now_ns: int) -> None:
        """The clock was set back to this."""
        for each in (
            *(self._streams, self._stream_retries, self._channels, self._channel_retries),
            self._socket_retries,
        ):
            each.set_back(now_ns)

    def look(
        self,
        now_ns: int,
        heard: Times,
        from_ns: Times,
        connection: npt.NDArray[np.int32],
        pulses: Mapping[int, Pulse],
    ) -> Verdict:
        """Judge everything; the supervisor calls this once a second.

        Args:
            now_ns: ns since the epoch, as all times.
            heard: (row, column) -> when it was last heard; 0: never.
            from_ns: From when on silence counts; 0: that stream is not judged now.
            connection: Row -> the number of its connection.
            pulses: Connection -> its socket's, of those that are open.
        """
        self._grow(len(heard))
        once_ns = self._once_ns(connection, from_ns)
        fresh, _ = self._streams.look(now_ns, heard.ravel(), from_ns.ravel(), once_ns.ravel())
        fresh = fresh.reshape(heard.shape)
        stale = self._streams.stale.reshape(heard.shape)
        fresh_channels, stale_channels, mute = self._look_at_channels(
            now_ns, heard, from_ns, connection
        )
        sockets = self._mute_sockets(now_ns, pulses, mute)
        # Who is silent with all the others is not judged alone.
        together, judged = stale_channels[connection], from_ns > 0
        told = (fresh & ~together) | (fresh_channels[connection] & judged)
        alone = self._stream_retries.due(now_ns, (stale & ~together).ravel())
        jointly = self._channel_retries.due(now_ns, stale_channels.ravel())
        again = alone.reshape(heard.shape) | (
            jointly.reshape(stale_channels.shape)[connection] & judged
        )
        left = ~np.isin(connection, list(sockets))[:, None]  # the others' sockets end anyway
        return Verdict(
            _by_connection(told & left, connection),
            _by_connection(again & left, connection),
            sorted(sockets.items()),
        )

    def is_stale(self, row: int) -> list[bool]:
        """Return of each channel of a row whether it has fallen silent by itself."""
        self._grow(row + 1)
        return [bool(each) for each in self._streams.stale[row * _WIDTH : (row + 1) * _WIDTH]]

    def limits_s(self, row: int) -> list[float | None]:
        """Return how long each channel of a row may be silent; None: it is not judged yet."""
        return [self._streams.limit_s(row * _WIDTH + column) for column in range(_WIDTH)]

    def stale_count(self) -> int:
        """Return how many streams are stale by themselves."""
        return int(self._streams.stale.sum())

    def _grow(self, row_count: int) -> None:
        self._streams.grow(row_count * _WIDTH)
        self._stream_retries.grow(row_count * _WIDTH)

    def _once_ns(self, connection: npt.NDArray[np.int32], from_ns: Times) -> Times:
        """Return how long each stream may be silent that has ticked once.

        Symbols are dealt to connections without regard to how they trade, so those beside it are
        its like. What is allowed to the quietest of them is at least four times the longest silence
        that it has shown; four times that is beyond what any of thirty or more has come near. Where
        some are as quiet as this one may be, they have few silences, long ones, and so a limit that
        grows as fast as time goes by: it is never called stale there. Among busy ones it is, after
        an hour.
        """
        limits = np.where(from_ns > 0, self._streams.known_limits().reshape(from_ns.shape), 0)
        count = int(connection.max(initial=0)) + 1
        quietest = np.zeros((count, _WIDTH), np.int64)
        peers = np.zeros((count, _WIDTH), np.int64)
        np.maximum.at(quietest, connection, limits)
        np.add.at(peers, connection, limits > 0)
        once_ns = np.clip(PEER_FACTOR * quietest, PEER_FLOOR_NS, LIMIT_MAX_NS)
        return np.where(peers >= PEERS_MIN, once_ns, 0)[connection]

    def _look_at_channels(
        self, now_ns: int, heard: Times, from_ns: Times, connection: npt.NDArray[np.int32]
    ) -> tuple[Bools, Bools, set[int]]:
        """Return (connection, column) -> freshly stale, stale; and which connections are mute."""
        count = max(int(connection.max(initial=0)) + 1, len(self._channels.stale) // _WIDTH)
        last = np.zeros((count, _WIDTH), np.int64)
        begun = np.zeros((count, _WIDTH), np.int64)
        # Of what is judged: the last that was heard, and the last that was asked for.
        np.maximum.at(last, connection, np.where(from_ns > 0, heard, 0))
        np.maximum.at(begun, connection, from_ns)
        self._channels.grow(count * _WIDTH)
        self._channel_retries.grow(count * _WIDTH)
        self._socket_retries.grow(count)
        fresh, silent_ns = self._channels.look(now_ns, last.ravel(), begun.ravel())
        stale = self._channels.stale.reshape(count, _WIDTH)
        silent = (begun == 0) | (silent_ns.reshape(count, _WIDTH) > CHANNEL_FLOOR_NS)
        mute = silent.all(axis=1) & stale.any(axis=1)
        due = np.flatnonzero(self._socket_retries.due(now_ns, mute))
        return fresh.reshape(count, _WIDTH), stale, set(due.tolist())

    def _mute_sockets(
        self, now_ns: int, pulses: Mapping[int, Pulse], mute: set[int]
    ) -> dict[int, str]:
        """Return the sockets to end, and why; each is named once."""
        found: dict[int, str] = {}
        for number, pulse in pulses.items():
            if self._told_ns.get(number) == pulse.opened_ns:
                continue
            silent_s = (now_ns - max(pulse.opened_ns, pulse.last_frame_ns)) / SECOND
            if pulse.silence_s is not None and silent_s > pulse.silence_s:
                found[number] = f"mute: no frame for {silent_s:.0f} s"
            elif number in mute:
                found[number] = (
                    "mute: none of its channels has brought anything new for far too long"
                )
            if number in found:
                self._told_ns[number] = pulse.opened_ns
        return found


def _by_connection(chosen: Bools, connection: npt.NDArray[np.int32]) -> list[tuple[int, int, Rows]]:
    """Return the chosen rows by connection and column."""
    found: list[tuple[int, int, Rows]] = []
    for column in np.flatnonzero(chosen.any(axis=0)).tolist():
        rows = np.flatnonzero(chosen[:, column])
        order = np.argsort(connection[rows], kind="stable")
        rows = rows[order]
        numbers, starts = np.unique(connection[rows], return_index=True)
        for number, part in zip(numbers.tolist(), np.split(rows, starts[1:]), strict=True):
            found.append((number, column, part))
    return found
