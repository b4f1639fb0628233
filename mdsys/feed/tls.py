"""Verifying who answers, for sockets and REST alike. There is no switch to turn it off.

Another authority than the host's own is trusted by naming it, in SSL_CERT_FILE or SSL_CERT_DIR,
which OpenSSL reads; the name in the certificate is compared all the same.
"""

from __future__ import annotations

import ssl
from functools import cache


@cache
def default_tls() -> ssl.SSLContext:
    """Return what verifies servers. Costs 20 ms, once.

    TLS 1.2 or newer, whatever the host's OpenSSL configuration allows. Python's own default would
    write every session's keys to the file that SSLKEYLOGFILE names, and with them all secrets.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.keylog_filename = None  # type: ignore[assignment]  # which it may be
    return context
