"""No secret in the log, whoever writes a line: the last look before it is written.

Feeds and venues hide what they know of already. A line may quote what nobody has looked at: a frame
that is refused, an exception's own words, a traceback.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

_FORMATTER = logging.Formatter()


class MaskedLog(logging.Filter):
    """Has secrets taken out of each record, its traceback's text too.

    Args:
        mask: ``Credentials.mask``.
    """

    def __init__(self, mask: Callable[[str], str]) -> None:
        super().__init__()
        self._mask = mask

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record, and let it pass."""
        record.msg, record.args = self._mask(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = _FORMATTER.formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self._mask(record.exc_text)
        return True


def mask_log(mask: Callable[[str], str]) -> None:
    """Put it before all that writes the log."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(MaskedLog(mask))
