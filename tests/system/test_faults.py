"""The fault matrix: what goes wrong at a venue is told in the rings, and mended.

Each fault strikes all venues at once, in an episode of its own (tests/episodes.py); a test looks at
one venue's part of it. Episodes that must wait for something slow run beside the others.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import mdsys
from mdsys import Status
from tests.episodes import (
    CONTIGUOUS,
    Scene,
    Seen,
    check_conserved,
    scene,
    venue_ticks,
    wanted,
)
from tests.simulated import (
    ALL,
    FIELDS,
    SOLITARY,
    Secrets,
    channels,
    connections_of,
    full,
)

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

OVERSIZE = 17 << 20
BOOKED = tuple(venue for venue in ALL if "book" in channels(venue))
SEQUENCED = tuple(venue for venue in ALL if venue in CONTIGUOUS)
KEYED = tuple(FIELDS)
PUBLIC = tuple(venue for venue in ALL if venue not in FIELDS)

IMPOSSIBLE = {
    **{
        (fault, venue): "it sends no ids: a tick is as good as any other"
        for fault in ("hole", "duplicate", "reorder")
        for venue in ("kite", "openalgo")
    },
    **{
        (fault, "alpaca"): "its trade ids are each exchange's own: they have no order"
        for fault in ("duplicate", "reorder")
    },
    ("duplicate", "massive"): "its ids have holes by design: an old one is late, not double",
    ("mute symbol", "coinbase_advanced"): "it numbers what is muted: all of it is lost, not one",
    **{("hole", venue): "its ids have holes by design" for venue in SOLITARY},
    **{
        ("mute symbol", venue): "its frames hold many symbols: the simulator mutes whole ones"
        for venue in SOLITARY
    },
    **{("book hole", venue): "no channel of books here" for venue in SOLITARY},
    **{
        ("book hole", venue): "each frame is the whole depth: the next one mends it"
        for venue in ("kite", "openalgo")
    },
    ("book hole", "coinbase_exchange"): "its books are not numbered: a lost change cannot be seen",
    **{("expired", venue): "it has no credentials" for venue in PUBLIC},
    **{
        ("planned close", venue): "it gives no notice: the close is that of the row `close`"
        for venue in ALL
        if venue != "binance"
    },
    **{("406", venue): "one socket: one answer, 429" for venue in SOLITARY},
}
"""(Fault, venue) -> why there is no such thing."""


def losses(seen: Seen) -> list[Status]:
    """Return what connections did."""
    ups_and_downs = (Status.CONNECTION_DOWN, Status.CONNECTION_UP)
    return [each.what for each in seen.said if each.what in ups_and_downs]


def reconnects(answer: dict[str, Any], venue: str) -> int:
    return sum(each["reconnects"] for each in connections_of(answer, venue))


def came_back(venue: str, seen: Seen, answer: dict[str, Any]) -> bool:
    """Whether one connection was lost, is back, and everything ticks."""
    return (
        reconnects(answer, venue) == 1
        and losses(seen) == [Status.CONNECTION_DOWN, Status.CONNECTION_UP]
        and venue_ticks(venue, seen, answer)
    )


# ---- the episodes -------------------------------------------------------------------------------


def socket_loss(fault: str, **options: Any) -> Callable[[Path], Scene]:
    """Return an episode in which each venue's first socket ends."""

    def play(tmp_path: Path) -> Scene:
        with scene(tmp_path) as now:
            for venue in now.venues:
                now.sims.inject(venue, fault, connection=1, **options)
            now.until(came_back)
            now.until_more()
            return now

    return play


LONG_S = 60.0
"""A daemon that stood still for a second while it learned is patient for longer."""


