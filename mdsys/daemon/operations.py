"""What can be asked for over the control socket, besides the registry of readers.

Long lists of names come in several requests, since one has at most 4096 bytes: all but the last say
``more``, and are kept until that one comes. Then the change is made as one.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any

from mdsys.config_checks import shown
from mdsys.daemon.control_connection import Held
from mdsys.daemon.readers import Refused
from mdsys.daemon.recording import Recording
from mdsys.daemon.roster import Outcome, Roster
from mdsys.daemon.status import Status
from mdsys.errors import ConfigError, UsageError

REFUSED_SHOWN_MAX = 10_000
"""Names of one answer; their count is told in full."""

Answer = Mapping[str, Any]
NAME_SIZE_MAX = 128
"""Characters; no name of a directory is as long."""


class Operations:
    """Obeys requests.

    Args:
        roster: What ``subscribe`` and ``unsubscribe`` change.
        status: Answers ``status``.
        reload: Rereads the configuration and the credentials.
        name_count_max: Most symbols there can be.
        recording: Answers ``record`` and ``record_again``; None: nothing can be recorded.
    """

    def __init__(
        self,
        roster: Roster,
        status: Status,
        reload: Callable[[], Awaitable[Answer]],
        name_count_max: int,
        recording: Recording | None = None,
    ) -> None:
        self._roster = roster
        self._status = status
        self._reload = reload
        self._name_count_max = name_count_max
        self._held: weakref.WeakSet[Held] = weakref.WeakSet()
        """Of all connections together no more is kept than twice what could be subscribed."""
        self._recording = recording
        self.names: Collection[str] = ("subscribe", "unsubscribe", "status", "reload")
        if recording is not None:
            self.names = (*self.names, "record", "record_again")

    def obey(self, request: Mapping[str, Any], held: Held) -> Answer | Awaitable[Answer]:
        """Return the answer to a request whose ``op`` is one of ``names``, or what will become it.

        Raises:
            Refused: The request is wrong, or cannot be met; also from the awaitable.
        """
        op = request["op"]
        if op == "status":
            _only(request, "symbol")
            return self._tell(request.get("symbol"))
        if op == "reload":
            _only(request)
            return self._reload()
        if self._recording is not None and op == "record":
            _only(request, "feed", "ring_size")
            return self._recording.record(request, held)
        if self._recording is not None and op == "record_again":
            _only(request, "feed")
            return self._recording.again(request, held)
        _only(request, "symbols", "more")
        try:
            more = self._hold(request, held.names.setdefault(op, []))
        except Refused:
            del held.names[op]
            raise
        if more:
            self._held.add(held)
            return {"ok": True, "held": len(held.names[op])}
        change = self._roster.subscribe if op == "subscribe" else self._roster.unsubscribe
        return _answered(change(held.names.pop(op)))

    def _hold(self, request: Mapping[str, Any], names: list[str]) -> bool:
        """Keep the names of a request; return whether more will come."""
        names += _names(request.get("symbols"))
        count = len(names) + sum(len(each) for held in self._held for each in held.names.values())
        if count > 2 * self._name_count_max:
            raise Refused(
                f"symbols: more than the {self._name_count_max} that the directory has room for"
            )
        if not isinstance(more := request.get("more", False), bool):
            raise Refused(f"more: {shown(more)} is neither true nor false")
        return more

    def _tell(self, symbol: object) -> Answer:
        now_ns = time.time_ns()
        if symbol is None:
            return self._status.all(now_ns)
        if not isinstance(symbol, str):
            raise Refused(f"symbol: {shown(symbol)} is no name")
        try:
            return self._status.symbol(symbol, now_ns)
        except (UsageError, ConfigError) as error:
            raise Refused(f"symbol: {error}") from None


def outcome_answer(outcome: Outcome) -> dict[str, Any]:
    """Return what an outcome is told as."""
    return {
        "accepted": len(outcome.accepted),
        "unchanged": len(outcome.unchanged),
        "refused_count": len(outcome.refused),
        "refused": dict(list(outcome.refused.items())[:REFUSED_SHOWN_MAX]),
    }


async def _answered(change: Awaitable[Outcome]) -> Answer:
    return {"ok": True, **outcome_answer(await change)}


def _only(request: Mapping[str, Any], *keys: str) -> None:
    for key in request:
        if key not in ("op", *keys):
            raise Refused(f"unknown key {shown(key)}")


def _names(value: object) -> Iterable[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Refused("symbols: must be an array of names, as BINANCE:BTCUSDT")
    for each in value:
        if len(each) > NAME_SIZE_MAX:
            raise Refused(f"symbols: {shown(each)} is longer than any name")
    return value
