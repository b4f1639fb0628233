"""The C decoders of Coinbase and their references: the same answer to every frame, and the right
one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdsys.feed.frame import FRAME_SIZE_MAX, FrameResult, SymbolInfo
from mdsys.record.record import ABSENT, Flag, Kind, Status
from mdsys.record.rfc3339 import parse_rfc3339
from tests.coinbase_frames import (
    EXCHANGE,
    EXCHANGE_HEARTBEAT,
    L2UPDATE,
    MATCH,
    SNAPSHOT,
    TICKER,
    BothDecoders,
    edited,
    envelope,
    heartbeats,
    l2_data,
    market_trades,
    subscriptions,
    ticker,
)

ONE_BOOK = {"BTC-USD": SymbolInfo(1)}


def exchange(**options: Any) -> BothDecoders:
    return BothDecoders("coinbase_exchange", **options)


def advanced(**options: Any) -> BothDecoders:
    return BothDecoders("coinbase_advanced", **options)


def statuses(both: BothDecoders) -> list[tuple[Status, int, int]]:
    return [(Status(r.body[0]), *r.body[1:3]) for r in both.records if r.kind == Kind.STATUS]


def bodies(both: BothDecoders, kind: Kind) -> list[tuple[int, int, int, int]]:
    return [r.body for r in both.records if r.kind == kind]


class TestExchange:
    def test_a_match_bears_the_other_side_than_its_maker(self) -> None:
        both = exchange()
        assert both.decode(MATCH) == FrameResult.OK
        (record,) = both.records
        assert record.flags == Flag.BUY | Flag.LAST  # a sell order rested
        assert record.ts_event == parse_rfc3339("2021-04-17T16:43:37.089723Z")
        assert record.body == (1305, 98500000000, 280232, 0)
        both.decode(edited(MATCH, side="buy", trade_id=280233))
        assert both.records[0].flags == Flag.SELL | Flag.LAST

    def test_the_last_match_is_one_of_before_and_comes_once(self) -> None:
        both = exchange()
        both.decode(edited(MATCH, type="last_match"))
        assert both.records[0].flags == Flag.BUY | Flag.SNAPSHOT | Flag.LAST
        both.decode(edited(MATCH, type="last_match"))
        assert both.records == []
        assert both.c.counts["duplicates"] == 1

    def test_a_hole_in_trade_ids_is_announced_before_the_trade(self) -> None:
        both = exchange()
        both.decode(MATCH)
        both.decode(edited(MATCH, trade_id=280235))
        assert statuses(both) == [(Status.GAP, 280233, 280234)]
        assert [record.kind for record in both.records] == [Kind.STATUS, Kind.TRADE]
        both.decode(edited(MATCH, trade_id=280234))
        assert bodies(both, Kind.TRADE)[0][2] == 280234
        assert both.c.counts["reordered"] == 1

    def test_a_ticker_is_a_quote_and_a_ticker(self) -> None:
        both = exchange()
        assert both.decode(TICKER) == FrameResult.OK
        assert [record.kind for record in both.records] == [Kind.QUOTE, Kind.TICKER]
        assert {record.ts_event for record in both.records} == {
            parse_rfc3339("2021-04-17T16:43:30.244075Z")
        }
        assert bodies(both, Kind.QUOTE) == [(1475500000, 1480600000, 50000000, 1225000000)]
        assert bodies(both, Kind.TICKER) == [(1477750000, 4000000, 9438128000000, ABSENT)]

    @pytest.mark.parametrize("nothing", [..., None, ""])
    def test_what_a_ticker_leaves_out_is_absent(self, nothing: object) -> None:
        both = exchange()
        bare = dict.fromkeys(("best_bid_size", "best_ask", "last_size", "volume_24h"), nothing)
        assert both.decode(edited(TICKER, time=..., **bare)) == FrameResult.OK
        assert {record.ts_event for record in both.records} == {ABSENT}
        assert bodies(both, Kind.QUOTE) == [(1475500000, ABSENT, ABSENT, 1225000000)]
        assert bodies(both, Kind.TICKER) == [(1477750000, ABSENT, ABSENT, ABSENT)]
        both.decode(edited(TICKER, best_bid=nothing, best_ask=nothing))
        assert [record.kind for record in both.records] == [Kind.TICKER]
        both.decode(edited(TICKER, price=nothing))
        assert [record.kind for record in both.records] == [Kind.QUOTE]

    def test_a_ticker_whose_volume_does_not_fit_still_is_a_quote(self) -> None:
        both = exchange()
        assert both.decode(edited(TICKER, volume_24h="1e12")) == FrameResult.VALUE
        assert [record.kind for record in both.records] == [Kind.QUOTE, Kind.STATUS]
        assert statuses(both) == [(Status.VALUE_REFUSED, ABSENT, ABSENT)]

    def test_a_snapshot_is_bids_then_asks(self) -> None:
        both = exchange(symbols=ONE_BOOK)
        assert both.decode(SNAPSHOT) == FrameResult.OK
        assert [record.flags for record in both.records] == [
            Flag.BUY | Flag.SNAPSHOT,
            Flag.SELL | Flag.SNAPSHOT,
            Flag.SELL | Flag.SNAPSHOT,
            Flag.SELL | Flag.SNAPSHOT | Flag.LAST,
        ]
        assert bodies(both, Kind.LEVEL)[-1][0] == 88888800400000000
        usable, bids, asks = both.c.book("BTC-USD")
        assert usable
        assert bids == [(1475500000, 300000000)]
        assert asks[:2] == [(1480240000, 1277000000), (1480690000, 1249000000)]

    def test_changes_are_absolute_and_0_removes(self) -> None:
        both = exchange(symbols=ONE_BOOK)
        both.decode(SNAPSHOT)
        changes = [["sell", "14.8024", "0.00"], ["buy", "14.7551", "2"], ["buy", "14.755", "1.5"]]
        both.decode(edited(L2UPDATE, changes=changes))
        assert [r.flags for r in both.records] == [Flag.SELL, Flag.BUY, Flag.BUY | Flag.LAST]
        _, bids, asks = both.c.book("BTC-USD")
        assert bids == [(1475510000, 200000000), (1475500000, 150000000)]
        assert asks[0] == (1480690000, 1249000000)

    @pytest.mark.parametrize("depth", [64, 256])
    def test_a_snapshot_longer_than_a_ring_allows_goes_out_in_pieces(self, depth: int) -> None:
        both = exchange(symbols=ONE_BOOK, depth=depth)
        rows = [[f"{100 + i}", "1"] for i in range(50)]
        assert both.decode(edited(SNAPSHOT, bids=[], asks=rows)) == FrameResult.OK
        assert len(both.records) == 50
        assert [bool(record.flags & Flag.LAST) for record in both.records] == [False] * 49 + [True]

    @pytest.mark.parametrize(
        "bad",
        [
            edited(L2UPDATE, changes=[["sell", "1", "x"]]),
            edited(L2UPDATE, changes=[["buy", "1", "1"], ["ask", "1", "1"]]),
            edited(L2UPDATE, changes=...),
            edited(L2UPDATE, time="yesterday"),
            edited(SNAPSHOT, asks={}),
        ],
    )
    def test_a_book_whose_change_is_malformed_is_out_of_step(self, bad: bytes) -> None:
        both = exchange(symbols=ONE_BOOK)
        both.decode(SNAPSHOT)
        assert both.decode(bad) == FrameResult.MALFORMED
        assert statuses(both) == [(Status.RESYNC, ABSENT, ABSENT)]
        assert both.c.book("BTC-USD")[0] is False
        assert both.c.take_wishes() == [b"BTC-USD"]
        both.decode(bad)
        assert both.records == []  # once
        both.decode(SNAPSHOT)
        assert both.c.book("BTC-USD")[0] is True

    def test_a_book_whose_change_does_not_fit_is_out_of_step(self) -> None:
        both = exchange(symbols=ONE_BOOK)
        both.decode(SNAPSHOT)
        bad = edited(L2UPDATE, changes=[["sell", "1", "1"], ["buy", "0.000000001", "1"]])
        assert both.decode(bad) == FrameResult.VALUE
        assert [what for what, *_ in statuses(both)] == [Status.VALUE_REFUSED, Status.RESYNC]
        assert bodies(both, Kind.LEVEL) == []

    def test_a_trade_that_does_not_fit_is_told_by_its_id_and_is_no_hole(self) -> None:
        both = exchange()
        both.decode(MATCH)
        assert both.decode(edited(MATCH, trade_id=280233, size="1e-9")) == FrameResult.VALUE
        assert statuses(both) == [(Status.VALUE_REFUSED, 280233, 280233)]
        both.decode(edited(MATCH, trade_id=280234))
        assert statuses(both) == []
        assert both.decode(edited(MATCH, trade_id=280233, size="1e-9")) == FrameResult.VALUE
        assert both.records == []  # it has been here

    @pytest.mark.parametrize(
        ("frame", "result"),
        [
            (b'{"type":"subscriptions","channels":[]}', FrameResult.CONTROL),
            (b'{"type":"error","message":"Failed to subscribe"}', FrameResult.CONTROL),
            (EXCHANGE_HEARTBEAT, FrameResult.OK),
            (b'{"type":"status","products":[]}', FrameResult.UNKNOWN_EVENT),
            (b"{}", FrameResult.UNKNOWN_EVENT),
            (b'{"type":7}', FrameResult.UNKNOWN_EVENT),
            (b"[]", FrameResult.MALFORMED),
            (b"", FrameResult.MALFORMED),
            (b" " * FRAME_SIZE_MAX, FrameResult.MALFORMED),
            (b" " * (FRAME_SIZE_MAX + 1), FrameResult.TOO_LONG),
            (MATCH + b"x", FrameResult.MALFORMED),
            (b" " + MATCH + b"\n", FrameResult.OK),
            (MATCH.replace(b"985", b"98\xff"), FrameResult.MALFORMED),
            (edited(MATCH, product_id="NOT-HERE"), FrameResult.UNKNOWN_SYMBOL),
            (edited(MATCH, product_id="x" * 200), FrameResult.UNKNOWN_SYMBOL),
            (edited(MATCH, product_id="币安-USD"), FrameResult.OK),
            (edited(MATCH, product_id="A\\B"), FrameResult.OK),
            (edited(MATCH, product_id=5), FrameResult.MALFORMED),
            (edited(MATCH, side="SELL"), FrameResult.MALFORMED),
            (edited(MATCH, trade_id="280232"), FrameResult.MALFORMED),
            (edited(MATCH, trade_id=0), FrameResult.MALFORMED),
            (edited(MATCH, trade_id=-1), FrameResult.MALFORMED),
            (edited(MATCH, trade_id=2**63 - 2), FrameResult.OK),
            (edited(MATCH, trade_id=2**63 - 1), FrameResult.MALFORMED),
            (edited(MATCH, trade_id=10**40), FrameResult.MALFORMED),
            (edited(MATCH, time=...), FrameResult.MALFORMED),
            (edited(MATCH, time="2021-04-17 16:43:37Z"), FrameResult.MALFORMED),
            (edited(MATCH, price=...), FrameResult.MALFORMED),
            (edited(MATCH, price=""), FrameResult.MALFORMED),
            (edited(MATCH, price=1.5, size=2), FrameResult.OK),
            (edited(MATCH, price="1e-9"), FrameResult.VALUE),
            (edited(MATCH, price="1e-8", size="1.50e2"), FrameResult.OK),
            (edited(MATCH, price="1" + "0" * 126), FrameResult.VALUE),
            (edited(MATCH, price="1" + "0" * 127), FrameResult.MALFORMED),
            (edited(TICKER, product_id=...), FrameResult.MALFORMED),
            (edited(TICKER, best_bid="x"), FrameResult.MALFORMED),
            (edited(TICKER, best_bid=True), FrameResult.MALFORMED),
            (edited(TICKER, volume_24h="1.2.3"), FrameResult.MALFORMED),
            (edited(TICKER, time=None), FrameResult.MALFORMED),
            (edited(L2UPDATE, product_id="NOT-HERE"), FrameResult.UNKNOWN_SYMBOL),
            (edited(L2UPDATE, changes=[]), FrameResult.OK),
            (edited(L2UPDATE, changes=[["buy", "1"]]), FrameResult.MALFORMED),
            (edited(L2UPDATE, changes=[["buy", "1", "2", "3"]]), FrameResult.OK),
            (edited(L2UPDATE, changes=["buy", "1", "2"]), FrameResult.MALFORMED),
            (edited(L2UPDATE, changes=[[]]), FrameResult.MALFORMED),
            (edited(SNAPSHOT, bids=[], asks=[]), FrameResult.OK),
            (edited(SNAPSHOT, bids=...), FrameResult.MALFORMED),
            (edited(SNAPSHOT, time=...), FrameResult.OK),
        ],
    )
    def test_each_frame_gets_its_result(self, frame: bytes, result: FrameResult) -> None:
        both = exchange()
        assert both.decode(frame) == result
        if result not in (FrameResult.OK, FrameResult.VALUE):
            assert both.records == []

    @pytest.mark.parametrize("frame", EXCHANGE.values(), ids=EXCHANGE)
    def test_any_order_of_keys_is_taken_alike_and_of_twins_the_last(self, frame: bytes) -> None:
        ours, turned, twice = exchange(), exchange(), exchange()
        ours.decode(frame)
        turned.decode(json.dumps(dict(reversed(json.loads(frame).items()))).encode())
        twice.decode(b'{"product_id":"ETH-USD",' + frame[1:])
        assert ours.records == turned.records == twice.records != []

    @pytest.mark.parametrize("frame", EXCHANGE.values(), ids=EXCHANGE)
    def test_what_nobody_wants_is_judged_and_not_published(self, frame: bytes) -> None:
        both = exchange(channels=["bar"])
        assert both.decode(frame) == FrameResult.OK
        assert both.records == []
        assert both.decode(edited(frame, product_id="NOT-HERE")) == FrameResult.UNKNOWN_SYMBOL

    def test_one_of_quote_and_ticker_may_be_wanted_alone(self) -> None:
        for channel, kind in (("quote", Kind.QUOTE), ("ticker", Kind.TICKER)):
            both = exchange(channels=[channel])
            both.decode(TICKER)
            assert [record.kind for record in both.records] == [kind]


class TestAdvanced:
    def test_trades_bear_the_other_side_than_their_maker(self) -> None:
        both = advanced()
        assert both.decode(market_trades(0, [11, 12])) == FrameResult.OK
        assert [record.flags for record in both.records] == [Flag.BUY | Flag.LAST] * 2
        assert [body[2] for body in bodies(both, Kind.TRADE)] == [11, 12]
        assert both.records[0].ts_event == parse_rfc3339("2026-09-26T04:15:00.114692Z")
        both.decode(market_trades(1, [13]).replace(b"SELL", b"BUY"))
        assert both.records[0].flags == Flag.SELL | Flag.LAST
        both.decode(market_trades(2, [14]).replace(b"SELL", b"UNKNOWN_ORDER_SIDE"))
        assert both.records[0].flags == Flag.LAST

    @pytest.mark.parametrize("count", [1, 2, 511, 512, 513, 1500])
    def test_a_snapshot_of_trades_comes_newest_first_and_goes_out_oldest_first(
        self, count: int
    ) -> None:
        both = advanced(depth=4096)
        newest_first = range(count, 0, -1)
        both.decode(market_trades(0, newest_first, "snapshot"))
        assert [body[2] for body in bodies(both, Kind.TRADE)] == list(range(1, count + 1))
        assert statuses(both) == []
        assert both.records[0].flags & Flag.SNAPSHOT

    def test_after_a_reconnect_the_snapshot_fills_in_what_was_missed(self) -> None:
        both = advanced()
        both.decode(market_trades(0, [1, 2, 3]), connection=1)
        both.decode(market_trades(0, [6, 5, 4, 3, 2], "snapshot"), connection=2)
        assert [body[2] for body in bodies(both, Kind.TRADE)] == [4, 5, 6]
        assert statuses(both) == []

    def test_only_ids_of_spot_products_are_taken_for_contiguous(self) -> None:
        for product, gaps in (("BTC-USD", [(Status.GAP, 2, 4)]), ("BTC-PERP-INTX", [])):
            both = advanced()
            both.decode(market_trades(0, [1], product=product))
            both.decode(market_trades(1, [5], product=product))
            assert statuses(both) == gaps
            both.decode(market_trades(2, [9, 5, 1], "snapshot", product=product))
            assert [body[2] for body in bodies(both, Kind.TRADE)] == [9]

    @pytest.mark.parametrize("trade_id", ["trade-1", "", "0", "9" * 19, "9" * 30, "\uff11\uff12"])
    def test_an_id_that_is_no_number_is_absent(self, trade_id: str) -> None:
        both = advanced()
        assert both.decode(market_trades(0, [trade_id])) == FrameResult.OK
        assert both.decode(market_trades(1, [trade_id])) == FrameResult.OK
        assert [body[2] for body in bodies(both, Kind.TRADE)] == [ABSENT]

    def test_a_ticker_is_a_quote_and_a_ticker(self) -> None:
        both = advanced()
        assert both.decode(ticker(0)) == FrameResult.OK
        assert bodies(both, Kind.QUOTE) == [(7991450000000, 7991460000000, 79440000, 75540000)]
        assert bodies(both, Kind.TICKER) == [(7991460000000, ABSENT, 1417442130000, ABSENT)]
        assert both.records[0].ts_event == parse_rfc3339("2026-09-26T04:15:38.40993531Z")
        both.decode(ticker(1, best_bid="", best_ask="", price=""))
        assert both.records == []

    def test_levels_have_the_engines_time_where_there_is_one(self) -> None:
        both = advanced(symbols=ONE_BOOK)
        both.decode(l2_data(0, "snapshot"))
        assert [r.flags for r in both.records] == [
            Flag.BUY | Flag.SNAPSHOT,
            Flag.SELL | Flag.SNAPSHOT | Flag.LAST,
        ]
        engine = parse_rfc3339("2026-09-26T04:15:38.391474Z")
        assert {record.ts_event for record in both.records} == {engine}
        later = l2_data(1).replace(b"38.391474", b"38.391475", 1)  # the first of two
        both.decode(later)
        assert {record.ts_event for record in both.records} == {(engine or 0) + 1000}
        both.decode(l2_data(2).replace(b"2026-09-26T04:15:38.391474Z", b"1970-01-01T00:00:00Z"))
        sent = parse_rfc3339("2026-09-26T04:15:38.40993531Z")
        assert {record.ts_event for record in both.records} == {sent}

    def test_a_hole_in_the_numbers_takes_the_connections_books_out_of_step(self) -> None:
        both = advanced(symbols=ONE_BOOK)
        both.decode(l2_data(0, "snapshot"))
        both.decode(heartbeats(3))
        assert statuses(both) == [(Status.GAP, 1, 2), (Status.RESYNC, ABSENT, ABSENT)]
        assert both.c.book("BTC-USD")[0] is False
        both.decode(l2_data(4, "snapshot"))
        assert both.c.book("BTC-USD")[0] is True
        both.decode(heartbeats(3), connection=9)  # a socket's first, whatever it is
        assert both.records == []

    @pytest.mark.parametrize("number", [0, 1, 5])
    def test_every_channel_counts_and_a_number_that_has_been_here_is_dropped(
        self, number: int
    ) -> None:
        both = advanced()
        both.decode(heartbeats(number))
        assert both.decode(subscriptions(number + 1, {})) == FrameResult.CONTROL
        assert both.decode(envelope("status", number + 2, "")) == FrameResult.UNKNOWN_EVENT
        both.decode(l2_data(number + 3))
        assert statuses(both) == []
        for again in (l2_data(number + 3), market_trades(number, [1]), heartbeats(number)):
            assert both.decode(again) == FrameResult.OK
            assert both.records == []
        assert both.decode(subscriptions(number + 3, {})) == FrameResult.OK
        assert both.c.counts["duplicates"] == 4

    def test_trades_of_a_late_frame_are_published_and_of_a_duplicate_not(self) -> None:
        both = advanced(symbols=ONE_BOOK)
        both.decode(market_trades(0, [10]))
        both.decode(market_trades(2, [12]))
        assert statuses(both) == [(Status.GAP, 1, 1), (Status.GAP, 11, 11)]
        assert both.decode(market_trades(1, [11])) == FrameResult.OK
        assert [body[2] for body in bodies(both, Kind.TRADE)] == [11]
        assert both.c.counts["reordered"] == 1
        both.decode(market_trades(1, [11]))
        assert both.records == []
        assert both.c.counts["duplicates"] == 1
        both.decode(market_trades(3, [13]))
        assert statuses(both) == []

    def test_a_late_trade_without_an_id_is_published(self) -> None:
        both = advanced(symbols=ONE_BOOK)
        both.decode(market_trades(0, ["x"]))
        both.decode(market_trades(2, ["x"]))
        both.decode(market_trades(1, ["x"]))
        assert len(bodies(both, Kind.TRADE)) == 1
        assert both.c.counts["reordered"] == 1

    def test_a_late_ticker_is_published_and_counted(self) -> None:
        both = advanced(symbols=ONE_BOOK)
        for number in (0, 2, 1):
            both.decode(ticker(number, price=f"{number + 1}"))
        assert [body[0] for body in bodies(both, Kind.TICKER)] == [2 * 10**8]
        assert len(bodies(both, Kind.QUOTE)) == 1
        assert both.c.counts["reordered"] == 2

    def test_late_levels_are_not_applied_and_the_book_is_asked_for_again(self) -> None:
        both = advanced(symbols=ONE_BOOK)
        both.decode(l2_data(0, "snapshot"))
        both.decode(l2_data(2))
        assert both.c.book("BTC-USD")[0] is False
        both.c.take_wishes()
        both.decode(l2_data(1))  # before the next snapshot: there is no book to take away
        assert both.records == []
        both.decode(l2_data(4, "snapshot"))
        assert [what for what, *_ in statuses(both)] == [Status.GAP]
        assert both.c.book("BTC-USD")[0] is True
        assert both.decode(l2_data(3)) == FrameResult.OK
        assert statuses(both) == [(Status.RESYNC, ABSENT, ABSENT)]
        assert bodies(both, Kind.LEVEL) == []
        assert both.c.book("BTC-USD")[0] is False
        assert both.c.take_wishes() == [b"BTC-USD"]
        assert both.c.counts["reordered"] == 4

    def test_late_levels_of_a_socket_that_has_lost_the_book_to_another_leave_it_alone(self) -> None:
        both = advanced(symbols=ONE_BOOK)
        both.decode(l2_data(0, "snapshot"), connection=3)
        both.decode(heartbeats(2), connection=3)
        both.decode(l2_data(0, "snapshot"), connection=4)
        both.decode(l2_data(1), connection=3)
        assert both.records == []
        assert both.c.book("BTC-USD")[0] is True

    def test_a_late_answer_is_one_all_the_same(self) -> None:
        both = advanced()
        both.decode(heartbeats(0))
        both.decode(heartbeats(2))
        assert both.decode(subscriptions(1, {})) == FrameResult.CONTROL
        assert both.decode(subscriptions(1, {})) == FrameResult.OK

    def test_of_many_holes_the_oldest_is_given_up(self) -> None:
        both = advanced(symbols=ONE_BOOK)
        for number in (0, 2, 4, 6, 8):
            both.decode(heartbeats(number))
        for number, count in ((1, 0), (3, 1), (5, 1), (7, 1)):
            both.decode(market_trades(number, ["x"]))
            assert len(bodies(both, Kind.TRADE)) == count
        assert both.c.counts["duplicates"] == 1

    def test_a_refused_frame_leaves_a_hole_that_the_next_one_tells_of(self) -> None:
        both = advanced(symbols=ONE_BOOK)
        both.decode(l2_data(0, "snapshot"))
        assert both.decode(l2_data(1).replace(b"offer", b"other")) == FrameResult.MALFORMED
        assert both.records == []
        both.decode(l2_data(2))
        assert statuses(both) == [(Status.GAP, 1, 1), (Status.RESYNC, ABSENT, ABSENT)]

    def test_a_bad_event_is_refused_by_itself(self) -> None:
        both = advanced(symbols={**ONE_BOOK, "ETH-USD": SymbolInfo(2, size_scale=2)})
        events = [
            json.loads(market_trades(0, [i + 1], product=product))["events"][0]
            for i, product in enumerate(("NOT-HERE", "ETH-USD", "BTC-USD"))
        ]
        frame = envelope("market_trades", 0, json.dumps(events)[1:-1])
        assert both.decode(frame) == FrameResult.UNKNOWN_SYMBOL  # the first problem
        assert [record.kind for record in both.records] == [Kind.STATUS, Kind.TRADE]
        assert statuses(both) == [(Status.VALUE_REFUSED, 2, 2)]

    def test_a_malformed_event_refuses_the_whole_frame(self) -> None:
        both = advanced()
        good = market_trades(0, [1, 2])
        assert both.decode(good.replace(b'"trade_id":"2"', b'"id":"2"')) == FrameResult.MALFORMED
        assert both.records == []

    def test_levels_that_do_not_fit_take_the_book_out_of_step(self) -> None:
        both = advanced(symbols=ONE_BOOK)
        both.decode(l2_data(0, "snapshot"))
        assert both.decode(l2_data(1).replace(b"120.75", b"1e-9")) == FrameResult.VALUE
        assert [what for what, *_ in statuses(both)] == [Status.VALUE_REFUSED, Status.RESYNC]
        assert bodies(both, Kind.LEVEL) == []

    @pytest.mark.parametrize(
        ("frame", "result"),
        [
            (b'{"type":"error","message":"authentication failure"}', FrameResult.CONTROL),
            (b'{"type":"other"}', FrameResult.UNKNOWN_EVENT),
            (b"{}", FrameResult.UNKNOWN_EVENT),
            (b'{"channel":7,"sequence_num":0}', FrameResult.MALFORMED),
            (b'{"channel":"heartbeats"}', FrameResult.MALFORMED),
            (b'{"channel":"heartbeats","sequence_num":"0"}', FrameResult.MALFORMED),
            (b'{"channel":"heartbeats","sequence_num":-1}', FrameResult.MALFORMED),
            (b'{"channel":"heartbeats","sequence_num":1e2}', FrameResult.MALFORMED),
            (b'{"channel":"heartbeats","sequence_num":00}', FrameResult.MALFORMED),
            (b'{"channel":"heartbeats","sequence_num":0}', FrameResult.OK),
            (b'{"channel":"heartbeats","sequence_num":9223372036854775807}', FrameResult.MALFORMED),
            (edited(l2_data(0), timestamp=...), FrameResult.MALFORMED),
            (edited(l2_data(0), events=...), FrameResult.MALFORMED),
            (edited(l2_data(0), events=[]), FrameResult.OK),
            (edited(l2_data(0), events=[[]]), FrameResult.MALFORMED),
            (edited(l2_data(0), client_id=""), FrameResult.OK),
            (l2_data(0, "other"), FrameResult.MALFORMED),
            (l2_data(0, product="NOT-HERE"), FrameResult.UNKNOWN_SYMBOL),
            (l2_data(0).replace(b"offer", b"ask"), FrameResult.OK),
            (l2_data(0).replace(b'"120.73"', b"120.73"), FrameResult.OK),
            (l2_data(0).replace(b"event_time", b"time"), FrameResult.MALFORMED),
            (l2_data(0).replace(b'"updates"', b'"levels"'), FrameResult.MALFORMED),
            (market_trades(0, []), FrameResult.OK),
            (market_trades(0, [1]).replace(b'"SELL"', b"1"), FrameResult.MALFORMED),
            (market_trades(0, [1]).replace(b'"1"', b"1"), FrameResult.MALFORMED),
            (market_trades(0, [1], product="NOT-HERE"), FrameResult.UNKNOWN_SYMBOL),
            (market_trades(0, [1], product="A\\\\B"), FrameResult.OK),
            (market_trades(0, [1]).replace(b"1.2908", b"1.29e99"), FrameResult.VALUE),
            (ticker(0, best_bid="x"), FrameResult.MALFORMED),
            (ticker(0, product_id="NOT-HERE"), FrameResult.UNKNOWN_SYMBOL),
            (ticker(0, price="0.000000001"), FrameResult.VALUE),
        ],
    )
    def test_each_frame_gets_its_result(self, frame: bytes, result: FrameResult) -> None:
        both = advanced()
        assert both.decode(frame) == result
        if result not in (FrameResult.OK, FrameResult.VALUE):
            assert both.records == []

    @pytest.mark.parametrize("channels", [["bar"], ["trade"], ["quote"], ["ticker"], ["book"]])
    def test_only_what_is_wanted_is_published(self, channels: Sequence[str]) -> None:
        both = advanced(channels=channels)
        kinds = {
            "trade": Kind.TRADE,
            "quote": Kind.QUOTE,
            "ticker": Kind.TICKER,
            "book": Kind.LEVEL,
        }
        found = set()
        for frame in (l2_data(0), market_trades(1, [1]), ticker(2), heartbeats(3)):
            assert both.decode(frame) == FrameResult.OK
            found |= {Kind(record.kind) for record in both.records}
        assert found == {kinds[channel] for channel in channels if channel in kinds}


# ---- generated frames ---------------------------------------------------------------------------

numbers = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.decimals(0, 10**6, places=4).map(str),
    st.integers(-(10**20), 10**20),
    st.sampled_from(
        ["", "0", "-0", "+1", "1.", ".5", "1e5", "1E-8", "\u0661", "1_0", " 1", "9" * 19]
    ),
    st.none(),
    st.booleans(),
)
sides = st.sampled_from(["buy", "sell", "BUY", "SELL", "bid", "offer", "ask", "", 1])
names = st.sampled_from(
    ["BTC-USD", "ETH-USD", "TINY-USD", "BTC-PERP-INTX", "A\\B", "币安-USD", "NOT-HERE", "", 5]
)
times = st.sampled_from(
    [
        "2021-04-17T16:43:37.089723Z",
        "2026-09-26T04:15:38.40993531Z",
        "2021-04-17T16:43:37+05:30",
        "1970-01-01T00:00:00Z",
        "1677-09-21T00:12:43.145224193Z",
        "2021-02-30T00:00:00Z",
        "",
        7,
    ]
)
ids = st.one_of(st.integers(-1, 9), st.sampled_from([2**63 - 2, 2**63 - 1, 2**64, "7", "x"]))
kinds = st.sampled_from(
    ["match", "last_match", "ticker", "snapshot", "l2update", "heartbeat", "error", "new", 3]
)
rows = st.lists(
    st.one_of(st.tuples(sides, numbers, numbers).map(list), st.lists(numbers, max_size=4)),
    max_size=4,
)
texts = {"ensure_ascii": st.booleans(), "separators": st.sampled_from([(",", ":"), (", ", ": ")])}


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects that mostly have everything."""
    return st.one_of(
        st.fixed_dictionaries(fields), st.fixed_dictionaries({}, optional=fields)
    ).flatmap(lambda made: st.permutations(list(made.items())).map(dict))


