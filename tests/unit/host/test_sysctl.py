"""The table of the kernel's settings: one file for people, for sysctl and for doctor."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mdsys.host import sysctl
from mdsys.host.settings import chosen, satisfies, sysctl_name, sysctl_path
from tests.host_trees import fake

ENTRY = "# why: Because\n# why: of it.\n# default: 1\n# undo: sysctl -w a.b=1\n"


def test_file_of_the_tree_is_the_one_that_is_read(repository: Path) -> None:
    assert sysctl.FILE.read_bytes() == (repository / "deploy/sysctl/60-mdsys.conf").read_bytes()


def test_every_setting_says_why_its_default_and_how_to_go_back() -> None:
    table = sysctl.table()
    assert len(table) > 15
    assert len({each.name for each in table}) == len(table)
    for each in table:
        assert each.why.endswith("."), each.name
        assert each.default, each.name
        goes_back = re.fullmatch(r'sysctl -w ([a-z0-9_.]+)=("[-\d ]+"|-?\d+)', each.undo)
        assert goes_back is not None, each.name
        assert goes_back[1] == each.name
        assert goes_back[2].strip('"') in each.default or each.name == "kernel.yama.ptrace_scope"


def test_sysctl_itself_reads_the_same_settings() -> None:
    if shutil.which("sysctl", path="/usr/sbin:/sbin:/usr/bin") is None:
        pytest.skip("sysctl is not installed")
    done = subprocess.run(
        ["sysctl", "--dry-run", "--load", str(sysctl.FILE)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/sbin:/usr/bin"},
    )
    if "dry-run" in done.stderr:
        pytest.skip("this sysctl has no --dry-run")
    read = sysctl.values_in(done.stdout)
    assert len(read) > 10  # those that this kernel has
    wanted = {each.name: each.wanted for each in sysctl.table()}
    assert read.items() <= wanted.items()


def test_setting_is_read_with_all_that_stands_above_it() -> None:
    (found,) = sysctl.parse(f"# text: no key\n{ENTRY}# or more\n-a.b =  1 \t 2\n")
    assert found == sysctl.Sysctl(
        "a.b",
        "1 2",
        why="Because of it.",
        default="1",
        undo="sysctl -w a.b=1",
        or_more=True,
        or_less=False,
        optional=True,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.b = 1", "line 1: no why"),
        (ENTRY + "\na.b = 1", "line 6: no why"),
        (ENTRY + "a.b = 1\na.c = 1", "line 6: no why"),
        (ENTRY.replace("# undo", "# Undo") + "a.b = 1", "line 5: no undo"),
        (ENTRY + "a.b 1", "line 5: no setting"),
    ],
)
def test_setting_without_its_reasons_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        sysctl.parse(text)


@pytest.mark.parametrize(
    ("now", "wanted", "bound", "good"),
    [
        ("1", "1", "", True),
        ("1\n", "1", "", True),
        ("2", "1", "", False),
        ("2", "1", "more", True),
        ("1", "2", "more", False),
        ("1", "2", "less", True),
        ("2", "1", "less", False),
        ("4096\t131072\t7\n", "4096 131072 7", "", True),
        ("4096 131072 6", "4096 131072 7", "more", False),
        ("4097 131072 7", "4096 131072 7", "more", True),
        ("9 9", "1 1 1", "more", False),
        ("", "1", "more", False),
        ("x", "1", "less", False),
        ("-1", "0", "more", False),
    ],
)
def test_value_is_good_when_it_is_wanted_or_on_its_good_side(
    now: str, wanted: str, bound: str, good: bool
) -> None:
    assert satisfies(now, wanted, or_more=bound == "more", or_less=bound == "less") == good


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("always [madvise] never\n", "madvise"),
        ("[never]", "never"),
        ("60\n", "60\n"),
        ("a [b] [c]", "a [b] [c]"),
        ("line [b]\nline [c]\n", "line [b]\nline [c]\n"),
    ],
)
def test_choice_is_what_stands_in_brackets(text: str, choice: str) -> None:
    assert chosen(text) == choice


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("vm.swappiness", "/proc/sys/vm/swappiness"),
        ("net.ipv4.conf.eth0/1.rp_filter", "/proc/sys/net/ipv4/conf/eth0.1/rp_filter"),
    ],
)
def test_name_leads_to_its_file(name: str, path: str) -> None:
    assert sysctl_path(name) == path
    if "/" not in name:
        assert sysctl_name(path) == name


def test_kernel_without_a_setting_lets_the_check_pass_by(tmp_path: Path) -> None:
    host = fake(tmp_path)
    host.path("/proc/sys/kernel/yama/ptrace_scope").unlink()
    result = host.result("sysctl.kernel.yama.ptrace_scope")
    assert result.finding.found == "this kernel has none"
    assert result.fix == ""


def test_file_in_etc_hides_the_one_that_a_package_brought(tmp_path: Path) -> None:
    host = fake(tmp_path)
    text = host.read(sysctl.PLACE)
    host.change({"/usr/lib/sysctl.d/60-mdsys.conf": text, sysctl.PLACE: None})
    assert host.result("boot.sysctl").finding.found.startswith(
        "/usr/lib/sysctl.d/60-mdsys.conf has"
    )
    host.change({sysctl.PLACE: "vm.swappiness = 1"})
    assert (
        "/etc/sysctl.d/60-mdsys.conf has other values" in host.result("boot.sysctl").finding.found
    )
