"""The configuration file: what is accepted, what it comes to, and what each mistake is told."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tomllib
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdsys import check_command, config, config_checks, config_file
from mdsys.cli import main
from mdsys.config import Config
from mdsys.daemon.credentials import Credentials
from mdsys.errors import ConfigError, ExitCode, NoPermission
from mdsys.feed.venue import Limits, Window, venues


def to_toml(checked: Config) -> str:
    """Return what ``mdsys check`` prints where no credential is kept."""
    return check_command.to_toml(checked, Credentials({}, environment={}))


@dataclass(frozen=True)
class Facts:
    """A venue as far as the checks look at it."""

    channels: tuple[str, ...]
    limits: Limits
    credential_fields: tuple[str, ...] = ()
    channels_default: tuple[str, ...] = ("trade", "quote", "book")

    def spelled(self, symbol: str) -> str:
        """Return it in capitals and without blanks, as many venues write theirs."""
        return "".join(symbol.split()).upper()


STREAMS = Limits(
    streams_per_connection=1_024,
    messages=(Window(5, 1.0),),
    control_frames_count=True,
    rest_weight=(Window(6_000, 60.0),),
)
VENUES = {
    "binance": Facts(("trade", "quote", "book"), STREAMS),
    "binance_usdm": Facts(("trade", "quote", "book"), STREAMS),
    "tickers": Facts(("ticker", "bar"), Limits(symbols_per_connection=3_000)),
    "keyed": Facts(("ticker",), Limits(), ("api_key", "access_token")),
}
LEAST = {"venue": [{"name": "binance", "symbols": ["BTCUSDT"]}]}
CORE = min(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test the same machine: 16 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr("mdsys.config_checks.allowed_cores", lambda: set(range(16)))
    monkeypatch.setattr("mdsys.config_checks.present_cores", lambda: frozenset(range(24)))


def parse(text: str, folder: Path | None = None) -> Config:
    return config_file.parse(tomllib.loads(text), source="FILE", folder=folder, venues=VENUES)


def problems(text: str, folder: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, folder)
    return list(caught.value.problems)


def with_venue(text: str) -> str:
    return f'{text}\n[[venue]]\nname = "binance"\nsymbols = ["BTCUSDT"]\n'


def venue_with(text: str) -> str:
    return f'[[venue]]\nname = "binance"\nsymbols = ["BTCUSDT"]\n{text}\n'


# What a configuration comes to


def test_the_least_config_gets_the_latency_profile() -> None:
    checked = config_file.parse(LEAST, venues=VENUES)
    assert (checked.instance, checked.group, checked.profile) == ("default", None, "latency")
    assert checked.rings == config.Rings(4, 512 << 10, 65_536)
    assert checked.memory.dir is None
    assert checked.feeds == config.Feeds(1, ())
    assert checked.consumer == config.Consumer(10, True, 0.5, 1_000, {}, 1_000)
    assert checked.metrics.listen is None
    (venue,) = checked.venues
    assert venue == config.VenueConfig(
        name="binance",
        symbols=("BTCUSDT",),
        symbols_file=None,
        channels=("trade", "quote", "book"),
        url=None,
        rest_url=None,
        credentials=(),
        calendar=None,
        max_symbols_per_connection=341,  # 1024 streams, three of them a symbol
        batch_size=50,
        limits=STREAMS,
    )


@pytest.mark.parametrize(
    ("profile", "figures"),
    [
        ("throughput", (16, 4 << 20, 200, 20_000, 0.8, 8, 1_000)),
        ("latency", (4, 512 << 10, 10, 1_000, 0.5, 1, 1_000)),
        ("symbols", (12, 8 << 20, 50, 10_000, 0.8, 6, 1_024)),  # 2000, capped by the venue
    ],
)
def test_a_profile_sets_its_keys(profile: str, figures: tuple[float, ...]) -> None:
    checked = parse(f'profile = "{profile}"\n' + venue_with('channels = ["trade"]'))
    assert figures == (
        checked.rings.num_buffers,
        checked.rings.buffer_size,
        checked.consumer.consumer_batch_size,
        checked.consumer.max_queue_size,
        checked.consumer.backpressure_threshold,
        checked.feeds.num_processes,
        checked.venues[0].max_symbols_per_connection,
    )


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("rings", "num_buffers", 9),
        ("rings", "buffer_size", 1 << 20),
        ("feeds", "num_processes", 3),
        ("consumer", "consumer_batch_size", 33),
        ("consumer", "max_queue_size", 777),
        ("consumer", "backpressure_threshold", 0.25),
    ],
)
def test_a_key_given_by_itself_overrides_its_profile_alone(
    section: str, key: str, value: float
) -> None:
    plain = parse(with_venue('profile = "throughput"'))
    checked = parse(with_venue(f'profile = "throughput"\n[{section}]\n{key} = {value}'))
    part = replace(getattr(plain, section), **{key: value})
    assert checked == replace(plain, **{section: part})


@pytest.mark.parametrize(("core_count", "processes"), [(1, 1), (2, 2), (6, 6), (64, 8)])
def test_a_profiles_processes_are_capped_by_the_host(
    monkeypatch: pytest.MonkeyPatch, core_count: int, processes: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(core_count)))
    checked = parse(with_venue('profile = "throughput"'))
    assert checked.feeds.num_processes == processes
    cores = "1 core" if core_count == 1 else f"{core_count} cores"
    told = f"feeds.num_processes: {processes}, not the profile's 8: this process may run on {cores}"
    assert (told in checked.capped) == (processes < 8)


def test_a_profiles_processes_are_capped_by_the_rings() -> None:
    text = with_venue('profile = "throughput"\n[rings]\nnum_buffers = 3')
    checked = parse(text)
    assert checked.feeds.num_processes == 3
    told = "feeds.num_processes: 3, not the profile's 8: rings.num_buffers is 3"
    assert told in checked.capped


def test_a_profiles_processes_are_as_many_as_the_cores_that_are_named() -> None:
    checked = parse(with_venue('profile = "symbols"\n[feeds]\ncores = [4, 5, 6]'))
    assert checked.feeds == config.Feeds(3, (4, 5, 6))
    told = "feeds.num_processes: 3, not the profile's 6: feeds.cores names 3 cores"
    assert told in checked.capped


def test_processes_given_by_hand_are_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert parse(with_venue("[feeds]\nnum_processes = 4")).feeds.num_processes == 4


def test_the_example_of_the_manual_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("# majors\nETHUSDT\n\n  BTCUSDT\r\n")
    text = f"""
        instance = "default"
        group    = "mdsys"
        profile  = "latency"
        [rings]
        num_buffers = 8
        buffer_size = "2 MiB"
        max_symbols = 65536
        [memory]
        dir = "{tmp_path}"
        [feeds]
        num_processes = 2
        cores = [2, 3]
        [consumer]
        consumer_batch_size = 200
        adaptive_batching = true
        backpressure_threshold = 0.8
        max_queue_size = 10000
        lossless_wait_us = 250
        [consumer.cores]
        s1 = 4
        "scan.eu-1" = 5
        [metrics]
        listen = "127.0.0.1:9464"
        [[venue]]
        name = "binance"
        symbols = ["BTCUSDT"]
        symbols_file = "more.txt"
        channels = ["trade", "quote", "book"]
        url = "ws://127.0.0.1:9001"
        rest_url = "http://127.0.0.1:9002"
        credentials = ["key_a"]
        calendar = "XBOM"
        max_symbols_per_connection = 1000
        batch_size = 50
        limits = {{connections = 2}}
    """
    checked = parse(text, tmp_path)
    assert checked.rings == config.Rings(8, 2 << 20, 65_536)
    assert checked.memory.dir == tmp_path
    assert checked.feeds == config.Feeds(2, (2, 3))
    assert checked.consumer == config.Consumer(
        200, True, 0.8, 10_000, {"s1": 4, "scan.eu-1": 5}, 250
    )
    assert checked.metrics.listen == "127.0.0.1:9464"
    assert checked.venues[0].symbols == ("BTCUSDT", "ETHUSDT")
    assert checked.venues[0].credentials == ("key_a",)
    assert checked.venues[0].limits == replace(STREAMS, connections=2)


def test_a_checked_config_is_frozen() -> None:
    checked = config_file.parse(LEAST, venues=VENUES)
    with pytest.raises(FrozenInstanceError):
        checked.instance = "other"  # type: ignore[misc]


def test_a_venue_without_the_usual_channels_gives_all_it_has() -> None:
    text = '[[venue]]\nname = "tickers"\nsymbols = ["A"]\n'
    assert parse(text).venues[0].channels == ("ticker", "bar")
    assert parse(text + 'channels = ["ticker"]').venues[0].channels == ("ticker",)


# Limits


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ('messages = "3/s"', {"messages": (Window(3, 1.0),)}),
        (
            'connects = "8/s 300/5m"\nrest_weight = "1200/m"',
            {"connects": (Window(8, 1.0), Window(300, 300.0)), "rest_weight": (Window(1200, 60),)},
        ),
        (
            'address_messages = "8/0.5s"\nkey_connects = "1/2h 9/d"',
            {
                "address_messages": (Window(8, 0.5),),
                "key_connects": (Window(1, 7_200.0), Window(9, 86_400.0)),
            },
        ),
        (
            "symbols_per_connection = 7\nstreams_per_connection = 30\nstreams_per_message = 9",
            {
                "symbols_per_connection": 7,
                "streams_per_connection": 30,
                "streams_per_message": 9,
            },
        ),
    ],
)
def test_each_limit_given_replaces_the_venues(written: str, found: dict[str, Any]) -> None:
    text = venue_with(f"[venue.limits]\n{written}")
    assert parse(text).venues[0].limits == replace(STREAMS, **found)


@pytest.mark.parametrize(
    ("limits", "symbols_max"),
    [
        ("", 341),  # 1,024 streams, three of them a symbol
        ("streams_per_connection = 10", 3),
        ("streams_per_connection = 9000", 1_000),
        ("symbols_per_connection = 20", 20),
        ("symbols_per_connection = 2000", 341),
    ],
)
def test_symbols_of_a_connection_are_capped_by_every_limit(limits: str, symbols_max: int) -> None:
    text = venue_with(f"max_symbols_per_connection = 1000\n[venue.limits]\n{limits}")
    assert parse(text).venues[0].max_symbols_per_connection == symbols_max


@pytest.mark.parametrize(
    ("text", "symbols_max"),
    [
        ("limits = {connections = 1}", 100_000),
        ("limits = {connections = 1}\nmax_symbols_per_connection = 10", 100_000),
        ("limits = {connections = 1, symbols_per_connection = 500}", 500),
        ("limits = {connections = 3}", 100_000),
        ("limits = {connections = 3}\nmax_symbols_per_connection = 10", 10),
        ("max_symbols_per_connection = 10", 10),
        ("", 1_000),
    ],
)
def test_few_connections_are_filled(text: str, symbols_max: int) -> None:
    venue = f'[[venue]]\nname = "keyed"\nsymbols = ["A"]\ncredentials = ["k"]\n{text}'
    checked = parse(venue)
    assert checked.venues[0].max_symbols_per_connection == symbols_max
    said = 10 if "= 10" in text else 1_000
    assert bool(checked.capped) == (symbols_max != said)


BY_STREAMS = "limits.streams_per_connection is 1024, and each symbol has 3 channels"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", f"341, not the profile's 1000: {BY_STREAMS}"),
        ("max_symbols_per_connection = 500", f"341, not the 500 asked for: {BY_STREAMS}"),
        ("max_symbols_per_connection = 341", None),
        ("max_symbols_per_connection = 340", None),
        ('channels = ["trade"]', None),
        (
            "limits = {symbols_per_connection = 7}",
            "7, not the profile's 1000: limits.symbols_per_connection is 7",
        ),
        (
            "limits = {connections = 3}",
            "341, not the profile's 1000: limits.connections is 3: so few are filled; "
            + BY_STREAMS,
        ),
        (
            "limits = {connections = 1}\nmax_symbols_per_connection = 9",
            "341, not the 9 asked for: the one connection there may be carries everything; "
            + BY_STREAMS,
        ),
    ],
)
def test_a_figure_that_is_not_the_one_that_was_said_is_told_with_the_reason(
    text: str, told: str | None
) -> None:
    checked = parse(venue_with(text))
    assert checked.capped == ((f"venue[0].max_symbols_per_connection: {told}",) if told else ())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('messages = "5"', 'limits.messages: "5" is no limit: COUNT/TIME, as "5/s"'),
        ('messages = "5/s,3/m"', '"5/s,3/m" is no limit'),
        ('messages = "5/s  3/m"', "is no limit"),
        ('messages = ""', '"" is no limit'),
        ('messages = "5/w"', '"5/w" is no limit'),
        ('messages = "-5/s"', "is no limit"),
        ('messages = "\u0665/s"', "is no limit"),  # a digit, but not one of ours
        ("messages = 5", "limits.messages: 5 is no string"),
        ('messages = "0/s"', 'limits.messages: "0/s": the count is not in [1, 2147483647]'),
        ('messages = "2147483648/s"', "the count is not in"),
        ('messages = "5/0s"', "the time is not in (0, 1 day]"),
        ('messages = "5/2d"', "the time is not in (0, 1 day]"),
        ('conects = "5/s"', "limits.conects: unknown key; did you mean connects?"),
        ("streams_per_message = 0", "limits.streams_per_message: 0 is not in"),
        (
            "streams_per_connection = 2",
            "limits.streams_per_connection: 2 is less than one symbol's 3 channels",
        ),
    ],
)
def test_a_mistake_in_the_limits_is_named(text: str, problem: str) -> None:
    (found,) = problems(venue_with(f"[venue.limits]\n{text}"))
    assert found.startswith("FILE: venue[0].limits")
    assert problem in found


@given(
    st.lists(
        st.builds(
            Window,
            st.integers(1, (1 << 31) - 1),
            st.integers(1, 86_400_000).map(lambda ms: ms / 1_000),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_windows_are_written_as_they_are_read(windows: list[Window]) -> None:
    assert config_checks.windows(config_checks.windows_text(windows)) == tuple(windows)


def test_the_reference_has_every_profile_with_its_figures() -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("| `") and line.count("|") == 9]
    written = {}
    for line in lines:
        name, *figures = (cell.strip(" `") for cell in line.strip("|").split("|"))
        rings, size, batch, queue, threshold, processes, symbols = figures
        written[name] = config.Profile(
            int(rings),
            config_checks.ring_size(size),
            int(batch),
            int(queue),
            float(threshold),
            int(processes),
            int(symbols),
        )
    assert written == config.PROFILES


def test_every_key_is_in_the_reference() -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    parts = (config.Rings, config.Memory, config.Feeds, config.Consumer, config.Metrics)
    keys = {field.name for part in (*parts, config.VenueConfig) for field in fields(part)}
    keys |= {"instance", "group", "profile", "symbols_file", *config_file.LIMITS, *config.PROFILES}
    assert {key for key in keys if f"`{key}`" not in page} == set()


# Calendars


@pytest.mark.parametrize("name", ["XBOM", "XNYS", "BSE", "24/7"])
def test_a_calendar_is_one_of_exchange_calendars(name: str) -> None:
    pytest.importorskip("exchange_calendars")
    assert parse(venue_with(f'calendar = "{name}"')).venues[0].calendar == name


def test_a_calendar_that_there_is_not_is_refused_with_a_near_one() -> None:
    pytest.importorskip("exchange_calendars")
    (problem,) = problems(venue_with('calendar = "XBOMB"'))
    assert problem.startswith(
        'FILE: venue[0].calendar: "XBOMB" is no calendar of exchange_calendars; did you mean '
    )


def test_a_calendar_without_the_package_is_refused_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    assert problems(venue_with('calendar = "XBOM"')) == [
        "FILE: venue[0].calendar: \"XBOM\" needs a package: pip install 'mdsys[calendars]'"
    ]


# Credentials


def test_a_venue_that_needs_a_credential_must_name_one() -> None:
    text = '[[venue]]\nname = "keyed"\nsymbols = ["A"]\n'
    (problem,) = problems(text)
    assert problem.startswith(
        "FILE: venue[0].credentials: none: keyed needs one with api_key, access_token"
    )
    assert parse(text + 'credentials = ["a", "b"]').venues[0].credentials == ("a", "b")


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "a/b", "", "a" * 65, "a b"])
def test_a_credentials_name_is_no_path(name: str) -> None:
    (problem,) = problems(venue_with(f'credentials = ["{name}"]'))
    assert "venue[0].credentials[0]: holds what is no name" in problem


def test_check_says_where_each_credential_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mdsys" / "credentials"
    folder.mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setenv("MDSYS_CREDENTIAL_KEY_C", "s3cret-c")
    for name in ("key-a", "key-b"):
        (folder / name).write_text("s3cret-in-a-file")
        (folder / name).chmod(0o600)
    path = tmp_path / "c.toml"
    path.write_text(venue_with('credentials = ["key-a", "key_c"]'))
    assert main(["check", "--config", str(path)]) == 0
    out, err = capsys.readouterr()
    assert 'credentials = ["key-a", "key_c"]' in out
    err = "".join(line for line in err.splitlines(keepends=True) if "credentials" in line)
    assert err == (
        f"venue[0].credentials[0]: {folder}/key-a (1 field)\n"
        "venue[0].credentials[1]: the environment (MDSYS_CREDENTIAL_KEY_C) (1 field)\n"
    )
    (folder / "key-b").chmod(0o644)
    path.write_text(venue_with('credentials = ["key-b", "key-a", "n0tANameButTheS3cret"]'))
    assert main(["check", "--config", str(path)]) == ExitCode.CONFIG
    out, err = capsys.readouterr()
    assert f"{path}: venue[0].credentials[0]: {folder}/key-b: has mode 0644, not 0600: chmod" in err
    assert f"{path}: venue[0].credentials[2]: not found: no file of this name in " in err
    assert "s3cret" not in (out + err).lower()


@pytest.fixture
def check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], list[str]]:
    """Return a function that has ``mdsys check`` refuse a file, where no credential is kept."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)

    def refuse(text: str) -> list[str]:
        path = tmp_path / "c.toml"
        path.write_text(text)
        assert main(["check", "--config", str(path)]) == ExitCode.CONFIG
        return [line.removeprefix(f"{path}: ") for line in capsys.readouterr().err.splitlines()]

    return refuse


