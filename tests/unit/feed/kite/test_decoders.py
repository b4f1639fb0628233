"""The C decoder and the plain-Python one on packets that are built by the documents' tables."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Collection

import pytest

from mdsys._decode import Decoder
from mdsys.feed.frame import FRAME_SIZE_MAX, FrameResult, to_ticks
from mdsys.feed.kite.reference import ReferenceDecoder
from mdsys.record.record import ABSENT, KIND_DTYPE, Flag, Kind, Status, Ticks
from tests.kite_frames import (
    BCD,
    BIG,
    CHANNELS,
    INFY,
    NIFTY_50,
    SIZES,
    SYMBOLS,
    USDINR,
    frame,
    packet,
    wire,
)

SECOND = 1_000_000_000
Decode = Callable[[bytes], tuple[FrameResult, Ticks]]

# Published by Zerodha for its clients' tests: github.com/zerodha/kiteconnect-mocks,
# ticker_full.packet and ticker_quote.packet, with their meaning in ticker_full.json.
FULL_SEEN = base64.b64decode(
    "AAY6AQACZroAAAAHAAJlbQASMhcAA+m7AAWKAQACZPMAAmc8AAJhyQACZGxg4pR/AAAAAAAAAAAAAAAAYOKUfwAAAAUA"
    "AmacAAEAAAAAAIwAAmZ0AAIAAAAAAAIAAmZvAAEAAAAAANsAAmZqAAcAAAAAADIAAmZlAAEAAAAAAKwAAma6AAMAAAAA"
    "ACwAAma/AAMAAAAAAS4AAmbJAAMAAAAAAI0AAmbOAAIAAAAAAtQAAmbTAAUAAA=="
)
QUOTE_SEEN = base64.b64decode("AAY6AQACZoMAAAABAAJlaQAR8bIAA+n/AAWANwACZPMAAmc8AAJhyQACZGw=")

ROWS = [(5, 157340, 1), (140, 157300, 2), (2, 157295, 1), (219, 157290, 7), (50, 157285, 1)]
ROWS += [(172, 157370, 3), (44, 157375, 3), (302, 157385, 3), (141, 157390, 2), (724, 157395, 5)]


def make(which: str, channels: Collection[str] = CHANNELS) -> Decode:
    if which == "c":
        decoder = Decoder("kite", SYMBOLS, 256, channels=channels)
        return lambda message: decoder.decode(message, 7, 3)
    reference = ReferenceDecoder(SYMBOLS, channels)

    def decode(message: bytes) -> tuple[FrameResult, Ticks]:
        result, records = reference.decode(message, 7, 3)
        return result, to_ticks(records)

    return decode


def ticker(tick: Ticks) -> list[int]:
    names = ("last_price", "last_size", "volume", "open_interest")
    return [int(tick.view(KIND_DTYPE[Kind.TICKER])[name]) for name in names]


@pytest.mark.parametrize("which", ["c", "python"])
class TestKiteDecoder:
    def test_full_packet_seen_at_the_venue_is_exact(self, which: str) -> None:
        result, ticks = make(which)(frame(FULL_SEEN))
        assert result == FrameResult.OK
        assert list(ticks["kind"]) == [Kind.TICKER, Kind.QUOTE] + [Kind.LEVEL] * 10
        assert set(ticks["ts_event"]) == {1625461887 * SECOND}  # 2021-07-05T10:41:27+05:30
        assert set(ticks["price_scale"]) == {2}
        assert ticker(ticks[0]) == [157370, 7, 1192471, 0]
        quote = ticks[1]
        assert [quote[name] for name in ("bid_price", "ask_price", "bid_size", "ask_size")] == [
            *(157340, 157370, 5, 172)
        ]
        levels = ticks[2:]
        found = [tuple(int(row[n]) for n in ("size", "price", "orders")) for row in levels]
        assert found == ROWS
        assert [int(flags) & 3 for flags in levels["flags"]] == [Flag.BUY] * 5 + [Flag.SELL] * 5
        assert {int(flags) & Flag.SNAPSHOT for flags in levels["flags"]} == {Flag.SNAPSHOT}
        assert [bool(flags & Flag.LAST) for flags in levels["flags"]] == [False] * 9 + [True]
        assert set(levels["update_id"]) == {ABSENT}

    def test_quote_packet_seen_at_the_venue_is_exact(self, which: str) -> None:
        result, ticks = make(which)(frame(QUOTE_SEEN))
        assert result == FrameResult.OK
        (tick,) = ticks
        assert (tick["kind"], tick["flags"], tick["ts_event"]) == (Kind.TICKER, Flag.LAST, ABSENT)
        assert ticker(tick) == [157315, 1, 1175986, ABSENT]

    def test_built_full_packet_is_the_seen_one(self, which: str) -> None:
        built = packet(
            "full", INFY, ROWS, last_price=157370, last_quantity=7, average_price=157037,
            volume=1192471, total_buy_quantity=256443, total_sell_quantity=363009, open=156915,
            high=157500, low=156105, close=156780, last_trade_time=1625461887,
            exchange_timestamp=1625461887,
        )  # fmt: skip
        assert built == FULL_SEEN
        assert make(which)(frame(built))[0] == FrameResult.OK

    def test_ltp_packet_has_a_price_and_nothing_else(self, which: str) -> None:
        _, ticks = make(which)(frame(packet("ltp", INFY, last_price=5)))
        assert [ticker(tick) for tick in ticks] == [[5, ABSENT, ABSENT, ABSENT]]
        assert ticks["ts_event"][0] == ABSENT

    @pytest.mark.parametrize(
        ("mode", "ts_event"), [("index quote", ABSENT), ("index full", 1700000000 * SECOND)]
    )
    def test_index_packet_has_a_price_and_perhaps_a_time(
        self, which: str, mode: str, ts_event: int
    ) -> None:
        times = {"exchange_timestamp": 1700000000} if mode == "index full" else {}
        fields = {"high": 3, "low": 1, "open": 2, "close": 2, "price_change": 9, **times}
        _, ticks = make(which)(frame(packet(mode, NIFTY_50, (), last_price=2512345, **fields)))
        assert [ticker(tick) for tick in ticks] == [[2512345, ABSENT, ABSENT, ABSENT]]
        assert ticks["ts_event"][0] == ts_event

    @pytest.mark.parametrize(
        ("token", "scale"), [(INFY, 2), (USDINR, 7), (BCD, 4), (BIG, 2), (NIFTY_50, 2)]
    )
    def test_price_is_divided_by_what_its_segment_says(
        self, which: str, token: int, scale: int
    ) -> None:
        _, ticks = make(which)(frame(packet("ltp", token, last_price=831234567)))
        assert (ticks["price_scale"][0], ticker(ticks[0])[0]) == (scale, 831234567)

    def test_other_scales_hold_the_same_value(self, which: str) -> None:
        fields = {"last_price": 157370, "last_quantity": 7, "volume": 4_000_000_000}
        _, ticks = make(which)(frame(packet("quote", INFY + 256, (), **fields)))
        assert ticker(ticks[0]) == [157370 * 10**6, 7 * 10**8, 4 * 10**17, ABSENT]
        result, ticks = make(which)(frame(packet("ltp", INFY + 512, last_price=157370)))
        assert (result, ticker(ticks[0])[0]) == (FrameResult.OK, 15737)

    def test_open_interest_is_the_full_packets(self, which: str) -> None:
        _, ticks = make(which)(frame(packet("full", BIG, last_price=1, oi=4_000_000_000)))
        assert ticker(ticks[0]) == [1, 0, 0, 4_000_000_000]

    def test_negative_price_and_quantity_beyond_int32_are_exact(self, which: str) -> None:
        rows = [(3_000_000_000, -50, 65535)]
        _, ticks = make(which)(frame(packet("full", INFY, rows, last_price=-1, volume=2**32 - 1)))
        assert ticker(ticks[0])[:3] == [-1, 0, 2**32 - 1]
        assert [ticks[2][name] for name in ("price", "size", "orders")] == [
            *(-50, 3_000_000_000, 65535)
        ]

    def test_last_trade_time_is_not_the_events_time(self, which: str) -> None:
        _, ticks = make(which)(frame(packet("full", INFY, last_trade_time=1625461887)))
        assert set(ticks["ts_event"]) == {ABSENT}

    def test_time_beyond_2038_is_a_time(self, which: str) -> None:
        _, ticks = make(which)(frame(packet("full", INFY, exchange_timestamp=2**32 - 1)))
        assert set(ticks["ts_event"]) == {(2**32 - 1) * SECOND}

    @pytest.mark.parametrize(
        ("rows", "quote", "level_count"),
        [
            ([], [ABSENT] * 4, 1),  # which says so
            ([(5, 100, 1)], [100, ABSENT, 5, ABSENT], 1),
            ([(0, 0, 0)] * 5 + [(6, 101, 1)], [ABSENT, 101, ABSENT, 6], 1),
            ([(0, 77, 9), (5, 100, 1)], [ABSENT] * 4, 1),
        ],
        ids=["none", "bids only", "asks only", "price without quantity"],
    )
    def test_row_without_quantity_is_no_level(
        self, which: str, rows: list[tuple[int, int, int]], quote: list[int], level_count: int
    ) -> None:
        result, ticks = make(which)(frame(packet("full", INFY, rows)))
        assert result == FrameResult.OK
        names = ("bid_price", "ask_price", "bid_size", "ask_size")
        assert [ticks[1][name] for name in names] == quote
        assert list(ticks["kind"][2:]) == [Kind.LEVEL] * level_count

    @pytest.mark.parametrize(
        ("channels", "kinds"),
        [
            (["ticker"], [Kind.TICKER]),
            (["quote"], [Kind.QUOTE]),
            (["book"], [Kind.LEVEL] * 10),
            (["book", "quote"], [Kind.QUOTE] + [Kind.LEVEL] * 10),
            ([], []),
        ],
    )
    def test_only_wanted_channels_are_published(
        self, which: str, channels: list[str], kinds: list[Kind]
    ) -> None:
        result, ticks = make(which, channels)(frame(FULL_SEEN))
        assert (result, list(ticks["kind"])) == (FrameResult.OK, kinds)

    @pytest.mark.parametrize("byte", [0, 1, 255])
    def test_one_byte_is_a_heartbeat(self, which: str, byte: int) -> None:
        result, ticks = make(which)(bytes([byte]))
        assert (result, len(ticks)) == (FrameResult.OK, 0)

    def test_frame_without_packets_is_fine(self, which: str) -> None:
        result, ticks = make(which)(frame())
        assert (result, len(ticks)) == (FrameResult.OK, 0)

    def test_packets_of_one_frame_come_out_in_order(self, which: str) -> None:
        packets = [packet("ltp", INFY, last_price=i) for i in range(50)]
        _, ticks = make(which)(frame(*packets, packet("index quote", NIFTY_50, last_price=9)))
        assert [ticker(tick)[0] for tick in ticks] == [*range(50), 9]
        assert list(ticks["symbol_id"]) == [1] * 50 + [2]

    @pytest.mark.parametrize(
        ("bad", "result"),
        [
            (packet("ltp", 4711), FrameResult.UNKNOWN_SYMBOL),
            (wire(INFY) + bytes(20), FrameResult.UNKNOWN_EVENT),
            (b"", FrameResult.UNKNOWN_EVENT),
            (packet("ltp", INFY + 512, last_price=157371), FrameResult.VALUE),
        ],
        ids=["symbol", "length", "empty", "value"],
    )
    def test_bad_packet_does_not_take_the_others_with_it(
        self, which: str, bad: bytes, result: FrameResult
    ) -> None:
        good = packet("ltp", INFY, last_price=1)
        got, ticks = make(which)(frame(good, bad, packet("ltp", 4711), good))
        assert got == result
        assert [ticker(t)[0] for t in ticks if t["kind"] == Kind.TICKER] == [1, 1]

    @pytest.mark.parametrize(
        "bad",
        [
            packet("ltp", INFY + 512, last_price=157371),
            packet("ltp", INFY + 768, last_price=2**31 - 1),
            packet("quote", INFY + 768, volume=2**32 - 1),
            packet("full", INFY + 768, oi=10),
            packet("full", INFY + 768, [(0, 0, 0)] * 9 + [(1, 10**3, 1)]),
            packet("full", INFY + 512, [(0, 0, 0)] * 9 + [(1, 11, 1)]),
            packet("ltp", USDINR + 256, last_price=-10_000_001),
        ],
        ids=["rounded", "price", "volume", "oi", "last row", "last row rounded", "negative"],
    )
    def test_value_that_cannot_be_held_is_refused_with_its_packet(
        self, which: str, bad: bytes
    ) -> None:
        result, ticks = make(which)(frame(bad))
        assert result == FrameResult.VALUE
        (status,) = ticks
        assert (status["kind"], status["symbol_id"]) == (Kind.STATUS, SYMBOLS[bad[:4]].symbol_id)
        assert (status["what"], status["connection"]) == (Status.VALUE_REFUSED, 3)
        assert (status["first_lost"], status["last_lost"]) == (ABSENT, ABSENT)

    @pytest.mark.parametrize("mode", ["full", "ltp"])
    def test_full_packet_that_is_refused_leaves_no_book_to_use(self, which: str, mode: str) -> None:
        decode = make(which)
        good = packet("full", INFY + 512, [(1, 10, 1)])
        bad = packet(mode, INFY + 512, last_price=157371)
        _, ticks = decode(frame(good, bad, bad, good))
        told = [int(each["what"]) for each in ticks if each["kind"] == Kind.STATUS]
        refused = [Status.VALUE_REFUSED] * 2
        assert told == ([refused[0], Status.RESYNC, refused[1]] if mode == "full" else refused)

    def test_value_of_a_channel_nobody_wants_is_not_looked_at(self, which: str) -> None:
        rows = [(1, 10, 1), (1, 11, 1)] + [(0, 0, 0)] * 3 + [(1, 20, 1), (1, 21, 1)]
        bad = packet("full", INFY + 512, rows, last_price=157371)
        result, ticks = make(which, ["quote"])(frame(bad))
        assert (result, list(ticks["kind"])) == (FrameResult.OK, [Kind.QUOTE])

    @pytest.mark.parametrize(
        "message",
        [
            b"",
            b"\0\1",
            frame(FULL_SEEN)[:-1],
            frame(FULL_SEEN) + b"\0",
            b"\0\2" + frame(FULL_SEEN)[2:],
            b"\xff\xff" + frame(FULL_SEEN)[2:],
            b"\0\0" + frame(FULL_SEEN)[2:],
            b"\0\1\xff\xff" + FULL_SEEN,
            frame(FULL_SEEN, FULL_SEEN)[:-190],
        ],
        ids=lambda message: repr(message[:4]) + str(len(message)),
    )
    def test_lengths_that_do_not_fill_the_frame_refuse_all_of_it(
        self, which: str, message: bytes
    ) -> None:
        result, ticks = make(which)(message)
        assert (result, len(ticks)) == (FrameResult.MALFORMED, 0)

    def test_65535_empty_packets_are_only_counted(self, which: str) -> None:
        result, ticks = make(which)(struct.pack(">H", 65535) + bytes(2 * 65535))
        assert (result, len(ticks)) == (FrameResult.UNKNOWN_EVENT, 0)

    def test_frame_beyond_the_limit_is_not_looked_at(self, which: str) -> None:
        assert make(which)(bytes(FRAME_SIZE_MAX + 1))[0] == FrameResult.TOO_LONG
        assert make(which)(bytes(FRAME_SIZE_MAX))[0] == FrameResult.MALFORMED

    def test_every_length_but_five_is_unknown(self, which: str) -> None:
        decode = make(which)
        for size in range(4, 260):
            result, _ = decode(frame(wire(INFY) + bytes(size - 4)))
            known = size in SIZES.values()
            assert result == (FrameResult.OK if known else FrameResult.UNKNOWN_EVENT)


def test_book_holds_what_the_last_packet_said_and_no_more() -> None:
    decoder = Decoder("kite", SYMBOLS, 256, channels=["book"])
    decoder.decode(frame(FULL_SEEN))
    assert decoder.book(wire(INFY))[1][:2] == [(157340, 5), (157300, 140)]
    assert decoder.book(wire(INFY))[2][:2] == [(157370, 172), (157375, 44)]
    decoder.decode(frame(packet("full", INFY, [(9, 157300, 1)])))
    assert decoder.book(wire(INFY)) == (True, [(157300, 9)], [])
    decoder.decode(frame(packet("full", INFY)))
    assert decoder.book(wire(INFY)) == (True, [], [])


def test_cell_has_a_book_to_use_again_with_the_next_full_packet() -> None:
    c = Decoder("kite", SYMBOLS, 256, channels=["book", "ticker"])
    good = packet("full", INFY + 512, [(1, 10, 1)])
    usable = []
    for each in (good, packet("full", INFY + 512, last_price=157371), good):
        c.decode(frame(each))
        usable.append(c.book(wire(INFY + 512))[0])
    assert usable == [True, False, True]
