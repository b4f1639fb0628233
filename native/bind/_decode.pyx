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
        uint64_t records, trades, quotes, levels, statuses, gaps, gap_ids, reordered
    struct md_feed:
        pass
    ctypedef md_frame_result (*md_decode_fn)(
        md_feed *feed, const char *frame, size_t size, int64_t ts_recv, uint32_t connection) nogil
    int md_feed_init(md_feed *feed, md_ring_writer *rings, uint32_t ring_count,
                     md_counter_block *counters, uint32_t symbol_count)
    void md_feed_free(md_feed *feed)
    int md_feed_add_symbol(md_feed *feed, const char *name, size_t size, uint32_t symbol_id,
                           uint32_t ring, unsigned price_scale, unsigned size_scale, md_cell *cell)


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
    """

    cdef md_decode_fn function
    cdef md_feed feed
    cdef md_ring_writer ring
    cdef md_ring_header *header
    cdef md_cell *cells
    cdef size_t cell_count
    cdef md_counter_block *block
    cdef _Guarded guarded

    def __cinit__(self, str name not None, symbols: Mapping, uint64_t depth=32768):
        if depth < 64 or depth & (depth - 1):
            raise ValueError(f"depth {depth}: give a power of 2, at least 64")
        self.function = md_decoder_named(name.encode())
        if self.function == NULL:
            raise ValueError(f"no decoder is named {name}; there are {', '.join(DECODERS)}")
        self.guarded = _Guarded()
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
        for i, (symbol, info) in enumerate(symbols.items()):
            text = symbol.encode()
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
        }

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
            &self.feed, text, <size_t>len(frame), ts_recv, connection)
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
        return FrameResult(result), out

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
        if count == 0:
            raise ValueError("no frames")
        with nogil:
            clock_gettime(CLOCK_MONOTONIC, &start)
            for done in range(repeat):
                for k in range(self.cell_count):
                    self.cells[k].venue_trade_id = 0
                    self.cells[k].venue_book_id = 0
                    self.cells[k].venue_quote_id = 0
                at = text
                for i in range(count):
                    bad += self.function(&self.feed, at, size[<Py_ssize_t>i], 0, 0) != 0
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
