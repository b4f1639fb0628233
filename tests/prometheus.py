"""Debian's Prometheus against what is served here: a real server on a port of its own.

Nothing waits by the clock: it is asked until it has scraped, within a bound.
"""

from __future__ import annotations

import contextlib
import http
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemons import PATIENCE_S

RULES = Path(__file__).parent.parent / "deploy" / "prometheus" / "mdsys.rules.yml"

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="no prometheus and promtool here (Debian: apt-get install prometheus)",
)

CONFIG = """
global:
  scrape_interval: 500ms
  scrape_timeout: 500ms
  evaluation_interval: 500ms
rule_files: [{rules}]
scrape_configs:
  - job_name: mdsys
    static_configs: [{{targets: ["{target}"]}}]
"""


def promtool(*arguments: str | Path, text: bytes = b"") -> str:
    """Return what promtool says, both ways out; it must succeed."""
    done = subprocess.run(
        ["promtool", *map(str, arguments)], input=text, capture_output=True, check=False
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Prometheus:
    """A running server."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of its API; what it refuses fails the test."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.SERVICE_UNAVAILABLE:  # it is being started
                raise
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression now."""
        result = self.get("query", query=expression)["result"]
        assert isinstance(result, list)
        return result

    def until(self, is_so: Callable[[], bool], what: str) -> None:
        """Ask again until something is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not _answered(is_so):
            assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
            time.sleep(0.05)


def _answered(is_so: Callable[[], bool]) -> bool:
    """Return whether it is so; not while the server is not there yet."""
    try:
        return is_so()
    except (urllib.error.URLError, ConnectionError):
        return False


@contextlib.contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """Have a server scrape ``target``, HOST:PORT, twice a second until the block ends."""
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(rules=RULES, target=target))
    port = free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            server = Prometheus(port)
            server.until(lambda: bool(server.get("status/runtimeinfo")), "it answers")
            yield server
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
