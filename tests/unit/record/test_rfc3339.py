"""RFC 3339 times in C and in Python: against the calendar, and against each other."""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mdsys.record.rfc3339 import parse_rfc3339, rfc3339_text
from tests.native import PROGRAMS, compile_program

NS_MAX = (1 << 63) - 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@functools.cache
def _library() -> ctypes.CDLL:
    flags = ("-D_DEFAULT_SOURCE", "-shared", "-fPIC")
    return ctypes.CDLL(str(compile_program(PROGRAMS / "rfc3339.c", flags=flags)))


def c_outcome(text: str | bytes) -> int | None:
    encoded = text.encode() if isinstance(text, str) else text
    untouched = 4711
    ns = ctypes.c_int64(untouched)
    result = _library().rfc3339_guarded(encoded, ctypes.c_size_t(len(encoded)), ctypes.byref(ns))
    assert result in (0, 1)
    assert result == 1 or ns.value == untouched
    return ns.value if result else None


BOTH = pytest.mark.parametrize(
    "parse", [pytest.param(c_outcome, id="c"), pytest.param(parse_rfc3339, id="python")]
)
Parse = Callable[[str], int | None]


@BOTH
class TestParse:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("1970-01-01T00:00:00Z", 0),
            ("2023-09-25T07:49:36.925603Z", 1695628176925603000),
            ("2018-02-22T13:35:45.123456789Z", 1519306545123456789),
            ("2023-09-25t07:49:36.9z", 1695628176900000000),
            ("2024-02-29T23:59:59.000000001Z", 1709251199000000001),
            ("2000-02-29T00:00:00Z", 951782400000000000),
            ("2023-09-25T13:19:36+05:30", 1695628176000000000),
            ("2023-09-25T02:49:36.5-05:00", 1695628176500000000),
            ("2023-09-25T07:49:36-00:00", 1695628176000000000),
            ("1969-12-31T23:59:59.999999999Z", -1),
            ("1970-01-01T00:00:00+23:59", -86340000000000),
            ("2016-12-31T23:59:60.25Z", 1483228800250000000),
            ("2017-01-01T00:59:60+01:00", 1483228800000000000),
            ("2262-04-11T23:47:16.854775807Z", NS_MAX),
            ("1677-09-21T00:12:43.145224193Z", -NS_MAX),
        ],
    )
    def test_times_are_exact(self, parse: Parse, text: str, expected: int) -> None:
        assert parse(text) == expected

    @pytest.mark.parametrize(
        "text",
        [
            *("", "2023", "2023-09-25", "2023-09-25T07:49:36", "2023-09-25T07:49Z"),
            *("2023-09-25 07:49:36Z", "2023-09-25_07:49:36Z", "2023-9-25T07:49:36.00Z"),
            *("2023-13-01T00:00:00Z", "2023-00-01T00:00:00Z", "2023-01-00T00:00:00Z"),
            *("2023-01-32T00:00:00Z", "2023-04-31T00:00:00Z", "2023-02-29T00:00:00Z"),
            *("1900-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "0000-01-01T00:00:00Z"),
            *("2023-09-25T24:00:00Z", "2023-09-25T00:60:00Z", "2023-09-25T00:00:61Z"),
            *("2023-09-25T00:00:60Z", "2023-09-25T23:59:60+01:00", "2023-09-25T22:59:60Z"),
            *("2023-09-25T07:49:36.Z", "2023-09-25T07:49:36.1234567890Z", "2023-09-25T07:49:36,5Z"),
            *("2023-09-25T07:49:36.-5Z", "2023-09-25T07:49:36.+5Z", "2023-09-25T07:49:36. 5Z"),
            *("2023-09-25T07:49:36+0530", "2023-09-25T07:49:36+05", "2023-09-25T07:49:36+24:00"),
            *(
                "2023-09-25T07:49:36+05:60",
                "2023-09-25T07:49:36 05:30",
                "2023-09-25T07:49:36+5:300",
            ),
            *("2023-09-25T07:49:36ZZ", "2023-09-25T07:49:36Z ", " 2023-09-25T07:49:36Z"),
            *("-023-09-25T07:49:36Z", "+023-09-25T07:49:36Z", "2023-09-25T07:49:36Z\0"),
            *(
                "\uff12023-09-25T07:49:36Z",
                "2023-09-25T07:49:3\u0666Z",
                "2023-09-25T07:49:36.\u0666Z",
            ),
            *("2262-04-11T23:47:16.854775808Z", "1677-09-21T00:12:43.145224192Z"),
            *("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2262-04-11T23:47:17Z"),
            *("1677-09-21T00:12:42.9Z", "2262-04-12T00:00:00Z", "0001-01-01T00:00:00+23:59"),
        ],
    )
    def test_anything_else_is_refused(self, parse: Parse, text: str) -> None:
        assert parse(text) is None

    def test_every_day_of_four_centuries_has_its_number(self, parse: Parse) -> None:
        for day in range(-90_000, 100_000, 1 if parse is c_outcome else 37):
            date = EPOCH + timedelta(days=day)
            assert parse(f"{date:%Y-%m-%dT%H:%M:%SZ}") == day * 86_400 * 10**9

    def test_every_character_of_a_time_matters(self, parse: Parse) -> None:
        whole = "2023-09-25T07:49:36.925603+05:30"
        assert parse(whole) is not None
        for at, character in enumerate(whole):
            for other in "/:!\x1aAtZ. ~\x7f\x80":
                if other.upper() != character:
                    assert parse(whole[:at] + other + whole[at + 1 :]) is None, (at, other)


TEXTS = st.one_of(
    st.from_regex(
        r"[0-2][0-9]{3}-[01][0-9]-[0-3][0-9][Tt][0-2][0-9]:[0-5][0-9]:[0-6][0-9]"
        r"(\.[0-9]{1,10})?([Zz]|[+-][0-2][0-9]:[0-6][0-9])",
        fullmatch=True,
    ),
    st.from_regex(r"1677-09-2[01]T[0-9:]{8}(\.[0-9]{9})?Z", fullmatch=True),
    st.from_regex(r"[0-9TZtz:.+-]{19,31}", fullmatch=True),
    st.text(max_size=40),
)


@given(TEXTS)
@example("2015-06-30T18:59:60-05:00")
def test_c_and_python_agree_on_any_text(text: str) -> None:
    assert c_outcome(text) == parse_rfc3339(text)


@given(
    st.integers(-9_200_000_000, 9_200_000_000), st.integers(0, 999_999), st.integers(-1439, 1439)
)
def test_c_and_python_agree_with_the_calendar(seconds: int, micros: int, offset: int) -> None:
    expected = (seconds * 1_000_000 + micros) * 1000
    moment = EPOCH + timedelta(seconds=seconds, microseconds=micros)
    local = (moment + timedelta(minutes=offset)).replace(tzinfo=None)
    sign, (hours, minutes) = "-" if offset < 0 else "+", divmod(abs(offset), 60)
    text = f"{local.isoformat(timespec='microseconds')}{sign}{hours:02}:{minutes:02}"
    assert c_outcome(text) == parse_rfc3339(text) == expected


@given(st.binary(max_size=40))
def test_bytes_that_are_no_text_are_refused(text: bytes) -> None:
    ascii_text = re.fullmatch(rb"[\x00-\x7f]*", text)
    assert c_outcome(text) == (parse_rfc3339(text.decode()) if ascii_text else None)


@given(ns=st.integers(0, NS_MAX), digits=st.integers(1, 9))
@example(ns=0, digits=1)
@example(ns=1_695_628_176_925_603_000, digits=6)
def test_what_is_written_reads_as_the_same_time_cut_off(ns: int, digits: int) -> None:
    text = rfc3339_text(ns, digits)
    assert len(text) == len("2023-09-25T07:49:36.Z") + digits
    assert parse_rfc3339(text) == ns // 10 ** (9 - digits) * 10 ** (9 - digits)
