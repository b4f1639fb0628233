"""What a venue must tell mdsys, and the registry of venues.

A venue is facts and pure functions; the talk on one of its sockets is a small state machine.
Neither does I/O nor reads a clock: connections, limits and REST are the feed's and the
supervisor's. Its decoder turns frames into records: in C (native/src/feed.h), or in Python
(``Decoder``), which is how a user adds one. Other packages add venues under the entry point group
``mdsys.venues``: name -> an object as ``Venue`` below. docs/venues.md walks through one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from mdsys.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from mdsys.feed.frame import FrameResult, Record, SymbolInfo

ENTRY_POINT_GROUP = "mdsys.venues"

CHANNELS: Final = ("trade", "quote", "book", "ticker", "bar")
"""In the order of enum md_channel (native/src/feed.h)."""


class Stream(NamedTuple):
    """The unit of subscription: one channel of one symbol."""

    symbol: str
    """The venue's own name, without ``VENUE:``."""
    channel: str
    """Of CHANNELS."""
    wire: bytes = b""
    """What names the symbol in the venue's frames, where ``Venue.resolve`` found it; else empty."""


# ---- limits -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Window:
    """At most ``count`` within any ``seconds``: a rolling window, never a bucket with burst."""

    count: int
    """In [1, 2^31)."""
    seconds: float
    """In (0, 86400]."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a venue allows. Several windows of one kind hold together; none: it names none.

    Every field can be tightened or widened by the configuration's ``limits``.
    """

    symbols_per_connection: int | None = None
    streams_per_connection: int | None = None
    """Symbols times channels."""
    streams_per_message: int | None = None
    connections: int | None = None
    """Sockets at one time: of one key where the venue has keys, else of our address."""
    messages: tuple[Window, ...] = ()
    """What we send on one socket; PONGs and PINGs count where ``control_frames_count``."""
    control_frames_count: bool = False
    address_messages: tuple[Window, ...] = ()
    """What we send on all sockets together."""
    connects: tuple[Window, ...] = ()
    """Attempts to connect from our address."""
    key_connects: tuple[Window, ...] = ()
    """Attempts to connect with one key."""
    rest_weight: tuple[Window, ...] = ()
    """Weights of REST requests from our address."""


# ---- credentials and dialling -------------------------------------------------------------------

Secret = Mapping[str, str]
"""A credential's fields, as ``{"api_key": .., "access_token": ..}``; empty where none is needed."""


@dataclass(frozen=True, slots=True)
class Dial:
    """What to open. Holds secrets: it is never logged; ``shown`` is."""

    url: str = field(repr=False)
    shown: str
    """The URL without its secrets."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


# ---- the talk on one socket ---------------------------------------------------------------------

Message = str | bytes
"""A text or a binary message to send."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The venue takes subscriptions from now on, where ``Venue.opens`` tells to wait for that."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Streams are subscribed."""

    streams: Collection[Stream] = ()
    request_id: int | None = None
    """All streams of the request; ``streams`` is empty then."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Streams are not subscribed."""

    words: str
    """The venue's own."""
    streams: Collection[Stream] = ()
    request_id: int | None = None
    """The request as a whole: it says nothing about which of its streams was at fault, so it is cut
    in halves and asked again until a refusal names one stream."""


@dataclass(frozen=True, slots=True)
class Removed:
    """Streams are unsubscribed, as asked."""

    streams: Collection[Stream] = ()
    request_id: int | None = None


@dataclass(frozen=True, slots=True)
class Denied:
    """The venue does not take our credential: dialling on would only get us banned."""

    words: str


@dataclass(frozen=True, slots=True)
class Busy:
    """The venue will not serve this socket now, though our credential is good.

    Another session may hold its place: close it, and dial again no sooner than ``wait_s``.
    """

    words: str
    wait_s: float
    """In [0, 3600]."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """The venue will close this socket soon: open its successor first."""

    words: str


@dataclass(frozen=True, slots=True)
class Notice:
    """The venue's words that change nothing; they are logged."""

    words: str


Event = Opened | Confirmed | Refused | Removed | Denied | Busy | Leaving | Notice


