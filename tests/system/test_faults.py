"""The fault matrix: what goes wrong at a venue is told in the rings, and mended.

Each fault strikes all venues at once, in an episode of its own (tests/faults.py); a test looks at
one venue's part of it. The stages that the episodes are played on run beside one another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from mdsys import Status
from tests import faults
from tests.episodes import CONTIGUOUS, Episode, Scene, check_conserved, scene, wanted
from tests.faults import PUBLIC, STAGES, Strike, losses, silence, socket_loss
from tests.simulated import ALL, FIELDS, SOLITARY, channels, connections_of, full

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

DOWN, UP, GAP, RESYNC, STALE, FRAME = (
    *(Status.CONNECTION_DOWN, Status.CONNECTION_UP, Status.GAP),
    *(Status.RESYNC, Status.STALE, Status.FRAME_REFUSED),
)


# ---- what else must hold -------------------------------------------------------------------------


def the_log_says(*words: str) -> Callable[[Episode, str], None]:
    """Return what wants one of these where the log tells of the loss."""

    def proof(play: Episode, venue: str) -> None:
        down = next(each for each in play.seen[venue].said if each.what is DOWN)
        start = f"{venue} connection {down.connection}: down"
        line = next(line for line in play.lines if start in line)
        assert any(each in line for each in words), line

    return proof


def one_frame_is_refused(play: Episode, venue: str) -> None:
    (told,) = (each for each in play.seen[venue].said if each.what is FRAME)
    assert (told.first, told.last) == (1, 1)


def each_stream_of_the_symbol_is_stale(play: Episode, venue: str) -> None:
    stale = [each for each in play.seen[venue].said if each.what is STALE]
    assert {each.symbol for each in stale} == {full(venue, 1)}
    numbers = {("trade", "quote", "book", "ticker", "bar").index(e) for e in channels(venue)}
    assert {each.last for each in stale} == numbers


def the_missing_id_is_announced(play: Episode, venue: str) -> None:
    lost = [each for symbol in wanted(venue) for each in play.seen[venue].lost(symbol)]
    assert len(lost) == 1
    assert lost[0][0] <= lost[0][1]


def it_is_counted_and_published_once(play: Episode, venue: str) -> None:
    assert all(play.seen[venue].lost(symbol) == [] for symbol in wanted(venue))
    assert play.counted["duplicates"] >= len(play.venues)


def it_is_counted_and_its_hole_was_announced(play: Episode, venue: str) -> None:
    seen = play.seen[venue]
    assert play.counted["reordered"] >= len(play.venues)
    check_conserved(seen, wanted(venue))
    if venue in CONTIGUOUS:
        assert any(seen.lost(symbol) for symbol in wanted(venue))


def one_book_alone_was_void(play: Episode, venue: str) -> None:
    void = {each.symbol for each in play.seen[venue].said if each.what is RESYNC}
    assert len(void) == 1
    assert void < set(wanted(venue))


def the_clock_is_measured(play: Episode, venue: str) -> None:
    assert not {STALE, RESYNC, GAP} & {each.what for each in play.seen[venue].said}
    offsets = [each["clock_offset_ns"] for each in connections_of(play.state_then, venue)]
    assert all(50_000_000_000 < each < 61_000_000_000 for each in offsets), offsets


def nothing_is_to_be_told(play: Episode, venue: str) -> None:
    assert play.seen[venue].said == []


def it_stays_away_for_long(status: int, words: str) -> Callable[[Episode, str], None]:
    """Return what wants one connection to have waited after this answer, and the words told."""

    def proof(play: Episode, venue: str) -> None:
        (own,) = (each for each in connections_of(play.state_then, venue) if each["http"] == status)
        assert words in own["words"]
        assert f"HTTP {status}" in own["words"]
        pattern = rf"{venue} connection {own['connection']}: .*next try in ([0-9.]+) s"
        assert [float(each) >= 15 for each in re.findall(pattern, play.log)] == [True]

    return proof


def it_is_dialled_once_and_the_secret_is_named(play: Episode, venue: str) -> None:
    own = connections_of(play.state_then, venue)
    assert play.attempts_then[venue] == len(own)  # once each
    told = play.symbols_then[venue]
    if venue in FIELDS:
        where = f"mdsys/credentials/{venue}_0"
        assert where in play.log
        if own:
            assert where in told["remedy"]
            assert f"mdsys ctl reload --instance {play.name}" in told["remedy"]
    words = DENIAL.get(venue, "go away")
    assert words in f"{told['why']} {told['words']}", told
    assert words in play.log


DENIAL = {
    "kite": "Incorrect `api_key` or `access_token`",
    "alpaca": "auth failed (code 402)",
    "massive": "authentication failed",
    "openalgo": "Invalid API key",
}


def the_dialling_stops_until_the_key_is_replaced(play: Episode, venue: str) -> None:
    number = next(
        e["connection"] for e in connections_of(play.state_then, venue) if e["state"] == "denied"
    )
    assert DOWN in losses(play.seen[venue])
    assert losses(play.seen[venue])[-1] is UP
    assert f"{venue} connection {number} is not dialled again: credential {venue}_0" in play.log
    assert f"{venue}_0" in play.reloaded["credentials_changed"]
    assert number in play.reloaded["redialled"]


def the_refusal_is_told_in_the_venues_words(play: Episode, venue: str) -> None:
    told = play.symbols_then[venue]
    # Coinbase Advanced Trade says nothing: it leaves out what it does not take.
    words = "leaves it out" if venue == "coinbase_advanced" else "out of order"
    assert any(f"{venue} connection" in line and words in line for line in play.lines)
    if venue == "kite":  # nothing is ever acknowledged, nor refused
        assert told["state"] == "requested"
        return
    assert told["state"] == "refused"
    assert words in told["words"]
    assert words in told["why"]
    (own,) = connections_of(play.state_then, venue)
    assert own["refused"] == own["streams"] - own["ticking"] == len(channels(venue))


# ---- the matrix ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, what readers are told of it, and what must hold besides.

    That all ticks again after each, and that each trade is published once or announced as lost, is
    asked of every row.
    """

    stage: str
    strike: Strike
    told: Collection[Status] | None
    """Of connections and frames, in order; None: as the fault strikes before there is a reader."""
    proof: Callable[[Episode, str], None]
    in_order: bool = True
    """Whether trades must come in the order of their ids."""


