"""Where secrets are found, which files are refused, and that nothing ever shows one."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdsys.daemon import credentials as module
from mdsys.daemon.credentials import (
    Credentials,
    environment_name,
    wanted_fields,
    without_credentials,
)
from mdsys.errors import ConfigError

SECRET = "s3cr3t-t0ken/with+signs="
FIELDS = ("api_key", "access_token")
TOML = f'api_key = "public"\naccess_token = "{SECRET}"\n'


class Host:
    """Folders and an environment of a test's own."""

    def __init__(self, root: Path) -> None:
        self.system = root / "etc"
        self.user = root / "config" / "mdsys" / "credentials"
        self.systemd = root / "run"
        self.environment = {"XDG_CONFIG_HOME": str(root / "config")}
        for folder in (self.system, self.user, self.systemd):
            folder.mkdir(parents=True, mode=0o700)

    def credentials(self, *fields: str, name: str = "kite_a") -> Credentials:
        return Credentials({name: fields}, environment=self.environment, system_folder=self.system)

    def problem(self, *fields: str) -> str:
        """Return why the secret is not had, having searched everything for it."""
        credentials = self.credentials(*fields)
        (text,) = credentials.read().problems.values()
        with pytest.raises(ConfigError) as caught:
            credentials.secret("kite_a")
        assert str(caught.value) == text
        shown = "".join(traceback.format_exception(caught.value)) + repr(credentials) + text
        assert SECRET not in shown
        return text


def put(folder: Path, text: str = TOML, *, mode: int = 0o600, name: str = "kite_a") -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


# ---- where ----


def test_places_are_searched_in_order(host: Host) -> None:
    host.environment |= {
        "CREDENTIALS_DIRECTORY": str(host.systemd),
        "MDSYS_CREDENTIAL_KITE_A": "in-the-environment",
    }
    credentials = host.credentials()
    assert credentials.read().changed == ("kite_a",)
    assert credentials.secret("kite_a") == {"key": "in-the-environment"}
    for folder in (host.user, host.system, host.systemd):
        put(folder, f"in-{folder.name}")
        assert credentials.read().changed == ("kite_a",)
        assert credentials.secret("kite_a") == {"key": f"in-{folder.name}"}
        assert credentials.source("kite_a") == str(folder / "kite_a")


def test_what_the_program_gives_goes_before_all_and_keeps_the_rules(host: Host) -> None:
    gifts: dict[str, dict[str, object]] = {"kite_a": {"api_key": "k", "access_token": SECRET}}
    put(host.system, "in-a-file")
    credentials = Credentials(
        {"kite_a": FIELDS},
        environment=host.environment,
        system_folder=host.system,
        given=lambda: dict(gifts),
    )
    assert not credentials.read().problems
    assert credentials.secret("kite_a")["access_token"] == SECRET
    assert credentials.mask(f"no {SECRET}!") == "no ***!"
    assert "MarketDataSystem.reload" in credentials.where("kite_a")
    assert SECRET not in credentials.where("kite_a")
    gifts["kite_a"] = {"api_key": "k", "access_token": "another"}
    assert credentials.read().changed == ("kite_a",)
    wrongs: list[dict[str, object]] = [
        {"access_token": SECRET},
        {"api_key": f" {SECRET}"},
        {"api_key": 7},
        {},
    ]
    for wrong in wrongs:
        gifts["kite_a"] = wrong
        (problem,) = credentials.read().problems.values()
        assert problem.startswith("credential kite_a: the program that runs the daemon: ")
        assert SECRET not in problem
        assert credentials.secret("kite_a")["access_token"] == "another", "it is kept"
    del gifts["kite_a"]
    (problem,) = credentials.read().problems.values()
    assert "lacks" in problem, "the file is what is left"


def test_what_is_nowhere_is_told_with_all_the_places(host: Host) -> None:
    host.environment["CREDENTIALS_DIRECTORY"] = str(host.systemd)
    assert host.problem() == (
        f"credential kite_a: not found: looked for {host.systemd / 'kite_a'}, "
        f"{host.system / 'kite_a'}, {host.user / 'kite_a'} and MDSYS_CREDENTIAL_KITE_A"
    )


def test_without_xdg_config_home_it_is_below_home(host: Host, tmp_path: Path) -> None:
    host.environment = {"HOME": str(tmp_path)}
    folder = tmp_path / ".config" / "mdsys" / "credentials"
    folder.mkdir(parents=True)
    put(folder)
    credentials = host.credentials()
    credentials.read()
    assert credentials.source("kite_a") == str(folder / "kite_a")


def test_a_venue_without_credentials_has_an_empty_secret(host: Host) -> None:
    assert dict(host.credentials().secret(None)) == {}


