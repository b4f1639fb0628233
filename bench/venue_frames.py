"""Frames of every venue, as its simulated self sends them, and what msgspec makes of them.

What that does not send is made after the venue's documents (bench/document_frames.py).

The venue's own talk subscribes one symbol's channel at its dialect, and a seeded market moves: so
frames have the venue's keys in the venue's order, ids go on, books begin with a snapshot and their
checksums are right. The types that msgspec decodes into are read off the frames: a Struct an
object, each field typed; prices and sizes as Decimal, which is exact, as ours are.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from bench.document_frames import KITE_INDEX_TOKEN, MAKERS, messages_of
from bench.lib import fail
from mdsys._decode import Decoder
from mdsys.feed.frame import FrameResult, SymbolInfo, to_ticks
from mdsys.feed.venue import Stream, venues
from mdsys.sim.dialect import Client, Kind, Message, Request, Session, Symbol
from mdsys.sim.dialects import DIALECTS, find
from mdsys.sim.exchange import SimExchange
from mdsys.sim.market import RandomMarket
from mdsys.sim.source import View

DEPTH = 16384
"""Of the decoder's ring; a pass must not need more."""
KITE_TOKEN = 257
"""Of SYM000000."""


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames of one venue and channel, in order: a pass begins with the first."""

    decoder: Callable[[], Decoder]
    """A fresh one."""
    frames: Sequence[bytes]
    records: int
    """That a fresh decoder makes of them."""


class _Shown(Client):
    """The server's side of one socket: shows what the dialect says."""

    view: View | None = None

    @property
    def address(self) -> str:
        return "192.0.2.1"

    def show(self, symbol: Symbol, *kinds: Kind) -> None:
        assert self.view is not None
        self.view.show(symbol, kinds)

    def hide(self, symbol: Symbol, *kinds: Kind) -> None:
        assert self.view is not None
        self.view.hide(symbol, kinds)

    def show_streams(self, names: Collection[str]) -> None:
        assert self.view is not None
        self.view.show_streams(names)

    def breach(self, what: str, words: str = "") -> None:
        fail(f"decode: {what}: {words}")


def frames_of(name: str, kind: str, count: int) -> Frames:
    """Return frames of one venue and kind.

    Args:
        name: Of the venue.
        kind: Of ``kinds_of``.
        count: How many.
    """
    venue = venues()[name]
    is_index = kind.startswith("index")
    channel = "ticker" if is_index else kind
    symbol = "NSE:SYM000000" if name in ("kite", "openalgo") else "SYM000000"
    token = KITE_INDEX_TOKEN if is_index else KITE_TOKEN
    wire = token.to_bytes(4, "big") if name == "kite" else b""
    scale = 2 if name == "kite" else 8
    assert venue.decoder is not None

    names: Any = {wire or symbol: SymbolInfo(1, scale, 0 if name == "kite" else 8)}

    def decoder() -> Decoder:
        return Decoder(
            str(venue.decoder),
            names,
            DEPTH,
            channels=[channel],
            books_by_rest=venue.book_snapshots is not None,
        )

    kept: list[bytes] = []
    judge = decoder()
    messages: Sequence[Message] = (
        messages_of(name, kind, symbol, count)
        if (name, kind) in MAKERS
        else _messages(name, Stream(symbol, channel, wire), 4 * count)
    )
    for message in messages:
        frame = message.encode() if isinstance(message, str) else bytes(message)
        if judge.decode(frame)[0] is not FrameResult.CONTROL and len(kept) < count:
            # Control frames are left out, and no hole shall be where they were.
            kept.append(re.sub(rb'"sequence_num":\d+', b'"sequence_num":%d' % len(kept), frame))
    judge = decoder()
    reference = venue.python_decoder(names, [channel])
    records = 0
    for frame in kept:
        result, ticks = judge.decode(frame)
        expected = to_ticks(reference.decode(frame, 0, 0)[1], records + 1)
        records += len(ticks)
        if result is not FrameResult.OK or ticks.tobytes() != expected.tobytes():
            fail(f"decode: {name} {kind}: {frame!r} is {result.name}: {ticks}, not {expected}")
    if len(kept) < count or judge.counts["gaps"] or judge.counts["book_resyncs"]:
        fail(f"decode: {name} {kind}: {len(kept)} frames, {judge.counts}")
    return Frames(decoder, kept, records)


