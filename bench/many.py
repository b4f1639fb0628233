"""One feed process, many symbols on many connections: what `bench_scale` measures.

Every connection is sent chunks of the same number of frames, one write a chunk, and the next round
of chunks only when the feed has published the last: so each of its reads brings one chunk, whatever
the number of symbols. Each connection goes through its symbols in a random order, all of them
before any comes again: the least that caches can know beforehand.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.frames import Field, Integers, write_digits
from bench.ingest import DEPTH, Line, MdsysReceiver, Tls
from bench.lib import fail
from mdsys import _native
from mdsys.counters.counters import read_counters
from mdsys.ring.segment import map_file as map_segment
from mdsys.ring.segment import segment_path

CHUNK_FRAMES = 16
"""Frames of a read: four periods."""
PERIOD = "QQQT"
"""Three quotes and a trade, as in captured days."""
DIGITS = 6
"""Of a symbol's number: SYM000000, ..."""
ROUND_WAIT_S_MAX = 30.0
START_MS = 1_700_000_000_000


def symbol_name(number: int) -> str:
    """Return a symbol's name."""
    return f"SYM{number:0{DIGITS}}"


@dataclass(frozen=True, slots=True)
class Chunks:
    """Frames for one connection, as they go over the wire."""

    data: list[memoryview]
    """One write each."""
    records: Integers
    """What they must become: (frame count, 5), the symbol's number and the body."""


class Template:
    """The fixed bytes of a period, and where its digits go."""

    def __init__(self) -> None:
        text = bytearray()
        self.fields: list[list[Field]] = []
        self.ends: list[int] = []
        for kind in PERIOD:
            frame, fields = _quote() if kind == "Q" else _trade()
            assert 126 <= len(frame) < 65536
            text += bytes((0x81, 126)) + len(frame).to_bytes(2, "big")
            self.fields.append(
                [Field(len(text) + f.offset, f.width, f.decimals, f.kind, f.column) for f in fields]
            )
            text += frame
            self.ends.append(len(text))
        self.bytes = np.frombuffer(bytes(text), np.uint8)


class Sender:
    """Makes the frames of one connection's symbols."""

    def __init__(self, line: Line, symbols: list[int], seed: int) -> None:
        self.line = line
        self._symbols = np.array(symbols, np.int64)
        self._random = np.random.default_rng(seed)
        self._left = np.zeros(0, np.int64)
        self._trade_ids = np.full(max(symbols) + 1, 5_000_000_000, np.int64)
        self._update_id = 5_123_107_839_020
        self._time_ms = START_MS

    def chunks(self, template: Template, count: int) -> Chunks:
        """Make so many chunks."""
        rows = count * CHUNK_FRAMES // len(PERIOD)
        data = np.tile(template.bytes, (rows, 1))
        symbols = self._take(rows * len(PERIOD)).reshape(rows, len(PERIOD))
        records = np.zeros((rows, len(PERIOD), 5), np.int64)
        records[:, :, 0] = symbols
        for place, fields in enumerate(template.fields):
            for field in fields:
                values = self._values(field, symbols[:, place], place)
                write_digits(data, field, values)
                if field.column >= 0:
                    scale = 1 if field.kind == "trade_id" else 10 ** (8 - field.decimals)
                    records[:, place, 1 + field.column] = values * scale
        self._update_id += rows * len(PERIOD)
        self._time_ms += rows
        size = data.shape[1]
        flat = data.reshape(-1).data
        periods = CHUNK_FRAMES // len(PERIOD)
        ends = [size * period + end for period in range(periods) for end in template.ends]
        wire = [
            self.line.prepared(flat[at : at + size * periods], ends)
            for at in range(0, size * rows, size * periods)
        ]
        return Chunks(wire, records.reshape(-1, 5))

    def _take(self, count: int) -> Integers:
        """Return the next symbols: each once, in some order, before any comes again."""
        parts = [self._left]
        size = len(self._left)
        while size < count:
            parts.append(self._random.permutation(self._symbols))
            size += len(self._symbols)
        joined = np.concatenate(parts)
        self._left = joined[count:]
        return joined[:count]

    def _values(self, field: Field, symbols: Integers, place: int) -> Integers:
        if field.kind == "symbol":
            return symbols
        if field.kind == "trade_id":
            return self._next_ids(symbols)
        steps = np.arange(len(symbols))
        if field.kind == "update_id":
            return np.asarray(self._update_id + steps * len(PERIOD) + place)
        if field.kind == "time":
            return np.asarray(self._time_ms + steps)
        low = 10 ** (field.width - 1)
        return self._random.integers(low, 10 * low, len(symbols))

    def _next_ids(self, symbols: Integers) -> Integers:
        """Number the trades of each symbol on, in order."""
        order = np.argsort(symbols, kind="stable")
        ordered = symbols[order]
        first = np.searchsorted(ordered, ordered)
        ids = np.empty_like(symbols)
        ids[order] = self._trade_ids[ordered] + np.arange(len(ordered)) - first
        np.add.at(self._trade_ids, symbols, 1)
        return ids


