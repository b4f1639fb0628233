/* Advanced Trade: an envelope with a number of the connection, and in it an array of events, each
 * with an array of trades, tickers or levels.
 *
 * Judged in this order: JSON; "channel"; "sequence_num" and "timestamp"; then all of every event,
 * whatever the products. Only a frame that is right so far has its number noted: one that is
 * refused leaves a hole, and the next one tells of the loss and takes the books out of step. Then
 * event by event what can only be wrong by itself: an unknown product, a value that does not fit.
 *
 * A frame that fills such a hole is late. Its trades are judged by their own ids, its tickers go
 * into the ring and not over newer ones in the cell, and its levels nowhere: a book that has gone
 * on without them is asked for again.
 */
#ifndef MDSYS_COINBASE_ADVANCED_H
#define MDSYS_COINBASE_ADVANCED_H

#include <stdlib.h>

#include "coinbase_values.h"

enum advanced_field {
    ADVANCED_CHANNEL,
    ADVANCED_TIMESTAMP,
    ADVANCED_SEQUENCE,
    ADVANCED_EVENTS,
    ADVANCED_TYPE, /* of an error: those have no channel */
    ADVANCED_FIELD_COUNT,
};

static const struct coinbase_name advanced_names[ADVANCED_FIELD_COUNT] = {
    [ADVANCED_CHANNEL] = COINBASE_NAME("channel"),
    [ADVANCED_TIMESTAMP] = COINBASE_NAME("timestamp"),
    [ADVANCED_SEQUENCE] = COINBASE_NAME("sequence_num"),
    [ADVANCED_EVENTS] = COINBASE_NAME("events"),
    [ADVANCED_TYPE] = COINBASE_NAME("type"),
};

enum advanced_event_field {
    EVENT_TYPE,
    EVENT_PRODUCT, /* of levels only */
    EVENT_ITEMS,
    EVENT_FIELD_COUNT,
};

/* A channel's events: what the array is called, and what is done with each of them. */
struct advanced_context {
    struct md_feed *feed;
    struct md_connection *connection;
    int64_t ts_recv;
    int64_t ts_sent; /* the envelope's time */
    bool late;
};

struct advanced_event {
    struct md_json_value product;
    struct md_json_value items; /* an array */
    bool snapshot;
};

struct advanced_channel {
    const char *name;
    struct coinbase_name items_name;
    enum md_frame_result (*check)(const struct advanced_context *context,
                                  const struct advanced_event *event);
    enum md_frame_result (*publish)(const struct advanced_context *context,
                                    const struct advanced_event *event);
};

/* ---- trades --------------------------------------------------------------------------------- */

enum trade_field {
    TRADE_PRODUCT,
    TRADE_ID,
    TRADE_PRICE,
    TRADE_SIZE,
    TRADE_TIME,
    TRADE_SIDE,
    TRADE_FIELD_COUNT,
};

static const struct coinbase_name trade_names[TRADE_FIELD_COUNT] = {
    [TRADE_PRODUCT] = COINBASE_NAME("product_id"),
    [TRADE_ID] = COINBASE_NAME("trade_id"),
    [TRADE_PRICE] = COINBASE_NAME("price"),
    [TRADE_SIZE] = COINBASE_NAME("size"),
    [TRADE_TIME] = COINBASE_NAME("time"),
    [TRADE_SIDE] = COINBASE_NAME("side"),
};

struct advanced_trade {
    struct md_json_value fields[TRADE_FIELD_COUNT];
    int64_t ts_event;
    int64_t id;    /* MD_ABSENT: it is no number */
    unsigned side; /* the aggressor's; 0: not told */
};

/* False when the trade lacks something, or something is not what it should be. */
static bool trade_read(const struct md_json_value *item, struct advanced_trade *trade) {
    const struct md_json_value *fields = trade->fields;
    struct coinbase_text id;
    int64_t price, size;
    if (!coinbase_fields(item, trade_names, TRADE_FIELD_COUNT, trade->fields) ||
        fields[TRADE_PRODUCT].type != MD_JSON_STRING || fields[TRADE_ID].type != MD_JSON_STRING ||
        fields[TRADE_SIDE].type != MD_JSON_STRING ||
        !coinbase_time(&fields[TRADE_TIME], &trade->ts_event) ||
        coinbase_number(&fields[TRADE_PRICE], 0, &price) == MD_FRAME_MALFORMED ||
        coinbase_number(&fields[TRADE_SIZE], 0, &size) == MD_FRAME_MALFORMED) {
        return false;
    }
    if (!coinbase_text(&fields[TRADE_ID], &id) || !coinbase_id(id.at, id.size, &trade->id)) {
        trade->id = MD_ABSENT;
    }
    trade->side = coinbase_is(&fields[TRADE_SIDE], "BUY")    ? MD_FLAG_SELL /* the maker's */
                  : coinbase_is(&fields[TRADE_SIDE], "SELL") ? MD_FLAG_BUY
                                                             : 0;
    return true;
}

