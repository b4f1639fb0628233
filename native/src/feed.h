/* What a decoder sees of the feed process it runs in: symbols, rings, cache and counters.
 *
 * A decoder turns one frame into records and does no I/O. Per record, in this order: look the
 * symbol up, parse, check the venue's sequence (a hole is announced first), write the cell, release
 * the slot. Everything here is one thread's.
 */
#ifndef MDSYS_FEED_H
#define MDSYS_FEED_H

#include <stdbool.h>
#include <string.h>

#include "audience.h"
#include "book.h"
#include "mdsys/cache.h"
#include "mdsys/counters.h"
#include "mdsys/record.h"
#include "mdsys/ring.h"
#include "mdsys/symbols.h"
#include "mdsys/xxh3.h"

#define MD_FRAME_SIZE_MAX (16u << 20) /* the whole book of BTC-USD at Coinbase has several MiB */

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

/* What of a symbol's venue ids is looked at only when one is not the next. */
#define MD_HOLE_COUNT_MAX 3u

struct md_order_state {
    struct md_hole {
        uint64_t first;
        uint64_t last;
    } holes[MD_HOLE_COUNT_MAX]; /* that were announced: what is still missing, the oldest first */
    uint64_t stuck_at;          /* the last id when ids that had been here came in a row */
    uint32_t stuck_count;
    uint32_t hole_count;
};

static_assert(sizeof(struct md_order_state) == 64, "one cache line");

/* One symbol of one venue as its feed sees it. */
struct md_feed_symbol {
    uint64_t tag; /* md_record_tag of its records, without kind and flags */
    struct md_cell *cell;
    struct md_ring_writer *ring;
    uint32_t symbol_id; /* 0: this place of the table is free */
    uint8_t price_scale;
    uint8_t size_scale;
    uint8_t price_decimals; /* the decoder's own: what it has seen of the symbol's prices */
    uint8_t size_decimals;
    char name[MD_NAME_SIZE_MAX]; /* on the wire; zeros behind it */
    uint8_t name_size;
    struct md_book *book; /* NULL: no book is kept */
    uint32_t book_socket; /* md_connection.socket that the book's levels come by; 0: none yet */
    uint32_t book_wanted; /* a snapshot has been wished for */
    struct md_order_state trades;
    struct md_order_state books;
    void *own; /* what the decoder remembers of it, from malloc, freed with it; NULL: nothing */
    uint64_t own_size; /* bytes of it, without pointers: a capture holds them */
};

static_assert(sizeof(struct md_feed_symbol) == 256, "four cache lines");
static_assert(offsetof(struct md_feed_symbol, name) == 32, "a short look-up needs one line");

/* One socket of one connection; zeroed, then the first three are filled in. */
struct md_connection {
    uint32_t number;                   /* as in status records: outlives the socket */
    uint32_t socket;                   /* this socket alone, from 1, never again in this process */
    struct md_connection_block *block; /* NULL: nobody counts */
    uint64_t sequence;                 /* the venue's last one of the connection, plus 1; 0: none */
    struct md_order_state order;       /* of it the holes: frames that may still come */
};

enum { MD_WISH_COUNT_MAX = 256 };

/* One venue within one feed process. Feeds of several venues share rings and counters. */
struct md_feed {
    struct md_ring_writer *rings;
    uint32_t ring_count;
    uint32_t table_mask; /* places - 1; at most half of them are used */
    uint32_t symbol_count;
    struct md_feed_symbol *table;
    struct md_counter_block *counters;
    struct md_audience *audiences; /* of the rings, one each; NULL: nobody is woken or waited for */
    int64_t ts_event;     /* md_feed_note_event; the transport samples it once per socket read */
    uint32_t channels;    /* bit c: enum md_channel c is wanted */
    uint32_t overlapping; /* a connection and its successor are both up: drop what comes twice */
    bool books_by_rest;   /* snapshots of books do not come by stream */
    uint32_t wish_count;  /* symbols whose book wants a snapshot, in wishes; beyond: look at all */
    uint32_t wishes[MD_WISH_COUNT_MAX]; /* ids */
    struct md_capture *capture;         /* NULL: nobody records */
    uint32_t decoding;                  /* in a decoder: what it publishes follows from the frame */
    uint32_t until_timed;               /* frames until one is timed (MD_HOP_EVERY) */
    uint32_t until_timed_read;          /* the same of socket reads */
};

/* Decode one frame and publish what it holds. Never reads outside frame[0..size). */
typedef enum md_frame_result (*md_decode_fn)(struct md_feed *feed,
                                             const char *frame,
                                             size_t size,
                                             int64_t ts_recv,
                                             struct md_connection *connection);

static inline bool md_feed_wants(const struct md_feed *feed, enum md_channel channel) {
    return (feed->channels >> channel & 1) != 0;
}

/* ---- life cycle (feed.c) ------------------------------------------------------------------- */

/* Make room for symbol_count symbols; all channels are wanted. Returns 0, or -1 when there is no
 * memory. */
int md_feed_init(struct md_feed *feed,
                 struct md_ring_writer *rings,
                 uint32_t ring_count,
                 struct md_counter_block *counters,
                 uint32_t symbol_count);
void md_feed_free(struct md_feed *feed);

/* Add a symbol; the table grows when it must, so pointers to symbols do not outlast this. ring: in
 * [0, ring_count). size: in [1, MD_NAME_SIZE_MAX]. Returns 0; -1 when it is there already or there
 * is no memory. */
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

