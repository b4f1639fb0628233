"""Records to columns: exact, or the nearest double there is."""

from __future__ import annotations

import decimal
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mdsys import ABSENT, TICK, to_columns
from mdsys.record.columns import Number
from mdsys.record.record import BODY, HEADER, PRICES, SIZES, Kind, Ticks

values = st.integers(-(2**63) + 1, 2**63 - 1)
near_two_to_53 = st.integers(2**53 - 10, 2**53 + 10).flatmap(lambda v: st.sampled_from([v, -v]))
scales = st.integers(0, 18)
rows = st.lists(st.tuples(values | near_two_to_53 | st.just(ABSENT), scales), max_size=30)


def trades_of(pairs: list[tuple[int, int]]) -> Ticks:
    ticks = np.zeros(len(pairs), TICK)
    ticks["kind"] = Kind.TRADE
    for i, (value, scale) in enumerate(pairs):
        ticks["price"][i], ticks["price_scale"][i] = value, scale
        ticks["size"][i], ticks["size_scale"][i] = value, 18 - scale
    return ticks


def exact(value: int, scale: int) -> Fraction:
    return Fraction(value, 10**scale)


def is_nearest(number: float, wanted: Fraction) -> bool:
    """Tell whether no double is nearer, by looking at both neighbours."""
    error = abs(Fraction(number) - wanted)
    return all(
        abs(Fraction(float(np.nextafter(number, to))) - wanted) >= error for to in (-np.inf, np.inf)
    )


@given(rows)
@settings(deadline=None, max_examples=300, derandomize=True)
@example([(9007199254740993, 0), (-9007199254740993, 18), (2**63 - 1, 0), (1 - 2**63, 18)])
@example([(999999999700000000, 8), (1234, 8), (2200000000000000, 8)])
@example([(5, 1), (15, 1), (25, 2), (10**18 + 1, 18), (ABSENT, 0)])
def test_float_is_the_nearest_double(pairs: list[tuple[int, int]]) -> None:
    columns = to_columns(trades_of(pairs), "trade")
    for i, (value, scale) in enumerate(pairs):
        for name, decimals in (("price", scale), ("size", 18 - scale)):
            number = float(columns[name][i])
            if value == ABSENT:
                assert np.isnan(number)
            else:
                assert is_nearest(number, exact(value, decimals))
                assert number == float(Decimal(value) / 10**decimals) or abs(value) > 2**53
    assert columns["price"].dtype == np.float64


@given(rows, st.integers(1, 40))
@settings(deadline=None, derandomize=True)
def test_decimal_is_exact_whatever_the_callers_context(
    pairs: list[tuple[int, int]], precision: int
) -> None:
    with decimal.localcontext() as context:
        context.prec = precision
        context.traps[decimal.Inexact] = True
        columns = to_columns(trades_of(pairs), "trade", price="decimal")
    for i, (value, scale) in enumerate(pairs):
        for name, decimals in (("price", scale), ("size", 18 - scale)):
            got = columns[name][i]
            if value == ABSENT:
                assert got is None
            else:
                assert isinstance(got, Decimal)
                assert Fraction(got) == exact(value, decimals)
                assert got.as_tuple().exponent == -decimals


@given(rows)
@settings(deadline=None, derandomize=True)
def test_fixed_is_the_integer_as_it_stands(pairs: list[tuple[int, int]]) -> None:
    columns = to_columns(trades_of(pairs), "trade", price="fixed")
    assert columns["price"].tolist() == [value for value, _ in pairs]
    assert columns["price"].dtype == np.int64
    assert columns["price_scale"].tolist() == [scale for _, scale in pairs]


@pytest.mark.parametrize("scale", range(19))
def test_every_power_of_ten_is_exact(scale: int) -> None:
    pairs = [(10**scale, scale), (1, scale), (123456789, scale)]
    got = to_columns(trades_of(pairs), "trade")["price"].tolist()
    assert got == [1.0, float(f"1e-{scale}"), float(f"123456789e-{scale}")]


@pytest.mark.parametrize("kind", Kind)
def test_columns_are_the_fields_of_the_kind_in_order(kind: Kind) -> None:
    ticks = np.zeros(4, TICK)
    raw = ticks.view("<i8").reshape(4, 8)
    raw[:, 4:] = np.arange(16).reshape(4, 4) * 100
    ticks["price_scale"], ticks["size_scale"] = 2, 1
    ticks["kind"] = [kind, 0, kind, 255]
    ticks["seq"] = [1, 2, 3, 4]
    columns = to_columns(ticks, kind.name.lower())
    assert list(columns) == [*HEADER, *BODY[kind]]
    assert columns["seq"].tolist() == [1, 3]
    for i, name in enumerate(BODY[kind]):
        divisor = 100 if name in PRICES else 10 if name in SIZES else 1
        assert columns[name].tolist() == [i * 100 / divisor, (8 + i) * 100 / divisor]
        is_number = name in PRICES or name in SIZES
        assert columns[name].dtype == (np.float64 if is_number else np.int64)


def test_columns_do_not_share_memory_with_the_ticks() -> None:
    ticks = trades_of([(1, 0)])
    for name, column in to_columns(ticks, "trade", price="fixed").items():
        assert not np.shares_memory(column, ticks), name
        assert column.flags.c_contiguous


def test_no_records_make_empty_columns() -> None:
    prices: tuple[Number, ...] = ("float", "fixed", "decimal")
    for price in prices:
        columns = to_columns(np.zeros(0, TICK), "quote", price=price)
        assert {len(column) for column in columns.values()} == {0}


@pytest.mark.parametrize(
    ("ticks", "kind", "price", "what"),
    [
        (np.zeros(1, TICK), "trades", "float", "kind 'trades': one of trade, quote"),
        (np.zeros(1, TICK), "TRADE", "float", "kind 'TRADE'"),
        (np.zeros(1, TICK), "trade", "exact", "price 'exact': one of float, fixed, decimal"),
        (np.zeros(8), "trade", "float", "give an array of mdsys.TICK"),
    ],
)
def test_what_cannot_be_meant_is_refused(ticks: Any, kind: str, price: Any, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        to_columns(ticks, kind, price)
