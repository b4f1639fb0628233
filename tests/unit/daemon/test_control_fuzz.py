"""The control socket against whatever can be put on a line, and lines cut anywhere."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mdsys.daemon.operations import Operations
from mdsys.daemon.readers import Refused
from mdsys.daemon.recording import Recording
from mdsys.daemon.roster import Outcome
from mdsys.ring.control_socket import REQUEST_SIZE_MAX
from tests.control import Server, open_descriptors, serving
from tests.instances import geometry, running

ROOM = 64
"""Of the directory, in symbols."""


class World:
    """What requests could change, and whether they have."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, list[str]]] = []
        self.reloads = 0

    async def subscribe(self, names: list[str]) -> Outcome:
        return await self._change("subscribe", names)

    async def unsubscribe(self, names: list[str]) -> Outcome:
        return await self._change("unsubscribe", names)

    async def _change(self, op: str, names: list[str]) -> Outcome:
        self.changes.append((op, list(names)))
        await asyncio.sleep(0)
        return Outcome([], [], dict.fromkeys(names, "no"))

    async def reload(self) -> Mapping[str, Any]:
        self.reloads += 1
        raise Refused("as it was")

    def all(self, now_ns: int) -> Mapping[str, Any]:
        return {"ok": True, "now_ns": now_ns}

    def symbol(self, name: str, now_ns: int) -> Mapping[str, Any]:
        assert isinstance(name, str)
        return {"ok": True, "symbol": name, "now_ns": now_ns}


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[Server]:
    recording = Recording("fuzz", {}, 2, lambda _: [])
    operations = Operations(world, world, world.reload, ROOM, recording)  # type: ignore[arg-type]
    with running(geometry(rings=2)) as instance, serving(instance, operations) as each:
        yield each


# ---- what is sent -------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(),
    st.integers(0, 3),
    st.sampled_from([10**3_000, -(10**3_000), 2**63, 2**64, 1 << 31, -1, 1e308, float("nan")]),
    st.floats(),
)
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["", "BINANCE:A", "s1", "drop_oldest", "park", "\0", "x" * 200, "\ud800"]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)
RIGHT: Sequence[Mapping[str, Any]] = (
    {"op": "register", "name": "s1", "policy": "lossless", "wait": "park", "rings": [0], "core": 1},
    {"op": "readers", "histograms": True},
    {"op": "subscribe", "symbols": ["BINANCE:A"], "more": True},
    {"op": "unsubscribe", "symbols": ["BINANCE:A"], "more": False},
    {"op": "status", "symbol": "BINANCE:A"},
    {"op": "reload"},
    {"op": "record", "feed": 0, "ring_size": 65_536},
    {"op": "record_again", "feed": 0},
)
KEYS = tuple({key for each in RIGHT for key in each})


def line(request: Mapping[str, Any]) -> bytes:
    """Return a request as it is sent, without its end."""
    return json.dumps(request).encode()


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


SPOILED = st.builds(
    lambda request, key, value: line({**request, key: value}),
    *(st.sampled_from(RIGHT), st.one_of(st.sampled_from(KEYS), TEXTS), VALUES),
)
"""Right but for one value, or one key too many."""
STRANGE = st.builds(
    lambda op, more: line({"op": op, **more}),
    *(VALUES, st.dictionaries(st.one_of(st.sampled_from(KEYS[:3]), TEXTS), VALUES, max_size=4)),
)
NESTED = st.builds(
    lambda depth, open_, close: b'{"op":' + open_ * depth + b"1" + close * depth + b"}",
    st.integers(1, 1_500),
    st.sampled_from([b"[", b'{"a":']),
    st.sampled_from([b"]", b"}", b""]),
)
HUGE = st.builds(
    lambda op, sign, digits, tail: b'{"op":"%s","core":%s%s%s}' % (op, sign, b"9" * digits, tail),
    st.sampled_from([each["op"].encode() for each in RIGHT]),
    st.sampled_from([b"", b"-", b"0.", b"1e"]),
    st.integers(1, 4_000),
    st.sampled_from([b"", b".5", b"e9", b"e999999"]),
)
DOUBLED = st.builds(
    lambda request, key, value: b"%s,%s:%s}" % (line(request)[:-1], *map(encoded, (key, value))),
    *(st.sampled_from(RIGHT), st.sampled_from(KEYS), VALUES),
)
"""Some with a key that stands twice, whose last value may be right."""
BYTES = st.binary(max_size=200).map(lambda data: data.replace(b"\n", b" "))
LINES = st.lists(
    st.one_of(SPOILED, STRANGE, DOUBLED, BYTES, NESTED, HUGE).filter(
        lambda each: len(each) <= REQUEST_SIZE_MAX
    ),
    min_size=1,
    max_size=6,
)
CUTS = st.lists(st.floats(0, 1), max_size=5)


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > len(dict(pairs)):
        raise ValueError("a key stands twice")
    return dict(pairs)


