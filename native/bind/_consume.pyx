# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The reader's side as Python objects: what `mdsys.consume` stands on.

Thin: protocols and policies are in native/include/mdsys/{poll,bell,refresh,consumer}.h.
"""

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from mdsys._native import ReaderPage


cdef extern from "mdsys/atomic.h" nogil:
    uint32_t md_load_acquire_u32(const uint32_t *p)
    uint64_t md_load_acquire_u64(const uint64_t *p)
    void md_store_relaxed_u64(uint64_t *p, uint64_t value)
    void md_store_release_u64(uint64_t *p, uint64_t value)
    void md_store_release_u32(uint32_t *p, uint32_t value)
    void md_pause()


cdef extern from "mdsys/consumer.h" nogil:
    struct md_record:
        uint64_t seq
        uint32_t symbol_id
        uint8_t kind
    struct md_ring_header:
        uint64_t depth
        uint64_t cursor
    struct md_ring_reader:
        uint64_t next
        uint64_t lost
        uint64_t missed
        uint64_t resumed
        const md_ring_header *header
    struct md_reader_ring:
        uint64_t next
        uint64_t lost
        uint64_t dropped
        uint64_t asleep
    struct md_reader_page:
        uint64_t reader_id
        uint64_t polls
        uint64_t received, filtered, conflated, dropped, lost, handler_errors
        md_reader_ring *ring
    struct md_conflation_entry:
        pass
    struct md_conflation:
        md_conflation_entry *entries
        uint64_t capacity
        uint64_t round
    struct md_source:
        md_ring_reader reader
        md_reader_ring *place
        uint64_t lag_max
        uint32_t pressed
        uint32_t ring
    struct md_poller:
        md_source *sources
        uint32_t source_count
        uint32_t turn
        uint32_t pressed_count
        uint32_t policy
        const uint64_t *wanted
        uint64_t wanted_count
        md_conflation *conflation
        md_reader_page *page
    struct md_waiter:
        const uint32_t *stop
        int64_t nap_ns
        uint32_t by_clock
    ctypedef uint64_t (*md_handler_fn)(const md_record *records, uint64_t count, void *state) nogil
    struct md_handler:
        md_handler_fn call
        void *state
        uint32_t kinds
        const uint64_t *wanted
        uint64_t wanted_count
        md_record *picked
    struct md_consumer:
        md_poller poller
        md_waiter waiter
        uint32_t wait
        uint32_t adaptive
        uint32_t batch_now
        md_record *batch
        md_handler *handlers
        uint32_t handler_count
        uint32_t outside
        uint64_t count
        uint32_t handler
        uint32_t failed_handler
        uint64_t at
        md_record failed
        uint64_t told
    ctypedef int md_consumer_result "enum md_consumer_result"
    const int MD_CONSUMER_TIME
    const int MD_CONSUMER_BATCH
    const int MD_CONSUMER_STOP
    const int MD_CONSUMER_FAILED
    const int MD_CONSUMER_NEWS
    const uint32_t MD_RING_COUNT_MAX
    const uint32_t MD_SHARE_ONE
    const uint32_t MD_BATCH_MAX
    const uint32_t MD_SPINS_PER_CLOCK
    const uint32_t MD_PRESSED_FACTOR
    const int MD_POLICY_CONFLATE
    const int MD_WAIT_ADAPTIVE
    const int MD_WAIT_SPIN
    const int MD_WAIT_PARK
    int64_t md_monotonic_ns()
    void md_waiter_wake(uint32_t *stop)
    void md_source_init(md_source *source, const md_ring_header *header, md_reader_page *page,
                        uint64_t queue_max, uint32_t threshold)
    uint64_t md_source_lag(const md_source *source)
    int md_poller_ready(const md_poller *poller)
    void md_poller_move(md_poller *poller, md_reader_page *page)
    void md_poller_leave(md_poller *poller)
    uint64_t md_poller_read(md_poller *poller, md_record *out, uint64_t count)
    void md_park(md_poller *poller, md_waiter *waiter, int64_t ns_max)
    int64_t md_consumer_idle(md_consumer *consumer, int64_t idle_since_ns, int64_t until_ns)
    void md_consumer_begin(md_consumer *consumer, uint32_t batch_max, uint32_t batch_room)
    uint64_t md_handler_pick(const md_handler *handler, const md_record *records, uint64_t count)
    int md_consumer_dispatch(md_consumer *consumer)
    void md_consumer_done(md_consumer *consumer)
    md_consumer_result md_consumer_run(md_consumer *consumer, int64_t until_ns)


cdef extern from "mdsys/refresh.h" nogil:
    struct md_symbols_header:
        uint32_t count
    struct md_cache_header:
        pass
    struct md_refresh:
        uint32_t symbol_id
        uint32_t busy
    int md_poller_has_missed(const md_poller *poller)
    uint64_t md_poller_refresh(md_poller *poller, const md_symbols_header *symbols,
                               const md_cache_header *cache, md_refresh *refresh, md_record *out,
                               uint64_t count)


SHARE_ONE = MD_SHARE_ONE
BATCH_MAX = MD_BATCH_MAX
PRESSED_FACTOR = MD_PRESSED_FACTOR

cdef int64_t SLICE_NS = 50_000_000  # between two looks for signals


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


cdef class Poller:
    """Reads several rings, from their heads on. One thread's.

    Args:
        rings: `mdsys._native.Ring` objects, in the order they are served first.
        wanted: Bitmap over symbol ids, little-endian 64-bit words; None passes everything.
        page: The `mdsys._native.ReaderPage` that it counts in; None: one of its own.
        policy: Of enum md_policy: 0 drop_oldest, 1 conflate, 2 lossless.
        wait: Of enum md_wait: 0 adaptive, 1 spin, 2 park.
        queue_max: Most records of a ring that may wait before the policy acts; 0: it never does.
        threshold: The share of that at which it acts, in (0, 1].
        symbol_capacity: Ids below this may be conflated.
    """

    cdef md_consumer consumer
    cdef md_conflation conflation
    cdef uint32_t stop_word
    cdef bint watched  # a Watcher sleeps in our place: we must not
    cdef list rings
    cdef readonly object page
    cdef _Buffer wanted
    cdef object last_out
    cdef _Buffer last_view

    def __cinit__(self, list rings not None, wanted=None, page=None, int policy=0, int wait=0,
                  uint64_t queue_max=0, double threshold=1.0, uint64_t symbol_capacity=0):
        cdef md_poller *poller = &self.consumer.poller
        if page is None:
            page = ReaderPage.private()
        if len(rings) > <int>MD_RING_COUNT_MAX:
            raise ValueError(f"{len(rings)} rings: at most {MD_RING_COUNT_MAX}")
        self.rings = rings
        self.page = page
        poller.page = <md_reader_page *><uintptr_t>page.address
        poller.policy = <uint32_t>policy
        poller.sources = <md_source *>calloc(max(len(rings), 1), sizeof(md_source))
        if poller.sources is NULL:
            raise MemoryError
        poller.source_count = <uint32_t>len(rings)
        cdef uint32_t share = max(1, min(MD_SHARE_ONE, <uint32_t>(threshold * MD_SHARE_ONE)))
        for i in range(len(rings)):
            md_source_init(&poller.sources[i], <const md_ring_header *><uintptr_t>rings[i].address,
                           poller.page, queue_max, share)
        if wanted is not None:
            self.wanted = _Buffer(wanted)
            poller.wanted = <const uint64_t *>self.wanted.view.buf
            poller.wanted_count = <uint64_t>self.wanted.view.len // 8 * 64
        if policy == MD_POLICY_CONFLATE:
            self.conflation.entries = <md_conflation_entry *>calloc(
                symbol_capacity + 1, sizeof(md_conflation_entry))
            if self.conflation.entries is NULL:
                raise MemoryError
            self.conflation.capacity = symbol_capacity + 1
            poller.conflation = &self.conflation
        self.consumer.wait = <uint32_t>wait
        self.consumer.waiter.stop = &self.stop_word

    def __dealloc__(self):
        free(self.consumer.poller.sources)
        free(self.conflation.entries)

    def move(self, page not None):
        """Go on counting in another page, with the counts so far."""
        md_poller_move(&self.consumer.poller, <md_reader_page *><uintptr_t>page.address)
        self.page = page
        self.consumer.waiter.by_clock = self.watched

    def leave(self):
        """Tell the writers that nobody need wait for this reader; it reads no more."""
        md_poller_leave(&self.consumer.poller)

    @property
    def cursors(self) -> list[int]:
        """The next sequence to read, ring by ring."""
        cdef md_poller *poller = &self.consumer.poller
        return [poller.sources[i].reader.next for i in range(poller.source_count)]

    @property
    def missed(self) -> list[tuple[int, int]]:
        """The sequences [from, to) that were not read and not yet forgotten, ring by ring."""
        cdef md_poller *poller = &self.consumer.poller
        return [(poller.sources[i].reader.missed, poller.sources[i].reader.resumed)
                for i in range(poller.source_count)]

    def forget_missed(self):
        """Begin anew with what is missed from now on."""
        cdef md_poller *poller = &self.consumer.poller
        for i in range(poller.source_count):
            poller.sources[i].reader.missed = poller.sources[i].reader.resumed

    @property
    def has_missed(self) -> bool:
        """Whether a refresh could bring anything."""
        return md_poller_has_missed(&self.consumer.poller) != 0

    @property
    def lags(self) -> list[int]:
        """Records published and not yet read, ring by ring, as of the writers' last flush."""
        cdef md_poller *poller = &self.consumer.poller
        return [md_source_lag(&poller.sources[i]) for i in range(poller.source_count)]

    @property
    def pressed_count(self) -> int:
        """How many rings' lag was past the threshold at the last look."""
        return self.consumer.poller.pressed_count

    # Those that a strategy looks at after each poll; the page has the rest.

    @property
    def received(self) -> int:
        """Records handed out."""
        return self.consumer.poller.page.received

    @property
    def filtered(self) -> int:
        """Records read that no filter wanted."""
        return self.consumer.poller.page.filtered

    @property
    def conflated(self) -> int:
        """Records merged into another that was handed out."""
        return self.consumer.poller.page.conflated

    @property
    def dropped(self) -> int:
        """Records skipped by the drop_oldest policy."""
        return self.consumer.poller.page.dropped

    @property
    def lost(self) -> int:
        """Records overwritten before they were read, exactly."""
        return self.consumer.poller.page.lost

    def poll_into(self, out, double timeout=0.0) -> int:
        """Copy new records into ``out``.

        Args:
            out: Writable C-contiguous buffer of whole records; giving the same object again is
                quickest.
            timeout: Seconds to wait for the first record, >= 0, as the reader's ``wait`` says.

        Returns:
            Records copied, in [0, room]; 0: nothing new that is wanted.

        Raises:
            ValueError: ``out`` is read-only, not contiguous or no array of whole records.
        """
        if out is not self.last_out or self.last_view is None:
            self._take(out)
        cdef uint64_t room = <uint64_t>self.last_view.view.len // sizeof(md_record)
        cdef md_record *to = <md_record *>self.last_view.view.buf
        cdef uint64_t n = md_poller_read(&self.consumer.poller, to, room)
        if n == 0 and timeout > 0 and room > 0:
            n = self._wait(to, room, timeout)
        return n

    cdef _take(self, out):
        cdef _Buffer view = _Buffer(out, True)
        if view.view.len == 0 or view.view.len % <Py_ssize_t>sizeof(md_record) != 0:
            raise ValueError(f"{view.view.len} bytes: give room for whole records, at least one")
        self.last_view = view
        self.last_out = out

    cdef uint64_t _wait(self, md_record *to, uint64_t room, double timeout) except? 0:
        cdef int64_t now = md_monotonic_ns()
        cdef int64_t deadline = now + <int64_t>(min(timeout, 1e9) * 1e9)
        cdef int64_t idle, slice_end
        cdef uint64_t n = 0
        cdef uint32_t empty
        self.consumer.waiter.nap_ns = 0
        while n == 0 and now < deadline and self.stop_word == 0:
            with nogil:
                slice_end = min(now + SLICE_NS, deadline)
                idle = now
                empty = 0
                while n == 0 and idle >= 0 and self.stop_word == 0:
                    idle = md_consumer_idle(&self.consumer, idle, slice_end)
                    n = md_poller_read(&self.consumer.poller, to, room)
                    empty += 1  # a busy ring may have nothing for us for as long as it likes
                    if empty % MD_SPINS_PER_CLOCK == 0 and md_monotonic_ns() >= slice_end:
                        break
                now = md_monotonic_ns()
            if n == 0:  # else what was read would be counted and gone
                PyErr_CheckSignals()
        return n

    def refresh_into(self, symbols not None, cache not None, out not None,
                     uint32_t after) -> tuple[int, int, int]:
        """Copy the newest values among what was missed, those of the symbols behind ``after``.

        Args:
            symbols: `mdsys._native.Symbols`.
            cache: `mdsys._native.Cache`.
            out: Room for at least two records.
            after: 0, then what the last call returned.

        Returns:
            (records copied, the last symbol id looked at, half-written cells met).
        """
        cdef _Buffer view = _Buffer(out, True)
        cdef md_refresh refresh
        refresh.symbol_id = after
        refresh.busy = 0
        cdef uint64_t n = md_poller_refresh(
            &self.consumer.poller, <const md_symbols_header *><uintptr_t>symbols.address,
            <const md_cache_header *><uintptr_t>cache.address, &refresh,
            <md_record *>view.view.buf, <uint64_t>view.view.len // sizeof(md_record))
        return n, refresh.symbol_id, refresh.busy

    def stop(self):
        """End a wait or a run, from any thread; it stays ended until `go_on`."""
        md_store_release_u32(&self.stop_word, 1)
        md_waiter_wake(&self.stop_word)

    def go_on(self):
        """Take `stop` back."""
        md_store_release_u32(&self.stop_word, 0)

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self.stop_word != 0


cdef class Loop(Poller):
    """A consumer's native loop: batches, handlers, latencies. Arguments as of `Poller`."""

    cdef object keep  # what the handlers point into
    cdef object batch_array
    cdef _Buffer batch_view
    cdef md_handler *table
    cdef list picked

    def __dealloc__(self):
        free(self.table)

    def begin(self, batch not None, list handlers not None, uint32_t batch_max, bint adaptive):
        """Set it up.

        Args:
            batch: Writable array of records: the room that batches past the threshold may take.
            handlers: In the order they are called, (address, state, kinds, wanted, picked): the
                address of a C function (`md_handler_fn`), 0 for one outside; its state, a writable
                buffer or None; a mask of kinds, 0 for all; a bitmap of symbols or None; room for
                what it picks, as large as ``batch``, or None where it takes all.
            batch_max: Most records at a time while not past the threshold, >= 1.
            adaptive: Whether batches grow and shrink.
        """
        cdef _Buffer view
        cdef md_handler *handler
        cdef _Buffer batch_view = _Buffer(batch, True)
        cdef uint64_t room = <uint64_t>batch_view.view.len // sizeof(md_record)
        if not 1 <= batch_max <= room <= MD_BATCH_MAX:
            raise ValueError(f"batch of {batch_max}, room for {room}")
        keep, all_picked = [], []
        outside = False
        cdef md_handler *table = <md_handler *>calloc(max(len(handlers), 1), sizeof(md_handler))
        if table is NULL:
            raise MemoryError
        try:
            for i in range(len(handlers)):
                address, state, kinds, wanted, picked = handlers[i]
                handler = &table[i]
                handler.call = <md_handler_fn><uintptr_t>address
                handler.kinds = kinds
                outside = outside or address == 0
                if state is not None:
                    view = _Buffer(state, True)
                    handler.state = view.view.buf
                    keep.append(view)
                if wanted is not None:
                    view = _Buffer(wanted)
                    handler.wanted = <const uint64_t *>view.view.buf
                    handler.wanted_count = <uint64_t>view.view.len // 8 * 64
                    keep.append(view)
                if picked is not None:
                    view = _Buffer(picked, True)
                    if view.view.len < batch_view.view.len:
                        raise ValueError("picked is smaller than batch")
                    handler.picked = <md_record *>view.view.buf
                    keep.append(view)
                elif kinds or wanted is not None:
                    raise ValueError("a handler that picks needs room")
                all_picked.append(picked)
        except BaseException:
            free(table)
            raise
        free(self.table)  # nothing of the old is pointed at any more from here on
        self.table = table
        self.keep, self.picked = keep, all_picked
        self.batch_view, self.batch_array = batch_view, batch
        self.consumer.batch = <md_record *>self.batch_view.view.buf
        self.consumer.handlers = self.table
        self.consumer.handler_count = <uint32_t>len(handlers)
        self.consumer.outside = outside
        self.consumer.adaptive = adaptive
        md_consumer_begin(&self.consumer, batch_max, <uint32_t>room)

    def run(self, double seconds) -> int:
        """Run until there is something to tell, for at most ``seconds``.

        Returns:
            Of enum md_consumer_result: 0 the time is over, 1 a batch for handlers outside (look
            at `count`, then call `done`), 2 stopped, 3 a handler failed (`failure`), 4 news.
        """
        cdef int64_t until = md_monotonic_ns() + <int64_t>(seconds * 1e9)
        cdef md_consumer_result result
        with nogil:
            result = md_consumer_run(&self.consumer, until)
        return result

    @property
    def count(self) -> int:
        """Records of the batch that handlers outside have not had."""
        return self.consumer.count

    def pick(self, uint32_t index) -> int:
        """Copy what a handler wants of the batch into its room; return how many records."""
        if index >= self.consumer.handler_count:
            raise IndexError(f"no handler {index}")
        return md_handler_pick(&self.table[index], self.consumer.batch, self.consumer.count)

    def done(self):
        """The batch is handled by all."""
        md_consumer_done(&self.consumer)

    def load(self, uint64_t count):
        """Make the first ``count`` records of the batch's room, put there by the caller, the batch.

        None may be pending: `count` is 0.
        """
        if count > <uint64_t>self.batch_view.view.len // sizeof(md_record):
            raise ValueError(f"{count} records are more than there is room for")
        md_consumer_done(&self.consumer)
        self.consumer.count = count

    def dispatch(self) -> int:
        """Hand the batch to the native handlers and read nothing.

        Returns:
            As `run`: 0 all have had it, 1 those outside have not, 3 a handler failed.
        """
        cdef int whole
        if self.consumer.count == 0:
            return MD_CONSUMER_TIME
        with nogil:
            whole = md_consumer_dispatch(&self.consumer)
        if not whole:
            return MD_CONSUMER_FAILED
        if self.consumer.outside:
            return MD_CONSUMER_BATCH
        md_consumer_done(&self.consumer)
        return MD_CONSUMER_TIME

    def count_handler_error(self):
        """Count a failure of a handler outside."""
        md_store_relaxed_u64(&self.consumer.poller.page.handler_errors,
                             self.consumer.poller.page.handler_errors + 1)

    @property
    def failure(self) -> tuple[int, bytes]:
        """(index of the handler that failed, the record that it failed at)."""
        return (self.consumer.failed_handler,
                (<char *>&self.consumer.failed)[:sizeof(md_record)])


cdef class Watcher:
    """Parks for a reader in another thread, for `Reader.fileno`.

    It shares the poller's place in the doorbell, so the poller's own thread must not park.
    """

    cdef md_poller poller
    cdef md_waiter waiter
    cdef uint32_t stop_word
    cdef object owner
    cdef object page
    cdef object their_page  # that our sources show themselves in, held until we are armed anew

    def __cinit__(self, Poller owner not None):
        cdef md_poller *theirs = &owner.consumer.poller
        self.owner = owner
        self.page = page = ReaderPage.private()  # its counts are nobody's
        self.poller.page = <md_reader_page *><uintptr_t>page.address
        self.poller.page.reader_id = theirs.page.reader_id
        self.poller.sources = <md_source *>calloc(theirs.source_count + 1, sizeof(md_source))
        if self.poller.sources is NULL:
            raise MemoryError
        self.poller.source_count = theirs.source_count
        self.waiter.stop = &self.stop_word
        owner.watched = True
        owner.consumer.waiter.by_clock = 1

    def __dealloc__(self):
        free(self.poller.sources)

    def arm(self):
        """Take note of where the poller is. Its thread's, while nobody waits."""
        cdef Poller owner = self.owner
        self.their_page = owner.page
        self.stop_word = 0
        self.poller.page.reader_id = owner.consumer.poller.page.reader_id
        self.waiter.by_clock = 0
        memcpy(self.poller.sources, owner.consumer.poller.sources,
               self.poller.source_count * sizeof(md_source))
        self.waiter.nap_ns = 0

    def wait(self, double seconds) -> bool:
        """Return whether there is something to read, waiting at most ``seconds``."""
        cdef int64_t until = md_monotonic_ns() + <int64_t>(seconds * 1e9)
        cdef int64_t now
        cdef bint ready
        with nogil:
            while True:
                ready = md_poller_ready(&self.poller) != 0
                now = md_monotonic_ns()
                if ready or now >= until or self.stop_word != 0:
                    break
                md_park(&self.poller, &self.waiter, until - now)
        return ready

    def stop(self):
        """End `wait`, from any thread; it stays ended until `arm`."""
        md_store_release_u32(&self.stop_word, 1)
        md_waiter_wake(&self.stop_word)
