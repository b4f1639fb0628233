"""The control socket's server: JSON lines over a unix socket; docs/control-socket.md.

The socket's mode lets the instance's group in. A mode can be changed, so whoever connects is looked
at again: heard is whom the kernel calls root, the daemon's user or one of the group. They may still
send anything; what a connection is and what it may cost: ``mdsys.daemon.control_connection``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from mdsys.daemon.control_connection import Connection, Held, error_line, line_of
from mdsys.daemon.readers import Readers
from mdsys.ring.control_socket import groups_of, listen, peer_of
from mdsys.ring.rights import group_name

CONNECTION_COUNT_MAX = 128
ACCEPT_AGAIN_S = 1.0
"""After a connection could not be accepted, for want of descriptors say."""

log = logging.getLogger("mdsys.daemon")


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
        self._connections: set[Connection] = set()
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
                accepted.send(error_line(why))
            return
        self._connections.add(Connection(self, accepted))

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

    def forget(self, connection: Connection) -> None:
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
            answer = line_of({"ok": True, "readers": readers, "control": self.picture()})
            self._answers[histograms] = answer
            asyncio.get_running_loop().call_soon(self.forget_answer)
        return answer

    def forget_answer(self) -> None:
        """What it told has changed."""
        self._answers.clear()
