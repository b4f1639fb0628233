"""What a changed configuration and changed secrets do to a running daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mdsys.config import Config, VenueConfig
from mdsys.daemon.credentials import Credentials, wanted_fields
from mdsys.daemon.readers import Refused
from mdsys.daemon.reload import Reload
from mdsys.daemon.roster import Outcome, Roster
from mdsys.errors import ConfigError
from mdsys.feed.orders import Redial
from mdsys.ring.segment import Instance
from tests.instances import geometry, running
from tests.rosters import PLAIN, Instruments, PlainVenue, Told, config_of, make_roster, with_list

KITE = with_list(Instruments({"X": 1, "Y": 2}).resolve)
FACTS = {"binance": PLAIN, "kite": KITE, "other": PlainVenue(name="other")}


def venue(*symbols: str, name: str = "binance", **keys: Any) -> dict[str, Any]:
    return {"name": name, "symbols": list(symbols), **keys}


class Daemon:
    """What a reload needs of one."""

    def __init__(self, instance: Instance, folder: Path, config: Config) -> None:
        self.told = Told()
        self.roster: Roster = make_roster(instance, self.told, config.venues, FACTS)
        self.told.take()
        self.folder = folder
        self.credentials = Credentials(
            wanted_fields(config.venues, FACTS),
            environment={"XDG_CONFIG_HOME": str(folder.parent.parent)},
            system_folder=folder / "none",
        )
        self.credentials.read()
        self.next: Callable[[], Config] = lambda: config
        self.opened: list[str] = []
        self.reload = Reload(
            config,
            self._read,
            FACTS,
            self.roster,
            self.credentials,
            self.told.tell,
            self._open,
        )

    def _read(self) -> Config:
        return self.next()

    async def _open(self, config: VenueConfig) -> None:
        self.opened.append(config.name)

    def take_over(self, *venues: dict[str, Any], **keys: Any) -> dict[str, Any]:
        config = config_of(*venues, facts=FACTS, **keys)
        self.next = lambda: config
        return dict(asyncio.run(self._bounded()))

    async def _bounded(self) -> Any:
        async with asyncio.timeout(20):
            return await self.reload()

    def wanted(self, name: str = "binance") -> set[str]:
        return set(self.roster.subscriptions.symbols(name))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mdsys" / "credentials"
    made.mkdir(parents=True, mode=0o700)
    return made


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(rings=2, feeds=2)) as each:
        yield each


def start(instance: Instance, folder: Path, *venues: dict[str, Any]) -> Daemon:
    return Daemon(instance, folder, config_of(*venues, facts=FACTS))


def write(folder: Path, name: str, value: str) -> None:
    file = folder / name
    file.unlink(missing_ok=True)
    file.write_text(f'key = "{value}"\n')
    file.chmod(0o600)


def test_symbols_come_and_go_and_those_of_ctl_stay(instance: Instance, folder: Path) -> None:
    daemon = start(instance, folder, venue("A", "B"))
    asyncio.run(daemon.roster.subscribe(["BINANCE:Z"]))
    daemon.told.take()
    answer = daemon.take_over(venue("B", "C"))
    assert daemon.wanted() == {"B", "C", "Z"}
    assert daemon.told.summary() == [("remove", 1, ["A"]), ("add", 1, ["C"])]
    assert answer["subscribed"]["accepted"] == answer["unsubscribed"]["accepted"] == 1
    assert answer["not_reloaded"] == []
    again = daemon.take_over(venue("B", "C"))
    assert again["subscribed"]["accepted"] == 0
    assert daemon.told.take() == []


def test_venue_comes_with_its_table_and_goes_with_all_of_its_symbols(
    instance: Instance, folder: Path
) -> None:
    daemon = start(instance, folder, venue("A"))
    daemon.take_over(venue("A"), venue("O", name="other"))
    assert daemon.opened == ["other"]
    assert daemon.told.summary() == [("connect", 2, ["O"])]
    asyncio.run(daemon.roster.subscribe(["OTHER:P"]))
    answer = daemon.take_over(venue("A"))
    assert list(daemon.roster.desks) == ["binance"]
    assert daemon.told.summary()[-1] == ("close", 2)
    assert answer["unsubscribed"]["accepted"] == 2
    assert (
        "no [[venue]] other" in asyncio.run(daemon.roster.subscribe(["OTHER:P"])).refused["OTHER:P"]
    )


@pytest.mark.parametrize("late", [False, True])
def test_what_a_reload_that_broke_off_has_left_the_next_one_does(
    late: bool, instance: Instance, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start(instance, folder, venue("A", "B"), venue("O", name="other"))
    change = daemon.roster.subscribe

    async def broken(names: Iterable[str], *, keep: bool = False) -> Outcome:
        if late:
            await change(names, keep=keep)
        raise ZeroDivisionError

    monkeypatch.setattr(daemon.roster, "subscribe", broken)
    write(folder, "kite_a", "s")
    new = [venue("B", "C"), venue("X", name="kite", credentials=["kite_a"])]
    with pytest.raises(ZeroDivisionError):
        daemon.take_over(*new)
    monkeypatch.undo()
    daemon.take_over(*new)
    assert (daemon.wanted(), daemon.wanted("kite")) == ({"B", "C"}, {"X"})
    assert list(daemon.roster.desks) == ["binance", "kite"]
    assert daemon.opened == ["kite"]
    assert daemon.roster.desks["kite"].wires == {"X": (1).to_bytes(4, "big")}
    daemon.told.take()
    assert daemon.take_over(*new)["subscribed"]["accepted"] == 0
    assert daemon.told.take() == []


def test_what_only_a_restart_takes_over_is_named_key_by_key_and_not_taken(
    instance: Instance, folder: Path
) -> None:
    daemon = start(instance, folder, venue("A"))
    answer = daemon.take_over(
        venue("A", "B", channels=["quote"], url="ws://127.0.0.1:1", batch_size=7),
        rings={"num_buffers": 5},
        instance="other",
        metrics={"listen": "127.0.0.1:9"},
    )
    assert answer["not_reloaded"] == [
        "instance",
        "rings.num_buffers",
        "metrics.listen",
        "venue[0].channels",
        "venue[0].url",
        "venue[0].rest_url",
        "venue[0].batch_size",
    ]
    assert daemon.wanted() == {"A", "B"}
    (plan,) = daemon.roster.carriage.plans_of_feed(0)
    assert plan.channels == ("trade",)
    assert plan.url is None


def test_wrong_configuration_is_refused_with_its_problems_and_changes_nothing(
    instance: Instance, folder: Path
) -> None:
    daemon = start(instance, folder, venue("A"))

    def wrong() -> Config:
        raise ConfigError("f.toml: rings.num_bufers: unknown key", "f.toml: venue: none")

    daemon.next = wrong
    with pytest.raises(Refused, match=r"unknown key\nf\.toml: venue: none"):
        asyncio.run(daemon._bounded())
    assert daemon.wanted() == {"A"}
    assert daemon.told.take() == []


def test_daemon_without_a_file_cannot_reload(instance: Instance, folder: Path) -> None:
    daemon = start(instance, folder, venue("A"))
    daemon.reload._read = None
    with pytest.raises(Refused, match="not started from a file"):
        asyncio.run(daemon._bounded())


def test_denied_connections_dial_again_when_their_own_secret_has_changed(
    instance: Instance, folder: Path
) -> None:
    write(folder, "a", "old-secret-a")
    write(folder, "b", "old-secret-b")
    kite = venue(
        "X",
        "Y",
        name="kite",
        channels=["ticker"],
        credentials=["a", "b"],
        limits={"connections": 1, "symbols_per_connection": 1},
    )
    daemon = start(instance, folder, kite)
    asyncio.run(daemon.roster.subscribe(["KITE:X", "KITE:Y"]))
    keys = {n: each.placed.key for n, each in daemon.roster.connections.all.items()}
    assert sorted(key or "" for key in keys.values()) == ["a", "b"]
    for each in daemon.roster.connections.all.values():
        each.state = "denied"
    daemon.told.take()
    write(folder, "b", "new-secret-b")
    answer = daemon.take_over(kite)
    (number,) = (n for n, key in keys.items() if key == "b")
    assert answer["credentials_changed"] == ["b"]
    assert answer["redialled"] == [number]
    assert [order for _, order in daemon.told.take()] == [Redial(number)]


def test_venue_without_secrets_that_denied_us_is_dialled_again_when_somebody_asks(
    instance: Instance, folder: Path
) -> None:
    daemon = start(instance, folder, venue("A"))
    (number,) = daemon.roster.connections.all
    daemon.roster.connections.all[number].state = "denied"
    daemon.told.take()
    assert daemon.take_over(venue("A"))["redialled"] == [number]
    assert [order for _, order in daemon.told.take()] == [Redial(number)]


def test_lists_that_could_not_be_had_are_asked_for_again(instance: Instance, folder: Path) -> None:
    write(folder, "a", "secret-a")
    kite = venue("X", name="kite", channels=["ticker"], credentials=["a"])
    daemon = start(instance, folder, kite)
    assert not daemon.roster.desks["kite"].mended.is_set()
    daemon.take_over(kite)
    assert daemon.roster.desks["kite"].mended.is_set()


def test_secret_that_can_no_longer_be_read_is_told_and_the_old_one_goes_on(
    instance: Instance, folder: Path
) -> None:
    write(folder, "a", "old-secret-a")
    kite = venue("X", name="kite", channels=["ticker"], credentials=["a"])
    daemon = start(instance, folder, kite)
    (folder / "a").chmod(0o644)
    answer = daemon.take_over(kite)
    assert "chmod 600" in answer["credential_problems"]["a"]
    assert daemon.credentials.secret("a") == {"key": "old-secret-a"}


def test_new_key_gives_room_for_more_connections_and_a_key_that_goes_is_named(
    instance: Instance, folder: Path
) -> None:
    write(folder, "a", "secret-a")
    write(folder, "b", "secret-b")
    keys: dict[str, Any] = {
        "name": "kite",
        "channels": ["ticker"],
        "limits": {"connections": 1, "symbols_per_connection": 1},
    }
    daemon = start(instance, folder, venue("X", credentials=["a"], **keys))
    asyncio.run(daemon.roster.subscribe(["KITE:X"]))
    full = asyncio.run(daemon.roster.subscribe(["KITE:Y"]))
    assert "1 key of 1 connection each" in full.refused["KITE:Y"]
    daemon.take_over(venue("X", "Y", credentials=["a", "b"], **keys))
    placed = daemon.roster.placement.symbols("kite")
    assert {symbol: each.key for symbol, each in placed.items()} == {"X": "a", "Y": "b"}
    answer = daemon.take_over(venue("X", "Y", credentials=["b"], **keys))
    assert answer["not_reloaded"] == ["venue[0].credentials"]
    assert placed["X"].key == "a"


def test_what_did_not_fit_is_tried_again_with_the_next_reload(
    instance: Instance, folder: Path
) -> None:
    write(folder, "a", "secret-a")
    write(folder, "b", "secret-b")
    keys: dict[str, Any] = {
        "name": "kite",
        "channels": ["ticker"],
        "limits": {"connections": 1, "symbols_per_connection": 1},
    }
    daemon = start(instance, folder, venue("X", credentials=["a"], **keys))
    asyncio.run(daemon.roster.subscribe(["KITE:X"]))
    answer = daemon.take_over(venue("X", "Y", credentials=["a"], **keys))
    assert answer["subscribed"]["refused_count"] == 1
    answer = daemon.take_over(venue("X", "Y", credentials=["a", "b"], **keys))
    assert answer["subscribed"]["accepted"] == 1
    assert set(daemon.roster.placement.symbols("kite")) == {"X", "Y"}


def test_symbols_that_cannot_be_looked_up_at_a_reload_are_wanted_all_the_same(
    instance: Instance, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "a", "secret-a")
    out_of_reach = Instruments({"X": 1})
    out_of_reach.reachable = False
    kite = with_list(out_of_reach.resolve)
    monkeypatch.setitem(FACTS, "kite", kite)
    keys: dict[str, Any] = {"name": "kite", "channels": ["ticker"], "credentials": ["a"]}
    daemon = start(instance, folder, venue("X", **keys))
    answer = daemon.take_over(venue("X", "Y", **keys))
    assert answer["subscribed"]["refused_count"] == 0
    assert daemon.wanted("kite") == {"X", "Y"}
    assert daemon.roster.subscriptions.funnel()["refused"] == 0


def test_connections_of_a_key_that_the_file_names_no_more_can_still_be_dialled(
    instance: Instance, folder: Path
) -> None:
    write(folder, "a", "secret-a")
    write(folder, "b", "secret-b")
    keys: dict[str, Any] = {"name": "kite", "channels": ["ticker"]}
    daemon = start(instance, folder, venue("X", credentials=["a", "b"], **keys))
    answer = daemon.take_over(venue("X", credentials=["b"], **keys))
    assert answer["not_reloaded"] == ["venue[0].credentials"]
    assert daemon.credentials.secret("a") == {"key": "secret-a"}


def test_key_that_a_signal_could_not_take_over_is_named_by_each_reload_until_it_is_put_back(
    instance: Instance, folder: Path
) -> None:
    daemon = start(instance, folder, venue("A"))
    changed: dict[str, Any] = {"metrics": {"listen": "127.0.0.1:9"}}
    assert daemon.take_over(venue("A"), **changed)["not_reloaded"] == ["metrics.listen"]
    assert daemon.take_over(venue("A"), **changed)["not_reloaded"] == ["metrics.listen"]
    assert daemon.take_over(venue("A"))["not_reloaded"] == []


def test_venue_that_comes_again_is_held_against_its_new_table(
    instance: Instance, folder: Path
) -> None:
    daemon = start(instance, folder, venue("A"), venue("O", name="other"))
    daemon.take_over(venue("A"))
    new = venue("O", name="other", batch_size=7)
    assert daemon.take_over(venue("A"), new)["not_reloaded"] == []
    assert daemon.take_over(venue("A"), new)["not_reloaded"] == []
    answer = daemon.take_over(venue("A"), venue("O", name="other"))
    assert answer["not_reloaded"] == ["venue[1].batch_size"]


def test_credential_that_came_by_a_reload_is_missed_when_it_goes(
    instance: Instance, folder: Path
) -> None:
    one = venue("X", name="kite", credentials=["a"], channels=["ticker"])
    two = {**one, "credentials": ["a", "b"]}
    daemon = start(instance, folder, one)
    assert daemon.take_over(two)["not_reloaded"] == []
    assert daemon.take_over(one)["not_reloaded"] == ["venue[0].credentials"]


def test_log_of_a_reload_has_one_symbol_and_two_symbols(
    instance: Instance, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    daemon = start(instance, folder, venue("A"))
    daemon.take_over(venue("A", "B"))
    daemon.take_over(venue("A", "B", "C", "D"))
    told = [words.partition(" came")[0] for words in caplog.messages if "reloaded" in words]
    assert told == ["reloaded: 1 symbol", "reloaded: 2 symbols"]
