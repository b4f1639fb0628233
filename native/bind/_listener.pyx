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

from cpython.buffer cimport PyBUF_WRITE
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory, PyMemoryView_GET_BUFFER
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove

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
    const int64_t MD_ABSENT
    struct md_segment_header:
        int64_t heartbeat_ns
    struct md_ring_header:
        md_segment_header segment
    struct md_ring_writer:
        md_ring_header *header
        uint64_t next
    struct md_reader_ring:
        pass
    struct md_reader_page:
        md_reader_ring *ring
    struct md_cache_header:
        pass
    struct md_cell:
        pass
    struct md_histogram:
        pass
    struct md_counter_block:
        uint64_t bytes, frames, frames_control, frames_malformed, frames_unknown_event
        uint64_t frames_unknown_symbol, frames_value_refused, frames_too_long, frames_binary
        uint64_t frames_protocol, records, pings, connects, connect_failures, disconnects
        uint64_t connections, subscriptions_confirmed, subscriptions_refused, log_suppressed
        md_histogram recv_to_ring, event_to_recv
    struct md_ejection:
        uint64_t reader_id
        uint64_t sequence
    struct md_audience:
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
    struct md_feed_symbol:
        pass
    struct md_feed:
        md_counter_block *counters
        md_audience *audiences
        int64_t ts_event
    ctypedef md_frame_result (*md_decode_fn)(
        md_feed *feed, const char *frame, size_t size, int64_t ts_recv, uint32_t connection) nogil
    const md_cell *md_cache_cell(const md_cache_header *cache, uint32_t symbol_id)
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


cdef extern from "decoders.h" nogil:
    md_decode_fn md_decoder_named(const char *name)


log = logging.getLogger("mdsys.feed")

cdef double HANG_UP_S = 0.2  # how long our CLOSE may wait for the peer's
cdef Py_ssize_t READ_SIZE_MAX = 256 << 10  # half of an L2 cache, and of picows' buffer

cdef enum:
    TEXT = 0x81  # a frame's first byte: FIN, no RSV bit, opcode 1
    TEXT_FRAME_SIZE_MAX = 4 + 0xffff
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
        # What is up now is ours to say; the process before us may have been killed.
        md_store_relaxed_u64(&self.counters.connections, 0)
        md_store_relaxed_u64(&self.counters.subscriptions_confirmed, 0)

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

    def take_ejected(self) -> list[tuple[int, int, int]]:
        """Return (reader, ring, first sequence not kept) of who was ejected since the last call."""
        cdef md_ejection[64] found
        cdef uint32_t count
        ejected = []
        for ring, place in self.places.items():
            count = md_audience_take_ejections(&self.audiences[<size_t>place], found)
            ejected += [(found[i].reader_id, ring, found[i].sequence) for i in range(count)]
        return ejected

    def heartbeat(self):
        """Say that this process lives, and that what it has received is published."""
        cdef int64_t now = clock_ns(CLOCK_REALTIME)
        for place in range(len(self.writers)):
            md_audience_flush(&self.audiences[<size_t>place], now)
            md_store_relaxed_i64(&self.rings[<size_t>place].header.segment.heartbeat_ns, now)

    def count_log_suppressed(self, uint64_t count):
        """Count log lines that nobody will read."""
        md_count(&self.counters.log_suppressed, count)


