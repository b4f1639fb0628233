"""What mdsys counts: every number with its name, its kind and its meaning.

The lists stand in native/include/mdsys/schema.h, which makes the C layouts of them; here they are
objects, for whoever shows, exports or explains a number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Final, Literal

from mdsys import _native

Scope = Literal["system", "subscriptions", "limiter", "feed", "connection", "ring", "reader"]
Type = Literal["counter", "gauge", "histogram"]

LABELS: Final[Mapping[Scope, tuple[str, ...]]] = MappingProxyType(
    {
        "system": (),
        "subscriptions": (),
        "limiter": ("limit", "scope", "window"),
        "feed": ("feed",),
        "connection": ("connection", "venue", "feed"),
        "ring": ("ring", "feed"),
        "reader": ("reader", "number"),
    }
)
"""Scope -> what tells its rows apart; of each there is one row for every such thing."""
_LISTS: Final[Mapping[str, Scope]] = MappingProxyType(
    {
        "system": "system",
        "system_histograms": "system",
        "system_derived": "system",
        "subscriptions": "subscriptions",
        "limiter_derived": "limiter",
        "feeds": "feed",
        "feed_histograms": "feed",
        "lives": "feed",
        "feeds_derived": "feed",
        "connections": "connection",
        "connections_derived": "connection",
        "rings_derived": "ring",
        "readers": "reader",
        "reader_histograms": "reader",
        "readers_derived": "reader",
    }
)
"""List of the schema -> scope, in the order in which they are shown."""


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """One number of every row of its scope."""

    scope: Scope
    field: str
    """Its name in C and in a ``Picture``."""
    type: Type
    family: str
    """Its name for Prometheus, without ``mdsys_`` and the ``_total`` of a counter."""
    labels: Mapping[str, str] = dataclasses.field(hash=False)
    """What tells the metrics of a family apart, beside the labels of the scope."""
    help: str

    @property
    def name(self) -> str:
        """The whole name for Prometheus; of a histogram that of its family."""
        return f"mdsys_{self.family}{'_total' if self.type == 'counter' else ''}"

    @property
    def family_help(self) -> str:
        """What is said of the family: of metrics with labels what they have in common."""
        return self.help.partition(":")[0] if self.labels else self.help

    @property
    def scale(self) -> float:
        """What a value is multiplied by for Prometheus: fields in ns are seconds there."""
        return 1e-9 if self.type == "histogram" or self.field.endswith("_ns") else 1.0


@cache
def metrics() -> tuple[Metric, ...]:
    """Return all that is exported, scope by scope; metrics of a family follow one another."""
    lists = _native.schema()
    return tuple(
        Metric(scope, own, _type(type_), family, _labels(labels), help_)
        for name, scope in _LISTS.items()
        for own, type_, family, labels, help_ in lists[name]
        if family
    )


@cache
def metrics_of(scope: Scope) -> tuple[Metric, ...]:
    """Return those of one scope."""
    return tuple(metric for metric in metrics() if metric.scope == scope)


@cache
def fields(name: str) -> tuple[str, ...]:
    """Return the fields of one list of the schema, in their order in memory."""
    return tuple(own for own, *_ in _native.schema()[name])


def _type(name: str) -> Type:
    known: Mapping[str, Type] = {
        "COUNTER": "counter",
        "GAUGE": "gauge",
        "HISTOGRAM": "histogram",
    }
    return known[name]


def _labels(text: str) -> Mapping[str, str]:
    """Read ``name="value"``, none or one."""
    name, _, value = text.partition("=")
    return MappingProxyType({name: value.strip('"')} if name else {})