class Talk(Protocol):
    """One socket's conversation, from the open socket on. No I/O, no clock."""

    def opening(self) -> Sequence[Message]:
        """Return what must be said before any subscription, such as an authentication."""

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:
        """Return the messages, mostly one, that subscribe to ``streams``.

        They are at most ``streams_per_message``, of one channel where ``groups_by_channel``.
        """

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:
        """Return the messages that end ``streams``."""

    def hear(self, frame: bytes) -> Iterable[Event]:
        """Read a frame that the decoder called a control frame.

        Raises:
            ProtocolError: It is nothing that the venue's documents name.
        """

    def keepalive(self) -> Message | None:
        """Return the application's ping, due each ``Venue.keepalive_s``; None: a WebSocket PING."""


# ---- decoding in Python -------------------------------------------------------------------------


class Decoder(Protocol):
    """Frames to records, in Python: the reference of a C decoder, or a venue's only one."""

    def decode(
        self, frame: bytes, ts_recv: int, connection: int = 0
    ) -> tuple[FrameResult, list[Record]]:
        """Turn one frame into what goes into the rings, gap statuses among it."""


# ---- REST ---------------------------------------------------------------------------------------


class Fetch(Protocol):
    """A GET request under the venue's limits; the supervisor's."""

    def __call__(
        self,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        weight: int = 1,
    ) -> Awaitable[bytes]:
        """Return the body of ``rest_url + path``, decompressed.

        Raises:
            FeedError: No answer, or none of 200; with the venue's words.
        """


@dataclass(frozen=True, slots=True)
class Resolution:
    """What became of one symbol's look-up."""

    wire: bytes = b""
    """What names it in the venue's frames."""
    price_scale: int = 8
    size_scale: int = 8
    refusal: str | None = None
    """Why there is no such symbol."""


Resolve = Callable[[Collection[str], Secret, Fetch], Awaitable[Mapping[str, Resolution]]]
"""Looks symbols up in the venue's instruments list, before they are given to a connection."""


@dataclass(frozen=True, slots=True)
class BookSnapshots:
    """How the whole book of a symbol is had by REST, for venues that do not send it by stream."""

    path: str
    """Of the GET request."""
    depth_max: int
    weights: Mapping[int, int]
    """Levels asked for -> weight of the request; the smallest that is enough is taken."""

    def params(self, symbol: str, depth: int) -> Mapping[str, str]:
        """Return the query's parameters."""
        return {"symbol": symbol, "limit": str(depth)}


# ---- the venue ----------------------------------------------------------------------------------


class Venue(Protocol):
    """The face of one venue. Everything but the methods is plain data."""

    @property
    def name(self) -> str:
        """As the config names it, lower case: ``binance``. Symbols are ``BINANCE:…``."""

    @property
    def url(self) -> str:
        """Public address; the config's ``url`` replaces it."""

    @property
    def rest_url(self) -> str | None:
        """Public REST address; the config's ``rest_url`` replaces it. None: there is none."""

    @property
    def decoder(self) -> str | None:
        """The C decoder's name in native/src/decoders.h; None: ``python_decoder`` decodes."""

    @property
    def binary(self) -> bool:
        """Whether market data comes in binary frames; text is control then, and the reverse."""

    @property
    def channels(self) -> Collection[str]:
        """Of CHANNELS, those it has."""

    @property
    def channels_default(self) -> Collection[str]:
        """Those that a configuration means which names none; if it has none of them: all it has."""

    @property
    def limits(self) -> Limits:
        """What it allows."""

    @property
    def acknowledges(self) -> bool:
        """Whether it answers subscriptions; else the first tick is the only proof."""

    @property
    def opens(self) -> bool:
        """Whether subscriptions wait for ``Opened``."""

    @property
    def groups_by_channel(self) -> bool:
        """Whether one message may ask for one channel only."""

    @property
    def credential_fields(self) -> tuple[str, ...]:
        """Fields of a credential without which it cannot be dialled; empty: it needs none."""

    @property
    def silence_s(self) -> float | None:
        """How long a healthy socket may be without frames, heartbeats or PINGs of the server.

        None: the venue promises nothing.
        """

    @property
    def keepalive_s(self) -> float | None:
        """How often we ping; None: the server does."""

    @property
    def lifetime_s(self) -> float | None:
        """The venue closes a socket at this age; None: it does not."""

    @property
    def book_snapshots(self) -> BookSnapshots | None:
        """REST books; None: the stream brings them, or there is no book."""

    @property
    def resolve(self) -> Resolve | None:
        """Looks symbols up before they are subscribed; None: their names are on the wire."""

    def spelled(self, symbol: str) -> str:
        """Return how the venue itself writes ``symbol``: what it is so already, unchanged."""

    def dial(self, base: str, secret: Secret) -> Dial:
        """Return what to open: ``base`` (ours or the config's) with path, secret and headers."""

    def talk(self, secret: Secret) -> Talk:
        """Return the conversation of a fresh socket."""

    def python_decoder(
        self, symbols: Mapping[str, SymbolInfo], channels: Collection[str]
    ) -> Decoder:
        """Return the decoder in Python: the only one, or the C decoder's reference.

        Args:
            symbols: By the name on the wire; a decoder may keep it: new symbols are added to it.
            channels: Those that are wanted; records of others are not made.
        """


