"""Kite's daily list of instruments: which token stands for KITE:NSE:INFY.

GET /instruments gives one CSV of all exchanges, some 100,000 rows, gzipped (kite.trade/docs, Kite
Connect v3, "Market quotes and instruments", read 2026-11). Zerodha renews it on trading days at
about 08:00 IST and wants it fetched once a day (kite.trade/forum, discussions 8132 and 6814), so
one is kept from 08:30 IST to 08:30 IST.

The list is somebody else's file: columns are found by their names, others are passed over, a row
that says nothing useful concerns only the name it bears.
"""

from __future__ import annotations

import asyncio
import csv
import zlib
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from difflib import get_close_matches
from typing import Final, NamedTuple

from mdsys.clock import SYSTEM_CLOCK, Clock
from mdsys.errors import FeedError
from mdsys.feed.kite.reference import price_decimals
from mdsys.feed.venue import Fetch, Resolution, Secret

PATH: Final = "/instruments"
COLUMNS: Final = ("instrument_token", "tradingsymbol", "expiry", "exchange")
"""Those that are needed, in the order of the fields of a row."""

EXCHANGES: Final = ("NSE", "BSE", "NFO", "BFO", "MCX", "CDS", "BCD")
"""Where a name may have been meant that stands at none, or at another."""

IST: Final = timezone(timedelta(hours=5, minutes=30), "IST")
RENEWED: Final = timedelta(hours=8, minutes=30)
"""Time of day, IST, from which a list is the day's own."""

SIZE_MAX: Final = 64 << 20
"""Bytes of the list, decompressed; a real one has 10 million."""
ROWS_MAX: Final = 1_000_000

_GZIP = b"\x1f\x8b"
HINTS_MAX: Final = 20
"""Wrong names of one request for which a near one is sought."""
PIECE_SIZE: Final = 500
"""Names looked up at once, after which others have their turn."""

_NEIGHBOURS = 40  # names before and after, in alphabetical order, that a wrong one is compared with


class Instrument(NamedTuple):
    """What a name stands for."""

    token: int
    """In [1, 2^32); 0: the row is of no use."""
    expiry: date | None
    fault: str = ""
    """Why the row is of no use."""

    def has_expired(self, today: date) -> bool:
        """Whether it trades no more."""
        return self.expiry is not None and self.expiry < today


class InstrumentList:
    """One day's instruments, by ``EXCHANGE:TRADINGSYMBOL``."""

    def __init__(self, instruments: Mapping[str, Instrument]) -> None:
        self._instruments = instruments
        self._sorted: list[str] = []
        self._mirrored: list[str] = []

    def __len__(self) -> int:
        """Return how many names it has."""
        return len(self._instruments)

    def resolve(self, symbol: str, today: date, *, hints: bool = True) -> Resolution:
        """Return what becomes of ``symbol``.

        Args:
            symbol: ``NSE:INFY``.
            today: In India. An instrument still trades on the day of its expiry.
            hints: Whether a refusal shall name what may have been meant: that takes milliseconds.
        """
        instrument = self._instruments.get(symbol)
        if instrument is None:
            hint = self._hint(symbol, today) if hints else ""
            return Resolution(refusal=f"not in Kite's list of instruments{hint}")
        if instrument.fault:
            return Resolution(refusal=f"Kite's list of instruments: {instrument.fault}")
        if instrument.has_expired(today):
            hint = self._hint(symbol, today) if hints else ""
            return Resolution(refusal=f"expired on {instrument.expiry}{hint}")
        wire = instrument.token.to_bytes(4, "big")
        return Resolution(wire, price_scale=price_decimals(wire), size_scale=0)

    def _hint(self, symbol: str, today: date) -> str:
        wanted = symbol.upper()
        candidates = [
            name
            for name in self._candidates(wanted if ":" in wanted else f"NSE:{wanted}")
            if not self._instruments[name].fault and not self._instruments[name].has_expired(today)
        ]
        near = get_close_matches(wanted, candidates, n=1)
        return f"; did you mean {near[0]}?" if near else ""

    def _candidates(self, wanted: str) -> set[str]:
        """Return the few names worth comparing: all would take a second for each wrong one."""
        if not self._sorted:
            self._sorted = sorted(self._instruments)
            self._mirrored = sorted(name[::-1] for name in self._instruments)
        found = set(_around(self._sorted, wanted))
        found.update(name[::-1] for name in _around(self._mirrored, wanted[::-1]))
        for exchange in EXCHANGES:
            name = f"{exchange}:{wanted.partition(':')[2]}"
            if name in self._instruments:
                found.add(name)
        return found


