"""The registry by itself: what it takes in, what it makes, what it shows."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mdsys import _native
from mdsys.config import Consumer
from mdsys.counters.schema import fields
from mdsys.daemon.feed_link import FeedLink
from mdsys.daemon.readers import (
    LOSSLESS_COUNT_MAX,
    READER_COUNT_MAX,
    SEALS,
    Peer,
    Readers,
    Refused,
    Registered,
)
from mdsys.feed.orders import ReaderAdd, ReaderRemove, receive_order
from mdsys.feed.report import report_pair
from mdsys.ring.segment import Instance
from tests.instances import geometry, running, trades, writer

DEFAULTS = Consumer(200, True, 0.8, 10_000, {"pinned": 3}, 1_000)
PEER = Peer(pid=4711, uid=1000, start_ticks=99)
EPOCH = 5
DEPTH = 256


class Time:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(rings=4, depth=DEPTH)) as each:
        yield each


@pytest.fixture
def time_() -> Time:
    return Time()


@pytest.fixture
def readers(instance: Instance, time_: Time) -> Iterator[Readers]:
    registry = Readers(instance.rings, DEFAULTS, epoch=EPOCH, monotonic_s=time_)
    yield registry
    for reader in list(registry._readers.values()):
        registry.remove(reader, "goes with the test")


def request(**changes: Any) -> dict[str, Any]:
    return {
        "op": "register",
        "name": "s1",
        "policy": "drop_oldest",
        "wait": "park",
        "rings": [0],
        "core": None,
        **changes,
    }


def register(readers: Readers, **changes: Any) -> Registered:
    """Register, and let go of the descriptor that the reader would get."""
    reader, fd = readers.register(request(**changes), PEER)
    os.close(fd)
    return reader


@contextlib.contextmanager
def page_of(readers: Readers, **changes: Any) -> Iterator[tuple[Registered, mmap.mmap]]:
    """Register, and give the page as the reader holds it: writable."""
    reader, fd = readers.register(request(**changes), PEER)
    with mmap.mmap(fd, os.fstat(fd).st_size) as memory:
        os.close(fd)
        yield reader, memory


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def page_mappings() -> set[str]:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line for line in lines if "mdsys-reader" in line}


# What is taken in


def test_reader_is_given_a_page_with_its_number_and_the_daemons_defaults(readers: Readers) -> None:
    with page_of(readers, name="alpha-1", rings=[1, 3]) as (reader, memory):
        page = _native.ReaderPage(memory)
        assert page.reader_id == reader.number
        assert page.name == "alpha-1"
        assert page.defaults() == {
            "batch_size": 200,
            "adaptive": True,
            "threshold": 0.8,
            "max_queue_size": 10_000,
            "core": None,
        }
        del page


def test_numbers_go_up_and_are_never_used_again_not_even_by_the_next_daemon(
    readers: Readers, instance: Instance
) -> None:
    first, second = register(readers), register(readers)
    assert (first.number, second.number) == ((EPOCH << 32) + 1, (EPOCH << 32) + 2)
    readers.remove(second, "left")
    third = register(readers)
    assert third.number == (EPOCH << 32) + 3
    successor = Readers(instance.rings, DEFAULTS, epoch=EPOCH + 1)
    reader = register(successor)
    assert reader.number > third.number
    successor.remove(reader, "left")


@pytest.mark.parametrize(
    ("name", "asked", "core"),
    [("free", None, None), ("pinned", None, 3), ("pinned", 7, 7), ("free", 0, 0)],
)
def test_core_is_the_readers_own_wish_else_the_configurations(
    readers: Readers, name: str, asked: int | None, core: int | None
) -> None:
    reader = register(readers, name=name, core=asked)
    assert reader.core == reader.page.defaults()["core"] == core


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "name: "),
        ({"name": "a" * 32}, "name: "),
        ({"name": "a/b"}, "name: "),
        ({"name": "a\n"}, "name: "),
        ({"name": "é"}, "name: "),
        ({"name": "\ud800"}, "name: "),
        ({"name": None}, "name: "),
        ({"name": ["s1"]}, "name: "),
        ({"policy": "newest"}, "policy: "),
        ({"policy": ["lossless"]}, "policy: "),
        ({"policy": {}}, "policy: "),
        ({"wait": "sleep"}, "wait: "),
        ({"wait": 1}, "wait: "),
        ({"rings": []}, "rings: "),
        ({"rings": "0"}, "rings: "),
        ({"rings": {"0": 1}}, "rings: "),
        ({"rings": [4]}, r"rings: 4 is not in \[0, 3\]"),
        ({"rings": [-1]}, "rings: "),
        ({"rings": [True]}, "rings: "),
        ({"rings": [0.0]}, "rings: "),
        ({"rings": ["0"]}, "rings: "),
        ({"rings": [None]}, "rings: "),
        ({"rings": [[0]]}, "rings: "),
        ({"rings": [10**400]}, "rings: "),
        ({"rings": [0, 1, 0]}, "rings: names a ring twice"),
        ({"core": -1}, "core: "),
        ({"core": 4096}, "core: "),
        ({"core": False}, "core: "),
        ({"core": "3"}, "core: "),
        ({"core": 1.0}, "core: "),
        ({"cores": 3}, 'unknown key "cores"'),
    ],
)
def test_wrong_request_is_refused_and_changes_nothing(
    readers: Readers, changes: dict[str, Any], words: str
) -> None:
    before = descriptors()
    with pytest.raises(Refused, match=words):
        readers.register(request(**changes), PEER)
    assert len(readers) == 0
    assert descriptors() == before
    assert register(readers).number == (EPOCH << 32) + 1


@pytest.mark.parametrize("key", ["name", "policy", "wait", "rings"])
def test_request_without_a_key_is_refused(readers: Readers, key: str) -> None:
    asked = request()
    del asked[key]
    with pytest.raises(Refused, match=f"{key}: "):
        readers.register(asked, PEER)


def test_core_may_be_left_out(readers: Readers) -> None:
    asked = request()
    del asked["core"]
    _, fd = readers.register(asked, PEER)
    os.close(fd)


def test_65th_reader_is_refused_until_one_leaves(readers: Readers) -> None:
    taken = [register(readers) for _ in range(READER_COUNT_MAX)]
    with pytest.raises(Refused, match="64 readers are registered"):
        readers.register(request(), PEER)
    readers.remove(taken[7], "left")
    register(readers)


def test_17th_lossless_reader_of_one_ring_is_refused_and_other_rings_have_room(
    readers: Readers,
) -> None:
    for _ in range(LOSSLESS_COUNT_MAX):
        register(readers, policy="lossless", rings=[1, 2])
    with pytest.raises(Refused, match="ring 2 has 16 lossless readers"):
        readers.register(request(policy="lossless", rings=[0, 2]), PEER)
    register(readers, policy="conflate", rings=[2])
    register(readers, policy="lossless", rings=[0, 3])


def test_bounds_are_those_of_the_headers(repository: Path) -> None:
    text = "".join(
        (repository / "native/include/mdsys" / name).read_text()
        for name in ("reader_page.h", "ring.h")
    )
    found = dict(re.findall(r"#define (MD_(?:READER|GRANT)_COUNT(?:_MAX)?) (\d+)u", text))
    assert found == {
        "MD_READER_COUNT_MAX": str(READER_COUNT_MAX),
        "MD_GRANT_COUNT": str(LOSSLESS_COUNT_MAX),
    }


def test_tiniest_threshold_that_the_configuration_may_give_fits_the_page(
    instance: Instance,
) -> None:
    readers = Readers(instance.rings, Consumer(1, False, 1e-300, 1, {}, 1_000), epoch=1)
    reader = register(readers)
    assert reader.page.defaults()["threshold"] == 1e-6
    readers.remove(reader, "left")


@pytest.mark.parametrize("call", ["memfd_create", "open"])
def test_want_of_descriptors_is_an_answer_and_leaks_none(
    readers: Readers, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: Any) -> int:
        raise OSError(24, "Too many open files")

    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(Refused, match="Too many open files"):
            readers.register(request(), PEER)
    assert descriptors() == before
    assert len(readers) == 0


# The page


def test_page_can_be_neither_shrunk_nor_grown_nor_unsealed_by_its_reader(readers: Readers) -> None:
    _, fd = readers.register(request(), PEER)
    size = os.fstat(fd).st_size
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == SEALS
    for wrong in (0, size - 1, size + 4096):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, wrong)
    with pytest.raises(PermissionError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    os.close(fd)


def test_descriptor_of_the_feeds_cannot_write(readers: Readers) -> None:
    reader = register(readers)
    with pytest.raises(PermissionError):
        mmap.mmap(reader.fd, 4096)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(reader.fd, b"x", 0)


def test_supervisor_itself_maps_the_page_read_only(readers: Readers) -> None:
    before = page_mappings()
    register(readers)
    (made,) = page_mappings() - before
    assert made.split()[1] == "r--s"


def test_reader_that_leaves_leaves_no_descriptor_and_no_mapping(readers: Readers) -> None:
    before, mapped = descriptors(), page_mappings()
    for _ in range(200):
        readers.remove(register(readers), "left")
    assert (descriptors(), page_mappings()) == (before, mapped)


def test_page_that_its_reader_has_punched_full_of_holes_is_read_all_the_same(
    readers: Readers,
) -> None:
    _, fd = readers.register(request(), PEER)
    libc = ctypes.CDLL(None, use_errno=True)
    size = os.fstat(fd).st_size
    keep_size_punch_hole = 3
    assert libc.fallocate(fd, keep_size_punch_hole, ctypes.c_int64(0), ctypes.c_int64(size)) == 0
    os.close(fd)
    (shown,) = readers.picture()
    assert shown["name"] == "s1"
    assert shown["received"] == 0


# What is shown


def test_identity_comes_from_the_kernel_and_figures_from_the_page(
    readers: Readers, instance: Instance
) -> None:
    filled = writer(instance, 2)
    filled.publish_records(trades(40))
    with page_of(readers, rings=[0, 2], core=2, policy="conflate") as (reader, memory):
        set_ring(memory, 2, next_=31, lost=3, dropped=4)
        set_ring(memory, 0, next_=1)
        (shown,) = readers.picture()
        assert {key: shown[key] for key in ("reader", "name", "pid", "uid", "start_ticks")} == {
            "reader": reader.number,
            "name": "s1",
            "pid": 4711,
            "uid": 1000,
            "start_ticks": 99,
        }
        assert (shown["policy"], shown["wait"], shown["core"]) == ("conflate", "park", 2)
        assert shown["lag"] == 10
        assert shown["rings"] == [
            {
                "ring": 0,
                "next": 1,
                "lag": 0,
                "lost": 0,
                "dropped": 0,
                "asleep": False,
                "granted_from": None,
                "ejected": None,
            },
            {
                "ring": 2,
                "next": 31,
                "lag": 10,
                "lost": 3,
                "dropped": 4,
                "asleep": False,
                "granted_from": None,
                "ejected": None,
            },
        ]
        for name in fields("readers"):
            assert shown[name] == 0
        assert shown["latency_ns"]["recv_to_handler"]["count"] == 0


@pytest.mark.parametrize("next_", [1, 2, 2**63, 2**64 - 1])
def test_lag_is_never_negative_nor_more_than_the_ring(
    readers: Readers, instance: Instance, next_: int
) -> None:
    filled = writer(instance)
    for _ in range(5):
        filled.publish_records(trades(60))
    with page_of(readers) as (_, memory):
        set_ring(memory, 0, next_=next_)
        assert readers.picture()[0]["lag"] == (DEPTH if next_ < 3 else 0)


@pytest.mark.parametrize("seed", range(20))
def test_page_of_garbage_is_shown_without_harm_and_identity_stays(
    readers: Readers, seed: int
) -> None:
    with page_of(readers, rings=[0, 1, 2, 3], policy="lossless") as (_, memory):
        memory[:] = random.Random(seed).randbytes(len(memory))
        readers.beat()
        (shown,) = json.loads(json.dumps(readers.picture()))
        assert (shown["name"], shown["pid"], shown["policy"]) == ("s1", 4711, "lossless")
        assert all(0 <= ring["lag"] <= DEPTH for ring in shown["rings"])


@pytest.mark.parametrize("byte", [b"\x00", b"\xff", b"\x80"])
def test_page_full_of_one_byte_is_shown_without_harm(readers: Readers, byte: bytes) -> None:
    with page_of(readers) as (_, memory):
        memory[:] = byte * len(memory)
        readers.beat()
        assert json.dumps(readers.picture())


def test_idle_time_begins_when_the_polls_stop(readers: Readers, time_: Time) -> None:
    with page_of(readers) as (_, memory):
        time_.now_s += 5
        assert readers.picture()[0]["idle_s"] == 5  # it has not polled since it registered
        set_polls(memory, 1)
        assert readers.picture()[0]["idle_s"] == 0
        readers.beat()
        time_.now_s += 2.5
        readers.beat()
        assert readers.picture()[0]["idle_s"] == 2.5
        set_polls(memory, 2)
        readers.beat()
        assert readers.picture()[0]["idle_s"] == 0


def test_ejection_is_remembered_and_one_of_a_reader_that_has_left_is_none(
    readers: Readers, caplog: pytest.LogCaptureFixture
) -> None:
    reader = register(readers, policy="lossless", rings=[0, 1])
    readers.note_ejected(reader.number, 1, 123)
    assert [ring["ejected"] for ring in readers.picture()[0]["rings"]] == [None, 123]
    assert "ring 1 goes on without it from 123 on" in caplog.text
    readers.remove(reader, "left")
    readers.note_ejected(reader.number, 0, 124)
    assert readers.picture() == []


# The feeds


def test_feed_is_told_of_who_was_there_and_who_comes_and_who_goes_each_with_its_own_rings(
    readers: Readers,
) -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        early = register(readers, rings=[3, 2, 1], policy="lossless")
        elsewhere = register(readers, rings=[0, 2])
        readers.feed_started(1, FeedLink(ours, (1, 3)))
        late = register(readers, rings=[0, 1])
        readers.remove(elsewhere, "left")
        readers.remove(early, "left")
        told = [receive_order(theirs) for _ in range(3)]
        with pytest.raises(BlockingIOError):
            receive_order(theirs)
        assert [order for order, _ in told] == [
            ReaderAdd(early.number, "lossless", [3, 1]),
            ReaderAdd(late.number, "drop_oldest", [1]),
            ReaderRemove(early.number),
        ]
        for (_, fd), reader in zip(told[:2], (early, late), strict=True):
            with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
                page = _native.ReaderPage(memory)
                assert page.reader_id == reader.number
                del page
            os.close(fd)
        readers.feed_ended(1)


def test_feed_that_is_started_again_is_told_anew(readers: Readers) -> None:
    reader = register(readers)
    for _ in range(2):
        ours, theirs = report_pair()
        with ours, theirs:
            readers.feed_started(0, FeedLink(ours, (0,)))
            order, fd = receive_order(theirs)
            assert isinstance(order, ReaderAdd)
            assert order.reader == reader.number
            os.close(fd)
            readers.feed_ended(0)


def test_feed_that_has_died_disturbs_nobody(readers: Readers) -> None:
    ours, theirs = report_pair()
    with ours:
        readers.feed_started(0, FeedLink(ours, (0,)))
        theirs.close()
        reader = register(readers)
        readers.remove(reader, "left")
        readers.beat()
        readers.feed_ended(0)


def set_ring(memory: mmap.mmap, ring: int, *, next_: int, lost: int = 0, dropped: int = 0) -> None:
    """Write what its reader would."""
    offset = _native.reader_page_size() - 256 * 128 + ring * 128
    memory[offset : offset + 24] = b"".join(
        each.to_bytes(8, "little") for each in (next_, lost, dropped)
    )


def set_polls(memory: mmap.mmap, polls: int) -> None:
    memory[4096:4104] = polls.to_bytes(8, "little")