def learned(now: Scene, silence_max_s: float = 60.0) -> None:
    """Wait until the daemon knows the habits of all streams: before it, silence means nothing.

    Args:
        now: The episode.
        silence_max_s: No stream may be silent for longer; the more ticks it has seen, the less.
    """
    control = mdsys.control(now.name)

    def knows(venue: str, seen: Seen, answer: dict[str, Any]) -> bool:
        del seen, answer
        return all(
            (stream["silence_max_s"] or LONG_S + 1) <= silence_max_s
            for index in range(2)
            for stream in control.status(full(venue, index))["streams"]
        )

    now.until(knows, patience_s=LONG_S)


def silence(fault: str) -> Callable[[Path], Scene]:
    """Return an episode in which each venue's first socket falls silent."""

    def play(tmp_path: Path) -> Scene:
        with scene(tmp_path) as now:
            learned(now)
            for venue in now.venues:
                now.sims.inject(venue, fault, connection=1)
            now.until(came_back)
            now.until_more()
            return now

    return play


def mute_symbol(tmp_path: Path) -> Scene:
    """One symbol of two on a socket falls silent."""
    venues = [venue for venue in ALL if ("mute symbol", venue) not in IMPOSSIBLE]
    with scene(tmp_path, venues, per_connection=2) as now:
        learned(now, 14.0)
        mutes = {
            venue: now.sims.inject(venue, "mute", symbol="*SYM000001", connection=1)
            for venue in venues
        }

        def told(venue: str, seen: Seen, answer: dict[str, Any]) -> bool:
            del answer
            stale = [each for each in seen.said if each.what is Status.STALE]
            return len(stale) >= len(channels(venue))

        now.until(told, patience_s=LONG_S)
        for venue, mute in mutes.items():
            now.sims.lift(venue, mute)
        now.until(venue_ticks)
        now.until_more()
        return now


def extra(fault: str, **options: Any) -> Callable[[Path], Scene]:
    """Return an episode in which a frame comes that nobody can use."""

    def play(tmp_path: Path) -> Scene:
        with scene(tmp_path) as now:
            for venue in now.venues:
                now.sims.inject(venue, fault, connection=1, **options)
            now.until(lambda _, seen, __: seen.count(Status.FRAME_REFUSED) > 0)
            now.until(venue_ticks)
            now.until_more()
            return now

    return play


def misplaced(fault: str, venues: Collection[str], kind: str = "trade") -> Callable[[Path], Scene]:
    """Return an episode in which a frame is missing, comes twice, or late."""

    def play(tmp_path: Path) -> Scene:
        with scene(tmp_path, venues, mix=(60, 30, 10)) as now:
            for venue in venues:
                options: dict[str, Any] = {"kind": kind}
                if venue == "coinbase_advanced":  # a frame of many trades has no kind
                    options = {"kind": "other"}
                elif venue in SOLITARY:  # nor has one of many events: a trade is among so many
                    options = {"kind": "other", "count": 40}
                now.sims.inject(venue, fault, connection=1, **options)
            for _ in range(3):
                now.until_more()
            now.until(venue_ticks)
            now.counters = {
                each: now.counter(each) for each in ("duplicates", "reordered", "gaps", "gap_ids")
            }
            return now

    return play


def book_hole(tmp_path: Path) -> Scene:
    """A change of a book goes missing."""
    venues = [venue for venue in BOOKED if ("book hole", venue) not in IMPOSSIBLE]
    with scene(tmp_path, venues) as now:
        for venue in venues:
            # Kraken numbers nothing: what its checksum cannot tell has done no harm.
            now.sims.inject(venue, "hole", connection=1, kind="depth", count=5)

        def told(venue: str, seen: Seen, answer: dict[str, Any]) -> bool:
            del venue, answer
            return seen.count(Status.RESYNC) > 0

        now.until(told)
        with mdsys.attach(now.name) as md:

            def usable(venue: str, seen: Seen, answer: dict[str, Any]) -> bool:
                del seen, answer
                books = [md.book(symbol) for symbol in wanted(venue)]
                return all(book is not None and book.usable for book in books)

            now.until(usable)
            now.until_more()
            now.until(usable)
        return now


