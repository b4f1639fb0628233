"""What a fault did at ten venues at once: one daemon, ten simulators, and all that a reader saw.

An episode is one fault at every venue that can have it. Its tests, one for each venue, look at what
was seen at theirs. Episodes that leave all as it was follow one another in one scene.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import mdsys
from mdsys import Kind, Status
from mdsys.daemon.stat_command import take_picture
from mdsys.record.record import ABSENT
from tests.daemons import PATIENCE_S, Daemon, instance
from tests.simulated import (
    ALL,
    FIELDS,
    SOLITARY,
    Secrets,
    Street,
    all_tick,
    channels,
    connections_of,
    daemon_on,
    full,
    secret,
    status_when,
    street,
    venue_text,
)

TRADE_ID_MIN = 10**8
"""Where the market's trade ids begin; all its other ids are below."""
CONTIGUOUS = frozenset(
    {
        *("binance", "binance_usdm", "binance_coinm"),
        *("kraken", "coinbase_exchange", "coinbase_advanced"),
    }
)
"""Venues whose trade ids prove a loss."""
ASCENDING = SOLITARY
"""Venues whose trade ids prove order and duplicates."""


KIND_OF = {
    "trade": Kind.TRADE,
    "quote": Kind.QUOTE,
    "book": Kind.LEVEL,
    "ticker": Kind.TICKER,
}
"""Channel -> what its records are."""


class Said(NamedTuple):
    """A status record."""

    what: Status
    symbol: str | None
    """VENUE:SYMBOL; None: the connection's, or the ring's."""
    first: int | None
    last: int | None
    connection: int | None


class Traded(NamedTuple):
    """A trade record."""

    symbol: str
    id: int


@dataclass(slots=True)
class Seen:
    """What the rings had of one venue, in order."""

    events: list[Said | Traded] = field(default_factory=list)
    kinds: Counter[tuple[str, Kind]] = field(default_factory=Counter)
    """By symbol and kind, how many records."""
    ahead_ns: list[int] = field(default_factory=list)
    """ts_event - ts_recv of each record that has both."""

    @property
    def said(self) -> list[Said]:
        """The statuses."""
        return [each for each in self.events if isinstance(each, Said)]

    def count(self, what: Status) -> int:
        """Return how many statuses of a kind there were."""
        return sum(each.what is what for each in self.said)

    def trades(self, symbol: str) -> list[int]:
        """Return the ids of a symbol's trades, in the order of the ring."""
        return [e.id for e in self.events if isinstance(e, Traded) and e.symbol == symbol]

    def lost(self, symbol: str) -> list[tuple[int, int]]:
        """Return the ranges of trade ids that were announced as lost."""
        return [
            (each.first, each.last)
            for each in self.said
            if each.what is Status.GAP
            and each.symbol == symbol
            and each.first is not None
            and each.last is not None
            and each.first >= TRADE_ID_MIN
        ]


def check_conserved(seen: Seen, symbols: Collection[str]) -> None:
    """Hold trades to the law: from first to last each id came once, or was announced lost."""
    for symbol in symbols:
        ids = seen.trades(symbol)
        twice = [each for each, count in Counter(ids).items() if count > 1]
        assert not twice, f"{symbol}: published twice: {twice}"
        announced = {i for first, last in seen.lost(symbol) for i in range(first, last + 1)}
        missing = set(range(min(ids), max(ids) + 1)) - set(ids) - announced
        assert not missing, f"{symbol}: neither published nor announced: {sorted(missing)}"


def check_ascending(seen: Seen, symbols: Collection[str]) -> None:
    """The same where ids prove no loss: what is missing fell between two lives of the socket."""
    for symbol in symbols:
        last: int | None = None
        was_down = False
        for event in seen.events:
            if isinstance(event, Said):
                was_down |= event.what in (Status.CONNECTION_DOWN, Status.CONNECTION_UP)
            elif event.symbol == symbol:
                if last is not None:
                    assert event.id > last, f"{symbol}: {event.id} after {last}"
                    assert event.id == last + 1 or was_down, f"{symbol}: {last}..{event.id}"
                last, was_down = event.id, False