cdef class VenueFeed:
    """One venue's symbols and decoder in a feed process.

    Args:
        feed: Whose rings and counters they use.
        decoder: Name of the C decoder.
        venue: In front of the names in the directory, and without a colon: ``BINANCE``.
        names: The venue's own names of the symbols.
        symbols: The symbol directory.
        cache: The last-value cache, writable.

    Raises:
        ValueError: There is no such decoder, or a symbol is not in the directory, is named twice,
            or is another feed's.
    """

    cdef Feed owner
    cdef object cache
    cdef md_feed feed
    cdef md_decode_fn decode
    cdef int64_t log_next_ns

    def __cinit__(self, Feed feed not None, str decoder, str venue, names, symbols, cache):
        cdef md_cell *cell
        self.owner = feed
        self.cache = cache
        self.decode = md_decoder_named(decoder.encode())
        if self.decode == NULL:
            raise ValueError(f"no decoder is named {decoder}")
        if md_feed_init(&self.feed, feed.rings, <uint32_t>len(feed.places), feed.counters,
                        <uint32_t>len(names)) != 0:
            raise MemoryError
        self.feed.audiences = feed.audiences
        for name in names:
            native = name.encode()
            symbol_id = symbols.find(venue.encode() + b":" + native)
            if symbol_id == 0 or symbol_id > cache.capacity:
                raise ValueError(f"{venue}:{name} is not in the symbol directory")
            _, _, ring, price_scale, size_scale = symbols.entry(symbol_id)
            if ring not in feed.places:
                raise ValueError(f"{venue}:{name} is in ring {ring}, which another feed writes")
            cell = <md_cell *>md_cache_cell(
                <md_cache_header *><size_t>cache.address, <uint32_t>symbol_id)
            if md_feed_add_symbol(&self.feed, native, len(native), symbol_id, feed.places[ring],
                                  price_scale, size_scale, cell) != 0:
                raise ValueError(f"{venue}:{name} is named twice")

    def __dealloc__(self):
        md_feed_free(&self.feed)

    def symbol_refused(self, str name not None, uint32_t connection):
        """Tell the readers of a symbol's ring that the venue will not send it."""
        cdef bytes native = name.encode()
        cdef int64_t now = clock_ns(CLOCK_REALTIME)
        cdef md_feed_symbol *symbol = md_feed_find_symbol(
            &self.feed, native, <size_t>len(native))
        if symbol != NULL:
            md_feed_publish_status(&self.feed, symbol, MD_STATUS_SYMBOL_REFUSED, MD_ABSENT,
                                   MD_ABSENT, connection, now)
            md_feed_flush(&self.feed, now)

    def count_connect_failure(self):
        """Count an attempt to connect that failed."""
        md_count(&self.feed.counters.connect_failures, 1)

    def count_subscriptions(self, int64_t confirmed, uint64_t refused):
        """Count symbols; ``confirmed`` is negative when the connection that had them is gone."""
        md_count(&self.feed.counters.subscriptions_confirmed, <uint64_t>confirmed)
        md_count(&self.feed.counters.subscriptions_refused, refused)

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