@pytest.mark.parametrize(
    ("name", "variable"),
    [("kite_a", "MDSYS_CREDENTIAL_KITE_A"), ("a.b-c", "MDSYS_CREDENTIAL_A_B_C")],
)
def test_a_variable_has_the_name_in_capitals(name: str, variable: str) -> None:
    assert environment_name(name) == variable


def test_children_inherit_no_secret() -> None:
    environment = {"PATH": "/bin", "MDSYS_CREDENTIAL_X": SECRET, "CREDENTIALS_DIRECTORY": "/run"}
    assert without_credentials(environment) == {"PATH": "/bin"}


# ---- what is refused ----


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604, 0o700, 0o602])
def test_a_file_that_others_may_touch_is_refused_with_the_command(host: Host, mode: int) -> None:
    path = put(host.system, mode=mode)
    host.environment["MDSYS_CREDENTIAL_KITE_A"] = "not-looked-at"  # what is wrong is not passed by
    assert host.problem() == f"{path}: has mode {mode:04o}, not 0600: chmod 600 {path}"


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_our_own_is_taken(host: Host, mode: int) -> None:
    put(host.user, mode=mode)
    credentials = host.credentials(*FIELDS)
    assert not credentials.read().problems
    assert dict(credentials.secret("kite_a")) == {"api_key": "public", "access_token": SECRET}


def test_the_group_bits_of_systemds_files_are_an_acls_mask(host: Host) -> None:
    host.environment["CREDENTIALS_DIRECTORY"] = str(host.systemd)
    put(host.systemd, mode=0o440)
    assert not host.credentials(*FIELDS).read().problems
    (host.systemd / "kite_a").chmod(0o444)
    assert "has mode 0444" in host.problem()


def test_a_symbolic_link_is_refused(host: Host, tmp_path: Path) -> None:
    (host.system / "kite_a").symlink_to(put(tmp_path, name="elsewhere"))
    assert "is a symbolic link: put the file itself there" in host.problem()


@pytest.mark.parametrize(
    "make", [lambda path: path.mkdir(mode=0o600), lambda path: os.mkfifo(path, 0o600)]
)
def test_what_is_no_file_is_refused_and_not_waited_for(
    host: Host, make: Callable[[Path], None]
) -> None:
    make(host.system / "kite_a")
    assert "is no regular file" in host.problem()


def test_a_folder_that_others_may_write_is_refused(host: Host) -> None:
    put(host.system)
    host.system.chmod(0o770)
    assert host.problem() == (f"{host.system}: can be written by others: chmod 700 {host.system}")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
@pytest.mark.parametrize("of_folder", [False, True])
def test_another_users_file_is_refused(host: Host, *, of_folder: bool) -> None:
    path = put(host.system)
    os.chown(host.system if of_folder else path, 12_345, 12_345)
    assert "belongs to another user: chown root" in host.problem()


def test_a_file_too_large_is_refused(host: Host) -> None:
    put(host.system, "x" * (module.SIZE_BYTES_MAX + 1))
    assert "larger than 65536 bytes" in host.problem()


# ---- what stands there ----


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (" \n", "empty"),
        (f"access_token = {SECRET}", 'line 1 is not field = "value"'),
        (f'a = "b"\nx = {SECRET}', 'line 2 is not field = "value"'),
        (f'a = "{SECRET}', 'is not field = "value"'),
        (f"[{SECRET}]", 'is not field = "value"'),
        (f'{SECRET} = "x"', 'is not field = "value"'),
        (f'"{SECRET}" = "x"', 'a field is not field = "value"'),
        ("api_key = 17", 'api_key is not field = "value"'),
        (f'api_key = ["{SECRET}"]', 'api_key is not field = "value"'),
        (f'[api_key]\na = "{SECRET}"', 'api_key is not field = "value"'),
        ('api_key = ""', "api_key is empty"),
        (f'api_key = "{SECRET}\\r\\nX: y"', "signs inside"),
        (f'api_key = " {SECRET}"', "has blanks around"),
        ("api_key = " + "[" * 5_000, 'is not field = "value"'),
    ],
)
def test_what_is_no_secret_is_told_without_showing_it(host: Host, text: str, words: str) -> None:
    path = put(host.system, text)
    problem = host.problem(*FIELDS)
    assert problem.startswith(f"credential kite_a: {path}: ")
    assert words in problem


def test_no_text_is_no_secret(host: Host) -> None:
    put(host.system).write_bytes(b"\xff\xfe\x00")
    assert "no text in UTF-8" in host.problem()


def test_fields_that_lack_are_named(host: Host) -> None:
    put(host.system, f'api_key = "{SECRET}"')
    assert host.problem(*FIELDS).endswith("lacks access_token; it has api_key")


