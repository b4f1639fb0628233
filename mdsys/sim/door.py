"""The venue's door: REST requests are answered, upgrades let in or turned away."""

from __future__ import annotations

from collections.abc import Callable, Collection

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

from mdsys.sim import http
from mdsys.sim.client import SimClient, Socket
from mdsys.sim.dialect import Dialect, Refusal, Request
from mdsys.sim.exchange import SimExchange
from mdsys.sim.faults import Fault
from mdsys.sim.police import Police


class Door:
    """Answers every HTTP request, and makes the client of each that may come in."""

    def __init__(
        self,
        dialect: Dialect,
        exchange: SimExchange,
        police: Police,
        clients: Collection[SimClient],
        *,
        strike: Callable[[SimClient, Fault], None],
        note: Callable[[SimClient, str, str], None],
        tell: Callable[[str], None],
        notify: Callable[[], None],
    ) -> None:
        """Stand at the door.

        Args:
            dialect: Has the words.
            exchange: Has the faults at the door.
            police: Counts.
            clients: Those inside.
            strike: Carries out a fault on a client's socket.
            note: Told of a limit that the dialect sees broken.
            tell: Told who is turned away, in words.
            notify: Called after each request to come in.
        """
        self.attempts = 0
        self._dialect = dialect
        self._exchange = exchange
        self._police = police
        self._clients = clients
        self._strike = strike
        self._note = note
        self._tell = tell
        self._notify = notify

    def request(self, socket: ServerConnection, request: HttpRequest) -> Response | None:
        """Answer a request; None: the upgrade goes on."""
        peer = socket.remote_address
        asked = http.to_request(request, peer[0] if peer else "")
        if not http.is_upgrade(request):
            return self._rest(asked)
        self.attempts += 1
        client = SimClient(
            self.attempts,
            socket,
            asked.address,
            heard=self._police.heard,
            broke=self._note,
            struck=self._strike,
        )
        refusal = self._refusal(client, asked)
        self._notify()
        if refusal is not None:
            return http.to_response(refusal.status, refusal.body, refusal.headers)
        assert isinstance(socket, Socket)
        socket.client = client
        return None

    def _refusal(self, client: SimClient, asked: Request) -> Refusal | None:
        if self._police.connects(client):
            return self._turned_away(client, "connects")
        for fault in self._exchange.standing("http"):
            if fault.concerns(client.number):
                self._exchange.use_up(fault)
                self._tell(f"connection {client.number}: fault http")
                return Refusal(int(fault.number("status") or 0), fault.option("words"))
        session = self._dialect.accept(asked, client)
        if isinstance(session, Refusal):
            return session
        client.session = session
        if self._police.key_connects(client):
            return self._turned_away(client, "key_connects")
        # A venue that has something to say about it says it on the open socket.
        crowded = self._police.is_crowded(client, self._clients, keyed=self._dialect.keyed)
        if crowded and not self._dialect.breach("connections").messages:
            self._police.note(client, "connections", "one more than allowed")
            return self._turned_away(client, "connections")
        return None

    def _turned_away(self, client: SimClient, what: str) -> Refusal:
        breach = self._dialect.breach(what)
        self._tell(f"connection {client.number}: broke {what}; HTTP {breach.status}")
        return Refusal(breach.status, breach.body)

    def _rest(self, asked: Request) -> Response:
        reply = self._dialect.rest(asked)
        if reply is None:
            return http.to_response(404, "no such path\n", {})
        retry_after_s = self._police.rest_weight(asked.address, reply.weight)
        headers = dict(self._dialect.rest_headers(self._police.weight_used(asked.address)))
        if retry_after_s is None:
            return http.to_response(reply.status, reply.body, {**headers, **reply.headers})
        breach = self._dialect.breach("rest_weight")
        self._tell(f"{asked.address} broke rest_weight; HTTP {breach.status}")
        self._notify()
        headers["Retry-After"] = str(retry_after_s)
        return http.to_response(breach.status, breach.body, headers)
