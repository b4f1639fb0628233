"""Quiet is not dead, dead is not quiet: simulated days of streams of every rate."""

from __future__ import annotations

from itertools import pairwise
from math import comb

import numpy as np
import numpy.typing as npt
import pytest

from mdsys.daemon.health import (
    CHANNEL_FLOOR_NS,
    FEW_FACTORS,
    PEERS_MIN,
    RETRY_FIRST_NS,
    RETRY_MAX_NS,
    SECOND,
    SILENCES_MIN,
    SPELL_NS,
    SPELL_SILENCES,
    STREAM_FLOOR_NS,
    Health,
    Pulse,
    Silences,
    Verdict,
)

T0 = 1_700_000_000 * SECOND
HOUR = 3_600
TRADE, QUOTE = 0, 1

Times = npt.NDArray[np.int64]


# ---- one kind of silence ------------------------------------------------------------------------


class Random:
    """Streams whose ticks come at random (Poisson), as one sees them who looks now and then."""

    def __init__(self, rate: float | npt.NDArray[np.float64], count: int, seed: int) -> None:
        self._rate = rate
        self._random = np.random.default_rng(seed)
        self.heard: Times = np.zeros(count, np.int64)

    def pass_time(self, now_ns: int, step_s: float) -> Times:
        """Return when each was last heard at ``now_ns``, ``step_s`` after the last call."""
        chance = -np.expm1(-self._rate * step_s)
        hit = self._random.random(len(self.heard)) < chance
        back_s = -np.log1p(-self._random.random(len(self.heard)) * chance) / self._rate
        self.heard = np.where(hit, now_ns - (back_s * SECOND).astype(np.int64), self.heard)
        return self.heard


def false_alarms(rate: float, count: int, hours: float, step_s: float) -> int:
    silences = Silences(STREAM_FLOOR_NS)
    silences.grow(count)
    streams = Random(rate, count, seed=int(rate * 1e6))
    from_ns = np.full(count, T0, np.int64)
    alarms = 0
    for turn in range(int(hours * HOUR / step_s)):
        now_ns = T0 + int((turn + 1) * step_s * SECOND)
        fresh, _ = silences.look(now_ns, streams.pass_time(now_ns, step_s), from_ns)
        alarms += int(fresh.sum())
    return alarms


def bound() -> float:
    """Return the chance that a random stream is called stale in its first 128 silences."""
    few = dict(enumerate(FEW_FACTORS, 1))
    return sum(
        1 / comb(n + int(few.get(n, 4 + 80 / n)), n)  # rounded down: the chance is no larger
        for n in range(SILENCES_MIN, 128)
    )


@pytest.mark.parametrize(
    ("rate", "hours", "step_s"),
    [
        (100, 0.25, 1),
        (10, 0.5, 1),
        (1, 1, 1),
        (0.1, 24, 10),
        (0.01, 24, 20),
        (1 / 600, 24, 60),
        (1 / HOUR, 24, 60),
    ],
)
def test_healthy_stream_of_any_rate_is_not_called_stale_within_a_day(
    rate: float, hours: float, step_s: float
) -> None:
    count = 2_000
    expected_max = (bound() + 5.2e-4) * count
    assert false_alarms(rate, count, hours, step_s) <= expected_max + 4 * expected_max**0.5


def test_bounds_that_the_docstring_names_hold() -> None:
    assert bound() < 3e-4
    spell_s = SPELL_NS / SECOND
    a_day = [
        24 * HOUR * rate / comb(max(SPELL_SILENCES, int(spell_s * rate)) + 4, 4)
        for rate in (SPELL_SILENCES / spell_s * each / 100 for each in range(1, 1_000))
    ]
    assert max(a_day) < 5.2e-4


