"""An instance watched through all its lives: the source, the symbols of each life, the daemon."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from mdsys.ring.control_client import Control
from mdsys.top.source import Look, Source
from mdsys.top.symbols import Ranking, SymbolWatch


class Watching:
    """What the view is fed with.

    Args:
        instance: Whose name.

    Raises:
        NotRunning: It has no segments.
        NoPermission: This user may not read them.
        LayoutError: They belong to another version of mdsys.
    """

    def __init__(self, instance: str) -> None:
        self._source = Source(instance)
        self._control = Control(instance)
        self._symbols = SymbolWatch(self._source.attachment)
        self._serial = self._source.attachment

    @property
    def waiting_for(self) -> str:
        """Why the next life cannot be attached yet."""
        return self._source.waiting_for

    @property
    def serial(self) -> object:
        """Another one when the numbers begin anew."""
        return self._serial

    def close(self) -> None:
        """Hang up."""
        self._source.close()

    def look(self) -> Look:
        """Return the numbers as they are now."""
        look = self._source.look()
        if self._source.attachment is not self._serial:
            self._serial = self._source.attachment
            self._symbols = SymbolWatch(self._source.attachment)
        self._symbols.look(time.monotonic())
        return look

    def ranking(self, look: Look, pattern: str) -> Ranking:
        """Return the symbols that move most, and the silent ones."""
        return self._symbols.ranking(look.time_ns, pattern)

    def explain(self, symbol: str) -> Mapping[str, Any]:
        """Return what the daemon knows of a symbol, from any thread; may take a while."""
        return self._control.status(symbol)
