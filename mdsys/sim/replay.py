"""Recorded frames, byte for byte, at the recorded pace or another.

A recording has lines of ``<receive_ns> <frame>``, plain or gzip; a frame is of the combined form,
``{"stream":..,"data":..}``. Lines that hold a REST answer (an order book's snapshot) are counted
and passed over. Several recordings are merged by receive time; equal times keep the files' order.
"""

from __future__ import annotations

import gzip
import heapq
import math
import time
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

import msgspec

from mdsys.errors import MdsysError, UsageError
from mdsys.sim.dialect import Book, Dialect, Kind, Session, Symbol
from mdsys.sim.frames import Frame, header
from mdsys.sim.source import View

GZIP_MAGIC = b"\x1f\x8b"
BLOCK_LINES = 512
# The longest real frame so far has 65 kB; nobody's line has 16 MiB.
LINE_SIZE_MAX = 16 * 1024 * 1024


class ReplayError(MdsysError):
    """A recording cannot be replayed; the message names file, line and what to do."""


class Replay:
    """Recordings to replay."""

    def __init__(self, *paths: str | Path, speed: float | None = 1.0) -> None:
        """Take the files and their pace.

        Args:
            *paths: At least one file.
            speed: Times the recorded pace, in (0, inf); None: as fast as the clients take it.
        """
        if not paths:
            raise ValueError("a replay needs a file")
        if speed is not None and not 0 < speed < float("inf"):
            raise ValueError(f"speed {speed}: times the recorded pace, above 0")
        self.paths = [Path(path) for path in paths]
        self.speed = speed

    def open(self, dialect: type[Dialect]) -> ReplaySource:
        """Open the files.

        Raises:
            UsageError: The venue's frames do not name their streams.
            ReplayError: A file is missing or damaged at its beginning.
        """
        if dialect.native is None:
            raise UsageError(
                "--replay: only Binance's recordings can be served, whose frames name their streams"
            )
        return ReplaySource(self.paths, self.speed)


class Line(NamedTuple):
    """One recorded frame."""

    receive_ns: int
    stream: str
    frame: bytes
    data: bytes


class _Combined(msgspec.Struct):
    stream: str
    data: msgspec.Raw


class _Snapshot(msgspec.Struct):
    lastUpdateId: int  # noqa: N815 - the venue's name


class NoMarket:
    """The market of a recording: nothing is known of it. See mdsys.sim.dialect.Market."""

    symbols: Sequence[Symbol] = ()

    @property
    def time_ns(self) -> int:
        """Return the clock's."""
        return time.time_ns()

    def find(self, name: str) -> Symbol | None:  # noqa: ARG002 - there is none
        """Return None."""
        return None

    def book(self, symbol: Symbol) -> Book:
        """Never called: there is no symbol to ask for."""
        raise LookupError(symbol.name)


class ReplaySource:
    """Recordings being replayed."""

    def __init__(self, paths: Collection[Path], speed: float | None) -> None:
        self.market = NoMarket()
        self.paced = speed is not None
        self.block: list[Line] = []
        self.snapshot_count = 0
        self.line_count = 0
        self._speed = 1.0 if speed is None else speed
        self._files = ExitStack()
        try:
            self._lines = heapq.merge(
                *[self._read(path, self._files.enter_context(_open(path))) for path in paths],
                key=lambda line: line.receive_ns,
            )
            first = next(self._lines, None)
        except BaseException:
            self._files.close()
            raise
        if first is None:
            self._files.close()
            raise ReplayError(f"{', '.join(map(str, paths))}: no frames to replay")
        self._next: Line | None = first
        self._first_ns = first.receive_ns

    def view(self, session: Session) -> View:
        """Return a view of no streams yet."""
        return ReplayView(self, session)

    def start(self) -> None:
        """The first frame's receive time is the start, whatever the clock says now."""

    def due_ns(self) -> int | None:
        """Return when the next frame is due; None: all are replayed."""
        if self._next is None:
            return None
        # Rounded up, so that it is due at that time.
        return math.ceil((self._next.receive_ns - self._first_ns) / self._speed)

    def advance(self, until_ns: int | None) -> None:
        """Read what is due, at most one block."""
        block: list[Line] = []
        last_ns = None if until_ns is None else self._first_ns + int(until_ns * self._speed)
        line = self._next
        while line is not None and len(block) < BLOCK_LINES:
            if last_ns is not None and line.receive_ns > last_ns:
                break
            block.append(line)
            line = next(self._lines, None)
        self._next = line
        self.block = block
        self.line_count += len(self.block)

    def shift_time(self, by_ns: int) -> None:  # noqa: ARG002 - it is refused
        """Refuse: recorded frames bear recorded times."""
        raise UsageError("fault clock: a recording's times cannot be changed")

    def progress(self) -> str:
        """Return how much of the recording is replayed."""
        last_ns = self.block[-1].receive_ns if self.block else self._first_ns
        return f"{(last_ns - self._first_ns) / 1e9:.1f} s and {self.line_count:,} frames recorded"

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def _read(self, path: Path, file: BinaryIO) -> Iterator[Line]:
        decode = msgspec.json.Decoder(_Combined).decode
        number = 0
        while text := _read_line(path, number + 1, file):
            number += 1
            receive, _, frame = text.rstrip(b"\r\n").partition(b" ")
            if not (receive.isdigit() and len(receive) <= 19 and frame):
                raise ReplayError(
                    f"{path}:{number}: expected '<receive_ns> <frame>', found {_excerpt(text)}"
                )
            try:
                combined = decode(frame)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                if not _is_snapshot(frame):
                    raise ReplayError(
                        f"{path}:{number}: not a combined frame "
                        f'({{"stream":..,"data":..}}): {error}; found {_excerpt(frame)}'
                    ) from error
                self.snapshot_count += 1
                continue
            yield Line(int(receive), combined.stream, frame, bytes(combined.data))