HUNG_UP = "the server hung up without a CLOSE"
away = faults.turned_away
# fmt: off
MATRIX = {
    # A socket ends: it is dialled again, everything is subscribed anew.
    "cut":         Fault("sockets", socket_loss("cut"), (DOWN, UP), the_log_says(HUNG_UP)),
    "reset":       Fault("sockets", socket_loss("reset"), (DOWN, UP),
                         the_log_says("reset by peer", "when we wrote to it")),
    "close":       Fault("sockets", socket_loss("close", code=1008, reason="because"), (DOWN, UP),
                         the_log_says("closed by the venue: 1008 because")),
    "slow":        Fault("sockets", socket_loss("slow"), (DOWN, UP),
                         the_log_says("closed by the venue", HUNG_UP, "slow")),
    "oversized":   Fault("sockets", socket_loss("oversized", size=faults.OVERSIZE),
                         (FRAME, DOWN, UP), one_frame_is_refused),
    "mute":        Fault("mute", silence("mute"), (DOWN, UP), the_log_says("mute: ")),
    "half-open":   Fault("half-open", silence("half-open"), (DOWN, UP),
                         the_log_says("mute: ", "no longer answers")),
    # A stream falls silent alone: it is asked for again, its socket stays.
    "mute symbol": Fault("pairs", faults.mute_symbol, (), each_stream_of_the_symbol_is_stale),
    # The venue says beforehand that it closes: another socket takes over in time.
    "planned close": Fault("frames", faults.planned_close, (), nothing_is_to_be_told),
    # Frames: what cannot be used costs nothing else, what is missing is announced.
    "malformed":   Fault("frames", faults.malformed, (FRAME,), one_frame_is_refused),
    "hole":        Fault("frames", faults.misplaced("hole"), (), the_missing_id_is_announced),
    "duplicate":   Fault("frames", faults.misplaced("duplicate"), (),
                         it_is_counted_and_published_once),
    "reorder":     Fault("frames", faults.misplaced("reorder"), (),
                         it_is_counted_and_its_hole_was_announced, in_order=False),
    "book hole":   Fault("frames", faults.book_hole, (), one_book_alone_was_void),
    # The venue itself.
    "clock":       Fault("frames", faults.clock_ahead, (), the_clock_is_measured),
    "429":         Fault("turned away", away, None, it_stays_away_for_long(429, "slow down")),
    "406":         Fault("turned away", away, None, it_stays_away_for_long(406, "not now")),
    "denied":      Fault("stale keys", faults.denied, None,
                         it_is_dialled_once_and_the_secret_is_named),
    "expired":     Fault("keys", faults.expired, None,
                         the_dialling_stops_until_the_key_is_replaced),
    "refused":     Fault("refused", faults.refused, None, the_refusal_is_told_in_the_venues_words),
}
# fmt: on

