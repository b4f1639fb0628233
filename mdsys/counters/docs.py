"""The tables of docs/counters.md, which ``python -m mdsys.counters.docs`` writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mdsys.counters.schema import LABELS, Metric, Scope, metrics_of

PAGE: Final = Path(__file__).parents[2] / "docs" / "counters.md"
MARK: Final = "<!-- From here on written by python -m mdsys.counters.docs: edit the schema. -->\n"
TITLES: Final[dict[Scope, str]] = {
    "system": "The daemon",
    "subscriptions": "Subscriptions",
    "limiter": "Limits of the venues",
    "feed": "Feeds",
    "connection": "Connections",
    "ring": "Rings",
    "reader": "Readers",
}


def tables() -> str:
    """Return all tables, one for each scope."""
    return "\n".join("\n".join(_section(scope, title)) + "\n" for scope, title in TITLES.items())


def _section(scope: Scope, title: str) -> Iterator[str]:
    labels = ", ".join(f"`{label}`" for label in LABELS[scope])
    yield f"## {title}"
    yield ""
    yield f"Scope `{scope}`; labels: {labels}." if labels else f"Scope `{scope}`."
    yield ""
    yield "| Prometheus | type | field | meaning |"
    yield "|---|---|---|---|"
    for metric in metrics_of(scope):
        yield f"| `{_name(metric)}` | {metric.type} | `{metric.field}` | {metric.help} |"


def _name(metric: Metric) -> str:
    labels = ",".join(f'{name}="{value}"' for name, value in metric.labels.items())
    return f"{metric.name}{{{labels}}}" if labels else metric.name


def fresh(page: str) -> str:
    """Return a page with its tables as they should be."""
    return page.partition(MARK)[0] + MARK + "\n" + tables()


if __name__ == "__main__":
    PAGE.write_text(fresh(PAGE.read_text()))
