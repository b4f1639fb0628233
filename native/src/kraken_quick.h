/* Kraken's v2 messages in the very key order, and without the blanks, that the venue sends.
 *
 * docs.kraken.com, Spot WebSocket v2, "Trades", "Ticker (L1)", "Book (L2)", read 2026-11. Each
 * takes a frame whole or returns false with nothing published: see quick_scan.h. */
#ifndef MDSYS_KRAKEN_QUICK_H
#define MDSYS_KRAKEN_QUICK_H

#include "kraken_book.h"
#include "quick_scan.h"

enum { KRAKEN_QUICK_TRADES_MAX = 16 };

struct kraken_quick_trade {
    struct md_feed_symbol *symbol;
    int64_t ts_event, price, size;
    uint64_t id;
    bool is_buy, is_limit;
};

MD_QUICK bool kraken_quick_trade(const struct kraken_context *context,
                                 struct md_quick *scan,
                                 struct kraken_quick_trade *trade) {
    unsigned decimals;
    trade->symbol = md_quick_symbol(scan, context->feed);
    return trade->symbol != NULL && MD_TAKE(scan, "\",\"side\":\"") && md_quick_room(scan) &&
           MD_EITHER(scan, "buy\",\"price\":", "sell\",\"price\":", &trade->is_buy) &&
           md_quick_decimal(scan, trade->symbol->price_scale, &trade->price, &decimals) &&
           MD_DECIMAL(scan, ",\"qty\":", trade->symbol->size_scale, &trade->size, &decimals) &&
           MD_TAKE(scan, ",\"ord_type\":\"") && md_quick_room(scan) &&
           MD_EITHER(scan, "limit\",\"t", "market\",\"t", &trade->is_limit) &&
           MD_UINT(scan, "rade_id\":", &trade->id) && trade->id != 0 &&
           MD_TIME(scan, ",\"timestamp\":\"", &trade->ts_event);
}

/* `scan` is behind the first symbol's opening quote, here and below. They are published when the
 * frame has been seen to its end. */
MD_QUICK bool kraken_quick_trades(const struct kraken_context *context, struct md_quick scan) {
    struct kraken_quick_trade trades[KRAKEN_QUICK_TRADES_MAX], *trade = trades;
    if (!md_feed_wants(context->feed, MD_CHANNEL_TRADE)) {
        return false;
    }
    while (kraken_quick_trade(context, &scan, trade)) {
        trade++;
        if (MD_END(&scan, "\"}]}")) {
            for (const struct kraken_quick_trade *each = trades; each < trade; each++) {
                md_publish_trade(context->feed,
                                 each->symbol,
                                 context->connection,
                                 each->ts_event,
                                 context->ts_recv,
                                 each->is_buy ? MD_FLAG_BUY : MD_FLAG_SELL,
                                 each->price,
                                 each->size,
                                 (int64_t)each->id,
                                 each->is_limit ? KRAKEN_LIMIT : KRAKEN_MARKET,
                                 MD_IDS_CONTIGUOUS);
            }
            return true;
        }
        if (trade == trades + KRAKEN_QUICK_TRADES_MAX || !MD_TAKE(&scan, "\"},{\"symbol\":\"")) {
            return false;
        }
    }
    return false;
}

/* The time came later than the rest. */
MD_QUICK bool kraken_quick_end(struct md_quick *scan, int64_t *ts_event) {
    *ts_event = MD_ABSENT;
    if (MD_TIME(scan, ",\"timestamp\":\"", ts_event)) {
        return MD_END(scan, "\"}]}");
    }
    return MD_END(scan, "}]}");
}