class Episode:
    """What was seen of one fault, and what the daemon said meanwhile."""

    def __init__(
        self,
        running: Daemon,
        venues: Collection[str],
        reconnects: Counter[str],
        line_first: int = 0,
    ) -> None:
        self.venues = tuple(venues)
        """Those that are struck."""
        self.seen = {venue: Seen() for venue in venues}
        self.failed: dict[str, str] = {}
        """Venue -> what did not come to be, with what was there instead."""
        self.reconnects = reconnects
        """Venue -> how often it had been dialled again before."""
        self.state_then: dict[str, Any] = {}
        """The daemon's state while the fault was on."""
        self.symbols_then: dict[str, dict[str, Any]] = {}
        """Venue -> its state of the symbol that was struck."""
        self.attempts_then: dict[str, int] = {}
        """Venue -> how often it had been dialled."""
        self.counted: dict[str, int] = {}
        """What the feed's counters rose by."""
        self.reloaded: dict[str, Any] = {}
        """What ``ctl reload`` answered."""
        self.name = running.name
        self._running = running
        self._line_first = line_first

    @property
    def lines(self) -> list[str]:
        """The daemon's log from the fault on."""
        return self._running.lines[self._line_first :]

    @property
    def log(self) -> str:
        """The same in one."""
        return "\n".join(self.lines)

    def check(self, venue: str) -> Seen:
        """Fail where something did not come to be; return what was seen."""
        assert venue not in self.failed, self.failed[venue]
        return self.seen[venue]

    def check_law(self, venue: str) -> None:
        """Hold a venue's trades to the law as far as its ids prove anything."""
        seen = self.check(venue)
        symbols = {symbol for symbol, kind in seen.kinds if kind is Kind.TRADE}
        if venue in CONTIGUOUS:
            assert symbols
            check_conserved(seen, symbols)
        elif venue in ASCENDING:
            assert symbols
            check_ascending(seen, symbols)


