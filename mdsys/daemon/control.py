"""The control socket's server: JSON lines over a unix socket; docs/control-socket.md.

The socket's mode lets the instance's group in. A mode can be changed, so whoever connects is looked
at again: heard is whom the kernel calls root, the daemon's user or one of the group. They may still
send anything. A wrong request gets an error line and changes nothing; who sends without end, or
does not take its answers, is dropped. So a connection costs at most one request and one answer of
memory, and both are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import select
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from mdsys.config_checks import shown
from mdsys.daemon.readers import Peer, Readers, Refused, Registered
from mdsys.ring.control_socket import (
    ANSWER_SIZE_MAX,
    REQUEST_SIZE_MAX,
    TIMEOUT_S,
    groups_of,
    listen,
    peer_of,
)
from mdsys.ring.lock import start_ticks
from mdsys.ring.rights import group_name

CONNECTION_COUNT_MAX = 128
IDLE_S = 300.0
"""Who neither reads nor records nor asks for anything for so long gives its place away."""
ACCEPT_AGAIN_S = 1.0
"""After a connection could not be accepted, for want of descriptors say."""

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


class Operations(Protocol):
    """Obeys what is no business of the registry's; ``mdsys.daemon.operations``."""

    @property
    def names(self) -> Collection[str]:
        """The values of ``op`` that it knows."""

    def obey(
        self, request: Mapping[str, Any], held: Held
    ) -> Mapping[str, Any] | Awaitable[Mapping[str, Any]]:
        """Return the answer, or what will become it; both may raise ``Refused``.

        Args:
            request: With one of ``names``.
            held: What is kept of the connection from one request to the next.
        """


class Control:
    """The socket of one instance, from its file to its connections.

    Args:
        path: Where; the lock of the instance is held.
        gid: The group that may connect.
        readers: The registry, that some requests are about.
        operations: Obeys the others; None: there are none.

    Raises:
        HostError: The socket cannot be made.
    """

    def __init__(
        self, path: Path, gid: int, readers: Readers, operations: Operations | None = None
    ) -> None:
        self.readers = readers
        self.operations = operations
        self.requests = 0
        self.refused = 0
        """Requests that got an error line."""
        self.dropped = 0
        """Connections that were ended for what they did."""
        self.path = path
        self._gid = gid
        self._group = group_name(gid)
        self._listener = listen(path, gid)
        self._connections: set[_Connection] = set()
        self._answers: dict[bool, bytes] = {}
        """What ``readers`` is answered in this turn, without and with histograms."""

    def start(self) -> None:
        """Begin to answer, in the running loop."""
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Remove the socket and end all connections; readers go on by themselves. In the loop."""
        if self._listener.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(self._listener)
        self.path.unlink(missing_ok=True)
        self._listener.close()
        for connection in list(self._connections):
            connection.close("is left to itself: the daemon stops")

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # out of descriptors: what waits in the queue would wake us again
            log.warning("control socket: %s; trying again in %.0f s", error, ACCEPT_AGAIN_S)
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listener)
            loop.call_later(ACCEPT_AGAIN_S, self._accept_again)
            return
        accepted.settimeout(0)
        why = self._why_not(accepted)
        if why is not None:
            self.dropped += 1
            with accepted, contextlib.suppress(OSError):
                accepted.send(_error(why))
            return
        self._connections.add(_Connection(self, accepted))

    def _why_not(self, accepted: socket.socket) -> str | None:
        """Return why somebody is not listened to; None: he is."""
        _, uid = peer_of(accepted)
        if uid not in (0, os.geteuid()) and self._gid not in groups_of(accepted):
            return f"uid {uid} is not in the group {self._group}"  # its name may take long
        if len(self._connections) >= CONNECTION_COUNT_MAX:
            return f"{CONNECTION_COUNT_MAX} are connected: there is no room"
        return None

    def _accept_again(self) -> None:
        if self._listener.fileno() >= 0:
            self.start()

    def forget(self, connection: _Connection) -> None:
        """It has ended."""
        self._connections.discard(connection)
        self.forget_answer()

    def picture(self) -> dict[str, int]:
        """Return the numbers of the socket."""
        return {
            "connections": len(self._connections),
            "waiting": sum(connection.is_answering for connection in self._connections),
            "requests": self.requests,
            "refused": self.refused,
            "dropped": self.dropped,
        }

    def readers_answer(self, *, histograms: bool = False) -> bytes:
        """Return what the request ``readers`` is answered, made once a turn of the loop."""
        answer = self._answers.get(histograms)
        if answer is None:
            readers = self.readers.picture(histograms=histograms)
            answer = _line({"ok": True, "readers": readers, "control": self.picture()})
            self._answers[histograms] = answer
            asyncio.get_running_loop().call_soon(self.forget_answer)
        return answer

    def forget_answer(self) -> None:
        """What it told has changed."""
        self._answers.clear()


class _Connection:
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
                self._send(_error(f"a request may have {REQUEST_SIZE_MAX} bytes"))
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
        return _error(why)

    async def _answer_later(self, answer: Awaitable[Mapping[str, Any]]) -> None:
        """Send an answer when it is there; the change goes on even if nobody waits for it."""
        try:
            line = _line(await answer)
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
            return _line(answer) if isinstance(answer, Mapping) else answer
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
        return _line(
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
        request = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise Refused("no JSON") from error
    if not isinstance(request, dict):
        raise Refused("no JSON object")
    return request


def _line(answer: Mapping[str, Any]) -> bytes:
    line = json.dumps(answer, separators=(",", ":")).encode() + b"\n"
    if len(line) > ANSWER_SIZE_MAX:
        return _error(f"obeyed, but the answer has more than {ANSWER_SIZE_MAX} bytes")
    return line


def _fault(error: Exception) -> str:
    """Return what is answered where the fault is ours."""
    return f"{type(error).__name__}: {error}"


def _error(why: str) -> bytes:
    return _line({"ok": False, "error": why})
