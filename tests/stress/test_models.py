"""The protocols as spin models (native/models): every run searched, each safeguard shown to matter.

By hand, in an empty directory, for the run that leads to the forbidden state:

    spin -a -DNO_R3 .../native/models/ring.pml && gcc -DSAFETY -o pan pan.c && ./pan
    spin -t -p -DNO_R3 .../native/models/ring.pml
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.native import REPOSITORY


def has_spin() -> bool:
    if shutil.which("spin") is None or shutil.which("gcc") is None:
        return False
    said = subprocess.run(["spin", "-V"], capture_output=True, text=True, check=False).stdout
    return said.startswith("Spin Version 6")  # others bear the name, too


pytestmark = pytest.mark.stress
needs_spin = pytest.mark.skipif(not has_spin(), reason="spin 6 or gcc is not installed")

MODELS = REPOSITORY / "native" / "models"
MEMORY_MB, DEPTH_MAX = 1000, 100_000  # twice what the largest needs, a hundred times as deep

SOUND = [
    ("ring", ""),
    ("ring", "AHEAD=2 LAST=5"),
    ("ring", "BATCH=3 LAST=5"),
    ("ring", "CLAIM_BATCH LAST=5"),
    ("cache", ""),
    ("bell", ""),  # two readers of one ring
    ("bell", "READERS=1 RINGS=2"),
    ("bell", "READERS=1 REGISTER RECORDS=3"),
    ("bell", "READERS=1 STOP"),
    ("lossless", ""),
    ("lossless", "CLAIM_BATCH"),
    ("lossless", "DIES LAST=7"),
]

# What is broken on purpose, and the forbidden state that this must lead to.
TORN, ASLEEP, UNREAD = "torn_record_delivered", "lost_wake_up", "overwritten_unread"
CELL, HELD, BELIEVED = "torn_cell", "waited_too_long", "beyond_belief"
BROKEN = [
    ("ring", "NO_W1", TORN),
    ("ring", "NO_W2 DEPTH=2 FRAME=1 BATCH=1", TORN),
    ("ring", "NO_W2 CLAIM_BATCH DEPTH=2 FRAME=1 BATCH=1", TORN),
    ("ring", "NO_W4", TORN),
    ("ring", "NO_R1", TORN),
    ("ring", "NO_R3", TORN),
    ("ring", "NO_R4", TORN),
    ("ring", "RECHECK_LAST", TORN),
    ("cache", "NO_C1", CELL),
    ("cache", "NO_C2", CELL),
    ("cache", "NO_C4", CELL),
    ("cache", "NO_ODD", CELL),
    ("cache", "NO_D1", CELL),
    ("cache", "NO_D3", CELL),
    ("cache", "NO_D4", CELL),
    ("bell", "NO_P3", ASLEEP),
    ("bell", "NO_B2", ASLEEP),
    ("bell", "NO_P4", ASLEEP),
    ("bell", "NO_B4", ASLEEP),
    ("bell", "NO_B5", ASLEEP),
    ("bell", "P1_AFTER_P4", ASLEEP),
    ("bell", "NO_P3 READERS=1 RINGS=2", ASLEEP),
    ("bell", "NO_ADD_RING READERS=1 REGISTER", ASLEEP),
    ("bell", "NO_STOP_WORD READERS=1 STOP", "slept_through_stop"),
    ("lossless", "NO_AHEAD_MARGIN", UNREAD),
    ("lossless", "NO_SLACK DIES LAST=7", UNREAD),
    ("lossless", "NO_SLACK A0_EARLY", UNREAD),
    ("lossless", "GRANT_BY_NEXT", UNREAD),
    ("lossless", "ASK_ONCE", UNREAD),
    ("lossless", "PROMISE_NEXT", "passed_over"),
    ("lossless", "NO_EJECT", HELD),
    ("lossless", "CHARGE_WHO_STAYS", HELD),
    ("lossless", "NO_LOWER", BELIEVED),
    ("lossless", "NO_UPPER", BELIEVED),
    ("lossless", "SHARED_BUDGET", "ejected_unheard"),
    ("lossless", "EJECT_BLIND", "ejected_unseen"),
]


def search(model: str, switches: str, where: Path) -> str:
    """Return what the verifier says of a model, run until it has seen every state or an error."""
    defines = [f"-D{switch}" for switch in switches.split()]
    for command in (
        ["spin", "-a", *defines, str(MODELS / f"{model}.pml")],
        ["gcc", "-O0", "-w", "-DSAFETY", f"-DMEMLIM={MEMORY_MB}", "-o", "pan", "pan.c"],
        ["./pan", f"-m{DEPTH_MAX}"],
    ):
        result = subprocess.run(
            command, cwd=where, capture_output=True, text=True, timeout=100, check=False
        )
        assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout + result.stderr


Said = Callable[[str, str], str]
"""What the verifier says, given a model and its switches."""


@pytest.fixture(scope="module")
def said_of(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Said]:
    """Search all that is asked for, a model a core, in the order in which it is."""
    asked = [
        (str(item.callspec.params["model"]), str(item.callspec.params["switches"]))
        for item in request.session.items
        if item.path == request.path
        and isinstance(item, pytest.Function)
        and "switches" in item.callspec.params
    ]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = {
            each: pool.submit(search, *each, tmp_path_factory.mktemp(each[0])) for each in asked
        }
        try:
            yield lambda model, switches: found[model, switches].result()
        finally:
            pool.shutdown(cancel_futures=True)


@needs_spin
@pytest.mark.parametrize(("model", "switches"), SOUND)
def test_no_run_reaches_a_forbidden_state(model: str, switches: str, said_of: Said) -> None:
    said = said_of(model, switches)
    assert re.search(r"errors: 0$", said, re.MULTILINE), said
    for truncated in ("Search not completed", "max search depth too small", "MEMLIM"):
        assert truncated not in said, said


@needs_spin
@pytest.mark.parametrize(("model", "switches", "forbidden"), BROKEN)
def test_a_run_reaches_the_forbidden_state_without(
    model: str, switches: str, forbidden: str, said_of: Said
) -> None:
    said = said_of(model, switches)
    assert f"assertion violated  !({forbidden})" in said, said


@pytest.mark.parametrize("model", sorted(path.stem for path in MODELS.glob("*.pml")))
def test_every_switch_of_a_model_is_tried(model: str) -> None:
    text = (MODELS / f"{model}.pml").read_text()
    conditions = re.findall(r"^#(?:if|elif).*", text, re.MULTILINE)
    known = {name for line in conditions for name in re.findall(r"\b[A-Z][A-Z0-9_]+\b", line)}
    switches = [which for name, which, *_ in [*SOUND, *BROKEN] if name == model]
    tried = {name for which in switches for name in re.findall(r"[A-Z][A-Z0-9_]+", which)}
    assert tried - known == set()
    assert known - tried <= set(re.findall(r"^#define ([A-Z]+) \d", text, re.MULTILINE))


@pytest.mark.parametrize("model", sorted(path.stem for path in MODELS.glob("*.pml")))
def test_what_a_model_says_it_models_is_there(model: str) -> None:
    text = (MODELS / f"{model}.pml").read_text()
    opening = text[: text.index("*/")]
    files = sorted(set(re.findall(r"native/[\w/]+\.[ch]", opening)))
    functions = set(re.findall(r"\bmd_\w+", opening))
    labels = set(re.findall(r"/\* ([A-DGPRSW]\d)\b", text))
    assert files
    assert functions
    assert labels
    code = "".join((REPOSITORY / file).read_text() for file in files)
    for function in functions:
        assert f"{function}(" in code
    for label in labels:
        assert re.search(rf"/\* {label}\b", code), label
