/* The Exchange feed: one event a frame, flat.
 *
 * Judged in this order, the first fault names the result: JSON; "type"; the values it must have and
 * their types, whatever the product; the product; then what its scales cannot hold. */
#ifndef MDSYS_COINBASE_EXCHANGE_H
#define MDSYS_COINBASE_EXCHANGE_H

#include "coinbase_values.h"

enum exchange_field {
    EXCHANGE_TYPE,
    EXCHANGE_PRODUCT,
    EXCHANGE_TIME,
    EXCHANGE_TRADE_ID,
    EXCHANGE_SIDE,
    EXCHANGE_PRICE,
    EXCHANGE_SIZE,
    EXCHANGE_LAST_SIZE,
    EXCHANGE_VOLUME,
    EXCHANGE_BID,
    EXCHANGE_BID_SIZE,
    EXCHANGE_ASK,
    EXCHANGE_ASK_SIZE,
    EXCHANGE_BIDS,
    EXCHANGE_ASKS,
    EXCHANGE_CHANGES,
    EXCHANGE_FIELD_COUNT,
};

static const struct coinbase_name exchange_names[EXCHANGE_FIELD_COUNT] = {
    [EXCHANGE_TYPE] = COINBASE_NAME("type"),
    [EXCHANGE_PRODUCT] = COINBASE_NAME("product_id"),
    [EXCHANGE_TIME] = COINBASE_NAME("time"),
    [EXCHANGE_TRADE_ID] = COINBASE_NAME("trade_id"),
    [EXCHANGE_SIDE] = COINBASE_NAME("side"),
    [EXCHANGE_PRICE] = COINBASE_NAME("price"),
    [EXCHANGE_SIZE] = COINBASE_NAME("size"),
    [EXCHANGE_LAST_SIZE] = COINBASE_NAME("last_size"),
    [EXCHANGE_VOLUME] = COINBASE_NAME("volume_24h"),
    [EXCHANGE_BID] = COINBASE_NAME("best_bid"),
    [EXCHANGE_BID_SIZE] = COINBASE_NAME("best_bid_size"),
    [EXCHANGE_ASK] = COINBASE_NAME("best_ask"),
    [EXCHANGE_ASK_SIZE] = COINBASE_NAME("best_ask_size"),
    [EXCHANGE_BIDS] = COINBASE_NAME("bids"),
    [EXCHANGE_ASKS] = COINBASE_NAME("asks"),
    [EXCHANGE_CHANGES] = COINBASE_NAME("changes"),
};

/* Where a frame came from and where its records go. */
struct exchange_context {
    struct md_feed *feed;
    const struct md_connection *connection;
    int64_t ts_recv;
};

/* MD_FLAG_BUY, MD_FLAG_SELL, or 0 for anything else. */
static unsigned exchange_side(const struct md_json_value *value) {
    return coinbase_is(value, "buy") ? MD_FLAG_BUY : coinbase_is(value, "sell") ? MD_FLAG_SELL : 0;
}

/* The event's time, MD_ABSENT when it bears none; false when it is no time. */
static bool exchange_time(const struct md_json_value fields[EXCHANGE_FIELD_COUNT],
                          int64_t *ts_event) {
    *ts_event = MD_ABSENT;
    return fields[EXCHANGE_TIME].type == MD_JSON_NONE ||
           coinbase_time(&fields[EXCHANGE_TIME], ts_event);
}