def _messages(name: str, stream: Stream, event_count: int) -> list[Message]:
    """Return what the simulated venue sends when one stream is subscribed."""
    venue = venues()[name]
    kind = find(name)
    source = RandomMarket(1, seed=7, start_ms=1_700_000_000_000).open(kind)
    dialect = kind(SimExchange(source.market, None))
    secret = dict.fromkeys(venue.credential_fields, "key")
    crypto = "/v1beta3/crypto/us" if (name, stream.channel) == ("alpaca", "book") else ""
    url = urlsplit(venue.dial(f"ws://venue.example{crypto}", secret).url)
    client = _Shown()
    session = dialect.accept(
        Request(url.path, dict(parse_qsl(url.query)), {}, client.address), client
    )
    assert isinstance(session, Session), f"{name}: {session}"
    client.view = source.view(session)
    source.start()
    said: list[Message] = list(session.greet())
    talk = venue.talk(secret)
    for message in (*talk.opening(), *talk.subscribe([stream], 1)):
        said += session.hear(message)
    while source.native.event_count < 16 * event_count and len(said) < event_count:
        source.advance(source.due_ns())  # one event: venues that gather them would gather hundreds
        said += [_payload(frame.data) for frame in client.view.render_frames()]
    return said


def _payload(data: bytes) -> bytes:
    """Return a server's frame without its header."""
    return data[{126: 4, 127: 10}.get(data[1], 2) :]


# ---- msgspec's side ------------------------------------------------------------------------------

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def typed(values: Sequence[Any], name: str = "Frame") -> Any:
    """Return the type of values that were decoded without one."""
    kinds = {type(value) for value in values}
    if kinds == {dict}:
        keys = dict.fromkeys(key for value in values for key in value)
        fields: list[Any] = []
        for key in keys:
            own = [value[key] for value in values if key in value]
            of_key = typed(own, f"{name}_{key}")
            always = len(own) == len(values)
            fields.append((key, of_key) if always else (key, of_key | None, None))
        fields.sort(key=len)
        safe = {field[0]: f"f{place}" for place, field in enumerate(fields)}
        named = [(safe[field[0]], *field[1:]) for field in fields]
        return msgspec.defstruct(name, named, rename={new: old for old, new in safe.items()})
    if kinds == {list}:
        inner = [each for value in values for each in value]
        sizes = {len(value) for value in values}
        if len(sizes) == 1 and inner and all(isinstance(each, str) for each in inner):
            size = sizes.pop()
            return tuple[tuple(typed([value[i] for value in values], name) for i in range(size))]
        return list[typed(inner, name)] if inner else list
    if kinds == {str}:
        return Decimal if all(_NUMBER.fullmatch(value) for value in values) else str
    if float in kinds:
        return Decimal
    if len(kinds) == 1:
        return kinds.pop()
    return Any


def yardstick(name: str, frames: Sequence[bytes]) -> tuple[str, Callable[[bytes], Any]]:
    """Return what decodes one frame in Python, and its name."""
    if name == "kite":
        return "struct.unpack", unpack_kite
    kind = typed([msgspec.json.decode(frame) for frame in frames])
    return "msgspec, Decimal", msgspec.json.Decoder(kind).decode


_FULL = struct.Struct(">" + "i" * 16 + "IiHxx" * 10)
_BY_SIZE = {8: struct.Struct(">ii"), 28: struct.Struct(">7i"), 32: struct.Struct(">8i")}
_BY_SIZE |= {44: struct.Struct(">11i"), 184: _FULL}


def unpack_kite(frame: bytes) -> list[tuple[int, ...]]:
    """Return the fields of a message's packets."""
    at = 2
    packets = []
    for _ in range(int.from_bytes(frame[:2], "big")):
        size = int.from_bytes(frame[at : at + 2], "big")
        packets.append(_BY_SIZE[size].unpack_from(frame, at + 2))
        at += 2 + size
    return packets


def kinds_of(name: str) -> Sequence[str]:
    """Return a venue's channels, and what else it sends that is decoded in a way of its own."""
    simulated = ("trade", "quote", "book", "ticker")
    kinds = [each for each in simulated if each in venues()[name].channels]
    return [*kinds, *(kind for venue, kind in MAKERS if venue == name)]


VENUES = tuple(DIALECTS)
