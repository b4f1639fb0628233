# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The C decoders on a ring of their own, in private memory: for tests, benches and the curious.

The feed process calls the same C functions from its listener (_listener.pyx) on the real rings.
"""

from collections.abc import Mapping, Sequence
from mmap import PAGESIZE

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import numpy as np

from mdsys.feed.frame import FrameResult
from mdsys.feed.venue import CHANNELS
from mdsys.record.record import TICK


cdef extern from "time.h" nogil:
    ctypedef long time_t
    struct timespec:
        time_t tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *out)
    int CLOCK_MONOTONIC


cdef extern from "sys/mman.h" nogil:
    void *mmap(void *at, size_t size, int protection, int flags, int fd, long offset)
    int mprotect(void *at, size_t size, int protection)
    int munmap(void *at, size_t size)
    int PROT_NONE, PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS
    void *MAP_FAILED


cdef extern from "mdsys/decimal.h" nogil:
    const unsigned MD_DECIMAL_SCALE_MAX
    const unsigned MD_DECIMAL_TEXT_SIZE
    ctypedef int md_decimal_result "enum md_decimal_result"
    const int MD_DECIMAL_OK
    md_decimal_result md_decimal_parse(const char *text, size_t size, unsigned scale, int64_t *out)
    size_t md_decimal_format(int64_t value, unsigned scale, char *out)
    const char *md_decimal_scan(const char *at, const char *last8, unsigned scale, int64_t *out)
    const char *md_decimal_scan_known(const char *at, const char *last8, unsigned scale,
                                      unsigned decimals, int64_t *out)


cdef extern from "feed.h" nogil:
    ctypedef int md_frame_result "enum md_frame_result"
    const uint32_t MD_FRAME_SIZE_MAX
    struct md_slot:
        uint64_t seq
        uint64_t word[7]
    struct md_ring_header:
        pass
    const uint64_t MD_NO_LIMIT
    struct md_ring_writer:
        md_slot *slots
        uint64_t mask
        uint64_t next
        uint64_t limit
        md_ring_header *header
    struct md_cell:
        uint64_t venue_trade_id
        uint64_t venue_book_id
        uint64_t venue_quote_id
    struct md_counter_block:
        uint64_t records, trades, quotes, levels, statuses, tickers, bars, gaps, gap_ids, reordered
        uint64_t duplicates, book_snapshots, book_resyncs, book_checksums, book_mismatches
    struct md_feed:
        uint32_t channels
        bint books_by_rest
        uint32_t wish_count
        uint32_t *wishes
    struct md_feed_symbol:
        uint32_t symbol_id
    struct md_connection:
        uint32_t number
        uint32_t socket
        uint64_t sequence
    const uint32_t MD_WISH_COUNT_MAX
    md_feed_symbol *md_feed_find_symbol(const md_feed *feed, const char *name, size_t size)
    ctypedef md_frame_result (*md_decode_fn)(
        md_feed *feed, const char *frame, size_t size, int64_t ts_recv,
        md_connection *connection) nogil
    int md_feed_init(md_feed *feed, md_ring_writer *rings, uint32_t ring_count,
                     md_counter_block *counters, uint32_t symbol_count)
    void md_feed_free(md_feed *feed)
    int md_feed_add_symbol(md_feed *feed, const char *name, size_t size, uint32_t symbol_id,
                           uint32_t ring, unsigned price_scale, unsigned size_scale, md_cell *cell)


cdef extern from "publish.h" nogil:
    void md_book_expect(md_feed *feed, md_feed_symbol *symbol, const md_connection *connection)
    void md_book_unsync_socket(md_feed *feed, const md_connection *connection, int64_t ts_recv,
                               bint ended)


cdef extern from "book_snapshot.h" nogil:
    md_frame_result md_book_snapshot_json(
        md_feed *feed, md_feed_symbol *symbol, const md_connection *connection, const char *body,
        size_t size, uint32_t asked, int64_t ts_recv)


cdef extern from "mdsys/cache.h" nogil:
    struct md_cell_level:
        int64_t price
        int64_t size
    struct md_book_top:
        uint64_t seq
        uint8_t flags
        uint8_t bid_count
        uint8_t ask_count
        md_cell_level *bid
        md_cell_level *ask
    ctypedef int md_cache_result "enum md_cache_result"
    const int MD_CACHE_OK
    md_cache_result md_cell_load_book(const md_cell *cell, md_book_top *out)


cdef extern from "decoders.h" nogil:
    const unsigned MD_DECODER_COUNT
    struct md_decoder:
        const char *name
    const md_decoder *md_decoders
    md_decode_fn md_decoder_named(const char *name)


cdef extern from *:
    """
    #include <stdlib.h>
    static void *md_lines(size_t count, size_t size) { /* zeroed, on a cache line */
        void *at = aligned_alloc(64, count * size);
        return at == NULL ? NULL : memset(at, 0, count * size);
    }
    """
    void *md_lines(size_t count, size_t size) nogil


DECODERS = tuple([md_decoders[i].name.decode() for i in range(MD_DECODER_COUNT)])
"""What `Decoder` takes as a name."""


cdef class _Guarded:
    """Room for a frame that ends where readable memory ends: one byte further is a SIGSEGV."""

    cdef char *base
    cdef size_t room
    cdef size_t page

    def __cinit__(self):
        self.page = PAGESIZE
        self.room = (MD_FRAME_SIZE_MAX // self.page + 2) * self.page
        cdef void *at = mmap(NULL, self.room + self.page, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        if at == MAP_FAILED or mprotect(<char *>at + self.room, self.page, PROT_NONE) != 0:
            raise MemoryError
        self.base = <char *>at

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, self.room + self.page)

    cdef const char *put(self, bytes text) except NULL:
        cdef size_t size = <size_t>len(text)
        if size > self.room:
            return text  # refused by its size alone, unread
        memcpy(self.base + self.room - size, <const char *>text, size)
        return self.base + self.room - size


cdef class Decoder:
    """One of the C decoders with a private ring, cache and counters.

    Args:
        name: One of `DECODERS`.
        symbols: The venue's own name -> `SymbolInfo`.
        depth: Slots of the ring, a power of 2, at least 64. Frames of more than depth/4 records
            go out in pieces, as they do in a real ring.
        channels: Those that are wanted, of mdsys.feed.venue.CHANNELS; None: all.
        books_by_rest: Whether `snapshot` brings the books, rather than the stream.
    """

    cdef md_decode_fn function
    cdef md_feed feed
    cdef md_ring_writer ring
    cdef md_ring_header *header
    cdef md_cell *cells
    cdef size_t cell_count
    cdef md_counter_block *block
    cdef _Guarded guarded
    cdef dict connections  # number -> bytearray of its struct md_connection
    cdef dict places       # name on the wire -> index of its cell
    cdef list names        # by that index

    def __cinit__(self, str name not None, symbols: Mapping, uint64_t depth=32768, *,
                  channels=None, bint books_by_rest=False):
        cdef uint32_t wanted = 0
        if depth < 64 or depth & (depth - 1):
            raise ValueError(f"depth {depth}: give a power of 2, at least 64")
        self.function = md_decoder_named(name.encode())
        if self.function == NULL:
            raise ValueError(f"no decoder is named {name}; there are {', '.join(DECODERS)}")
        self.guarded = _Guarded()
        self.connections = {}
        self.names = [each.encode() if isinstance(each, str) else bytes(each) for each in symbols]
        self.places = {each: place for place, each in enumerate(self.names)}
        for channel in CHANNELS if channels is None else channels:
            wanted |= 1 << CHANNELS.index(channel)
        self.cell_count = len(symbols)
        self.cells = <md_cell *>md_lines(max(len(symbols), 1), sizeof(md_cell))
        self.header = <md_ring_header *>md_lines(1, sizeof(md_ring_header))
        self.block = <md_counter_block *>calloc(1, sizeof(md_counter_block))
        self.ring.slots = <md_slot *>md_lines(depth, sizeof(md_slot))
        self.ring.header = self.header
        self.ring.mask = depth - 1
        self.ring.next = 1
        self.ring.limit = MD_NO_LIMIT
        if (self.cells == NULL or self.header == NULL or self.block == NULL
                or self.ring.slots == NULL
                or md_feed_init(&self.feed, &self.ring, 1, self.block, <uint32_t>len(symbols))):
            raise MemoryError
        self.feed.channels = wanted
        self.feed.books_by_rest = books_by_rest
        for i, (symbol, info) in enumerate(symbols.items()):
            text = self.names[i]
            if md_feed_add_symbol(&self.feed, text, <size_t>len(text), info.symbol_id, 0,
                                  info.price_scale, info.size_scale, &self.cells[<size_t>i]):
                raise ValueError(f"cannot add the symbol {symbol!r}")

    def __dealloc__(self):
        md_feed_free(&self.feed)
        free(self.cells)
        free(self.header)
        free(self.block)
        free(self.ring.slots)

    @property
    def depth(self) -> int:
        return self.ring.mask + 1

    @property
    def counts(self) -> dict[str, int]:
        """The counters that a decoder moves."""
        return {
            "records": self.block.records,
            "trades": self.block.trades,
            "quotes": self.block.quotes,
            "levels": self.block.levels,
            "statuses": self.block.statuses,
            "gaps": self.block.gaps,
            "gap_ids": self.block.gap_ids,
            "reordered": self.block.reordered,
            "duplicates": self.block.duplicates,
            "tickers": self.block.tickers,
            "bars": self.block.bars,
            "book_snapshots": self.block.book_snapshots,
            "book_resyncs": self.block.book_resyncs,
            "book_checksums": self.block.book_checksums,
            "book_mismatches": self.block.book_mismatches,
        }

    cdef md_connection *_connection(self, uint32_t number) except NULL:
        """The connection of a number: one socket that lasts until `hang_up`."""
        if number not in self.connections:
            self.connections[number] = bytearray(sizeof(md_connection))
        cdef unsigned char[::1] memory = self.connections[number]
        cdef md_connection *connection = <md_connection *>&memory[0]
        if connection.socket == 0:
            connection.number = number
            connection.socket = number + 1
        return connection

    cdef md_feed_symbol *_symbol(self, name) except NULL:
        text = name.encode() if isinstance(name, str) else bytes(name)
        cdef md_feed_symbol *symbol = md_feed_find_symbol(&self.feed, text, <size_t>len(text))
        if symbol == NULL:
            raise KeyError(name)
        return symbol

    def hang_up(self, uint32_t connection=0, int64_t ts_recv=0):
        """End a connection's socket: its books are void, its sequence begins anew.

        Returns:
            The records that it published.
        """
        cdef uint64_t first = self.ring.next
        md_book_unsync_socket(&self.feed, self._connection(connection), ts_recv, True)
        del self.connections[connection]
        return self._since(first)

    def expect_book(self, name, uint32_t connection=0):
        """Say that a symbol's changes come by this connection, and wish for its snapshot."""
        md_book_expect(&self.feed, self._symbol(name), self._connection(connection))

    def take_wishes(self) -> list[bytes]:
        """Return whose books want a snapshot, by the name on the wire, and forget that."""
        ids = {self.feed.wishes[i] for i in range(min(self.feed.wish_count, MD_WISH_COUNT_MAX))}
        self.feed.wish_count = 0
        return [each for each in self.names if self._symbol(each).symbol_id in ids]

    def snapshot(self, name, bytes body not None, uint32_t asked=0, int64_t ts_recv=0,
                 uint32_t connection=0):
        """Merge a REST answer into a symbol's book.

        Args:
            name: On the wire.
            body: The answer, as it came.
            asked: How many levels a side were asked for; 0: all.
            ts_recv: When it came.
            connection: By which the symbol's changes come.

        Returns:
            The `FrameResult`, and the records it published: the whole book as it is then.
        """
        cdef uint64_t first = self.ring.next
        cdef const char *text = self.guarded.put(body)
        cdef md_frame_result result = md_book_snapshot_json(
            &self.feed, self._symbol(name), self._connection(connection), text,
            <size_t>len(body), asked, ts_recv)
        return FrameResult(result), self._since(first)

    def book(self, name):
        """Return (usable, bids, asks) of the cell, each a list of (price, size), best first."""
        cdef md_book_top top
        text = name.encode() if isinstance(name, str) else bytes(name)
        if md_cell_load_book(&self.cells[<size_t>self.places[text]], &top) != MD_CACHE_OK:
            return False, [], []
        return (bool(top.flags & 1),
                [(top.bid[i].price, top.bid[i].size) for i in range(top.bid_count)],
                [(top.ask[i].price, top.ask[i].size) for i in range(top.ask_count)])

    def decode(self, bytes frame not None, int64_t ts_recv=0, uint32_t connection=0):
        """Decode one frame, from memory that ends with it: reading on would kill the process.

        Returns:
            The `FrameResult`, and the records it published as an array of TICK.

        Raises:
            ValueError: The frame held more records than the ring; the oldest are gone.
        """
        cdef uint64_t first = self.ring.next
        cdef const char *text = self.guarded.put(frame)
        cdef md_frame_result result = self.function(
            &self.feed, text, <size_t>len(frame), ts_recv, self._connection(connection))
        return FrameResult(result), self._since(first)

    cdef _since(self, uint64_t first):
        """The records from a sequence on, as an array of TICK."""
        cdef uint64_t count = self.ring.next - first
        if count > self.ring.mask + 1:
            raise ValueError(f"{count} records in one frame; the ring holds {self.ring.mask + 1}")
        out = np.empty(count, dtype=TICK)
        cdef char[::1] bytes_out
        cdef uint64_t i
        if count:
            bytes_out = out.view(np.int8)
            for i in range(count):
                memcpy(&bytes_out[<Py_ssize_t>(i * sizeof(md_slot))],
                       &self.ring.slots[(first + i) & self.ring.mask], sizeof(md_slot))
        return out

    def bench(self, frames: Sequence, uint64_t repeat=1):
        """Time the decoder over frames that lie one behind the other, as in a socket's buffer.

        Before each pass the ids seen so far are forgotten, so that frames in the venue's order
        are in order every time.

        Args:
            frames: Whole text messages.
            repeat: Passes over all of them, at least 1.

        Returns:
            (ns in all, records published, checksum over the records now in the ring).

        Raises:
            ValueError: A frame was refused: its time would mean nothing.
        """
        whole = b"".join(frames)
        cdef uint64_t count = <uint64_t>len(frames)
        sizes = np.array([len(frame) for frame in frames], dtype=np.uint64)
        cdef uint64_t[::1] size = sizes
        cdef const char *text = whole
        cdef const char *at
        cdef uint64_t before = self.block.records
        cdef uint64_t bad = 0, checksum = 0, i, j, done
        cdef size_t k
        cdef timespec start, end
        cdef md_connection *connection = self._connection(0)
        if count == 0:
            raise ValueError("no frames")
        with nogil:
            clock_gettime(CLOCK_MONOTONIC, &start)
            for done in range(repeat):
                connection.sequence = 0
                for k in range(self.cell_count):
                    self.cells[k].venue_trade_id = 0
                    self.cells[k].venue_book_id = 0
                    self.cells[k].venue_quote_id = 0
                at = text
                for i in range(count):
                    bad += self.function(&self.feed, at, size[<Py_ssize_t>i], 0, connection) != 0
                    at += size[<Py_ssize_t>i]
            clock_gettime(CLOCK_MONOTONIC, &end)
        if bad:
            raise ValueError(f"{bad} frames refused")
        for i in range(self.ring.mask + 1):
            for j in range(7):
                checksum = checksum * 31 + self.ring.slots[i].word[j]
        ns = (end.tv_sec - start.tv_sec) * 1_000_000_000 + end.tv_nsec - start.tv_nsec
        return ns, self.block.records - before, checksum