static enum md_frame_result exchange_match(const struct exchange_context *context,
                                           const struct md_json_value fields[EXCHANGE_FIELD_COUNT],
                                           unsigned flags) {
    const struct md_json_value *id = &fields[EXCHANGE_TRADE_ID];
    unsigned maker = exchange_side(&fields[EXCHANGE_SIDE]);
    int64_t ts_event, trade_id, price, size;
    if (fields[EXCHANGE_PRODUCT].type != MD_JSON_STRING ||
        !coinbase_time(&fields[EXCHANGE_TIME], &ts_event) || id->type != MD_JSON_NUMBER ||
        !coinbase_id(id->text, id->size, &trade_id) || maker == 0 ||
        coinbase_number(&fields[EXCHANGE_PRICE], 0, &price) == MD_FRAME_MALFORMED ||
        coinbase_number(&fields[EXCHANGE_SIZE], 0, &size) == MD_FRAME_MALFORMED) {
        return MD_FRAME_MALFORMED;
    }
    struct md_feed *feed = context->feed;
    struct md_feed_symbol *symbol = coinbase_symbol(feed, &fields[EXCHANGE_PRODUCT]);
    if (symbol == NULL) {
        return MD_FRAME_UNKNOWN_SYMBOL;
    }
    if (!md_feed_wants(feed, MD_CHANNEL_TRADE)) {
        return MD_FRAME_OK;
    }
    if (coinbase_number(&fields[EXCHANGE_PRICE], symbol->price_scale, &price) != MD_FRAME_OK ||
        coinbase_number(&fields[EXCHANGE_SIZE], symbol->size_scale, &size) != MD_FRAME_OK) {
        return coinbase_refuse_trade(
            feed, symbol, context->connection, context->ts_recv, trade_id, MD_IDS_CONTIGUOUS);
    }
    md_publish_trade(feed,
                     symbol,
                     context->connection,
                     ts_event,
                     context->ts_recv,
                     flags | (maker == MD_FLAG_BUY ? MD_FLAG_SELL : MD_FLAG_BUY),
                     price,
                     size,
                     trade_id,
                     0,
                     MD_IDS_CONTIGUOUS);
    return MD_FRAME_OK;
}

static enum md_frame_result
exchange_ticker(const struct exchange_context *context,
                const struct md_json_value fields[EXCHANGE_FIELD_COUNT]) {
    const struct coinbase_ticker ticker = {
        .bid = &fields[EXCHANGE_BID],
        .bid_size = &fields[EXCHANGE_BID_SIZE],
        .ask = &fields[EXCHANGE_ASK],
        .ask_size = &fields[EXCHANGE_ASK_SIZE],
        .price = &fields[EXCHANGE_PRICE],
        .size = &fields[EXCHANGE_LAST_SIZE],
        .volume = &fields[EXCHANGE_VOLUME],
    };
    int64_t ts_event;
    if (fields[EXCHANGE_PRODUCT].type != MD_JSON_STRING || !exchange_time(fields, &ts_event) ||
        !coinbase_ticker_ok(&ticker)) {
        return MD_FRAME_MALFORMED;
    }
    struct md_feed_symbol *symbol = coinbase_symbol(context->feed, &fields[EXCHANGE_PRODUCT]);
    if (symbol == NULL) {
        return MD_FRAME_UNKNOWN_SYMBOL;
    }
    return coinbase_ticker_publish(
        context->feed, symbol, context->connection, ts_event, context->ts_recv, &ticker, false);
}

/* Go over rows: [price, size, ...] of one side, or with side 0 [side, price, size, ...]. levels
 * NULL: judge them all, the malformed before what the symbol's scales (NULL: any) cannot hold. */
static enum md_frame_result exchange_rows(const struct md_json_value *rows,
                                          unsigned side,
                                          const struct md_feed_symbol *symbol,
                                          struct md_levels *levels) {
    struct md_json json = coinbase_inside(rows);
    struct md_json_value row;
    enum md_frame_result result = MD_FRAME_OK;
    while (coinbase_item(&json, &row)) {
        struct md_json_value cells[3] = {{0}};
        unsigned own = side;
        int64_t price, size;
        if (row.type != MD_JSON_ARRAY) {
            return MD_FRAME_MALFORMED;
        }
        struct md_json inside = coinbase_inside(&row);
        for (unsigned i = side != 0; i < 3 && coinbase_item(&inside, &cells[i]); i++) {
        }
        if (side == 0) {
            own = exchange_side(&cells[0]);
        }
        enum md_frame_result price_result =
            coinbase_number(&cells[1], symbol == NULL ? 0 : symbol->price_scale, &price);
        enum md_frame_result size_result =
            coinbase_number(&cells[2], symbol == NULL ? 0 : symbol->size_scale, &size);
        if (own == 0 || price_result == MD_FRAME_MALFORMED || size_result == MD_FRAME_MALFORMED) {
            return MD_FRAME_MALFORMED;
        }
        result = coinbase_first(result, coinbase_first(price_result, size_result));
        if (levels != NULL) {
            md_levels_put(levels, own, price, size, MD_ABSENT);
        }
    }
    return result;
}

/* A book that misses a change is wrong from then on, and nothing here is numbered: so it is told to
 * be, wherever a frame of a known product cannot be taken. */
