"""Handlers that the native loop calls: Numba's, compiled when a consumer warms up, and C's."""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, overload

import numpy as np

from mdsys.consume.arguments import writable_buffer
from mdsys.errors import UsageError
from mdsys.record.record import Ticks
from mdsys.wording import plural

if TYPE_CHECKING:
    from mdsys._native import Buffer

PERS: Final = ("batch", "tick")
"""What a handler may be called once for."""

_FUNCTION_POINTER: Final[Any] = ctypes.CFUNCTYPE(None).__mro__[1]


@dataclass(frozen=True, slots=True)
class Callback:
    """What the native loop calls, an `md_handler_fn`, and what has to live as long."""

    address: int
    state: Buffer | None
    keep: object
    """Owns the code."""
    warm: Callable[[], None]
    """Calls it without a record, so that the first one finds its code in memory."""
    repeat: Callable[[Ticks], Exception | None]
    """Calls the function once more with a copy of what it failed at and of its state, and returns
    what it raises: compiled code tells no more than that something was raised."""


class Handler:
    """A function that Numba compiles to a C callback; made by `handler`.

    Attributes:
        function: The Python function.
        per: Whether it is called for a ``tick`` or a ``batch`` at a time.
    """

    def __init__(self, function: Callable[..., Any], per: str = "tick") -> None:
        """See `handler`."""
        check_per(per)
        self.function = function
        self.per = per
        self.__name__ = name_of(function)
        self.__doc__ = function.__doc__
        self._dispatcher: Any = None

    @property
    def dispatcher(self) -> Any:
        """The function as Numba has it.

        Raises:
            HostError: Numba is not installed.
        """
        if self._dispatcher is None:
            from mdsys.consume.numba_callback import compiled

            self._dispatcher = compiled(self.function)
        return self._dispatcher

    def callback(self, state: Any) -> Callback:
        """Compile it for a state: some tenths of a second.

        Raises:
            UsageError: Numba cannot compile it, or the state is not what `check_state` asks for.
            HostError: Numba is not installed.
        """
        from mdsys.consume.numba_callback import make_callback

        check_state(state)
        takes_state = state is not None or needs_state(self.function)
        return make_callback(
            self.dispatcher, self.per, state, takes_state=takes_state, name=name_of(self)
        )


@overload
def handler(function: Callable[..., Any], /) -> Handler: ...
@overload
def handler(*, per: str = "tick") -> Callable[[Callable[..., Any]], Handler]: ...
def handler(
    function: Callable[..., Any] | None = None, /, *, per: str = "tick"
) -> Handler | Callable[[Callable[..., Any]], Handler]:
    """Make a handler that Numba compiles and the native loop calls without the GIL.

        @mdsys.handler
        def on_tick(tick, state):
            state.count += 1

    It is called with a record, ``tick.price`` and so on, and with the consumer's ``state``: of a
    structured array of shape (1,) its record, whose fields can be assigned, of any other array the
    array. Without a state it is called with the tick alone, or, if it takes two, with None.

    Args:
        function: What to compile.
        per: ``tick``, or ``batch``: then it is called with an array of records.

    The records are the consumer's: look at them, keep copies of their fields, do not change them.
    """
    if function is None:
        return lambda function: Handler(function, per)
    return Handler(function, per)


class NativeHandler:
    """A C function as a handler; made by `native_handler`."""

    def __init__(self, function: Any, state: Buffer | None = None) -> None:
        """See `native_handler`."""
        self.function = function
        self.state = state
        self.address = address_of(function)
        self.__name__ = getattr(function, "__name__", None) or f"C function {self.address:#x}"

    def callback(self, state: Buffer | None) -> Callback:
        """Return it with a state, its own if None is given."""
        state = self.state if state is None else state
        return Callback(self.address, state, self.function, lambda: None, lambda _: None)