/* Count and tell that venue ids first..last never came; MD_ABSENT both: nobody knows which. symbol:
 * NULL for all the rings of the feed. */
void md_feed_announce_gap(struct md_feed *feed,
                          const struct md_feed_symbol *symbol,
                          int64_t first,
                          int64_t last,
                          uint32_t connection,
                          int64_t ts_recv);

/* What a venue id is, next to the last one. */
enum md_order {
    MD_ORDER_NEXT = 0,  /* new; a hole before it has been announced */
    MD_ORDER_LATE = 1,  /* fills a hole, or comes out of order: not the newest */
    MD_ORDER_AGAIN = 2, /* has been here */
};

/* What a venue's ids promise. */
enum md_ids {
    MD_IDS_NONE = 0,       /* there are none */
    MD_IDS_ASCENDING = 1,  /* with holes by design: only order can be told */
    MD_IDS_CONTIGUOUS = 2, /* a hole is a loss */
};

/* The slow half of md_feed_order. */
enum md_order md_feed_order_broken(struct md_feed *feed,
                                   struct md_feed_symbol *symbol,
                                   struct md_order_state *state,
                                   uint64_t *last,
                                   uint64_t first,
                                   uint64_t latest,
                                   enum md_ids ids,
                                   uint32_t connection,
                                   int64_t ts_recv);

/* Hold what a message says it covers, venue ids first..latest, against the last id seen: a hole
 * goes into the ring as a gap, before the message's records; what is late or has been here is
 * counted. last: the cell's venue_trade_id or venue_book_id; 0: none seen yet. A restart of the
 * venue's numbering (ids far below the last, many in a row) is announced as a gap of unknown ids.
 */
static inline enum md_order md_feed_order(struct md_feed *feed,
                                          struct md_feed_symbol *symbol,
                                          struct md_order_state *state,
                                          uint64_t *last,
                                          uint64_t first,
                                          uint64_t latest,
                                          enum md_ids ids,
                                          uint32_t connection,
                                          int64_t ts_recv) {
    uint64_t seen = *last;
    if (__builtin_expect(seen == 0 || first == seen + 1, 1)) {
        return MD_ORDER_NEXT;
    }
    return md_feed_order_broken(feed, symbol, state, last, first, latest, ids, connection, ts_recv);
}

/* Remember how far the venue's ids have come: after the records are in the ring, so that a feed
 * that is killed in between announces too much as lost rather than too little. */
static inline void md_feed_note_sequence(uint64_t *last, uint64_t latest) {
    if (latest > *last) {
        md_store_relaxed_u64(last, latest);
    }
}

/* A value of a message cannot be held: the symbol's readers are told which ids they miss by it. */
static inline void md_feed_refuse_value(struct md_feed *feed,
                                        const struct md_feed_symbol *symbol,
                                        uint32_t connection,
                                        int64_t first,
                                        int64_t latest,
                                        int64_t ts_recv) {
    md_feed_publish_status(
        feed, symbol, MD_STATUS_VALUE_REFUSED, first, latest, (int64_t)connection, ts_recv);
}

/* Hold a contiguous sequence of a whole connection against the last one: a hole becomes a gap of
 * all the feed's rings, and takes every book of the connection out of step. What fills one is LATE:
 * its records are told as late, and counted by whoever does so. AGAIN is counted here. */
enum md_order md_connection_sequence(struct md_feed *feed,
                                     struct md_connection *connection,
                                     uint64_t sequence,
                                     int64_t ts_recv);

/* Remember the venue's time of the newest record that tells its way from there (as for readers:
 * consumer.h:md_tells_its_way): a snapshot's is old by its nature, as is a bar's, which does not
 * come here, and a status has none. */
static inline void md_feed_note_event(struct md_feed *feed, unsigned flags, int64_t ts_event) {
    if (__builtin_expect((flags & MD_FLAG_SNAPSHOT) == 0, 1)) {
        feed->ts_event = ts_event;
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
    md_feed_note_event(feed, flags, ts_event);
    struct md_ring_writer *ring = symbol->ring;
    uint64_t tag = symbol->tag | md_record_tag(0, kind, flags | MD_FLAG_LAST, 0, 0);
    struct md_slot *slot = md_ring_claim(ring, ring->next);
    md_cell_store(
        symbol->cell, part, ring->next, ts_event, ts_recv, tag, body0, body1, body2, body3);
    md_slot_fill(slot, ts_event, ts_recv, tag, body0, body1, body2, body3);
    md_ring_release(ring, 1);
    md_count(&feed->counters->records, 1);
}

/* The same, into the ring only: the cell has a newer one, or no place for it. */
static inline void md_feed_publish_past_cell(struct md_feed *feed,
                                             const struct md_feed_symbol *symbol,
                                             enum md_kind kind,
                                             unsigned flags,
                                             int64_t ts_event,
                                             int64_t ts_recv,
                                             int64_t body0,
                                             int64_t body1,
                                             int64_t body2,
                                             int64_t body3) {
    md_feed_note_event(feed, flags, ts_event);
    struct md_ring_writer *ring = symbol->ring;
    uint64_t tag = symbol->tag | md_record_tag(0, kind, flags | MD_FLAG_LAST, 0, 0);
    struct md_slot *slot = md_ring_claim(ring, ring->next);
    md_slot_fill(slot, ts_event, ts_recv, tag, body0, body1, body2, body3);
    md_ring_release(ring, 1);
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
