"""Rows in full: the words of the tables, and what the daemon adds."""

from __future__ import annotations

from typing import Any

from mdsys.top.daemon_words import Told, told
from mdsys.top.explained import explained_row
from mdsys.top.history import History
from mdsys.top.rows import connection_rows, reader_rows, ring_rows
from mdsys.top.source import Look
from tests.tops import look, mark, reader, status, told_connection

URL = "wss://stream.venue.example/ws"


def explained_connection(seen: Look, place: int = 0) -> dict[str, str]:
    history = History()
    history.add(seen, None)
    name, pairs = explained_row("connections", connection_rows(history)[place], seen)
    assert len(dict(pairs)) == len(pairs), "nothing is told twice"
    return {"": name, **dict(pairs)}


def denied(**changes: Any) -> Look:
    row = told_connection(1, url=URL, retry_s=None, **changes)
    connections = [mark(1, state="denied", words="token has expired")]
    return look(connections=connections, told=told([reader()], status(row)))


def test_connection_is_told_with_the_titles_and_units_of_its_table() -> None:
    shown = explained_connection(denied())
    assert shown[""] == "connection 1"
    assert shown["state"] == "denied"
    assert shown["last frame"] == "now"
    assert shown["bytes/s"] == "0 B"
    assert shown["since"] == "60.0 s"
    assert shown["words"] == "token has expired"
    assert not any(
        "_" in name or value in ("True", "False", "None") for name, value in shown.items()
    )


def test_connection_is_told_with_its_address_and_when_it_is_dialled_again() -> None:
    shown = explained_connection(denied())
    assert (shown["to"], "dialled again" in shown) == (URL, False)
    row = told_connection(1, url="wss://x\x1b[2J", retry_s=3.25)
    shown = explained_connection(look(told=told([reader()], status(row))))
    assert (shown["to"], shown["dialled again"]) == ("wss://x\\x1b[2J", "in 3.25 s")


def test_words_of_a_connection_that_is_well_are_told_too() -> None:
    shown = explained_connection(look(connections=[mark(1, words="maintenance at nine")]))
    assert shown["words"] == "maintenance at nine"


def test_connection_of_the_same_number_in_another_feed_lends_no_words() -> None:
    other = told_connection(1, url=URL, retry_s=9.0, feed=1)
    shown = explained_connection(look(told=told([reader()], status(other))))
    assert (shown["feed"], shown["to"]) == ("0", "-")
    assert "dialled again" not in shown


def test_connection_of_a_daemon_that_tells_nothing_has_what_the_segments_hold() -> None:
    shown = explained_connection(look(told=Told(None, None, "the daemon is dead")))
    assert (shown["to"], shown["words"], shown["venue"]) == ("-", "-", "binance")


def test_readers_and_rings_are_told_in_full() -> None:
    seen, history = look(), History()
    history.add(seen, None)
    readers = reader_rows(history)
    assert readers is not None
    name, pairs = explained_row("readers", readers[0], seen)
    assert (name, dict(pairs)["p99"], dict(pairs)["pid"]) == (
        "reader strategy-1",
        "23.0 µs",
        "4001",
    )
    name, pairs = explained_row("rings", ring_rows(history)[1], seen)
    assert (name, dict(pairs)["records"], dict(pairs)["fill"]) == ("ring 1", "10,000", "0.1 %")
