"""The configurations to start from, examples/config: right as they stand, and with every key."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from mdsys import config, config_file
from mdsys.cli import main
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "examples" / "config"
FILES = sorted(FOLDER.glob("*.toml"))
KEYS = {
    "kite_a": 'api_key = "an-example"\naccess_token = "an-example"\n',
    "kite_b": 'api_key = "an-example"\naccess_token = "an-example"\n',
    "alpaca_paper": 'key = "an-example"\nsecret = "an-example"\n',
}

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay out what the examples say that their reader has."""
    folder = tmp_path / "mdsys" / "credentials"
    folder.mkdir(parents=True, mode=0o700)
    for name, text in KEYS.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def switched_on(path: Path, folder: Path) -> str:
    """Return an example with each key in it that is switched off: ``#key = value``."""
    text = re.sub(r"(?m)^#(?=[a-z_]+ = )", "", path.read_text())
    return text.replace('"/mnt/mdsys"', f'"{folder}"')


@each_file
def test_it_is_right_as_it_stands(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "an-example" not in out + err


@each_file
def test_it_is_right_with_every_key_switched_on(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "#calendar" in path.read_text() and not importlib.util.find_spec("exchange_calendars"):
        pytest.skip("names calendars, and exchange_calendars is not installed")
    monkeypatch.setattr("mdsys.config_checks.allowed_cores", lambda: set(range(8)))
    monkeypatch.setattr("mdsys.config_checks.present_cores", lambda: frozenset(range(8)))
    for file in FOLDER.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    copy = tmp_path / path.name
    copy.write_text(switched_on(path, tmp_path))
    config_file.load(copy)


@each_file
def test_what_is_switched_off_is_a_key_and_the_rest_is_prose(path: Path) -> None:
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            assert re.match(r"#$|# |#[a-z_]+ = ", line), line


def test_every_profile_has_one() -> None:
    assert {config_file.load(path).profile for path in FILES} == set(config.PROFILES)


def test_two_of_them_live_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdsys.config_checks.allowed_cores", lambda: set(range(8)))
    pair = []
    for name in ("eu", "us"):
        copy = tmp_path / f"{name}.toml"
        copy.write_text(switched_on(FOLDER / copy.name, tmp_path))
        pair.append(config_file.load(copy))
    one, other = pair
    assert [each.instance for each in pair] == ["eu", "us"]  # as mdsys@.service wants it
    assert one.metrics.listen != other.metrics.listen
    assert not set(one.feeds.cores) & set(other.feeds.cores)
    assert one.feeds.cores
    kraken = [venue for each in pair for venue in each.venues if venue.name == "kraken"]
    (window,) = {window for venue in kraken for window in venue.limits.connects}
    assert window.count * len(kraken) == 150  # what the venue allows our one address
