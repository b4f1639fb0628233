"""What only the daemon knows, asked over its control socket without ever waiting for it.

A question is sent at one look and its answer taken at a later one: a daemon that is busy, stopped
or hung makes what it told older, and holds the screen up never.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from socket import socket
from typing import Any, Final

from mdsys.counters.picture import Row, told_reader
from mdsys.counters.picture import Told as Known
from mdsys.errors import HostError
from mdsys.ring.control_socket import NoDaemon, Question, connect

REQUESTS: Final[Mapping[str, dict[str, Any]]] = {
    "readers": {"op": "readers", "histograms": True},
    "status": {"op": "status"},
}
PERIODS_S: Final = {"readers": 0.9, "status": 2.9}
"""How often each is asked: status walks over every subscription of the daemon."""
CONNECT_S: Final = 1.9
"""How often a daemon that was not there is looked for."""
OLD_S: Final = 6.0
"""From when on an answer is too old to pass for what is so now."""


@dataclass(frozen=True, slots=True)
class Told:
    """The newest answers."""

    readers: Sequence[Row] | None
    """None: not known, `why` tells why."""
    status: Mapping[str, Any] | None
    why: str | None
    known: Known | None = None
    """The same, as a picture takes it; another object whenever something was told anew."""


def told(readers: Sequence[Row] | None, status: Mapping[str, Any] | None) -> Told:
    """Return what has been told, as far as it has."""
    known = status or {}
    return Told(
        readers,
        status,
        None,
        Known(
            readers or (),
            known.get("limits", ()),
            {each["connection"]: each for each in known.get("connections", ())},
            {each["feed"]: each for each in known.get("feeds", ())},
        ),
    )


class DaemonWords:
    """Asks, in turn.

    Args:
        instance: Whom.
        monotonic: Tells seconds.
    """

    def __init__(self, instance: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._instance = instance
        self._monotonic = monotonic
        self._connection: socket | None = None
        self._writer_pid = 0
        self._asking: tuple[str, Question] | None = None
        self._asked_s: dict[str, float] = {}
        self._tried_s = -CONNECT_S
        self._told = Told(None, None, "the daemon has not been asked yet")

    def close(self) -> None:
        """Hang up, and forget what was told."""
        if self._asking is not None:
            self._asking[1].forget()
        if self._connection is not None:
            self._connection.close()
        self._connection = self._asking = None
        self._asked_s.clear()

    def none(self, state: str) -> Told:
        """Return what a daemon tells that does not run."""
        self.close()
        self._tried_s = -CONNECT_S
        self._told = Told(None, None, f"the daemon is {state}")
        return self._told

    def now(self, writer_pid: int) -> Told:
        """Return the newest answers, take what has come, and ask for more.

        Args:
            writer_pid: Who must answer: the process that writes the symbol directory.
        """
        now_s = self._monotonic()
        try:
            if writer_pid != self._writer_pid:
                self.close()
                self._writer_pid, self._tried_s = writer_pid, -CONNECT_S
            if self._connection is None:
                if now_s - self._tried_s < CONNECT_S:
                    return self._told
                self._tried_s = now_s
                self._connection = connect(self._instance, writer_pid)
            self._take()
            self._ask(now_s)
            self._drop_old(now_s)
        except (NoDaemon, HostError) as error:  # HostError: it refuses, or lets us not in
            self.close()
            self._told = Told(None, None, str(error))
        return self._told

    def _take(self) -> None:
        if self._asking is None:
            return
        name, question = self._asking
        answer = question.answer(0)
        if answer is None:
            return
        self._asking = None
        readers, status = self._told.readers, self._told.status
        if name == "readers":
            readers = [told_reader(each) for each in answer[0]["readers"]]
        else:
            status = answer[0]
        self._told = told(readers, status)

    def _ask(self, now_s: float) -> None:
        """Ask for what is due for longest."""
        assert self._connection is not None
        due = {
            name: now_s - self._asked_s.get(name, -period_s) - period_s
            for name, period_s in PERIODS_S.items()
        }
        name = max(due, key=due.__getitem__)
        if self._asking is None and due[name] >= 0:
            self._asking = name, Question(self._connection, REQUESTS[name])
            self._asked_s[name] = now_s

    def _drop_old(self, now_s: float) -> None:
        if self._asking is None or now_s - self._asked_s[self._asking[0]] < OLD_S:
            return
        self._told = Told(None, None, "the daemon does not answer")
