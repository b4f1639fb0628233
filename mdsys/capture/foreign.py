"""Recordings in others' formats, told as entries of ours.

hftbacktest   lines of ``<receive_ns> <frame>``, frames of Binance in the combined form; a REST
              answer (an order book) stands among them as it came.
cryptofeed    ``VENUE.ws.*``: lines of ``<receive_s>: <frame>``, and ``wss://... <- ...`` for what
              was sent; REST answers stand in ``VENUE.http.0.0`` beside it, and are merged in.

Plain or gzip. Such a recording has one connection, one ring, and ids by the order of appearance.
"""

from __future__ import annotations

import gzip
import heapq
import json
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from mdsys._capture import stories_in
from mdsys.capture.format import CaptureError, Kind, entry, json_entry
from mdsys.capture.source import Life

GZIP_MAGIC: Final = b"\x1f\x8b"
LINE_SIZE_MAX: Final = 16 << 20
BLOCK_LINES: Final = 1024
SNIFF_LINES: Final = 2000
DEPTH: Final = 32768
SCALE: Final = 8
ALL_CHANNELS: Final = 0x1F
_SYMBOL: Final = struct.Struct("<IIBBBBBBH280x")
"""struct md_capture_symbol: of one that is new."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How frames of one venue are read that bear no mark of their own."""

    venue: str
    decoder: str
    name: re.Pattern[bytes]
    """Finds the symbol's name in a frame."""
    books_by_rest: bool = False


_BINANCE: Final = re.compile(rb'"s":"([A-Z0-9_]+)"')
_COINBASE: Final = re.compile(rb'"product_id":"([^"\\]+)"')
DIALECTS: Final[Mapping[str, Dialect]] = {
    "binance": Dialect("BINANCE", "binance_spot", _BINANCE, books_by_rest=True),
    "binance_usdm": Dialect("BINANCE_USDM", "binance_usdm", _BINANCE, books_by_rest=True),
    "binance_coinm": Dialect("BINANCE_COINM", "binance_coinm", _BINANCE, books_by_rest=True),
    "coinbase_exchange": Dialect("COINBASE_EXCHANGE", "coinbase_exchange", _COINBASE),
    "kraken": Dialect("KRAKEN", "kraken_v1", re.compile(rb'"[a-z]+(?:-\d+)?","([^"\\]+)"\]\s*$')),
}
"""By the venue's name; Kraken's recordings are of the first version of its protocol."""
_HOSTS: Final = {
    b"wss://stream.binance.com": "binance",
    b"wss://fstream.binance.com": "binance_usdm",
    b"wss://dstream.binance.com": "binance_coinm",
    b"wss://ws-feed.pro.coinbase.com": "coinbase_exchange",
    b"wss://ws-feed.exchange.coinbase.com": "coinbase_exchange",
    b"wss://ws.kraken.com": "kraken",
}
_NANOSECONDS: Final = re.compile(rb"(\d{18,19}) ([\[{].*)", re.DOTALL)
_SECONDS: Final = re.compile(rb"(\d{1,10})\.(\d{1,9}): ([\[{].*)", re.DOTALL)
_ANSWER: Final = re.compile(rb"(\S+) -> (\d{1,10})\.(\d{1,9}): (\{.*)", re.DOTALL)
_ASKED_FOR: Final = re.compile(rb"[?&]symbol=([A-Z0-9_]+)")


@dataclass(frozen=True, slots=True)
class _Line:
    ts_recv: int
    text: bytes
    symbol: bytes | None = None
    """Of a REST answer, where its request named it."""


