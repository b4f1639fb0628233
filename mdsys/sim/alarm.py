"""Sleep to the microsecond: the event loops' own timers count milliseconds."""

from __future__ import annotations

import asyncio

from mdsys._generator import Timer


class Alarm:
    """Sleeps until a time of the monotonic clock."""

    def __init__(self) -> None:
        self._timer = Timer()
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()
        self._loop.add_reader(self._timer.fileno(), self._ring)

    async def until(self, at_ns: int) -> None:
        """Sleep until ``at_ns`` of the monotonic clock."""
        self._rung.clear()
        self._timer.set(at_ns)
        await self._rung.wait()

    def close(self) -> None:
        """Let go of the timer."""
        self._loop.remove_reader(self._timer.fileno())
        self._timer.close()

    def _ring(self) -> None:
        self._timer.clear()
        self._rung.set()
