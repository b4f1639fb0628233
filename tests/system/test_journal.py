"""The daemon's log in a journal: systemd's own, started in a mount namespace of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mdsys.daemon.stat_command import take_picture
from tests.daemons import PATIENCE_S, Venue, config_text, instance

pytestmark = pytest.mark.system

JOURNALD = Path("/lib/systemd/systemd-journald")
SCRIPT = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
"$JOURNALD" 2>/dev/null &
until [ -S /run/systemd/journal/stdout ]; do sleep 0.02; done
# With stderr and JOURNAL_STREAM as a unit has them.
systemd-cat sh -c 'JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@"' sh "$@"
kill $!
wait $! || true
journalctl --directory=/run/log/journal --output=json --all --no-pager
"""


def why_not() -> str | None:
    """Return why there can be no journal here; None: there can."""
    if os.geteuid() != 0:
        return "needs root, to make a mount namespace"
    if not JOURNALD.exists() or not all(map(shutil.which, ("systemd-cat", "journalctl"))):
        return "systemd is not installed"
    if not Path("/etc/machine-id").is_file():
        return "this host has no machine-id, which journald wants"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "no mount namespace can be had here"
    return None


WHY_NOT = why_not()


@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
def test_the_journal_has_each_entry_with_its_fields(tmp_path: Path) -> None:
    with instance() as name, Venue().listening() as venue:
        file = tmp_path / "mdsys.toml"
        file.write_text(config_text(name, venue.url))
        program = [sys.executable, "-m", "mdsys", "run", "--config", str(file)]
        with subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", *program],
            stdout=subprocess.PIPE,
            env={**os.environ, "JOURNALD": str(JOURNALD)},
            start_new_session=True,
        ) as process:
            try:
                venue.next_socket()
                pid = take_picture(name)["supervisor"]["pid"]
                os.kill(pid, signal.SIGTERM)
                out, _ = process.communicate(timeout=PATIENCE_S)
            finally:
                with contextlib.suppress(ProcessLookupError):  # its journal may live on
                    os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 0
    entries = [json.loads(line) for line in out.splitlines()]
    ours = [each for each in entries if each.get("MDSYS_INSTANCE") == name]
    assert {each["_TRANSPORT"] for each in ours} == {"journal"}
    assert {each["_PID"] for each in ours} == {str(pid)}
    assert {each["SYSLOG_IDENTIFIER"] for each in ours} == {f"mdsys@{name}"}
    assert ours[-1]["MESSAGE"].startswith("stopped; ")
    (up,) = [each for each in ours if "connection 1: up" in each["MESSAGE"]]
    fields = ("MDSYS_FEED", "MDSYS_VENUE", "MDSYS_CONNECTION", "PRIORITY", "CODE_FUNC")
    assert [up[key] for key in fields] == ["0", "binance", "1", "6", "_come_up"]
    assert up["CODE_FILE"].endswith("mdsys/feed/connection.py")
    assert not [each for each in entries if each.get("_TRANSPORT") == "stdout"], "said twice"
