"""What the Kraken decoders make of frames, the C one and the plain-Python one alike."""

from __future__ import annotations

import json

import pytest

from mdsys.feed.frame import FRAME_SIZE_MAX, FrameResult, Record
from mdsys.record.record import ABSENT, SIDE_MASK, Flag, Kind, Status
from tests.kraken_frames import (
    BOOK,
    BOOK_V1,
    DATA,
    OHLC,
    TICKER,
    TICKER_V1,
    TRADE,
    TRADE_V1,
    BothDecoders,
    book,
    checksum,
    edited,
)

E8 = 10**8
TS_TRADE = 1791309962264627000  # 2026-10-06T18:06:02.264627Z


def levels(records: list[Record]) -> list[tuple[int, int, int]]:
    """Return (flags, price, size) of level records."""
    assert all(record.kind == Kind.LEVEL for record in records)
    return [(record.flags, *record.body[:2]) for record in records]


def statuses(records: list[Record]) -> list[tuple[int, int, int]]:
    return [record.body[:3] for record in records if record.kind == Kind.STATUS]


class TestTrades:
    def test_a_trade_becomes_one_record(self) -> None:
        both = BothDecoders()
        assert both.decode(TRADE) == FrameResult.OK
        body = (8575470000000, 126522, 88217346, 1)
        assert both.records == [
            Record(TS_TRADE, 7, 1, Kind.TRADE, Flag.SELL | Flag.LAST, 8, 8, body)
        ]

    def test_trades_of_a_snapshot_are_flagged(self) -> None:
        both = BothDecoders()
        both.decode(TRADE.replace(b'"update"', b'"snapshot"'))
        assert both.records[0].flags == Flag.SELL | Flag.SNAPSHOT | Flag.LAST

    def test_a_hole_in_the_ids_is_a_gap_before_the_trade(self) -> None:
        both = BothDecoders()
        both.decode(edited(TRADE, trade_id=10))
        both.decode(edited(TRADE, trade_id=14))
        assert statuses(both.records) == [(Status.GAP, 11, 13)]
        assert both.records[1].body[2] == 14
        assert both.c.counts["gap_ids"] == 3

    def test_a_later_snapshot_fills_what_a_lost_connection_has_missed(self) -> None:
        both = BothDecoders()
        both.decode(edited(TRADE, trade_id=10))
        fields = json.loads(TRADE)
        item = fields["data"][0]
        fields["type"] = "snapshot"
        fields["data"] = [{**item, "trade_id": number} for number in (9, 10, 11, 12)]
        assert both.decode(json.dumps(fields).encode()) == FrameResult.OK
        assert [record.body[2] for record in both.records] == [11, 12]
        assert both.c.counts["duplicates"] == 2
        assert both.c.counts["gaps"] == 0

    @pytest.mark.parametrize(
        ("order_type", "conditions"), [("limit", 0), ("market", 1), (None, 254), ("iceberg", 255)]
    )
    def test_conditions_tell_the_order_type(self, order_type: str | None, conditions: int) -> None:
        both = BothDecoders()
        both.decode(edited(TRADE, ord_type=order_type))
        assert both.records[0].body[3] == conditions

    def test_a_value_that_does_not_fit_is_told_with_its_id(self) -> None:
        both = BothDecoders()
        both.decode(edited(TRADE, trade_id=10))
        too_fine = TRADE.replace(b"0.00126522", b"0.001265221")
        assert both.decode(edited(too_fine, trade_id=13)) == FrameResult.VALUE
        assert statuses(both.records) == [(Status.GAP, 11, 12), (Status.VALUE_REFUSED, 13, 13)]
        assert both.decode(edited(TRADE, trade_id=14)) == FrameResult.OK
        assert len(both.records) == 1

    def test_a_refused_trade_that_has_been_here_is_not_told_again(self) -> None:
        both = BothDecoders()
        too_fine = TRADE.replace(b"0.00126522", b"0.001265221")
        assert both.decode(too_fine) == FrameResult.VALUE
        assert len(both.records) == 1
        assert both.decode(too_fine) == FrameResult.VALUE
        assert both.records == []

    def test_one_bad_item_does_not_keep_the_others_back(self) -> None:
        both = BothDecoders()
        fields = json.loads(TRADE)
        item = fields["data"][0]
        fields["data"] = [
            {**item, "trade_id": 1},
            {**item, "trade_id": 2, "symbol": "NO/SUCH"},
            {**item, "trade_id": 2, "price": 1e30},
            {**item, "trade_id": 3},
        ]
        assert both.decode(json.dumps(fields).encode()) == FrameResult.UNKNOWN_SYMBOL
        kinds = [record.kind for record in both.records]
        assert kinds == [Kind.TRADE, Kind.STATUS, Kind.TRADE]

    def test_one_malformed_item_refuses_the_whole_frame(self) -> None:
        both = BothDecoders()
        fields = json.loads(TRADE)
        item = fields["data"][0]
        fields["data"] = [{**item, "trade_id": 1}, {**item, "trade_id": 2, "side": "up"}]
        assert both.decode(json.dumps(fields).encode()) == FrameResult.MALFORMED
        assert both.records == []

    def test_v1_has_no_ids(self) -> None:
        both = BothDecoders(v1=True)
        assert both.decode(TRADE_V1) == FrameResult.OK
        assert [(record.flags, record.ts_event, record.body) for record in both.records] == [
            (
                Flag.SELL | Flag.LAST,
                1618678150826417000,
                (35404000000, 28245396, ABSENT, 1),
            ),
            (Flag.BUY | Flag.LAST, 1618678150827816000, (35381000000, 171754604, ABSENT, 0)),
        ]


