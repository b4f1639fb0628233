"""Frames of a made-up venue for the ingest benches: many, cheap to make, and with known answers.

USD-M quotes and trades, three to one as in captured days, over 20 symbols, some 140 bytes each,
with prices and sizes of several widths. A period of 80 frames is a template of fixed bytes; a block
is the template repeated, with the digits of ids, times, prices and sizes written in by NumPy,
column by column. So a million fresh frames take less than a second to make, no two blocks share an
id, and what every record must hold is known without decoding anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SYMBOLS = tuple(f"SYM{number:03}USDT" for number in range(20))
QUOTES_PER_TRADE = 3
PERIOD = len(SYMBOLS) * (QUOTES_PER_TRADE + 1)
START_MS = 1_700_000_000_000

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Field:
    """Where a number's digits go in the template."""

    offset: int
    width: int
    decimals: int
    kind: str
    """id, time, price or size."""
    column: int
    """Which word of the record's body it becomes, x 10^8 unless it is an id; -1: none."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some periods of frames, and the bodies of the records they must become."""

    data: memoryview
    """WebSocket frames, one behind the other."""
    ends: Integers
    """Where each frame ends in data."""
    bodies: Integers
    """(frame count, 4)."""

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.ends)


class FrameMaker:
    """Makes blocks whose ids go on where the last block's ended."""

    def __init__(self, seed: int = 1) -> None:
        """Lay the template out."""
        self._random = np.random.default_rng(seed)
        self._period_count = 0
        template = bytearray()
        ends: list[int] = []
        self._fields: list[list[Field]] = []
        for turn in range(QUOTES_PER_TRADE + 1):
            for number, symbol in enumerate(SYMBOLS):
                text, fields = _frame(symbol, number, turn)
                header = bytes((0x81, 126)) + len(text).to_bytes(2, "big")
                if len(text) < 126:
                    header = bytes((0x81, len(text)))
                at = len(template) + len(header)
                template += header + text
                ends.append(len(template))
                self._fields.append(
                    [Field(at + f.offset, f.width, f.decimals, f.kind, f.column) for f in fields]
                )
        self._template = np.frombuffer(bytes(template), np.uint8)
        self._ends = np.array(ends, np.int64)

    def block(self, frame_count: int) -> Block:
        """Make at least ``frame_count`` frames: whole periods."""
        periods = -(-frame_count // PERIOD)
        data = np.tile(self._template, (periods, 1))
        bodies = np.zeros((periods, PERIOD, 4), np.int64)
        period = np.arange(self._period_count, self._period_count + periods)
        self._period_count += periods
        for place, fields in enumerate(self._fields):
            turn = place // len(SYMBOLS)
            for field in fields:
                values = self._values(field, period, turn)
                write_digits(data, field, values)
                if field.column >= 0:
                    scale = 1 if field.kind == "id" else 10 ** (8 - field.decimals)
                    bodies[:, place, field.column] = values * scale
        size = len(self._template)
        ends = (np.arange(periods)[:, None] * size + self._ends).reshape(-1)
        return Block(data.reshape(-1).data, ends, bodies.reshape(-1, 4))

    def _values(self, field: Field, period: Integers, turn: int) -> Integers:
        if field.kind == "id":
            base = 10 ** (field.width - 1)
            per_period = QUOTES_PER_TRADE if turn < QUOTES_PER_TRADE else 1
            ids: Integers = base + period * per_period + turn % QUOTES_PER_TRADE
            return ids
        if field.kind == "time":
            times: Integers = START_MS + period
            return times
        low = 10 ** (field.width - 1)
        values: Integers = self._random.integers(low, 10 * low, len(period))
        return values


def _frame(symbol: str, number: int, turn: int) -> tuple[bytes, list[Field]]:
    """Return a frame's text with zeros for digits, and its fields."""
    text = bytearray()
    fields: list[Field] = []

    def put(literal: str) -> None:
        text.extend(literal.encode())

    def put_number(kind: str, width: int, decimals: int = 0, column: int = -1) -> None:
        fields.append(Field(len(text), width, decimals, kind, column))
        digits = "0" * width
        put(f"{digits[decimals:]}.{digits[:decimals]}" if decimals else digits)

    price = (5 + number % 4, 1 + number % 3)  # digits in all, decimals
    sizes = [(3 + (number + turn + side) % 4, 2) for side in range(2)]
    if turn < QUOTES_PER_TRADE:
        put('{"e":"bookTicker","u":')
        put_number("id", 13)
        put(f',"s":"{symbol}","b":"')
        put_number("price", *price, column=0)
        put('","B":"')
        put_number("size", *sizes[0], column=2)
        put('","a":"')
        put_number("price", *price, column=1)
        put('","A":"')
        put_number("size", *sizes[1], column=3)
        put('","T":')
        put_number("time", 13)
        put(',"E":')
        put_number("time", 13)
        put("}")
    else:
        put('{"e":"trade","E":')
        put_number("time", 13)
        put(',"T":')
        put_number("time", 13)
        put(f',"s":"{symbol}","t":')
        put_number("id", 10, column=2)
        put(',"p":"')
        put_number("price", *price, column=0)
        put('","q":"')
        put_number("size", *sizes[0], column=1)
        put(f'","X":"MARKET","m":{("true", "false")[number % 2]}}}')
    return bytes(text), fields


def write_digits(data: npt.NDArray[np.uint8], field: Field, values: Integers) -> None:
    """Write the values' digits into their columns, around the decimal point."""
    left = values.copy()
    for digit in range(field.width):
        at = field.offset + field.width - 1 - digit
        if field.decimals and digit < field.decimals:
            at += 1
        data[:, at] = 48 + left % 10
        left //= 10
