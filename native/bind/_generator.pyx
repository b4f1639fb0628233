# cython: language_level=3, boundscheck=False, wraparound=False
"""The simulator's native half: markets as ready WebSocket frames, and a timer finer than the loop's."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, errno
from libc.stdlib cimport free, malloc
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from posix.time cimport CLOCK_MONOTONIC, itimerspec
from posix.unistd cimport close, read

cdef extern from "sys/timerfd.h":
    int TFD_NONBLOCK, TFD_CLOEXEC, TFD_TIMER_ABSTIME
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec *value, itimerspec *old) nogil

cdef extern from "sim_binance.h":
    enum:
        MD_SIM_BLOCK_EVENTS
        MD_SIM_EVENT_SIZE_MAX
        MD_SIM_NAME_SIZE_MAX
        MD_SIM_SYMBOLS_MAX
        MD_SIM_LEVELS
        MD_SIM_SPOT
        MD_SIM_USDM
        MD_SIM_COINM
        MD_SIM_TRADE
        MD_SIM_QUOTE
        MD_SIM_DEPTH
        MD_SIM_KIND_COUNT
        MD_SIM_COMBINED
        MD_SIM_MICROSECONDS
        MD_SIM_STREAM_TRADE
        MD_SIM_STREAM_QUOTE
        MD_SIM_STREAM_DEPTH
        MD_SIM_STREAM_DEPTH_100MS
        MD_SIM_STREAM_DEPTH_250MS
        MD_SIM_STREAM_DEPTH_500MS
        MD_SIM_STREAM_DEPTH_0MS

    struct md_sim_config:
        uint64_t seed
        uint64_t rate
        uint32_t symbol_count
        uint8_t venue
        uint8_t mix_percent[3]

    struct md_sim_level:
        uint32_t price
        uint32_t lots

    struct md_sim_event:
        int64_t time_ns
        uint64_t id
        uint64_t first_id
        uint64_t previous_id
        uint32_t symbol
        uint8_t kind
        uint8_t buyer_is_maker
        uint8_t bid_count
        uint8_t ask_count
        md_sim_level bid
        md_sim_level ask

    struct md_sim_book:
        uint64_t update_id
        md_sim_level bids[20]
        md_sim_level asks[20]

    struct md_sim_counts:
        uint64_t frames[3]
        uint64_t records[3]

    struct md_sim_market

    md_sim_market *md_sim_create(const md_sim_config *config) nogil
    void md_sim_destroy(md_sim_market *market) nogil
    void md_sim_set_name(md_sim_market *market, uint32_t index, const char *name, size_t size)
    void md_sim_set_time(md_sim_market *market, int64_t time_ns)
    void md_sim_shift_time(md_sim_market *market, int64_t by_ns)
    int64_t md_sim_time(const md_sim_market *market)
    void md_sim_decimals(const md_sim_market *market, uint32_t index, uint8_t *price, uint8_t *size)
    const md_sim_event *md_sim_next(md_sim_market *market, const uint8_t *wanted,
                                    uint64_t count) nogil
    const md_sim_level *md_sim_levels(const md_sim_market *market, const md_sim_event *event)
    void md_sim_read_book(const md_sim_market *market, uint32_t index, md_sim_book *book)
    void md_sim_advance(md_sim_market *market, size_t count) nogil
    uint64_t md_sim_event_count(const md_sim_market *market)
    size_t md_sim_block_count(const md_sim_market *market)
    size_t md_sim_render(const md_sim_market *market, const uint8_t *wanted, unsigned form,
                         size_t *cursor, char *out, size_t capacity, md_sim_counts *counts) nogil

BLOCK_EVENTS = MD_SIM_BLOCK_EVENTS
NAME_SIZE_MAX = MD_SIM_NAME_SIZE_MAX
SYMBOLS_MAX = MD_SIM_SYMBOLS_MAX
LEVELS = MD_SIM_LEVELS
KINDS = ("trade", "quote", "depth")
VENUES = {"spot": MD_SIM_SPOT, "usdm": MD_SIM_USDM, "coinm": MD_SIM_COINM}
# Stream suffix -> bit of a wanted byte.
STREAM_BITS = {
    "@trade": MD_SIM_STREAM_TRADE,
    "@bookTicker": MD_SIM_STREAM_QUOTE,
    "@depth": MD_SIM_STREAM_DEPTH,
    "@depth@100ms": MD_SIM_STREAM_DEPTH_100MS,
    "@depth@250ms": MD_SIM_STREAM_DEPTH_250MS,
    "@depth@500ms": MD_SIM_STREAM_DEPTH_500MS,
    "@depth@0ms": MD_SIM_STREAM_DEPTH_0MS,
}

# A block of bytes: large enough that a system call's cost spreads over a thousand frames, small
# enough to stay in the processor's second-level cache until it is sent.
cdef enum:
    BLOCK_SIZE = 256 * 1024


cdef tuple levels(const md_sim_level *at, size_t count):
    return tuple([(at[i].price, at[i].lots) for i in range(count)])


cdef class Market:
    """A random-walk market of many symbols; see native/src/sim_binance.h for what it promises."""

    cdef md_sim_market *market
    cdef char *room
    cdef uint32_t symbol_count

    def __cinit__(self, names, *, str venue, uint64_t seed, rate, mix):
        cdef md_sim_config config
        if not 1 <= len(names) <= MD_SIM_SYMBOLS_MAX:
            raise ValueError(f"{len(names)} symbols; a market has 1 to {MD_SIM_SYMBOLS_MAX}")
        if not 1 <= rate <= 10**9:
            raise ValueError(f"rate {rate}: events per second of market time, in [1, 10^9]")
        if len(mix) != MD_SIM_KIND_COUNT or sum(mix) != 100 or min(mix) < 0:
            raise ValueError(f"mix {mix}: percents of {', '.join(KINDS)}, 100 in all")
        config.seed = seed
        config.rate = rate
        config.symbol_count = len(names)
        config.venue = VENUES[venue]
        for kind in range(MD_SIM_KIND_COUNT):
            config.mix_percent[kind] = mix[kind]
        self.market = md_sim_create(&config)
        self.room = <char *>malloc(BLOCK_SIZE)
        if self.market is NULL or self.room is NULL:
            raise MemoryError(f"a market of {len(names)} symbols")
        self.symbol_count = config.symbol_count
        for index, name in enumerate(names):
            text = name.encode()
            if not (1 <= len(text) <= MD_SIM_NAME_SIZE_MAX and name.isascii() and name.isprintable()
                    and not set(name) & set('"\\@/ ')):
                raise ValueError(f'symbol {name!r}: 1 to {MD_SIM_NAME_SIZE_MAX} plain ASCII '
                                 'characters without quote, backslash, slash, space or @')
            md_sim_set_name(self.market, index, text, len(text))

    def __dealloc__(self):
        md_sim_destroy(self.market)
        free(self.room)

    @property
    def event_count(self):
        """Events so far."""
        return md_sim_event_count(self.market)

    def set_time(self, time_ns):
        """Let the next event happen at ``time_ns`` since the epoch."""
        # Thirteen digits of milliseconds, as in every frame of the venue: 2001 to 2262.
        if not 1_000_000_001_000 * 10**6 <= time_ns < 2**63 - 10**18:
            raise ValueError(f"time_ns {time_ns}: between the years 2001 and 2230")
        md_sim_set_time(self.market, time_ns)

    @property
    def time_ns(self):
        """Time of the next event."""
        return md_sim_time(self.market)

    def shift_time(self, int64_t by_ns):
        """Move the clock by ``by_ns``."""
        md_sim_shift_time(self.market, by_ns)

    def decimals(self, size_t index):
        """Return the decimals of a symbol's price and size."""
        cdef uint8_t price, size
        self.check(index)
        md_sim_decimals(self.market, index, &price, &size)
        return price, size

    def book(self, size_t index):
        """Return a symbol's last update id, its bids and its asks; (price, lots), best first."""
        cdef md_sim_book book
        self.check(index)
        md_sim_read_book(self.market, index, &book)
        return (book.update_id, levels(book.bids, MD_SIM_LEVELS), levels(book.asks, MD_SIM_LEVELS))

    def next(self, bytearray wanted, uint64_t count):
        """Go on by at most ``count`` events, until one that is wanted: bit 1 << kind of a symbol's byte.

        Returns None when there was none, else (kind, symbol, time_ns, id) and then, of a trade:
        price, lots, whether the buyer is the maker; of a quote: bid, ask; of a depth: first id,
        previous id, bids, asks.
        """
        cdef const md_sim_event *event
        cdef uint8_t *mask = wanted
        if len(wanted) != self.symbol_count:
            raise ValueError(f"{len(wanted)} bytes for {self.symbol_count} symbols")
        with nogil:
            event = md_sim_next(self.market, mask, count)
        if event is NULL:
            return None
        head = (event.kind, event.symbol, event.time_ns, event.id)
        if event.kind == MD_SIM_TRADE:
            return head + (event.bid.price, event.bid.lots, bool(event.buyer_is_maker))
        if event.kind == MD_SIM_QUOTE:
            return head + ((event.bid.price, event.bid.lots), (event.ask.price, event.ask.lots))
        cdef const md_sim_level *at = md_sim_levels(self.market, event)
        return head + (event.first_id, event.previous_id, levels(at, event.bid_count),
                       levels(at + event.bid_count, event.ask_count))

    cdef check(self, size_t index):
        if index >= self.symbol_count:
            raise IndexError(f"symbol {index} of {self.symbol_count}")

    def advance(self, size_t count):
        """Replace the block by the next ``count`` events, in [0, BLOCK_EVENTS]."""
        if count > MD_SIM_BLOCK_EVENTS:
            raise ValueError(f"{count} events; a block holds at most {MD_SIM_BLOCK_EVENTS}")
        with nogil:
            md_sim_advance(self.market, count)

    def render(self, view):
        """Return the block's frames that ``view`` wants, headers included, in a few large blocks."""
        cdef View wanted = view
        cdef size_t cursor = 0, size
        if wanted.market is not self:
            raise ValueError("the view is of another market")
        blocks = []
        while cursor < md_sim_block_count(self.market):
            with nogil:
                size = md_sim_render(self.market, wanted.wanted, wanted.form, &cursor,
                                     self.room, BLOCK_SIZE, &wanted.counts)
            if size:
                # Copied from memory that stays warm: an object of the full size, shrunk to what
                # was written, comes from fresh pages every time and costs more than the copy.
                blocks.append(PyBytes_FromStringAndSize(self.room, size))
        return blocks