cdef Py_ssize_t text_frame_size(const uint8_t *at, Py_ssize_t left) noexcept nogil:
    """Size of the frame at the front of left bytes: header and payload, in [2, TEXT_FRAME_SIZE_MAX].

    0: more of its header must come. FOREIGN: it is no text message in a single frame of less than
    64 KiB, unmasked and its length in the shortest form; picows shall judge it (RFC 6455 5.2).
    """
    cdef Py_ssize_t payload
    if left < 1:
        return 0
    if at[0] != TEXT:
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

    Whole text messages at the front of a read go straight to the decoder. From the first byte of
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
    cdef readonly object connection_lost
    cdef readonly object eof_received
    cdef readonly object pause_writing
    cdef readonly object resume_writing
    cdef uint8_t *buffer  # what is held, then room for a read
    cdef Py_ssize_t held  # of a text frame whose rest has not come, in [0, TEXT_FRAME_SIZE_MAX)

    def __cinit__(self, FrameListener listener not None, WSTransport transport not None):
        picows = transport.underlying_transport.get_protocol()
        self.listener = listener
        self.transport = transport
        self.picows = picows
        self.connection_lost = picows.connection_lost
        self.eof_received = picows.eof_received
        self.pause_writing = picows.pause_writing
        self.resume_writing = picows.resume_writing
        self.buffer = <uint8_t *>malloc(<size_t>(TEXT_FRAME_SIZE_MAX + READ_SIZE_MAX))
        if self.buffer == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.buffer)

    def is_buffered_protocol(self):
        return True

    def get_buffer(self, Py_ssize_t size_hint):
        return PyMemoryView_FromMemory(
            <char *>self.buffer + self.held, READ_SIZE_MAX, PyBUF_WRITE)

    def buffer_updated(self, Py_ssize_t size):
        cdef FrameListener listener = self.listener
        cdef const uint8_t *at = self.buffer
        cdef const uint8_t *end = at + self.held + size
        cdef Py_ssize_t frame_size = FOREIGN
        cdef Py_ssize_t header_size
        self.held = 0
        listener.by_intake = True
        listener.begin_read()
        while listener.takes_texts():  # a control frame's handler may close it
            frame_size = text_frame_size(at, end - at)
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
    """

    cdef VenueFeed venue
    cdef md_feed *feed
    cdef md_counter_block *counters
    cdef md_decode_fn decode
    cdef uint32_t connection
    cdef object on_control
    cdef WSTransport transport
    cdef bint closing, connected, writing_paused
    cdef bint picows_empty  # it holds no part of a frame
    # The read in hand.
    cdef bint by_intake  # which ends it; else its last frame does
    cdef int64_t ts_recv  # 0: none in hand
    cdef uint64_t records_before
    cdef bint ping_due
    cdef char[125] ping  # the most that a control frame may bear
    cdef Py_ssize_t ping_size
    # The fragmented message in hand.
    cdef int fragment_type  # -1: none in hand
    cdef char *message
    cdef Py_ssize_t message_size
    cdef Py_ssize_t message_capacity
    # This socket's frames.
    cdef readonly uint64_t frames
    cdef readonly uint64_t refused
    cdef uint64_t refused_told
    cdef object refused_timer  # None: the next refused frame is told at once

    def __cinit__(self, VenueFeed venue not None, uint32_t connection, on_control):
        self.venue = venue
        self.feed = &venue.feed
        self.counters = venue.feed.counters
        self.decode = venue.decode
        self.connection = connection
        self.on_control = on_control
        self.fragment_type = -1

    def __dealloc__(self):
        free(self.message)

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
        md_count(&self.counters.connects, 1)
        md_count(&self.counters.connections, 1)
        self.tell(MD_STATUS_CONNECTION_UP, MD_ABSENT, MD_ABSENT, now)
        md_feed_flush(self.feed, now)

    cpdef on_ws_disconnected(self, WSTransport transport):
        cdef int64_t now = clock_ns(CLOCK_REALTIME)
        self.closing = True
        self.transport = None
        self.on_control = None
        if not self.connected:
            return
        handshake = transport.close_handshake
        if handshake is not None and handshake.sent is not None:
            if handshake.sent.code == WSCloseCode.MESSAGE_TOO_BIG:
                md_count(&self.counters.frames_too_long, 1)
                self.refused += 1
            elif handshake.sent.code == WSCloseCode.PROTOCOL_ERROR:
                md_count(&self.counters.frames_protocol, 1)
        self.tell_refused(now)
        if self.refused_timer is not None:
            self.refused_timer.cancel()
            self.refused_timer = None
        md_count(&self.counters.disconnects, 1)
        md_count(&self.counters.connections, <uint64_t>-1)
        self.tell(MD_STATUS_CONNECTION_DOWN, MD_ABSENT, MD_ABSENT, now)
        md_feed_flush(self.feed, now)

    cpdef pause_writing(self):
        self.writing_paused = True

    cpdef resume_writing(self):
        self.writing_paused = False

    def abandon(self):
        """Hang up as soon as there is a socket: nobody waits for it any more."""
        self.closing = True
        if self.transport is not None:
            self.transport.disconnect(False)

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

    cdef bint takes_texts(self) noexcept:
        """Whether a text message may come next, and need not go by picows."""
        return self.picows_empty and self.fragment_type < 0 and not self.closing

    cdef void begin_read(self) noexcept:
        self.ts_recv = clock_ns(CLOCK_REALTIME)
        self.records_before = self.counters.records

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        if self.ts_recv == 0:  # it came with the answer to our upgrade
            self.begin_read()
        self.picows_empty = frame.tail_size == 0
        if unlikely(transport.is_close_frame_sent and not self.closing):
            self.picows_closed(frame)
        if likely(frame.msg_type == WSMsgType.TEXT and frame.fin and self.fragment_type < 0
                  and not (frame.rsv1 | frame.rsv2 | frame.rsv3) and not self.closing):
            self.take(frame.payload_ptr, frame.payload_size)
        else:
            self.unusual(transport, frame)
        if frame.last_in_buffer and not self.by_intake:
            self.end_read(transport)

    cdef int take(self, const char *frame, Py_ssize_t size) except -1:
        """Decode one whole message."""
        cdef md_frame_result result = self.decode(
            self.feed, frame, <size_t>size, self.ts_recv, self.connection)
        md_count(&self.counters.frames, 1)
        md_count(&self.counters.bytes, <uint64_t>size)
        if likely(result == MD_FRAME_OK):
            self.frames += 1
        elif result == MD_FRAME_CONTROL:
            self.control(frame, size)
        else:
            self.refuse(result, frame, size)
        return 0

    cdef control(self, const char *frame, Py_ssize_t size):
        md_count(&self.counters.frames_control, 1)
        if self.on_control is None:
            return
        try:
            self.on_control(PyBytes_FromStringAndSize(frame, size))
        except Exception:  # its failure must not cost us the buffer in hand, nor the connection
            log.exception("connection %d: cannot handle a control frame", self.connection)

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
            md_count(&self.counters.frames_too_long, 1)
            self.venue.log_refused(self.connection, "too long", frame, size)
        else:
            self.refused += 1
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
            self.message_size = 0
        if self.message_size + frame.payload_size > <Py_ssize_t>MD_FRAME_SIZE_MAX:
            self.fragment_type = -1
            self.send_close(transport, WSCloseCode.MESSAGE_TOO_BIG, "message too long")
            return
        if not self.append(frame.payload_ptr, frame.payload_size):
            self.fragment_type = -1
            self.send_close(transport, WSCloseCode.INTERNAL_ERROR, "out of memory")
            return
        if not frame.fin:
            return
        if self.fragment_type == WSMsgType.TEXT:
            self.fragment_type = -1
            self.take(self.message, self.message_size)
            return
        self.fragment_type = -1
        self.refused += 1
        md_count(&self.counters.frames_binary, 1)
        self.venue.log_refused(
            self.connection, "binary where text is due", self.message, self.message_size)

    cdef bint append(self, const char *data, Py_ssize_t size) noexcept:
        """Put a fragment behind the ones before. False: there is no memory."""
        cdef Py_ssize_t capacity = max(self.message_capacity, 4096)
        cdef char *grown
        while capacity < self.message_size + size:
            capacity *= 2
        if capacity != self.message_capacity:
            grown = <char *>realloc(self.message, <size_t>capacity)
            if grown == NULL:
                return False
            self.message = grown
            self.message_capacity = capacity
        memcpy(self.message + self.message_size, data, <size_t>size)
        self.message_size += size
        return True

    cdef end_read(self, WSTransport transport):
        """All that one socket read brought is in the rings: say so."""
        cdef uint64_t records
        if unlikely(self.refused != self.refused_told):
            self.tell_refused_in_time(self.ts_recv)
        records = self.counters.records - self.records_before
        if likely(records != 0):
            md_histogram_record(&self.counters.recv_to_ring,
                                clock_ns(CLOCK_REALTIME) - self.ts_recv, records)
            if self.feed.ts_event != MD_ABSENT:
                md_histogram_record(&self.counters.event_to_recv,
                                    self.ts_recv - self.feed.ts_event, 1)
                self.feed.ts_event = MD_ABSENT
        md_feed_flush(self.feed, self.ts_recv)
        self.ts_recv = 0
        self.closing |= transport.is_close_frame_sent
        if unlikely(self.ping_due):
            self.ping_due = False
            if not self.closing and not self.writing_paused:
                transport.send_pong(PyBytes_FromStringAndSize(self.ping, self.ping_size))
                md_count(&self.counters.pings, 1)
