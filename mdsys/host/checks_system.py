"""Checks of clocks, the kernel, limits, secrets, and of the programs mdsys stands on."""

from __future__ import annotations

import platform
import re
import sys
import sysconfig
from typing import Final

from mdsys.host.check import Check, Finding, failure, ok, skipped, warning
from mdsys.host.host import Host
from mdsys.host.settings import Setting, setting_file

CLOCK_ERROR_US_MAX: Final = 20_000
KEEPERS: Final = ("chronyd", "ptp4l", "phc2sys", "timemaster", "ntpd", "ntpd-rs")
"""Programs that steer the clock gently, as their processes are called."""
KERNEL_LEAST: Final = (5, 16)
"""futex_waitv: a reader sleeps on the bells of all its rings at once."""
SYSTEMD_LEAST: Final = 247
"""LoadCredential=."""
CAP_IPC_LOCK: Final = 14
CAP_SYS_NICE: Final = 23
"""Of linux/capability.h."""
LIMITS_FILE: Final = "/etc/security/limits.d/60-mdsys.conf"
RTPRIO: Final = 50
FILES_LEAST: Final = 65_536


def limits_text(group: str) -> str:
    """Return the file of limits.d(5) that lets members of the group run what mdsys can."""
    return (
        "# What members of the group may do who run mdsys or a strategy by hand; a service has\n"
        "# the limits of its unit. From the next login on. Defaults: 8 MiB, 0, 1024 (hard 4096).\n"
        f"@{group} - memlock unlimited\n"
        f"@{group} - rtprio {RTPRIO}\n"
        f"@{group} - nofile {FILES_LEAST}\n"
    )


def read_clocksource(host: Host) -> Finding:
    """Look what the kernel reads the time from."""
    folder = "/sys/devices/system/clocksource/clocksource0"
    now = host.read(f"{folder}/current_clocksource")
    available = host.read(f"{folder}/available_clocksource").split()
    if not now:
        return skipped("the kernel does not tell")
    if now in ("tsc", "arch_sys_counter"):
        return ok(now)
    if now in ("kvm-clock", "hyperv_clocksource_tsc_page"):
        return ok(f"{now}, read without a system call as well")
    if "tsc" in available:
        return warning(f"{now}, though there is tsc", f"echo tsc > {folder}/current_clocksource")
    return warning(f"{now}; the kernel holds tsc to be unsound", "dmesg | grep -i tsc tells why")


def read_clock(host: Host) -> Finding:
    """Look whether anything keeps the clock right, and how right the kernel holds it to be."""
    error_us = host.clock_error_us()
    if error_us is None:
        return skipped("the kernel does not tell")
    if error_us < 0:
        return warning("nothing keeps it right", "apt install chrony")
    found = f"right to {error_us / 1_000:,.3g} ms at worst"
    if error_us > CLOCK_ERROR_US_MAX:
        return warning(found, "chronyc sources -v: name nearer servers in /etc/chrony, or use PTP")
    return ok(found)


def read_keeper(host: Host) -> Finding:
    """Look which program steers the clock."""
    running = host.commands_running()
    if found := [name for name in KEEPERS if name in running]:
        return ok(", ".join(found))
    if "systemd-timesyn" in running:  # cut to 15 characters
        return warning("systemd-timesyncd", "apt install chrony")
    return warning("none that is known here", "apt install chrony")


def read_kernel(host: Host) -> Finding:
    """Look whether the kernel has what readers sleep on."""
    release = host.read("/proc/sys/kernel/osrelease")
    version = re.match(r"(\d+)\.(\d+)", release)
    if version is None:
        return skipped("the kernel does not tell")
    if (int(version[1]), int(version[2])) < KERNEL_LEAST:
        return warning(release, "boot a kernel of 5.16 or newer: on Debian 11 that of backports")
    return ok(release)


def read_systemd(host: Host) -> Finding:
    """Look whether the unit files mean to this systemd what they say."""
    if not host.exists("/run/systemd/system"):
        return skipped("this host was not booted with systemd")
    version = re.match(r"systemd (\d+)", host.program("systemctl", "--version") or "")
    if version is None:
        return skipped("systemctl does not tell")
    if int(version[1]) < SYSTEMD_LEAST:
        return warning(f"systemd {version[1]}", f"use systemd {SYSTEMD_LEAST} or newer")
    return ok(f"systemd {version[1]}")


