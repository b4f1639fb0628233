from __future__ import annotations

import asyncio
import difflib
import gzip
import threading
import tracemalloc
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from mdsys.errors import FeedError
from mdsys.feed.kite import instruments as module
from mdsys.feed.kite.instruments import IST, InstrumentList, Instruments, parse
from mdsys.feed.venue import Resolution

HEADER = (
    "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,"
    "lot_size,instrument_type,segment,exchange"
)
# The documents' example, and rows of github.com/zerodha/kiteconnect-mocks, instruments_all.csv.
ROWS = """
408065,1594,INFY,INFOSYS,0,,,0.05,1,EQ,NSE,NSE
128046084,500209,INFY,INFOSYS,0,,,0.05,1,EQ,BSE,BSE
519937,2031,M&M,"MAHINDRA, MAHINDRA",0,,0,0.05,1,EQ,NSE,NSE
256265,1001,NIFTY 50,NIFTY 50,0,,0,0,0,EQ,INDICES,NSE
5720322,22345,NIFTY26NOVFUT,,78.0,2026-11-24,,0.05,75,FUT,NFO-FUT,NFO
5720578,22346,NIFTY26DECFUT,,23.0,2026-12-29,9500,0.05,75,FUT,NFO-FUT,NFO
645639,2522,SILVER26DECFUT,,7800.0,2026-12-04,,1,1,FUT,MCX,MCX
412931,1613,USDINR26NOVFUT,USDINR,0,2026-11-26,0,0.0025,1,FUT,CDS-FUT,CDS
263942,1031,USDINR26NOVFUT,USDINR,0,2026-11-26,0,0.0025,1,FUT,BCD-FUT,BCD
""".strip().splitlines()
TODAY = date(2026, 11, 24)
SECRET = {"api_key": "the_key", "access_token": "the_token"}


def dump(*rows: str, header: str = HEADER) -> bytes:
    return "\r\n".join([header, *rows, ""]).encode()


def resolve(symbol: str, *rows: str, today: date = TODAY) -> Resolution:
    return parse(dump(*(rows or ROWS))).resolve(symbol, today)


@pytest.mark.parametrize(
    ("symbol", "token", "price_scale"),
    [
        ("NSE:INFY", 408065, 2),
        ("BSE:INFY", 128046084, 2),
        ("NSE:M&M", 519937, 2),
        ("NSE:NIFTY 50", 256265, 2),
        ("NFO:NIFTY26NOVFUT", 5720322, 2),
        ("CDS:USDINR26NOVFUT", 412931, 7),
        ("BCD:USDINR26NOVFUT", 263942, 4),
    ],
)
def test_name_is_resolved_to_its_token_and_the_scale_of_its_segment(
    symbol: str, token: int, price_scale: int
) -> None:
    assert resolve(symbol) == Resolution(token.to_bytes(4, "big"), price_scale, 0)


@pytest.mark.parametrize(
    ("symbol", "hint"),
    [
        ("NSE:INFI", "NSE:INFY"),
        ("NSE:JNFY", "NSE:INFY"),
        ("NSE:infy", "NSE:INFY"),
        ("INFY", "NSE:INFY"),
        ("NFO:INFY", "NSE:INFY"),
        ("NSE:NIFTY50", "NSE:NIFTY 50"),
        ("MCX:SILVER26DEC", "MCX:SILVER26DECFUT"),
        ("NSE:QQQQQQQQQQ", None),
        ("", None),
    ],
)
def test_unknown_name_is_refused_with_a_near_one(symbol: str, hint: str | None) -> None:
    words = "not in Kite's list of instruments" + (f"; did you mean {hint}?" if hint else "")
    assert resolve(symbol) == Resolution(refusal=words)


def test_hint_is_found_among_many_names_whatever_letter_is_wrong() -> None:
    listed = parse(dump(*(f"{i + 1},1,SYM{i:06d},,0,,0,0,1,EQ,NSE,NSE" for i in range(50_000))))
    for wrong in ("SYN031415", "SYM03141", "TYM031415", "SYM0314159", "SYM_31415"):
        assert "did you mean NSE:SYM" in str(listed.resolve(f"NSE:{wrong}", TODAY).refusal)


def test_hint_is_found_when_the_first_letter_is_wrong() -> None:
    others = [f"{letter}{i:04d}" for letter in "ABCPQRSTUYZ" for i in range(500)]
    names = [*others, "RELIANCE"]
    listed = parse(
        dump(*(f"{i + 1},1,{name},,0,,0,0,1,EQ,NSE,NSE" for i, name in enumerate(names)))
    )
    refusal = listed.resolve("NSE:TELIANCE", TODAY).refusal
    assert refusal == "not in Kite's list of instruments; did you mean NSE:RELIANCE?"


