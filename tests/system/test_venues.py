"""All ten venues at one daemon: their own words reach the user, and no secret reaches anybody."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import mdsys
from mdsys.cli import main as cli
from mdsys.config_file import load
from mdsys.errors import ConfigError
from tests.daemons import instance
from tests.simulated import (
    ALL,
    FIELDS,
    SOLITARY,
    Secrets,
    channels,
    daemon_on,
    native,
    secret,
    status_when,
    street,
    symbol_when,
    venue_text,
)

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

UNKNOWN = "NOSUCH"


@dataclass(slots=True)
class Picture:
    """What a daemon with good, bad and unknown things has told."""

    symbols: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Venue -> its state of the unknown symbol."""
    lines: list[str] = field(default_factory=list)
    everything: dict[str, Any] = field(default_factory=dict)


def unknown(venue: str) -> str:
    """Return a name in a venue's writing that it does not have."""
    return f"NSE:{UNKNOWN}" if venue in ("kite", "openalgo") else UNKNOWN


# ---- bad symbols --------------------------------------------------------------------------------

WORDS = {
    "kraken": "Currency pair not supported NOSUCH",
    "coinbase_exchange": "Failed to subscribe: NOSUCH is not a valid product",
    "coinbase_advanced": "the venue's list of subscriptions leaves it out",
    "kite": "not in Kite's list of instruments",
    "alpaca": "not in the venue's list of subscriptions",
    "openalgo": "Symbol NOSUCH not found for exchange NSE",
}
"""What is said of a symbol that is none; the others confirm anything."""


@pytest.fixture(scope="module")
def bad_symbols(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Picture]:
    tmp_path = tmp_path_factory.mktemp("bad-symbols")
    secrets = Secrets(tmp_path)
    with instance() as name, street(ALL, rate=60, symbols=1) as sims:
        tables = [
            venue_text(
                venue,
                sims[venue],
                symbols=[native(venue, 0), unknown(venue)],
                **({"credentials": [secrets.write(venue)]} if venue in FIELDS else {}),
            )
            for venue in ALL
        ]
        with daemon_on(tmp_path, name, *tables, secrets=secrets) as running:

            def settled(answer: dict[str, Any]) -> bool:
                count = sum(len(channels(venue)) for venue in ALL)
                refused = sum(len(channels(venue)) for venue in WORDS)
                funnel = answer["subscriptions"]
                return bool(funnel["ticking"] == count and funnel["refused"] == refused)

            picture = Picture(everything=status_when(name, settled))
            for venue in ALL:
                full = f"{venue.upper()}:{unknown(venue)}"
                picture.symbols[venue] = mdsys.control(name).status(full)
            picture.lines = list(running.lines)
            yield picture


@pytest.mark.parametrize("venue", ALL)
def test_an_unknown_symbol_is_refused_in_the_venues_words_or_known_to_be_silent(
    venue: str, bad_symbols: Picture
) -> None:
    told = bad_symbols.symbols[venue]
    if venue not in WORDS:  # as these venues do, the simulator confirms whatever it is asked for
        assert told["state"] == "confirmed"
        assert told["last_tick_s"] is None
        if venue.startswith("binance"):  # whose REST is asked for the book
            assert "Invalid symbol." in told["words"]
            assert "Invalid symbol." in told["why"]
        else:
            assert f"{venue} has confirmed it and has sent no" in told["why"]
        return
    assert told["state"] == "refused"
    assert WORDS[venue] in told["words"]
    assert WORDS[venue] in told["why"]
    assert told["remedy"]
    assert any(
        venue in line and unknown(venue) in line and WORDS[venue] in line
        for line in bad_symbols.lines
    )


# ---- unknown channels ---------------------------------------------------------------------------


@pytest.mark.parametrize("venue", ALL)
def test_a_channel_that_a_venue_has_not_is_named_before_anything_is_dialled(
    venue: str, tmp_path: Path
) -> None:
    file = tmp_path / "c.toml"
    keys = 'credentials = ["k"]\n' if venue in FIELDS else ""
    file.write_text(
        f'[[venue]]\nname = "{venue}"\nsymbols = ["{native(venue, 0)}"]\n'
        f'channels = ["liquidations"]\n{keys}'
    )
    with pytest.raises(ConfigError, match=r"venue\[0\]\.channels.*liquidations"):
        load(file)


