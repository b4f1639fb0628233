"""Checks of the cores that feeds and readers spin on, and of all where none are named.

Who interrupts them is looked at in checks_interrupts.
"""

from __future__ import annotations

import re
from typing import Final

from mdsys.host import cores
from mdsys.host.check import Check, Finding, by_settings, failure, ok, skipped, warning
from mdsys.host.cores import cores_text, set_text
from mdsys.host.host import Host
from mdsys.host.settings import Setting, Value

CPU: Final = "/sys/devices/system/cpu"
IDLE_EXIT_US_MAX: Final = 10
"""A sleep from which a core comes back within this is no deeper than the wake-up itself is dear."""
STEAL_SHARE_MAX: Final = 0.001
SLICE: Final = "mdsys.slice"
"""Of the units: all services of mdsys are in it."""
NO_CORES: Final = "no cores are named: give --config FILE with [feeds] cores"
NO_REST: Final = (
    "no core is left for everything else: name fewer in [feeds] cores and [consumer.cores]"
)


def wanted(host: Host) -> frozenset[int]:
    """Return the cores that the configuration pins to."""
    return frozenset(host.needs.cores)


def siblings(host: Host) -> frozenset[int]:
    """Return the other hardware threads of these cores that nobody is pinned to, online ones."""
    there: frozenset[int] = frozenset()
    for core in wanted(host):
        there |= host.read_set(f"{CPU}/cpu{core}/topology/thread_siblings_list")
    return (there & host.read_set(f"{CPU}/online")) - wanted(host)


def isolated(host: Host) -> frozenset[int]:
    """Return the cores that the scheduler leaves alone."""
    return cores.isolated_cores(root=host.root)


def kept(host: Host) -> frozenset[int]:
    """Return the cores that are left to everything else."""
    return host.read_set(f"{CPU}/online") - wanted(host) - siblings(host)


def _concerned(host: Host) -> list[int]:
    """Return the cores whose clock and sleep matter: ours, or all where none are named."""
    online = host.read_set(f"{CPU}/online")
    return sorted((wanted(host) & online) or online)


def where(host: Host) -> str:
    """Return what these cores are called in a finding."""
    return cores_text(wanted(host)) if wanted(host) else "any core"


def _do(numbers: frozenset[int], one: str, more: str) -> str:
    """Return what cores do: ``core 3 is``, ``cores 2-3 are``."""
    return f"{cores_text(numbers)} {one if len(numbers) == 1 else more}"


def read_present(host: Host) -> Finding:
    """Look whether the cores are there and running."""
    ours = wanted(host)
    if not ours:
        return skipped(NO_CORES)
    present, online = (host.read_set(f"{CPU}/{name}") for name in ("present", "online"))
    if absent := ours - present:
        return failure(
            f"this host has no {cores_text(absent)}; it has {set_text(present)}",
            "name others in [feeds] cores and [consumer.cores]",
        )
    if offline := ours - online:
        commands = (f"echo 1 > {CPU}/cpu{core}/online" for core in sorted(offline))
        return failure(f"{_do(offline, 'is', 'are')} offline", "\n".join(commands))
    if not kept(host):
        return warning("nothing is left to the system and the supervisor", NO_REST)
    if 0 in ours:
        return warning(
            f"core 0 is {host.needs.cores[0]}'s, and the kernel's own work is done there",
            "name another in [feeds] cores or [consumer.cores]",
        )
    return ok(f"{cores_text(ours)}, online; {set_text(kept(host))} for everything else")


def _boot_fix(host: Host) -> str:
    line = kernel_arguments(host)
    return f"boot with {line}; mdsys tune plan shows where" if line else NO_REST


def read_isolated(host: Host) -> Finding:
    """Look whether the scheduler leaves them alone."""
    if not wanted(host):
        return skipped(NO_CORES)
    if shared := wanted(host) - isolated(host):
        return warning(f"{_do(shared, 'is', 'are')} not isolated", _boot_fix(host))
    return ok(f"{_do(wanted(host), 'is', 'are')} isolated")


def read_tickless(host: Host) -> Finding:
    """Look whether the timer tick stops there."""
    if not wanted(host):
        return skipped(NO_CORES)
    if not host.exists(f"{CPU}/nohz_full"):
        return skipped("this kernel is built without CONFIG_NO_HZ_FULL")
    if ticking := wanted(host) - host.read_set(f"{CPU}/nohz_full"):
        return warning(f"{_do(ticking, 'keeps its', 'keep their')} timer tick", _boot_fix(host))
    return ok(f"no tick on {where(host)} while one thread runs")


def read_rcu(host: Host) -> Finding:
    """Look whether RCU's callbacks run elsewhere; nohz_full takes them away too."""
    if not wanted(host):
        return skipped(NO_CORES)
    possible = host.read_set(f"{CPU}/possible")
    free = host.read_set(f"{CPU}/nohz_full") | boot_list(host, "rcu_nocbs", possible)
    if left := wanted(host) - free:
        return warning(f"{_do(left, 'runs', 'run')} RCU's callbacks", _boot_fix(host))
    return ok(f"{_do(wanted(host), 'runs', 'run')} none of RCU's callbacks")


