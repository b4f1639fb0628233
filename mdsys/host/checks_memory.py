"""Checks of memory: shared memory and its pages, and what may move or take it away."""

from __future__ import annotations

import os
import re
import shlex
from typing import Final

from mdsys import _native
from mdsys.errors import LayoutError
from mdsys.host.check import Check, Finding, by_settings, failure, ok, skipped, warning
from mdsys.host.host import Host
from mdsys.host.settings import HugeMount, Setting, Value, setting_file
from mdsys.ring.lock import start_ticks

SHM: Final = "/dev/shm"  # noqa: S108 - where segments lie, not a temporary file
THP: Final = "/sys/kernel/mm/transparent_hugepage"
UNIT_FOLDER: Final = "/mnt/mdsys"
UNIT: Final = "mnt-mdsys.mount"
"""Of deploy/systemd: what it mounts there is a hugetlbfs."""
PAGE: Final = 2 << 20
BLOCK_SIZE: Final = 512
"""Bytes that st_blocks counts in, whatever the file system; stat(2)."""
RUNNING: Final = 1
"""Of enum md_segment_state."""
LOGIND_FILE: Final = "/etc/systemd/logind.conf.d/mdsys.conf"
LOGIND_TEXT: Final = (
    "# Shared memory of a daemon that a person runs by hand outlives that person's session.\n"
    "# Read anew by: systemctl kill --signal=HUP systemd-logind. Default: yes.\n"
    "[Login]\nRemoveIPC=no\n"
)
LOGIND_FOLDERS: Final = ("/etc", "/run", "/usr/local/lib", "/usr/lib")
"""Each with systemd/logind.conf and drop-ins; the first that has a file of a name hides others."""


def own_bytes(host: Host, folder: str) -> int:
    """Return what this instance's segments hold already; the next start goes on in them."""
    prefix = f"mdsys.{host.needs.instance}."
    names = (name for name in host.names(folder) if name.startswith(prefix))
    return sum(_size(host, f"{folder}/{name}") for name in names)


def read_shm(host: Host) -> Finding:
    """Look whether the segments fit."""
    needs = host.needs
    wanted = needs.directory_bytes
    if needs.memory_dir is None:
        wanted += sum(needs.segments.values())
    space = host.space(SHM)
    if space is None:
        return skipped("its size is not told")
    total, free = space
    found = f"{free >> 20:,} of {total >> 20:,} MiB free, {-(-wanted >> 20):,} needed"
    if free + own_bytes(host, SHM) < wanted:
        larger = (total - free + wanted + (64 << 20)) >> 20
        return failure(found, f"mount -o remount,size={larger}M {SHM}")
    return ok(found)


def read_pages(host: Host) -> Finding:
    """Look whether the segments get huge pages."""
    folder = str(host.needs.memory_dir or SHM)
    mount = host.mount_of(folder)
    mounted = mount is not None and mount[0] == folder
    if host.needs.memory_dir is not None and not mounted and not host.exists(folder):
        return failure(f"{folder} of [memory] dir is not there", _mount(host, folder))
    if mount is None:
        return skipped(f"nothing is mounted at {folder}")
    where, kind, options = mount
    if kind == "hugetlbfs":
        return _pool(host, folder, options)
    if kind != "tmpfs":
        return failure(
            f"{folder} is a {kind}: segments would be written to its disk",
            f"{_mount(host, folder)}\nor name a hugetlbfs or a tmpfs in [memory] dir",
        )
    forced = host.read(f"{THP}/shmem_enabled")
    if "[deny]" in forced:
        return warning(f"{THP}/shmem_enabled is deny", f"echo advise > {THP}/shmem_enabled")
    target = HugeMount(where)
    now = target.now(host)
    if not host.exists(THP):
        return skipped("this kernel has no transparent huge pages")
    if "[force]" in forced or now in ("always", "within_size", "advise"):
        return ok(f"{where} gives 2 MB pages to who asks (huge={now})")
    return warning(f"{where} gives 4 KB pages (huge={now})", "", Setting(target, "advise"))


