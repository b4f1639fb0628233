"""One record as text: a JSON object that loses no digit, or an aligned line for people."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from mdsys.record.fixed import format_fixed
from mdsys.record.record import ABSENT, BODY, HEADER, PRICES, SIZES, Kind, Status, Ticks, side_name

_WORDS = ("word0", "word1", "word2", "word3")
_RAW: Final = np.dtype(
    [*((name, kind) for name, (kind, _) in HEADER.items()), *((word, "<i8") for word in _WORDS)]
)
"""Every record alike: the header, and the body as four plain integers."""

_FIELDS: Final[Mapping[int, tuple[str, ...]]] = {int(kind): names for kind, names in BODY.items()}
_JSON_FIELDS: Final[Mapping[int, tuple[str, ...]]] = {
    **_FIELDS,
    Kind.TRADE: ("price", "size", "side", "trade_id"),
    Kind.QUOTE: ("bid_price", "bid_size", "ask_price", "ask_size"),
    Kind.LEVEL: ("side", "price", "size", "update_id"),
}
"""What a JSON object holds after the fields that all kinds share."""


class Row(NamedTuple):
    """One record in plain Python."""

    seq: int
    ts_event: int
    ts_recv: int
    symbol_id: int
    kind: int
    flags: int
    price_scale: int
    size_scale: int
    body: tuple[int, ...]

    @property
    def side(self) -> str | None:
        """``"buy"``, ``"sell"`` or None; of a level: bid and ask."""
        return side_name(self.flags)

    def texts(self) -> dict[str, str | None]:
        """Return the body's fields, exact, None where the venue sent nothing."""
        return {
            name: None if value == ABSENT else self._text(name, value)
            for name, value in zip(_FIELDS.get(self.kind, _WORDS), self.body, strict=True)
        }

    def _text(self, name: str, value: int) -> str:
        if name in PRICES:
            return format_fixed(value, self.price_scale)
        if name in SIZES:
            return format_fixed(value, self.size_scale)
        if name == "what":
            return _STATUS_NAMES.get(value, str(value))
        return str(value)


_KIND_NAMES = {int(kind): kind.name.lower() for kind in Kind}
_STATUS_NAMES = {int(status): status.name.lower() for status in Status}


def rows(ticks: Ticks) -> list[Row]:
    """Return an array of records as rows, in order."""
    return [Row._make((*values[:8], values[8:])) for values in ticks.view(_RAW).tolist()]


def kind_name(kind: int) -> str:
    """Return ``"trade"`` and so on; a number for one that this version does not know."""
    return _KIND_NAMES.get(kind, str(kind))


def json_line(row: Row, ring: int, symbol: str | None) -> str:
    """Return one JSON object: numbers of 64 bits as strings, since JSON readers round beyond 2^53.

    Args:
        row: The record.
        ring: The ring that it came from.
        symbol: VENUE:SYMBOL; None: it is about the whole ring.
    """
    values = {**row.texts(), "side": row.side}
    fields = _JSON_FIELDS.get(row.kind, _WORDS)
    return json.dumps(
        {
            "ring": ring,
            "seq": str(row.seq),
            "symbol": symbol,
            "kind": kind_name(row.kind),
            "ts_event": None if row.ts_event == ABSENT else str(row.ts_event),
            "ts_recv": None if row.ts_recv == ABSENT else str(row.ts_recv),
            **{name: values[name] for name in fields},
        },
        separators=(",", ":"),
    )


_BOLD_RED: Final = "\x1b[1;31m"
_LOSSES: Final = frozenset({Status.GAP, Status.CONNECTION_DOWN, Status.READER_EJECTED})
"""After which ticks are missing, or may be."""
_GREEN, _RED, _YELLOW, _DIM, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"
_SIDE_COLOURS = {"buy": _GREEN, "sell": _RED}
_PRICE_WIDTH = 12
_SIZE_WIDTH = 12


class LineFormat:
    """Lines for people: local time of reception, symbol, kind, values.

    Args:
        symbol_width: Columns for names; a longer name pushes its own line to the right.
        colour: Whether to write terminal colours.
    """

    def __init__(self, *, symbol_width: int, colour: bool) -> None:
        self._symbol_width = symbol_width
        self._colour = colour

    def __call__(self, row: Row, ring: int, symbol: str | None) -> str:
        """Return one line; arguments as those of ``json_line``."""
        place = f"ring {ring}" if symbol is None else symbol
        clock = _local_time(row.ts_recv)
        text = f"{place:{self._symbol_width}}  {kind_name(row.kind):6}  {_describe(row)}"
        if not self._colour:
            return f"{clock}  {text}"
        colour = _colour(row)
        return f"{_DIM}{clock}{_PLAIN}  {colour}{text}{_PLAIN if colour else ''}"


def _colour(row: Row) -> str:
    """Return what a line begins with: who trades or quotes at which side, and what is amiss."""
    if row.kind == Kind.STATUS:
        return _BOLD_RED if row.body[0] in _LOSSES else _YELLOW
    return _SIDE_COLOURS.get(row.side or "", "")


def _describe(row: Row) -> str:
    t = {name: "-" if text is None else text for name, text in row.texts().items()}
    side = row.side or "-"
    match row.kind:
        case Kind.TRADE:
            amounts = f"{t['price']:>{_PRICE_WIDTH}} x {t['size']:<{_SIZE_WIDTH}}"
            return f"{side:4} {amounts} #{t['trade_id']}"
        case Kind.QUOTE:
            bid = f"{t['bid_price']:>{_PRICE_WIDTH}} x {t['bid_size']:<{_SIZE_WIDTH}}"
            return f"bid  {bid} ask {t['ask_price']} x {t['ask_size']}"
        case Kind.LEVEL if row.side is None:
            return f"{'book':4} {'-':>{_PRICE_WIDTH}} {_with_update_id('empty', row)}"
        case Kind.LEVEL:
            size = "gone" if row.body[1] == 0 else f"x {t['size']}"
            book_side = {"buy": "bid", "sell": "ask"}.get(side, side)
            return f"{book_side:4} {t['price']:>{_PRICE_WIDTH}} {_with_update_id(size, row)}"
        case Kind.STATUS:
            lost = f" {t['first_lost']}..{t['last_lost']}" if row.body[1] not in (0, ABSENT) else ""
            return f"{t['what']}{lost} connection {t['connection']}"
        case _:
            return "  ".join(f"{name} {text}" for name, text in t.items())


def _with_update_id(size: str, level: Row) -> str:
    """Return a level's size and the id of its update, where the venue numbers them."""
    update_id = level.texts()["update_id"]
    return size if update_id is None else f"{size:<{_SIZE_WIDTH + 2}} u{update_id}"


def _local_time(ns: int) -> str:
    if ns == ABSENT:
        return "--:--:--.------"
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{_local_second(seconds)}.{rest // 1000:06d}"


@lru_cache(maxsize=64)
def _local_second(seconds: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
