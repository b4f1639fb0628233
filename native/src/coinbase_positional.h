/* The fast scanners: the commonest frames in the very key order, and without the blanks, that the
 * venue sends. Each takes a frame whole or returns false with nothing published; then the flat
 * scanner decides. So all that is rare is left to that one: refusals, holes in the numbers, frames
 * too long for one piece, unknown products, odd numbers. What these take it takes alike. */
#ifndef MDSYS_COINBASE_POSITIONAL_H
#define MDSYS_COINBASE_POSITIONAL_H

#include "coinbase_scan.h"

/* ---- Exchange ------------------------------------------------------------------------------- */

/* Where the time stands, behind the rows: what is put into the slots must have it already. */
MD_QUICK bool positional_time_at_end(const struct md_quick *scan, int64_t *ts) {
    static const char key[] = "],\"time\":\"2021-04-17T16:43:37.089723Z\"}";
    struct md_quick tail = *scan;
    if (scan->end - scan->at < (ptrdiff_t)sizeof key - 1) {
        return false;
    }
    tail.at = scan->end - (sizeof key - 1);
    return MD_TAKE(&tail, "],\"time\":\"") && positional_time(&tail, ts) && MD_END(&tail, "}");
}

/* {"type":"l2update","product_id":" is behind us. The slots are claimed as the rows are read;
 * without the release at the end nobody sees them. */
static bool positional_l2update(struct md_feed *feed,
                                const struct md_connection *connection,
                                int64_t ts_recv,
                                struct md_quick scan) {
    struct md_feed_symbol *symbol = positional_symbol(&scan, feed);
    int64_t ts_event, price, size;
    if (symbol == NULL || !MD_TAKE(&scan, ",\"changes\":[") ||
        !positional_time_at_end(&scan, &ts_event) || !md_feed_wants(feed, MD_CHANNEL_BOOK)) {
        return false;
    }
    struct md_levels levels =
        md_levels_begin(feed, symbol, connection, ts_event, ts_recv, MD_ABSENT, 0);
    do {
        if (levels.pending == levels.pending_max || !MD_TAKE(&scan, "[\"")) {
            return false;
        }
        unsigned side = positional_side(&scan);
        if (side == 0 || !NUMBER(&scan, ",\"", symbol->price_scale, &price) ||
            !NUMBER(&scan, ",\"", symbol->size_scale, &size) || !MD_TAKE(&scan, "]")) {
            return false;
        }
        md_levels_put(&levels, side, price, size, MD_ABSENT);
    } while (MD_TAKE(&scan, ","));
    if (!MD_TAKE(&scan, "],\"time\":\"") || !md_quick_text(&scan) || !MD_END(&scan, "\"}")) {
        return false;
    }
    md_levels_end(&levels);
    return true;
}

/* {"type":"match","trade_id": is behind us. */
static bool positional_match(struct md_feed *feed,
                             const struct md_connection *connection,
                             int64_t ts_recv,
                             struct md_quick scan) {
    int64_t trade_id, sequence, ts_event, price, size;
    if (!positional_id(&scan, &trade_id) || !MD_SKIP_TEXT(&scan, ",\"maker_order_id\":\"") ||
        !MD_SKIP_TEXT(&scan, "\",\"taker_order_id\":\"") || !MD_TAKE(&scan, "\",\"side\":\"")) {
        return false;
    }
    unsigned maker = positional_side(&scan);
    struct md_quick numbers = scan; /* the scales are the product's, which comes behind them */
    if (maker == 0 || !MD_SKIP_TEXT(&scan, ",\"size\":\"") ||
        !MD_SKIP_TEXT(&scan, "\",\"price\":\"") || !MD_TAKE(&scan, "\",\"product_id\":\"")) {
        return false;
    }
    struct md_feed_symbol *symbol = positional_symbol(&scan, feed);
    if (symbol == NULL || !MD_TAKE(&scan, ",\"sequence\":") || !positional_id(&scan, &sequence) ||
        !MD_TAKE(&scan, ",\"time\":\"") || !positional_time(&scan, &ts_event) ||
        !MD_END(&scan, "}") || !NUMBER(&numbers, ",\"size\":\"", symbol->size_scale, &size) ||
        !NUMBER(&numbers, ",\"price\":\"", symbol->price_scale, &price) ||
        !md_feed_wants(feed, MD_CHANNEL_TRADE)) {
        return false;
    }
    md_publish_trade(feed,
                     symbol,
                     connection,
                     ts_event,
                     ts_recv,
                     maker == MD_FLAG_BUY ? MD_FLAG_SELL : MD_FLAG_BUY,
                     price,
                     size,
                     trade_id,
                     0,
                     MD_IDS_CONTIGUOUS);
    return true;
}

