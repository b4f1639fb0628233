"""What an iteration leaves in the event loop, in signals and the registry while it has no turn."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

import mdsys
from mdsys import attach
from mdsys.consume import membership, reader
from mdsys.ring.segment import Instance
from tests.control import serving
from tests.instances import geometry, running, trades, writer


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(depth=1024), symbols=1) as instance:
        yield instance


def test_descriptor_is_not_watched_while_the_body_has_something_else_to_wait_for(
    instance: Instance,
) -> None:
    # It stays readable until the next poll: the event loop would spin on it.
    ring = writer(instance)

    async def read() -> list[bool]:
        watched = []
        with attach(instance.name) as md, md.reader() as ours:
            asyncio.get_running_loop().call_later(0.05, ring.publish_records, trades(1))
            async for ticks in ours.batches():
                assert len(ticks)
                watched.append(asyncio.get_running_loop().remove_reader(ours.fileno()))
                if len(watched) == 3:
                    break
                ring.publish_records(trades(1))
        return watched

    assert asyncio.run(read()) == [False] * 3


def test_reader_that_is_closed_while_a_task_waits_leaves_nothing_in_the_event_loop(
    instance: Instance,
) -> None:
    writer(instance)

    async def close_it() -> bool:
        loop = asyncio.get_running_loop()
        with attach(instance.name) as md:
            ours = md.reader()
            fd = ours.fileno()
            task = asyncio.ensure_future(anext(aiter(ours.batches())))
            for _ in range(10):  # its turns, until it waits
                await asyncio.sleep(0)
            assert ours._unwatch
            ours.close()
            left = loop.remove_reader(fd)
            with pytest.raises(mdsys.MdsysError, match="closed"):
                await task
            return left

    assert not asyncio.run(close_it())


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_process_forked_while_a_consumer_iterates_ends_by_sigterm(instance: Instance) -> None:
    ring = writer(instance)
    with mdsys.Consumer(instance.name) as consumer:
        ring.publish_records(trades(1))
        for _ in consumer:
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            child = os.fork()
            if child == 0:
                os._exit(0 if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            consumer.stop()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_reader_that_always_finds_something_registers_with_the_next_daemon(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "LOOK_S", 0.0)
    monkeypatch.setattr(membership, "RETRY_S", 0.0)
    ring = writer(instance)
    with attach(instance.name) as md:
        with serving(instance):
            ours = md.reader()
            page = ours.page
        with ours, serving(instance):
            while ours.page is page:
                ring.publish_records(trades(1))
                assert len(ours.poll()) == 1