def _limit(host: Host, name: str) -> tuple[float, float] | None:
    """Return the soft and the hard limit of this process."""
    pattern = rf"^{re.escape(name)}\s+(unlimited|\d+)\s+(unlimited|\d+)"
    found = re.search(pattern, host.read("/proc/self/limits"), re.MULTILINE)
    if found is None:
        return None
    soft, hard = (float("inf") if each == "unlimited" else float(each) for each in found.groups())
    return soft, hard


def _may(host: Host, capability: int) -> bool:
    """Return whether this process has a capability, whatever its limits."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", host.read("/proc/self/status"), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> capability & 1)


def read_memlock(host: Host) -> Finding:
    """Look whether the segments may be kept in memory."""
    limit = _limit(host, "Max locked memory")
    if limit is None:
        return skipped("the kernel does not tell")
    wanted = sum(host.needs.segments.values()) + host.needs.directory_bytes
    if _may(host, CAP_IPC_LOCK):
        return _others(host, "this user may lock anything (CAP_IPC_LOCK)")
    found = f"{_bytes(limit[0])} in this session, {wanted >> 10:,} KiB needed"
    if limit[0] < wanted:
        return _raised(host, found)
    return ok(found)


def _limits_file(host: Host) -> Setting:
    """Return the file that raises the limits of others: tune is root's, who has none himself."""
    return setting_file(LIMITS_FILE, limits_text(host.needs.group))


def _others(host: Host, found: str) -> Finding:
    """Return that this user may, and whether those of the group may."""
    setting = _limits_file(host)
    if not setting.is_so(host):
        found += f"; the group {host.needs.group} may not before {LIMITS_FILE} says so"
    return ok(found, setting)


def _raised(host: Host, found: str) -> Finding:
    """Return a limit that is too low, raised by a file of limits.d or to be raised by it."""
    setting = _limits_file(host)
    if setting.is_so(host):
        return warning(
            f"{found}; more for the group {host.needs.group} by {LIMITS_FILE}", "log in again"
        )
    return warning(found, "", setting)


def read_rtprio(host: Host) -> Finding:
    """Look whether consumers may ask for a real-time priority."""
    limit = _limit(host, "Max realtime priority")
    if limit is None:
        return skipped("the kernel does not tell")
    if _may(host, CAP_SYS_NICE):
        return _others(host, "this user may have any (CAP_SYS_NICE)")
    found = f"up to {limit[0]:.0f} in this session"
    if limit[0] < 1:
        return _raised(host, found)
    return ok(found)


def read_files(host: Host) -> Finding:
    """Look whether a process may hold all its sockets and segments."""
    limit = _limit(host, "Max open files")
    if limit is None:
        return skipped("the kernel does not tell")
    found = (
        f"{limit[0]:,.0f} in this session (at most {limit[1]:,.0f}), {host.needs.files:,} needed"
    )
    if limit[0] < host.needs.files:
        return failure(found, f"ulimit -n {max(host.needs.files, FILES_LEAST)}")
    return ok(found)


def _bytes(value: float) -> str:
    return "unlimited" if value == float("inf") else f"{int(value) >> 10:,} KiB"


def read_core_dumps(host: Host) -> Finding:
    """Look whether a crash would put a program's memory on a disk."""
    limit = _limit(host, "Max core file size")
    pattern = host.read("/proc/sys/kernel/core_pattern")
    if limit is None:
        return skipped("the kernel does not tell")
    if pattern.startswith("|"):
        if "systemd-coredump" in pattern:
            fix = (
                "printf '[Coredump]\\nStorage=none\\nProcessSizeMax=0\\n' "
                "| install -D -m 644 /dev/stdin /etc/systemd/coredump.conf.d/mdsys.conf"
            )
        else:
            fix = "sysctl -w kernel.core_pattern=core"
        return warning(f"all go to {pattern[1:].split()[0]}, whatever the limit", fix)
    if limit[0] > 0:
        return warning(f"written, up to {_bytes(limit[0])}", "ulimit -c 0")
    return ok("not written (the limit is 0)")


