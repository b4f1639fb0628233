"""A reader and its daemon: refused, stuck, gone and back, and never waited for but at the start."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import mdsys
from mdsys import Consumer
from mdsys.consume import membership
from mdsys.consume.registration import Application
from mdsys.errors import HostError, NotRunning, UsageError, WriterGone
from mdsys.ring.segment import Instance, remove_segments
from tests.control import PATIENCE_S, Server, serving
from tests.instances import cleaned, geometry, new_name, running, start, trades, writer


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(rings=2, depth=1024), symbols=2) as instance:
        yield instance


@pytest.fixture
def server(instance: Instance) -> Iterator[Server]:
    with serving(instance) as each:
        yield each


@pytest.fixture
def timeouts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give how long the daemon was waited for, each time; the waits themselves are cut short."""
    waited: list[float] = []
    granted = Application.granted

    def spied(self: Application, timeout_s: float) -> Any:
        waited.append(timeout_s)
        return granted(self, min(timeout_s, 0.05))

    monkeypatch.setattr(Application, "granted", spied)
    return waited


def registered_in_the_end(reader: mdsys.Reader) -> bool:
    """Look until it is, as a reader does that polls."""
    for _ in range(int(PATIENCE_S * 1000)):
        if reader.keep_registered():
            return True
        os.sched_yield()
        reader.poll(timeout=0.001)
    return False


def test_stuck_daemon_is_waited_for_at_the_start_alone_and_takes_the_reader_in_later(
    instance: Instance, server: Server, timeouts: list[float]
) -> None:
    with mdsys.attach(instance.name) as md:
        with server.stuck():
            reader = md.reader()
            shown = [reader.not_registered]
            for _ in range(100):
                assert not reader.keep_registered()
        assert registered_in_the_end(reader)
        shown += [reader.not_registered, reader.refusal]
        assert shown == ["the daemon did not answer in 1 s", None, None]
        assert timeouts[0] == 1.0
        assert set(timeouts[1:]) == {0}
        assert server.count() == 1, "it was asked once"
        reader.close()
    assert server.next_left()[1] == "has left"


def test_lossless_reader_does_not_begin_under_a_stuck_daemon(
    instance: Instance, server: Server, timeouts: list[float]
) -> None:
    with mdsys.attach(instance.name) as md:
        with server.stuck(), pytest.raises(HostError, match="did not answer in 1 s"):
            md.reader(policy="lossless")
        assert server.next_left()[1] == "has left"
    assert timeouts == [1.0]


def test_reader_that_is_closed_while_it_waits_for_a_stuck_daemon_leaves_nothing(
    instance: Instance, server: Server, timeouts: list[float]
) -> None:
    with mdsys.attach(instance.name) as md:
        with server.stuck():
            md.reader(name="s1").close()
        assert server.next_left() == ("s1", "has left")
        assert server.count() == 0


def test_daemon_that_ends_is_missed_and_the_next_one_found(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "RETRY_S", 0.0)
    with mdsys.attach(instance.name) as md:
        with serving(instance):
            reader = md.reader()
            assert reader.registered
        assert not reader.keep_registered()
        assert reader.not_registered == f"no daemon of instance {instance.name!r} answers"
        assert reader.refusal is None
        with serving(instance) as second:
            assert registered_in_the_end(reader)
            assert second.count() == 1
            reader.close()


def test_reader_that_finishes_replaced_segments_says_so_and_leaves_the_next_daemon_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(membership, "RETRY_S", 1e9)  # it is known at once, not at the next try
    with cleaned(new_name()) as name:
        old = start(name, geometry(rings=2))
        with mdsys.attach(name) as md:
            with serving(old):
                reader = md.reader(rings=[0])
            assert not reader.keep_registered()
            assert reader.not_registered == f"no daemon of instance {name!r} answers"
            writer(old).publish_records(trades(3))
            old.lock.release()
            new = start(name, geometry(rings=1))
            with serving(new) as server:  # by the same process, as pid 1 of a container would be
                assert not reader.keep_registered()
                replaced = f"instance {name!r} was started anew with other rings"
                assert str(reader.not_registered).startswith(replaced)
                assert reader.refusal is None
                assert len(reader.poll()) == 3
                with pytest.raises(NotRunning, match=f"{replaced}.* lossless .*; attach again"):
                    md.reader(policy="lossless")
                assert server.count() == 0, "its rings are others, and so are the places in them"
            new.lock.release()


