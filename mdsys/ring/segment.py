"""An instance's segments: names, ownership, creation, adoption and removal.

An instance is the files ``mdsys.INSTANCE.*``: ``symbols`` in /dev/shm, which names the directory
of the rest (``cache``, ``counters``, ``ring.0`` ...). Whoever holds the lock on
RUNDIR/INSTANCE.lock owns them. The lock lies outside the segments and is 0600, so that a reader can
never take it; feeds inherit it, so it lasts until the last process that may write has gone.

A stop keeps the files. The next start with the same geometry adopts them, also after kill -9; with
another geometry they are superseded: marked, unlinked and made anew.

The names are all users' together, but each user may have a run directory, and so a lock, of its
own. So the headers are asked too: what a living process writes is neither adopted nor removed,
whoever it belongs to. Another user's segments are never adopted, nor replaced by a start, not even
by root's: `mdsys clean` as that user or as root removes them once their writer is dead.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mdsys import _native
from mdsys.errors import HostError, InstanceInUse, LayoutError, NoPermission
from mdsys.host.memory import MADV_POPULATE_WRITE, prefer_node
from mdsys.ring.lock import Lock, run_dir, start_ticks
from mdsys.ring.rights import foreign_owner, group_id, no_permission, user_name

ROOT_DIR: Final = Path("/dev/shm")  # noqa: S108  a segment's home, not a temporary file's
MODE: Final = 0o640
"""The owner writes, the group reads, others do neither."""
_ANY_NODE: Final[Mapping[int, int]] = MappingProxyType({})
_STOPPED, SUPERSEDED = 2, 3
"""States of enum md_segment_state in which nobody writes, though the last writer may live on."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """What must stay as it is for segments to be adopted."""

    ring_count: int
    """In [1, 256]."""
    depth: int
    """Slots a ring, a power of 2, >= 64."""
    max_symbols: int
    feed_count: int
    """Rings are shared out among the feeds: ring i belongs to feed i % feed_count."""
    dir: Path
    """Where all but the symbol directory lie."""

    def feed_of(self, ring: int) -> int:
        """Return the index of the feed that writes ``ring``."""
        return ring % self.feed_count


def segment_path(directory: Path, instance: str, part: str) -> Path:
    """Return the path of one segment; part: symbols, cache, counters, ring.N."""
    return directory / f"mdsys.{instance}.{part}"


def parts(ring_count: int) -> list[str]:
    """Return all but the symbol directory, in the order they are made."""
    return ["cache", "counters", *(f"ring.{i}" for i in range(ring_count))]


def map_file(path: Path, *, writable: bool = False, owner: int | None = None) -> mmap.mmap:
    """Map a whole segment, shared.

    Args:
        path: The segment.
        writable: Whether to write it.
        owner: Whose it must be, to be written; None: this process's user.

    Raises:
        FileNotFoundError: There is none.
        NoPermission: Reading it is not ours, or it is to be written and is another user's.
        LayoutError: It is no segment, or it is to be written and others may write it too.
    """
    try:
        fd = _open(path, os.O_RDWR if writable else os.O_RDONLY)
    except PermissionError as error:
        raise no_permission(path, error, writable=writable) from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENXIO):
            raise LayoutError(f"{path}: {error.strerror}: no segment") from error
        raise
    try:
        file = os.fstat(fd)
        if not stat.S_ISREG(file.st_mode):
            raise LayoutError(f"{path}: not a regular file: no segment")
        if writable and file.st_uid != (os.geteuid() if owner is None else owner):
            raise foreign_owner(path, file.st_uid)  # it could be truncated under our feet
        if writable and file.st_mode & 0o022:
            raise LayoutError(f"{path}: others than {user_name(file.st_uid)} may write it")
        size = file.st_size
        if size < _native.HEADER_SIZE:
            raise LayoutError(f"{path}: {size} bytes: too short for a segment")
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        return mmap.mmap(fd, size, mmap.MAP_SHARED, access)
    finally:
        os.close(fd)


def _open(path: Path, access: int) -> int:
    """Open what may be anybody's in /dev/shm: a link, a FIFO, a directory."""
    return os.open(path, access | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)


