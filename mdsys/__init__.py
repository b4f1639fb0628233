"""mdsys: market data in shared memory, exact and a cache line away.

    import mdsys

    with mdsys.attach("default") as md:
        reader = md.reader(["BINANCE:BTCUSDT"])
        ticks = reader.poll(timeout=1.0)
        print(mdsys.to_columns(ticks, kind="trade"))

Needs NumPy alone; the daemon's own needs come with ``pip install 'mdsys[daemon]'``.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

if find_spec("mdsys._native") is None:  # a checkout, as it is cloned
    _WORDS = "mdsys: the C extensions are not built; run: make build"
    raise SystemExit(_WORDS) if Path(sys.argv[0]).name == "mdsys" else ImportError(_WORDS)

from mdsys.consume.attach import MarketData, attach
from mdsys.consume.book import Book
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
from mdsys.ring.control_client import Control, control

if TYPE_CHECKING:
    from mdsys.daemon.system import MarketDataSystem

if TYPE_CHECKING:
    from mdsys.capture.reader import Capture

__all__ = [
    "ABSENT",
    "KIND_DTYPE",
    "TICK",
    "Book",
    "ConfigError",
    "Consumer",
    "Control",
    "Event",
    "FeedError",
    "Flag",
    "HandlerError",
    "HostError",
    "Kind",
    "LayoutError",
    "MarketData",
    "MarketDataSystem",
    "MdsysError",
    "NotRunning",
    "Reader",
    "RingError",
    "Status",
    "SymbolInfo",
    "WriterGone",
    "attach",
    "control",
    "get_include",
    "handler",
    "native_handler",
    "open_capture",
    "to_columns",
]

__version__ = version("mdsys")


def open_capture(path: str | PathLike[str], venue: str | None = None) -> Capture:
    """Open what ``mdsys record`` wrote, or a recording in another known format; docs/capture.md.

    Needs the daemon's requirements: ``pip install 'mdsys[daemon]'``.

    Args:
        path: The directory, or a file.
        venue: Whose frames another's recording holds, where its content does not tell.

    Raises:
        MdsysError: There is none, or it is damaged at its beginning.
    """
    from mdsys.capture import reader

    return reader.open_capture(path, venue)


def __getattr__(name: str) -> object:
    """Import the daemon's side when it is asked for: a reader does not pay for it."""
    if name == "MarketDataSystem":
        from mdsys.daemon.system import MarketDataSystem

        return MarketDataSystem
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def get_include() -> str:
    """Return the directory of the C headers, for ``cc -I``; they need nothing else."""
    return str(Path(__file__).parent / "include")
