"""Opening a WebSocket with picows, and what must be minded about it.

Read in picows 2.3.1 and aiofastnet 1.2.0, and answered here or in ``native/bind/_listener.pyx``:

- ``ws_connect`` follows redirects with all its headers, to other hosts too: never let it.
- It returns a listener of ``None`` when the server hangs up before it has answered the upgrade.
- Cancelled during the handshake it leaves the socket open, and the listener may come alive later:
  an abandoned listener hangs up by itself.
- The handshake timeout does not cover the TCP and TLS handshakes: ours covers all of it.
- Its parser logs each protocol error, possibly many a second: its logger is silenced, since the
  same error reaches us through ``wait_disconnected``.
- It offers no extension, and does not mind a server that answers with one: that is refused here,
  and frames with RSV bits are refused in the listener.
- Of a refused upgrade it keeps what came in one read: status, headers, and mostly the body.
- A graceful disconnect waits for the peer to take what is buffered, for ever if need be, and over
  TLS half a minute for its goodbye: TCP_USER_TIMEOUT and GOODBYE_TIMEOUT_S bound them.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from mdsys.feed.frame import FRAME_SIZE_MAX
from mdsys.feed.pins import check_pins
from mdsys.feed.veil import beginning

check_pins()

from picows import (  # noqa: E402 - after the check
    WSError,
    WSHandshakeError,
    WSTransport,
    ws_connect,
)

if TYPE_CHECKING:
    from mdsys._listener import FrameListener

CONNECT_TIMEOUT_S = 10.0
GOODBYE_TIMEOUT_S = 1.0
READ_BUFFER_SIZE = 512 << 10
"""Twice what the listener lets be read at a time, so that it need not grow but for a huge frame."""

WORDS_SIZE_MAX = 200
"""Of the body of a refusal, in bytes."""
RETRY_AFTER_MAX_S = 3600.0

_SILENT = logging.getLogger("mdsys.picows")
_SILENT.setLevel(logging.CRITICAL + 1)
_SILENT.propagate = False


class UpgradeRefused(ConnectionError):
    """The server has answered, and not with an upgrade.

    Attributes:
        status: Of the HTTP answer; 0 when it was none.
        words: The beginning of its body, as it came; empty when there was none.
        retry_after_s: How long it asks us to stay away; None: it does not say.
    """

    def __init__(self, status: int, phrase: str, words: str, retry_after_s: float | None) -> None:
        super().__init__(f"HTTP {status} {phrase}{f': {words}' if words else ''}")
        self.status = status
        self.words = words
        self.retry_after_s = retry_after_s


async def open_socket(
    url: str,
    listener: FrameListener,
    *,
    tls: ssl.SSLContext | None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = CONNECT_TIMEOUT_S,
) -> WSTransport:
    """Connect and finish the WebSocket handshake.

    Args:
        url: ws:// or wss:// address.
        listener: Gets the frames.
        tls: Verifies the server's certificate; None where it is not wss.
        headers: What the request bears beside WebSocket's own.
        timeout_s: For the name look-up, TCP, TLS and the upgrade together, in (0, inf).

    Returns:
        The open transport.

    Raises:
        UpgradeRefused: The server answered with another status than 101.
        ConnectionError: The server hung up, or answered with what is no HTTP.
        OSError: No connection; ``ssl.SSLError`` when the certificate does not verify.
        TimeoutError: It took too long.
    """
    goodbye: dict[str, Any] = (
        {"ssl_shutdown_timeout": GOODBYE_TIMEOUT_S} if url.startswith("wss:") else {}
    )

    def accept(_request: object, response: Any) -> FrameListener:
        # We offer none, so what is compressed or otherwise made by one is never undone, and never
        # grows: RFC 6455 4.1 has us hang up.
        if (extensions := response.headers.get("Sec-WebSocket-Extensions")) is not None:
            raise ConnectionError(
                f"the server uses extensions that we did not offer: {extensions[:80]!r}"
            )
        return listener

    try:
        async with asyncio.timeout(timeout_s):
            transport, made = await ws_connect(
                accept,
                url,
                ssl_context=tls,
                websocket_handshake_timeout=timeout_s,
                logger_name=_SILENT,
                extra_headers=headers,
                enable_auto_pong=False,
                max_frame_size=FRAME_SIZE_MAX,
                max_redirects=0,
                read_buffer_init_size=READ_BUFFER_SIZE,
                use_aiofastnet=True,
                **goodbye,
            )
    except TimeoutError:
        listener.abandon()
        raise TimeoutError(f"no answer within {timeout_s:g} s") from None
    except WSHandshakeError as error:
        raise _refusal(error) from error
    except WSError as error:
        raise ConnectionError(str(error)) from error
    except BaseException:
        listener.abandon()
        raise
    if made is None:
        raise ConnectionError("the server hung up during the handshake")
    return transport


def _refusal(error: WSHandshakeError) -> ConnectionError:
    response: Any = error.response
    if response is None or response.status is None or response.status == 101:
        return ConnectionError(str(error))
    headers, body = response.headers, error.raw_body or b""
    if "chunked" in headers.get("Transfer-Encoding", "").lower():
        body = body.partition(b"\r\n")[2].partition(b"\r\n")[0]  # the first chunk
    words = beginning(body, WORDS_SIZE_MAX).strip()
    return UpgradeRefused(
        int(response.status),
        response.status.phrase,
        words,
        _seconds_until(headers.get("Retry-After", "")),
    )


def _seconds_until(retry_after: str) -> float | None:
    """Read the header's value: seconds, or a date (RFC 9110 10.2.3)."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(float(text), RETRY_AFTER_MAX_S)
    try:
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)
