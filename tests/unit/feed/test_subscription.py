from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from mdsys.feed.plan import ConnectionPlan
from mdsys.feed.subscription import Request, Subscriptions, batch_streams
from mdsys.feed.venue import Confirmed, Limits, Refused, Removed, Stream
from tests.connections import StubTalk, StubVenue


class Life:
    """One socket's subscriptions, and what was told of them."""

    def __init__(self, size_max: int = 100, **keys: Any) -> None:
        self.told: list[tuple[str, list[str], str | None]] = []
        self.it = Subscriptions(StubTalk({}), size_max, self._tell, **keys)

    def _tell(self, state: str, streams: Sequence[Stream], words: str | None) -> None:
        self.told.append((state, names(streams), words))

    def send_all(self) -> list[tuple[Request, dict[str, Any]]]:
        """Send what there is to say; return it."""
        sent = []
        while (request := self.it.next_request()) is not None:
            (message,) = request.messages
            assert isinstance(message, str)
            sent.append((request, json.loads(message)))
            self.it.sent(request)
        return sent

    def params(self) -> list[list[str]]:
        """Send what there is to say; return what it names."""
        return [message["params"] for _, message in self.send_all()]


def names(streams: Sequence[Stream]) -> list[str]:
    return [f"{stream.symbol}@{stream.channel}" for stream in streams]


def streams(*symbols: str, channels: tuple[str, ...] = ("trade",)) -> list[Stream]:
    return [Stream(symbol, channel) for symbol in symbols for channel in channels]


SEVEN = streams(*(f"S{i}" for i in range(7)))


def test_streams_are_asked_for_in_batches_with_ids_of_their_own() -> None:
    life = Life(3)
    life.it.subscribe(SEVEN)
    sent = life.send_all()
    assert [message["id"] for _, message in sent] == [1, 2, 3]
    assert [message["params"] for _, message in sent] == [
        names(SEVEN[:3]),
        names(SEVEN[3:6]),
        names(SEVEN[6:]),
    ]


def test_venue_that_takes_one_channel_a_message_gets_one_channel_a_message() -> None:
    life = Life(2, groups_by_channel=True)
    life.it.subscribe(streams("A", "B", "C", channels=("trade", "quote")))
    assert life.params() == [
        ["A@trade", "B@trade"],
        ["C@trade"],
        ["A@quote", "B@quote"],
        ["C@quote"],
    ]


def plan_of(batch_size: int, streams_per_message: int | None) -> ConnectionPlan:
    limits = Limits(streams_per_message=streams_per_message)
    return ConnectionPlan(1, "stub", None, (), ("trade", "quote"), batch_size, limits=limits)


@pytest.mark.parametrize(
    ("batch_size", "bound", "groups", "size"),
    [
        (50, None, False, 100),
        (50, 60, False, 60),
        (50, 1000, False, 100),
        (50, None, True, 50),
        (50, 1, False, 1),
    ],
)
def test_size_of_a_message_is_the_tightest_of_what_is_configured_and_allowed(
    batch_size: int, bound: int | None, groups: bool, size: int
) -> None:
    venue = StubVenue(groups_by_channel=groups)
    assert batch_streams(venue, plan_of(batch_size, bound)) == size


def test_stream_is_requested_when_it_is_sent_and_confirmed_when_it_is_answered() -> None:
    life = Life()
    life.it.subscribe(SEVEN[:2])
    request = life.it.next_request()
    assert request is not None
    assert life.told == []
    life.it.sent(request)
    assert life.told == [("requested", ["S0@trade", "S1@trade"], None)]
    assert life.it.awaits_answer
    assert life.it.confirmed(Confirmed(request_id=1))
    assert life.told[1:] == [("confirmed", ["S0@trade", "S1@trade"], None)]
    assert life.it.complete


def test_answers_stream_by_stream_complete_a_request() -> None:
    life = Life()
    life.it.subscribe([Stream("A", "trade", b"\x07"), *SEVEN[:1]])
    life.send_all()
    assert life.it.confirmed(Confirmed([Stream("A", "trade")]))  # without the name on the wire
    assert life.it.awaits_answer
    assert life.it.refuse(Refused("no", [Stream("S0", "trade")]))
    assert life.it.complete
    assert life.told[1:] == [
        ("confirmed", ["A@trade"], None),
        ("refused", ["S0@trade"], "no"),
    ]


@pytest.mark.parametrize(
    "event",
    [
        Confirmed(request_id=99),
        Confirmed(),
        Confirmed([Stream("X", "trade")]),
        Refused("no"),
        Refused("no", request_id=0),
        Refused("no", [Stream("X", "trade")]),
        Removed(request_id=1),
        Removed([Stream("S0", "trade")]),
    ],
)
def test_answer_to_nothing_we_asked_changes_nothing(event: Any) -> None:
    life = Life()
    life.it.subscribe(SEVEN)
    life.send_all()
    before = list(life.told)
    match event:
        case Confirmed():
            assert not life.it.confirmed(event)
        case Refused():
            assert not life.it.refuse(event)
        case Removed():
            assert not life.it.removed(event)
    assert life.told == before
    assert not life.it.complete


