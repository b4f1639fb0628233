"""Values as Grafana writes them, and the marks of an axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

SCALES: Final[Mapping[str, Sequence[tuple[float, str]]]] = {
    "short": ((1e9, " Bil"), (1e6, " Mil"), (1e3, " K"), (1, "")),
    "cps": ((1e9, "B c/s"), (1e6, "M c/s"), (1e3, "K c/s"), (1, " c/s")),
    "Bps": ((1e9, " GB/s"), (1e6, " MB/s"), (1e3, " kB/s"), (1, " B/s")),
    "bytes": ((2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B")),
    "s": ((1, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns")),
    "percentunit": ((0.01, "%"),),
}
"""Grafana's name of a unit -> how it is written from which size on, the largest first."""
STEPS: Final = (1, 2, 5, 10)


def text(value: float, unit: str) -> str:
    """Return a value with three digits at most and its unit."""
    scales = SCALES[unit]
    rounded = float(f"{value:.3g}")
    if not rounded:
        return "0" + next((suffix for size, suffix in scales if size == 1), scales[-1][1])
    size, suffix = next((each for each in scales if abs(rounded) >= each[0]), scales[-1])
    return f"{float(f'{value / size:.3g}'):.6g}{suffix}"


def marks(low: float, high: float, count_max: int = 5) -> list[float]:
    """Return round numbers, evenly apart, from one at or below ``low`` to one at or above ``high``.

    Args:
        low: Of what is shown.
        high: Not below ``low``; if the same, there is still room above it.
        count_max: Intervals between the two, about.
    """
    span = (high - low) or abs(high) or 1.0
    magnitude = 10.0 ** math.floor(math.log10(span / count_max))
    step = next(each * magnitude for each in STEPS if each * magnitude * count_max >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Return the powers of ten around positive numbers."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]
