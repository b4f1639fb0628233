"""mdsys: market data in shared memory, exact and a cache line away.

    import mdsys

    with mdsys.attach("default") as md:
        reader = md.reader(["BINANCE:BTCUSDT"])
        ticks = reader.poll(timeout=1.0)
        print(mdsys.to_columns(ticks, kind="trade"))

Needs NumPy alone; the daemon's own needs come with ``pip install 'mdsys[daemon]'``.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from mdsys.consume.attach import MarketData, attach
from mdsys.consume.consumer import Consumer
from mdsys.consume.event import Event
from mdsys.consume.handler import handler, native_handler
from mdsys.consume.reader import Reader
from mdsys.consume.symbol_info import SymbolInfo
from mdsys.errors import (
    ConfigError,
    FeedError,
    HandlerError,
    HostError,
    LayoutError,
    MdsysError,
    NotRunning,
    RingError,
    WriterGone,
)
from mdsys.record.columns import to_columns
from mdsys.record.record import ABSENT, KIND_DTYPE, TICK, Flag, Kind, Status

__all__ = [
    "ABSENT",
    "KIND_DTYPE",
    "TICK",
    "ConfigError",
    "Consumer",
    "Event",
    "FeedError",
    "Flag",
    "HandlerError",
    "HostError",
    "Kind",
    "LayoutError",
    "MarketData",
    "MdsysError",
    "NotRunning",
    "Reader",
    "RingError",
    "Status",
    "SymbolInfo",
    "WriterGone",
    "attach",
    "get_include",
    "handler",
    "native_handler",
    "to_columns",
]

__version__ = version("mdsys")


def get_include() -> str:
    """Return the directory of the C headers, for ``cc -I``; they need nothing else."""
    return str(Path(__file__).parent / "include")
