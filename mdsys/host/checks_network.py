"""Checks of the network cards that ticks come through."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from mdsys.host import cores
from mdsys.host.check import Check, Finding, by_settings, ok, skipped, warning
from mdsys.host.checks_cores import NO_CORES
from mdsys.host.host import Host
from mdsys.host.settings import NicCoalescing, NicRings, Setting, is_card_name
from mdsys.wording import printable

NET: Final = "/sys/class/net"
RINGS_WANTED: Final = 4096
"""Packets: at 10 Gbit/s and 1,500 bytes 5 ms of them."""
COALESCE_US_MAX: Final = 10
NO_ETHTOOL: Final = "not told (is ethtool there? apt install ethtool)"


def cards(host: Host) -> list[str]:
    """Return the interfaces that are a device of this host's, and up."""
    return [
        name
        for name in host.names(NET)
        if host.exists(f"{NET}/{name}/device") and host.read(f"{NET}/{name}/operstate") != "down"
    ]


def _of_cards(read: Callable[[Host, list[str]], Finding]) -> Callable[[Host], Finding]:
    """Have a check look at the cards whose names go into commands, and name the others."""

    @functools.wraps(read)
    def whole(host: Host) -> Finding:
        names = [name for name in cards(host) if is_card_name(name)]
        odd = [printable(name) for name in cards(host) if not is_card_name(name)]
        if not names and not odd:
            return skipped("no network card is up")
        left_out = f"not looked at: {', '.join(odd)} (no name that ethtool can be given)"
        if not names:
            return skipped(left_out)
        finding = read(host, names)
        return replace(finding, found=f"{finding.found}; {left_out}") if odd else finding

    return whole


@_of_cards
def read_rings(host: Host, names: list[str]) -> Finding:
    """Look how many packets each card holds ready."""
    settings, found = [], []
    for name in names:
        text = host.program("ethtool", "-g", name) or ""
        most = re.search(r"Pre-set maximums:(?:\n.*)*?\nRX:\s+(\d+)", text)
        target = NicRings(name)
        now = target.now(host)
        if most is None or now is None or not int(most[1]):
            continue
        has, goal = int(now.split()[1]), min(int(most[1]), RINGS_WANTED)
        found.append(f"{name} {has} of at most {most[1]}")
        settings.append(Setting(target, f"rx {max(has, goal)}", lasting=False))
    if not settings:
        return skipped(NO_ETHTOOL)
    return by_settings(host, ", ".join(found), *settings)


@_of_cards
def read_coalescing(host: Host, names: list[str]) -> Finding:
    """Look how long each card waits before it tells of a packet."""
    settings, found = [], []
    for name in names:
        target = NicCoalescing(name)
        now = target.now(host)
        if now is None:
            continue
        goal = re.sub(r"adaptive-rx \w+", "adaptive-rx off", now)
        waits = re.search(r"rx-usecs (\d+)", now)
        if waits and (int(waits[1]) > COALESCE_US_MAX or goal != now):
            goal = re.sub(r"rx-usecs \d+", "rx-usecs 0", goal)
        found.append(f"{name} {now}")
        settings.append(Setting(target, goal, lasting=False))
    if not settings:
        return skipped(NO_ETHTOOL)
    return by_settings(host, ", ".join(found), *settings)


@_of_cards
def read_drops(host: Host, names: list[str]) -> Finding:
    """Look whether packets came that no room was found for."""
    lost = {name: sum(_lost(host, name)) for name in names}
    found = ", ".join(f"{name} {count:,}" for name, count in lost.items())
    if any(lost.values()):
        losing = [name for name, count in lost.items() if count]
        return warning(
            f"since boot: {found}",
            "\n".join(NicRings(name).shell(f"rx {RINGS_WANTED}") for name in losing),
        )
    return ok(f"none since boot: {', '.join(lost)}")


def _lost(host: Host, name: str) -> Iterator[int]:
    # Not rx_dropped: packets of protocols that nobody listens to count there as well.
    for counter in ("rx_missed_errors", "rx_fifo_errors", "rx_over_errors"):
        yield host.number(f"{NET}/{name}/statistics/{counter}") or 0


def read_node(host: Host) -> Finding:
    """Look whether the cores lie on the memory node of the card."""
    nodes = host.read_set("/sys/devices/system/node/has_memory")
    if len(nodes) < 2:
        return skipped("this host has one memory node")
    if not host.needs.cores:
        return skipped(NO_CORES)
    # Only looked at, so a card of any name counts.
    of_cards = {
        printable(name): host.number(f"{NET}/{name}/device/numa_node") for name in cards(host)
    }
    placed = {name: node for name, node in of_cards.items() if node is not None and node >= 0}
    if not placed:
        return skipped("the cards do not tell their node")
    near: frozenset[int] = frozenset()
    for node in placed.values():
        near |= host.read_set(f"/sys/devices/system/node/node{node}/cpulist")
    if far := frozenset(host.needs.cores) - near:
        where = ", ".join(f"{name} on node {node}" for name, node in placed.items())
        node = next(iter(placed.values()))
        there = host.read(f"/sys/devices/system/node/node{node}/cpulist")
        return warning(
            f"{cores.cores_text(far)} on another node than {where}",
            f"name cores of {there} in [feeds] cores and [consumer.cores]",
        )
    return ok(f"on the node of {', '.join(placed)}")


CHECKS: Final = (
    Check(
        "network.rings",
        "Receive rings of the cards",
        "While the kernel is late, packets wait in the card's ring; with the ring full they are "
        "lost, and TCP needs a round trip or more to have them again.",
        read_rings,
    ),
    Check(
        "network.coalescing",
        "Interrupt coalescing of the cards",
        "For so long, or as long as it thinks right, the card keeps a packet to itself in case "
        "another comes: each tick is late by that much.",
        read_coalescing,
    ),
    Check(
        "network.drops",
        "Packets lost in the cards",
        "Each is a pause of at least a round trip for every symbol of its connection.",
        read_drops,
    ),
    Check(
        "network.node",
        "Cores near the card",
        "What the card writes lies on its node: from the other socket each access takes half as "
        "long again.",
        read_node,
    ),
)
