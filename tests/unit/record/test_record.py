"""The names and numbers of a record; its layout is tests/layout's."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mdsys.record.record import (
    ABSENT,
    BODY,
    KIND_DTYPE,
    PRICES,
    SIDE_MASK,
    SIZES,
    Flag,
    Kind,
    Status,
    side_name,
)


def c_enum(repository: Path, name: str, prefix: str) -> dict[str, int]:
    text = (repository / "native" / "include" / "mdsys" / "record.h").read_text()
    body = re.search(rf"enum {name} {{(.*?)\n}};", text, re.DOTALL)
    assert body is not None
    found = re.findall(rf"^\s*{prefix}(\w+) = (\d+),", body[1], re.MULTILINE)
    return {name: int(number) for name, number in found}


def test_kinds_are_those_of_c(repository: Path) -> None:
    assert c_enum(repository, "md_kind", "MD_KIND_") == {kind.name: int(kind) for kind in Kind}


def test_statuses_are_those_of_c(repository: Path) -> None:
    ours = {status.name: int(status) for status in Status}
    assert c_enum(repository, "md_status", "MD_STATUS_") == ours


def test_flags_are_those_of_c(repository: Path) -> None:
    in_c = c_enum(repository, "md_flag", "MD_FLAG_")
    assert in_c.pop("SIDE_MASK") == SIDE_MASK == Flag.BUY | Flag.SELL
    assert in_c == {str(flag.name): int(flag) for flag in Flag}


def test_numbers_that_others_have_stored_never_change() -> None:
    assert [kind.name for kind in sorted(Kind)] == [
        "TRADE",
        "QUOTE",
        "TICKER",
        "LEVEL",
        "BAR",
        "BAR_VOLUME",
        "STATUS",
    ]
    assert sorted(Kind) == list(range(1, 8))
    assert sorted(Status)[:11] == list(range(1, 12))
    assert np.iinfo(np.int64).min == ABSENT


def test_every_kind_has_four_integers() -> None:
    for kind in Kind:
        assert len(set(BODY[kind])) == 4
        raw = np.arange(8, dtype="<u8").view(KIND_DTYPE[kind])[0]
        assert [int(raw[name]) for name in BODY[kind]] == [4, 5, 6, 7]


def test_prices_and_sizes_are_told_apart() -> None:
    assert PRICES.isdisjoint(SIZES)
    assert {name for names in BODY.values() for name in names} >= PRICES | SIZES


@pytest.mark.parametrize(
    ("flags", "side"), [(0, None), (1, "buy"), (2, "sell"), (3, None), (8 | 1, "buy"), (255, None)]
)
def test_side_is_the_two_lowest_bits(flags: int, side: str | None) -> None:
    assert side_name(flags) == side
