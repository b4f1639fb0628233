"""A handler of a consumer: what it wants, and how it is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mdsys.consume.arguments import names, plain_function, writable_buffer
from mdsys.consume.handler import (
    Callback,
    Handler,
    NativeHandler,
    check_arity,
    check_per,
    name_of,
    needs_state,
)
from mdsys.consume.symbol_info import symbol_bitmap
from mdsys.errors import UsageError
from mdsys.record.record import TICK, Kind, Ticks

if TYPE_CHECKING:
    from mdsys._consume import Loop
    from mdsys._native import Buffer
    from mdsys.consume.attach import MarketData

Row = tuple[int, "Buffer | None", int, "Buffer | None", "Buffer | None"]


def aligned_ticks(count: int) -> Ticks:
    """Return room for records, each on a cache line of its own, its pages in memory."""
    raw = np.zeros((count + 1) * TICK.itemsize, np.uint8)
    raw[:] = 0  # else the kernel gives each page at the first write into it
    begin = -raw.ctypes.data % TICK.itemsize
    return raw[begin : begin + count * TICK.itemsize].view(TICK)


def as_list(value: Any) -> list[Any]:
    """Return what was given alone or as several."""
    alone = isinstance(value, (str, int)) or not isinstance(value, Iterable)
    return [value] if alone else list(value)


def kind_mask(kinds: Any) -> int:
    """Return kinds, given as Kind or by name, one or several, as the loop's bits; None: 0, all."""
    if kinds is None:
        return 0
    mask = 0
    for kind in as_list(kinds):
        try:
            mask |= 1 << (Kind[kind.upper()] if isinstance(kind, str) else Kind(kind))
        except (KeyError, ValueError):
            known = ", ".join(each.name.lower() for each in Kind)
            raise UsageError(f"kind {kind!r}: one of {known}") from None
    if mask == 0:
        raise UsageError("kinds: none is named; leave it out for all")
    return mask


class Route:
    """One handler. Arguments as of `Consumer.on`."""

    def __init__(self, handler: Any, kinds: Any, symbols: Any, state: Any, per: str | None) -> None:
        self.native = isinstance(handler, (Handler, NativeHandler))
        """Whether the native loop calls it."""
        if not self.native:
            plain_function("handler", handler)
        if per is not None:
            check_per(per)
        self.handler = handler
        self.name = name_of(handler)
        self.per = per or "batch"
        if isinstance(handler, Handler):
            self.per = handler.per
        self.repeats = isinstance(handler, Handler)
        """Whether, having failed, it can be called once more on copies."""
        if self.native and per not in (None, self.per):
            raise UsageError(f"handler {self.name!r}: per={per!r} is said where it is made")
        if not isinstance(handler, NativeHandler):
            check_arity(handler, self.per, state)
        elif state is not None:
            writable_buffer("state", state)
        self._kinds = kind_mask(kinds)
        self._patterns: Sequence[str] | None = None
        if symbols is not None:
            self._patterns = names("symbols", symbols)
            if not self._patterns:
                raise UsageError("symbols: none is named; leave it out for all")
        self._state = state
        self._picked: Ticks | None = None
        self.callback: Callback | None = None
        self.call: Callable[[Any], object] = handler
        """Of Python's: takes the records alone."""
        if not self.native and (state is not None or needs_state(handler)):
            self.call = lambda ticks: handler(ticks, state)

    def compile(self) -> None:
        """Do once what takes long."""
        if self.native and self.callback is None:
            self.callback = self.handler.callback(self._state)
            if self.callback.state is not None:
                _touch(self.callback.state)
            self.callback.warm()

    def row(self, market_data: MarketData, room: int) -> Row:
        """Return it as `_consume.Loop.begin` takes it, with the symbols of an instance.

        Raises:
            UsageError: One of its names or globs matches no symbol.
        """
        wanted = None
        if self._patterns is not None:
            wanted = symbol_bitmap(market_data.match(self._patterns))
        if self._picks and (self._picked is None or len(self._picked) < room):
            self._picked = aligned_ticks(room)
        address, state = 0, None
        if self.callback is not None:
            address, state = self.callback.address, self.callback.state
        return address, state, self._kinds, wanted, self._picked

    @property
    def _picks(self) -> bool:
        return self._kinds != 0 or self._patterns is not None

    @property
    def fails_whole(self) -> bool:
        """Whether the native loop cannot say which record of a batch it failed at."""
        return self.repeats and self.per == "batch"

    def records(self, loop: Loop, index: int, batch: Ticks) -> Ticks:
        """Return what it gets of the loop's present batch, in which it has the place ``index``.

        A view of buffers of ours, not to be written: others get the same.
        """
        if self._picked is None:
            return batch[: loop.count]
        view = self._picked[: loop.pick(index)]
        view.flags.writeable = False
        return view


def _touch(state: Any) -> None:
    """Have each of its pages in memory."""
    np.frombuffer(state, np.uint8)[::4096].max(initial=0)
