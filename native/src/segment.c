#include "segment.h"

static uint64_t align_page(uint64_t size) {
    return (size + MD_PAGE_HEADER_SIZE - 1) / MD_PAGE_HEADER_SIZE * MD_PAGE_HEADER_SIZE;
}

static uint32_t index_size(uint32_t capacity) {
    uint32_t size = 16;
    while (size / 2 < capacity) {
        size *= 2;
    }
    return size;
}

static uint64_t symbols_index_offset(uint32_t capacity) {
    return align_page(MD_PAGE_HEADER_SIZE + ((uint64_t)capacity + 1) * sizeof(struct md_symbol));
}

static uint64_t counter_block_stride(void) {
    return align_page(sizeof(struct md_counter_block)); /* feeds share no line, nor a page */
}

static uint64_t counter_connections_offset(uint32_t block_count) {
    return MD_PAGE_HEADER_SIZE + block_count * counter_block_stride();
}

uint64_t md_ring_size(uint64_t depth) {
    return MD_PAGE_HEADER_SIZE + depth * sizeof(struct md_slot);
}

uint64_t md_symbols_size(uint32_t capacity) {
    return align_page(symbols_index_offset(capacity) + index_size(capacity) * sizeof(uint32_t));
}

uint64_t md_cache_size(uint32_t capacity) {
    return align_page(MD_PAGE_HEADER_SIZE + ((uint64_t)capacity + 1) * sizeof(struct md_cell));
}

static uint64_t counter_supervisor_offset(uint32_t block_count) {
    return align_page(counter_connections_offset(block_count) +
                      (uint64_t)block_count * MD_CONNECTION_COUNT_MAX *
                          sizeof(struct md_connection_block));
}

static uint64_t counter_lives_offset(uint32_t block_count) {
    return counter_supervisor_offset(block_count) + align_page(sizeof(struct md_supervisor_block));
}

uint64_t md_counters_size(uint32_t block_count) {
    return align_page(counter_lives_offset(block_count) +
                      (uint64_t)block_count * sizeof(struct md_life_block));
}

static void segment_create(struct md_segment_header *segment,
                           enum md_segment_kind kind,
                           uint64_t schema_hash,
                           uint64_t size,
                           uint32_t index) {
    segment->abi_version = MD_ABI_VERSION;
    segment->kind = kind;
    segment->size_bytes = size;
    segment->schema_hash = schema_hash;
    segment->state = MD_STATE_NEW;
    segment->index = index;
}

void md_ring_create(
    struct md_ring_header *header, uint64_t size, uint64_t depth, uint32_t index, uint32_t feed) {
    segment_create(&header->segment, MD_SEGMENT_RING, MD_SCHEMA_RING, size, index);
    header->depth = depth;
    header->slots_offset = MD_PAGE_HEADER_SIZE;
    header->slot_stride = sizeof(struct md_slot);
    header->record_size = MD_RECORD_SIZE;
    header->feed = feed;
}

void md_symbols_create(struct md_symbols_header *symbols,
                       uint64_t size,
                       uint32_t capacity,
                       uint32_t ring_count,
                       uint32_t feed_count,
                       const char *dir,
                       const char *instance) {
    segment_create(&symbols->segment, MD_SEGMENT_SYMBOLS, MD_SCHEMA_SYMBOLS, size, 0);
    symbols->capacity = capacity;
    symbols->index_size = index_size(capacity);
    symbols->entry_stride = sizeof(struct md_symbol);
    symbols->entries_offset = MD_PAGE_HEADER_SIZE;
    symbols->index_offset = symbols_index_offset(capacity);
    symbols->ring_count = ring_count;
    symbols->feed_count = feed_count;
    strncpy(symbols->dir, dir, sizeof symbols->dir - 1);
    strncpy(symbols->instance, instance, sizeof symbols->instance - 1);
}

void md_cache_create(struct md_cache_header *cache, uint64_t size, uint32_t capacity) {
    segment_create(&cache->segment, MD_SEGMENT_CACHE, MD_SCHEMA_CACHE, size, 0);
    cache->cells_offset = MD_PAGE_HEADER_SIZE;
    cache->cell_stride = sizeof(struct md_cell);
    cache->capacity = capacity;
}

void md_counters_create(struct md_counters_header *counters, uint64_t size, uint32_t block_count) {
    segment_create(&counters->segment, MD_SEGMENT_COUNTERS, MD_SCHEMA_COUNTERS, size, 0);
    counters->blocks_offset = MD_PAGE_HEADER_SIZE;
    counters->block_stride = (uint32_t)counter_block_stride();
    counters->block_count = block_count;
    counters->connections_offset = counter_connections_offset(block_count);
    counters->connection_stride = sizeof(struct md_connection_block);
    counters->connection_count = block_count * MD_CONNECTION_COUNT_MAX;
    counters->supervisor_offset = counter_supervisor_offset(block_count);
    counters->lives_offset = counter_lives_offset(block_count);
    counters->life_stride = sizeof(struct md_life_block);
}