def clock_ahead(tmp_path: Path) -> Scene:
    """The venues' clocks jump a minute ahead."""
    with scene(tmp_path) as now:
        for venue in now.venues:
            now.sims.inject(venue, "clock", ahead=60)
        for seen in now.seen.values():
            seen.ahead_ns.clear()
        now.until_more()
        now.until(lambda _, seen, __: max(seen.ahead_ns, default=0) > 55_000_000_000)
        now.until(venue_ticks)
        now.state_then = now.state()
        return now


def planned_close(tmp_path: Path) -> Scene:
    """The venue says that it leaves, and closes its sockets a second later."""
    with scene(tmp_path, ["binance"]) as now:
        now.sims.inject("binance", "lifetime", notice=1)
        now.sims.until("binance", lambda sim: sim.stats.attempts == 4)
        running = now.running
        running.wait_for_line("binance connection 1: replaced")
        running.wait_for_line("binance connection 2: replaced")
        now.sims.until("binance", lambda sim: sim.stats.clients == 2)
        now.until_more()
        now.until(venue_ticks)
        return now


def turned_away(tmp_path: Path) -> Scene:
    """The first attempt to connect is answered with 429, the second with 406."""
    faults = {
        venue: "http,status=429,connection=1,count=1,words=slow down"
        + ("" if venue in SOLITARY else ";http,status=406,connection=2,count=1,words=not now")
        for venue in ALL
    }
    with scene(tmp_path, faults=faults, ready=False) as now:

        def waits(venue: str, seen: Seen, answer: dict[str, Any]) -> bool:
            del seen
            own = connections_of(answer, venue)
            return bool(own) and all(
                each["state"] == "waiting" and each["http"] in (406, 429) for each in own
            )

        now.until(waits)
        now.state_then = now.state()
        now.until(venue_ticks, patience_s=45)
        now.until_more()
        return now


def denied(tmp_path: Path) -> Scene:
    """A key that is wrong from the start; where there is none, the venue bars the door."""
    faults = dict.fromkeys(PUBLIC, "http,status=403,words=go away")
    with scene(tmp_path, word="stale", faults=faults, ready=False) as now:

        def is_denied(venue: str, seen: Seen, answer: dict[str, Any]) -> bool:
            del seen
            own = connections_of(answer, venue)
            # Kite's list of symbols wants the token too: nothing is dialled without it.
            return all(each["state"] == "denied" for each in own) and (bool(own) or venue == "kite")

        now.until(is_denied)
        now.state_then = now.state()
        now.symbols_then = {
            venue: mdsys.control(now.name).status(full(venue, 0)) for venue in now.venues
        }
        now.attempts_then = now.sims.call(
            lambda: {venue: sim.stats.attempts for venue, sim in now.sims.sims.items()}
        )
        mend(now, tmp_path, "fresh")
        now.until(venue_ticks)
        now.until_more()
        return now


def mend(now: Scene, tmp_path: Path, word: str) -> None:
    """Replace every secret, open barred doors, and have the daemon read its secrets anew."""
    secrets = Secrets(tmp_path)
    for venue in now.venues:
        if venue in FIELDS:
            secrets.write(venue, word)
        else:
            for fault in now.sims[venue]._faults:
                now.sims.lift(venue, fault)
    now.reloaded = mdsys.control(now.name).reload()


def expired(tmp_path: Path) -> Scene:
    """The keys expire while everything ticks."""
    with scene(tmp_path, KEYED) as now:
        for venue in KEYED:
            now.sims.inject(venue, "expire", connection=1)

        def is_denied(venue: str, seen: Seen, answer: dict[str, Any]) -> bool:
            del seen
            return any(each["state"] == "denied" for each in connections_of(answer, venue))

        now.until(is_denied)
        now.state_then = now.state()
        mend(now, tmp_path, "fresh")
        now.until(venue_ticks)
        now.until_more()
        return now


