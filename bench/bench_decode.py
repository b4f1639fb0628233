"""What does the C decoder cost a message, from frame bytes to a published record, against msgspec?

One core. Frames as Binance's raw streams send them, in the venue's own key order, 512 of each kind
one behind the other. Ours parses, checks the venue's sequence, writes the last-value cell and the
ring slot. There are three yardsticks, all msgspec with every field of a Struct typed:

* ``decode.*``: prices as Decimal, exact as ours are. It makes a Struct, we a published record: each
  what a program goes on with. The goal's ratio.
* ``*_vs_text``: prices left as text, which nobody can reckon with: all but the numbers.
* ``*_to_fixed``: the Struct with Decimals, and then the very integers that our record holds made of
  it (times in ns, prices and sizes x 10^8, side): the same work but for publishing. In Python, as
  who uses msgspec would have to; so this line is about us against Python as much as msgspec.

Before timing, every record is held against what the frames were made of, and the integers of the
last yardstick against the records.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from bench.lib import Context, Result, alternate, fail, summarise
from mdsys._decode import Decoder
from mdsys.feed.frame import SymbolInfo
from mdsys.record.record import Flag

COUNT = 512
REPEAT = 200
NAMES = (
    "decode.binance_trade",
    "decode.binance_quote",
    "decode.binance_trade_vs_text",
    "decode.binance_quote_vs_text",
    "decode.binance_usdm_trade",
    "decode.binance_usdm_quote",
    "decode.binance_trade_to_fixed",
    "decode.binance_quote_to_fixed",
)


Make = Callable[[int, int, int], str]
Structs = dict[Make, type[msgspec.Struct]]
Convert = Callable[[Any], tuple[int, ...]]


def decimal_text(value: int) -> str:
    """Return value x 10^-8 as Binance writes it, all eight decimals."""
    return f"{value // 10**8}.{value % 10**8:08}"


def spot_trade(n: int, price: int, size: int) -> str:
    """Return the n-th trade frame."""
    return (
        f'{{"e":"trade","E":{1723161255343 + n},"s":"BTCUSDT","t":{3735683259 + n},'
        f'"p":"{decimal_text(price)}","q":"{decimal_text(size)}","T":{1723161255342 + n},'
        f'"m":{"true" if n % 3 else "false"},"M":true}}'
    )


def spot_quote(n: int, price: int, size: int) -> str:
    """Return the n-th bookTicker frame."""
    return (
        f'{{"u":{50093239212 + n},"s":"BTCUSDT","b":"{decimal_text(price)}",'
        f'"B":"{decimal_text(size)}","a":"{decimal_text(price + 10**6)}",'
        f'"A":"{decimal_text(size + 10**5)}"}}'
    )


def usdm_trade(n: int, price: int, size: int) -> str:
    """Return the n-th trade frame; USD-M writes as many decimals as the tick size has."""
    return (
        f'{{"e":"trade","E":{1723161256322 + n},"T":{1723161256322 + n},"s":"BTCUSDT",'
        f'"t":{5266583935 + n},"p":"{decimal_text(price)[:-6]}","q":"{decimal_text(size)[:-5]}",'
        f'"X":"MARKET","m":{"true" if n % 3 else "false"}}}'
    )


def usdm_quote(n: int, price: int, size: int) -> str:
    """Return the n-th bookTicker frame."""
    return (
        f'{{"e":"bookTicker","u":{5123107839020 + n},"s":"BTCUSDT",'
        f'"b":"{decimal_text(price)[:-6]}","B":"{decimal_text(size)[:-5]}",'
        f'"a":"{decimal_text(price + 10**6)[:-6]}","A":"{decimal_text(size + 10**5)[:-5]}",'
        f'"T":{1723161256313 + n},"E":{1723161256313 + n}}}'
    )


def structs(number: Any) -> Structs:
    """Return the Struct of each kind of frame, its prices and sizes of the type ``number``."""
    prices = {"p": number, "q": number}
    top = {"b": number, "B": number, "a": number, "A": number}
    trade = {"e": str, "E": int, "s": str, "t": int, **prices, "T": int, "m": bool}
    return {
        function: msgspec.defstruct(function.__name__, list(fields.items()))
        for function, fields in {
            spot_trade: {**trade, "M": bool},
            spot_quote: {"u": int, "s": str, **top},
            usdm_trade: {**trade, "X": str},
            usdm_quote: {"e": str, "u": int, "s": str, **top, "T": int, "E": int},
        }.items()
    }


BOUGHT, SOLD = int(Flag.BUY | Flag.LAST), int(Flag.SELL | Flag.LAST)


def trade_to_fixed(trade: Any) -> tuple[int, ...]:
    """Return what the record of a spot trade holds: ts_event, flags, price, size, trade_id."""
    return (
        trade.T * 1_000_000,
        SOLD if trade.m else BOUGHT,
        int(trade.p.scaleb(8)),
        int(trade.q.scaleb(8)),
        trade.t,
    )


def quote_to_fixed(quote: Any) -> tuple[int, ...]:
    """Return what the record of a spot bookTicker holds: prices, then sizes."""
    return (
        int(quote.b.scaleb(8)),
        int(quote.a.scaleb(8)),
        int(quote.B.scaleb(8)),
        int(quote.A.scaleb(8)),
    )


FIXED_FIELDS = {
    trade_to_fixed: ("ts_event", "flags", "price", "size", "trade_id"),
    quote_to_fixed: ("bid_price", "ask_price", "bid_size", "ask_size"),
}


def checked_frames(decoder: Decoder, make: Make) -> list[bytes]:
    """Make the frames, and see that each becomes the record that it was made of."""
    random = np.random.default_rng(7)
    grain = 10**6 if "usdm" in make.__name__ else 1
    prices = random.integers(5_800_000_000_000, 6_300_000_000_000, COUNT) // grain * grain
    sizes = random.integers(10_000_000, 900_000_000, COUNT) // 10**5 * 10**5
    frames = []
    for n, (price, size) in enumerate(zip(prices.tolist(), sizes.tolist(), strict=True)):
        frame = make(n, price, size).encode()
        _, ticks = decoder.decode(frame)
        if make.__name__.endswith("trade"):
            found = (ticks["price"][0], ticks["size"][0])
            wanted: tuple[int, ...] = (price, size)
        else:
            found = tuple(ticks[f][0] for f in ("bid_price", "bid_size", "ask_price", "ask_size"))
            wanted = (price, size, price + 10**6, size + 10**5)
        if len(ticks) != 1 or found != wanted:
            fail(f"decode: {frame!r} became {ticks}")
        frames.append(frame)
    return frames


def run(context: Context) -> list[Result]:
    """Alternate msgspec and the C decoder over the same frames."""
    exact, text = structs(Decimal), structs(str)
    lines: list[tuple[str, str, Make, Structs, Convert | None, str]] = [
        (NAMES[0], "binance_spot", spot_trade, exact, None, "msgspec, Decimal"),
        (NAMES[1], "binance_spot", spot_quote, exact, None, "msgspec, Decimal"),
        (NAMES[2], "binance_spot", spot_trade, text, None, "msgspec, str"),
        (NAMES[3], "binance_spot", spot_quote, text, None, "msgspec, str"),
        (NAMES[4], "binance_usdm", usdm_trade, exact, None, "msgspec, Decimal"),
        (NAMES[5], "binance_usdm", usdm_quote, exact, None, "msgspec, Decimal"),
        (NAMES[6], "binance_spot", spot_trade, exact, trade_to_fixed, "msgspec to fixed point"),
        (NAMES[7], "binance_spot", spot_quote, exact, quote_to_fixed, "msgspec to fixed point"),
    ]
    home = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {context.cores[0]})
    try:
        return [
            compare(context.seconds / 2, name, decoder, make, types[make], convert, yardstick)
            for name, decoder, make, types, convert, yardstick in lines
        ]
    finally:
        os.sched_setaffinity(0, home)


def compare(
    seconds: float,
    name: str,
    decoder_name: str,
    make: Make,
    struct: type[msgspec.Struct],
    convert: Convert | None,
    yardstick: str,
) -> Result:
    """Measure one kind of frame; the ratio is how many times faster ours is."""
    decoder = Decoder(decoder_name, {"BTCUSDT": SymbolInfo(1)}, 1024)
    frames = checked_frames(decoder, make)
    decode = msgspec.json.Decoder(struct).decode
    sums: set[int] = set()
    if convert is not None:
        judge = Decoder(decoder_name, {"BTCUSDT": SymbolInfo(1)}, 1024)  # has not seen them yet
        for frame in frames:
            _, ticks = judge.decode(frame)
            if convert(decode(frame)) != tuple(ticks[f][0] for f in FIXED_FIELDS[convert]):
                fail(f"{name}: {frame!r} is not what the yardstick makes of it")

    def msgspec_ns() -> float:
        start = time.perf_counter_ns()
        if convert is None:
            for frame in frames:
                decode(frame)
        else:
            for frame in frames:
                convert(decode(frame))
        return (time.perf_counter_ns() - start) / COUNT

    def ours_ns() -> float:
        ns, records, checksum = decoder.bench(frames, REPEAT)
        sums.add(checksum)
        if records != COUNT * REPEAT:
            fail(f"{name}: {records} records of {COUNT * REPEAT} frames")
        return ns / records

    pairs = alternate(seconds, msgspec_ns, ours_ns)
    if len(sums) != 1:
        fail(f"{name}: the same frames left different records")
    return summarise(name, "ns", yardstick, pairs, inverse=True)