def read_group(host: Host) -> Finding:
    """Look whether the readers' group is there, and this user in it."""
    name = host.needs.group
    rows = (line.split(":") for line in host.read("/etc/group").splitlines())
    gids = [int(row[2]) for row in rows if len(row) >= 4 and row[0] == name and row[2].isdecimal()]
    if not gids:
        return warning(f"this host has no group {name}", f"groupadd --system {name}")
    status = host.read("/proc/self/status")
    user = re.search(r"^Uid:\s+\d+\s+(\d+)", status, re.MULTILINE)
    ours = re.findall(r"^(?:Groups|Gid):(.*)$", status, re.MULTILINE)
    if user and user[1] == "0":
        return ok(f"{name} ({gids[0]}); root reads anyway")
    if str(gids[0]) not in " ".join(ours).split():
        return warning(
            f"{name} ({gids[0]}), and this user is not in it",
            f"usermod -aG {name} $USER, then log in again",
        )
    return ok(f"{name} ({gids[0]})")


def read_python(host: Host) -> Finding:  # noqa: ARG001 - the interpreter is this one
    """Look what this interpreter was built with."""
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    return judge_python(
        f"{platform.python_implementation()} {platform.python_version()}",
        debug=hasattr(sys, "gettotalrefcount"),
        free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        optimised="--enable-optimizations" in arguments or "--enable-pgo" in arguments,
    )


def judge_python(name: str, *, debug: bool, free_threaded: bool, optimised: bool) -> Finding:
    """Judge an interpreter by how it was built."""
    fix = "use a release build with --enable-optimizations, as distributions' and python.org's are"
    if free_threaded:
        return warning(f"{name} without a GIL: each access is slower, and untested here", fix)
    if debug:
        return warning(f"{name}, a debug build: several times slower", fix)
    if not optimised:
        return warning(f"{name}, built without --enable-optimizations: 10 to 30 % slower", fix)
    return ok(f"{name}, optimised")


CHECKS: Final = (
    Check(
        "clock.source",
        "Clock source",
        "With hpet or acpi_pm each reading is a system call of a microsecond, and every frame has "
        "one.",
        read_clocksource,
    ),
    Check(
        "clock.synchronised",
        "Clock is right",
        "Latencies are the venue's time less ours: a clock that runs free shows the drift instead.",
        read_clock,
    ),
    Check(
        "clock.keeper",
        "Who keeps the clock",
        "chrony and PTP turn the clock faster or slower; systemd-timesyncd is right to some ms "
        "only, and sets it in steps.",
        read_keeper,
    ),
    Check(
        "kernel.version",
        "Kernel",
        "Before 5.16 there is no futex_waitv: readers of several rings nap by the clock, up to a "
        "millisecond, rather than be woken.",
        read_kernel,
    ),
    Check(
        "system.systemd",
        "systemd",
        "An older one takes no credentials by LoadCredential=.",
        read_systemd,
    ),
    Check(
        "limits.memlock",
        "Locked memory",
        "What is not locked may be swapped out, and costs milliseconds at the next tick.",
        read_memlock,
    ),
    Check(
        "limits.rtprio",
        "Real-time priority",
        "Only for consumers that share a core and ask for SCHED_FIFO themselves.",
        read_rtprio,
    ),
    Check(
        "limits.files",
        "Open files",
        "Each connection, segment and reader is one; without any left nobody connects again.",
        read_files,
    ),
    Check(
        "secrets.core_dumps",
        "Core dumps",
        "They hold a program's memory, and in it the keys that it hands to a MarketDataSystem; the "
        "daemon itself writes none.",
        read_core_dumps,
    ),
    Check(
        "system.group",
        "The readers' group",
        "Segments are readable to one group; who is not in it cannot attach.",
        read_group,
    ),
    Check(
        "python.build",
        "Python",
        "Session logic, subscriptions and Python strategies run at its speed.",
        read_python,
    ),
)
