# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The feed process's native side: what it writes, and the picows listener.

The usual frame goes from Intake to the venue's decoder and into the ring; any other goes through
picows to FrameListener.on_ws_frame. Nothing is allocated per market-data frame: the first way makes
one memoryview a read, and picows recycles its WSFrame. What picows 2.3.1 leaves to its user is done
here:

- Fragments arrive one by one: `fragment` joins them, up to MD_FRAME_SIZE_MAX.
- RSV bits are not looked at: `unusual` closes with 1002.
- Frames behind a CLOSE arrive like any other: `closing` drops them.
- Its auto-pong swallows the PING, and with it the mark that ends a read buffer: it is off, and
  `end_read` answers the read's last PING (RFC 6455 5.5.3 allows the last only), and none
  while the peer takes nothing. A storm of PINGs costs neither memory nor the message limit.
- Its read buffer grows without bound behind a firehose: `Intake` bounds each read.
- CLOSE may bear no code, or one that must not be sent: the answer is always 1000.
- Its parser closes by itself when a frame is over the size bound, or broken, and then goes on: for
  10 ms it still delivers, even the refused frame. It parses one frame ahead, so the good one before
  comes behind that CLOSE too. `picows_closed` tells them apart; `on_ws_disconnected` counts.
"""

import asyncio
import logging
import socket
from json import dumps
from os import getpid

from cpython.buffer cimport PyBUF_WRITE
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory, PyMemoryView_GET_BUFFER
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove, memset, strlen

from picows.picows cimport WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from mdsys._native import ReaderPage
from mdsys.feed.pins import check_pins

check_pins()

cdef extern from *:
    bint likely(bint) nogil
    bint unlikely(bint) nogil


cdef extern from "time.h" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *out)
    int CLOCK_REALTIME
    int CLOCK_MONOTONIC


cdef extern from "feed.h" nogil:
    ctypedef int md_frame_result "enum md_frame_result"
    const int MD_FRAME_OK
    const int MD_FRAME_CONTROL
    const int MD_FRAME_MALFORMED
    const int MD_FRAME_UNKNOWN_EVENT
    const int MD_FRAME_UNKNOWN_SYMBOL
    const int MD_FRAME_VALUE
    const int MD_FRAME_TOO_LONG
    const uint32_t MD_FRAME_SIZE_MAX
    ctypedef int md_status "enum md_status"
    const int MD_STATUS_CONNECTION_UP
    const int MD_STATUS_CONNECTION_DOWN
    const int MD_STATUS_FRAME_REFUSED
    const int MD_STATUS_SYMBOL_REFUSED
    const int MD_STATUS_GAP
    const int MD_STATUS_STALE
    const int MD_STATUS_RESYNC
    const int MD_STATUS_WRITER_RESTARTED
    const int MD_KIND_TRADE
    const int MD_KIND_QUOTE
    const int MD_KIND_TICKER
    const int MD_KIND_LEVEL
    const int MD_KIND_BAR
    const int MD_KIND_BAR_VOLUME
    const int MD_KIND_STATUS
    const int MD_FLAG_SNAPSHOT
    const int MD_FLAG_LAST
    const int MD_FLAG_SIDE_MASK
    ctypedef int md_kind "enum md_kind"
    ctypedef int md_cache_part "enum md_cache_part"
    const int MD_CACHE_TRADE
    const int MD_CACHE_QUOTE
    const int64_t MD_ABSENT
    struct md_segment_header:
        int64_t heartbeat_ns
        uint64_t epoch
        uint32_t index
    struct md_ring_header:
        md_segment_header segment
    struct md_ring_writer:
        md_ring_header *header
        md_slot *slots
        uint64_t mask
        uint64_t next
    struct md_reader_ring:
        pass
    struct md_reader_page:
        md_reader_ring *ring
    struct md_cache_header:
        pass
    struct md_cell:
        uint64_t venue_trade_id, venue_book_id
    struct md_histogram:
        pass
    struct md_counter_block:
        uint64_t bytes, frames, frames_control, frames_malformed, frames_unknown_event
        uint64_t frames_unknown_symbol, frames_value_refused, frames_too_long, frames_binary
        uint64_t frames_protocol, records, pings, connects, connect_failures, disconnects
        uint64_t connections, subscriptions_confirmed, subscriptions_refused, log_suppressed
        uint64_t subscriptions_requested, trades, quotes, gaps, gap_ids, capture_frames
        uint64_t book_snapshots, duplicates, reordered
        uint64_t capture_lost_frames, capture_lost_bytes, capture_size, capture_used
        uint64_t messages_waiting, reports_waiting
        md_histogram recv_to_ring, event_to_recv, recv_to_decode, decode_to_ring, ring_to_flush
    const uint32_t MD_HOP_EVERY
    struct md_ejection:
        uint64_t reader_id
        uint64_t sequence
    struct md_capture:
        pass
    struct md_audience:
        md_capture *capture
        uint32_t ring
    struct md_slot:
        uint64_t seq
        uint64_t word[7]
    struct md_symbols_header:
        pass
    const uint32_t MD_READER_COUNT_MAX
    const int64_t MD_LOSSLESS_WAIT_NS
    void md_audience_init(md_audience *audience, md_ring_writer *writer, md_counter_block *counters,
                          int64_t wait_ns)
    int md_audience_add(md_audience *audience, uint64_t reader_id, const md_reader_ring *place,
                        int lossless)
    void md_audience_share_patience(md_audience *audience, uint64_t reader_id, int64_t *waited_ns)
    void md_audience_remove(md_audience *audience, uint64_t reader_id)
    void md_audience_flush(md_audience *audience, int64_t now_ns)
    uint32_t md_audience_take_ejections(md_audience *audience, md_ejection *out)
    struct md_connection_block:
        uint32_t number
        uint32_t state
        int64_t last_frame_ns
        int64_t last_data_ns
        uint64_t frames, bytes, records, opens
        int64_t offset_ns
    void md_connection_take(md_connection_block *block, uint32_t number)
    void md_connection_name(md_connection_block *block, const char *venue, size_t size)
    void md_connection_set(md_connection_block *block, uint32_t state, int64_t now_ns)
    const uint32_t MD_CONNECTION_VENUE_SIZE
    const uint32_t MD_CONNECTION_COUNT_MAX
    struct md_order_state:
        pass
    struct md_connection:
        uint32_t number
        uint32_t socket
        md_connection_block *block
        uint64_t sequence
        md_order_state order
    struct md_feed_symbol:
        md_cell *cell
        uint32_t symbol_id
        uint32_t book_wanted
    struct md_feed:
        md_counter_block *counters
        md_audience *audiences
        int64_t ts_event
        uint32_t channels
        uint32_t symbol_count
        uint32_t overlapping
        bint books_by_rest
        uint32_t wish_count
        uint32_t *wishes
        md_capture *capture
        uint32_t decoding
        uint32_t until_timed, until_timed_read
    const uint32_t MD_WISH_COUNT_MAX
    ctypedef md_frame_result (*md_decode_fn)(
        md_feed *feed, const char *frame, size_t size, int64_t ts_recv,
        md_connection *connection) nogil
    const md_cell *md_cache_cell(const md_cache_header *cache, uint32_t symbol_id)
    uint64_t md_load_acquire_u64(const uint64_t *at)
    void md_store_release_u64(uint64_t *to, uint64_t value)
    void md_store_relaxed_i64(int64_t *to, int64_t value)
    void md_store_relaxed_u64(uint64_t *to, uint64_t value)
    void md_count(uint64_t *counter, uint64_t by)
    void md_histogram_record(md_histogram *histogram, int64_t ns, uint64_t count)
    int md_feed_init(md_feed *feed, md_ring_writer *rings, uint32_t ring_count,
                     md_counter_block *counters, uint32_t symbol_count)
    void md_feed_free(md_feed *feed)
    int md_feed_add_symbol(md_feed *feed, const char *name, size_t size, uint32_t symbol_id,
                           uint32_t ring, unsigned price_scale, unsigned size_scale, md_cell *cell)
    md_feed_symbol *md_feed_find_symbol(md_feed *feed, const char *name, size_t size)
    void md_feed_publish_status(md_feed *feed, const md_feed_symbol *symbol, md_status what,
                                int64_t first_lost, int64_t last_lost, int64_t connection,
                                int64_t ts_recv)
    void md_feed_flush(md_feed *feed, int64_t now_ns)
    void md_feed_publish(md_feed *feed, const md_feed_symbol *symbol, md_kind kind, unsigned flags,
                         md_cache_part part, int64_t ts_event, int64_t ts_recv, int64_t body0,
                         int64_t body1, int64_t body2, int64_t body3)
    void md_feed_publish_past_cell(md_feed *feed, const md_feed_symbol *symbol, md_kind kind,
                                   unsigned flags, int64_t ts_event, int64_t ts_recv,
                                   int64_t body0, int64_t body1, int64_t body2, int64_t body3)


cdef extern from "publish.h" nogil:
    struct md_levels:
        pass
    struct md_bar:
        int64_t open, high, low, close
        int64_t volume, vwap, trade_count, interval_ns
    void md_publish_quote(md_feed *feed, md_feed_symbol *symbol, int64_t ts_event,
                          int64_t ts_recv, int64_t bid_price, int64_t ask_price, int64_t bid_size,
                          int64_t ask_size, int64_t update_id)
    void md_publish_ticker(md_feed *feed, md_feed_symbol *symbol, int64_t ts_event,
                           int64_t ts_recv, int64_t last_price, int64_t last_size, int64_t volume,
                           int64_t open_interest)
    void md_publish_bar(md_feed *feed, md_feed_symbol *symbol, int64_t ts_event, int64_t ts_recv,
                        const md_bar *bar)
    md_levels md_levels_begin(md_feed *feed, md_feed_symbol *symbol,
                              const md_connection *connection, int64_t ts_event, int64_t ts_recv,
                              int64_t update_id, unsigned flags)
    void md_levels_put(md_levels *levels, unsigned side, int64_t price, int64_t size,
                       int64_t orders)
    void md_levels_end(md_levels *levels)
    void md_book_expect(md_feed *feed, md_feed_symbol *symbol, const md_connection *connection)
    void md_book_unsync(md_feed *feed, md_feed_symbol *symbol, uint32_t connection,
                        int64_t ts_recv)
    void md_book_unsync_socket(md_feed *feed, const md_connection *connection, int64_t ts_recv,
                               bint ended)


cdef extern from "book_snapshot.h" nogil:
    md_frame_result md_book_snapshot_json(
        md_feed *feed, md_feed_symbol *symbol, const md_connection *connection, const char *body,
        size_t size, uint32_t asked, int64_t ts_recv)


cdef extern from "capture_state.h" nogil:
    struct md_capture_link:
        uint32_t venue, reserved
        uint64_t sequence
        md_order_state order
    void md_capture_symbols(md_capture *capture, uint32_t venue, const md_feed *feed,
                            const md_symbols_header *symbols, int64_t now_ns)
    void md_capture_symbol(md_capture *capture, uint32_t venue, const md_feed *feed,
                           const md_feed_symbol *symbol, const md_symbols_header *symbols,
                           int64_t now_ns)
    bint md_capture_books(md_capture *capture, uint32_t venue, const md_feed *feed,
                          uint32_t *place, size_t size_max, int64_t now_ns)


cdef extern from "capture.h" nogil:
    const uint64_t MD_CAPTURE_MAGIC
    const uint64_t MD_CAPTURE_SIZE_MIN
    ctypedef int md_capture_kind "enum md_capture_kind"
    const int MD_CAPTURE_TEXT
    const int MD_CAPTURE_BINARY
    const int MD_CAPTURE_SNAPSHOT
    const int MD_CAPTURE_SOCKET
    const int MD_CAPTURE_RECORD
    const int MD_CAPTURE_BEGIN
    const int MD_CAPTURE_VENUE
    const int MD_CAPTURE_LINK
    const int MD_CAPTURE_OVERLAP
    const int MD_CAPTURE_EXPECT
    struct md_capture_header:
        uint64_t magic, size, data_offset, head, number, lost_entries, lost_bytes, tail
        uint64_t *told
    const uint32_t MD_CAPTURE_RINGS_MAX
    ctypedef struct md_capture_state "struct md_capture":
        md_capture_header *header
        char *data
        uint64_t mask
        uint64_t head
        uint64_t number
        uint64_t lost_entries
        uint64_t lost_bytes
    md_capture_state md_capture_resume(md_capture_header *header, char *data, uint64_t size)
    bint md_capture_put(md_capture *capture, md_capture_kind kind, const void *payload,
                        size_t size, int64_t ts_recv, uint32_t connection,
                        uint32_t socket_number)


cdef extern from "foresee.h" nogil:
    const uint32_t MD_FORESEE_SYMBOLS_MIN
    const uint32_t MD_FORESEE_AHEAD
    const uint32_t MD_FORESEE_CELL
    struct md_foresight:
        const char *marker
        size_t marker_size
    void md_foresee_begin(md_foresight *sight)
    void md_foresee_symbol(const md_feed *feed, md_foresight *sight, const char *frame,
                           size_t size)
    void md_foresee_cell(const md_feed *feed, md_foresight *sight)


cdef extern from "decoders.h" nogil:
    struct md_decoder:
        md_decode_fn decode
        const char *marker
    const md_decoder *md_decoder_find(const char *name)


log = logging.getLogger("mdsys.feed")

cdef double HANG_UP_S = 0.2  # how long our CLOSE may wait for the peer's
cdef Py_ssize_t JOINED_KEPT_SIZE = 1 << 20  # of a fragmented message's room, for the next one
cdef Py_ssize_t READ_SIZE_MAX = 256 << 10  # half of an L2 cache, and of picows' buffer

cdef enum:
    TEXT = 0x81    # a frame's first byte: FIN, no RSV bit, opcode 1
    BINARY = 0x82  # the same, opcode 2
    DATA_FRAME_SIZE_MAX = 4 + 0xffff
    FOREIGN = -1
cdef int64_t LOG_INTERVAL_NS = 1_000_000_000
cdef Py_ssize_t EXCERPT_SIZE = 120


REFUSED_INTERVAL_S = 1.0  # between two statuses that tell of refused frames

# A dead peer is noticed within TCP_USER_TIMEOUT, in ms, whether it owes us an ACK or only silence.
# (Linux: with it set, it and not TCP_KEEPCNT ends a connection whose keep-alive probes go
# unanswered; the two agree here.) All we ever send is subscriptions and pongs: a venue that leaves
# them unread is gone too. Values of tcp(7).
SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 4),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
)


cdef int64_t clock_ns(int clock) noexcept nogil:
    cdef timespec now
    clock_gettime(clock, &now)
    return <int64_t>now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef enum:
    CAPTURE_BOOKS_SIZE = 4 << 20     # about a millisecond's work
    CAPTURE_AGAIN_NS = 1_000_000_000
    RESTARTED_LOOK_MAX = 1 << 16


cdef bint is_restart(const md_ring_writer *ring, uint64_t seq) noexcept:
    """Whether a writer has taken the ring over with this record."""
    cdef const md_slot *slot = &ring.slots[seq & ring.mask]
    return (slot.seq == seq and (slot.word[2] >> 32 & 0xff) == MD_KIND_STATUS
            and slot.word[3] == MD_STATUS_WRITER_RESTARTED)


cdef uint64_t first_own(const md_ring_writer *ring) noexcept:
    """The first sequence that this process has published: its writer_restarted, where there was a
    writer before it."""
    cdef uint64_t seq = ring.next
    cdef uint64_t look = min(min(ring.mask + 1, ring.next - 1), <uint64_t>RESTARTED_LOOK_MAX)
    if ring.header.segment.epoch <= 1:
        return 1
    while look:
        look -= 1
        seq -= 1
        if is_restart(ring, seq):
            return seq
    return ring.next


cdef uint64_t first_untold(const md_ring_writer *ring, uint64_t own, uint64_t told) noexcept:
    """The first sequence in [told, own] at which a writer has taken the ring over, own being this
    one's: those before it were killed before they could tell the recorder of it."""
    cdef uint64_t seq = own - min(own - 1, min(ring.mask + 1, <uint64_t>RESTARTED_LOOK_MAX))
    seq = max(seq, told)
    while seq < own and not is_restart(ring, seq):
        seq += 1
    return min(seq, own)