def refused(tmp_path: Path) -> Scene:
    """The venue takes one symbol of two, on one socket."""
    faults = dict.fromkeys(ALL, "refuse,symbol=*SYM000001,words=out of order")
    with scene(tmp_path, per_connection=2, faults=faults, ready=False) as now:

        def settled(venue: str, seen: Seen, answer: dict[str, Any]) -> bool:
            del seen
            own = connections_of(answer, venue)
            half = len(channels(venue))
            return bool(own) and own[0]["ticking"] == half and own[0]["state"] == "ready"

        now.until(settled)
        now.until_more(symbols=[0])
        now.state_then = now.state()
        now.symbols_then = {
            venue: mdsys.control(now.name).status(full(venue, 1)) for venue in now.venues
        }
        return now


EPISODES: dict[str, Callable[[Path], Scene]] = {
    "429": turned_away,
    "mute symbol": mute_symbol,
    "mute": silence("mute"),
    "half-open": silence("half-open"),
    "cut": socket_loss("cut"),
    "reset": socket_loss("reset"),
    "close": socket_loss("close", code=1008, reason="because"),
    "slow": socket_loss("slow"),
    "oversized": extra("oversized", size=OVERSIZE),
    "malformed": extra("malformed"),
    "hole": misplaced("hole", SEQUENCED),
    "duplicate": misplaced("duplicate", SEQUENCED),
    "reorder": misplaced("reorder", (*SEQUENCED, "massive")),
    "book hole": book_hole,
    "clock": clock_ahead,
    "planned close": planned_close,
    "denied": denied,
    "expired": expired,
    "refused": refused,
}
SLOW = ("429", "mute symbol", "mute", "half-open")
"""They wait for the daemon's patience, with little to do: they begin first, beside each other."""


SAME = {"406": "429"}
"""Faults that one episode has both."""


class Plays:
    """The episodes that have been asked for, each played once."""

    def __init__(self, factory: pytest.TempPathFactory, wanted_ones: Collection[str]) -> None:
        self._factory = factory
        self._pool = ThreadPoolExecutor(len(SLOW))
        self._lock = threading.Lock()
        self._played: dict[str, Future[Scene]] = {}
        for name in SLOW:
            if name in {SAME.get(each, each) for each in wanted_ones}:
                self._begin(name)

    def _begin(self, name: str) -> Future[Scene]:
        name = SAME.get(name, name)
        with self._lock:
            if name not in self._played:
                tmp_path = self._factory.mktemp(name.replace(" ", "-"))
                self._played[name] = self._pool.submit(EPISODES[name], tmp_path)
            return self._played[name]

    def __getitem__(self, name: str) -> Scene:
        name = SAME.get(name, name)
        if name in SLOW or name in self._played:
            return self._begin(name).result()
        future: Future[Scene] = Future()
        self._played[name] = future
        try:
            future.set_result(EPISODES[name](self._factory.mktemp(name.replace(" ", "-"))))
        except BaseException as error:
            future.set_exception(error)
            raise
        return future.result()

    def close(self) -> None:
        self._pool.shutdown()


@pytest.fixture(scope="module")
def plays(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Plays]:
    asked = {
        str(item.callspec.params["fault"])
        for item in request.session.items
        if item.path == request.path
        and isinstance(item, pytest.Function)
        and "fault" in item.callspec.params
    }
    made = Plays(tmp_path_factory, asked)
    try:
        yield made
    finally:
        made.close()


# ---- the matrix ---------------------------------------------------------------------------------


def rows(*faults: str, venues: Collection[str] = ALL) -> pytest.MarkDecorator:
    """Return the matrix's rows of these faults, what cannot be skipped with the reason."""
    return pytest.mark.parametrize(
        ("fault", "venue"),
        [
            pytest.param(
                fault,
                venue,
                id=f"{fault}-{venue}".replace(" ", "_"),
                marks=[pytest.mark.skip(reason=why)]
                if (why := IMPOSSIBLE.get((fault, venue)))
                else [],
            )
            for fault in faults
            for venue in venues
        ],
    )


