"""The binding itself: hashing, the symbol directory, segments as objects."""

from __future__ import annotations

import mmap
import random
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from mdsys import TICK, LayoutError, _native
from mdsys.errors import HostError
from tests.instances import NOW, trades
from tests.universe import real_names

NAME_SIZE_MAX = 63


# ---- xxh3 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(129))
def test_xxh3_agrees_with_the_xxhash_package(size: int) -> None:
    generator = random.Random(size)
    for key in (bytes(size), b"\xff" * size, *(generator.randbytes(size) for _ in range(20))):
        assert _native.xxh3_64(key) == xxhash.xxh3_64_intdigest(key)


def test_xxh3_refuses_what_it_was_not_made_for() -> None:
    with pytest.raises(ValueError, match="at most 128"):
        _native.xxh3_64(bytes(129))
    with pytest.raises(TypeError):
        _native.xxh3_64("text")  # type: ignore[arg-type]


# ---- the symbol directory ----------------------------------------------------------------------


def directory(capacity: int, ring_count: int = 4) -> _native.Symbols:
    memory = mmap.mmap(-1, _native.symbols_size(capacity))
    _native.Symbols.create(memory, capacity, ring_count, 1, b"/dev/shm", b"test")
    _native.publish_segment(memory, NOW)
    return _native.Symbols(memory, writable=True)


def generated_names() -> list[str]:
    return [f"BINANCE:SYM{i:05d}USDT" for i in range(50_000)]


@pytest.fixture(params=["generated", "real"])
def names(request: pytest.FixtureRequest, data_dir: Path) -> Sequence[str]:
    names = generated_names() if request.param == "generated" else real_names(data_dir)
    return list(dict.fromkeys(names))


def test_every_name_is_found_under_a_dense_id_and_no_other_is(names: Sequence[str]) -> None:
    symbols = directory(len(names))
    for i, name in enumerate(names):
        assert symbols.add(name.encode(), i % 4, i % 19, (i + 1) % 19) == i + 1
    assert len(symbols) == len(names) == symbols.capacity
    for i, name in enumerate(names):
        assert symbols.find(name.encode()) == i + 1
        venue_size = name.index(":")
        assert symbols.entry(i + 1) == (name, venue_size, i % 4, i % 19, (i + 1) % 19)
        assert symbols.find(name[:-1].encode() + b"~") == 0
    with pytest.raises(ValueError, match="cannot add"):
        symbols.add(b"ONE:TOOMANY", 0, 8, 8)
    assert symbols.find(b"ONE:TOOMANY") == 0
    assert len(symbols) == len(names)


def test_a_look_up_takes_few_probes_even_when_the_directory_is_full(names: Sequence[str]) -> None:
    # O(1): with linear probing at most half full, long runs do not happen to a good hash.
    size = 16
    while size // 2 < len(names):
        size *= 2
    taken = np.zeros(size, bool)
    probes = []
    for name in names:
        place = _native.xxh3_64(name.encode()) & (size - 1)
        count = 1
        while taken[place]:
            place, count = (place + 1) & (size - 1), count + 1
        taken[place] = True
        probes.append(count)
    assert sum(probes) / len(probes) < 1.6  # theory at load 0.5: 1.5 (Knuth, TAOCP 6.4)
    assert max(probes) < 100


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b":",
        b"X",
        b"X:",
        b":X",
        b"XY",
        b"VENUE:" + b"S" * (NAME_SIZE_MAX - 5),
        b"V" * 70_000 + b":S",
    ],
)
def test_what_is_no_name_is_refused(name: bytes) -> None:
    symbols = directory(4)
    with pytest.raises(ValueError, match="cannot add"):
        symbols.add(name, 0, 8, 8)
    assert symbols.find(name) == 0
    assert len(symbols) == 0


def test_name_of_63_bytes_is_taken_whole() -> None:
    symbols = directory(4)
    name = b"VENUE:" + b"S" * (NAME_SIZE_MAX - 6)
    assert len(name) == NAME_SIZE_MAX
    assert symbols.add(name, 0, 8, 8) == 1
    assert symbols.find(name) == 1
    assert symbols.find(name + b"S") == symbols.find(name[:-1]) == 0
    assert symbols.entry(1)[0] == name.decode()


