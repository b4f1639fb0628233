"""``mdsys doctor`` and ``mdsys tune`` as a person meets them, on hosts that are folders."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mdsys.cli import main
from mdsys.errors import ExitCode
from mdsys.host import doctor_command, tune_command
from mdsys.host.check import Result, Status, examine, failure, ok, warning
from mdsys.host.checks_cores import kernel_arguments
from mdsys.host.table import CHECKS
from mdsys.host.tuning import apply, changes
from tests.host_trees import CPU, THP, FakeHost, fake, row, status

IDS = [check.id for check in CHECKS]
CONFIG = '[[venue]]\nname = "binance"\nsymbols = ["BTCUSDT"]\n'


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    """Give a host with a few things wrong, of those that files alone show."""
    host = fake(tmp_path / "host")
    host.change(
        {
            "/proc/sys/vm/swappiness": "60",
            "/sys/kernel/mm/ksm/run": "1",
            "/etc/systemd/logind.conf": "RemoveIPC=yes",
        }
    )
    return host


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main([str(each) for each in arguments])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


# ---- doctor ------------------------------------------------------------------------------------


def test_doctor_tells_programs_each_check_with_its_five_words(
    host: FakeHost, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = run(capsys, "doctor", "--root", host.root, "--json")
    assert code == ExitCode.WARNINGS
    document = json.loads(text)
    assert list(document) == ["checks"]
    assert [each["id"] for each in document["checks"]] == [check.id for check in CHECKS]
    for each in document["checks"]:
        assert list(each) == ["id", "status", "found", "why", "fix"]
        assert each["status"] in ("ok", "skipped", "warning", "failure")
        assert each["found"]
        assert each["why"]
        assert (each["fix"] is None) == (each["status"] in ("ok", "skipped")), each
    (swappiness,) = (each for each in document["checks"] if each["id"] == "sysctl.vm.swappiness")
    assert swappiness["found"] == "60, not 1, or less"
    assert swappiness["fix"] == "sysctl -w vm.swappiness=1"


def test_doctor_tells_people_what_why_and_the_command(
    host: FakeHost, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = run(capsys, "doctor", "--root", host.root)
    assert code == ExitCode.WARNINGS
    assert re.search(
        r"^warning  memory\.ksm +runs\n"
        r"         It reads all memory .*\n.*\n"
        r"           echo 0 > /sys/kernel/mm/ksm/run$",
        text,
        re.MULTILINE,
    )
    counts = rf"^{len(CHECKS)} checks: \d+ ok, \d+ warnings, 0 failures, \d+ skipped$"
    assert re.search(counts, text, re.MULTILINE)
    assert "mdsys tune plan shows" in text


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([Status.OK, Status.SKIPPED], 0),
        ([Status.OK, Status.WARNING], 2),
        ([Status.FAILURE, Status.WARNING], 1),
        ([], 0),
    ],
)
def test_doctor_ends_with_the_worst_it_found(statuses: list[Status], code: int) -> None:
    made = {
        Status.OK: ok(""),
        Status.SKIPPED: examine(fake_none(), (row("network.node"),))[0].finding,
        Status.WARNING: warning(""),
        Status.FAILURE: failure("", "x"),
    }
    results = [Result(CHECKS[0], made[status], "") for status in statuses]
    assert doctor_command.exit_code(results) == code


def fake_none() -> FakeHost:
    return FakeHost(Path("/nonexistent"))


def test_doctor_takes_cores_from_the_configuration(
    host: FakeHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    core = min(os.sched_getaffinity(0))
    config = tmp_path / "mdsys.toml"
    config.write_text(f"{CONFIG}[feeds]\nnum_processes = 1\ncores = [{core}]\n")
    _, text = run(capsys, "doctor", "--root", host.root, "--config", config, "--json")
    found = {each["id"]: each["found"] for each in json.loads(text)["checks"]}
    assert found["cores.isolated"] == f"core {core} is not isolated"


def test_memory_that_is_not_mounted_yet_is_diagnosed_and_tune_goes_on(
    host: FakeHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "mdsys.toml"
    config.write_text(f'{CONFIG}[memory]\ndir = "{tmp_path}/huge"\n')
    where = ("--root", host.root, "--config", config)
    code, text = run(capsys, "doctor", *where, "--json")
    assert code == ExitCode.FAILURE
    (pages,) = (each for each in json.loads(text)["checks"] if each["id"] == "memory.pages")
    assert pages["status"] == "failure"
    assert pages["found"] == f"{tmp_path}/huge of [memory] dir is not there"
    assert f"none {tmp_path}/huge\n" in pages["fix"]
    code, text = run(capsys, "tune", "check", *where)
    assert code == ExitCode.FAILURE
    assert "changes: mdsys tune plan shows them" in text
    code, text = run(capsys, "tune", "plan", *where)
    assert code == ExitCode.OK
    assert "sysctl -w vm.swappiness=1" in text
    code, text = run(capsys, "tune", "apply", *where)
    assert code == ExitCode.OK


def test_columns_stand_below_each_other_whatever_the_id(
    host: FakeHost, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (("doctor",), ("tune", "check")):
        _, text = run(capsys, *command, "--root", host.root)
        rows = re.findall(r"^(?:ok|skipped|warning|change|failure) +\S+\.\S+ +", text, re.MULTILINE)
        assert len(rows) > 1
        assert {len(row) for row in rows} == {len("warning  ") + max(map(len, IDS)) + 2}


def test_check_does_not_say_that_what_is_to_change_is_well(
    host: FakeHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.change({"/etc/security/limits.d/60-mdsys.conf": None})
    host.change({"/proc/self/status": status(capabilities=1 << 14 | 1 << 23)})  # root's
    _, text = run(capsys, "tune", "check", "--root", host.root)
    told = dict(
        re.findall(r"^change +limits\.(memlock|rtprio) +(.*)$", text, re.MULTILINE),
    )
    others = "; the group mdsys may not before /etc/security/limits.d/60-mdsys.conf says so"
    assert told == {
        "memlock": f"this user may lock anything (CAP_IPC_LOCK){others}",
        "rtprio": f"this user may have any (CAP_SYS_NICE){others}",
    }


def test_wrong_configuration_is_told_as_everywhere(
    host: FakeHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "mdsys.toml"
    config.write_text("instances = 3")
    for command in (("doctor",), ("tune", "plan")):
        code, text = run(capsys, *command, "--root", host.root, "--config", config)
        assert code == ExitCode.CONFIG
        assert "unknown key" in text


@pytest.mark.parametrize("who", ["this user", "nobody"])
def test_doctor_looks_at_this_host_without_a_traceback(who: str, repository: Path) -> None:
    if who == "nobody" and os.geteuid() != 0:
        pytest.skip("only root may become nobody")
    shed = "os.setgroups([]); os.setgid(65534); os.setuid(65534); " if who == "nobody" else ""
    # Imported first, by doing it once: nobody need not be able to read this tree or interpreter.
    program = (
        "import contextlib, io, os, sys; from mdsys.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()): main(['doctor', '--json'])\n"
        f"{shed}sys.exit(main(['doctor', '--json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=repository,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.stderr == ""
    assert done.returncode in (0, 1, 2)
    assert len(json.loads(done.stdout)["checks"]) == len(CHECKS)


# ---- tune --------------------------------------------------------------------------------------


def test_tune_goes_from_check_to_apply_to_undo(
    host: FakeHost, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--root", host.root)
    before = host.tree()
    code, text = run(capsys, "tune", "check", *where)
    assert code == ExitCode.FAILURE
    assert re.search(r"^change   sysctl\.vm\.swappiness +60, not 1, or less$", text, re.MULTILINE)
    assert text.endswith("5 changes: mdsys tune plan shows them\n")
    assert host.tree() == before
    code, text = run(capsys, "tune", "apply", *where)
    assert code == ExitCode.OK
    assert re.search(r"^\[\d/\d\] /proc/sys/vm/swappiness: 60 -> 1$", text, re.MULTILINE)
    assert f"({host.root}/var/lib/mdsys/tune.json)" in text
    code, text = run(capsys, "tune", "check", *where)
    assert code == ExitCode.OK
    assert text.endswith("nothing to change\n")
    assert run(capsys, "tune", "apply", *where) == (0, "nothing to change\n")
    code, text = run(capsys, "tune", "undo", *where)
    assert code == ExitCode.OK
    assert re.search(r"^\[\d/\d\] /proc/sys/vm/swappiness: 1 -> 60$", text, re.MULTILINE)
    # Written without a line's end by a person's editor or with one by the kernel: to the byte.
    assert host.tree() == before
    assert run(capsys, "tune", "undo", *where) == (0, "nothing to undo\n")


def test_damaged_memory_is_one_line_and_a_failure(
    host: FakeHost, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "tune", "apply", "--root", host.root)
    host.path("/var/lib/mdsys/tune.json").write_text("{")
    code, text = run(capsys, "tune", "undo", "--root", host.root)
    assert code == ExitCode.FAILURE
    assert text.startswith(f"mdsys: {host.root}/var/lib/mdsys/tune.json is damaged (")
    assert text.count("\n") == 1


def test_what_could_not_be_set_is_told_with_the_code_of_failure(
    host: FakeHost, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing = FakeHost(host.root, host.needs, refusing=frozenset({"/proc/sys/vm/swappiness"}))
    code = tune_command.report(apply(refusing), "apply", refusing, sys.stdout)
    text = capsys.readouterr().out
    assert code == ExitCode.FAILURE
    assert "/proc/sys/vm/swappiness: 60 -> 1: NOT done: Input/output error" in text
    assert ", 1 failed; mdsys tune undo takes them back" in text


def test_plan_is_shell_that_does_what_apply_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two hosts alike: one applied, on the other the plan is run, its paths led below its root."""
    applied, planned = fake(tmp_path / "applied"), fake(tmp_path / "planned")
    for host in (applied, planned):
        host.change(
            {
                "/proc/sys/vm/swappiness": "60",
                "/proc/sys/net/ipv4/tcp_rmem": "4096 1 1",
                "/sys/kernel/mm/ksm/run": "1",
                f"{CPU}/cpu2/cpufreq/scaling_governor": "powersave",
                "/proc/irq/24/smp_affinity_list": "0-3",
                "/etc/systemd/logind.conf": "RemoveIPC=yes",
                "/etc/tmpfiles.d/60-mdsys-host.conf": None,
            }
        )
    tune_command.print_plan(planned, changes(planned), sys.stdout)
    script = capsys.readouterr().out
    list(apply(applied))
    led = re.sub(r"(?<![\w.])/(proc|sys|etc)/", rf"{planned.root}/\1/", script)
    function = (
        'sysctl() { echo "${2#*=}" > '
        f'{planned.root}/proc/sys/$(echo "${{2%%=*}}" | tr . /); }}\n'
    )
    # What is written into files is not led elsewhere: their text names the host's own paths.
    done = subprocess.run(["sh", "-c", function + led], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    led_back = {
        name: None if data is None else data.replace(str(planned.root).encode(), b"")
        for name, data in planned.tree().items()
    }
    assert led_back == applied.tree()


def test_plan_of_everything_is_sound_shell_and_says_how_to_go_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = fake(tmp_path)
    host.change({f"{THP}/enabled": "[always] madvise never", "/proc/cmdline": "quiet"})
    host.change({f"{CPU}/isolated": "", f"{CPU}/nohz_full": "", "/proc/swaps": "x\n/dev/sda1 y"})
    tune_command.print_plan(host, changes(host), sys.stdout)
    script = capsys.readouterr().out
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0
    assert f"echo madvise > {THP}/enabled\n# undo: echo always > {THP}/enabled\n" in script
    assert (
        "# cat > /etc/default/grub.d/60-mdsys.cfg <<'END'\n"
        '# GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX isolcpus=managed_irq,domain,2-3 nohz_full=2-3 '
        'rcu_nocbs=2-3 irqaffinity=0-1"\n# END\n# update-grub && reboot\n'
    ) in script
    assert not re.search(r"^(update-grub|swapoff|reboot)", script, re.MULTILINE)


def test_plan_names_no_nohz_full_where_the_kernel_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = fake(tmp_path)
    host.change({f"{CPU}/isolated": "", f"{CPU}/nohz_full": None})
    tune_command.print_plan(host, changes(host), sys.stdout)
    script = capsys.readouterr().out
    assert "isolcpus=managed_irq,domain,2-3 rcu_nocbs=2-3 irqaffinity=0-1" in script
    assert "nohz_full" not in script
    assert "nohz_full" not in host.result("cores.isolated").fix


def test_plan_of_a_good_host_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = fake(tmp_path)
    tune_command.print_plan(host, changes(host), sys.stdout)
    script = capsys.readouterr().out
    assert [line for line in script.splitlines() if line and line[0] != "#"] == ["set -eu"]
    assert "# nothing to change\n" in script
    assert "# This one has booted with what the cores need.\n" in script


@pytest.mark.parametrize(
    ("cores", "why"),
    [
        ({}, "no cores are named: give --config FILE with [feeds] cores"),
        (
            {core: f"feed {core}" for core in range(4)},
            "no core is left for everything else: name fewer in [feeds] cores and [consumer.cores]",
        ),
    ],
)
def test_plan_says_why_it_has_no_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cores: dict[int, str], why: str
) -> None:
    host = fake(tmp_path)
    host = replace(host, needs=replace(host.needs, cores=cores))
    tune_command.print_plan(host, [], sys.stdout)
    script = capsys.readouterr().out
    assert re.sub(r"\n# ", " ", script).endswith(f" It follows from the cores, and {why}.\n")
    assert "GRUB" not in script


def test_tune_knows_four_actions(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tune", "now"])
    assert ended.value.code == ExitCode.USAGE
    assert "'check', 'plan', 'apply', 'undo'" in capsys.readouterr().err


def test_settings_that_are_right_show_in_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = fake(tmp_path)
    assert tune_command.check(host, sys.stdout) == ExitCode.OK
    shown = {line.split()[1] for line in capsys.readouterr().out.splitlines()[:-2]}
    with_settings = {each.check.id for each in examine(host, CHECKS) if each.finding.settings}
    assert shown == with_settings


# ---- what is installed -------------------------------------------------------------------------


def test_mount_of_huge_pages_is_a_sound_unit(repository: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = repository / "deploy/systemd/mnt-mdsys.mount"
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_tuned_profile_boots_with_what_doctor_asks_for(repository: Path, tmp_path: Path) -> None:
    text = (repository / "deploy/tuned/mdsys/tuned.conf").read_text()
    (line,) = re.findall(r"^cmdline_mdsys=(.*)$", text, re.MULTILINE)
    led = line.replace("${not_isolated_cores_expanded}", "0-1").replace("${isolated_cores}", "2-3")
    assert led == kernel_arguments(fake(tmp_path))
