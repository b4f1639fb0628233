"""Where memory lies and whether it stays there, in real mappings; other machines are fakes."""

from __future__ import annotations

import errno
import mmap
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from mdsys.host import memory
from mdsys.host.memory import address_of, lock, node_notice, numa_node_of, prefer_node
from mdsys.ring import segment
from mdsys.ring.segment import Instance, open_instance
from tests.instances import NOW, cleaned, geometry, new_name

PAGE = mmap.PAGESIZE
COUNT = 256
"""Pages of a mapping here."""
NODES = "sys/devices/system/node"
TWO_NODES = {
    f"{NODES}/has_memory": "0-1",
    f"{NODES}/node0/cpulist": "0-3",
    f"{NODES}/node1/cpulist": "4-7",
}


def host(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.fixture(params=["written", "read"])
def mapping(request: pytest.FixtureRequest) -> Iterator[mmap.mmap]:
    """Give a shared mapping of memory that is there, as a feed's or as a reader's."""
    fd = os.memfd_create("mdsys-test")
    try:
        os.ftruncate(fd, COUNT * PAGE)
        os.posix_fallocate(fd, 0, COUNT * PAGE)
        access = mmap.PROT_READ | (mmap.PROT_WRITE if request.param == "written" else 0)
        mapping = mmap.mmap(fd, COUNT * PAGE, mmap.MAP_SHARED, access)
    finally:
        os.close(fd)
    yield mapping
    mapping.close()  # fails while anybody holds its buffer


def locked_bytes() -> int:
    found = re.search(r"^VmLck:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


def faults_of_touching(mapping: mmap.mmap) -> int:
    """Return how many accesses, one a page, had to ask the kernel for its place."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for offset in range(0, len(mapping), PAGE):
        mapping[offset]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


# ---- which node --------------------------------------------------------------------------------


@pytest.mark.parametrize(("core", "node"), [(0, 0), (3, 0), (4, 1), (7, 1), (8, None), (-1, None)])
def test_core_is_on_the_node_that_lists_it(tmp_path: Path, core: int, node: int | None) -> None:
    assert numa_node_of(core, root=host(tmp_path, TWO_NODES)) == node


@pytest.mark.parametrize("nodes", ["0", ""])
def test_single_node_is_no_choice(tmp_path: Path, nodes: str) -> None:
    root = host(tmp_path, {**TWO_NODES, f"{NODES}/has_memory": nodes})
    assert numa_node_of(0, root=root) is None


def test_node_without_memory_is_no_choice(tmp_path: Path) -> None:
    files = {f"{NODES}/has_memory": "0,2", f"{NODES}/node2/cpulist": "8-11"}
    root = host(tmp_path, {**TWO_NODES, **files})
    assert [numa_node_of(core, root=root) for core in (0, 4, 8)] == [0, None, 2]


def test_host_without_nodes_has_no_choice(tmp_path: Path) -> None:
    assert numa_node_of(0, root=tmp_path) is None


# ---- preferring a node -------------------------------------------------------------------------


def policy_of(mapping: mmap.mmap) -> str:
    """Return what the kernel notes of a mapping: its policy, its pages."""
    for line in Path("/proc/self/numa_maps").read_text().splitlines():
        address, _, rest = line.partition(" ")
        if int(address, 16) == address_of(mapping):
            return rest
    raise AssertionError("not mapped")


def test_kernel_takes_the_preference(mapping: mmap.mmap) -> None:
    assert policy_of(mapping).startswith("default ")
    prefer_node(mapping, 0)
    assert policy_of(mapping).startswith("prefer:0 ")


@pytest.mark.parametrize("node", [-1, 1_023, 1_024, 1 << 40])
def test_node_that_is_not_there_is_refused(mapping: mmap.mmap, node: int) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        prefer_node(mapping, node)
    assert policy_of(mapping).startswith("default ")


def test_preference_is_refused_where_its_number_is_unknown(
    mapping: mmap.mmap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(OSError) as error:  # noqa: PT011 - the errno is what is asked
        prefer_node(mapping, 0)
    assert error.value.errno == errno.ENOSYS


def test_closed_mapping_has_no_address(mapping: mmap.mmap) -> None:
    assert address_of(mapping) % PAGE == 0
    mapping.close()
    with pytest.raises(ValueError, match="closed"):
        address_of(mapping)


# ---- segments on the nodes of their feeds ------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | int]]:
    """Note in which order segments' memory is made: what was done, to which file, with what."""
    noted: list[tuple[str, str | int]] = []

    class Noted(mmap.mmap):
        def madvise(self, option: int, *args: int) -> None:
            noted.append(("advise", option))
            super().madvise(option, *args)

    def prefer(mapping: mmap.mmap, node: int) -> None:
        assert isinstance(mapping, Noted)
        noted.append(("prefer", node))

    def allocate(fd: int, offset: int, size: int) -> None:
        noted.append(("allocate", Path(f"/proc/self/fd/{fd}").readlink().name.split(".", 2)[2]))
        real(fd, offset, size)

    real = os.posix_fallocate
    monkeypatch.setattr(mmap, "mmap", Noted)
    monkeypatch.setattr(segment, "prefer_node", prefer)
    monkeypatch.setattr(os, "posix_fallocate", allocate)
    return noted


def start(name: str, nodes: Mapping[int, int], *, rings: int, feeds: int = 1) -> Instance:
    shape = geometry(rings=rings, feeds=feeds)
    return open_instance(name, shape, group=None, pid=os.getpid(), now_ns=NOW, ring_nodes=nodes)


def preferred(calls: list[tuple[str, str | int]]) -> dict[str | int, str | int]:
    """Return each segment's node, having seen that it was chosen before the first page was made."""
    populate = [("advise", mmap.MADV_HUGEPAGE), ("advise", memory.MADV_POPULATE_WRITE)]
    nodes: dict[str | int, str | int] = {}
    while calls:
        chosen = [calls.pop(0)[1]] if calls[0][0] == "prefer" else []
        assert calls[:2] == populate
        (what, name), calls[:3] = calls[2], []
        assert what == "allocate"
        nodes.update((name, node) for node in chosen)
    return nodes


def test_each_ring_is_made_on_the_node_that_is_asked_for_it(
    calls: list[tuple[str, str | int]],
) -> None:
    with cleaned(new_name()) as name:
        start(name, {0: 0, 1: 1, 3: 1}, rings=4, feeds=2).lock.release()
        assert preferred(calls) == {"ring.0": 0, "ring.1": 1, "ring.3": 1}


def test_what_all_feeds_write_lies_with_the_rings_where_these_lie_together(
    calls: list[tuple[str, str | int]],
) -> None:
    with cleaned(new_name()) as name:
        start(name, {0: 1, 1: 1}, rings=2).lock.release()
        assert preferred(calls) == {"cache": 1, "counters": 1, "ring.0": 1, "ring.1": 1}


def test_kernel_is_not_asked_where_there_is_one_node(calls: list[tuple[str, str | int]]) -> None:
    with cleaned(new_name()) as name:
        start(name, {}, rings=2).lock.release()
        assert preferred(calls) == {}


def test_adopted_segments_stay_where_they_are(calls: list[tuple[str, str | int]]) -> None:
    with cleaned(new_name()) as name:
        start(name, {}, rings=1).stop()
        calls.clear()
        adopted = start(name, {0: 1}, rings=1)
        assert adopted.adopted
        assert calls == []
        adopted.lock.release()


@pytest.mark.parametrize("node", [0, 1_023])
def test_instance_is_made_whatever_the_kernel_says_to_the_node(node: int) -> None:
    with cleaned(new_name()) as name:
        instance = start(name, {0: node, 1: node}, rings=2)
        path = segment.segment_path(segment.ROOT_DIR, name, "ring.1")
        again = segment.map_file(path)
        assert policy_of(again).startswith("prefer:0 " if node == 0 else "default ")
        again.close()
        instance.lock.release()


# ---- what lies elsewhere -----------------------------------------------------------------------


def numa_maps(root: Path, places: dict[mmap.mmap, str]) -> Path:
    lines = [f"{address_of(each):08x} default file=/x {text}" for each, text in places.items()]
    host(root, TWO_NODES)
    return host(root, {"proc/self/numa_maps": "\n".join(["55a000 default heap N0=9", *lines])})


@pytest.mark.parametrize(
    ("pages", "core", "far"),
    [
        ("mapped=4 N0=4 kernelpagesize_kB=4", 4, True),
        ("mapped=4 N0=4 kernelpagesize_kB=4", 3, False),
        ("huge dirty=4 N0=3 N1=1 kernelpagesize_kB=2048", 4, True),
        ("mapped=4 N0=2 N1=2 kernelpagesize_kB=4", 4, False),
        ("kernelpagesize_kB=4", 4, False),  # not touched: it lies nowhere yet
    ],
)
def test_ring_on_another_node_than_its_core_is_noticed(
    mapping: mmap.mmap, tmp_path: Path, pages: str, core: int, far: bool
) -> None:
    root = numa_maps(tmp_path, {mapping: pages})
    notice = node_notice({"ring.0": mapping}, core, root=root)
    assert (notice is not None) == far
    if notice is not None:
        assert notice.startswith(
            "ring.0 lies on another memory node than core 4, whose node is 1: "
        )


def test_rings_on_another_node_are_one_notice(mapping: mmap.mmap, tmp_path: Path) -> None:
    with mmap.mmap(-1, PAGE) as near, mmap.mmap(-1, PAGE) as other:
        root = numa_maps(tmp_path, {mapping: "N0=4", near: "N1=4", other: "N0=1"})
        rings = {"ring.0": mapping, "ring.2": near, "ring.4": other}
        notice = node_notice(rings, 5, root=root)
    assert notice is not None
    assert notice.startswith("ring.0, ring.4 lie on another memory node than core 5")
    assert "mdsys clean" in notice


def test_real_pages_are_found_where_the_kernel_says_they_lie(
    mapping: mmap.mmap, tmp_path: Path
) -> None:
    root = host(tmp_path, TWO_NODES)
    (root / "proc").symlink_to("/proc")
    assert lock([mapping]) is None
    assert "N0=" in policy_of(mapping)
    assert node_notice({"ring.0": mapping}, 0, root=root) is None
    assert node_notice({"ring.0": mapping}, 4, root=root) is not None


# ---- locking -----------------------------------------------------------------------------------


def test_locked_memory_is_in_and_stays_until_it_is_unmapped(mapping: mmap.mmap) -> None:
    before = locked_bytes()
    assert lock([mapping]) is None
    assert lock([mapping]) is None, "a second time is no more"
    assert locked_bytes() == before + COUNT * PAGE
    assert faults_of_touching(mapping) < COUNT // 4
    mapping.close()
    assert locked_bytes() == before


LIMITED = f"""
import mmap, os, resource, sys
from mdsys.host.memory import lock
from tests.unit.host.test_memory import faults_of_touching, locked_bytes
limit, access, *sizes = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
maps = []
for size in sizes:
    fd = os.memfd_create("mdsys-test")
    os.ftruncate(fd, size)
    os.posix_fallocate(fd, 0, size)
    maps.append(mmap.mmap(fd, size, mmap.MAP_SHARED, access))
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(lock(maps))
print(locked_bytes(), max(map(faults_of_touching, maps)) < {COUNT} // 4)
"""


def limited(limit: int, *sizes: int, access: int = mmap.PROT_READ | mmap.PROT_WRITE) -> list[str]:
    """Lock memory as a user who may lock ``limit`` bytes; return what it said, and what it has."""
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, (limit, access, *sizes))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stderr == ""
    return result.stdout.splitlines()


@pytest.mark.parametrize("access", [mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE])
def test_user_who_may_lock_nothing_is_told_and_has_the_memory_in_all_the_same(access: int) -> None:
    notice, state = limited(0, COUNT * PAGE, access=access)
    assert notice == (
        f"{COUNT * PAGE >> 10} of {COUNT * PAGE >> 10} KiB of shared memory are not locked "
        "(Operation not permitted; the limit is 0 KiB): swapped out, they cost milliseconds at "
        "the next tick; LimitMEMLOCK=infinity in the systemd unit, or ulimit -l unlimited"
    )
    assert state == "0 True"


def test_what_fits_into_the_limit_is_locked_and_the_rest_is_one_notice() -> None:
    small, large = COUNT * PAGE, 4 * COUNT * PAGE
    notice, state = limited(2 * small, large, small, large, small)
    assert notice.startswith(
        f"{2 * large >> 10} of {2 * (large + small) >> 10} KiB of shared memory are not locked "
        f"(Cannot allocate memory; the limit is {2 * small >> 10} KiB)"
    )
    assert state == f"{2 * small} True"


def test_memory_that_is_never_swapped_out_needs_no_locking(
    mapping: mmap.mmap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        @staticmethod
        def mlock(*_: object) -> int:
            return -1

    monkeypatch.setattr(memory, "_libc", Refusing)
    assert lock([mapping], root=numa_maps(tmp_path, {mapping: "huge dirty=1 N0=1"})) is None
    assert lock([mapping], root=numa_maps(tmp_path, {mapping: "dirty=1 N0=1"})) is not None
    assert lock([mapping], root=tmp_path / "none") is not None
