"""The funnel of every stream, from what is wanted to what ticks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdsys.daemon.subscriptions import WORDS_SIZE_MAX, State, Subscriptions

NOTHING = {"desired": 0, "requested": 0, "confirmed": 0, "ticking": 0, "refused": 0}
TRADE, QUOTE, BOOK = 0, 1, 2


class Ticks:
    """What the cache would tell."""

    def __init__(self) -> None:
        self.times: dict[int, list[int]] = {}

    def heard(self, ids: npt.NDArray[np.uint32], out: npt.NDArray[np.int64]) -> None:
        for row, each in enumerate(ids.tolist()):
            assert each > 0, "symbol 0 is none"
            out[row] = self.times.get(each, [0] * 5)


def table(
    symbols: list[str], channels: tuple[str, ...] = ("trade", "quote"), *, acknowledges: bool = True
) -> Subscriptions:
    """Return a table of one venue: its symbols on connection 7, with the ids 1, 2, ..."""
    subscriptions = Subscriptions()
    subscriptions.want("binance", symbols, channels, 100, acknowledges=acknowledges)
    subscriptions.place("binance", symbols, 7)
    subscriptions.identify("binance", symbols, range(1, len(symbols) + 1))
    return subscriptions


def report(
    subscriptions: Subscriptions, state: State, symbols: list[str], **keys: Any
) -> list[int]:
    return subscriptions.report(
        keys.pop("venue", "binance"),
        symbols,
        keys.pop("channel", None),
        state,
        keys.pop("at_ns", 200),
        **keys,
    )


def state_of(subscriptions: Subscriptions, symbol: str) -> dict[str, str]:
    row = subscriptions.row("binance", symbol)
    assert row is not None
    return {each["channel"]: each["state"] for each in subscriptions.streams(row)}


def test_each_stage_counts_those_that_went_beyond_it_and_refusals_stand_apart() -> None:
    subscriptions = table(["A", "B", "C", "D"])
    assert subscriptions.funnel() == {**NOTHING, "desired": 8}
    report(subscriptions, State.REQUESTED, ["A", "B", "C"])
    report(subscriptions, State.CONFIRMED, ["A", "B"])
    report(subscriptions, State.REFUSED, ["C"], words="no such symbol")
    ticks = Ticks()
    ticks.times[1] = [250, 0, 0, 0, 0]
    subscriptions.look(ticks.heard)
    assert subscriptions.funnel() == {
        "desired": 8,
        "requested": 4,
        "confirmed": 4,
        "ticking": 1,
        "refused": 2,
    }
    assert subscriptions.symbol_funnel() == {
        "desired": 4,
        "requested": 2,
        "confirmed": 2,
        "ticking": 0,  # A's quotes do not tick: the worst stream counts
        "refused": 1,
    }
    assert subscriptions.connection_funnels() == {7: {"symbols": 4, **subscriptions.funnel()}}


def test_tick_proves_a_stream_that_the_venue_never_confirms() -> None:
    subscriptions = table(["A"], ("trade",), acknowledges=False)
    assert not subscriptions.answered()
    report(subscriptions, State.REQUESTED, ["A"])
    assert subscriptions.answered()
    ticks = Ticks()
    ticks.times[1] = [199, 0, 0, 0, 0]  # before it was asked for: of an earlier life
    subscriptions.look(ticks.heard)
    assert state_of(subscriptions, "A") == {"trade": "requested"}
    ticks.times[1] = [200, 0, 0, 0, 0]
    subscriptions.look(ticks.heard)
    assert subscriptions.funnel()["confirmed"] == 1
    assert state_of(subscriptions, "A") == {"trade": "ticking"}


def test_what_waits_on_a_connection_that_is_not_let_in_can_be_left_out() -> None:
    subscriptions = table(["A", "B"], ("trade",))
    report(subscriptions, State.CONFIRMED, ["A"])
    assert not subscriptions.answered([8])
    assert subscriptions.answered([7])
    subscriptions.want("binance", ["C"], ("trade",), 100, acknowledges=True)
    assert not subscriptions.answered([7]), "C is on no connection yet"


def test_stream_that_was_never_asked_for_is_not_ticking_whatever_the_cell_holds() -> None:
    subscriptions = table(["A"])
    ticks = Ticks()
    ticks.times[1] = [10**18] * 5
    subscriptions.look(ticks.heard)
    assert subscriptions.funnel()["ticking"] == 0


def test_answer_that_comes_after_the_first_tick_takes_nothing_back() -> None:
    subscriptions = table(["A"], ("trade",))
    report(subscriptions, State.REQUESTED, ["A"])
    ticks = Ticks()
    ticks.times[1] = [300, 0, 0, 0, 0]
    subscriptions.look(ticks.heard)
    report(subscriptions, State.CONFIRMED, ["A"], at_ns=400)
    assert state_of(subscriptions, "A") == {"trade": "ticking"}


def test_one_channel_can_be_refused_with_the_venues_words_and_the_symbol_counts_as_refused() -> (
    None
):
    subscriptions = table(["A"])
    report(subscriptions, State.REQUESTED, ["A"])
    report(subscriptions, State.CONFIRMED, ["A"], channel="trade")
    report(subscriptions, State.REFUSED, ["A"], channel="quote", words="x" * 10_000)
    row = subscriptions.row("binance", "A")
    assert row is not None
    streams = list(subscriptions.streams(row))
    assert [each["words"] for each in streams] == [None, "x" * WORDS_SIZE_MAX]
    assert subscriptions.worst(row) is State.REFUSED
    assert subscriptions.refused_symbol_count() == 1
    assert subscriptions.answered()
    report(subscriptions, State.REQUESTED, ["A"], channel="quote")
    assert [each["words"] for each in subscriptions.streams(row)] == [None, None]


def test_lost_connection_takes_its_streams_back_to_desired_and_no_others() -> None:
    subscriptions = table(["A", "B", "C"])
    subscriptions.place("binance", ["C"], 8)
    report(subscriptions, State.REQUESTED, ["A", "B", "C"])
    report(subscriptions, State.REFUSED, ["B"], words="no")
    report(subscriptions, State.CONFIRMED, ["A", "C"])
    subscriptions.lose(7, 500)
    assert state_of(subscriptions, "A") == {"trade": "desired", "quote": "desired"}
    assert state_of(subscriptions, "B") == {"trade": "desired", "quote": "desired"}
    assert state_of(subscriptions, "C") == {"trade": "confirmed", "quote": "confirmed"}
    row = subscriptions.row("binance", "B")
    assert row is not None
    assert [each["words"] for each in subscriptions.streams(row)] == [None, None]
    ticks = Ticks()
    ticks.times[1] = [600] * 5  # the last of the lost socket, found late
    subscriptions.look(ticks.heard)
    assert state_of(subscriptions, "A")["trade"] == "desired"
    report(subscriptions, State.CONFIRMED, ["A"])  # late, of the lost socket too
    subscriptions.look(ticks.heard)
    assert state_of(subscriptions, "A")["trade"] == "confirmed"


def test_news_of_a_connection_that_a_symbol_has_left_is_passed_over() -> None:
    subscriptions = table(["A"])
    subscriptions.place("binance", ["A"], 9)
    assert report(subscriptions, State.CONFIRMED, ["A", "NOSUCH"], connection=7) == []
    assert report(subscriptions, State.CONFIRMED, ["A"], connection=7, venue="kraken") == []
    assert state_of(subscriptions, "A")["trade"] == "desired"


def test_symbol_that_takes_a_forgotten_ones_row_inherits_nothing() -> None:
    subscriptions = table(["A", "B"])
    report(subscriptions, State.REQUESTED, ["A"])
    report(subscriptions, State.REFUSED, ["A"], words="no")
    (row,) = subscriptions.forget("binance", ["A", "NOSUCH"])
    assert subscriptions.row("binance", "A") is None
    assert subscriptions.symbol_count() == 1
    assert subscriptions.want("kraken", ["X"], ("book",), 900, acknowledges=True) == [row]
    assert list(subscriptions.streams(row)) == [
        {"channel": "book", "state": "desired", "since_ns": 900, "words": None}
    ]
    assert subscriptions.connection[row] == 0
    assert subscriptions.ids[row] == 0
    assert subscriptions.names[row] == ("kraken", "X")


def test_symbols_without_an_id_are_not_looked_for() -> None:
    subscriptions = Subscriptions()
    subscriptions.want("kite", ["NSE:INFY"], ("ticker",), 1, acknowledges=False)
    assert subscriptions.look(Ticks().heard).tolist() == [[0] * 5]


def test_nothing_wanted_is_an_answered_table() -> None:
    subscriptions = Subscriptions()
    assert subscriptions.answered()
    assert subscriptions.funnel() == NOTHING
    assert subscriptions.symbol_funnel() == NOTHING
    assert subscriptions.connection_funnels() == {}
    assert subscriptions.look(Ticks().heard).shape == (0, 5)


ACTIONS = ["requested", "confirmed", "refused", "tick", "lose", "forget", "want"]


@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 3)), max_size=40))
def test_table_agrees_with_a_plain_model_whatever_happens(steps: list[tuple[str, int]]) -> None:
    subscriptions = Subscriptions()
    ticks = Ticks()
    model: dict[str, tuple[str, int]] = {}  # symbol -> state, when it was asked for
    for now, (action, number) in enumerate(steps, 1):
        symbol = f"S{number}"
        state, asked = model.get(symbol, ("", 0))
        if action == "want" and not state:
            subscriptions.want("v", [symbol], ("trade",), now, acknowledges=True)
            subscriptions.place("v", [symbol], 1)
            subscriptions.identify("v", [symbol], [number + 1])
            model[symbol] = ("desired", 0)
        elif action == "forget":
            subscriptions.forget("v", [symbol])
            model.pop(symbol, None)
        elif action == "lose":
            subscriptions.lose(1, now)
            model = dict.fromkeys(model, ("desired", 0))
        elif action == "tick":
            ticks.times[number + 1] = [now, 0, 0, 0, 0]
            subscriptions.look(ticks.heard)
            if state in ("requested", "confirmed") and asked:
                model[symbol] = ("ticking", asked)
        elif state and action in ("requested", "confirmed", "refused"):
            report(subscriptions, State[action.upper()], [symbol], venue="v", at_ns=now)
            if action == "requested":
                model[symbol] = ("requested", now)
            elif action == "refused":
                model[symbol] = ("refused", 0)
            elif state != "ticking":
                model[symbol] = ("confirmed", asked)
    states = [state for state, _ in model.values()]
    order = ["desired", "requested", "confirmed", "ticking"]
    expected = {
        stage: sum(state in order[place:] for state in states) for place, stage in enumerate(order)
    }
    expected["refused"] = states.count("refused")
    expected["desired"] += expected["refused"]
    assert subscriptions.funnel() == expected == subscriptions.symbol_funnel()
    for symbol, (state, _) in model.items():
        row = subscriptions.row("v", symbol)
        assert row is not None
        assert [each["state"] for each in subscriptions.streams(row)] == [state]


@pytest.mark.parametrize("count", [1, 1_000])
def test_growing_keeps_what_stands(count: int) -> None:
    subscriptions = table([f"S{i}" for i in range(count)])
    report(subscriptions, State.REQUESTED, ["S0"])
    subscriptions.want(
        "kraken", [f"K{i}" for i in range(3 * count)], ("book",), 1, acknowledges=True
    )
    assert state_of(subscriptions, "S0") == {"trade": "requested", "quote": "requested"}
    assert subscriptions.symbol_count() == 4 * count
    assert subscriptions.funnel()["desired"] == 5 * count


def test_connection_of_which_all_is_refused_has_nothing_to_expect() -> None:
    subscriptions = table(["A", "B"])
    report(subscriptions, State.REQUESTED, ["A"], at_ns=300)
    assert subscriptions.expected_ns().tolist() == [0] * 7 + [100]
    report(subscriptions, State.REFUSED, ["B"], at_ns=400)
    assert subscriptions.expected_ns()[7] == 300
    report(subscriptions, State.REFUSED, ["A"], at_ns=500, channel="trade")
    assert subscriptions.expected_ns()[7] == 300  # its quotes may come
    report(subscriptions, State.REFUSED, ["A"], at_ns=500)
    assert subscriptions.expected_ns()[7] == 0
    assert Subscriptions().expected_ns().tolist() == [0]


def test_what_is_on_no_connection_is_found_in_the_order_it_came() -> None:
    subscriptions = table(["A"])
    subscriptions.want("binance", ["D", "C", "B"], ["trade"], 100, acknowledges=True)
    report(subscriptions, State.REFUSED, ["A", "C"], words="unknown")
    assert subscriptions.unplaced("binance") == ["D", "C", "B"]
    assert subscriptions.unplaced("binance", State.REFUSED) == ["C"]
    assert subscriptions.unplaced("kite") == []
