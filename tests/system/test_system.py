"""mdsys.MarketDataSystem: the daemon as a child of the program that uses it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mdsys
from mdsys.errors import ConfigError, HostError, InstanceInUse, NotRunning, UsageError
from tests.daemons import PATIENCE_S, instance, read_until, trade_ids
from tests.simulated import FIELDS, Street, secret, status_when, street

pytestmark = pytest.mark.system

KITE = "KITE:NSE:SYM000000"
ALPACA = "ALPACA:SYM000000"


def tables(name: str, sims: Street, **keys: Any) -> dict[str, Any]:
    """Return a configuration without symbols: a program has them."""
    venues = [
        {
            "name": venue,
            "url": sims[venue].url,
            "rest_url": sims[venue].rest_url,
            "channels": ["ticker"] if venue == "kite" else ["trade"],
            **({"credentials": ["morning"]} if venue in FIELDS else {}),
        }
        for venue in sims
    ]
    rings = {"num_buffers": 1, "buffer_size": "64 KiB", "max_symbols": 64}
    return {"instance": name, "rings": rings, "venue": venues, **keys}


@pytest.fixture
def name() -> Iterator[str]:
    with instance() as given:
        yield given


@contextlib.contextmanager
def system_on(config: Any, tmp_path: Path) -> Iterator[mdsys.MarketDataSystem]:
    """Give a system whose log goes into a file."""
    with (
        (tmp_path / "log").open("ab") as log,
        mdsys.MarketDataSystem(config, log=log) as system,
    ):
        yield system


def pid_of(system: mdsys.MarketDataSystem) -> int:
    pid = system.stats()["supervisor"]["pid"]
    assert isinstance(pid, int)
    return pid


def wait_for_end(pid: int) -> None:
    """Wait until a process is gone."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            look = select.poll()
            look.register(fd, select.POLLIN)
            assert look.poll(PATIENCE_S * 1000), f"process {pid} lives on"
        finally:
            os.close(fd)


def test_a_program_subscribes_reads_and_ends_its_daemon(name: str, tmp_path: Path) -> None:
    refusal = "refuse,symbol=SYM000003,words=delisted"
    with street(("binance",), symbols=4, faults={"binance": refusal}) as sims:
        with system_on(tables(name, sims), tmp_path) as system:
            state = system.start(["BINANCE:SYM000000", "BINANCE:SYM000003", "NOBODY:X"])
            assert state["settled"]
            assert state["subscriptions"]["confirmed"] == state["subscriptions"]["refused"] == 1
            assert list(state["not_subscribed"]) == ["NOBODY:X"]
            assert "delisted" in system.status("BINANCE:SYM000003")["words"]

            shown = subprocess.run(
                [sys.executable, "-m", "mdsys", "ctl", "status", "--json", "--instance", name],
                capture_output=True,
                check=True,
            )
            assert set(json.loads(shown.stdout)) == set(state) - {"not_subscribed"}

            with mdsys.attach(system.instance) as md:
                reader = md.reader(["BINANCE:SYM000000"])
                read_until(reader, lambda ticks: len(trade_ids(ticks)) > 2)

            assert system.subscribe("BINANCE:SYM000001")["accepted"] == 1
            assert system.subscribe(["BINANCE:SYM000001"])["unchanged"] == 1
            more = system.start("BINANCE:SYM000001")
            assert more["subscriptions"]["confirmed"] == 2
            assert system.unsubscribe("BINANCE:SYM000001")["accepted"] == 1
            stats = system.stats()
            assert stats["rings"][0]["head"] > 0
            assert stats["subscriptions"]["desired"] == 2
            pid = pid_of(system)
        assert not system.running
        wait_for_end(pid)
        with pytest.raises(NotRunning):
            system.stats()


def test_a_venue_that_acknowledges_nothing_is_not_waited_for_longer_than_it_is_asked(
    name: str, tmp_path: Path
) -> None:
    key = {"api_key": secret("kite", field="api_key"), "access_token": secret("kite")}
    with (
        street(("kite",), symbols=2, rate=1, secrets={"kite": [secret("kite")]}) as sims,
        system_on(tables(name, sims), tmp_path) as system,
    ):
        state = system.start([KITE, "KITE:NSE:NOSUCH"], {"morning": key})
        assert state["settled"]
        assert state["subscriptions"]["requested"] == state["subscriptions"]["refused"] == 1
        assert list(state["not_subscribed"]) == ["KITE:NSE:NOSUCH"]


def test_secrets_stand_in_no_argument_environment_or_log_and_can_be_replaced(
    name: str, tmp_path: Path
) -> None:
    fields = FIELDS["alpaca"]

    def key(word: str) -> dict[str, dict[str, str]]:
        return {"morning": {field: secret("alpaca", word, 0, field) for field in fields}}

    with (
        street(("alpaca",), symbols=2, secrets={"alpaca": [secret("alpaca", "new")]}) as sims,
        system_on(tables(name, sims), tmp_path) as system,
    ):
        state = system.start([ALPACA], key("old"))
        assert state["settled"], "nobody waits for what a venue denies"
        assert state["subscriptions"]["requested"] == 0
        why = system.status(ALPACA)
        assert why["connection"]["state"] == "denied"
        assert "morning" in why["remedy"]
        assert "MarketDataSystem.reload" in why["remedy"]

        assert system.reload(key("new"))["credentials_changed"] == ["morning"]
        status_when(name, lambda answer: bool(answer["subscriptions"]["ticking"] == 1))

        pids = [pid_of(system), *(feed["pid"] for feed in system.status()["feeds"])]
        public = json.dumps([system.status(), system.status(ALPACA), system.stats()]).encode()
        public += (tmp_path / "log").read_bytes()
        for pid in pids:
            public += Path(f"/proc/{pid}/cmdline").read_bytes()
            public += Path(f"/proc/{pid}/environ").read_bytes()
        for word in ("old", "new"):
            for field in fields:
                assert secret("alpaca", word, 0, field).encode() not in public


