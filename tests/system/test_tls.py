"""Certificates are verified, always: the only way to trust another authority is to name it."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import mdsys
from tests.daemons import Venue, daemon, instance, read_until, trade, trade_ids

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not shutil.which("openssl"), reason="makes certificates with openssl(1)"),
]


@pytest.fixture
def name() -> Iterator[str]:
    with instance() as each:
        yield each


class Authority:
    """A certificate authority of our own."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.certificate = directory / f"{name}.pem"
        self._key = directory / f"{name}.key"
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign"),
            *("-keyout", str(self._key), "-out", str(self.certificate)),
        )

    def server_context(self, host: str) -> ssl.SSLContext:
        """Return the TLS side of a server that this authority says is ``host``."""
        key, request, certificate = (self.directory / f"{host}.{e}" for e in ("k", "csr", "crt"))
        extensions = self.directory / "extensions"
        extensions.write_text(f"subjectAltName=DNS:{host}\n")
        _openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={host}"),
            *("-keyout", str(key), "-out", str(request)),
        )
        _openssl(
            *("x509", "-req", "-in", str(request), "-days", "2", "-CAcreateserial"),
            *("-CA", str(self.certificate), "-CAkey", str(self._key)),
            *("-extfile", str(extensions), "-out", str(certificate)),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "ours")


def test_authority_named_in_ssl_cert_file_is_trusted_and_ticks_come_over_tls(
    tmp_path: Path, name: str, authority: Authority
) -> None:
    trust = {"SSL_CERT_FILE": str(authority.certificate)}
    with (
        Venue().listening(tls=authority.server_context("localhost")) as venue,
        daemon(tmp_path, venue.url, name=name, environment=trust) as running,
    ):
        running.wait_ready()
        with mdsys.attach(name) as md:
            reader = md.reader()
            venue.next_socket().send(*(trade("BTCUSDT", i) for i in range(1, 101)))
            ticks = read_until(reader, lambda ticks: len(trade_ids(ticks)) == 100)
            assert trade_ids(ticks) == list(range(1, 101))
        assert running.end() == 0


def test_unknown_authority_is_refused_and_nothing_is_sent(
    tmp_path: Path, name: str, authority: Authority
) -> None:
    other = Authority(tmp_path, "another")
    trust = {"SSL_CERT_FILE": str(other.certificate)}
    with (
        Venue().listening(tls=authority.server_context("localhost")) as venue,
        daemon(tmp_path, venue.url, name=name, environment=trust) as running,
    ):
        running.wait_for_line(r"cannot connect to wss://localhost.*CERTIFICATE_VERIFY_FAILED")
        assert venue.sockets.empty()


def test_certificate_of_another_host_is_refused(
    tmp_path: Path, name: str, authority: Authority
) -> None:
    trust = {"SSL_CERT_FILE": str(authority.certificate)}
    with (
        Venue().listening(tls=authority.server_context("elsewhere.example")) as venue,
        daemon(tmp_path, venue.url, name=name, environment=trust) as running,
    ):
        running.wait_for_line(r"cannot connect to wss://localhost:\d+/ws: .*[Hh]ostname mismatch")
        assert venue.sockets.empty()


def test_server_that_speaks_no_tls_is_refused(tmp_path: Path, name: str) -> None:
    with Venue().listening() as venue:
        url = venue.url.replace("ws:", "wss:")
        with daemon(tmp_path, url, name=name) as running:
            running.wait_for_line(r"cannot connect to wss://localhost:\d+/ws: ")
            assert venue.sockets.empty()