cdef class View:
    """What one client sees of a market, and the count of what it was shown."""

    cdef readonly Market market
    cdef bytearray mask
    cdef uint8_t *wanted
    cdef unsigned form
    cdef md_sim_counts counts

    def __cinit__(self, Market market, *, bint combined, bint microseconds=False):
        self.market = market
        self.mask = bytearray(market.symbol_count)
        self.wanted = self.mask
        self.form = (MD_SIM_COMBINED if combined else 0) | (
            MD_SIM_MICROSECONDS if microseconds else 0)

    def show(self, streams):
        """Show these streams from now on and no others: pairs of a symbol's index and its bit."""
        cdef size_t index
        cdef uint8_t bit
        self.mask[:] = bytes(len(self.mask))  # in place: self.wanted stays where it is
        for index, bit in streams:
            if index >= self.market.symbol_count:
                raise IndexError(f"symbol {index} of {self.market.symbol_count}")
            self.wanted[index] |= bit

    @property
    def frames(self):
        """Frames rendered so far, by kind."""
        return {kind: self.counts.frames[i] for i, kind in enumerate(KINDS)}

    @property
    def records(self):
        """Records in those frames, by kind: a depth frame holds one per level."""
        return {kind: self.counts.records[i] for i, kind in enumerate(KINDS)}