class TestTickers:
    def test_a_ticker_is_a_quote_and_a_ticker(self) -> None:
        both = BothDecoders()
        assert both.decode(TICKER) == FrameResult.OK
        assert [(record.kind, record.body) for record in both.records] == [
            (Kind.QUOTE, (8575460000000, 8575470000000, 125000000, 3310103)),
            (Kind.TICKER, (8575470000000, ABSENT, 163289080960, ABSENT)),
        ]
        assert {record.ts_event for record in both.records} == {1791309962264800000}

    @pytest.mark.parametrize(
        ("channels", "kinds"),
        [(["quote"], [Kind.QUOTE]), (["ticker"], [Kind.TICKER]), (["trade"], [])],
    )
    def test_only_what_is_wanted_is_published(self, channels: list[str], kinds: list[Kind]) -> None:
        both = BothDecoders(channels=channels)
        assert both.decode(TICKER) == FrameResult.OK
        assert [record.kind for record in both.records] == kinds

    def test_a_side_without_orders_and_a_pair_without_trades_are_absent(self) -> None:
        both = BothDecoders()
        frame = edited(TICKER, bid=None, bid_qty=None, last=None)
        assert both.decode(frame) == FrameResult.MALFORMED
        frame = frame.replace(b'"ask":', b'"bid":null,"bid_qty":null,"ask":')
        assert both.decode(frame) == FrameResult.OK
        assert [record.body for record in both.records] == [
            (ABSENT, 8575470000000, ABSENT, 3310103),
            (ABSENT, ABSENT, 163289080960, ABSENT),
        ]

    def test_v1_has_the_size_of_the_last_trade_and_no_time(self) -> None:
        both = BothDecoders(v1=True)
        assert both.decode(TICKER_V1) == FrameResult.OK
        assert [(record.ts_event, record.body) for record in both.records] == [
            (ABSENT, (959079900, 960841500, 13681110241, 18800000000)),
            (ABSENT, (960841500, 1200000000, 43049017781308, ABSENT)),
        ]


