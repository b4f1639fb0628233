from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mdsys.descriptors import receive_fds


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    ("sent", "count_max", "received", "whole"),
    [(0, 1, 0, True), (1, 1, 1, True), (2, 2, 2, True), (3, 3, 3, True), (5, 1, 2, False)],
)
def test_descriptors_arrive_uninherited_and_those_that_do_not_fit_are_closed(
    sent: int, count_max: int, received: int, whole: bool
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        before = open_descriptors()
        socket.send_fds(ours, [b"x"], [0] * sent)
        data, fds, all_of_it = receive_fds(theirs, 16, count_max)
        # A control message is padded to 8 bytes, so that a second descriptor fits beside a first.
        assert (data, len(fds), all_of_it) == (b"x", received, whole)
        assert open_descriptors() == before + received
        assert not any(os.get_inheritable(fd) for fd in fds)
        for fd in fds:
            os.close(fd)


def test_cut_message_is_told() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(b"x" * 17)
        assert receive_fds(theirs, 16, 1) == (b"x" * 16, [], False)
