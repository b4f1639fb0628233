"""Apply and undo on hosts that are folders: what was comes back, whatever happens in between."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mdsys.errors import HostError, NoPermission
from mdsys.host import sysctl, table, tune_state, tuning
from mdsys.host.check import Status, examine
from mdsys.host.host import Host, StoredFile
from mdsys.host.settings import sysctl_path, target_of
from mdsys.host.table import AT_BOOT, CHECKS, SYSFS_FILE
from mdsys.host.tuning import Step, apply, changes, undo
from tests.host_trees import CPU, THP, FakeHost, fake, limits, row

BAD: Mapping[str, str | None] = {
    f"{CPU}/cpu2/topology/thread_siblings_list": "1-2",
    f"{CPU}/cpu3/cpufreq/scaling_governor": "schedutil",
    f"{CPU}/cpu3/cpuidle/state1/disable": "0",
    "/sys/devices/virtual/workqueue/cpumask": "f",
    "/proc/irq/default_smp_affinity": "f",
    "/proc/irq/24/smp_affinity_list": "0-3",
    f"{THP}/enabled": "[always] madvise never",
    f"{THP}/defrag": "always [defer] defer+madvise madvise never",
    "/proc/self/limits": limits(memlock=0, rtprio=0),
    "/proc/self/mounts": "tmpfs /dev/shm tmpfs rw,huge=never,size=1g 0 0",
    "/etc/systemd/logind.conf": "",
    "/etc/sysctl.d/60-mdsys.conf": "vm.swappiness = 100 \udcff".encode("utf-8", "replace").decode(),
    SYSFS_FILE: None,
    **{sysctl_path(each.name): "1 1 1" if " " in each.wanted else "7" for each in sysctl.table()},
}
"""What there is to mend: of every kind of thing that tune sets, something."""


def bad(root: Path, **attributes: Any) -> FakeHost:
    host = fake(root, **attributes)
    host.change(BAD)
    host.path(SYSFS_FILE).parent.rmdir()
    host.path("/etc/sysctl.d/60-mdsys.conf").chmod(0o640)
    host.card.update(rings=256, adaptive="on", usecs=50)
    return host


def every(steps: Iterator[Step]) -> list[Step]:
    return list(steps)


def state_of(host: FakeHost) -> tuple[Any, ...]:
    """Return all that tune could have changed."""
    modes = {
        str(path.relative_to(host.root)): stat.S_IMODE(path.stat().st_mode)
        for path in host.path("/etc").rglob("*")
    }
    return host.tree(), modes, dict(host.card)


def test_apply_leaves_nothing_to_change_and_undo_nothing_changed(tmp_path: Path) -> None:
    host = bad(tmp_path)
    before = state_of(host)
    kinds = {change.setting.target.kind for change in changes(host)}
    assert kinds == {"value", "file", "folder", "huge", "nic-rings", "nic-coalescing"}
    assert not [step for step in apply(host) if step.problem]
    assert changes(host) == []
    assert every(apply(host)) == []
    wrong = {
        each.check.id for each in examine(host, CHECKS) if each.finding.status is Status.WARNING
    }
    # The limits are those of this session: the files hold from the next login on.
    assert wrong <= {"python.build", "limits.memlock", "limits.rtprio"}
    assert not [step for step in undo(host) if step.problem]
    assert state_of(host) == before
    assert not host.exists(tune_state.FILE)
    assert every(undo(host)) == []
    assert state_of(host) == before


def test_what_is_right_is_not_touched(tmp_path: Path) -> None:
    host = fake(tmp_path)
    before = state_of(host)
    assert every(apply(host)) == []
    assert state_of(host) == before
    assert not host.exists(tune_state.FILE)


def test_value_that_is_as_good_is_kept_also_at_the_next_boot(tmp_path: Path) -> None:
    host = bad(tmp_path)
    host.change({"/proc/sys/net/core/rmem_max": "33554432", "/proc/sys/vm/swappiness": "0"})
    every(apply(host))
    assert host.read("/proc/sys/net/core/rmem_max") == "33554432"
    file = sysctl.values_in(host.read(sysctl.PLACE))
    assert file["net.core.rmem_max"] == "33554432"
    assert file["vm.swappiness"] == "0"


def test_second_apply_remembers_what_was_before_the_first(tmp_path: Path) -> None:
    host = bad(tmp_path)
    before = state_of(host)
    every(apply(host))
    host.change({f"{THP}/enabled": "always madvise [never]", "/proc/sys/vm/swappiness": "33"})
    every(apply(host))
    assert host.read("/proc/sys/vm/swappiness") == "1"
    every(undo(host))
    assert state_of(host) == before


def test_what_holds_for_this_boot_only_is_in_no_file(tmp_path: Path) -> None:
    host = bad(tmp_path)
    every(apply(host))
    assert host.read(f"{CPU}/cpu1/online") == "0"
    assert "/online" not in host.read(SYSFS_FILE)
    assert "cpuidle" in host.read(SYSFS_FILE)


# ---- any host ----------------------------------------------------------------------------------

NUMBERS = st.integers(-1, 1 << 40).map(str)
HOSTS = st.fixed_dictionaries(
    {},
    optional={
        **{
            sysctl_path(each.name): st.none()
            | (
                st.tuples(NUMBERS, NUMBERS, NUMBERS).map("\t".join)
                if " " in each.wanted
                else NUMBERS
            )
            for each in sysctl.table()
        },
        f"{THP}/enabled": st.sampled_from(
            ["[always] madvise never", "always [madvise] never", "always madvise [never]"]
        ),
        f"{CPU}/cpu2/topology/thread_siblings_list": st.sampled_from(["2", "1-2", "0-3"]),
        f"{CPU}/cpu2/cpufreq/scaling_governor": st.sampled_from(["powersave", "performance"]),
        f"{CPU}/cpu3/cpuidle/state1/disable": st.sampled_from("01"),
        f"{CPU}/online": st.sampled_from(["0-3", "2-3", "0,2-3"]),
        "/proc/irq/24/smp_affinity_list": st.sampled_from(["0-3", "2", "0"]),
        "/proc/self/limits": st.sampled_from([limits(), limits(memlock=1, rtprio=0)]),
        "/etc/sysctl.d/60-mdsys.conf": st.none() | st.text(st.characters(codec="utf-8")),
        SYSFS_FILE: st.none() | st.text(st.characters(codec="utf-8")),
        "/etc/systemd/logind.conf": st.none() | st.just("RemoveIPC=yes"),
    },
)


@given(files=HOSTS, rings=st.integers(1, 1024), adaptive=st.sampled_from(["on", "off"]))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_undo_brings_any_host_back_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory,
    files: Mapping[str, str | None],
    rings: int,
    adaptive: str,
) -> None:
    host = fake(tmp_path_factory.mktemp("host"))
    host.change(files)
    host.card.update(rings=rings, adaptive=adaptive)
    before = state_of(host)
    assert not [step for step in apply(host) if step.problem]
    assert changes(host) == []
    assert not [step for step in undo(host) if step.problem]
    assert state_of(host) == before


def test_host_without_an_etc_is_brought_back_too(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.change({"/proc/sys/vm/swappiness": "60", "/var/lib/x": ""})
    before = host.tree()
    assert "/etc" in {step.target.name for step in apply(host)}
    assert not [step for step in undo(host) if step.problem]
    assert host.tree() == before


# ---- killed ------------------------------------------------------------------------------------


class Killed(BaseException):
    """The end of the process, as far as it can be had within one."""


@contextlib.contextmanager
def killed_at(moment: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Kill at a call that changes something on the disk: before it or, at odd moments, after."""
    calls: list[str] = []

    def mortal(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            if 2 * len(calls) - 1 > moment:
                raise Killed
            result = real(*args, **kwargs)
            if 2 * len(calls) > moment:
                raise Killed
            return result

        return call

    with monkeypatch.context() as patch:
        for owner, name in (
            (os, "fsync"),
            (os, "fchmod"),
            (Path, "replace"),
            (Path, "unlink"),
            (Path, "mkdir"),
            (Path, "rmdir"),
            (FakeHost, "program"),
            (FakeHost, "set_value"),
        ):
            patch.setattr(owner, name, mortal(name, getattr(owner, name)))
        yield calls


FEW: Mapping[str, str] = {
    f"{THP}/enabled": "[always] madvise never",
    "/proc/sys/vm/swappiness": "60",
    "/etc/sysctl.d/60-mdsys.conf": "vm.swappiness = 60",
    "/proc/self/limits": limits(memlock=0),
    "/proc/self/mounts": "tmpfs /dev/shm tmpfs rw,huge=never 0 0",
    "/var/lib/x": "",
}
"""Something of each kind but the card, so that there are not too many moments."""


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a short table: moments are about the order of things, not about their number."""
    ids = ("memory.thp", "memory.pages", "limits.memlock", "sysctl.vm.swappiness")
    monkeypatch.setattr(table, "NOW", tuple(row(each) for each in ids))
    monkeypatch.setattr(tuning, "CHECKS", (*table.NOW, *AT_BOOT))


def few(root: Path) -> FakeHost:
    host = FakeHost(root)
    host.change(FEW)
    return host


def test_apply_killed_at_any_moment_can_be_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_rows: None
) -> None:
    moment = finished = 0
    while not finished:
        host = few(tmp_path / str(moment))
        before = state_of(host)
        with killed_at(moment, monkeypatch):
            try:
                every(apply(host))
                finished = 1
            except Killed:
                pass
        assert not [step for step in undo(host) if step.problem]
        assert state_of(host) == before, f"killed at moment {moment}"
        moment += 1
    assert moment > 50


def test_undo_killed_at_any_moment_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_rows: None
) -> None:
    moment = finished = 0
    while not finished:
        host = few(tmp_path / str(moment))
        before = state_of(host)
        every(apply(host))
        with killed_at(moment, monkeypatch):
            try:
                every(undo(host))
                finished = 1
            except Killed:
                pass
        assert not [step for step in undo(host) if step.problem]
        assert state_of(host) == before, f"killed at moment {moment}"
        assert not host.exists(tune_state.FILE)
        moment += 1
    assert moment > 20


def test_file_is_on_the_disk_before_it_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_at(1_000, monkeypatch) as calls:
        FakeHost(tmp_path).store("/file", StoredFile("new", 0o644, os.geteuid(), os.getegid()))
    assert calls[-3:] == ["fsync", "replace", "fsync"]  # the folder's names, at last


def test_all_is_remembered_before_anything_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = bad(tmp_path)
    seen: list[int] = []
    real = FakeHost.set_value

    def set_value(self: FakeHost, name: str, text: str) -> None:
        seen.append(len(tune_state.load(self)))
        real(self, name, text)

    monkeypatch.setattr(FakeHost, "set_value", set_value)
    count = len(changes(host))
    every(apply(host))
    assert set(seen) == {count}


# ---- refused -----------------------------------------------------------------------------------


def test_what_the_kernel_refuses_is_told_and_the_rest_is_done(tmp_path: Path) -> None:
    refused = frozenset({"/proc/sys/vm/swappiness", "/proc/irq/24/smp_affinity_list"})
    host = bad(tmp_path, refusing=refused)
    before = state_of(host)
    problems = {step.target.name: step for step in apply(host) if step.problem}
    assert set(problems) == refused
    assert problems["/proc/sys/vm/swappiness"].is_failure
    assert not problems["/proc/irq/24/smp_affinity_list"].is_failure, "it may stay where it is"
    assert {change.setting.target.name for change in changes(host)} == refused
    assert not [step for step in undo(host) if step.problem]
    assert state_of(host) == before


def test_kernel_that_takes_a_value_and_keeps_another_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = bad(tmp_path)
    monkeypatch.setattr(FakeHost, "set_value", lambda *_: None)
    steps = {step.target.name: step for step in apply(host)}
    assert steps["/proc/sys/vm/swappiness"].problem == "it is 7 all the same"


def test_what_could_not_be_taken_back_is_still_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = bad(tmp_path)
    before = state_of(host)
    every(apply(host))
    with monkeypatch.context() as patch:

        def refuse(self: FakeHost, name: str, text: str) -> None:
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr(FakeHost, "set_value", refuse)
        assert [step for step in undo(host) if step.is_failure]
    left = tune_state.load(host)
    assert left
    assert {entry.target.kind for entry in left} == {"value"}
    assert not [step for step in undo(host) if step.problem]
    assert state_of(host) == before


def test_what_came_back_as_another_value_is_told_and_still_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = bad(tmp_path)
    before = state_of(host)
    every(apply(host))
    with monkeypatch.context() as patch:
        patch.setattr(FakeHost, "set_value", lambda *_: None)
        steps = {step.target.name: step for step in undo(host)}
    assert steps["/proc/sys/vm/swappiness"].problem == "it is 1 all the same"
    assert not [step for step in undo(host) if step.problem]
    assert state_of(host) == before


def test_folder_that_others_use_by_now_is_left(tmp_path: Path) -> None:
    host = bad(tmp_path)
    every(apply(host))
    host.path("/etc/tmpfiles.d/another.conf").write_text("mine")
    assert not [step for step in undo(host) if step.problem]
    assert host.names("/etc/tmpfiles.d") == ["another.conf"]


def test_link_in_the_place_of_a_file_is_not_written_through(tmp_path: Path) -> None:
    host = bad(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("mine\n")
    host.path(sysctl.PLACE).unlink()
    host.path(sysctl.PLACE).symlink_to(secret)
    every(apply(host))
    assert secret.read_text() == "mine\n"
    assert "no regular file" in host.result("boot.sysctl").finding.found


# ---- another boot ------------------------------------------------------------------------------


def boot(host: FakeHost, values: Mapping[str, str]) -> None:
    host.change({"/proc/sys/kernel/random/boot_id": "boot-2", **values})


def test_undo_after_a_reboot_takes_back_what_came_back_by_the_files(tmp_path: Path) -> None:
    host = bad(tmp_path)
    every(apply(host))
    boot(host, {f"{THP}/enabled": "always madvise [never]"})
    assert not [step for step in undo(host) if step.problem]
    assert host.read("/proc/sys/vm/swappiness") == "7", "the file had set it again"
    assert host.read(f"{THP}/enabled") == "always madvise [never]", "that is this boot's own"
    assert host.read(sysctl.PLACE).startswith("vm.swappiness = 100")


def test_apply_after_a_reboot_remembers_what_that_boot_had(tmp_path: Path) -> None:
    host = bad(tmp_path)
    every(apply(host))
    boot(host, {f"{THP}/enabled": "[always] madvise never", "/proc/sys/vm/swappiness": "42"})
    host.path(sysctl.PLACE).write_text("vm.swappiness = 5\n")
    every(apply(host))
    assert not [step for step in undo(host) if step.problem]
    assert host.read("/proc/sys/vm/swappiness") == "42"
    assert host.read("/proc/sys/vm/stat_interval") == "7", (
        "it was right, so the first is remembered"
    )
    assert host.read(sysctl.PLACE).startswith("vm.swappiness = 100"), "files outlive boots"


# ---- whatever things are called ----------------------------------------------------------------

CARD_BYTES = st.binary(min_size=1, max_size=15).filter(
    lambda name: not set(name) & set(b"/:\0\t\n\v\f\r ") and name not in (b".", b"..")
)
"""What the kernel lets a network card be called (dev_valid_name)."""


@given(card=CARD_BYTES)
@example(card=b"-G")
@example(card=b"a;reboot")
@example(card=b"wan\xff")
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_card_of_any_name_is_remembered_and_brought_back_or_left_alone(
    tmp_path_factory: pytest.TempPathFactory, card: bytes
) -> None:
    host = few(tmp_path_factory.mktemp("host"))
    folder = os.path.join(os.fsencode(host.path("/sys/class/net")), card)  # noqa: PTH118 - bytes
    os.makedirs(os.path.join(folder, b"device"))  # noqa: PTH103, PTH118
    host.card.update(rings=256, adaptive="on")
    before = dict(host.card)
    every(apply(host))
    entries = tune_state.load(host)
    name = os.fsdecode(card)
    assert (host.card != before) == (f"nic-rings:{name}" in {each.key for each in entries})
    if name.isascii() and name.isprintable() and not name.startswith("-"):
        assert host.card != before
    for each in entries:
        if each.target.kind.startswith("nic"):
            command = each.target.shell(each.set)
            words = shlex.split(command)
            assert words[2] == name
            assert command == shlex.join(words), "a name means nothing to the plan's shell"
            assert not name.startswith("-"), "nor to ethtool"
    assert not [step for step in undo(host) if step.problem]
    assert host.card == before


KEYS = st.one_of(
    st.text(max_size=20),
    st.tuples(
        st.sampled_from(["value", "file", "folder", "huge", "nic-rings", "nic-coalescing"]),
        st.sampled_from(["", "/", "/sys/", "/proc/irq/", "/etc", "/etc/", "/mnt/", "eth"]),
        st.text(st.characters(codec=None), max_size=8) | st.sampled_from(["../x", "a/b", "0", ""]),
    ).map(lambda parts: f"{parts[0]}:{parts[1]}{parts[2]}"),
)
VALUES = st.text(max_size=8) | st.builds("{:o} {} {}\n{}".format, *[st.integers(0, 99)] * 3, KEYS)
ENTRIES = st.lists(
    st.builds(tune_state.Entry, KEYS, st.none() | VALUES, VALUES, st.text(max_size=4)), max_size=4
)


@given(entries=ENTRIES)
@example(entries=[tune_state.Entry("nic-rings:a:b", "rx 1", "rx 2", "")])
@example(entries=[tune_state.Entry("folder:/etc", None, "there", "")])
@example(entries=[tune_state.Entry("value:/sys/x", "1", "\udcff", "")] * 2)
@settings(max_examples=100, deadline=None)
def test_whatever_is_remembered_can_be_recalled(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tune_state.Entry]
) -> None:
    host = FakeHost(tmp_path_factory.getbasetemp() / "recalled")
    old = [tune_state.Entry("value:/sys/old", "1", "2", "boot")]
    with tune_state.held(host):
        tune_state.save(host, old)
        expected = entries
        try:
            tune_state.save(host, entries)
        except HostError:
            expected = old
        assert tune_state.load(host) == expected


# ---- the memory of it --------------------------------------------------------------------------


def damage(host: FakeHost, change: Callable[[dict[str, Any]], object]) -> None:
    path = host.path(tune_state.FILE)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.pop("version"),
        lambda document: document.update(version=2),
        lambda document: document.update(entries=7),
        lambda document: document["entries"][0].pop("was"),
        lambda document: document["entries"][0].update(more=1),
        lambda document: document["entries"][0].update(was=7),
        lambda document: document["entries"][0].update(key="value:/home/x"),
        lambda document: document["entries"][0].update(key="value:/sys/../home/x"),
        lambda document: document["entries"][0].update(key="file:/root/.ssh/authorized_keys"),
        lambda document: document["entries"][0].update(key="nic-rings:eth0 rx 5; x"),
        lambda document: document["entries"].append(document["entries"][0]),
        lambda document: [
            entry.update(was="no head") for entry in document["entries"] if "file:" in entry["key"]
        ],
    ],
)
def test_damaged_memory_is_refused_before_anything_is_changed(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    host = bad(tmp_path)
    every(apply(host))
    damage(host, change)
    before = state_of(host)
    for work in (undo, apply):
        with pytest.raises(HostError, match=r"is damaged .*: nothing has been changed"):
            every(work(host))
    assert state_of(host) == before
    assert host.exists(tune_state.FILE)


@pytest.mark.parametrize("length", [0, 1, 100])
def test_torn_memory_is_refused(tmp_path: Path, length: int) -> None:
    host = bad(tmp_path)
    every(apply(host))
    path = host.path(tune_state.FILE)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(HostError, match="is damaged"):
        every(undo(host))


def refused(host: FakeHost, expected: type[Exception], match: str) -> None:
    """Apply and undo refuse, and have changed nothing."""
    before = state_of(host)
    for work in (apply, undo):
        with pytest.raises(expected, match=match):
            every(work(host))
    assert state_of(host) == before


@pytest.mark.parametrize("mode", [0o1777, 0o775, 0o757])
@pytest.mark.parametrize("place", [tune_state.FILE, tune_state.FOLDER])
def test_memory_that_others_could_have_written_is_not_believed(
    tmp_path: Path, place: str, mode: int
) -> None:
    host = bad(tmp_path)
    every(apply(host))
    host.change({"/proc/sys/vm/swappiness": "42"})  # something for apply to do
    host.path(place).chmod(mode)
    refused(host, HostError, f"{re.escape(place)} is not believed: .* nothing has been changed")


@pytest.mark.parametrize("mode", [0o1777, 0o775, 0o757])
def test_nothing_is_changed_where_it_could_not_be_remembered_soundly(
    tmp_path: Path, mode: int
) -> None:
    host = bad(tmp_path)
    folder = host.path(tune_state.FOLDER)
    folder.mkdir()
    folder.chmod(mode)
    refused(host, HostError, "/var/lib/mdsys is not believed")
    folder.chmod(0o755)
    assert not [step for step in apply(host) if step.problem]
    assert not [step for step in undo(host) if step.problem]


@pytest.mark.parametrize("remembered", [False, True])
def test_folder_of_another_user_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered: bool
) -> None:
    host = bad(tmp_path)
    if remembered:
        every(apply(host))
    host.path(tune_state.FOLDER).mkdir(exist_ok=True)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    refused(host, HostError, "/var/lib/mdsys is not believed")


def test_file_of_another_user_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = bad(tmp_path)
    every(apply(host))
    user = os.geteuid()
    with tune_state.held(host):
        monkeypatch.setattr(os, "geteuid", lambda: user + 1)
        with pytest.raises(HostError, match=r"tune\.json is not believed"):
            tune_state.load(host)


def test_memory_that_is_a_link_is_not_believed(tmp_path: Path) -> None:
    host = bad(tmp_path)
    every(apply(host))
    path = host.path(tune_state.FILE)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    refused(host, HostError, "is not believed")


def test_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    host = bad(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    host.path(tune_state.FOLDER).symlink_to(tmp_path / "elsewhere")
    refused(host, OSError, "Not a directory")


def test_memory_is_for_its_owner_alone(tmp_path: Path) -> None:
    host = bad(tmp_path)
    every(apply(host))
    assert stat.S_IMODE(host.path(tune_state.FILE).stat().st_mode) == 0o600


def test_second_tune_at_the_same_time_is_refused(tmp_path: Path) -> None:
    host = bad(tmp_path)
    with tune_state.held(host):
        for work in (apply, undo):
            with pytest.raises(HostError, match="another mdsys tune is at work"):
                every(work(host))
    fd = os.open(host.path(tune_state.FOLDER), os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given back
    os.close(fd)


def test_this_host_is_changed_by_root_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for work in (apply, undo):
        with pytest.raises(NoPermission, match="only root"):
            every(work(Host()))


def test_programs_of_this_host_are_not_run_for_another(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert host.program("true") is None
    assert host.space("/dev/shm") is None
    assert host.clock_error_us() is None


@pytest.mark.parametrize(
    "key", ["", "value:", "value:/etc/x", "file:/etc/../x", "folder:/x", "a:/sys/x"]
)
def test_key_of_nothing_that_tune_changes_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="nothing that tune changes"):
        target_of(key)


def test_tmpfs_that_lies_anywhere_is_taken_back_with_all_else(tmp_path: Path) -> None:
    host = bad(tmp_path)
    host = replace(host, needs=replace(host.needs, memory_dir=Path("/mnt/mdsys")))
    host.change({"/proc/self/mounts": "tmpfs /mnt/mdsys tmpfs rw,huge=never 0 0"})
    before = state_of(host)
    assert "huge:/mnt/mdsys" in {step.target.key for step in apply(host)}
    assert not [step for step in undo(host) if step.problem]
    assert state_of(host) == before


def test_every_change_is_found_again_by_its_key(tmp_path: Path) -> None:
    for change in changes(bad(tmp_path)):
        assert target_of(change.setting.target.key) == change.setting.target
    assert tuning.changes is changes
