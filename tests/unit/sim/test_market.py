from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import pytest

from mdsys._generator import BLOCK_EVENTS, NAME_SIZE_MAX, payloads
from mdsys.sim.dialects import find
from mdsys.sim.market import MarketSource, MarketView, RandomMarket
from tests.simulators import FormOnly

START_MS = 1_723_161_254_000
CHANNELS = ("trade", "bookTicker", "depth@100ms")
# The key orders of captured frames (2024-08-08).
KEYS = {
    "binance": {
        "trade": "e E s t p q T m M",
        "quote": "u s b B a A",
        "depth": "e E s U u b a",
    },
    "binance_usdm": {
        "trade": "e E T s t p q X m",
        "quote": "e u s b B a A T E",
        "depth": "e E T s U u pu b a",
    },
    "binance_coinm": {
        "trade": "e E T s t p q X m",
        "quote": "u e s ps b B a A T E",
        "depth": "e E T s ps U u pu b a",
    },
}
VENUES = tuple(KEYS)


def all_streams(spec: RandomMarket) -> list[str]:
    return [f"{name.lower()}@{channel}" for name in spec.names for channel in CHANNELS]


def open_view(
    spec: RandomMarket,
    venue: str = "binance",
    *,
    combined: bool = True,
    microseconds: bool = False,
    streams: list[str] | None = None,
) -> tuple[MarketSource, MarketView]:
    source = spec.open(find(venue))
    view = source.view(FormOnly(combined=combined, microseconds=microseconds))
    assert isinstance(view, MarketView)
    view.show_streams(all_streams(spec) if streams is None else streams)
    source.start()
    return source, view


def run(source: MarketSource, view: MarketView, events: int, block: int = BLOCK_EVENTS) -> bytes:
    """Return the frames of the next ``events`` events, taken ``block`` at a time."""
    out = []
    while events:
        count = min(events, block)
        source.native.advance(count)
        out += view.render()
        events -= count
    return b"".join(out)


def frames(
    spec: RandomMarket, venue: str = "binance", *, events: int, combined: bool = True
) -> list[dict[str, Any]]:
    source, view = open_view(spec, venue, combined=combined)
    return [json.loads(text) for text in payloads(run(source, view, events))]


def kind_of(data: dict[str, Any]) -> str:
    return {"trade": "trade", "depthUpdate": "depth"}.get(data.get("e", ""), "quote")