def boot_list(host: Host, name: str, possible: frozenset[int]) -> frozenset[int]:
    """Return the cores that a parameter of the kernel's command line names; the last one counts.

    ``all``, ``2-N`` and ``0-7:1/2`` (of every 2 the first) are lists as well
    (Documentation/admin-guide/kernel-parameters.rst).
    """
    given = re.findall(rf"(?:^|\s){name}=(\S+)", host.read("/proc/cmdline"))
    top = max(possible, default=0)
    found: set[int] = set()
    for part in given[-1].split(",") if given else ():
        if part == "all":
            return possible
        match = re.fullmatch(r"(\d+|N)(?:-(\d+|N)(?::(\d+)/(\d+))?)?", part, re.ASCII)
        if match is None:
            continue  # a flag, as isolcpus has
        first, last = (
            top if each == "N" else int(each) for each in (match[1], match[2] or match[1])
        )
        used, group = int(match[3] or 1), int(match[4] or 1)
        found.update(
            each
            for each in possible
            if first <= each <= last and (each - first) % max(group, 1) < used
        )
    return frozenset(found)


def kernel_arguments(host: Host) -> str:
    """Return what to boot with; empty where no cores are named or none would be left over."""
    ours = wanted(host) | siblings(host)
    rest = kept(host)
    if not wanted(host) or not rest:
        return ""
    cores_text = set_text(ours)
    words = [
        f"isolcpus=managed_irq,domain,{cores_text}",
        *([f"nohz_full={cores_text}"] if host.exists(f"{CPU}/nohz_full") else []),
        f"rcu_nocbs={cores_text}",
        f"irqaffinity={set_text(rest)}",
    ]
    return " ".join(words)


def read_siblings(host: Host) -> Finding:
    """Look whether another hardware thread of the same core may be busy."""
    if not wanted(host):
        return skipped(NO_CORES)
    for core in sorted(wanted(host)):
        there = host.read_set(f"{CPU}/cpu{core}/topology/thread_siblings_list")
        if both := sorted(there & wanted(host) - {core}):
            who, other = host.needs.cores[core], host.needs.cores[both[0]]
            return warning(
                f"core {core} of {who} and core {both[0]} of {other} are one physical core",
                "name another in [feeds] cores or [consumer.cores]",
            )
    busy = siblings(host) - isolated(host)
    if 0 in busy:
        return warning(
            "core 0 is a thread of one of these cores, and cannot be taken offline",
            "name another in [feeds] cores or [consumer.cores]",
        )
    settings = tuple(
        # After a reboot they are isolated with the others, and may stay online.
        Setting(Value(f"{CPU}/cpu{each}/online"), "0", lasting=False)
        for each in sorted(busy)
    )
    if busy:
        return warning(f"{_do(busy, 'shares', 'share')} a physical core with them", "", *settings)
    return ok("no other thread runs on their physical cores")


def read_governor(host: Host) -> Finding:
    """Look whether the clock stays up."""
    files = [f"{CPU}/cpu{core}/cpufreq/scaling_governor" for core in _concerned(host)]
    settings = [Setting(Value(each), "performance") for each in files if host.read(each)]
    if not settings:
        return skipped("the frequency is not this kernel's to choose (a virtual machine?)")
    governors = sorted({host.read(setting.target.name) for setting in settings})
    return by_settings(host, f"{', '.join(governors)} on {where(host)}", *settings)


def read_frequency(host: Host) -> Finding:
    """Look whether somebody has put a lid on the clock."""
    lids = []
    for core in _concerned(host):
        folder = f"{CPU}/cpu{core}/cpufreq"
        most, allowed = (
            host.read(f"{folder}/{name}") for name in ("cpuinfo_max_freq", "scaling_max_freq")
        )
        if most and allowed:
            lids.append(Setting(Value(f"{folder}/scaling_max_freq"), most, or_more=True))
    if not lids:
        return skipped("the frequency is not this kernel's to choose (a virtual machine?)")
    boost, no_turbo = host.read(f"{CPU}/cpufreq/boost"), host.read(f"{CPU}/intel_pstate/no_turbo")
    turbo = {"1": ", boost on", "0": ", boost off"}.get(boost) or {
        "0": ", turbo on",
        "1": ", turbo off",
    }.get(no_turbo, "")
    lid = "up to the hardware's limit"
    if low := [each for each in lids if not each.is_so(host)]:
        now = host.read(low[0].target.name)
        lid = f"{len(low)} of {len(lids)} cores held at {now} of {low[0].wanted} kHz"
    return by_settings(host, f"{lid}{turbo}", *lids)