static enum md_frame_result trades_check(const struct advanced_context *context,
                                         const struct advanced_event *event) {
    (void)context;
    struct md_json json = coinbase_inside(&event->items);
    struct md_json_value item;
    while (coinbase_item(&json, &item)) {
        struct advanced_trade trade;
        if (!trade_read(&item, &trade)) {
            return MD_FRAME_MALFORMED;
        }
    }
    return MD_FRAME_OK;
}

static enum md_frame_result
trade_publish(const struct advanced_context *context, const struct md_json_value *item, bool old) {
    struct advanced_trade trade;
    int64_t price, size;
    trade_read(item, &trade);
    struct md_feed *feed = context->feed;
    struct md_feed_symbol *symbol = coinbase_symbol(feed, &trade.fields[TRADE_PRODUCT]);
    if (symbol == NULL) {
        return MD_FRAME_UNKNOWN_SYMBOL;
    }
    if (!md_feed_wants(feed, MD_CHANNEL_TRADE)) {
        return MD_FRAME_OK;
    }
    enum md_ids ids = trade.id == MD_ABSENT ? MD_IDS_NONE : coinbase_trade_ids(symbol);
    if (old && ids == MD_IDS_ASCENDING && (uint64_t)trade.id <= symbol->cell->venue_trade_id) {
        md_count(&feed->counters->duplicates, 1); /* a snapshot holds what has been here */
        return MD_FRAME_OK;
    }
    if (coinbase_number(&trade.fields[TRADE_PRICE], symbol->price_scale, &price) != MD_FRAME_OK ||
        coinbase_number(&trade.fields[TRADE_SIZE], symbol->size_scale, &size) != MD_FRAME_OK) {
        return coinbase_refuse_trade(
            feed, symbol, context->connection, context->ts_recv, trade.id, ids);
    }
    unsigned flags = trade.side | (old ? MD_FLAG_SNAPSHOT : 0);
    if (context->late && ids == MD_IDS_NONE) {
        const int64_t body[4] = {price, size, trade.id, 0};
        md_publish_late(feed,
                        symbol,
                        MD_KIND_TRADE,
                        flags,
                        MD_CACHE_TRADE,
                        trade.ts_event,
                        context->ts_recv,
                        body);
        return MD_FRAME_OK;
    }
    md_publish_trade(feed,
                     symbol,
                     context->connection,
                     trade.ts_event,
                     context->ts_recv,
                     flags,
                     price,
                     size,
                     trade.id,
                     0,
                     ids);
    return MD_FRAME_OK;
}

enum { TRADE_SPANS_KEPT = 512 };

/* From the last to the first, which JSON cannot be read in: their places are noted. items: room for
 * count of them. */
static enum md_frame_result trades_publish_reversed(const struct advanced_context *context,
                                                    const struct advanced_event *event,
                                                    struct md_json_value *items,
                                                    size_t count) {
    enum md_frame_result result = MD_FRAME_OK;
    struct md_json json = coinbase_inside(&event->items);
    for (size_t i = 0; i < count; i++) {
        coinbase_item(&json, &items[i]);
    }
    while (count-- > 0) {
        result = coinbase_first(result, trade_publish(context, &items[count], event->snapshot));
    }
    return result;
}

/* Oldest first: snapshots come newest first. */
static enum md_frame_result trades_publish(const struct advanced_context *context,
                                           const struct advanced_event *event) {
    struct md_json json = coinbase_inside(&event->items);
    struct md_json_value item;
    int64_t first_id = MD_ABSENT, last_id = MD_ABSENT;
    size_t count = 0;
    for (; coinbase_item(&json, &item); count++) {
        struct advanced_trade trade;
        trade_read(&item, &trade);
        first_id = count == 0 ? trade.id : first_id;
        last_id = trade.id;
    }
    if (last_id < first_id) {
        struct md_json_value few[TRADE_SPANS_KEPT];
        struct md_json_value *many =
            count <= TRADE_SPANS_KEPT ? NULL : malloc(count * sizeof *many);
        if (count <= TRADE_SPANS_KEPT || many != NULL) { /* else as they come: better than never */
            enum md_frame_result reversed =
                trades_publish_reversed(context, event, many != NULL ? many : few, count);
            free(many);
            return reversed;
        }
    }
    enum md_frame_result result = MD_FRAME_OK;
    json = coinbase_inside(&event->items);
    while (coinbase_item(&json, &item)) {
        result = coinbase_first(result, trade_publish(context, &item, event->snapshot));
    }
    return result;
}

