"""A handler that failed: what to say of it, and how often."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from mdsys.errors import HandlerError
from mdsys.record.record import Kind, Ticks
from mdsys.wording import plural

if TYPE_CHECKING:
    from mdsys.consume.attach import MarketData
    from mdsys.consume.route import Route

LOG_EVERY_S: Final = 1.0
log = logging.getLogger("mdsys.consume")


def failure(
    market_data: MarketData, route: Route, ticks: Ticks, cause: Exception | None
) -> HandlerError:
    """Return the error to raise or to report.

    Args:
        market_data: Knows the symbol's name.
        route: The handler.
        ticks: What it was called with, a copy: one record, or the batch.
        cause: What it raised; None: it is native, so that its repetition has to tell.
    """
    text = f"handler {route.name!r} failed at {_described(market_data, ticks)}"
    if cause is not None:
        text += f": {_shown(cause)}"
    elif route.repeats and route.callback is not None:
        cause = route.callback.repeat(ticks)
        again = "called once more, with copies of what it had and of its state"
        text += f": {_shown(cause)} ({again})" if cause else f" ({again}, it does not)"
    error = HandlerError(text, route.handler, ticks)
    error.__cause__ = cause
    return error


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _described(market_data: MarketData, ticks: Ticks) -> str:
    first = ticks[0]
    try:
        kind = Kind(int(first["kind"])).name.lower()
    except ValueError:
        kind = f"record of kind {first['kind']}"
    symbol = market_data.symbol_name(int(first["symbol_id"])) or "the whole ring"
    one = f"the {kind} of {symbol}, sequence {first['seq']}"
    return one if len(ticks) == 1 else f"a batch of {plural(len(ticks), 'record')} from {one} on"


class FailureLog:
    """Logs failures, of each handler at most one in a while: it may fail at every tick."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def report(self, name: str, error: HandlerError) -> None:
        """Log one, or only count it."""
        now = time.monotonic()
        if now < self._next.get(name, 0.0):
            self._unsaid[name] = self._unsaid.get(name, 0) + 1
            return
        self._next[name] = now + LOG_EVERY_S
        unsaid = self._unsaid.pop(name, 0)
        more = f" (and {plural(unsaid, 'failure')} since the last that was logged)"
        log.error("%s%s", error, more if unsaid else "", exc_info=error.__cause__)
