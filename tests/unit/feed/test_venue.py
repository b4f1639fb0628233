from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from mdsys.errors import ConfigError
from mdsys.feed import venue as module
from mdsys.feed.venue import venues
from tests.feeds import StubVenue

ELSEWHERE = StubVenue()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Pretend that a package brings a venue."""

    def install(name: str, value: str) -> None:
        point = EntryPoint(name, value, module.ENTRY_POINT_GROUP)
        monkeypatch.setattr(module, "entry_points", lambda **_: [point])
        venues.cache_clear()

    yield install
    venues.cache_clear()


def test_built_in_venues_are_known_by_their_names() -> None:
    assert {"binance", "binance_usdm"} <= set(venues())
    assert all(each.name == name for name, each in venues().items())


def test_venue_of_an_installed_package_is_found(installed: Any) -> None:
    installed("elsewhere", f"{__name__}:ELSEWHERE")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EntryPoint, "load", lambda _: ELSEWHERE)
        assert venues()["elsewhere"] is ELSEWHERE


def test_venue_that_cannot_be_loaded_is_a_config_error_naming_it(installed: Any) -> None:
    installed("broken", "no_such_package:VENUE")
    with pytest.raises(ConfigError, match=r"entry point broken = no_such_package:VENUE: Module"):
        venues()


def test_venue_cannot_take_a_built_in_name(installed: Any) -> None:
    installed("binance", "anything:VENUE")
    with pytest.raises(ConfigError, match="exists already"):
        venues()
