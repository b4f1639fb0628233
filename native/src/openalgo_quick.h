/* OpenAlgo's frames in the key order, and with the blanks, that its server and Zerodha's adapter
 * write, of whose keys each may be missing: github.com/marketcalls/openalgo,
 * websocket_proxy/server.py and broker/zerodha/streaming, read 2026-11. It takes a frame whole or
 * returns false with nothing published: see quick_scan.h. Other brokers' orders are the flat
 * scanner's. */
#ifndef MDSYS_OPENALGO_QUICK_H
#define MDSYS_OPENALGO_QUICK_H

#include "openalgo_publish.h"
#include "quick_scan.h"

/* Step to the quote that ends a string, of which 16 bytes are there. */
MD_QUICK bool openalgo_quick_name(struct md_quick *scan, const char **name, size_t *size) {
    *name = scan->at;
    bool ok = scan->end - scan->at >= 16 && md_quick_text(scan);
    *size = (size_t)(scan->at - *name);
    return ok;
}

/* {"type": "market_data", "symbol": "SBIN", "exchange": "NSE", and behind it. */
MD_QUICK struct md_feed_symbol *openalgo_quick_symbol(struct md_quick *scan,
                                                      const struct md_feed *feed) {
    const char *symbol, *exchange;
    size_t symbol_size, exchange_size;
    char name[MD_NAME_SIZE_MAX + 16];
    if (!MD_TAKE(scan, "{\"type\": \"market_data\", \"symbol\": \"") ||
        !openalgo_quick_name(scan, &symbol, &symbol_size) ||
        !MD_TAKE(scan, "\", \"exchange\": \"") ||
        !openalgo_quick_name(scan, &exchange, &exchange_size) || exchange_size > 16 ||
        symbol_size > 32) {
        return NULL;
    }
    memcpy(name, exchange, 16); /* openalgo_quick_name has seen that there are 16 bytes */
    name[exchange_size] = ':';
    memcpy(name + exchange_size + 1, symbol, 16);
    if (symbol_size > 16) {
        memcpy(name + exchange_size + 1, symbol, symbol_size);
    }
    return md_quick_find(feed, name, exchange_size + 1 + symbol_size);
}

/* Step over a key and its number, if they come next. False: it is no plain number. */
#define MAY_SKIP(scan, literal) (!MD_TAKE(scan, literal) || md_quick_skip_number(scan))

/* Read a key's number, if it comes next. */
#define MAY_READ(scan, literal, scale, out)                                                        \
    (!MD_TAKE(scan, literal) || md_quick_decimal(scan, scale, out, &(unsigned){0}))

/* Read one side, up to its closing bracket. A level without a quantity is none. */
MD_QUICK bool openalgo_quick_side(struct md_quick *scan,
                                  const struct md_feed_symbol *symbol,
                                  struct openalgo_level *levels,
                                  unsigned *count) {
    unsigned price = symbol->price_scale, size = symbol->size_scale, decimals, rows = 0;
    *count = 0;
    if (MD_TAKE(scan, "]")) {
        return true;
    }
    do {
        struct openalgo_level *level = &levels[*count];
        if (rows++ == OPENALGO_ROWS_MAX ||
            !MD_DECIMAL(scan, "{\"price\": ", price, &level->price, &decimals) ||
            !MD_DECIMAL(scan, ", \"quantity\": ", size, &level->size, &decimals) ||
            !MD_DECIMAL(scan, ", \"orders\": ", 0, &level->orders, &decimals)) {
            return false;
        }
        *count += level->size != 0;
    } while (MD_TAKE(scan, "}, "));
    return MD_TAKE(scan, "}]");
}

