"""What does a message of each venue and kind cost in C, against msgspec's typed decode of it?

One core. The frames are those of the simulated venues (bench/venue_frames.py), 512 of each channel,
one behind the other, a book's after its snapshot; bars and packets of Kite's indices are made after
the venues' documents. Ours parses, checks the venue's sequence or checksum, keeps the book, writes
the cell and the ring; msgspec makes a Struct of the frame, prices as Decimal; of Kite's binary
packets struct.unpack makes a tuple of each. The value is ns a frame, of how many records a line
below the table tells (of Kraken's bars none: each updates a running candle). Before timing, every
record is held against the venue's reference decoder in Python, byte for byte. Binance's trades and
quotes are in bench_decode.
"""

from __future__ import annotations

import os
import time

from bench.lib import Context, Result, alternate, fail, summarise
from bench.venue_frames import VENUES, frames_of, kinds_of, yardstick

COUNT = 512
REPEAT = 40
ELSEWHERE = ("binance_trade", "binance_quote", "binance_usdm_trade", "binance_usdm_quote")
NAMES = tuple(
    f"decode.{venue}_{kind}"
    for venue in VENUES
    for kind in kinds_of(venue)
    if f"{venue}_{kind}" not in ELSEWHERE
)


def run(context: Context) -> list[Result]:
    """Alternate msgspec and the C decoder over the same frames, venue by venue."""
    home = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {context.cores[0]})
    try:
        return [
            compare(context, venue, kind)
            for venue in VENUES
            for kind in kinds_of(venue)
            if context.wants(f"decode.{venue}_{kind}")
        ]
    finally:
        os.sched_setaffinity(0, home)


def compare(context: Context, venue: str, kind: str) -> Result:
    """Measure one venue's kind; the ratio is how many times faster ours is."""
    name = f"decode.{venue}_{kind}"
    made = frames_of(venue, kind, COUNT)
    words, decode = yardstick(venue, made.frames)
    decoder = made.decoder()

    def theirs_ns() -> float:
        start = time.perf_counter_ns()
        for frame in made.frames:
            decode(frame)
        return (time.perf_counter_ns() - start) / COUNT

    def ours_ns() -> float:
        ns, records, _ = decoder.bench(made.frames, REPEAT)
        if records != made.records * REPEAT:
            fail(f"{name}: {records} records, not {made.records} x {REPEAT}")
        return ns / REPEAT / COUNT

    ours_ns()
    pairs = alternate(context.seconds / 4, theirs_ns, ours_ns)
    context.notice(f"{name}: {made.records / COUNT:.3g} records a frame")
    return summarise(name, "ns", words, pairs, inverse=True)