def native_handler(function: Any, state: Buffer | None = None) -> NativeHandler:
    """Make a handler of a C function, ``md_handler_fn`` of ``mdsys/consumer.h``.

        uint64_t on_ticks(const struct md_record *records, uint64_t count, void *state);

    It returns how many records it has handled: ``count``, or fewer, and then the one behind them is
    reported as that at which it failed. Of a bare ``numba.cfunc`` mind that it returns 0 when its
    function raises, so that the first is blamed, and that ``on_error="skip"`` calls it again with
    those behind the first; `handler` has it right.

    Args:
        function: A ctypes function, something with an ``address`` (``numba.cfunc``), a PyCapsule or
            the address itself; kept as long as the handler lives.
        state: A writable buffer (an array, a ctypes structure, a bytearray) whose address the
            function is called with; None: NULL.

    Raises:
        UsageError: ``function`` is none of that, or ``state`` no such buffer.
    """
    if state is not None:
        writable_buffer("state", state)
    return NativeHandler(function, state)


def address_of(function: Any) -> int:
    """Return the address of a C function."""
    address: int | None = None
    if isinstance(function, int) and not isinstance(function, bool):
        address = function
    elif isinstance(function, _FUNCTION_POINTER):
        address = ctypes.cast(function, ctypes.c_void_p).value
    elif type(function).__name__ == "PyCapsule":
        address = _capsule_pointer(function)
    else:
        address = getattr(function, "address", None)
    if not isinstance(address, int) or not 0 < address < 1 << 64:
        raise UsageError(
            f"native_handler({function!r}): neither a ctypes function, nor a numba.cfunc, a "
            "PyCapsule or an address"
        )
    return address


def _capsule_pointer(capsule: Any) -> int | None:
    get_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(
        ("PyCapsule_GetName", ctypes.pythonapi)
    )
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    pointer: int | None = get_pointer(capsule, get_name(capsule))
    return pointer


def check_per(per: str) -> None:
    """Refuse what is not in PERS."""
    if per not in PERS:
        raise UsageError(f"per {per!r}: one of {', '.join(PERS)}")


def check_state(state: Any) -> None:
    """Refuse a state that compiled code cannot work on in place."""
    if state is None:
        return
    if not isinstance(state, np.ndarray) or state.dtype.hasobject:
        raise UsageError(
            f"state {type(state).__name__}: a Numba handler takes a NumPy array without Python "
            "objects; for named fields np.zeros(1, [('count', 'i8'), ...])"
        )
    if not state.flags.c_contiguous or not state.flags.writeable:
        raise UsageError("state: the array must be C-contiguous and writable")


def needs_state(function: Callable[..., Any]) -> bool:
    """Return whether a function cannot be called with one argument alone."""
    signature = _signature(function)
    if signature is None:
        return False
    positional = _positional(signature)
    return sum(parameter.default is parameter.empty for parameter in positional) > 1


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # of C, without a signature
        return None


def _positional(signature: inspect.Signature) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each for each in signature.parameters.values() if each.kind in kinds]


def check_arity(handler: Any, per: str, state: Any) -> None:
    """Refuse a function that cannot be called as it will be, as far as it tells."""
    function = handler.function if isinstance(handler, Handler) else handler
    signature = _signature(function)
    if signature is None:
        return
    called_with = ["a tick" if per == "tick" else "an array of ticks"]
    if state is not None or needs_state(function):
        called_with.append("a state")
    try:
        signature.bind(*called_with)
    except TypeError as error:
        count = len(_positional(signature))
        takes = f"takes {plural(count, 'argument')}"
        if any(each.kind is each.KEYWORD_ONLY for each in signature.parameters.values()):
            takes = str(error)
        raise UsageError(
            f"handler {name_of(handler)!r}: {takes}, is called with {' and '.join(called_with)}"
        ) from None


def name_of(function: Any) -> str:
    """Return what to call a handler in messages."""
    return str(getattr(function, "__name__", None) or type(function).__name__)
