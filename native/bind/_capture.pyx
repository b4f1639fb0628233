# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Captured frames: the recorder's end of the ring, and the decoders run over what it has kept.

`CaptureRing` drains what a feed copies (native/src/capture.h). `Engine` runs entries through the
same C functions that the feed ran, into rings in private memory, whose records go to a `Sink`, or
into the rings of an instance of its own.
"""

import json
from collections.abc import Callable

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memmove, memset

import numpy as np

from mdsys.errors import LayoutError, MdsysError
from mdsys.record.record import TICK


cdef extern from "feed.h" nogil:
    ctypedef int md_frame_result "enum md_frame_result"
    const int MD_FRAME_MALFORMED
    const int MD_FRAME_TOO_LONG
    const int MD_FRAME_OK
    const int MD_FRAME_CONTROL
    const int MD_FRAME_VALUE
    struct md_record:
        uint32_t symbol_id
        uint8_t kind
    const int MD_KIND_STATUS
    struct md_ring_header:
        pass
    struct md_ring_writer:
        uint64_t mask
        uint64_t next
        md_ring_header *header
    struct md_cell:
        uint32_t symbol_id
        md_record trade
        md_record quote
    struct md_counter_block:
        pass
    struct md_cache_header:
        pass
    md_cell *md_cache_cell(const md_cache_header *cache, uint32_t symbol_id)
    struct md_audience:
        pass
    struct md_book:
        pass
    struct md_feed_symbol:
        uint32_t symbol_id
        uint8_t price_decimals, size_decimals
        md_book *book
    struct md_connection:
        uint32_t number
        uint32_t socket
        uint64_t sequence
    struct md_feed:
        md_audience *audiences
        uint32_t channels
        uint32_t overlapping
        bint books_by_rest
        uint32_t wish_count
    ctypedef md_frame_result (*md_decode_fn)(
        md_feed *feed, const char *frame, size_t size, int64_t ts_recv,
        md_connection *connection) nogil
    const uint32_t MD_FRAME_SIZE_MAX
    int md_feed_init(md_feed *feed, md_ring_writer *rings, uint32_t ring_count,
                     md_counter_block *counters, uint32_t symbol_count)
    void md_feed_free(md_feed *feed)
    int md_feed_add_symbol(md_feed *feed, const char *name, size_t size, uint32_t symbol_id,
                           uint32_t ring, unsigned price_scale, unsigned size_scale, md_cell *cell)
    md_feed_symbol *md_feed_find_symbol(md_feed *feed, const char *name, size_t size)
    void md_ring_publish(md_ring_writer *w, const md_record *record)


cdef extern from "publish.h" nogil:
    void md_book_expect(md_feed *feed, md_feed_symbol *symbol, const md_connection *connection)
    void md_book_unsync_socket(md_feed *feed, const md_connection *connection, int64_t ts_recv,
                               bint ended)


cdef extern from "book_snapshot.h" nogil:
    md_frame_result md_book_snapshot_json(
        md_feed *feed, md_feed_symbol *symbol, const md_connection *connection, const char *body,
        size_t size, uint32_t asked, int64_t ts_recv)


cdef extern from "decoders.h" nogil:
    md_decode_fn md_decoder_named(const char *name)


cdef extern from "capture_state.h" nogil:
    const uint64_t MD_CAPTURE_MAGIC
    const uint64_t MD_CAPTURE_SIZE_MIN
    const uint32_t MD_CAPTURE_TEXT, MD_CAPTURE_BINARY, MD_CAPTURE_RECORD, MD_CAPTURE_SNAPSHOT
    const uint32_t MD_CAPTURE_SOCKET, MD_CAPTURE_BEGIN, MD_CAPTURE_VENUE, MD_CAPTURE_SYMBOL
    const uint32_t MD_CAPTURE_BOOK, MD_CAPTURE_LINK, MD_CAPTURE_OVERLAP, MD_CAPTURE_EXPECT
    struct md_capture_entry:
        uint32_t size
        uint32_t kind
        uint64_t number
        int64_t ts_recv
        uint32_t connection
        uint32_t socket
    struct md_capture_header:
        uint64_t magic, size, data_offset, head, number, lost_entries, lost_bytes, tail
    struct md_capture_symbol:
        uint32_t symbol_id, ring
        uint8_t price_scale, size_scale, name_size, wire_size
        md_record trade, quote
    struct md_capture_book:
        uint32_t symbol_id
    struct md_capture_link:
        uint32_t venue
    const size_t MD_CAPTURE_LINK_SIZE_MIN
    bint md_capture_symbol_is_whole(const md_capture_symbol *state, size_t size)
    bint md_replay_symbol(md_feed_symbol *symbol, const md_capture_symbol *state, size_t size)
    bint md_replay_book(md_feed_symbol *symbol, const md_capture_book *state, size_t size)
    bint md_replay_link(md_connection *socket, const md_capture_link *state, size_t size)
    uint64_t md_load_acquire_u64(const uint64_t *at)
    uint64_t md_load_relaxed_u64(const uint64_t *at)
    void md_store_release_u64(uint64_t *at, uint64_t value)


cdef extern from "tap.h" nogil:
    struct md_sink:
        md_record *records
        size_t count
        const uint64_t *symbols
        uint64_t symbols_size
        bint open
        bint failed
    struct md_tap:
        uint64_t drained
        uint64_t published
        uint64_t left
        bint wanted
    int md_tap_create(md_ring_writer *writer, uint64_t depth, md_sink *sink)
    void md_tap_rewind(md_ring_writer *writer)
    void md_tap_destroy(md_ring_writer *writer)


cdef extern from *:
    """
    #include <stdlib.h>
    static void *md_lines(size_t count, size_t size) { /* zeroed, on a cache line */
        void *at = aligned_alloc(64, count * size);
        return at == NULL ? NULL : memset(at, 0, count * size);
    }
    """
    void *md_lines(size_t count, size_t size) nogil


cdef enum:
    HEADER_SIZE = 4096
    SOCKETS_MAX = 1 << 22     # of one process's life
    SINK_ENOUGH = 1 << 15     # records; then whoever reads shall take some
    LIVE_ENOUGH = 64          # records; then whoever publishes shall look after the readers
    LOSS = 101                # mdsys.capture.format.Kind


ENTRY_SIZE = sizeof(md_capture_entry)
RING_SIZE_MIN = MD_CAPTURE_SIZE_MIN
UNKNOWN = 0xffffffffffffffff


# ---- recording ------------------------------------------------------------------------------------


cdef class CaptureRing:
    """The recorder's end of one feed's ring.

    Args:
        memory: A writable mapping of the whole of it.

    Raises:
        LayoutError: It is none.
    """

    cdef unsigned char[::1] memory
    cdef md_capture_header *header
    cdef const char *data
    cdef uint64_t mask
    cdef uint64_t tail
    cdef uint64_t number  # of the next entry; 0: whichever

    def __cinit__(self, memory):
        self.memory = memory
        self.header = <md_capture_header *>&self.memory[0]
        cdef uint64_t size = 0
        if len(self.memory) >= HEADER_SIZE:
            size = self.header.size
        if (size < MD_CAPTURE_SIZE_MIN or size & (size - 1) or self.header.magic != MD_CAPTURE_MAGIC
                or self.header.data_offset != HEADER_SIZE
                or size > <uint64_t>len(self.memory) - HEADER_SIZE):
            raise LayoutError("not a ring for captured frames")
        self.mask = size - 1
        self.data = <const char *>&self.memory[0] + HEADER_SIZE
        self.tail = self.header.tail

    @staticmethod
    def create(memory, uint64_t size):
        """Lay a ring out in zeroed memory of HEADER_SIZE + size bytes; size: a power of 2."""
        cdef unsigned char[::1] view = memory
        if (size < MD_CAPTURE_SIZE_MIN or size & (size - 1)
                or <uint64_t>len(view) < HEADER_SIZE + size):
            raise ValueError(f"{size} bytes: a power of 2, at least {MD_CAPTURE_SIZE_MIN}")
        header = <md_capture_header *>&view[0]
        header.size = size
        header.data_offset = HEADER_SIZE
        header.magic = MD_CAPTURE_MAGIC

    @property
    def lost(self) -> tuple[int, int]:
        """Entries, and bytes of frames, that found no room; a feed's restart does not set it back."""
        return (md_load_relaxed_u64(&self.header.lost_entries),
                md_load_relaxed_u64(&self.header.lost_bytes))

    @property
    def used(self) -> int:
        """Bytes that wait."""
        return min(md_load_acquire_u64(&self.header.head) - self.tail, self.mask + 1)

    cdef void copy(self, uint64_t at, char *to, size_t size) noexcept:
        cdef uint64_t place = at & self.mask
        cdef size_t first = <size_t>min(<uint64_t>size, self.mask + 1 - place)
        memcpy(to, self.data + place, first)
        memcpy(to + first, self.data, size - first)

    def drain(self, uint64_t size_max):
        """Take entries out, all of them whole.

        Args:
            size_max: About how many bytes at most; one entry is given whatever its size.

        Returns:
            (entries as they stand in the ring, how many frames of a venue are among them, how many
            entries are missing before the first, whether the first is a BEGIN). A BEGIN is always
            the first, as is what comes after a gap.

        Raises:
            LayoutError: No feed has written this.
        """
        cdef uint64_t head = md_load_acquire_u64(&self.header.head)  # L1
        cdef uint64_t at = self.tail, size = 0, frames = 0, missing = 0
        cdef md_capture_entry entry
        cdef bint begins = False
        if head - at > self.mask + 1:
            raise LayoutError("the ring for captured frames is damaged")
        while at != head:
            if head - at < sizeof(entry):
                raise LayoutError("the ring for captured frames is damaged")
            self.copy(at, <char *>&entry, sizeof(entry))
            size = sizeof(entry) + ((<uint64_t>entry.size + 7) & ~<uint64_t>7)
            if size > head - at:
                raise LayoutError("the ring for captured frames is damaged")
            if self.number != 0 and entry.number != self.number:
                if at != self.tail:
                    break
                missing = entry.number - self.number
            if entry.kind == MD_CAPTURE_BEGIN:
                if at != self.tail:
                    break
                begins = True
            if at != self.tail and at + size - self.tail > size_max:
                break
            at += size
            frames += entry.kind == MD_CAPTURE_TEXT or entry.kind == MD_CAPTURE_BINARY
            self.number = entry.number + 1
        out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(at - self.tail))
        self.copy(self.tail, PyBytes_AS_STRING(out), <size_t>(at - self.tail))  # L2
        self.tail = at
        md_store_release_u64(&self.header.tail, at)  # L3
        return out, frames, missing, begins


