"""The alert rules: sound, tested both ways, explained, on nothing but what is exported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mdsys.counters.schema import metrics
from mdsys.metrics.collector import last_minute_name
from tests.prometheus import RULES, needs_prometheus, promtool

TEXT = RULES.read_text()
PAGE = "file:///opt/mdsys/share/doc/mdsys/docs/alerts.md"
"""As it is installed; tests/system/test_install.py looks whether it is there."""
ALERTS = re.findall(r"- alert: (\w+)", TEXT)
TESTS = sorted((RULES.parent / "tests").glob("*.yml"))


@needs_prometheus
def test_rules_are_sound() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)


@needs_prometheus
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", path)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_tested_both_ways(alert: str) -> None:
    cases = re.findall(
        rf"alertname: {alert}\n\s+eval_time: \S+\n\s+exp_alerts:( \[\])?",
        "\n".join(path.read_text() for path in TESTS),
    )
    fires, silent = [each for each in cases if not each], [each for each in cases if each]
    assert fires, "no test sees it fire"
    assert silent or alert in QUIET_BESIDE, "no test sees it silent"


QUIET_BESIDE = frozenset(
    {
        "MdsysConnectionDenied",
        "MdsysReconnects",
        "MdsysReaderEjected",
        "MdsysFeedRestarts",
        "MdsysSupervisorSlow",
    }
)
"""Their tests have series beside the one that fires for which they do not."""


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_where_it_is_explained_and_there_it_is(
    alert: str, repository: Path
) -> None:
    assert f"runbook_url: {PAGE}#{alert.lower()}\n" in TEXT
    section = (repository / "docs" / "alerts.md").read_text().partition(f"\n### {alert}\n")[2]
    told = section.partition("\n### ")[0]
    assert "**Means.**" in told
    assert "**Do.**" in told


def test_document_explains_no_alert_that_is_none(repository: Path) -> None:
    explained = re.findall(
        r"^### (\w+)$", (repository / "docs" / "alerts.md").read_text(), re.MULTILINE
    )
    assert explained == ALERTS


def test_rules_ask_for_nothing_that_is_not_exported() -> None:
    exported = {metric.name for metric in metrics()}
    exported |= {last_minute_name(each) for each in metrics() if each.type == "histogram"}
    assert set(re.findall(r"\bmdsys_[a-z_]+", TEXT)) <= exported
