"""mdsys: market data in shared memory, exact and a cache line away.

    import mdsys

    with mdsys.attach("default") as md:
        reader = md.reader(["BINANCE:BTCUSDT"])
        ticks = reader.poll(timeout=1.0)
        print(mdsys.to_columns(ticks, kind="trade"))

Needs NumPy alone; the daemon's own needs come with ``pip install 'mdsys[daemon]'``. Each name is
imported when it is first asked for: who asks a daemon for its state does not pay for NumPy, and a
daemon that is stopped as soon as it is started has had time to say that it heard.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if find_spec("mdsys._native") is None:  # a checkout, as it is cloned
    _WORDS = "mdsys: the C extensions are not built; run: make build"
    raise SystemExit(_WORDS) if sys.argv[0].rpartition("/")[2] == "mdsys" else ImportError(_WORDS)

if TYPE_CHECKING:
    from os import PathLike

    from mdsys.capture.reader import Capture
    from mdsys.consume.attach import MarketData, attach
    from mdsys.consume.book import Book
    from mdsys.consume.consumer import Consumer
    from mdsys.consume.event import Event
    from mdsys.consume.handler import handler, native_handler
    from mdsys.consume.reader import Reader
    from mdsys.consume.symbol_info import SymbolInfo
    from mdsys.daemon.system import MarketDataSystem
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

    __version__: str

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

_HOMES = {
    "mdsys.consume.attach": ("MarketData", "attach"),
    "mdsys.consume.book": ("Book",),
    "mdsys.consume.consumer": ("Consumer",),
    "mdsys.consume.event": ("Event",),
    "mdsys.consume.handler": ("handler", "native_handler"),
    "mdsys.consume.reader": ("Reader",),
    "mdsys.consume.symbol_info": ("SymbolInfo",),
    "mdsys.daemon.system": ("MarketDataSystem",),
    "mdsys.errors": (
        "ConfigError",
        "FeedError",
        "HandlerError",
        "HostError",
        "LayoutError",
        "MdsysError",
        "NotRunning",
        "RingError",
        "WriterGone",
    ),
    "mdsys.record.columns": ("to_columns",),
    "mdsys.record.record": ("ABSENT", "KIND_DTYPE", "TICK", "Flag", "Kind", "Status"),
    "mdsys.ring.control_client": ("Control", "control"),
}
"""Module -> what of it is handed on: the imports above, for those who run instead of read."""
_HOME = {name: module for module, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # who checks types would take it that every name is there

    def __getattr__(name: str) -> object:
        """Import what is asked for, once: from then on it is an attribute like any other."""
        value: object
        if name == "__version__":
            from importlib.metadata import version

            value = version("mdsys")
        elif (home := _HOME.get(name)) is not None:
            value = getattr(import_module(home), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


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


def get_include() -> str:
    """Return the directory of the C headers, for ``cc -I``; they need nothing else."""
    from pathlib import Path

    return str(Path(__file__).parent / "include")
