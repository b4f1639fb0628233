"""What goes wrong when: made from the seed alone, before anything runs.

A stroke is one to three things at the same moment. Victims are named by numbers that the conductor
reduces to what there is then (the third of the feeds that live), so a plan knows no process.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

CALM_FIRST_S: Final = 6.0
CALM_LAST_S: Final = 8.0
"""Nothing goes wrong then: what is to hold in the end has time to come to be. Shorter in a run of
less than a minute."""
CALM_EACH_S: Final = 60.0
"""So often there is a calm of CALM_S, in which processes can be measured."""
CALM_S: Final = 12.0
PAUSE_S: Final = (1.5, 6.0)
"""Between two strokes."""


@dataclass(frozen=True, slots=True)
class Stroke:
    """One thing that goes wrong."""

    at_s: float
    kind: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        """Return it in words."""
        given = " ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.kind} {given}".strip()


def _stores(draw: random.Random) -> int:
    """Return a store at which to die: as often within a record as within many."""
    return int(2 ** draw.uniform(0, 14))


def _venue(draw: random.Random) -> dict[str, Any]:
    return {"venue": draw.randrange(1 << 16), "connection": draw.randrange(1 << 16)}


def _one(draw: random.Random) -> dict[str, Any]:
    return {"which": draw.randrange(1 << 16)}


KINDS: Final[Mapping[str, tuple[int, Callable[[random.Random], dict[str, Any]]]]] = {
    "feed killed": (6, _one),
    "feed killed in a store": (10, lambda draw: {**_one(draw), "stores": _stores(draw)}),
    "feed killed, and its successor in a store": (
        6,
        lambda draw: {**_one(draw), "stores": int(2 ** draw.uniform(0, 9))},
    ),
    "feed hangs": (2, _one),
    "daemon killed": (3, lambda _: {}),
    "daemon killed, and its successor in a store": (
        3,
        lambda draw: {"stores": int(2 ** draw.uniform(0, 8))},
    ),
    "daemon stopped": (2, lambda _: {}),
    "reader killed": (5, _one),
    "reader stands still": (5, lambda draw: {**_one(draw), "seconds": draw.uniform(0.3, 4)}),
    "recorder killed": (2, lambda _: {}),
    "memory full": (3, lambda draw: {"seconds": draw.uniform(3, 8)}),
    "memory full at a start with larger rings": (1, lambda _: {}),
    "clock steps": (
        5,
        lambda draw: {
            "by_s": draw.choice((-1, 1)) * draw.choice((0.05, 0.7, 5.0, 90.0, 3600.0, 86400.0))
        },
    ),
    "venue mute": (3, _venue),
    "venue cuts": (4, _venue),
    "venue half-open": (2, _venue),
    "venue resets": (4, _venue),
    "venue talks nonsense": (2, _venue),
    "venue leaves out a frame": (4, lambda draw: {**_venue(draw), "count": draw.randint(1, 20)}),
    "burst": (
        5,
        lambda draw: {"venue": draw.randrange(1 << 16), "seconds": draw.uniform(0.5, 4.0)},
    ),
}
"""What goes wrong -> its weight, and what is drawn for it."""


def schedule(seed: int, seconds: float) -> Sequence[Stroke]:
    """Return what goes wrong in a run, by time; the same for the same seed and length."""
    draw = random.Random(seed)
    names, weights = list(KINDS), [weight for weight, _ in KINDS.values()]
    round_of_all = draw.sample(names, len(names)) if seconds > 60 else []
    strokes: list[Stroke] = []
    at_s = min(CALM_FIRST_S, seconds / 10)
    while at_s < seconds - min(CALM_LAST_S, seconds / 4):
        together = draw.choices((1, 2, 3), (7, 2, 1))[0]
        # A round of all kinds before chance, so that a run of some minutes has each of them.
        for name in draw.choices(names, weights, k=together):
            kind = round_of_all.pop() if round_of_all else name
            strokes.append(Stroke(round(at_s, 3), kind, KINDS[kind][1](draw)))
        at_s += draw.uniform(*PAUSE_S)
        if at_s % CALM_EACH_S > CALM_EACH_S - CALM_S:
            at_s += CALM_S
    return strokes