def _around(names: list[str], name: str) -> list[str]:
    at = bisect_left(names, name)
    return names[max(at - _NEIGHBOURS, 0) : at + _NEIGHBOURS]


def parse(body: bytes) -> InstrumentList:
    """Read a list, gzipped or not.

    Raises:
        FeedError: It is no list of instruments, or far too long.
    """
    rows = csv.reader(_lines(_unpacked(body)))
    try:
        header = [column.strip().lower() for column in next(rows, [])]
        missing = [column for column in COLUMNS if column not in header]
        if missing:
            raise FeedError(f"{PATH}: no list of instruments: without {', '.join(missing)}")
        places = [header.index(column) for column in COLUMNS]
        return InstrumentList(_instruments(rows, places))
    except csv.Error as error:
        raise FeedError(f"{PATH}: no list of instruments: line {rows.line_num}: {error}") from error


def _instruments(rows: Iterator[list[str]], places: list[int]) -> Mapping[str, Instrument]:
    instruments: dict[str, Instrument] = {}
    columns_min = max(places) + 1
    dates: dict[str, date] = {}  # a few hundred for all rows
    for number, row in enumerate(rows, 1):
        if number > ROWS_MAX:
            raise FeedError(f"{PATH}: more than {ROWS_MAX} rows")
        if len(row) < columns_min:
            continue  # bears no name to complain of
        token, symbol, expiry, exchange = (row[place].strip() for place in places)
        name = f"{exchange}:{symbol}"
        instrument = _instrument(token, expiry, dates)
        before = instruments.setdefault(name, instrument)
        if before != instrument:
            fault = f"{name} stands there with tokens {before.token} and {instrument.token}"
            instruments[name] = Instrument(0, None, before.fault or fault)
    return instruments


def _instrument(token: str, expiry: str, dates: dict[str, date]) -> Instrument:
    if not (token.isascii() and token.isdigit()) or not 1 <= int(token[:11]) < 1 << 32:
        return Instrument(0, None, f"token {token[:20]!r} is none")
    if not expiry:
        return Instrument(int(token), None)
    if expiry not in dates:
        try:
            dates[expiry] = date.fromisoformat(expiry)
        except ValueError:
            return Instrument(0, None, f"expiry {expiry[:20]!r} is no date")
    return Instrument(int(token), dates[expiry])


def _unpacked(body: bytes) -> bytes:
    if body.startswith(_GZIP):
        unzip = zlib.decompressobj(wbits=31)
        try:
            body = unzip.decompress(body, SIZE_MAX + 1)
        except zlib.error as error:
            raise FeedError(f"{PATH}: {error}") from error
        if not unzip.eof and len(body) <= SIZE_MAX:
            raise FeedError(f"{PATH}: the compressed list is cut short")
    if len(body) > SIZE_MAX:
        raise FeedError(f"{PATH}: more than {SIZE_MAX >> 20} MiB")
    return body


def _lines(body: bytes) -> Iterable[str]:
    try:
        return body.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise FeedError(f"{PATH}: no list of instruments: {error}") from error


class Instruments:
    """Resolves symbols; keeps the day's list. ``Venue.resolve`` is its ``resolve``."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._kept: tuple[date, Fetch, InstrumentList] | None = None

    async def resolve(
        self, symbols: Collection[str], secret: Secret, fetch: Fetch
    ) -> Mapping[str, Resolution]:
        """Return what becomes of each of ``symbols``.

        Raises:
            FeedError: The list cannot be had.
        """
        now = datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC).astimezone(IST)
        day = (now - RENEWED).date()
        if self._kept is None or self._kept[:2] != (day, fetch):  # another fetch: another venue
            body = await fetch(PATH, headers=headers(secret))
            self._kept = (day, fetch, await asyncio.to_thread(parse, body))
        listed = self._kept[2]
        return await _resolve_all(listed, symbols, now.date())


async def _resolve_all(
    listed: InstrumentList, symbols: Collection[str], today: date
) -> Mapping[str, Resolution]:
    """Look all of them up while the loop goes on: tens of thousands may be wrong."""
    found: dict[str, Resolution] = {}
    hint_count = 0
    for number, symbol in enumerate(symbols, 1):
        found[symbol] = listed.resolve(symbol, today, hints=False)
        if found[symbol].refusal is not None and hint_count < HINTS_MAX:
            hint_count += 1
            found[symbol] = await asyncio.to_thread(listed.resolve, symbol, today)
        elif number % PIECE_SIZE == 0:
            await asyncio.sleep(0)
    return found


def headers(secret: Secret) -> Mapping[str, str]:
    """Return the headers of every REST request."""
    token = f"token {secret['api_key']}:{secret['access_token']}"
    return {"X-Kite-Version": "3", "Authorization": token}
