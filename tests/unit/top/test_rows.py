"""What the tables are told: rates, ages, states, and what is wrong now."""

from __future__ import annotations

from mdsys.top.daemon_words import Told, told
from mdsys.top.history import History
from mdsys.top.rows import connection_rows, reader_rows, ring_rows, troubles
from mdsys.top.source import Look
from tests.tops import SECOND, feed, later, look, mark, reader, ring, status, told_connection

SERIAL = object()


def seen(*looks: Look) -> History:
    history = History()
    for each in looks:
        history.add(each, SERIAL)
    return history


def amiss(history: History) -> list[str]:
    return troubles(history, reader_rows(history), connection_rows(history))


def test_ring_has_its_rate_and_how_long_it_holds() -> None:
    first = look(rings=[ring(0, head=0), ring(1, head=50)])
    history = seen(first, later(first, 2, rings=[ring(0, head=2_048), ring(1, head=50)]))
    busy, idle = ring_rows(history)
    assert (busy.rate, busy.holds_s) == (1_024, 4.0)
    assert (idle.rate, idle.holds_s) == (0, None)


def test_ring_is_as_full_as_its_slowest_reader_is_behind() -> None:
    rings = [
        ring(0, unread=3_072, readers=2),
        ring(1, unread=0, readers=0),
        ring(2, unread=None, readers=None),
        ring(3, unread=5_000),
    ]
    fills = [each.fill for each in ring_rows(seen(look(rings=rings)))]
    assert fills == [0.75, None, None, 1.0], "nobody reads it, or nobody tells; lapped is full"


def test_watermark_has_an_age_and_may_never_have_been() -> None:
    rings = [ring(0, watermark_age_ns=3 * SECOND), ring(1, watermark_age_ns=None)]
    assert [each.age_s for each in ring_rows(seen(look(rings=rings)))] == [3.0, None]


def test_readers_are_not_known_when_the_daemon_does_not_tell() -> None:
    assert reader_rows(seen(look(told=Told(None, None, "gone")))) is None
    assert reader_rows(seen(look(told=told([], status())))) == []


def test_reader_without_handlers_is_judged_by_how_old_what_it_reads_is() -> None:
    idle = {"count": 0, "min": None, "p50": None, "p99": None, "p999": None, "max": None}
    busy = {"count": 9, "min": 1, "p50": 70, "p99": 80, "p999": 90, "max": 99}
    first = look(told=told([reader()], status()))
    assert first.told.readers is not None
    first.told.readers[0].words["latency_ns"] |= {"recv_to_handler": idle, "recv_to_read": busy}  # type: ignore[index]
    rows = reader_rows(seen(first))
    assert rows is not None
    assert [(each.p50, each.p99) for each in rows] == [(70, 80)]


def test_reader_that_keeps_no_batch_size_shows_none() -> None:
    rows = reader_rows(seen(look(told=told([reader(1, batch=0), reader(2, batch=64)], status()))))
    assert rows is not None
    assert [each.batch for each in rows] == [None, 64]


def test_ring_of_segments_that_were_replaced_says_so_as_the_head_does() -> None:
    gone = ring(0)
    gone.words["state"] = "superseded"  # type: ignore[index]
    assert ring_rows(seen(look(rings=[gone])))[0].state == "replaced"


def test_connection_has_its_rates_and_is_marked_when_it_was_opened_again() -> None:
    first = look(connections=[mark(frames=10, records=20, bytes=30)])
    history = seen(first)
    assert not connection_rows(history)[0].lost
    again = mark(frames=30, records=120, bytes=2_030, opens=3, reconnects=2)
    history.add(later(first, 2, connections=[again]), SERIAL)
    (row,) = connection_rows(history)
    assert (row.frames, row.records, row.size, row.reconnects) == (10, 50, 1_000, 2)
    assert row.lost


def test_connections_of_one_number_in_two_feeds_are_told_apart() -> None:
    first = look(feeds=[feed(0), feed(1)], connections=[mark(1, 0), mark(1, 1)])
    now = later(first, 1, connections=[mark(1, 0, frames=1_100), mark(1, 1, frames=1_007)])
    assert [row.frames for row in connection_rows(seen(first, now))] == [100, 7]


def test_connection_of_a_feed_that_is_gone_has_no_socket_whatever_its_place_says() -> None:
    (row,) = connection_rows(seen(look(feeds=[feed(up=0)])))
    assert row.state == "gone"


def test_connection_that_its_feed_has_not_begun_with_is_planned() -> None:
    planned = told_connection(2, state="planned", last_frame_s=None)
    rows = connection_rows(seen(look(told=told([], status(told_connection(1), planned)))))
    assert [(row.connection, row.state) for row in rows] == [(1, "ready"), (2, "planned")]


def test_words_of_a_venue_command_no_terminal() -> None:
    (row,) = connection_rows(seen(look(connections=[mark(words="go\x1b[2J away")])))
    assert row.words == "go\\x1b[2J away"


def test_nothing_is_amiss_where_all_is_well() -> None:
    first = look()
    assert amiss(seen(first, later(first, 1))) == []


def test_what_is_wrong_now_is_said_the_worst_first() -> None:
    first = look(
        feeds=[feed(0, state="hung"), feed(1, up=0)],
        connections=[mark(1, state="denied"), mark(2, state="waiting")],
        subscriptions={"stale": 12, "refused": 1},
    )
    assert amiss(seen(first)) == [
        "feed 1 gone",
        "1 feed hung",
        "1 connection denied",
        "1 connection down",
        "12 streams stale",
        "1 stream refused",
    ]


def test_loss_is_amiss_when_it_grows_and_not_because_it_once_was() -> None:
    first = look(counters={"gap_ids": 7}, told=told([reader(lost=5)], status()))
    history = seen(first)
    assert amiss(history) == []
    more = told([reader(lost=6, dropped=1)], status())
    history.add(later(first, 1, counters={"gap_ids": 9}, told=more), SERIAL)
    assert amiss(history) == [
        "ids missing (9 in all)",
        "reader strategy-1 falls behind: 6 lost, 1 dropped",
    ]


def test_reader_that_the_writer_has_given_up_is_amiss() -> None:
    ejected = told([reader(rings_ejected=1)], status())
    assert amiss(seen(look(told=ejected))) == ["reader strategy-1 is no longer lossless"]


def test_dead_daemon_is_not_blamed_for_its_connections() -> None:
    dead = look(state="dead", feeds=[feed(up=0)], told=Told(None, None, "the daemon is dead"))
    assert amiss(seen(dead)) == [], "the head says what is wrong"


def test_daemon_that_does_not_answer_is_amiss() -> None:
    silent = look(told=Told(None, None, "the daemon does not answer"))
    assert amiss(seen(silent)) == ["the daemon does not answer"]