@pytest.mark.parametrize(
    ("ring", "price_scale", "size_scale"), [(4, 8, 8), (0, 19, 8), (0, 8, 19), (0, 256, 8)]
)
def test_ring_that_is_not_there_and_scale_that_is_too_large_are_refused(
    ring: int, price_scale: int, size_scale: int
) -> None:
    symbols = directory(4)
    with pytest.raises(ValueError, match="cannot add"):
        symbols.add(b"V:S", ring, price_scale, size_scale)
    assert len(symbols) == 0


def test_name_is_taken_once() -> None:
    symbols = directory(4)
    symbols.add(b"V:S", 0, 8, 8)
    with pytest.raises(ValueError, match="cannot add"):
        symbols.add(b"V:S", 1, 8, 8)
    assert (len(symbols), symbols.entry(1)[2]) == (1, 0)


def test_venue_ends_at_the_first_colon() -> None:
    symbols = directory(4)
    symbols.add(b"KITE:NSE:INFY", 0, 8, 8)
    assert symbols.entry(1)[:2] == ("KITE:NSE:INFY", 4)


@pytest.mark.parametrize("symbol_id", [0, 2, 5, (1 << 32) - 1])
def test_id_that_nobody_has_is_an_index_error(symbol_id: int) -> None:
    symbols = directory(4)
    symbols.add(b"V:S", 0, 8, 8)
    with pytest.raises(IndexError):
        symbols.entry(symbol_id)


name_text = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters=":"),
    min_size=1,
    max_size=20,
)


@given(st.lists(st.tuples(name_text, name_text), max_size=40))
@settings(deadline=None, derandomize=True)
def test_directory_behaves_like_a_dict(pairs: list[tuple[str, str]]) -> None:
    symbols = directory(40)
    model: dict[bytes, int] = {}
    for venue, native in pairs:
        name = f"{venue}:{native}".encode()
        assert symbols.find(name) == model.get(name, 0)
        if name in model or len(name) > NAME_SIZE_MAX:
            with pytest.raises(ValueError, match="cannot add"):
                symbols.add(name, 0, 8, 8)
        else:
            model[name] = symbols.add(name, 0, 8, 8)
    assert list(model.values()) == list(range(1, len(model) + 1))
    assert all(symbols.find(name) == number for name, number in model.items())


# ---- segments as objects -----------------------------------------------------------------------


KINDS = [_native.Ring, _native.Symbols, _native.Cache, _native.Counters]


@pytest.mark.parametrize("kind", KINDS)
def test_what_holds_no_segment_is_a_layout_error(kind: type[_native.Segment]) -> None:
    for memory in (bytes(0), bytes(4095), bytes(4096), b"\xff" * 8192, np.zeros(65536, np.uint8)):
        with pytest.raises(LayoutError):
            kind(memory)


@pytest.mark.parametrize("kind", KINDS)
def test_a_segment_of_another_kind_is_a_layout_error(kind: type[_native.Segment]) -> None:
    made = {
        _native.Ring: (_native.ring_size(64), (64, 0, 0)),
        _native.Symbols: (_native.symbols_size(8), (8, 1, 1, b"/dev/shm", b"test")),
        _native.Cache: (_native.cache_size(8), (8,)),
        _native.Counters: (_native.counters_size(2), (2,)),
    }
    for other, (size, args) in made.items():
        memory = mmap.mmap(-1, size)
        other.create(memory, *args)  # type: ignore[attr-defined]
        with pytest.raises(LayoutError, match="not a finished"):
            other(memory)
        _native.publish_segment(memory, NOW)
        assert other(memory).created_ns == NOW
        if other is not kind:
            with pytest.raises(LayoutError, match="another kind"):
                kind(memory)


@pytest.mark.parametrize("kind", KINDS)
def test_mapping_too_small_for_what_is_to_be_made_is_refused(kind: type[_native.Segment]) -> None:
    args: dict[type[_native.Segment], tuple[object, ...]] = {
        _native.Ring: (64, 0, 0),
        _native.Symbols: (64, 1, 1, b"/dev/shm", b"test"),
        _native.Cache: (64,),
        _native.Counters: (2,),
    }
    memory = bytearray(8191)
    with pytest.raises(ValueError, match="mapping too small"):
        kind.create(memory, *args[kind])  # type: ignore[attr-defined]
    assert memory == bytes(8191)