def test_check_tells_missing_credentials_and_mistyped_keys_of_all_venues_at_once(
    check: Callable[[str], list[str]],
) -> None:
    lines = check(
        """
        instanze = "a"
        [[venue]]
        name = "kite"
        symbols = ["INFY"]
        credentials = ["KITE_B", "kite.c"]
        [[venue]]
        name = "nowhere"
        symbols = ["A"]
        credentials = ["nobodys"]
        [[venue]]
        name = "openalgo"
        symbols = ["SBIN"]
        credentials = ["n0tANameButTheS3cret"]
        chanels = ["quote"]
        """
    )
    see = ": see docs/credentials.md"
    assert [re.sub("no file.*, and no", "no", line) for line in lines] == [
        'venue[0].symbols[0]: "INFY" is not how kite writes a symbol; did you mean NSE:INFY?',
        'venue[1].name: "nowhere" is unknown; there are ' + ", ".join(venues()),
        'venue[2].symbols[0]: "SBIN" is not how openalgo writes a symbol; did you mean NSE:SBIN?',
        "venue[2].chanels: unknown key; did you mean channels?",
        "instanze: unknown key; did you mean instance?",
        f"venue[0].credentials[0]: not found: no variable MDSYS_CREDENTIAL_KITE_B{see}",
        f"venue[0].credentials[1]: not found: no variable MDSYS_CREDENTIAL_KITE_C{see}",
        f"venue[2].credentials[0]: not found: no variable MDSYS_CREDENTIAL_...{see}",
    ]
    assert "no file KITE_B in /etc/mdsys/credentials or " in lines[5]


