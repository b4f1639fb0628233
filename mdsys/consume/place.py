"""A consumer's place on the host: its core, and the rings' pages in memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mdsys.errors import HostError
from mdsys.host.cores import core_notices, pin
from mdsys.host.memory import lock, node_notice
from mdsys.ring.control_socket import NoDaemon, ask, connect

if TYPE_CHECKING:
    from mdsys.consume.attach import MarketData
    from mdsys.consume.attachment import Attachment
    from mdsys.consume.reader import Reader
    from mdsys.consume.symbol_info import SymbolInfo


def memory_notice(
    market_data: MarketData, symbols: Sequence[SymbolInfo] | None, rings: Sequence[int] | None
) -> str | None:
    """Bring the rings that are read into memory, to stay; return what to say of it."""
    indices = set(range(len(market_data.rings)))
    if rings is not None:
        indices &= set(rings)
    elif symbols is not None:
        indices = {symbol.ring for symbol in symbols}
    return lock(market_data.mappings[i] for i in indices)


ANSWER_TIMEOUT_S: Final = 0.2
"""What the question who else has a core may cost a run at its start."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a thread runs."""

    core: int | None
    """None: anywhere."""
    notices: list[str]
    """What of the host will take time from it."""


@contextlib.contextmanager
def own_core(attached: Attachment, *, required: bool) -> Iterator[Place]:
    """Pin this thread to the core of an attachment for the block, if it has one.

    Raises:
        HostError: ``required``, and the core cannot be had. Else it is done without.
    """
    core = attached.core
    notices = [attached.memory_notice] if attached.memory_notice else []
    if core is None:
        yield Place(None, notices)
        return
    before = os.sched_getaffinity(0)
    try:
        pin(core)
    except HostError as error:
        if required:
            raise
        yield Place(None, [str(error), *notices])
        return
    try:
        market_data = attached.market_data
        notices = core_notices(core, others=_others(market_data, attached.reader, core)) + notices
        mappings = {f"ring {i}": market_data.mappings[i] for i in attached.reader.cursors}
        if (far := node_notice(mappings, core)) is not None:
            notices.append(far)
        yield Place(core, notices)
    finally:
        with contextlib.suppress(OSError):  # the cpuset has lost them in between
            os.sched_setaffinity(0, before)


def _others(market_data: MarketData, reader: Reader, core: int) -> Mapping[int, str]:
    """Return which cores others of the instance have, as far as the daemon tells at once."""
    registration = reader.registration
    if registration is None:
        return {}
    others: dict[int, str] = {}
    try:
        with connect(market_data.instance, market_data.directory.writer_pid) as connection:
            answer, _ = ask(connection, {"op": "readers"}, timeout_s=ANSWER_TIMEOUT_S)
        for each in answer["readers"]:
            if each["core"] is not None and each["reader"] != registration.reader:
                others[each["core"]] = f"reader {each['name']}"
    except (NoDaemon, HostError, LookupError, TypeError):
        pass
    if registration.core == core and registration.core_users:
        others[core] = registration.core_users[0]  # feeds too
    return others
