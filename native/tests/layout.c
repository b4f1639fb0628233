/* Prints what tests/layout compares. C17 and C++17.
 *
 *     layout offsets     struct.field offset size, a line each, and constants
 *     layout counters    the same of a counter block
 *     layout golden      one record of each kind, as hex
 */
#include <stdio.h>
#include <string.h>

#include "mdsys/cache.h"
#include "mdsys/counters.h"
#include "mdsys/reader_page.h"
#include "mdsys/record.h"
#include "mdsys/ring.h"
#include "mdsys/symbols.h"

#define SIZE(type) printf(#type " - %zu\n", sizeof(struct type))
#define FIELD(type, field)                                                                         \
    printf(#type "." #field " %zu %zu\n",                                                          \
           offsetof(struct type, field),                                                           \
           sizeof(((struct type *)NULL)->field))
#define CONSTANT(name) printf(#name " = %llu\n", (unsigned long long)(name))

static void print_records(void) {
    SIZE(md_record);
    FIELD(md_record, seq);
    FIELD(md_record, ts_event);
    FIELD(md_record, ts_recv);
    FIELD(md_record, symbol_id);
    FIELD(md_record, kind);
    FIELD(md_record, flags);
    FIELD(md_record, price_scale);
    FIELD(md_record, size_scale);
    FIELD(md_record, body);
    FIELD(md_record, body.trade.price);
    FIELD(md_record, body.trade.size);
    FIELD(md_record, body.trade.trade_id);
    FIELD(md_record, body.trade.conditions);
    FIELD(md_record, body.quote.bid_price);
    FIELD(md_record, body.quote.ask_price);
    FIELD(md_record, body.quote.bid_size);
    FIELD(md_record, body.quote.ask_size);
    FIELD(md_record, body.ticker.last_price);
    FIELD(md_record, body.ticker.last_size);
    FIELD(md_record, body.ticker.volume);
    FIELD(md_record, body.ticker.open_interest);
    FIELD(md_record, body.level.price);
    FIELD(md_record, body.level.size);
    FIELD(md_record, body.level.orders);
    FIELD(md_record, body.level.update_id);
    FIELD(md_record, body.bar.open);
    FIELD(md_record, body.bar.high);
    FIELD(md_record, body.bar.low);
    FIELD(md_record, body.bar.close);
    FIELD(md_record, body.bar_volume.volume);
    FIELD(md_record, body.bar_volume.vwap);
    FIELD(md_record, body.bar_volume.trade_count);
    FIELD(md_record, body.bar_volume.interval_ns);
    FIELD(md_record, body.status.what);
    FIELD(md_record, body.status.first_lost);
    FIELD(md_record, body.status.last_lost);
    FIELD(md_record, body.status.connection);
}