/* {"type":"ticker","sequence": is behind us. The sizes of the best came later than the rest. */
static bool positional_ticker(struct md_feed *feed, int64_t ts_recv, struct md_quick scan) {
    int64_t sequence, ts_event, trade_id;
    int64_t quote[4] = {MD_ABSENT, MD_ABSENT, MD_ABSENT, MD_ABSENT}, last[3];
    if (!positional_id(&scan, &sequence) || !MD_TAKE(&scan, ",\"product_id\":\"")) {
        return false;
    }
    struct md_feed_symbol *symbol = positional_symbol(&scan, feed);
    if (symbol == NULL) {
        return false;
    }
    unsigned price = symbol->price_scale, size = symbol->size_scale;
    if (!NUMBER(&scan, ",\"price\":\"", price, &last[0]) ||
        !MD_SKIP_TEXT(&scan, ",\"open_24h\":\"") ||
        !NUMBER(&scan, "\",\"volume_24h\":\"", size, &last[2]) ||
        !MD_SKIP_TEXT(&scan, ",\"low_24h\":\"") || !MD_SKIP_TEXT(&scan, "\",\"high_24h\":\"") ||
        !MD_SKIP_TEXT(&scan, "\",\"volume_30d\":\"") ||
        !NUMBER(&scan, "\",\"best_bid\":\"", price, &quote[0])) {
        return false;
    }
    if (MD_TAKE(&scan, ",\"best_bid_size\":\"") && !positional_number(&scan, size, &quote[2])) {
        return false;
    }
    if (!NUMBER(&scan, ",\"best_ask\":\"", price, &quote[1]) ||
        (MD_TAKE(&scan, ",\"best_ask_size\":\"") && !positional_number(&scan, size, &quote[3])) ||
        !MD_TAKE(&scan, ",\"side\":\"") || positional_side(&scan) == 0 ||
        !MD_TAKE(&scan, ",\"time\":\"") || !positional_time(&scan, &ts_event) ||
        !MD_TAKE(&scan, ",\"trade_id\":") || !positional_id(&scan, &trade_id) ||
        !NUMBER(&scan, ",\"last_size\":\"", size, &last[1]) || !MD_END(&scan, "}")) {
        return false;
    }
    coinbase_publish_quote(feed, symbol, ts_event, ts_recv, quote, false);
    coinbase_publish_last(feed, symbol, ts_event, ts_recv, last, false);
    return true;
}

MD_QUICK bool positional_exchange(struct md_feed *feed,
                                  const struct md_connection *connection,
                                  const char *frame,
                                  size_t size,
                                  int64_t ts_recv) {
    if (size < MD_QUICK_SIZE_MIN) {
        return false;
    }
    struct md_quick scan = {frame, frame + size};
    if (MD_TAKE(&scan, "{\"type\":\"l2update\",\"product_id\":\"")) {
        return positional_l2update(feed, connection, ts_recv, scan);
    }
    if (MD_TAKE(&scan, "{\"type\":\"match\",\"trade_id\":")) {
        return positional_match(feed, connection, ts_recv, scan);
    }
    return MD_TAKE(&scan, "{\"type\":\"ticker\",\"sequence\":") &&
           positional_ticker(feed, ts_recv, scan);
}

/* ---- Advanced Trade ------------------------------------------------------------------------- */

/* The envelope up to its events, behind the channel; the time it was sent. Only the number that is
 * due: none before means that 0 is. */
