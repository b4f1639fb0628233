"""REST against a real server on loopback: what is asked, what is taken, and what is told."""

from __future__ import annotations

import asyncio
import gzip
import resource
import shutil
import ssl
import subprocess
import zlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Self

import pytest
from aiohttp import web

from mdsys.daemon import rest as module
from mdsys.daemon.limiter import Limiter, Permit
from mdsys.daemon.rest import Rest, RestError
from mdsys.feed.venue import Fetch, Limits, Window

WEIGHT = (Window(6_000, 60.0),)
SECRET = "a-token-that-nobody-may-see"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Stage:
    """A venue's server, and our client under a limiter."""

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[web.Request] = []
        self.slept: list[float] = []
        self.paused: list[float] = []
        self.limiter = Limiter()
        self.limiter.configure("v", Limits(rest_weight=WEIGHT))
        self.rest = Rest(self.limiter, lambda text: text.replace(SECRET, "***"), sleep=self._sleep)
        self._handler = handler
        self._tls = tls
        self._runner: web.ServerRunner | None = None
        self.url = ""

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def __aenter__(self) -> Self:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            assert isinstance(request, web.BaseRequest)
            self.requests.append(request)  # type: ignore[arg-type]
            return await self._handler(request)  # type: ignore[arg-type]

        self._runner = web.ServerRunner(web.Server(handle))
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.rest.close()
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def fetch(self) -> Fetch:
        return self.rest.fetcher("v", self.url)

    @property
    def used(self) -> int:
        return next((row.used for row in self.limiter.usage()), 0)

    def dont_wait(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Note pauses instead of waiting for their end."""
        monkeypatch.setattr(self.limiter, "pause", lambda *args: self.paused.append(args[2]))


def play(handler: Handler, scenario: Callable[[Stage], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Stage(handler) as stage:
            await scenario(stage)

    asyncio.run(run())


def answers(*responses: Callable[[], web.Response]) -> Handler:
    """Answer with each in turn; the last one goes on."""
    left = list(responses)

    async def handle(_: web.Request) -> web.Response:
        return (left.pop(0) if len(left) > 1 else left[0])()

    return handle


def ok() -> web.Response:
    return web.Response(body=b"body")


def failing(status: int, words: str = "", **headers: str) -> Callable[[], web.Response]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: web.Response(status=status, text=words, headers=names)


def test_a_body_comes_decompressed_and_its_weight_is_charged() -> None:
    async def handle(_: web.Request) -> web.Response:
        body = gzip.compress(b"x" * 100_000)
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    async def scenario(stage: Stage) -> None:
        body = await stage.fetch(
            "/api/depth", params={"symbol": "A&B"}, headers={"Authorization": SECRET}, weight=50
        )
        assert body == b"x" * 100_000
        (request,) = stage.requests
        assert request.method == "GET"
        assert request.path_qs == "/api/depth?symbol=A%26B"
        assert request.headers["Authorization"] == SECRET
        assert stage.used == 50

    play(handle, scenario)


def test_the_weight_is_charged_before_the_request_is_sent() -> None:
    async def scenario(stage: Stage) -> None:
        async def look(_: web.Request) -> web.Response:
            assert stage.used == 40
            return web.Response(body=b"")

        stage._handler = look
        await stage.fetch("/", weight=40)

    play(answers(ok), scenario)


def test_a_request_that_does_not_fit_waits_for_the_limiter() -> None:
    async def scenario(stage: Stage) -> None:
        stage.limiter.configure("v", Limits(rest_weight=(Window(1, 0.05),)))
        for _ in range(3):
            await stage.fetch("/")
        times = [row.used for row in stage.limiter.usage()]
        assert times == [1]

    play(answers(ok), scenario)


def test_the_venues_own_count_raises_ours() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.fetch("/", weight=2)
        assert stage.used == 700

    def counted() -> web.Response:
        headers = {
            "X-MBX-USED-WEIGHT-1M": "700",
            "X-MBX-USED-WEIGHT-1H": "9",
            "X-MBX-USED-WEIGHT": "8",
        }
        return web.Response(body=b"", headers=headers)

    play(answers(counted), scenario)


def test_an_error_has_the_venues_words_and_no_secret() -> None:
    words = f'{{"code":-1121,"msg":"Invalid symbol. {SECRET}"}}\r\n'

    async def scenario(stage: Stage) -> None:
        with pytest.raises(RestError) as caught:
            await stage.fetch("/api/depth", params={"key": SECRET}, headers={"X": SECRET})
        error = caught.value
        assert str(error) == (
            f'v: GET {stage.url}/api/depth: HTTP 400: {{"code":-1121,"msg":"Invalid symbol. ***"}}'
        )
        assert error.status == 400
        assert error.is_final
        assert SECRET not in repr(error)
        assert len(stage.requests) == 1

    play(answers(failing(400, words)), scenario)


def test_a_header_that_is_quoted_back_at_us_is_masked_though_nobody_registered_it() -> None:
    async def scenario(stage: Stage) -> None:
        given = "token abc:0123456789abcdef"
        with pytest.raises(RestError) as caught:
            await stage.fetch("/", headers={"Authorization": given})
        assert "0123456789abcdef" not in str(caught.value)
        assert caught.value.is_denied

    async def quote(request: web.Request) -> web.Response:
        return web.Response(status=403, text=f"bad {request.headers['Authorization']}")

    play(quote, scenario)


def test_a_secret_that_this_request_did_not_hold_is_masked_too() -> None:
    async def scenario(stage: Stage) -> None:
        with pytest.raises(RestError, match=r"HTTP 403: bad \*\*\*$"):
            await stage.fetch("/")

    play(answers(failing(403, f"bad {SECRET}")), scenario)


def test_what_may_pass_is_tried_again_and_charged_each_time() -> None:
    async def scenario(stage: Stage) -> None:
        assert await stage.fetch("/", weight=5) == b"body"
        assert len(stage.requests) == 3
        assert len(stage.slept) == 2
        assert stage.used == 15

    play(answers(failing(503, "busy"), failing(502), ok), scenario)


def test_it_gives_up_after_some_tries_with_the_last_words() -> None:
    async def scenario(stage: Stage) -> None:
        with pytest.raises(RestError, match="HTTP 503: busy") as caught:
            await stage.fetch("/")
        assert not caught.value.is_final
        assert len(stage.requests) == module.TRIES_MAX

    play(answers(failing(503, "busy")), scenario)


def test_a_server_that_is_not_there_is_tried_again_and_named() -> None:
    async def scenario(stage: Stage) -> None:
        fetch = stage.rest.fetcher("v", "http://127.0.0.1:1")
        with pytest.raises(RestError, match=r"v: GET http://127\.0\.0\.1:1/x: Cannot connect"):
            await fetch("/x")
        assert len(stage.slept) == module.TRIES_MAX - 1
        assert stage.used == module.TRIES_MAX

    play(answers(ok), scenario)


def test_a_connection_cut_in_the_middle_of_a_body_is_no_answer() -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    async def scenario(stage: Stage) -> None:
        with pytest.raises(RestError):
            await stage.fetch("/")
        assert len(stage.requests) == module.TRIES_MAX

    play(cut, scenario)


@pytest.mark.parametrize("status", [418, 429])
def test_all_rest_to_a_venue_waits_as_long_as_it_says(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    async def scenario(stage: Stage) -> None:
        stage.dont_wait(monkeypatch)
        assert await stage.fetch("/") == b"body"
        assert stage.paused == [7.0]
        assert not stage.slept

    play(answers(failing(status, "slower", Retry_After="7"), ok), scenario)


def test_a_pause_is_one_for_the_limiter(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(stage: Stage) -> None:
        asked_again = asyncio.Event()
        wait = stage.limiter.wait

        async def noted(*args: Any, **named: Any) -> Permit:
            if stage.requests:
                asked_again.set()
            return await wait(*args, **named)

        monkeypatch.setattr(stage.limiter, "wait", noted)
        task = asyncio.ensure_future(stage.fetch("/"))
        await asked_again.wait()
        assert stage.limiter.usage()[0].waiting == 1
        assert len(stage.requests) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stage.limiter.usage()[0].waiting == 0

    play(answers(failing(429, Retry_After="100")), scenario)


def test_a_long_ban_is_not_waited_for_but_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(stage: Stage) -> None:
        stage.dont_wait(monkeypatch)
        with pytest.raises(RestError, match="HTTP 418: banned"):
            await stage.fetch("/")
        assert stage.paused == [86_400.0]
        assert len(stage.requests) == 1

    play(answers(failing(418, "banned", Retry_After="86400")), scenario)


IN_50_000_S = format_datetime(datetime.now(UTC) + timedelta(seconds=50_000), usegmt=True)
"""Long enough for a suite between its collection and this test."""


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("0", 1, 1),
        ("", 10, 10),
        ("soon", 10, 10),
        ("-5", 10, 10),
        ("99999999", module.PAUSE_S_MAX, module.PAUSE_S_MAX),
        pytest.param(IN_50_000_S, 40_000, 50_000, id="a date"),  # each worker collects its own
        (format_datetime(datetime(2001, 1, 1, tzinfo=UTC), usegmt=True), 1, 1),
    ],
)
def test_what_the_venue_says_of_waiting_is_read_with_care(
    monkeypatch: pytest.MonkeyPatch, text: str, least: float, most: float
) -> None:
    async def scenario(stage: Stage) -> None:
        stage.dont_wait(monkeypatch)
        monkeypatch.setattr(module, "PATIENCE_S", 1e9)
        assert await stage.fetch("/") == b"body"
        (paused,) = stage.paused
        assert least <= paused <= most

    play(answers(failing(429, Retry_After=text), ok), scenario)


def test_a_body_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODY_SIZE_MAX", 1 << 20)

    pack = zlib.compressobj(wbits=31)  # as gzip
    parts = [pack.compress(bytes(1 << 20)) for _ in range(128)]  # 128 KB on the wire
    packed = b"".join([*parts, pack.flush()])

    async def bomb(_: web.Request) -> web.Response:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    async def scenario(stage: Stage) -> None:
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(RestError, match="larger than 1 MiB"):
            await stage.fetch("/")
        assert len(stage.requests) == 1
        after_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert after_kib - before_kib < 32 << 10  # nor is it inflated on the way

    play(bomb, scenario)


def test_a_redirection_is_followed_on_the_same_host_only() -> None:
    async def handle(request: web.Request) -> web.Response:
        target = {"/a": "/b?x=1", "/c": "http://127.0.0.2:1/steal", "/d": "/d"}.get(request.path)
        if target is None:
            return web.Response(body=request.path_qs.encode())
        return web.Response(status=302, headers={"Location": target})

    async def scenario(stage: Stage) -> None:
        assert await stage.fetch("/a", headers={"Authorization": SECRET}) == b"/b?x=1"
        with pytest.raises(RestError, match=r"another host \(http://127\.0\.0\.2:1\)"):
            await stage.fetch("/c", headers={"Authorization": SECRET})
        stage.requests.clear()
        with pytest.raises(RestError, match="round in circles"):
            await stage.fetch("/d")
        assert len(stage.requests) == module.REDIRECTS_MAX + 1

    play(handle, scenario)


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate with openssl(1)")
def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
            *("ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)

    async def run() -> None:
        async with Stage(answers(ok), tls) as stage:
            with pytest.raises(RestError, match="certificate"):
                await stage.fetch("/", headers={"Authorization": SECRET})
            assert not stage.requests
            assert not stage.slept

    asyncio.run(run())


def test_requests_failures_and_words_to_wait_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(stage: Stage) -> None:
        stage.dont_wait(monkeypatch)
        await stage.fetch("/x")
        with pytest.raises(RestError):
            await stage.fetch("/x")
        rest = stage.rest
        assert (rest.request_count, rest.failure_count, rest.refusal_count) == (4, 1, 1)

    play(answers(failing(503), failing(429), ok, failing(404)), scenario)