exchange_frames = some(
    type=kinds,
    product_id=names,
    time=times,
    trade_id=ids,
    side=sides,
    price=numbers,
    size=numbers,
    last_size=numbers,
    volume_24h=numbers,
    best_bid=numbers,
    best_bid_size=numbers,
    best_ask=numbers,
    best_ask_size=numbers,
    bids=rows,
    asks=rows,
    changes=rows,
    other=st.sampled_from([None, [], {"type": "match"}]),
)
items = st.lists(
    some(
        product_id=names,
        trade_id=st.one_of(ids, ids.map(str)),
        price=numbers,
        size=numbers,
        time=times,
        side=sides,
        volume_24_h=numbers,
        best_bid=numbers,
        best_bid_quantity=numbers,
        best_ask=numbers,
        best_ask_quantity=numbers,
        event_time=times,
        price_level=numbers,
        new_quantity=numbers,
    ),
    max_size=3,
)
advanced_frames = some(
    channel=st.sampled_from(["l2_data", "market_trades", "ticker", "heartbeats", "new", 3]),
    timestamp=times,
    sequence_num=ids,
    events=st.lists(
        some(
            type=st.sampled_from(["snapshot", "update", "other"]),
            product_id=names,
            updates=items,
            trades=items,
            tickers=items,
        ),
        max_size=3,
    ),
)