def could_be_right(data: bytes) -> bool:
    """Whether a line may be a request that is right: an operation, its own keys alone, once."""
    try:
        request = json.loads(data, object_pairs_hook=each_once)
    except (ValueError, RecursionError):
        return False
    if not isinstance(request, dict):
        return False
    return any(each["op"] == request.get("op") and request.keys() <= each.keys() for each in RIGHT)


def talk(server: Server, data: bytes, cuts: Sequence[float], count: int) -> list[dict[str, Any]]:
    """Send bytes in pieces and return so many answers; no more come."""
    marks = sorted({0, len(data), *(int(each * len(data)) for each in cuts)})
    with server.connect() as client, client.makefile("rb") as file:
        for begin, end in pairwise(marks):
            client.sendall(data[begin:end])
        answers = [json.loads(file.readline()) for _ in range(count)]
        client.shutdown(socket.SHUT_WR)
        assert file.read() == b""
    return answers


def no_pieces_wait(server: Server) -> bool:
    operations: Any = server.control.operations
    return sum(len(each) for held in operations._held for each in held.names.values()) == 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example([b'{"op":"register","op":"readers"}', b"{}"], [0.5])
@example([b'{"op":"status","op":"reload"}', b'{"op":"reload","op":"status"}'], [])
@example([b'{"op":' + b"[" * 990 + b"]" * 990 + b"}"], [])
@example([b'{"op":"subscribe","symbols":["A"],"more":true}', b'{"op":"subscribe","symbols":3}'], [])
@given(lines=LINES, cuts=CUTS)
def test_each_line_has_one_answer_and_what_is_wrong_changes_nothing(
    server: Server, world: World, lines: list[bytes], cuts: list[float]
) -> None:
    before = len(world.changes), world.reloads
    answers = talk(server, b"".join(each + b"\n" for each in lines), cuts, len(lines))
    for data, answer in zip(lines, answers, strict=True):
        assert isinstance(answer["ok"], bool)
        if not answer["ok"]:
            assert isinstance(answer["error"], str)
            assert len(answer["error"]) < 500
            assert "Error: " not in answer["error"], "a fault of ours"
        assert could_be_right(data) or not answer["ok"]
    if not any(map(could_be_right, lines)):
        assert (len(world.changes), world.reloads) == before
    changed = sum(1 for each in answers if "accepted" in each)
    assert len(world.changes) - before[0] == changed, "refused, and done all the same"


@settings(max_examples=60, deadline=None)
@example(value=True)
@example(value=3)
@example(value=[3])
@example(value=[["A"]])
@example(value={})
@given(value=VALUES)
def test_any_value_of_any_key_is_obeyed_or_refused_in_words(server: Server, value: object) -> None:
    requests = [line({**each, key: value}) for each in RIGHT for key in each]
    lines = [each for each in requests if len(each) <= REQUEST_SIZE_MAX]
    answers = talk(server, b"".join(each + b"\n" for each in lines), [], len(lines))
    for sent, answer in zip(lines, answers, strict=True):
        assert answer["ok"] is True or "Error: " not in answer["error"], (sent, answer)


@settings(max_examples=50, deadline=None)
@given(data=st.binary(min_size=1, max_size=2 * REQUEST_SIZE_MAX), cuts=CUTS)
def test_whatever_comes_before_a_client_goes_leaves_nothing_of_it(
    server: Server, data: bytes, cuts: list[float]
) -> None:
    server.call(lambda: None)
    marks = sorted({0, len(data), *(int(each * len(data)) for each in cuts)})
    with server.connect() as client:
        try:
            for begin, end in pairwise(marks):
                client.sendall(data[begin:end])
        except OSError:  # it has been dropped for what it sent
            pass
    with server.connect() as client, client.makefile("rb") as file:
        client.sendall(b'{"op":"readers"}\n')
        answer = json.loads(file.readline())
        assert answer["readers"] == []


def test_nothing_is_left_when_all_have_gone(server: Server) -> None:
    """Last in this file: after thousands of them."""
    while server.call(lambda: len(server.control._connections)):  # the last are being closed
        pass
    assert server.count() == 0
    assert server.call(lambda: no_pieces_wait(server))
    before = open_descriptors()
    for _ in range(20):
        talk(server, b'{"op":"register","rings":[0]}\n{"op":"record_again","feed":0}\n', [], 2)
    while server.call(lambda: len(server.control._connections)):
        pass
    assert open_descriptors() == before