/* The data, behind its opening brace. */
MD_QUICK bool openalgo_quick_data(struct md_quick *scan,
                                  const struct md_feed_symbol *symbol,
                                  struct openalgo_tick *tick,
                                  bool *has_depth) {
    unsigned price = symbol->price_scale, size = symbol->size_scale, decimals;
    int64_t open_interest = MD_ABSENT;
    uint64_t written;
    tick->ts_event = tick->last_size = tick->volume = tick->open_interest = MD_ABSENT;
    if (MD_TAKE(scan, "\"symbol\": \"") &&
        (!md_quick_text(scan) || !MD_SKIP_TEXT(scan, "\", \"exchange\": \"") ||
         !MD_SKIP_TEXT(scan, "\", \"mode\": \"") || !MD_TAKE(scan, "\", "))) {
        return false;
    }
    if (!MD_DECIMAL(scan, "\"ltp\": ", price, &tick->last_price, &decimals) ||
        !MAY_SKIP(scan, ", \"ltt\": ")) {
        return false;
    }
    if (MD_TAKE(scan, ", \"timestamp\": ")) {
        if (!md_quick_uint(scan, &written)) {
            return false;
        }
        tick->ts_event = openalgo_time(written);
    }
    if (!MAY_READ(scan, ", \"volume\": ", size, &tick->volume) ||
        !MAY_READ(scan, ", \"last_quantity\": ", size, &tick->last_size) ||
        !MAY_SKIP(scan, ", \"average_price\": ") || !MAY_SKIP(scan, ", \"total_buy_quantity\": ") ||
        !MAY_SKIP(scan, ", \"total_sell_quantity\": ") || !MAY_SKIP(scan, ", \"open\": ") ||
        !MAY_SKIP(scan, ", \"high\": ") || !MAY_SKIP(scan, ", \"low\": ") ||
        !MAY_SKIP(scan, ", \"close\": ") ||
        !MAY_READ(scan, ", \"oi\": ", size, &tick->open_interest) ||
        !MAY_READ(scan, ", \"open_interest\": ", size, &open_interest)) {
        return false;
    }
    if (tick->open_interest == MD_ABSENT) {
        tick->open_interest = open_interest;
    }
    *has_depth = MD_TAKE(scan, ", \"depth\": {\"buy\": [");
    return (!*has_depth || (openalgo_quick_side(scan, symbol, tick->levels[0], &tick->counts[0]) &&
                            MD_TAKE(scan, ", \"sell\": [") &&
                            openalgo_quick_side(scan, symbol, tick->levels[1], &tick->counts[1]) &&
                            MD_TAKE(scan, "}"))) &&
           MD_TAKE(scan, "}");
}

static bool openalgo_quick(struct md_feed *feed,
                           const char *frame,
                           size_t size,
                           int64_t ts_recv,
                           const struct md_connection *connection) {
    struct md_quick scan = {frame, frame + size};
    struct openalgo_tick tick;
    bool has_depth;
    struct md_feed_symbol *symbol =
        size < MD_QUICK_SIZE_MIN ? NULL : openalgo_quick_symbol(&scan, feed);
    if (symbol == NULL || !MD_SKIP_NUMBER(&scan, "\", \"mode\": ") ||
        (MD_TAKE(&scan, ", \"broker\": \"") && !(md_quick_text(&scan) && MD_TAKE(&scan, "\""))) ||
        !MD_TAKE(&scan, ", \"data\": {") ||
        !openalgo_quick_data(&scan, symbol, &tick, &has_depth) ||
        (MD_TAKE(&scan, ", \"broker\": \"") && !(md_quick_text(&scan) && MD_TAKE(&scan, "\""))) ||
        !MD_END(&scan, "}")) {
        return false;
    }
    openalgo_publish(feed,
                     symbol,
                     connection,
                     ts_recv,
                     &tick,
                     md_feed_wants(feed, MD_CHANNEL_TICKER),
                     has_depth && md_feed_wants(feed, MD_CHANNEL_QUOTE),
                     has_depth && md_feed_wants(feed, MD_CHANNEL_BOOK));
    return true;
}

#endif
