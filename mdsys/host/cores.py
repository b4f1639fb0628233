"""A core of one's own: how to get on it, and what of the host still takes time from it.

Each notice says what is so, why it matters, and what to do so that it is not said again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mdsys.errors import HostError, NoPermission

CORE_COUNT_MAX: Final = 8_192
"""Most that any Linux is built for (NR_CPUS of x86_64 and arm64)."""
_ROOT: Final = Path("/")
_CPU: Final = "sys/devices/system/cpu"
_NOBODY: Final[Mapping[int, str]] = MappingProxyType({})


def read(path: Path) -> str:
    """Return what a file of /proc or /sys says; nothing where it is not there or not ours."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def read_set(path: Path) -> frozenset[int]:
    """Return the numbers of a file that holds a kernel's list; none where it holds no such list.

    nohz_full reads ``(null)`` on some kernels when it is empty.
    """
    return set_of(read(path))


def set_of(text: str) -> frozenset[int]:
    """Return the numbers of a kernel's list, as ``0-3,8``; none where it is no such list.

    No host has CORE_COUNT_MAX of anything: a file that says so says nothing.
    """
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text, re.ASCII):
        return frozenset()
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if int(last or first) >= CORE_COUNT_MAX:
            return frozenset()
        numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def set_text(numbers: frozenset[int] | set[int]) -> str:
    """Return numbers as the kernel writes them: ``0-3,8``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def cores_text(numbers: frozenset[int] | set[int]) -> str:
    """Return what cores are called: ``core 3``, ``cores 2-3``, ``others`` where none is known."""
    if not numbers:
        return "others"
    return f"{'core' if len(numbers) == 1 else 'cores'} {set_text(numbers)}"


def pin(core: int, *, root: Path = _ROOT) -> None:
    """Keep the calling thread on one core, and with it the threads that it starts from now on.

    Other threads of the process stay where they were: those of NumPy's libraries, which are there
    since its import, would only take time from this one. Pinning again moves the thread.

    Args:
        core: Its number, as in /proc/cpuinfo.
        root: Where /sys is asked why not.

    Raises:
        HostError: There is no such core, it is offline, or the cpuset of this process lacks it.
        NoPermission: Something forbids processes to pin themselves at all.
    """
    possible = read_set(root / _CPU / "possible")
    if core not in (possible or range(CORE_COUNT_MAX)):
        raise HostError(f"core {core}: this host has none; it has {cores_text(possible)}")
    try:
        os.sched_setaffinity(0, {core})
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise NoPermission(
                f"core {core}: {error.strerror}: this process may not pin itself (a container's "
                "seccomp profile?); allow sched_setaffinity, or name no core"
            ) from error
        raise HostError(_why_not(core, root)) from error


def _why_not(core: int, root: Path) -> str:
    """Return why the kernel finds nothing left of {core}: what it says of it, and of us."""
    allowed = allowed_cores()
    choice = f"name one of this process's ({set_text(allowed)})"
    present, online = (read_set(root / _CPU / name) for name in ("present", "online"))
    if present and core not in present:
        return f"core {core}: this host has none; it has {cores_text(present)}"
    if online and core not in online:
        return f"core {core} is offline: echo 1 > /{_CPU}/cpu{core}/online, or {choice}"
    return (
        f"core {core} is not in the cpuset of this process: {choice}, or add it: AllowedCPUs= of "
        "the systemd unit, --cpuset-cpus of the container, cpuset.cpus of the cgroup"
    )


def allowed_cores() -> set[int]:
    """Return the cores to which the calling thread may pin itself: those of its cpuset.

    Not its affinity, which is often less: isolcpus takes the isolated ones out of that of every
    process, so that only who asks for one gets it. The kernel is asked, which cuts any wish down to
    the cpuset, for that may stand in no file that can be read from here; then all is put back.
    """
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, range(CORE_COUNT_MAX))
        return os.sched_getaffinity(0)
    except OSError:
        return before
    finally:
        with contextlib.suppress(OSError):  # the cpuset has lost them in between
            os.sched_setaffinity(0, before)


def present_cores(*, root: Path = _ROOT) -> frozenset[int]:
    """Return the cores that this host has, offline or not ours as they may be; none: not told."""
    return read_set(root / _CPU / "present")


def core_notices(
    core: int, *, others: Mapping[int, str] = _NOBODY, root: Path = _ROOT
) -> list[str]:
    """Return what will take time from a thread pinned to ``core``, worst first.

    Args:
        core: On which the thread spins or waits.
        others: Core -> who else of this instance is pinned to it: ``feed 0``, ``reader s1``.
        root: Where /proc and /sys lie.
    """
    cgroups = list(_cgroups(root))
    isolated = _isolated(cgroups, root)
    found = [
        _shared(core, others),
        _quota(cgroups, root),
        *_siblings(core, isolated, others, root),
        _disturbed(core, isolated, root),
        _governed(core, root),
    ]
    return [notice for notice in found if notice is not None]


def _shared(core: int, others: Mapping[int, str]) -> str | None:
    if core not in others:
        return None
    return (
        f"core {core} is also that of {others[core]}: each stands still for milliseconds while the "
        "other runs; give one of them another core"
    )


def _siblings(
    core: int, isolated: frozenset[int], others: Mapping[int, str], root: Path
) -> Iterator[str]:
    """Say which hardware threads of the same core may be busy: one isolated and unused is not."""
    there = read_set(root / _CPU / f"cpu{core}" / "topology" / "thread_siblings_list")
    for sibling in sorted(there & read_set(root / _CPU / "online") - {core}):
        who = others.get(sibling)
        if who is not None:
            yield (
                f"core {core} and core {sibling}, that of {who}, are two threads of one physical "
                "core (SMT): each is slowed by up to half while the other runs; give one of them "
                "another core"
            )
        elif sibling not in isolated:
            yield (
                f"core {core} and core {sibling} are two threads of one physical core (SMT): work "
                f"on {sibling} slows {core} by up to half; echo 0 > /{_CPU}/cpu{sibling}/online, "
                f"or isolate {sibling} too and leave it empty"
            )


def _disturbed(core: int, isolated: frozenset[int], root: Path) -> str | None:
    if core not in isolated:
        return (
            f"core {core} is not isolated: the scheduler runs other threads there as well, each "
            f"for milliseconds; boot with isolcpus={core} nohz_full={core} rcu_nocbs={core}"
        )
    tickless = root / _CPU / "nohz_full"
    if tickless.exists() and core not in read_set(tickless):
        return (
            f"core {core} is isolated but keeps its timer tick, which interrupts it 100 to 1,000 "
            f"times a second; boot with nohz_full={core} rcu_nocbs={core}"
        )
    return None


def _governed(core: int, root: Path) -> str | None:
    governor = read(root / _CPU / f"cpu{core}" / "cpufreq" / "scaling_governor")
    if governor in ("", "performance"):
        return None
    return (
        f"core {core} has the frequency governor {governor}: it may run slower than it could, and "
        f"is slow to speed up after a pause; cpupower -c {core} frequency-set -g performance"
    )


def isolated_cores(*, root: Path = _ROOT) -> frozenset[int]:
    """Return the cores that the scheduler leaves alone."""
    return _isolated(list(_cgroups(root)), root)


def unit_cores(folder: str, *, root: Path = _ROOT) -> frozenset[int] | None:
    """Return the cores of a systemd unit, running as ``folder`` below the topmost cgroup.

    None: it does not run, or nothing is said of its cores. Only version 2 has AllowedCPUs=.
    """
    for version, mounted, point in _mounts(root):
        if version == 2 and mounted == _ROOT:
            there = root / point.lstrip("/") / folder / "cpuset.cpus.effective"
            return read_set(there) or None
    return None


def quota_notice(*, root: Path = _ROOT) -> str | None:
    """Return what to say of the share of the cores that this process may use; None: all of it."""
    return _quota(list(_cgroups(root)), root)


# ---- cgroups -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cgroup:
    """One of the groups that this process is in, and whose limits so hold for it."""

    folder: Path
    path: str
    """As /proc/self/cgroup writes it."""
    version: int
    """1: of the cpu controller; 2: of all."""


def _cgroups(root: Path) -> Iterator[_Cgroup]:
    """Give the group of this process and those above it, as far up as they are mounted here."""
    mounts = list(_mounts(root))
    for line in read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        version = 1 if "cpu" in controllers.split(",") else 2
        if controllers and version == 2:
            continue  # another controller's, of version 1
        for mount_version, mounted, point in mounts:
            # A container sees /proc/self/cgroup from the host's view and its own group mounted.
            inside = Path(path)
            if mount_version != version or not inside.is_relative_to(mounted):
                continue
            below = inside.relative_to(mounted)
            if ".." not in below.parts:  # else above the root of our cgroup namespace
                for part in (below, *below.parents):
                    yield _Cgroup(root / point.lstrip("/") / part, str(mounted / part), version)
            break


def _mounts(root: Path) -> Iterator[tuple[int, Path, str]]:
    """Give each mounted hierarchy of cgroups that has quotas: its version, which part, where."""
    for line in read(root / "proc/self/mountinfo").splitlines():
        fields, _, tail = line.partition(" - ")
        kind, _, rest = tail.partition(" ")
        if kind == "cgroup" and "cpu" not in rest.split(" ")[-1].split(","):
            continue
        if kind in ("cgroup", "cgroup2"):
            mounted, point = (
                re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)
                for field in fields.split(" ")[3:5]
            )
            yield (2 if kind == "cgroup2" else 1), Path(mounted), point


def _isolated(cgroups: list[_Cgroup], root: Path) -> frozenset[int]:
    """Return what the scheduler leaves alone: at boot, or since, by an isolated partition.

    The partition shows in the topmost group's cpuset.cpus.isolated (Linux 6.7), and in its own
    cpuset.cpus.partition, which is all that a container sees of it.
    """
    isolated = read_set(root / _CPU / "isolated")
    for group in cgroups:
        isolated |= read_set(group.folder / "cpuset.cpus.isolated")
        if read(group.folder / "cpuset.cpus.partition") == "isolated":
            isolated |= read_set(group.folder / "cpuset.cpus.effective")
    return isolated


def _quota(cgroups: list[_Cgroup], root: Path) -> str | None:
    """Say that we can be throttled: of several quotas above one another, the tightest counts."""
    tightest: tuple[float, int, _Cgroup] | None = None
    for group in cgroups:
        if group.version == 2:
            text = read(group.folder / "cpu.max")
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            text = " ".join(read(group.folder / name) for name in names)
        if limit := re.fullmatch(r"(\d+) ([1-9]\d*)", text, re.ASCII):  # else max, -1, or none
            share = int(limit[1]) / int(limit[2])
            if tightest is None or share < tightest[0]:
                tightest = (share, int(limit[2]), group)
    online = read_set(root / _CPU / "online")
    if tightest is None or (online and tightest[0] >= len(online)):  # more than there is to use
        return None
    share, period_us, group = tightest
    throttled = re.search(r"^nr_throttled (\d+)$", read(group.folder / "cpu.stat"), re.MULTILINE)
    return (
        f"the cgroup {group.path} may use {share:.4g} cores' time: once it is used up, all that "
        f"runs in it stands still for the rest of {period_us / 1_000:g} ms (so far "
        f"{throttled[1] if throttled else 'an unknown number of'} times); take the quota away: "
        "CPUQuota= of the systemd unit, --cpus of the container"
    )
