"""What verifies servers: that it does, always, and that it tells nobody the keys."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdsys.daemon.limiter import Limiter
from mdsys.daemon.rest import Rest
from mdsys.feed.tls import default_tls
from tests.conftest import REPOSITORY

SWITCHES = {
    *("CERT_NONE", "CERT_OPTIONAL", "verify_mode", "check_hostname", "verify_ssl"),
    *("_create_unverified_context", "_create_default_https_context", "fingerprint"),
    *("SSLContext()", "wrap_socket"),
}
"""By any of these the standard library or aiohttp can be told to verify less."""


def test_certificate_and_name_are_verified_by_tls_of_today() -> None:
    context = default_tls()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def names_in(tree: ast.AST) -> Iterator[str]:
    """Give every name, attribute and keyword of a program: not its comments and strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("SSLContext"):
            yield "SSLContext()"
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.alias):
            yield node.name


def test_nothing_in_the_program_can_turn_verifying_off() -> None:
    """The simulator, which is a server, has a context of its own; nobody else makes a bare one."""
    found = [
        (path.relative_to(REPOSITORY), name)
        for path in (REPOSITORY / "mdsys").rglob("*.py")
        for name in names_in(ast.parse(path.read_text()))
        if name in SWITCHES
    ]
    assert found == [(Path("mdsys/sim/command.py"), "SSLContext()")]
    native = [
        (path, word)
        for path in (REPOSITORY / "native" / "bind").glob("*.pyx")
        for word in ("CERT_", "check_hostname", "SSLContext")
        if word in path.read_text()
    ]
    assert native == []


def test_rest_verifies_by_the_same_context(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr("aiohttp.ClientSession", lambda **_: None)
    monkeypatch.setattr("aiohttp.TCPConnector", lambda **named: given.append(named["ssl"]))

    async def open_session() -> None:
        Rest(Limiter()).session()

    asyncio.run(open_session())
    assert given == [default_tls()]


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate with openssl(1)")
def test_no_session_key_is_written_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSLKEYLOGFILE is for those who would read what TLS hides."""
    key, certificate, log = (tmp_path / name for name in ("key", "certificate", "log"))
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
            *("ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.keylog_filename = os.devnull
    server.load_cert_chain(certificate, key)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with server.wrap_socket(theirs, server_side=True) as tls:
            tls.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    with default_tls.__wrapped__().wrap_socket(ours, server_hostname="localhost") as tls:
        assert tls.recv(5) == b"hello"
    thread.join()
    assert "SECRET" not in (log.read_text() if log.exists() else "")


# ---- whom it trusts -----------------------------------------------------------------------------

SUBJECTS = {
    "the host's": "localhost",
    "another host's": "elsewhere.example",
    "expired": "localhost",
    "self-signed": "localhost",
}


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes certificates with openssl(1)")
@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("the host's", None),
        ("another host's", "Hostname mismatch"),
        ("expired", "certificate has expired"),
        ("self-signed", "self-signed certificate"),
    ],
)
def test_only_a_valid_certificate_of_this_host_by_a_known_authority_is_taken(
    which: str, words: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = made(tmp_path, "authority", "ours", days=2)
    signer = None if which == "self-signed" else authority
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    days = -1 if which == "expired" else 2
    server.load_cert_chain(*made(tmp_path, "server", SUBJECTS[which], days=days, by=signer))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    client = default_tls.__wrapped__()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        thread = threading.Thread(target=answer_with, args=(server, theirs))
        thread.start()
        try:
            if words is None:
                client.wrap_socket(ours, server_hostname="localhost").close()
            else:
                with pytest.raises(ssl.SSLCertVerificationError, match=words):
                    client.wrap_socket(ours, server_hostname="localhost")
        finally:
            ours.close()
            thread.join()


def answer_with(server: ssl.SSLContext, theirs: socket.socket) -> None:
    """Be the server of one handshake, which may fail."""
    with contextlib.suppress(OSError):
        server.wrap_socket(theirs, server_side=True).close()


def made(
    folder: Path, name: str, subject: str, *, days: int, by: tuple[Path, Path] | None = None
) -> tuple[Path, Path]:
    """Make a certificate and its key; by itself, or by an authority."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    request = [
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", f"/CN={subject}", "-addext", f"subjectAltName=DNS:{subject}"),
        *("-keyout", str(key)),
    ]
    if by is None:
        openssl(*request, "-x509", "-days", str(days), "-out", str(certificate))
    else:
        asked = str(folder / f"{name}.csr")
        openssl(*request, "-out", asked)
        openssl(
            *("x509", "-req", "-in", asked, "-CA", str(by[0]), "-CAkey", str(by[1])),
            *("-days", str(days), "-copy_extensions", "copy", "-out", str(certificate)),
        )
    return certificate, key


def openssl(*arguments: str) -> None:
    """Run openssl(1)."""
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
