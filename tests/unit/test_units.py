"""The units, as systemd itself reads them, and the promises that no tool checks."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mdsys.errors import ExitCode
from tests.sandbox import Unit

SYSTEMD = Path(__file__).parents[2] / "systemd"
DEPLOY = SYSTEMD.parent / "deploy"
SERVICES = ["mdsys@.service", "mdsys-strategy@.service"]
EXAMPLES = sorted((SYSTEMD / "examples").glob("*.conf"))
EXPOSURE_MAX = 2.0

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here"
)


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@needs_analyze
@pytest.mark.parametrize("name", [*SERVICES, "mdsys.slice"])
def test_systemd_has_nothing_to_say_of_a_unit(name: str) -> None:
    verified = analyze("verify", SYSTEMD / name)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


@needs_analyze
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_systemd_has_nothing_to_say_of_an_example_that_is_dropped_in(
    example: Path, tmp_path: Path
) -> None:
    for unit in SYSTEMD.iterdir():
        if unit.is_file():
            shutil.copy(unit, tmp_path)
    name = "mdsys.slice" if example.name.startswith("slice-") else "mdsys@default.service"
    (tmp_path / f"{name}.d").mkdir()
    shutil.copy(example, tmp_path / f"{name}.d")
    template = tmp_path / "mdsys@.service"
    if not name.endswith(".slice"):
        template.rename(tmp_path / name)
    verified = analyze("verify", tmp_path / name)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


@needs_analyze
@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_hardly_exposed(name: str) -> None:
    judged = analyze("security", "--offline=true", "--no-pager", SYSTEMD / name)
    found = re.search(r"exposure level for \S+: ([0-9.]+)", judged.stdout)
    assert found is not None, judged.stdout + judged.stderr
    assert float(found[1]) <= EXPOSURE_MAX


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_restart_cannot_mend_is_not_restarted(name: str) -> None:
    unit = Unit.read(SYSTEMD / name)
    final = {ExitCode.USAGE, ExitCode.NO_PERMISSION, ExitCode.CONFIG}
    assert {int(code) for code in unit.one("RestartPreventExitStatus").split()} == final
    assert unit.one("Restart") == "on-failure"
    assert unit.one("StartLimitIntervalSec") == "0"


def test_a_stop_leaves_what_other_instances_and_the_next_start_need() -> None:
    unit = Unit.read(SYSTEMD / "mdsys@.service")
    assert unit.one("RuntimeDirectory") == "mdsys"
    assert unit.one("RuntimeDirectoryPreserve") == "yes"
    assert unit.one("RemoveIPC") == "no"
    assert not unit.all("StateDirectory")  # root believes what stands in /var/lib/mdsys
    assert not unit.all("DynamicUser")


def test_the_supervisor_sees_who_reads() -> None:
    unit = Unit.read(SYSTEMD / "mdsys@.service")
    assert unit.all("ProtectProc") + unit.all("PrivateUsers") == []
    assert unit.all("PrivateNetwork") + unit.all("PrivatePIDs") == []


def test_one_dead_feed_does_not_take_the_unit_along() -> None:
    unit = Unit.read(SYSTEMD / "mdsys@.service")
    assert unit.one("OOMPolicy") == "continue"
    assert unit.one("KillMode") == "mixed"
    assert unit.one("NotifyAccess") == "main"


def test_a_strategy_may_read_and_is_another_user() -> None:
    unit = Unit.read(SYSTEMD / "mdsys-strategy@.service")
    assert unit.one("DynamicUser") == "yes"
    assert unit.one("SupplementaryGroups") == "mdsys"
    assert not unit.all("MemoryDenyWriteExecute")  # Numba compiles
    assert not unit.all("BindsTo") + unit.all("Requires")  # it outlives a restart of the daemon


def test_the_user_of_the_service_is_made_by_sysusers(tmp_path: Path) -> None:
    if shutil.which("systemd-sysusers") is None:
        pytest.skip("there is no systemd-sysusers here")
    (tmp_path / "etc").mkdir()
    for _ in range(2):  # the second time it is there already
        made = subprocess.run(
            ["systemd-sysusers", f"--root={tmp_path}", DEPLOY / "sysusers.d/mdsys.conf"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
    unit = Unit.read(SYSTEMD / "mdsys@.service")
    user = re.search(
        rf"^{unit.one('User')}:x:(\d+):(\d+):", (tmp_path / "etc/passwd").read_text(), re.MULTILINE
    )
    group = re.search(
        rf"^{unit.one('Group')}:x:(\d+):", (tmp_path / "etc/group").read_text(), re.MULTILINE
    )
    assert user is not None
    assert group is not None
    assert user[2] == group[1]


def test_tmpfiles_makes_the_folders_with_their_owners() -> None:
    lines = (DEPLOY / "tmpfiles.d/mdsys.conf").read_text().splitlines()
    assert [line.split() for line in lines if line and not line.startswith("#")] == [
        ["d", "/run/mdsys", "0755", "mdsys", "mdsys", "-"],
        ["d", "/etc/mdsys/credentials", "0700", "mdsys", "mdsys", "-"],
        ["d", "/var/lib/mdsys", "0755", "root", "root", "-"],
    ]


def test_systemd_takes_the_folders(tmp_path: Path) -> None:
    if shutil.which("systemd-tmpfiles") is None:
        pytest.skip("there is no systemd-tmpfiles here")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nmdsys:x:990:990::/:/bin/false\n"
    )
    (tmp_path / "etc/group").write_text("root:x:0:\nmdsys:x:990:\n")
    made = subprocess.run(
        [
            "systemd-tmpfiles",
            *("--create", f"--root={tmp_path}", DEPLOY / "tmpfiles.d/mdsys.conf"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (made.returncode, made.stderr) == (0, "")
    status = (tmp_path / "etc/mdsys/credentials").stat()
    assert (status.st_uid, status.st_mode & 0o777) == (990, 0o700)
