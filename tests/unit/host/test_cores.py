"""Getting on a core, and what is said of one; other machines are trees of files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mdsys.errors import HostError, NoPermission
from mdsys.host.cores import allowed_cores, core_notices, pin, read_set, set_text

CPU = "sys/devices/system/cpu"
V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "30 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "31 23 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "32 23 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
QUIET = {
    f"{CPU}/possible": "0-7",
    f"{CPU}/present": "0-3",
    f"{CPU}/online": "0-3",
    f"{CPU}/isolated": "2-3",
    f"{CPU}/nohz_full": "2-3",
    f"{CPU}/cpu2/topology/thread_siblings_list": "2",
    f"{CPU}/cpu2/cpufreq/scaling_governor": "performance",
    "proc/self/cgroup": "0::/system.slice/mdsys.service",
    "proc/self/mountinfo": "22 1 0:5 / /proc rw - proc proc rw\n" + V2,
    "sys/fs/cgroup/system.slice/cpu.max": "max 100000",
    "sys/fs/cgroup/system.slice/mdsys.service/cpu.max": "max 100000",
}
"""A host on which nothing is to be said of core 2."""

Host = Callable[..., Path]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Make a host's files: the quiet one's, but for those given; None: there is no such file."""

    def make(changes: dict[str, str | None] | None = None) -> Path:
        for name, text in {**QUIET, **(changes or {})}.items():
            if text is not None:
                path = tmp_path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text + "\n")
        return tmp_path

    return make


# ---- pinning -----------------------------------------------------------------------------------


def in_thread(work: Callable[[], None]) -> None:
    """Run it in a thread of its own, so that the tests' thread stays unpinned."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def test_pin_holds_for_the_thread_and_those_it_starts_and_for_no_other() -> None:
    before = os.sched_getaffinity(0)
    core = max(before)

    def work() -> None:
        pin(core)
        assert os.sched_getaffinity(0) == {core}
        in_thread(lambda: check({core}))

    def check(wanted: set[int]) -> None:
        assert os.sched_getaffinity(0) == wanted

    in_thread(work)
    assert os.sched_getaffinity(0) == before


def test_pinned_thread_moves_when_it_is_pinned_again() -> None:
    def work() -> None:
        for core in sorted(os.sched_getaffinity(0)):
            pin(core)
            assert os.sched_getaffinity(0) == {core}

    in_thread(work)


class Kernel:
    """What sched_setaffinity does to one thread in a cpuset."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, cpuset: set[int], affinity: set[int]
    ) -> None:
        self.cpuset = cpuset
        self.affinity = affinity
        self.refusal: int | None = None
        monkeypatch.setattr(os, "sched_setaffinity", self.set)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(self.affinity))

    def set(self, thread: int, wish: Iterable[int]) -> None:
        assert thread == 0
        if self.refusal is not None:
            raise OSError(self.refusal, os.strerror(self.refusal))
        left = set(wish) & self.cpuset
        if not left:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.affinity = left


@pytest.mark.parametrize("core", [-1, 8, 5000, 1 << 40])
def test_core_that_the_host_cannot_have_is_refused_before_the_kernel_is_asked(
    host: Host, monkeypatch: pytest.MonkeyPatch, core: int
) -> None:
    kernel = Kernel(monkeypatch, {0, 1, 2, 3}, {0, 1})
    kernel.refusal = errno.EFAULT
    with pytest.raises(HostError) as error:
        pin(core, root=host())
    assert str(error.value) == f"core {core}: this host has none; it has cores 0-7"


@pytest.mark.parametrize("core", [-1, 1 << 40])
def test_absurd_core_is_refused_also_without_sys(tmp_path: Path, core: int) -> None:
    with pytest.raises(HostError, match=f"core {core}: this host has none"):
        pin(core, root=tmp_path)


