"""The dashboards' pictures, docs/dashboard*.svg: their own queries, asked of a run of ours."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mdsys
from tests.instances import cleaned
from tests.prometheus import Prometheus, free_port, prometheus
from tests.simulated import (
    Street,
    all_tick,
    daemon_on,
    full,
    native,
    status_when,
    street,
    venue_text,
)
from tools.pictures.board import STEP_SECONDS, Answers, Panel, Window, draw

ROOT = Path(__file__).resolve().parent.parent.parent
PICTURES = {"dashboard": ("mdsys.json", 36), "dashboard-latency": ("mdsys-latency.json", 25)}
"""Picture -> its board, and how much of it: grid lines from the top."""
INSTANCE = "pictures"
VENUES = ("binance", "kraken", "coinbase_exchange")
SYMBOLS = 24
WANTED = 16
"""Of the symbols, at first."""
SECONDS = 90
WARM_UP_SECONDS = 60
"""So that the quantiles of the last minute are none of the start."""
RATE_INTERVAL = "8s"
CONSUMER = """
import sys, mdsys
mdsys.Consumer(
    sys.argv[1], lambda ticks: None, name=sys.argv[2], wait="park", max_queue_size=16_000
).run()
"""


def draw_all() -> None:
    """Draw them."""
    if not shutil.which("prometheus"):
        raise SystemExit("no prometheus here (Debian: apt-get install prometheus)")
    with market() as (venues, server):
        time.sleep(WARM_UP_SECONDS)
        window = Window(time.time(), SECONDS)
        happen(venues, window)
        for name, (board, height) in PICTURES.items():
            made = json.loads((ROOT / "deploy" / "grafana" / board).read_text())
            panels = [each for each in made["panels"] if each["gridPos"]["y"] < height]
            answers = ask(server, panels, window)
            path = ROOT / "docs" / f"{name}.svg"
            path.write_text(draw(made["title"], panels, answers, window))
            print(path.relative_to(ROOT))


@contextlib.contextmanager
def market() -> Iterator[tuple[Street, Prometheus]]:
    """Run a daemon on simulated venues with two consumers, and a Prometheus that scrapes it."""
    address = f"127.0.0.1:{free_port()}"
    with (
        TemporaryDirectory() as folder,
        cleaned(INSTANCE),
        street(VENUES, symbols=SYMBOLS, rate=1_500) as venues,
        daemon_on(
            Path(folder),
            INSTANCE,
            f'[metrics]\nlisten = "{address}"\n',
            *(
                venue_text(
                    venue, venues[venue], symbols=[native(venue, index) for index in range(WANTED)]
                )
                for venue in VENUES
            ),
            feeds=2,
            rings=2,
        ),
        consumer("momentum"),
        consumer("spread"),
        prometheus(Path(folder), address) as server,
    ):
        status_when(INSTANCE, all_tick)
        yield venues, server


@contextlib.contextmanager
def consumer(name: str) -> Iterator[None]:
    """Handle every tick in a process of its own until the block ends."""
    process = subprocess.Popen([sys.executable, "-c", CONSUMER, INSTANCE, name])
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def happen(venues: Street, window: Window) -> None:
    """Let happen what a dashboard is for: symbols come, a socket is lost, a venue falls mute."""
    events: dict[float, Callable[[], Any]] = {
        0.2: lambda: mdsys.control(INSTANCE).subscribe(
            full("binance", index) for index in range(WANTED, SYMBOLS)
        ),
        0.5: lambda: venues.inject("coinbase_exchange", "reset"),
        0.7: lambda: venues.inject("kraken", "mute"),
    }
    for part, event in events.items():
        _sleep_until(window.begin + part * window.seconds)
        event()
    _sleep_until(window.end + 1)  # and the last scrape


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))


def ask(server: Prometheus, panels: list[Panel], window: Window) -> Answers:
    """Return what Prometheus answers to every query of some panels."""
    queries = {each["expr"] for panel in panels for each in panel.get("targets", ())}
    return {
        query: server.get(
            "query_range",
            query=query.replace("$system", ".*").replace("$__rate_interval", RATE_INTERVAL),
            start=f"{window.begin:.3f}",
            end=f"{window.end:.3f}",
            step=str(STEP_SECONDS),
        )["result"]
        for query in queries
    }
