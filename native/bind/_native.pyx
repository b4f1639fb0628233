# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Shared-memory segments as Python objects: what `mdsys.ring` and `mdsys.consume` stand on.

Thin: layouts, protocols and their reasons are in native/include/mdsys. An object here holds on to
the buffer it was made of (an `mmap`), checks it once, and then only calls the C functions.
"""

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import mmap
import os

from mdsys.errors import HostError, LayoutError


cdef extern from "time.h" nogil:
    ctypedef long time_t
    struct timespec:
        time_t tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *out)
    int nanosleep(const timespec *request, timespec *remain)
    int CLOCK_REALTIME
    int CLOCK_MONOTONIC


cdef extern from "mdsys/atomic.h" nogil:
    uint64_t md_load_acquire_u64(const uint64_t *p)
    uint32_t md_load_acquire_u32(const uint32_t *p)
    int64_t md_load_acquire_i64(const int64_t *p)
    void md_store_release_i64(int64_t *p, int64_t value)
    void md_pause()


cdef extern from "mdsys/record.h" nogil:
    const int MD_KIND_TRADE
    struct md_record:
        uint64_t seq
        int64_t ts_recv
        uint32_t symbol_id
        uint8_t kind


cdef extern from "mdsys/segment.h" nogil:
    struct md_segment_header:
        uint64_t magic
        uint32_t abi_version
        uint32_t kind
        uint64_t size_bytes
        uint64_t schema_hash
        uint32_t state
        uint32_t index
        uint64_t epoch
        uint32_t writer_pid
        uint64_t writer_start_ticks
        int64_t created_ns
        int64_t heartbeat_ns
    ctypedef int md_segment_result "enum md_segment_result"
    const uint32_t MD_ABI_VERSION
    const uint32_t MD_PAGE_HEADER_SIZE


cdef extern from "mdsys/ring.h" nogil:
    struct md_slot:
        pass
    struct md_ring_header:
        md_segment_header segment
        uint64_t depth
        uint32_t feed
        uint64_t cursor
        int64_t watermark_ns
        uint32_t bell
        md_ring_grant *grants
    struct md_ring_writer:
        uint64_t next
        uint64_t mask
        md_ring_header *header
    struct md_ring_grant:
        uint64_t reader_id
        uint64_t granted_from "from"
        uint64_t ejected
    const uint32_t MD_GRANT_COUNT
    md_segment_result md_ring_verify(const md_ring_header *header, uint64_t mapped_size)
    const md_slot *md_ring_slots(const md_ring_header *header)
    uint64_t md_ring_head(const md_ring_header *header, const md_slot *slots, uint64_t mask)
    void md_ring_publish_batch(md_ring_writer *w, const md_record *records, uint64_t count)
    void md_ring_flush(md_ring_writer *w, int64_t now_ns)


cdef extern from "mdsys/reader_page.h" nogil:
    const uint32_t MD_READER_NAME_SIZE
    const uint32_t MD_SHARE_ONE
    const uint32_t MD_CORE_NONE
    const uint32_t MD_RING_COUNT_MAX
    struct md_reader_ring:
        uint64_t next
        uint64_t lost
        uint64_t dropped
        uint64_t asleep
    struct md_reader_page:
        md_segment_header segment
        uint64_t reader_id
        char *name
        uint32_t batch_size, max_queue_size, threshold, adaptive, core
        uint64_t polls
        uint32_t batch, batch_min, batch_max, core_now
        md_reader_ring *ring
    md_segment_result md_reader_page_verify(const md_reader_page *page, uint64_t mapped_size)


cdef extern from "mdsys/symbols.h" nogil:
    const uint32_t MD_NAME_SIZE_MAX
    const uint32_t MD_PATH_SIZE
    struct md_symbol:
        uint64_t hash
        uint32_t symbol_id
        uint16_t ring
        uint8_t name_size
        uint8_t venue_size
        uint8_t price_scale
        uint8_t size_scale
        char *name
    struct md_symbols_header:
        uint32_t capacity
        uint32_t count
        uint32_t ring_count
        uint32_t feed_count
        char *dir
        char *instance
    md_segment_result md_symbols_verify(const md_symbols_header *symbols, uint64_t mapped_size)
    const md_symbol *md_symbols_find(const md_symbols_header *symbols, const char *name, size_t n)
    const md_symbol *md_symbols_entry(const md_symbols_header *symbols, uint32_t symbol_id)


cdef extern from "mdsys/xxh3.h" nogil:
    uint64_t md_xxh3_64(const void *key, size_t size)
    const uint32_t MD_XXH3_SIZE_MAX


cdef extern from "mdsys/cache.h" nogil:
    struct md_cell:
        uint64_t venue_trade_id
        uint64_t venue_book_id
        uint64_t venue_quote_id
        int64_t heard_book
        int64_t heard_ticker
        int64_t heard_bar
        md_record trade
        md_record quote
    struct md_cell_level:
        int64_t price
        int64_t size
    const unsigned MD_CACHE_LEVELS
    struct md_book_top:
        uint64_t seq
        int64_t ts_event
        int64_t ts_recv
        uint8_t flags
        uint8_t bid_count
        uint8_t ask_count
        md_cell_level *bid
        md_cell_level *ask
    struct md_cache_header:
        uint32_t capacity
    ctypedef int md_cache_part "enum md_cache_part"
    const int MD_CACHE_TRADE
    const int MD_CACHE_QUOTE
    ctypedef int md_cache_result "enum md_cache_result"
    const int MD_CACHE_OK
    const int MD_CACHE_BUSY
    md_segment_result md_cache_verify(const md_cache_header *cache, uint64_t mapped_size)
    const md_cell *md_cache_cell(const md_cache_header *cache, uint32_t symbol_id)
    md_cache_result md_cell_load(const md_cell *cell, md_cache_part part, md_record *out)
    md_cache_result md_cell_load_book(const md_cell *cell, md_book_top *out)
    int64_t md_load_relaxed_i64(const int64_t *at)


cdef extern from "mdsys/counters.h" nogil:
    struct md_histogram:
        pass
    struct md_counter_block:
        pass
    struct md_connection_block:
        uint32_t number
        uint32_t state
        int64_t since_ns
        int64_t last_frame_ns
        int64_t last_data_ns
        uint64_t frames, bytes, records, opens
        int64_t offset_ns
        char *venue
    const uint32_t MD_CONNECTION_COUNT_MAX
    const uint32_t MD_CONNECTION_VENUE_SIZE
    struct md_supervisor_block:
        md_histogram loop_lag
    struct md_life_block:
        uint64_t restarts
    struct md_counters_header:
        uint64_t blocks_offset
        uint32_t block_stride
        uint32_t block_count
        uint64_t supervisor_offset
        uint64_t lives_offset
        uint32_t life_stride
    void md_histogram_record(md_histogram *histogram, int64_t ns, uint64_t count)
    void md_store_relaxed_u64(uint64_t *to, uint64_t value)
    md_connection_block *md_counters_connection(const md_counters_header *counters, uint32_t index)
    int md_connection_load(const md_connection_block *block, md_connection_block *out)
    md_segment_result md_counters_verify(const md_counters_header *counters, uint64_t mapped_size)


cdef extern from "mdsys/attach.h" nogil:
    const char *md_segment_result_text(md_segment_result result)


cdef extern from "segment.h" nogil:
    struct md_cache_repair_result "md_cache_repair":
        uint32_t torn
        uint32_t republished
    uint64_t md_ring_size(uint64_t depth)
    uint64_t md_symbols_size(uint32_t capacity)
    uint64_t md_cache_size(uint32_t capacity)
    uint64_t md_counters_size(uint32_t block_count)
    void md_ring_create(md_ring_header *h, uint64_t size, uint64_t depth, uint32_t i, uint32_t feed)
    void md_symbols_create(md_symbols_header *h, uint64_t size, uint32_t capacity,
                           uint32_t ring_count, uint32_t feed_count, const char *dir,
                           const char *instance)
    void md_cache_create(md_cache_header *h, uint64_t size, uint32_t capacity)
    void md_counters_create(md_counters_header *h, uint64_t size, uint32_t block_count)
    void md_segment_publish(md_segment_header *h, int64_t now_ns)
    void md_segment_take_over(md_segment_header *h, uint32_t pid, uint64_t start, int64_t now_ns)
    void md_segment_set_state(md_segment_header *h, int state)
    void md_segment_supersede(md_segment_header *h)
    void md_ring_take_over(md_ring_header *h, md_ring_writer *w, uint32_t pid, uint64_t start,
                           int64_t now_ns)
    md_cache_repair_result c_cache_repair "md_cache_repair"(
        md_cache_header *cache, const md_symbols_header *symbols, uint32_t ring, md_ring_writer *w)
    void md_reader_page_create(md_reader_page *page, uint64_t size, uint64_t reader_id,
                               const char *name, uint32_t batch_size, uint32_t adaptive,
                               uint32_t threshold, uint32_t max_queue_size, uint32_t core)
    uint32_t md_symbols_add(md_symbols_header *h, const char *name, size_t size, uint32_t ring,
                            unsigned price_scale, unsigned size_scale)


RECORD_SIZE = sizeof(md_record)
ABI_VERSION = MD_ABI_VERSION
HEADER_SIZE = MD_PAGE_HEADER_SIZE


def xxh3_64(bytes key not None) -> int:
    """Return the 64-bit XXH3 of ``key`` (at most 128 bytes), seed 0: what names are found by."""
    if len(key) > MD_XXH3_SIZE_MAX:
        raise ValueError(f"key of {len(key)} bytes; at most {MD_XXH3_SIZE_MAX}")
    return md_xxh3_64(<const char *>key, <size_t>len(key))


def ring_size(depth: int) -> int:
    """Return the bytes of a ring segment with ``depth`` slots."""
    return md_ring_size(depth)


def symbols_size(capacity: int) -> int:
    """Return the bytes of a symbol directory for ``capacity`` symbols."""
    return md_symbols_size(capacity)


def cache_size(capacity: int) -> int:
    """Return the bytes of a last-value cache for ``capacity`` symbols."""
    return md_cache_size(capacity)


def counters_size(block_count: int) -> int:
    """Return the bytes of a counters segment for ``block_count`` feeds."""
    return md_counters_size(block_count)


cdef class _Buffer:
    """A held view of somebody's memory; None of it is copied."""

    cdef Py_buffer view
    cdef bint held

    def __cinit__(self, owner, bint writable=False):
        PyObject_GetBuffer(owner, &self.view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
        self.held = True

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


cdef class Segment:
    """Any segment's header.

    Args:
        buffer: The mapping of the whole file (an ``mmap``).
        writable: Whether this process may write it; the mapping must agree.

    Raises:
        LayoutError: The mapping holds no segment of this kind and version.
    """

    cdef _Buffer buffer
    cdef md_segment_header *header
    cdef readonly bint writable

    def __init__(self, buffer, bint writable=False):
        self._hold(buffer, writable)
        self._verify()

    cdef _hold(self, buffer, bint writable):
        self.buffer = _Buffer(buffer, writable)
        self.header = _header_of(self.buffer)
        self.writable = writable

    cdef md_segment_result _check(self) noexcept:
        return 0

    cdef _verify(self):
        cdef md_segment_result result = self._check()
        if result != 0:
            text = md_segment_result_text(result).decode()
            if self.header.abi_version != MD_ABI_VERSION and self.header.magic != 0:
                text += f" (it has ABI {self.header.abi_version}, this is {MD_ABI_VERSION})"
            raise LayoutError(text)

    cdef _need_writable(self):
        if not self.writable:
            raise HostError("this mapping is read-only")

    @property
    def state(self) -> int:
        """Of enum md_segment_state: 0 new, 1 running, 2 stopped, 3 superseded."""
        return md_load_acquire_u32(&self.header.state)

    @property
    def epoch(self) -> int:
        """How many writers have taken this segment over, from 1."""
        return md_load_acquire_u64(&self.header.epoch)

    @property
    def size_bytes(self) -> int:
        return self.header.size_bytes

    @property
    def index(self) -> int:
        return self.header.index

    @property
    def writer_pid(self) -> int:
        return self.header.writer_pid

    @property
    def writer_start_ticks(self) -> int:
        """Field 22 of the writer's /proc/PID/stat, in clock ticks since boot."""
        return self.header.writer_start_ticks

    @property
    def created_ns(self) -> int:
        return self.header.created_ns

    @property
    def heartbeat_ns(self) -> int:
        """When the writer was last known to be alive, ns since the epoch."""
        return md_load_acquire_i64(&self.header.heartbeat_ns)

    def take_over(self, uint32_t pid, uint64_t start_ticks, int64_t now_ns):
        """Become the writer: epoch + 1, state running."""
        self._need_writable()
        md_segment_take_over(self.header, pid, start_ticks, now_ns)

    def beat(self, int64_t now_ns):
        """Say that the writer is alive."""
        self._need_writable()
        md_store_release_i64(&self.header.heartbeat_ns, now_ns)

    def stop(self):
        """Mark the segment stopped; the next writer adopts it."""
        self._need_writable()
        md_segment_set_state(self.header, 2)


cdef md_segment_header *_header_of(_Buffer buffer) except NULL:
    if buffer.view.len < <Py_ssize_t>MD_PAGE_HEADER_SIZE:
        raise LayoutError(f"{buffer.view.len} bytes: too short for a segment")
    return <md_segment_header *>buffer.view.buf


def publish_segment(buffer, int64_t now_ns):
    """Let readers attach to a segment that one of the ``create`` functions laid out."""
    cdef _Buffer view = _Buffer(buffer, True)
    md_segment_publish(_header_of(view), now_ns)


def supersede_segment(buffer):
    """Tell whoever is attached that this file is about to be unlinked, whatever is in it."""
    cdef _Buffer view = _Buffer(buffer, True)
    md_segment_supersede(_header_of(view))


cdef class Ring(Segment):
    """A ring's header, as any process may see it."""

    cdef md_segment_result _check(self) noexcept:
        return md_ring_verify(<md_ring_header *>self.header, self.buffer.view.len)

    @staticmethod
    def create(buffer, uint64_t depth, uint32_t index, uint32_t feed):
        """Lay a ring out in a zeroed mapping; `publish_segment` makes it visible."""
        cdef _Buffer view = _Buffer(buffer, True)
        if <uint64_t>view.view.len < md_ring_size(depth):
            raise ValueError("mapping too small for the ring")
        md_ring_create(<md_ring_header *>view.view.buf, view.view.len, depth, index, feed)

    @property
    def depth(self) -> int:
        """Slots, a power of 2."""
        return (<md_ring_header *>self.header).depth

    @property
    def feed(self) -> int:
        """Index of the feed process that writes here."""
        return (<md_ring_header *>self.header).feed

    @property
    def head(self) -> int:
        """The newest published sequence; 0 before the first."""
        cdef md_ring_header *header = <md_ring_header *>self.header
        return md_ring_head(header, md_ring_slots(header), header.depth - 1)

    @property
    def cursor(self) -> int:
        """The newest sequence at the writer's last flush."""
        return md_load_acquire_u64(&(<md_ring_header *>self.header).cursor)

    @property
    def address(self) -> int:
        """Of the mapping, for other extensions; valid while this object lives."""
        return <size_t>self.header

    @property
    def bell(self) -> int:
        """How often the doorbell was rung, modulo 2^32."""
        return md_load_acquire_u32(&(<md_ring_header *>self.header).bell)

    def grant(self, uint64_t reader_id) -> tuple[int, int] | None:
        """Return what the writer has promised a lossless reader: (from, ejected), sequences.

        From the first on nothing is overwritten unread, and from the second on it may be; 0: the
        promise stands. None: there is none.
        """
        cdef md_ring_header *header = <md_ring_header *>self.header
        cdef uint64_t since, until
        for i in range(MD_GRANT_COUNT):
            if md_load_acquire_u64(&header.grants[i].reader_id) == reader_id:  # G2: pairs with G1
                since = md_load_acquire_u64(&header.grants[i].granted_from)
                until = md_load_acquire_u64(&header.grants[i].ejected)  # G4: pairs with G3
                if md_load_acquire_u64(&header.grants[i].reader_id) == reader_id:  # still ours
                    return since, until
        return None

    @property
    def watermark_ns(self) -> int:
        """Whatever was received before this time is published, ns since the epoch."""
        return md_load_acquire_i64(&(<md_ring_header *>self.header).watermark_ns)


cdef class RingWriter(Ring):
    """The one writer of a ring.

    Taking over a ring that had a writer before publishes a writer_restarted status first.

    Args:
        buffer: The mapping, writable.
        pid: This process.
        start_ticks: Its start time, field 22 of /proc/PID/stat.
        now_ns: ns since the epoch.
    """

    cdef md_ring_writer writer
    cdef object last_records
    cdef _Buffer last_view

    def __init__(self, buffer, uint32_t pid, uint64_t start_ticks, int64_t now_ns):
        Segment.__init__(self, buffer, True)
        md_ring_take_over(<md_ring_header *>self.header, &self.writer, pid, start_ticks, now_ns)

    @property
    def address(self) -> int:
        """Of the ``struct md_ring_writer``, for other extensions; valid while this object lives."""
        return <size_t>&self.writer

    @property
    def next(self) -> int:
        """The sequence that the next record gets."""
        return self.writer.next

    def repair(self, Cache cache not None, Symbols symbols not None) -> tuple[int, int]:
        """Mend what a killed writer left in the cells of this ring's symbols.

        Returns:
            How many half-written parts were refilled from the ring (or emptied, when it holds none),
            and how many records that had reached only their cell were published.
        """
        cache._need_writable()
        cdef md_cache_repair_result done = c_cache_repair(
            <md_cache_header *>cache.header, <md_symbols_header *>symbols.header,
            self.header.index, &self.writer)
        return done.torn, done.republished

    def publish_records(self, records):
        """Publish an array of records as one frame, in order; their ``seq`` is ignored.

        Args:
            records: C-contiguous buffer of at most depth/4 records.

        Raises:
            ValueError: Not whole records, or too many for one frame.
        """
        if records is not self.last_records or self.last_view is None:
            self.last_view = _Buffer(records)
            self.last_records = records
        cdef Py_ssize_t size = self.last_view.view.len
        cdef uint64_t count = <uint64_t>size // sizeof(md_record)
        if size % <Py_ssize_t>sizeof(md_record) != 0 or count > (self.writer.mask + 1) // 4:
            raise ValueError(f"{size} bytes: give whole records, at most depth/4 of them")
        md_ring_publish_batch(&self.writer, <const md_record *>self.last_view.view.buf, count)

    def flush(self, int64_t now_ns):
        """Store cursor and watermark: what was received before ``now_ns`` is published."""
        md_ring_flush(&self.writer, now_ns)


cdef class Symbols(Segment):
    """The symbol directory."""

    cdef md_segment_result _check(self) noexcept:
        return md_symbols_verify(<md_symbols_header *>self.header, self.buffer.view.len)

    @staticmethod
    def create(buffer, uint32_t capacity, uint32_t ring_count, uint32_t feed_count,
               bytes dir not None, bytes instance not None):
        """Lay a directory out in a zeroed mapping; `publish_segment` makes it visible."""
        cdef _Buffer view = _Buffer(buffer, True)
        if <uint64_t>view.view.len < md_symbols_size(capacity):
            raise ValueError("mapping too small for the symbol directory")
        if <uint32_t>len(dir) >= MD_PATH_SIZE or <uint32_t>len(instance) >= MD_PATH_SIZE // 4:
            raise ValueError("name of the directory or of the instance too long")
        md_symbols_create(<md_symbols_header *>view.view.buf, view.view.len, capacity, ring_count,
                          feed_count, dir, instance)

    def __len__(self):
        return md_load_acquire_u32(&(<md_symbols_header *>self.header).count)

    @property
    def address(self) -> int:
        """Of the mapping, for other extensions; valid while this object lives."""
        return <size_t>self.header

    @property
    def capacity(self) -> int:
        return (<md_symbols_header *>self.header).capacity

    @property
    def ring_count(self) -> int:
        return (<md_symbols_header *>self.header).ring_count

    @property
    def feed_count(self) -> int:
        return (<md_symbols_header *>self.header).feed_count

    @property
    def dir(self) -> str:
        """Where the instance's other segments lie."""
        return os.fsdecode(<const char *>(<md_symbols_header *>self.header).dir)

    @property
    def instance(self) -> str:
        return os.fsdecode(<const char *>(<md_symbols_header *>self.header).instance)

    def find(self, bytes name not None) -> int:
        """Return the id of VENUE:SYMBOL, or 0."""
        cdef const md_symbol *entry = md_symbols_find(
            <md_symbols_header *>self.header, name, <size_t>len(name))
        return 0 if entry is NULL else entry.symbol_id

    def entry(self, uint32_t symbol_id) -> tuple[str, int, int, int, int]:
        """Return (VENUE:SYMBOL, venue_size, ring, price_scale, size_scale).

        Raises:
            IndexError: No symbol has this id.
            LayoutError: Its entry is damaged.
        """
        cdef uint32_t count = min(len(self), self.capacity)
        if symbol_id == 0 or symbol_id > count:
            raise IndexError(f"no symbol has the id {symbol_id}; there are {count}")
        cdef const md_symbol *e = md_symbols_entry(<md_symbols_header *>self.header, symbol_id)
        if e.name_size > MD_NAME_SIZE_MAX or e.ring >= self.ring_count:
            raise LayoutError(f"the entry of symbol {symbol_id} is damaged")
        name = e.name[:e.name_size].decode(errors="replace")
        return (name, e.venue_size, e.ring, e.price_scale, e.size_scale)

    def add(self, bytes name not None, uint32_t ring, unsigned price_scale,
            unsigned size_scale) -> int:
        """Append VENUE:SYMBOL; return its id.

        Raises:
            ValueError: It is there already, is no VENUE:SYMBOL of at most 63 bytes, the ring does
                not exist, a scale is above 18, or the directory is full.
        """
        self._need_writable()
        symbol_id = md_symbols_add(<md_symbols_header *>self.header, name, <size_t>len(name), ring,
                                   price_scale, size_scale)
        if symbol_id == 0:
            raise ValueError(f"cannot add {name!r}")
        return symbol_id


cdef enum:
    CELL_WAIT_NS = 100_000
    CELL_WAITS_MAX = 1000    # 0.1 s: more than any time slice


cdef class Cache(Segment):
    """The last-value cache."""

    cdef md_segment_result _check(self) noexcept:
        return md_cache_verify(<md_cache_header *>self.header, self.buffer.view.len)

    @staticmethod
    def create(buffer, uint32_t capacity):
        """Lay a cache out in a zeroed mapping; `publish_segment` makes it visible."""
        cdef _Buffer view = _Buffer(buffer, True)
        if <uint64_t>view.view.len < md_cache_size(capacity):
            raise ValueError("mapping too small for the cache")
        md_cache_create(<md_cache_header *>view.view.buf, view.view.len, capacity)

    @property
    def capacity(self) -> int:
        return (<md_cache_header *>self.header).capacity

    @property
    def address(self) -> int:
        """Of the mapping, for other extensions; valid while this object lives."""
        return <size_t>self.header

    def load(self, uint32_t symbol_id, int part, out) -> bool:
        """Copy a symbol's last trade (part 1) or quote (part 2) into ``out``, 64 writable bytes.

        Returns:
            False when the symbol has had none yet.

        Raises:
            IndexError: The id is beyond the capacity.
            HostError: No whole copy could be had: its writer died while it wrote.
        """
        if symbol_id == 0 or symbol_id > self.capacity:
            raise IndexError(f"no symbol has the id {symbol_id}")
        cdef _Buffer to = _Buffer(out, True)
        if to.view.len < <Py_ssize_t>sizeof(md_record):
            raise ValueError("out is shorter than a record")
        cdef const md_cell *cell = md_cache_cell(<md_cache_header *>self.header, symbol_id)
        cdef md_record *record = <md_record *>to.view.buf
        cdef md_cache_result result = md_cell_load(cell, <md_cache_part>part, record)
        cdef timespec pause
        cdef int waits = 0
        while result == MD_CACHE_BUSY and waits < CELL_WAITS_MAX:
            with nogil:  # its writer may only have lost its core
                pause.tv_sec = 0
                pause.tv_nsec = CELL_WAIT_NS
                nanosleep(&pause, NULL)
                result = md_cell_load(cell, <md_cache_part>part, record)
            waits += 1
        if result == MD_CACHE_BUSY:
            raise HostError(f"the cell of symbol {symbol_id} is half-written: is the feed dead?")
        return result == MD_CACHE_OK

    def load_book(self, uint32_t symbol_id, int64_t[:, ::1] bids, int64_t[:, ::1] asks):
        """Copy the top of a symbol's book: rows of (price, size), best first.

        Args:
            symbol_id: Whose.
            bids: Room for 10 rows of 2.
            asks: The same.

        Returns:
            (ring sequence, ts_event, ts_recv, flags, rows of bids, rows of asks); None when there
            has been no book yet.

        Raises:
            IndexError: The id is beyond the capacity.
            HostError: No whole copy could be had: its writer died while it wrote.
        """
        if symbol_id == 0 or symbol_id > self.capacity:
            raise IndexError(f"no symbol has the id {symbol_id}")
        if (bids.shape[0] < <Py_ssize_t>MD_CACHE_LEVELS or bids.shape[1] != 2
                or asks.shape[0] < <Py_ssize_t>MD_CACHE_LEVELS or asks.shape[1] != 2):
            raise ValueError("bids and asks need room for 10 rows of 2")
        cdef const md_cell *cell = md_cache_cell(<md_cache_header *>self.header, symbol_id)
        cdef md_book_top top
        cdef md_cache_result result = md_cell_load_book(cell, &top)
        cdef timespec pause
        cdef int waits = 0
        cdef Py_ssize_t i
        while result == MD_CACHE_BUSY and waits < CELL_WAITS_MAX:
            with nogil:  # its writer may only have lost its core
                pause.tv_sec = 0
                pause.tv_nsec = CELL_WAIT_NS
                nanosleep(&pause, NULL)
                result = md_cell_load_book(cell, &top)
            waits += 1
        if result == MD_CACHE_BUSY:
            raise HostError(f"the cell of symbol {symbol_id} is half-written: is the feed dead?")
        if result != MD_CACHE_OK:
            return None
        for i in range(top.bid_count):
            bids[i, 0] = top.bid[i].price
            bids[i, 1] = top.bid[i].size
        for i in range(top.ask_count):
            asks[i, 0] = top.ask[i].price
            asks[i, 1] = top.ask[i].size
        return top.seq, top.ts_event, top.ts_recv, top.flags, top.bid_count, top.ask_count

    def heard(self, const uint32_t[::1] ids, int64_t[:, ::1] out):
        """Tell when each channel of some symbols was heard last: ts_recv in ns, 0 for never.

        Args:
            ids: Of the symbols, in [1, capacity].
            out: A row of 5 for each, in the order of mdsys.feed.venue.CHANNELS.

        Raises:
            IndexError: An id is beyond the capacity.
            ValueError: ``out`` has another shape.
        """
        cdef const md_cache_header *header = <md_cache_header *>self.header
        cdef uint32_t capacity = header.capacity
        cdef const md_cell *cell
        cdef Py_ssize_t i
        cdef int64_t last
        cdef uint8_t kind
        if out.shape[0] != ids.shape[0] or out.shape[1] != 5:
            raise ValueError("out needs a row of 5 for each id")
        for i in range(ids.shape[0]):
            if ids[i] == 0 or ids[i] > capacity:
                raise IndexError(f"no symbol has the id {ids[i]}")
            cell = md_cache_cell(header, ids[i])
            # Single words, without the cell's version: a time may be a record older than its kind.
            kind = cell.trade.kind
            last = md_load_relaxed_i64(&cell.trade.ts_recv)
            out[i, 0] = last if cell.trade.seq != 0 and kind == MD_KIND_TRADE else 0
            out[i, 1] = md_load_relaxed_i64(&cell.quote.ts_recv)
            out[i, 2] = md_load_relaxed_i64(&cell.heard_book)
            out[i, 3] = md_load_relaxed_i64(&cell.heard_ticker)
            out[i, 4] = md_load_relaxed_i64(&cell.heard_bar)

    def venue_ids(self, uint32_t symbol_id) -> tuple[int, int, int]:
        """Return the venue's last trade id, book update id and quote id; 0: none seen."""
        if symbol_id == 0 or symbol_id > self.capacity:
            raise IndexError(f"no symbol has the id {symbol_id}")
        cdef const md_cell *cell = md_cache_cell(<md_cache_header *>self.header, symbol_id)
        return (md_load_acquire_u64(&cell.venue_trade_id), md_load_acquire_u64(&cell.venue_book_id),
                md_load_acquire_u64(&cell.venue_quote_id))


cdef class Counters(Segment):
    """The daemon's counters; `mdsys.counters` names what stands in a block."""

    cdef md_segment_result _check(self) noexcept:
        return md_counters_verify(<md_counters_header *>self.header, self.buffer.view.len)

    @staticmethod
    def create(buffer, uint32_t block_count):
        """Lay the counters out in a zeroed mapping; `publish_segment` makes them visible."""
        cdef _Buffer view = _Buffer(buffer, True)
        if <uint64_t>view.view.len < md_counters_size(block_count):
            raise ValueError("mapping too small for the counters")
        md_counters_create(<md_counters_header *>view.view.buf, view.view.len, block_count)

    def __len__(self):
        return (<md_counters_header *>self.header).block_count

    def block(self, uint32_t index) -> bytes:
        """Return a copy of one feed's block, word by word."""
        return bytes(<char[:sizeof(md_counter_block)]>self._block(index))

    def block_address(self, uint32_t index) -> int:
        """Of one feed's block, for other extensions; valid while this object lives."""
        return <size_t>self._block(index)

    def connections(self, uint32_t feed) -> list[dict[str, object]]:
        """Return the connections of one feed, as they are: struct md_connection_block. One whose
        place or state is being changed as long as we look is left out."""
        self._block(feed)
        cdef md_counters_header *header = <md_counters_header *>self.header
        cdef md_connection_block at
        found = []
        for i in range(MD_CONNECTION_COUNT_MAX):
            if md_connection_load(
                    md_counters_connection(header, feed * MD_CONNECTION_COUNT_MAX + i), &at):
                found.append({
                    "connection": at.number, "state": at.state,
                    "venue": at.venue[:MD_CONNECTION_VENUE_SIZE].split(b"\0")[0].decode(
                        errors="replace"),
                    "since_ns": at.since_ns,
                    "last_frame_ns": at.last_frame_ns, "last_data_ns": at.last_data_ns,
                    "frames": at.frames, "bytes": at.bytes, "records": at.records,
                    "opens": at.opens, "offset_ns": at.offset_ns,
                })
        return found

    def connection_address(self, uint32_t feed) -> int:
        """Of one feed's first connection place, for other extensions; valid while this lives."""
        self._block(feed)
        return <size_t>md_counters_connection(
            <md_counters_header *>self.header, feed * MD_CONNECTION_COUNT_MAX)

    # The supervisor's, which alone writes them.

    def supervisor(self) -> bytes:
        """Return a copy of the supervisor's block: `schema`'s lists system, subscriptions and
        system_histograms."""
        return bytes(<char[:sizeof(md_supervisor_block)]>self._supervisor())

    def life(self, uint32_t feed) -> bytes:
        """Return a copy of what the supervisor knows of one feed: `schema`'s list life."""
        return bytes(<char[:sizeof(md_life_block)]>self._life(feed))

    def begin_supervisor(self):
        """Be the supervisor: all that the one before has written is gone."""
        self._need_writable()
        memset(self._supervisor(), 0, sizeof(md_supervisor_block))
        for feed in range(len(self)):
            memset(self._life(feed), 0, sizeof(md_life_block))

    def set_supervisor(self, uint32_t place, uint64_t value):
        """Store a number of the supervisor's block.

        Args:
            place: Its index in `schema`'s list system, followed by the list subscriptions.
            value: What it is now.
        """
        self._need_writable()
        if place >= MD_SUPERVISOR_NUMBER_COUNT:
            raise IndexError(f"the supervisor's block has no number {place}")
        md_store_relaxed_u64(<uint64_t *>self._supervisor() + place, value)

    def set_life(self, uint32_t feed, uint32_t place, uint64_t value):
        """Store a number of a feed's life.

        Args:
            feed: Which.
            place: Its index in `schema`'s list life.
            value: What it is now.
        """
        self._need_writable()
        if place >= MD_LIFE_NUMBER_COUNT:
            raise IndexError(f"a feed's life has no number {place}")
        md_store_relaxed_u64(<uint64_t *>self._life(feed) + place, value)

    def record_loop_lag(self, int64_t ns):
        """Note how late the supervisor's loop woke."""
        self._need_writable()
        md_histogram_record(&(<md_supervisor_block *>self._supervisor()).loop_lag, ns, 1)

    cdef char *_supervisor(self) noexcept:
        return <char *>self.header + (<md_counters_header *>self.header).supervisor_offset

    cdef char *_life(self, uint32_t feed) except NULL:
        cdef md_counters_header *header = <md_counters_header *>self.header
        if feed >= header.block_count:
            raise IndexError(f"no feed {feed}; there are {header.block_count}")
        return <char *>header + header.lives_offset + <uint64_t>feed * header.life_stride

    cdef char *_block(self, uint32_t index) except NULL:
        cdef md_counters_header *header = <md_counters_header *>self.header
        if index >= header.block_count:
            raise IndexError(f"no counter block {index}; there are {header.block_count}")
        return <char *>header + header.blocks_offset + <uint64_t>index * header.block_stride


cdef class ReaderPage(Segment):
    """What a reader shows of itself: native/include/mdsys/reader_page.h."""

    cdef md_segment_result _check(self) noexcept:
        return md_reader_page_verify(<md_reader_page *>self.header, self.buffer.view.len)

    @staticmethod
    def create(buffer, uint64_t reader_id, bytes name not None, uint32_t batch_size, bint adaptive,
               double threshold, uint32_t max_queue_size, int core):
        """Lay a page out in a zeroed mapping; `publish_segment` makes it valid.

        Args:
            buffer: Writable, of at least `reader_page_size` bytes.
            reader_id: >= 1.
            name: At most 31 bytes.
            batch_size: Of the daemon's configuration, as the next three.
            adaptive: Whether batches grow and shrink with the lag.
            threshold: Share of the queue, in (0, 1].
            max_queue_size: Records.
            core: That the reader shall run on; -1: any.

        Raises:
            ValueError: One of them does not fit.
        """
        cdef _Buffer view = _Buffer(buffer, True)
        if view.view.len < <Py_ssize_t>sizeof(md_reader_page):
            raise ValueError("mapping too small for a reader's page")
        cdef uint32_t share = <uint32_t>(threshold * MD_SHARE_ONE)
        if len(name) >= <Py_ssize_t>MD_READER_NAME_SIZE or not 0 < share <= MD_SHARE_ONE:
            raise ValueError("name or threshold of a reader's page")
        md_reader_page_create(<md_reader_page *>view.view.buf, view.view.len, reader_id, name,
                              batch_size, adaptive, share, max_queue_size,
                              <uint32_t>core if core >= 0 else MD_CORE_NONE)

    @staticmethod
    def private() -> ReaderPage:
        """Return a page that nobody else sees, for a reader without a daemon."""
        cdef ReaderPage page = ReaderPage.__new__(ReaderPage)
        page._hold(mmap.mmap(-1, sizeof(md_reader_page)), True)  # at a page's border
        (<md_reader_page *>page.header).core = MD_CORE_NONE
        (<md_reader_page *>page.header).core_now = MD_CORE_NONE
        return page

    @property
    def address(self) -> int:
        """Of the page, for other extensions; valid while this object lives."""
        return <size_t>self.header

    @property
    def reader_id(self) -> int:
        """Number in the daemon's registry, from 1; 0: not registered."""
        return (<md_reader_page *>self.header).reader_id

    @property
    def name(self) -> str:
        return (<md_reader_page *>self.header).name[:MD_READER_NAME_SIZE].split(b"\0")[0].decode()

    def defaults(self) -> dict[str, object]:
        """Return what the daemon's configuration says: batch_size, adaptive, threshold (a share),
        max_queue_size, core (None: any)."""
        cdef md_reader_page *page = <md_reader_page *>self.header
        return {
            "batch_size": page.batch_size,
            "adaptive": bool(page.adaptive),
            "threshold": page.threshold / <double>MD_SHARE_ONE,
            "max_queue_size": page.max_queue_size,
            "core": None if page.core == MD_CORE_NONE else page.core,
        }

    @property
    def polls(self) -> int:
        """Looks for records so far: whoever lives moves it."""
        return md_load_acquire_u64(&(<md_reader_page *>self.header).polls)

    @property
    def batch(self) -> tuple[int, int, int]:
        """(records asked for at a time now, least, most)."""
        cdef md_reader_page *page = <md_reader_page *>self.header
        return (md_load_acquire_u32(&page.batch), md_load_acquire_u32(&page.batch_min),
                md_load_acquire_u32(&page.batch_max))

    @property
    def core(self) -> int | None:
        """The core its thread is pinned to; None: none."""
        cdef uint32_t core = md_load_acquire_u32(&(<md_reader_page *>self.header).core_now)
        return None if core == MD_CORE_NONE else core

    @core.setter
    def core(self, core):
        self._need_writable()
        (<md_reader_page *>self.header).core_now = MD_CORE_NONE if core is None else core

    def counters(self) -> dict[str, int]:
        """Return the counters by name, see `reader_schema`."""
        cdef const uint64_t *words = <const uint64_t *>(
            <char *>self.header + MD_READER_COUNTERS_OFFSET)
        return {md_schema_readers[i].field.decode(): md_load_acquire_u64(&words[i])
                for i in range(MD_READER_COUNTER_COUNT)}

    def histograms(self) -> dict[str, bytes]:
        """Return copies of the histograms by name, see `reader_schema`."""
        cdef const char *at = <char *>self.header + MD_READER_HISTOGRAMS_OFFSET
        return {md_schema_reader_histograms[i].field.decode():
                bytes(at[i * <int>sizeof(md_histogram):(i + 1) * <int>sizeof(md_histogram)])
                for i in range(MD_READER_HISTOGRAM_COUNT)}

    def place(self, uint32_t ring) -> tuple[int, int, int, int]:
        """Return (next, lost, dropped, asleep) of one ring; next 0: it is not read."""
        if ring >= MD_RING_COUNT_MAX:
            raise IndexError(f"no ring {ring}")
        cdef md_reader_ring *place = &(<md_reader_page *>self.header).ring[ring]
        return (md_load_acquire_u64(&place.next), md_load_acquire_u64(&place.lost),
                md_load_acquire_u64(&place.dropped), md_load_acquire_u64(&place.asleep))


def reader_page_size() -> int:
    """Return the bytes of a reader's page."""
    return sizeof(md_reader_page)


def histogram_buckets() -> int:
    """Return how many buckets a histogram has on either side of 0."""
    return MD_BUCKET_COUNT


def schema() -> dict[str, list[tuple[str, str, str, str, str]]]:
    """Return the lists of native/include/mdsys/schema.h: name -> rows (field, type, family, labels,
    help), those that lie in memory in their order there."""
    return {
        md_schema_lists[i].name.decode(): [
            (row.field.decode(), row.type.decode(), row.family.decode(), row.labels.decode(),
             row.help.decode())
            for row in md_schema_lists[i].rows[:md_schema_lists[i].count]
        ]
        for i in range(MD_LIST_COUNT)
    }


cdef extern from *:
    """
    #include "mdsys/reader_page.h"
    struct md_schema_row {
        const char *field, *type, *family, *labels, *help;
    };
    #define MD_ROW(field, type, family, labels, help) {#field, #type, family, labels, help},
    #define MD_LIST(name, list) \
        static const struct md_schema_row md_schema_##name[] = {list(MD_ROW)};
    MD_LIST(feeds, MD_COUNTERS)
    MD_LIST(feed_histograms, MD_HISTOGRAMS)
    MD_LIST(lives, MD_LIFE_NUMBERS)
    MD_LIST(feeds_derived, MD_FEED_DERIVED)
    MD_LIST(connections, MD_CONNECTION_NUMBERS)
    MD_LIST(connections_derived, MD_CONNECTION_DERIVED)
    MD_LIST(readers, MD_READER_COUNTERS)
    MD_LIST(reader_histograms, MD_READER_HISTOGRAMS)
    MD_LIST(readers_derived, MD_READER_DERIVED)
    MD_LIST(rings_derived, MD_RING_DERIVED)
    MD_LIST(limiter_derived, MD_LIMITER_DERIVED)
    MD_LIST(subscriptions, MD_SUBSCRIPTION_NUMBERS)
    MD_LIST(system, MD_SYSTEM_NUMBERS)
    MD_LIST(system_histograms, MD_SYSTEM_HISTOGRAMS)
    MD_LIST(system_derived, MD_SYSTEM_DERIVED)
    #define MD_COUNT_OF(list) (sizeof(list) / sizeof((list)[0]))
    #define MD_ENTRY(name) {#name, md_schema_##name, MD_COUNT_OF(md_schema_##name)}
    static const struct md_schema_list {
        const char *name;
        const struct md_schema_row *rows;
        size_t count;
    } md_schema_lists[] = {
        MD_ENTRY(feeds), MD_ENTRY(feed_histograms), MD_ENTRY(lives), MD_ENTRY(feeds_derived),
        MD_ENTRY(connections), MD_ENTRY(connections_derived), MD_ENTRY(readers),
        MD_ENTRY(reader_histograms), MD_ENTRY(readers_derived), MD_ENTRY(rings_derived),
        MD_ENTRY(limiter_derived), MD_ENTRY(subscriptions), MD_ENTRY(system),
        MD_ENTRY(system_histograms), MD_ENTRY(system_derived),
    };
    enum {
        MD_LIST_COUNT = MD_COUNT_OF(md_schema_lists),
        MD_READER_COUNTER_COUNT = MD_COUNT_OF(md_schema_readers),
        MD_READER_HISTOGRAM_COUNT = MD_COUNT_OF(md_schema_reader_histograms),
        MD_READER_COUNTERS_OFFSET = offsetof(struct md_reader_page, received),
        MD_READER_HISTOGRAMS_OFFSET = offsetof(struct md_reader_page, recv_to_handler),
        MD_SUPERVISOR_NUMBER_COUNT = MD_COUNT_OF(md_schema_system) +
                                     MD_COUNT_OF(md_schema_subscriptions),
        MD_LIFE_NUMBER_COUNT = MD_COUNT_OF(md_schema_lives),
        MD_BUCKET_COUNT = MD_HISTOGRAM_BUCKETS
    };
    """
    struct md_schema_row:
        const char *field
        const char *type
        const char *family
        const char *labels
        const char *help
    struct md_schema_list:
        const char *name
        const md_schema_row *rows
        size_t count
    const md_schema_list *md_schema_lists
    const md_schema_row *md_schema_readers
    const md_schema_row *md_schema_reader_histograms
    int MD_LIST_COUNT
    int MD_READER_COUNTER_COUNT
    int MD_READER_HISTOGRAM_COUNT
    int MD_READER_COUNTERS_OFFSET
    int MD_READER_HISTOGRAMS_OFFSET
    int MD_SUPERVISOR_NUMBER_COUNT
    int MD_LIFE_NUMBER_COUNT
    int MD_BUCKET_COUNT
