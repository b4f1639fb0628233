"""What a venue says, made fit to be shown: without our secrets, in one line, not too long."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from urllib.parse import quote, quote_plus

from mdsys.feed.venue import Dial, Secret

WORDS_SIZE_MAX = 200
SECRET_SIZE_MIN = 4
"""Characters; what is shorter is no secret, and would be found everywhere."""
HIDDEN = "***"
CUT = "…"
_CUTS = re.compile(r"(…|\.\.\.)")


def beginning(text: str | bytes, size: int) -> str:
    """Return what fits of a text, and ``CUT`` behind it where that is not all.

    Whoever shortens a venue's words before a `Veil` has seen them does it by this: a secret that is
    cut in two is no more what the veil hides, but it looks for the half of one in front of ``CUT``.
    """
    head = text[:size]
    if isinstance(head, bytes):
        head = head.decode("utf-8", "replace").rstrip("\ufffd")  # half a character
    return head + CUT if len(text) > size else head


def hide(text: str, secrets: Collection[str]) -> str:
    """Return a text without any of the secrets, nor the beginning of one where it has been cut."""
    known = sorted(
        (each for each in secrets if len(each) >= SECRET_SIZE_MIN), key=len, reverse=True
    )
    for each in known:
        text = text.replace(each, HIDDEN)
    return "".join(_without_half(part, known) for part in _CUTS.split(text))


def _without_half(text: str, secrets: Iterable[str]) -> str:
    """Return a text without the beginning of a secret at its end, but for quotation marks."""
    head = text.rstrip("'\"")
    size = max(
        (
            size
            for each in secrets
            for size in range(SECRET_SIZE_MIN, min(len(each), len(head) + 1))
            if head.endswith(each[:size])
        ),
        default=0,
    )
    return head[: len(head) - size] + HIDDEN + text[len(head) :] if size else text


class Veil:
    """Hides what dials a venue in all that is said about it.

    A venue may repeat our key in its refusal, and a library a URL in its error.

    Args:
        secret: Its values are hidden, also as a URL writes them.
    """

    def __init__(self, secret: Secret) -> None:
        self._shown: dict[str, str] = {}
        """An address -> without its secrets."""
        self._hidden: dict[str, None] = {}
        self._hide(secret.values())

    def add(self, dial: Dial) -> None:
        """Hide what was dialled, too: its address and its headers may be made of the secret."""
        if dial.url != dial.shown:
            self._shown[dial.url] = dial.shown
        self._hide(dial.headers.values())

    def _hide(self, values: Iterable[str]) -> None:
        for value in values:
            for written in (value, quote(value), quote(value, safe=""), quote_plus(value)):
                self._hidden[written] = None

    def text(self, text: str) -> str:
        """Return a text without the secrets, uncut."""
        for url, shown in self._shown.items():
            text = text.replace(url, shown)
        return hide(text, self._hidden)

    def words(self, text: str) -> str:
        """Return what may go into one line for people."""
        hidden = self.text(text)  # first: a cut secret would not be found
        shown = "".join(each if each.isprintable() else " " for each in hidden)
        return " ".join(shown.split())[:WORDS_SIZE_MAX]
