"""``GET /metrics``: an HTTP server in the supervisor's loop that no client can hold up.

The text is made in a thread, at most once in FRESH_S and once at a time, however many ask; in the
loop is done only what must be: taking the numbers that live there, and the sockets. A client has
so many bytes for its request, so long to send it and so long to take the answer. There are
CONNECTION_COUNT_MAX connections; who comes when all are taken gets the place of the one that has
asked for nothing for longest, so who sits on connections keeps nobody else out.

There are no secrets in the answer, and there is no log-in: that is why 127.0.0.1 is what examples
listen on.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from mdsys.errors import HostError, NoPermission

PATH: Final = "/metrics"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
CONNECTION_COUNT_MAX: Final = 16
LINE_SIZE_MAX: Final = 4096
"""Bytes of the request's first line, and of each header."""
HEADER_COUNT_MAX: Final = 32
IDLE_S: Final = 150.0
"""A connection without a request ends; longer than the usual intervals between two scrapes."""
ANSWER_S: Final = 10.0
"""From the request to its answer taken; Prometheus itself gives up after 10 s."""
FRESH_S: Final = 0.5
"""Younger text is given again: a client in a loop costs no more than one every so long."""
GZIP_LEVEL: Final = 1
GZIP_BITS: Final = 31
"""zlib's word for a gzip header and the largest window."""

log = logging.getLogger("mdsys.daemon")

_http_log = logging.getLogger("mdsys.metrics.http")
"""aiohttp writes a traceback for whatever is no HTTP: a stranger could fill the log with them."""
_http_log.setLevel(logging.CRITICAL + 1)

Render = Callable[[], Iterable[bytes]]
"""Makes the text, piece by piece; called in a thread."""


@dataclass(frozen=True, slots=True)
class Page:
    """One picture of everything, as text."""

    plain: bytes
    gzipped: bytes


def listen(address: str) -> socket.socket:
    """Return a socket that listens.

    Args:
        address: HOST:PORT, as ``[metrics] listen``.

    Raises:
        HostError: There is no such host, or the port is taken; the message names the remedy.
        NoPermission: The port is for root.
    """
    host, _, port = address.rpartition(":")
    try:
        (family, _, _, _, name), *_ = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that IDNA cannot write
        raise HostError(
            f"metrics.listen: {address}: no such host here ({error}); give an address of this "
            "host, as 127.0.0.1:9464"
        ) from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(name)
        listener.listen(CONNECTION_COUNT_MAX)
        listener.settimeout(0)
    except PermissionError:
        listener.close()
        raise NoPermission(
            f"metrics.listen: {address}: permission denied: choose a port from 1024 on"
        ) from None
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise HostError(
                f"metrics.listen: {address}: no address of this host (ip address tells): give one, "
                "as 127.0.0.1:9464"
            ) from None
        raise HostError(
            f"metrics.listen: {address}: {error.strerror}; another daemon or program may listen "
            f"there (ss -ltnp 'sport = :{port}' tells): give each instance a port of its own"
        ) from None
    return listener