def _quote() -> tuple[bytes, list[Field]]:
    return _frame(
        ('{"e":"bookTicker","u":', ("update_id", 13, 0, -1)),
        (',"s":"SYM', ("symbol", DIGITS, 0, -1)),
        ('","b":"', ("price", 7, 2, 0)),
        ('","B":"', ("size", 5, 3, 2)),
        ('","a":"', ("price", 7, 2, 1)),
        ('","A":"', ("size", 5, 3, 3)),
        ('","T":', ("time", 13, 0, -1)),
        (',"E":', ("time", 13, 0, -1)),
        ("}", None),
    )


def _trade() -> tuple[bytes, list[Field]]:
    return _frame(
        ('{"e":"trade","E":', ("time", 13, 0, -1)),
        (',"T":', ("time", 13, 0, -1)),
        (',"s":"SYM', ("symbol", DIGITS, 0, -1)),
        ('","t":', ("trade_id", 10, 0, 2)),
        (',"p":"', ("price", 7, 2, 0)),
        ('","q":"', ("size", 5, 3, 1)),
        ('","X":"MARKET","m":true}', None),
    )


def _frame(*parts: tuple[str, tuple[str, int, int, int] | None]) -> tuple[bytes, list[Field]]:
    """Return a frame's text with zeros for digits, and its fields."""
    text = bytearray()
    fields: list[Field] = []
    for literal, number in parts:
        text += literal.encode()
        if number is not None:
            kind, width, decimals, column = number
            fields.append(Field(len(text), width, decimals, kind, column))
            digits = "0" * width
            number_text = f"{digits[decimals:]}.{digits[:decimals]}" if decimals else digits
            text += number_text.encode()
    return bytes(text), fields


@dataclass(frozen=True, slots=True)
class Shape:
    """How many of what."""

    symbols: int
    connections: int


