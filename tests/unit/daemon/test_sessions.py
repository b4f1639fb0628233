"""When markets are open, as exchange_calendars knows it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mdsys.daemon.sessions import ALWAYS, Sessions

# Between exchange_calendars and its pandas, none of ours.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


@pytest.mark.parametrize(
    ("calendar", "moment", "is_open", "since"),
    [
        ("XBOM", "2024-06-03 05:00", True, "2024-06-03 03:45"),  # a Monday
        ("XBOM", "2024-06-03 03:45", True, "2024-06-03 03:45"),
        ("XBOM", "2024-06-03 10:00", False, "2024-06-03 10:00"),
        ("XBOM", "2024-06-02 05:00", False, "2024-05-31 10:00"),  # a Sunday
        ("XBOM", "2024-06-17 05:00", False, "2024-06-14 10:00"),  # Bakri Id
        ("XHKG", "2024-06-03 04:30", False, "2024-06-03 04:00"),  # lunch
        ("XHKG", "2024-06-03 05:30", True, "2024-06-03 05:00"),
        ("CMES", "2024-06-04 23:30", True, "2024-06-03 22:00"),
    ],
)
def test_session_of_a_moment(calendar: str, moment: str, is_open: bool, since: str) -> None:
    session = Sessions.named(calendar).at(ns(moment))
    assert session.open is is_open
    if calendar != "CMES":  # how its days join is the calendar's business
        assert session.since_ns == ns(since)


def test_market_without_a_calendar_or_with_one_that_never_closes_is_always_open() -> None:
    for moment in ("2024-06-02 05:00", "2024-12-25 00:00"):
        assert Sessions().at(ns(moment)) == ALWAYS
        assert Sessions.named("24/7").at(ns(moment)).open


def test_moment_beyond_the_calendar_is_open_rather_than_never_judged() -> None:
    sessions = Sessions.named("XBOM")
    assert sessions.at(0) == ALWAYS
    assert sessions.at(ns("2100-01-01 00:00")) == ALWAYS