def test_check_tells_that_the_keys_are_too_few_for_the_symbols(
    check: Callable[[str], list[str]],
) -> None:
    symbols = [f"NSE:S{n}" for n in range(20_000)]
    text = f'[[venue]]\nname = "kite"\nsymbols = {symbols}\ncredentials = ["a", "b"]\n'
    too_few = (
        "venue[0].credentials: 2 keys of 3 connections each, but 20000 symbols of kite need 7 "
        "connections of 3000: 3 keys"
    )
    assert check(text + "unknown = 1")[-1] == too_few
    assert not any("need 7" in line for line in check(text + "batch_size = 0"))  # not judged
    assert not any("need 7" in line for line in check(text + "[feeds]\nnum_processes = 0"))


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ('"4 KiB"', 4 << 10),
        ('"512KiB"', 512 << 10),
        ('"2 MiB"', 2 << 20),
        ('"1 GiB"', 1 << 30),
        ('"16 GiB"', 16 << 30),
        ("65536", 65_536),
        ('"65536"', 65_536),
    ],
)
def test_sizes_may_have_units(written: str, size: int) -> None:
    assert parse(with_venue(f"[rings]\nbuffer_size = {written}")).rings.buffer_size == size


def test_check_tells_nothing_on_stderr_where_all_is_as_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(venue_with('channels = ["trade"]\n[metrics]\nlisten = "127.0.0.1:9464"'))
    assert main(["check", "--config", str(path)]) == 0
    out, err = capsys.readouterr()
    assert parse(out).metrics.listen == "127.0.0.1:9464"
    assert err == ""