class ManyReceiver(MdsysReceiver):
    """mdsys run with one feed and one ring; its venue has many connections."""

    def __init__(self, core: int, folder: Path, tls: Tls | None, shape: Shape) -> None:
        """Start it, and serve all its subscriptions."""
        self.shape = shape
        self.template = Template()
        super().__init__(core, folder, tls)

    def config(self) -> str:
        """See MdsysReceiver. The venue's limits are not in question here."""
        symbols = json.dumps([symbol_name(number) for number in range(self.shape.symbols)])
        per_connection = -(-self.shape.symbols // self.shape.connections)
        return f"""
            instance = "{self.instance}"
            [rings]
            num_buffers = 1
            buffer_size = "{DEPTH * 64 // 2**20} MiB"
            max_symbols = 65536
            [feeds]
            num_processes = 1
            [[venue]]
            name = "binance_usdm"
            symbols = {symbols}
            channels = ["trade", "quote"]
            url = "{self.venue.url}"
            max_symbols_per_connection = {per_connection}
            batch_size = 500
            [venue.limits]
            streams_per_connection = 100000
            streams_per_message = 1000
            messages = "100000/s"
            connects = "10000/m"
            """

    def connect(self) -> None:
        """Serve every connection until it has all its streams."""
        per_connection, rest = divmod(self.shape.symbols, self.shape.connections)
        assert rest == 0, "equal connections"
        self.senders: list[Sender] = []
        for number in range(self.shape.connections):
            line = self.venue.accept(2 * per_connection)
            own = sorted({int(stream.partition("@")[0][3:]) for stream in line.streams})
            assert len(own) == per_connection
            self.senders.append(Sender(line, own, seed=number))

    def map_words(self) -> memoryview:
        """See Receiver; and the directory, for the symbols' ids, and the counters."""
        words = super().map_words()
        home = Path("/dev/shm")
        directory = _native.Symbols(map_segment(segment_path(home, self.instance, "symbols")))
        names = (
            f"BINANCE_USDM:{symbol_name(number)}".encode() for number in range(self.shape.symbols)
        )
        self._ids = np.array([directory.find(name) for name in names], np.int64)
        self._counters = _native.Counters(
            map_segment(segment_path(home, self.instance, "counters"))
        )
        return words

    @property
    def supervisor_pid(self) -> int:
        """Its process: it has no business on the feed's core."""
        return self._process.pid

    def reads(self) -> int:
        """Return how many reads of sockets have brought records."""
        (feed,) = read_counters(self._counters)
        return feed.histograms["event_to_recv"].count

    def play(self, frame_count: int) -> tuple[float, float]:
        """Send about so many frames, round by round; check what the ring holds then.

        Returns:
            ns of processor time a frame, and frames a read.
        """
        chunks = -(-frame_count // (CHUNK_FRAMES * len(self.senders)))
        made = [sender.chunks(self.template, chunks) for sender in self.senders]
        count = chunks * CHUNK_FRAMES * len(self.senders)
        assert count < DEPTH, "all of it must still be in the ring for the check"
        first = self.first_record = self.ring.head
        reads, cpu = self.reads(), self.cpu_ns()
        for number in range(chunks):
            for sender, part in zip(self.senders, made, strict=True):
                sender.line.send(part.data[number])
            self._await(first + (number + 1) * CHUNK_FRAMES * len(self.senders))
        cpu, reads = self.cpu_ns() - cpu, self.reads() - reads
        self._check(first, count, [part.records for part in made])
        return cpu / count, count / reads

    def _await(self, seq: int) -> None:
        """Wait until a record is in the ring."""
        place = 4096 // 8 + seq % DEPTH * 8
        deadline = time.monotonic() + ROUND_WAIT_S_MAX
        while self.words[place] < seq:
            time.sleep(0.00005)
            if time.monotonic() > deadline:
                fail(f"scale: {self.ring.head} of {seq} records came")

    def _check(self, first: int, count: int, expected: list[Integers]) -> None:
        """Hold every record against its frame; connections mix as they like."""
        if self.ring.head != first + count:
            fail(f"scale: {self.ring.head - first} records of {count} frames")
        slots = np.frombuffer(self.words, np.int64)[4096 // 8 :].reshape(-1, 8)[:DEPTH]
        found = slots[np.arange(first + 1, first + count + 1) % DEPTH][:, 3:]
        found[:, 0] &= 0xFFFFFFFF  # the symbol's id; kind, flags and scales stand above it
        wanted = np.concatenate(expected)
        wanted[:, 0] = self._ids[wanted[:, 0]]
        if not np.array_equal(_sorted(found), _sorted(wanted)):
            fail("scale: other values were published than were sent")


def _sorted(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return rows[np.lexsort(rows.T)]