MD_QUICK bool kraken_quick_ticker(const struct kraken_context *context, struct md_quick scan) {
    struct kraken_ticker ticker = {.last_size = MD_ABSENT};
    struct md_feed_symbol *symbol = md_quick_symbol(&scan, context->feed);
    int64_t ts_event;
    unsigned decimals;
    if (symbol == NULL) {
        return false;
    }
    unsigned price = symbol->price_scale, size = symbol->size_scale;
    if (!MD_DECIMAL(&scan, "\",\"bid\":", price, &ticker.bid_price, &decimals) ||
        !MD_DECIMAL(&scan, ",\"bid_qty\":", size, &ticker.bid_size, &decimals) ||
        !MD_DECIMAL(&scan, ",\"ask\":", price, &ticker.ask_price, &decimals) ||
        !MD_DECIMAL(&scan, ",\"ask_qty\":", size, &ticker.ask_size, &decimals) ||
        !MD_DECIMAL(&scan, ",\"last\":", price, &ticker.last_price, &decimals) ||
        !MD_DECIMAL(&scan, ",\"volume\":", size, &ticker.volume, &decimals) ||
        !MD_SKIP_NUMBER(&scan, ",\"vwap\":") || !MD_SKIP_NUMBER(&scan, ",\"low\":") ||
        !MD_SKIP_NUMBER(&scan, ",\"high\":") || !MD_SKIP_NUMBER(&scan, ",\"change\":") ||
        !MD_SKIP_NUMBER(&scan, ",\"change_pct\":") || !kraken_quick_end(&scan, &ts_event)) {
        return false;
    }
    kraken_publish_ticker(context, symbol, ts_event, &ticker);
    return true;
}

/* One side of a book's changes, from its first row up to and with the bracket behind its last. */
MD_QUICK bool kraken_quick_side(struct md_quick *scan,
                                const struct md_feed_symbol *symbol,
                                struct kraken_side *side) {
    unsigned price = symbol->price_scale, size = symbol->size_scale;
    unsigned price_decimals = 0, size_decimals = 0, count = 0, shown;
    if (!MD_TAKE(scan, "]")) {
        do {
            if (count == KRAKEN_KEPT_COUNT ||
                !MD_DECIMAL(scan, "{\"price\":", price, &side->kept[count][0], &shown)) {
                return false;
            }
            price_decimals = kraken_more(price_decimals, shown);
            if (!MD_DECIMAL(scan, ",\"qty\":", size, &side->kept[count][1], &shown)) {
                return false;
            }
            size_decimals = kraken_more(size_decimals, shown);
            count++;
        } while (MD_TAKE(scan, "},"));
        if (!MD_TAKE(scan, "}]")) {
            return false;
        }
    }
    side->symbol = symbol;
    side->count = count;
    side->price_decimals = price_decimals;
    side->size_decimals = size_decimals;
    side->fits = true;
    side->ts_event = MD_ABSENT;
    return true;
}

MD_QUICK bool kraken_quick_book(const struct kraken_context *context, struct md_quick scan) {
    struct md_feed_symbol *symbol = md_quick_symbol(&scan, context->feed);
    struct kraken_side sides[2];
    uint64_t checksum;
    int64_t ts_event;
    if (symbol == NULL || !md_feed_wants(context->feed, MD_CHANNEL_BOOK) ||
        !MD_TAKE(&scan, "\",\"bids\":[") || !kraken_quick_side(&scan, symbol, &sides[0]) ||
        !MD_TAKE(&scan, ",\"asks\":[") || !kraken_quick_side(&scan, symbol, &sides[1]) ||
        !MD_UINT(&scan, ",\"checksum\":", &checksum) || checksum > UINT32_MAX ||
        !kraken_quick_end(&scan, &ts_event)) {
        return false;
    }
    uint32_t sum = (uint32_t)checksum;
    kraken_publish_book(context, symbol, false, 0, ts_event, sides, &sum);
    return true;
}

static bool kraken_quick(const struct kraken_context *context, const char *frame, size_t size) {
    struct md_quick scan = {frame, frame + size};
    if (size < MD_QUICK_SIZE_MIN || !MD_TAKE(&scan, "{\"channel\":\"")) {
        return false;
    }
    if (MD_TAKE(&scan, "book\",\"type\":\"update\",\"data\":[{\"symbol\":\"")) {
        return kraken_quick_book(context, scan);
    }
    if (MD_TAKE(&scan, "trade\",\"type\":\"update\",\"data\":[{\"symbol\":\"")) {
        return kraken_quick_trades(context, scan);
    }
    return MD_TAKE(&scan, "ticker\",\"type\":\"update\",\"data\":[{\"symbol\":\"") &&
           kraken_quick_ticker(context, scan);
}

#endif
