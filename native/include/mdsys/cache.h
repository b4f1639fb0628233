/* The last-value cache: what a symbol's trade, quote and book are now, for whoever comes late.
 *
 *   cell, 576 bytes:  state 64 | trade or ticker 64 | quote 64 | 10 bids | 10 asks | heard 64
 *
 * One cell a symbol, at index symbol_id, written by the symbol's feed under a seqlock, before the
 * record goes into the ring. The trade and the quote are whole records that bear the ring sequence
 * they are published under. So a reader that is to read its ring from sequence c on takes from the
 * cell what is older than c, and leaves what is not: the ring brings it. Neither misses nor
 * repeats.
 *
 *   writer                                  reader
 *   C1 version odd     release              D1 version   acquire, even?
 *   C2 fence           release              D2 words     relaxed
 *   C3 words           relaxed              D3 fence     acquire
 *   C4 version even    release              D4 version the same? relaxed
 *
 * C4 pairs with D1, C2 with D3. A writer that dies between C1 and C4 leaves the version odd; the
 * next one repairs it (md_cache_repair, native/src/segment.c), by `writing`, which names the part.
 */
#ifndef MDSYS_CACHE_H
#define MDSYS_CACHE_H

#include "mdsys/atomic.h"
#include "mdsys/record.h"
#include "mdsys/segment.h"

#define MD_CACHE_LEVELS 10u
/* A reader gives up then: the writer died inside, or writes all the time. */
#define MD_CACHE_TRIES 64u

enum md_cache_part {
    MD_CACHE_TRADE = 1, /* bits of md_cell.writing */
    MD_CACHE_QUOTE = 2,
    MD_CACHE_BOOK = 4,
};

enum md_book_flag {
    MD_BOOK_USABLE = 1,  /* in step with the venue */
    MD_BOOK_PARTIAL = 2, /* it has moved out of what the last snapshot told: a level that has not
                          * changed since may be missing; a fresh snapshot is on its way */
};

struct md_cell_level {
    int64_t price;
    int64_t size;
};

struct md_cell {
    uint64_t version; /* odd: being written */
    uint32_t symbol_id;
    uint8_t writing;    /* enum md_cache_part, while the version is odd */
    uint8_t book_flags; /* enum md_book_flag */
    uint8_t bid_count;
    uint8_t ask_count;
    uint64_t book_seq; /* ring sequence of the book's last level */
    int64_t book_ts_event;
    /* The last ids seen of the venue: the feed's alone, not under the version. They outlive the
     * feed, so that the next one can tell what it missed. */
    uint64_t venue_trade_id;
    uint64_t venue_book_id;
    uint64_t venue_quote_id;
    uint64_t reserved0;
    struct md_record trade; /* or ticker; seq 0: none yet */
    struct md_record quote;
    struct md_cell_level bid[MD_CACHE_LEVELS]; /* best first */
    struct md_cell_level ask[MD_CACHE_LEVELS];
    /* When the channels that have no record here were heard last, as ts_recv; 0: never. Not under
     * the version: single words for whoever watches over silence. */
    int64_t heard_book;
    int64_t heard_ticker;
    int64_t heard_bar;
    int64_t book_ts_recv; /* of the book's last level; under the version */
    uint64_t reserved1[4];
};

static_assert(sizeof(struct md_cell) == 576, "nine cache lines");
static_assert(offsetof(struct md_cell, heard_book) == 512, "layout");
static_assert(offsetof(struct md_cell, venue_trade_id) == 32, "layout");
static_assert(offsetof(struct md_cell, trade) == 64, "layout");
static_assert(offsetof(struct md_cell, quote) == 128, "layout");
static_assert(offsetof(struct md_cell, bid) == 192, "layout");

struct md_cache_header {
    struct md_segment_header segment;
    uint64_t cells_offset;
    uint32_t cell_stride;
    uint32_t capacity; /* cells are at [1, capacity] */
    uint64_t reserved0[6];
};

static_assert(sizeof(struct md_cache_header) == 192, "three cache lines");

#define MD_SCHEMA_CACHE UINT64_C(0x00010000024000c0)