cdef unsigned checked_scale(scale) except? 99:
    if not 0 <= scale <= MD_DECIMAL_SCALE_MAX:
        raise ValueError(f"scale {scale}: in [0, {MD_DECIMAL_SCALE_MAX}]")
    return scale


cdef _Guarded _decimals = _Guarded()


def decimal_parse(bytes text not None, scale: int):
    """Return (result, value) of md_decimal_parse; the value is None unless the result is 0."""
    cdef int64_t value
    cdef const char *at = _decimals.put(text)
    result = md_decimal_parse(at, <size_t>len(text), checked_scale(scale), &value)
    return result, value if result == MD_DECIMAL_OK else None


def decimal_scan(bytes frame not None, scale: int, Py_ssize_t at=0, decimals=None):
    """Return (place of the closing quote, value) of md_decimal_scan, or None when it declines.

    Args:
        frame: At least 8 bytes: it reads whole words.
        scale: In [0, 18].
        at: Where the number begins.
        decimals: Ask md_decimal_scan_known instead, for a number with so many, in [0, 8].
    """
    cdef int64_t value
    if not 0 <= at <= len(frame) or len(frame) < 8:
        raise ValueError(f"frame of {len(frame)} bytes, number at {at}")
    if decimals is not None and not 0 <= decimals <= 8:
        raise ValueError(f"{decimals} decimals: in [0, 8]")
    cdef const char *text = _decimals.put(frame)
    cdef const char *last8 = text + len(frame) - 8
    cdef const char *quote
    if decimals is None:
        quote = md_decimal_scan(text + at, last8, checked_scale(scale), &value)
    else:
        quote = md_decimal_scan_known(text + at, last8, checked_scale(scale), decimals, &value)
    return None if quote == NULL else (quote - text, value)


def decimal_format(int64_t value, scale: int) -> str:
    """Return the text that md_decimal_format makes of a value other than INT64_MIN."""
    cdef char out[32]
    cdef size_t size = md_decimal_format(value, checked_scale(scale), out)
    return out[:size].decode()