def test_mapping_stays_open_while_a_segment_needs_it() -> None:
    memory = mmap.mmap(-1, _native.ring_size(64))
    _native.Ring.create(memory, 64, 0, 0)
    _native.publish_segment(memory, NOW)
    ring = _native.Ring(memory)
    with pytest.raises(BufferError):
        memory.close()
    del ring
    memory.close()


def test_superseded_segment_is_refused() -> None:
    memory = mmap.mmap(-1, _native.ring_size(64))
    _native.Ring.create(memory, 64, 0, 0)
    _native.publish_segment(memory, NOW)
    attached = _native.Ring(memory)
    _native.supersede_segment(memory)
    assert attached.state == 3
    with pytest.raises(LayoutError):
        _native.Ring(memory)


def test_counter_block_beyond_the_last_is_an_index_error() -> None:
    memory = mmap.mmap(-1, _native.counters_size(2))
    _native.Counters.create(memory, 2)
    _native.publish_segment(memory, NOW)
    counters = _native.Counters(memory)
    assert len(counters) == 2
    assert counters.block(0) == counters.block(1) == bytes(len(counters.block(0)))
    with pytest.raises(IndexError):
        counters.block(2)


def test_cell_beyond_the_capacity_is_an_index_error() -> None:
    memory = mmap.mmap(-1, _native.cache_size(4))
    _native.Cache.create(memory, 4)
    _native.publish_segment(memory, NOW)
    cache = _native.Cache(memory)
    out = np.zeros(1, TICK)
    assert not cache.load(4, 1, out)
    for symbol_id in (0, 5, (1 << 32) - 1):
        with pytest.raises(IndexError):
            cache.load(symbol_id, 1, out)
        with pytest.raises(IndexError):
            cache.venue_ids(symbol_id)
    with pytest.raises(ValueError, match="shorter"):
        cache.load(1, 1, bytearray(63))
    with pytest.raises((BufferError, TypeError, ValueError)):
        cache.load(1, 1, bytes(64))


def test_cell_whose_writer_died_is_an_error_and_never_a_torn_record() -> None:
    memory = mmap.mmap(-1, _native.cache_size(4))
    _native.Cache.create(memory, 4)
    _native.publish_segment(memory, NOW)
    version = np.frombuffer(memory, "<u8", 1, _native.HEADER_SIZE + 576)
    version[0] = 7
    with pytest.raises(HostError, match="half-written"):
        _native.Cache(memory).load(1, 1, np.zeros(1, TICK))


def test_cell_whose_writer_was_interrupted_is_waited_for() -> None:
    # A feed that loses its core inside a cell is not dead: a reader that gives up at once, and
    # says so, would be wrong every time the scheduler is.
    memory = mmap.mmap(-1, _native.cache_size(4))
    _native.Cache.create(memory, 4)
    _native.publish_segment(memory, NOW)
    cell = np.frombuffer(memory, "<u8", 64, _native.HEADER_SIZE + 576)
    cell[0] = 7
    out = np.zeros(1, TICK)
    started = threading.Event()
    found: list[bool] = []

    def load() -> None:
        cache = _native.Cache(memory)
        started.set()
        found.append(cache.load(1, 1, out))

    thread = threading.Thread(target=load)
    thread.start()
    started.wait()
    cell[8] = 1  # the trade's sequence
    cell[0] = 8
    thread.join()
    assert found == [True]
    assert out["seq"][0] == 1


@pytest.mark.parametrize("records", [None, 5, "text", np.zeros(8, TICK)[::2]])
def test_publish_refuses_what_holds_no_records(records: object) -> None:
    memory = mmap.mmap(-1, _native.ring_size(64))
    _native.Ring.create(memory, 64, 0, 0)
    _native.publish_segment(memory, NOW)
    writer = _native.RingWriter(memory, 1, 1, NOW)
    for _ in range(2):
        with pytest.raises((TypeError, ValueError, BufferError)):
            writer.publish_records(records)  # type: ignore[arg-type]
    writer.publish_records(trades(1))
    assert writer.next == 2