def test_check_tells_on_stderr_what_was_capped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(with_venue('profile = "throughput"\n[rings]\nnum_buffers = 2'))
    assert main(["check", "--config", str(path)]) == 0
    assert capsys.readouterr().err == (
        "feeds.num_processes: 2, not the profile's 8: rings.num_buffers is 2\n"
        "venue[0].max_symbols_per_connection: 341, not the profile's 1000: "
        "limits.streams_per_connection is 1024, and each symbol has 3 channels\n"
    )


# Mistakes


def test_every_mistake_is_told_at_once() -> None:
    text = """
        instance = "Default"
        [rings]
        num_bufers = 3
        buffer_size = "3 MiB"
        [[venue]]
        name = "binance"
        symbol_file = "x"
        url = "htp://a"
        [[venue]]
        name = "krakn"
    """
    assert problems(text) == [
        'FILE: instance: "Default" is not 1 to 32 of a-z, 0-9, _ and -',
        'FILE: rings.buffer_size: "3 MiB" is no power of 2; near it are 2 MiB or 4 MiB',
        "FILE: rings.num_bufers: unknown key; did you mean num_buffers?",
        'FILE: venue[0].url: "htp://a" does not begin with ws:// or wss://',
        "FILE: venue[0].symbol_file: unknown key; did you mean symbols_file?",
        'FILE: venue[1].name: "krakn" is unknown; there are binance, binance_usdm, tickers, keyed',
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # names
        ('instance = ""', "instance: "),
        ('instance = "a/b"', "instance: "),
        ('instance = "a\\n"', "instance: "),
        (f'instance = "{"a" * 33}"', "instance: "),
        ("instance = 3", "instance: 3 is no string"),
        ('group = "no group"', "group: "),
        ('profile = "latncy"', 'profile: "latncy" is unknown; did you mean latency?'),
        ('profile = "x"', 'profile: "x" is unknown; there are latency, throughput, symbols'),
        # keys and tables
        ("ring = 1", "ring: unknown key; did you mean rings?"),
        ("zzz = 1", "zzz: unknown key"),
        ('"a b" = 1', '"a b": unknown key'),
        ("rings = 3", "rings: must be a table"),
        # figures
        ("[rings]\nnum_buffers = 0", "rings.num_buffers: 0 is not in [1, 256]"),
        ("[rings]\nnum_buffers = 257", "rings.num_buffers: 257 is not in [1, 256]"),
        ("[rings]\nnum_buffers = true", "rings.num_buffers: true is no integer"),
        ("[rings]\nnum_buffers = 4.0", "rings.num_buffers: 4.0 is no integer"),
        ('[rings]\nnum_buffers = "4"', 'rings.num_buffers: "4" is no integer'),
        ('[rings]\nbuffer_size = "2 MB"', 'rings.buffer_size: "2 MB" is not a size'),
        ("[rings]\nbuffer_size = 2048", "rings.buffer_size: 2048 bytes are not in [4 KiB, 16"),
        ("[rings]\nbuffer_size = true", "rings.buffer_size: true is no string"),
        ('[rings]\nbuffer_size = "32 GiB"', "rings.buffer_size: "),
        ("[rings]\nmax_symbols = 0", "rings.max_symbols: 0 is not in [1, 16777216]"),
        ('[memory]\ndir = "/no/such/place"', 'memory.dir: "/no/such/place" is no directory'),
        ('[memory]\ndir = "here"', 'memory.dir: "here" is no absolute path'),
        ("[feeds]\nnum_processes = 65", "feeds.num_processes: 65 is not in [1, 64]"),
        (
            "[feeds]\nnum_processes = 5",
            "rings.num_buffers: 4 rings for 5 feeds: each feed needs one",
        ),
        ("[feeds]\ncores = [99]", "feeds.cores: this process has no core [99]"),
        ("[feeds]\ncores = [1, 1]", "feeds.cores: names a core twice"),
        ("[feeds]\ncores = []", "feeds.cores: is empty"),
        ("[feeds]\ncores = 1", "feeds.cores: must be an array"),
        ("[feeds]\ncores = [1, -1]", "feeds.cores[1]: -1 is not in [0, 4095]"),
        (
            "[feeds]\nnum_processes = 2\ncores = [1]",
            "feeds.cores: 1 for 2 feeds: name one core for each",
        ),
        ("[consumer]\nconsumer_batch_size = 0", "consumer.consumer_batch_size: 0 is not in"),
        ("[consumer]\nadaptive_batching = 1", "consumer.adaptive_batching: 1 is neither true"),
        ("[consumer]\nbackpressure_threshold = 0", "0 is not in (0, 1]"),
        ("[consumer]\nbackpressure_threshold = 1.5", "1.5 is not in (0, 1]"),
        ("[consumer]\nbackpressure_threshold = nan", "nan is not in (0, 1]"),
        ("[consumer]\nbackpressure_threshold = true", "true is no number"),
        ("[consumer]\nmax_queue_size = 9", "consumer.max_queue_size: 9 is less than one batch"),
        ("[consumer]\ncores = [3]", "consumer.cores: must be a table"),
        ("[consumer]\nlossless_wait_us = -1", "consumer.lossless_wait_us: -1 is not in"),
        ("[consumer.cores]\ns1 = -1", "consumer.cores: s1: -1 is not in [0, 4095]"),
        ("[consumer.cores]\ns1 = true", "consumer.cores: s1: true is no integer"),
        ('[consumer.cores]\ns1 = "3"', 'consumer.cores: s1: "3" is no integer'),
        ("[consumer.cores]\ns1 = 3\ns2 = 3", "consumer.cores: s2: core 3 is s1's"),
        (
            "[consumer.cores]\ns1 = 24",
            "consumer.cores: s1: this host has no core 24; it has 0-23",
        ),
        ('[consumer.cores]\n"s 1" = 3', '"s 1" is not a reader\'s name'),
        (f"[consumer.cores]\n{'a' * 32} = 3", "is not a reader's name"),
        ('[metrics]\nlisten = "9464"', 'metrics.listen: "9464" is not HOST:PORT'),
        ('[metrics]\nlisten = "a:0"', 'metrics.listen: "a:0" has no port in [1, 65535]'),
        ('[metrics]\nlisten = "a:65536"', "metrics.listen: "),
        ('[metrics]\nlisten = "::1:9464"', "metrics.listen: "),
    ],
)
def test_a_mistake_outside_the_venues_is_named(text: str, problem: str) -> None:
    found = problems(with_venue(text))
    assert len(found) == 1
    assert found[0].startswith("FILE: ")
    assert problem in found[0]