def create_file(path: Path, size: int, gid: int, node: int | None = None) -> mmap.mmap:
    """Create a segment's file, all of its memory taken now, in 2 MB pages where they can be had.

    A tmpfs that is too small is an error here, and never a SIGBUS later. The order is what gives
    huge pages: populating before MADV_HUGEPAGE, or allocating before populating, yields small ones.
    The node is chosen before either, since a page stays where it was made.

    Args:
        path: The segment, not there yet.
        size: Bytes; a hugetlbfs rounds it up.
        gid: The group that may read it.
        node: The memory node to take it from, where that has room; None: the kernel chooses.

    Raises:
        HostError: No room, or no such directory.
        NoPermission: The directory is not ours to write.
        InstanceInUse: Somebody else is making it at this moment.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    except PermissionError as error:
        raise NoPermission(f"{path}: {error.strerror}") from error
    except FileExistsError as error:  # all were removed just now: one with another lock
        raise InstanceInUse(f"{path}: made by another process at this moment") from error
    except FileNotFoundError as error:
        raise HostError(f"{path.parent}: no such directory; mount or make it first") from error
    try:
        os.fchown(fd, -1, gid)
        os.fchmod(fd, MODE)  # whatever the umask was
        page = os.fstatvfs(fd).f_bsize  # of a hugetlbfs: its page size
        size = -(-size // page) * page
        os.ftruncate(fd, size)
        memory = mmap.mmap(fd, size)
        if node is not None:
            with contextlib.suppress(OSError):  # its feed looks where it lies, and says so
                prefer_node(memory, node)
        for advice in (mmap.MADV_HUGEPAGE, MADV_POPULATE_WRITE):
            with contextlib.suppress(OSError):  # an older kernel; allocation below is what counts
                memory.madvise(advice)
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        path.unlink(missing_ok=True)
        os.ftruncate(fd, 0)  # gives back what it did get, so that the message counts it as free
        if error.errno in (errno.ENOSPC, errno.ENOMEM):
            raise HostError(
                f"{path}: no room for {size >> 10} KiB: {path.parent} has "
                f"{_free_bytes(path.parent) >> 10} KiB free; enlarge it (for hugetlbfs: sysctl "
                "vm.nr_hugepages) or make rings.buffer_size or rings.max_symbols smaller"
            ) from error
        if isinstance(error, PermissionError):
            raise NoPermission(f"{path}: {error.strerror}") from error
        raise
    else:
        return memory
    finally:
        os.close(fd)


def _free_bytes(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_bsize


def huge_bytes(memory_path: Path) -> int:
    """Return how many bytes of our mappings of a file lie in huge pages, as the kernel says."""
    total = 0
    ours = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"^[0-9a-f]+-[0-9a-f]+ ", line):
            ours = line.endswith(str(memory_path))
        elif ours and line.startswith(("ShmemPmdMapped:", "Shared_Hugetlb:", "Private_Hugetlb:")):
            total += int(line.split()[1]) << 10
    return total


@dataclass(slots=True)
class Instance:
    """The supervisor's hold on an instance: the lock and every segment."""

    name: str
    geometry: Geometry
    lock: Lock
    symbols: _native.Symbols
    cache: _native.Cache
    counters: _native.Counters
    rings: list[_native.Ring]
    """Headers only: their feeds write them."""
    adopted: bool
    """Whether the segments were there already, and their sequences go on."""

    def stop(self) -> None:
        """Mark all segments stopped, for the next start to adopt, and give the lock back."""
        for segment in (*self.rings, self.counters, self.cache, self.symbols):
            segment.stop()
        self.lock.release()

    def discard(self) -> None:
        """End a start that came to nothing: what it has made goes, what it has adopted stays."""
        if self.adopted:
            self.stop()
        else:
            remove_segments(self.name, self.geometry.dir)
            self.lock.give_up()


