"""Conflation in C against an oracle that shares nothing with it (tests/conflation.py)."""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdsys.record.record import ABSENT, TICK, Kind
from tests.conflation import CONFLATED, SIZE, SNAPSHOT, Record, conflate, packed, plain
from tests.native import (
    POSIX,
    PROGRAMS,
    compile_program,
    patched_include,
    sanitizer_flags,
)

CAPACITY = 4
"""Symbols 0 to 3 may be merged, 4 and 5 may not."""
LARGE = 2**63 - 1

Piece = tuple[bool, Sequence[Record]]
"""Whether there is a hole before it, and its records."""


class Merger:
    """The headers' conflation, in a process of its own that stays."""

    def __init__(self, program: Path) -> None:
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [program, str(CAPACITY)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def merge(self, pieces: Sequence[Piece]) -> list[Record]:
        """Return one output."""
        assert self.process.stdin
        assert self.process.stdout
        question = struct.pack("<Q", len(pieces))
        for hole, records in pieces:
            question += struct.pack("<QQ", hole, len(records)) + packed(records).tobytes()
        self.process.stdin.write(question)
        self.process.stdin.flush()
        head = self.process.stdout.read(8)
        assert len(head) == 8, f"it ended with {self.process.wait()}"
        (count,) = struct.unpack("<Q", head)
        return records_of(self.process.stdout.read(64 * count))

    def close(self) -> None:
        """End it; it must have found nothing wrong with its memory."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        assert self.process.wait(10) == 0
        self.process.stdout.close()


def records_of(data: bytes) -> list[Record]:
    return plain(np.frombuffer(data, TICK))


@pytest.fixture(scope="module", params=["plain", "sanitized"])
def merger(request: pytest.FixtureRequest) -> Iterator[Merger]:
    flags: tuple[str, ...] = (POSIX,)
    if request.param == "sanitized":
        flags += (*sanitizer_flags("gcc", "address"), *sanitizer_flags("gcc", "undefined"))
    merger = Merger(compile_program(PROGRAMS / "conflate_check.c", flags=flags))
    yield merger
    merger.close()


def number(records: Sequence[dict[str, int]]) -> list[Record]:
    """Give records the sequences and times that tell which one it is."""
    return [
        {"seq": i + 1, "ts_event": 10 * i, "ts_recv": 10 * i + 5, **record}
        for i, record in enumerate(records)
    ]


def record_of(
    kind: int,
    symbol_id: int = 1,
    flags: int = 0,
    body: tuple[int, int, int, int] = (100, 1, 1, 0),
    scales: tuple[int, int] = (8, 8),
) -> dict[str, int]:
    """Return a record without sequence and times; a trade's body: price, size, id, conditions."""
    return {
        "symbol_id": symbol_id,
        "kind": kind,
        "flags": flags,
        "price_scale": scales[0],
        "size_scale": scales[1],
        **{f"word{i}": word for i, word in enumerate(body)},
    }


def trade(size: int, flags: int = 0, *, price: int = 100, conditions: int = 0) -> dict[str, int]:
    return record_of(Kind.TRADE, 1, flags, (price, size, size, conditions))


def quote(bid: int, flags: int = 0) -> dict[str, int]:
    return record_of(Kind.QUOTE, 1, flags, (bid, bid + 1, 5, 6))


def draw(dice: random.Random) -> dict[str, int]:
    """Return a random record: few symbols and values, so that all that matters collides often."""
    words = (0, 1, 2, 3, 7, -5, LARGE, LARGE - 1, -LARGE, ABSENT)
    kind = dice.choice([1, 1, 1, 1, 2, 2, 2, 3, 4, 5, 6, 7])
    return record_of(
        kind,
        dice.choice([0, 1, 1, 1, 2, 3, 4, 5]) if kind == Kind.STATUS else dice.choice([1, 1, 2, 4]),
        dice.choice([0, 1, 2, 8, 9, 10]) | (SNAPSHOT if dice.random() < 0.07 else 0),
        (
            dice.choice(words) if dice.random() < 0.2 else 100,
            dice.choice(words),
            dice.randrange(9),
            int(dice.random() < 0.1),
        ),
        (8, 8) if dice.random() < 0.95 else (2, 8) if dice.random() < 0.5 else (8, 2),
    )


def cases(count: int) -> Iterator[list[Piece]]:
    """Yield the same random cases each time."""
    dice = random.Random(3)
    for _ in range(count):
        records = number([draw(dice) for _ in range(dice.randrange(1, 60))])
        cuts = sorted(dice.randrange(len(records) + 1) for _ in range(dice.randrange(4)))
        yield cut(records, cuts, [dice.random() < 0.3 for _ in range(4)])


def cut(records: Sequence[Record], cuts: Sequence[int], holes: Sequence[bool]) -> list[Piece]:
    edges = [0, *cuts, len(records)]
    return [
        (holes[i % len(holes)] if i else False, records[edges[i] : edges[i + 1]])
        for i in range(len(edges) - 1)
    ]


def expected(pieces: Sequence[Piece]) -> list[Record]:
    """Return what the oracle makes of pieces: those without a hole between them are one."""
    joined: list[list[Record]] = []
    for hole, records in pieces:
        if hole or not joined:
            joined.append([])
        joined[-1] += records
    return conflate(joined, CAPACITY)


records_st = st.builds(draw, st.integers(0, 2**32).map(random.Random))


@settings(max_examples=400, deadline=None)
@given(
    records=st.lists(records_st, max_size=40).map(number),
    cuts=st.lists(st.integers(0, 40), max_size=3).map(sorted),
    holes=st.lists(st.booleans(), min_size=1, max_size=4),
)
def test_what_comes_out_is_what_the_oracle_says(
    merger: Merger, records: list[Record], cuts: list[int], holes: list[bool]
) -> None:
    pieces = cut(records, [min(each, len(records)) for each in cuts], holes)
    assert merger.merge(pieces) == expected(pieces)


def test_many_records_come_out_as_the_oracle_says(merger: Merger) -> None:
    for pieces in cases(300):
        assert merger.merge(pieces) == expected(pieces)


def test_no_size_is_gained_or_lost(merger: Merger) -> None:
    for pieces in cases(100):
        records = [record for _, piece in pieces for record in piece]
        merged = merger.merge(pieces)

        def volume(of: list[Record]) -> dict[tuple[int, int], int]:
            out: dict[tuple[int, int], int] = {}
            for each in of:
                if each["kind"] == Kind.TRADE and each[SIZE] != ABSENT:
                    key = each["symbol_id"], each["size_scale"]
                    out[key] = out.get(key, 0) + each[SIZE]
            return out

        assert volume(merged) == volume(records)
        for kind in Kind:
            if kind not in (Kind.TRADE, Kind.QUOTE):  # they pass as they are, in order
                assert [r for r in merged if r["kind"] == kind] == [
                    r for r in records if r["kind"] == kind
                ]


# The oracle reads well, but so did the code: what a person would write down by hand.


@pytest.mark.parametrize(
    ("records", "sequences"),
    [
        ([quote(1), trade(1), quote(2), trade(2)], [3, 4]),  # first touched: the quote
        ([trade(1), quote(1), trade(2), quote(2)], [3, 4]),
        ([trade(1), record_of(Kind.STATUS), trade(2)], [1, 2, 3]),
        ([trade(1), record_of(Kind.STATUS, 0), trade(2)], [1, 2, 3]),
        ([trade(1), record_of(Kind.STATUS, 2), trade(2)], [3, 2]),  # another's
        ([trade(1), trade(2, conditions=1), trade(3)], [1, 2, 3]),
        ([trade(1), trade(2, conditions=1), trade(3, conditions=1)], [1, 3]),
        ([trade(1), trade(ABSENT), trade(2)], [1, 2, 3]),
        ([trade(1), trade(1, price=ABSENT), trade(2)], [1, 2, 3]),
        ([trade(LARGE), trade(1), trade(2)], [1, 3]),
        ([trade(-LARGE), trade(-1)], [1, 2]),  # the sum would be MD_ABSENT
        ([trade(1), trade(1, SNAPSHOT), trade(2)], [1, 2, 3]),
        ([quote(1), quote(2, SNAPSHOT), quote(3)], [1, 2, 3]),
        ([quote(1), quote(ABSENT), quote(3)], [3]),
        ([record_of(Kind.LEVEL), record_of(Kind.LEVEL)], [1, 2]),
        ([record_of(Kind.TRADE, CAPACITY), record_of(Kind.TRADE, CAPACITY)], [1, 2]),
    ],
)
def test_what_is_merged_and_what_is_not(
    merger: Merger, records: list[dict[str, int]], sequences: list[int]
) -> None:
    pieces = [(False, number(records))]
    merged = merger.merge(pieces)
    assert [record["seq"] for record in merged] == sequences
    assert merged == expected(pieces)


@pytest.mark.parametrize(
    ("sides", "side"), [([1, 1], 1), ([2, 2, 2], 2), ([1, 2], 0), ([1, 2, 2], 0), ([0, 1], 0)]
)
def test_side_is_told_only_when_all_had_it(merger: Merger, sides: list[int], side: int) -> None:
    (merged,) = merger.merge([(False, number([trade(5, each) for each in sides]))])
    assert merged["flags"] == side | CONFLATED
    assert merged[SIZE] == 5 * len(sides)


def test_nothing_is_merged_over_a_hole(merger: Merger) -> None:
    records = number([trade(1), trade(2), trade(3), trade(4)])
    merged = merger.merge([(False, records[:2]), (True, records[2:])])
    assert [(each["seq"], each[SIZE]) for each in merged] == [(2, 3), (4, 7)]


def test_nothing_is_merged_into_what_was_handed_out(merger: Merger) -> None:
    records = number([trade(1), trade(2)])
    assert merger.merge([(False, records[:1])]) == records[:1]
    assert merger.merge([(False, records[1:])]) == records[1:]


# What each line is good for: without it the same cases differ from the oracle.
MUTATIONS = {
    "merges over a status of the symbol": {
        "conflation->entries[record->symbol_id].round = 0;": ";",
    },
    "merges over a status of the ring": {
        "if (record->symbol_id == MD_SYMBOL_WHOLE_RING) {\n"
        "                md_conflation_close(conflation);": (
            "if (record->symbol_id == MD_SYMBOL_WHOLE_RING) {"
        )
    },
    "merges other conditions": {
        "into->body.trade.conditions != record->body.trade.conditions ||": ""
    },
    "merges where there is no size": {
        "into->body.trade.size == MD_ABSENT || record->body.trade.size == MD_ABSENT ||": ""
    },
    "merges where there is no price": {
        "into->body.trade.price == MD_ABSENT || record->body.trade.price == MD_ABSENT ||": ""
    },
    "merges other scales": {"into->price_scale != record->price_scale ||": ""},
    "lets a sum be MD_ABSENT": {" ||\n        size == MD_ABSENT)": ")"},
    "merges snapshots": {"(record->flags & MD_FLAG_SNAPSHOT) != 0": "(record->flags & 64) != 0"},
    "merges into a snapshot": {
        "*place = MD_CONFLATION_NONE;\n            } else": "*place = (uint32_t)n;\n} else"
    },
    "keeps the newest side": {"flags &= ~(unsigned)MD_FLAG_SIDE_MASK;": ";"},
    "keeps the oldest price": {
        "int64_t size;\n": "int64_t size;\nint64_t price = into->body.trade.price;\n",
        "into->body.trade.size = size;": (
            "into->body.trade.size = size;\ninto->body.trade.price = price;"
        ),
    },
    "does not sum": {"    into->body.trade.size = size;\n": ""},
    "does not flag a quote": {"into->flags |= MD_FLAG_CONFLATED;": ""},
    "forgets where it began anew": {
        "*place = (uint32_t)n;": "*place = *place == MD_CONFLATION_NONE ? (uint32_t)n : *place;"
    },
    "mixes trades and quotes": {
        "record->kind == MD_KIND_TRADE ? &entry->trade : &entry->quote": "&entry->trade"
    },
    "remembers the output before": {"entry->round != conflation->round": "entry->round == 0"},
}


@cache
def answers() -> list[tuple[list[Piece], list[Record]]]:
    return [(pieces, expected(pieces)) for pieces in cases(300)]


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_conflation_broken_on_purpose_differs_from_the_oracle(mutation: str) -> None:
    include = patched_include("conflate.h", MUTATIONS[mutation])
    flags = (POSIX, "-Wno-error")
    merger = Merger(compile_program(PROGRAMS / "conflate_check.c", include=include, flags=flags))
    try:
        assert any(merger.merge(pieces) != answer for pieces, answer in answers())
    finally:
        merger.process.kill()
        merger.process.communicate()
