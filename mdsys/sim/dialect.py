"""What a venue's simulator dialect must do, and what the server does for it.

The server has the sockets: HTTP and its refusals, PINGs, limits counted as the venue counts them,
faults, pace, and the market. A dialect has the words. It lives with its venue, in
``mdsys/feed/<venue>/dialect.py``; `mdsys.sim.dialects` lists them. Nothing here does I/O, waits or
reads a clock, and one loop runs it all, so between two calls nothing changes.

A subclass of `Dialect` is made once for each simulator and may keep state of the whole venue; a
subclass of `Session` is one client's socket::

    class Echo(Dialect):
        limits = KRAKEN.limits

        def accept(self, request: Request, client: Client) -> Session | Refusal:
            return EchoSession(self, client) if request.path == "/v2" else Refusal(404)

    class EchoSession(Session):
        def hear(self, message: Message) -> Sequence[Message]:
            symbol = self.market.find("SYM000000")
            self.client.show(symbol, "trade")
            return ['{"success":true}', book_frame(self.market.book(symbol))]

        def render(self, event: Event) -> Message | None:
            return f'{{"price":{event.symbol.price(event.price)}}}'
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal, NamedTuple, Protocol

from mdsys.feed.venue import Limits, Message

__all__ = [
    "KINDS",
    "Book",
    "Breach",
    "Client",
    "CloseSocket",
    "Depth",
    "Dialect",
    "Event",
    "Exchange",
    "Form",
    "Level",
    "Market",
    "Message",
    "Quote",
    "Refusal",
    "Reply",
    "Request",
    "Session",
    "Symbol",
    "Trade",
]

Kind = Literal["trade", "quote", "depth"]
KINDS: Final[tuple[Kind, ...]] = ("trade", "quote", "depth")


# ---- the market ---------------------------------------------------------------------------------


def _fixed(value: int, decimals: int) -> str:
    if decimals == 0:
        return str(value)
    digits = str(value).zfill(decimals + 1)
    return f"{digits[:-decimals]}.{digits[-decimals:]}"


@dataclass(frozen=True, slots=True, eq=False)
class Symbol:
    """One symbol of the market. Its prices and sizes are integers: ticks and lots."""

    index: int
    name: str
    """``SYM000000``; capitals."""
    price_decimals: int
    """A tick is 10^-this; in [0, 8]."""
    size_decimals: int
    """A lot is 10^-this; in [0, 8]."""

    def price(self, ticks: int) -> str:
        """Return a price as exact text, all decimals shown."""
        return _fixed(ticks, self.price_decimals)

    def size(self, lots: int) -> str:
        """Return a size as exact text, all decimals shown."""
        return _fixed(lots, self.size_decimals)


class Level(NamedTuple):
    """A price and what rests there."""

    price: int
    size: int
    """0: gone."""


class Trade(NamedTuple):
    """A match."""

    kind: Literal["trade"]
    symbol: Symbol
    time_ns: int
    id: int
    """Contiguous for each symbol, in [10^8, 2^63)."""
    price: int
    size: int
    side: Literal["buy", "sell"]
    """The aggressor's; the maker's is the other."""


class Quote(NamedTuple):
    """The best bid and ask after a change."""

    kind: Literal["quote"]
    symbol: Symbol
    time_ns: int
    id: int
    """Ascending for each symbol, with holes; shares its numbers with `Depth`."""
    bid: Level
    ask: Level


class Depth(NamedTuple):
    """All levels changed since this symbol's last Depth, each side's best first.

    The book after it is ``market.book(symbol)``, while it is rendered.
    """

    kind: Literal["depth"]
    symbol: Symbol
    time_ns: int
    id: int
    """The last id it covers."""
    first_id: int
    previous_id: int
    """The id of the Depth before it."""
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


Event = Trade | Quote | Depth


class Book(NamedTuple):
    """A symbol's true book as it is now: 20 levels a side, best first."""

    symbol: Symbol
    time_ns: int
    id: int
    """The last id it holds; the next Depth's changes are newer, or in it already."""
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class Market(Protocol):
    """What is traded."""

    @property
    def symbols(self) -> Sequence[Symbol]:
        """All of them, by index."""

    @property
    def time_ns(self) -> int:
        """Now, since the epoch."""

    def find(self, name: str) -> Symbol | None:
        """Return the symbol of that name, in either case."""

    def book(self, symbol: Symbol) -> Book:
        """Return the book as it is now. A client shown depth from now on can build on it."""


# ---- what the server gives ----------------------------------------------------------------------


class Client(Protocol):
    """The server's side of one socket. It shows nothing before `Session.greet` is called."""

    @property
    def address(self) -> str:
        """Where it comes from."""

    def show(self, symbol: Symbol, *kinds: Kind) -> None:
        """Render these events for this client from now on. Twice is once."""

    def hide(self, symbol: Symbol, *kinds: Kind) -> None:
        """Render them no more; what was not shown is passed over."""

    def show_streams(self, names: Collection[str]) -> None:
        """Show exactly these streams, by the venue's names: where `Dialect.native` says so."""

    def breach(self, what: str, words: str = "") -> None:
        """Note that it broke a limit that only the dialect sees, as ``streams_per_connection``.

        Sockets, messages, connects, connections and REST weights are the server's to count.
        """


