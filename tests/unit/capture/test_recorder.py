"""What a recorder does about an instance that is not there, or not there yet."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, cast

import pytest

from mdsys.capture.format import file_name, newest_ns
from mdsys.capture.recorder import Counts, Recorder
from mdsys.daemon.control_connection import Held
from mdsys.daemon.feed_link import FeedLink
from mdsys.daemon.operations import Operations
from mdsys.daemon.recording import Recording
from mdsys.errors import LayoutError, NotRunning
from mdsys.feed.orders import Capture, CaptureHold, receive_order
from mdsys.feed.report import report_pair
from mdsys.ring.segment import ROOT_DIR, segment_path
from tests.control import serving
from tests.instances import cleaned, geometry, new_name, running


def test_recorder_outlives_a_look_at_segments_that_are_being_made(tmp_path: Path) -> None:
    with cleaned(new_name()) as name:
        segment_path(ROOT_DIR, name, "symbols").write_bytes(bytes(4096))  # its magic comes last
        with pytest.raises(NotRunning, match="is starting"):
            Recorder(name, tmp_path)._begin()


def test_recorder_says_what_is_no_segment_at_all(tmp_path: Path) -> None:
    with cleaned(new_name()) as name:
        segment_path(ROOT_DIR, name, "symbols").write_bytes(b"\x01" * 4096)
        with pytest.raises(LayoutError):
            Recorder(name, tmp_path)._begin()


def test_recorder_without_an_instance_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotRunning):
        Recorder(new_name(), tmp_path)._begin()


def test_files_sort_as_they_were_written_though_the_clock_was_set_back(tmp_path: Path) -> None:
    day_ns = 86_400 * 10**9
    now_ns = 1_790_000_000 * 10**9 + 5
    counts = Counts(newest_ns=newest_ns(tmp_path, "i"))
    names = []
    for at_ns in (now_ns, now_ns + day_ns, now_ns + 10**9):
        names.append(file_name("i", 0, counts.next_ns(at_ns)))
        (tmp_path / names[-1]).touch()
    (tmp_path / "other.feed0.20990101T000000.000000000.mdsys.zst").touch()
    (tmp_path / "notes.txt").touch()
    another = Counts(newest_ns=newest_ns(tmp_path, "i"))  # a recorder that is started anew
    names.append(file_name("i", 0, another.next_ns(now_ns + 2 * 10**9)))
    assert names == sorted(set(names))
    assert another.newest_ns == now_ns + day_ns + 2


def test_connection_of_a_recorder_outlives_the_daemon_while_a_feed_copies() -> None:
    ours, theirs = report_pair()
    recorder, daemon = socket.socketpair()
    with ours, theirs, recorder:
        with daemon:
            held = Held(daemon)
            recording = Recording("test", {0: FeedLink(ours, [0])}, 1, lambda _: [])
            recording.record({"feed": 0, "ring_size": 1 << 16}, held)
            os.close(held.fd)
        orders = [receive_order(theirs) for _ in range(2)]
        assert [type(order) for order, _ in orders] == [CaptureHold, Capture]
        recorder.setblocking(False)
        with pytest.raises(BlockingIOError):
            recorder.recv(1)
        for _, fd in orders:  # the feed ends
            os.close(fd)
        assert recorder.recv(1) == b""
        held.on_close[0]()


def test_recorder_goes_on_until_the_last_feed_of_a_daemon_has_ended(tmp_path: Path) -> None:
    recording = Recording("test", {}, 2, lambda _: [])
    nobody = cast(Any, None)
    operations = Operations(nobody, nobody, nobody, 1, recording)
    with running(geometry(rings=2)) as instance, serving(instance, operations) as server:
        recorder = Recorder(instance.name, tmp_path)
        recorder._begin()
        holders = [recording._rings[feed].holder.connection for feed in range(2)]
        connections = {each._socket: each for each in server.call(server.control._connections.copy)}
        for last, holder in enumerate(holders):
            assert [tape.gone for tape in recorder._tapes] == [last > 0, False]
            server.call(lambda each=connections[holder]: each.close("ends"))  # type: ignore[misc]
            while recorder._tapes and not recorder._tapes[last].gone:
                recorder._watch(0.1)
        assert not recorder._tapes