def test_second_answer_to_one_request_tells_nothing() -> None:
    life = Life()
    life.it.subscribe(SEVEN)
    life.send_all()
    assert life.it.confirmed(Confirmed(request_id=1))
    assert not life.it.confirmed(Confirmed(request_id=1))
    assert len(life.told) == 2


def test_one_bad_stream_is_found_by_halves_and_the_others_are_confirmed() -> None:
    life = Life()
    life.it.subscribe(SEVEN)
    sent = 0
    while not life.it.complete:
        for request, message in life.send_all():
            sent += 1
            if "S4@trade" in message["params"]:
                life.it.refuse(Refused("unknown symbol", request_id=request.id))
            else:
                life.it.confirmed(Confirmed(request_id=request.id))
    assert life.it.refused == {("S4", "trade"): "unknown symbol"}
    confirmed = [name for state, own, _ in life.told if state == "confirmed" for name in own]
    assert sorted(confirmed) == sorted(set(names(SEVEN)) - {"S4@trade"})
    assert sent == 7  # 1 + 2 + 2 + 2: halves, not one by one
    requested = [name for state, own, _ in life.told if state == "requested" for name in own]
    assert sorted(requested) == sorted(names(SEVEN))  # each once, however often it was asked


def test_silence_is_a_refusal_of_what_was_sent() -> None:
    life = Life(1)
    life.it.subscribe(SEVEN[:3])
    first = life.it.next_request()
    assert first is not None
    life.it.sent(first)
    life.it.no_answer("no answer")
    assert life.told[1:] == [("refused", ["S0@trade"], "no answer")]
    assert not life.it.awaits_answer
    assert len(life.params()) == 2


def test_refused_stream_that_is_confirmed_after_all_is_confirmed() -> None:
    life = Life()
    life.it.subscribe(SEVEN[:1])
    life.send_all()
    life.it.refuse(Refused("slow down", SEVEN[:1]))
    assert life.it.confirmed(Confirmed(SEVEN[:1]))
    assert not life.it.refused
    assert [state for state, *_ in life.told] == ["requested", "refused", "confirmed"]


def test_venue_that_does_not_answer_is_done_when_all_is_sent() -> None:
    life = Life(acknowledges=False)
    life.it.subscribe(SEVEN)
    life.send_all()
    assert life.it.complete
    assert not life.it.awaits_answer
    life.it.unsubscribe(SEVEN[:1])
    life.send_all()
    assert [state for state, *_ in life.told] == ["requested", "removed"]


def test_stream_is_wanted_once_however_often_it_is_asked_for() -> None:
    life = Life()
    life.it.subscribe(SEVEN)
    life.it.subscribe(SEVEN)
    assert len(life.params()) == 1
    life.it.subscribe(SEVEN)
    assert life.params() == []


# ---- leaving ----


def test_confirmed_stream_is_unsubscribed_and_removed_when_the_venue_says_so() -> None:
    life = Life()
    life.it.subscribe(SEVEN)
    life.send_all()
    life.it.confirmed(Confirmed(request_id=1))
    life.it.unsubscribe(SEVEN[:2])
    ((_, message),) = life.send_all()
    assert message["method"] == "UNSUBSCRIBE"
    assert message["params"] == ["S0@trade", "S1@trade"]
    assert life.told[-1][0] == "confirmed"
    assert life.it.removed(Removed(request_id=2))
    assert life.told[-1] == ("removed", ["S0@trade", "S1@trade"], None)
    assert life.it.complete


def test_stream_that_was_never_asked_for_is_removed_without_a_word_to_the_venue() -> None:
    life = Life()
    life.it.subscribe(SEVEN)
    life.it.unsubscribe(SEVEN[1:])
    assert life.told == [("removed", names(SEVEN[1:]), None)]
    assert life.params() == [["S0@trade"]]


def test_refused_stream_is_removed_without_a_word_to_the_venue() -> None:
    life = Life()
    life.it.subscribe(SEVEN[:1])
    life.send_all()
    life.it.refuse(Refused("no", request_id=1))
    life.it.unsubscribe(SEVEN[:1])
    assert life.told[-1] == ("removed", ["S0@trade"], None)
    assert life.params() == []
    life.it.subscribe(SEVEN[:1])  # and may be asked for again
    assert life.params() == [["S0@trade"]]


def test_stream_that_leaves_before_its_answer_is_not_confirmed_by_it() -> None:
    life = Life()
    life.it.subscribe(SEVEN[:2])
    life.send_all()
    life.it.unsubscribe(SEVEN[:1])
    life.send_all()
    assert life.it.confirmed(Confirmed(request_id=1))
    assert life.told[-1] == ("confirmed", ["S1@trade"], None)
    life.it.removed(Removed(request_id=2))
    assert life.told[-1] == ("removed", ["S0@trade"], None)
    assert life.it.complete


