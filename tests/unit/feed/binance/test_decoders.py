"""The C decoder and the plain-Python one, under one class."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from mdsys._decode import Decoder
from mdsys.feed.binance.reference import ReferenceDecoder
from mdsys.feed.frame import FRAME_SIZE_MAX, FrameResult, to_ticks
from mdsys.record.record import ABSENT, Flag, Kind, Status, Ticks
from tests.binance_frames import (
    DECODER_NAMES,
    DEPTH,
    QUOTE,
    SYMBOLS,
    TRADE,
    BothDecoders,
    combined,
    edited,
)

MS = 1_000_000
Decode = Callable[[bytes], tuple[FrameResult, Ticks]]


def make(which: str, *, futures: bool, depth: int = 256) -> Decode:
    if which == "c":
        decoder = Decoder(DECODER_NAMES[futures], SYMBOLS, depth)
        return lambda frame: decoder.decode(frame, 7, 3)
    reference = ReferenceDecoder(SYMBOLS, futures=futures)

    def decode(frame: bytes) -> tuple[FrameResult, Ticks]:
        result, records = reference.decode(frame, 7, 3)
        return result, to_ticks(records)

    return decode


@pytest.mark.parametrize("which", ["c", "python"])
class TestBinanceDecoder:
    @pytest.mark.parametrize("wrap", [bytes, combined], ids=["raw", "combined"])
    def test_spot_trade_is_exact(self, which: str, wrap: Callable[[bytes], bytes]) -> None:
        result, ticks = make(which, futures=False)(wrap(TRADE[False]))
        assert result == FrameResult.OK
        (tick,) = ticks
        assert (tick["kind"], tick["symbol_id"], tick["seq"]) == (Kind.TRADE, 1, 1)
        assert tick["flags"] == Flag.SELL | Flag.LAST  # the buyer is the maker: a sale hit a bid
        assert (tick["ts_event"], tick["ts_recv"]) == (1723161255342 * MS, 7)
        assert (tick["price"], tick["size"]) == (6183763000000, 2000000)
        assert (tick["trade_id"], tick["conditions"]) == (3735683259, 0)
        assert (tick["price_scale"], tick["size_scale"]) == (8, 8)

    @pytest.mark.parametrize("wrap", [bytes, combined], ids=["raw", "combined"])
    def test_futures_trade_is_exact(self, which: str, wrap: Callable[[bytes], bytes]) -> None:
        result, ticks = make(which, futures=True)(wrap(TRADE[True]))
        assert result == FrameResult.OK
        (tick,) = ticks
        assert tick["flags"] == Flag.BUY | Flag.LAST
        assert tick["ts_event"] == 1723161256322 * MS  # T, the engine's time, not E
        assert (tick["price"], tick["size"]) == (6180030000000, 600000)

    @pytest.mark.parametrize("wrap", [bytes, combined], ids=["raw", "combined"])
    def test_quote_is_exact_and_spot_has_no_event_time(
        self, which: str, wrap: Callable[[bytes], bytes]
    ) -> None:
        for futures, ts_event in ((False, ABSENT), (True, 1723161256313 * MS)):
            result, ticks = make(which, futures=futures)(wrap(QUOTE[futures]))
            assert result == FrameResult.OK
            (tick,) = ticks
            assert (tick["kind"], tick["flags"]) == (Kind.QUOTE, Flag.LAST)
            assert tick["ts_event"] == ts_event
        assert [tick[f] for f in ("bid_price", "bid_size", "ask_price", "ask_size")] == [
            6180020000000,
            250700000,
            6180030000000,
            251000000,
        ]

    @pytest.mark.parametrize("wrap", [bytes, combined], ids=["raw", "combined"])
    def test_depth_gives_bids_then_asks_and_marks_the_last(
        self, which: str, wrap: Callable[[bytes], bytes]
    ) -> None:
        result, ticks = make(which, futures=False)(wrap(DEPTH[False]))
        assert result == FrameResult.OK
        assert list(ticks["kind"]) == [Kind.LEVEL] * 3
        assert list(ticks["flags"]) == [Flag.BUY, Flag.SELL, Flag.SELL | Flag.LAST]
        assert list(ticks["price"]) == [5565387000000, 6183804000000, 6184430000000]
        assert list(ticks["size"]) == [0, 32332000, 40163000]
        assert set(ticks["orders"]) == {ABSENT}
        assert set(ticks["update_id"]) == {50093239207}
        assert set(ticks["ts_event"]) == {1723161255308 * MS}

    @pytest.mark.parametrize("size", [12, 1000])
    def test_asks_before_bids_in_the_frame_still_come_after_them(
        self, which: str, size: int
    ) -> None:
        fields = json.loads(DEPTH[False])
        turned = {"a": fields.pop("a"), **fields}
        _, ticks = make(which, futures=False)(json.dumps(turned).encode())
        assert list(ticks["flags"]) == [Flag.BUY, Flag.SELL, Flag.SELL | Flag.LAST]

    @pytest.mark.parametrize(
        ("sides", "flags"),
        [
            ({"b": [], "a": []}, []),
            ({"b": [["1", "2"]], "a": []}, [Flag.BUY | Flag.LAST]),
            ({"b": [], "a": [["1", "2"]]}, [Flag.SELL | Flag.LAST]),
            (
                {"b": [["1", "2", []]], "a": [[1.5, 2e0, None, {}]]},
                [Flag.BUY, Flag.SELL | Flag.LAST],
            ),
        ],
    )
    def test_a_side_may_be_empty_and_a_row_longer(
        self, which: str, sides: dict[str, list[object]], flags: list[Flag]
    ) -> None:
        result, ticks = make(which, futures=False)(edited(DEPTH[False], **sides))
        assert result == FrameResult.OK
        assert list(ticks["flags"]) == flags

    def test_an_empty_depth_frame_advances_the_sequence(self, which: str) -> None:
        decode = make(which, futures=False)
        decode(edited(DEPTH[False], U=1, u=5, b=[], a=[]))
        _, ticks = decode(edited(DEPTH[False], U=6, u=6))
        assert Kind.STATUS not in ticks["kind"]
        _, ticks = decode(edited(DEPTH[False], U=9, u=9))
        assert ticks[0]["kind"] == Kind.STATUS

    @pytest.mark.parametrize(
        ("frame", "missing"),
        [
            (edited(TRADE[False], t=3735683262), (3735683260, 3735683261)),
            (
                edited(combined(TRADE[False]), data=json.loads(edited(TRADE[False], t=3735683264))),
                (3735683260, 3735683263),
            ),
        ],
    )
    def test_a_hole_in_trade_ids_is_announced_before_the_trade(
        self, which: str, frame: bytes, missing: tuple[int, int]
    ) -> None:
        decode = make(which, futures=False)
        decode(TRADE[False])
        result, (gap, trade) = decode(frame)
        assert result == FrameResult.OK
        assert (gap["kind"], gap["what"], gap["symbol_id"]) == (Kind.STATUS, Status.GAP, 1)
        assert (gap["first_lost"], gap["last_lost"], gap["connection"]) == (*missing, 3)
        assert trade["kind"] == Kind.TRADE

    @pytest.mark.parametrize("futures", [False, True])
    def test_a_hole_in_a_book_is_announced_before_its_levels(
        self, which: str, futures: bool
    ) -> None:
        decode = make(which, futures=futures)
        decode(edited(DEPTH[futures], U=10, u=20, pu=9 if futures else None))
        follows = {"U": 25, "u": 30, "pu": 20} if futures else {"U": 21, "u": 30}
        _, ticks = decode(edited(DEPTH[futures], **follows))
        assert Kind.STATUS not in ticks["kind"]  # futures: U may jump, only pu must fit
        broken = {"U": 40, "u": 50, "pu": 35} if futures else {"U": 36, "u": 50}
        _, ticks = decode(edited(DEPTH[futures], **broken))
        assert list(ticks["kind"]) == [Kind.STATUS, Kind.LEVEL, Kind.LEVEL, Kind.LEVEL]
        assert (ticks[0]["first_lost"], ticks[0]["last_lost"]) == (31, 35)

    def test_a_trade_that_has_been_here_is_dropped_and_does_not_set_us_back(
        self, which: str
    ) -> None:
        decode = make(which, futures=False)
        for trade_id, is_new in ((10, True), (11, True), (11, False), (9, False), (12, True)):
            result, ticks = decode(edited(TRADE[False], t=trade_id))
            assert result == FrameResult.OK
            assert [tick["trade_id"] for tick in ticks] == [trade_id] * is_new

    def test_a_trade_that_fills_an_announced_hole_is_told_late_and_once(self, which: str) -> None:
        decode = make(which, futures=False)
        for trade_id in (10, 13):
            decode(edited(TRADE[False], t=trade_id))
        for trade_id, is_new in ((12, True), (12, False), (11, True), (11, False), (14, True)):
            _, ticks = decode(edited(TRADE[False], t=trade_id))
            assert [tick["trade_id"] for tick in ticks] == [trade_id] * is_new

    def test_a_numbering_begun_anew_is_told_once_and_goes_on(self, which: str) -> None:
        decode = make(which, futures=False)
        decode(edited(TRADE[False], t=2_000_000_000))
        told = [decode(edited(TRADE[False], t=trade_id))[1] for trade_id in range(100, 135)]
        assert [len(ticks) for ticks in told] == [0] * 31 + [2] + [1] * 3
        assert list(told[31]["what"][:1]) == [Status.GAP]
        assert told[31][0]["first_lost"] == ABSENT

    def test_an_older_quote_is_told_and_an_equal_one_dropped(self, which: str) -> None:
        decode = make(which, futures=False)
        for changes, count in (
            ({"u": 10}, 1),
            ({"u": 10}, 0),
            ({"u": 10, "B": "1"}, 1),  # one id may tell of several changes
            ({"u": 9}, 1),
            ({"u": 10, "B": "1"}, 0),
        ):
            assert len(decode(edited(QUOTE[False], **changes))[1]) == count

    @pytest.mark.parametrize("futures", [False, True])
    def test_a_book_frame_that_is_not_newer_tells_nothing(self, which: str, futures: bool) -> None:
        decode = make(which, futures=futures)
        decode(edited(DEPTH[futures], U=10, u=20, pu=9 if futures else None))
        for first, latest in ((10, 20), (5, 9), (15, 18)):
            before = first - 1 if futures else None
            result, ticks = decode(edited(DEPTH[futures], U=first, u=latest, pu=before))
            assert (result, len(ticks)) == (FrameResult.OK, 0)

    @pytest.mark.parametrize(
        ("changes", "ts_event"),
        [
            ({"T": 1723161255342123}, 1723161255342123000),  # timeUnit=MICROSECOND
            ({"T": None}, 1723161255343 * MS),
            ({"T": None, "E": None}, ABSENT),
            ({"T": 0}, 0),
            ({"T": 9223372036854}, 9223372036854 * MS),
        ],
    )
    def test_event_time_is_the_engines_else_the_messages_else_absent(
        self, which: str, changes: dict[str, int | None], ts_event: int
    ) -> None:
        result, (tick,) = make(which, futures=False)(edited(TRADE[False], **changes))
        assert result == FrameResult.OK
        assert tick["ts_event"] == ts_event

    @pytest.mark.parametrize(
        ("condition", "number"),
        [("MARKET", 0), ("INSURANCE_FUND", 1), ("ADL", 2), ("NA", 3), ("NEW", 255), ("", 255)],
    )
    def test_kind_of_a_futures_trade_is_kept(self, which: str, condition: str, number: int) -> None:
        _, (tick,) = make(which, futures=True)(edited(TRADE[True], X=condition))
        assert tick["conditions"] == number

    def test_bare_json_numbers_are_prices_too(self, which: str) -> None:
        frame = TRADE[False].replace(b'"61837.63000000"', b"6.183763E4")
        _, (tick,) = make(which, futures=False)(frame.replace(b'"0.02000000"', b"2e-2"))
        assert (tick["price"], tick["size"]) == (6183763000000, 2000000)

    @pytest.mark.parametrize("name", ["币安人生USDT", 'A"B\\C'])
    def test_symbols_may_hold_any_characters_escaped_or_not(self, which: str, name: str) -> None:
        for ascii_only in (False, True):
            fields = {**json.loads(TRADE[False]), "s": name}
            frame = json.dumps(fields, ensure_ascii=ascii_only).encode()
            result, (tick,) = make(which, futures=False)(frame)
            assert result == FrameResult.OK
            assert tick["symbol_id"] == SYMBOLS[name].symbol_id

    @pytest.mark.parametrize(
        ("changes", "first", "last"),
        [
            ({"p": "92233720368.54775808"}, 77, 77),
            ({"q": "1e11"}, 77, 77),
            ({"p": "0.000000001"}, 77, 77),
        ],
    )
    def test_a_value_that_cannot_be_held_is_refused_and_told(
        self, which: str, changes: dict[str, str], first: int, last: int
    ) -> None:
        decode = make(which, futures=False)
        decode(edited(TRADE[False], t=75))
        result, ticks = decode(edited(TRADE[False], t=77, **changes))
        assert result == FrameResult.VALUE
        assert list(ticks["what"]) == [Status.GAP, Status.VALUE_REFUSED]
        assert (ticks[1]["first_lost"], ticks[1]["last_lost"]) == (first, last)
        _, ticks = decode(edited(TRADE[False], t=78))
        assert list(ticks["kind"]) == [Kind.TRADE]  # told once

    def test_a_bad_level_refuses_the_whole_book_frame(self, which: str) -> None:
        rows = [["1.5", "2"]] * 40 + [["1.123456789", "1"]]
        result, ticks = make(which, futures=False, depth=64)(edited(DEPTH[False], a=rows))
        assert result == FrameResult.VALUE
        assert list(ticks["what"]) == [Status.VALUE_REFUSED]
        assert (ticks[0]["first_lost"], ticks[0]["last_lost"]) == (50093239203, 50093239207)

    @pytest.mark.parametrize(
        ("frame", "result"),
        [
            (b'{"result":null,"id":1}', FrameResult.CONTROL),
            (b'{"error":{"code":2,"msg":"say \\"please\\""},"id":"x"}', FrameResult.CONTROL),
            (b'{"code":2,"msg":"Invalid request"}', FrameResult.CONTROL),
            (b'{"e":"serverShutdown","E":1723161255343}', FrameResult.CONTROL),
            (combined(b'{"e":"serverShutdown","E":1}'), FrameResult.CONTROL),
            (b'{"e":"kline","E":1,"s":"BTCUSDT","k":{}}', FrameResult.UNKNOWN_EVENT),
            (b'{"e":"aggTrade","s":"NOSUCH"}', FrameResult.UNKNOWN_EVENT),
            (b'{"lastUpdateId":1,"bids":[],"asks":[]}', FrameResult.UNKNOWN_EVENT),
            (b'{"stream":"!ticker@arr","data":[{"e":"24hrTicker"}]}', FrameResult.UNKNOWN_EVENT),
            (b"{}", FrameResult.UNKNOWN_EVENT),
            (b'{"e":"' + b"x" * 5000 + b'"}', FrameResult.UNKNOWN_EVENT),
            (edited(TRADE[False], s="NOSUCH"), FrameResult.UNKNOWN_SYMBOL),
            (edited(TRADE[False], s=""), FrameResult.UNKNOWN_SYMBOL),
            (edited(TRADE[False], s="B" * 5000), FrameResult.UNKNOWN_SYMBOL),
            (edited(QUOTE[False], s="btcusdt"), FrameResult.UNKNOWN_SYMBOL),
            (edited(DEPTH[False], s="NOSUCH", a=[["x", "1"]]), FrameResult.UNKNOWN_SYMBOL),
            (b"", FrameResult.MALFORMED),
            (b"\x00\x01\x02", FrameResult.MALFORMED),
            (b"[]", FrameResult.MALFORMED),
            (b"null", FrameResult.MALFORMED),
            (TRADE[False] + b"}", FrameResult.MALFORMED),
            (TRADE[False] + TRADE[False], FrameResult.MALFORMED),
            (b"\xef\xbb\xbf" + TRADE[False], FrameResult.MALFORMED),
            (TRADE[False].replace(b"BTC", b"B\xc3\x28"), FrameResult.MALFORMED),
            (combined(TRADE[False], "b\ttc"), FrameResult.MALFORMED),
            (edited(TRADE[False], p=None), FrameResult.MALFORMED),
            (edited(TRADE[False], p=""), FrameResult.MALFORMED),
            (edited(TRADE[False], p="61837,63"), FrameResult.MALFORMED),
            (edited(TRADE[False], p=[]), FrameResult.MALFORMED),
            (edited(TRADE[False], p="0" * 128), FrameResult.MALFORMED),
            (edited(TRADE[False], t=-1), FrameResult.MALFORMED),
            (edited(TRADE[False], t=1.0), FrameResult.MALFORMED),
            (edited(TRADE[False], t="1"), FrameResult.MALFORMED),
            (edited(TRADE[False], t=2**63 - 1), FrameResult.MALFORMED),
            (edited(TRADE[False], t=10**4000), FrameResult.MALFORMED),
            (edited(TRADE[False], m=1), FrameResult.MALFORMED),
            (edited(TRADE[False], X=0), FrameResult.MALFORMED),
            (edited(TRADE[False], e=1), FrameResult.MALFORMED),
            (edited(TRADE[False], s=None), FrameResult.MALFORMED),
            (edited(TRADE[False], E=9223372036855), FrameResult.MALFORMED),
            (edited(TRADE[False], T=10**16), FrameResult.MALFORMED),
            (edited(DEPTH[False], U=50093239208), FrameResult.MALFORMED),
            (edited(DEPTH[False], b={}), FrameResult.MALFORMED),
            (edited(DEPTH[False], b=[["1"]]), FrameResult.MALFORMED),
            (edited(DEPTH[False], b=[[]]), FrameResult.MALFORMED),
            (edited(DEPTH[False], b=["11"]), FrameResult.MALFORMED),
            (edited(DEPTH[False], b=[["1", None]]), FrameResult.MALFORMED),
            (edited(DEPTH[False], b=[["1", "1"], 5]), FrameResult.MALFORMED),
            (edited(DEPTH[False], x=[0]).replace(b"0]", b"[" * 61 + b"]" * 62), FrameResult.OK),
            (
                edited(DEPTH[False], x=[0]).replace(b"0]", b"[" * 64 + b"]" * 65),
                FrameResult.MALFORMED,
            ),
            (b'{"x":' + b"[" * 500000, FrameResult.MALFORMED),
            (b'{"x":' + b'{"y":' * 200000, FrameResult.MALFORMED),
            (b" " * FRAME_SIZE_MAX, FrameResult.MALFORMED),
            (b" " * (FRAME_SIZE_MAX + 1), FrameResult.TOO_LONG),
            (TRADE[False].ljust(FRAME_SIZE_MAX), FrameResult.OK),
            (TRADE[False].ljust(FRAME_SIZE_MAX + 1), FrameResult.TOO_LONG),
            (TRADE[False].ljust(2 * FRAME_SIZE_MAX), FrameResult.TOO_LONG),
        ],
        ids=lambda value: value.name if isinstance(value, FrameResult) else repr(value[:40]),
    )
    def test_each_frame_gets_its_result_and_a_refused_one_publishes_nothing(
        self, which: str, frame: bytes, result: FrameResult
    ) -> None:
        found, ticks = make(which, futures=False)(frame)
        assert found == result
        assert len(ticks) == (1 if b"trade" in frame else 3) * (result == FrameResult.OK)

    def test_a_futures_depth_without_pu_is_malformed(self, which: str) -> None:
        decode = make(which, futures=True)
        assert decode(edited(DEPTH[True], pu=None))[0] == FrameResult.MALFORMED
        assert decode(edited(DEPTH[True], pu=-1))[0] == FrameResult.MALFORMED

    def test_of_a_key_that_comes_twice_the_last_one_counts(self, which: str) -> None:
        frame = TRADE[False].replace(b'"p"', b'"p":[],"t":"x","t":5,"p"')
        result, (tick,) = make(which, futures=False)(frame)
        assert (result, tick["trade_id"]) == (FrameResult.OK, 5)
        twice = b'{"data":' + QUOTE[False] + b',"data":' + TRADE[False] + b"}"
        assert make(which, futures=False)(twice)[1]["kind"] == [Kind.TRADE]
        spoilt = b'{"data":' + QUOTE[False] + b',"data":5}'
        assert make(which, futures=False)(spoilt)[0] == FrameResult.UNKNOWN_EVENT


def test_counters_tell_what_was_published() -> None:
    both = BothDecoders(futures=False)
    for frame in (TRADE[False], QUOTE[False], DEPTH[False], combined(QUOTE[False])):
        both.decode(frame)
    both.decode(edited(TRADE[False], t=3735683265))  # a hole of five
    both.decode(TRADE[False])  # again: dropped
    both.decode(QUOTE[False])  # the same
    both.decode(edited(TRADE[False], t=3735683262))  # late
    both.decode(edited(QUOTE[False], u=1))  # late too
    both.decode(edited(TRADE[False], t=3735683266, p="1e99"))
    assert {name: count for name, count in both.c.counts.items() if count} == {
        "records": 10,
        "trades": 3,
        "quotes": 2,
        "levels": 3,
        "statuses": 2,
        "gaps": 1,
        "gap_ids": 5,
        "reordered": 2,
        "duplicates": 3,
    }


def test_bench_checks_that_every_frame_was_taken() -> None:
    decoder = Decoder("binance_spot", SYMBOLS)
    ns, records, checksum = decoder.bench([TRADE[False], QUOTE[False], DEPTH[False]], 5)
    assert (ns > 0, records) == (True, 25)
    assert checksum != Decoder("binance_spot", SYMBOLS).bench([TRADE[False]], 5)[2]
    with pytest.raises(ValueError, match="1 frames refused"):
        decoder.bench([TRADE[False], b"{"])


@pytest.mark.parametrize(
    ("name", "symbols", "depth", "match"),
    [
        ("binance", SYMBOLS, 64, "no decoder is named binance; there are binance_spot"),
        ("binance_spot", SYMBOLS, 100, "power of 2"),
        ("binance_spot", {"B" * 64: SYMBOLS["BTCUSDT"]}, 64, "cannot add the symbol"),
    ],
)
def test_decoder_is_refused_what_it_cannot_be(
    name: str, symbols: dict[str, object], depth: int, match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        Decoder(name, symbols, depth)  # type: ignore[arg-type]
