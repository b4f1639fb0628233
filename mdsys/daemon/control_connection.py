"""One client of the control socket: its requests, its answers, its end.

A wrong request gets an error line and changes nothing; who sends without end, or does not take its
answers, is dropped. So a connection costs at most one request and one answer of memory, and both
are bounded.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import select
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from mdsys.config_checks import shown
from mdsys.daemon.readers import Peer, Refused, Registered
from mdsys.ring.control_socket import ANSWER_SIZE_MAX, REQUEST_SIZE_MAX, TIMEOUT_S, peer_of
from mdsys.ring.lock import start_ticks

if TYPE_CHECKING:
    from mdsys.daemon.control import Control

IDLE_S = 300.0
"""Who neither reads nor records nor asks for anything for so long gives its place away."""

log = logging.getLogger("mdsys.daemon")


class Held:
    """What is kept of a connection from one request to the next; it goes with the connection."""

    __slots__ = ("__weakref__", "connection", "fd", "names", "on_close")

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.names: dict[str, list[str]] = {}
        """Operation -> names that came so far."""
        self.fd = -1
        """Goes with the answer that is being made, and is closed then; -1: none."""
        self.on_close: list[Callable[[], object]] = []
        """Called when the connection ends."""


class Connection:
    """One client: reads a request, sends its answer, and only then reads the next."""

    def __init__(self, control: Control, connection: socket.socket) -> None:
        self._control = control
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._in = bytearray()
        self._out = memoryview(b"")
        self._out_fd = -1
        """Goes with the first byte of the answer."""
        self._last = False
        """Whether the connection ends with this answer."""
        self._stall: asyncio.TimerHandle | None = None
        self._work: asyncio.Task[None] | None = None
        """Makes an answer that takes time; nothing is read meanwhile."""
        self._held = Held(connection)
        self._reader: Registered | None = None
        self._pidfd = -1
        self._busy_s = self._loop.time()
        """When it last asked for something, or was answered."""
        self._idle = self._loop.call_later(IDLE_S, self._drop_idle)
        self._loop.add_reader(connection, self._readable)

    @property
    def is_answering(self) -> bool:
        """Whether an answer is in the making, or not taken yet."""
        return self._work is not None or len(self._out) > 0

    def _readable(self) -> None:
        try:
            data = self._socket.recv(REQUEST_SIZE_MAX + 1 - len(self._in))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close("has left")
            return
        self._in += data
        self._serve()

    def _serve(self) -> None:
        """Answer what has come, as long as the answers are taken."""
        while not self._out and self._work is None and self._socket.fileno() >= 0:
            line, feed, rest = self._in.partition(b"\n")
            if feed:
                self._in = rest
                answer = self._answer(line)
                if isinstance(answer, bytes):
                    self._send(answer)
                else:
                    self._loop.remove_reader(self._socket)
                    self._work = asyncio.ensure_future(self._answer_later(answer))
            elif len(line) > REQUEST_SIZE_MAX:
                self._control.requests += 1
                self._control.refused += 1
                self._control.dropped += 1
                self._last = True
                self._in.clear()
                self._send(error_line(f"a request may have {REQUEST_SIZE_MAX} bytes"))
            else:
                return

    def _answer(self, line: bytearray) -> bytes | Awaitable[Mapping[str, Any]]:
        self._control.requests += 1
        self._busy_s = self._loop.time()
        try:
            return self._obey(_request(line))
        except Refused as error:
            why = str(error)
        except RecursionError:  # it could be read, but not be quoted
            why = "nested too deep"
        except Exception as error:  # a fault of ours: the client shall not wait for ever
            log.exception("control socket: a request failed")
            why = _fault(error)
        return self._refusal(why)

    def _refusal(self, why: str) -> bytes:
        self._control.refused += 1
        return error_line(why)

    async def _answer_later(self, answer: Awaitable[Mapping[str, Any]]) -> None:
        """Send an answer when it is there; the change goes on even if nobody waits for it."""
        try:
            line = line_of(await answer)
        except Refused as error:
            line = self._refusal(str(error))
        except Exception as error:  # as above
            log.exception("control socket: a request failed")
            line = self._refusal(_fault(error))
        self._work = None
        self._busy_s = self._loop.time()
        if self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket, self._readable)
            self._send(line)
            self._serve()

    def _obey(self, request: Mapping[str, Any]) -> bytes | Awaitable[Mapping[str, Any]]:
        op = request.get("op")
        if op == "register":
            return self._register(request)
        if op == "readers":
            whole = request.get("histograms", False)
            if len(request) > 1 + ("histograms" in request) or not isinstance(whole, bool):
                raise Refused("readers takes histograms, true or false, and no more")
            return self._control.readers_answer(histograms=whole)
        operations = self._control.operations
        names = () if operations is None else operations.names
        if operations is not None and isinstance(op, str) and op in names:
            answer = operations.obey(request, self._held)
            self._out_fd, self._held.fd = self._held.fd, -1
            return line_of(answer) if isinstance(answer, Mapping) else answer
        raise Refused(f"op: {shown(op)} is none of {', '.join(('register', 'readers', *names))}")

    def _register(self, request: Mapping[str, Any]) -> bytes:
        if self._reader is not None:
            raise Refused("this connection has registered a reader already")
        peer, pidfd = _hold(self._socket)
        try:
            self._reader, self._out_fd = self._control.readers.register(request, peer)
        except BaseException:
            os.close(pidfd)
            raise
        self._control.forget_answer()
        self._pidfd = pidfd
        self._loop.add_reader(pidfd, self.close, "has died")
        defaults = self._reader.page.defaults()
        return line_of(
            {
                "ok": True,
                "reader": self._reader.number,
                **defaults,
                "core": self._reader.core,
                "core_users": self._control.readers.others_on_core(self._reader),
            }
        )

    def _send(self, answer: bytes) -> None:
        self._out = memoryview(answer)
        self._write()
        if self._out:
            self._loop.remove_reader(self._socket)
            self._loop.add_writer(self._socket, self._writable)
            self._stall = self._loop.call_later(TIMEOUT_S, self._drop)

    def _write(self) -> None:
        """Send what can be sent now; ends the connection when that was its last, or it is gone."""
        try:
            while self._out:
                if self._out_fd >= 0:
                    sent = socket.send_fds(self._socket, [self._out], [self._out_fd])
                    self._close_out_fd()
                else:
                    sent = self._socket.send(self._out)
                self._out = self._out[sent:]
        except BlockingIOError:
            return
        except OSError:
            self.close("has left")
            return
        if self._last:
            self.close("sent a request without end")

    def _writable(self) -> None:
        self._write()
        if self._out or self._socket.fileno() < 0:
            return
        self._loop.remove_writer(self._socket)
        self._loop.add_reader(self._socket, self._readable)
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        self._serve()

    def _drop(self) -> None:
        self._control.dropped += 1
        self.close("does not take its answers")

    def _drop_idle(self) -> None:
        """End who holds a place and asks for nothing; readers and recorders stay."""
        left_s = self._busy_s + IDLE_S - self._loop.time()
        if self._reader is not None or self._held.on_close or self._work is not None:
            left_s = IDLE_S
        if left_s > 0:
            self._idle = self._loop.call_later(left_s, self._drop_idle)
            return
        self._control.dropped += 1
        self.close("asks for nothing")

    def _close_out_fd(self) -> None:
        if self._out_fd >= 0:
            os.close(self._out_fd)
            self._out_fd = -1

    def close(self, why: str) -> None:
        """End the connection, and reap its reader."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._out = memoryview(b"")
        self._close_out_fd()
        self._idle.cancel()
        if self._stall is not None:
            self._stall.cancel()
        if self._reader is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._control.readers.remove(self._reader, why)
        for each in self._held.on_close:
            each()
        self._control.forget(self)