class Scene:
    """Venues, a daemon and a reader: what episodes are played on."""

    def __init__(
        self, secrets: Secrets, sims: Street, running: Daemon, market_data: mdsys.MarketData
    ) -> None:
        self.name = running.name
        self.secrets = secrets
        self.sims = sims
        self.running = running
        self.episode = Episode(running, tuple(sims), Counter())
        self._line_next = 0  # what strikes from the start on is told before there is a reader
        self._market_data = market_data
        self._reader: mdsys.Reader | None = None
        self._venue_of: dict[int, str] = {}

    def begin(self, venues: Collection[str]) -> Episode:
        """Begin an episode at these venues; what is read from now on is its."""
        answer = self.state()
        again = Counter({venue: reconnects(answer, venue) for venue in venues})
        self.episode = Episode(self.running, venues, again, self._line_next)
        return self.episode

    def end(self) -> None:
        """End the episode; the log from now on is the next one's."""
        self._line_next = len(self.running.lines)

    def strike(self, venue: str, fault: str, **options: Any) -> None:
        """Let something go wrong on the oldest socket of a venue."""
        number = self.sims.call(lambda: self.sims[venue].connections[0])
        self.sims.inject(venue, fault, connection=number, **options)

    # ---- what readers see ----

    def watch(self) -> None:
        """Begin to read, once the symbols are known."""
        self._reader = self._market_data.reader()

    def read(self) -> None:
        """Take what the rings have had since, waiting a moment for it."""
        assert self._reader is not None
        ticks = self._reader.poll(count_max=8192, timeout=0.05)
        assert self._reader.lost == 0
        for tick in ticks:
            name = self._market_data.symbol_name(int(tick["symbol_id"])) or None
            kind = Kind(int(tick["kind"]))
            if kind is Kind.STATUS:
                self._take_status(tick, name)
                continue
            assert name is not None
            seen = self.episode.seen.get(name.partition(":")[0].lower())
            if seen is None:
                continue
            seen.kinds[name, kind] += 1
            if int(tick["ts_event"]) != ABSENT:
                seen.ahead_ns.append(int(tick["ts_event"]) - int(tick["ts_recv"]))
            if kind is Kind.TRADE:
                seen.events.append(Traded(name, int(tick["trade_id"])))

    def _take_status(self, tick: Any, name: str | None) -> None:
        first, last, connection = (
            None if (value := int(tick[each])) == ABSENT else value
            for each in ("first_lost", "last_lost", "connection")
        )
        said = Said(Status(int(tick["what"])), name, first, last, connection)
        if name is not None:
            venue = name.partition(":")[0].lower()
        elif connection in self._venue_of:
            venue = self._venue_of[connection]
        else:
            return
        if venue in self.episode.seen:
            self.episode.seen[venue].events.append(said)

    # ---- what the daemon says ----

    def state(self) -> dict[str, Any]:
        """Return what ``ctl status`` says."""
        answer = mdsys.control(self.name).status()
        self._venue_of = {each["connection"]: each["venue"] for each in answer["connections"]}
        return answer

    def counter(self, name: str) -> int:
        """Return a counter of the feed."""
        return int(take_picture(self.name)["feeds"][0]["counters"][name])

    # ---- waiting ----

    def until(
        self,
        is_so: Callable[[str, Seen, dict[str, Any]], bool],
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Read until something is so at each venue; those where it never is have failed.

        Args:
            is_so: Given a venue, what was seen of it, and the daemon's state.
            patience_s: How long to wait.
        """
        episode = self.episode
        waiting = [venue for venue in episode.venues if venue not in episode.failed]
        deadline = time.monotonic() + patience_s
        while True:
            self.read()
            answer = self.state()
            waiting = [each for each in waiting if not is_so(each, episode.seen[each], answer)]
            if not waiting:
                return
            if time.monotonic() > deadline:
                break
        for venue in waiting:
            shown = json.dumps(connections_of(answer, venue), indent=1)
            said = episode.seen[venue].said
            episode.failed[venue] = f"{said}\n{shown}\n{self.running.log}"

    def until_more(self, count: int = 3, symbols: Collection[int] = range(2)) -> None:
        """Read until each channel of every symbol has ticked so often again."""
        before = {venue: seen.kinds.copy() for venue, seen in self.episode.seen.items()}

        def more(venue: str, seen: Seen, answer: dict[str, Any]) -> bool:
            del answer
            keys = [(full(venue, i), KIND_OF[each]) for i in symbols for each in channels(venue)]
            return all(seen.kinds[key] >= before[venue][key] + count for key in keys)

        self.until(more)


def reconnects(answer: Mapping[str, Any], venue: str) -> int:
    """Return how often a venue's connections have been dialled again."""
    return sum(each["reconnects"] for each in connections_of(answer, venue))


def venue_ticks(venue: str, seen: Seen, answer: dict[str, Any]) -> bool:
    """Whether all streams of a venue tick."""
    del seen
    own = connections_of(answer, venue)
    return bool(own) and all(each["streams"] == each["ticking"] > 0 for each in own)


@contextlib.contextmanager
def scene(
    tmp_path: Path,
    venues: Collection[str] = ALL,
    *,
    per_connection: int = 1,
    word: str = "good",
    faults: Mapping[str, str] | None = None,
    mix: tuple[int, int, int] = (30, 50, 20),
    ready: bool = True,
) -> Iterator[Scene]:
    """Run a daemon on simulated venues, two symbols each, and read everything.

    Args:
        tmp_path: Of this scene alone.
        venues: Which.
        per_connection: Symbols of one connection, where a venue allows two.
        word: Of the secrets that are written; the simulators take ``good`` and ``fresh``.
        faults: Venue -> what goes wrong from the start on.
        mix: Percents of trades, quotes and depth frames.
        ready: Whether to wait until everything ticks.
    """
    secrets = Secrets(tmp_path)
    taken = {venue: secrets_of(venue) for venue in venues if venue in FIELDS}
    with (
        instance() as name,
        street(venues, rate=60, mix=mix, faults=faults, secrets=taken) as sims,
    ):
        tables = [
            venue_text(
                venue,
                sims[venue],
                max_symbols_per_connection=per_connection,
                **({"credentials": [secrets.write(venue, word)]} if venue in FIELDS else {}),
            )
            for venue in venues
        ]
        with (
            daemon_on(tmp_path, name, *tables, secrets=secrets) as running,
            mdsys.attach(name) as market_data,
        ):
            made = Scene(secrets, sims, running, market_data)
            if ready:
                status_when(name, all_tick)
            made.state()
            made.watch()
            if ready:
                made.until_more(count=1)
            yield made


def secrets_of(venue: str) -> list[str]:
    """Return the secrets that a simulator takes."""
    return [secret(venue, word) for word in ("good", "fresh")]


def wanted(venue: str) -> list[str]:
    """Return the full names of an episode's symbols at a venue."""
    return [full(venue, index) for index in range(2)]