def test_thousands_of_unknown_names_do_not_hold_up_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeking = since_turn = longest = 0
    near, look_up = difflib.get_close_matches, InstrumentList.resolve

    def seek(*args: object, **keys: object) -> list[str]:
        nonlocal seeking
        seeking += 1
        assert threading.current_thread() is not threading.main_thread()
        return near(*args, **keys)  # type: ignore[call-overload, no-any-return]

    def resolve(*args: Any, **keys: Any) -> Resolution:
        nonlocal since_turn, longest
        since_turn += 1
        longest = max(longest, since_turn)
        return look_up(*args, **keys)

    async def turn() -> None:
        nonlocal since_turn
        while True:
            since_turn = 0
            await asyncio.sleep(0)

    async def ask() -> Mapping[str, Resolution]:
        turning = asyncio.create_task(turn())
        names = [f"NSE:INFY{n}" for n in range(10_000)]
        found = await Instruments(Turned("2026-11-24T09:00")).resolve(names, SECRET, rest)
        turning.cancel()
        return found

    monkeypatch.setattr(InstrumentList, "resolve", resolve)
    rest = Rest(dump(*ROWS))
    monkeypatch.setattr(module, "get_close_matches", seek)
    found = asyncio.run(ask())
    words = "not in Kite's list of instruments"
    refusals = [resolution.refusal for resolution in found.values()]
    assert refusals == [f"{words}; did you mean NSE:INFY?"] * 20 + [words] * 9_980
    assert seeking == 20
    assert longest <= 501


def test_instrument_trades_on_the_day_of_its_expiry_and_not_after() -> None:
    assert resolve("NFO:NIFTY26NOVFUT", today=date(2026, 11, 24)).refusal is None
    refusal = resolve("NFO:NIFTY26NOVFUT", today=date(2026, 11, 25)).refusal
    assert refusal == "expired on 2026-11-24; did you mean NFO:NIFTY26DECFUT?"


def test_columns_are_found_by_name_and_others_passed_over() -> None:
    header = "  exchange , added_later, TradingSymbol,expiry,instrument_token"
    body = b"\xef\xbb\xbf" + dump("NSE,?, INFY ,,408065,more,still more", header=header)
    assert parse(body).resolve("NSE:INFY", TODAY).wire == b"\0\x06:\x01"


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("x,1,INFY,,0,,0,0,1,EQ,NSE,NSE", "token 'x' is none"),
        ("0,1,INFY,,0,,0,0,1,EQ,NSE,NSE", "token '0' is none"),
        ("-5,1,INFY,,0,,0,0,1,EQ,NSE,NSE", "token '-5' is none"),
        ("4294967296,1,INFY,,0,,0,0,1,EQ,NSE,NSE", "token '4294967296' is none"),
        (f"{'9' * 5000},1,INFY,,0,,0,0,1,EQ,NSE,NSE", f"token '{'9' * 20}' is none"),
        ("²,1,INFY,,0,,0,0,1,EQ,NSE,NSE", "token '²' is none"),
        ("5,1,INFY,,0,tomorrow,0,0,1,EQ,NSE,NSE", "expiry 'tomorrow' is no date"),
    ],
)
def test_spoilt_row_concerns_only_its_own_name(row: str, fault: str) -> None:
    rows = [row, *ROWS[1:]]
    assert resolve("NSE:INFY", *rows).refusal == f"Kite's list of instruments: {fault}"
    assert resolve("BSE:INFY", *rows).refusal is None


def test_name_with_two_tokens_is_refused_rather_than_guessed() -> None:
    rows = [*ROWS, "77,1,INFY,,0,,0,0,1,EQ,NSE,NSE", "78,1,INFY,,0,,0,0,1,EQ,NSE,NSE"]
    words = "Kite's list of instruments: NSE:INFY stands there with tokens 408065 and 77"
    assert resolve("NSE:INFY", *rows).refusal == words
    assert resolve("NSE:INFY", *ROWS, ROWS[0]).refusal is None  # twice the same is no matter


def test_short_and_empty_rows_are_passed_over() -> None:
    assert resolve("NSE:INFY", "", "408065,1594", ROWS[0]).refusal is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "without instrument_token, tradingsymbol, expiry, exchange"),
        (b"<html>502 Bad Gateway</html>", "without instrument_token"),
        (dump(header=HEADER.replace("expiry", "expires")), "without expiry$"),
        (b"\xff\xfe", "utf-8"),
        (gzip.compress(dump(*ROWS))[:-9], "cut short"),
        (b"\x1f\x8b" + b"\0" * 30, "/instruments: Error"),
        (dump('1,1,"' + "x" * 200_000), "line 2: field larger"),
    ],
    ids=["empty", "html", "column", "utf-8", "cut", "no gzip", "field"],
)
def test_what_is_no_list_is_a_feed_error(body: bytes, words: str) -> None:
    with pytest.raises(FeedError, match=words):
        parse(body)