static void print_segments(void) {
    SIZE(md_segment_header);
    FIELD(md_segment_header, magic);
    FIELD(md_segment_header, abi_version);
    FIELD(md_segment_header, kind);
    FIELD(md_segment_header, size_bytes);
    FIELD(md_segment_header, schema_hash);
    FIELD(md_segment_header, state);
    FIELD(md_segment_header, index);
    FIELD(md_segment_header, epoch);
    FIELD(md_segment_header, writer_pid);
    FIELD(md_segment_header, reserved0);
    FIELD(md_segment_header, writer_start_ticks);
    FIELD(md_segment_header, geometry);
    FIELD(md_segment_header, created_ns);
    FIELD(md_segment_header, heartbeat_ns);
    FIELD(md_segment_header, reserved1);
    SIZE(md_slot);
    FIELD(md_slot, seq);
    FIELD(md_slot, word);
    SIZE(md_ring_grant);
    FIELD(md_ring_grant, reader_id);
    FIELD(md_ring_grant, from);
    FIELD(md_ring_grant, ejected);
    FIELD(md_ring_grant, reserved);
    SIZE(md_ring_header);
    FIELD(md_ring_header, segment);
    FIELD(md_ring_header, depth);
    FIELD(md_ring_header, slots_offset);
    FIELD(md_ring_header, slot_stride);
    FIELD(md_ring_header, record_size);
    FIELD(md_ring_header, feed);
    FIELD(md_ring_header, reserved0);
    FIELD(md_ring_header, reserved1);
    FIELD(md_ring_header, cursor);
    FIELD(md_ring_header, watermark_ns);
    FIELD(md_ring_header, reserved2);
    FIELD(md_ring_header, bell);
    FIELD(md_ring_header, reserved3);
    FIELD(md_ring_header, rung_ns);
    FIELD(md_ring_header, reserved4);
    FIELD(md_ring_header, grants);
    SIZE(md_symbols_header);
    FIELD(md_symbols_header, segment);
    FIELD(md_symbols_header, capacity);
    FIELD(md_symbols_header, count);
    FIELD(md_symbols_header, index_size);
    FIELD(md_symbols_header, entry_stride);
    FIELD(md_symbols_header, entries_offset);
    FIELD(md_symbols_header, index_offset);
    FIELD(md_symbols_header, ring_count);
    FIELD(md_symbols_header, feed_count);
    FIELD(md_symbols_header, reserved0);
    FIELD(md_symbols_header, dir);
    FIELD(md_symbols_header, instance);
    SIZE(md_symbol);
    FIELD(md_symbol, hash);
    FIELD(md_symbol, symbol_id);
    FIELD(md_symbol, ring);
    FIELD(md_symbol, name_size);
    FIELD(md_symbol, venue_size);
    FIELD(md_symbol, price_scale);
    FIELD(md_symbol, size_scale);
    FIELD(md_symbol, reserved0);
    FIELD(md_symbol, reserved1);
    FIELD(md_symbol, name);
    SIZE(md_cache_header);
    FIELD(md_cache_header, segment);
    FIELD(md_cache_header, cells_offset);
    FIELD(md_cache_header, cell_stride);
    FIELD(md_cache_header, capacity);
    FIELD(md_cache_header, reserved0);
    SIZE(md_cell);
    FIELD(md_cell, version);
    FIELD(md_cell, symbol_id);
    FIELD(md_cell, writing);
    FIELD(md_cell, book_flags);
    FIELD(md_cell, bid_count);
    FIELD(md_cell, ask_count);
    FIELD(md_cell, book_seq);
    FIELD(md_cell, book_ts_event);
    FIELD(md_cell, venue_trade_id);
    FIELD(md_cell, venue_book_id);
    FIELD(md_cell, venue_quote_id);
    FIELD(md_cell, reserved0);
    FIELD(md_cell, trade);
    FIELD(md_cell, quote);
    FIELD(md_cell, bid);
    FIELD(md_cell, ask);
    FIELD(md_cell, heard_book);
    FIELD(md_cell, heard_ticker);
    FIELD(md_cell, heard_bar);
    FIELD(md_cell, book_ts_recv);
    FIELD(md_cell, reserved1);
    SIZE(md_cell_level);
    FIELD(md_cell_level, price);
    FIELD(md_cell_level, size);
    SIZE(md_counters_header);
    FIELD(md_counters_header, segment);
    FIELD(md_counters_header, blocks_offset);
    FIELD(md_counters_header, block_stride);
    FIELD(md_counters_header, block_count);
    FIELD(md_counters_header, connections_offset);
    FIELD(md_counters_header, connection_stride);
    FIELD(md_counters_header, connection_count);
    FIELD(md_counters_header, supervisor_offset);
    FIELD(md_counters_header, lives_offset);
    FIELD(md_counters_header, life_stride);
    FIELD(md_counters_header, reserved0);
    FIELD(md_counters_header, reserved1);
    SIZE(md_connection_block);
    FIELD(md_connection_block, number);
    FIELD(md_connection_block, state);
    FIELD(md_connection_block, since_ns);
    FIELD(md_connection_block, last_frame_ns);
    FIELD(md_connection_block, last_data_ns);
    FIELD(md_connection_block, frames);
    FIELD(md_connection_block, bytes);
    FIELD(md_connection_block, records);
    FIELD(md_connection_block, opens);
    FIELD(md_connection_block, offset_ns);
    FIELD(md_connection_block, venue);
    FIELD(md_connection_block, version);
    FIELD(md_connection_block, reserved0);
    SIZE(md_histogram);
    FIELD(md_histogram, count);
    FIELD(md_histogram, sum);
    FIELD(md_histogram, min);
    FIELD(md_histogram, max);
    FIELD(md_histogram, positive);
    FIELD(md_histogram, negative);
}

