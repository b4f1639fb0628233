"""The fast scanner takes what the venue sends, rather than leave it to the flat one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mdsys._decode import Decoder
from mdsys.feed.frame import FrameResult, SymbolInfo
from mdsys.record.fixed import to_fixed
from tests.binance_frames import DECODER_NAMES, DEPTH, QUOTE, TRADE, combined, edited
from tests.native import FEED_SOURCES, POSIX, PROGRAMS, compile_program, run_program

BUILDS = {"sse2": (), "portable": ("-DMD_DECIMAL_PORTABLE",)}
"""For x86-64, and what other processors get."""


def taken(frame: bytes, *, futures: bool, build: str = "sse2", market: str | None = None) -> bool:
    program = compile_program(
        PROGRAMS / "positional_takes.c", flags=(POSIX, *BUILDS[build], *FEED_SOURCES)
    )
    market = market or ("usdm" if futures else "spot")
    code = run_program(program, market, frame.decode()).returncode
    assert code in (0, 1)
    return code == 0


@pytest.mark.parametrize("futures", [False, True], ids=["spot", "usdm"])
@pytest.mark.parametrize("wrap", [bytes, combined], ids=["raw", "combined"])
@pytest.mark.parametrize("kind", [TRADE, QUOTE, DEPTH], ids=["trade", "quote", "depth"])
@pytest.mark.parametrize("build", BUILDS)
def test_frames_as_the_venue_sends_them_are_taken(
    futures: bool, wrap: Callable[[bytes], bytes], kind: dict[bool, bytes], build: str
) -> None:
    assert taken(wrap(kind[futures]), futures=futures, build=build)
    assert not taken(wrap(kind[futures]).replace(b":", b": ", 1), futures=futures, build=build)


@pytest.mark.parametrize("futures", [False, True], ids=["spot", "usdm"])
@pytest.mark.parametrize(
    "price", ["0.00001234", "61840", "12345678901.5", "0.1", "1.000000000000", "1e2", "-1.5"]
)
def test_unusual_numbers_do_not_cost_the_fast_way(futures: bool, price: str) -> None:
    assert taken(edited(TRADE[futures], p=price), futures=futures)
    assert taken(edited(DEPTH[futures], a=[[price, "1.5"]], b=[]), futures=futures)


@pytest.mark.parametrize("futures", [False, True], ids=["spot", "usdm"])
def test_a_number_is_exact_whatever_decimals_the_last_one_had(futures: bool) -> None:
    decoder = Decoder(DECODER_NAMES[futures], {"BTCUSDT": SymbolInfo(1)})
    texts = ["1.5", "1.25", "7", "0.00000001", "1.5", "1.50", "7", "7", "8.", "9999999.12345678"]
    for n, text in enumerate(texts):
        changes = {"p": text, "q": texts[-1 - n], "t": n + 1}
        _, (tick,) = decoder.decode(edited(TRADE[futures], **changes))
        assert tick["price"] == to_fixed(text, 8)
        assert tick["size"] == to_fixed(texts[-1 - n], 8)


@pytest.mark.parametrize("blank", ["", " "], ids=["fast", "flat"])
def test_names_are_told_apart_at_any_length_and_by_any_byte(blank: str) -> None:
    names = ["A" * size for size in range(1, 64)]
    names += [
        "A" * place + "B" + "A" * (size - place - 1)
        for size in (7, 16, 17)
        for place in range(size)
    ]
    names += [f"AAAAAAAA{number}" for number in range(500)]  # enough for the table to collide
    symbols = {name: SymbolInfo(1 + number) for number, name in enumerate(names)}
    decoder = Decoder("binance_spot", symbols)
    for name, info in symbols.items():
        frame = edited(QUOTE[False], s=name).replace(b'"s":', b'"s":' + blank.encode())
        _, ticks = decoder.decode(frame)
        assert list(ticks["symbol_id"]) == [info.symbol_id]
    for name in ("A" * 64, "A" * 15 + "\\u0041", "AB", "A" * 16 + "C", "A\\u0000"):
        frame = edited(QUOTE[False], s="NAME").replace(b"NAME", name.encode())
        result, ticks = decoder.decode(frame)
        known = name == "A" * 15 + "\\u0041"
        assert result == (FrameResult.OK if known else FrameResult.UNKNOWN_SYMBOL)


def test_an_escape_is_never_taken_for_what_it_looks_like() -> None:
    decoder = Decoder("binance_spot", {"A\\B": SymbolInfo(1), "BTCUSDT": SymbolInfo(2)})
    meant = edited(TRADE[False], s="A\\B")
    assert decoder.decode(meant)[0] == FrameResult.OK
    assert decoder.decode(meant.replace(b"A\\\\B", b"A\\B"))[0] == FrameResult.MALFORMED
    assert decoder.decode(combined(TRADE[False], "a\\/b"))[0] == FrameResult.OK
    assert decoder.decode(combined(TRADE[False], "a\\xb"))[0] == FrameResult.MALFORMED


COINM = (
    (
        b'{"u":1007198632021,"e":"bookTicker","s":"BTCUSD_PERP","ps":"BTCUSD","b":"61804.7","B":"35",'
        b'"a":"61804.8","A":"1645","T":1723161257465,"E":1723161257476}'
    ),
    (
        b'{"e":"depthUpdate","E":1723161257476,"T":1723161257462,"s":"BTCUSD_PERP","ps":"BTCUSD",'
        b'"U":1007198631847,"u":1007198631985,"pu":1007198631835,"b":[["61786.5","89"]],"a":[]}'
    ),
    (
        b'{"e":"trade","E":1723161257687,"T":1723161257679,"s":"BTCUSD_PERP","t":849714402,'
        b'"p":"61804.8","q":"4","X":"MARKET","m":false}'
    ),
)


@pytest.mark.parametrize("frame", COINM, ids=["quote", "depth", "trade"])
@pytest.mark.parametrize("wrap", [bytes, combined], ids=["raw", "combined"])
def test_coinm_has_its_own_order_and_is_taken(frame: bytes, wrap: Callable[[bytes], bytes]) -> None:
    assert taken(wrap(frame), futures=True, market="coinm")
    assert not taken(wrap(frame.replace(b'"ps":"', b'"ps": "')), futures=True, market="coinm") or (
        b'"ps"' not in frame
    )
