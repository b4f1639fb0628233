"""What a supervisor tells a feed: one JSON datagram each, over the socket of the feed's reports.

Bulk (a reader's page, a book's snapshot, the recorder's ring) comes as a descriptor with its order.
Everything else fits in ``ORDER_SIZE_MAX`` bytes, since whoever sends it sends long lists in pieces:
``connect_orders``, ``symbol_lists``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

import msgspec

from mdsys.descriptors import receive_fds
from mdsys.feed.plan import ConnectionPlan

ORDER_SIZE_MAX: Final = 64 << 10
SYMBOLS_MAX: Final = 200
"""Of one order: a name has up to 59 bytes and so has what is on the wire, which goes as hex."""
LOSSLESS: Final = "lossless"


class Order(msgspec.Struct, frozen=True, tag_field="do"):
    """What all orders have in common."""

    def encode(self) -> bytes:
        """Return the datagram."""
        return msgspec.json.encode(self)


class ReaderAdd(Order, frozen=True, tag="reader_add"):
    """A reader of some of the feed's rings has come; its page, read-only, comes with it."""

    reader: int
    policy: str
    rings: list[int]


class ReaderRemove(Order, frozen=True, tag="reader_remove"):
    """It has left."""

    reader: int


class Permit(Order, frozen=True, tag="permit"):
    """Leave for what was asked for under ``id``."""

    id: int
    secret: dict[str, str] | None = None
    """What dials the venue; None: it needs nothing, or it was a message that was asked for."""

    def __repr__(self) -> str:
        """Show no secret."""
        return f"Permit(id={self.id})"


class Refuse(Order, frozen=True, tag="refuse"):
    """No leave, until something is mended."""

    id: int
    words: str


class Connect(Order, frozen=True, tag="connect"):
    """Open a connection, and keep it."""

    plan: ConnectionPlan


class Close(Order, frozen=True, tag="close"):
    """Close a connection for good; its symbols are nobody's here any more."""

    connection: int


class Subscribe(Order, frozen=True, tag="subscribe"):
    """More symbols for a connection."""

    connection: int
    symbols: list[tuple[str, str | None]]
    """Each with what names it on the wire, in hex; None: its name does."""


class Unsubscribe(Order, frozen=True, tag="unsubscribe"):
    """Symbols leave a connection."""

    connection: int
    symbols: list[str]


class Resubscribe(Order, frozen=True, tag="resubscribe"):
    """Ask for streams that are mute once more."""

    connection: int
    symbols: list[str]
    channel: str


class Reconnect(Order, frozen=True, tag="reconnect"):
    """Hang up and dial again, at once: the socket is mute."""

    connection: int
    words: str


class Redial(Order, frozen=True, tag="redial"):
    """Dial now if it is denied or waits: something has been mended."""

    connection: int


class Stale(Order, frozen=True, tag="stale"):
    """Tell the readers of symbols that a channel of theirs is silent beyond its habit."""

    venue: str
    symbols: list[str]
    channel: str
    last_ns: list[int] = []
    """When each was last heard, in ns; 0: never. None: not known."""


class Snapshot(Order, frozen=True, tag="snapshot"):
    """A book by REST: the body comes with it, as a file in memory."""

    venue: str
    symbol: str
    asked: int = 0
    """Levels a side that were asked for; 0: all."""


class Capture(Order, frozen=True, tag="capture"):
    """Copy every frame into the ring that comes with it, as a file in memory."""


class CaptureHold(Order, frozen=True, tag="capture_hold"):
    """Keep the recorder's connection, which comes with it, open until no more is copied.

    So it ends for the recorder when the last has ended who could still copy anything.
    """


class CaptureAgain(Order, frozen=True, tag="capture_again"):
    """Tell the recorder anew all that a decoder must know: it begins another file."""


class CaptureEnd(Order, frozen=True, tag="capture_end"):
    """Copy no more."""


AnyOrder = (
    ReaderAdd
    | ReaderRemove
    | Permit
    | Refuse
    | Connect
    | Close
    | Subscribe
    | Unsubscribe
    | Resubscribe
    | Reconnect
    | Redial
    | Stale
    | Snapshot
    | Capture
    | CaptureHold
    | CaptureAgain
    | CaptureEnd
)
WITH_DESCRIPTOR: Final = (ReaderAdd, Snapshot, Capture, CaptureHold)

T = TypeVar("T")

_decoder = msgspec.json.Decoder(AnyOrder)


def symbol_lists(symbols: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut a list of symbols, or of something of each, into such as fit in one order."""
    for at in range(0, len(symbols), SYMBOLS_MAX):
        yield symbols[at : at + SYMBOLS_MAX]


def connect_orders(plan: ConnectionPlan) -> Iterator[Order]:
    """Give the orders that open a connection: of a large one the symbols follow in pieces."""
    pieces = list(symbol_lists(plan.symbols))
    first = tuple(pieces[0]) if pieces else ()
    wires = {name: plan.wires[name] for name in first if name in plan.wires}
    yield Connect(replace(plan, symbols=first, wires=wires))
    for piece in pieces[1:]:
        yield Subscribe(plan.number, [(name, wire_hex(plan.wires, name)) for name in piece])


def wire_hex(wires: Mapping[str, bytes], name: str) -> str | None:
    """Return what names a symbol on the wire as an order has it."""
    return wires[name].hex() if name in wires else None


def receive_order(channel: socket.socket) -> tuple[AnyOrder, int]:
    """Receive one order, and the descriptor that came with it: the caller's to close, -1 for none.

    Raises:
        BlockingIOError: There is nothing.
        EOFError: The supervisor is gone.
        ValueError: It was no order; it is received all the same, and nothing of it is left. The
            words do not repeat what it held: that may be a secret.
    """
    data, fds, whole = receive_fds(channel, ORDER_SIZE_MAX, 1)
    try:
        if not data and not fds:
            raise EOFError
        if not whole:
            raise ValueError("too long, or with more than one descriptor")
        order: AnyOrder = _decoder.decode(data)
        if len(fds) != isinstance(order, WITH_DESCRIPTOR):
            raise ValueError(f"{type(order).__name__} with {len(fds)} descriptors")
        return order, fds.pop() if fds else -1
    finally:
        for fd in fds:
            os.close(fd)
