/* Kraken values -> records: what both of its decoders end in. */
#ifndef MDSYS_KRAKEN_PUBLISH_H
#define MDSYS_KRAKEN_PUBLISH_H

#include <stdlib.h>

#include "kraken_scan.h"
#include "publish.h"

#define KRAKEN_MINUTE_NS INT64_C(60000000000)
#define KRAKEN_INTERVAL_MAX                                                                        \
    1000000U /* minutes of a candle; the longest that is offered is 21600                          \
              */

/* A trade's conditions: by what order it was struck. Append-only. */
enum kraken_condition {
    KRAKEN_LIMIT = 0,
    KRAKEN_MARKET = 1,
    KRAKEN_NOT_SAID = 254,
    KRAKEN_OTHER = 255,
};

#define KRAKEN_CHECKSUM_LEVELS 10u /* of a side */

/* What we remember of a symbol beside what the feed does. */
struct kraken_own {
    uint32_t depth; /* of the book */
    bool has_bar;
    int64_t bar_begin;
    int64_t bar_seeded; /* ts_recv of the first snapshot: its candles are history */
    struct md_bar bar;  /* the running candle */
    /* Of the book's top, [bids or asks][from the best on]: what each level's text adds to the
     * checksum. Size 0: nothing yet. Reckoned anew where it is missing, so no capture holds it. */
    int64_t text_price[2][KRAKEN_CHECKSUM_LEVELS], text_size[2][KRAKEN_CHECKSUM_LEVELS];
    uint32_t text_crc[2][KRAKEN_CHECKSUM_LEVELS];
    uint8_t text_length[2][KRAKEN_CHECKSUM_LEVELS];
};

static_assert(sizeof(struct kraken_own) <= 512, "what capture_state.c makes room for");

/* Returns NULL when there is no memory. */
static struct kraken_own *kraken_own_of(struct md_feed_symbol *symbol) {
    if (symbol->own == NULL) {
        symbol->own = calloc(1, sizeof(struct kraken_own));
        symbol->own_size = symbol->own == NULL ? 0 : offsetof(struct kraken_own, text_price);
    }
    return symbol->own;
}

/* A value of a message without ids does not fit. */
static enum md_frame_result kraken_refuse(const struct kraken_context *context,
                                          const struct md_feed_symbol *symbol) {
    md_feed_refuse_value(
        context->feed, symbol, context->connection->number, MD_ABSENT, MD_ABSENT, context->ts_recv);
    return MD_FRAME_VALUE;
}

/* A trade's price or size does not fit: its id counts as seen, and readers learn which they miss.
 */
static enum md_frame_result kraken_refuse_trade(const struct kraken_context *context,
                                                struct md_feed_symbol *symbol,
                                                uint64_t trade_id) {
    uint64_t *last = &symbol->cell->venue_trade_id;
    uint32_t connection = context->connection->number;
    if (md_feed_order(context->feed,
                      symbol,
                      &symbol->trades,
                      last,
                      trade_id,
                      trade_id,
                      MD_IDS_CONTIGUOUS,
                      connection,
                      context->ts_recv) != MD_ORDER_AGAIN) {
        md_feed_refuse_value(context->feed,
                             symbol,
                             connection,
                             (int64_t)trade_id,
                             (int64_t)trade_id,
                             context->ts_recv);
        md_feed_note_sequence(last, trade_id);
    }
    return MD_FRAME_VALUE;
}

struct kraken_ticker {
    int64_t bid_price, ask_price, bid_size, ask_size;
    int64_t last_price, last_size, volume;
};

/* Kraken's ticker is both: the best of the book, and the last trade with the day's volume. */
static void kraken_publish_ticker(const struct kraken_context *context,
                                  struct md_feed_symbol *symbol,
                                  int64_t ts_event,
                                  const struct kraken_ticker *ticker) {
    if (md_feed_wants(context->feed, MD_CHANNEL_QUOTE)) {
        md_publish_quote(context->feed,
                         symbol,
                         ts_event,
                         context->ts_recv,
                         ticker->bid_price,
                         ticker->ask_price,
                         ticker->bid_size,
                         ticker->ask_size,
                         MD_ABSENT);
    }
    if (md_feed_wants(context->feed, MD_CHANNEL_TICKER)) {
        md_publish_ticker(context->feed,
                          symbol,
                          ts_event,
                          context->ts_recv,
                          ticker->last_price,
                          ticker->last_size,
                          ticker->volume,
                          MD_ABSENT);
    }
}

#endif