void md_reader_page_create(struct md_reader_page *page,
                           uint64_t size,
                           uint64_t reader_id,
                           const char *name,
                           uint32_t batch_size,
                           uint32_t adaptive,
                           uint32_t threshold,
                           uint32_t max_queue_size,
                           uint32_t core) {
    segment_create(&page->segment, MD_SEGMENT_READER, MD_SCHEMA_READER, size, (uint32_t)reader_id);
    page->reader_id = reader_id;
    strncpy(page->name, name, sizeof page->name - 1);
    page->batch_size = batch_size;
    page->adaptive = adaptive;
    page->threshold = threshold;
    page->max_queue_size = max_queue_size;
    page->core = core;
    page->core_now = MD_CORE_NONE;
}

void md_segment_publish(struct md_segment_header *segment, int64_t now_ns) {
    segment->created_ns = now_ns;
    md_store_release_u64(&segment->magic, MD_MAGIC); /* pairs with md_segment_verify */
}

void md_segment_take_over(struct md_segment_header *segment,
                          uint32_t pid,
                          uint64_t start_ticks,
                          int64_t now_ns) {
    segment->writer_pid = pid;
    segment->writer_start_ticks = start_ticks;
    md_store_relaxed_i64(&segment->heartbeat_ns, now_ns);
    md_store_release_u64(&segment->epoch, segment->epoch + 1);
    md_store_release_u32(&segment->state, MD_STATE_RUNNING);
}

void md_segment_set_state(struct md_segment_header *segment, enum md_segment_state state) {
    md_store_release_u32(&segment->state, state);
}

void md_segment_supersede(struct md_segment_header *segment) {
    md_store_release_u32(&segment->state, MD_STATE_SUPERSEDED);
    md_store_release_u64(&segment->magic, 0);
}

void md_ring_take_over(struct md_ring_header *header,
                       struct md_ring_writer *writer,
                       uint32_t pid,
                       uint64_t start_ticks,
                       int64_t now_ns) {
    uint64_t head = md_ring_head(header, md_ring_slots(header), header->depth - 1);
    *writer = md_writer_init(header, head + 1);
    for (unsigned i = 0; i < MD_GRANT_COUNT; i++) { /* its promises died with the one before */
        md_store_release_u64(&header->grants[i].reader_id, 0);
    }
    for (unsigned i = 0; i < MD_CLAIM_AHEAD; i++) {
        md_ring_mark(writer, writer->next + i);
    }
    md_segment_take_over(&header->segment, pid, start_ticks, now_ns);
    if (header->segment.epoch > 1) {
        struct md_slot *slot = md_ring_claim(writer, writer->next);
        md_slot_fill(slot,
                     now_ns,
                     now_ns,
                     md_record_tag(MD_SYMBOL_WHOLE_RING, MD_KIND_STATUS, MD_FLAG_LAST, 0, 0),
                     MD_STATUS_WRITER_RESTARTED,
                     MD_ABSENT,
                     MD_ABSENT,
                     MD_ABSENT);
        md_ring_release(writer, 1);
    }
    md_ring_flush(writer, now_ns);
}

static enum md_cache_part part_of(const struct md_record *record) {
    return record->kind == MD_KIND_QUOTE ? MD_CACHE_QUOTE : MD_CACHE_TRADE;
}

/* Whether a cell's whole record reached the ring. Its sequence alone does not tell: a writer that
 * was killed while it took over has put its writer_restarted status there. */
static int is_published(const struct md_record *record, const struct md_ring_writer *writer) {
    if (record->seq == 0) {
        return 1; /* there is none */
    }
    if (record->seq >= writer->next) {
        return 0;
    }
    const struct md_slot *slot = &writer->slots[record->seq & writer->mask];
    if (slot->seq != record->seq) {
        return 1; /* overwritten since */
    }
    struct md_record in_ring;
    md_slot_copy(&in_ring, slot, slot->seq);
    return in_ring.symbol_id == record->symbol_id && in_ring.kind == record->kind;
}

/* Refill a part that was being written from the ring; empty it when the ring holds none. The
 * version stays odd meanwhile, so that whoever follows, should we die here, begins again. */