cdef class Feed:
    """What one feed process writes: its rings and its counter block.

    Args:
        rings: Writers that have taken their rings over, by ring number. They are this object's
            from now on: nothing else may publish through them.
        counters: The counters segment.
        feed: Index of this process's block in it.
        lossless_wait_ns: Most that each lossless reader of a ring is waited for between two flushes.
    """

    cdef object writers
    cdef object segment  # of the counters
    cdef dict places     # ring number -> index in rings
    cdef md_ring_writer *rings
    cdef md_audience *audiences
    cdef md_counter_block *counters
    cdef md_connection_block *blocks
    cdef dict block_of     # connection number -> place among the blocks
    cdef uint32_t socket_count
    cdef md_capture_state capture_ring
    cdef md_capture *capture_at  # NULL: nobody records
    cdef object capture_memory
    cdef list venues       # of VenueFeed, each by its index
    cdef dict own          # ring -> the first sequence of this process
    cdef dict first        # ring -> the first that it has to tell the recorder of
    cdef dict told         # ring -> md_capture_header.told as it was found
    cdef bint told_own     # some recorder has been told of what was published before the first frame
    cdef int64_t began_ns  # of this process; with its first sequences nobody else's
    cdef uint32_t told_venue, told_place  # whose books the recorder knows; UINT32_MAX: all
    cdef uint64_t told_lost
    cdef int64_t told_ns
    cdef dict pages  # reader -> (its page, held, its rings, and its index in waited_ns)
    cdef int64_t[64] waited_ns  # for each lossless reader in a pass, over all its rings

    def __cinit__(self, dict rings not None, counters, uint32_t feed,
                  int64_t lossless_wait_ns=MD_LOSSLESS_WAIT_NS):
        self.writers = list(rings.values())
        self.segment = counters
        self.places = {number: place for place, number in enumerate(rings)}
        self.counters = <md_counter_block *><size_t>counters.block_address(feed)
        self.rings = <md_ring_writer *>calloc(max(len(rings), 1), sizeof(md_ring_writer))
        self.audiences = <md_audience *>calloc(max(len(rings), 1), sizeof(md_audience))
        self.pages = {}
        if self.rings == NULL or self.audiences == NULL:
            raise MemoryError
        for place, writer in enumerate(self.writers):
            self.rings[<size_t>place] = (<md_ring_writer *><size_t>writer.address)[0]
            md_audience_init(&self.audiences[<size_t>place], &self.rings[<size_t>place],
                             self.counters, lossless_wait_ns)
            self.audiences[<size_t>place].ring = <uint32_t>place
        self.venues = []
        self.own = {number: first_own(&self.rings[<size_t>place])
                    for number, place in self.places.items()}
        self.began_ns = clock_ns(CLOCK_REALTIME)
        self.blocks = <md_connection_block *><size_t>counters.connection_address(feed)
        self.block_of = {}
        # What is up now is ours to say; the process before us may have been killed.
        for place in range(<int>MD_CONNECTION_COUNT_MAX):
            md_connection_set(&self.blocks[<size_t>place], 0, 0)
        md_store_relaxed_u64(&self.counters.subscriptions_requested, 0)
        md_store_relaxed_u64(&self.counters.connections, 0)
        md_store_relaxed_u64(&self.counters.subscriptions_confirmed, 0)
        md_store_relaxed_u64(&self.counters.messages_waiting, 0)
        self.note_reports(0)
        self.note_capture()

    def __dealloc__(self):
        free(self.rings)
        free(self.audiences)

    def reader_add(self, uint64_t reader, memory, rings, bint lossless):
        """Wake a reader from now on, and wait for it when it is lossless.

        Args:
            reader: Its number in the registry, >= 1.
            memory: A mapping of its page, sealed against shrinking; held until `reader_remove`.
            rings: The numbers of the rings that it reads; those of other feeds are passed over.
            lossless: Whether to wait for it.

        Raises:
            ValueError: It is here already, or one reader too many, or its page is none.
        """
        if reader == 0 or reader in self.pages or len(self.pages) >= <int>MD_READER_COUNT_MAX:
            raise ValueError(f"reader {reader} cannot be added")
        page = ReaderPage(memory)
        if page.reader_id != reader:
            raise ValueError(f"the page of reader {reader} is another's")
        own = [ring for ring in rings if ring in self.places]
        taken = {each[2] for each in self.pages.values()}
        cdef size_t index = next(i for i in range(<int>MD_READER_COUNT_MAX) if i not in taken)
        self.waited_ns[index] = 0
        cdef md_reader_page *at = <md_reader_page *><size_t>page.address
        for ring in own:
            md_audience_add(&self.audiences[<size_t>self.places[ring]], reader,
                            &at.ring[<size_t>ring], lossless)
            md_audience_share_patience(&self.audiences[<size_t>self.places[ring]], reader,
                                       &self.waited_ns[index])
        self.pages[reader] = (page, own, index)

    def reader_remove(self, uint64_t reader):
        """Forget a reader; no harm when it is not here."""
        page, own, _ = self.pages.pop(reader, (None, (), 0))
        for ring in own:
            md_audience_remove(&self.audiences[<size_t>self.places[ring]], reader)

    @property
    def addresses(self):
        """Of the ring writers, their audiences and the counters, for a replay, and the rings'
        numbers; valid while this object lives."""
        return (<size_t>self.rings, <size_t>self.audiences, <size_t>self.counters,
                list(self.places))

    def take_ejected(self) -> list[tuple[int, int, int]]:
        """Return (reader, ring, first sequence not kept) of who was ejected since the last call."""
        cdef md_ejection[64] found
        cdef uint32_t count
        ejected = []
        for ring, place in self.places.items():
            count = md_audience_take_ejections(&self.audiences[<size_t>place], found)
            ejected += [(found[i].reader_id, ring, found[i].sequence) for i in range(count)]
        return ejected

    cdef md_connection_block *block(self, uint32_t connection) noexcept:
        """The place of a connection in the counters; NULL: all are taken."""
        place = self.block_of.get(connection)
        if place is None:
            taken = set(self.block_of.values())
            place = next((i for i in range(<int>MD_CONNECTION_COUNT_MAX) if i not in taken), None)
            if place is None:
                return NULL
            self.block_of[connection] = place
            md_connection_take(&self.blocks[<size_t>place], connection)
        return &self.blocks[<size_t>place]

    def connection_state(self, uint32_t connection, uint32_t state):
        """Say what a connection is at.

        Args:
            connection: Its number.
            state: Of enum md_connection_state (native/include/mdsys/counters.h); 0 frees its place.
        """
        cdef md_connection_block *at = self.block(connection)
        if at == NULL:
            return
        if at.state != state:
            md_connection_set(at, state, clock_ns(CLOCK_REALTIME))
        if state == 0:
            del self.block_of[connection]

    def capture(self, memory):
        """Copy every frame into a recorder's ring from now on (native/src/capture.h).

        Args:
            memory: A writable mapping, sealed against shrinking; held until `capture_end`.

        Raises:
            ValueError: It is none, or too small.
        """
        cdef unsigned char[::1] view = memory
        cdef md_capture_header *header = <md_capture_header *>&view[0]
        cdef uint64_t size = header.size
        if (<uint64_t>len(view) < 4096 + MD_CAPTURE_SIZE_MIN or header.magic != MD_CAPTURE_MAGIC
                or size < MD_CAPTURE_SIZE_MIN or size & (size - 1)
                or header.data_offset != 4096 or size > <uint64_t>len(view) - 4096):
            raise ValueError("not a ring for captured frames")
        self.capture_ring = md_capture_resume(header, <char *>&view[0] + 4096, size)
        self.told = {ring: header.told[<size_t>place] if place < <int>MD_CAPTURE_RINGS_MAX else 0
                     for ring, place in self.places.items()}
        self.first = {
            ring: first_untold(&self.rings[<size_t>self.places[ring]], own, self.told[ring])
            if self.told[ring] else own
            for ring, own in self.own.items()}
        self.capture_memory = view
        self._set_capture(<md_capture *>&self.capture_ring)
        self.capture_state()

    def capture_end(self):
        """Copy no more."""
        self._set_capture(NULL)
        self.capture_memory = None
        self.note_capture()

    cdef _set_capture(self, md_capture *capture):
        cdef VenueFeed venue
        self.capture_at = capture
        for venue in self.venues:
            venue.feed.capture = capture
        for place in range(len(self.writers)):
            self.audiences[<size_t>place].capture = capture

    def capture_state(self):
        """Tell the recorder all that a decoder must know beside the frames to come; of the books
        as much as shall be told at once, and the rest with each heartbeat."""
        cdef int64_t now = clock_ns(CLOCK_REALTIME)
        cdef VenueFeed venue
        if self.capture_at == NULL:
            return
        self.told_lost = self.capture_ring.lost_entries
        self.told_ns = clock_ns(CLOCK_MONOTONIC)
        # What this process has published before its first frame, no recorder has heard of.
        fresh = self.socket_count == 0 and not self.told_own
        self.told_own = True
        self._note_told(fresh)
        self._put(MD_CAPTURE_BEGIN, dumps({
            "process": self.began_ns,
            "pid": getpid(),
            "rings": [
                {
                    "ring": ring,
                    "depth": self.rings[<size_t>place].mask + 1,
                    "epoch": self.rings[<size_t>place].header.segment.epoch,
                    "first": self.first[ring],
                    "told": self.told[ring],
                    "next": self.first[ring] if fresh else self.rings[<size_t>place].next,
                }
                for ring, place in self.places.items()
            ],
        }).encode(), now, 0, 0)
        if fresh:
            for ring, place in self.places.items():
                self._put_own(place, self.first[ring])
            self._note_told(False)
        for venue in self.venues:
            venue.capture_state(now)
        self.told_venue = self.told_place = 0
        self.capture_books(now)

    cdef _note_told(self, bint begins):
        """Leave word for a successor of whom the recorder knows: of this process, or not until it
        has told what it must (begins)."""
        cdef uint64_t told
        for ring, place in self.places.items():
            told = self.own[ring]
            told = self.first[ring] if begins else told + is_restart(&self.rings[<size_t>place], told)
            if place < <int>MD_CAPTURE_RINGS_MAX:
                md_store_release_u64(&self.capture_ring.header.told[<size_t>place], told)

    cdef _put_own(self, size_t place, uint64_t first):
        """Copy the records of a ring that this process has published so far."""
        cdef md_ring_writer *ring = &self.rings[place]
        cdef md_slot *slot
        while first < ring.next:
            slot = &ring.slots[first & ring.mask]
            self._put(MD_CAPTURE_RECORD, PyBytes_FromStringAndSize(<const char *>slot, 64),
                      <int64_t>slot.word[1], <uint32_t>place, 0)
            first += 1

    cdef _put(self, int kind, bytes payload, int64_t now, uint32_t connection,
              uint32_t socket_number):
        md_capture_put(self.capture_at, <md_capture_kind>kind, <const char *>payload,
                       <size_t>len(payload), now, connection, socket_number)

    cdef void capture_books(self, int64_t now) noexcept:
        """Tell the recorder of more books."""
        cdef VenueFeed venue
        while self.told_venue < <uint32_t>len(self.venues):
            venue = self.venues[self.told_venue]
            if not md_capture_books(self.capture_at, self.told_venue, &venue.feed,
                                    &self.told_place, CAPTURE_BOOKS_SIZE, now):
                return
            self.told_venue += 1
            self.told_place = 0

    cdef capture_beat(self, int64_t now):
        """Go on with the books; after a loss tell everything anew, once there is room again."""
        cdef md_capture_state *ring = &self.capture_ring
        if (ring.lost_entries != self.told_lost
                and clock_ns(CLOCK_MONOTONIC) - self.told_ns > CAPTURE_AGAIN_NS
                and ring.head - md_load_acquire_u64(&ring.header.tail) < ring.mask // 4):
            self.capture_state()
        else:
            self.capture_books(now)

    def heartbeat(self):
        """Say that this process lives, and that what it has received is published."""
        cdef int64_t now = clock_ns(CLOCK_REALTIME)
        for place in range(len(self.writers)):
            md_audience_flush(&self.audiences[<size_t>place], now)
            md_store_relaxed_i64(&self.rings[<size_t>place].header.segment.heartbeat_ns, now)
        if self.capture_at != NULL:
            self.capture_beat(now)
            self.note_capture()

    cdef void note_capture(self) noexcept:
        """Say how full the recorder's ring is."""
        cdef md_capture_state *ring = &self.capture_ring
        cdef uint64_t size = 0, used = 0
        if self.capture_at != NULL:
            size = ring.mask + 1
            used = min(ring.head - md_load_acquire_u64(&ring.header.tail), size)
        md_store_relaxed_u64(&self.counters.capture_size, size)
        md_store_relaxed_u64(&self.counters.capture_used, used)

    def note_reports(self, uint64_t count):
        """Say how many events the supervisor has not taken yet."""
        md_store_relaxed_u64(&self.counters.reports_waiting, count)

    def count_log_suppressed(self, uint64_t count):
        """Count log lines that nobody will read."""
        md_count(&self.counters.log_suppressed, count)


cdef class VenueFeed:
    """One venue's symbols and decoder in a feed process.

    Args:
        feed: Whose rings and counters they use.
        decoder: Name of the C decoder, or an object as mdsys.feed.venue.Decoder.
        venue: In front of the names in the directory, and without a colon: ``BINANCE``.
        names: The venue's own names of the symbols.
        symbols: The symbol directory.
        cache: The last-value cache, writable.
        wires: Name -> what names the symbol in the venue's frames, where that differs.
        channels: Numbers of the channels that are wanted (enum md_channel); None: all.
        binary: Whether market data comes in binary frames and text is control.
        books_by_rest: Whether `snapshot` brings the books, rather than the stream.

    Raises:
        ValueError: There is no such decoder, or a symbol is not in the directory, is named twice,
            or is another feed's.
    """

    cdef Feed owner
    cdef object symbols
    cdef object cache
    cdef str venue
    cdef dict by_id    # symbol id -> name
    cdef dict wires    # name -> on the wire, of all symbols
    cdef object python  # the decoder, where it is no C function
    cdef uint64_t duplicates, reordered  # that it has told of, as far as they are counted
    cdef object decoder
    cdef bint binary
    cdef uint32_t index  # among the owner's
    cdef dict links      # socket -> (connection, the FrameListener)
    cdef md_feed feed
    cdef md_decode_fn decode
    cdef const char *marker
    cdef int64_t log_next_ns
    cdef public object on_wish
    """Called without arguments after a read that made a book wish for a snapshot; `take_wishes`."""

    def __cinit__(self, Feed feed not None, decoder, str venue, names, symbols, cache, *,
                  wires=None, channels=None, bint binary=False, bint books_by_rest=False):
        cdef const md_decoder *found
        self.owner = feed
        self.symbols = symbols
        self.cache = cache
        self.venue = venue
        self.by_id = {}
        self.wires = {}
        self.links = {}
        self.binary = binary
        self.decoder = decoder if isinstance(decoder, str) else None
        if isinstance(decoder, str):
            found = md_decoder_find(decoder.encode())
            if found == NULL:
                raise ValueError(f"no decoder is named {decoder}")
            self.decode = found.decode
            self.marker = found.marker
        else:
            self.python = decoder
        if md_feed_init(&self.feed, feed.rings, <uint32_t>len(feed.places), feed.counters,
                        <uint32_t>len(names)) != 0:
            raise MemoryError
        self.feed.audiences = feed.audiences
        self.feed.books_by_rest = books_by_rest
        if channels is not None:
            self.feed.channels = 0
            for channel in channels:
                self.feed.channels |= <uint32_t>1 << <uint32_t>channel
        self.index = <uint32_t>len(feed.venues)
        self.add_symbols(names, wires)
        feed.venues.append(self)
        self.feed.capture = feed.capture_at
        if feed.capture_at != NULL:
            self.capture_state(clock_ns(CLOCK_REALTIME))

    def __dealloc__(self):
        md_feed_free(&self.feed)

    cdef capture_state(self, int64_t now):
        """Tell the recorder of the decoder, the symbols and the sockets."""
        cdef const md_symbols_header *symbols = <md_symbols_header *><size_t>self.symbols.address
        self.owner._put(MD_CAPTURE_VENUE, dumps({
            "venue": self.venue,
            "decoder": self.decoder,
            "channels": self.feed.channels,
            "binary": bool(self.binary),
            "books_by_rest": bool(self.feed.books_by_rest),
        }).encode(), now, self.index, 0)
        md_capture_symbols(self.owner.capture_at, self.index, &self.feed, symbols, now)
        for listener in self.links.values():
            self.capture_link(listener, now)
        self.capture_overlap(now)

    cdef capture_link(self, FrameListener listener, int64_t now):
        cdef md_capture_link link
        link.venue = self.index
        link.reserved = 0
        link.sequence = listener.socket.sequence
        link.order = listener.socket.order
        md_capture_put(self.owner.capture_at, <md_capture_kind>MD_CAPTURE_LINK, &link,
                       sizeof(link), now, listener.connection, listener.socket.socket)

    cdef capture_overlap(self, int64_t now):
        md_capture_put(self.owner.capture_at, <md_capture_kind>MD_CAPTURE_OVERLAP,
                       &self.feed.overlapping, sizeof(uint32_t), now, self.index, 0)

    def add_symbols(self, names, wires=None):
        """Take symbols in that are in the directory by now; one that is here already stays.

        Args:
            names: The venue's own names.
            wires: Name -> what names the symbol in the venue's frames, where that differs.

        Raises:
            ValueError: One is not in the directory, is another feed's, or shares its name on the
                wire with another; those before it are in.
        """
        cdef md_cell *cell
        for name in names:
            wire = bytes((wires or {}).get(name) or name.encode())
            if self.wires.get(name) == wire:
                continue
            symbol_id = self.symbols.find(self.venue.encode() + b":" + name.encode())
            if symbol_id == 0 or symbol_id > self.cache.capacity:
                raise ValueError(f"{self.venue}:{name} is not in the symbol directory")
            _, _, ring, price_scale, size_scale = self.symbols.entry(symbol_id)
            if ring not in self.owner.places:
                raise ValueError(
                    f"{self.venue}:{name} is in ring {ring}, which another feed writes")
            cell = <md_cell *>md_cache_cell(
                <md_cache_header *><size_t>self.cache.address, <uint32_t>symbol_id)
            if md_feed_add_symbol(&self.feed, wire, len(wire), symbol_id, self.owner.places[ring],
                                  price_scale, size_scale, cell) != 0:
                raise ValueError(f"{self.venue}:{name} is named twice")
            self.by_id[symbol_id] = name
            self.wires[name] = wire
            if self.feed.capture != NULL:
                md_capture_symbol(self.feed.capture, self.index, &self.feed, self.symbol(name),
                                  <md_symbols_header *><size_t>self.symbols.address,
                                  clock_ns(CLOCK_REALTIME))

    cdef md_feed_symbol *symbol(self, str name) noexcept:
        """NULL when there is none of this name."""
        cdef bytes wire = self.wires.get(name, b"")
        return md_feed_find_symbol(&self.feed, wire, <size_t>len(wire))

    def symbol_refused(self, str name not None, uint32_t connection):
        """Tell the readers of a symbol's ring that the venue will not send it."""
        self._tell(name, MD_STATUS_SYMBOL_REFUSED, MD_ABSENT, MD_ABSENT, connection)

    def stale(self, str name not None, int channel, int64_t last_ns, uint32_t connection):
        """Tell the readers of a symbol's ring that one of its streams should tick and does not.

        Args:
            name: The venue's own name of the symbol.
            channel: Of enum md_channel.
            last_ns: ts_recv of its last record.
            connection: Which should bring it.
        """
        self._tell(name, MD_STATUS_STALE, last_ns, channel, connection)

    cdef _tell(self, str name, md_status what, int64_t first, int64_t last, uint32_t connection):
        cdef int64_t now = clock_ns(CLOCK_REALTIME)
        cdef md_feed_symbol *symbol = self.symbol(name)
        if symbol != NULL:
            self.feed.capture = self.owner.capture_at
            md_feed_publish_status(&self.feed, symbol, what, first, last, connection, now)
            md_feed_flush(&self.feed, now)

    def overlap(self, int by):
        """Count the pairs of sockets that bring the same: 1 when one begins, -1 when it ends."""
        self.feed.overlapping = <uint32_t>max(0, <int>self.feed.overlapping + by)
        if self.feed.capture != NULL:
            self.capture_overlap(clock_ns(CLOCK_REALTIME))

    # ---- books ----

    def expect_books(self, names, FrameListener listener not None):
        """Say that the changes of these books come by this socket now; those that are not in step
        wish for a snapshot. Nothing happens where books come by stream."""
        cdef md_feed_symbol *symbol
        cdef uint32_t symbol_id
        for name in names:
            symbol = self.symbol(name)
            if symbol != NULL:
                md_book_expect(&self.feed, symbol, &listener.socket)
                if self.feed.capture != NULL:
                    symbol_id = symbol.symbol_id
                    md_capture_put(self.feed.capture, <md_capture_kind>MD_CAPTURE_EXPECT,
                                   &symbol_id, sizeof(symbol_id), clock_ns(CLOCK_REALTIME),
                                   listener.connection, listener.socket.socket)

    def take_wishes(self) -> list[str]:
        """Return whose books wish for a snapshot, each once until it has come."""
        cdef uint32_t count = self.feed.wish_count
        cdef md_feed_symbol *symbol
        names = []
        self.feed.wish_count = 0
        if count <= MD_WISH_COUNT_MAX:
            ids = [self.feed.wishes[i] for i in range(count)]
        else:  # more than it has places for: they stand with the symbols
            ids = self.by_id
        for symbol_id in dict.fromkeys(ids):
            symbol = self.symbol(self.by_id[symbol_id])
            if symbol != NULL and symbol.book_wanted:
                names.append(self.by_id[symbol_id])
        return names

    def snapshot(self, str name not None, bytes body not None, uint32_t asked=0,
                 uint32_t connection=0) -> bool:
        """Merge a REST answer into a symbol's book, and publish the book as it is then.

        Args:
            name: The venue's own name of the symbol.
            body: The answer.
            asked: Levels a side that were asked for; 0: all.
            connection: Number of the connection that brings the changes.

        Returns:
            False when the answer is no book, and counted as a refused frame.
        """
        cdef md_feed_symbol *symbol = self.symbol(name)
        cdef int64_t now = clock_ns(CLOCK_REALTIME)
        cdef md_connection by
        cdef bytes entry
        cdef md_frame_result result
        if symbol == NULL:
            return True
        memset(&by, 0, sizeof(by))
        by.number = connection
        if self.owner.capture_at != NULL:
            entry = b"%s\n%d\n%s" % (name.encode(), asked, body)
            self.copy(MD_CAPTURE_SNAPSHOT, <const char *>entry, <size_t>len(entry), now,
                      connection, self.index)
        self.feed.capture = self.owner.capture_at
        self.feed.decoding = 1
        result = md_book_snapshot_json(
            &self.feed, symbol, &by, body, <size_t>len(body), asked, now)
        self.feed.decoding = 0
        md_feed_flush(&self.feed, now)
        if result == MD_FRAME_OK:
            return True
        if result == MD_FRAME_VALUE:
            md_count(&self.feed.counters.frames_value_refused, 1)
        else:
            md_count(&self.feed.counters.frames_malformed, 1)
        self.log_refused(connection, f"the book of {name} by REST", body, len(body))
        return False

    # ---- counting and recording ----

    cdef void copy(self, md_capture_kind kind, const void *payload, size_t size, int64_t ts_recv,
                   uint32_t connection, uint32_t socket_number) noexcept:
        """Copy something for the recorder, who is there."""
        if md_capture_put(self.owner.capture_at, kind, payload, size, ts_recv, connection,
                          socket_number):
            md_count(&self.feed.counters.capture_frames, 1)
        else:
            md_count(&self.feed.counters.capture_lost_frames, 1)
            md_count(&self.feed.counters.capture_lost_bytes, <uint64_t>size)

    def count_connect_failure(self):
        """Count an attempt to connect that failed."""
        md_count(&self.feed.counters.connect_failures, 1)

    def count_subscriptions(self, int64_t requested, int64_t confirmed, uint64_t refused):
        """Count streams; the first two are negative when the connection that had them is gone."""
        md_count(&self.feed.counters.subscriptions_requested, <uint64_t>requested)
        md_count(&self.feed.counters.subscriptions_confirmed, <uint64_t>confirmed)
        md_count(&self.feed.counters.subscriptions_refused, refused)

    cdef count_dropped(self):
        """Count what a decoder in Python has dropped or called late, where it tells."""
        cdef uint64_t duplicates = getattr(self.python, "duplicates", 0)
        cdef uint64_t reordered = getattr(self.python, "reordered", 0)
        md_count(&self.feed.counters.duplicates, duplicates - self.duplicates)
        md_count(&self.feed.counters.reordered, reordered - self.reordered)
        self.duplicates = duplicates
        self.reordered = reordered

    cdef log_refused(self, uint32_t connection, str why, const char *frame, Py_ssize_t size):
        """Log a refused frame with an excerpt, at most one a second; the counters have them all."""
        cdef int64_t now = clock_ns(CLOCK_MONOTONIC)
        if now < self.log_next_ns:
            md_count(&self.feed.counters.log_suppressed, 1)
            return
        self.log_next_ns = now + LOG_INTERVAL_NS
        log.warning("connection %d: frame refused: %s, %d bytes: %r%s", connection, why, size,
                    PyBytes_FromStringAndSize(frame, min(size, EXCERPT_SIZE)),
                    "..." if size > EXCERPT_SIZE else "")


cdef Py_ssize_t data_frame_size(const uint8_t *at, Py_ssize_t left,
                                uint8_t opcode) noexcept nogil:
    """Size of the frame at the front of left bytes: header and payload, in [2, DATA_FRAME_SIZE_MAX].

    0: more of its header must come. FOREIGN: it is no message of that opcode in a single frame of
    less than 64 KiB, unmasked and its length in the shortest form; picows shall judge it (RFC 6455 5.2).
    """
    cdef Py_ssize_t payload
    if left < 1:
        return 0
    if at[0] != opcode:
        return FOREIGN
    if left < 2:
        return 0
    if at[1] < 126:
        return 2 + at[1]
    if at[1] > 126:
        return FOREIGN
    if left < 4:
        return 0
    payload = at[2] << 8 | at[3]
    return 4 + payload if payload >= 126 else FOREIGN


cdef class Intake:
    """Stands between the transport and picows' protocol, and takes the usual frame past it.

    Whole data messages at the front of a read go straight to the decoder. From the first byte of
    anything else on, all goes to picows, until a read leaves it between two frames. So picows
    alone sees control frames, fragments and whatever is broken, and no frame is split between the
    two. Its parser and its frame objects would cost more than a third of the decoder's time.

    A read is bounded. picows doubles its buffer whenever a read fills it: behind a firehose it
    ends as large as the kernel's (tcp_rmem: 6 to 32 MB), and a frame waits for all that was read
    with it: 2.9 ms in the median, against 0.24 ms.
    """

    cdef FrameListener listener
    cdef WSTransport transport
    cdef object picows  # its protocol
    cdef readonly object eof_received
    cdef readonly object pause_writing
    cdef readonly object resume_writing
    cdef uint8_t *buffer  # what is held, then room for a read
    cdef Py_ssize_t held  # of a frame whose rest has not come, in [0, DATA_FRAME_SIZE_MAX)

    def __cinit__(self, FrameListener listener not None, WSTransport transport not None):
        picows = transport.underlying_transport.get_protocol()
        self.listener = listener
        self.transport = transport
        self.picows = picows
        self.eof_received = picows.eof_received
        self.pause_writing = picows.pause_writing
        self.resume_writing = picows.resume_writing
        self.buffer = <uint8_t *>malloc(<size_t>(DATA_FRAME_SIZE_MAX + READ_SIZE_MAX))
        if self.buffer == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.buffer)

    def is_buffered_protocol(self):
        return True

    def connection_lost(self, error):
        self.listener.error = error  # picows does not tell it on
        self.picows.connection_lost(error)

    def get_buffer(self, Py_ssize_t size_hint):
        return PyMemoryView_FromMemory(
            <char *>self.buffer + self.held, READ_SIZE_MAX, PyBUF_WRITE)

    def buffer_updated(self, Py_ssize_t size):
        cdef FrameListener listener = self.listener
        cdef const uint8_t *at = self.buffer
        cdef const uint8_t *end = at + self.held + size
        cdef Py_ssize_t frame_size = FOREIGN
        cdef Py_ssize_t header_size
        cdef const uint8_t *ahead = at
        cdef uint32_t ahead_count = 0  # frames in [at, ahead)
        cdef uint32_t cell_count = 0   # of them, those whose cells are on their way
        cdef bint foresees = listener.foresees()
        self.held = 0
        listener.by_intake = True
        listener.begin_read()
        if foresees:
            md_foresee_begin(&listener.foresight)
        while listener.takes_data():  # a control frame's handler may close it
            if foresees:
                while ahead_count <= MD_FORESEE_AHEAD:
                    frame_size = data_frame_size(ahead, end - ahead, listener.opcode)
                    if frame_size <= 0 or frame_size > end - ahead:
                        break
                    header_size = 2 if frame_size < 2 + 126 else 4
                    md_foresee_symbol(listener.feed, &listener.foresight,
                                      <const char *>ahead + header_size,
                                      <size_t>(frame_size - header_size))
                    ahead += frame_size
                    ahead_count += 1
                while cell_count < ahead_count and cell_count <= MD_FORESEE_CELL:
                    md_foresee_cell(listener.feed, &listener.foresight)
                    cell_count += 1
                if ahead_count != 0:  # the first of them is decoded now
                    ahead_count -= 1
                    cell_count -= 1
            frame_size = data_frame_size(at, end - at, listener.opcode)
            if frame_size <= 0 or frame_size > end - at:
                break
            header_size = 2 if frame_size < 2 + 126 else 4
            listener.take(<const char *>at + header_size, frame_size - header_size)
            at += frame_size
        else:
            frame_size = FOREIGN
        if frame_size == FOREIGN:
            while at != end:
                at += self.hand_over(at, end - at)
        else:
            self.held = end - at
            memmove(self.buffer, at, <size_t>self.held)
        listener.by_intake = False
        listener.end_read(self.transport)

    cdef Py_ssize_t hand_over(self, const uint8_t *data, Py_ssize_t size) except -1:
        """Give picows as much as it has room for. Returns how much that was."""
        view = self.picows.get_buffer(-1)
        cdef Py_buffer *room = PyMemoryView_GET_BUFFER(view)
        size = min(size, room.len)
        memcpy(room.buf, data, <size_t>size)
        self.listener.picows_empty = False  # unless its last frame tells otherwise
        self.picows.buffer_updated(size)
        return size