class TestBooks:
    def test_the_documents_example_is_a_book(self) -> None:
        both = BothDecoders()
        assert both.decode(BOOK) == FrameResult.OK
        usable, bids, asks = both.c.book("BTC/USD")
        assert usable
        assert (bids[0], bids[9]) == ((4528350000000, 10000000), (4527660000000, 15445238))
        assert (asks[0], asks[9]) == ((4528520000000, 100000), (4529950000000, 18772827))
        assert (len(both.records), both.records[0].ts_event) == (20, ABSENT)
        assert [record.flags & Flag.LAST for record in both.records] == [0] * 19 + [Flag.LAST]
        assert both.c.counts["book_checksums"] == 1

    def test_levels_beyond_the_depth_are_taken_away_in_a_frame_of_their_own(self) -> None:
        both = BothDecoders()
        bids = [(f"{100 - i}.0", "1.0") for i in range(10)]
        asks = [("200.0", "2.0")]
        both.decode(book(bids, asks, kind="snapshot"))
        better = [("100.5", "3.0"), ("100.7", "4.0")]
        crc = checksum([("100.7", "4.0"), ("100.5", "3.0"), *bids], asks)
        assert both.decode(book(better, [], crc)) == FrameResult.OK
        assert levels(both.records) == [
            (Flag.BUY, 10050000000, 300000000),
            (Flag.BUY | Flag.LAST, 10070000000, 400000000),
            (Flag.BUY, 91 * E8, 0),
            (Flag.BUY | Flag.LAST, 92 * E8, 0),
        ]
        assert both.c.book("BTC/USD")[1][9] == (93 * E8, E8)
        assert both.c.counts["book_mismatches"] == 0

    def test_a_level_that_fell_out_does_not_come_back_by_itself(self) -> None:
        both = BothDecoders()
        bids = [(f"{100 - i}.0", "1.0") for i in range(10)]
        both.decode(book(bids, kind="snapshot"))
        both.decode(book([("101.0", "1.0")], [], checksum([("101.0", "1.0"), *bids], [])))
        both.decode(book([("101.0", "0.0")], [], checksum(bids[:9], [])))
        assert both.c.counts["book_mismatches"] == 0
        assert len(both.c.book("BTC/USD")[1]) == 9

    def test_a_wrong_checksum_makes_the_book_unusable_until_a_snapshot(self) -> None:
        both = BothDecoders()
        both.decode(BOOK)
        update = book([("45283.5", "0.20000000")], [], 1)
        assert both.decode(update) == FrameResult.OK
        assert statuses(both.records) == [(Status.RESYNC, ABSENT, ABSENT)]
        assert both.c.book("BTC/USD")[0] is False
        assert both.c.take_wishes() == [b"BTC/USD"]
        assert both.decode(update) == FrameResult.OK  # no second status, no second wish
        assert statuses(both.records) == []
        assert both.c.take_wishes() == []
        assert both.decode(BOOK) == FrameResult.OK
        assert both.c.book("BTC/USD")[0] is True

    def test_a_snapshot_with_a_wrong_checksum_is_no_book(self) -> None:
        both = BothDecoders()
        both.decode(edited(BOOK, checksum=3310070435))
        assert statuses(both.records) == [(Status.RESYNC, ABSENT, ABSENT)]
        assert both.c.book("BTC/USD")[0] is False

    def test_updates_before_any_snapshot_go_out_unchecked(self) -> None:
        both = BothDecoders()
        assert both.decode(book([("1.0", "2.0")], [], 1)) == FrameResult.OK
        assert levels(both.records) == [(Flag.BUY | Flag.LAST, E8, 2 * E8)]
        assert both.c.book("BTC/USD")[0] is False
        assert both.c.counts["book_checksums"] == 0

    def test_the_checksum_is_made_of_as_many_decimals_as_the_pair_has(self) -> None:
        both = BothDecoders()
        bids, asks = [("0.0990", "653645.22210")], [("1.0000", "10.00000")]
        assert both.decode(book(bids, asks, kind="snapshot")) == FrameResult.OK
        more = [("0.0980", "0.00001")]
        both.decode(book(more, [], checksum(bids + more, asks)))
        assert (both.c.counts["book_checksums"], both.c.counts["book_mismatches"]) == (2, 0)

    @pytest.mark.parametrize(
        ("price", "size", "symbol", "written"),
        [
            ("10.5000", "2.000000", "ETH/USD", ()),  # zeros beyond the scales
            ("10.5", "0.150", "BTC/USD", (b"0.150", b"1.50e-1")),
            ("10.5", "1500", "BTC/USD", (b"1500", b"1.50E+3")),
            ("123456789.5", "1234567890.12345678", "BTC/USD", ()),
            ("92233720368", "92233720368.54775807", "BTC/USD", ()),
        ],
    )
    def test_the_checksum_is_right_however_a_number_is_written(
        self, price: str, size: str, symbol: str, written: tuple[bytes, bytes] | tuple[()]
    ) -> None:
        both = BothDecoders()
        frame = book([(price, size)], kind="snapshot", symbol=symbol)
        frame = frame.replace(*written) if written else frame
        assert both.decode(frame) == FrameResult.OK
        assert (both.c.counts["book_checksums"], both.c.counts["book_mismatches"]) == (1, 0)

    def test_a_snapshot_with_fewer_decimals_begins_them_anew(self) -> None:
        both = BothDecoders()
        both.decode(book([("1.0000", "2.00000")], kind="snapshot"))
        both.decode(book([("1.00", "2.0")], kind="snapshot"))
        assert (both.c.counts["book_checksums"], both.c.counts["book_mismatches"]) == (2, 0)

    @pytest.mark.parametrize("depth", [10, 25, 100, 500, 1000])
    def test_a_snapshot_shows_the_depth_that_was_asked_for(self, depth: int) -> None:
        both = BothDecoders(depth=1024)
        asks = [(f"{1000 + i}.0", "1.0") for i in range(depth)]
        both.decode(book([], asks, kind="snapshot"))
        worst = [("9999.0", "5.0")]
        both.decode(book([], worst, checksum([], asks)))
        assert levels(both.records)[1:] == [(Flag.SELL | Flag.LAST, 9999 * E8, 0)]
        assert both.c.counts["book_mismatches"] == 0

    @pytest.mark.parametrize("count", [23, 24, 25, 26])
    def test_short_sides_are_kept_and_long_ones_read_twice(self, count: int) -> None:
        both = BothDecoders()
        asks = [(f"{1000 + i}.5", f"{i + 1}.25") for i in range(count)]
        assert both.decode(book([], asks, kind="snapshot")) == FrameResult.OK
        assert [size for _, _, size in levels(both.records)] == [
            (i + 1) * E8 + 25 * 10**6 for i in range(count)
        ]

    def test_a_frame_with_more_levels_than_any_subscription_has_is_malformed(self) -> None:
        both = BothDecoders(depth=1024)
        rows = [(str(i + 1), "1") for i in range(1001)]
        assert both.decode(book(rows, [], 0, kind="snapshot")) == FrameResult.MALFORMED
        assert both.decode(book([], rows, 0)) == FrameResult.MALFORMED
        assert both.decode(book(rows[:1000], [], 0)) == FrameResult.OK

    def test_cutting_many_levels_in_a_small_ring_goes_out_in_pieces(self) -> None:
        both = BothDecoders(depth=128)
        old = [(f"{500 - i}.0", "1.0") for i in range(10)]
        new = [(f"{1000 - i}.0", "1.0") for i in range(50)]
        both.decode(book(old, kind="snapshot"))
        both.decode(book(new, [], checksum(new, [])))
        assert both.c.counts["book_mismatches"] == 0
        assert both.c.book("BTC/USD")[1] == [((1000 - i) * E8, E8) for i in range(10)]
        gone = [price for _, price, size in levels(both.records) if size == 0]
        assert gone == [price * E8 for price in (*range(491, 501), *range(951, 991))]

    def test_a_value_that_does_not_fit_takes_the_book_out_of_step(self) -> None:
        both = BothDecoders()
        both.decode(BOOK)
        fine = book([("45283.123456789", "1")], [], 0)
        assert both.decode(fine) == FrameResult.VALUE
        assert statuses(both.records) == [
            (Status.VALUE_REFUSED, ABSENT, ABSENT),
            (Status.RESYNC, ABSENT, ABSENT),
        ]
        assert len(both.records) == 2
        assert both.c.book("BTC/USD")[0] is False

    def test_v1_takes_the_depth_from_the_channel_and_both_sides_from_two_payloads(self) -> None:
        both = BothDecoders(v1=True)
        assert both.decode(BOOK_V1) == FrameResult.OK
        assert both.records[0].ts_event == 1618678133365913000
        crc = checksum([("354.15000000", "5.00000000")], [("354.79000000", "6.00000000")])
        frame = (
            b'[992,{"a":[["354.79000000","6.0","1618678134.0"],["354.80000000","0.0","1.0"]]},'
            b'{"b":[["354.15000000","5.0","1618678133.3"]],"c":"%d"},"book-10","XBT/USD"]' % crc
        )
        assert both.decode(frame) == FrameResult.OK
        assert [record.flags & SIDE_MASK for record in both.records] == [1, 2, 2]

    def test_v1_checksums_are_of_text_with_the_same_decimals(self) -> None:
        both = BothDecoders(v1=True)
        both.decode(BOOK_V1)
        crc = checksum(
            [("354.15000000", "5.00000000")],
            [("354.79000000", "6.88304291"), ("354.80000000", "1.40000000")],
        )
        both.decode(
            b'[992,{"a":[["354.79000000","6.88304291","1618678134.071506"]],"c":"%d"},'
            b'"book-10","XBT/USD"]' % crc
        )
        assert (both.c.counts["book_checksums"], both.c.counts["book_mismatches"]) == (1, 0)