def test_all_mistakes_among_the_readers_cores_are_told_at_once() -> None:
    cores = {"s1": 3, "a b": 4, "s2": "5", "s3": 3, "s4": 99, "s5": 6}
    with pytest.raises(ConfigError) as caught:
        config_file.parse(LEAST | {"consumer": {"cores": cores}}, venues=VENUES)
    assert [problem.partition("consumer.cores: ")[2] for problem in caught.value.problems] == [
        '"a b" is not a reader\'s name: 1 to 31 of A-Z a-z 0-9 . _ -',
        's2: "5" is no integer',
        "s3: core 3 is s1's",
        "s4: this host has no core 99; it has 0-23",
    ]


def test_readers_core_need_not_be_one_of_the_daemons() -> None:
    parsed = config_file.parse(LEAST | {"consumer": {"cores": {"s1": 20}}}, venues=VENUES)
    assert parsed.consumer.cores == {"s1": 20}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("symbol = 1", "symbol: unknown key; did you mean symbols?"),
        ("channels = []", "channels: is empty"),
        ('channels = ["trades"]', 'channels[0]: "trades" is unknown; did you mean trade?'),
        ('channels = ["bar"]', 'channels[0]: binance has no channel "bar"; it has trade, quote'),
        ('url = "127.0.0.1:9001"', "url: "),
        ('url = "http://a"', 'url: "http://a" does not begin with ws:// or wss://'),
        ('url = "ws://"', 'url: "ws://" names no host'),
        ('url = "ws://a:0"', 'url: "ws://a:0" has no port'),
        ('url = "ws://a:99999"', "has no port in [1, 65535]"),
        ('url = "ws://a:x"', "has no port in [1, 65535]"),
        ('url = "ws://a b"', "holds what no URL may hold"),
        ('url = "ws://a/\\r\\nHost: b"', "holds what no URL may hold"),
        ('url = "ws://[::1"', "url: "),
        ('url = "ws://a#b"', "fragment"),
        ('url = "ws://"\nrest_url = "http://a"', "url: "),
        ('rest_url = "ws://a"', 'rest_url: "ws://a" does not begin with http:// or https://'),
        ("url = 1", "url: 1 is no string"),
        ('credentials = "key_a"', "credentials: must be an array"),
        ('calendar = "x bom"', "calendar: "),
        ("max_symbols_per_connection = 0", "max_symbols_per_connection: 0 is not in"),
        ("batch_size = 0", "batch_size: 0 is not in [1, 1000]"),
        ("limits = 3", "limits: must be a table"),
        ("limits = {conections = 3}", "limits.conections: unknown key; did you mean connections?"),
        ("limits = {connections = 0}", "limits.connections: 0 is not in"),
        ('symbols_file = "none.txt"', "none.txt: No such file or directory"),
    ],
)
def test_a_mistake_in_a_venue_is_named(text: str, problem: str) -> None:
    found = problems(venue_with(text))
    assert len(found) == 1
    assert found[0].startswith("FILE: venue[0].")
    assert problem in found[0]