def _mount(host: Host, folder: str) -> str:
    """Return the commands that mount it; how many pages it needs can be told once it is there."""
    if folder == SHM:
        return f"mount -t tmpfs -o nosuid,nodev,huge=advise tmpfs {SHM}"
    if folder == UNIT_FOLDER:
        mounted = f"systemctl enable --now {UNIT}"
    else:
        place = shlex.quote(folder)
        options = f"pagesize=2M,uid=mdsys,gid={host.needs.group},mode=0750"
        mounted = f"mkdir -p {place} && mount -t hugetlbfs -o {options} none {place}"
    return f"{mounted}\nmdsys tune apply --config FILE  # then: it sets the pages aside"


def _pool(host: Host, folder: str, options: str) -> Finding:
    """Look whether enough pages are set aside."""
    size = re.search(r"(?:^|,)pagesize=(\d+)([KMG])", options)
    page = int(size[1]) << {"K": 10, "M": 20, "G": 30}[size[2]] if size else PAGE
    pool = f"/sys/kernel/mm/hugepages/hugepages-{page >> 10}kB"
    count, free, reserved = (
        host.number(f"{pool}/{name}")
        for name in ("nr_hugepages", "free_hugepages", "resv_hugepages")
    )
    if count is None or free is None:
        return skipped(f"this kernel shows no {pool}")
    needed = sum(-(-each // page) for each in host.needs.segments.values())
    missing = needed - own_bytes(host, folder) // page - (free - (reserved or 0))
    found = f"{free} of {count} pages of {page >> 20} MB free, {needed} needed in {folder}"
    goal = count + max(0, missing)
    name = "/proc/sys/vm/nr_hugepages" if page == PAGE else f"{pool}/nr_hugepages"
    setting = Setting(Value(name), str(goal), or_more=True)
    if missing <= 0:
        return ok(found, setting)
    return Finding(failure(found, "").status, found, settings=(setting,))


def read_thp(host: Host) -> Finding:
    """Look whether programs get huge pages unasked."""
    return _not_always(host, f"{THP}/enabled")


def read_defrag(host: Host) -> Finding:
    """Look whether a program waits while memory is compacted for its huge page."""
    return _not_always(host, f"{THP}/defrag")


def _not_always(host: Host, path: str) -> Finding:
    text = host.read(path)
    if not text:
        return skipped("this kernel has no transparent huge pages")
    target = Value(path)
    now = target.shown(text)
    return by_settings(host, now, Setting(target, "madvise" if now == "always" else now))


def read_ksm(host: Host) -> Finding:
    """Look whether the kernel merges equal pages."""
    now = host.read("/sys/kernel/mm/ksm/run")
    if not now:
        return skipped("this kernel has no KSM")
    found = {"0": "off", "1": "runs", "2": "off"}.get(now, now)
    goal = now if now in ("0", "2") else "0"  # 2: off, and all that was merged is apart again
    return by_settings(host, found, Setting(Value("/sys/kernel/mm/ksm/run"), goal))


def read_swap(host: Host) -> Finding:
    """Look whether there is anywhere to swap to."""
    lines = host.read("/proc/swaps").splitlines()[1:]
    if not lines:
        return ok("none")
    names = ", ".join(line.split()[0] for line in lines)
    return warning(names, "swapoff -a; and take swap out of /etc/fstab")


def read_segments(host: Host) -> Finding:
    """Look for segments that nobody writes and nobody has stopped in order."""
    names = [name for name in host.names(SHM) if re.fullmatch(r"mdsys\.[a-z0-9_-]+\..+", name)]
    instances = sorted({name.split(".")[1] for name in names})
    left = [each for each in instances if _state(host, each) in ("dead", "without a directory")]
    if left:
        size = sum(_size(host, f"{SHM}/{name}") for name in names if name.split(".")[1] in left)
        return warning(
            f"{size >> 10:,} KiB of {', '.join(left)}, whose daemon is gone",
            "\n".join(f"mdsys clean --instance {each}" for each in left)
            + "\nor start it again: mdsys run goes on in them",
        )
    return ok(", ".join(f"{each} {_state(host, each)}" for each in instances) or "none")


def _state(host: Host, instance: str) -> str:
    """Return what has become of an instance, as its symbol directory's header tells."""
    path = host.path(f"{SHM}/mdsys.{instance}.symbols")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return "without a directory"
    except OSError:
        return "not ours to read"
    try:  # read, not mapped: its owner may be truncating it
        header = _native.Segment(os.pread(fd, _native.HEADER_SIZE, 0))
    except (OSError, LayoutError, ValueError):
        return "of another version"
    finally:
        os.close(fd)
    if header.state != RUNNING:
        return "stopped"
    ticks = start_ticks(header.writer_pid)
    return "running" if ticks and ticks == header.writer_start_ticks else "dead"


def _size(host: Host, path: str) -> int:
    """Return what one segment holds; nothing when it has gone meanwhile."""
    try:
        return host.path(path).stat(follow_symlinks=False).st_blocks * BLOCK_SIZE
    except OSError:
        return 0


def read_remove_ipc(host: Host) -> Finding:
    """Look whether logind removes a user's shared memory when he logs out.

    The last file that sets it wins: first logind.conf, then drop-ins in the order of their names
    (logind.conf(5)). The default is yes; Debian's and most others' files leave it so.
    """
    if not any(host.exists(f"{folder}/systemd/logind.conf") for folder in LOGIND_FOLDERS):
        return skipped("this host has no systemd-logind")
    files = [
        next(
            path
            for folder in LOGIND_FOLDERS
            if host.exists(path := f"{folder}/systemd/logind.conf")
        )
    ]
    drop_ins: dict[str, str] = {}
    for folder in reversed(LOGIND_FOLDERS):
        place = f"{folder}/systemd/logind.conf.d"
        drop_ins.update(
            (name, f"{place}/{name}") for name in host.names(place) if name.endswith(".conf")
        )
    files += [drop_ins[name] for name in sorted(drop_ins)]
    value, source = "yes", "the default"
    for path in files:
        for found in re.findall(r"^\s*RemoveIPC\s*=\s*(\S*)", host.read(path), re.MULTILINE):
            value, source = found.lower() or "yes", path
    if value in ("no", "false", "0", "off", "n", "f"):
        return ok(f"no ({source})")
    return warning(f"{value} ({source})", "", setting_file(LOGIND_FILE, LOGIND_TEXT))


CHECKS: Final = (
    Check(
        "memory.shm",
        "Size of /dev/shm",
        "The symbol directory always lies there, and all segments without [memory] dir; what does "
        "not fit is refused at start.",
        read_shm,
    ),
    Check(
        "memory.pages",
        "Huge pages for the segments",
        "With 4 KB pages a ring of 2 MiB needs 512 entries of the core's page table cache rather "
        "than one: the slowest ticks take several times as long.",
        read_pages,
    ),
    Check(
        "memory.thp",
        "Transparent huge pages",
        "With always the kernel gives them to every program, and stops it while it gathers them.",
        read_thp,
    ),
    Check(
        "memory.thp_defrag",
        "Compaction for transparent huge pages",
        "With always any program that touches new memory may wait for milliseconds while the "
        "kernel moves pages about.",
        read_defrag,
    ),
    Check(
        "memory.ksm",
        "Merging of equal pages (KSM)",
        "It reads all memory that offers itself, taking time and caches, and each write to a "
        "merged page is a fault.",
        read_ksm,
    ),
    Check(
        "memory.swap",
        "Swap",
        "A page that was swapped out costs milliseconds at its next use. Segments are locked where "
        "the limit allows; the programs themselves are not.",
        read_swap,
    ),
    Check(
        "memory.segments",
        "Segments left behind",
        "They hold memory until somebody starts the instance again or removes them.",
        read_segments,
    ),
    Check(
        "memory.remove_ipc",
        "RemoveIPC of systemd-logind",
        "With yes the segments of a daemon that a person runs by hand are removed when that person "
        "logs out. System users, as the service's mdsys, are spared.",
        read_remove_ipc,
    ),
)
