"""A forked child has its parent's reader in its hands; what it does with it is its own affair."""

from __future__ import annotations

import os

import pytest

from mdsys import attach
from tests.control import serving
from tests.instances import geometry, running, trades, writer


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_child_that_reads_moves_neither_its_parents_cursor_nor_its_counts() -> None:
    with running(geometry(depth=1024), symbols=1) as instance, serving(instance):
        ring = writer(instance)
        with attach(instance.name) as md, md.reader(wait="park") as reader:
            assert reader.registered
            ring.publish_records(trades(200))
            child = os.fork()
            if child == 0:  # nothing of pytest's may run here
                as_due = len(reader.poll(500)) == 200 and not reader.registered
                reader.close()
                os._exit(0 if as_due else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert reader.page.place(0)[0] == 1, "the page says what the parent has read"
            assert (reader.received, reader.registered) == (0, True)
            assert reader.keep_registered()
            assert len(reader.poll(500)) == 200
            assert (reader.received, reader.page.place(0)[0]) == (200, 201)
