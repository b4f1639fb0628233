"""How much slower is a Numba handler than the same handler in C?

    one process, one core
        fill   TURN records into a ring of its own: quotes, and a trade for each two of them
        run    a consumer's native loop empties it and calls the handler, without the GIL

Both handlers, bench_consumer.c and `on_tick` below, do the same with the same typed state, and must
come to the same state, bit by bit. The value is the time of a record in the whole loop, as a user
has it, in batches of 200; `_single` is one record a batch, as when caught up. `_call` is the
handler alone, over the same records in memory, with no loop to dilute it.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.lib import Context, Result, Skipped, alternate, compile_c, fail, summarise
from mdsys.consume.handler import Callback, handler, native_handler
from mdsys.errors import HostError
from mdsys.record.record import TICK, Kind, Ticks

TURN = 4096
BATCH = 200
BOOK = np.dtype(
    [
        ("mid", "f8"),
        ("variance", "f8"),
        ("turnover", "f8"),
        ("volume", "i8"),
        ("position", "i8"),
        ("quotes", "i8"),
        ("trades", "i8"),
    ]
)
QUOTE, TRADE = int(Kind.QUOTE), int(Kind.TRADE)
NAMES = ("consumer.numba_vs_c", "consumer.numba_vs_c_single", "consumer.numba_vs_c_call")


@handler
def on_tick(tick: Any, book: Any) -> None:
    """What bench_consumer.c has in C."""
    if tick.kind == QUOTE:
        mid = 0.5 * (float(tick.bid_price) + float(tick.ask_price))
        if book.quotes != 0:
            change = mid - book.mid
            book.variance += change * change
        book.mid = mid
        book.quotes += 1
    elif tick.kind == TRADE:
        book.volume += tick.size
        book.turnover += float(tick.price) * float(tick.size)
        if float(tick.price) > book.mid:
            book.position += tick.size
        else:
            book.position -= tick.size
        book.trades += 1


def market() -> Ticks:
    """Return TURN records of a walk."""
    random = np.random.default_rng(7)
    ticks = np.zeros(TURN, TICK)
    ticks["symbol_id"] = 1
    price = 6_000_000_000_000 + np.cumsum(random.integers(-1_000_000, 1_000_001, TURN))
    trades = random.random(TURN) < 0.3
    ticks["kind"] = np.where(trades, TRADE, QUOTE)
    sizes = random.integers(1, 1_000_000, TURN)
    for field, values in (("price", price), ("size", sizes)):
        ticks[field][trades] = values[trades]
    for field, values in (("bid_price", price), ("ask_price", price + 1000)):
        ticks[field][~trades] = values[~trades]
    ticks["ts_recv"] = np.repeat(np.arange(TURN // 8), 8)  # 8 a socket read
    return ticks


def lane(library: ctypes.CDLL, callback: Callback, batch: int, ticks: Ticks) -> Callable[[], float]:
    """Return what times a turn of the loop with a handler; batch: most records at a time."""
    callback.warm()
    state: Any = callback.state
    opened = library.bench_open(callback.address, state.ctypes.data, batch)

    def turn() -> float:
        took: int = library.bench_turn(opened, ticks.ctypes.data, len(ticks))
        if took < 0:
            fail("consumer.numba_vs_c: the loop did not end with the last record")
        return took / len(ticks)

    return turn


def caller(callback: Callback, ticks: Ticks) -> Callable[[], float]:
    """Return what times the handler alone, in batches of BATCH."""
    entry = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p)
    call, address = entry(callback.address), ticks.ctypes.data
    state: Any = callback.state
    where = state.ctypes.data

    def turn() -> float:
        start = time.perf_counter_ns()
        done = call(address, len(ticks), where)
        took = time.perf_counter_ns() - start
        if done != len(ticks):
            fail(f"consumer.numba_vs_c: a handler stopped at record {done}")
        return took / len(ticks)

    return turn


def agree(ours: Callback, theirs: Callback, what: str) -> None:
    """Hold both states against each other; they began alike and had the same ticks as often."""
    numba: Any = ours.state
    native: Any = theirs.state
    if not numba["trades"][0] or not numba["quotes"][0]:
        fail(f"{what}: the handler was given nothing")
    if numba.tobytes() != native.tobytes():
        fail(f"{what}: {numba} in Numba, {native} in C")


def run(context: Context) -> list[Result]:
    """Compile the C handler and compare on one core."""
    flags = ["-fPIC", "-ffp-contract=off"]
    sources = ["bench/bench_consumer.c", "native/src/segment.c"]
    path = compile_c("bench_consumer.so", sources, flags=flags, libs=["-shared"])
    library = ctypes.CDLL(str(path))
    library.bench_open.restype = ctypes.c_void_p
    library.bench_open.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32]
    library.bench_turn.restype = ctypes.c_int64
    library.bench_turn.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64]
    home = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {context.cores[0]})
    try:
        return compare(context, library)
    finally:
        os.sched_setaffinity(0, home)


def compare(context: Context, library: ctypes.CDLL) -> list[Result]:
    """Alternate both handlers, way by way."""
    ticks = market()
    results = []
    for name, batch in zip(NAMES, (BATCH, 1, 0), strict=True):
        if not context.wants(name):
            continue
        try:
            numba = on_tick.callback(np.zeros(1, BOOK))
        except HostError as error:
            raise Skipped(str(error)) from None
        native = native_handler(library.bench_handle, np.zeros(1, BOOK)).callback(None)
        if batch:
            turns = [lane(library, each, batch, ticks) for each in (native, numba)]
        else:
            turns = [caller(native, ticks), caller(numba, ticks)]
        pairs = alternate(context.seconds / 3, turns[0], turns[1])
        turns[1]()  # alternate began with the yardstick: it had one turn more
        agree(numba, native, name)
        results.append(summarise(name, "ns", "the same handler in C", pairs))
    return results