@pytest.mark.parametrize("value", ["1", "[1]", "{a = 1}", "[[1]]", "1979-05-27", "inf", "[{}]"])
@pytest.mark.parametrize(
    "key",
    ["name", "symbols", "symbols_file", "channels", "url", "credentials", "calendar", "limits"],
)
def test_a_value_of_the_wrong_type_is_a_mistake_and_no_crash(key: str, value: str) -> None:
    rest = "" if key == "name" else 'name = "binance"\n'
    rest += "" if key == "symbols" else 'symbols = ["A"]\n'
    found = problems(f"[[venue]]\n{rest}{key} = {value}")
    assert all(each.startswith(f"FILE: venue[0].{key}") for each in found)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "FILE: venue: none: give at least one [[venue]]"),
        ("venue = []", "FILE: venue: none: give at least one [[venue]]"),
        ("venue = 3", "FILE: venue: must be an array of tables: write [[venue]]"),
        ('[venue]\nname = "binance"', "FILE: venue: must be an array of tables: write [[venue]]"),
        ('[[venue]]\nsymbols = ["A"]', "FILE: venue[0].name: missing"),
        (
            '[[venue]]\nname = "binance"',
            "FILE: venue[0].symbols: none: give symbols, or symbols_file",
        ),
        (
            '[[venue]]\nname = "kraken"\nsymbols = ["A"]',
            'FILE: venue[0].name: "kraken" is unknown; there are ' + ", ".join(VENUES),
        ),
        (
            '[[venue]]\nname = "binanse"\nsymbols = ["A"]',
            'FILE: venue[0].name: "binanse" is unknown; did you mean binance?',
        ),
    ],
)
def test_a_missing_or_unknown_venue_is_named(text: str, problem: str) -> None:
    assert problems(text) == [problem]


