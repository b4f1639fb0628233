"""``mdsys.control``: what people and programs ask a running daemon for; docs/control-socket.md."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator
from typing import Any, Final

from mdsys.errors import NotRunning, UsageError
from mdsys.ring.control_socket import REQUEST_SIZE_MAX, NoDaemon, ask, connect
from mdsys.ring.door import open_door
from mdsys.ring.lock import start_ticks

TIMEOUT_S: Final = 120.0
"""A change may need a look-up at the venue, which takes tries."""
STOPPED: Final = 2
"""MD_STATE_STOPPED (native/include/mdsys/segment.h)."""

Answer = dict[str, Any]


class Control:
    """One instance's daemon, to be asked. Each call is a connection of its own.

    Every call raises NotRunning where no daemon can be reached, also while it is starting,
    NoPermission where it does not let this user in, LayoutError where another version runs, and
    HostError where it refuses the request as a whole or does not answer in time.
    """

    def __init__(self, instance: str = "default") -> None:
        self.instance = instance

    def status(self, symbol: str | None = None) -> Answer:
        """Return the state of everything, or of one ``VENUE:SYMBOL`` and why it is silent."""
        request: Answer = {"op": "status"}
        if symbol is not None:
            request["symbol"] = symbol
        return self._ask([request])

    def subscribe(self, symbols: Iterable[str]) -> Answer:
        """Have the daemon take more symbols, as ``["BINANCE:BTCUSDT"]``; the others go on.

        Returns:
            ``accepted`` and ``unchanged`` as counts, ``refused``: name -> why. Accepted is not
            confirmed: ``status`` tells what the venue has made of it.
        """
        return self._ask(_requests("subscribe", symbols))

    def unsubscribe(self, symbols: Iterable[str]) -> Answer:
        """Have the daemon take some symbols no more; returns as ``subscribe``."""
        return self._ask(_requests("unsubscribe", symbols))

    def reload(self) -> Answer:
        """Have the daemon reread its configuration and its credentials.

        Returns:
            What came and went, and ``not_reloaded``: the keys that only a restart takes over.
        """
        return self._ask([{"op": "reload"}])

    def _ask(self, requests: Iterable[Answer]) -> Answer:
        try:
            with self._connect() as connection:
                answer: Answer = {}
                for request in requests:
                    answer, fds = ask(connection, request, timeout_s=TIMEOUT_S)
                    for fd in fds:
                        os.close(fd)
                return answer
        except NoDaemon as error:
            raise NotRunning(f"{error}; start it with mdsys run --config FILE") from None

    def _connect(self) -> socket.socket:
        symbols = open_door(self.instance)
        pid = symbols.writer_pid
        try:
            return connect(self.instance, pid)
        except NoDaemon as error:
            if symbols.state != STOPPED and start_ticks(pid) == symbols.writer_start_ticks:
                raise NotRunning(
                    f"{error}: process {pid} is starting or stopping, or its run directory is not "
                    "to be seen from here: try again"
                ) from None
            raise


def control(instance: str = "default") -> Control:
    """Return the control of an instance, which need not run yet."""
    return Control(instance)


def _requests(op: str, symbols: Iterable[str]) -> Iterator[Answer]:
    """Give the requests that name all ``symbols``: each as long as one may be.

    Raises:
        UsageError: A name alone does not fit.
    """
    empty = {"op": op, "symbols": [], "more": True}
    names: list[str] = []
    size = 0
    for symbol in symbols:
        added = len(json.dumps(symbol)) + 2
        if size + added + len(json.dumps(empty)) > REQUEST_SIZE_MAX:
            if not names:
                raise UsageError(f"{symbol[:80]!r}...: no symbol's name is so long")
            yield {**empty, "symbols": names}
            names, size = [], 0
        names.append(symbol)
        size += added
    yield {"op": op, "symbols": names}