cdef class FrameListener(WSListener):
    """Receives one socket's frames; a reconnect makes another.

    Args:
        venue: Whose decoder and rings the frames go to.
        connection: Its number, for status records and the log.
        on_control: Called with the bytes of each frame that is no market data.
        on_ping: Called with the payload of the last PING of a read, to answer it by `pong`; None:
            it is answered at once.
    """

    cdef VenueFeed venue
    cdef md_feed *feed
    cdef md_counter_block *counters
    cdef md_decode_fn decode
    cdef md_connection socket
    cdef md_foresight foresight
    cdef uint32_t connection
    cdef uint8_t opcode  # first byte of a whole data frame
    cdef object on_control
    cdef object on_ping
    cdef WSTransport transport
    cdef bint closing, connected, writing_paused
    cdef public bint quiet
    """Another socket speaks for the connection: do not tell in the rings of this one's ups and downs."""
    cdef bint picows_empty  # it holds no part of a frame
    # The read in hand.
    cdef bint by_intake  # which ends it; else its last frame does
    cdef int64_t ts_recv  # 0: none in hand
    cdef uint64_t records_before
    cdef uint64_t frames_before, bytes_before
    cdef bint ping_due
    cdef char[125] ping  # the most that a control frame may bear
    cdef Py_ssize_t ping_size
    # The fragmented message in hand.
    cdef int fragment_type  # -1: none in hand
    cdef char *joined
    cdef Py_ssize_t joined_size
    cdef Py_ssize_t joined_capacity
    # This socket's frames.
    cdef readonly uint64_t frames
    cdef readonly uint64_t refused
    cdef readonly object error
    """What the socket ended in: an OSError; None: it has not ended, or with end of file."""
    cdef uint64_t torn_at  # counters.book_snapshots when the books were last taken out of step
    cdef int64_t offset_ns
    cdef uint64_t refused_told
    cdef object refused_timer  # None: the next refused frame is told at once

    def __cinit__(self, VenueFeed venue not None, uint32_t connection, on_control, on_ping=None):
        cdef Feed owner = venue.owner
        self.venue = venue
        owner.socket_count += 1
        self.socket.number = connection
        self.socket.socket = owner.socket_count
        self.socket.block = owner.block(connection)
        self.name_venue()
        self.opcode = BINARY if venue.binary else TEXT
        self.on_ping = on_ping
        self.feed = &venue.feed
        self.counters = venue.feed.counters
        self.decode = venue.decode
        self.foresight.marker = venue.marker
        self.foresight.marker_size = 0 if venue.marker == NULL else strlen(venue.marker)
        self.connection = connection
        self.on_control = on_control
        self.fragment_type = -1
        self.torn_at = <uint64_t>-1
        self.offset_ns = MD_ABSENT

    def __dealloc__(self):
        free(self.joined)

    cdef name_venue(self):
        """Write beside the connection's numbers whose they are."""
        cdef bytes name = self.venue.venue.encode()[:<int>MD_CONNECTION_VENUE_SIZE - 1]
        if self.socket.block != NULL:
            md_connection_name(self.socket.block, <const char *>name, <size_t>len(name))

    # ---- the life of the socket ----

    cpdef on_ws_connected(self, WSTransport transport):
        cdef int64_t now = clock_ns(CLOCK_REALTIME)
        self.transport = transport
        if self.closing:  # abandoned while the handshake was under way
            transport.disconnect(False)
            return
        tcp = transport.underlying_transport.get_extra_info("socket")
        for level, option, value in SOCKET_OPTIONS:
            tcp.setsockopt(level, option, value)
        transport.underlying_transport.set_protocol(Intake(self, transport))
        self.connected = True
        self.venue.links[self.socket.socket] = self
        self.feed.capture = self.venue.owner.capture_at
        if self.feed.capture != NULL:
            self.venue.copy(MD_CAPTURE_SOCKET, <const char *>b"up", 2, now, self.connection,
                            self.socket.socket)
            self.venue.capture_link(self, now)
        if self.socket.block != NULL:
            md_count(&self.socket.block.opens, 1)
            md_store_relaxed_i64(&self.socket.block.last_frame_ns, now)
        md_count(&self.counters.connects, 1)
        md_count(&self.counters.connections, 1)
        if not self.quiet:
            self.tell(MD_STATUS_CONNECTION_UP, MD_ABSENT, MD_ABSENT, now)
        md_feed_flush(self.feed, now)

    cpdef on_ws_disconnected(self, WSTransport transport):
        cdef int64_t now = clock_ns(CLOCK_REALTIME)
        self.closing = True
        self.transport = None
        self.on_control = None
        self.on_ping = None
        if not self.connected:
            return
        handshake = transport.close_handshake
        if handshake is not None and handshake.sent is not None:
            if handshake.sent.code == WSCloseCode.MESSAGE_TOO_BIG:
                md_count(&self.counters.frames_too_long, 1)
                self.refused += 1
            elif handshake.sent.code == WSCloseCode.PROTOCOL_ERROR:
                md_count(&self.counters.frames_protocol, 1)
        del self.venue.links[self.socket.socket]
        self.tell_refused(now)
        if self.refused_timer is not None:
            self.refused_timer.cancel()
            self.refused_timer = None
        md_count(&self.counters.disconnects, 1)
        md_count(&self.counters.connections, <uint64_t>-1)
        self.feed.capture = self.venue.owner.capture_at
        if self.feed.capture != NULL:
            self.venue.copy(MD_CAPTURE_SOCKET, <const char *>b"down", 4, now, self.connection,
                            self.socket.socket)
        self.feed.decoding = 1  # the recorder's reader voids the books by itself
        md_book_unsync_socket(self.feed, &self.socket, now, True)
        self.feed.decoding = 0
        if not self.quiet:
            self.tell(MD_STATUS_CONNECTION_DOWN, MD_ABSENT, MD_ABSENT, now)
        md_feed_flush(self.feed, now)

    cpdef pause_writing(self):
        self.writing_paused = True

    cpdef resume_writing(self):
        self.writing_paused = False

    def count_waiting(self, int64_t by):
        """Count messages that wait for their turn to be sent: 1 when one begins to, -1 when its
        wait is over."""
        md_count(&self.counters.messages_waiting, <uint64_t>by)

    def abandon(self):
        """Hang up as soon as there is a socket: nobody waits for it any more."""
        self.closing = True
        if self.transport is not None:
            self.transport.disconnect(False)

    def come_forward(self, bint was_down):
        """Be the connection's one socket from now on, no more `quiet`; tell what has changed by it.

        Args:
            was_down: Whether the socket before has told that the connection is down.
        """
        cdef int64_t now = clock_ns(CLOCK_REALTIME)
        self.quiet = False
        if was_down and self.transport is not None:
            self.tell(MD_STATUS_CONNECTION_UP, MD_ABSENT, MD_ABSENT, now)
        elif not was_down and self.transport is None:
            self.tell(MD_STATUS_CONNECTION_DOWN, MD_ABSENT, MD_ABSENT, now)
        md_feed_flush(self.feed, now)

    def close(self, int code, str reason):
        """Send CLOSE, ignore what still comes, and hang up soon."""
        if self.transport is not None and not self.closing:
            self.send_close(self.transport, code, reason)

    cdef send_close(self, WSTransport transport, int code, str reason):
        self.closing = True
        transport.send_close(<WSCloseCode>code, reason)
        asyncio.get_running_loop().call_later(HANG_UP_S, (<object>transport).disconnect, False)

    cdef void tell(self, md_status what, int64_t first, int64_t last, int64_t now) noexcept:
        md_feed_publish_status(self.feed, NULL, what, first, last, self.connection, now)

    cdef void tell_refused(self, int64_t now) noexcept:
        """Say in the rings which of this socket's refused frames (1, 2, ...) are new."""
        if self.refused != self.refused_told:
            self.tell(MD_STATUS_FRAME_REFUSED, <int64_t>self.refused_told + 1,
                      <int64_t>self.refused, now)
            self.refused_told = self.refused

    cdef tell_refused_in_time(self, int64_t now):
        """Tell of refused frames at once, but once in REFUSED_INTERVAL_S: each status goes into
        every ring, and a venue that sends nothing but nonsense must not drive the ticks out."""
        if self.refused_timer is None:
            self.tell_refused(now)
            self.refused_timer = asyncio.get_running_loop().call_later(
                REFUSED_INTERVAL_S, self._refused_interval_over)

    def _refused_interval_over(self):
        cdef int64_t now = clock_ns(CLOCK_REALTIME)
        self.refused_timer = None
        if self.refused != self.refused_told:
            self.tell_refused_in_time(now)
            md_feed_flush(self.feed, now)

    # ---- frames ----

    cdef bint foresees(self) noexcept:
        """Whether it pays to look at the frames to come."""
        return (self.foresight.marker != NULL
                and self.feed.symbol_count >= MD_FORESEE_SYMBOLS_MIN)

    cdef bint takes_data(self) noexcept:
        """Whether a data message may come next, and need not go by picows."""
        return self.picows_empty and self.fragment_type < 0 and not self.closing

    cdef void begin_read(self) noexcept:
        self.ts_recv = clock_ns(CLOCK_REALTIME)
        self.records_before = self.counters.records
        self.frames_before = self.counters.frames
        self.bytes_before = self.counters.bytes
        self.feed.capture = self.venue.owner.capture_at

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        if self.ts_recv == 0:  # it came with the answer to our upgrade
            self.begin_read()
        self.picows_empty = frame.tail_size == 0
        if unlikely(transport.is_close_frame_sent and not self.closing):
            self.picows_closed(frame)
        if likely((frame.msg_type == WSMsgType.TEXT or frame.msg_type == WSMsgType.BINARY)
                  and frame.fin and self.fragment_type < 0
                  and not (frame.rsv1 | frame.rsv2 | frame.rsv3) and not self.closing):
            self.message(frame.msg_type, frame.payload_ptr, frame.payload_size)
        else:
            self.unusual(transport, frame)
        if frame.last_in_buffer and not self.by_intake:
            self.end_read(transport)

    cdef int message(self, int opcode, const char *frame, Py_ssize_t size) except -1:
        """Take one whole message of either kind."""
        if (opcode == WSMsgType.BINARY) == self.venue.binary:
            return self.take(frame, size)
        if self.feed.capture != NULL:
            self.venue.copy(MD_CAPTURE_BINARY if opcode == WSMsgType.BINARY else MD_CAPTURE_TEXT,
                            frame, <size_t>size, self.ts_recv, self.connection,
                            self.socket.socket)
        md_count(&self.counters.frames, 1)
        md_count(&self.counters.bytes, <uint64_t>size)
        if opcode == WSMsgType.TEXT:
            self.control(frame, size)
            return 0
        self.refused += 1
        md_count(&self.counters.frames_binary, 1)
        self.venue.log_refused(self.connection, "binary where text is due", frame, size)
        return 0

    cdef int take(self, const char *frame, Py_ssize_t size) except -1:
        """Decode one whole message."""
        cdef md_frame_result result
        cdef int64_t began = 0
        if unlikely(self.feed.capture != NULL):
            self.venue.copy(MD_CAPTURE_BINARY if self.venue.binary else MD_CAPTURE_TEXT, frame,
                            <size_t>size, self.ts_recv, self.connection, self.socket.socket)
        if unlikely(self.feed.until_timed == 0):
            self.feed.until_timed = MD_HOP_EVERY
            began = clock_ns(CLOCK_REALTIME)
        self.feed.until_timed -= 1
        self.feed.decoding = 1
        if likely(self.decode != NULL):
            result = self.decode(self.feed, frame, <size_t>size, self.ts_recv, &self.socket)
        else:
            result = <md_frame_result><int>self.decode_in_python(frame, size)
        self.feed.decoding = 0
        if unlikely(began != 0):
            self.note_hops(began, clock_ns(CLOCK_REALTIME), result)
        md_count(&self.counters.frames, 1)
        md_count(&self.counters.bytes, <uint64_t>size)
        if likely(result == MD_FRAME_OK):
            self.frames += 1
        elif result == MD_FRAME_CONTROL:
            self.control(frame, size)
        else:
            self.refuse(result, frame, size)
        return 0

    cdef void note_hops(self, int64_t began, int64_t ended, md_frame_result result) noexcept:
        """Record the hops of a frame that was timed."""
        md_histogram_record(&self.counters.recv_to_decode, began - self.ts_recv, 1)
        if result == MD_FRAME_OK:
            md_histogram_record(&self.counters.decode_to_ring, ended - began, 1)

    cdef object decode_in_python(self, const char *frame, Py_ssize_t size):
        """Let a venue's own decoder do it, and publish what it returns."""
        try:
            result, records = self.venue.python.decode(
                PyBytes_FromStringAndSize(frame, size), self.ts_recv, self.connection)
            publish_records(self.venue, &self.socket, records)
            self.venue.count_dropped()
            return int(result)
        except Exception:  # a fault of an installed venue must not cost us the connection
            now = clock_ns(CLOCK_MONOTONIC)
            if now >= self.venue.log_next_ns:
                log.exception("connection %d: the decoder failed", self.connection)
            return MD_FRAME_MALFORMED

    cdef control(self, const char *frame, Py_ssize_t size):
        md_count(&self.counters.frames_control, 1)
        if self.on_control is None:
            return
        try:
            self.on_control(PyBytes_FromStringAndSize(frame, size))
        except Exception:  # its failure must not cost us the buffer in hand, nor the connection
            log.exception("connection %d: cannot handle a control frame", self.connection)

    cdef void tear(self) noexcept:
        """Take the socket's books out of step, at once: the frame may have held a change of any,
        and where books come by stream the venue numbers none. A flood of nonsense costs one look:
        what is out of step stays so until a snapshot comes."""
        if not self.feed.books_by_rest and self.torn_at != self.counters.book_snapshots:
            self.torn_at = self.counters.book_snapshots
            self.feed.decoding = 1  # the recorder's reader does the same by itself
            md_book_unsync_socket(self.feed, &self.socket, self.ts_recv, False)
            self.feed.decoding = 0

    cdef refuse(self, md_frame_result result, const char *frame, Py_ssize_t size):
        """Count and log. An unknown symbol is nobody's loss, and of a value that does not fit the
        decoder has told in that symbol's ring; any other refused frame may have been anybody's."""
        if result == MD_FRAME_UNKNOWN_SYMBOL:
            md_count(&self.counters.frames_unknown_symbol, 1)
            self.venue.log_refused(self.connection, "a symbol nobody subscribed", frame, size)
        elif result == MD_FRAME_VALUE:
            md_count(&self.counters.frames_value_refused, 1)
            self.venue.log_refused(self.connection, "a value does not fit", frame, size)
        elif result == MD_FRAME_UNKNOWN_EVENT:
            self.refused += 1
            md_count(&self.counters.frames_unknown_event, 1)
            self.venue.log_refused(self.connection, "an event we do not know", frame, size)
        elif result == MD_FRAME_TOO_LONG:
            self.refused += 1
            self.tear()
            md_count(&self.counters.frames_too_long, 1)
            self.venue.log_refused(self.connection, "too long", frame, size)
        else:
            self.refused += 1
            self.tear()
            md_count(&self.counters.frames_malformed, 1)
            self.venue.log_refused(self.connection, "malformed", frame, size)

    cdef void picows_closed(self, WSFrame frame) noexcept:
        """picows has refused a frame: is this the good one before, or does it come after?

        The good one is the last that is delivered of its buffer, though bytes stand behind it.
        """
        self.closing = not (frame.last_in_buffer and frame.tail_size > 0
                            and frame.payload_size <= <Py_ssize_t>MD_FRAME_SIZE_MAX)

    cdef unusual(self, WSTransport transport, WSFrame frame):
        """Anything but a whole text message."""
        if frame.msg_type == WSMsgType.CLOSE:
            if not self.closing:
                self.send_close(transport, WSCloseCode.OK, "")
            transport.disconnect(True)
        elif self.closing:
            pass
        elif frame.rsv1 | frame.rsv2 | frame.rsv3:
            self.send_close(transport, WSCloseCode.PROTOCOL_ERROR, "RSV bit without an extension")
        elif frame.msg_type == WSMsgType.PING:
            memcpy(self.ping, frame.payload_ptr, <size_t>frame.payload_size)
            self.ping_size = frame.payload_size
            self.ping_due = True
        elif frame.msg_type != WSMsgType.PONG:
            self.fragment(transport, frame)

    cdef fragment(self, WSTransport transport, WSFrame frame):
        """A part of a message, or a whole one that is binary or out of place."""
        if (frame.msg_type == WSMsgType.CONTINUATION) != (self.fragment_type >= 0):
            self.send_close(transport, WSCloseCode.PROTOCOL_ERROR, "fragments out of order")
            return
        if self.fragment_type < 0:
            self.fragment_type = frame.msg_type
            self.joined_size = 0
        if self.joined_size + frame.payload_size > <Py_ssize_t>MD_FRAME_SIZE_MAX:
            self.fragment_type = -1
            self.send_close(transport, WSCloseCode.MESSAGE_TOO_BIG, "message too long")
            return
        if not self.append(frame.payload_ptr, frame.payload_size):
            self.fragment_type = -1
            self.send_close(transport, WSCloseCode.INTERNAL_ERROR, "out of memory")
            return
        if not frame.fin:
            return
        opcode = self.fragment_type
        self.fragment_type = -1
        self.message(opcode, self.joined, self.joined_size)
        if self.joined_capacity > JOINED_KEPT_SIZE:
            free(self.joined)
            self.joined = NULL
            self.joined_capacity = 0

    cdef bint append(self, const char *data, Py_ssize_t size) noexcept:
        """Put a fragment behind the ones before. False: there is no memory."""
        cdef Py_ssize_t capacity = max(self.joined_capacity, 4096)
        cdef char *grown
        while capacity < self.joined_size + size:
            capacity *= 2
        if capacity != self.joined_capacity:
            grown = <char *>realloc(self.joined, <size_t>capacity)
            if grown == NULL:
                return False
            self.joined = grown
            self.joined_capacity = capacity
        memcpy(self.joined + self.joined_size, data, <size_t>size)
        self.joined_size += size
        return True

    cdef end_read(self, WSTransport transport):
        """All that one socket read brought is in the rings: say so."""
        cdef uint64_t records
        cdef int64_t now = 0
        if unlikely(self.refused != self.refused_told):
            self.tell_refused_in_time(self.ts_recv)
        records = self.counters.records - self.records_before
        if likely(records != 0):
            now = clock_ns(CLOCK_REALTIME)
            md_histogram_record(&self.counters.recv_to_ring, now - self.ts_recv, records)
            if self.feed.ts_event != MD_ABSENT:
                self.offset_ns = self.feed.ts_event - self.ts_recv
                md_histogram_record(&self.counters.event_to_recv, -self.offset_ns, 1)
                self.feed.ts_event = MD_ABSENT
        md_feed_flush(self.feed, self.ts_recv)
        if likely(records != 0):
            if unlikely(self.feed.until_timed_read == 0):
                self.feed.until_timed_read = MD_HOP_EVERY
                md_histogram_record(&self.counters.ring_to_flush,
                                    clock_ns(CLOCK_REALTIME) - now, 1)
            self.feed.until_timed_read -= 1
        self.note_read(records)
        self.ts_recv = 0
        self.closing |= transport.is_close_frame_sent
        if unlikely(self.feed.wish_count != 0):
            self.wish()
        if unlikely(self.ping_due):
            self.ping_due = False
            payload = PyBytes_FromStringAndSize(self.ping, self.ping_size)
            if self.on_ping is None:
                self.pong(payload)
            else:
                try:
                    self.on_ping(payload)
                except Exception:
                    log.exception("connection %d: cannot answer a PING", self.connection)

    cdef void note_read(self, uint64_t records) noexcept:
        """Bring the connection's numbers up to date: once a read."""
        cdef md_connection_block *block = self.socket.block
        if block == NULL:
            return
        md_store_relaxed_i64(&block.last_frame_ns, self.ts_recv)
        md_count(&block.frames, self.counters.frames - self.frames_before)
        md_count(&block.bytes, self.counters.bytes - self.bytes_before)
        if records != 0:
            md_store_relaxed_i64(&block.last_data_ns, self.ts_recv)
            md_count(&block.records, records)
            if self.offset_ns != MD_ABSENT:
                md_store_relaxed_i64(&block.offset_ns, self.offset_ns)

    cdef wish(self):
        """Some book wants a snapshot: say so."""
        if self.venue.on_wish is None:
            return
        try:
            self.venue.on_wish()
        except Exception:
            log.exception("connection %d: cannot ask for a snapshot", self.connection)

    def pong(self, bytes payload not None):
        """Answer a PING, unless the socket is closing or takes nothing."""
        if self.transport is None or self.closing or self.writing_paused:
            return
        self.transport.send_pong(payload)
        md_count(&self.counters.pings, 1)


