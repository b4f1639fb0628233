"""Fixed point in C and in Python against decimal.Decimal, and against each other."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mdsys._decode import decimal_format, decimal_parse, decimal_scan
from mdsys.record.fixed import (
    SCALE_MAX,
    VALUE_MAX,
    FixedError,
    FixedProblem,
    format_fixed,
    from_fixed,
    to_fixed,
)

Outcome = int | FixedProblem

GRAMMAR = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
SCALES = st.integers(0, SCALE_MAX)
VALUES = st.one_of(
    st.integers(-VALUE_MAX, VALUE_MAX),
    st.integers(-1000, 1000),
    st.sampled_from([0, VALUE_MAX, -VALUE_MAX, VALUE_MAX - 1, 10**18, -(10**18)]),
)
DIGITS = st.one_of(
    st.from_regex(r"[0-9]{0,12}", fullmatch=True),
    st.from_regex(r"0{0,30}[1-9]?[0-9]{0,22}0{0,30}", fullmatch=True),
)


@st.composite
def numbers(draw: st.DrawFn) -> str:
    """Draw texts that are numbers, nearly all of them."""
    sign = draw(st.sampled_from(["", "", "", "-", "+"]))
    point = draw(st.sampled_from(["", ".", "."]))
    exponent = draw(st.one_of(st.just(""), st.from_regex(r"[eE][+-]?[0-9]{1,2}", fullmatch=True)))
    return sign + draw(DIGITS) + point + draw(DIGITS) + exponent


def python_outcome(text: str, scale: int) -> Outcome:
    try:
        return to_fixed(text, scale)
    except FixedError as error:
        return error.problem


def c_outcome(text: str, scale: int) -> Outcome:
    result, value = decimal_parse(text.encode(), scale)
    return FixedProblem(result) if value is None else value


def decimal_outcome(text: str, scale: int) -> Outcome:
    """Return what decimal.Decimal makes of it."""
    if not GRAMMAR.fullmatch(text):
        return FixedProblem.SYNTAX
    scaled = Fraction(Decimal(text)) * 10**scale
    if scaled.denominator != 1:
        return FixedProblem.INEXACT
    return int(scaled) if abs(scaled) <= VALUE_MAX else FixedProblem.OVERFLOW


@pytest.mark.parametrize(
    "outcome", [pytest.param(c_outcome, id="c"), pytest.param(python_outcome, id="python")]
)
class TestParse:
    @pytest.mark.parametrize(
        ("text", "scale", "expected"),
        [
            ("61540.01", 8, 6154001000000),
            ("0.00001234", 8, 1234),
            ("0.00000000", 8, 0),
            ("22000000", 8, 2200000000000000),
            ("9999999997.00000", 8, 999999999700000000),
            ("9999999997.00000", 9, FixedProblem.OVERFLOW),
            ("1e-7", 8, 10),
            ("1.5E3", 0, 1500),
            ("1.5e+3", 0, 1500),
            ("-0", 8, 0),
            ("-1.5", 1, -15),
            ("007", 0, 7),
            ("0.10", 1, 1),
            ("0.11", 1, FixedProblem.INEXACT),
            ("1234567890123456789", 0, 1234567890123456789),
            ("9223372036854775807", 0, VALUE_MAX),
            ("-9223372036854775807", 0, -VALUE_MAX),
            ("9223372036854775808", 0, FixedProblem.OVERFLOW),
            ("-9223372036854775808", 0, FixedProblem.OVERFLOW),  # INT64_MIN means "absent"
            ("18446744073709551616", 0, FixedProblem.OVERFLOW),
            ("9.223372036854775807", 18, VALUE_MAX),
            ("0.000000000000000001", 18, 1),
            ("1e18", 0, 10**18),
            ("1e19", 0, FixedProblem.OVERFLOW),
            ("10", 18, FixedProblem.OVERFLOW),
            ("1" + "0" * 400 + "e-400", 0, 1),
            ("0." + "0" * 400 + "1e401", 0, 1),
            ("0e999999999999999999999999", 8, 0),
            ("1e999999999999999999999999", 8, FixedProblem.OVERFLOW),
            ("1e-999999999999999999999999", 8, FixedProblem.INEXACT),
            ("99999999999999999999.1", 0, FixedProblem.INEXACT),  # both wrong: inexact is named
            ("10000000000000000000000001", 8, FixedProblem.OVERFLOW),
            ("0.10000000000000000000000001", 8, FixedProblem.INEXACT),
            ("1" + "0" * 18 + "1", 0, FixedProblem.OVERFLOW),
            ("1" + "0" * 19 + "1", 0, FixedProblem.OVERFLOW),
            ("1." + "0" * 19 + "1", 18, FixedProblem.INEXACT),
            ("+1", 0, 1),
            ("1.", 0, 1),
            (".5", 1, 5),
        ],
    )
    def test_value_is_exact_or_the_refusal_named(
        self, outcome: Callable[[str, int], Outcome], text: str, scale: int, expected: Outcome
    ) -> None:
        assert outcome(text, scale) == expected

    @pytest.mark.parametrize(
        "text",
        [
            *("", "-", "+", ".", "-.", "e5", ".e5", "1e", "1e+", "1.2.3", "--1", "+-1", " 1", "1 "),
            *("1_0", "NaN", "Infinity", "-inf", "0x10", "1,5", "\uff11", "1\0", "1e5.0", "1e1e1"),
        ],
    )
    def test_what_is_no_number_is_a_syntax_error(
        self, outcome: Callable[[str, int], Outcome], text: str
    ) -> None:
        assert outcome(text, 8) == FixedProblem.SYNTAX

    @given(text=numbers(), scale=SCALES)
    @example(text="9223372036854775807e-18", scale=18)
    def test_numbers_agree_with_decimal(
        self, outcome: Callable[[str, int], Outcome], text: str, scale: int
    ) -> None:
        assert outcome(text, scale) == decimal_outcome(text, scale)

    @given(text=st.text(alphabet="0123456789+-.eE _x", max_size=12), scale=SCALES)
    def test_any_text_agrees_with_decimal(
        self, outcome: Callable[[str, int], Outcome], text: str, scale: int
    ) -> None:
        exponent = re.search(r"[eE][+-]?([0-9]+)", text)
        if exponent is None or int(exponent[1]) < 5000:  # what a Fraction can hold
            assert outcome(text, scale) == decimal_outcome(text, scale)

    @given(value=VALUES, scale=SCALES)
    def test_every_value_survives_its_text(
        self, outcome: Callable[[str, int], Outcome], value: int, scale: int
    ) -> None:
        assert outcome(format_fixed(value, scale), scale) == value
        assert outcome(str(from_fixed(value, scale)), scale) == value


@given(text=st.binary(max_size=40), scale=SCALES)
def test_c_parser_refuses_bytes_that_are_no_text(text: bytes, scale: int) -> None:
    expected = python_outcome(text.decode("latin-1"), scale)
    result, value = decimal_parse(text, scale)
    assert (FixedProblem(result) if value is None else value) == expected


@given(
    text=numbers(),
    tail=st.sampled_from([b'"', b'","', b'"],["1.0","2"]', b"", b"x"]),
    scale=SCALES,
)
def test_fast_scan_agrees_with_the_parser_or_declines(text: str, tail: bytes, scale: int) -> None:
    frame = b'{"a":"12' + text.encode() + tail  # what lies in front makes up the 8 bytes
    found = decimal_scan(frame, scale, 8)
    if found is not None:
        assert tail.startswith(b'"')
        assert found == (8 + len(text), c_outcome(text, scale))


@given(
    text=st.from_regex(r"[0-9]{1,15}(\.[0-9]{1,8})?", fullmatch=True),
    scale=SCALES,
    tail=st.sampled_from([b'"', b'"}', b'","q":"1.00000000"}']),
)
def test_fast_scan_takes_whatever_a_venue_sends(text: str, scale: int, tail: bytes) -> None:
    expected = c_outcome(text, scale)
    decimals = len(text.partition(".")[2])
    if isinstance(expected, FixedProblem) or decimals > scale:
        return
    assert decimal_scan(b"12345678" + text.encode() + tail, scale, 8) == (8 + len(text), expected)


@given(
    text=numbers(),
    tail=st.sampled_from([b'"', b'","', b'"],["1.0","2"]', b"", b"x"]),
    scale=SCALES,
    decimals=st.integers(0, 8),
)
def test_scan_for_known_decimals_agrees_with_the_parser_or_declines(
    text: str, tail: bytes, scale: int, decimals: int
) -> None:
    frame = b'{"a":"12' + text.encode() + tail
    found = decimal_scan(frame, scale, 8, decimals)
    if found is not None:
        assert tail.startswith(b'"')
        assert found == (8 + len(text), c_outcome(text, scale))


@given(
    text=st.from_regex(r"[0-9]{1,7}(\.[0-9]{1,8})?", fullmatch=True),
    scale=SCALES,
    tail=st.sampled_from([b'"', b'"}', b'","q":"1.00000000"}']),
    wrong=st.integers(0, 8),
)
def test_scan_for_known_decimals_takes_those_and_no_others(
    text: str, scale: int, tail: bytes, wrong: int
) -> None:
    expected = c_outcome(text, scale)
    decimals = len(text.partition(".")[2])
    frame = b"12345678" + text.encode() + tail
    found = decimal_scan(frame, scale, 8, decimals)
    if isinstance(expected, FixedProblem) or decimals > scale:
        assert found is None
    else:
        assert found == (8 + len(text), expected)
    assert wrong == decimals or decimal_scan(frame, scale, 8, wrong) is None


@given(value=VALUES, scale=SCALES)
@example(value=0, scale=18)
@example(value=-5, scale=18)
def test_text_of_a_value_is_plain_and_shortest(value: int, scale: int) -> None:
    text = format_fixed(value, scale)
    assert decimal_format(value, scale) == text
    assert re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?", text)
    assert Decimal(text) == from_fixed(value, scale)
    assert text != "-0"


def test_refusal_names_text_and_scale() -> None:
    with pytest.raises(FixedError, match=r"'0\.123' at scale 2: inexact"):
        to_fixed("0.123", 2)


@pytest.mark.parametrize("scale", [-1, 19, 1 << 40])
def test_c_functions_refuse_scales_beyond_18(scale: int) -> None:
    for call in (lambda: decimal_parse(b"1", scale), lambda: decimal_format(1, scale)):
        with pytest.raises(ValueError, match="scale"):
            call()