static inline enum md_segment_result md_cache_verify(const struct md_cache_header *cache,
                                                     uint64_t mapped_size) {
    enum md_segment_result result =
        md_segment_verify(&cache->segment, mapped_size, MD_SEGMENT_CACHE, MD_SCHEMA_CACHE);
    if (result != MD_SEGMENT_OK) {
        return result;
    }
    if (cache->cell_stride != sizeof(struct md_cell) ||
        !md_segment_fits(&cache->segment,
                         cache->cells_offset,
                         sizeof(struct md_cell),
                         (uint64_t)cache->capacity + 1)) {
        return MD_SEGMENT_BAD_GEOMETRY;
    }
    return MD_SEGMENT_OK;
}

static inline const struct md_cell *md_cache_cell(const struct md_cache_header *cache,
                                                  uint32_t symbol_id) {
    const char *cells = (const char *)cache + cache->cells_offset;
    return (const struct md_cell *)(const void *)(cells + (size_t)symbol_id * cache->cell_stride);
}

/* ---- writer: the symbol's feed ------------------------------------------------------------- */

/* Begin to write a part. */
static inline void md_cell_begin(struct md_cell *cell, enum md_cache_part part) {
    uint64_t version = md_load_relaxed_u64(&cell->version);
    __atomic_store_n(&cell->writing, (uint8_t)part, __ATOMIC_RELAXED);
    md_store_release_u64(&cell->version, version + 1); /* C1, after `writing` */
    md_fence_release();                                /* C2 */
}

static inline void md_cell_end(struct md_cell *cell) {
    uint64_t version = md_load_relaxed_u64(&cell->version);
    md_store_release_u64(&cell->version, version + 1); /* C4 */
}

/* Store a trade (or ticker) or quote under the sequence that the ring will publish it with. */
static inline void md_cell_store(struct md_cell *cell,
                                 enum md_cache_part part,
                                 uint64_t seq,
                                 int64_t ts_event,
                                 int64_t ts_recv,
                                 uint64_t tag,
                                 int64_t body0,
                                 int64_t body1,
                                 int64_t body2,
                                 int64_t body3) {
    uint64_t *to = (uint64_t *)(part == MD_CACHE_TRADE ? &cell->trade : &cell->quote);
    md_cell_begin(cell, part);
    md_store_relaxed_u64(&to[0], seq); /* C3 */
    md_store_relaxed_u64(&to[1], (uint64_t)ts_event);
    md_store_relaxed_u64(&to[2], (uint64_t)ts_recv);
    md_store_relaxed_u64(&to[3], tag);
    md_store_relaxed_u64(&to[4], (uint64_t)body0);
    md_store_relaxed_u64(&to[5], (uint64_t)body1);
    md_store_relaxed_u64(&to[6], (uint64_t)body2);
    md_store_relaxed_u64(&to[7], (uint64_t)body3);
    md_cell_end(cell);
}

/* The top of a symbol's book, best first. */
struct md_book_top {
    uint64_t seq; /* ring sequence of its last level; 0: there was none yet */
    int64_t ts_event;
    int64_t ts_recv;
    uint8_t flags; /* enum md_book_flag */
    uint8_t bid_count;
    uint8_t ask_count;
    struct md_cell_level bid[MD_CACHE_LEVELS];
    struct md_cell_level ask[MD_CACHE_LEVELS];
};

/* Store the top of the book; levels beyond the counts stay as they are. */
static inline void md_cell_store_book(struct md_cell *cell, const struct md_book_top *top) {
    md_cell_begin(cell, MD_CACHE_BOOK);
    __atomic_store_n(&cell->book_flags, top->flags, __ATOMIC_RELAXED); /* C3 */
    __atomic_store_n(&cell->bid_count, top->bid_count, __ATOMIC_RELAXED);
    __atomic_store_n(&cell->ask_count, top->ask_count, __ATOMIC_RELAXED);
    md_store_relaxed_u64(&cell->book_seq, top->seq);
    md_store_relaxed_i64(&cell->book_ts_event, top->ts_event);
    md_store_relaxed_i64(&cell->book_ts_recv, top->ts_recv);
    for (unsigned i = 0; i < top->bid_count; i++) {
        md_store_relaxed_i64(&cell->bid[i].price, top->bid[i].price);
        md_store_relaxed_i64(&cell->bid[i].size, top->bid[i].size);
    }
    for (unsigned i = 0; i < top->ask_count; i++) {
        md_store_relaxed_i64(&cell->ask[i].price, top->ask[i].price);
        md_store_relaxed_i64(&cell->ask[i].size, top->ask[i].size);
    }
    md_cell_end(cell);
}