cdef check_records(VenueFeed venue, list records):
    """Raise ValueError, KeyError or OverflowError for what cannot be published whole."""
    cdef int64_t ts_event, ts_recv, b0, b1, b2, b3
    begun = None  # the first of the levels, or of a bar, whose last has not come
    for record in records:
        b0, b1, b2, b3 = record.body
        ts_event, ts_recv = record.ts_event, record.ts_recv
        kind = record.kind
        if record.symbol_id:
            if venue.symbol(venue.by_id[record.symbol_id]) == NULL:
                raise ValueError(f"no symbol has the id {record.symbol_id}")
        elif kind != MD_KIND_STATUS:
            raise ValueError("only a status may concern a whole ring")
        second = MD_KIND_BAR_VOLUME if begun is not None and begun.kind == MD_KIND_BAR else MD_KIND_LEVEL
        if begun is not None and (kind != second or record.symbol_id != begun.symbol_id):
            raise ValueError("something else between the levels of a frame, or the halves of a bar")
        if kind == MD_KIND_LEVEL:
            if not record.flags & MD_FLAG_SIDE_MASK and (begun is not None or not (
                    record.flags & MD_FLAG_SNAPSHOT and record.flags & MD_FLAG_LAST)):
                raise ValueError("a level of no side, which stands for a book without any")
            begun = None if record.flags & MD_FLAG_LAST else begun or record
        elif kind == MD_KIND_BAR:
            begun = record
        elif kind == MD_KIND_BAR_VOLUME:
            if begun is None:
                raise ValueError("half a bar")
            begun = None
        elif kind not in (MD_KIND_STATUS, MD_KIND_TRADE, MD_KIND_QUOTE, MD_KIND_TICKER):
            raise ValueError(f"a record of kind {kind}")
        if record.late and kind not in (MD_KIND_TRADE, MD_KIND_QUOTE):
            raise ValueError("only a trade or a quote can be late")
    if begun is not None:
        raise ValueError("levels of which none is the last of its frame, or half a bar")


