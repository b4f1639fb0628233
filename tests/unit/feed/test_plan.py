from __future__ import annotations

import pytest

from mdsys.feed.plan import ConnectionPlan, FeedPlan
from mdsys.feed.venue import Limits, Window

PLAN = FeedPlan(
    instance="default",
    feed=1,
    rings=(1, 3),
    core=None,
    spin=False,
    lossless_wait_us=1_000,
    supervisor_pid=4711,
    connections=(
        ConnectionPlan(
            number=2,
            venue="binance",
            url="ws://127.0.0.1:9001",
            symbols=("BTCUSDT", "币安人生USDT"),
            channels=("trade", "quote"),
            batch_size=50,
            wires={"币安人生USDT": b"\x00\xff"},
            credential="key_a",
            limits=Limits(connections=2, messages=(Window(5, 1.0),)),
            first=False,
        ),
    ),
)


def test_plan_survives_the_way_to_the_feed() -> None:
    line = PLAN.to_line()
    assert line.count(b"\n") == 1
    assert FeedPlan.from_line(line) == PLAN


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"null", b"{}", b'{"connections":[],"rings":[]}', b"[" * 9999, b"\xff"]
)
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        FeedPlan.from_line(line)