@pytest.mark.parametrize("rate", [100.0, 1.0, 0.1, 1 / 60])
def test_dead_stream_is_found_within_a_few_times_its_longest_silence(rate: float) -> None:
    count = 500
    silences = Silences(STREAM_FLOOR_NS)
    silences.grow(count)
    streams = Random(rate, count, seed=5)
    from_ns = np.full(count, T0, np.int64)
    step_s = max(1.0, 0.1 / rate)
    turns = max(100, int(300 / rate / step_s))
    now_ns = T0
    longest = np.zeros(count, np.int64)
    for _ in range(turns):
        now_ns += int(step_s * SECOND)
        before = streams.heard.copy()
        heard = streams.pass_time(now_ns, step_s)
        gap = np.where((before > 0) & (heard > before), heard - before, 0)
        longest = np.maximum(longest, gap)
        silences.look(now_ns, heard, from_ns)
    last = streams.heard.copy()
    limit = np.maximum(STREAM_FLOOR_NS, 5 * longest) + 2 * int(step_s * SECOND)
    found = silences.stale.copy()
    while not found.all():
        now_ns += int(step_s * SECOND)
        silences.look(now_ns, last, from_ns)
        overdue = ~silences.stale & (now_ns - last > limit)
        assert not overdue.any()
        found = silences.stale


def one(floor_ns: int = STREAM_FLOOR_NS) -> Silences:
    silences = Silences(floor_ns)
    silences.grow(1)
    return silences


def look(silences: Silences, now_s: float, heard_s: float, from_s: float = 1.0) -> bool:
    """Return whether the stream has become stale just now."""
    times = [T0 + int(each * SECOND) if each else 0 for each in (heard_s, from_s)]
    fresh, _ = silences.look(T0 + int(now_s * SECOND), np.array([times[0]]), np.array([times[1]]))
    return bool(fresh[0])


def teach(silences: Silences, every_s: float, count: int, start_s: float = 2.0) -> float:
    """Let it tick regularly; return the time of the last tick."""
    at = start_s
    for turn in range(count):
        at = start_s + turn * every_s
        look(silences, at, at)
    return at


def test_stream_that_never_ticked_is_not_stale_however_long() -> None:
    silences = one()
    assert not look(silences, 10 * 24 * HOUR, 0)


def test_stream_with_too_few_silences_is_not_judged() -> None:
    silences = one()
    last = teach(silences, 1.0, SILENCES_MIN)  # ticks: one silence fewer
    assert not look(silences, last + 24 * HOUR, last)
    assert silences.limit_s(0) is None


def test_no_silence_below_ten_seconds_is_judged() -> None:
    silences = one()
    last = teach(silences, 0.01, 200)
    assert not look(silences, last + 10.0, last)
    assert look(silences, last + 10.1, last)
    assert not look(silences, last + 11.0, last)  # it is stale, but not anew
    assert silences.stale[0]


def test_tick_clears_it() -> None:
    silences = one()
    last = teach(silences, 1.0, 200)
    look(silences, last + 100, last)
    assert silences.stale[0]
    look(silences, last + 101, last + 100.5)
    assert not silences.stale[0]


def test_silence_that_was_too_long_teaches_no_more_than_was_allowed() -> None:
    silences = one()
    last = teach(silences, 10.0, 200)
    limit_s = silences.limit_s(0)
    assert limit_s is not None
    look(silences, last + 24 * HOUR, last)
    look(silences, last + 24 * HOUR + 1, last + 24 * HOUR + 1)
    after_s = silences.limit_s(0)
    assert after_s is not None
    assert after_s <= 5 * limit_s
    assert after_s > limit_s  # but a market that calms down is believed step by step


def test_outage_is_no_habit_of_the_stream() -> None:
    silences = one()
    last = teach(silences, 1.0, 200)
    before_s = silences.limit_s(0)
    look(silences, last + 2, last, from_s=0)  # lost: it is not judged
    again = last + 5 * HOUR
    look(silences, again, last, from_s=again)  # asked for anew
    look(silences, again + 1, again + 1, from_s=again)
    assert silences.limit_s(0) == before_s


def test_silence_counts_from_when_it_was_asked_for() -> None:
    silences = one()
    last = teach(silences, 1.0, 200)
    again = last + 5 * HOUR
    assert not look(silences, again + 5, last, from_s=again)
    assert look(silences, again + 11, last, from_s=again)


def test_habits_of_long_ago_are_forgotten() -> None:
    silences = one()
    last = teach(silences, 100.0, 200)
    slow_s = silences.limit_s(0)
    assert slow_s is not None
    last = teach(silences, 1.0, 2 * HOUR, start_s=last + 1)
    fast_s = silences.limit_s(0)
    assert fast_s is not None
    assert slow_s > 400
    assert fast_s == 10.0