class TestBars:
    @staticmethod
    def candle(minute: int, **changes: object) -> bytes:
        begin = f"2026-10-06T18:{minute:02}:00.000000000Z"
        return edited(OHLC, interval_begin=begin, **changes)

    def test_a_candle_is_published_when_the_next_begins(self) -> None:
        both = BothDecoders()
        both.decode(self.candle(6))
        both.decode(self.candle(6, close=1.5, trades=6))
        assert both.records == []
        assert both.decode(self.candle(8)) == FrameResult.OK
        assert [(record.kind, record.flags, record.body) for record in both.records] == [
            (Kind.BAR, 0, (8575480000000, 8575500000000, 8575470000000, 150000000)),
            (Kind.BAR_VOLUME, Flag.LAST, (126522, 8575470000000, 6, 60_000_000_000)),
        ]
        assert {record.ts_event for record in both.records} == {1791309960000000000}

    def test_the_first_snapshot_is_history_and_a_later_one_is_what_was_missed(self) -> None:
        both = BothDecoders()
        item = json.loads(OHLC)["data"][0]

        def snapshot(*minutes: int) -> bytes:
            items = [{**item, "interval_begin": f"2026-10-06T18:{m:02}:00Z"} for m in minutes]
            return json.dumps({"channel": "ohlc", "type": "snapshot", "data": items}).encode()

        both.decode(snapshot(1, 2, 3), ts_recv=100)
        assert both.records == []
        both.decode(snapshot(1, 2, 3, 4, 6), ts_recv=200)
        begins = [record.ts_event for record in both.records if record.kind == Kind.BAR]
        assert begins == [1791309780000000000, 1791309840000000000]  # 18:03, 18:04

    def test_a_candle_that_does_not_fit_is_told(self) -> None:
        both = BothDecoders()
        both.decode(self.candle(6))
        assert both.decode(self.candle(7, volume=1e-9)) == FrameResult.VALUE
        assert statuses(both.records) == [(Status.VALUE_REFUSED, ABSENT, ABSENT)]