def open_instance(
    name: str,
    geometry: Geometry,
    *,
    group: str | None,
    pid: int,
    now_ns: int,
    ring_nodes: Mapping[int, int] = _ANY_NODE,
    before: Callable[[], object] = lambda: None,
) -> Instance:
    """Take an instance over, adopting its segments or making them.

    Args:
        name: [a-z0-9_-]{1,32}.
        geometry: What the configuration asks for.
        group: May read the segments; None: the process's own group.
        pid: The supervisor.
        now_ns: ns since the epoch.
        ring_nodes: Ring -> the memory node of its feed's core, for what is made now; adopted
            segments stay where they are. A ring that is not there lies anywhere.
        before: Called when nobody else has the instance, and before anything of it is made,
            marked or removed. What it raises ends the start.

    Raises:
        InstanceInUse: Another daemon has it.
        NoPermission: Lock or segments belong to another user, or the group cannot be given.
        ConfigError: There is no such group.
        HostError: No room, or no such directory.
    """
    gid = os.getegid() if group is None else group_id(group)
    lock = Lock.take(name)
    try:
        instance = _adopt(name, geometry, lock, gid)
        before()
        if instance is None:
            remove_segments(name, geometry.dir)
            instance = _create(name, geometry, lock, gid, now_ns, ring_nodes)
        for segment in (instance.symbols, instance.cache, instance.counters):
            segment.take_over(pid, start_ticks(pid), now_ns)
    except BaseException:
        lock.give_up()
        raise
    return instance


def _adopt(name: str, geometry: Geometry, lock: Lock, gid: int) -> Instance | None:
    """Return the instance as it was left, or None when it is not there whole and of this shape.

    Raises:
        InstanceInUse: It is there, and a living process writes it.
        NoPermission: It is there, and another user's.
    """
    door = segment_path(ROOT_DIR, name, "symbols")
    paths = {part: segment_path(geometry.dir, name, part) for part in parts(geometry.ring_count)}
    _refuse_living_writer(name, [door, *paths.values()])
    try:
        symbols = _native.Symbols(map_file(door, writable=True), writable=True)
        found = (symbols.ring_count, symbols.capacity, symbols.feed_count, Path(symbols.dir))
        wanted = (geometry.ring_count, geometry.max_symbols, geometry.feed_count, geometry.dir)
        if found != wanted:
            return None
        maps = {part: map_file(path, writable=True) for part, path in paths.items()}
        cache = _native.Cache(maps["cache"], writable=True)
        counters = _native.Counters(maps["counters"], writable=True)
        rings = [_native.Ring(maps[f"ring.{i}"], writable=True) for i in range(geometry.ring_count)]
    except (FileNotFoundError, LayoutError):
        return None
    if cache.capacity != geometry.max_symbols or len(counters) != geometry.feed_count:
        return None
    if any(ring.depth != geometry.depth for ring in rings):
        return None
    for path in (door, *paths.values()):
        os.chown(path, -1, gid, follow_symlinks=False)  # it may have been another one's until now
    return Instance(name, geometry, lock, symbols, cache, counters, rings, adopted=True)


def _refuse_living_writer(name: str, paths: Iterable[Path]) -> None:
    """Refuse an instance that somebody with another lock uses.

    Raises:
        InstanceInUse: A living process writes one of the files, whatever their layout or owner.
    """
    for path in paths:
        if (found := _living_writer(path)) is not None:
            pid, uid = found
            raise InstanceInUse(
                f"instance {name!r} is in use by process {pid} of {user_name(uid)}, "
                f"whose lock is not in {run_dir()}; stop it or choose another instance name"
            )


def _living_writer(path: Path) -> tuple[int, int] | None:
    """Return the process that writes a segment and the file's owner; None if it cannot be read."""
    try:
        fd = _open(path, os.O_RDONLY)
    except OSError:
        return None
    try:  # read, not mapped: its owner may be truncating it
        header = _native.Segment(os.pread(fd, _native.HEADER_SIZE, 0))
        uid = os.fstat(fd).st_uid
    except (OSError, LayoutError):
        return None
    finally:
        os.close(fd)
    pid = header.writer_pid
    if header.state in (_STOPPED, SUPERSEDED) or pid == os.getpid():
        return None
    return (pid, uid) if start_ticks(pid) == header.writer_start_ticks != 0 else None