/* ---- tickers -------------------------------------------------------------------------------- */

enum ticker_field {
    TICKER_PRODUCT,
    TICKER_PRICE,
    TICKER_VOLUME,
    TICKER_BID,
    TICKER_BID_SIZE,
    TICKER_ASK,
    TICKER_ASK_SIZE,
    TICKER_FIELD_COUNT,
};

static const struct coinbase_name ticker_names[TICKER_FIELD_COUNT] = {
    [TICKER_PRODUCT] = COINBASE_NAME("product_id"),
    [TICKER_PRICE] = COINBASE_NAME("price"),
    [TICKER_VOLUME] = COINBASE_NAME("volume_24_h"),
    [TICKER_BID] = COINBASE_NAME("best_bid"),
    [TICKER_BID_SIZE] = COINBASE_NAME("best_bid_quantity"),
    [TICKER_ASK] = COINBASE_NAME("best_ask"),
    [TICKER_ASK_SIZE] = COINBASE_NAME("best_ask_quantity"),
};

static struct coinbase_ticker ticker_of(const struct md_json_value fields[TICKER_FIELD_COUNT]) {
    return (struct coinbase_ticker){
        .bid = &fields[TICKER_BID],
        .bid_size = &fields[TICKER_BID_SIZE],
        .ask = &fields[TICKER_ASK],
        .ask_size = &fields[TICKER_ASK_SIZE],
        .price = &fields[TICKER_PRICE],
        .volume = &fields[TICKER_VOLUME],
    };
}

static enum md_frame_result tickers_check(const struct advanced_context *context,
                                          const struct advanced_event *event) {
    (void)context;
    struct md_json json = coinbase_inside(&event->items);
    struct md_json_value item, fields[TICKER_FIELD_COUNT];
    while (coinbase_item(&json, &item)) {
        if (!coinbase_fields(&item, ticker_names, TICKER_FIELD_COUNT, fields) ||
            fields[TICKER_PRODUCT].type != MD_JSON_STRING) {
            return MD_FRAME_MALFORMED;
        }
        const struct coinbase_ticker ticker = ticker_of(fields);
        if (!coinbase_ticker_ok(&ticker)) {
            return MD_FRAME_MALFORMED;
        }
    }
    return MD_FRAME_OK;
}

static enum md_frame_result tickers_publish(const struct advanced_context *context,
                                            const struct advanced_event *event) {
    struct md_json json = coinbase_inside(&event->items);
    struct md_json_value item, fields[TICKER_FIELD_COUNT];
    enum md_frame_result result = MD_FRAME_OK;
    while (coinbase_item(&json, &item)) {
        coinbase_fields(&item, ticker_names, TICKER_FIELD_COUNT, fields);
        struct md_feed_symbol *symbol = coinbase_symbol(context->feed, &fields[TICKER_PRODUCT]);
        const struct coinbase_ticker ticker = ticker_of(fields);
        result = coinbase_first(result,
                                symbol == NULL ? MD_FRAME_UNKNOWN_SYMBOL
                                               : coinbase_ticker_publish(context->feed,
                                                                         symbol,
                                                                         context->connection,
                                                                         context->ts_sent,
                                                                         context->ts_recv,
                                                                         &ticker,
                                                                         context->late));
    }
    return result;
}

/* ---- levels --------------------------------------------------------------------------------- */

enum level_field {
    LEVEL_SIDE,
    LEVEL_TIME,
    LEVEL_PRICE,
    LEVEL_SIZE,
    LEVEL_FIELD_COUNT,
};

static const struct coinbase_name level_names[LEVEL_FIELD_COUNT] = {
    [LEVEL_SIDE] = COINBASE_NAME("side"),
    [LEVEL_TIME] = COINBASE_NAME("event_time"),
    [LEVEL_PRICE] = COINBASE_NAME("price_level"),
    [LEVEL_SIZE] = COINBASE_NAME("new_quantity"),
};

/* One walk over the levels of an event. symbol NULL: any scale. levels NULL: only judge, the
 * malformed before what does not fit. ts_event: the newest time of them all. */
