"""What conflation must come to, said again in Python integers, by brute force."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mdsys.record.record import ABSENT, TICK, Kind, Ticks

SIDE, SNAPSHOT, CONFLATED = 3, 4, 16
FIELDS = ("ts_event", "ts_recv", "symbol_id", "kind", "flags", "price_scale", "size_scale")
BODY = ("word0", "word1", "word2", "word3")
PRICE, SIZE, CONDITIONS = "word0", "word1", "word3"
WORDS = np.dtype(
    {
        "names": ["seq", *FIELDS, *BODY],
        "formats": ["<u8", "<i8", "<i8", "<u4", "u1", "u1", "u1", "u1", *["<i8"] * 4],
        "offsets": [0, 8, 16, 24, 28, 29, 30, 31, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
"""A record as plain words, whatever its kind."""

Record = dict[str, int]


def plain(ticks: Ticks) -> list[Record]:
    """Return records as dictionaries of Python integers."""
    assert WORDS.names is not None
    rows = np.ascontiguousarray(ticks).view(WORDS).tolist()
    return [dict(zip(WORDS.names, map(int, row), strict=True)) for row in rows]


def packed(records: Sequence[Record]) -> np.ndarray[Any, Any]:
    """Return dictionaries as an array of records, dtype TICK."""
    rows = [tuple(record[name] for name in ("seq", *FIELDS, *BODY)) for record in records]
    return np.array(rows, WORDS).view(TICK)


def conflate(pieces: Iterable[Sequence[Record]], capacity: int) -> list[Record]:
    """Return what must come of records, between whose pieces there are holes.

    Args:
        pieces: Records in their order; nothing is merged across two pieces.
        capacity: Symbols of ids from this on are not merged.
    """
    groups: list[list[Record]] = []
    for piece in pieces:
        first_group = len(groups)
        for place, record in enumerate(piece):
            before = [
                group
                for group in groups[first_group:]
                if all(group[0][key] == record[key] for key in ("symbol_id", "kind"))
            ]
            if (
                before
                and record["symbol_id"] < capacity
                and not _status_between(piece, before[-1][-1], place)
                and _mergeable([*before[-1], record])
            ):
                before[-1].append({**record, "place": place})
            else:
                groups.append([{**record, "place": place}])
    return [_merged(group) for group in groups]


def _status_between(piece: Sequence[Record], earlier: Record, place: int) -> bool:
    symbol_id = earlier["symbol_id"]
    return any(
        each["kind"] == Kind.STATUS and each["symbol_id"] in (0, symbol_id)
        for each in piece[earlier["place"] + 1 : place]
    )


def _mergeable(group: Sequence[Record]) -> bool:
    if any(record["flags"] & SNAPSHOT for record in group):
        return False
    if group[0]["kind"] == Kind.QUOTE:
        return True
    return (
        group[0]["kind"] == Kind.TRADE
        and all(record[key] != ABSENT for record in group for key in (PRICE, SIZE))
        and all(
            len({record[key] for record in group}) == 1
            for key in (CONDITIONS, "price_scale", "size_scale")
        )
        and -(2**63) < sum(record[SIZE] for record in group) < 2**63
    )


def _merged(group: Sequence[Record]) -> Record:
    out = {key: value for key, value in group[-1].items() if key != "place"}
    if len(group) > 1:
        out["flags"] |= CONFLATED
        if out["kind"] == Kind.TRADE:
            out[SIZE] = sum(record[SIZE] for record in group)
            if len({record["flags"] & SIDE for record in group}) > 1:
                out["flags"] &= ~SIDE
    return out
