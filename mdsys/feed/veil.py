"""What a venue says, made fit to be shown: without our secrets, in one line, not too long."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from mdsys.feed.venue import Dial, Secret

WORDS_SIZE_MAX = 200
SECRET_SIZE_MIN = 4
"""Characters; what is shorter is no secret, and would be found everywhere."""
HIDDEN = "***"


class Veil:
    """Hides what dials a venue in all that is said about it.

    A venue may repeat our key in its refusal, and a library a URL in its error.

    Args:
        secret: Its values are hidden, also as a URL writes them.
    """

    def __init__(self, secret: Secret) -> None:
        self._hidden: dict[str, str] = {}
        self._hide(secret.values())

    def add(self, dial: Dial) -> None:
        """Hide what was dialled, too: its address and its headers may be made of the secret."""
        if dial.url != dial.shown:
            self._hidden[dial.url] = dial.shown
        self._hide(dial.headers.values())

    def _hide(self, values: Iterable[str]) -> None:
        for value in values:
            for written in (value, quote(value), quote(value, safe=""), quote_plus(value)):
                if len(written) >= SECRET_SIZE_MIN:
                    self._hidden[written] = HIDDEN

    def text(self, text: str) -> str:
        """Return a text without the secrets, as long as it was."""
        for value in sorted(self._hidden, key=len, reverse=True):
            text = text.replace(value, self._hidden[value])
        return text

    def words(self, text: str) -> str:
        """Return what may go into one line for people."""
        hidden = self.text(text)  # first: a cut secret would not be found
        shown = "".join(each if each.isprintable() else " " for each in hidden)
        return " ".join(shown.split())[:WORDS_SIZE_MAX]