@rows("cut", "reset", "close", "slow", "mute", "half-open")
def test_a_lost_socket_is_told_and_dialled_again_and_no_loss_goes_unannounced(
    fault: str, venue: str, plays: Plays
) -> None:
    play = plays[fault]
    seen = play.check_law(venue)
    assert losses(seen) == [Status.CONNECTION_DOWN, Status.CONNECTION_UP]
    assert seen.count(Status.FRAME_REFUSED) == 0
    down = next(each for each in seen.said if each.what is Status.CONNECTION_DOWN)
    words = LOG_WORDS[fault]
    assert f"{venue} connection {down.connection}: down" in play.running.log
    line = next(
        line for line in play.running.lines if f"{venue} connection {down.connection}: down" in line
    )
    assert any(each in line for each in words), line


LOG_WORDS = {
    "cut": ("the server hung up without a CLOSE",),
    "reset": ("reset by peer", "the server hung up without a CLOSE"),
    "close": ("closed by the venue: 1008 because",),
    "slow": ("closed by the venue", "the server hung up without a CLOSE", "slow"),
    "mute": ("mute: ",),
    "half-open": ("mute: ", "the server hung up without a CLOSE"),
}


@rows("mute symbol")
def test_a_symbol_that_falls_silent_alone_is_told_stale_and_asked_for_again(
    fault: str, venue: str, plays: Plays
) -> None:
    seen = plays[fault].check_law(venue)
    stale = [each for each in seen.said if each.what is Status.STALE]
    assert {each.symbol for each in stale} == {full(venue, 1)}
    numbers = {CHANNEL_NUMBERS.index(each) for each in channels(venue)}
    assert {each.last for each in stale} == numbers
    assert losses(seen) == []


CHANNEL_NUMBERS = ("trade", "quote", "book", "ticker", "bar")


@rows("malformed")
def test_nonsense_is_told_and_costs_nothing_else(fault: str, venue: str, plays: Plays) -> None:
    seen = plays[fault].check_law(venue)
    assert losses(seen) == []
    (told,) = (each for each in seen.said if each.what is Status.FRAME_REFUSED)
    assert (told.first, told.last) == (1, 1)


@rows("oversized")
def test_a_frame_beyond_the_bound_ends_the_socket_which_is_dialled_again(
    fault: str, venue: str, plays: Plays
) -> None:
    seen = plays[fault].check_law(venue)
    assert losses(seen) == [Status.CONNECTION_DOWN, Status.CONNECTION_UP]
    assert seen.count(Status.FRAME_REFUSED) == 1


@rows("hole")
def test_a_missing_trade_is_announced_with_its_id(fault: str, venue: str, plays: Plays) -> None:
    play = plays[fault]
    seen = play.check_law(venue)
    lost = [each for symbol in wanted(venue) for each in seen.lost(symbol)]
    assert len(lost) == 1
    assert lost[0][0] <= lost[0][1]
    assert losses(seen) == []


@rows("duplicate")
def test_what_comes_twice_is_published_once_and_counted(
    fault: str, venue: str, plays: Plays
) -> None:
    play = plays[fault]
    seen = play.check_law(venue)
    assert losses(seen) == []
    assert all(seen.lost(symbol) == [] for symbol in wanted(venue))
    assert play.counters["duplicates"] >= len(play.venues)


@rows("reorder")
def test_what_comes_late_is_counted_and_its_hole_was_announced(
    fault: str, venue: str, plays: Plays
) -> None:
    play = plays[fault]
    seen = play.check(venue)
    assert losses(seen) == []
    assert play.counters["reordered"] >= len(play.venues)
    check_conserved(seen, wanted(venue))
    if venue in CONTIGUOUS:
        assert any(seen.lost(symbol) for symbol in wanted(venue))


@rows("book hole")
def test_a_book_that_missed_a_change_is_void_until_it_is_whole_again(
    fault: str, venue: str, plays: Plays
) -> None:
    seen = plays[fault].check_law(venue)
    void = {each.symbol for each in seen.said if each.what is Status.RESYNC}
    assert len(void) == 1
    assert void < set(wanted(venue))
    assert losses(seen) == []