class TestResults:
    @pytest.mark.parametrize(
        ("frame", "result"),
        [
            (b'{"channel":"heartbeat"}', FrameResult.OK),
            (b'{"channel":"status","type":"update","data":[]}', FrameResult.CONTROL),
            (b'{"method":"pong","req_id":1}', FrameResult.CONTROL),
            (b'{"method":"subscribe","success":false,"error":"x"}', FrameResult.CONTROL),
            (b'{"error":"Exceeded msg rate"}', FrameResult.CONTROL),
            (b'{"channel":"instrument","type":"snapshot","data":{}}', FrameResult.UNKNOWN_EVENT),
            (b'{"channel":"tradf","type":"update","data":[]}', FrameResult.UNKNOWN_EVENT),
            (b"{}", FrameResult.UNKNOWN_EVENT),
            (b'{"channel":"trade","type":"update","data":[]}', FrameResult.OK),
            (b'{"channel":"trade","type":"updates","data":[]}', FrameResult.MALFORMED),
            (b'{"channel":"trade","type":"update","data":{}}', FrameResult.MALFORMED),
            (b'{"channel":"trade","type":"update"}', FrameResult.MALFORMED),
            (b'{"channel":"trade","data":[]}', FrameResult.MALFORMED),
            (b'{"channel":1,"type":"update","data":[]}', FrameResult.MALFORMED),
            (b"[]", FrameResult.MALFORMED),
            (b"", FrameResult.MALFORMED),
            (b'{"channel":"heartbeat"}}', FrameResult.MALFORMED),
            (b'{"channel":"heartbeat"}' + b" " * FRAME_SIZE_MAX, FrameResult.TOO_LONG),
        ],
    )
    def test_v2_frames_without_records(self, frame: bytes, result: FrameResult) -> None:
        both = BothDecoders()
        assert both.decode(frame) == result
        assert both.records == []

    @pytest.mark.parametrize(
        ("frame", "result"),
        [
            (b'{"event":"heartbeat"}', FrameResult.OK),
            (b'{"event":"systemStatus","status":"online"}', FrameResult.CONTROL),
            (b'{"event":1}', FrameResult.CONTROL),
            (b"{}", FrameResult.UNKNOWN_EVENT),
            (b"[]", FrameResult.MALFORMED),
            (b"1", FrameResult.MALFORMED),
            (b'[1,[],"trade"]', FrameResult.MALFORMED),
            (b'[1,[],"trade","XBT/USD"]', FrameResult.OK),
            (b'[1,[],[],"trade","XBT/USD"]', FrameResult.MALFORMED),
            (b'[1,[],[],[],"trade","XBT/USD"]', FrameResult.UNKNOWN_EVENT),
            (b'[1,[],"trade","NO/SUCH"]', FrameResult.UNKNOWN_SYMBOL),
            (b'[1,[],"spread","XBT/USD"]', FrameResult.UNKNOWN_EVENT),
            (b'[1,{"as":[]},"book-11","XBT/USD"]', FrameResult.UNKNOWN_EVENT),
            (b'[1,{"as":[],"a":[],"c":"1"},"book-10","XBT/USD"]', FrameResult.MALFORMED),
            (b'[1,{"a":[]},"book-10","XBT/USD"]', FrameResult.MALFORMED),
            (b'[1,{"a":[],"c":"4294967296"},"book-10","XBT/USD"]', FrameResult.MALFORMED),
            (b'[1,{"c":"1"},"book-10","XBT/USD"]', FrameResult.MALFORMED),
        ],
    )
    def test_v1_frames_without_records(self, frame: bytes, result: FrameResult) -> None:
        both = BothDecoders(v1=True)
        assert both.decode(frame) == result
        assert both.records == []

    def test_the_last_of_two_symbols_counts_for_the_levels_too(self) -> None:
        both = BothDecoders()
        frame = book([("10.55", "2.5")], kind="snapshot")
        frame = frame.replace(b',"checksum"', b',"symbol":"ETH/USD","checksum"')
        assert both.decode(frame) == FrameResult.OK
        assert levels(both.records) == [(Flag.BUY | Flag.SNAPSHOT | Flag.LAST, 1055, 25000)]

    def test_the_last_of_two_channels_counts_and_nesting_is_counted_right(self) -> None:
        both = BothDecoders()
        spoilt = TRADE.replace(b'"sell"', b'"up"')[:-1]
        for inner, result in ((63, FrameResult.OK), (64, FrameResult.MALFORMED)):
            deep = b"[" * inner + b"]" * inner
            assert both.decode(spoilt + b',"channel":"heartbeat","zz":%s}' % deep) == result
        assert both.decode(spoilt + b',"channel":"ticker"}') == FrameResult.MALFORMED
        assert both.decode(TRADE[:-1] + b',"channel":"book"}') == FrameResult.MALFORMED

    @pytest.mark.parametrize("channel", DATA)
    def test_an_unknown_symbol_is_named_unless_nobody_wants_its_channel(self, channel: str) -> None:
        frame = DATA[channel].replace(b"BTC/USD", b"NO/SUCH")
        assert BothDecoders().decode(frame) == FrameResult.UNKNOWN_SYMBOL
        assert BothDecoders(channels=[]).decode(frame) == FrameResult.OK
