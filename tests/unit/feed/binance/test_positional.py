"""The fast scanner takes what the venue sends, rather than leave it to the flat one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.binance_frames import DEPTH, QUOTE, TRADE, combined, edited
from tests.native import POSIX, PROGRAMS, SOURCES, compile_program, run_program


def taken(frame: bytes, *, futures: bool) -> bool:
    program = compile_program(
        PROGRAMS / "positional_takes.c", flags=(POSIX, str(SOURCES / "feed.c"))
    )
    code = run_program(program, "usdm" if futures else "spot", frame.decode()).returncode
    assert code in (0, 1)
    return code == 0


@pytest.mark.parametrize("futures", [False, True], ids=["spot", "usdm"])
@pytest.mark.parametrize("wrap", [bytes, combined], ids=["raw", "combined"])
@pytest.mark.parametrize("kind", [TRADE, QUOTE, DEPTH], ids=["trade", "quote", "depth"])
def test_frames_as_the_venue_sends_them_are_taken(
    futures: bool, wrap: Callable[[bytes], bytes], kind: dict[bool, bytes]
) -> None:
    assert taken(wrap(kind[futures]), futures=futures)
    assert not taken(wrap(kind[futures]).replace(b":", b": ", 1), futures=futures)


@pytest.mark.parametrize("futures", [False, True], ids=["spot", "usdm"])
@pytest.mark.parametrize(
    "price", ["0.00001234", "61840", "12345678901.5", "0.1", "1.000000000000", "1e2", "-1.5"]
)
def test_unusual_numbers_do_not_cost_the_fast_way(futures: bool, price: str) -> None:
    assert taken(edited(TRADE[futures], p=price), futures=futures)
    assert taken(edited(DEPTH[futures], a=[["1.5", price]], b=[]), futures=futures)