/* Say that the book is not to be used, and leave the rest as it stands. */
static inline void md_cell_void_book(struct md_cell *cell) {
    md_cell_begin(cell, MD_CACHE_BOOK);
    __atomic_store_n(&cell->book_flags, (uint8_t)0, __ATOMIC_RELAXED); /* C3 */
    md_cell_end(cell);
}

/* ---- readers ------------------------------------------------------------------------------- */

enum md_cache_result {
    MD_CACHE_OK = 0,
    MD_CACHE_NONE = 1, /* the symbol has had none of it yet */
    MD_CACHE_BUSY = 2, /* no whole copy within MD_CACHE_TRIES */
};

/* Whether what was copied since D1 took the version is whole. */
static inline int md_cell_unchanged(const struct md_cell *cell, uint64_t version) {
    md_fence_acquire();                                    /* D3 */
    return md_load_relaxed_u64(&cell->version) == version; /* D4 */
}

/* Copy the last trade (or ticker) or quote of a cell. */
static inline enum md_cache_result
md_cell_load(const struct md_cell *cell, enum md_cache_part part, struct md_record *out) {
    const uint64_t *from = (const uint64_t *)(part == MD_CACHE_TRADE ? &cell->trade : &cell->quote);
    for (unsigned tries = 0; tries < MD_CACHE_TRIES; tries++) {
        uint64_t version = md_load_acquire_u64(&cell->version); /* D1 */
        if (version & 1) {
            md_pause();
            continue;
        }
        md_word_copy(&out->seq, &from[0]); /* D2 */
        md_word_copy(&out->ts_event, &from[1]);
        md_word_copy(&out->ts_recv, &from[2]);
        md_word_copy(&out->symbol_id, &from[3]);
        md_word_copy(&out->body.word[0], &from[4]);
        md_word_copy(&out->body.word[1], &from[5]);
        md_word_copy(&out->body.word[2], &from[6]);
        md_word_copy(&out->body.word[3], &from[7]);
        if (md_cell_unchanged(cell, version)) {
            return out->seq == 0 ? MD_CACHE_NONE : MD_CACHE_OK;
        }
    }
    return MD_CACHE_BUSY;
}

/* Copy the top of a cell's book. Of MD_CACHE_OK's book the flags tell whether it may be used. */
static inline enum md_cache_result md_cell_load_book(const struct md_cell *cell,
                                                     struct md_book_top *out) {
    for (unsigned tries = 0; tries < MD_CACHE_TRIES; tries++) {
        uint64_t version = md_load_acquire_u64(&cell->version); /* D1 */
        if (version & 1) {
            md_pause();
            continue;
        }
        out->flags = __atomic_load_n(&cell->book_flags, __ATOMIC_RELAXED); /* D2 */
        out->bid_count = __atomic_load_n(&cell->bid_count, __ATOMIC_RELAXED);
        out->ask_count = __atomic_load_n(&cell->ask_count, __ATOMIC_RELAXED);
        out->seq = md_load_relaxed_u64(&cell->book_seq);
        out->ts_event = md_load_relaxed_i64(&cell->book_ts_event);
        out->ts_recv = md_load_relaxed_i64(&cell->book_ts_recv);
        for (unsigned i = 0; i < MD_CACHE_LEVELS; i++) {
            out->bid[i].price = md_load_relaxed_i64(&cell->bid[i].price);
            out->bid[i].size = md_load_relaxed_i64(&cell->bid[i].size);
            out->ask[i].price = md_load_relaxed_i64(&cell->ask[i].price);
            out->ask[i].size = md_load_relaxed_i64(&cell->ask[i].size);
        }
        if (md_cell_unchanged(cell, version)) {
            return out->seq == 0 ? MD_CACHE_NONE : MD_CACHE_OK;
        }
    }
    return MD_CACHE_BUSY;
}

#endif
