#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* madvise */
#endif

#include "feed.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "capture.h"
#include "publish.h"

enum { RESTART_COUNT = 32, HUGE_PAGE_SIZE = 2 << 20 };
#define RESTART_DISTANCE (UINT64_C(1) << 20)

static struct md_feed_symbol *new_table(uint32_t places) {
    size_t size = (size_t)places * sizeof(struct md_feed_symbol);
    bool huge = size % HUGE_PAGE_SIZE == 0;
    struct md_feed_symbol *table = aligned_alloc(huge ? HUGE_PAGE_SIZE : 64, size);
    if (table != NULL) {
        if (huge) { /* looked up once a frame, each time on another page */
            madvise(table, size, MADV_HUGEPAGE);
        }
        memset(table, 0, size);
    }
    return table;
}

int md_feed_init(struct md_feed *feed,
                 struct md_ring_writer *rings,
                 uint32_t ring_count,
                 struct md_counter_block *counters,
                 uint32_t symbol_count) {
    uint32_t places = 16;
    while (places < 2 * (uint64_t)symbol_count && places < (1u << 30)) {
        places *= 2;
    }
    struct md_feed_symbol *table = new_table(places);
    if (table == NULL) {
        return -1;
    }
    *feed = (struct md_feed){
        .rings = rings,
        .ring_count = ring_count,
        .table_mask = places - 1,
        .table = table,
        .counters = counters,
        .ts_event = MD_ABSENT,
        .channels = (1u << MD_CHANNEL_COUNT) - 1,
    };
    return 0;
}

void md_feed_free(struct md_feed *feed) {
    for (uint32_t i = 0; feed->table != NULL && i <= feed->table_mask; i++) {
        md_book_destroy(feed->table[i].book);
        free(feed->table[i].own);
    }
    free(feed->table);
    feed->table = NULL;
}

/* The free place for a name that is not there. */
static struct md_feed_symbol *
free_place(struct md_feed_symbol *table, uint32_t mask, const char *name, size_t size) {
    uint32_t place = (uint32_t)md_feed_hash(name, size) & mask;
    while (table[place].symbol_id != 0) {
        place = (place + 1) & mask;
    }
    return &table[place];
}

static int grow_table(struct md_feed *feed) {
    uint32_t places = 2 * (feed->table_mask + 1);
    if (places > 1u << 30) {
        return -1;
    }
    struct md_feed_symbol *table = new_table(places);
    if (table == NULL) {
        return -1;
    }
    for (uint32_t i = 0; i <= feed->table_mask; i++) {
        const struct md_feed_symbol *symbol = &feed->table[i];
        if (symbol->symbol_id != 0) {
            *free_place(table, places - 1, symbol->name, symbol->name_size) = *symbol;
        }
    }
    free(feed->table);
    feed->table = table;
    feed->table_mask = places - 1;
    return 0;
}

int md_feed_add_symbol(struct md_feed *feed,
                       const char *name,
                       size_t size,
                       uint32_t symbol_id,
                       uint32_t ring,
                       unsigned price_scale,
                       unsigned size_scale,
                       struct md_cell *cell) {
    if (size == 0 || size > MD_NAME_SIZE_MAX || symbol_id == 0 || ring >= feed->ring_count ||
        md_feed_find_symbol(feed, name, size) != NULL) {
        return -1;
    }
    if (2 * (uint64_t)(feed->symbol_count + 1) > (uint64_t)feed->table_mask + 1 &&
        grow_table(feed) != 0) {
        return -1;
    }
    struct md_book *book = NULL;
    if (md_feed_wants(feed, MD_CHANNEL_BOOK) &&
        (book = md_book_create(feed->books_by_rest)) == NULL) {
        return -1;
    }
    struct md_feed_symbol *symbol = free_place(feed->table, feed->table_mask, name, size);
    *symbol = (struct md_feed_symbol){
        .tag = md_record_tag(symbol_id, 0, 0, price_scale, size_scale),
        .cell = cell,
        .ring = &feed->rings[ring],
        .symbol_id = symbol_id,
        .price_scale = (uint8_t)price_scale,
        .size_scale = (uint8_t)size_scale,
        .name_size = (uint8_t)size,
        .book = book,
    };
    memcpy(symbol->name, name, size);
    feed->symbol_count++;
    return 0;
}

static void publish_status(struct md_feed *feed,
                           struct md_ring_writer *ring,
                           uint32_t symbol_id,
                           enum md_status what,
                           int64_t first_lost,
                           int64_t last_lost,
                           int64_t connection,
                           int64_t ts_recv) {
    struct md_slot *slot = md_ring_claim(ring, ring->next);
    uint64_t tag = md_record_tag(symbol_id, MD_KIND_STATUS, MD_FLAG_LAST, 0, 0);
    md_slot_fill(slot, ts_recv, ts_recv, tag, what, first_lost, last_lost, connection);
    /* No frame tells of it. Copied before it is published, as frames are: of what a killed feed has
     * copied its successor tells how much was published, of the rest nobody could. */
    if (feed->capture != NULL && feed->decoding == 0) {
        const struct md_record record = {
            .ts_event = ts_recv,
            .ts_recv = ts_recv,
            .symbol_id = symbol_id,
            .kind = MD_KIND_STATUS,
            .flags = MD_FLAG_LAST,
            .body.status = {what, first_lost, last_lost, connection},
        };
        md_capture_put(feed->capture,
                       MD_CAPTURE_RECORD,
                       &record,
                       sizeof record,
                       ts_recv,
                       (uint32_t)(ring - feed->rings),
                       0);
    }
    md_ring_release(ring, 1);
    md_count(&feed->counters->records, 1);
    md_count(&feed->counters->statuses, 1);
}