# ---- replaying ------------------------------------------------------------------------------------


cdef class Sink:
    """Where the engines of one reader put records.

    Args:
        symbols: Ids whose records are wanted; None: all. Statuses always are.
    """

    cdef md_sink sink
    cdef uint64_t[::1] bitmap
    cdef size_t taken

    def __cinit__(self, symbols=None):
        memset(&self.sink, 0, sizeof(self.sink))
        self.sink.open = True
        self.want(symbols)

    def want(self, symbols):
        """Take these symbols' records from now on."""
        if symbols is None:
            self.sink.symbols = NULL
            return
        self.bitmap = np.zeros(max(symbols, default=0) // 64 + 1, np.uint64)
        for symbol_id in symbols:
            self.bitmap[<Py_ssize_t>(symbol_id // 64)] |= <uint64_t>1 << <uint64_t>(symbol_id % 64)
        self.sink.symbols = &self.bitmap[0]
        self.sink.symbols_size = 64 * <uint64_t>len(self.bitmap)

    def __dealloc__(self):
        free(self.sink.records)

    @property
    def open(self) -> bool:
        """Whether records are taken at all."""
        return self.sink.open

    @open.setter
    def open(self, bint value):
        self.sink.open = value

    def __len__(self):
        return self.sink.count - self.taken

    def take_into(self, out) -> int:
        """Move records to the front of ``out``, an array of TICK; return how many."""
        cdef unsigned char[::1] to = out.view(np.uint8) if len(out) else None
        cdef size_t count = min(self.sink.count - self.taken, <size_t>len(out))
        if self.sink.failed:
            raise MemoryError
        if count:
            memcpy(&to[0], self.sink.records + self.taken, count * sizeof(md_record_whole))
            self.taken += count
        if self.taken == self.sink.count:
            self.taken = self.sink.count = 0
        return count


cdef extern from "mdsys/record.h" nogil:
    ctypedef struct md_record_whole "struct md_record":
        pass


cdef struct Place:  # of a socket
    md_connection socket
    uint32_t venue


cdef class _Venue:
    """One venue as its feed had it."""

    cdef md_feed feed
    cdef md_decode_fn decode
    cdef str name
    cdef str decoder
    cdef bint binary
    cdef dict by_id    # recorded id -> on the wire
    cdef dict by_name  # the venue's own name -> on the wire
    cdef list cells    # addresses of those that are ours

    def __cinit__(self):
        self.by_id = {}
        self.by_name = {}
        self.cells = []

    def __dealloc__(self):
        md_feed_free(&self.feed)
        for address in self.cells:
            free(<void *><size_t>address)

    cdef md_feed_symbol *of_id(self, uint32_t symbol_id) noexcept:
        cdef bytes wire = self.by_id.get(symbol_id, b"")
        return md_feed_find_symbol(&self.feed, wire, <size_t>len(wire))


cdef class Engine:
    """One feed's entries -> records.

    Args:
        on_begin: Called with the JSON of each BEGIN; returns ring -> how many records it got until
            the next process took it over, as far as that is known, and whether the process is
            the one that was before.
        on_symbol: Called with (VENUE:NAME, id, ring's number, price_scale, size_scale) of each new
            symbol; returns (its id in the records, the address of its cell, 0 for one of ours), or
            None when it shall not be there.
        sink: Takes the records; None with ``feed``.
        rings: Of these numbers alone records are wanted; None: of all.
        feed: (address of ring writers, of audiences, of counters, numbers of rings) to publish into.
    """

    cdef object on_begin, on_symbol
    cdef readonly Sink sink
    cdef object wanted
    cdef bint live
    cdef md_ring_writer *rings
    cdef md_audience *audiences
    cdef md_counter_block *counters
    cdef list numbers  # of the rings
    cdef size_t tap_count  # of the rings those that are ours; counted apart: gc may clear lists
    cdef dict ids      # recorded -> ours
    cdef list venues
    cdef Place *places
    cdef uint32_t places_size
    cdef list position  # of each ring: its sequence at the last BEGIN, and the tap's then
    cdef readonly int64_t clock_ns
    cdef readonly int64_t next_ns
    cdef readonly uint32_t next_connection
    cdef readonly uint64_t frames
    cdef readonly uint64_t ignored
    cdef readonly uint64_t skipped
    cdef readonly uint64_t mismatches
    cdef readonly uint64_t lost
    cdef public bint broken
    """Entries are missing since the last BEGIN: counts need not agree."""

    def __cinit__(self, on_begin, on_symbol, Sink sink=None, rings=None, feed=None):
        self.on_begin = on_begin
        self.on_symbol = on_symbol
        self.sink = sink
        self.wanted = rings
        self.venues = []
        self.numbers = []
        self.ids = {}
        self.position = []
        self.clock_ns = 0
        self.live = feed is not None
        if self.live:
            writers, audiences, counters, self.numbers = feed
            self.rings = <md_ring_writer *><size_t>writers
            self.audiences = <md_audience *><size_t>audiences
            self.counters = <md_counter_block *><size_t>counters
        else:
            self.counters = <md_counter_block *>md_lines(1, COUNTERS_SIZE)
            if self.counters == NULL:
                raise MemoryError

    def __dealloc__(self):
        self.free_rings()
        if not self.live:
            free(self.counters)
        free(self.places)

    cdef void free_rings(self) noexcept:
        cdef size_t i
        if not self.live and self.rings != NULL:
            for i in range(self.tap_count):
                md_tap_destroy(&self.rings[i])
            free(self.rings)
            self.rings = NULL
            self.tap_count = 0

    cdef md_tap *tap(self, size_t place) noexcept:
        return <md_tap *>self.rings[place].header

    def peek(self, bytes data not None, Py_ssize_t offset):
        """Look at the entry at ``offset``: `next_ns` and `next_connection` are its place in order."""
        cdef const md_capture_entry *entry = <const md_capture_entry *>(
            PyBytes_AS_STRING(data) + offset)
        self.next_ns = max(entry.ts_recv, self.clock_ns)
        self.next_connection = entry.connection

    def run(self, bytes data not None, Py_ssize_t offset, int64_t until_ns,
            uint32_t until_connection):
        """Decode entries up to a place in the order of all: those up to (until_ns,
        until_connection), this included.

        Args:
            data: Whole entries.
            offset: Of the first that is not decoded yet.

        Returns:
            The offset behind the last that is.

        Raises:
            LayoutError: An entry holds nonsense.
        """
        cdef const char *base = PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = len(data)
        cdef const md_capture_entry *entry
        cdef const char *payload
        cdef int64_t at_ns
        cdef uint64_t begun = self.published()
        while offset < size:
            entry = <const md_capture_entry *>(base + offset)
            payload = base + offset + sizeof(md_capture_entry)
            at_ns = max(entry.ts_recv, self.clock_ns)
            if at_ns > until_ns or (at_ns == until_ns and entry.connection > until_connection):
                self.next_ns = at_ns
                self.next_connection = entry.connection
                break
            self.clock_ns = at_ns
            if entry.kind == MD_CAPTURE_TEXT or entry.kind == MD_CAPTURE_BINARY:
                self.frame(entry, payload)
            else:
                self.other(entry, payload)
            offset += sizeof(md_capture_entry) + ((<Py_ssize_t>entry.size + 7) & ~<Py_ssize_t>7)
            if self.live:
                if self.published() - begun >= LIVE_ENOUGH:
                    if offset < size:
                        self.peek(data, offset)
                    break
            else:
                self.drain()
                if self.sink.sink.count - self.sink.taken > SINK_ENOUGH:
                    if offset < size:
                        self.peek(data, offset)
                    break
        return offset

    cdef uint64_t published(self) noexcept:
        """Records of all rings so far; 0 where they are ours."""
        cdef uint64_t count = 0
        cdef size_t i
        if self.live:
            for i in range(<size_t>len(self.numbers)):
                count += self.rings[i].next
        return count

    cdef void drain(self) noexcept:
        cdef size_t i
        for i in range(<size_t>len(self.numbers)):
            if self.rings[i].next != self.tap(i).drained:
                md_tap_rewind(&self.rings[i])

    cdef Place *place(self, uint32_t number) noexcept:
        """A socket that is up, or NULL."""
        if number >= self.places_size or self.places[number].socket.socket == 0:
            return NULL
        return &self.places[number]

    cdef int frame(self, const md_capture_entry *entry, const char *payload) except -1:
        cdef Place *place = self.place(entry.socket)
        cdef _Venue venue
        if place == NULL:
            self.skipped += 1  # entries are missing
            return 0
        venue = self.venues[place.venue]
        if (entry.kind == MD_CAPTURE_BINARY) != venue.binary:
            return 0  # control
        self.frames += 1
        venue.feed.wish_count = 0
        result = venue.decode(&venue.feed, payload, entry.size, entry.ts_recv, &place.socket)
        if (result != MD_FRAME_OK and result != MD_FRAME_CONTROL
                and result != MD_FRAME_VALUE  # the decoder has told of it in the ring
                and (self.live or self.sink.sink.open)):
            self.ignored += 1
        if ((result == MD_FRAME_MALFORMED or result == MD_FRAME_TOO_LONG)
                and not venue.feed.books_by_rest):  # as FrameListener.tear
            md_book_unsync_socket(&venue.feed, &place.socket, entry.ts_recv, False)
        return 0

    cdef other(self, const md_capture_entry *entry, const char *payload):
        cdef Place *place
        cdef _Venue venue
        cdef md_feed_symbol *symbol
        cdef uint32_t kind = entry.kind, size = entry.size, symbol_id
        if kind == MD_CAPTURE_RECORD:
            self.record(entry, payload)
        elif kind == MD_CAPTURE_SNAPSHOT:
            self.snapshot(entry, payload)
        elif kind == MD_CAPTURE_SOCKET:
            place = self.place(entry.socket)
            if size == 4 and place != NULL:
                venue = self.venues[place.venue]
                md_book_unsync_socket(&venue.feed, &place.socket, entry.ts_recv, True)
                place.socket.socket = 0
        elif kind == LOSS:
            self.broken = True
            self.lost += json.loads(payload[:size])["entries"]
        elif kind == MD_CAPTURE_BEGIN:
            self.begin(payload[:size])
        elif kind == MD_CAPTURE_VENUE:
            self.add_venue(entry.connection, payload[:size])
        elif kind == MD_CAPTURE_SYMBOL:
            self.add_symbol(entry, <const md_capture_symbol *>payload)
        elif kind == MD_CAPTURE_BOOK:
            venue = self.venue(entry.connection)
            if size < sizeof(md_capture_book):
                raise LayoutError("a captured book is cut")
            symbol = venue.of_id((<const md_capture_book *>payload).symbol_id)
            if symbol != NULL and not md_replay_book(symbol, <const md_capture_book *>payload, size):
                raise LayoutError("a captured book is damaged")
        elif kind == MD_CAPTURE_LINK:
            self.link(entry, <const md_capture_link *>payload)
        elif kind == MD_CAPTURE_OVERLAP and size == 4:
            venue = self.venue(entry.connection)
            venue.feed.overlapping = (<const uint32_t *>payload)[0]
        elif kind == MD_CAPTURE_EXPECT:
            place = self.place(entry.socket)
            if place == NULL:
                return
            venue = self.venues[place.venue]
            for i in range(size // 4):
                symbol = venue.of_id((<const uint32_t *>payload)[<size_t>i])
                if symbol != NULL:
                    md_book_expect(&venue.feed, symbol, &place.socket)

    cdef _Venue venue(self, uint32_t index):
        if index >= <uint32_t>len(self.venues):
            raise LayoutError(f"captured frames of venue {index}, which nothing tells of")
        return self.venues[index]

    cdef record(self, const md_capture_entry *entry, const char *payload):
        cdef md_record_whole whole
        cdef md_record *record = <md_record *>&whole
        if entry.size != sizeof(whole) or entry.connection >= <uint32_t>len(self.numbers):
            raise LayoutError("a captured record is damaged")
        memcpy(&whole, payload, sizeof(whole))
        if self.live:
            if record.kind != MD_KIND_STATUS:
                return  # it came by a frame before, and a killed feed published it late
            symbol_id = self.ids.get(record.symbol_id) if record.symbol_id else 0
            if symbol_id is None:
                return
            record.symbol_id = <uint32_t>symbol_id
        md_ring_publish(&self.rings[entry.connection], record)

    cdef snapshot(self, const md_capture_entry *entry, const char *payload):
        cdef bytes text = payload[:entry.size], wire, body
        cdef _Venue venue = self.venue(entry.socket)
        cdef md_connection by
        cdef md_feed_symbol *symbol
        name, _, rest = text.partition(b"\n")
        asked, _, body = rest.partition(b"\n")
        wire = venue.by_name.get(name.decode(errors="replace"), b"")
        symbol = md_feed_find_symbol(&venue.feed, wire, <size_t>len(wire))
        if symbol == NULL or not asked.isdigit():
            return
        memset(&by, 0, sizeof(by))
        by.number = entry.connection
        md_book_snapshot_json(&venue.feed, symbol, &by, body, <size_t>len(body),
                              <uint32_t>min(int(asked), 1 << 31), entry.ts_recv)

    cdef begin(self, bytes payload):
        cdef size_t i
        told = json.loads(payload)
        left, same = self.on_begin(told)
        rings = [(each["ring"], each["depth"]) for each in told["rings"]]
        if len(rings) > 256:
            raise LayoutError(f"{len(rings)} captured rings")
        if not same:
            if self.places != NULL:
                memset(self.places, 0, self.places_size * sizeof(Place))
            self.venues = []
        if self.live:
            return
        self.compare(told["rings"], same)
        self.broken = False
        if not same or [number for number, _ in rings] != self.numbers:
            self.free_rings()
            self.numbers = []
            self.rings = <md_ring_writer *>calloc(max(len(rings), 1), sizeof(md_ring_writer))
            if self.rings == NULL:
                raise MemoryError
            for number, depth in rings:
                if not 64 <= depth <= 1 << 24 or depth & (depth - 1):
                    raise LayoutError(f"a captured ring of {depth} records")
                if md_tap_create(&self.rings[len(self.numbers)], depth, &self.sink.sink) != 0:
                    raise MemoryError
                self.tap_count += 1
                self.tap(<size_t>len(self.numbers)).wanted = (
                    self.wanted is None or number in self.wanted)
                self.numbers.append(number)
        self.position = []
        for i, each in enumerate(told["rings"]):
            self.tap(i).left = left.get(each["ring"], UNKNOWN)
            self.position.append((each["next"], self.tap(i).published))

    cdef compare(self, rings, bint same):
        """Count the rings in which the feed has published other than we have."""
        if self.broken or not self.position or len(rings) != len(self.position):
            return
        for i, each in enumerate(rings):
            then, published = self.position[i]
            decoded = self.tap(<size_t>i).published - published
            if same:
                self.mismatches += each["next"] - then != decoded
            else:  # all that it had published, and no more than a frame that it had not
                self.mismatches += each["first"] - then > decoded

    cdef add_venue(self, uint32_t index, bytes payload):
        told = json.loads(payload)
        cdef _Venue venue
        if index < <uint32_t>len(self.venues):
            return
        if index != <uint32_t>len(self.venues):
            raise LayoutError(f"captured frames of venue {index}, but of none before it")
        if told["decoder"] is None:
            raise MdsysError(f"{told['venue']}: frames of a decoder in Python cannot be replayed")
        venue = _Venue()
        venue.name = told["venue"]
        venue.decoder = told["decoder"]
        venue.binary = told["binary"]
        venue.decode = md_decoder_named(told["decoder"].encode())
        if venue.decode == NULL:
            raise MdsysError(f"{venue.name}: there is no decoder {venue.decoder} in this mdsys")
        if md_feed_init(&venue.feed, self.rings, <uint32_t>len(self.numbers), self.counters, 16):
            raise MemoryError
        venue.feed.audiences = self.audiences
        venue.feed.channels = told["channels"]
        venue.feed.books_by_rest = told["books_by_rest"]
        self.venues.append(venue)

    cdef add_symbol(self, const md_capture_entry *entry, const md_capture_symbol *state):
        cdef _Venue venue = self.venue(entry.connection)
        cdef const char *names = <const char *>state + sizeof(md_capture_symbol)
        cdef md_feed_symbol *symbol
        cdef md_cell *cell
        cdef bytes wire
        if (not md_capture_symbol_is_whole(state, entry.size)
                or state.ring >= <uint32_t>len(self.numbers)):
            raise LayoutError("a captured symbol is damaged")
        wire = names[state.name_size:<Py_ssize_t>state.name_size + state.wire_size]
        symbol = md_feed_find_symbol(&venue.feed, wire, <size_t>len(wire))
        if symbol == NULL:
            name = names[:state.name_size].decode(errors="replace")
            found = self.on_symbol(f"{venue.name}:{name}", state.symbol_id,
                                   self.numbers[state.ring], state.price_scale, state.size_scale)
            if found is None:
                return
            symbol_id, address = found
            if address == 0:
                address = <size_t>md_lines(1, CELL_SIZE)
                if address == 0:
                    raise MemoryError
                venue.cells.append(address)
            cell = <md_cell *><size_t>address
            if md_feed_add_symbol(&venue.feed, wire, <size_t>len(wire), symbol_id, state.ring,
                                  state.price_scale, state.size_scale, cell) != 0:
                raise LayoutError(f"the captured symbol {name} cannot be added")
            self.ids[state.symbol_id] = symbol_id
            venue.by_id[state.symbol_id] = wire
            venue.by_name[name] = wire
            symbol = md_feed_find_symbol(&venue.feed, wire, <size_t>len(wire))
            if not self.live:
                memcpy(&cell.trade, &state.trade, sizeof(md_record_whole))
                memcpy(&cell.quote, &state.quote, sizeof(md_record_whole))
        if not md_replay_symbol(symbol, state, entry.size):
            raise LayoutError("a captured symbol is damaged")
        if venue.decoder.startswith("binance"):  # a guess of what comes, and never above 8
            symbol.price_decimals = min(symbol.price_decimals, 8)
            symbol.size_decimals = min(symbol.size_decimals, 8)

    cdef link(self, const md_capture_entry *entry, const md_capture_link *link):
        cdef uint32_t size
        cdef Place *places
        if (entry.size < MD_CAPTURE_LINK_SIZE_MIN or entry.socket > SOCKETS_MAX
                or entry.socket == 0):
            raise LayoutError("a captured socket is damaged")
        self.venue(link.venue)
        if entry.socket >= self.places_size:
            size = max(2 * self.places_size, entry.socket + 1, 64)
            places = <Place *>realloc(self.places, size * sizeof(Place))
            if places == NULL:
                raise MemoryError
            memset(places + self.places_size, 0, (size - self.places_size) * sizeof(Place))
            self.places = places
            self.places_size = size
        memset(&self.places[entry.socket], 0, sizeof(Place))
        self.places[entry.socket].venue = link.venue
        self.places[entry.socket].socket.number = entry.connection
        self.places[entry.socket].socket.socket = entry.socket
        if not md_replay_link(&self.places[entry.socket].socket, link, entry.size):
            raise LayoutError("a captured socket is damaged")


cdef extern from *:
    """
    #define MD_COUNTERS_SIZE ((sizeof(struct md_counter_block) + 63) / 64 * 64)
    #define MD_CELL_BYTES sizeof(struct md_cell)
    """
    const size_t COUNTERS_SIZE "MD_COUNTERS_SIZE"
    const size_t CELL_SIZE "MD_CELL_BYTES"


def cell_address(cache, uint32_t symbol_id) -> int:
    """Return where a symbol's cell of a writable cache stands."""
    if not cache.writable or symbol_id == 0 or symbol_id > cache.capacity:
        raise ValueError(f"no cell {symbol_id} to write")
    return <size_t>md_cache_cell(<md_cache_header *><size_t>cache.address, symbol_id)


def check_entries(bytes data not None) -> int:
    """Return how many bytes at the front of ``data`` are whole entries.

    Raises:
        LayoutError: There is something else.
    """
    cdef const char *base = PyBytes_AS_STRING(data)
    cdef uint64_t at = 0, size, end = <uint64_t>len(data)
    cdef const md_capture_entry *entry
    while end - at >= sizeof(md_capture_entry):
        entry = <const md_capture_entry *>(base + at)
        if entry.kind == 0 or entry.kind > 0xffff:
            raise LayoutError("no captured entry")
        size = sizeof(md_capture_entry) + ((<uint64_t>entry.size + 7) & ~<uint64_t>7)
        if size > end - at:
            break
        at += size
    return at


def entry_at(bytes data not None, Py_ssize_t offset):
    """Return (kind, number, ts_recv, connection, socket, payload's size) of an entry."""
    cdef const md_capture_entry *entry = <const md_capture_entry *>(
        PyBytes_AS_STRING(data) + offset)
    return entry.kind, entry.number, entry.ts_recv, entry.connection, entry.socket, entry.size


def stories_in(bytes data not None) -> list:
    """Return what BEGIN, VENUE, SYMBOL and END entries tell: ("begin", JSON), ("venue", its index,
    JSON), ("symbol", the venue's index, name, id, ring's index, price_scale, size_scale)."""
    cdef const char *base = PyBytes_AS_STRING(data)
    cdef Py_ssize_t at = 0, size = len(data)
    cdef const md_capture_entry *entry
    cdef const md_capture_symbol *symbol
    cdef const char *payload
    found = []
    while at < size:
        entry = <const md_capture_entry *>(base + at)
        payload = base + at + sizeof(md_capture_entry)
        if entry.kind == MD_CAPTURE_BEGIN:
            found.append(("begin", json.loads(payload[:entry.size])))
        elif entry.kind == MD_CAPTURE_VENUE:
            found.append(("venue", entry.connection, json.loads(payload[:entry.size])))
        elif entry.kind == MD_CAPTURE_SYMBOL:
            symbol = <const md_capture_symbol *>payload
            if not md_capture_symbol_is_whole(symbol, entry.size):
                raise LayoutError("a captured symbol is damaged")
            name = payload[sizeof(md_capture_symbol):
                           <Py_ssize_t>sizeof(md_capture_symbol) + symbol.name_size]
            found.append(("symbol", entry.connection, name.decode(errors="replace"),
                          symbol.symbol_id, symbol.ring, symbol.price_scale, symbol.size_scale))
        at += sizeof(md_capture_entry) + ((<Py_ssize_t>entry.size + 7) & ~<Py_ssize_t>7)
    return found
