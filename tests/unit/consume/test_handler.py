"""Numba and C functions as what the native loop calls."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

import mdsys
from mdsys import TICK, HostError, handler, native_handler
from mdsys.consume.handler import Callback, address_of, needs_state
from mdsys.errors import UsageError
from tests.instances import trades

numba = pytest.importorskip("numba")

ENTRY: Any = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p)
STATE = [("count", "i8"), ("sum", "f8"), ("last", TICK)]


def call(callback: Callback, ticks: Any, first: int = 0) -> int:
    """Call as the native loop does; return how many it has handled."""
    state = callback.state
    where = None if state is None else np.frombuffer(state, np.uint8).ctypes.data
    rest = ticks[first:]
    return int(ENTRY(callback.address)(rest.ctypes.data, len(rest), where))


# ---- Numba -------------------------------------------------------------------------------------


def test_handler_works_on_the_fields_of_its_state() -> None:
    @handler
    def on_tick(tick: Any, state: Any) -> None:
        state.count += 1
        state.sum += tick.price / 10**tick.price_scale

    state = np.zeros(1, STATE)
    ticks = trades(10)
    assert call(on_tick.callback(state), ticks) == 10
    assert state["count"][0] == 10
    assert state["sum"][0] == pytest.approx((ticks["price"] / 1e8).sum())


def test_every_field_of_a_tick_is_read_where_it_stands() -> None:
    names = TICK.names
    assert names is not None
    ticks = np.zeros(1, TICK)
    ticks.view(np.uint8)[:] = np.arange(64)
    lines = [f"    state[{i}] = tick.{name}" for i, name in enumerate(names)]
    scope: dict[str, Any] = {}
    exec("\n".join(["def on_tick(tick, state):", *lines]), scope)
    state = np.zeros(len(names), np.int64)
    assert call(handler(scope["on_tick"]).callback(state), ticks) == 1
    assert state.tolist() == [int(ticks[name][0]) for name in names]


@pytest.mark.parametrize("shape", [(4,), (2, 3), (), (1, 1)])
def test_state_that_is_no_record_is_passed_as_the_array(shape: tuple[int, ...]) -> None:
    @handler
    def on_tick(tick: Any, state: Any) -> None:
        state[...] = state + tick.price

    state = np.zeros(shape)
    ticks = trades(3)
    assert call(on_tick.callback(state), ticks) == 3
    assert (state == ticks["price"].sum()).all()


def test_structured_state_of_several_rows_is_passed_as_the_array() -> None:
    @handler
    def on_tick(tick: Any, state: Any) -> None:
        state[tick.symbol_id].count += 1

    state = np.zeros(3, STATE)
    assert call(on_tick.callback(state), trades(5, symbol_id=2)) == 5
    assert state["count"].tolist() == [0, 0, 5]


def test_handler_without_state_takes_the_tick_alone_or_none() -> None:
    @handler
    def alone(tick: Any) -> None:
        if tick.trade_id == 2:
            raise ValueError

    @handler
    def with_none(tick: Any, state: Any) -> None:
        if state is None and tick.trade_id == 3:
            raise ValueError

    assert call(alone.callback(None), trades(5)) == 2
    assert call(with_none.callback(None), trades(5)) == 3


def test_batch_handler_gets_an_array() -> None:
    @handler(per="batch")
    def on_ticks(ticks: Any, state: Any) -> None:
        state.count += len(ticks)
        state.sum += ticks["price"].sum()

    state = np.zeros(1, STATE)
    ticks = trades(10)
    callback = on_ticks.callback(state)
    callback.warm()
    assert state["count"][0] == 0, "warming up must not call the function"
    assert call(callback, ticks) == 10
    assert (state["count"][0], state["sum"][0]) == (10, ticks["price"].sum())


def test_failing_tick_is_known_and_is_repeated_on_copies() -> None:
    @handler
    def on_tick(tick: Any, state: Any) -> None:
        state.count += 1
        if tick.trade_id == 7:
            raise ValueError("seven", tick.price)

    state, ticks = np.zeros(1, STATE), trades(10)
    callback = on_tick.callback(state)
    assert call(callback, ticks) == 7
    before = state.copy(), ticks.copy()
    raised = callback.repeat(ticks[7:8])
    assert isinstance(raised, ValueError)
    assert raised.args == ("seven", int(ticks["price"][7]))
    assert (state == before[0]).all(), "the repetition must not touch the state"
    assert (ticks == before[1]).all()
    assert callback.repeat(ticks[8:9]) is None
    assert call(callback, ticks, first=8) == 2


def test_failing_batch_is_passed_over_as_a_whole() -> None:
    @handler(per="batch")
    def on_ticks(ticks: Any, state: Any) -> None:
        state[0] += 1
        if ticks[0].trade_id == 0:
            raise ValueError("zero")

    state = np.zeros(1)
    callback = on_ticks.callback(state)
    assert call(callback, trades(10)) == 9, "the last is named, so that the loop goes on behind"
    assert isinstance(callback.repeat(trades(10)), ValueError)
    assert call(callback, trades(1)) == 0
    assert call(callback, trades(10, first=1)) == 10
    assert state[0] == 3


def test_dividing_by_zero_raises() -> None:
    @handler
    def on_tick(tick: Any, state: Any) -> None:
        state[0] = tick.price // tick.trade_id

    callback = on_tick.callback(np.zeros(1))
    assert call(callback, trades(3)) == 0
    assert isinstance(callback.repeat(trades(1)), ZeroDivisionError)


def test_what_numba_cannot_compile_is_a_usage_error() -> None:
    @handler
    def on_tick(tick: Any) -> Any:
        return tick.nonsense

    with pytest.raises(UsageError, match=r"handler 'on_tick': Numba cannot compile .*nonsense"):
        on_tick.callback(None)


@pytest.mark.parametrize(
    "state",
    [
        {},
        [1],
        np.array([{}]),
        np.zeros((4, 4)).T[:2],
        np.broadcast_to(np.zeros(1), 4),
    ],
)
def test_state_that_compiled_code_cannot_change_in_place_is_refused(state: Any) -> None:
    with pytest.raises(UsageError, match="state"):
        handler(lambda tick, state: None).callback(state)


def test_per_is_a_tick_or_a_batch() -> None:
    assert handler(lambda tick: None).per == "tick"
    with pytest.raises(UsageError, match="per 'frame'"):
        handler(per="frame")(lambda tick: None)


def test_numba_is_asked_for_when_a_handler_is_compiled_and_not_before() -> None:
    program = textwrap.dedent(
        """
        import sys
        sys.modules["numba"] = None  # as where it is not installed
        import mdsys

        @mdsys.handler
        def on_tick(tick): ...

        consumer = mdsys.Consumer("none", on_tick)
        try:
            consumer.run()
        except mdsys.HostError as error:
            print(error)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert "pip install 'mdsys[numba]'" in done.stdout


