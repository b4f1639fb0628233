/* What a decoder sees of the feed process it runs in: symbols, rings, cache and counters.
 *
 * A decoder turns one frame into records and does no I/O. Per record, in this order: look the
 * symbol up, parse, check the venue's sequence (a hole is announced first), write the cell, release
 * the slot. Everything here is one thread's.
 */
#ifndef MDSYS_FEED_H
#define MDSYS_FEED_H

#include <string.h>

#include "audience.h"
#include "mdsys/cache.h"
#include "mdsys/counters.h"
#include "mdsys/record.h"
#include "mdsys/ring.h"
#include "mdsys/symbols.h"
#include "mdsys/xxh3.h"

#define MD_FRAME_SIZE_MAX (1u << 20)

/* What became of a frame. Append-only. */
enum md_frame_result {
    MD_FRAME_OK = 0,
    MD_FRAME_CONTROL = 1, /* an answer, not market data: for Python */
    MD_FRAME_MALFORMED = 2,
    MD_FRAME_UNKNOWN_EVENT = 3,
    MD_FRAME_UNKNOWN_SYMBOL = 4,
    MD_FRAME_VALUE = 5, /* inexact or overflowing */
    MD_FRAME_TOO_LONG = 6,
};

/* One symbol of one venue as its feed sees it. */
struct md_feed_symbol {
    uint64_t tag; /* md_record_tag of its records, without kind and flags */
    struct md_cell *cell;
    struct md_ring_writer *ring;
    uint32_t symbol_id; /* 0: this place of the table is free */
    uint8_t price_scale;
    uint8_t size_scale;
    uint8_t price_decimals; /* of the last price, in [0, 8]: for decoders that guess the next */
    uint8_t size_decimals;
    char name[MD_NAME_SIZE_MAX]; /* native: without the venue; zeros behind it */
    uint8_t name_size;
};

static_assert(sizeof(struct md_feed_symbol) == 96, "what a look-up needs lies in the first 48");

/* One venue within one feed process. Feeds of several venues share rings and counters. */
struct md_feed {
    struct md_ring_writer *rings;
    uint32_t ring_count;
    uint32_t table_mask; /* places - 1; at most half of them are used */
    uint32_t symbol_count;
    struct md_feed_symbol *table;
    struct md_counter_block *counters;
    struct md_audience *audiences; /* of the rings, one each; NULL: nobody is woken or waited for */
    int64_t ts_event; /* the last record's; the transport samples it once per socket read */
};

/* Decode one frame and publish what it holds. Never reads outside frame[0..size). */
typedef enum md_frame_result (*md_decode_fn)(
    struct md_feed *feed, const char *frame, size_t size, int64_t ts_recv, uint32_t connection);

/* ---- life cycle (feed.c) ------------------------------------------------------------------- */

/* Make room for symbol_count symbols. Returns 0, or -1 when there is no memory. */
int md_feed_init(struct md_feed *feed,
                 struct md_ring_writer *rings,
                 uint32_t ring_count,
                 struct md_counter_block *counters,
                 uint32_t symbol_count);
void md_feed_free(struct md_feed *feed);

/* Add a symbol. ring: in [0, ring_count). size: in [1, MD_NAME_SIZE_MAX]. Returns 0; -1 when it is
 * there already or the table is full. */
int md_feed_add_symbol(struct md_feed *feed,
                       const char *name,
                       size_t size,
                       uint32_t symbol_id,
                       uint32_t ring,
                       unsigned price_scale,
                       unsigned size_scale,
                       struct md_cell *cell);

/* ---- per frame ------------------------------------------------------------------------------ */

/* A short name in two words, with zeros behind it: cheap to hash and to compare. */
struct md_short_name {
    uint64_t low, high;
};

#define MD_SHORT_NAME_SIZE_MAX sizeof(struct md_short_name)

static inline struct md_short_name md_short_name_of(const char *name, size_t size) {
    struct md_short_name out = {0, 0};
    memcpy(&out, name, size);
    return out;
}

static inline uint64_t md_short_name_hash(struct md_short_name name) {
    return md_xxh_fold(name.low ^ MD_XXH_PRIME64_1, name.high ^ MD_XXH_PRIME64_2);
}

/* The table is private to the process, so its hash may be any. size: in [1, MD_NAME_SIZE_MAX]. */
static inline uint64_t md_feed_hash(const char *name, size_t size) {
    return size <= MD_SHORT_NAME_SIZE_MAX ? md_short_name_hash(md_short_name_of(name, size))
                                          : md_xxh3_64(name, size);
}

