"""GET requests to venues, under the limiter: bounded in size, in time and in tries.

Everything here serves the supervisor, never a feed: snapshots of books, lists of instruments.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urljoin, urlsplit

import aiohttp

from mdsys.config_checks import masked_url
from mdsys.daemon.limiter import Limiter
from mdsys.errors import FeedError
from mdsys.feed.backoff import Backoff
from mdsys.feed.tls import default_tls
from mdsys.feed.venue import Fetch

BODY_SIZE_MAX: Final = 64 << 20
"""After decompression; the largest we know, a list of all instruments, has 10 MB."""
TRIES_MAX: Final = 4
TOTAL_S: Final = 60.0
CONNECT_S: Final = 5.0
SILENCE_S: Final = 10.0
REDIRECTS_MAX: Final = 3
WORDS_SIZE_MAX: Final = 200
PAUSE_S_MAX: Final = 3 * 86_400.0
"""The longest ban that Binance names."""
PAUSE_S_UNSAID: Final = {429: 10.0, 418: 120.0}
"""Where the venue says "wait" and not how long."""
PATIENCE_S: Final = 120.0
"""A request waits so long for a venue that told us to; longer ones fail, and are asked again."""

_PASSING = (408, 418, 425, 429)
"""Of the answers below 500, those that may be others next time."""

log = logging.getLogger("mdsys.daemon")

# Binance's header names the window: X-MBX-USED-WEIGHT-1M
# (developers.binance.com, spot "General API Information", IP limits).
_USED_WEIGHT = re.compile(r"x-mbx-used-weight-([0-9]{1,4})([smhd])", re.ASCII)
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_NOT_SHOWN = re.compile(r"[^\x20-\x7e]+")


class RestError(FeedError):
    """A venue did not answer a request, or not with 200.

    Args:
        message: The venue, the path and the venue's words, secrets masked.
        status: Of the last answer; None: there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_denied(self) -> bool:
        """Return whether the venue does not take our credential."""
        return self.status in (401, 403)

    @property
    def is_final(self) -> bool:
        """Return whether asking again brings the same answer."""
        return self.status is not None and self.status not in _PASSING and self.status < 500


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Rest:
    """One session for all venues; used within one event loop.

    Args:
        limiter: Every venue that is asked has been configured there.
        mask: Takes secrets out of what will be shown.
        sleep: Waits between two tries.
    """

    def __init__(
        self,
        limiter: Limiter,
        mask: Callable[[str], str] = str,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.limiter = limiter
        self.mask = mask
        self.sleep = sleep
        self._session: aiohttp.ClientSession | None = None
        self.request_count = 0
        """Sent, further tries and redirections among them."""
        self.failure_count = 0
        """Of what was asked for, what could not be had."""
        self.refusal_count = 0
        """Answers that told us to wait."""

    async def close(self) -> None:
        """Give up what is under way."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def fetcher(self, venue: str, rest_url: str) -> Fetch:
        """Return the GET of one venue.

        Args:
            venue: Whose limits.
            rest_url: Its address, or the configuration's.
        """
        base = rest_url.rstrip("/")

        async def fetch(
            path: str,
            *,
            params: Mapping[str, str] | None = None,
            headers: Mapping[str, str] | None = None,
            weight: int = 1,
        ) -> bytes:
            try:
                return await _Request(self, venue, base, path, params, headers, weight).run()
            except FeedError:
                self.failure_count += 1
                raise

        return fetch

    def session(self) -> aiohttp.ClientSession:
        """Return the session, opened when it is first needed: that needs the running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=default_tls(), limit=32, limit_per_host=8),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(TOTAL_S, sock_connect=CONNECT_S, sock_read=SILENCE_S),
                headers={"User-Agent": "mdsys"},
                trust_env=False,
            )
        return self._session


