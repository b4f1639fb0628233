from __future__ import annotations

from mdsys.feed.coinbase.ledger import NO_MORE_LISTED, NOT_LISTED, WORDS_SIZE_MAX, Ledger
from mdsys.feed.venue import Confirmed, Notice, Refused, Removed, Stream

NAMES = {"trade": "matches", "quote": "ticker", "ticker": "ticker", "book": "level2"}


def ledger() -> Ledger:
    return Ledger(NAMES)


def streams(channel: str, *products: str) -> list[Stream]:
    return [Stream(product, channel) for product in products]


def test_what_is_listed_is_confirmed_and_the_rest_of_the_answered_request_is_refused() -> None:
    books = ledger()
    assert books.note(streams("trade", "A", "B"), 1) == {"matches": ["A", "B"]}
    assert books.listed({("matches", "A")}) == [
        Confirmed(streams("trade", "A")),
        Refused(NOT_LISTED, streams("trade", "B")),
    ]


def test_a_later_request_that_is_listed_already_is_confirmed_and_not_yet_judged() -> None:
    books = ledger()
    books.note(streams("trade", "A"), 1)
    books.note(streams("trade", "B", "C"), 2)
    both = {("matches", "A"), ("matches", "B")}
    assert books.listed(both) == [Confirmed(streams("trade", "A", "B"))]
    assert books.listed(both) == [Refused(NOT_LISTED, streams("trade", "C"))]


def test_two_channels_that_come_by_one_are_asked_for_once_and_confirmed_together() -> None:
    books = ledger()
    asked = books.note(streams("quote", "A") + streams("ticker", "A", "B"), 1)
    assert asked == {"ticker": ["A", "B"]}
    assert books.listed({("ticker", "A"), ("ticker", "B")}) == [
        Confirmed(streams("quote", "A") + streams("ticker", "A", "B"))
    ]


def test_an_error_refuses_the_oldest_request_and_no_other() -> None:
    books = ledger()
    books.note(streams("trade", "A"), 7)
    books.note(streams("trade", "B"), 8)
    assert books.failed("x" * 999) == [Refused("x" * WORDS_SIZE_MAX, request_id=7)]
    assert books.listed({("matches", "B")}) == [Confirmed(streams("trade", "B"))]


def test_an_error_that_answers_nothing_of_anybodys_is_a_notice() -> None:
    books = ledger()
    assert books.failed("too slow") == [Notice("too slow")]
    books.note((), None)
    books.note(streams("trade", "A"), 1, removes=True)
    assert books.failed("no heartbeats") == [Notice("no heartbeats")]
    assert books.failed("no such thing") == [Notice("no such thing")]
    assert books.listed(set()) == []


def test_a_request_of_our_own_takes_its_turn_among_the_answers() -> None:
    books = ledger()
    books.note((), None)
    books.note(streams("trade", "A"), 1)
    assert books.listed(set()) == []  # the heartbeats': it says nothing of A
    assert books.listed(set()) == [Refused(NOT_LISTED, streams("trade", "A"))]


def test_what_is_removed_is_removed_when_it_is_listed_no_more() -> None:
    books = ledger()
    books.note(streams("trade", "A", "B"), 1)
    books.listed({("matches", "A"), ("matches", "B")})
    assert books.note(streams("trade", "A", "B"), 2, removes=True) == {"matches": ["A", "B"]}
    assert books.listed({("matches", "B")}) == [
        Removed(streams("trade", "A")),
        Notice("still subscribed: B"),
    ]


def test_a_request_behind_a_removal_is_not_taken_for_confirmed_by_the_list_of_before() -> None:
    books = ledger()
    books.note(streams("trade", "A"), 1)
    listed = {("matches", "A")}
    books.listed(listed)
    books.note(streams("book", "A"), 2)
    books.note(streams("trade", "A"), 3, removes=True)
    books.note(streams("trade", "A"), 4)
    assert books.listed({*listed, ("level2", "A")}) == [Confirmed(streams("book", "A"))]
    assert books.listed({("level2", "A")}) == [Removed(streams("trade", "A"))]
    assert books.listed({*listed, ("level2", "A")}) == [Confirmed(streams("trade", "A"))]


def test_what_the_venue_drops_by_itself_is_refused_once() -> None:
    books = ledger()
    books.note(streams("trade", "A", "B"), 1)
    books.listed({("matches", "A"), ("matches", "B")})
    assert books.listed({("matches", "B")}) == [Refused(NO_MORE_LISTED, streams("trade", "A"))]
    assert books.listed({("matches", "B")}) == []


def test_what_leaves_by_a_request_still_open_was_not_dropped_by_the_venue() -> None:
    books = ledger()
    books.note(streams("trade", "A", "B"), 1)
    books.listed({("matches", "A"), ("matches", "B")})
    books.note(streams("trade", "A"), 2, removes=True)
    books.note(streams("trade", "B"), 3, removes=True)
    assert books.listed(set()) == [Removed(streams("trade", "A"))]
    assert books.listed(set()) == [Removed(streams("trade", "B"))]