class Exchange(Protocol):
    """The server's side of the whole venue."""

    @property
    def market(self) -> Market:
        """What is traded."""

    def is_valid(self, secret: str) -> bool:
        """Whether a key or token is taken.

        Not one that a fault has expired, nor another than those the simulator was given, if it
        was given any. Empty text is never valid.
        """

    def refusal(self, symbol: str, channel: str = "") -> str | None:
        """Return the words with which a fault refuses a subscription; None: it is taken.

        A dialect asks for each symbol that it would take, under the venue's own name.
        """


# ---- what a dialect gives -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request: an upgrade, or a GET."""

    path: str
    """Decoded, without the query: ``/ws/btcusdt@trade``."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    address: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An upgrade refused."""

    status: int
    """Of HTTP: 403."""
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """A GET request's answer."""

    status: int
    body: str | bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """Content-Type: application/json unless it says otherwise."""
    weight: int = 1
    """What it takes of ``limits.rest_weight``. Above the limit the server answers in its stead."""


@dataclass(frozen=True, slots=True)
class Breach:
    """What becomes of who breaks a limit, or is thrown out otherwise."""

    status: int = 429
    """Of an upgrade that is refused; of HTTP."""
    body: str = ""
    messages: Sequence[Message] = ()
    """Said to an open socket before it is closed."""
    code: int = 1008
    """Of the WebSocket close that follows; 0: cut off without one."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """How a client wants frames that are rendered natively or replayed."""

    combined: bool = False
    """{"stream":..,"data":..} instead of the data alone."""
    microseconds: bool = False


class CloseSocket(Exception):
    """Raised by `Session.hear`: say these last words, then close."""

    def __init__(self, code: int, reason: str = "", *, messages: Sequence[Message] = ()) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.messages = messages


class Session:
    """One client's socket: inherit, and override what the venue has."""

    def __init__(self, dialect: Dialect, client: Client) -> None:
        self.client = client
        self.exchange = dialect.exchange
        self.market = dialect.market

    @property
    def key(self) -> str:
        """What the venue counts connections by: the key, once it is known. "": the address."""
        return ""

    @property
    def secret(self) -> str:
        """What a token's expiry makes invalid, as it was given to `Exchange.is_valid`. "": none."""
        return ""

    @property
    def form(self) -> Form:
        """How this client wants native frames."""
        return Form()

    def greet(self) -> Sequence[Message]:
        """Return what the venue says first, on an open socket.

        Raises:
            CloseSocket: The venue would hang up.
        """
        return ()

    def hear(self, message: Message) -> Sequence[Message]:
        """Carry out one request and return the answers, sent before any event.

        Raises:
            CloseSocket: The venue would hang up.
        """
        raise NotImplementedError

    def render(self, event: Event) -> Message | None:
        """Return the frame of an event that this client is shown; None: nothing now."""
        raise NotImplementedError

    def flush(self) -> Sequence[Message]:
        """Return the frames of events that ``render`` has kept: several in one.

        Called after each block of events, and a block grows while clients are slow.
        """
        return ()

    def heartbeat(self) -> Sequence[Message]:
        """Return what the venue says unasked, each ``heartbeat_s``."""
        return ()

    def leave(self) -> Sequence[Message]:
        """Return the venue's notice before it closes sockets by itself (24 h, maintenance)."""
        return ()


class Dialect:
    """A venue's manners: inherit, and override what the venue has."""

    native: ClassVar[str | None] = None
    """The venue of the native renderer (mdsys._generator.VENUES), which then renders instead of
    `Session.render`, by names of streams; only such a venue's recordings can be replayed."""
    limits: Limits = Limits()
    """The server counts messages, connects, connections and rest_weight; the dialect the rest."""
    ping_interval_s: ClassVar[float | None] = None
    """Between WebSocket PINGs of the venue; None: it sends none."""
    ping_timeout_s: ClassVar[float | None] = None
    """A socket whose PONG does not come in this time is closed."""
    keyed: ClassVar[bool] = False
    """Whether ``limits.connections`` holds for each `Session.key`, once it is known; else for the
    address."""
    heartbeat_s: ClassVar[float | None] = None
    """Between calls of `Session.heartbeat`; None: there are none."""
    notice_s: ClassVar[float] = 0
    """Between the notice of `Session.leave` and the close."""
    hello_s: ClassVar[float | None] = None
    """A socket that says nothing for so long at first is closed; None: it may."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.market = exchange.market

    def accept(self, request: Request, client: Client) -> Session | Refusal:
        """Take a client in, or not."""
        raise NotImplementedError

    def rest(self, request: Request) -> Reply | None:  # noqa: ARG002 - it has none
        """Answer a GET request; None: there is no such path (404)."""
        return None

    def rest_headers(self, weight_used: int) -> Mapping[str, str]:  # noqa: ARG002 - it has none
        """Return headers of every REST answer: the weight used within the first window."""
        return {}

    def breach(self, what: str) -> Breach:
        """Say what becomes of a client that breaks a limit or is thrown out.

        Args:
            what: A field of `Limits` (``messages``, ``address_messages``, ``connects``,
                ``key_connects``, ``connections``, ``rest_weight``), or ``slow`` (it does not read),
                ``expired`` (its token), ``lifetime`` (24 h), ``hello`` (it said nothing).
        """
        if what == "lifetime":
            return Breach(code=1001)
        return Breach(status=403 if what == "expired" else 429, reason=what)