def test_two_venues_with_one_name_are_refused() -> None:
    text = venue_with("") + '[[venue]]\nname = "binance_usdm"\nsymbols = ["A"]\n' + venue_with("")
    assert problems(text) == [
        'FILE: venue[2].name: "binance" is venue[0] already; give each venue one table'
    ]


def test_more_symbols_than_the_directory_holds_are_refused() -> None:
    text = '[rings]\nmax_symbols = 1\n[[venue]]\nname = "binance"\nsymbols = ["A", "B"]'
    assert problems(text) == ["FILE: rings.max_symbols: 1 is too few for 2 symbols"]


def test_a_refused_key_causes_no_second_complaint() -> None:
    assert problems(with_venue("[rings]\nnum_buffers = -1\n[feeds]\nnum_processes = 9")) == [
        "FILE: rings.num_buffers: -1 is not in [1, 256]"
    ]


# Symbols


def test_a_symbol_fits_with_its_venue_into_63_bytes() -> None:
    longest = "A" * (63 - len("BINANCE:"))
    assert parse(f'[[venue]]\nname = "binance"\nsymbols = ["{longest}"]')
    (problem,) = problems(f'[[venue]]\nname = "binance"\nsymbols = ["{longest}A"]')
    assert "64 bytes long; at most 63 fit" in problem


@pytest.mark.parametrize(
    ("symbol", "hint"),
    [("btcusdt", "; did you mean BTCUSDT?"), ("BTC uSDT", "; did you mean BTCUSDT?")],
)
def test_a_symbol_that_the_venue_writes_otherwise_is_refused_with_the_right_spelling(
    symbol: str, hint: str, tmp_path: Path
) -> None:
    problem = f'"{symbol}" is not how binance writes a symbol{hint}'
    (tmp_path / "s.txt").write_text(f"ETHUSDT\n  {symbol}\n")
    text = f'[[venue]]\nname = "binance"\nsymbols = ["ETHUSDT", "{symbol}"]'
    assert problems(f'{text}\nsymbols_file = "s.txt"', tmp_path) == [
        f"FILE: venue[0].symbols[1]: {problem}",
        f"FILE: venue[0].symbols_file: {tmp_path}/s.txt:2: {problem}",
    ]


def test_an_array_full_of_mistakes_is_not_told_value_by_value() -> None:
    names = [f"s{index}" for index in range(5_000)]
    found = problems(f'[[venue]]\nname = "binance"\nsymbols = {names}')
    assert len(found) == 11
    assert found[9].startswith('FILE: venue[0].symbols[9]: "s9" is not how')
    assert found[10] == "FILE: venue[0].symbols: and 4990 more values are wrong"


def test_a_symbol_named_twice_is_one() -> None:
    text = '[[venue]]\nname = "binance"\nsymbols = ["A", "B", "A"]'
    assert parse(text).venues[0].symbols == ("A", "B")


def test_a_venue_names_its_symbols_in_full() -> None:
    venue = parse('[[venue]]\nname = "binance_usdm"\nsymbols = ["A"]').venues[0]
    assert venue.full_name("A") == "BINANCE_USDM:A"


def test_a_symbols_file_is_sought_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("A\nB")
    (tmp_path / "c.toml").write_text('[[venue]]\nname = "binance"\nsymbols_file = "s.txt"')
    assert config_file.load(tmp_path / "c.toml", venues=VENUES).venues[0].symbols == ("A", "B")


def test_mistakes_in_a_symbols_file_are_told_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("A\n# fine\n" + "B" * 60 + "\n\tC\nD\x07\n")
    found = problems('[[venue]]\nname = "binance"\nsymbols_file = "s.txt"', tmp_path)
    places = [f"FILE: venue[0].symbols_file: {tmp_path}/s.txt:{line}: " for line in (3, 5)]
    assert [each[: len(place)] for each, place in zip(found, places, strict=True)] == places


def test_a_symbols_file_that_is_something_else_is_not_told_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("\x01\n" * 5_000)
    found = problems('[[venue]]\nname = "binance"\nsymbols_file = "s.txt"', tmp_path)
    assert len(found) == 11
    assert found[-1].endswith("and 4990 more lines are wrong")


