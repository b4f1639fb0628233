from __future__ import annotations

import re

import pytest

from mdsys.errors import UsageError
from mdsys.sim.faults import FAULTS, Armed, Fault, describe, make, parse
from mdsys.sim.frames import Frame


def trade(number: int = 0, symbol: str = "SYM000001") -> Frame:
    return Frame("trade", symbol, b"%d" % number)


def struck(fault: Fault, frames: int = 10_000, *, seed: int = 1, connection: int = 1) -> list[int]:
    armed = Armed(fault, seed, 0, connection)
    return [number for number in range(frames) if armed.strikes(trade(number))]


def test_a_specification_is_read_whole() -> None:
    mute, hole, refuse = parse(
        "mute,connection=2,after=5s; hole , every=100,kind=trade;refuse,symbol=S*,words=Bad symbol"
    )
    assert (mute.name, mute.connection, mute.after_s) == ("mute", 2, 5)
    assert (hole.every, hole.option("kind"), hole.option("symbol")) == (100, "trade", "*")
    assert refuse.option("words") == "Bad symbol"
    (cut,) = parse("cut,after=7,count=2")
    assert (cut.after_frames, cut.count) == (7, 2)
    assert parse(" ;; ") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mut", "did you mean mute?"),
        ("xyz", "there are mute, half-open"),
        ("mute,5", "expected KEY=VALUE"),
        ("mute,conection=1", "did you mean connection?"),
        ("mute,connection=0", "whole number of at least 1"),
        ("mute,connection=x", "whole number"),
        ("mute,after=-1", "whole number of at least 0"),
        ("mute,after=xs", "after=x: expected a number"),
        ("mute,after=infs", "expected a number"),
        ("hole,every=0", "at least 1"),
        ("hole,after=5s", "after=FRAMES"),
        ("http,after=5", "after=SECONDSs"),
        ("refuse,every=5", "after=SECONDSs"),
        ("refuse,connection=1", "not one connection's"),
        ("clock,connection=1", "not one connection's"),
        ("http,status=abc", "status=abc: expected a number"),
        ("clock,ahead=nan", "expected a number"),
        ("close,size=5", "it takes connection, after, every, count, code, reason"),
    ],
)
def test_what_is_no_fault_is_refused_and_the_place_named(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        parse(text)


def test_a_clock_may_be_late_too() -> None:
    assert parse("clock,ahead=-2.5")[0].number("ahead") == -2.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hole", [0]),
        ("hole,after=7", [7]),
        ("hole,after=7,count=3", [7, 8, 9]),
    ],
)
def test_a_counted_fault_strikes_just_those_frames(text: str, expected: list[int]) -> None:
    assert struck(parse(text)[0]) == expected


def test_chance_is_the_same_for_a_seed_and_another_for_another() -> None:
    (fault,) = parse("hole,every=100")
    first = struck(fault)
    assert 50 < len(first) < 200
    assert struck(fault) == first
    assert struck(fault, seed=2) != first
    assert struck(fault, connection=2) != first
    assert len(struck(parse("hole,every=100,count=3")[0])) == 3


def test_only_frames_that_match_count_and_are_struck() -> None:
    armed = Armed(parse("hole,symbol=SYM00000[12],kind=trade,after=1")[0], 1, 0, 1)
    assert not armed.strikes(trade(symbol="SYM000003"))
    assert not armed.strikes(trade(symbol="SYM000002"))
    assert not armed.strikes(Frame("quote", "SYM000002", b""))
    assert armed.strikes(trade(symbol="SYM000001"))
    assert armed.is_spent


def test_a_lifted_fault_strikes_no_more() -> None:
    fault = parse("hole,every=1")[0]
    armed = Armed(fault, 1, 0, 1)
    assert armed.strikes(trade())
    fault.lifted = True
    assert not armed.strikes(trade())
    assert armed.is_spent


def test_a_fault_can_be_made_of_words_and_values() -> None:
    fault = make("oversized", 3, size=5000, count=None)
    assert (fault.connection, fault.number("size"), fault.count) == (3, 5000, None)
    assert not fault.concerns(2)
    with pytest.raises(UsageError, match="did you mean size"):
        make("oversized", siz=1)


def test_every_fault_is_described() -> None:
    text = describe()
    for name, kind in FAULTS.items():
        assert re.search(rf"^  {name} ", text, re.MULTILINE)
        assert all(option in text for option in kind.options)
    assert max(map(len, text.splitlines())) <= 96
