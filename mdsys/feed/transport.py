"""Opening a WebSocket with picows, and what must be minded about it.

Read in picows 2.3.1 and aiofastnet 1.2.0, and answered here or in ``native/bind/_listener.pyx``:

- ``ws_connect`` follows redirects with all its headers, to other hosts too: never let it.
- It returns a listener of ``None`` when the server hangs up before it has answered the upgrade.
- Cancelled during the handshake it leaves the socket open, and the listener may come alive later:
  an abandoned listener hangs up by itself.
- The handshake timeout does not cover the TCP and TLS handshakes: ours covers all of it.
- Its parser logs each protocol error, possibly many a second: its logger is silenced, since the
  same error reaches us through ``wait_disconnected``.
- A graceful disconnect waits for the peer to take what is buffered, for ever if need be, and over
  TLS half a minute for its goodbye: TCP_USER_TIMEOUT and GOODBYE_TIMEOUT_S bound them.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, Any

from mdsys.feed.frame import FRAME_SIZE_MAX
from mdsys.feed.pins import check_pins

check_pins()

from picows import WSError, WSTransport, ws_connect  # noqa: E402 - after the check

if TYPE_CHECKING:
    from mdsys._listener import FrameListener

CONNECT_TIMEOUT_S = 10.0
GOODBYE_TIMEOUT_S = 1.0
READ_BUFFER_SIZE = 512 << 10
"""Twice what the listener lets be read at a time, so that it need not grow but for a huge frame."""

_SILENT = logging.getLogger("mdsys.picows")
_SILENT.setLevel(logging.CRITICAL + 1)
_SILENT.propagate = False


async def open_socket(
    url: str, listener: FrameListener, *, tls: ssl.SSLContext, timeout_s: float = CONNECT_TIMEOUT_S
) -> WSTransport:
    """Connect and finish the WebSocket handshake.

    Args:
        url: ws:// or wss:// address.
        listener: Gets the frames.
        tls: Verifies the server's certificate; used for wss only.
        timeout_s: For the name look-up, TCP, TLS and the upgrade together, in (0, inf).

    Returns:
        The open transport.

    Raises:
        ConnectionError: The server hung up, or answered with no upgrade.
        OSError: No connection; ``ssl.SSLError`` when the certificate does not verify.
        TimeoutError: It took too long.
    """
    goodbye: dict[str, Any] = (
        {"ssl_shutdown_timeout": GOODBYE_TIMEOUT_S} if url.startswith("wss:") else {}
    )
    try:
        async with asyncio.timeout(timeout_s):
            transport, made = await ws_connect(
                lambda _request, _response: listener,
                url,
                ssl_context=tls,
                websocket_handshake_timeout=timeout_s,
                logger_name=_SILENT,
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
    except WSError as error:
        raise ConnectionError(str(error)) from error
    except BaseException:
        listener.abandon()
        raise
    if made is None:
        raise ConnectionError("the server hung up during the handshake")
    return transport