IMPOSSIBLE: dict[tuple[str, str], str] = {
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

POSSIBLE = [(fault, venue) for fault in MATRIX for venue in ALL if (fault, venue) not in IMPOSSIBLE]


class Plays:
    """The episodes that are asked for, each played once; a stage's follow one another."""

    def __init__(self, factory: pytest.TempPathFactory, asked: Collection[tuple[str, str]]) -> None:
        self._pool = ThreadPoolExecutor(sum(stage.is_slow for stage in STAGES.values()) + 1)
        self._played: dict[str, Future[Episode]] = {fault: Future() for fault, _ in asked}
        for name in sorted(STAGES, key=lambda name: not STAGES[name].is_slow):
            own = [(fault, venue) for fault, venue in asked if MATRIX[fault].stage == name]
            if own:
                folder = factory.mktemp(name.replace(" ", "-"))
                self._pool.submit(self._play, name, own, folder)

    def _play(self, name: str, asked: Collection[tuple[str, str]], folder: Path) -> None:
        venues = dict.fromkeys(venue for _, venue in asked)
        strikes = dict.fromkeys(MATRIX[fault].strike for fault, _ in asked)
        try:
            with scene(folder, venues, **STAGES[name].options) as now:
                for strike in strikes:
                    own = [each for each in asked if MATRIX[each[0]].strike is strike]
                    self._play_one(now, strike, own)
        except BaseException as error:  # noqa: BLE001 - each test is to fail of it
            for future in {self._played[fault] for fault, _ in asked}:
                if not future.done():
                    future.set_exception(error)

    def _play_one(self, now: Scene, strike: Strike, asked: Collection[tuple[str, str]]) -> None:
        futures = {self._played[fault] for fault, _ in asked}
        try:
            episode = now.begin(dict.fromkeys(venue for _, venue in asked))
            strike(now)
            now.end()
        except Exception as error:  # noqa: BLE001 - the others are played nevertheless
            for future in futures:
                future.set_exception(error)
        else:
            for future in futures:
                future.set_result(episode)

    def __getitem__(self, fault: str) -> Episode:
        return self._played[fault].result()

    def close(self) -> None:
        self._pool.shutdown()


@pytest.fixture(scope="module")
def plays(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Plays]:
    collected = [
        item.callspec.params
        for item in request.session.items
        if item.path == request.path and isinstance(item, pytest.Function)
    ]
    chosen = {(str(each["fault"]), str(each["venue"])) for each in collected}
    made = Plays(tmp_path_factory, [each for each in POSSIBLE if each in chosen])
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize(
    ("fault", "venue"),
    [
        pytest.param(
            fault,
            venue,
            id=f"{fault}-{venue}".replace(" ", "_"),
            marks=[pytest.mark.skip(reason=why)] if (why := IMPOSSIBLE.get((fault, venue))) else [],
        )
        for fault in MATRIX
        for venue in ALL
    ],
)
def test_what_goes_wrong_is_told_in_the_rings_and_all_ticks_again_without_a_silent_loss(
    fault: str, venue: str, plays: Plays
) -> None:
    row, play = MATRIX[fault], plays[fault]
    seen = play.check(venue)
    if row.told is not None:
        told = [each.what for each in seen.said if each.what in (DOWN, UP, FRAME)]
        assert told == list(row.told)
    row.proof(play, venue)
    if row.in_order:
        play.check_law(venue)
