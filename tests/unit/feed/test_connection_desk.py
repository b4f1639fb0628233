from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any, cast

import pytest

import mdsys
from mdsys._listener import FrameListener
from mdsys.feed.connection_desk import NAMED_MAX, STATES, ConnectionDesk
from mdsys.feed.plan import ConnectionPlan
from mdsys.feed.report import Reporter
from mdsys.feed.venue import Stream
from mdsys.record.record import Status
from tests.feeds import FeedMemory


class Told(list[dict[str, Any]]):
    """A reporter that keeps what it is told."""

    def tell(self, event: str, **fields: Any) -> None:
        self.append({"event": event, **fields})

    def tell_streams(self, connection: int, state: str, *_: Any) -> None:
        self.append({"event": "streams", "connection": connection, "state": state})


class Bench:
    def __init__(self, *symbols: str, books_by_rest: bool = False) -> None:
        self.memory = FeedMemory(list(symbols))
        self.told = Told()
        plan = ConnectionPlan(3, "binance", None, symbols, ("trade", "quote"), 50)
        self.desk = ConnectionDesk(
            plan,
            self.memory.feed,
            self.memory.venue,
            cast(Reporter, self.told),
            books_by_rest=books_by_rest,
        )

    def streams(self, state: str, *symbols: str, words: str | None = None) -> None:
        streams = [Stream(name, channel) for name in symbols for channel in ("trade", "quote")]
        self.desk.streams(state, streams, words, None)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Requested, confirmed, refused."""
        requested, confirmed, refused = (
            self.memory.counter(f"subscriptions_{each}")
            for each in ("requested", "confirmed", "refused")
        )
        return requested, confirmed, refused


def test_states_have_the_numbers_of_the_counters_segment() -> None:
    text = (Path(mdsys.get_include()) / "mdsys/counters.h").read_text()
    named = dict(re.findall(r"MD_CONNECTION_([A-Z]+) = (\d+),", text))
    wanted = {("free" if name == "closed" else name).upper(): n for name, n in STATES.items()}
    assert {name: int(number) for name, number in named.items()} == wanted


def test_state_is_told_to_the_supervisor_and_stands_in_the_counters_segment() -> None:
    bench = Bench("A")
    for state in ("connecting", "open", "ready", "waiting", "denied"):
        bench.desk.state(state, "why", http=403, delay_s=1.5)
        assert bench.told[-1] == {
            "event": "connection",
            "connection": 3,
            "state": state,
            "words": "why",
            "http": 403,
            "delay_s": 1.5,
        }
        (block,) = bench.memory.counter_segment.connections(0)
        assert (block["connection"], block["state"]) == (3, STATES[state])
    bench.desk.state("closed")
    assert bench.memory.counter_segment.connections(0) == []


def test_counters_follow_the_streams_through_their_states_and_back() -> None:
    bench = Bench("A", "B")
    bench.streams("requested", "A", "B")
    assert bench.counts == (4, 0, 0)
    bench.streams("confirmed", "A")
    assert bench.counts == (4, 2, 0)
    bench.streams("refused", "B", words="no")
    assert bench.counts == (2, 2, 2)
    bench.streams("requested", "A")  # a successor that has not been answered
    assert bench.counts == (2, 0, 2)
    bench.streams("confirmed", "A")
    bench.streams("confirmed", "A")
    assert bench.counts == (2, 2, 2)
    bench.streams("removed", "A")
    assert bench.counts == (0, 0, 2)
    bench.streams("confirmed", "B")
    bench.desk.lost()
    assert bench.counts == (0, 0, 2)


def test_refusal_is_told_once_a_symbol_and_logged_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = [f"S{i}" for i in range(NAMED_MAX + 2)]
    bench = Bench(*names)
    bench.streams("refused", *names, words="no")
    assert [what for what, _, _ in bench.memory.statuses()] == [Status.SYMBOL_REFUSED] * len(names)
    assert caplog.record_tuples == [
        (
            "mdsys.feed",
            logging.WARNING,
            "binance connection 3: S0, S1, S2, S3, S4, S5, S6, S7 and 2 more refused: no",
        )
    ]


def test_books_are_expected_on_the_socket_that_has_them_confirmed() -> None:
    bench = Bench("A", books_by_rest=True)
    expected: list[tuple[list[str], object]] = []

    class Venue:
        def count_subscriptions(self, *_: int) -> None:
            pass

        def expect_books(self, names: list[str], listener: object) -> None:
            expected.append((names, listener))

    bench.desk._venue = cast(Any, Venue())
    listener = FrameListener(bench.memory.venue, 3, print)
    streams = [Stream("A", "book"), Stream("A", "trade")]
    bench.desk.streams("requested", streams, None, listener)
    assert expected == []
    bench.desk.streams("confirmed", streams, None, listener)
    assert expected == [(["A"], listener)]