static enum md_frame_result levels_walk(const struct md_json_value *items,
                                        const struct md_feed_symbol *symbol,
                                        struct md_levels *levels,
                                        int64_t *ts_event) {
    struct md_json json = coinbase_inside(items);
    struct md_json_value item, fields[LEVEL_FIELD_COUNT];
    enum md_frame_result result = MD_FRAME_OK;
    while (coinbase_item(&json, &item)) {
        int64_t ts, price, size;
        if (!coinbase_fields(&item, level_names, LEVEL_FIELD_COUNT, fields) ||
            !coinbase_time(&fields[LEVEL_TIME], &ts)) {
            return MD_FRAME_MALFORMED;
        }
        *ts_event = ts > *ts_event ? ts : *ts_event;
        unsigned side = coinbase_is(&fields[LEVEL_SIDE], "bid")     ? MD_FLAG_BUY
                        : coinbase_is(&fields[LEVEL_SIDE], "offer") ? MD_FLAG_SELL
                        : coinbase_is(&fields[LEVEL_SIDE], "ask")   ? MD_FLAG_SELL
                                                                    : 0;
        enum md_frame_result price_result =
            coinbase_number(&fields[LEVEL_PRICE], symbol == NULL ? 0 : symbol->price_scale, &price);
        enum md_frame_result size_result =
            coinbase_number(&fields[LEVEL_SIZE], symbol == NULL ? 0 : symbol->size_scale, &size);
        if (side == 0 || price_result == MD_FRAME_MALFORMED || size_result == MD_FRAME_MALFORMED) {
            return MD_FRAME_MALFORMED;
        }
        result = coinbase_first(result, coinbase_first(price_result, size_result));
        if (levels != NULL) {
            md_levels_put(levels, side, price, size, MD_ABSENT);
        }
    }
    return result;
}

static enum md_frame_result levels_check(const struct advanced_context *context,
                                         const struct advanced_event *event) {
    (void)context;
    int64_t ts_event = MD_ABSENT;
    if (event->product.type != MD_JSON_STRING) {
        return MD_FRAME_MALFORMED;
    }
    return levels_walk(&event->items, NULL, NULL, &ts_event) == MD_FRAME_MALFORMED
               ? MD_FRAME_MALFORMED
               : MD_FRAME_OK;
}

/* Levels that the book has gone on without: counted, and the book is asked for again. */
static void levels_late(const struct advanced_context *context,
                        struct md_feed_symbol *symbol,
                        const struct advanced_event *event) {
    struct md_json json = coinbase_inside(&event->items);
    for (struct md_json_value item; coinbase_item(&json, &item);) {
        md_count(&context->feed->counters->reordered, 1);
    }
    if (symbol->book_socket == 0 || symbol->book_socket == context->connection->socket) {
        md_book_unsync(context->feed, symbol, context->connection->number, context->ts_recv);
    }
}

static enum md_frame_result levels_publish(const struct advanced_context *context,
                                           const struct advanced_event *event) {
    struct md_feed *feed = context->feed;
    struct md_feed_symbol *symbol = coinbase_symbol(feed, &event->product);
    if (symbol == NULL) {
        return MD_FRAME_UNKNOWN_SYMBOL;
    }
    if (!md_feed_wants(feed, MD_CHANNEL_BOOK)) {
        return MD_FRAME_OK;
    }
    if (context->late) {
        levels_late(context, symbol, event);
        return MD_FRAME_OK;
    }
    int64_t ts_event = MD_ABSENT;
    if (levels_walk(&event->items, symbol, NULL, &ts_event) != MD_FRAME_OK) {
        uint32_t connection = context->connection->number;
        md_feed_refuse_value(feed, symbol, connection, MD_ABSENT, MD_ABSENT, context->ts_recv);
        md_book_unsync(feed, symbol, connection, context->ts_recv);
        return MD_FRAME_VALUE;
    }
    struct md_levels levels = md_levels_begin(feed,
                                              symbol,
                                              context->connection,
                                              ts_event > 0 ? ts_event : context->ts_sent,
                                              context->ts_recv,
                                              MD_ABSENT,
                                              event->snapshot ? MD_FLAG_SNAPSHOT : 0);
    levels_walk(&event->items, symbol, &levels, &ts_event);
    md_levels_end(&levels);
    return MD_FRAME_OK;
}

/* ---- the envelope --------------------------------------------------------------------------- */

static const struct advanced_channel advanced_channels[] = {
    {"l2_data", COINBASE_NAME("updates"), levels_check, levels_publish},
    {"market_trades", COINBASE_NAME("trades"), trades_check, trades_publish},
    {"ticker", COINBASE_NAME("tickers"), tickers_check, tickers_publish},
};

