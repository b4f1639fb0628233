"""The C decoders against the plain-Python ones on generated, spoilt and truncated frames."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mdsys.feed.frame import FrameResult
from tests.kraken_frames import DATA, DATA_V1, SYMBOLS, BothDecoders, book, checksum

VERSIONS = pytest.mark.parametrize("v1", [False, True], ids=["v2", "v1"])
FRAMES = {False: DATA, True: DATA_V1}
KINDS = [
    pytest.param(v1, kind, id=f"{'v1' if v1 else 'v2'}-{kind}")
    for v1 in FRAMES
    for kind in FRAMES[v1]
]

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)  # fmt: skip
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


class Bare(str):
    """What goes into JSON as it stands: a number with the zeros at its end."""


def dumped(value: Any, separators: tuple[str, str], *, ascii_only: bool) -> str:
    """Return JSON of ``value``."""
    comma, colon = separators
    if isinstance(value, Bare):
        return str(value)
    if isinstance(value, dict):
        parts = (
            json.dumps(key, ensure_ascii=ascii_only)
            + colon
            + dumped(each, separators, ascii_only=ascii_only)
            for key, each in value.items()
        )
        return "{" + comma.join(parts) + "}"
    if isinstance(value, list | tuple):
        parts = (dumped(each, separators, ascii_only=ascii_only) for each in value)
        return "[" + comma.join(parts) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


NUMBER_TEXTS = st.one_of(
    st.from_regex(r"(0|[1-9][0-9]{0,5})(\.[0-9]{1,9})?", fullmatch=True),
    st.from_regex(r"[1-9]\.[0-9]{1,3}[eE][+-]?[0-9]{1,2}", fullmatch=True),
    st.sampled_from(["0", "0.0", "-1", "-0.0", "1e-8", "1E+3", "9223372036854775807", "1e999999"]),
    st.sampled_from(
        ["0." + "0" * 100, "1" * 30, "0e-99999999999", "1." + "0" * 40, "92233720368.5"]
    ),
)
NUMBERS = st.builds(Bare, NUMBER_TEXTS)
IDS = st.one_of(
    st.integers(1, 12), st.integers(0, 2**64), st.sampled_from([0, 2**63 - 2, 2**63 - 1])
)
TIMES = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.sampled_from(["2026-10-06T18:06:02.264627814Z", "2026-10-06T18:07:00+05:30", "", "now"]),
)
MINUTES = st.integers(0, 9).map(lambda minute: f"2026-10-06T18:{minute:02}:00.000000000Z")
NAMES = st.one_of(st.sampled_from(list(SYMBOLS)), st.sampled_from(["NO/SUCH", "", "BTC/USD "]))
ROWS = st.lists(
    st.one_of(
        st.fixed_dictionaries({"price": NUMBERS, "qty": NUMBERS}),
        st.fixed_dictionaries({"price": NUMBERS, "qty": NUMBERS}),
        ANYTHING,
    ),
    max_size=40,
)
ITEMS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "trade": {
        "symbol": NAMES, "side": st.sampled_from(["buy", "sell", "BUY"]), "price": NUMBERS,
        "qty": NUMBERS, "ord_type": st.sampled_from(["limit", "market", "x"]), "trade_id": IDS,
        "timestamp": TIMES,
    },
    "book": {
        "symbol": NAMES, "bids": ROWS, "asks": ROWS, "checksum": st.integers(0, 2**32),
        "timestamp": TIMES,
    },
    "ticker": {
        "symbol": NAMES, "bid": NUMBERS, "bid_qty": NUMBERS, "ask": NUMBERS, "ask_qty": NUMBERS,
        "last": NUMBERS | st.none(), "volume": NUMBERS, "timestamp": TIMES,
    },
    "ohlc": {
        "symbol": NAMES, "open": NUMBERS, "high": NUMBERS, "low": NUMBERS, "close": NUMBERS,
        "trades": st.integers(0, 2**63), "volume": NUMBERS, "vwap": NUMBERS,
        "interval_begin": MINUTES, "interval": st.sampled_from([1, 1, 5, 0, 1_000_001]),
    },
}  # fmt: skip


def written(draw: st.DrawFn, value: Any) -> bytes:
    """Return JSON in one of several layouts."""
    separators = draw(st.sampled_from([(",", ":"), (",", ":"), (" ,\n", " : ")]))
    text = dumped(value, separators, ascii_only=draw(st.booleans()))
    return text.encode("utf-8", "surrogatepass")


def spoil(draw: st.DrawFn, fields: dict[str, Any]) -> dict[str, Any]:
    """Return an object as it is, or as the venue would never send it."""
    if not draw(st.booleans()):
        return fields
    fields = dict(fields)
    key = draw(st.sampled_from([*fields, "zz", "method", "error"]))
    if draw(st.booleans()):
        fields[key] = draw(ANYTHING)
    else:
        fields.pop(key, None)
    return {key: fields[key] for key in draw(st.permutations(list(fields)))}


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Draw v2 frames of every kind: in the venue's order or none, whole or spoilt."""
    channel = draw(st.sampled_from(list(ITEMS)))
    items = draw(st.lists(st.fixed_dictionaries(ITEMS[channel]), min_size=1, max_size=3))
    fields = {
        "channel": channel,
        "type": draw(st.sampled_from(["snapshot", "update", "update"])),
        "data": [spoil(draw, item) if draw(st.booleans()) else item for item in items],
    }
    return written(draw, spoil(draw, fields) if draw(st.booleans()) else fields)


