"""Records to columns, for pandas, polars and plain NumPy."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from mdsys.record.fixed import from_fixed
from mdsys.record.record import ABSENT, BODY, HEADER, KIND_DTYPE, PRICES, SIZES, TICK, Kind, Ticks

Number = Literal["float", "fixed", "decimal"]

_POWERS: Final[npt.NDArray[np.float64]] = np.array([float(10**scale) for scale in range(256)])
"""10^scale by scale; exact up to 22. A table, since NumPy's power is not exact on every machine."""


def to_columns(ticks: Ticks, kind: str, price: Number = "float") -> dict[str, npt.NDArray[Any]]:
    """Take the records of one kind apart.

    Args:
        ticks: Records, dtype TICK, shape (n,).
        kind: ``"trade"``, ``"quote"``, ``"ticker"``, ``"level"``, ``"bar"``, ``"bar_volume"`` or
            ``"status"``; others are left out.
        price: How prices and sizes come. ``"float"``: float64, the nearest to the exact value,
            NaN where the venue sent none. ``"fixed"``: the int64 as it stands, to be scaled by
            price_scale or size_scale, `ABSENT` where there is none. ``"decimal"``: exact
            `decimal.Decimal` objects, None where there is none.

    Returns:
        Field name to array, each of shape (m,), in the order of the record; times are int64 ns
        since the epoch.

    Raises:
        ValueError: An unknown ``kind`` or ``price``, or ``ticks`` are not records.
    """
    names = [member.name.lower() for member in Kind]
    if kind not in names:
        raise ValueError(f"kind {kind!r}: one of {', '.join(names)}")
    if price not in ("float", "fixed", "decimal"):
        raise ValueError(f"price {price!r}: one of float, fixed, decimal")
    if ticks.dtype != TICK:
        raise ValueError(f"ticks of dtype {ticks.dtype}: give an array of mdsys.TICK")
    member = Kind[kind.upper()]
    rows = ticks[ticks["kind"] == member].view(KIND_DTYPE[member])
    columns = {name: rows[name].copy() for name in HEADER}
    for name in BODY[member]:
        values = rows[name].copy()
        if name in PRICES:
            columns[name] = _scaled(values, columns["price_scale"], price)
        elif name in SIZES:
            columns[name] = _scaled(values, columns["size_scale"], price)
        else:
            columns[name] = values
    return columns


def _scaled(
    values: npt.NDArray[np.int64], scales: npt.NDArray[np.uint8], number: Number
) -> npt.NDArray[Any]:
    if number == "fixed":
        return values
    if number == "decimal":
        out = np.empty(len(values), dtype=object)
        for i, (value, scale) in enumerate(zip(values.tolist(), scales.tolist(), strict=True)):
            out[i] = None if value == ABSENT else from_fixed(value, scale)
        return out
    # One correctly rounded division of two exact doubles; beyond 2^53 the nearest is found by
    # Python, whose int / int is correctly rounded at any size.
    floats: npt.NDArray[np.float64] = values / _POWERS[scales]
    for i in np.flatnonzero(np.abs(values) > 1 << 53).tolist():
        floats[i] = int(values[i]) / 10 ** int(scales[i])
    floats[values == ABSENT] = np.nan
    return floats