@dataclass(slots=True)
class _Request:
    """One GET, through all its tries."""

    rest: Rest
    venue: str
    base: str
    path: str
    params: Mapping[str, str] | None
    headers: Mapping[str, str] | None
    weight: int

    async def run(self) -> bytes:
        backoff = Backoff(first_s=0.5, max_s=8.0)
        for number in range(1, TRIES_MAX + 1):
            last = number == TRIES_MAX
            try:
                answer = await self._follow(self.base + self.path)
            except aiohttp.ClientSSLError as error:  # a wrong certificate will not mend itself
                raise self._error(str(error)) from None
            except (aiohttp.ClientError, OSError) as error:  # TimeoutError is one
                words = str(error) or type(error).__name__
                if last:
                    raise self._error(words) from None
                log.info("%s; trying again", self._error(words))
                await self.rest.sleep(backoff.next_s())
                continue
            if answer.status == 200:
                return answer.body
            failure = self._error(_words(answer), answer.status)
            if answer.status in PAUSE_S_UNSAID:
                self.rest.refusal_count += 1
                wait_s = _retry_after_s(answer)
                log.warning("%s; no REST to %s for %.0f s", failure, self.venue, wait_s)
                self.rest.limiter.pause(self.venue, "rest", wait_s)
                if last or wait_s > PATIENCE_S:
                    raise failure
            elif failure.is_final or last:
                raise failure
            else:
                log.info("%s; trying again", failure)
                await self.rest.sleep(backoff.next_s())
        raise AssertionError("the last try returns or raises")

    async def _follow(self, url: str) -> _Answer:
        """Ask, and follow redirections that stay with the same host: headers hold secrets."""
        params = self.params
        for _ in range(REDIRECTS_MAX + 1):
            answer = await self._ask(url, params)
            if answer.status not in (301, 302, 303, 307, 308):
                return answer
            target = urljoin(url, answer.headers.get("Location", ""))
            if _origin(target) != _origin(url):
                raise self._error(
                    f"sends us to another host ({_origin(target)}), where no secret goes",
                    answer.status,
                )
            url, params = target, None  # a Location is complete
        raise self._error("sends us round in circles", answer.status)

    async def _ask(self, url: str, params: Mapping[str, str] | None) -> _Answer:
        """Ask once, charged before."""
        limiter = self.rest.limiter
        permit = await limiter.wait(self.venue, "rest", count=self.weight)
        self.rest.request_count += 1
        try:
            async with self.rest.session().get(
                url, params=params, headers=self.headers, allow_redirects=False
            ) as response:
                limiter.used(permit)  # it has been counted there before it was answered
                headers = {key.lower(): value for key, value in response.headers.items()}
                self._believe(headers)
                body = bytearray()
                async for chunk in response.content.iter_chunked(64 << 10):
                    body += chunk
                    if len(body) > BODY_SIZE_MAX:
                        raise self._error(
                            f"the answer is larger than {BODY_SIZE_MAX >> 20} MiB", response.status
                        )
                return _Answer(response.status, response.headers.copy(), bytes(body))
        finally:
            limiter.used(permit)  # perhaps it got there

    def _believe(self, headers: Mapping[str, str]) -> None:
        """Take over what the venue has counted, where it tells."""
        for key, value in headers.items():
            if (window := _USED_WEIGHT.fullmatch(key)) and re.fullmatch("[0-9]{1,9}", value):
                seconds = float(int(window[1]) * _UNIT_S[window[2]])
                self.rest.limiter.correct(self.venue, "rest", int(value), seconds)

    def _error(self, words: str, status: int | None = None) -> RestError:
        answer = "" if status is None else f" HTTP {status}:"
        text = self.rest.mask(words)
        for given in (*(self.headers or {}).values(), *(self.params or {}).values()):
            if len(given) >= 16:  # a secret, or as good as one: never a symbol
                text = text.replace(given, "***")
        text = _NOT_SHOWN.sub(" ", text).strip()[:WORDS_SIZE_MAX]
        return RestError(
            f"{self.venue}: GET {masked_url(self.base + self.path)}:{answer} {text}", status
        )


def _words(answer: _Answer) -> str:
    """Return the venue's own, or none."""
    return answer.body[:2_000].decode("utf-8", "replace").strip() or "(no words)"


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        return "no URL"
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _retry_after_s(answer: _Answer) -> float:
    """Return how long the venue wants to be left alone (RFC 9110, section 10.2.3)."""
    text = answer.headers.get("Retry-After", "").strip()
    seconds = PAUSE_S_UNSAID[answer.status]
    if re.fullmatch("[0-9]{1,9}", text):
        seconds = float(text)
    elif text:
        with suppress(ValueError, OverflowError):  # else it is garbage
            at = parsedate_to_datetime(text)
            seconds = at.replace(tzinfo=at.tzinfo or UTC).timestamp() - time.time()
    return min(max(seconds, 1.0), PAUSE_S_MAX)