@rows("clock")
def test_a_clock_that_is_ahead_is_measured_and_changes_nothing(
    fault: str, venue: str, plays: Plays
) -> None:
    play = plays[fault]
    seen = play.check_law(venue)
    assert losses(seen) == []
    assert not {Status.STALE, Status.RESYNC, Status.GAP} & {each.what for each in seen.said}
    offsets = [each["clock_offset_ns"] for each in connections_of(play.state_then, venue)]
    assert all(50_000_000_000 < each < 61_000_000_000 for each in offsets), offsets


@rows("planned close")
def test_a_planned_close_is_overlapped_without_a_gap_or_a_duplicate(
    fault: str, venue: str, plays: Plays
) -> None:
    play = plays[fault]
    seen = play.check_law(venue)
    assert seen.said == []


@rows("429", "406")
def test_who_is_turned_away_stays_away_and_comes_back(fault: str, venue: str, plays: Plays) -> None:
    play = plays[fault]
    play.check_law(venue)
    (own,) = (each for each in connections_of(play.state_then, venue) if each["http"] == int(fault))
    assert {"429": "slow down", "406": "not now"}[fault] in own["words"]
    assert f"HTTP {fault}" in own["words"]
    delays = re.findall(
        rf"{venue} connection {own['connection']}: .*next try in ([0-9.]+) s", play.running.log
    )
    assert [float(each) >= 15 for each in delays] == [True]


@rows("denied")
def test_who_is_denied_dials_no_more_until_the_secret_is_replaced(
    fault: str, venue: str, plays: Plays
) -> None:
    play = plays[fault]
    play.check_law(venue)
    own = connections_of(play.state_then, venue)
    assert play.attempts_then[venue] == len(own)  # once each
    told = play.symbols_then[venue]
    if venue in FIELDS:
        where = f"mdsys/credentials/{venue}_0"
        assert where in play.running.log
        if own:
            assert where in told["remedy"]
            assert f"mdsys ctl reload --instance {play.name}" in told["remedy"]
    words = DENIAL.get(venue, "go away")
    assert words in f"{told['why']} {told['words']}", told
    assert words in play.running.log


DENIAL = {
    "kite": "Incorrect `api_key` or `access_token`",
    "alpaca": "auth failed (code 402)",
    "massive": "authentication failed",
    "openalgo": "Invalid API key",
}


@rows("expired")
def test_an_expired_key_stops_the_dialling_until_it_is_replaced(
    fault: str, venue: str, plays: Plays
) -> None:
    play = plays[fault]
    seen = play.check_law(venue)
    number = next(
        e["connection"] for e in connections_of(play.state_then, venue) if e["state"] == "denied"
    )
    assert Status.CONNECTION_DOWN in losses(seen)
    assert losses(seen)[-1] is Status.CONNECTION_UP
    assert (
        f"{venue} connection {number} is not dialled again: credential {venue}_0"
        in play.running.log
    )
    assert f"{venue}_0" in play.reloaded["credentials_changed"]
    assert number in play.reloaded["redialled"]


@rows("refused")
def test_a_refused_symbol_is_told_in_the_venues_words_and_the_other_ticks(
    fault: str, venue: str, plays: Plays
) -> None:
    play = plays[fault]
    play.check_law(venue)
    told = play.symbols_then[venue]
    # Coinbase Advanced Trade says nothing: it leaves out what it does not take.
    words = "leaves it out" if venue == "coinbase_advanced" else "out of order"
    assert any(f"{venue} connection" in line and words in line for line in play.running.lines)
    if venue == "kite":  # nothing is ever acknowledged, nor refused
        assert told["state"] == "requested"
        return
    assert told["state"] == "refused"
    assert words in told["words"]
    assert words in told["why"]
    (own,) = connections_of(play.state_then, venue)
    assert own["refused"] == own["streams"] - own["ticking"] == len(channels(venue))