def test_socket_without_a_processor_is_not_there(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    Kernel(monkeypatch, {0, 1, 2, 3}, {0, 1})
    with pytest.raises(HostError) as error:
        pin(5, root=host())
    assert str(error.value) == "core 5: this host has none; it has cores 0-3"


def test_offline_core_is_refused_with_how_to_start_it(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    Kernel(monkeypatch, {0, 1, 2}, {0, 1, 2})
    with pytest.raises(HostError) as error:
        pin(3, root=host({f"{CPU}/online": "0-2"}))
    assert str(error.value) == (
        "core 3 is offline: echo 1 > /sys/devices/system/cpu/cpu3/online, "
        "or name one of this process's (0-2)"
    )


def test_core_outside_the_cpuset_is_refused_naming_all_inside_it(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(monkeypatch, cpuset={0, 1, 3}, affinity={1})
    with pytest.raises(HostError) as error:
        pin(2, root=host())
    assert str(error.value).startswith(
        "core 2 is not in the cpuset of this process: name one of this process's (0-1,3), or add it"
    )
    assert not isinstance(error.value, NoPermission)
    assert kernel.affinity == {1}, "asking what is allowed has left the thread elsewhere"


def test_isolated_cores_may_be_pinned_to_though_no_affinity_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = Kernel(monkeypatch, cpuset={0, 1, 2, 3}, affinity={0, 1})
    assert allowed_cores() == {0, 1, 2, 3}
    assert kernel.affinity == {0, 1}
    kernel.refusal = errno.EPERM
    assert allowed_cores() == {0, 1}


def test_pinned_thread_still_may_go_where_it_came_from() -> None:
    before = allowed_cores()

    def work() -> None:
        pin(min(before))
        assert allowed_cores() == before
        assert os.sched_getaffinity(0) == {min(before)}

    in_thread(work)


def test_forbidden_pinning_is_a_matter_of_rights(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    Kernel(monkeypatch, {0, 1, 2, 3}, {0}).refusal = errno.EPERM
    with pytest.raises(NoPermission, match=r"core 2: Operation not permitted: .*seccomp"):
        pin(2, root=host())


# ---- notices -----------------------------------------------------------------------------------


def notice(root: Path, others: dict[int, str] | None = None) -> str:
    """Return the only notice."""
    found = core_notices(2, others=others or {}, root=root)
    assert len(found) == 1, found
    return found[0]


def test_nothing_is_said_of_a_core_of_ones_own(host: Host) -> None:
    assert core_notices(2, others={1: "feed 0"}, root=host()) == []


def test_nothing_but_isolation_is_asked_of_a_host_that_tells_nothing(tmp_path: Path) -> None:
    assert notice(tmp_path).startswith("core 2 is not isolated")


def test_notices_of_this_very_host_can_be_read() -> None:
    for core in os.sched_getaffinity(0):
        assert all(f"{core}" in each or "cgroup" in each for each in core_notices(core))


def test_core_that_is_not_isolated_is_noticed(host: Host) -> None:
    assert notice(host({f"{CPU}/isolated": "3", f"{CPU}/nohz_full": ""})) == (
        "core 2 is not isolated: the scheduler runs other threads there as well, each for "
        "milliseconds; boot with isolcpus=2 nohz_full=2 rcu_nocbs=2"
    )


@pytest.mark.parametrize("ticking", ["", "(null)", "3"])
def test_isolated_core_that_keeps_its_tick_is_noticed(host: Host, ticking: str) -> None:
    text = notice(host({f"{CPU}/nohz_full": ticking}))
    assert text.startswith("core 2 is isolated but keeps its timer tick")
    assert text.endswith("boot with nohz_full=2 rcu_nocbs=2")


def test_tick_is_not_noticed_where_the_kernel_cannot_do_without(host: Host) -> None:
    assert core_notices(2, root=host({f"{CPU}/nohz_full": None})) == []


@pytest.mark.parametrize(
    "files",
    [
        {"sys/fs/cgroup/cpuset.cpus.isolated": "2"},
        {
            "sys/fs/cgroup/system.slice/cpuset.cpus.partition": "isolated",
            "sys/fs/cgroup/system.slice/cpuset.cpus.effective": "2-3",
        },
    ],
)
def test_isolated_partition_counts_as_isolated(host: Host, files: dict[str, str | None]) -> None:
    assert core_notices(2, root=host({f"{CPU}/isolated": "", **files})) == []


@pytest.mark.parametrize("state", ["member", "root", "isolated invalid (no cpus)"])
def test_other_partition_does_not_count_as_isolated(host: Host, state: str) -> None:
    group = "sys/fs/cgroup/system.slice"
    files = {f"{group}/cpuset.cpus.partition": state, f"{group}/cpuset.cpus.effective": "2-3"}
    assert "not isolated" in notice(host({f"{CPU}/isolated": "", **files}))


def test_busy_sibling_is_noticed(host: Host) -> None:
    siblings = {f"{CPU}/cpu2/topology/thread_siblings_list": "0,2"}
    assert notice(host(siblings)) == (
        "core 2 and core 0 are two threads of one physical core (SMT): work on 0 slows 2 by up to "
        "half; echo 0 > /sys/devices/system/cpu/cpu0/online, or isolate 0 too and leave it empty"
    )


def test_offline_sibling_is_not_noticed(host: Host) -> None:
    siblings = {f"{CPU}/cpu2/topology/thread_siblings_list": "0,2", f"{CPU}/online": "1-3"}
    assert core_notices(2, root=host(siblings)) == []


def test_isolated_sibling_is_noticed_only_when_somebody_is_pinned_to_it(host: Host) -> None:
    root = host({f"{CPU}/cpu2/topology/thread_siblings_list": "2-3"})
    assert core_notices(2, root=root) == []
    text = notice(root, {3: "feed 1"})
    assert text.startswith("core 2 and core 3, that of feed 1, are two threads of one physical")


@pytest.mark.parametrize("governor", ["powersave", "schedutil"])
def test_governor_that_saves_power_is_noticed(host: Host, governor: str) -> None:
    text = notice(host({f"{CPU}/cpu2/cpufreq/scaling_governor": governor}))
    assert f"has the frequency governor {governor}:" in text
    assert text.endswith("cpupower -c 2 frequency-set -g performance")


def test_core_without_a_governor_is_not_noticed(host: Host) -> None:
    assert core_notices(2, root=host({f"{CPU}/cpu2/cpufreq/scaling_governor": None})) == []


def test_shared_core_is_noticed_first_and_with_who_it_is(host: Host) -> None:
    found = core_notices(2, others={2: "reader s1"}, root=host({f"{CPU}/isolated": ""}))
    assert [each.split(":")[0] for each in found] == [
        "core 2 is also that of reader s1",
        "core 2 is not isolated",
    ]


# ---- quotas ------------------------------------------------------------------------------------


def test_quota_of_our_cgroup_is_noticed_with_how_often_it_struck(host: Host) -> None:
    group = "sys/fs/cgroup/system.slice/mdsys.service"
    text = notice(
        host(
            {
                f"{group}/cpu.max": "150000 100000",
                f"{group}/cpu.stat": "usage_usec 9\nnr_periods 50\nnr_throttled 12\n",
            }
        )
    )
    assert text.startswith(
        "the cgroup /system.slice/mdsys.service may use 1.5 cores' time: once it is used up, "
        "all that runs in it stands still for the rest of 100 ms (so far 12 times); "
    )
    assert "CPUQuota=" in text


def test_tightest_quota_above_us_is_the_one_that_is_noticed(host: Host) -> None:
    text = notice(
        host(
            {
                "sys/fs/cgroup/system.slice/mdsys.service/cpu.max": "300000 100000",
                "sys/fs/cgroup/system.slice/cpu.max": "5000 10000",
            }
        )
    )
    assert text.startswith("the cgroup /system.slice may use 0.5 cores' time")
    assert "the rest of 10 ms (so far an unknown number of times)" in text


def test_quota_that_cannot_bind_is_not_noticed(host: Host) -> None:
    group = "sys/fs/cgroup/system.slice/mdsys.service"
    assert core_notices(2, root=host({f"{group}/cpu.max": "400000 100000"})) == []


@pytest.mark.parametrize("text", ["max", "", "100000 0", "-1 100000", "x y"])
def test_what_is_no_quota_is_not_noticed(host: Host, text: str) -> None:
    group = "sys/fs/cgroup/system.slice/mdsys.service"
    assert core_notices(2, root=host({f"{group}/cpu.max": text})) == []


def test_quota_of_version_1_is_noticed(host: Host) -> None:
    group = "sys/fs/cgroup/cpu,cpuacct/box"
    files = {
        "proc/self/mountinfo": V1,
        "proc/self/cgroup": "4:memory:/\n3:cpu,cpuacct:/box\n1:name=systemd:/\n0::/",
        f"{group}/cpu.cfs_quota_us": "50000",
        f"{group}/cpu.cfs_period_us": "100000",
        f"{group}/cpu.stat": "nr_periods 3\nnr_throttled 2\nthrottled_time 7",
    }
    text = notice(host(files))
    assert text.startswith("the cgroup /box may use 0.5 cores' time")
    assert "(so far 2 times)" in text
    assert core_notices(2, root=host({**files, f"{group}/cpu.cfs_quota_us": "-1"})) == []


def test_quota_of_another_controllers_group_is_not_ours(host: Host) -> None:
    files = {
        "proc/self/mountinfo": V1,
        "proc/self/cgroup": "4:memory:/box\n3:cpu,cpuacct:/",
        "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "50000",
        "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/unified/box/cpu.max": "50000 100000",
    }
    assert core_notices(2, root=host(files)) == []


@pytest.mark.parametrize(
    ("path", "mounted"),
    [
        ("/docker/abc", "/docker/abc"),  # no namespace: the host's path, our group mounted
        ("/", "/"),  # a namespace of its own
        ("/a b", "/a\\040b"),
    ],
)
def test_quota_of_a_container_is_found_where_its_group_is_mounted(
    host: Host, path: str, mounted: str
) -> None:
    files = {
        "proc/self/mountinfo": f"9 8 0:1 {mounted} /sys/fs/cgroup ro - cgroup2 cgroup rw",
        "proc/self/cgroup": f"0::{path}",
        "sys/fs/cgroup/cpu.max": "200000 100000",
    }
    assert notice(host(files)).startswith(f"the cgroup {path} may use 2 cores' time")


@pytest.mark.parametrize("path", ["/../other", "/elsewhere"])
def test_group_that_is_not_mounted_here_is_left_alone(host: Host, path: str) -> None:
    files = {
        "proc/self/mountinfo": "9 8 0:1 /box /sys/fs/cgroup ro - cgroup2 cgroup rw",
        "proc/self/cgroup": f"0::{path}",
        "sys/fs/cgroup/cpu.max": "200000 100000",
        "sys/fs/other/cpu.max": "100000 100000",
    }
    assert core_notices(2, root=host(files)) == []
    files["proc/self/mountinfo"] = V2
    if path.startswith("/.."):
        files["sys/fs/cgroup/cpu.max"] = "max 100000"
        assert core_notices(2, root=host(files)) == []


# ---- the kernel's lists ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0", {0}), ("0-3,8", {0, 1, 2, 3, 8}), ("", set()), ("(null)", set()), ("0-", set())],
)
def test_kernel_list_is_read(tmp_path: Path, text: str, numbers: set[int]) -> None:
    path = tmp_path / "list"
    path.write_text(text + "\n")
    assert read_set(path) == numbers
    if numbers:
        assert set_text(numbers) == text


def test_list_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_set(tmp_path / "none") == read_set(tmp_path) == set()
