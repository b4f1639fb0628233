"""WebSocket frames as a server writes them: whole, unmasked (RFC 6455 section 5.2)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from mdsys.sim.dialect import Kind, Message

TEXT = 0x81
BINARY = 0x82


class Frame(NamedTuple):
    """One frame of market data, and what it is about: faults choose by that."""

    kind: Kind | Literal["other"]
    symbol: str
    """In capitals; "": several, or unknown."""
    data: bytes
    """With its header."""


def header(size: int, opcode: int = TEXT) -> bytes:
    """Return the header of a frame whose payload has ``size`` bytes."""
    if size <= 125:
        return bytes((opcode, size))
    if size <= 0xFFFF:
        return bytes((opcode, 126)) + size.to_bytes(2)
    return bytes((opcode, 127)) + size.to_bytes(8)


def to_frame(message: Message) -> bytes:
    """Return a message as one frame."""
    if isinstance(message, str):
        payload = message.encode()
        return header(len(payload)) + payload
    return header(len(message), BINARY) + message