def _create(
    name: str,
    geometry: Geometry,
    lock: Lock,
    gid: int,
    now_ns: int,
    ring_nodes: Mapping[int, int],
) -> Instance:
    made: list[Path] = []
    nodes = [ring_nodes.get(ring) for ring in range(geometry.ring_count)]
    shared_node = nodes[0] if len(set(nodes)) == 1 else None  # of what every feed writes

    def make(directory: Path, part: str, size: int, node: int | None = None) -> mmap.mmap:
        path = segment_path(directory, name, part)
        memory = create_file(path, size, gid, node)
        made.append(path)
        return memory

    try:
        capacity, feeds = geometry.max_symbols, geometry.feed_count
        cache_map = make(geometry.dir, "cache", _native.cache_size(capacity), shared_node)
        _native.Cache.create(cache_map, capacity)
        counters_map = make(geometry.dir, "counters", _native.counters_size(feeds), shared_node)
        _native.Counters.create(counters_map, feeds)
        ring_maps = []
        for i, node in enumerate(nodes):
            size = _native.ring_size(geometry.depth)
            ring_maps.append(make(geometry.dir, f"ring.{i}", size, node))
            _native.Ring.create(ring_maps[i], geometry.depth, i, geometry.feed_of(i))
        root = make(ROOT_DIR, "symbols", _native.symbols_size(capacity))
        _native.Symbols.create(
            root, capacity, geometry.ring_count, feeds, bytes(geometry.dir), name.encode()
        )
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        raise
    for memory in (cache_map, counters_map, *ring_maps, root):  # the root last: it is the door
        _native.publish_segment(memory, now_ns)
    return Instance(
        name,
        geometry,
        lock,
        _native.Symbols(root, writable=True),
        _native.Cache(cache_map, writable=True),
        _native.Counters(counters_map, writable=True),
        [_native.Ring(memory, writable=True) for memory in ring_maps],
        adopted=False,
    )


def find_segments(name: str, *directories: Path) -> list[Path]:
    """Return an instance's files: in /dev/shm, where its root points, and in ``directories``."""
    places = dict.fromkeys([ROOT_DIR, *directories])
    with contextlib.suppress(OSError, LayoutError, NoPermission):
        root = _native.Symbols(map_file(segment_path(ROOT_DIR, name, "symbols")))
        places[Path(root.dir)] = None
    return [path for place in places for path in sorted(_own_files(place, name))]


def _own_files(directory: Path, name: str) -> Iterator[Path]:
    for path in directory.glob(f"mdsys.{name}.*"):
        if re.fullmatch(
            r"symbols|cache|counters|ring\.\d+", path.name.removeprefix(f"mdsys.{name}.")
        ):
            yield path


def remove_segments(name: str, *directories: Path, foreign: bool = False) -> list[Path]:
    """Supersede and unlink an instance's segments, the door first. The lock must be held.

    Args:
        name: The instance.
        directories: Where else to look than in /dev/shm and where the door points to.
        foreign: Whether to remove another user's too, as root may.

    Raises:
        InstanceInUse: A living process writes them.
        NoPermission: They belong to another user.
    """
    paths = find_segments(name, *directories)
    paths.sort(key=lambda path: not path.name.endswith(".symbols"))
    _refuse_living_writer(name, paths)
    owners = {path: path.stat(follow_symlinks=False).st_uid for path in paths}
    for path, owner in owners.items():
        if owner != os.geteuid() and not foreign:
            raise foreign_owner(path, owner)
    for path, owner in owners.items():
        try:
            with contextlib.suppress(LayoutError, ValueError):
                _native.supersede_segment(map_file(path, writable=True, owner=owner))
            path.unlink()
        except OSError as error:  # not our directory, or itself one
            raise NoPermission(f"{path}: {error.strerror}") from error
    return paths


def instances(directory: Path = ROOT_DIR) -> Sequence[str]:
    """Return the names of the instances that have segments, running or not."""
    pattern = re.compile(r"mdsys\.([a-z0-9_-]{1,32})\.symbols")
    return sorted(
        match[1]
        for path in directory.glob("mdsys.*.symbols")
        if (match := pattern.fullmatch(path.name))
    )