def _hold(connection: socket.socket) -> tuple[Peer, int]:
    """Return who connected, and a descriptor that tells of its end.

    The process may be gone by now, and its number another's. So first a hold on whoever bears the
    number, then when that one started, and last whether it still is the one that is held.
    """
    pid, uid = peer_of(connection)
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:  # 0: in a PID namespace that is none of ours
        raise Refused(
            f"process {pid} cannot be watched ({error.strerror}): readers run in the daemon's "
            "PID namespace"
        ) from error
    ticks = start_ticks(pid)
    look = select.poll()
    look.register(pidfd, select.POLLIN)
    if look.poll(0) or not ticks:
        os.close(pidfd)
        raise Refused(f"process {pid} has ended")
    return Peer(pid, uid, ticks), pidfd


def _request(line: bytearray) -> dict[str, Any]:
    try:
        request = json.loads(line.decode(), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise Refused("no JSON") from error
    if not isinstance(request, dict):
        raise Refused("no JSON object")
    return request


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse what readers of JSON take differently: the first of two values, or the last."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Refused(shown(key).strip('"') + " stands twice")
        found[key] = value
    return found


def line_of(answer: Mapping[str, Any]) -> bytes:
    """Return an answer as it is sent."""
    line = json.dumps(answer, separators=(",", ":")).encode() + b"\n"
    if len(line) > ANSWER_SIZE_MAX:
        return error_line(f"obeyed, but the answer has more than {ANSWER_SIZE_MAX} bytes")
    return line


def _fault(error: Exception) -> str:
    """Return what is answered where the fault is ours."""
    return f"{type(error).__name__}: {error}"


def error_line(why: str) -> bytes:
    """Return a refusal as it is sent."""
    return line_of({"ok": False, "error": why})