@pytest.mark.parametrize("text", [SECRET, f"{SECRET}\n", f"\ufeff{SECRET}\r\n", f"  {SECRET}  "])
def test_one_bare_line_is_the_one_field(host: Host, text: str) -> None:
    put(host.system, text)
    for fields, field in [((), "key"), (("key",), "key"), (("api_key",), "api_key")]:
        credentials = host.credentials(*fields)
        credentials.read()
        assert dict(credentials.secret("kite_a")) == {field: SECRET}


def test_a_bare_line_is_not_enough_for_two_fields(host: Host) -> None:
    put(host.system, SECRET)
    assert host.problem(*FIELDS).endswith("lacks api_key, access_token")


@given(st.text(max_size=60))
def test_whatever_stands_there_is_taken_or_refused_and_never_shown(text: str) -> None:
    try:
        secret = module._parse("P", text.encode(errors="surrogatepass"), ())
    except ConfigError as error:
        words = str(error).removeprefix("P: ")
        known = ("empty", "no text in UTF-8", "is not field =", "signs inside")
        assert any(each in words for each in known)
    else:
        assert all(value.isprintable() and value for value in secret.values())


# ---- anew ----


def test_reading_anew_names_what_changed_and_keeps_what_cannot_be_read(host: Host) -> None:
    path = put(host.system)
    credentials = host.credentials(*FIELDS)
    assert credentials.read().changed == ("kite_a",)
    assert credentials.read().changed == ()
    path.write_text(TOML.replace(SECRET, "newer-token"))
    assert credentials.read().changed == ("kite_a",)
    path.chmod(0o644)
    again = credentials.read()
    assert again.changed == ()
    assert "chmod 600" in again.problems["kite_a"]
    assert credentials.secret("kite_a")["access_token"] == "newer-token"
    assert credentials.mask(f"was {SECRET}, is newer-token") == "was ***, is ***"


def test_other_names_can_be_wanted(host: Host) -> None:
    put(host.system)
    put(host.system, "other-key", name="other")
    credentials = host.credentials(*FIELDS)
    credentials.read()
    assert credentials.read({"other": ("key",)}).changed == ("other",)
    with pytest.raises(ConfigError, match="run: mdsys ctl reload"):
        credentials.secret("kite_a")


def test_each_credential_must_have_the_fields_of_all_its_venues() -> None:
    class Venue:
        def __init__(self, name: str, *credentials: str) -> None:
            self.name = name
            self.credentials = credentials
            self.credential_fields = {"kite": FIELDS, "openalgo": ("api_key",)}[name]

    users = [Venue("kite", "a", "b"), Venue("openalgo", "b")]
    assert wanted_fields(users, {each.name: each for each in users}) == {"a": FIELDS, "b": FIELDS}


# ---- who is told what ----


def test_the_operator_is_told_what_to_replace(host: Host) -> None:
    credentials = host.credentials(*FIELDS)
    assert "(mode 0600), then: mdsys ctl reload" in credentials.where("kite_a")
    host.environment["MDSYS_CREDENTIAL_KITE_A"] = TOML
    credentials.read()
    assert "environment of a running daemon cannot change" in credentials.where("kite_a")
    path = put(host.system)
    credentials.read()
    assert credentials.where("kite_a", "live") == (
        f"credential kite_a (api_key, access_token) from {path}: replace the file, then: "
        "mdsys ctl reload --instance live"
    )
    host.environment["CREDENTIALS_DIRECTORY"] = str(host.systemd)
    put(host.systemd)
    credentials = host.credentials(*FIELDS)
    credentials.read()
    assert "restart the unit" in credentials.where("kite_a")


def test_no_way_of_printing_shows_a_secret(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    put(host.system)
    credentials = host.credentials(*FIELDS)
    reread = credentials.read()
    secret = credentials.secret("kite_a")
    logging.getLogger("test").warning("%s %r %s %s", secret, credentials, reread, {"a": secret})
    shown = [str(secret), f"{secret}", repr([secret]), repr(copy.copy(credentials)), caplog.text]
    shown += [credentials.where("kite_a"), str(credentials.source("kite_a"))]
    assert not [text for text in shown if SECRET in text]
    assert repr(secret) == "<secret of 2 fields>"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)


def test_secrets_are_masked_also_as_a_url_writes_them(host: Host) -> None:
    put(host.system)
    credentials = host.credentials(*FIELDS)
    credentials.read()
    text = f"GET /?t=s3cr3t-t0ken%2Fwith%2Bsigns%3D&k=public ({SECRET})"
    assert credentials.mask(text) == "GET /?t=***&k=*** (***)"
