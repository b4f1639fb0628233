"""RFC 3339 time to ns since the Unix epoch, and back: ``2023-09-25T07:49:36.925603Z``.

Reading is the plain-Python reference of native/src/rfc3339.h; tests/unit/record/test_rfc3339.py
holds the two together.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

_DATE_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NS_MAX: Final = (1 << 63) - 1


def parse_rfc3339(text: str) -> int | None:
    """Return the time in ns since the epoch; None when ``text`` is no RFC 3339 date-time.

    As section 5.6 has it, with 0 to 9 digits of a fraction; ``T`` and ``Z`` may be small letters.
    Second 60 is taken where a leap second can be, at 23:59 UTC, and is the next day's first, as
    POSIX counts. Times beyond +-(2^63 - 1) ns, years 1677 to 2262, are None too.
    """
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, sign, hours, minutes = match.groups()[6:]
    leap = second == 60
    offset = timedelta()
    if sign is not None:
        if int(hours) > 23 or int(minutes) > 59:
            return None
        offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    try:
        moment = datetime(
            year, month, day, hour, minute, 59 if leap else second, tzinfo=timezone(offset)
        )
        since = moment - _EPOCH
    except ValueError:  # the 30th of February, 24:00, the year 0
        return None
    seconds = since.days * 86400 + since.seconds
    if leap:
        seconds += 1
        if seconds % 86400 != 0:
            return None
    ns = seconds * 10**9 + int((fraction or "").ljust(9, "0"))
    return ns if abs(ns) <= _NS_MAX else None


def rfc3339_text(ns: int, digits: int = 9) -> str:
    """Return a time in UTC; what ``digits`` of a fraction, in [1, 9], do not show is cut off."""
    seconds, fraction = divmod(ns, 10**9)
    return f"{_second(seconds)}.{fraction // 10 ** (9 - digits):0{digits}d}Z"


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
