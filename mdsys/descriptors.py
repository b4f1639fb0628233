"""Descriptors that come through a socket."""

from __future__ import annotations

import array
import socket


def receive_fds(channel: socket.socket, size: int, count_max: int) -> tuple[bytes, list[int], bool]:
    """Receive bytes and the descriptors that come with them, none of which programs inherit.

    ``socket.recv_fds`` forgets its flags, and with them MSG_CMSG_CLOEXEC, until Python 3.13.

    Returns:
        The bytes; the descriptors, at most ``count_max``, the caller's to close; whether it was all
        that was sent. What did not fit the kernel has closed.
    """
    fds = array.array("i")
    data, ancillary, flags, _ = channel.recvmsg(
        size, socket.CMSG_SPACE(count_max * fds.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, piece in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(piece[: len(piece) - len(piece) % fds.itemsize])
    return data, list(fds), not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
