from __future__ import annotations

import subprocess
import sys

import pytest

# A process of its own for each: what it asks of the kernel must not stick to the tests.
CHILD = "print('up', flush=True); import signal; signal.alarm(60); signal.pause()"
PARENT = f"""
import functools, os, signal, subprocess, sys
from mdsys.feed.parent import die_with_parent
subprocess.Popen(
    [sys.executable, "-c", {CHILD!r}],
    preexec_fn=functools.partial(die_with_parent, os.getpid(), signal.SIGNAL),
)
sys.stdin.readline()
os._exit(0)
"""
ORPHAN = """
from mdsys.feed.parent import die_with_parent
die_with_parent(1 << 30)
"""


@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_child_dies_with_its_parent(number: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.replace("SIGNAL", number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "up\n"
    out, _ = parent.communicate("go\n", timeout=30)  # the child has the same stdout
    assert (parent.returncode, out) == (0, "")


def test_parent_that_is_gone_already_is_an_error() -> None:
    orphan = subprocess.run(
        [sys.executable, "-c", ORPHAN], capture_output=True, text=True, check=False
    )
    assert orphan.returncode == 1
    assert "HostError: the parent, process 1073741824, is gone" in orphan.stderr
