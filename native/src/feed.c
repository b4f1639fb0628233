#include "feed.h"

#include <stdlib.h>

int md_feed_init(struct md_feed *feed,
                 struct md_ring_writer *rings,
                 uint32_t ring_count,
                 struct md_counter_block *counters,
                 uint32_t symbol_count) {
    uint32_t places = 16;
    while (places < 2 * (uint64_t)symbol_count && places < (1u << 30)) {
        places *= 2;
    }
    struct md_feed_symbol *table = calloc(places, sizeof *table);
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
    };
    return 0;
}

void md_feed_free(struct md_feed *feed) {
    free(feed->table);
    feed->table = NULL;
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
    if (2 * (uint64_t)(feed->symbol_count + 1) > (uint64_t)feed->table_mask + 1) {
        return -1;
    }
    uint64_t hash = md_feed_hash(name, size);
    uint32_t place = (uint32_t)hash & feed->table_mask;
    while (feed->table[place].symbol_id != 0) {
        place = (place + 1) & feed->table_mask;
    }
    struct md_feed_symbol *symbol = &feed->table[place];
    *symbol = (struct md_feed_symbol){
        .tag = md_record_tag(symbol_id, 0, 0, price_scale, size_scale),
        .cell = cell,
        .ring = &feed->rings[ring],
        .symbol_id = symbol_id,
        .price_scale = (uint8_t)price_scale,
        .size_scale = (uint8_t)size_scale,
        .name_size = (uint8_t)size,
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

void md_feed_sequence_broken(struct md_feed *feed,
                             const struct md_feed_symbol *symbol,
                             uint64_t last,
                             uint64_t first,
                             uint32_t connection,
                             int64_t ts_recv) {
    if (first <= last) {
        md_count(&feed->counters->reordered, 1);
        return;
    }
    md_count(&feed->counters->gaps, 1);
    md_count(&feed->counters->gap_ids, first - last - 1);
    md_feed_publish_status(feed,
                           symbol,
                           MD_STATUS_GAP,
                           (int64_t)(last + 1),
                           (int64_t)(first - 1),
                           (int64_t)connection,
                           ts_recv);
}
