"""Each check on a good host and on one that is wrong in one thing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mdsys.host import checks_cores, checks_interrupts, sysctl
from mdsys.host.check import Status, examine
from mdsys.host.checks_system import judge_python
from mdsys.host.host import Host
from mdsys.host.needs import Needs
from mdsys.host.settings import sysctl_path
from mdsys.host.table import CHECKS
from tests.host_trees import CPU, NEEDS, NET, NODE, POOL, THP, FakeHost, fake, limits, row, status
from tests.instances import cleaned, geometry, new_name, start


@dataclass(frozen=True)
class Bad:
    """What is wrong, and what is to be said of it."""

    check: str
    files: Mapping[str, str | None] = field(default_factory=dict)
    found: str = ""
    fix: str = ""
    status: Status = Status.WARNING
    needs: Mapping[str, object] = field(default_factory=dict)
    facts: Mapping[str, int | None] = field(default_factory=dict)
    card: Mapping[str, int | str] = field(default_factory=dict)


FAILURE = Status.FAILURE
HUGETLBFS = {"memory_dir": Path("/dev/hugepages")}
SLICE = "/sys/fs/cgroup/mdsys.slice"
STATE1 = f"{CPU}/cpu2/cpuidle/state1/disable"
BADS = [
    Bad("cores.present", {f"{CPU}/present": "0-2"}, "no core 3", "name others", FAILURE),
    Bad("cores.present", {f"{CPU}/online": "0-2"}, "core 3 is offline", "cpu3/online", FAILURE),
    Bad("cores.present", needs={"cores": {0: "feed 0"}}, found="core 0 is feed 0's"),
    Bad("cores.present", {f"{CPU}/online": "2-3"}, "nothing is left to", "name fewer"),
    Bad(
        "cores.isolated", {f"{CPU}/isolated": "2"}, "core 3 is not", "isolcpus=managed_irq,domain,"
    ),
    Bad("cores.nohz_full", {f"{CPU}/nohz_full": "(null)"}, "cores 2-3 keep their", "nohz_full=2-3"),
    Bad(
        "cores.rcu_nocbs",
        {"/proc/cmdline": "rcu_nocbs=2-3 rcu_nocbs=1", f"{CPU}/nohz_full": "2"},
        "core 3 runs",
        "rcu_nocbs=2-3",
    ),
    Bad(
        "cores.siblings",
        {f"{CPU}/cpu2/topology/thread_siblings_list": "1-2"},
        "core 1 shares",
        f"echo 0 > {CPU}/cpu1/online",
    ),
    Bad(
        "cores.siblings",
        {f"{CPU}/cpu2/topology/thread_siblings_list": "2-3"},
        "core 2 of feed 0 and core 3 of reader momentum are one",
        "name another",
    ),
    Bad(
        "cores.siblings",
        {f"{CPU}/cpu2/topology/thread_siblings_list": "0,2"},
        "cannot be taken offline",
        "name another",
    ),
    Bad(
        "cores.interrupts",
        {"/proc/irq/24/smp_affinity_list": "1-2", "/proc/irq/24/effective_affinity_list": "2"},
        "interrupt 24 may",
        "echo 1 > /proc/irq/24/smp_affinity_list",
    ),
    Bad(
        "cores.interrupts",
        {"/proc/irq/24/smp_affinity_list": "3", "/proc/irq/24/effective_affinity_list": "3"},
        "interrupt 24 may",
        "echo 0-1 > /proc/irq/24/smp_affinity_list",
    ),
    Bad(
        "cores.irqbalance",
        {"/proc/88/comm": "irqbalance", f"{CPU}/isolated": "2", f"{CPU}/nohz_full": "(null)"},
        "irqbalance may move interrupts to core 3",
        "echo IRQBALANCE_BANNED_CPULIST=2-3 >> /etc/default/irqbalance && systemctl restart",
    ),
    Bad(
        "cores.irqbalance",
        {
            "/proc/88/comm": "irqbalance",
            "/proc/88/environ": "LANG=C\0IRQBALANCE_BANNED_CPULIST=0,2\0",
            "/etc/sysconfig/irqbalance": "",
            f"{CPU}/cpu2/topology/thread_siblings_list": "1-2",
        },
        "to core 3",
        "echo IRQBALANCE_BANNED_CPULIST=0-3 >> /etc/sysconfig/irqbalance",
    ),
    Bad(
        "cores.new_interrupts",
        {"/proc/irq/default_smp_affinity": "f"},
        "mask f: cores 2-3 among",
        "echo 3 > /proc/irq/default_smp_affinity",
    ),
    Bad(
        "cores.workqueues",
        {"/sys/devices/virtual/workqueue/cpumask": "00000000,0000000d"},
        "among them",
        "echo 00000000,00000001 > /sys/devices/virtual/workqueue/cpumask",
    ),
    Bad(
        "cores.governor",
        {f"{CPU}/cpu3/cpufreq/scaling_governor": "powersave"},
        "performance, powersave on cores 2-3",
        f"echo performance > {CPU}/cpu3/cpufreq/scaling_governor",
    ),
    Bad(
        "cores.frequency",
        {f"{CPU}/cpu2/cpufreq/scaling_max_freq": "2000000"},
        "1 of 2 cores held at 2000000 of 4800000 kHz, boost on",
        f"echo 4800000 > {CPU}/cpu2/cpufreq/scaling_max_freq",
    ),
    Bad("cores.idle", {STATE1: "0"}, "as deep as C6 (133 µs)", f"echo 1 > {STATE1}"),
    Bad(
        "cores.quota", {"/sys/fs/cgroup/cpu.max": "200000 100000"}, "may use 2 cores'", "CPUQuota="
    ),
    Bad(
        "cores.allowed",
        {f"{SLICE}/cpuset.cpus.effective": "0-2"},
        "core 3 is none of those of mdsys.slice, 0-2",
        "systemctl set-property mdsys.slice AllowedCPUs=0-3",
    ),
    Bad(
        "cores.allowed",
        {f"{SLICE}/mdsys@default.service/cpuset.cpus.effective": "0-1"},
        "core 2 is none of those of mdsys@default.service, 0-1",
        "systemctl set-property mdsys@default.service AllowedCPUs=0-2",
    ),
    Bad("cores.steal", {"/proc/stat": "cpu  0 0 0 900 0 0 0 100 0 0"}, "10.00%", "bare metal"),
    Bad(
        "memory.shm",
        facts={"free": 1 << 20},
        found="1 of 1,024 MiB free",
        fix="remount,size=",
        status=FAILURE,
    ),
    Bad(
        "memory.pages",
        {"/proc/self/mounts": "tmpfs /dev/shm tmpfs rw 0 0"},
        "huge=never",
        "mount -o remount,huge=advise /dev/shm",
    ),
    Bad(
        "memory.pages",
        {"/proc/self/mounts": "/dev/sda / ext4 rw 0 0"},
        "is a ext4",
        "[memory] dir",
        FAILURE,
    ),
    Bad(
        "memory.pages",
        needs={"memory_dir": Path("/mnt/mdsys")},
        found="/mnt/mdsys of [memory] dir is not there",
        fix="systemctl enable --now mnt-mdsys.mount\nmdsys tune apply",
        status=FAILURE,
    ),
    Bad(
        "memory.pages",
        needs={"memory_dir": Path("/mnt/my pages"), "group": "quants"},
        found="/mnt/my pages of [memory] dir is not there",
        fix="mkdir -p '/mnt/my pages' && mount -t hugetlbfs "
        "-o pagesize=2M,uid=mdsys,gid=quants,mode=0750 none '/mnt/my pages'",
        status=FAILURE,
    ),
    Bad("memory.pages", {f"{THP}/shmem_enabled": "always [deny]"}, "is deny", "echo advise"),
    Bad(
        "memory.pages",
        {f"{POOL}/free_hugepages": "3", f"{POOL}/resv_hugepages": "1"},
        "3 of 64 pages of 2 MB free",
        "sysctl -w vm.nr_hugepages=",
        FAILURE,
        HUGETLBFS,
    ),
    Bad("memory.thp", {f"{THP}/enabled": "[always] madvise never"}, "always", "echo madvise"),
    Bad("memory.thp_defrag", {f"{THP}/defrag": "[always] madvise never"}, "always", "echo madvise"),
    Bad("memory.ksm", {"/sys/kernel/mm/ksm/run": "1"}, "runs", "echo 0 > /sys/kernel/mm/ksm/run"),
    Bad(
        "memory.swap",
        {"/proc/swaps": "Filename Type\n/dev/sda3 partition 1 0 -2"},
        "/dev/sda3",
        "swapoff -a",
    ),
    Bad(
        "memory.segments",
        {"/dev/shm/mdsys.lost.ring.0": "x" * 5000},
        "of lost, whose daemon is gone",
        "mdsys clean --instance lost",
    ),
    Bad("memory.remove_ipc", {"/etc/systemd/logind.conf": ""}, "yes (the default)", "RemoveIPC=no"),
    Bad(
        "memory.remove_ipc",
        {"/usr/lib/systemd/logind.conf.d/9.conf": "RemoveIPC=1"},
        "1 (/usr/lib/systemd/logind.conf.d/9.conf)",
        "/etc/systemd/logind.conf.d/mdsys.conf",
    ),
    Bad("network.rings", card={"rings": 256}, found="256 of at most 1024", fix="-G eth0 rx 1024"),
    Bad(
        "network.coalescing",
        card={"adaptive": "on", "usecs": 8},  # which would do, but that the card goes by its own
        found="adaptive-rx on",
        fix="ethtool -C eth0 adaptive-rx off rx-usecs 0",
    ),
    Bad(
        "network.coalescing",
        card={"usecs": 50},
        found="rx-usecs 50",
        fix="ethtool -C eth0 adaptive-rx off rx-usecs 0",
    ),
    Bad("network.drops", {f"{NET}/statistics/rx_missed_errors": "7"}, "eth0 7", "ethtool -G eth0"),
    Bad(
        "network.node",
        {f"{NET}/device/numa_node": "1"},
        "cores 2-3 on another node than",
        "name cores of 1 in",
    ),
    Bad(
        "clock.source",
        {"/sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet"},
        "hpet, though there is tsc",
        "echo tsc >",
    ),
    Bad("clock.synchronised", facts={"clock": -1}, found="nothing keeps", fix="chrony"),
    Bad("clock.synchronised", facts={"clock": 1_500_000}, found="1.5e+03 ms", fix="chronyc"),
    Bad("clock.keeper", {"/proc/77/comm": "systemd-timesyn"}, "timesyncd", "chrony"),
    Bad("clock.keeper", {"/proc/77/comm": "cat"}, "none", "chrony"),
    Bad("kernel.version", {"/proc/sys/kernel/osrelease": "5.10.0-28-amd64"}, "5.10.0", "5.16"),
    Bad(
        "limits.memlock",
        {"/proc/self/limits": limits(memlock=8 << 20)},
        "8,192 KiB in this session",
        "@mdsys - memlock unlimited",
    ),
    Bad("limits.rtprio", {"/proc/self/limits": limits(rtprio=0)}, "up to 0", "@mdsys - rtprio 50"),
    Bad("limits.files", {"/proc/self/limits": limits(files=64)}, "64 in", "ulimit -n", FAILURE),
    Bad(
        "secrets.core_dumps",
        {"/proc/self/limits": limits(core="unlimited")},
        "up to unlimited",
        "ulimit -c 0",
    ),
    Bad(
        "secrets.core_dumps",
        {"/proc/sys/kernel/core_pattern": "|/usr/lib/systemd/systemd-coredump %P"},
        "systemd-coredump, whatever the limit",
        "Storage=none",
    ),
    Bad("system.group", {"/etc/group": "root:x:0:"}, "no group mdsys", "groupadd --system mdsys"),
    Bad("system.group", {"/proc/self/status": status(1000)}, "not in it", "usermod -aG mdsys"),
    Bad("system.group", {"/proc/self/status": status(9901)}, "not in it", "usermod -aG mdsys"),
    Bad(
        "boot.sysctl",
        {"/etc/sysctl.d/60-mdsys.conf": None},
        "gone after a reboot",
        "mdsys tune apply",
    ),
    Bad(
        "boot.sysctl",
        {"/etc/sysctl.d/60-mdsys.conf": "vm.swappiness = 60"},
        "other values of vm.swappiness, vm.stat_interval",
        "mdsys tune apply",
    ),
    Bad(
        "boot.sysfs",
        {"/etc/tmpfiles.d/60-mdsys-host.conf": None},
        "gone after a reboot",
        "mdsys tune apply",
    ),
    Bad("boot.sysfs", {"/etc/tmpfiles.d/60-mdsys-host.conf": "# empty"}, "lacks", "tune apply"),
    *(
        Bad(
            f"sysctl.{each.name}",
            {
                sysctl_path(each.name): " ".join(
                    "9" if each.or_less else "-9" for _ in each.wanted.split()
                )
            },
            f"not {each.wanted}",
            f"sysctl -w {each.name}=" if " " not in each.wanted else f"sysctl -w '{each.name}=",
        )
        for each in sysctl.table()
    ),
]


def make(root: Path, bad: Bad) -> FakeHost:
    """Make the good host wrong in one thing."""
    host = fake(root)
    host.change(bad.files)
    host.facts.update(bad.facts)
    host.card.update(bad.card)
    return replace(host, needs=replace(NEEDS, **bad.needs)) if bad.needs else host  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", BADS, ids=lambda bad: f"{bad.check}-{bad.found[:20]}")
def test_what_is_wrong_is_found_told_and_has_a_remedy(tmp_path: Path, bad: Bad) -> None:
    result = make(tmp_path, bad).result(bad.check)
    assert result.finding.status is bad.status
    assert bad.found in result.finding.found
    assert result.fix
    assert bad.fix in result.fix


def test_good_host_has_nothing_to_be_said_of(tmp_path: Path) -> None:
    host = fake(tmp_path)
    said = {
        result.check.id: result.finding.found
        for result in examine(host, CHECKS)
        # The interpreter is the one that runs this test, whose build is not ours to choose.
        if result.finding.status is not Status.OK and result.check.id != "python.build"
    }
    assert said == {}


def test_every_check_has_a_bad_host_here() -> None:
    apart = {"python.build", "system.systemd"}  # below
    assert {bad.check for bad in BADS} | apart == {check.id for check in CHECKS}


def test_there_are_many_checks_and_each_says_why_and_is_called_otherwise() -> None:
    assert len(CHECKS) >= 25
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    assert all(check.why.endswith(".") and check.title for check in CHECKS)


def test_empty_host_is_no_error(tmp_path: Path) -> None:
    for result in examine(Host(tmp_path), CHECKS):
        assert result.finding.found, result.check.id


def test_this_host_is_no_error() -> None:
    for result in examine(Host(), CHECKS):
        assert result.finding.found, result.check.id
        assert "cannot be read: " not in result.finding.found


@pytest.mark.parametrize(
    "text", ["", "\0", "[", "-", "9" * 400, "a b c d e f g h i j", "\n\n|", "x:y:z:w"]
)
def test_nonsense_in_every_file_is_a_finding_and_no_end(tmp_path: Path, text: str) -> None:
    host = fake(tmp_path)
    for path in [each for each in tmp_path.rglob("*") if each.is_file()]:
        path.write_text(text)
    for result in examine(host, CHECKS):
        assert result.finding.found, result.check.id


def test_without_cores_nothing_is_said_of_them(tmp_path: Path) -> None:
    host = replace(fake(tmp_path), needs=replace(NEEDS, cores={}))
    skipped = {
        each.check.id for each in examine(host, CHECKS) if each.finding.status is Status.SKIPPED
    }
    assert {"cores.isolated", "cores.interrupts", "cores.siblings", "network.node"} <= skipped
    host.change({f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave"})
    assert host.result("cores.governor").finding.status is Status.WARNING, "any core may be used"


# ---- cores -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "cores"),
    [
        ("rcu_nocbs=2-3", {2, 3}),
        ("a=1 rcu_nocbs=1,3", {1, 3}),
        ("rcu_nocbs=all", {0, 1, 2, 3}),
        ("rcu_nocbs=2-N", {2, 3}),
        ("rcu_nocbs=0-3:1/2", {0, 2}),
        ("rcu_nocbs=0-9", {0, 1, 2, 3}),
        ("rcu_nocbs=0-3:1/0", {0, 1, 2, 3}),
        ("xrcu_nocbs=1", set()),
        ("rcu_nocbs=managed_irq,2", {2}),
        ("rcu_nocbs", set()),
    ],
)
def test_lists_of_the_command_line_are_read_as_the_kernel_does(
    tmp_path: Path, given: str, cores: set[int]
) -> None:
    host = fake(tmp_path)
    host.change({"/proc/cmdline": given})
    assert checks_cores.boot_list(host, "rcu_nocbs", frozenset(range(4))) == cores


@pytest.mark.parametrize(
    ("mask", "like", "text"),
    [
        (3, "f", "3"),
        (1, "ffff,ffffffff", "0000,00000001"),
        (1 << 40, "ffff,ffffffff", "0100,00000000"),
        (5, "ffffffff", "00000005"),
    ],
)
def test_mask_is_written_as_the_kernel_writes_it(mask: int, like: str, text: str) -> None:
    assert checks_interrupts.mask_text(mask, like) == text


def test_host_whose_cores_are_all_pinned_to_is_told_to_name_fewer(tmp_path: Path) -> None:
    host = fake(tmp_path)
    every = {0: "reader momentum", 1: "feed 0"}
    host = replace(host, needs=replace(NEEDS, cores=every))
    host.change(
        {
            **dict.fromkeys((f"{CPU}/possible", f"{CPU}/present", f"{CPU}/online"), "0-1"),
            **dict.fromkeys((f"{CPU}/isolated", f"{CPU}/nohz_full", "/proc/cmdline"), ""),
            "/proc/irq/24/smp_affinity_list": "0-1",
            "/proc/irq/25/smp_affinity_list": "1",
        }
    )
    ids = ("present", "isolated", "nohz_full", "rcu_nocbs", "interrupts", "workqueues")
    told = {name: host.result(f"cores.{name}") for name in ids}
    assert {name: each.finding.found for name, each in told.items()} == {
        "present": "nothing is left to the system and the supervisor",
        "isolated": "cores 0-1 are not isolated",
        "nohz_full": "cores 0-1 keep their timer tick",
        "rcu_nocbs": "cores 0-1 run RCU's callbacks",
        "interrupts": "interrupts 24, 25 may be handled on cores 0-1",
        "workqueues": "mask 3: cores 0-1 among them",
    }
    assert {each.fix for each in told.values()} == {
        "no core is left for everything else: name fewer in [feeds] cores and [consumer.cores]"
    }


def test_sibling_that_is_isolated_and_empty_disturbs_nobody(tmp_path: Path) -> None:
    host = fake(tmp_path)
    host.change({f"{CPU}/cpu2/topology/thread_siblings_list": "1-2", f"{CPU}/isolated": "1-3"})
    assert host.result("cores.siblings").finding.status is Status.OK


def test_siblings_are_isolated_with_their_cores_at_boot(tmp_path: Path) -> None:
    host = fake(tmp_path)
    host.change({f"{CPU}/cpu2/topology/thread_siblings_list": "1-2"})
    assert checks_cores.kernel_arguments(host) == (
        "isolcpus=managed_irq,domain,1-3 nohz_full=1-3 rcu_nocbs=1-3 irqaffinity=0"
    )


def test_interrupt_that_the_kernel_has_moved_by_itself_is_left_alone(tmp_path: Path) -> None:
    host = fake(tmp_path)
    host.change(
        {"/proc/irq/24/smp_affinity_list": "0,2", "/proc/irq/24/effective_affinity_list": "0"}
    )
    assert host.result("cores.interrupts").finding.status is Status.OK


def test_remedy_of_many_parts_is_one_command(tmp_path: Path) -> None:
    host = fake(tmp_path)
    moved = {f"/proc/irq/{number}/smp_affinity_list": "0-3" for number in range(30, 38)}
    host.change(moved)
    assert host.result("cores.interrupts").fix.count("\n") == 7
    host.change({"/proc/irq/24/smp_affinity_list": "0-3"})
    fix = host.result("cores.interrupts").fix
    assert fix == "mdsys tune apply  # 9 settings; mdsys tune plan shows each"


def test_program_that_holds_cores_awake_is_as_good_as_no_deep_sleep(tmp_path: Path) -> None:
    host = fake(tmp_path)
    host.change({STATE1: "0"})
    host.path("/dev/cpu_dma_latency").write_bytes((2).to_bytes(4, "little"))
    assert host.result("cores.idle").finding.status is Status.OK
    host.path("/dev/cpu_dma_latency").write_bytes((2_000_000_000).to_bytes(4, "little"))
    assert host.result("cores.idle").finding.status is Status.WARNING


@pytest.mark.parametrize(
    ("environ", "files", "found"),
    [
        ("", {}, "leaves cores 2-3 alone"),  # what is isolated or tickless is not touched
        ("", {f"{CPU}/isolated": ""}, "leaves"),
        ("", {f"{CPU}/nohz_full": "(null)"}, "leaves"),
        ("IRQBALANCE_BANNED_CPULIST=2-3", {}, "leaves"),
        ("IRQBALANCE_BANNED_CPULIST='2,3'", {}, "leaves"),
        ("IRQBALANCE_BANNED_CPULIST=2", {}, "to core 3"),
        ("IRQBALANCE_BANNED_CPULIST=", {}, "leaves"),
        ("XIRQBALANCE_BANNED_CPULIST=1", {}, "leaves"),
        ("IRQBALANCE_BANNED_CPUS=00000000,0000000C", {}, "leaves"),
        ("IRQBALANCE_BANNED_CPUS=4", {}, "to core 3"),
        ("IRQBALANCE_BANNED_CPUS=4\0IRQBALANCE_BANNED_CPULIST=2-3", {}, "leaves"),
        ("IRQBALANCE_BANNED_CPUS=none", {}, "to cores 2-3"),
        ("IRQBALANCE_BANNED_CPULIST=0-9999", {}, "to cores 2-3"),
        ("", {"/etc/default/irqbalance": "IRQBALANCE_BANNED_CPULIST=2"}, "leaves"),
        (None, {"/etc/default/irqbalance": 'IRQBALANCE_BANNED_CPULIST="2"'}, "to core 3"),
        (None, {"/etc/sysconfig/irqbalance": "#IRQBALANCE_BANNED_CPULIST=2"}, "leaves"),
        (
            None,
            {
                "/usr/lib/irqbalance/defaults.env": "IRQBALANCE_BANNED_CPULIST=0",
                "/etc/default/irqbalance": "IRQBALANCE_BANNED_CPULIST=2-3",
            },
            "leaves",
        ),
        (None, {}, "leaves"),
    ],
)
def test_irqbalance_is_kept_off_by_its_environment_or_by_isolation(
    tmp_path: Path, environ: str | None, files: Mapping[str, str | None], found: str
) -> None:
    host = fake(tmp_path)
    host.change({"/proc/88/comm": "irqbalance", **files})
    if environ is not None:  # shown to root alone
        host.path("/proc/88/environ").write_text(environ)
    assert found in host.result("cores.irqbalance").finding.found


@pytest.mark.parametrize(
    ("files", "found", "status"),
    [
        (
            {f"{SLICE}/mdsys@default.service/cpuset.cpus.effective": None},
            "mdsys.slice has cores 0-3",
            Status.OK,
        ),
        (
            {f"{SLICE}/cpuset.cpus.effective": None},
            "mdsys@default.service has cores 1-3",
            Status.OK,
        ),
        # A reader's core is for the slice; the daemon itself does not go there.
        (
            {f"{SLICE}/mdsys@default.service/cpuset.cpus.effective": "2"},
            "mdsys@default.service has core 2",
            Status.OK,
        ),
        # A core that is offline is in no cpuset, which is another finding.
        (
            {f"{SLICE}/cpuset.cpus.effective": "0-2", f"{CPU}/online": "0-2"},
            "mdsys@default.service has cores 1-3",
            Status.OK,
        ),
        (
            {"/proc/self/mountinfo": "31 23 0:28 /x /sys/fs/cgroup rw - cgroup2 cgroup2 rw"},
            "does not run",
            Status.SKIPPED,
        ),
        (
            {"/proc/self/mountinfo": "31 23 0:28 / /sys/fs/cgroup rw - cgroup cgroup rw,cpu"},
            "does not run",
            Status.SKIPPED,
        ),
    ],
)
def test_cores_of_the_service_are_those_of_its_cgroup_and_of_its_slice(
    tmp_path: Path, files: Mapping[str, str | None], found: str, status: Status
) -> None:
    host = fake(tmp_path)
    host.change(files)
    result = host.result("cores.allowed").finding
    assert found in result.found
    assert result.status is status


def test_service_of_another_instance_is_not_looked_at(tmp_path: Path) -> None:
    host = fake(tmp_path)
    host.change({f"{SLICE}/mdsys@default.service/cpuset.cpus.effective": "0"})
    assert host.result("cores.allowed").finding.status is Status.WARNING
    host = replace(host, needs=replace(NEEDS, instance="eu"))
    assert host.result("cores.allowed").finding.found == "mdsys.slice has cores 0-3"


# ---- memory ------------------------------------------------------------------------------------


def test_own_segments_count_as_room_since_the_next_start_goes_on_in_them(tmp_path: Path) -> None:
    host = fake(tmp_path)
    host.facts["free"] = 0
    assert host.result("memory.shm").finding.status is Status.FAILURE
    size = sum(NEEDS.segments.values()) + NEEDS.directory_bytes
    with host.path("/dev/shm/mdsys.default.ring.0").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    assert host.result("memory.shm").finding.status is Status.OK
    host.path("/dev/shm/mdsys.default.ring.0").rename(host.path("/dev/shm/mdsys.other.ring.0"))
    assert host.result("memory.shm").finding.status is Status.FAILURE


def test_pages_are_counted_segment_by_segment_beside_those_that_others_use(tmp_path: Path) -> None:
    needs = replace(NEEDS, memory_dir=Path("/dev/hugepages"), segments={"a": 1, "b": (2 << 20) + 1})
    host = replace(fake(tmp_path), needs=needs)
    for free, wanted in ((3, None), (2, 65), (0, 67)):
        host.change({f"{POOL}/free_hugepages": str(free)})
        result = host.result("memory.pages")
        assert result.fix == ("" if wanted is None else f"sysctl -w vm.nr_hugepages={wanted}")
    host.change({f"{POOL}/resv_hugepages": "1", f"{POOL}/free_hugepages": "2"})  # another's
    assert host.result("memory.pages").fix == "sysctl -w vm.nr_hugepages=66"
    host.path("/dev/hugepages").mkdir(parents=True)
    with host.path("/dev/hugepages/mdsys.default.a").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2 << 20)
    assert host.result("memory.pages").fix == "sysctl -w vm.nr_hugepages=65", "our own"


def test_segments_of_the_living_and_the_stopped_are_no_finding(tmp_path: Path) -> None:
    host = fake(tmp_path)
    with cleaned(new_name()) as name:
        instance = start(name, geometry())
        there = Path(f"/dev/shm/mdsys.{name}.symbols")
        copy = host.path(f"/dev/shm/mdsys.{name}.symbols")
        copy.write_bytes(there.read_bytes())
        assert host.result("memory.segments").finding.found == f"{name} running"
        instance.symbols.take_over(2**22 + 1, 5, 0)  # of a process that is gone
        copy.write_bytes(there.read_bytes())
        assert "whose daemon is gone" in host.result("memory.segments").finding.found
        instance.stop()
        copy.write_bytes(there.read_bytes())
        assert host.result("memory.segments").finding.found == f"{name} stopped"


def test_last_word_on_remove_ipc_is_that_of_the_last_drop_in_and_etc_hides_usr(
    tmp_path: Path,
) -> None:
    host = fake(tmp_path)
    host.change(
        {
            "/etc/systemd/logind.conf": "RemoveIPC=yes",
            "/usr/lib/systemd/logind.conf.d/50.conf": "RemoveIPC=yes",
            "/etc/systemd/logind.conf.d/50.conf": "[Login]\nRemoveIPC = no",
        }
    )
    assert (
        host.result("memory.remove_ipc").finding.found == "no (/etc/systemd/logind.conf.d/50.conf)"
    )


# ---- the system --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("debug", "free_threaded", "optimised", "status"),
    [
        (False, False, True, Status.OK),
        (True, False, True, Status.WARNING),
        (False, True, True, Status.WARNING),
        (False, False, False, Status.WARNING),
    ],
)
def test_interpreter_is_judged_by_its_build(
    debug: bool, free_threaded: bool, optimised: bool, status: Status
) -> None:
    found = judge_python(
        "CPython 3.13.0", debug=debug, free_threaded=free_threaded, optimised=optimised
    )
    assert found.status is status
    assert bool(found.fix) == (status is Status.WARNING)
    assert row("python.build").read(Host()).found.startswith("CPython 3.")


@pytest.mark.parametrize(
    ("words", "status"),
    [("systemd 252 (252)", Status.OK), ("systemd 241", Status.WARNING), ("", Status.SKIPPED)],
)
def test_systemd_is_judged_by_its_version(tmp_path: Path, words: str, status: Status) -> None:
    result = replace(fake(tmp_path), systemd=words).result("system.systemd")
    assert result.finding.status is status


def test_host_without_systemd_is_not_asked_for_its_version(tmp_path: Path) -> None:
    host = fake(tmp_path)
    host.path("/run/systemd/system/x").unlink()
    host.path("/run/systemd/system").rmdir()
    assert host.result("system.systemd").finding.status is Status.SKIPPED


def test_limit_that_a_file_raises_asks_for_another_login(tmp_path: Path) -> None:
    host = fake(tmp_path)
    host.change({"/proc/self/limits": limits(memlock=0)})
    setting = host.result("limits.memlock").finding.settings[0]
    host.path(setting.target.name).parent.mkdir(parents=True)
    setting.target.put(host, setting.wanted)
    assert host.result("limits.memlock").fix == "log in again"


@pytest.mark.parametrize(("check", "bit"), [("limits.memlock", 14), ("limits.rtprio", 23)])
def test_capability_stands_above_the_limit(tmp_path: Path, check: str, bit: int) -> None:
    host = fake(tmp_path)
    host.change({"/proc/self/limits": limits(memlock=0, rtprio=0)})
    assert host.result(check).finding.status is Status.WARNING
    host.change({"/proc/self/status": status(capabilities=1 << bit)})
    finding = host.result(check).finding
    assert finding.status is Status.OK
    (setting,) = finding.settings  # root, who has no limits, sets those of others
    assert "@mdsys - memlock unlimited\n" in setting.wanted


def test_rings_that_are_larger_than_wanted_are_kept(tmp_path: Path) -> None:
    host = fake(tmp_path)
    host.card.update(rings=8192, rings_max=8192)
    finding = host.result("network.rings").finding
    assert finding.status is Status.OK
    assert [setting.wanted for setting in finding.settings] == ["rx 8192"]


def test_root_need_not_be_in_the_group(tmp_path: Path) -> None:
    host = fake(tmp_path)
    host.change({"/proc/self/status": status(1000).replace("\t1000", "\t0")})
    assert host.result("system.group").finding.found == "mdsys (990); root reads anyway"


def test_mount_that_covers_another_is_the_one_that_counts(tmp_path: Path) -> None:
    host = fake(tmp_path)
    covered, covering = (f"tmpfs /dev/shm tmpfs rw,huge={each} 0 0" for each in ("never", "advise"))
    host.change({"/proc/self/mounts": f"{covered}\n{covering}"})
    assert host.result("memory.pages").finding.status is Status.OK
    host.change({"/proc/self/mounts": f"{covering}\n{covered}"})
    assert host.result("memory.pages").finding.status is Status.WARNING


RING_CHECKS = ("network.rings", "network.coalescing", "network.drops")


def test_card_that_is_down_is_not_looked_at(tmp_path: Path) -> None:
    host = fake(tmp_path)
    host.card.update(rings=256)
    host.change({f"{NET}/operstate": "down"})
    for check in RING_CHECKS:
        assert host.result(check).finding.status is Status.SKIPPED


@pytest.mark.parametrize(("name", "shown"), [("-G", "-G"), ("wan\udcff", "wan\\udcff")])
def test_card_of_a_name_that_no_command_is_given_is_told(
    tmp_path: Path, name: str, shown: str
) -> None:
    host = fake(tmp_path)
    host.path(f"/sys/class/net/{name}/device").mkdir(parents=True)
    left_out = f"not looked at: {shown} (no name that ethtool can be given)"
    good = [host.result(check).finding for check in RING_CHECKS]
    for finding in good:
        assert finding.found.startswith(("eth0 ", "none since boot: eth0; "))
        assert finding.found.endswith(f"; {left_out}")
        assert finding.status is Status.OK
    host.card.update(rings=256)
    assert host.result("network.rings").fix == "ethtool -G eth0 rx 1024"
    host.change({f"{NET}/operstate": "down"})
    alone = [host.result(check).finding for check in RING_CHECKS]
    assert {(each.status, each.found) for each in alone} == {(Status.SKIPPED, left_out)}
    host.change({f"/sys/class/net/{name}/operstate": "down"})
    assert host.result("network.rings").finding.found == "no network card is up"


def test_card_of_any_name_has_its_node_told(tmp_path: Path) -> None:
    host = fake(tmp_path)
    host.change({f"{NODE}/has_memory": "0-1", f"{NET}/operstate": "down"})
    host.change({"/sys/class/net/wan\udcff/device/numa_node": "1"})
    found = host.result("network.node").finding.found
    assert found == "cores 2-3 on another node than wan\\udcff on node 1"


def test_cores_near_any_of_the_cards_are_near(tmp_path: Path) -> None:
    host = fake(tmp_path)
    host.change({f"{NODE}/has_memory": "0-1", "/sys/class/net/eth1/device/numa_node": "1"})
    assert host.result("network.node").finding.status is Status.OK


def test_what_a_configuration_needs_counts_what_is_named() -> None:
    needs: Needs = NEEDS
    assert needs.segments["ring.0"] == (512 << 10) + 4096
    assert len(needs.segments) == 6
    assert needs.files > len(needs.segments)
