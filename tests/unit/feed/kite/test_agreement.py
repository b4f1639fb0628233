"""The C decoder against the plain-Python one on generated, spoilt and truncated frames."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mdsys.feed.frame import FrameResult
from tests.kite_frames import CHANNELS, SIZES, SYMBOLS, BothDecoders, frame, packet

TOKENS = st.sampled_from([*(int.from_bytes(each, "big") for each in SYMBOLS), 0, 4711])
WORDS = st.one_of(st.integers(0, 300), st.integers(-(2**31), 2**32 - 1), st.sampled_from([0, 100]))
ROWS = st.lists(
    st.tuples(
        st.one_of(st.just(0), st.integers(0, 2**32 - 1)),
        st.one_of(st.integers(0, 1000), st.integers(-(2**31), 2**31 - 1)),
        st.integers(0, 65535),
    ),
    max_size=10,
)
FIELDS = {
    "ltp": ["last_price"],
    "index quote": ["last_price", "high", "close"],
    "index full": ["last_price", "high", "exchange_timestamp"],
    "quote": ["last_price", "last_quantity", "volume"],
    "full": [
        "last_price",
        "last_quantity",
        "volume",
        "oi",
        "last_trade_time",
        "exchange_timestamp",
    ],
}
WANTED = st.lists(st.sampled_from(CHANNELS), unique=True)


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """Draw a packet of some mode, or bytes that are none."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    mode = draw(st.sampled_from(list(SIZES)))
    fields = {name: draw(WORDS) for name in FIELDS[mode]}
    rows = draw(ROWS) if mode == "full" else []
    return packet(mode, draw(TOKENS), rows, **fields)


FRAMES = st.lists(packets(), max_size=6).map(lambda each: frame(*each))


@settings(max_examples=400, deadline=None)
@given(messages=st.lists(FRAMES, min_size=1, max_size=4), channels=WANTED)
def test_both_agree_on_generated_frames(messages: list[bytes], channels: list[str]) -> None:
    both = BothDecoders(channels, depth=64)
    for message in messages:
        both.decode(message)


@settings(max_examples=400, deadline=None)
@given(message=FRAMES, at=st.integers(0, 400), byte=st.integers(0, 255), cut=st.integers(0, 400))
def test_both_agree_on_spoilt_frames(message: bytes, at: int, byte: int, cut: int) -> None:
    spoilt = bytearray(message)
    spoilt[at % len(spoilt)] = byte
    both = BothDecoders(depth=64)
    both.decode(bytes(spoilt))
    both.decode(bytes(spoilt[: cut % len(spoilt)]))
    both.decode(bytes(spoilt) + bytes([byte]))


@settings(max_examples=200, deadline=None)
@given(message=st.binary(max_size=600))
def test_both_agree_on_noise(message: bytes) -> None:
    BothDecoders(depth=64).decode(message)


def test_both_agree_on_every_truncation() -> None:
    both = BothDecoders()
    message = frame(*(packet(mode, token) for mode in SIZES for token in (408065, 256265)))
    assert both.decode(message) == FrameResult.OK
    for size in range(len(message)):
        expected = FrameResult.OK if size == 1 else FrameResult.MALFORMED
        assert both.decode(message[:size]) == expected