def read_idle(host: Host) -> Finding:
    """Look how deep the cores may sleep."""
    held = host.raw("/dev/cpu_dma_latency")
    if held is not None and len(held) == 4:
        limit_us = int.from_bytes(held.encode("utf-8", "surrogateescape"), "little", signed=True)
        if 0 <= limit_us <= IDLE_EXIT_US_MAX:
            return ok(f"a program holds all cores within {limit_us} µs (cpu_dma_latency)")
    settings, deep = [], set()
    for core in _concerned(host):
        folder = f"{CPU}/cpu{core}/cpuidle"
        for state in host.names(folder):
            exit_us = host.number(f"{folder}/{state}/latency")
            if exit_us is None or exit_us <= IDLE_EXIT_US_MAX:
                continue
            setting = Setting(Value(f"{folder}/{state}/disable"), "1")
            settings.append(setting)
            if not setting.is_so(host):
                deep.add((exit_us, host.read(f"{folder}/{state}/name")))
    if not settings and not any(
        host.exists(f"{CPU}/cpu{core}/cpuidle") for core in _concerned(host)
    ):
        return skipped("idle states are not this kernel's to choose (a virtual machine?)")
    if deep:
        names = ", ".join(f"{name} ({exit_us} µs)" for exit_us, name in sorted(deep))
        return warning(f"{where(host)} may sleep as deep as {names}", "", *settings)
    return ok(f"none deeper than {IDLE_EXIT_US_MAX} µs", *settings)


def read_quota(host: Host) -> Finding:
    """Look whether the group of this process can be throttled."""
    notice = cores.quota_notice(root=host.root)
    if notice is None:
        return ok("no quota")
    found, _, fix = notice.rpartition("; ")
    return warning(found, fix)


def read_allowed(host: Host) -> Finding:
    """Look whether the service may go to its cores: what AllowedCPUs= leaves of them."""
    if not wanted(host):
        return skipped(NO_CORES)
    service = f"mdsys@{host.needs.instance}.service"
    feeds = frozenset(core for core, who in host.needs.cores.items() if who.startswith("feed "))
    online = host.read_set(f"{CPU}/online")
    found = ""
    # A strategy's service may lie elsewhere, but the slice is there for all of them.
    for folder, ours in ((SLICE, wanted(host)), (f"{SLICE}/{service}", feeds)):
        allowed = cores.unit_cores(folder, root=host.root)
        if allowed is None:
            continue
        unit = folder.rpartition("/")[2]
        if shut := (ours & online) - allowed:
            return warning(
                f"{_do(shut, 'is none', 'are none')} of those of {unit}, {set_text(allowed)}",
                f"systemctl set-property {unit} AllowedCPUs={set_text(allowed | ours)}",
            )
        found = f"{unit} has {cores_text(allowed)}"
    return ok(found) if found else skipped(f"{service} does not run, or has any core")


def read_steal(host: Host) -> Finding:
    """Look how much time the hypervisor gave to others."""
    line = host.read("/proc/stat").partition("\n")[0]
    times = [int(each) for each in line.split()[1:9]]
    if len(times) < 8 or not sum(times):
        return skipped("the kernel does not tell")
    share = times[7] / sum(times)
    found = f"{share:.2%} of the time since boot"
    if share > STEAL_SHARE_MAX:
        return warning(found, "run on bare metal, or on cores that the hypervisor dedicates to you")
    return ok(found)


CHECKS: Final = (
    Check(
        "cores.present",
        "The configuration's cores",
        "A feed whose core is not there runs unpinned and sleeps between ticks; core 0 has the "
        "kernel's own work to do.",
        read_present,
    ),
    Check(
        "cores.isolated",
        "Isolated from the scheduler (isolcpus)",
        "On a core that is not isolated other threads run as well, each for milliseconds.",
        read_isolated,
    ),
    Check(
        "cores.nohz_full",
        "Without the timer tick (nohz_full)",
        "The tick interrupts a spinning thread 100 to 1,000 times a second, some µs each.",
        read_tickless,
    ),
    Check(
        "cores.rcu_nocbs",
        "Without RCU's callbacks (rcu_nocbs)",
        "The kernel frees memory in batches where it was let go, in the middle of a tick.",
        read_rcu,
    ),
    Check(
        "cores.siblings",
        "No second hardware thread (SMT)",
        "Two threads of a physical core share its units and caches: each is slowed by up to half.",
        read_siblings,
    ),
    Check(
        "cores.governor",
        "Frequency governor",
        "Other governors lower the clock in quiet times, and are late to raise it for the burst.",
        read_governor,
    ),
    Check(
        "cores.frequency",
        "Highest frequency",
        "A lid on the clock makes every hop slower by as much. Boost is faster; off is more even.",
        read_frequency,
    ),
    Check(
        "cores.idle",
        "Depth of sleep (C-states)",
        "A core that sleeps deeply takes up to hundreds of µs to come back when a tick wakes a "
        "reader; a feed that spins never sleeps.",
        read_idle,
    ),
    Check(
        "cores.quota",
        "Quota of the cgroup",
        "A spinning thread uses up any quota, and then stands still for the rest of each period.",
        read_quota,
    ),
    Check(
        "cores.allowed",
        "Cores of the service (AllowedCPUs)",
        "A feed whose core is not among them runs unpinned, with all others on what is left.",
        read_allowed,
    ),
    Check(
        "cores.steal",
        "Time stolen by the hypervisor",
        "While another guest has the core, ticks wait for milliseconds, and nothing here can help.",
        read_steal,
    ),
)