MD_QUICK bool positional_envelope(struct md_quick *scan,
                                  const struct md_connection *connection,
                                  int64_t *ts_sent) {
    int64_t sequence = 0;
    MD_TAKE(scan, "\"client_id\":\"\","); /* gone since 2026 */
    return MD_TAKE(scan, "\"timestamp\":\"") && positional_time(scan, ts_sent) &&
           MD_TAKE(scan, ",\"sequence_num\":") &&
           (MD_TAKE(scan, "0") || positional_id(scan, &sequence)) &&
           connection->sequence == (uint64_t)sequence && MD_TAKE(scan, ",\"events\":[{\"type\":\"");
}

/* One event; all its levels of one time, or the flat scanner finds the newest. */
static bool positional_l2_data(struct md_feed *feed,
                               struct md_connection *connection,
                               int64_t ts_recv,
                               struct md_quick scan) {
    int64_t ts_sent, ts_event, price, size;
    if (!positional_envelope(&scan, connection, &ts_sent) ||
        !MD_TAKE(&scan, "update\",\"product_id\":\"")) {
        return false;
    }
    struct md_feed_symbol *symbol = positional_symbol(&scan, feed);
    if (symbol == NULL || !MD_TAKE(&scan, ",\"updates\":[") ||
        !md_feed_wants(feed, MD_CHANNEL_BOOK)) {
        return false;
    }
    const char *time = NULL; /* the first level's, with its quote */
    size_t time_size = 0;
    struct md_levels levels;
    do {
        unsigned side;
        if (!MD_TAKE(&scan, "{\"side\":\"")) {
            return false;
        }
        side = MD_TAKE(&scan, "bid\"") ? MD_FLAG_BUY : MD_TAKE(&scan, "offer\"") ? MD_FLAG_SELL : 0;
        if (side == 0 || !MD_TAKE(&scan, ",\"event_time\":\"")) {
            return false;
        }
        if (time == NULL) {
            time = scan.at;
            if (!positional_time(&scan, &ts_event)) {
                return false;
            }
            time_size = (size_t)(scan.at - time);
            levels = md_levels_begin(
                feed, symbol, connection, ts_event > 0 ? ts_event : ts_sent, ts_recv, MD_ABSENT, 0);
        } else {
            if ((size_t)(scan.end - scan.at) < time_size || memcmp(scan.at, time, time_size) != 0) {
                return false;
            }
            scan.at += time_size;
        }
        if (levels.pending == levels.pending_max ||
            !NUMBER(&scan, ",\"price_level\":\"", symbol->price_scale, &price) ||
            !NUMBER(&scan, ",\"new_quantity\":\"", symbol->size_scale, &size) ||
            !MD_TAKE(&scan, "}")) {
            return false;
        }
        md_levels_put(&levels, side, price, size, MD_ABSENT);
    } while (MD_TAKE(&scan, ","));
    if (!MD_END(&scan, "]}]}")) {
        return false;
    }
    connection->sequence++;
    md_levels_end(&levels);
    return true;
}

enum { POSITIONAL_TRADES_MAX = 16 };

struct positional_trade {
    struct md_feed_symbol *symbol;
    int64_t id, price, size, ts_event;
    unsigned side; /* the aggressor's */
};

/* One event of a few trades, oldest first. They are published when the frame has been seen to its
 * end. */
