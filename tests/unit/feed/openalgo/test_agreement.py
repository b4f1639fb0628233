"""The C decoder against the plain-Python one on generated, spoilt and truncated frames."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdsys.feed.frame import FrameResult
from tests.openalgo_frames import CHANNELS, DEPTH, QUOTE, SYMBOLS, BothDecoders, edited

NUMBERS = st.one_of(
    st.integers(-5, 10**6),
    st.decimals(0, 10**6, places=2).map(float),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["1.5", "", "abc", "1e3", ".5", " 1", "\uff19", "1\\u0030", '"', None, 0]),
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5))
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
ROW = st.one_of(
    st.fixed_dictionaries(
        {"price": NUMBERS, "quantity": NUMBERS}, optional={"orders": NUMBERS, "zz": ANYTHING}
    ),
    st.builds(lambda p, q: {"price": p, "quantity": q}, st.integers(1, 50), st.integers(0, 9)),
)
SIDE = st.one_of(st.lists(ROW, max_size=6), st.lists(st.one_of(ROW, ANYTHING), max_size=3))
DEPTHS = st.one_of(
    st.fixed_dictionaries({}, optional={"buy": SIDE, "sell": SIDE, "zz": ANYTHING}),
    ANYTHING,
)
TIMES = st.one_of(st.integers(0, 2 * 10**18), st.integers(1_700_000_000_000, 1_800_000_000_000))
DATA = st.fixed_dictionaries(
    {},
    optional={
        "ltp": NUMBERS, "volume": NUMBERS, "last_quantity": NUMBERS, "ltq": NUMBERS,
        "last_trade_quantity": NUMBERS, "oi": NUMBERS, "open_interest": NUMBERS,
        "timestamp": st.one_of(TIMES, ANYTHING), "depth": DEPTHS, "symbol": ANYTHING,
    },
)  # fmt: skip
NAMES = st.sampled_from([*SYMBOLS, "NSE:NONE", "NSE:SBIN"])


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Draw frames of every kind, in any order of keys, or spoilt in some value."""
    exchange, _, symbol = draw(NAMES).partition(":")
    kind = draw(st.sampled_from(["market_data"] * 9 + ["subscribe"]))
    fields: dict[str, Any] = {
        "type": kind, "symbol": symbol, "exchange": exchange, "mode": 3, "data": draw(DATA)
    }  # fmt: skip
    if draw(st.integers(0, 4)) == 0:
        key = draw(st.sampled_from(["type", "status", "symbol", "exchange", "data", "zz"]))
        fields[key] = draw(ANYTHING)
        fields = {key: fields[key] for key in draw(st.permutations(list(fields)))}
    ascii_only = draw(st.booleans())
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :\n")]))
    text = json.dumps(fields, separators=separators, ensure_ascii=ascii_only)
    return text.encode("utf-8", "surrogatepass")


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """Draw frames with a few bytes changed, lost or doubled."""
    frame = bytearray(draw(st.one_of(messages(), st.just(DEPTH))))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(frame) - 1, 0)))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            del frame[at : at + draw(st.integers(1, 30))]
        elif kind == 1 and frame:
            frame[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == 2:
            frame[at:at] = draw(st.sampled_from([b'"', b"{", b"]", b",", b"null", b"\\", b"\xff"]))
        else:
            frame[at:at] = frame[at : at + draw(st.integers(1, 60))]
    return bytes(frame)


@settings(max_examples=600, deadline=None)
@given(
    frames=st.lists(messages(), min_size=1, max_size=4), channels=st.sets(st.sampled_from(CHANNELS))
)
def test_both_agree_on_generated_frames(frames: list[bytes], channels: set[str]) -> None:
    both = BothDecoders(channels, depth=64)
    for frame in frames:
        both.decode(frame)


@settings(max_examples=600, deadline=None)
@given(frame=spoilt())
def test_both_agree_on_spoilt_frames(frame: bytes) -> None:
    BothDecoders(depth=64).decode(frame)


@pytest.mark.parametrize("frame", [QUOTE, DEPTH], ids=["quote", "depth"])
def test_both_agree_on_every_truncation_and_bit_flip(frame: bytes) -> None:
    both = BothDecoders()
    for size in range(len(frame)):
        assert both.decode(frame[:size]) == FrameResult.MALFORMED
    for at in range(len(frame)):
        for bit in range(8):
            flipped = bytearray(frame)
            flipped[at] ^= 1 << bit
            both.decode(bytes(flipped))


@pytest.mark.parametrize("place", ["top", "data", "depth", "row"])
def test_both_agree_on_nesting_up_to_the_limit_and_beyond(place: str) -> None:
    own = {"top": 1, "data": 2, "depth": 3, "row": 5}[place]
    before = {
        "top": b'"type"', "data": b'"ltp"', "depth": b'"buy"', "row": b'"price"'
    }[place]  # fmt: skip
    for levels, result in ((64, FrameResult.OK), (65, FrameResult.MALFORMED)):
        inner = levels - own
        for value in (b"[" * inner + b"]" * inner, b'{"x":' * inner + b"0" + b"}" * inner):
            frame = DEPTH.replace(before, b'"zz":' + value + b"," + before, 1)
            assert BothDecoders().decode(frame) == result


def test_both_agree_on_frames_that_go_out_in_pieces() -> None:
    levels = [{"price": i + 1, "quantity": 1, "orders": 1} for i in range(60)]
    for count in (15, 16, 17, 31, 32, 33):
        both = BothDecoders(["book"], depth=64)
        depth = {"buy": levels[:7], "sell": levels[7:count]}
        assert both.decode(edited(DEPTH, depth=depth)) == FrameResult.OK
        assert len(both.records) == count