def test_fifty_thousand_symbols_are_read_and_not_printed(tmp_path: Path) -> None:
    names = tuple(f"SYM{index:06d}" for index in range(50_000))
    (tmp_path / "a # b.txt").write_text("\n".join((*names, *names[:5])))
    text = '[[venue]]\nname = "binance"\nsymbols = ["OTHER", "SYM000007"]\n'
    checked = parse(f'{text}symbols_file = "a # b.txt"', tmp_path)
    expected = dict.fromkeys(("OTHER", "SYM000007", *names))
    assert checked.venues[0].symbols == tuple(expected)
    printed = to_toml(checked)
    assert printed.count("SYM") == 1
    assert 'symbols_file = "a # b.txt"  # 50,000 symbols\n' in printed
    assert parse(printed, tmp_path) == checked


def test_a_file_of_one_symbol_is_named_alone(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("BTCUSDT\n")
    printed = to_toml(parse('[[venue]]\nname = "binance"\nsymbols_file = "s.txt"', tmp_path))
    assert 'symbols_file = "s.txt"  # 1 symbol\n' in printed
    assert "\nsymbols = " not in printed


# Files


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a = ", "Invalid value (at end of document)"),
        (b"a = 1\na = 2\n", "Cannot overwrite a value (at line 2"),
        (b"a = '\xff'", "no text in UTF-8"),
        (b"a = " + b"9" * 5_000, "limit"),
    ],
)
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        config_file.load(path, venues=VENUES)
    assert str(caught.value).startswith(f"{path}: ")
    assert problem in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"c\.toml: No such file or directory"):
        config_file.load(tmp_path / "c.toml", venues=VENUES)


def test_a_directory_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        config_file.load(tmp_path, venues=VENUES)


def test_an_endless_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_checks, "FILE_SIZE_BYTES_MAX", 1 << 20)
    with pytest.raises(ConfigError, match="/dev/zero: larger than 1 MiB"):
        config_file.load(Path("/dev/zero"), venues=VENUES)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_matter_of_rights(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("")
    path.chmod(0)
    with pytest.raises(NoPermission, match="Permission denied"):
        config_file.load(path, venues=VENUES)


# Secrets


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("wss://a.b:1/c", "wss://a.b:1/c"),
        ("wss://a?key=s3cret&x", "wss://a?key=***&x=***"),
        ("wss://u:s3cret@a/c", "wss://***@a/c"),
        ("wss://[s3cret", "***"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, masked: str) -> None:
    assert config_checks.masked_url(url) == masked


@pytest.mark.parametrize(
    "text",
    [
        'url = "ws://u:s3cret@a"',
        'url = "htp://a?k=s3cret"',
        'url = "ws://a:0?k=s3cret"',
        'credentials = "s3cret"',
        'credentials = ["s3cret!"]',
    ],
)
def test_an_error_message_holds_no_secret(text: str) -> None:
    (problem,) = problems(venue_with(text))
    assert "s3cret" not in problem


def test_the_effective_config_holds_no_secret() -> None:
    text = 'url = "wss://a?k=s3cret"\ncredentials = ["n0tANameButTheS3cret", "kite_a"]'
    shown = to_toml(parse(venue_with(text)))
    assert "s3cret" not in shown.lower()
    assert 'credentials = ["***", "kite_a"]' in shown


# The effective config


@pytest.mark.parametrize("profile", ["latency", "throughput", "symbols"])
def test_the_effective_config_means_the_same(profile: str, tmp_path: Path) -> None:
    text = f"""
        instance = "a-b_1"
        profile = "{profile}"
        [memory]
        dir = "{tmp_path}"
        [feeds]
        num_processes = 1
        cores = [5]
        [consumer.cores]
        s1 = 6
        "scan.eu" = 7
        [metrics]
        listen = "[::1]:9464"
        [[venue]]
        name = "binance"
        symbols = ["BTCUSDT", "A\\"B\\\\C", "币安人生USDT"]
        calendar = "XBOM"
        url = "ws://127.0.0.1:9001/x"
        limits = {{connections = 2, connects = "8/s 300/5m", messages = "3/0.25s"}}
        [[venue]]
        name = "tickers"
        channels = ["bar"]
        symbols = {[f"S{index}" for index in range(20)]}
    """
    checked = parse(text)
    assert parse(to_toml(checked)) == checked


@given(
    values=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["rings", "venue", "name", "symbols", "consumer", "cores", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_stands_in_a_file_it_is_accepted_or_refused(values: Any) -> None:
    document = values if isinstance(values, dict) else {"venue": values}
    with contextlib.suppress(ConfigError):
        assert config_file.parse(document, venues=VENUES).venues


@pytest.mark.parametrize(
    ("url", "rest"),
    [
        (None, None),
        ("ws://127.0.0.1:9001", "http://127.0.0.1:9001"),
        ("ws://127.9.9.9:9001/x?y=1", "http://127.9.9.9:9001"),
        ("wss://localhost:443", "https://localhost:443"),
        ("ws://[::1]:9001", "http://[::1]:9001"),
        ("ws://10.0.0.1:9001", None),
        ("wss://stream.example.com", None),
        ("wss://localhost.example.com", None),
    ],
)
def test_a_stand_in_on_this_host_is_asked_by_rest_as_well(
    url: str | None, rest: str | None
) -> None:
    table = {"name": "binance", "symbols": ["BTCUSDT"]} | ({"url": url} if url else {})
    found = config_file.parse({"venue": [table]}, venues=VENUES)
    assert found.venues[0].rest_url == rest
    own = table | {"rest_url": "https://api.example.com"}
    given = config_file.parse({"venue": [own]}, venues=VENUES)
    assert given.venues[0].rest_url == "https://api.example.com"