@dataclass(frozen=True, slots=True)
class VenueDefaults:
    """What a venue need not say: inherit, and say what differs."""

    rest_url: str | None = None
    decoder: str | None = None
    binary: bool = False
    channels_default: Collection[str] = ("trade", "quote", "book")
    limits: Limits = field(default_factory=Limits)
    acknowledges: bool = True
    opens: bool = False
    groups_by_channel: bool = False
    credential_fields: tuple[str, ...] = ()
    silence_s: float | None = None
    keepalive_s: float | None = None
    lifetime_s: float | None = None
    book_snapshots: BookSnapshots | None = None
    resolve: Resolve | None = None

    def spelled(self, symbol: str) -> str:
        """Return ``symbol`` without blanks around it."""
        return symbol.strip()

    def dial(self, base: str, secret: Secret) -> Dial:  # noqa: ARG002 - a venue without a key
        """Return ``base`` as it stands."""
        return Dial(base, base)


BUILT_IN: Final = {
    "binance": "mdsys.feed.binance.venue:BINANCE",
    "binance_usdm": "mdsys.feed.binance.venue:BINANCE_USDM",
    "binance_coinm": "mdsys.feed.binance.venue:BINANCE_COINM",
    "kraken": "mdsys.feed.kraken.venue:KRAKEN",
    "coinbase_exchange": "mdsys.feed.coinbase.exchange:COINBASE_EXCHANGE",
    "coinbase_advanced": "mdsys.feed.coinbase.advanced:COINBASE_ADVANCED",
    "kite": "mdsys.feed.kite.venue:KITE",
    "alpaca": "mdsys.feed.alpaca.venue:ALPACA",
    "massive": "mdsys.feed.massive.venue:MASSIVE",
    "openalgo": "mdsys.feed.openalgo.venue:OPENALGO",
}
"""Name -> module:object of the venues that come with mdsys."""


class Venues(Mapping[str, Venue]):
    """Venues by name: the built-in ones, then those of installed packages.

    A venue is imported when it is first asked for, and packages are searched when a name is that is
    not built in, or all names are: a feed loads what it needs and no more.

    Raises:
        ConfigError: From any access: a venue cannot be loaded, or a package took a built-in name.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Venue] = {}

    def __getitem__(self, name: str) -> Venue:
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in BUILT_IN or name in self._installed

    def __iter__(self) -> Iterator[str]:
        yield from BUILT_IN
        yield from self._installed

    def __len__(self) -> int:
        return len(BUILT_IN) + len(self._installed)

    @cached_property
    def _installed(self) -> Mapping[str, EntryPoint]:
        from importlib.metadata import entry_points

        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=ENTRY_POINT_GROUP):
            if point.name in BUILT_IN or point.name in found:
                raise ConfigError(f"{_source(point)}: a venue of this name exists already")
            found[point.name] = point
        return found

    def _load(self, name: str) -> Venue:
        source = f"venue {name}"
        try:
            if name in BUILT_IN:
                module, _, attribute = BUILT_IN[name].partition(":")
                venue: Venue = getattr(import_module(module), attribute)
            else:
                point = self._installed[name]
                source = _source(point)
                venue = point.load()
        except (KeyError, ConfigError):
            raise
        except Exception as error:
            raise ConfigError(f"{source}: {type(error).__name__}: {error}") from error
        return venue


def _source(point: EntryPoint) -> str:
    return f"entry point {point.name} = {point.value}"


@cache
def venues() -> Venues:
    """Return every known venue by name."""
    return Venues()