static void print_reader_page(void) {
    SIZE(md_reader_page);
    FIELD(md_reader_page, segment);
    FIELD(md_reader_page, reader_id);
    FIELD(md_reader_page, name);
    FIELD(md_reader_page, batch_size);
    FIELD(md_reader_page, max_queue_size);
    FIELD(md_reader_page, threshold);
    FIELD(md_reader_page, adaptive);
    FIELD(md_reader_page, core);
    FIELD(md_reader_page, reserved0);
    FIELD(md_reader_page, reserved1);
    FIELD(md_reader_page, polls);
    FIELD(md_reader_page, batch);
    FIELD(md_reader_page, batch_min);
    FIELD(md_reader_page, batch_max);
    FIELD(md_reader_page, core_now);
    FIELD(md_reader_page, reserved2);
#define PRINT(name, type, family, labels, help) FIELD(md_reader_page, name);
    MD_READER_COUNTERS(PRINT)
    MD_READER_HISTOGRAMS(PRINT)
#undef PRINT
    FIELD(md_reader_page, ring);
    SIZE(md_reader_ring);
    FIELD(md_reader_ring, next);
    FIELD(md_reader_ring, lost);
    FIELD(md_reader_ring, dropped);
    FIELD(md_reader_ring, reserved0);
    FIELD(md_reader_ring, asleep);
    FIELD(md_reader_ring, reserved1);
}

static void print_constants(void) {
    CONSTANT(MD_MAGIC);
    CONSTANT(MD_ABI_VERSION);
    CONSTANT(MD_PAGE_HEADER_SIZE);
    CONSTANT(MD_PATH_SIZE);
    CONSTANT(MD_NAME_SIZE_MAX);
    CONSTANT(MD_RING_COUNT_MAX);
    CONSTANT(MD_RING_DEPTH_MIN);
    CONSTANT(MD_CLAIM_AHEAD);
    CONSTANT(MD_GRANT_COUNT);
    CONSTANT(MD_CACHE_LEVELS);
    CONSTANT(MD_READER_COUNT_MAX);
    CONSTANT(MD_READER_NAME_SIZE);
    CONSTANT(MD_SHARE_ONE);
    CONSTANT(MD_CORE_NONE);
    CONSTANT(MD_CONNECTION_COUNT_MAX);
    CONSTANT(MD_CONNECTION_VENUE_SIZE);
    CONSTANT(MD_HISTOGRAM_LINEAR);
    CONSTANT(MD_HISTOGRAM_STEPS);
    CONSTANT(MD_HISTOGRAM_BUCKETS);
    CONSTANT(MD_SCHEMA_RING);
    CONSTANT(MD_SCHEMA_SYMBOLS);
    CONSTANT(MD_SCHEMA_CACHE);
    CONSTANT(MD_SCHEMA_COUNTERS);
    CONSTANT(MD_SCHEMA_READER);
}

static void print_counters(void) {
#define PRINT(name, type, family, labels, help) FIELD(md_counter_block, name);
    MD_COUNTERS(PRINT)
    MD_HISTOGRAMS(PRINT)
    SIZE(md_counter_block);
#undef PRINT
#define PRINT(name, type, family, labels, help) FIELD(md_supervisor_block, name);
    MD_SYSTEM_NUMBERS(PRINT)
    MD_SUBSCRIPTION_NUMBERS(PRINT)
    MD_SYSTEM_HISTOGRAMS(PRINT)
    SIZE(md_supervisor_block);
#undef PRINT
#define PRINT(name, type, family, labels, help) FIELD(md_life_block, name);
    MD_LIFE_NUMBERS(PRINT)
    FIELD(md_life_block, reserved0);
    SIZE(md_life_block);
#undef PRINT
}

/* Kind k of symbol 0x01020304 with every other field a pattern of its own. */
static void print_golden(void) {
    for (unsigned kind = MD_KIND_TRADE; kind <= MD_KIND_STATUS; kind++) {
        struct md_record record;
        memset(&record, 0, sizeof record);
        record.seq = UINT64_C(0x1122334455667700) + kind;
        record.ts_event = INT64_C(1700000000123456789);
        record.ts_recv = MD_ABSENT;
        record.symbol_id = UINT32_C(0x01020304);
        record.kind = (uint8_t)kind;
        record.flags = MD_FLAG_SELL | MD_FLAG_LAST;
        record.price_scale = 8;
        record.size_scale = 18;
        record.body.word[0] = INT64_C(999999999700000000);
        record.body.word[1] = -1;
        record.body.word[2] = MD_ABSENT;
        record.body.word[3] = INT64_C(0x0807060504030201);
        const unsigned char *bytes = (const unsigned char *)&record;
        for (size_t i = 0; i < sizeof record; i++) {
            printf("%02x", bytes[i]);
        }
        printf("\n");
    }
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "offsets") == 0) {
        print_records();
        print_segments();
        print_reader_page();
        print_constants();
    } else if (argc == 2 && strcmp(argv[1], "counters") == 0) {
        print_counters();
    } else if (argc == 2 && strcmp(argv[1], "golden") == 0) {
        print_golden();
    } else {
        return 64;
    }
    return 0;
}
