"""The C decoder against the plain-Python one on generated, spoilt and truncated frames."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mdsys.feed.frame import FrameResult
from mdsys.record.record import Flag
from tests.binance_frames import DEPTH, QUOTE, SYMBOLS, TRADE, BothDecoders, combined, edited

WORDS = st.sampled_from(
    ["", "0", "1", "+1", "-1", ".5", "1.", "1e-7", "1.5E3", "abc", "1e99", " 1"]
)
NUMBER_TEXTS = st.one_of(
    st.from_regex(r"[0-9]{1,10}(\.[0-9]{1,9})?", fullmatch=True),
    st.from_regex(r"[0-9]{1,5}\.[0-9]{8}", fullmatch=True),
    WORDS,
    st.sampled_from(["0." + "0" * 100, "1" * 127, "1" * 128, "9223372036854775807", "\uff11.5"]),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
PRICES = st.one_of(NUMBER_TEXTS, st.floats(0, 1e6), st.integers(0, 10**12))
IDS = st.one_of(
    st.integers(1, 12), st.integers(0, 2**64), st.sampled_from([0, 2**63 - 2, 2**63 - 1, 10**16])
)
TIMES = st.one_of(st.integers(1600000000000, 1800000000000), st.integers(0, 10**17))
ROWS = st.lists(
    st.one_of(st.tuples(PRICES, PRICES), st.tuples(PRICES, PRICES), st.lists(ANYTHING, max_size=3)),
    max_size=24,
)
NAMES = st.one_of(st.sampled_from(list(SYMBOLS)), st.sampled_from(["NOSUCH", "", "BTCUSDT "]))
EVENTS = st.sampled_from(
    ["trade", "bookTicker", "depthUpdate", "depthUpdate", "serverShutdown", "kline", ""]
)
FIELDS = {
    "e": EVENTS, "E": TIMES, "T": TIMES, "s": NAMES, "t": IDS, "p": PRICES, "q": PRICES,
    "m": st.booleans(), "M": st.booleans(), "u": IDS, "U": IDS, "pu": IDS, "B": PRICES, "A": PRICES,
    "X": st.sampled_from(["MARKET", "NA", "ADL", "INSURANCE_FUND", "?"]),
}  # fmt: skip
ORDERS = [tuple(json.loads(f[futures])) for f in (TRADE, QUOTE, DEPTH) for futures in (False, True)]


JSON = [
    *(b"0", b"-0", b"1.5e+5", b"0.0E-0", b"1E9999", b"9" * 400, b"true", b"false", b"null"),
    *(b'""', b'"\x7f"', b'"\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000"', b'"\\ud83d\\ude00"', b'"\\uFFFF"'),
    *(
        b'"\xc2\x80"',
        b'"\xe0\xa0\x80"',
        b'"\xed\x9f\xbf"',
        b'"\xf0\x90\x80\x80"',
        b'"\xf4\x8f\xbf\xbf"',
    ),
    *(b"[]", b"{}", b"[ ]", b"{ }", b'[{"a":[]},[1 , 2]]', b'{"a":{},"a":{"":0}}'),
    b'"' + b"[" * 99 + b'"',
]
NO_JSON = [
    *(b"", b"01", b"-01", b"1.", b".5", b"1e", b"1e+", b"-", b"+1", b"1.2.3", b"0x1", b"NaN"),
    *(
        b"Infinity",
        b"tru",
        b"True",
        b"nul",
        b"nulll",
        b"'a'",
        b"a",
        b'"',
        b'"\\"',
        b'"\x00"',
        b'"\x1f"',
    ),
    *(b'"\\x"', b'"\\u12g4"', b'"\\u123"', b'"\\ud800"', b'"\\udc00"', b'"\\ud800\\ud800"'),
    *(
        b'"\\ud800x\\udc00"',
        b'"\\ud800\\u0041"',
        b'"\\udbff\\ue000"',
        b'"\xff"',
        b'"\x80"',
        b'"\xc0\xaf"',
    ),
    *(
        b'"\xc1\xbf"',
        b'"\xc3("',
        b'"\xe0\x9f\xbf"',
        b'"\xed\xa0\x80"',
        b'"\xe4\xb8"',
        b'"\xe4\xb8("',
    ),
    *(b'"\xf0\x8f\xbf\xbf"', b'"\xf4\x90\x80\x80"', b'"\xf5\x80\x80\x80"', b'"\xf0\x90\x80"'),
    *(
        b"[",
        b"]",
        b"{",
        b"[1,]",
        b"[,1]",
        b"[1 2]",
        b"[1;2]",
        b"{1:2}",
        b'{"a"}',
        b'{"a":}',
        b'{"a":1,}',
    ),
    *(b'{"a" 1}', b'{"a":1 "b":2}', b"[}", b"{]", b'[{"a":1]}', b"1\x0c", b"\xc2\xa01", b"\xff"),
]


ODD_NAMES = [
    *(
        b"",
        b"A\\B",
        b"A\\\\B",
        b"\\q",
        b"\\u0041",
        b"B\\u0054CUSDT",
        b"\\ud800",
        b"\\",
        b'"',
        b"a\tb",
    ),
    *(b"\x7f", b"\x80", b"\xc3\xa9", b"\xff", b" ", b"!", b"#", b"B" * 63, b"B" * 64, b"B" * 300),
]


ODD_NUMBERS = [
    *(b"", b"0", b"00", b"01", b"00000000", b"000000001", b"0000000000000", b"0723161255343"),
    *(
        b"-1",
        b"+1",
        b"1.0",
        b"1.",
        b".1",
        b"1e3",
        b"9" * 7,
        b"9" * 8,
        b"9" * 9,
        b"9" * 12,
        b"8" * 13,
    ),
    *(b"9" * 13, b"1" * 14, b"1" * 15, b"1" * 16, b"9" * 16, b"1" * 17, b"1" * 19, b"9" * 19),
    *(b"9223372036854775806", b"9223372036854775807", b"1" * 20, b"1" * 400, b"12:", b"1/", b"1 "),
    *(b"1.12345678", b"1.123456780", b"1.123456789", b"12345678.5", b"0123456789012345.5", b"1.:"),
]
"""What may stand where a venue sends a number; most of it is refused."""


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Draw frames of every kind: in the venue's order or none, whole or spoilt in some value."""
    keys = list(draw(st.sampled_from(ORDERS)))
    event = "trade" if "t" in keys else "depthUpdate" if "U" in keys else "bookTicker"
    fields: dict[str, Any] = {}
    for key in keys:
        if key in "ba":
            fields[key] = draw(ROWS if event == "depthUpdate" else PRICES)
        else:
            fields[key] = event if key == "e" else draw(FIELDS[key])
    if event == "depthUpdate" and draw(st.booleans()):
        fields["U"], fields["u"] = sorted((fields["U"], fields["u"]))
    if draw(st.booleans()):  # as the venue would never send it
        key = draw(st.sampled_from([*FIELDS, "b", "a", "id", "data", "zz"]))
        fields[key] = draw(ANYTHING)
        order = draw(st.permutations(list(fields)))
        fields = {key: fields[key] for key in order}
    if draw(st.booleans()):
        fields = {"stream": draw(st.text(max_size=20)), "data": fields}
    indent = draw(st.sampled_from([None, None, None, 1]))
    ascii_only = draw(st.booleans())
    separators = draw(st.sampled_from([(",", ":"), (",", ":"), (" ,", " : ")]))
    text = json.dumps(fields, indent=indent, separators=separators, ensure_ascii=ascii_only)
    return text.encode("utf-8", "surrogatepass")


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """Draw frames with a few bytes changed, lost or doubled."""
    frame = bytearray(draw(messages()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(frame) - 1, 0)))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            del frame[at:]
        elif kind == 1 and frame:
            frame[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == 2:
            frame[at:at] = draw(st.binary(min_size=1, max_size=4))
        elif kind == 3:
            del frame[at : at + draw(st.integers(1, 8))]
        else:
            frame[at:at] = frame[at : at + draw(st.integers(1, 40))]
    return bytes(frame)


@pytest.mark.parametrize("futures", [False, True], ids=["spot", "usdm"])
class TestBothAgree:
    @settings(max_examples=150, deadline=None)
    @given(frames=st.lists(messages(), min_size=1, max_size=4))
    def test_on_generated_frames(self, futures: bool, frames: list[bytes]) -> None:
        both = BothDecoders(futures=futures, depth=64)
        for frame in frames:
            both.decode(frame)

    @settings(max_examples=150, deadline=None)
    @given(frame=spoilt())
    @example(frame=b'{"\\u0065":"kline"}')
    @example(frame=b'{"e":"\\ud800"}')
    @example(frame=b'{"\xe5":"kline"}')
    def test_on_spoilt_frames(self, futures: bool, frame: bytes) -> None:
        BothDecoders(futures=futures, depth=64).decode(frame)

    @pytest.mark.parametrize("value", JSON, ids=lambda value: repr(value[:20]))
    def test_on_json_that_is_legal(self, futures: bool, value: bytes) -> None:
        both = BothDecoders(futures=futures)
        frame = QUOTE[futures][:-1] + b',"zz":' + value + b"}"
        assert both.decode(frame) == FrameResult.OK
        assert both.decode(combined(frame[:-1] + b"\n}\t")) == FrameResult.OK

    @pytest.mark.parametrize("wrap", [bytes, combined], ids=["raw", "combined"])
    def test_on_nesting_up_to_the_limit_and_beyond(
        self, futures: bool, wrap: Callable[[bytes], bytes]
    ) -> None:
        both = BothDecoders(futures=futures)
        own = 1 if wrap is bytes else 2
        for levels, result in ((64, FrameResult.OK), (65, FrameResult.MALFORMED)):
            inner = levels - own
            for value in (b"[" * inner + b"]" * inner, b'{"x":' * inner + b"0" + b"}" * inner):
                frame = QUOTE[futures][:-1] + b',"zz":' + value + b"}"
                assert both.decode(wrap(frame)) == result

    @pytest.mark.parametrize("value", NO_JSON, ids=lambda value: repr(value[:20]))
    def test_on_json_that_is_not(self, futures: bool, value: bytes) -> None:
        both = BothDecoders(futures=futures)
        frame = QUOTE[futures][:-1] + b',"zz":' + value + b"}"
        assert both.decode(frame) == FrameResult.MALFORMED
        assert both.decode(combined(frame)) == FrameResult.MALFORMED

    @pytest.mark.parametrize("kind", [TRADE, QUOTE, DEPTH], ids=["trade", "quote", "depth"])
    @pytest.mark.parametrize("wrap", [bytes, combined], ids=["raw", "combined"])
    def test_on_every_truncation(
        self, futures: bool, kind: dict[bool, bytes], wrap: Callable[[bytes], bytes]
    ) -> None:
        both = BothDecoders(futures=futures)
        frame = wrap(kind[futures])
        for size in range(len(frame)):
            assert both.decode(frame[:size]) == FrameResult.MALFORMED
        assert both.decode(frame) == FrameResult.OK

    @pytest.mark.parametrize("kind", [TRADE, QUOTE, DEPTH], ids=["trade", "quote", "depth"])
    def test_on_odd_names_of_stream_and_symbol(
        self, futures: bool, kind: dict[bool, bytes]
    ) -> None:
        for name in ODD_NAMES:
            both = BothDecoders(futures=futures)
            both.decode(b'{"stream":"' + name + b'","data":' + kind[futures] + b"}")
            both.decode(kind[futures].replace(b"BTCUSDT", name))

    @pytest.mark.parametrize("kind", [TRADE, QUOTE, DEPTH], ids=["trade", "quote", "depth"])
    def test_on_odd_numbers_in_every_place(self, futures: bool, kind: dict[bool, bytes]) -> None:
        frame = kind[futures]
        for match in re.finditer(rb"[0-9]+(\.[0-9]+)?", frame):
            for number in ODD_NUMBERS:
                both = BothDecoders(futures=futures)
                both.decode(frame[: match.start()] + number + frame[match.end() :])

    @pytest.mark.parametrize("kind", [TRADE, QUOTE, DEPTH], ids=["trade", "quote", "depth"])
    def test_on_every_bit_flip(self, futures: bool, kind: dict[bool, bytes]) -> None:
        both = BothDecoders(futures=futures)
        frame = combined(kind[futures])
        for at in range(len(frame)):
            for bit in range(8):
                flipped = bytearray(frame)
                flipped[at] ^= 1 << bit
                both.decode(bytes(flipped))

    @pytest.mark.parametrize("kind", [TRADE, QUOTE, DEPTH], ids=["trade", "quote", "depth"])
    def test_on_blanks_between_any_two_tokens(self, futures: bool, kind: dict[bool, bytes]) -> None:
        frame = combined(kind[futures])
        plain = BothDecoders(futures=futures)
        plain.decode(frame)
        for at, byte in enumerate(frame):
            if byte in b"{}[]:,":
                both = BothDecoders(futures=futures)
                assert both.decode(frame[:at] + b" \n" + frame[at:]) == FrameResult.OK
                assert both.records == plain.records

    @pytest.mark.parametrize("count", [15, 16, 17, 31, 32, 33, 48, 60])
    @pytest.mark.parametrize("gap", [False, True])
    def test_on_frames_that_go_out_in_pieces(self, futures: bool, count: int, gap: bool) -> None:
        both = BothDecoders(futures=futures, depth=64)
        both.decode(edited(DEPTH[futures], U=1, u=1, pu=0, b=[], a=[]))
        rows = [[f"{i}.25", f"{i}"] for i in range(count)]
        first = 9 if gap else 2
        frame = edited(DEPTH[futures], U=first, u=10, pu=first - 1, b=rows[:7], a=rows[7:])
        assert both.decode(frame) == FrameResult.OK
        assert len(both.records) == count + gap
        last = [bool(record.flags & Flag.LAST) for record in both.records[gap:]]
        assert last == [False] * (count - 1) + [True]
