"""One client of the simulated venue: its socket, what it is shown, and what goes wrong on it."""

from __future__ import annotations

import ctypes
import os
import socket as sockets
import struct
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode
from websockets.protocol import State

from mdsys.sim.dialect import Kind, Message, Session, Symbol
from mdsys.sim.faults import Armed, Fault
from mdsys.sim.frames import TEXT, Frame, header, to_frame
from mdsys.sim.source import View

_COUNTED = (Opcode.TEXT, Opcode.BINARY, Opcode.PING, Opcode.PONG)
# asm-generic/socket.h; Python's socket module does not have them.
_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27


class Heard(Protocol):
    """Told of each message that counts."""

    def __call__(self, client: SimClient, *, control: bool) -> None:
        """Count it; ``control``: a PING or PONG."""


class Socket(ServerConnection):
    """The library's connection; it lets its client see each frame as it arrives."""

    client: SimClient | None = None

    def process_event(self, event: Any) -> None:
        """Count a frame before anybody acts on it."""
        if self.client is not None and isinstance(event, WebSocketFrame):
            self.client.arrived(event)
        super().process_event(event)

    def data_received(self, data: bytes) -> None:
        """Hear nothing once half-open."""
        if self.client is None or not self.client.is_frozen:
            super().data_received(data)


class SimClient:
    """See mdsys.sim.dialect.Client. Made at the request to upgrade; shown things once open."""

    def __init__(
        self,
        number: int,
        socket: ServerConnection,
        address: str,
        *,
        heard: Heard,
        broke: Callable[[SimClient, str, str], None],
        struck: Callable[[SimClient, Fault], None],
    ) -> None:
        """Take the socket.

        Args:
            number: Of the attempt to connect, from 1.
            socket: Not open yet.
            address: Where it comes from.
            heard: Told of each message.
            broke: Told of a limit that the dialect saw broken.
            struck: Carries out a fault of the scope ``socket``.
        """
        self.number = number
        self.socket = socket
        self.address = address
        self.session: Session | None = None
        self.view: View | None = None
        self.armed: list[Armed] = []
        self.mutes: list[Fault] = []
        self.slow_size: int | None = None
        """More waiting bytes than this, and it is thrown out."""
        self.is_frozen = False
        self.is_leaving = False
        self.has_spoken = False
        self.size = 0
        """Bytes of market data sent."""
        self._opcode = TEXT
        self._heard = heard
        self._broke = broke
        self._struck = struck

    # ---- for the dialect ----

    def show(self, symbol: Symbol, *kinds: Kind) -> None:
        """Show these events."""
        if self.view is not None:
            self.view.show(symbol, kinds)

    def hide(self, symbol: Symbol, *kinds: Kind) -> None:
        """Show these events no more."""
        if self.view is not None:
            self.view.hide(symbol, kinds)

    def show_streams(self, names: Collection[str]) -> None:
        """Show exactly these streams."""
        if self.view is not None:
            self.view.show_streams(names)

    def breach(self, what: str, words: str = "") -> None:
        """Note a broken limit."""
        self._broke(self, what, words)

    # ---- for the server ----

    @property
    def is_open(self) -> bool:
        """Whether market data may be written: past the handshake, before any close."""
        return (
            self.view is not None
            and self.socket.state is State.OPEN
            and not self.socket.transport.is_closing()
            and not self.is_frozen
        )

    @property
    def streams(self) -> int:
        """How many streams it is shown."""
        return 0 if self.view is None else self.view.streams

    def arrived(self, frame: WebSocketFrame) -> None:
        """Have a frame of the client's counted."""
        if frame.opcode in _COUNTED:
            control = frame.opcode in (Opcode.PING, Opcode.PONG)
            self.has_spoken = self.has_spoken or not control
            self._heard(self, control=control)

    def say(self, messages: Iterable[Message]) -> None:
        """Write messages that are not market data: answers, heartbeats, notices."""
        if self.is_open and not any(not mute.is_partial for mute in self._muted()):
            for message in messages:
                self.socket.transport.write(to_frame(message))

    def pump(self) -> None:
        """Write the current block's frames."""
        if self.view is None or not self.is_open:
            return
        if self.armed or self.mutes:
            for frame in self.view.render_frames():
                self._pass(frame)
        else:
            for block in self.view.render():
                self._write(block)

    def close_view(self) -> None:
        """Show nothing any more."""
        if self.view is not None:
            self.view.close()

    def _write(self, data: bytes) -> None:
        if self.is_open:
            self.size += len(data)
            self._opcode = data[0]
            self.socket.transport.write(data)

    def _is_muted(self, frame: Frame) -> bool:
        return any(mute.matches(frame) for mute in self._muted())

    def _muted(self) -> list[Fault]:
        self.mutes = [mute for mute in self.mutes if not mute.lifted]
        return self.mutes

    def _pass(self, frame: Frame) -> None:
        """Write one frame, unless a fault has other plans."""
        if self._is_muted(frame):
            return
        copies = 1
        after: list[bytes] = []
        for armed in tuple(self.armed):
            held = armed.held
            if held is not None and (held.kind, held.symbol) == (frame.kind, frame.symbol):
                armed.held = None
                after.append(held.data)
            elif armed.strikes(frame):
                name = armed.fault.name
                if name == "hole":
                    copies = 0
                elif name == "duplicate":
                    copies = 2
                elif name == "reorder":
                    armed.held = frame
                    copies = 0
                elif name == "cut":
                    self._write(frame.data[: max(len(frame.data) // 2, 1)])
                    self.socket.transport.close()
                else:
                    self._struck(self, armed.fault)
            if armed.is_spent:
                self.armed.remove(armed)
        if not self._is_muted(frame):  # since just now
            for data in [frame.data] * copies + after:
                self._write(data)

    # ---- faults of the socket ----

    def freeze(self) -> None:
        """Go half-open: the kernel drops what arrives, unread and unacknowledged; nothing is sent.

        A filter that drops every packet (socket(7), SO_ATTACH_FILTER) needs no privilege.
        """
        self.is_frozen = True
        self.close_view()
        if self.socket.keepalive_task is not None:
            self.socket.keepalive_task.cancel()
        drop = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET, 0 bytes
        program = struct.pack("@HP", 1, ctypes.addressof(drop))
        with self._raw() as raw:
            raw.setsockopt(sockets.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def thaw(self) -> None:
        """Let the kernel see the other side again, so that the socket can end."""
        with self._raw() as raw:
            raw.setsockopt(sockets.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def reset(self) -> None:
        """End the socket with a RST."""
        with self._raw() as raw:
            raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.transport.abort()

    def send_garbage(self, payload: bytes) -> None:
        """Send one frame that is no market data, but comes as such: text or binary."""
        if self.is_open:
            self.socket.transport.write(header(len(payload), self._opcode) + payload)

    def _raw(self) -> sockets.socket:
        """Return the socket below the transport, under a descriptor of its own."""
        fd = self.socket.transport.get_extra_info("socket").fileno()
        return sockets.socket(fileno=os.dup(fd))
