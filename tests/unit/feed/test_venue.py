from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import pytest

from mdsys.errors import ConfigError
from mdsys.feed import venue as module
from mdsys.feed.venue import venues
from tests.connections import StubVenue

ELSEWHERE = StubVenue()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Pretend that a package brings a venue."""

    def install(name: str, value: str) -> None:
        point = EntryPoint(name, value, module.ENTRY_POINT_GROUP)
        monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [point])
        venues.cache_clear()

    yield install
    venues.cache_clear()


def test_built_in_venues_are_known_by_their_names() -> None:
    assert set(module.BUILT_IN) <= set(venues())
    assert all(each.name == name for name, each in venues().items())


def test_only_the_venue_asked_for_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []

    def import_module(name: str) -> ModuleType:
        imported.append(name)
        return importlib.import_module(name)

    monkeypatch.setattr(module, "import_module", import_module)
    fresh = module.Venues()
    assert "kraken" in fresh
    assert len(fresh) >= len(module.BUILT_IN)
    assert not imported
    assert fresh["binance"] is fresh["binance"]
    assert imported == ["mdsys.feed.binance.venue"]
    assert fresh.get("no_such_venue") is None


def test_venue_of_an_installed_package_is_found(installed: Any) -> None:
    installed("elsewhere", f"{__name__}:ELSEWHERE")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EntryPoint, "load", lambda _: ELSEWHERE)
        assert venues()["elsewhere"] is ELSEWHERE


def test_venue_that_cannot_be_loaded_is_a_config_error_naming_it(installed: Any) -> None:
    installed("broken", "no_such_package:VENUE")
    with pytest.raises(ConfigError, match=r"entry point broken = no_such_package:VENUE: Module"):
        venues()["broken"]


def test_venue_cannot_take_a_built_in_name(installed: Any) -> None:
    installed("binance", "anything:VENUE")
    with pytest.raises(ConfigError, match="exists already"):
        list(venues())
