"""Massive's manners for the simulator: /stocks and /options.

As the live service was found to behave: an unknown ticker is acknowledged and never ticks, an
unknown channel is passed over in silence. There are no bars in the market, so those streams are
acknowledged and stay silent. Sequence numbers ascend with holes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from mdsys.feed.event_dialect import EventSession, frame
from mdsys.feed.venue import Limits, Message
from mdsys.sim.dialect import (
    Breach,
    Client,
    CloseSocket,
    Dialect,
    Event,
    Kind,
    Quote,
    Refusal,
    Request,
    Session,
    Trade,
)

_KINDS: Final[Mapping[str, Kind]] = {"T": "trade", "Q": "quote"}
_PREFIXES: Final = frozenset({"T", "Q", "A", "AM", "LULD", "NOI", "FMV"})
_FOR_ALL: Final = "*"


def status(word: str, message: str) -> dict[str, str]:
    """Return a status event."""
    return {"ev": "status", "status": word, "message": message}


class Massive(Dialect):
    """Massive's clusters."""

    limits: Limits = Limits(connections=1)
    keyed: ClassVar[bool] = True
    hello_s: ClassVar[float | None] = 30.0

    def accept(self, request: Request, client: Client) -> Session | Refusal:
        """Take in whoever names a cluster."""
        if request.path.strip("/") in {"stocks", "options"}:
            return MassiveSession(self, client)
        return Refusal(404, "not found")

    def breach(self, what: str) -> Breach:
        """Say it as the venue does, if it says anything."""
        words = {
            "connections": (
                "max_connections",
                "Maximum number of websocket connections exceeded. ",
            ),
            "hello": ("auth_timeout", "No authentication request received."),
            "expired": ("auth_failed", "authentication failed"),
        }
        if what in words:
            return Breach(messages=[frame(status(*words[what]))], reason=what)
        return Breach(code=0) if what == "slow" else super().breach(what)


class MassiveSession(EventSession):
    """One client's socket."""

    def greet(self) -> Sequence[Message]:
        """Welcome it."""
        return [frame(status("connected", "Connected Successfully"))]

    def hear(self, message: Message) -> Sequence[Message]:
        """Carry out an auth, subscribe or unsubscribe."""
        try:
            fields = json.loads(message)
            action, params = fields["action"], fields["params"]
        except (ValueError, TypeError, KeyError):
            return [frame(status("error", "invalid message"))]
        if not isinstance(params, str):
            return [frame(status("error", "invalid params"))]
        if action == "auth":
            return [self._authenticate(params)]
        if not self._key:
            raise CloseSocket(1008, messages=[frame(status("auth_failed", "not authenticated"))])
        if action not in ("subscribe", "unsubscribe"):
            return [frame(status("error", f"unknown action {action}"))]
        answers = [
            answer
            for param in filter(None, map(str.strip, params.split(",")))
            if (answer := self._carry_out(action, param)) is not None
        ]
        return [frame(*answers)] if answers else []

    def _authenticate(self, key: str) -> str:
        if not self.exchange.is_valid(key):
            failed = frame(status("auth_failed", "authentication failed"))
            raise CloseSocket(1008, messages=[failed])
        self._key = key
        return frame(status("auth_success", "authenticated"))

    def _carry_out(self, action: str, param: str) -> dict[str, str] | None:
        prefix, _, name = param.partition(".")
        if prefix not in _PREFIXES or not name:
            return None
        kind = _KINDS.get(prefix)
        if name == _FOR_ALL:
            symbols = list(self.market.symbols)
        else:
            symbols = [found] if (found := self.market.find(name)) is not None else []
        for symbol in symbols:
            if action == "unsubscribe":
                if kind is not None:
                    self.client.hide(symbol, kind)
            elif words := self.exchange.refusal(symbol.name, prefix):
                return status("error", f"{words}: {param}")
            elif kind is not None:
                self.client.show(symbol, kind)
        return status("success", f"{action}d to: {param}")

    def render(self, event: Event) -> Message | None:
        """Keep the event for the block's frame."""
        if event.kind == "trade":
            self._pending.append(_trade(event))
        elif event.kind == "quote":
            self._pending.append(_quote(event))
        return None


def _trade(event: Trade) -> str:
    symbol, ms = event.symbol, event.time_ns // 10**6
    size = symbol.size(event.size)
    return (
        f'{{"ev":"T","sym":"{symbol.name}","i":"{event.id}","x":4,"p":{symbol.price(event.price)}'
        f',"s":{size.partition(".")[0]},"c":[14,37],"t":{ms},"pt":{ms},"q":{2 * event.id},"z":3'
        f',"ds":"{size}"}}'
    )


def _quote(event: Quote) -> str:
    symbol, ms = event.symbol, event.time_ns // 10**6
    return (
        f'{{"ev":"Q","sym":"{symbol.name}","bx":10,"ax":15,"bp":{symbol.price(event.bid.price)}'
        f',"ap":{symbol.price(event.ask.price)},"bs":{symbol.size(event.bid.size)}'
        f',"as":{symbol.size(event.ask.size)},"t":{ms},"pt":{ms},"q":{event.id},"z":3}}'
    )
