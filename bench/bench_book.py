"""What does a change of a book cost, against a std::map a side; and a checksum, against Python's?

What is changed stands in bench_book.c. ``book.checksum`` is Kraken's CRC32 of the ten best levels
of both sides; its yardstick makes the same text in Python and gives it to zlib.crc32. The value of
``book.snapshot_ns`` is of 2,000 levels.
"""

from __future__ import annotations

import time
from zlib import crc32

from bench.lib import Context, Pair, Result, compile_c, run_program, summarise

KINDS = ("top", "deep", "snapshot", "read_top")
NAMES = ("book.update_ns_top", "book.update_ns_deep", "book.snapshot_ns", "book.read_top_ns")
CHECKSUM = "book.checksum"
NAMES = (*NAMES, CHECKSUM)
REPEAT = 2000


def run(context: Context) -> list[Result]:
    """Run the C program; each of its lines is one round."""
    parts = ("audience", "book", "feed", "publish", "segment")
    sources = ["bench/bench_book.c", "bench/book_map.cpp"]
    sources += [f"native/src/{part}.c" for part in parts]
    program = compile_c("bench_book", sources)
    milliseconds = int(context.seconds * 1000)
    rounds = run_program([program, context.cores[0], milliseconds], timeout=60 + context.seconds)
    results = [
        summarise(
            name, "ns", "std::map", [Pair(*reversed(one[kind])) for one in rounds], inverse=True
        )
        for kind, name in zip(KINDS, NAMES, strict=False)
    ]
    theirs = python_checksum_ns()
    pairs = [Pair(one["checksum"], theirs) for one in rounds]
    return [*results, summarise(CHECKSUM, "ns", "Python, zlib.crc32", pairs, inverse=True)]


def python_checksum_ns() -> float:
    """Return what the same checksum costs in Python, from levels as text."""
    asks = [(f"{100000.1 + n / 10:.1f}", "1.00000000") for n in range(10)]
    bids = [(f"{99999.9 - n / 10:.1f}", "1.00000000") for n in range(10)]
    start = time.perf_counter_ns()
    for _ in range(REPEAT):
        parts = [part for side in (asks, bids) for level in side for part in level]
        crc32("".join(part.replace(".", "").lstrip("0") for part in parts).encode())
    return (time.perf_counter_ns() - start) / REPEAT