class MetricsServer:
    """Serves one instance's numbers.

    Args:
        listener: From ``listen``; closed with the server.
        gather: Takes what only the loop may look at, in the loop, and returns what makes the text.
        monotonic_s: The clock that tells how old a text is.
    """

    def __init__(
        self,
        listener: socket.socket,
        gather: Callable[[], Render],
        monotonic_s: Callable[[], float] | None = None,
    ) -> None:
        self._listener = listener
        self._gather = gather
        self._monotonic_s = monotonic_s
        self._server: asyncio.Server | None = None
        self._door: _Door | None = None
        self._page: asyncio.Task[Page | None] | None = None
        self._page_s = 0.0
        """When that was begun."""

    @property
    def url(self) -> str:
        """Where the numbers are."""
        host, port, *_ = self._listener.getsockname()
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH}"

    async def start(self) -> None:
        """Begin to answer."""
        self._door = _Door(
            self._answer,
            keepalive_timeout=IDLE_S,
            lingering_time=0.0,  # a request's body is nobody's concern here
            max_line_size=LINE_SIZE_MAX,
            max_field_size=LINE_SIZE_MAX,
            max_headers=HEADER_COUNT_MAX,
            auto_decompress=False,
            logger=_http_log,
            access_log=None,
        )
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._door, sock=self._listener)

    async def close(self) -> None:
        """Answer nobody any more; when it returns, nothing looks at the numbers."""
        if self._server is not None:
            self._server.close()
        if self._door is not None:
            self._door.abort_all()
        self._listener.close()
        if self._page is not None:
            await asyncio.wait([self._page])

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, or end the connection of who does not take it."""
        assert self._door is not None
        client = request.protocol
        self._door.begin(client)
        try:
            async with asyncio.timeout(ANSWER_S):
                response = await self._response(request)
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            self._door.abort(client)
            raise
        finally:
            self._door.end(client)
        return response

    async def _response(self, request: web.BaseRequest) -> web.Response:
        if request.path == "/":
            return web.Response(text=f"mdsys: the numbers are at {PATH}\n")
        if request.path != PATH:
            return web.Response(status=404, text=f"not found: the numbers are at {PATH}\n")
        if request.method not in ("GET", "HEAD"):
            allowed = {"Allow": "GET, HEAD"}
            return web.Response(status=405, headers=allowed, text="only GET and HEAD\n")
        page = await asyncio.shield(self._fresh_page())
        if page is None:
            return web.Response(status=500, text="the numbers cannot be made; the log says why\n")
        headers = {"Content-Type": CONTENT_TYPE, "Vary": "Accept-Encoding"}
        if _takes_gzip(request.headers.get("Accept-Encoding", "")):
            headers["Content-Encoding"] = "gzip"
            return web.Response(body=page.gzipped, headers=headers)
        return web.Response(body=page.plain, headers=headers)

    def _fresh_page(self) -> asyncio.Task[Page | None]:
        """Return the page that is being made or is young enough, else one that is begun now."""
        now_s = (self._monotonic_s or asyncio.get_running_loop().time)()
        if self._page is None or (self._page.done() and now_s - self._page_s >= FRESH_S):
            self._page_s = now_s
            self._page = asyncio.create_task(self._make())
        return self._page

    async def _make(self) -> Page | None:
        try:
            return await asyncio.to_thread(_page, self._gather())
        except Exception:  # a fault of ours; the next scrape may do better
            log.exception("the metrics cannot be made")
            return None


def _page(render: Render) -> Page:
    """Make a page, in a thread.

    Python takes the GIL from who works on only after 5 ms. Compressing gives it up, piece by piece,
    so the loop waits for one piece at most.
    """
    compressor = zlib.compressobj(GZIP_LEVEL, wbits=GZIP_BITS)
    plain, gzipped = bytearray(), bytearray()
    for piece in render():
        plain += piece
        gzipped += compressor.compress(piece)
    gzipped += compressor.flush()
    return Page(bytes(plain), bytes(gzipped))


def _takes_gzip(accepted: str) -> bool:
    """Return whether a client takes gzip (RFC 9110, 12.5.3); who says nothing gets it plain."""
    for each in accepted.split(","):
        coding, *parameters = (part.strip().lower() for part in each.split(";"))
        if coding == "gzip":
            return not any(part.startswith("q=") and not part.strip("q=0.") for part in parameters)
    return False


class _Door(web.Server):
    """aiohttp's server, which by itself lets in as many as come."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self._open: dict[RequestHandler, asyncio.Transport] = {}
        """Who has asked last is last."""
        self._busy: set[RequestHandler] = set()

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Let in a client, and out who has been idle for longest where there are too many."""
        super().connection_made(handler, transport)
        self._open[handler] = transport
        if len(self._open) > CONNECTION_COUNT_MAX:  # where all others are busy, the new one goes
            self.abort(next(each for each in self._open if each not in self._busy))

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Forget a client."""
        super().connection_lost(handler, exc)
        self._open.pop(handler, None)

    def begin(self, handler: RequestHandler) -> None:
        """Note that a client has asked."""
        self._busy.add(handler)
        if (transport := self._open.pop(handler, None)) is not None:
            self._open[handler] = transport

    def end(self, handler: RequestHandler) -> None:
        """Note that it has been answered."""
        self._busy.discard(handler)

    def abort(self, handler: RequestHandler) -> None:
        """End a connection at once, whatever is still to be sent on it."""
        if (transport := self._open.pop(handler, None)) is not None:
            transport.abort()

    def abort_all(self) -> None:
        """End all."""
        for handler in list(self._open):
            self.abort(handler)
