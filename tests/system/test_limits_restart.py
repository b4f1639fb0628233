"""A daemon that is killed and started again: the limits hold across its lives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mdsys.feed.venue import Window
from mdsys.sim.dialects import find
from tests.daemons import instance
from tests.simulated import all_tick, daemon_on, status_when, street, venue_text

pytestmark = pytest.mark.system

LIVES = 2
SOCKETS = 3


def test_daemon_killed_and_started_again_breaks_no_limit_of_its_address(tmp_path: Path) -> None:
    limits = replace(find("binance").limits, connects=(Window(SOCKETS, 4.0),))
    with (
        instance() as name,
        street(["binance"], symbols=2 * SOCKETS, rate=100, limits={"binance": limits}) as sims,
    ):
        table = venue_text(
            "binance",
            sims["binance"],
            symbols=2 * SOCKETS,
            max_symbols_per_connection=2,
            limits={"connects": f"{SOCKETS}/4s"},
        )
        for _ in range(LIVES):
            with daemon_on(tmp_path, name, table):  # which kill -9 ends
                status_when(name, all_tick)
        assert sims.breaches.get("binance", []) == []
        assert sims.call(lambda: sims["binance"].stats.attempts) == LIVES * SOCKETS
