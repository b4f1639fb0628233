"""Orders, over a real socket."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from mdsys.feed.orders import (
    ORDER_SIZE_MAX,
    AnyOrder,
    Capture,
    CaptureEnd,
    CaptureHold,
    Close,
    Connect,
    Permit,
    ReaderAdd,
    ReaderRemove,
    Reconnect,
    Redial,
    Refuse,
    Resubscribe,
    Snapshot,
    Stale,
    Subscribe,
    Unsubscribe,
    connect_orders,
    receive_order,
    symbol_lists,
)
from mdsys.feed.plan import ConnectionPlan
from mdsys.feed.report import MESSAGE_SIZE_MAX, Reporter, read_message, report_pair
from mdsys.feed.venue import Limits, Window

PLAN = ConnectionPlan(
    3,
    "kite",
    "ws://127.0.0.1:1",
    ("NSE:INFY", "币安"),
    ("trade",),
    50,
    wires={"NSE:INFY": b"\x00\x06\x3a\x01"},
    credential="key_a",
    limits=Limits(connections=3, messages=(Window(5, 1.0), Window(300, 300.0))),
    first=False,
)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    "order",
    [
        ReaderRemove((1 << 40) + 17),
        Permit(1, {"api_key": "k", "access_token": "t"}),
        Permit(2),
        Refuse(3, "no key_a"),
        Connect(PLAN),
        Close(3),
        Subscribe(3, [("NSE:INFY", "00063a01"), ("SBIN", None)]),
        Unsubscribe(3, ["NSE:INFY"]),
        Resubscribe(3, ["A"], "book"),
        Reconnect(3, "mute for 12 s"),
        Redial(3),
        Stale("kite", ["A", "B"], "trade", [0, 1_700_000_000_000_000_000]),
        Stale("kite", ["A"], "trade"),
        CaptureEnd(),
    ],
    ids=lambda order: type(order).__name__,
)
def test_order_arrives_as_it_was_given(order: AnyOrder) -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        ours.send(order.encode())
        assert receive_order(theirs) == (order, -1)
        with pytest.raises(BlockingIOError):
            receive_order(theirs)


@pytest.mark.parametrize(
    "order",
    [
        ReaderAdd(7, "lossless", [0, 7]),
        Snapshot("binance", "BTCUSDT", 100),
        Capture(),
        CaptureHold(),
    ],
    ids=lambda order: type(order).__name__,
)
def test_bulk_comes_as_a_descriptor_that_no_program_inherits(order: AnyOrder) -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        file = os.memfd_create("mdsys-test")
        os.write(file, b"bulk")
        socket.send_fds(ours, [order.encode()], [file])
        os.close(file)
        Reporter(theirs).tell("used", id=3)  # the other way at the same time
        received, fd = receive_order(theirs)
        assert received == order
        assert os.pread(fd, 4, 0) == b"bulk"
        assert not os.get_inheritable(fd)
        os.close(fd)
        assert read_message(ours.recv(MESSAGE_SIZE_MAX))["id"] == 3


def test_secret_is_in_no_representation() -> None:
    assert "hush" not in f"{Permit(1, {'key': 'hush'})!r} {Permit(1, {'key': 'hush'})}"


def test_reader_of_every_ring_there_can_be_fits_in_an_order() -> None:
    order = ReaderAdd((1 << 63) - 1, "drop_oldest", list(range(256)))
    assert len(order.encode()) <= ORDER_SIZE_MAX


def test_largest_connection_fits_in_its_orders_and_nothing_is_lost() -> None:
    symbols = tuple(f"{i:05d}" + "\u5e01" * 18 for i in range(5_000))  # 59 bytes each
    plan = ConnectionPlan(
        3, "kite", None, symbols, ("trade",), 50, wires={name: name.encode() for name in symbols}
    )
    orders = list(connect_orders(plan))
    assert all(len(order.encode()) <= ORDER_SIZE_MAX for order in orders)
    first, *rest = orders
    assert isinstance(first, Connect)
    wires = dict(first.plan.wires)
    for order in rest:
        assert isinstance(order, Subscribe)
        wires.update((name, bytes.fromhex(wire or "")) for name, wire in order.symbols)
    assert wires == plan.wires
    assert tuple(wires) == symbols


def test_long_lists_of_the_longest_names_fit_in_their_orders() -> None:
    names = [f"{i:05d}" + "\u5e01" * 18 for i in range(1_000)]
    pieces = list(symbol_lists(names))
    assert [name for piece in pieces for name in piece] == names
    longest = [(1 << 63) - 1] * len(pieces[0])
    assert len(Stale("v", list(pieces[0]), "ticker", longest).encode()) <= ORDER_SIZE_MAX


def test_connection_without_symbols_has_an_order_too() -> None:
    empty = ConnectionPlan(3, "kite", None, (), ("trade",), 50)
    assert list(connect_orders(empty)) == [Connect(empty)]


ADD: dict[str, Any] = json.loads(ReaderAdd(1, "lossless", [0]).encode())


@pytest.mark.parametrize(
    ("data", "fd_count"),
    [
        (b"x", 0),
        (b"\xff\xfe\x00", 1),
        (b"[]", 1),
        (b"[" * 5000, 0),
        (b"{}", 0),
        (b'{"do":"nothing"}', 1),
        (b'{"do":"reader_remove"}', 0),
        (b'{"do":"reader_remove","reader":"1"}', 0),
        (ReaderAdd(1, "lossless", [0]).encode(), 0),
        (ReaderAdd(1, "lossless", [0]).encode(), 2),
        (json.dumps({**ADD, "rings": 0}).encode(), 1),
        (json.dumps({**ADD, "rings": ["0"]}).encode(), 1),
        (json.dumps({**ADD, "rings": [True]}).encode(), 1),
        (json.dumps({**ADD, "reader": 1.5}).encode(), 1),
        (json.dumps({**ADD, "policy": None}).encode(), 1),
        (ReaderRemove(1).encode(), 1),
        (ReaderRemove(1).encode() + b" " * ORDER_SIZE_MAX, 0),
    ],
)
def test_garbage_is_received_refused_and_leaves_no_descriptor(data: bytes, fd_count: int) -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        before = open_descriptors()
        socket.send_fds(ours, [data], [0] * fd_count)
        with pytest.raises(ValueError, match=r"."):
            receive_order(theirs)
        assert open_descriptors() == before
        ours.send(ReaderRemove(5).encode())
        assert receive_order(theirs) == (ReaderRemove(5), -1)


def test_words_about_a_broken_order_do_not_repeat_it() -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        ours.send(b'{"do":"permit","id":"x","secret":{"key":"hush-hush"}}')
        with pytest.raises(ValueError, match=r"\$\.id") as caught:
            receive_order(theirs)
        assert "hush" not in str(caught.value)


def test_supervisor_that_is_gone_is_the_end_of_the_orders() -> None:
    ours, theirs = report_pair()
    with theirs:
        ours.close()
        with pytest.raises(EOFError):
            receive_order(theirs)