def test_another_stream_in_its_place_inherits_nothing() -> None:
    silences = one()
    last = teach(silences, 1.0, 200)
    look(silences, last + 100, last)
    silences.forget(np.array([0]))
    assert not silences.stale[0]
    assert silences.limit_s(0) is None
    assert not look(silences, last + 200, last)


# ---- everything together ------------------------------------------------------------------------


class World:
    """Some connections of ten symbols each, their channels ticking as told."""

    def __init__(self, connections: int = 2, channels: tuple[int, ...] = (TRADE, QUOTE)) -> None:
        self.health = Health()
        self.now_ns = T0
        count = 10 * connections
        self.connection = (np.arange(count) // 10 + 1).astype(np.int32)
        self.heard = np.zeros((count, 5), np.int64)
        self.from_ns = np.zeros((count, 5), np.int64)
        self.from_ns[:, channels] = T0
        self.pulses: dict[int, Pulse] = {
            number: Pulse(T0, 0, None) for number in range(1, connections + 1)
        }

    def second(self, *quiet: tuple[int, int]) -> Verdict:
        """Let a second pass in which all tick but the (connection, column) named."""
        self.now_ns += SECOND
        ticks = self.from_ns > 0
        for number, column in quiet:
            ticks[self.connection == number, column] = False
        self.heard[ticks] = self.now_ns
        return self.look()

    def look(self) -> Verdict:
        return self.health.look(self.now_ns, self.heard, self.from_ns, self.connection, self.pulses)

    def live(self, seconds: int) -> None:
        for _ in range(seconds):
            assert self.second() == Verdict()


def named(parts: list[tuple[int, int, npt.NDArray[np.intp]]]) -> list[tuple[int, int, list[int]]]:
    return [(number, column, rows.tolist()) for number, column, rows in parts]


def test_mute_channel_is_found_in_seconds_told_once_and_subscribed_anew_ever_more_rarely() -> None:
    world = World()
    world.live(60)
    told: list[int] = []
    asked: list[int] = []
    for second in range(1, 400):
        verdict = world.second((2, QUOTE))
        assert verdict.reconnect == []
        if verdict.stale:
            assert named(verdict.stale) == [(2, QUOTE, list(range(10, 20)))]
            told.append(second)
        if verdict.resubscribe:
            assert named(verdict.resubscribe) == [(2, QUOTE, list(range(10, 20)))]
            asked.append(second)
    assert told == [6]
    waits = [later - sooner for sooner, later in pairwise(asked)]
    assert asked[0] == 6
    assert waits[0] == RETRY_FIRST_NS // SECOND
    assert all(later == 2 * sooner for sooner, later in pairwise(waits))


def test_one_dead_symbol_among_lively_ones_is_found_alone() -> None:
    world = World(connections=1, channels=(TRADE,))
    world.live(60)
    for _ in range(9):
        world.second((1, TRADE))  # all are quiet for less than ten seconds ...
        world.heard[:9, TRADE] = world.now_ns  # ... but nine of them are not
        assert world.look() == Verdict()
    found: list[tuple[int, int, list[int]]] = []
    for _ in range(5):
        world.now_ns += SECOND
        world.heard[:9, TRADE] = world.now_ns
        found += named(world.look().stale)
    assert found == [(1, TRADE, [9])]
    assert world.health.is_stale(9) == [True, False, False, False, False]
    assert world.health.stale_count() == 1


def test_connection_whose_every_channel_is_silent_is_ended_once() -> None:
    world = World()
    world.live(60)
    found = [world.second((1, TRADE), (1, QUOTE)).reconnect for _ in range(60)]
    assert [each for each in found if each] == [
        [(1, "mute: none of its channels has brought anything new for far too long")]
    ]
    assert found.index(max(found)) == 5


def test_mute_socket_is_found_by_what_the_venue_promises_though_nothing_ever_ticked() -> None:
    world = World(connections=1)
    world.pulses = {1: Pulse(T0 + SECOND, 0, 30.0)}
    found = []
    for _ in range(100):
        world.now_ns += SECOND
        found += world.look().reconnect
    assert found == [(1, "mute: no frame for 31 s")]
    world.pulses = {1: Pulse(world.now_ns, world.now_ns, 30.0)}  # the next socket
    world.now_ns += 29 * SECOND
    assert world.look().reconnect == []
    world.now_ns += 2 * SECOND
    assert world.look().reconnect == [(1, "mute: no frame for 31 s")]


def test_heartbeats_keep_a_socket_whose_symbols_are_all_quiet() -> None:
    world = World(connections=1)
    for _ in range(100):
        world.now_ns += SECOND
        world.pulses = {1: Pulse(T0, world.now_ns, 5.0)}
        assert world.look() == Verdict()


def test_nothing_is_judged_while_its_market_is_closed() -> None:
    world = World(connections=1)
    world.live(60)
    world.from_ns[:] = 0
    for _ in range(100):
        world.now_ns += 600 * SECOND
        assert world.look() == Verdict()
    world.from_ns[:, (TRADE, QUOTE)] = world.now_ns  # it opens
    world.now_ns += CHANNEL_FLOOR_NS - SECOND
    assert world.look() == Verdict()
    world.now_ns += 2 * SECOND
    assert world.look().reconnect


def test_row_that_another_symbol_takes_starts_anew() -> None:
    world = World(connections=1, channels=(TRADE,))
    world.live(60)
    world.health.forget([3])
    world.heard[3] = 0
    world.now_ns += 200 * SECOND
    world.heard[:3, TRADE] = world.heard[4:, TRADE].max()
    assert world.health.limits_s(3) == [None] * 5
    world.look()
    assert world.health.is_stale(3) == [False] * 5
    assert world.health.is_stale(4)[TRADE]


def test_no_wait_grows_beyond_an_hour() -> None:
    world = World()
    world.live(60)
    asked: list[int] = []
    for minute in range(24 * 60):
        world.now_ns += 60 * SECOND
        world.heard[world.from_ns > 0] = world.now_ns
        world.heard[world.connection == 2, QUOTE] = T0 + 60 * SECOND
        if world.look().resubscribe:
            asked.append(minute)
    waits = [60 * (later - sooner) for sooner, later in pairwise(asked)]
    assert max(waits) == RETRY_MAX_NS // SECOND
    assert len(asked) > 24


# ---- one tick and no more -----------------------------------------------------------------------


def one_tick(peers: Random, hours: float, step_s: float) -> list[float]:
    """Return after how long a stream that ticks once is called stale: never, or once."""
    count = len(peers.heard)
    health = Health()
    heard = np.zeros((count + 1, 5), np.int64)
    from_ns = np.zeros_like(heard)
    from_ns[:, TRADE] = T0
    connection = np.ones(count + 1, np.int32)
    heard[count, TRADE] = T0 + SECOND
    found: list[float] = []
    for turn in range(1, int(hours * HOUR / step_s) + 1):
        now_ns = T0 + int(turn * step_s * SECOND)
        heard[:count, TRADE] = peers.pass_time(now_ns, step_s)
        verdict = health.look(now_ns, heard, from_ns, connection, {})
        if any(count in rows for _, _, rows in verdict.stale):
            found.append((now_ns - T0) / SECOND)
    assert (health.limits_s(count)[TRADE] is None) == (count < PEERS_MIN)
    return found


def test_stream_that_ticked_once_among_busy_ones_is_found_after_an_hour() -> None:
    (found_s,) = one_tick(Random(0.1, PEERS_MIN, seed=1), hours=3, step_s=10)
    assert HOUR < found_s <= HOUR + 20


def test_stream_that_ticked_once_is_not_judged_by_few_peers() -> None:
    assert one_tick(Random(0.1, PEERS_MIN - 1, seed=1), hours=3, step_s=10) == []


@pytest.mark.parametrize("seed", range(5))
def test_quiet_stream_that_ticked_once_does_not_look_dead_beside_others_as_quiet(seed: int) -> None:
    # From one tick a minute to one in two days.
    rates = Random(1 / np.geomspace(60, 48 * HOUR, 300), 300, seed)
    assert one_tick(rates, hours=48, step_s=60) == []
