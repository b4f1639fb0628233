"""Every captured Coinbase frame through both decoders: the same records, and no refusal."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdsys.feed.frame import FrameResult, SymbolInfo
from mdsys.record.fixed import to_fixed
from mdsys.record.record import SIDE_MASK, Flag, Kind
from tests.coinbase_frames import BothDecoders

# cryptofeed's captures: This product includes software developed by Bryant Moscon
# (http://www.bryantmoscon.com/).
_RECEIVED = re.compile(rb"([0-9.]+): (\{.*\})\s*")
_CAPTURE = "cryptofeed/COINBASE.ws.28.0.gz"
_PRODUCTS = ("BAND-BTC", "BAND-GBP", "CRV-EUR", "DASH-BTC", "SKL-BTC", "SKL-USD")


def captured(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield receive time and frame of each frame received."""
    if not path.exists():
        pytest.skip(f"no captured data: {path} does not exist (set MDSYS_DATA)")
    with gzip.open(path) as lines:
        for line in lines:
            if match := _RECEIVED.fullmatch(line):
                yield int(float(match[1]) * 1e9), match[2]


def test_both_decoders_give_the_same_records_of_every_captured_frame(data_dir: Path) -> None:
    both = BothDecoders(
        "coinbase_exchange",
        {product: SymbolInfo(i + 1) for i, product in enumerate(_PRODUCTS)},
        depth=32768,
    )
    results: Counter[FrameResult] = Counter()
    trade_ids: dict[int, list[int]] = defaultdict(list)
    kinds: Counter[Kind] = Counter()
    for ts_recv, frame in captured(data_dir / _CAPTURE):
        results[both.decode(frame, ts_recv)] += 1
        for record in both.records:
            kinds[Kind(record.kind)] += 1
            if record.kind == Kind.TRADE:
                trade_ids[record.symbol_id].append(record.body[2])
    assert results == {FrameResult.OK: 8394, FrameResult.CONTROL: 3}
    assert kinds == {Kind.TRADE: 93, Kind.QUOTE: 93, Kind.TICKER: 93, Kind.LEVEL: 14112}
    assert len(trade_ids) == len(_PRODUCTS)
    for ids in trade_ids.values():
        assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert {both.c.counts[name] for name in ("gaps", "reordered", "duplicates", "statuses")} == {0}
    assert both.c.counts["book_snapshots"] == len(_PRODUCTS)


def test_a_captured_trade_is_the_aggressors_as_the_ticker_says(data_dir: Path) -> None:
    # The match has the maker's side, the ticker of the same trade the taker's: two witnesses.
    both = BothDecoders(
        "coinbase_exchange", {p: SymbolInfo(i + 1) for i, p in enumerate(_PRODUCTS)}
    )
    published: dict[tuple[str, int], Flag] = {}
    told: dict[tuple[str, int], str] = {}
    for _, frame in captured(data_dir / _CAPTURE):
        if b'match"' in frame or b'"type":"ticker"' in frame:
            fields = json.loads(frame)
            key = fields["product_id"], fields["trade_id"]
            both.decode(frame)
            if fields["type"] == "ticker":
                told[key] = fields["side"]
            else:
                published[key] = Flag(both.records[0].flags & SIDE_MASK)
    assert len(published) == len(told) == 93
    assert published == {k: Flag.BUY if side == "buy" else Flag.SELL for k, side in told.items()}


def test_the_captured_books_end_as_a_plain_one_does(data_dir: Path) -> None:
    both = BothDecoders(
        "coinbase_exchange",
        {product: SymbolInfo(i + 1) for i, product in enumerate(_PRODUCTS)},
        channels=["book"],
        depth=32768,
    )
    plain: dict[str, dict[str, dict[int, int]]] = {}
    checked = 0
    for _, frame in captured(data_dir / _CAPTURE):
        fields = json.loads(frame)
        if fields["type"] not in ("snapshot", "l2update"):
            continue
        product = fields["product_id"]
        both.decode(frame)
        if fields["type"] == "snapshot":
            plain[product] = {"buy": {}, "sell": {}}
            rows = [("buy", *r) for r in fields["bids"]] + [("sell", *r) for r in fields["asks"]]
        else:
            rows = fields["changes"]
        for side, price, size in rows:
            plain[product][side][to_fixed(price, 8)] = to_fixed(size, 8)
        top = [
            sorted(((p, s) for p, s in plain[product][side].items() if s), reverse=turned)[:10]
            for side, turned in (("buy", True), ("sell", False))
        ]
        assert both.c.book(product) == (True, *top), frame
        checked += 1
    assert checked == 8208
