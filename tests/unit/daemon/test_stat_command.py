"""The text of ``mdsys stat``; what stands in the picture is held by tests/system."""

from __future__ import annotations

import io
from typing import Any

from mdsys.daemon.stat_command import print_picture

LATENCY = {"count": 7, "min": 5, "p50": 1234, "p99": None, "p999": None, "max": 72_102_554_237_186}


def picture(**changes: Any) -> dict[str, Any]:
    """Return what take_picture returns for a small instance."""
    return {
        "instance": "unit",
        "state": "running",
        "supervisor": {"pid": 7, "alive": True},
        "dir": "/dev/shm",
        "symbols": 2,
        "rings": [],
        "balance": {"symbols_max_to_mean": 1.0, "records_max_to_mean": 1.0},
        "feeds": [
            {
                "feed": 0,
                "pid": 8,
                "alive": True,
                "rings": [0],
                "counters": {"frames": 1_000, "gaps": 0},
                "latency_ns": {"recv_to_ring": LATENCY},
            }
        ],
        **changes,
    }


def text(shown: dict[str, Any]) -> str:
    out = io.StringIO()
    print_picture(shown, out)
    return out.getvalue()


def test_percentile_beyond_the_buckets_is_not_shown_as_a_number() -> None:
    line = next(each for each in text(picture()).splitlines() if "recv_to_ring" in each)
    assert line.split(maxsplit=1)[1] == (
        "p50 1,234 ns  p99 beyond 17 min  p999 beyond 17 min  max 72,102,554,237,186 ns"
    )


def test_one_symbol_is_no_plural() -> None:
    assert "2 symbols," in text(picture())
    assert "1 symbol," in text(picture(symbols=1))


def test_counters_at_zero_are_left_out() -> None:
    shown = text(picture())
    assert "frames" in shown
    assert "gaps" not in shown
