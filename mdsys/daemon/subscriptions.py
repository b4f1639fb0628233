"""The true state of every stream: what is wanted, asked for, granted, refused, and what ticks.

    desired -> requested -> confirmed -> ticking        refused, with the venue's words

The feeds report what was asked and answered; that a stream ticks is read off shared memory, so the
way of a tick pays nothing for it. All states stand in arrays, a row a symbol and a column a
channel: 150,000 streams are looked at in a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from mdsys.feed.venue import CHANNELS

WORDS_SIZE_MAX = 400
"""Characters that are kept of what a venue says."""
_COLUMN = {channel: column for column, channel in enumerate(CHANNELS)}
_WIDTH = len(CHANNELS)

Times = npt.NDArray[np.int64]
_NEVER = np.int64(np.iinfo(np.int64).max)
Heard = Callable[[npt.NDArray[np.uint32], Times], None]
"""(symbol ids, out): tells when each channel of each was last heard, ns since the epoch; 0: never.
``_native.Cache.heard``."""


class State(IntEnum):
    """Of one stream; of a symbol it is the least of its streams'."""

    NONE = 0
    """Not wanted."""
    REFUSED = 1
    DESIRED = 2
    REQUESTED = 3
    CONFIRMED = 4
    TICKING = 5


class Subscriptions:
    """Every stream of an instance."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, int]] = {}
        """Venue -> symbol -> row."""
        self._free: list[int] = []
        self._words: dict[tuple[int, int], str] = {}
        """(Row, column) -> the venue's words."""
        self.names: list[tuple[str, str]] = []
        """Row -> (venue, symbol)."""
        self.state = np.zeros((0, _WIDTH), np.uint8)
        self.since_ns = np.zeros((0, _WIDTH), np.int64)
        """When it came into its state."""
        self.requested_ns = np.zeros((0, _WIDTH), np.int64)
        """When it was asked for on its connection's socket; 0: it was not."""
        self.ids = np.zeros(0, np.uint32)
        """In the symbol directory; 0: it is not there."""
        self.connection = np.zeros(0, np.int32)
        """By number; 0: it is on none."""
        self.acknowledged = np.zeros(0, np.bool_)
        """Whether its venue answers subscriptions."""

    def __len__(self) -> int:
        """Return how many rows there are, those that are free among them."""
        return len(self.names)

    def row(self, venue: str, symbol: str) -> int | None:
        """Return the row of a symbol; None: it is not wanted."""
        return self._rows.get(venue, {}).get(symbol)

    def symbols(self, venue: str) -> Collection[str]:
        """Return what is wanted of a venue, in the order it came."""
        return self._rows.get(venue, {}).keys()

    def unplaced(self, venue: str, state: State | None = None) -> list[str]:
        """Return what is wanted of a venue and is on no connection, in the order it came.

        Args:
            venue: Of the symbols.
            state: Those alone that are in it; None: any.
        """
        own = self._rows.get(venue, {})
        rows = np.fromiter(own.values(), np.intp, len(own))
        chosen = self.connection[rows] == 0
        if state is not None:
            chosen &= self._worst(self.state[rows]) == state
        return [symbol for symbol, one in zip(own, chosen.tolist(), strict=True) if one]

    # ---- what is wanted ----

    def want(
        self,
        venue: str,
        symbols: Sequence[str],
        channels: Iterable[str],
        now_ns: int,
        *,
        acknowledges: bool,
    ) -> list[int]:
        """Enter symbols that are not wanted yet, on no connection; return their rows."""
        self._grow(len(symbols) - len(self._free))
        rows = [self._free.pop() for _ in symbols]
        own = self._rows.setdefault(venue, {})
        for row, symbol in zip(rows, symbols, strict=True):
            own[symbol] = row
            self.names[row] = (venue, symbol)
        places = np.array(rows, np.intp)
        for channel in channels:
            self.state[places, _COLUMN[channel]] = State.DESIRED
        self.since_ns[places] = now_ns
        self.acknowledged[places] = acknowledges
        return rows

    def _grow(self, more: int) -> None:
        if more <= 0:
            return
        old = len(self.names)
        size = max(old + more, 2 * old)
        for name in ("state", "since_ns", "requested_ns", "ids", "connection", "acknowledged"):
            array = getattr(self, name)
            bigger = np.zeros((size, *array.shape[1:]), array.dtype)
            bigger[:old] = array
            setattr(self, name, bigger)
        self.names += [("", "")] * (size - old)
        self._free[:0] = range(size - 1, old - 1, -1)  # the lowest are taken first

    def place(self, venue: str, symbols: Iterable[str], connection: int) -> None:
        """Note which connection carries symbols that are wanted."""
        rows = self._rows[venue]
        self.connection[[rows[symbol] for symbol in symbols]] = connection

    def identify(self, venue: str, symbols: Iterable[str], ids: Iterable[int]) -> None:
        """Note the symbols' ids, by which the cache knows them."""
        rows = self._rows[venue]
        self.ids[[rows[symbol] for symbol in symbols]] = list(ids)

    def forget(self, venue: str, symbols: Iterable[str]) -> list[int]:
        """Drop symbols that are wanted no more; return their rows, which others may get."""
        own = self._rows.get(venue, {})
        rows = [row for symbol in symbols if (row := own.pop(symbol, None)) is not None]
        places = np.array(rows, np.intp)
        for array in (self.state, self.since_ns, self.requested_ns, self.ids, self.connection):
            array[places] = 0
        for row in rows:
            self.names[row] = ("", "")
            self._drop_words(row, range(_WIDTH))
        self._free += rows
        return rows

    # ---- what becomes of it ----

    def report(
        self,
        venue: str,
        symbols: Iterable[str],
        channel: str | None,
        state: State,
        at_ns: int,
        *,
        connection: int | None = None,
        words: str | None = None,
    ) -> list[int]:
        """Take over what a feed tells of some streams; strangers are passed over.

        Args:
            venue: Of the symbols.
            symbols: Its own names.
            channel: Which stream of each; None: all that are wanted.
            state: REQUESTED, CONFIRMED or REFUSED; DESIRED for what was removed.
            at_ns: When.
            connection: Symbols on another are passed over: the news is old. None: any.
            words: The venue's, for a refusal.

        Returns:
            The rows it was about.
        """
        own = self._rows.get(venue, {})
        rows = [row for symbol in symbols if (row := own.get(symbol)) is not None]
        if connection is not None:
            rows = [row for row in rows if self.connection[row] == connection]
        columns = range(_WIDTH) if channel is None else (_COLUMN[channel],)
        places = np.array(rows, np.intp)
        for column in columns:
            now = self.state[places, column]
            if state is State.CONFIRMED:  # a tick may have come before the answer
                moved = places[(now != State.NONE) & (now < State.CONFIRMED)]
            else:
                moved = places[now != State.NONE]
            self.state[moved, column] = state
            self.since_ns[moved, column] = at_ns
            if state is State.REQUESTED:
                self.requested_ns[moved, column] = at_ns
            elif state <= State.DESIRED:
                self.requested_ns[moved, column] = 0
            if state is State.REFUSED:
                said = (words or "")[:WORDS_SIZE_MAX]
                for row in moved.tolist():
                    self._words[row, column] = said
            elif self._words:
                for row in moved.tolist():
                    self._words.pop((row, column), None)
        return rows

    def lose(self, connection: int, now_ns: int) -> None:
        """Take a lost connection's streams back to desired: all must be asked for again."""
        rows = np.flatnonzero(self.connection == connection)
        state = self.state[rows]
        wanted = state != State.NONE
        changed = wanted & (state != State.DESIRED)
        self.since_ns[rows] = np.where(changed, now_ns, self.since_ns[rows])
        self.state[rows] = np.where(wanted, State.DESIRED, state)
        self.requested_ns[rows] = 0
        if self._words:
            for row in rows.tolist():
                self._drop_words(row, range(_WIDTH))

    def _drop_words(self, row: int, columns: Iterable[int]) -> None:
        for column in columns:
            self._words.pop((row, column), None)

    def set_back(self, now_ns: int) -> None:
        """The clock was set back to this: what was asked for before it was asked for by now."""
        np.minimum(self.requested_ns, now_ns, out=self.requested_ns)

    def look(self, heard: Heard) -> Times:
        """See which streams have ticked since they were asked for.

        Returns:
            When each was last heard, in any life; 0: never.
        """
        times = np.zeros((len(self), _WIDTH), np.int64)
        known = np.flatnonzero(self.ids)
        if len(known):
            out = np.zeros((len(known), _WIDTH), np.int64)
            heard(self.ids[known], out)
            times[known] = out
        begun = (
            ((self.state == State.REQUESTED) | (self.state == State.CONFIRMED))
            & (self.requested_ns > 0)
            & (times >= self.requested_ns)
        )
        self.state[begun] = State.TICKING
        self.since_ns[begun] = times[begun]
        return times

    def expected_ns(self) -> Times:
        """Return, by number of the connection, since when it has streams that may come.

        Streams that are refused do not. 0: it has none; as long as a stream stays in its state, so
        does the time.
        """
        live = self.state > State.REFUSED
        since_ns = np.where(live, self.since_ns, _NEVER).min(axis=1)
        found = np.full(int(self.connection.max(initial=0)) + 1, _NEVER)
        np.minimum.at(found, self.connection, since_ns)
        found[found == _NEVER] = 0
        return found

    # ---- what it comes to ----

    def funnel(self) -> dict[str, int]:
        """Return how many streams have reached each stage or a later one; refused apart."""
        return _funnel(self.state.ravel())

    def symbol_funnel(self) -> dict[str, int]:
        """Return the same of symbols, each where the worst of its streams is."""
        return _funnel(self._worst(self.state))

    def connection_funnels(self) -> Mapping[int, dict[str, int]]:
        """Return the funnels of each connection's streams, and how many symbols it has."""
        stage_count = len(State)
        symbols = np.bincount(self.connection)
        keys = self.connection[:, None].astype(np.int64) * stage_count + self.state
        counts = np.bincount(keys.ravel(), minlength=len(symbols) * stage_count)
        return {
            number: {"symbols": int(symbols[number]), **_stages(row)}
            for number, row in enumerate(counts.reshape(len(symbols), stage_count))
            if number > 0 and symbols[number]
        }

    def refused_symbol_count(self) -> int:
        """Return of how many symbols the venue sends less than was asked."""
        return int(np.any(self.state == State.REFUSED, axis=1).sum())

    def symbol_count(self) -> int:
        """Return how many symbols are wanted."""
        return len(self) - len(self._free)

    def answered(self, but: Collection[int] = ()) -> bool:
        """Return whether each stream is confirmed or refused, or asked for where nobody answers.

        Args:
            but: Connections whose streams do not count.
        """
        return self.unanswered_count(but) == 0

    def unanswered_count(self, but: Collection[int] = ()) -> int:
        """Return how many streams are not; ``but`` as in ``answered``."""
        waiting = (self.state == State.DESIRED) | (
            (self.state == State.REQUESTED) & self.acknowledged[:, None]
        )
        if but:
            waiting[np.isin(self.connection, list(but))] = False
        return int(np.count_nonzero(waiting))

    def streams(self, row: int) -> Iterator[dict[str, Any]]:
        """Give what is known of each stream of one symbol."""
        for column, channel in enumerate(CHANNELS):
            state = State(int(self.state[row, column]))
            if state is not State.NONE:
                yield {
                    "channel": channel,
                    "state": state.name.lower(),
                    "since_ns": int(self.since_ns[row, column]),
                    "words": self._words.get((row, column)),
                }

    def worst(self, row: int) -> State:
        """Return the state of a symbol."""
        return State(int(self._worst(self.state[row : row + 1])[0]))

    @staticmethod
    def _worst(state: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        least = np.where(state == State.NONE, np.uint8(255), state).min(axis=1)
        return np.where(least == 255, np.uint8(State.NONE), least)


def _funnel(states: npt.NDArray[np.uint8]) -> dict[str, int]:
    return _stages(np.bincount(states, minlength=len(State)))


def _stages(counts: npt.NDArray[Any]) -> dict[str, int]:
    return {
        "desired": int(counts[State.REFUSED :].sum()),
        "requested": int(counts[State.REQUESTED :].sum()),
        "confirmed": int(counts[State.CONFIRMED :].sum()),
        "ticking": int(counts[State.TICKING]),
        "refused": int(counts[State.REFUSED]),
    }