def written(frames: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[list[bytes]]:
    """Return frames as text, in several ways of writing."""
    text = st.builds(
        lambda fields, ensure_ascii, separators: json.dumps(
            fields, ensure_ascii=ensure_ascii, separators=separators
        ).encode(),
        frames,
        **texts,
    )
    return st.lists(text, min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(frames=written(exchange_frames))
def test_generated_frames_of_the_exchange_get_one_answer(frames: list[bytes]) -> None:
    both = exchange(symbols={**ONE_BOOK, "A\\B": SymbolInfo(4), "币安-USD": SymbolInfo(5)})
    for frame in frames:
        both.decode(frame)


@settings(max_examples=80, deadline=None)
@given(frames=written(advanced_frames))
def test_generated_frames_of_advanced_trade_get_one_answer(frames: list[bytes]) -> None:
    both = advanced(symbols={**ONE_BOOK, "BTC-PERP-INTX": SymbolInfo(3)})
    for frame in frames:
        both.decode(frame)


@settings(max_examples=200, deadline=None)
@given(
    frame=st.sampled_from(
        [*EXCHANGE.values(), l2_data(1), market_trades(1, [1, 2]), ticker(1), heartbeats(1)]
    ),
    at=st.integers(0, 10**6),
    cut=st.integers(0, 3),
    put=st.binary(max_size=3) | st.sampled_from([b'"', b"\\", b"0", b",", b"]", b"e", b"\\u0041"]),
)
def test_a_frame_with_a_wound_gets_one_answer(frame: bytes, at: int, cut: int, put: bytes) -> None:
    at %= len(frame)
    wounded = frame[:at] + put + frame[at + cut :]
    for both in (exchange(symbols=ONE_BOOK), advanced(symbols=ONE_BOOK)):
        for each in (frame, wounded, frame):
            both.decode(each)