static void restore(struct md_cell *cell,
                    enum md_cache_part part,
                    uint32_t symbol_id,
                    const struct md_ring_writer *writer) {
    struct md_record found = {0};
    uint64_t depth = writer->mask + 1;
    uint64_t oldest = writer->next > depth ? writer->next - depth : 1;
    for (uint64_t seq = writer->next; seq-- > oldest;) {
        struct md_record record;
        const struct md_slot *slot = &writer->slots[seq & writer->mask];
        md_slot_copy(&record, slot, slot->seq); /* not seq where a dead writer had claimed it */
        if (record.seq == seq && record.symbol_id == symbol_id &&
            (record.kind == MD_KIND_TRADE || record.kind == MD_KIND_TICKER ||
             record.kind == MD_KIND_QUOTE) &&
            part_of(&record) == part) {
            found = record;
            break;
        }
    }
    uint64_t word[sizeof found / sizeof(uint64_t)];
    memcpy(word, &found, sizeof found);
    uint64_t *to = (uint64_t *)(part == MD_CACHE_TRADE ? &cell->trade : &cell->quote);
    for (size_t i = 0; i < sizeof word / sizeof word[0]; i++) {
        md_store_relaxed_u64(&to[i], word[i]);
    }
}

/* Publish a record that had reached only its cell, under a sequence of this epoch in both places.
 */
static void
republish(struct md_cell *cell, const struct md_record *from, struct md_ring_writer *writer) {
    struct md_record record = *from;
    md_cell_store(
        cell,
        part_of(&record),
        writer->next,
        record.ts_event,
        record.ts_recv,
        md_record_tag(
            record.symbol_id, record.kind, record.flags, record.price_scale, record.size_scale),
        record.body.word[0],
        record.body.word[1],
        record.body.word[2],
        record.body.word[3]);
    md_ring_publish(writer, &record);
}

struct md_cache_repair md_cache_repair(struct md_cache_header *cache,
                                       const struct md_symbols_header *symbols,
                                       uint32_t ring_index,
                                       struct md_ring_writer *writer) {
    struct md_cache_repair done = {0, 0};
    uint32_t count = md_load_acquire_u32(&symbols->count);
    for (uint32_t id = 1; id <= count; id++) {
        if (md_symbols_entry(symbols, id)->ring != ring_index) {
            continue;
        }
        struct md_cell *cell = (struct md_cell *)(void *)md_cache_cell(cache, id);
        if (cell->version & 1) {
            if (cell->writing & MD_CACHE_TRADE) {
                restore(cell, MD_CACHE_TRADE, id, writer);
            }
            if (cell->writing & MD_CACHE_QUOTE) {
                restore(cell, MD_CACHE_QUOTE, id, writer);
            }
            if (cell->writing & MD_CACHE_BOOK) {
                cell->book_flags = 0;
            }
            md_store_release_u64(&cell->version, cell->version + 1);
            done.torn++;
        }
        if (cell->book_flags != 0) { /* what it was kept in is gone with its writer */
            md_cell_void_book(cell);
        }
        if (!is_published(&cell->trade, writer)) {
            republish(cell, &cell->trade, writer);
            done.republished++;
        }
        if (!is_published(&cell->quote, writer)) {
            republish(cell, &cell->quote, writer);
            done.republished++;
        }
        if (cell->trade.seq != 0 && cell->trade.kind == MD_KIND_TRADE &&
            cell->trade.body.trade.trade_id > (int64_t)cell->venue_trade_id &&
            cell->venue_trade_id != 0) { /* it is in the ring: not lost */
            md_store_relaxed_u64(&cell->venue_trade_id, (uint64_t)cell->trade.body.trade.trade_id);
        }
    }
    return done;
}

uint32_t md_symbols_add(struct md_symbols_header *symbols,
                        const char *name,
                        size_t size,
                        uint32_t ring,
                        unsigned price_scale,
                        unsigned size_scale) {
    const char *colon = memchr(name, ':', size);
    uint32_t id = symbols->count + 1;
    if (size > MD_NAME_SIZE_MAX || colon == NULL || colon == name || colon + 1 == name + size ||
        ring >= symbols->ring_count || id > symbols->capacity || price_scale > 18 ||
        size_scale > 18 || md_symbols_find(symbols, name, size) != NULL) {
        return 0;
    }
    struct md_symbol *entry = (struct md_symbol *)(void *)md_symbols_entry(symbols, id);
    *entry = (struct md_symbol){
        .hash = md_xxh3_64(name, size),
        .symbol_id = id,
        .ring = (uint16_t)ring,
        .name_size = (uint8_t)size,
        .venue_size = (uint8_t)(colon - name),
        .price_scale = (uint8_t)price_scale,
        .size_scale = (uint8_t)size_scale,
    };
    memcpy(entry->name, name, size);
    uint32_t mask = symbols->index_size - 1;
    uint32_t *index = (uint32_t *)(void *)((char *)symbols + symbols->index_offset);
    uint32_t place = (uint32_t)entry->hash & mask;
    while (index[place] != 0) {
        place = (place + 1) & mask;
    }
    md_store_release_u32(&index[place], id); /* S1: pairs with S2 */
    md_store_release_u32(&symbols->count, id);
    return id;
}