def test_importing_mdsys_does_not_import_numba() -> None:
    subprocess.run(
        [sys.executable, "-c", "import sys, mdsys; assert 'numba' not in sys.modules"],
        check=True,
        timeout=60,
    )


# ---- C -----------------------------------------------------------------------------------------


@ENTRY  # type: ignore[untyped-decorator]
def half(_: int, count: int, __: int) -> int:
    return count // 2


def test_c_function_comes_in_four_guises() -> None:
    address = ctypes.cast(half, ctypes.c_void_p).value
    assert address is not None
    new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
        ("PyCapsule_New", ctypes.pythonapi)
    )
    capsules = [new(address, b"md_handler_fn", None), new(address, None, None)]
    cfunc = numba.cfunc("uint64(voidptr, uint64, voidptr)")(lambda records, count, state: count)
    for function in [half, address, *capsules]:
        assert address_of(function) == address
    assert address_of(cfunc) == cfunc.address
    assert call(native_handler(half).callback(None), trades(10)) == 5
    assert call(native_handler(cfunc).callback(None), trades(10)) == 10


@pytest.mark.parametrize("function", [0, -1, 1 << 64, True, None, "f", len, object()])
def test_what_is_no_c_function_is_a_usage_error(function: Any) -> None:
    with pytest.raises(UsageError, match="neither a ctypes function"):
        native_handler(function)


def test_native_state_is_any_writable_buffer_and_the_consumers_wins() -> None:
    class State(ctypes.Structure):
        _fields_ = [("count", ctypes.c_int64)]

    own: Any = State()
    given: Any = bytearray(8)
    native = native_handler(half, own)
    assert native.callback(None).state is own
    assert native.callback(given).state is given


@pytest.mark.parametrize(
    ("function", "needs"),
    [
        (lambda tick: None, False),
        (lambda tick, state: None, True),
        (lambda tick, state=None: None, False),
        (lambda tick, *rest: None, False),
        (lambda tick, *, state=None: None, False),
        ([].append, False),
        (print, False),
    ],
)
def test_function_needs_a_state_when_it_cannot_do_without(function: Any, needs: Any) -> None:
    assert needs_state(function) is needs


def test_errors_are_of_the_family() -> None:
    assert issubclass(mdsys.HandlerError, mdsys.MdsysError)
    assert issubclass(HostError, mdsys.MdsysError)