/* size: in [1, MD_SHORT_NAME_SIZE_MAX]. */
static inline struct md_feed_symbol *
md_feed_find_short(const struct md_feed *feed, struct md_short_name name, size_t size) {
    for (uint32_t probe = (uint32_t)md_short_name_hash(name);; probe++) { /* ends: half are free */
        struct md_feed_symbol *symbol = &feed->table[probe & feed->table_mask];
        struct md_short_name found;
        memcpy(&found, symbol->name, sizeof found);
        if (found.low == name.low && found.high == name.high && symbol->name_size == size) {
            return symbol;
        }
        if (symbol->symbol_id == 0) {
            return NULL;
        }
    }
}

static inline struct md_feed_symbol *
md_feed_find_symbol(const struct md_feed *feed, const char *name, size_t size) {
    if (size == 0 || size > MD_NAME_SIZE_MAX) {
        return NULL;
    }
    if (size <= MD_SHORT_NAME_SIZE_MAX) {
        return md_feed_find_short(feed, md_short_name_of(name, size), size);
    }
    for (uint32_t probe = (uint32_t)md_feed_hash(name, size);; probe++) { /* ends: half are free */
        struct md_feed_symbol *symbol = &feed->table[probe & feed->table_mask];
        if (symbol->symbol_id == 0) {
            return NULL;
        }
        if (symbol->name_size == size && memcmp(symbol->name, name, size) == 0) {
            return symbol;
        }
    }
}

/* Publish a status record. symbol: NULL for all the rings of the feed, once each. */
void md_feed_publish_status(struct md_feed *feed,
                            const struct md_feed_symbol *symbol,
                            enum md_status what,
                            int64_t first_lost,
                            int64_t last_lost,
                            int64_t connection,
                            int64_t ts_recv);

/* The slow half of md_feed_check_sequence. */
void md_feed_sequence_broken(struct md_feed *feed,
                             const struct md_feed_symbol *symbol,
                             uint64_t last,
                             uint64_t first,
                             uint32_t connection,
                             int64_t ts_recv);

/* Hold what a frame says it covers, venue ids from first on, against the last id seen. A hole goes
 * into the ring as a gap, before the frame's records; an id not above the last counts as reordered.
 * last: the cell's venue_trade_id or venue_book_id; 0: none seen yet. */
static inline void md_feed_check_sequence(struct md_feed *feed,
                                          const struct md_feed_symbol *symbol,
                                          uint64_t last,
                                          uint64_t first,
                                          uint32_t connection,
                                          int64_t ts_recv) {
    if (__builtin_expect(last != 0 && first != last + 1, 0)) {
        md_feed_sequence_broken(feed, symbol, last, first, connection, ts_recv);
    }
}

/* Remember how far the venue's ids have come: after the records are in the ring, so that a feed
 * that is killed in between announces too much as lost rather than too little. */
static inline void md_feed_note_sequence(uint64_t *last, uint64_t latest) {
    if (latest > *last) {
        md_store_relaxed_u64(last, latest);
    }
}

/* Publish a frame's only record: cell first, then ring. Values stay in registers
 * and go out as 64-bit stores; a record built in memory and copied stalls on store forwarding. */
static inline void md_feed_publish(struct md_feed *feed,
                                   const struct md_feed_symbol *symbol,
                                   enum md_kind kind,
                                   unsigned flags,
                                   enum md_cache_part part,
                                   int64_t ts_event,
                                   int64_t ts_recv,
                                   int64_t body0,
                                   int64_t body1,
                                   int64_t body2,
                                   int64_t body3) {
    struct md_ring_writer *ring = symbol->ring;
    uint64_t tag = symbol->tag | md_record_tag(0, kind, flags | MD_FLAG_LAST, 0, 0);
    struct md_slot *slot = md_ring_claim(ring, ring->next);
    md_cell_store(
        symbol->cell, part, ring->next, ts_event, ts_recv, tag, body0, body1, body2, body3);
    md_slot_fill(slot, ts_event, ts_recv, tag, body0, body1, body2, body3);
    md_ring_release(ring, 1);
    feed->ts_event = ts_event;
    md_count(&feed->counters->records, 1);
}

/* Tell the readers how far every ring is, and wake who sleeps. Once per socket read, and by a timer
 * when idle. */
static inline void md_feed_flush(struct md_feed *feed, int64_t now_ns) {
    for (uint32_t i = 0; i < feed->ring_count; i++) {
        if (feed->audiences != NULL) {
            md_audience_flush(&feed->audiences[i], now_ns);
        } else {
            md_ring_flush(&feed->rings[i], now_ns);
        }
    }
}

#endif