QUOTED = NUMBER_TEXTS | st.sampled_from(["", "1.", ".5", "+1", "abc", "1e", " 1", "\uff11"])
SECONDS = st.sampled_from(["1618678134.071506", "1618678134", "0", "1e9", "-1", "9" * 12, "x"])
ROWS_V1 = st.lists(
    st.one_of(
        st.tuples(QUOTED, QUOTED, SECONDS),
        st.tuples(NUMBER_TEXTS, NUMBER_TEXTS, st.just("1618678134.071506"), st.just("r")),
        ANYTHING,
    ),
    max_size=30,
)
CRCS = st.integers(0, 2**32).map(str)
PAYLOADS_V1: dict[str, st.SearchStrategy[Any]] = {
    "book-10": st.one_of(
        st.fixed_dictionaries({"as": ROWS_V1, "bs": ROWS_V1}),
        st.fixed_dictionaries({}, optional={"a": ROWS_V1, "b": ROWS_V1, "c": CRCS, "as": ROWS_V1}),
    ),
    "trade": st.lists(
        st.one_of(
            st.tuples(
                NUMBER_TEXTS, NUMBER_TEXTS, SECONDS, st.sampled_from("bs"), st.sampled_from("lmx")
            ),
            ANYTHING,
        ),
        max_size=3,
    ),
    "ticker": st.fixed_dictionaries(
        {
            "a": st.tuples(NUMBER_TEXTS, st.integers(), QUOTED),
            "b": st.tuples(NUMBER_TEXTS, st.integers(), NUMBER_TEXTS),
            "c": st.tuples(NUMBER_TEXTS, NUMBER_TEXTS),
            "v": st.lists(NUMBER_TEXTS, min_size=1, max_size=3),
        }
    ),
}


@st.composite
def messages_v1(draw: st.DrawFn) -> bytes:
    """Draw v1 frames of every kind, some with one payload too many."""
    channel = draw(st.sampled_from(list(PAYLOADS_V1)))
    payloads = draw(st.lists(PAYLOADS_V1[channel], min_size=1, max_size=2))
    payloads = [
        spoil(draw, each) if isinstance(each, dict) and draw(st.booleans()) else each
        for each in payloads
    ]
    return written(draw, [draw(st.integers()), *payloads, channel, draw(NAMES)])


MESSAGES = {False: messages(), True: messages_v1()}


@st.composite
def spoilt(draw: st.DrawFn, *, v1: bool) -> bytes:
    """Draw frames with a few bytes changed, lost or doubled."""
    frame = bytearray(draw(st.one_of(MESSAGES[v1], st.sampled_from(list(FRAMES[v1].values())))))
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


@VERSIONS
class TestBothAgree:
    @settings(max_examples=80, deadline=None)
    @given(data=st.data())
    def test_on_generated_frames(self, v1: bool, data: st.DataObject) -> None:
        both = BothDecoders(v1=v1)
        for frame in data.draw(st.lists(MESSAGES[v1], min_size=1, max_size=4)):
            both.decode(frame)

    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_on_spoilt_frames(self, v1: bool, data: st.DataObject) -> None:
        BothDecoders(v1=v1).decode(data.draw(spoilt(v1=v1)))