def test_gzipped_list_is_read() -> None:
    assert len(parse(gzip.compress(dump(*ROWS)))) == len(ROWS)


def test_list_is_bounded_in_rows_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_MAX", len(ROWS))
    parse(dump(*ROWS))
    with pytest.raises(FeedError, match="more than 9 rows"):
        parse(dump(*ROWS, ROWS[0]))
    monkeypatch.setattr(module, "SIZE_MAX", 1 << 20)
    for body in (bytes(2 << 20), gzip.compress(bytes(2 << 20))):
        with pytest.raises(FeedError, match="more than 1 MiB"):
            parse(body)


def test_bomb_takes_no_more_memory_than_a_list_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SIZE_MAX", 1 << 20)
    bomb = gzip.compress(bytes(64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(FeedError, match="more than 1 MiB"):
            parse(bomb)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


class Turned:
    """A clock that tests set, by the time in India."""

    def __init__(self, text: str) -> None:
        self.set(text)

    def set(self, text: str) -> None:
        since = datetime.fromisoformat(text).replace(tzinfo=IST) - datetime(1970, 1, 1, tzinfo=IST)
        self.ns = (since - timedelta(hours=5, minutes=30)) // timedelta(microseconds=1) * 1000

    def now_ns(self) -> int:
        return self.ns


class Rest:
    """The venue's REST side: counts what it is asked."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.asked: list[tuple[str, Mapping[str, str] | None]] = []

    async def __call__(
        self,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        weight: int = 1,
    ) -> bytes:
        assert params is None
        assert weight == 1
        self.asked.append((path, headers))
        return self.body


def test_list_is_asked_for_as_the_documents_say() -> None:
    rest = Rest(dump(*ROWS))
    found = asyncio.run(
        Instruments(Turned("2026-11-24T09:00")).resolve(["NSE:INFY", "NSE:NONE"], SECRET, rest)
    )
    expected = {"X-Kite-Version": "3", "Authorization": "token the_key:the_token"}
    assert rest.asked == [("/instruments", expected)]
    assert found["NSE:INFY"].wire == b"\0\x06:\x01"
    assert found["NSE:NONE"].refusal is not None


def test_list_is_kept_until_the_next_is_due_at_half_past_eight() -> None:
    rest, clock = Rest(dump(*ROWS)), Turned("2026-11-23T08:30")
    instruments = Instruments(clock)

    def count_at(text: str) -> int:
        clock.set(text)
        asyncio.run(instruments.resolve(["NSE:INFY"], SECRET, rest))
        return len(rest.asked)

    assert [count_at(f"2026-11-{text}") for text in ("23T08:30", "23T23:59", "24T08:29")] == [1] * 3
    assert [count_at(f"2026-11-{text}") for text in ("24T08:30", "24T12:00")] == [2, 2]


def test_expiry_is_held_against_the_calendars_day_in_india() -> None:
    rest, clock = Rest(dump(*ROWS)), Turned("2026-11-24T23:59")
    instruments = Instruments(clock)

    def refusal() -> str | None:
        found = asyncio.run(instruments.resolve(["NFO:NIFTY26NOVFUT"], SECRET, rest))
        return found["NFO:NIFTY26NOVFUT"].refusal

    assert refusal() is None
    clock.set("2026-11-25T00:00")
    assert "expired" in str(refusal())
    assert len(rest.asked) == 1


def test_list_of_one_address_is_not_anothers() -> None:
    instruments = Instruments(Turned("2026-11-24T09:00"))
    for rest in (Rest(dump(*ROWS)), Rest(dump(ROWS[1]))):
        found = asyncio.run(instruments.resolve(["NSE:INFY"], SECRET, rest))
        assert (found["NSE:INFY"].refusal is None) == (ROWS[0].encode() in rest.body)
        assert len(rest.asked) == 1


def test_failed_fetch_is_not_kept() -> None:
    rest = Rest(b"502 Bad Gateway")
    instruments = Instruments(Turned("2026-11-24T09:00"))
    with pytest.raises(FeedError):
        asyncio.run(instruments.resolve(["NSE:INFY"], SECRET, rest))
    rest.body = dump(*ROWS)
    found = asyncio.run(instruments.resolve(["NSE:INFY"], SECRET, rest))
    assert found["NSE:INFY"].refusal is None