void md_feed_publish_status(struct md_feed *feed,
                            const struct md_feed_symbol *symbol,
                            enum md_status what,
                            int64_t first_lost,
                            int64_t last_lost,
                            int64_t connection,
                            int64_t ts_recv) {
    if (symbol != NULL) {
        publish_status(feed,
                       symbol->ring,
                       symbol->symbol_id,
                       what,
                       first_lost,
                       last_lost,
                       connection,
                       ts_recv);
        return;
    }
    for (uint32_t i = 0; i < feed->ring_count; i++) {
        publish_status(feed,
                       &feed->rings[i],
                       MD_SYMBOL_WHOLE_RING,
                       what,
                       first_lost,
                       last_lost,
                       connection,
                       ts_recv);
    }
}

void md_feed_announce_gap(struct md_feed *feed,
                          const struct md_feed_symbol *symbol,
                          int64_t first,
                          int64_t last,
                          uint32_t connection,
                          int64_t ts_recv) {
    md_count(&feed->counters->gaps, 1);
    if (first != MD_ABSENT) {
        md_count(&feed->counters->gap_ids, (uint64_t)(last - first) + 1);
    }
    md_feed_publish_status(feed, symbol, MD_STATUS_GAP, first, last, (int64_t)connection, ts_recv);
}

static void remove_hole(struct md_order_state *state, uint32_t index) {
    state->hole_count--;
    for (uint32_t i = index; i < state->hole_count; i++) {
        state->holes[i] = state->holes[i + 1];
    }
}

/* Put a hole at a place among the others; of too many the oldest is given up. */
static void insert_hole(struct md_order_state *state, uint32_t index, struct md_hole hole) {
    if (state->hole_count == MD_HOLE_COUNT_MAX) {
        if (index == 0) {
            return;
        }
        remove_hole(state, 0);
        index--;
    }
    for (uint32_t i = state->hole_count; i > index; i--) {
        state->holes[i] = state->holes[i - 1];
    }
    state->holes[index] = hole;
    state->hole_count++;
}

/* Take ids out of the hole that they fill. False: they are of none. */
static bool fill_hole(struct md_order_state *state, uint64_t first, uint64_t latest) {
    for (uint32_t i = 0; i < state->hole_count; i++) {
        struct md_hole hole = state->holes[i];
        if (first < hole.first || latest > hole.last) {
            continue;
        }
        remove_hole(state, i);
        if (latest < hole.last) {
            insert_hole(state, i, (struct md_hole){latest + 1, hole.last});
        }
        if (first > hole.first) {
            insert_hole(state, i, (struct md_hole){hole.first, first - 1});
        }
        return true;
    }
    return false;
}

/* Whether ids that have been here, many in a row and from far below, are a numbering begun anew. */
static bool has_restarted(struct md_order_state *state, uint64_t seen, uint64_t latest) {
    if (seen - latest < RESTART_DISTANCE) {
        return false;
    }
    if (state->stuck_at != seen) {
        state->stuck_at = seen;
        state->stuck_count = 0;
    }
    return ++state->stuck_count >= RESTART_COUNT;
}

enum md_order md_feed_order_broken(struct md_feed *feed,
                                   struct md_feed_symbol *symbol,
                                   struct md_order_state *state,
                                   uint64_t *last,
                                   uint64_t first,
                                   uint64_t latest,
                                   enum md_ids ids,
                                   uint32_t connection,
                                   int64_t ts_recv) {
    uint64_t seen = *last;
    if (latest > seen) {
        if (first > seen + 1 && ids == MD_IDS_CONTIGUOUS) {
            md_feed_announce_gap(
                feed, symbol, (int64_t)(seen + 1), (int64_t)(first - 1), connection, ts_recv);
            insert_hole(state, state->hole_count, (struct md_hole){seen + 1, first - 1});
            if (state == &symbol->books) {
                md_book_unsync(feed, symbol, connection, ts_recv);
            }
        }
        return MD_ORDER_NEXT;
    }
    if (has_restarted(state, seen, latest)) {
        md_feed_announce_gap(feed, symbol, MD_ABSENT, MD_ABSENT, connection, ts_recv);
        *state = (struct md_order_state){0};
        md_store_relaxed_u64(last, first == 0 ? 0 : first - 1);
        if (state == &symbol->books) {
            md_book_unsync(feed, symbol, connection, ts_recv);
        }
        return MD_ORDER_NEXT;
    }
    if (fill_hole(state, first, latest) || (ids == MD_IDS_ASCENDING && latest < seen)) {
        md_count(&feed->counters->reordered, 1);
        return MD_ORDER_LATE;
    }
    md_count(&feed->counters->duplicates, 1);
    return MD_ORDER_AGAIN;
}

enum md_order md_connection_sequence(struct md_feed *feed,
                                     struct md_connection *connection,
                                     uint64_t sequence,
                                     int64_t ts_recv) {
    struct md_order_state *state = &connection->order;
    uint64_t expected = connection->sequence;
    if (expected != 0 && sequence < expected) {
        if (fill_hole(state, sequence, sequence)) {
            return MD_ORDER_LATE;
        }
        md_count(&feed->counters->duplicates, 1);
        return MD_ORDER_AGAIN;
    }
    connection->sequence = sequence + 1;
    if (expected != 0 && sequence > expected) {
        md_feed_announce_gap(
            feed, NULL, (int64_t)expected, (int64_t)(sequence - 1), connection->number, ts_recv);
        insert_hole(state, state->hole_count, (struct md_hole){expected, sequence - 1});
        md_book_unsync_socket(feed, connection, ts_recv, false);
    }
    return MD_ORDER_NEXT;
}
