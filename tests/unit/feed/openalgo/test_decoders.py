"""The C decoder and the plain-Python one, under one class."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

import pytest

from mdsys._decode import Decoder
from mdsys.feed.frame import FRAME_SIZE_MAX, FrameResult, to_ticks
from mdsys.feed.openalgo.reference import ReferenceDecoder
from mdsys.record.record import ABSENT, KIND_DTYPE, Flag, Kind, Status, Ticks
from tests.openalgo_frames import BUY, CHANNELS, DEPTH, QUOTE, SYMBOLS, edited

MS = 1_000_000
E8 = 10**8
Decode = Callable[[bytes], tuple[FrameResult, Ticks]]


def make(which: str, channels: Collection[str] = CHANNELS) -> Decode:
    if which == "c":
        decoder = Decoder("openalgo", SYMBOLS, 1024, channels=channels)
        return lambda message: decoder.decode(message, 7, 3)
    reference = ReferenceDecoder(SYMBOLS, channels)

    def decode(message: bytes) -> tuple[FrameResult, Ticks]:
        result, records = reference.decode(message, 7, 3)
        return result, to_ticks(records)

    return decode


def ticker(tick: Ticks) -> list[int]:
    names = ("last_price", "last_size", "volume", "open_interest")
    return [int(tick.view(KIND_DTYPE[Kind.TICKER])[name]) for name in names]


def quote(tick: Ticks) -> list[int]:
    return [int(tick[name]) for name in ("bid_price", "ask_price", "bid_size", "ask_size")]


def rows(count: int, first: int = 1) -> list[dict[str, Any]]:
    return [{"price": first + i, "quantity": i + 1, "orders": i} for i in range(count)]


@pytest.mark.parametrize("which", ["c", "python"])
class TestOpenAlgoDecoder:
    def test_quote_frame_is_exact(self, which: str) -> None:
        result, ticks = make(which)(QUOTE)
        assert result == FrameResult.OK
        (tick,) = ticks
        assert (tick["kind"], tick["symbol_id"], tick["flags"]) == (Kind.TICKER, 1, Flag.LAST)
        assert (tick["ts_event"], tick["ts_recv"]) == (1723161255343 * MS, 7)
        assert ticker(tick) == [77945 * 10**6, 7 * E8, 1192471 * E8, ABSENT]

    def test_depth_frame_is_exact(self, which: str) -> None:
        result, ticks = make(which)(DEPTH)
        assert result == FrameResult.OK
        assert list(ticks["kind"]) == [Kind.TICKER, Kind.QUOTE] + [Kind.LEVEL] * 3
        assert ticker(ticks[0])[3] == 0
        assert quote(ticks[1]) == [77940 * 10**6, 77950 * 10**6, 5 * E8, 172 * E8]
        levels = ticks[2:]
        assert list(levels["price"]) == [77940 * 10**6, 77935 * 10**6, 77950 * 10**6]
        assert list(levels["size"]) == [5 * E8, 140 * E8, 172 * E8]
        assert list(levels["orders"]) == [1, 2, 3]
        snapshot = Flag.SNAPSHOT
        assert list(levels["flags"]) == [
            Flag.BUY | snapshot,
            Flag.BUY | snapshot,
            Flag.SELL | snapshot | Flag.LAST,
        ]
        assert set(ticks["ts_event"]) == {1723161255343 * MS}

    def test_mode_ltp_has_a_price_alone(self, which: str) -> None:
        frame = b'{"type":"market_data","symbol":"SBIN","exchange":"NSE","data":{"ltp":779.45}}'
        result, ticks = make(which)(frame)
        assert result == FrameResult.OK
        assert [ticker(tick) for tick in ticks] == [[77945 * 10**6, ABSENT, ABSENT, ABSENT]]
        assert ticks["ts_event"][0] == ABSENT

    @pytest.mark.parametrize(
        ("price", "value"),
        [
            ("779.45", 77945000000),
            ('"779.45"', 77945000000),
            ("779", 77900000000),
            ("7.7945e2", 77945000000),
            ("779.4499999", 77944999990),
            ("-37.63", -3763000000),
            ("0", 0),
            ("779.45000000000000000000", 77945000000),
            ("779.4500000000001", None),
            ("779.4499999999999", None),
            ("1e300", None),
        ],
    )
    def test_number_is_taken_digit_by_digit_or_refused(
        self, which: str, price: str, value: int | None
    ) -> None:
        result, ticks = make(which)(QUOTE.replace(b"779.45", price.encode()))
        if value is not None:
            assert (result, ticker(ticks[0])[0]) == (FrameResult.OK, value)
            return
        assert result == FrameResult.VALUE
        (status,) = ticks
        assert (status["kind"], status["symbol_id"]) == (Kind.STATUS, 1)
        assert (status["what"], status["connection"]) == (Status.VALUE_REFUSED, 3)

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"last_quantity": ..., "ltq": 8}, [8, ABSENT]),
            ({"last_quantity": None, "ltq": 8, "last_trade_quantity": 9}, [8, ABSENT]),
            ({"last_quantity": ..., "last_trade_quantity": 9}, [9, ABSENT]),
            ({"last_quantity": ...}, [ABSENT, ABSENT]),
            ({"open_interest": 5}, [7, 5]),
            ({"oi": 4, "open_interest": 5}, [7, 4]),
            ({"oi": None, "open_interest": "5"}, [7, 5]),
        ],
    )
    def test_names_for_one_thing_are_tried_in_turn(
        self, which: str, changes: dict[str, Any], expected: list[int]
    ) -> None:
        _, ticks = make(which)(edited(QUOTE, **changes))
        _, last_size, _, open_interest = ticker(ticks[0])
        wanted = [value if value == ABSENT else value * E8 for value in expected]
        assert [last_size, open_interest] == wanted

    @pytest.mark.parametrize(
        ("written", "ts_event"),
        [
            ("1723161255343", 1723161255343 * MS),
            ("1723161255", 1723161255 * 1000 * MS),
            ("1723161255343123", 1723161255343123 * 1000),
            ("172316125534312345", 172316125534312345),
            ("9223372037", ABSENT),
            ("0", ABSENT),
            ("null", ABSENT),
            ("-1", ABSENT),
            ("1723161255343.5", ABSENT),
            ("1e12", ABSENT),
            ('"2025-05-28T10:30:45.123Z"', ABSENT),
            ('"1723161255343"', ABSENT),
            ("1" * 19, ABSENT),
            ("1" * 400, ABSENT),
            ("{}", ABSENT),
            ("true", ABSENT),
        ],
    )
    def test_time_is_told_by_its_size(self, which: str, written: str, ts_event: int) -> None:
        result, ticks = make(which)(QUOTE.replace(b"1723161255343", written.encode()))
        assert (result, ticks["ts_event"][0]) == (FrameResult.OK, ts_event)

    def test_quote_is_the_best_price_wherever_it_stands(self, which: str) -> None:
        depth = {"buy": [rows(3)[0], rows(3)[2], rows(3)[1]], "sell": rows(3, 9)[::-1]}
        _, ticks = make(which)(edited(DEPTH, depth=depth))
        assert quote(ticks[1]) == [3 * E8, 9 * E8, 3 * E8, 1 * E8]

    @pytest.mark.parametrize(
        ("depth", "expected", "level_count"),
        [
            ({"buy": [], "sell": []}, [ABSENT] * 4, 1),  # which says so
            ({"buy": BUY}, [77940 * 10**6, ABSENT, 5 * E8, ABSENT], 2),
            ({"buy": None, "sell": BUY}, [ABSENT, 77935 * 10**6, ABSENT, 140 * E8], 2),
            ({"buy": [{"price": 5, "quantity": 0}], "sell": [{}]}, [ABSENT] * 4, 1),
            ({"buy": [{"price": None}], "sell": []}, [ABSENT] * 4, 1),
        ],
    )
    def test_side_may_be_empty(
        self, which: str, depth: Any, expected: list[int], level_count: int
    ) -> None:
        result, ticks = make(which)(edited(DEPTH, depth=depth))
        assert result == FrameResult.OK
        assert quote(ticks[1]) == expected
        assert len(ticks) == 2 + level_count

    @pytest.mark.parametrize("depth", [None, {}, {"buy": None, "sell": None}, {"bids": BUY}])
    def test_depth_without_sides_is_none(self, which: str, depth: Any) -> None:
        result, ticks = make(which)(edited(DEPTH, depth=depth))
        assert (result, list(ticks["kind"])) == (FrameResult.OK, [Kind.TICKER])

    def test_orders_may_be_missing(self, which: str) -> None:
        depth = {"buy": [{"price": 1, "quantity": 2}], "sell": []}
        _, ticks = make(which)(edited(DEPTH, depth=depth))
        assert ticks["orders"][2] == ABSENT

    @pytest.mark.parametrize(
        ("channels", "kinds"),
        [
            (["ticker"], [Kind.TICKER]),
            (["quote"], [Kind.QUOTE]),
            (["book"], [Kind.LEVEL] * 3),
            ([], []),
        ],
    )
    def test_only_wanted_channels_are_published(
        self, which: str, channels: list[str], kinds: list[Kind]
    ) -> None:
        result, ticks = make(which, channels)(DEPTH)
        assert (result, list(ticks["kind"])) == (FrameResult.OK, kinds)

    @pytest.mark.parametrize("has_depth", [True, False])
    def test_depth_that_is_refused_leaves_no_book_to_use(self, which: str, has_depth: bool) -> None:
        decode = make(which)
        bad = edited(DEPTH, ltp="0.123456789", depth={"buy": BUY} if has_depth else None)
        said = []
        for each in (DEPTH, bad, bad, DEPTH):
            _, ticks = decode(each)
            said += [int(tick["what"]) for tick in ticks if tick["kind"] == Kind.STATUS]
        refused = [Status.VALUE_REFUSED] * 2
        assert said == ([refused[0], Status.RESYNC, refused[1]] if has_depth else refused)

    def test_hundred_levels_a_side_and_no_more(self, which: str) -> None:
        decode = make(which)
        _, ticks = decode(edited(DEPTH, depth={"buy": rows(100), "sell": rows(100, 500)}))
        assert len(ticks) == 202
        result, ticks = decode(edited(DEPTH, depth={"buy": rows(101), "sell": []}))
        assert (result, len(ticks)) == (FrameResult.MALFORMED, 0)

    @pytest.mark.parametrize(
        "symbol", ["NSE_INDEX:NIFTY", "CRYPTO:SOL_INR", 'NSE:A"B\\C', "NSE:" + "L" * 40, ":"]
    )
    def test_symbol_is_exchange_and_name(self, which: str, symbol: str) -> None:
        result, ticks = make(which)(edited(QUOTE, symbol, ltp=0, volume=..., last_quantity=...))
        assert (result, ticks["symbol_id"][0]) == (FrameResult.OK, SYMBOLS[symbol].symbol_id)

    @pytest.mark.parametrize(
        "symbol", ["BSE:SBIN", "NSE:", "SBIN", "NSE:sbin", "NSE:" + "L" * 60, "N" * 60 + ":L"]
    )
    def test_unknown_symbol_is_refused(self, which: str, symbol: str) -> None:
        result, ticks = make(which)(edited(QUOTE, symbol))
        assert (result, len(ticks)) == (FrameResult.UNKNOWN_SYMBOL, 0)

    @pytest.mark.parametrize(
        ("frame", "result"),
        [
            (b'{"type":"auth","status":"success"}', FrameResult.CONTROL),
            (b'{"type":"subscribe","status":"partial","subscriptions":[]}', FrameResult.CONTROL),
            (b'{"type":"pong"}', FrameResult.CONTROL),
            (b'{"type":"order_update","symbol":"SBIN","exchange":"NSE"}', FrameResult.CONTROL),
            (b'{"status":"error","code":"NOT_AUTHENTICATED"}', FrameResult.CONTROL),
            (b'{"type":null,"status":"error"}', FrameResult.CONTROL),
            (b"{}", FrameResult.UNKNOWN_EVENT),
            (b'{"type":null,"status":null}', FrameResult.UNKNOWN_EVENT),
            (b'{"type":5}', FrameResult.MALFORMED),
            (b"[]", FrameResult.MALFORMED),
            (b"5", FrameResult.MALFORMED),
            (b"", FrameResult.MALFORMED),
            (QUOTE + b"x", FrameResult.MALFORMED),
            (QUOTE.replace(b"779.45", b"NaN"), FrameResult.MALFORMED),
            (QUOTE.replace(b'"symbol": "SBIN", "exchange": "NSE", "mode": 2', b'"mode": 2'),
             FrameResult.MALFORMED),
            (b'{"type":"market_data","symbol":"SBIN","exchange":"NSE"}', FrameResult.MALFORMED),
            (b'{"type":"market_data","symbol":"SBIN","exchange":5,"data":{"ltp":1}}',
             FrameResult.MALFORMED),
            (edited(QUOTE, ltp=..., depth=None), FrameResult.UNKNOWN_EVENT),
            (edited(QUOTE, ltp=None), FrameResult.UNKNOWN_EVENT),
            (edited(QUOTE, ltp=True), FrameResult.MALFORMED),
            (edited(QUOTE, ltp="abc"), FrameResult.MALFORMED),
            (edited(QUOTE, ltp=""), FrameResult.MALFORMED),
            (edited(QUOTE, ltp="7\\9"), FrameResult.MALFORMED),
            (edited(QUOTE, volume=[]), FrameResult.MALFORMED),
            (edited(QUOTE, depth=[]), FrameResult.MALFORMED),
            (edited(QUOTE, depth={"buy": {}}), FrameResult.MALFORMED),
            (edited(QUOTE, depth={"buy": [5]}), FrameResult.MALFORMED),
            (edited(QUOTE, depth={"sell": [{"quantity": 5}]}), FrameResult.MALFORMED),
            (edited(QUOTE, depth={"sell": [{"price": 1, "quantity": -5}]}), FrameResult.MALFORMED),
            (edited(QUOTE, depth={"sell": [{"orders": {}}]}), FrameResult.MALFORMED),
            (edited(QUOTE, depth={"sell": [{"price": 1, "quantity": 1, "orders": 1.5}]}),
             FrameResult.VALUE),
        ],
        ids=lambda value: value.name if isinstance(value, FrameResult) else "",
    )  # fmt: skip
    def test_frame_is_judged(self, which: str, frame: bytes, result: FrameResult) -> None:
        assert make(which)(frame)[0] == result

    def test_bad_level_publishes_nothing_of_its_frame(self, which: str) -> None:
        depth = {"buy": BUY, "sell": [{"price": 779.5000000000001, "quantity": 5}]}
        result, ticks = make(which)(edited(DEPTH, depth=depth))
        assert result == FrameResult.VALUE
        assert list(ticks["kind"]) == [Kind.STATUS]

    def test_value_of_a_channel_nobody_wants_is_not_looked_at(self, which: str) -> None:
        frame = edited(DEPTH, ltp=1e300)
        result, ticks = make(which, ["quote"])(frame)
        assert (result, list(ticks["kind"])) == (FrameResult.OK, [Kind.QUOTE])

    def test_last_of_a_key_that_comes_twice_counts(self, which: str) -> None:
        decode = make(which)
        frame = QUOTE.replace(b'"ltp": 779.45', b'"ltp": "x", "ltp": 1, "\\u006ctp": 2')
        assert ticker(decode(frame)[1][0])[0] == 2 * E8
        twice = DEPTH.replace(b'"buy": [', b'"buy": [5], "buy": [')
        assert decode(twice)[0] == FrameResult.OK
        data = json.dumps({"depth": {"buy": BUY}}).encode()
        frame = QUOTE[:-1] + b',"data":' + data + b',"data":{"ltp":3}}'
        _, ticks = decode(frame)
        assert [ticker(tick)[0] for tick in ticks] == [3 * E8]

    @pytest.mark.parametrize(
        ("again", "kinds"),
        [
            ("null", [Kind.TICKER]),
            ("{}", [Kind.TICKER]),
            ('{"sell": []}', [Kind.TICKER, Kind.QUOTE, Kind.LEVEL]),
        ],
    )
    def test_depth_that_comes_twice_is_the_last(
        self, which: str, again: str, kinds: list[Kind]
    ) -> None:
        twice = DEPTH.replace(b'}, "broker"', f', "depth": {again}}}, "broker"'.encode())
        result, ticks = make(which)(twice)
        assert (result, list(ticks["kind"])) == (FrameResult.OK, kinds)

    def test_names_of_any_size_are_unknown_symbols(self, which: str) -> None:
        decode = make(which)
        for size in range(40, 140):
            for symbol in ("", "L", "L" * 9000):
                result, _ = decode(edited(QUOTE, "N" * size + ":" + symbol))
                assert result == FrameResult.UNKNOWN_SYMBOL

    def test_frame_beyond_the_limit_is_not_looked_at(self, which: str) -> None:
        assert make(which)(b" " * (FRAME_SIZE_MAX + 1))[0] == FrameResult.TOO_LONG


def test_book_holds_the_last_depth_and_no_more() -> None:
    decoder = Decoder("openalgo", SYMBOLS, 256, channels=["book"])
    decoder.decode(DEPTH)
    assert decoder.book("NSE:SBIN")[2] == [(77950 * 10**6, 172 * E8)]
    decoder.decode(edited(DEPTH, depth={"buy": rows(1), "sell": []}))
    assert decoder.book("NSE:SBIN") == (True, [(E8, E8)], [])


def test_cell_has_a_book_to_use_again_with_the_next_depth() -> None:
    c = Decoder("openalgo", SYMBOLS, 1024)
    usable = []
    for frame in (DEPTH, edited(DEPTH, ltp="0.123456789"), QUOTE, DEPTH):
        c.decode(frame)
        usable.append(c.book("NSE:SBIN")[0])
    assert usable == [True, False, False, True]
