"""TOY, an invented venue, as mdsys must know one; docs/venues.md goes through it."""

import json
from dataclasses import dataclass

from mdsys.feed.simple_decoder import SimpleDecoder
from mdsys.feed.venue import Confirmed, Limits, Refused, Removed, VenueDefaults, Window

LIMITS = Limits(connections=5, streams_per_message=50, messages=(Window(5, 1.0),))


class ToyTalk:
    """What we and the venue say to each other on one socket, market data apart."""

    def opening(self):
        return []  # TOY wants no login

    def subscribe(self, streams, request_id):
        return [self._request("subscribe", streams, request_id)]

    def unsubscribe(self, streams, request_id):
        return [self._request("unsubscribe", streams, request_id)]

    def _request(self, op, streams, request_id):
        channel = streams[0].channel  # that of all: ToyVenue.groups_by_channel
        symbols = [stream.symbol for stream in streams]
        return json.dumps({"op": op, "id": request_id, "channel": channel, "symbols": symbols})

    def hear(self, frame):
        answer = json.loads(frame)
        if "error" in answer:
            return [Refused(answer["error"], request_id=answer["id"])]
        event = Confirmed if answer["op"] == "subscribe" else Removed
        return [event(request_id=answer["id"])]

    def keepalive(self):
        return None  # a WebSocket PING will do


class ToyDecoder(SimpleDecoder):
    """What its frames mean."""

    def read(self, frame, out):
        message = json.loads(frame)
        if "op" in message:
            out.control()  # an answer: ToyTalk.hear gets it
            return
        symbol, time_ns, number = message["symbol"], message["ms"] * 1_000_000, message["id"]
        if "price" in message:
            price, size, side = message["price"], message["size"], message["side"]
            out.trade(symbol, time_ns, price, size, side=side, trade_id=number)
        else:
            bids, asks, whole = message["bids"], message["asks"], message["whole"]
            out.book(symbol, time_ns, bids, asks, snapshot=whole, update_id=number)


@dataclass(frozen=True)
class ToyVenue(VenueDefaults):
    """What it is, and what it allows."""

    name: str = "toy"
    url: str = "wss://stream.toy.example/v1"
    channels: tuple[str, ...] = ("trade", "book")
    groups_by_channel: bool = True
    limits: Limits = LIMITS
    silence_s: float = 30.0
    keepalive_s: float = 10.0

    def talk(self, secret):
        return ToyTalk()

    def python_decoder(self, symbols, channels):
        return ToyDecoder(symbols)


TOY = ToyVenue()