def test_reader_whose_segments_are_replaced_under_it_knows_why_when_it_is_told(
    instance: Instance,
) -> None:
    with mdsys.attach(instance.name) as md:
        with serving(instance):
            reader = md.reader()
            assert reader.registered
        remove_segments(instance.name)
        with pytest.raises(WriterGone) as caught:
            reader.poll()
        assert str(caught.value) == f"{reader.not_registered}: attach again"
        assert not reader.registered


def test_daemon_that_does_not_answer_and_is_replaced_is_not_waited_for(
    instance: Instance, server: Server, timeouts: list[float]
) -> None:
    with mdsys.attach(instance.name) as md:
        with server.stuck():
            reader = md.reader(name="s1")
            remove_segments(instance.name)
            assert not reader.keep_registered()
            assert "was cleaned" in str(reader.not_registered)
            assert reader.refusal is None
        assert server.next_left() == ("s1", "has left")
        assert timeouts == [1.0]


def test_reader_outlives_its_market_data_and_is_registered_again(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "RETRY_S", 0.0)
    with mdsys.attach(instance.name) as md:
        reader = md.reader()
    with serving(instance):
        assert registered_in_the_end(reader)
        assert len(reader.refresh()) == 0
        reader.close()


def test_refusal_is_logged_once_and_shown(
    instance: Instance, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mdsys.consume")
    core = 5_000  # more than the registry takes
    with Consumer(instance.name, print, core=core) as consumer:
        attached = consumer._attached
        assert attached is not None
        for _ in range(3):
            attached.reader._membership._retry_at = 0
            consumer._look()
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert record.message.startswith("not in the daemon's registry: the daemon refused: core")
        assert record.message.endswith(consumer.stats()["not_registered"])
        assert consumer.stats()["registered"] is False


def test_no_daemon_at_all_is_nothing_to_warn_of(
    instance: Instance, caplog: pytest.LogCaptureFixture
) -> None:
    with Consumer(instance.name, print) as consumer:
        assert "no daemon" in consumer.stats()["not_registered"]
    assert caplog.records == []


@pytest.mark.parametrize("name", ["", "a b", "a" * 32, "\u00e4", 7])
def test_name_that_no_registry_takes_is_refused_at_once(instance: Instance, name: Any) -> None:
    with pytest.raises(UsageError, match="1 to 31 of A-Z a-z 0-9"):
        Consumer(instance.name, name=name)
    with mdsys.attach(instance.name) as md, pytest.raises(UsageError, match="name"):
        md.reader(name=name)


# ---- the end -----------------------------------------------------------------------------------


def test_closed_reader_says_so_and_stays_out_of_the_registry(
    instance: Instance, server: Server
) -> None:
    with mdsys.attach(instance.name) as md:
        reader = md.reader()
        writer(instance).publish_records(trades(3))
        assert len(reader.poll()) == 3
        reader.close()
        reader.close()
        assert server.next_left()[1] == "has left"
        for use in (
            reader.poll,
            reader.refresh,
            reader.fileno,
            lambda: reader.poll_into(bytearray(64)),
            lambda: next(iter(reader)),
        ):
            with pytest.raises(UsageError, match="the reader is closed"):
                use()
        assert not reader.keep_registered()
        assert (reader.registered, reader.not_registered) == (False, "it is closed")
        assert server.count() == 0
        assert (reader.received, reader.cursors) == (3, {0: 4, 1: 1}), "counts can be looked at"


FORGOTTEN = """
import asyncio, sys, mdsys

name, what = sys.argv[1:]
if what == "reader":
    reader = mdsys.attach(name).reader()
    reader.fileno()
elif what == "consumer":
    consumer = mdsys.Consumer(name, print).attach()
elif what == "iterator":
    consumer = mdsys.Consumer(name)
    iterator = iter(consumer)
    next(iterator)
else:
    async def main():
        global iterator
        iterator = aiter(mdsys.Consumer(name) if what == "async" else mdsys.attach(name).reader())
        await anext(iterator)
    asyncio.run(main())
print("done")
"""


@pytest.mark.parametrize("what", ["reader", "consumer", "iterator", "async", "async reader"])
def test_what_is_forgotten_until_the_program_ends_says_nothing(
    instance: Instance, server: Server, what: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", FORGOTTEN, instance.name, what],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ring = writer(instance)
    while server.count() == 0 and process.poll() is None:
        os.sched_yield()
    while process.poll() is None and server.count():
        ring.publish_records(trades(1))
        ring.flush(1)
        os.sched_yield()
    out, said = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, said) == (0, "done\n", "")
