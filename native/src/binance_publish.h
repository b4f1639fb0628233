/* Binance values -> records: what both scanners of decode_binance.c end in. */
#ifndef MDSYS_BINANCE_PUBLISH_H
#define MDSYS_BINANCE_PUBLISH_H

#include <stdbool.h>

#include "publish.h"

/* Out of line, arguments go over the stack at a tenth of a frame's time. */
#define BINANCE_INLINE static inline __attribute__((always_inline))

#define BINANCE_TEXT_SIZE_MAX 127U /* of a number in text form, and far beyond any symbol */

/* Where a frame came from and where its records go. */
struct binance_context {
    struct md_feed *feed;
    int64_t ts_recv;
    struct md_connection *connection;
    bool futures; /* depth: pu is the u of the frame before. Spot: U is that u + 1 */
    bool coinm;   /* the symbol is followed by its pair, and a bookTicker begins with its id */
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
                                          struct md_feed_symbol *symbol,
                                          uint64_t trade_id,
                                          int64_t ts_event,
                                          int64_t price,
                                          int64_t size,
                                          bool buyer_is_maker,
                                          enum binance_condition condition) {
    md_publish_trade(context->feed,
                     symbol,
                     context->connection,
                     ts_event,
                     context->ts_recv,
                     buyer_is_maker ? MD_FLAG_SELL : MD_FLAG_BUY, /* the aggressor's side */
                     price,
                     size,
                     (int64_t)trade_id,
                     (int64_t)condition,
                     MD_IDS_CONTIGUOUS);
}

/* bookTicker ids ascend with holes by design, so only a step back can be told. */
BINANCE_INLINE void binance_publish_quote(const struct binance_context *context,
                                          struct md_feed_symbol *symbol,
                                          uint64_t update_id,
                                          int64_t ts_event,
                                          int64_t bid_price,
                                          int64_t ask_price,
                                          int64_t bid_size,
                                          int64_t ask_size) {
    md_publish_quote(context->feed,
                     symbol,
                     ts_event,
                     context->ts_recv,
                     bid_price,
                     ask_price,
                     bid_size,
                     ask_size,
                     (int64_t)update_id);
}

/* The levels of a frame that covers the ids first..latest. */
BINANCE_INLINE struct md_levels binance_levels_begin(const struct binance_context *context,
                                                     struct md_feed_symbol *symbol,
                                                     int64_t ts_event,
                                                     uint64_t first,
                                                     uint64_t latest) {
    struct md_levels levels = md_levels_begin(
        context->feed, symbol, context->connection, ts_event, context->ts_recv, (int64_t)latest, 0);
    levels.first_id = first;
    return levels;
}

BINANCE_INLINE void
binance_levels_put(struct md_levels *levels, unsigned side, int64_t price, int64_t size) {
    md_levels_put(levels, side, price, size, MD_ABSENT);
}

#endif