cdef publish_records(VenueFeed venue, const md_connection *connection, records):
    """Publish what a decoder in Python made of one frame, mdsys.feed.frame.Record each: all of it,
    or by an exception nothing."""
    records = list(records)
    check_records(venue, records)
    cdef md_feed *feed = &venue.feed
    cdef md_feed_symbol *symbol
    cdef md_levels levels
    cdef md_bar bar
    cdef md_feed_symbol *of_levels = NULL
    cdef int64_t b0, b1, b2, b3
    pending_bar = None
    for record in records:
        b0, b1, b2, b3 = record.body
        kind = record.kind
        symbol = venue.symbol(venue.by_id[record.symbol_id]) if record.symbol_id else NULL
        if kind == MD_KIND_STATUS:
            if b0 == MD_STATUS_RESYNC and symbol != NULL:
                md_book_unsync(feed, symbol, connection.number, record.ts_recv)  # which says so
                continue
            if b0 == MD_STATUS_GAP:
                md_count(&feed.counters.gaps, 1)
                if b1 != MD_ABSENT:
                    md_count(&feed.counters.gap_ids, <uint64_t>(b2 - b1) + 1)
            md_feed_publish_status(feed, symbol, <md_status><int>b0, b1, b2, b3, record.ts_recv)
            continue
        if kind == MD_KIND_LEVEL:
            if of_levels == NULL:
                of_levels = symbol
                levels = md_levels_begin(feed, symbol, connection, record.ts_event, record.ts_recv,
                                         b3, record.flags & MD_FLAG_SNAPSHOT)
            if record.flags & MD_FLAG_SIDE_MASK:
                md_levels_put(&levels, record.flags & MD_FLAG_SIDE_MASK, b0, b1, b2)
            if record.flags & MD_FLAG_LAST:
                md_levels_end(&levels)
                of_levels = NULL
                if b3 > 0:  # for the feed after us, as below
                    md_store_relaxed_u64(&symbol.cell.venue_book_id, <uint64_t>b3)
        elif record.late:
            md_feed_publish_past_cell(feed, symbol, kind, record.flags, record.ts_event,
                                      record.ts_recv, b0, b1, b2, b3)
            md_count(&feed.counters.trades if kind == MD_KIND_TRADE else &feed.counters.quotes, 1)
        elif kind == MD_KIND_TRADE:
            md_feed_publish(feed, symbol, MD_KIND_TRADE, record.flags, MD_CACHE_TRADE,
                            record.ts_event, record.ts_recv, b0, b1, b2, b3)
            md_count(&feed.counters.trades, 1)
            if b2 > 0:
                md_store_relaxed_u64(&symbol.cell.venue_trade_id, <uint64_t>b2)
        elif kind == MD_KIND_QUOTE:
            md_publish_quote(feed, symbol, record.ts_event, record.ts_recv, b0, b1, b2, b3,
                             MD_ABSENT)
        elif kind == MD_KIND_TICKER:
            md_publish_ticker(feed, symbol, record.ts_event, record.ts_recv, b0, b1, b2, b3)
        elif kind == MD_KIND_BAR:
            pending_bar = record
        else:
            bar.open, bar.high, bar.low, bar.close = pending_bar.body
            bar.volume, bar.vwap, bar.trade_count, bar.interval_ns = b0, b1, b2, b3
            md_publish_bar(feed, symbol, record.ts_event, record.ts_recv, &bar)