def test_unsubscribing_twice_asks_once() -> None:
    life = Life()
    life.it.subscribe(SEVEN)
    life.send_all()
    life.it.confirmed(Confirmed(request_id=1))
    life.it.unsubscribe(SEVEN)
    life.it.unsubscribe(SEVEN)
    assert len(life.params()) == 1
    life.it.unsubscribe(SEVEN)
    assert life.params() == []


@pytest.mark.parametrize("refused", [True, False])
def test_stream_that_comes_back_while_it_leaves_is_asked_for_when_it_has_left(
    refused: bool,
) -> None:
    life = Life()
    life.it.subscribe(SEVEN[:1])
    life.send_all()
    life.it.confirmed(Confirmed(request_id=1))
    life.it.unsubscribe(SEVEN[:1])
    life.send_all()
    life.it.subscribe(SEVEN[:1])
    assert life.params() == []
    if refused:  # it had left already, the venue says
        life.it.refuse(Refused("not subscribed", request_id=2))
    else:
        life.it.removed(Removed(request_id=2))
    assert life.params() == [["S0@trade"]]
    assert [state for state, *_ in life.told] == ["requested", "confirmed", "requested"]


def test_asking_again_unsubscribes_first_and_waits_for_that() -> None:
    life = Life()
    life.it.subscribe(SEVEN)
    life.send_all()
    life.it.confirmed(Confirmed(request_id=1))
    assert life.it.resubscribe(SEVEN[:1]) == []
    ((_, message),) = life.send_all()
    assert (message["method"], message["params"]) == ("UNSUBSCRIBE", ["S0@trade"])
    life.it.removed(Removed(request_id=2))
    ((_, message),) = life.send_all()
    assert (message["method"], message["params"]) == ("SUBSCRIBE", ["S0@trade"])
    life.it.confirmed(Confirmed(request_id=3))
    states = [(state, own) for state, own, _ in life.told[2:]]
    assert states == [("requested", ["S0@trade"]), ("confirmed", ["S0@trade"])]


def test_asking_again_for_what_is_not_answered_is_too_early() -> None:
    life = Life()
    life.it.subscribe(SEVEN[:1])
    assert life.it.resubscribe(SEVEN[:2]) == SEVEN[:1]
    life.send_all()
    assert life.it.resubscribe(SEVEN[:2]) == SEVEN[:1]
    assert life.params() == []


def test_picture_tells_what_every_stream_has_come_to() -> None:
    life = Life(1)
    life.it.subscribe(SEVEN[:4])
    for _ in range(3):
        request = life.it.next_request()
        assert request is not None
        life.it.sent(request)
    life.it.confirmed(Confirmed(request_id=1))
    life.it.refuse(Refused("no", request_id=2))
    assert [(state, names(own), words) for state, own, words in life.it.picture()] == [
        ("requested", ["S2@trade"], None),
        ("confirmed", ["S0@trade"], None),
        ("refused", ["S1@trade"], "no"),
    ]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_in_whatever_order_it_ends_as_was_last_wanted(seed: int) -> None:
    rng = random.Random(seed)
    life = Life(rng.choice([1, 2, 5]))
    symbols = [f"S{i}" for i in range(8)]
    bad = set(rng.sample(symbols, 2))
    wanted: set[str] = set()
    at_venue: set[str] = set()
    open_requests: list[tuple[Request, dict[str, Any]]] = []

    def answer() -> None:
        request, message = open_requests.pop(0)
        own = {name.partition("@")[0] for name in message["params"]}
        if message["method"] == "UNSUBSCRIBE":
            at_venue.difference_update(own)
            life.it.removed(Removed(request_id=request.id))
        elif own & bad:
            life.it.refuse(Refused("no", request_id=request.id))
        else:
            at_venue.update(own)
            life.it.confirmed(Confirmed(request_id=request.id))

    for _ in range(200):
        some = rng.sample(symbols, rng.randint(1, 4))
        match rng.randrange(5):
            case 0:
                wanted.update(some)
                life.it.subscribe(streams(*some))
            case 1:
                wanted.difference_update(some)
                life.it.unsubscribe(streams(*some))
            case 2:
                life.it.resubscribe(streams(*some))
            case 3:
                open_requests += life.send_all()
            case 4 if open_requests:
                answer()
    while not life.it.complete:
        open_requests += life.send_all()
        while open_requests:
            answer()
    assert at_venue == wanted - bad
    state: dict[str, str] = {}
    for each, own, _ in life.told:
        state.update(dict.fromkeys(own, each))
    assert {name.partition("@")[0] for name, each in state.items() if each == "confirmed"} == (
        wanted - bad
    )
    assert {symbol for symbol, _ in life.it.refused} == wanted & bad