def by_symbol(found: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    split = defaultdict(list)
    for frame in found:
        split[frame["data"]["s"]].append(frame["data"])
    return split


MARKET = RandomMarket(40, seed=7, start_ms=START_MS)


@pytest.mark.parametrize("venue", VENUES)
class TestFrames:
    def test_frames_have_the_venues_keys_in_its_order(self, venue: str) -> None:
        seen = set()
        for frame in frames(MARKET, venue, events=5000):
            assert list(frame) == ["stream", "data"]
            data = frame["data"]
            kind = kind_of(data)
            assert " ".join(data) == KEYS[venue][kind]
            suffix = {"trade": "@trade", "quote": "@bookTicker", "depth": "@depth@100ms"}[kind]
            assert frame["stream"] == data["s"].lower() + suffix
            seen.add(kind)
        assert seen == {"trade", "quote", "depth"}

    def test_the_raw_form_is_the_data_of_the_combined_one(self, venue: str) -> None:
        texts = []
        for combined in (False, True):
            source, view = open_view(MARKET, venue, combined=combined)
            texts.append(payloads(run(source, view, 5000)))
        raw, wrapped = texts
        assert len(raw) == len(wrapped) > 4000
        for data, frame in zip(raw, wrapped, strict=True):
            stream = json.loads(frame)["stream"].encode()
            assert frame == b'{"stream":"%s","data":%s}' % (stream, data)

    def test_trade_ids_are_contiguous_per_symbol(self, venue: str) -> None:
        for history in by_symbol(frames(MARKET, venue, events=20_000)).values():
            ids = [data["t"] for data in history if kind_of(data) == "trade"]
            assert len(ids) > 50
            assert ids == list(range(ids[0], ids[0] + len(ids)))

    def test_depth_frames_chain(self, venue: str) -> None:
        for history in by_symbol(frames(MARKET, venue, events=20_000)).values():
            depth = [data for data in history if kind_of(data) == "depth"]
            assert len(depth) > 10
            for before, after in itertools.pairwise(depth):
                assert after["U"] <= after["u"]
                if venue == "binance":
                    assert after["U"] == before["u"] + 1
                else:
                    assert after["pu"] == before["u"] < after["U"]

    def test_quote_update_ids_rise(self, venue: str) -> None:
        for history in by_symbol(frames(MARKET, venue, events=20_000)).values():
            ids = [data["u"] for data in history if kind_of(data) == "quote"]
            assert ids == sorted(set(ids))

    def test_a_book_rebuilt_from_depth_frames_has_the_quoted_top(self, venue: str) -> None:
        compared = 0
        for history in by_symbol(frames(MARKET, venue, events=60_000)).values():
            books: dict[str, dict[Decimal, str]] = {"b": {}, "a": {}}
            quotes = {data["u"]: data for data in history if kind_of(data) == "quote"}
            for data in history:
                if kind_of(data) != "depth":
                    continue
                for side, book in books.items():
                    for price, size in data[side]:
                        book.pop(Decimal(price), None)
                        if Decimal(size):
                            book[Decimal(price)] = size
                bid, ask = max(books["b"]), min(books["a"])
                assert bid < ask
                assert len(books["b"]) == len(books["a"]) == 20
                if quote := quotes.get(data["u"]):
                    compared += 1
                    assert (Decimal(quote["b"]), quote["B"]) == (bid, books["b"][bid])
                    assert (Decimal(quote["a"]), quote["A"]) == (ask, books["a"][ask])
        assert compared > 500

    def test_prices_move_by_single_ticks_and_sizes_are_positive(self, venue: str) -> None:
        spec = RandomMarket(300, seed=3, start_ms=START_MS)
        moved = 0
        for history in by_symbol(frames(spec, venue, events=60_000)).values():
            quotes = [data for data in history if kind_of(data) == "quote"]
            moves = {
                abs(Decimal(after["b"]) - Decimal(before["b"]))
                for before, after in itertools.pairwise(quotes)
            } - {Decimal(0)}
            assert len(moves) <= 1
            moved += len(moves)
            for tick in moves:
                assert {(Decimal(quote["a"]) - Decimal(quote["b"])) / tick for quote in quotes} <= {
                    1,
                    2,
                }
            assert all(Decimal(quote["B"]) > 0 < Decimal(quote["A"]) for quote in quotes)
        assert moved > 290

    def test_counts_are_those_of_the_frames(self, venue: str) -> None:
        source, view = open_view(MARKET, venue)
        found = [json.loads(text)["data"] for text in payloads(run(source, view, 10_000))]
        assert view.frames == Counter(kind_of(data) for data in found)
        levels = sum(len(data["b"]) + len(data["a"]) for data in found if kind_of(data) == "depth")
        assert view.records == {
            "trade": view.frames["trade"],
            "quote": view.frames["quote"],
            "depth": levels,
        }


def test_spot_texts_have_eight_decimals_and_no_idle_zeros() -> None:
    spec = RandomMarket(300, seed=3, start_ms=START_MS)
    number = re.compile(r"(0|[1-9]\d*)\.\d{8}")
    whole_sizes = set()
    for frame in frames(spec, events=20_000):
        data = frame["data"]
        texts = [data[key] for key in "pqbBaA" if isinstance(data.get(key), str)]
        texts += [
            text for side in "ba" if kind_of(data) == "depth" for row in data[side] for text in row
        ]
        assert texts
        for text in texts:
            assert number.fullmatch(text), text
            whole_sizes.add(text.index("."))
    assert {1, 2, 3, 4, 5} <= whole_sizes


def test_usdm_texts_have_the_symbols_own_decimals() -> None:
    spec = RandomMarket(300, seed=3, start_ms=START_MS)
    for history in by_symbol(frames(spec, "binance_usdm", events=20_000)).values():
        quotes = [data for data in history if kind_of(data) == "quote"]
        for keys in ("ba", "BA"):
            decimals = {len(q[key].partition(".")[2]) for q in quotes for key in keys}
            assert len(decimals) == 1
            assert not any(q[key].endswith(".") for q in quotes for key in keys)


def test_the_mix_is_as_asked() -> None:
    source, view = open_view(RandomMarket(10, seed=1, start_ms=START_MS, mix=(20, 80, 0)))
    run(source, view, 50_000)
    assert view.frames["depth"] == 0
    assert view.frames["trade"] == pytest.approx(10_000, rel=0.05)


@pytest.mark.parametrize("mix", [(30, 60, 10), (0, 100, 0)])
def test_prices_wander_with_and_without_depth_frames(mix: tuple[int, int, int]) -> None:
    spec = RandomMarket(["ABC"], seed=1, start_ms=START_MS, mix=mix)
    found = [frame["data"] for frame in frames(spec, events=20_000)]
    bids = {data["b"] for data in found if kind_of(data) == "quote"}
    assert len(bids) > 30


@pytest.mark.parametrize("combined", [False, True])
@pytest.mark.parametrize("venue", VENUES)
def test_block_sizes_do_not_change_a_byte(venue: str, combined: bool) -> None:
    whole = run(*open_view(MARKET, venue, combined=combined), 5000)
    assert whole == run(*open_view(MARKET, venue, combined=combined), 5000, block=1)
    assert whole == run(*open_view(MARKET, venue, combined=combined), 5000, block=77)
    other = RandomMarket(40, seed=8, start_ms=START_MS)
    assert whole != run(*open_view(other, venue, combined=combined), 5000)


def test_a_block_larger_than_its_buffer_comes_in_pieces_and_whole() -> None:
    streams = [f"sym000000@depth{speed}" for speed in ("", "@100ms", "@250ms", "@500ms", "@0ms")]
    spec = RandomMarket(1, seed=1, start_ms=START_MS, mix=(0, 0, 100))
    source, view = open_view(spec, streams=streams)
    source.native.advance(BLOCK_EVENTS)
    blocks = view.render()
    assert len(blocks) > 1
    texts = [text for block in blocks for text in payloads(block)]
    assert [json.loads(text)["stream"] for text in texts] == streams * BLOCK_EVENTS
    assert view.frames["depth"] == 5 * BLOCK_EVENTS


def test_a_subscription_is_a_filter_and_does_not_move_the_market() -> None:
    wanted = ["sym000003@trade", "sym000005@depth@100ms"]
    source, view = open_view(MARKET, streams=wanted)
    few = payloads(run(source, view, 20_000))
    source, view = open_view(MARKET)
    everything = payloads(run(source, view, 20_000))
    assert few == [text for text in everything if json.loads(text)["stream"] in wanted]
    assert few


def test_ids_jump_by_what_an_unsubscribed_client_missed() -> None:
    source, view = open_view(RandomMarket(1, seed=1, start_ms=START_MS, mix=(100, 0, 0)))
    first = json.loads(payloads(run(source, view, 10))[-1])["data"]["t"]
    view.show_streams([])
    assert run(source, view, 500) == b""
    view.show_streams(["sym000000@trade"])
    assert json.loads(payloads(run(source, view, 1))[0])["data"]["t"] == first + 501


def test_times_follow_the_schedule() -> None:
    spec = RandomMarket(1, rate=300, seed=1, start_ms=START_MS, mix=(100, 0, 0))
    found = frames(spec, events=900)
    expected = [START_MS + index * 1000 // 300 for index in range(900)]
    assert [frame["data"]["E"] for frame in found] == expected
    assert [frame["data"]["T"] for frame in found] == [time - 1 for time in expected]


def test_times_can_be_microseconds() -> None:
    spec = RandomMarket(1, rate=300, seed=1, start_ms=START_MS, mix=(100, 0, 0))
    source, view = open_view(spec, microseconds=True)
    found = [json.loads(text)["data"]["E"] for text in payloads(run(source, view, 900))]
    assert found == [START_MS * 1000 + index * 10**6 // 300 for index in range(900)]


def test_events_are_due_by_the_rate_and_end_at_the_limit() -> None:
    spec = RandomMarket(1, rate=300, seed=1, start_ms=START_MS, events_max=700)
    source, view = open_view(spec)
    due = []
    while (due_ns := source.due_ns()) is not None:
        source.advance(due_ns - 1)
        assert view.render() == []
        source.advance(due_ns)
        assert len(payloads(b"".join(view.render()))) == 1
        due.append(due_ns)
    assert due == [math.ceil(index * 10**9 / 300) for index in range(700)]
    source.advance(None)
    assert view.render() == []


@pytest.mark.parametrize("size", [1, 31, 32, 33, NAME_SIZE_MAX])
def test_names_of_every_length_appear_in_both_cases(size: int) -> None:
    name = ("1000Shib_" * 6)[:size]
    spec = RandomMarket([name], seed=1, start_ms=START_MS)
    for frame in frames(spec, events=100):
        assert frame["data"]["s"] == name.upper()
        assert frame["stream"].startswith(name.lower() + "@")


@pytest.mark.parametrize(
    "spec",
    [
        RandomMarket(0),
        RandomMarket(1, rate=0),
        RandomMarket(1, rate=10**9 + 1),
        RandomMarket(1, mix=(50, 60, 0)),
        RandomMarket(1, mix=(110, -10, 0)),
        RandomMarket([""]),
        RandomMarket(["A" * (NAME_SIZE_MAX + 1)]),
        RandomMarket(['A"B']),
        RandomMarket(["A\nB"]),
        RandomMarket(["ÄB"]),
        RandomMarket(["AB", "ab"]),
    ],
)
def test_impossible_markets_are_refused(spec: RandomMarket) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        spec.open(find("binance"))


def test_a_time_without_thirteen_digits_is_refused() -> None:
    source = RandomMarket(1, start_ms=10**12).open(find("binance"))
    with pytest.raises(ValueError, match="2001"):
        source.start()
