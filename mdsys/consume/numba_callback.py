"""Numba functions as C callbacks. Imported only where a Numba handler is compiled."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from mdsys.consume.handler import Callback
from mdsys.errors import HostError, UsageError
from mdsys.record.record import TICK, Ticks

try:
    import numba
    from numba.np import numpy_support
except ImportError as error:
    raise HostError(f"@mdsys.handler needs Numba ({error}): pip install 'mdsys[numba]'") from error

ENTRY = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p)


def compiled(function: Callable[..., Any]) -> Any:
    """Return the function for Numba to compile, in its strict mode: dividing by 0 raises."""
    return numba.njit(function)


def make_callback(
    dispatcher: Any, per: str, state: Any, *, takes_state: bool, name: str
) -> Callback:
    """Compile a dispatcher to a callback.

    Args:
        dispatcher: What `compiled` returned.
        per: ``tick`` or ``batch``.
        state: A C-contiguous, writable array, or None.
        takes_state: Whether the function is called with two arguments.
        name: For messages.
    """
    tick = numpy_support.from_dtype(TICK)
    try:
        opened, pointer = _opened(state)
        signature = numba.types.uint64(
            numba.types.CPointer(tick), numba.types.uint64, numba.types.CPointer(pointer)
        )
        call = _calling(dispatcher, takes_state=takes_state)
        cfunc = numba.cfunc(signature)((_per_tick if per == "tick" else _per_batch)(call, opened))
    except Exception as error:  # typing a field that is not there raises a bare KeyError
        of = "without state" if state is None else f"for a state of {state.dtype}, {state.shape}"
        raise UsageError(f"handler {name!r}: Numba cannot compile it {of}: {error!s}") from error
    repeating = _repeating(dispatcher, per, state, takes_state=takes_state)
    entry = ENTRY(cfunc.address)
    where = None if state is None else state.ctypes.data
    return Callback(
        cfunc.address,
        state,
        cfunc,
        lambda: entry(None, 0, where),
        lambda ticks: _raised_by(repeating, ticks, state),
    )


def _is_record(state: Any) -> bool:
    return state.dtype.names is not None and state.shape == (1,)


def _opened(state: Any) -> tuple[Any, Any]:
    """Return what makes the function's second argument of a pointer, and the pointer's type."""
    if state is None:
        return numba.njit(lambda _: None), numba.types.uint8
    pointed = numpy_support.from_dtype(state.dtype)
    if _is_record(state):
        return numba.njit(lambda pointer: numba.carray(pointer, 1)[0]), pointed
    shape = state.shape
    return numba.njit(lambda pointer: numba.carray(pointer, shape)), pointed


def _calling(dispatcher: Any, *, takes_state: bool) -> Any:
    if takes_state:
        return dispatcher
    return numba.njit(lambda what, _: dispatcher(what))


# An exception may not leave a callback: Numba would print it and return 0, and which record it was
# would be lost.


def _per_tick(call: Any, opened: Any) -> Callable[..., Any]:
    def run(records: Any, count: Any, pointer: Any) -> Any:
        ticks = numba.carray(records, count)
        state = opened(pointer)
        for i in range(count):
            try:
                call(ticks[i], state)
            except Exception:  # noqa: BLE001  # all that Numba can tell apart
                return i
        return count

    return run


def _per_batch(call: Any, opened: Any) -> Callable[..., Any]:
    def run(records: Any, count: Any, pointer: Any) -> Any:
        if count == 0:
            return count
        try:
            call(numba.carray(records, count), opened(pointer))
        except Exception:  # noqa: BLE001  # all that Numba can tell apart
            return count - numba.uint64(1)  # a batch is handled as one: go on behind it
        return count

    return run


def _repeating(dispatcher: Any, per: str, state: Any, *, takes_state: bool) -> Any:
    """Return the same call for arrays: a record of Python's cannot be passed to Numba's code."""
    call = _calling(dispatcher, takes_state=takes_state)
    if per == "batch":
        first = numba.njit(lambda ticks: ticks)
    else:
        first = numba.njit(lambda ticks: ticks[0])
    if state is not None and _is_record(state):
        return numba.njit(lambda ticks, state: call(first(ticks), state[0]))
    return numba.njit(lambda ticks, state: call(first(ticks), state))


def _raised_by(repeating: Any, ticks: Ticks, state: Any) -> Exception | None:
    try:
        repeating(np.copy(ticks), None if state is None else np.copy(state))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what was asked for
        return error
    return None
