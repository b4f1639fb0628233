"""The program that the supervisor starts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mdsys.feed.report import report_pair


@pytest.mark.parametrize(("plan", "code"), [(b"", 0), (b"{}\n", 1)])
def test_process_that_gets_no_plan_ends_in_peace_and_one_that_gets_nonsense_does_not(
    plan: bytes, code: int
) -> None:
    ours, theirs = report_pair()
    read_fd, write_fd = os.pipe()
    with ours, theirs:
        process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "mdsys.feed"),
                *("--plan-fd", str(read_fd), "--report-fd", str(theirs.fileno())),
            ],
            stderr=subprocess.DEVNULL,
            pass_fds=(read_fd, theirs.fileno()),
        )
        os.close(read_fd)
        with os.fdopen(write_fd, "wb") as pipe:
            assert process.poll() is None  # it waits for its plan
            pipe.write(plan)
        assert process.wait(60) == code