def test_a_channel_that_the_stream_has_not_is_refused_in_the_venues_words(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    with instance() as name, street(["alpaca"], rate=60, symbols=1) as sims:
        text = venue_text(
            "alpaca",
            sims["alpaca"],
            symbols=1,
            channels=["trade", "book"],  # stocks have no books there
            credentials=[secrets.write("alpaca")],
        )
        with daemon_on(tmp_path, name, text, secrets=secrets) as running:
            told = symbol_when(
                name,
                "ALPACA:SYM000000",
                lambda each: (
                    {stream["state"] for stream in each["streams"]} == {"refused", "ticking"}
                ),
            )
            words = "invalid subscribe action for this feed (code 410)"
            assert told["words"] == words
            assert re.search(f"SYM000000 refused: {re.escape(words)}", running.log)


# ---- secrets ------------------------------------------------------------------------------------


def processes_of(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def test_no_secret_is_in_argv_logs_answers_or_shared_memory(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Good ones, ones that are refused and quoted back at us, and those that replace them."""
    secrets = Secrets(tmp_path)
    good = {venue: [secret(venue)] for venue in FIELDS}
    quoted = {
        venue: f"http,status=403,count=1,words=unknown key {secret(venue, 'wrong')}"
        for venue in ("alpaca", "openalgo")
    }
    with (
        instance() as name,
        street(FIELDS, rate=60, symbols=1, secrets=good, faults=quoted) as sims,
    ):
        tables = [
            venue_text(
                venue,
                sims[venue],
                symbols=1,
                credentials=[secrets.write(venue, "wrong")],
                max_symbols_per_connection=1,
            )
            for venue in FIELDS
        ]
        with daemon_on(tmp_path, name, *tables, secrets=secrets) as running:
            for venue in FIELDS:
                running.wait_for_line(f"(?i){venue}.*(denied|cannot be looked up)")
            assert running.log.count("denied: unknown key ***") == len(quoted)
            for venue in FIELDS:
                secrets.write(venue)
            said = [json.dumps(mdsys.control(name).reload())]
            answer = status_when(
                name, lambda now: now["subscriptions"]["ticking"] == now["subscriptions"]["desired"]
            )
            for venue in FIELDS:
                sims.inject(venue, "expire", connection=sims[venue].connections[-1])
            answer = status_when(
                name, lambda now: all(each["state"] == "denied" for each in now["connections"])
            )
            said.append(json.dumps(answer))
            for venue in FIELDS:
                full = f"{venue.upper()}:{native(venue, 0)}"
                said.append(json.dumps(mdsys.control(name).status(full)))
                cli(["ctl", "status", full, "--instance", name])
            cli(["ctl", "status", "--instance", name])
            cli(["stat", "--instance", name, "--json"])
            cli(["check", "--config", str(tmp_path / f"{name}.toml")])
            out, err = capfd.readouterr()
            said += [out, err, running.log]
            pids = processes_of(running.process.pid)
            assert len(pids) > 1
            places = {
                f"/proc/{pid}/{what}": Path(f"/proc/{pid}/{what}").read_bytes()
                for pid in pids
                for what in ("cmdline", "environ")
            }
            segments = list(Path("/dev/shm").glob(f"mdsys.{name}.*"))
            assert len(segments) >= 4
            places |= {str(path): path.read_bytes() for path in segments}
            places["what was said"] = "\n".join(said).encode()
            assert b"wrong" not in places["what was said"]
            found = [
                (place, value)
                for place, data in places.items()
                for value in secrets.values
                if value.encode() in data
            ]
            assert found == []


# ---- a daemon of everything ---------------------------------------------------------------------


def test_sockets_are_as_many_as_each_venue_allows(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    with instance() as name, street(ALL, rate=60) as sims:
        tables = [
            venue_text(
                venue,
                sims[venue],
                max_symbols_per_connection=1,
                **({"credentials": [secrets.write(venue)]} if venue in FIELDS else {}),
            )
            for venue in ALL
        ]
        with daemon_on(tmp_path, name, *tables, feeds=2, rings=4, secrets=secrets) as running:
            answer = status_when(
                name, lambda now: now["subscriptions"]["ticking"] == now["subscriptions"]["desired"]
            )
            for venue in ALL:
                own = [each for each in answer["connections"] if each["venue"] == venue]
                assert len(own) == (1 if venue in SOLITARY else 2)
            assert sims.breaches == {}
            assert running.end() == 0
