"""Checks of who interrupts the cores that feeds and readers spin on: devices, and the kernel."""

from __future__ import annotations

import re
from typing import Final

from mdsys.host.check import Check, Finding, ok, skipped, warning
from mdsys.host.checks_cores import CPU, NO_CORES, NO_REST, kept, siblings, wanted, where
from mdsys.host.cores import cores_text, set_of, set_text
from mdsys.host.host import Host
from mdsys.host.settings import Setting, Value

MASK: Final = r"[0-9a-f]+(,[0-9a-f]{8})*"
"""Of cores, as the kernel writes it: ``ffff,ffffffff``."""
BALANCER_FILES: Final = (
    "/usr/lib/irqbalance/defaults.env",
    "/etc/sysconfig/irqbalance",
    "/etc/default/irqbalance",
)
"""What irqbalance's unit takes its environment from, by distribution; a later one has the word."""


def read_interrupts(host: Host) -> Finding:
    """Look which interrupts of devices are handled there."""
    if not wanted(host):
        return skipped(NO_CORES)
    rest = kept(host)
    online = host.read_set(f"{CPU}/online")
    settings: list[Setting] = []
    for number in host.names("/proc/irq"):
        folder = f"/proc/irq/{number}"
        if not number.isdecimal():
            continue
        allowed = host.read_set(f"{folder}/smp_affinity_list")
        if not allowed & wanted(host):
            continue
        used = host.read_set(f"{folder}/effective_affinity_list")
        if used and not used & wanted(host) and not allowed >= online:
            continue  # a managed one, that isolcpus=managed_irq has moved
        goal = set_text((allowed & rest) or rest)
        settings.append(
            Setting(Value(f"{folder}/smp_affinity_list"), goal, lasting=False, may_refuse=True)
        )
    numbers = ", ".join(setting.target.name.split("/")[3] for setting in settings)
    noun = "interrupt" if len(settings) == 1 else "interrupts"
    return _moved(host, settings, f"{noun} {numbers} may be handled on {where(host)}")


def _moved(host: Host, settings: list[Setting], found: str) -> Finding:
    if not settings:
        return ok(f"none on {where(host)}")
    if not kept(host):
        return warning(found, NO_REST)
    return warning(found, "", *settings)


def read_new_interrupts(host: Host) -> Finding:
    """Look where interrupts go whose devices come later."""
    return _mask(host, "/proc/irq/default_smp_affinity", lasting=False)


def read_workqueues(host: Host) -> Finding:
    """Look where the kernel does its deferred work that is bound to no core."""
    return _mask(host, "/sys/devices/virtual/workqueue/cpumask", lasting=True)


def _mask(host: Host, name: str, *, lasting: bool) -> Finding:
    """Look whether a mask of cores leaves ours out."""
    if not wanted(host):
        return skipped(NO_CORES)
    text = host.read(name)
    if not re.fullmatch(MASK, text):
        return skipped(f"this kernel shows no {name}")
    mask = int(text.replace(",", ""), 16)
    goal = sum(1 << core for core in kept(host) if mask >> core & 1) or sum(
        1 << core for core in kept(host)
    )
    clean = not any(mask >> core & 1 for core in wanted(host))
    setting = Setting(Value(name), text if clean else mask_text(goal, text), lasting=lasting)
    if clean:
        return ok(f"mask {text}: none on {where(host)}", setting)
    return _moved(host, [setting], f"mask {text}: {where(host)} among them")


def mask_text(mask: int, like: str) -> str:
    """Return a mask as the kernel writes it, with as many digits as ``like``."""
    digits = f"{mask:0{len(like.replace(',', ''))}x}"
    head = len(digits) % 8
    groups = [digits[:head]] if head else []
    groups += [digits[at : at + 8] for at in range(head, len(digits), 8)]
    return ",".join(groups)


def read_balancer(host: Host) -> Finding:
    """Look whether irqbalance would move interrupts there again."""
    if not wanted(host):
        return skipped(NO_CORES)
    running = (pid for pid in host.names("/proc") if host.read(f"/proc/{pid}/comm") == "irqbalance")
    pid = next(running, None)
    if pid is None:
        return ok("irqbalance does not run")
    banned = _banned(host, pid)
    if not wanted(host) - banned:
        return ok(f"irqbalance leaves {where(host)} alone")
    goal = set_text(banned | wanted(host) | siblings(host))
    file = next((each for each in BALANCER_FILES[1:] if host.exists(each)), BALANCER_FILES[-1])
    return warning(
        f"irqbalance may move interrupts to {cores_text(wanted(host) - banned)}",
        f"echo IRQBALANCE_BANNED_CPULIST={goal} >> {file} && systemctl restart irqbalance",
    )


def _banned(host: Host, pid: str) -> frozenset[int]:
    """Return the cores that irqbalance stays away from.

    Those that it is told; told none, the isolated and the tickless ones (irqbalance(1),
    ENVIRONMENT VARIABLES). Its own environment is shown to root alone, else files must do.
    """
    text = host.raw(f"/proc/{pid}/environ")
    if text is None:
        text = "\n".join(host.read(each) for each in BALANCER_FILES)
    given = {
        name: value.strip("\"' \t")
        for name, value in re.findall(
            r"^(IRQBALANCE_BANNED_CPU(?:LIST|S))=(.*)$", text.replace("\0", "\n"), re.MULTILINE
        )
    }
    if cores := given.get("IRQBALANCE_BANNED_CPULIST"):
        return set_of(cores)
    if mask := given.get("IRQBALANCE_BANNED_CPUS"):
        digits = mask.lower().replace(",", "")
        bits = int(digits, 16) if re.fullmatch(r"[0-9a-f]{1,2048}", digits) else 0
        return frozenset(core for core in range(bits.bit_length()) if bits >> core & 1)
    return host.read_set(f"{CPU}/isolated") | host.read_set(f"{CPU}/nohz_full")


CHECKS: Final = (
    Check(
        "cores.interrupts",
        "No interrupts of devices",
        "An interrupt takes microseconds from whoever runs on its core, and evicts its cache.",
        read_interrupts,
    ),
    Check(
        "cores.irqbalance",
        "Nobody who moves interrupts back (irqbalance)",
        "It deals interrupts anew every ten seconds, to every core that it is not kept from.",
        read_balancer,
    ),
    Check(
        "cores.new_interrupts",
        "No interrupts of devices to come",
        "A card whose driver is loaded later puts its interrupts where this mask says.",
        read_new_interrupts,
    ),
    Check(
        "cores.workqueues",
        "No deferred work of the kernel",
        "What the kernel puts off, as writing pages back, runs on any core of this mask.",
        read_workqueues,
    ),
)