static bool advanced_event_read(const struct advanced_channel *channel,
                                const struct md_json_value *item,
                                struct advanced_event *event) {
    const struct coinbase_name names[EVENT_FIELD_COUNT] = {
        [EVENT_TYPE] = COINBASE_NAME("type"),
        [EVENT_PRODUCT] = COINBASE_NAME("product_id"),
        [EVENT_ITEMS] = channel->items_name,
    };
    struct md_json_value fields[EVENT_FIELD_COUNT];
    if (!coinbase_fields(item, names, EVENT_FIELD_COUNT, fields)) {
        return false;
    }
    event->product = fields[EVENT_PRODUCT];
    event->items = fields[EVENT_ITEMS];
    event->snapshot = coinbase_is(&fields[EVENT_TYPE], "snapshot");
    return (event->snapshot || coinbase_is(&fields[EVENT_TYPE], "update")) &&
           event->items.type == MD_JSON_ARRAY;
}

/* Number the frame. False: it has been here. */
static bool advanced_number(struct advanced_context *context, uint64_t sequence) {
    enum md_order order =
        md_connection_sequence(context->feed, context->connection, sequence, context->ts_recv);
    context->late = order == MD_ORDER_LATE;
    return order != MD_ORDER_AGAIN;
}

static enum md_frame_result advanced_data(struct advanced_context *context,
                                          const struct advanced_channel *channel,
                                          const struct md_json_value fields[ADVANCED_FIELD_COUNT],
                                          uint64_t sequence) {
    const struct md_json_value *events = &fields[ADVANCED_EVENTS];
    struct md_json_value item;
    struct advanced_event event;
    if (!coinbase_time(&fields[ADVANCED_TIMESTAMP], &context->ts_sent) ||
        events->type != MD_JSON_ARRAY) {
        return MD_FRAME_MALFORMED;
    }
    for (struct md_json json = coinbase_inside(events); coinbase_item(&json, &item);) {
        if (!advanced_event_read(channel, &item, &event) ||
            channel->check(context, &event) != MD_FRAME_OK) {
            return MD_FRAME_MALFORMED;
        }
    }
    if (!advanced_number(context, sequence)) {
        return MD_FRAME_OK;
    }
    enum md_frame_result result = MD_FRAME_OK;
    for (struct md_json json = coinbase_inside(events); coinbase_item(&json, &item);) {
        advanced_event_read(channel, &item, &event);
        result = coinbase_first(result, channel->publish(context, &event));
    }
    return result;
}

/* The number of a frame: digits, below 2^63 - 1. */
static bool advanced_sequence(const struct md_json_value *value, uint64_t *out) {
    int64_t sequence = 0;
    if (value->type != MD_JSON_NUMBER || (!(value->size == 1 && *value->text == '0') &&
                                          !coinbase_id(value->text, value->size, &sequence))) {
        return false;
    }
    *out = (uint64_t)sequence;
    return true;
}

static __attribute__((noinline)) enum md_frame_result
advanced_flat(struct advanced_context *context, const char *frame, size_t size) {
    struct md_json_value fields[ADVANCED_FIELD_COUNT];
    if (!coinbase_frame(frame, size, advanced_names, ADVANCED_FIELD_COUNT, fields)) {
        return MD_FRAME_MALFORMED;
    }
    const struct md_json_value *channel = &fields[ADVANCED_CHANNEL];
    if (channel->type == MD_JSON_NONE) {
        return coinbase_is(&fields[ADVANCED_TYPE], "error") ? MD_FRAME_CONTROL
                                                            : MD_FRAME_UNKNOWN_EVENT;
    }
    uint64_t sequence;
    if (channel->type != MD_JSON_STRING ||
        !advanced_sequence(&fields[ADVANCED_SEQUENCE], &sequence)) {
        return MD_FRAME_MALFORMED;
    }
    for (size_t i = 0; i < sizeof advanced_channels / sizeof advanced_channels[0]; i++) {
        if (coinbase_is(channel, advanced_channels[i].name)) {
            return advanced_data(context, &advanced_channels[i], fields, sequence);
        }
    }
    bool fresh = advanced_number(context, sequence);
    if (coinbase_is(channel, "heartbeats")) {
        return MD_FRAME_OK;
    }
    if (coinbase_is(channel, "subscriptions")) {
        return fresh ? MD_FRAME_CONTROL : MD_FRAME_OK; /* one answer to one request */
    }
    return MD_FRAME_UNKNOWN_EVENT;
}

#endif