static bool positional_trades(struct md_feed *feed,
                              struct md_connection *connection,
                              int64_t ts_recv,
                              struct md_quick scan) {
    struct positional_trade trades[POSITIONAL_TRADES_MAX], *trade = trades;
    int64_t ts_sent;
    if (!positional_envelope(&scan, connection, &ts_sent) ||
        !MD_TAKE(&scan, "update\",\"trades\":[") || !md_feed_wants(feed, MD_CHANNEL_TRADE)) {
        return false;
    }
    do {
        if (trade == trades + POSITIONAL_TRADES_MAX || !MD_TAKE(&scan, "{\"product_id\":\"")) {
            return false;
        }
        trade->symbol = positional_symbol(&scan, feed);
        if (trade->symbol == NULL || !MD_TAKE(&scan, ",\"trade_id\":\"") ||
            !positional_id(&scan, &trade->id) ||
            !NUMBER(&scan, "\",\"price\":\"", trade->symbol->price_scale, &trade->price) ||
            !NUMBER(&scan, ",\"size\":\"", trade->symbol->size_scale, &trade->size) ||
            !MD_TAKE(&scan, ",\"time\":\"") || !positional_time(&scan, &trade->ts_event) ||
            !MD_TAKE(&scan, ",\"side\":\"")) {
            return false;
        }
        trade->side = MD_TAKE(&scan, "BUY\"}")    ? MD_FLAG_SELL /* the maker's */
                      : MD_TAKE(&scan, "SELL\"}") ? MD_FLAG_BUY
                                                  : 0;
        if (trade->side == 0) {
            return false;
        }
        trade++;
    } while (MD_TAKE(&scan, ","));
    if (!MD_END(&scan, "]}]}") || trade[-1].id < trades[0].id) {
        return false;
    }
    connection->sequence++;
    for (const struct positional_trade *each = trades; each < trade; each++) {
        md_publish_trade(feed,
                         each->symbol,
                         connection,
                         each->ts_event,
                         ts_recv,
                         each->side,
                         each->price,
                         each->size,
                         each->id,
                         0,
                         coinbase_trade_ids(each->symbol));
    }
    return true;
}

/* One event of one ticker. */
static bool positional_advanced_ticker(struct md_feed *feed,
                                       struct md_connection *connection,
                                       int64_t ts_recv,
                                       struct md_quick scan) {
    int64_t ts_sent, quote[4], last[3] = {MD_ABSENT, MD_ABSENT, MD_ABSENT};
    if (!positional_envelope(&scan, connection, &ts_sent) ||
        !MD_TAKE(&scan, "update\",\"tickers\":[{\"type\":\"ticker\",\"product_id\":\"")) {
        return false;
    }
    struct md_feed_symbol *symbol = positional_symbol(&scan, feed);
    if (symbol == NULL) {
        return false;
    }
    unsigned price = symbol->price_scale, size = symbol->size_scale;
    if (!NUMBER(&scan, ",\"price\":\"", price, &last[0]) ||
        !NUMBER(&scan, ",\"volume_24_h\":\"", size, &last[2]) ||
        !MD_SKIP_TEXT(&scan, ",\"low_24_h\":\"") || !MD_SKIP_TEXT(&scan, "\",\"high_24_h\":\"") ||
        !MD_SKIP_TEXT(&scan, "\",\"low_52_w\":\"") || !MD_SKIP_TEXT(&scan, "\",\"high_52_w\":\"") ||
        !MD_SKIP_TEXT(&scan, "\",\"price_percent_chg_24_h\":\"") ||
        !NUMBER(&scan, "\",\"best_bid\":\"", price, &quote[0]) ||
        !NUMBER(&scan, ",\"best_ask\":\"", price, &quote[1]) ||
        !NUMBER(&scan, ",\"best_bid_quantity\":\"", size, &quote[2]) ||
        !NUMBER(&scan, ",\"best_ask_quantity\":\"", size, &quote[3]) || !MD_END(&scan, "}]}]}")) {
        return false;
    }
    connection->sequence++;
    coinbase_publish_quote(feed, symbol, ts_sent, ts_recv, quote, false);
    coinbase_publish_last(feed, symbol, ts_sent, ts_recv, last, false);
    return true;
}

MD_QUICK bool positional_advanced(struct md_feed *feed,
                                  struct md_connection *connection,
                                  const char *frame,
                                  size_t size,
                                  int64_t ts_recv) {
    if (size < MD_QUICK_SIZE_MIN) {
        return false;
    }
    struct md_quick scan = {frame, frame + size};
    if (MD_TAKE(&scan, "{\"channel\":\"l2_data\",")) {
        return positional_l2_data(feed, connection, ts_recv, scan);
    }
    if (MD_TAKE(&scan, "{\"channel\":\"ticker\",")) {
        return positional_advanced_ticker(feed, connection, ts_recv, scan);
    }
    return MD_TAKE(&scan, "{\"channel\":\"market_trades\",") &&
           positional_trades(feed, connection, ts_recv, scan);
}

#endif