def test_a_credential_that_cannot_be_meant_is_refused_unshown(name: str) -> None:
    with street(("kite",), symbols=1) as sims:
        system = mdsys.MarketDataSystem(tables(name, sims))
        with pytest.raises(UsageError, match="no credential 'mornin'; did you mean morning"):
            system.start([], {"mornin": {"api_key": "s3cret"}})
        with pytest.raises(UsageError, match="credential morning") as caught:
            system.start([], {"morning": "s3cret"})  # type: ignore[dict-item]
        assert "s3cret" not in str(caught.value)
        assert not system.running


def test_the_daemons_own_refusals_come_as_its_errors(name: str, tmp_path: Path) -> None:
    with street(("binance",), symbols=1) as sims:
        config = tables(name, sims)
        with system_on(config, tmp_path) as system:
            system.start()
            with (
                system_on(config, tmp_path) as second,
                pytest.raises(InstanceInUse, match=f"{pid_of(system)}"),
            ):
                second.start()
            assert system.running
        with (
            system_on({**config, "group": "nobody-has-this"}, tmp_path) as system,
            pytest.raises(ConfigError, match="nobody-has-this"),
        ):
            system.start()
        assert not system.running
    with pytest.raises(ConfigError, match="unknown key; did you mean instance"):
        mdsys.MarketDataSystem({"instanc": name, "venue": [{"name": "binance"}]})


def test_a_daemon_that_was_killed_is_told_of_and_can_be_started_again(
    name: str, tmp_path: Path
) -> None:
    with (
        street(("binance",), symbols=2) as sims,
        system_on(tables(name, sims), tmp_path) as system,
    ):
        system.start(["BINANCE:SYM000000"])
        pid = pid_of(system)
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
        assert not system.running
        state = system.start(["BINANCE:SYM000001"])
        assert state["subscriptions"]["confirmed"] == 1, "a new daemon knows its configuration only"
        assert pid_of(system) != pid


def test_a_daemon_that_ends_before_it_is_up_is_an_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        street(("binance",), symbols=1) as sims,
        system_on(tables(name, sims), tmp_path) as system,
    ):
        monkeypatch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(HostError, match="ended with 1; its log tells why"):
            system.start()


def test_daemon_outlives_the_thread_that_started_it_and_not_the_program(
    name: str, tmp_path: Path
) -> None:
    with street(("binance",), symbols=1) as sims:
        file = tmp_path / "config.json"
        file.write_text(json.dumps(tables(name, sims)))
        program = tmp_path / "program.py"
        program.write_text(PROGRAM)
        with subprocess.Popen(
            [sys.executable, str(program), str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdout is not None
            pid, confirmed = map(int, process.stdout.readline().split())
            assert confirmed == 1
            process.kill()
        wait_for_end(pid)


PROGRAM = """
import json, sys, threading, time, tomllib
import mdsys

system = mdsys.MarketDataSystem(json.load(open(sys.argv[1])))
thread = threading.Thread(target=system.start)
thread.start()
thread.join()
state = system.start("BINANCE:SYM000000")
print(system.stats()["supervisor"]["pid"], state["subscriptions"]["confirmed"], flush=True)
threading.Event().wait()
"""


def test_a_fork_of_the_program_leaves_the_daemon_alone(name: str, tmp_path: Path) -> None:
    with (
        street(("binance",), symbols=1) as sims,
        system_on(tables(name, sims), tmp_path) as system,
    ):
        system.start()
        thread = threading.Thread(target=_fork_and_stop, args=(system,))
        thread.start()
        thread.join()
        assert system.running
        assert system.status()["ok"]


def _fork_and_stop(system: mdsys.MarketDataSystem) -> None:
    pid = os.fork()
    if pid == 0:
        system.stop()
        os._exit(0)
    os.waitpid(pid, 0)


def test_a_file_is_reread_by_a_reload(name: str, tmp_path: Path) -> None:
    with street(("binance",), symbols=2) as sims:
        file = tmp_path / "mdsys.toml"
        text = (
            f'instance = "{name}"\n[rings]\nnum_buffers = 1\nbuffer_size = "64 KiB"\n'
            f'[[venue]]\nname = "binance"\nchannels = ["trade"]\nurl = "{sims["binance"].url}"\n'
        )
        file.write_text(text)
        with system_on(file, tmp_path) as system:
            assert system.start()["subscriptions"]["desired"] == 0
            file.write_text(text + 'symbols = ["SYM000001"]\n')
            assert system.reload()["subscribed"]["accepted"] == 1
            assert system.start()["subscriptions"]["confirmed"] == 1