class ForeignSource:
    """One recording; its own only stream. See ``mdsys.capture.source``."""

    def __init__(self, path: Path, dialect: Dialect) -> None:
        self._path = path
        self._dialect = dialect

    def __str__(self) -> str:
        """Return its path."""
        return str(self._path)

    @property
    def streams(self) -> Sequence[ForeignSource]:
        """See ``Source``."""
        return [self]

    def stories(self) -> Iterator[tuple[Any, ...]]:
        """See ``Source``."""
        for block in self.blocks(0):
            yield from stories_in(block)

    def begin(self, told: Mapping[str, Any]) -> Life:  # noqa: ARG002 - there is one
        """See ``Stream``."""
        return Life({}, same=False)

    def blocks(self, start_ns: int) -> Iterator[bytes]:  # noqa: ARG002 - all of it says what was
        """See ``Stream``."""
        lines = self._lines()
        ids: dict[bytes, int] = {}
        first = next(lines, None)
        if first is None:
            raise CaptureError(f"{self._path}: no frame in it")
        yield self._opening(first.ts_recv)
        line: _Line | None = first
        while line is not None:
            out: list[bytes] = []
            for each in (line, *islice(lines, BLOCK_LINES)):
                self._tell(each, ids, out)
            yield b"".join(out)
            line = next(lines, None)

    def _opening(self, ts_recv: int) -> bytes:
        ring = {"ring": 0, "depth": DEPTH, "epoch": 1, "first": 1, "next": 1}
        venue = {
            "venue": self._dialect.venue,
            "decoder": self._dialect.decoder,
            "channels": ALL_CHANNELS,
            "binary": False,
            "books_by_rest": self._dialect.books_by_rest,
        }
        return b"".join(
            (
                json_entry(Kind.BEGIN, {"process": 1, "pid": 0, "rings": [ring]}, ts_recv),
                json_entry(Kind.VENUE, venue, ts_recv),
                entry(Kind.LINK, struct.pack("<IIQ", 0, 0, 0), ts_recv, 1, 1),
            )
        )

    def _tell(self, line: _Line, ids: dict[bytes, int], out: list[bytes]) -> None:
        if line.symbol is not None or line.text.startswith(b'{"lastUpdateId"'):
            self._tell_book(line, ids, out)
            return
        if (found := self._dialect.name.search(line.text)) is not None:
            self._know(found[1], line.ts_recv, ids, out)
        out.append(entry(Kind.TEXT, line.text, line.ts_recv, 1, 1))

    def _know(self, name: bytes, ts_recv: int, ids: dict[bytes, int], out: list[bytes]) -> None:
        if name in ids or len(name) > 63 - len(self._dialect.venue):
            return
        number = ids[name] = len(ids) + 1
        size = len(name)
        state = _SYMBOL.pack(number, 0, SCALE, SCALE, 0, 0, size, size, 0) + name + name
        out.append(entry(Kind.SYMBOL, state, ts_recv))
        if self._dialect.books_by_rest:
            out.append(entry(Kind.EXPECT, struct.pack("<I", number), ts_recv, 1, 1))

    def _tell_book(self, line: _Line, ids: dict[bytes, int], out: list[bytes]) -> None:
        try:
            book = json.loads(line.text)
            asked = max(len(book["bids"]), len(book["asks"]))
            named = book.get("symbol", "").encode()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return  # an answer, and no book
        name = line.symbol or named or next(iter(ids), b"")
        self._know(name, line.ts_recv, ids, out)
        text = b"%s\n%d\n%s" % (name, asked, line.text)
        out.append(entry(Kind.SNAPSHOT, text, line.ts_recv, 1, 0))

    def _lines(self) -> Iterator[_Line]:
        received = _received(self._path)
        answers = _beside(self._path)
        if answers is None or not self._dialect.books_by_rest:
            return received
        return heapq.merge(received, _answered(answers), key=lambda line: line.ts_recv)


def foreign_source(path: Path, venue: str | None) -> ForeignSource:
    """Open another's recording.

    Raises:
        CaptureError: Nothing tells whose it is, or there is no such venue here.
    """
    name = venue or _guess(path)
    if name is None:
        raise CaptureError(
            f"{path}: nothing in it tells whose frames these are: say it (--venue, in Python "
            f"venue=), one of {', '.join(DIALECTS)}; or it is of a venue that is not read"
        )
    if name not in DIALECTS:
        raise CaptureError(f"{name}: its recordings are not read; there are {', '.join(DIALECTS)}")
    return ForeignSource(path, DIALECTS[name])


def _guess(path: Path) -> str | None:
    """Return whose frames a recording holds, by its own words."""
    for text in islice(_texts(path), SNIFF_LINES):
        for host, venue in _HOSTS.items():
            if text.startswith(host):
                return venue
        if b'"e":"depthUpdate"' in text:
            if b'"ps":' in text:
                return "binance_coinm"
            return "binance_usdm" if b'"pu":' in text else "binance"
        if b'@bookTicker","data":{"u":' in text:
            return "binance"
    return None


def _texts(path: Path) -> Iterator[bytes]:
    number = 0
    try:
        with _open(path) as file:
            while text := file.readline(LINE_SIZE_MAX + 1):
                number += 1
                if len(text) > LINE_SIZE_MAX:
                    raise CaptureError(f"{path}:{number}: a line of more than 16 MiB")
                yield text
    except (OSError, EOFError, zlib.error) as error:
        raise CaptureError(f"{path}:{number + 1}: damaged: {error}") from error


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        magic = file.read(2)
    return cast("BinaryIO", gzip.open(path)) if magic == GZIP_MAGIC else path.open("rb")


def _received(path: Path) -> Iterator[_Line]:
    for number, text in enumerate(_texts(path), 1):
        if found := _NANOSECONDS.fullmatch(text):
            yield _Line(int(found[1]), found[2].rstrip())
        elif found := _SECONDS.fullmatch(text):
            yield _Line(_ns(found[1], found[2]), found[3].rstrip())
        elif not text.startswith(b"wss://") and text.strip():
            raise CaptureError(
                f"{path}:{number}: expected '<receive_ns> <frame>' or '<receive_s>: <frame>', "
                f"found {text[:60]!r}"
            )


def _answered(path: Path) -> Iterator[_Line]:
    for text in _texts(path):
        found = _ANSWER.fullmatch(text)
        asked = _ASKED_FOR.search(found[1]) if found is not None else None
        if found is None or asked is None or b"lastUpdateId" not in found[4]:
            continue
        body = found[4].rstrip()
        try:
            _, end = json.JSONDecoder().raw_decode(body.decode())  # headers stand behind it
        except (ValueError, RecursionError):
            continue
        yield _Line(_ns(found[2], found[3]), body.decode()[:end].encode(), asked[1])


def _ns(seconds: bytes, fraction: bytes) -> int:
    return int(seconds) * 10**9 + int(fraction.ljust(9, b"0"))


def _beside(path: Path) -> Path | None:
    """Return the file of REST answers beside a recording of a socket."""
    found = re.fullmatch(r"(.+)\.ws\.\d+\.\d+(\.gz)?", path.name)
    if found is None:
        return None
    other = path.with_name(f"{found[1]}.http.0.0{found[2] or ''}")
    return other if other.is_file() else None
