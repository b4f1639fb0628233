"""A feed process: attaches what it writes, keeps its connections, and does nothing else.

Its loop must be free for the sockets: no REST, no metrics, no log file. What it has to say goes to
the supervisor (mdsys.feed.report); its numbers stand in the counters segment.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from typing import Any

import uvloop

from mdsys.errors import ExitCode, HostError
from mdsys.feed.memory import Memory
from mdsys.feed.order_desk import OrderDesk
from mdsys.feed.parent import die_with_parent
from mdsys.feed.plan import FeedPlan
from mdsys.feed.report import Reporter
from mdsys.feed.venue import venues
from mdsys.host import cores
from mdsys.wording import plural

HEARTBEAT_S = 0.05
ORDERS_BEFORE = 1_000
"""Obeyed before the first socket opens."""

log = logging.getLogger("mdsys.feed")


def pin(core: int) -> bool:
    """Stay on one core. Returns False, having said why, when the host forbids it."""
    try:
        cores.pin(core)
    except HostError as error:
        log.warning("%s; running unpinned", error)
        return False
    return True


def _log_loop_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.error("event loop: %s: %r", context["message"], context.get("exception"))


async def run_feed(plan: FeedPlan, reporter: Reporter) -> ExitCode:
    """Be the feed until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    faults: list[str] = []

    def fail(what: str) -> None:
        faults.append(what)
        stop.set()

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.set_exception_handler(_log_loop_error)
    reporter.on_overflow = lambda: fail("the supervisor does not take its reports")
    pinned = plan.core is not None and pin(plan.core)  # first: what we allocate is near, then
    memory = Memory(plan)
    for notice in memory.settle(plan.core if pinned else None):
        log.warning("%s", notice)
    desk = OrderDesk(memory, venues(), reporter, lambda: fail("a connection failed"))

    def obey() -> None:
        if not desk.take_orders():
            loop.remove_reader(reporter.channel)

    desk.start(plan.connections)
    desk.take_orders(ORDERS_BEFORE)  # the readers of the feed before us, ahead of the first tick
    loop.add_reader(reporter.channel, obey)
    gc.collect()
    gc.freeze()  # what lives now lives for ever: never look at it again

    def beat() -> None:
        memory.feed.heartbeat()
        memory.feed.note_reports(reporter.waiting_count)
        memory.feed.count_log_suppressed(reporter.take_dropped_count())
        desk.readers.report_ejected()
        desk.take_wishes()
        loop.call_later(HEARTBEAT_S, beat)

    def spin() -> None:
        loop.call_soon(spin)  # the loop never sleeps: it polls its sockets turn after turn

    beat()
    if plan.spin and pinned:
        spin()
    log.info(
        "feed %d: process %d, rings %s, %s, %s",
        plan.feed,
        os.getpid(),
        ",".join(map(str, plan.rings)),
        plural(len(desk), "connection"),
        f"spinning on core {plan.core}" if plan.spin and pinned else "sleeping when idle",
    )
    await stop.wait()
    await desk.close()
    memory.stop()
    for fault in faults:
        log.critical("feed %d ends: %s", plan.feed, fault)
    return ExitCode.FAILURE if faults else ExitCode.OK


def main(plan: FeedPlan, reporter: Reporter) -> ExitCode:
    """Run a feed process from its plan to its end."""
    root = logging.getLogger()
    root.addHandler(reporter)
    root.setLevel(logging.INFO)
    try:
        die_with_parent(plan.supervisor_pid)
        with contextlib.closing(uvloop.new_event_loop()) as loop:
            return loop.run_until_complete(run_feed(plan, reporter))
    except Exception:
        log.critical("feed %d failed", plan.feed, exc_info=True)
        return ExitCode.FAILURE
