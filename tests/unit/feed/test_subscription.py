from __future__ import annotations

import json
from typing import Any

import pytest

from mdsys.feed.subscription import Subscriptions
from mdsys.feed.venue import Answer
from tests.feeds import StubVenue


def drain(subscriptions: Subscriptions) -> list[dict[str, Any]]:
    messages = []
    while (message := subscriptions.next_message()) is not None:
        messages.append(json.loads(message))
    return messages


@pytest.fixture
def symbols() -> list[str]:
    return [f"S{i}" for i in range(7)]


def test_symbols_are_asked_for_in_batches_with_ids_of_their_own(symbols: list[str]) -> None:
    subscriptions = Subscriptions(StubVenue(), symbols, ("trade", "quote"), 3)
    messages = drain(subscriptions)
    assert [m["id"] for m in messages] == [1, 2, 3]
    assert [len(m["params"]) for m in messages] == [6, 6, 2]
    asked = [stream for m in messages for stream in m["params"]]
    assert asked == [f"{s}@{c}" for s in symbols for c in ("trade", "quote")]


def test_the_venues_bound_on_streams_a_message_wins_over_the_batch_size() -> None:
    symbols = [f"S{i}" for i in range(120)]
    messages = drain(Subscriptions(StubVenue(), symbols, ("trade", "quote"), 1000))
    assert [len(m["params"]) for m in messages] == [100, 100, 40]


def test_nothing_counts_as_confirmed_before_its_answer(symbols: list[str]) -> None:
    subscriptions = Subscriptions(StubVenue(), symbols, ("trade",), 4)
    drain(subscriptions)
    assert subscriptions.confirmed_count == 0
    assert not subscriptions.complete
    assert subscriptions.take(Answer(2))
    assert subscriptions.confirmed_count == 3
    assert not subscriptions.complete
    assert subscriptions.take(Answer(1))
    assert subscriptions.confirmed_count == 7
    assert subscriptions.complete


@pytest.mark.parametrize(
    "answer", [Answer(99), Answer(None), Answer(None, refusal="no"), Answer(0)]
)
def test_answer_to_nothing_we_asked_changes_nothing(symbols: list[str], answer: Answer) -> None:
    subscriptions = Subscriptions(StubVenue(), symbols, ("trade",), 10)
    drain(subscriptions)
    assert not subscriptions.take(answer)
    assert subscriptions.confirmed_count == 0
    assert not subscriptions.refused


def test_second_answer_to_one_request_does_not_count_twice(symbols: list[str]) -> None:
    subscriptions = Subscriptions(StubVenue(), symbols, ("trade",), 10)
    drain(subscriptions)
    assert subscriptions.take(Answer(1))
    assert not subscriptions.take(Answer(1))
    assert subscriptions.confirmed_count == 7


def test_one_bad_symbol_is_found_and_the_others_are_confirmed(symbols: list[str]) -> None:
    subscriptions = Subscriptions(StubVenue(), symbols, ("trade", "quote"), 10)
    sent = 0
    while not subscriptions.complete:
        for message in drain(subscriptions):
            sent += 1
            bad = any(stream.startswith("S4@") for stream in message["params"])
            subscriptions.take(Answer(message["id"], refusal="unknown symbol" if bad else None))
    assert subscriptions.refused == {"S4": "unknown symbol"}
    assert subscriptions.confirmed_count == 6
    assert sent == 7  # 1 + 2 + 2 + 2: halves, not one by one


def test_connection_without_symbols_has_nothing_to_ask() -> None:
    subscriptions = Subscriptions(StubVenue(), [], ("trade",), 10)
    assert subscriptions.complete
    assert subscriptions.next_message() is None
