"""Rates and latencies between looks; beginnings anew; what is forgotten."""

from __future__ import annotations

from mdsys.counters.counters import bucket_middle
from mdsys.top.history import GROWN_NS, SECONDS, History
from mdsys.top.source import Look
from tests.tops import histogram, later, look, ring

SERIAL = object()


def seen(*looks: Look) -> History:
    history = History()
    for each in looks:
        history.add(each, SERIAL)
    return history


def test_first_look_knows_no_rate() -> None:
    history = seen(look())
    assert history.seconds == 0
    assert history.counter_rate("frames") == 0
    assert list(history.published) == []


def test_rate_is_what_came_since_the_earliest_look_that_is_kept() -> None:
    first = look(counters={"frames": 100})
    looks = [later(first, 0.5 * i, counters={"frames": 100 + 10 * i}) for i in range(9)]
    history = seen(*looks)
    assert history.seconds == 2.0
    assert history.counter_rate("frames") == 20
    assert history.counter_rate("unheard of") == 0


def test_counter_that_went_down_has_no_negative_rate() -> None:
    first = look(counters={"frames": 100})
    assert seen(first, later(first, counters={"frames": 7})).counter_rate("frames") == 0


def test_other_rings_begin_anew_though_the_segments_are_the_same_object() -> None:
    first = look(counters={"frames": 100}, rings=[ring(0), ring(1)])
    history = seen(first, later(first, 1, rings=[ring(0)]), later(first, 2, rings=[ring(0)]))
    assert history.seconds == 1.0
    assert list(history.published) == [0]


def test_each_second_has_its_records_and_the_fullest_is_remembered() -> None:
    first = look(rings=[ring(head=0)])
    heads = [0, 100, 200, 1_200, 1_300]
    history = seen(*(later(first, i, rings=[ring(head=head)]) for i, head in enumerate(heads)))
    assert list(history.published) == [100, 100, 1_000, 100]
    assert history.peak == 1_000


def test_peak_is_of_the_daemons_life_where_it_tells() -> None:
    first = look(system={"records_rate_max": 9_000.0})
    assert seen(first).peak == 9_000


def test_latencies_are_of_the_last_minute_alone() -> None:
    first = look(hops={"hop": histogram({300: 1_000_000})})
    old = seen(first)
    assert old.latencies()["hop"].count == 0, "what was before we came is not of the last minute"
    for second in range(1, 2 * SECONDS):
        early, late = min(second, 30), max(second - 30, 0)
        counts = {300: 1_000_000, 200: 100 * early, 100: 100 * late}
        old.add(later(first, second, hops={"hop": histogram(counts)}), SERIAL)
    latency = old.latencies()["hop"]
    assert latency.count == 100 * SECONDS
    assert latency.p50 == latency.p999 == latency.worst == bucket_middle(100)
    assert list(latency.seconds) == [bucket_middle(100)] * SECONDS


def test_latencies_of_a_daemon_that_was_dead_when_we_came_are_those_that_it_left() -> None:
    first = look(state="dead", hops={"hop": histogram({300: 1_000})})
    left = seen(first)
    assert left.whole_life
    assert left.latencies()["hop"].p50 == bucket_middle(300)
    adopted = seen(first, later(first, 1, state="running"))
    assert not adopted.whole_life
    assert adopted.latencies()["hop"].count == 0


def test_latencies_do_not_vanish_a_minute_after_the_daemon_died() -> None:
    first = look(hops={"hop": histogram({300: 7})})
    history = seen(first, later(first, 1))
    for second in range(2, 2 * SECONDS):
        history.add(later(first, second, state="dead"), SERIAL)
    assert history.latencies()["hop"].count == 7


def test_percentiles_are_those_of_the_difference() -> None:
    first = look(hops={"hop": histogram({50: 7})})
    now = later(first, 1, hops={"hop": histogram({50: 7 + 980, 90: 15, 120: 5})})
    latency = seen(first, now).latencies()["hop"]
    assert latency.count == 1_000
    middles = [bucket_middle(each) for each in (50, 90, 120)]
    assert [latency.p50, latency.p99, latency.p999] == middles
    assert latency.worst == bucket_middle(120)


def test_second_in_which_nothing_came_has_no_percentile() -> None:
    first = look(hops={"hop": histogram({50: 7})})
    latency = seen(first, later(first, 1)).latencies()["hop"]
    assert list(latency.seconds) == [None]
    assert latency.p50 is None


def test_loss_is_of_now_for_a_minute_after_it_grew_and_not_before() -> None:
    first = look()
    history = seen(first)
    assert not history.grew("lost", 5), "it was lost before we came"
    history.add(later(first, 1), SERIAL)
    assert history.grew("lost", 6)
    history.add(later(first, 30), SERIAL)
    assert history.grew("lost", 6)
    history.add(later(first, 1 + GROWN_NS / 1e9), SERIAL)
    assert not history.grew("lost", 6)


def test_other_segments_begin_a_new_history() -> None:
    first = look(rings=[ring(head=1_000)])
    history = seen(first, later(first, 1, rings=[ring(head=2_000)]))
    assert history.peak == 1_000
    history.add(later(first, 2, rings=[ring(head=3)]), object())
    assert history.seconds == 0
    assert history.peak == 0
    assert history.look.rings[0].values["head"] == 3


def test_clock_that_was_set_back_begins_a_new_history() -> None:
    first = look()
    history = seen(first, later(first, 1), later(first, -5))
    assert history.seconds == 0


def test_rate_of_what_the_daemon_tells_is_over_its_own_answers() -> None:
    first = look()
    history = seen(first)
    told = []
    for half in range(1, 13):
        history.add(later(first, half / 2), SERIAL)
        told.append(history.told_rate("r", 1_000 * (half // 2)))  # it answers once a second
    assert told[0] == 0
    assert told[-3:] == [1_000, 1_000, 1_000]


def test_readers_that_have_gone_are_forgotten() -> None:
    first = look()
    history = seen(first)
    for number in range(100):
        history.grew(number, 1)
        history.told_rate(number, 1)
    history.add(later(first, 1 + GROWN_NS / 1e9), SERIAL)
    assert not history._grown
    assert not history._told
