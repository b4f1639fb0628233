/* Binance values -> records: what both scanners of decode_binance.c end in. */
#ifndef MDSYS_BINANCE_PUBLISH_H
#define MDSYS_BINANCE_PUBLISH_H

#include <stdbool.h>

#include "feed.h"

/* Out of line, arguments go over the stack at a tenth of a frame's time. */
#define BINANCE_INLINE static inline __attribute__((always_inline))

#define BINANCE_TEXT_SIZE_MAX 127U /* of a number in text form, and far beyond any symbol */

/* Where a frame came from and where its records go. */
struct binance_context {
    struct md_feed *feed;
    int64_t ts_recv;
    uint32_t connection;
    bool futures; /* depth: pu is the u of the frame before. Spot: U is that u + 1 */
};

/* A trade's conditions: X of USD-M, which spot does not send. Append-only. */
enum binance_condition {
    BINANCE_MARKET = 0,
    BINANCE_INSURANCE_FUND = 1,
    BINANCE_ADL = 2,
    BINANCE_NA = 3,
    BINANCE_OTHER = 255,
};

/* Milliseconds (to 13 digits) or microseconds since the epoch -> ns. False when that is beyond the
 * year 2262, where ns end. */
BINANCE_INLINE bool binance_time(uint64_t written, int64_t *ts_event) {
    uint64_t ns_each = written < UINT64_C(10000000000000) ? 1000000 : 1000;
    *ts_event = (int64_t)(written * ns_each);
    return written <= (uint64_t)INT64_MAX / ns_each;
}

BINANCE_INLINE void binance_publish_trade(const struct binance_context *context,
                                          const struct md_feed_symbol *symbol,
                                          uint64_t trade_id,
                                          int64_t ts_event,
                                          int64_t price,
                                          int64_t size,
                                          bool buyer_is_maker,
                                          enum binance_condition condition) {
    struct md_feed *feed = context->feed;
    uint64_t *last = &symbol->cell->venue_trade_id;
    md_feed_check_sequence(feed, symbol, *last, trade_id, context->connection, context->ts_recv);
    md_feed_publish(feed,
                    symbol,
                    MD_KIND_TRADE,
                    buyer_is_maker ? MD_FLAG_SELL : MD_FLAG_BUY, /* the aggressor's side */
                    MD_CACHE_TRADE,
                    ts_event,
                    context->ts_recv,
                    price,
                    size,
                    (int64_t)trade_id,
                    (int64_t)condition);
    md_feed_note_sequence(last, trade_id);
    md_count(&feed->counters->trades, 1);
}

/* bookTicker ids ascend with holes by design, so only a step back can be told. */
BINANCE_INLINE void binance_check_quote_id(const struct binance_context *context,
                                           const struct md_feed_symbol *symbol,
                                           uint64_t update_id) {
    if (__builtin_expect(update_id < symbol->cell->venue_quote_id, 0)) {
        md_count(&context->feed->counters->reordered, 1);
    }
}

BINANCE_INLINE void binance_publish_quote(const struct binance_context *context,
                                          const struct md_feed_symbol *symbol,
                                          uint64_t update_id,
                                          int64_t ts_event,
                                          int64_t bid_price,
                                          int64_t ask_price,
                                          int64_t bid_size,
                                          int64_t ask_size) {
    binance_check_quote_id(context, symbol, update_id);
    md_feed_publish(context->feed,
                    symbol,
                    MD_KIND_QUOTE,
                    0,
                    MD_CACHE_QUOTE,
                    ts_event,
                    context->ts_recv,
                    bid_price,
                    ask_price,
                    bid_size,
                    ask_size);
    md_feed_note_sequence(&symbol->cell->venue_quote_id, update_id);
    md_count(&context->feed->counters->quotes, 1);
}

/* Level records that go into a ring as one frame, encoded in the slots themselves. */
struct binance_levels {
    struct md_ring_writer *ring;
    int64_t ts_event;
    int64_t ts_recv;
    int64_t update_id;
    uint64_t tag;     /* without side and last-of-frame */
    uint64_t pending; /* claimed and filled, not yet released; in [0, pending_max] */
    uint64_t pending_max;
};

BINANCE_INLINE struct binance_levels binance_levels_begin(const struct binance_context *context,
                                                          const struct md_feed_symbol *symbol,
                                                          int64_t ts_event,
                                                          uint64_t update_id) {
    return (struct binance_levels){
        .ring = symbol->ring,
        .ts_event = ts_event,
        .ts_recv = context->ts_recv,
        .update_id = (int64_t)update_id,
        .tag = symbol->tag | md_record_tag(0, MD_KIND_LEVEL, 0, 0, 0),
        .pending_max = (symbol->ring->mask + 1) / 4,
    };
}

BINANCE_INLINE void
binance_levels_put(struct binance_levels *levels, unsigned flags, int64_t price, int64_t size) {
    struct md_slot *slot = md_ring_claim(levels->ring, levels->ring->next + levels->pending);
    md_slot_fill(slot,
                 levels->ts_event,
                 levels->ts_recv,
                 levels->tag | (uint64_t)flags << 40,
                 price,
                 size,
                 MD_ABSENT,
                 levels->update_id);
    levels->pending++;
}

BINANCE_INLINE void binance_levels_release(struct binance_levels *levels, struct md_feed *feed) {
    md_ring_release(levels->ring, levels->pending);
    feed->ts_event = levels->ts_event;
    md_count(&feed->counters->records, levels->pending);
    md_count(&feed->counters->levels, levels->pending);
    levels->pending = 0;
}

#endif
