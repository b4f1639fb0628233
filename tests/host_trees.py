"""Hosts that are folders: a /proc, a /sys and an /etc that behave as the kernel's do.

The good one has nothing for doctor to say; a test makes another of it by changing some files.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from mdsys.host import sysctl
from mdsys.host.check import Check, Result, examine_one
from mdsys.host.cores import set_text
from mdsys.host.host import Host
from mdsys.host.needs import default_needs
from mdsys.host.settings import MODE, Setting, sysctl_path
from mdsys.host.table import AT_BOOT, CHECKS

CPU = "/sys/devices/system/cpu"
NODE = "/sys/devices/system/node"
THP = "/sys/kernel/mm/transparent_hugepage"
POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB"
NET = "/sys/class/net/eth0"
CARDS: Mapping[str, int | str] = {"rings": 1024, "rings_max": 1024, "adaptive": "off", "usecs": 0}
LIMITS = (
    "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max core file size        {core:<20} unlimited            bytes     \n"
    "Max open files            {files:<20} 1048576              files     \n"
    "Max locked memory         {memlock:<20} unlimited            bytes     \n"
    "Max realtime priority     {rtprio:<20} 50                             \n"
)
STATUS = (
    "Name:\tpython3\nUid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\n"
    "Groups:\t{} \nCapEff:\t{}\n"
)


def limits(
    core: int | str = 0, files: int = 1024, memlock: int | str = "unlimited", rtprio: int = 50
) -> str:
    """Return /proc/self/limits."""
    return LIMITS.format(core=core, files=files, memlock=memlock, rtprio=rtprio)


def status(group: int = 990, capabilities: int = 0) -> str:
    """Return /proc/self/status of a user of that group."""
    return STATUS.format(group, f"{capabilities:016x}")


def _core(core: int) -> dict[str, str]:
    folder = f"{CPU}/cpu{core}"
    return {
        f"{folder}/topology/thread_siblings_list": str(core),
        f"{folder}/online": "1",
        f"{folder}/cpufreq/scaling_governor": "performance",
        f"{folder}/cpufreq/scaling_max_freq": "4800000",
        f"{folder}/cpufreq/cpuinfo_max_freq": "4800000",
        f"{folder}/cpuidle/state0/latency": "0",
        f"{folder}/cpuidle/state0/name": "POLL",
        f"{folder}/cpuidle/state0/disable": "0",
        f"{folder}/cpuidle/state1/latency": "133",
        f"{folder}/cpuidle/state1/name": "C6",
        f"{folder}/cpuidle/state1/disable": "1",
    }


GOOD: Mapping[str, str] = {
    f"{CPU}/possible": "0-3",
    f"{CPU}/present": "0-3",
    f"{CPU}/online": "0-3",
    f"{CPU}/isolated": "2-3",
    f"{CPU}/nohz_full": "2-3",
    f"{CPU}/cpufreq/boost": "1",
    **{name: text for core in range(4) for name, text in _core(core).items()},
    "/sys/devices/virtual/workqueue/cpumask": "3",
    f"{NODE}/has_memory": "0-1",
    f"{NODE}/node0/cpulist": "0,2-3",
    f"{NODE}/node1/cpulist": "1",
    "/sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
    "/sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc hpet acpi_pm",
    f"{THP}/enabled": "always [madvise] never",
    f"{THP}/defrag": "always defer defer+madvise [madvise] never",
    f"{THP}/shmem_enabled": "always within_size advise [never] deny force",
    "/sys/kernel/mm/ksm/run": "0",
    f"{POOL}/nr_hugepages": "64",
    f"{POOL}/free_hugepages": "64",
    f"{POOL}/resv_hugepages": "0",
    f"{NET}/operstate": "up",
    f"{NET}/device/numa_node": "0",
    f"{NET}/statistics/rx_missed_errors": "0",
    "/proc/cmdline": "quiet rcu_nocbs=2-3",
    "/proc/irq/default_smp_affinity": "3",
    "/proc/irq/24/smp_affinity_list": "0-1",
    "/proc/irq/24/effective_affinity_list": "0",
    "/proc/stat": "cpu  1000 0 500 90000 10 0 5 0 0 0",
    "/proc/swaps": "Filename\tType\tSize\tUsed\tPriority",
    "/proc/1/comm": "systemd",
    "/proc/77/comm": "chronyd",
    "/proc/self/limits": limits(),
    "/proc/self/status": status(),
    "/proc/self/mounts": "proc /proc proc rw 0 0\n"
    "tmpfs /dev/shm tmpfs rw,nosuid,huge=advise 0 0\n"
    "hugetlbfs /dev/hugepages hugetlbfs rw,pagesize=2M 0 0",
    "/proc/self/cgroup": "0::/",
    "/sys/fs/cgroup/mdsys.slice/cpuset.cpus.effective": "0-3",
    "/sys/fs/cgroup/mdsys.slice/mdsys@default.service/cpuset.cpus.effective": "1-3",
    "/proc/self/mountinfo": "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
    "/proc/sys/kernel/osrelease": "6.1.0-18-amd64",
    "/proc/sys/kernel/core_pattern": "core",
    "/proc/sys/kernel/random/boot_id": "boot-1",
    "/proc/sys/vm/nr_hugepages": "64",
    **{sysctl_path(each.name): each.wanted for each in sysctl.table()},
    "/etc/group": "root:x:0:\nmdsys:x:990:strategist",
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh",
    "/etc/systemd/logind.conf": "[Login]\n#RemoveIPC=yes\nRemoveIPC=no",
    "/run/systemd/system/x": "",
    "/dev/shm/other": "",
    "/var/lib/x": "",
}

NEEDS = replace(default_needs(), cores={2: "feed 0", 3: "reader momentum"})


@dataclass(frozen=True)
class FakeHost(Host):
    """A folder that answers as a kernel and its programs would."""

    card: dict[str, int | str] = field(default_factory=lambda: dict(CARDS))
    facts: dict[str, int | None] = field(
        default_factory=lambda: {"clock": 900, "total": 1 << 30, "free": 1 << 30}
    )
    refusing: frozenset[str] = frozenset()
    """Settings that the kernel refuses."""
    systemd: str = "systemd 252 (252.22-1~deb12u1)\n+PAM"

    def program(self, *argv: str) -> str | None:
        """Answer as ethtool, mount and systemctl do."""
        match argv:
            case ("ethtool", "-g", name):
                return (
                    f"Ring parameters for {name}:\nPre-set maximums:\n"
                    f"RX:\t\t{self.card['rings_max']}\nRX Mini:\tn/a\nTX:\t\t512\n"
                    f"Current hardware settings:\nRX:\t\t{self.card['rings']}\nRX Mini:\tn/a\n"
                )
            case ("ethtool", "-c", name):
                return (
                    f"Coalesce parameters for {name}:\n"
                    f"Adaptive RX: {self.card['adaptive']}  TX: n/a\n"
                    f"stats-block-usecs:\tn/a\nrx-usecs:\t{self.card['usecs']}\nrx-frames:\t0\n"
                )
            case ("ethtool", "-G", _, "rx", count):
                self.card["rings"] = int(count)
            case ("ethtool", "-C", _, "adaptive-rx", adaptive, "rx-usecs", waits):
                self.card.update(adaptive=adaptive, usecs=int(waits))
            case ("mount", "-o", option, point):
                huge = option.removeprefix("remount,")
                text = self.path("/proc/self/mounts").read_text()
                again = re.sub(rf"( {point} tmpfs [^ ]*)huge=\w+", rf"\1{huge}", text)
                self.path("/proc/self/mounts").write_text(again)
            case ("systemctl", "--version"):
                return self.systemd
            case _:
                return None
        return ""

    def space(self, folder: str) -> tuple[int, int] | None:
        """Answer as statvfs does."""
        assert folder == "/dev/shm"
        total, free = self.facts["total"], self.facts["free"]
        return None if total is None or free is None else (total, free)

    def clock_error_us(self) -> int | None:
        """Answer as adjtimex does."""
        return self.facts["clock"]

    def set_value(self, name: str, text: str) -> None:
        """Take a setting as the kernel does: of several words in brackets, one is chosen."""
        if name in self.refusing:
            raise OSError(5, "Input/output error")
        before = self.raw(name)
        if before is not None and re.search(r"\[[^ ]+\]", before):
            words = before.replace("[", "").replace("]", "").split()
            if text.strip() not in words:
                raise OSError(22, "Invalid argument")
            chosen = " ".join(f"[{each}]" if each == text.strip() else each for each in words)
            text = f"{chosen}\n"
        elif not text.endswith("\n"):
            text += "\n"
        self.path(name).write_bytes(text.encode())
        if core := re.fullmatch(rf"{CPU}/cpu(\d+)/online", name):
            online = self.read_set(f"{CPU}/online") - {int(core[1])}
            online |= {int(core[1])} if text == "1\n" else set()
            self.change({f"{CPU}/online": set_text(online)})

    def change(self, files: Mapping[str, str | None]) -> None:
        """Write files; None removes one."""
        for folder in {self.path(name).parent for name, text in files.items() if text is not None}:
            folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            if text is None:
                self.path(name).unlink(missing_ok=True)
            else:
                self.path(name).write_text(f"{text}\n")

    def tree(self) -> dict[str, bytes | None]:
        """Return every file to the byte, and every folder, but for where tune remembers."""
        return {
            str(path.relative_to(self.root)): path.read_bytes() if path.is_file() else None
            for path in self.root.rglob("*")
            if not path.is_relative_to(self.root / "var/lib/mdsys")
        }

    def result(self, check_id: str) -> Result:
        """Return what one check finds."""
        return examine_one(self, row(check_id))


def row(check_id: str) -> Check:
    """Return a row of the table."""
    return next(each for each in CHECKS if each.id == check_id)


def fake(root: Path, **attributes: object) -> FakeHost:
    """Make the good host, whose settings also come back at boot."""
    host = FakeHost(root, NEEDS, **attributes)  # type: ignore[arg-type] # tests name fields
    host.change(GOOD)
    for setting in _boot_files():
        path = host.path(setting.target.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(setting.wanted.partition("\n")[2])  # after its mode and owner
        path.chmod(MODE)
    return host


@cache
def _boot_files() -> tuple[Setting, ...]:
    """Return what the good host reads at boot; worked out once, since it takes a look at all."""
    with tempfile.TemporaryDirectory() as folder:
        host = FakeHost(Path(folder), NEEDS)
        host.change(GOOD)
        return tuple(setting for check in AT_BOOT for setting in check.read(host).settings)
