/* OpenAlgo values -> records: what both of its scanners end in. */
#ifndef MDSYS_OPENALGO_PUBLISH_H
#define MDSYS_OPENALGO_PUBLISH_H

#include "publish.h"

#define OPENALGO_ROWS_MAX 100u /* of a side; brokers send 5 to 50 */

struct openalgo_level {
    int64_t price, size, orders;
};

/* What a message says, at the symbol's scales. */
struct openalgo_tick {
    int64_t ts_event;
    int64_t last_price, last_size, volume, open_interest;
    struct openalgo_level levels[2][OPENALGO_ROWS_MAX]; /* bids, asks: those with a size */
    unsigned counts[2];
};

/* Seconds, ms, us or ns since the epoch, told apart by their size; anything else is no time. */
static int64_t openalgo_time(uint64_t written) {
    int64_t ts;
    uint64_t ns_each = written < UINT64_C(100000000000)         ? 1000000000
                       : written < UINT64_C(100000000000000)    ? 1000000
                       : written < UINT64_C(100000000000000000) ? 1000
                                                                : 1;
    return written == 0 || __builtin_mul_overflow(written, ns_each, &ts) ? MD_ABSENT : ts;
}

static void openalgo_publish_quote(struct md_feed *feed,
                                   struct md_feed_symbol *symbol,
                                   int64_t ts_recv,
                                   const struct openalgo_tick *tick) {
    struct openalgo_level best[2] = {{MD_ABSENT, MD_ABSENT, 0}, {MD_ABSENT, MD_ABSENT, 0}};
    for (unsigned s = 0; s < 2; s++) {
        for (unsigned i = 0; i < tick->counts[s]; i++) {
            const struct openalgo_level *level = &tick->levels[s][i];
            if (i == 0 || (s == 0 ? level->price > best[s].price : level->price < best[s].price)) {
                best[s] = *level;
            }
        }
    }
    md_publish_quote(feed,
                     symbol,
                     tick->ts_event,
                     ts_recv,
                     best[0].price,
                     best[1].price,
                     best[0].size,
                     best[1].size,
                     MD_ABSENT);
}

static void openalgo_publish_book(struct md_feed *feed,
                                  struct md_feed_symbol *symbol,
                                  const struct md_connection *connection,
                                  int64_t ts_recv,
                                  const struct openalgo_tick *tick) {
    struct md_levels levels = md_levels_begin(
        feed, symbol, connection, tick->ts_event, ts_recv, MD_ABSENT, MD_FLAG_SNAPSHOT);
    for (unsigned s = 0; s < 2; s++) {
        for (unsigned i = 0; i < tick->counts[s]; i++) {
            const struct openalgo_level *level = &tick->levels[s][i];
            unsigned side = s == 0 ? MD_FLAG_BUY : MD_FLAG_SELL;
            md_levels_put(&levels, side, level->price, level->size, level->orders);
        }
    }
    md_levels_end(&levels);
}

/* Publish what is there and wanted. */
static void openalgo_publish(struct md_feed *feed,
                             struct md_feed_symbol *symbol,
                             const struct md_connection *connection,
                             int64_t ts_recv,
                             const struct openalgo_tick *tick,
                             bool ticker,
                             bool quote,
                             bool book) {
    if (ticker) {
        md_publish_ticker(feed,
                          symbol,
                          tick->ts_event,
                          ts_recv,
                          tick->last_price,
                          tick->last_size,
                          tick->volume,
                          tick->open_interest);
    }
    if (quote) {
        openalgo_publish_quote(feed, symbol, ts_recv, tick);
    }
    if (book) {
        openalgo_publish_book(feed, symbol, connection, ts_recv, tick);
    }
}

#endif