@pytest.mark.parametrize(("v1", "kind"), KINDS)
class TestBothAgreeOnEveryKind:
    def test_on_every_truncation(self, v1: bool, kind: str) -> None:
        both = BothDecoders(v1=v1)
        frame = FRAMES[v1][kind]
        for size in range(len(frame)):
            assert both.decode(frame[:size]) == FrameResult.MALFORMED
        assert both.decode(frame) == FrameResult.OK

    def test_on_every_bit_flip(self, v1: bool, kind: str) -> None:
        both = BothDecoders(v1=v1)
        frame = FRAMES[v1][kind]
        for at in range(len(frame)):
            for bit in range(8):
                flipped = bytearray(frame)
                flipped[at] ^= 1 << bit
                both.decode(bytes(flipped), ts_recv=at)

    def test_on_odd_numbers_in_every_place(self, v1: bool, kind: str) -> None:
        frame = FRAMES[v1][kind]
        odd = [
            *(b"", b"0", b"00", b"01", b"-1", b"+1", b"1.", b".1", b"1e3", b"1E-3", b"1.0e0"),
            *(b"9" * 19, b"1" * 20, b"9223372036854775807", b"4294967295", b"4294967296", b"null"),
            *(b"1.123456780", b"1.123456789", b"0.00000001", b"1e-99999999999", b"0e-99999999999"),
        ]
        for match in re.finditer(rb"[0-9]+(\.[0-9]+)?", frame):
            for number in odd:
                both = BothDecoders(v1=v1)
                both.decode(frame[: match.start()] + number + frame[match.end() :])

    def test_on_escapes_in_every_string(self, v1: bool, kind: str) -> None:
        both = BothDecoders(v1=v1)
        frame = FRAMES[v1][kind]
        for match in re.finditer(rb'"([^"]+)"', frame):
            text = match[1]
            for escaped in (
                b"\\u%04x" % text[0] + text[1:],
                text.replace(b"/", b"\\/"),
                b"\\ud800",
            ):
                both.decode(frame[: match.start(1)] + escaped + frame[match.end(1) :])

    def test_on_blanks_between_any_two_tokens(self, v1: bool, kind: str) -> None:
        frame = FRAMES[v1][kind]
        plain = BothDecoders(v1=v1)
        plain.decode(frame)
        for match in re.finditer(rb"[{}\[\],]|(?<=\"):", frame):
            both = BothDecoders(v1=v1)
            at = match.start()
            assert both.decode(frame[:at] + b" \n" + frame[at:]) == FrameResult.OK
            assert both.records == plain.records

    def test_on_nesting_up_to_the_limit_and_beyond(self, v1: bool, kind: str) -> None:
        frame = FRAMES[v1][kind]
        if v1 and kind == "trade":
            head, own = frame.replace(b'""]', b'"",@]', 1), 3
        elif v1:
            head, own = frame.replace(b"{", b'{"zz":@,', 1), 2
        else:
            head, own = frame.replace(b'{"symbol"', b'{"zz":@,"symbol"'), 3
        for deep, result in ((64, FrameResult.OK), (65, FrameResult.MALFORMED)):
            inner = deep - own
            for value in (b"[" * inner + b"]" * inner, b'{"x":' * inner + b"0" + b"}" * inner):
                assert BothDecoders(v1=v1).decode(head.replace(b"@", value)) == result


LEVELS = st.dictionaries(
    st.integers(1, 40), st.integers(1, 10**9).map(lambda size: f"{size / 10**5:.5f}"), max_size=25
)


@settings(max_examples=150, deadline=None)
@given(
    first=st.tuples(LEVELS, LEVELS),
    updates=st.lists(st.tuples(LEVELS, LEVELS, st.booleans(), st.integers(0, 30)), max_size=6),
)
@example(first=({}, {}), updates=[({}, {}, False, 99)])
def test_books_follow_any_course_of_updates_and_their_checksums_hold(
    first: tuple[dict[int, str], dict[int, str]],
    updates: list[tuple[dict[int, str], dict[int, str], bool, int]],
) -> None:
    """A model of its own: whole sides of text, cut to the depth that the snapshot shows."""
    both = BothDecoders()
    both.decode(DATA["trade"])

    def price(ticks: int) -> str:
        return f"0.{ticks:04}"

    sides = [dict(first[0]), dict(first[1])]
    depth = next(each for each in (10, 25) if each >= max(map(len, sides)))

    def rows() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        return cut(0), cut(1)

    def cut(number: int) -> list[tuple[str, str]]:
        side = sides[number]
        best = sorted(side, reverse=number == 0)[:depth]
        for gone in set(side) - set(best):
            del side[gone]
        return [(price(ticks), side[ticks]) for ticks in best]

    bids_first, asks_first = rows()
    both.decode(book(bids_first, asks_first, kind="snapshot"))
    checked = 1
    for bids, asks, lie, removal in updates:
        changes = []
        for side, change in zip(sides, (bids, asks), strict=True):
            side.update(change)
            changed = [(price(ticks), size) for ticks, size in change.items()]
            if removal in side:
                del side[removal]
                changed.append((price(removal), "0.00000"))
            changes.append(changed)
        crc = checksum(*rows())
        both.decode(book(changes[0], changes[1], crc ^ 1 if lie else crc))
        checked += 1
        usable, shown_bids, shown_asks = both.c.book("BTC/USD")
        assert usable is not lie
        if lie:
            assert both.c.counts["book_mismatches"] == 1
            return
        for number, shown in enumerate((shown_bids, shown_asks)):
            best = sorted(sides[number], reverse=number == 0)[:10]
            assert [level[0] for level in shown] == [ticks * 10**4 for ticks in best]
    assert both.c.counts["book_checksums"] == checked
    assert both.c.counts["book_mismatches"] == 0
