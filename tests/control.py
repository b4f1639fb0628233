"""A control socket without a daemon: the registry and its server, on a loop in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self, TypeVar

from mdsys.config import Consumer
from mdsys.daemon.control import Control, Operations
from mdsys.daemon.readers import Readers, Registered
from mdsys.ring.control_socket import socket_path
from mdsys.ring.segment import Instance

T = TypeVar("T")
PATIENCE_S = 20.0
REGISTER = {"op": "register", "name": "s1", "policy": "lossless", "wait": "park", "rings": [0]}
DEFAULTS = Consumer(200, True, 0.8, 10_000, {"pinned": 3}, 1_000)


class WatchedReaders(Readers):
    """A registry that tells the test who has left, and why."""

    def __init__(self, instance: Instance) -> None:
        super().__init__(instance.rings, DEFAULTS, epoch=1)
        self.left: queue.Queue[tuple[str, str]] = queue.Queue()

    def remove(self, reader: Registered, why: str) -> None:
        """Forget a reader."""
        super().remove(reader, why)
        self.left.put((reader.name, why))


class Server:
    """The server; everything of it is touched in its loop alone."""

    def __init__(self, instance: Instance, operations: Operations | None = None) -> None:
        self.instance = instance
        self.path = socket_path(instance.lock.path.parent, instance.name)
        self.readers = WatchedReaders(instance)
        self.control = Control(self.path, os.getegid(), self.readers, operations)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(self.control.start)
        self.loop.run_forever()
        self.loop.close()

    def call(self, function: Callable[[], T]) -> T:
        """Return what ``function`` returns, called in the loop."""
        done: Future[T] = Future()

        def work() -> None:
            try:
                done.set_result(function())
            except Exception as error:  # noqa: BLE001 - the caller's
                done.set_exception(error)

        self.loop.call_soon_threadsafe(work)
        return done.result(PATIENCE_S)

    def connect(self) -> socket.socket:
        """Return a client's socket."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE_S)
        client.connect(str(self.path))
        return client

    def count(self) -> int:
        """Return how many readers there are."""
        return self.call(lambda: len(self.readers))

    def next_left(self) -> tuple[str, str]:
        """Return the next reader that leaves, and why, waiting for it."""
        return self.readers.left.get(timeout=PATIENCE_S)

    @contextlib.contextmanager
    def stuck(self) -> Iterator[None]:
        """Have it stand still, as one that is stopped with SIGSTOP, until the block ends."""
        over, stands = threading.Event(), threading.Event()

        def stand() -> None:
            stands.set()
            over.wait(PATIENCE_S)

        self.loop.call_soon_threadsafe(stand)
        assert stands.wait(PATIENCE_S)
        try:
            yield
        finally:
            over.set()

    def close(self) -> None:
        """End it as the supervisor does."""
        self.call(self.control.close)


class Client:
    """A client that speaks by hand."""

    def __init__(self, server: Server) -> None:
        self.socket = server.connect()
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> dict[str, Any]:
        """Return the next answer."""
        line = self._file.readline()
        assert line.endswith(b"\n"), f"the connection ended with {line!r}"
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def ask(self, request: object) -> dict[str, Any]:
        """Return the answer to one request."""
        self.send(json.dumps(request).encode() + b"\n")
        return self.answer()

    def ended(self) -> bool:
        """Whether the server has hung up, waiting for it."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:  # it did not read all that was sent
            return True


@contextlib.contextmanager
def serving(instance: Instance, operations: Operations | None = None) -> Iterator[Server]:
    """Serve until the block ends; the instance's writer is this process."""
    server = Server(instance, operations)
    server.thread.start()
    try:
        yield server
    finally:
        server.close()
        server.loop.call_soon_threadsafe(server.loop.stop)
        server.thread.join(PATIENCE_S)


def open_descriptors() -> int:
    """Return how many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))