class ReplayView:
    """What one client sees of a replay."""

    def __init__(self, source: ReplaySource, session: Session) -> None:
        self._source = source
        self._combined = session.form.combined
        self._streams: frozenset[str] = frozenset()
        self.frames: Counter[str] = Counter()
        self.records: Counter[str] = Counter()

    @property
    def streams(self) -> int:
        """How many streams are shown."""
        return len(self._streams)

    def show(self, symbol: Symbol, kinds: Collection[Kind]) -> None:
        """Not for recordings: their streams have names."""
        raise NotImplementedError("a native dialect shows streams by their names")

    def hide(self, symbol: Symbol, kinds: Collection[Kind]) -> None:
        """Not for recordings: their streams have names."""
        raise NotImplementedError("a native dialect shows streams by their names")

    def show_streams(self, names: Collection[str]) -> None:
        """Show these streams; one that was not recorded stays silent."""
        self._streams = frozenset(names)

    def close(self) -> None:
        """Nothing is held."""

    def render(self) -> list[bytes]:
        """Return the current block's frames for this client."""
        return (
            [b"".join(frame.data for frame in frames)] if (frames := self.render_frames()) else []
        )

    def render_frames(self) -> list[Frame]:
        """Return them one by one."""
        frames = []
        for line in self._source.block:
            if line.stream in self._streams:
                payload = line.frame if self._combined else line.data
                symbol, _, channel = line.stream.partition("@")
                kind = (
                    _KINDS[channel] if (channel := channel.partition("@")[0]) in _KINDS else "other"
                )
                frames.append(Frame(kind, symbol.upper(), header(len(payload)) + payload))
                self.frames[kind] += 1
                # One record a level; every level begins like this and nothing else does.
                self.records[kind] += payload.count(b'["') if kind == "depth" else 1
        return frames


_KINDS: Final[Mapping[str, Kind]] = {"trade": "trade", "bookTicker": "quote", "depth": "depth"}


def _open(path: Path) -> BinaryIO:
    try:
        with path.open("rb") as file:
            magic = file.read(2)
        return cast("BinaryIO", gzip.open(path)) if magic == GZIP_MAGIC else path.open("rb")
    except OSError as error:
        raise ReplayError(
            f"{path}: {error.strerror}; --replay takes files of '<receive_ns> <frame>' lines"
        ) from error


def _read_line(path: Path, number: int, file: BinaryIO) -> bytes:
    try:
        text = file.readline(LINE_SIZE_MAX + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ReplayError(f"{path}:{number}: the file is damaged here: {error}") from error
    if len(text) > LINE_SIZE_MAX:
        raise ReplayError(f"{path}:{number}: the line is longer than {LINE_SIZE_MAX >> 20} MiB")
    return text


def _is_snapshot(frame: bytes) -> bool:
    try:
        msgspec.json.decode(frame, type=_Snapshot)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _excerpt(text: bytes) -> str:
    shown = repr(text[:60].decode(errors="replace").strip())
    return shown if len(text) <= 60 else f"{shown}..."