static enum md_frame_result
exchange_refuse_depth(const struct exchange_context *context,
                      struct md_feed_symbol *symbol, /* NULL: who knows whose it is */
                      enum md_frame_result result) {
    if (symbol != NULL && md_feed_wants(context->feed, MD_CHANNEL_BOOK)) {
        uint32_t connection = context->connection->number;
        if (result == MD_FRAME_VALUE) {
            md_feed_refuse_value(
                context->feed, symbol, connection, MD_ABSENT, MD_ABSENT, context->ts_recv);
        }
        md_book_unsync(context->feed, symbol, connection, context->ts_recv);
    }
    return result;
}

/* bids NULL: changes. */
static enum md_frame_result exchange_depth(const struct exchange_context *context,
                                           const struct md_json_value fields[EXCHANGE_FIELD_COUNT],
                                           bool snapshot) {
    /* Which rows, of which side. */
    const struct {
        const struct md_json_value *rows;
        unsigned side;
    } parts[2] = {
        {&fields[snapshot ? EXCHANGE_BIDS : EXCHANGE_CHANGES], snapshot ? MD_FLAG_BUY : 0},
        {&fields[EXCHANGE_ASKS], MD_FLAG_SELL},
    };
    unsigned part_count = snapshot ? 2 : 1;
    if (fields[EXCHANGE_PRODUCT].type != MD_JSON_STRING) {
        return MD_FRAME_MALFORMED;
    }
    struct md_feed *feed = context->feed;
    struct md_feed_symbol *symbol = coinbase_symbol(feed, &fields[EXCHANGE_PRODUCT]);
    int64_t ts_event;
    enum md_frame_result result =
        exchange_time(fields, &ts_event) ? MD_FRAME_OK : MD_FRAME_MALFORMED;
    for (unsigned i = 0; i < part_count && result != MD_FRAME_MALFORMED; i++) {
        enum md_frame_result own = parts[i].rows->type == MD_JSON_ARRAY
                                       ? exchange_rows(parts[i].rows, parts[i].side, symbol, NULL)
                                       : MD_FRAME_MALFORMED;
        result = own == MD_FRAME_MALFORMED ? own : coinbase_first(result, own);
    }
    if (symbol == NULL && result != MD_FRAME_MALFORMED) {
        return MD_FRAME_UNKNOWN_SYMBOL;
    }
    if (result != MD_FRAME_OK) {
        return exchange_refuse_depth(context, symbol, result);
    }
    if (!md_feed_wants(feed, MD_CHANNEL_BOOK)) {
        return MD_FRAME_OK;
    }
    struct md_levels levels = md_levels_begin(feed,
                                              symbol,
                                              context->connection,
                                              ts_event,
                                              context->ts_recv,
                                              MD_ABSENT,
                                              snapshot ? MD_FLAG_SNAPSHOT : 0);
    for (unsigned i = 0; i < part_count; i++) {
        exchange_rows(parts[i].rows, parts[i].side, symbol, &levels);
    }
    md_levels_end(&levels);
    return MD_FRAME_OK;
}

static __attribute__((noinline)) enum md_frame_result
exchange_flat(const struct exchange_context *context, const char *frame, size_t size) {
    struct md_json_value fields[EXCHANGE_FIELD_COUNT];
    if (!coinbase_frame(frame, size, exchange_names, EXCHANGE_FIELD_COUNT, fields)) {
        return MD_FRAME_MALFORMED;
    }
    const struct md_json_value *type = &fields[EXCHANGE_TYPE];
    if (coinbase_is(type, "l2update")) {
        return exchange_depth(context, fields, false);
    }
    if (coinbase_is(type, "match")) {
        return exchange_match(context, fields, 0);
    }
    if (coinbase_is(type, "last_match")) { /* the last one before the subscription */
        return exchange_match(context, fields, MD_FLAG_SNAPSHOT);
    }
    if (coinbase_is(type, "ticker")) {
        return exchange_ticker(context, fields);
    }
    if (coinbase_is(type, "snapshot")) {
        return exchange_depth(context, fields, true);
    }
    if (coinbase_is(type, "heartbeat")) {
        return MD_FRAME_OK;
    }
    if (coinbase_is(type, "subscriptions") || coinbase_is(type, "error")) {
        return MD_FRAME_CONTROL;
    }
    return MD_FRAME_UNKNOWN_EVENT;
}

#endif