def payloads(bytes block):
    """Return the payloads of the frames in ``block``, a block of ``Market.render``."""
    cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(block)
    cdef const uint8_t *end = at + len(block)
    cdef size_t size
    found = []
    while at < end:
        size = at[1]
        at += 2
        if size == 126:
            size = (<size_t>at[0] << 8) | at[1]
            at += 2
        found.append(PyBytes_FromStringAndSize(<const char *>at, size))
        at += size
    return found


cdef class Timer:
    """A timerfd on the monotonic clock: event loops round their timers to milliseconds."""

    cdef int fd

    def __cinit__(self):
        self.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self.fd < 0:
            PyErr_SetFromErrno(OSError)

    def __dealloc__(self):
        self.close()

    def fileno(self):
        """Return the descriptor, readable when the time has come."""
        return self.fd

    def set(self, int64_t at_ns):
        """Make the descriptor readable at ``at_ns`` of ``time.monotonic_ns``, once."""
        cdef itimerspec value
        value.it_interval.tv_sec = value.it_interval.tv_nsec = 0
        # Zero would disarm it.
        value.it_value.tv_sec = max(at_ns, 1) // 1_000_000_000
        value.it_value.tv_nsec = max(at_ns, 1) % 1_000_000_000
        if timerfd_settime(self.fd, TFD_TIMER_ABSTIME, &value, NULL) < 0:
            PyErr_SetFromErrno(OSError)

    def clear(self):
        """Read the descriptor, so that it waits for the next ``set``."""
        cdef uint64_t expirations
        if read(self.fd, &expirations, sizeof(expirations)) < 0 and errno != EAGAIN:
            PyErr_SetFromErrno(OSError)

    def close(self):
        """Close the descriptor; closing twice is harmless."""
        if self.fd >= 0:
            close(self.fd)
            self.fd = -1
