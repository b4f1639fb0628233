"""The last look before a line of the log is written."""

from __future__ import annotations

import io
import logging

import pytest

from mdsys.daemon.credentials import Credentials
from mdsys.daemon.masked_log import mask_log

SECRET = "q7Zx0123456789abcdef"


@pytest.fixture
def credentials() -> Credentials:
    environment = {"MDSYS_CREDENTIAL_KEY": SECRET}
    made = Credentials({"key": ("key",)}, environment=environment)
    made.read()
    return made


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, credentials: Credentials) -> io.StringIO:
    out = io.StringIO()
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [logging.StreamHandler(out)])
    mask_log(credentials.mask)
    return out


def test_a_secret_is_taken_out_of_message_and_arguments(log: io.StringIO) -> None:
    logger = logging.getLogger("mdsys.feed.0")
    logger.warning("frame refused: %r, %d bytes", f'{{"key":"{SECRET}"}}'.encode(), 28)
    logger.warning("%s is %s", SECRET, "quoted")
    logger.warning("100 % of it")
    assert log.getvalue() == (
        'frame refused: b\'{"key":"***"}\', 28 bytes\n*** is quoted\n100 % of it\n'
    )


def test_an_excerpt_that_ends_within_a_secret_shows_no_part_of_it(log: io.StringIO) -> None:
    for size in range(len("key ") + 4, len("key ") + len(SECRET)):
        excerpt = f"key {SECRET}"[:size].encode()
        logging.getLogger().warning("frame refused: %r%s", excerpt, "...")
    assert set(log.getvalue().splitlines()) == {"frame refused: b'key ***'..."}


def test_a_traceback_is_looked_through_too(log: io.StringIO) -> None:
    try:
        int(f"bad header {SECRET}")
    except ValueError:
        logging.getLogger().exception("failed")
    text = log.getvalue()
    assert "Traceback" in text
    assert "ValueError: invalid literal for int() with base 10: 'bad header ***'" in text
    assert "q7Zx" not in text


def test_a_secret_that_was_replaced_is_hidden_for_ever(
    log: io.StringIO, credentials: Credentials
) -> None:
    credentials._environment = {"MDSYS_CREDENTIAL_KEY": "another-one"}
    credentials.read()
    logging.getLogger().warning("not %s but %s", SECRET, "another-one")
    assert log.getvalue() == "not *** but ***\n"
