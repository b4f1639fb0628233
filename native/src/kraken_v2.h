/* Kraken's WebSocket v2: objects with a channel, numbers as JSON numbers, RFC 3339 times. */
#ifndef MDSYS_KRAKEN_V2_H
#define MDSYS_KRAKEN_V2_H

#include "kraken_book.h"
#include "kraken_v2_scan.h"

/* ---- one item -------------------------------------------------------------------------------- */

/* An item of "data" that has been checked: nothing but its symbol and its values can be wrong. */
struct v2_item {
    struct v2_fields fields;
    struct md_feed_symbol *symbol; /* NULL: unknown */
    int64_t ts_event;
    uint64_t number; /* trade_id; checksum; a bar's count of trades */
    uint64_t interval_min;
    unsigned flags;
    enum kraken_condition conditions;
    bool taken[2]; /* the side that stands last in the item has been checked */
    struct kraken_side sides[2];
};

static bool v2_row(struct md_json *json, struct kraken_row *row) {
    *row = (struct kraken_row){.ts_event = MD_ABSENT};
    if (!md_json_take(json, '{') || md_json_take(json, '}')) {
        return false;
    }
    json->depth++;
    do {
        struct md_json_value key, value;
        if (!md_json_key(json, &key) || !md_json_value(json, &value)) {
            return false;
        }
        enum v2_key known = v2_key_of(&key);
        if (known == V2_PRICE) {
            row->price = value;
        } else if (known == V2_QTY) {
            row->size = value;
        }
    } while (md_json_take(json, ','));
    json->depth--;
    return md_json_take(json, '}') && v2_is_number(&row->price) && v2_is_number(&row->size);
}

static bool v2_check_trade(const struct kraken_context *context, struct v2_item *item) {
    (void)context;
    const struct md_json_value *of = item->fields.of;
    if (of[V2_SIDE].type != MD_JSON_STRING || !v2_is_number(&of[V2_PRICE]) ||
        !v2_is_number(&of[V2_QTY]) || !v2_time(&of[V2_TIMESTAMP], &item->ts_event) ||
        !v2_uint(&of[V2_TRADE_ID], 1, INT64_MAX - 1, &item->number)) {
        return false;
    }
    item->conditions = KRAKEN_NOT_SAID;
    if (of[V2_ORD_TYPE].type == MD_JSON_STRING) {
        item->conditions = kraken_text_is(&of[V2_ORD_TYPE], "limit")    ? KRAKEN_LIMIT
                           : kraken_text_is(&of[V2_ORD_TYPE], "market") ? KRAKEN_MARKET
                                                                        : KRAKEN_OTHER;
    } else if (of[V2_ORD_TYPE].type != MD_JSON_NONE) {
        return false;
    }
    item->flags = kraken_text_is(&of[V2_SIDE], "buy")    ? MD_FLAG_BUY
                  : kraken_text_is(&of[V2_SIDE], "sell") ? MD_FLAG_SELL
                                                         : 0;
    return item->flags != 0;
}

static enum md_frame_result
v2_publish_trade(const struct kraken_context *context, struct v2_item *item, bool snapshot) {
    const struct md_json_value *of = item->fields.of;
    struct md_feed_symbol *symbol = item->symbol;
    int64_t price, size;
    if (!kraken_fixed(context, &of[V2_PRICE], symbol->price_scale, &price) ||
        !kraken_fixed(context, &of[V2_QTY], symbol->size_scale, &size)) {
        return kraken_refuse_trade(context, symbol, item->number);
    }
    md_publish_trade(context->feed,
                     symbol,
                     context->connection,
                     item->ts_event,
                     context->ts_recv,
                     item->flags | (snapshot ? MD_FLAG_SNAPSHOT : 0),
                     price,
                     size,
                     (int64_t)item->number,
                     item->conditions,
                     MD_IDS_CONTIGUOUS);
    return MD_FRAME_OK;
}

/* A side is most often checked already, as it was taken. */
static bool v2_check_side(const struct kraken_context *context, struct v2_item *item, unsigned i) {
    const struct md_json_value *rows = &item->fields.of[i == 0 ? V2_BIDS : V2_ASKS];
    return (item->taken[i] && item->sides[i].symbol == item->symbol) ||
           kraken_check_side(context, &item->sides[i], rows, v2_row, item->symbol);
}

static bool v2_check_book(const struct kraken_context *context, struct v2_item *item) {
    const struct md_json_value *of = item->fields.of;
    return v2_time_or_none(&of[V2_TIMESTAMP], &item->ts_event) &&
           v2_uint(&of[V2_CHECKSUM], 0, UINT32_MAX, &item->number) &&
           v2_check_side(context, item, 0) && v2_check_side(context, item, 1);
}

static enum md_frame_result
v2_publish_book(const struct kraken_context *context, struct v2_item *item, bool snapshot) {
    uint32_t checksum = (uint32_t)item->number;
    return kraken_publish_book(
        context, item->symbol, snapshot, 0, item->ts_event, item->sides, &checksum);
}

/* An empty side of the market has no price; "last" is only promised within a day of a trade. */
static bool v2_check_ticker(const struct kraken_context *context, struct v2_item *item) {
    (void)context;
    static const enum v2_key wanted[] = {
        V2_BID, V2_ASK, V2_BID_QTY, V2_ASK_QTY, V2_LAST, V2_VOLUME};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        const struct md_json_value *value = &item->fields.of[wanted[i]];
        if (!v2_is_number_or_none(value) || (i < 4 && value->type == MD_JSON_NONE)) {
            return false;
        }
    }
    return v2_time_or_none(&item->fields.of[V2_TIMESTAMP], &item->ts_event);
}

static enum md_frame_result
v2_publish_ticker(const struct kraken_context *context, struct v2_item *item, bool snapshot) {
    const struct md_json_value *of = item->fields.of;
    struct md_feed_symbol *symbol = item->symbol;
    unsigned price_scale = symbol->price_scale, size_scale = symbol->size_scale;
    struct kraken_ticker ticker = {.last_size = MD_ABSENT};
    (void)snapshot; /* a ticker is always the full picture */
    if (!v2_fixed_or_none(context, &of[V2_BID], price_scale, &ticker.bid_price) ||
        !v2_fixed_or_none(context, &of[V2_ASK], price_scale, &ticker.ask_price) ||
        !v2_fixed_or_none(context, &of[V2_BID_QTY], size_scale, &ticker.bid_size) ||
        !v2_fixed_or_none(context, &of[V2_ASK_QTY], size_scale, &ticker.ask_size) ||
        !v2_fixed_or_none(context, &of[V2_LAST], price_scale, &ticker.last_price) ||
        !v2_fixed_or_none(context, &of[V2_VOLUME], size_scale, &ticker.volume)) {
        return kraken_refuse(context, symbol);
    }
    kraken_publish_ticker(context, symbol, item->ts_event, &ticker);
    return MD_FRAME_OK;
}

static const enum v2_key v2_bar_prices[] = {V2_OPEN, V2_HIGH, V2_LOW, V2_CLOSE, V2_VWAP};

static bool v2_check_bar(const struct kraken_context *context, struct v2_item *item) {
    (void)context;
    const struct md_json_value *of = item->fields.of;
    for (size_t i = 0; i < sizeof v2_bar_prices / sizeof v2_bar_prices[0]; i++) {
        if (!v2_is_number(&of[v2_bar_prices[i]])) {
            return false;
        }
    }
    return v2_is_number(&of[V2_VOLUME]) && v2_time(&of[V2_INTERVAL_BEGIN], &item->ts_event) &&
           v2_uint(&of[V2_TRADES], 0, INT64_MAX, &item->number) &&
           v2_uint(&of[V2_INTERVAL], 1, KRAKEN_INTERVAL_MAX, &item->interval_min);
}

/* Kraken sends the running candle again with each trade. It is complete, and published, when a
 * later one has begun. A snapshot holds complete ones, too: those of the first are history, those
 * of a later one are what a lost connection has cost us. */
static enum md_frame_result
v2_publish_bar(const struct kraken_context *context, struct v2_item *item, bool snapshot) {
    const struct md_json_value *of = item->fields.of;
    struct md_feed_symbol *symbol = item->symbol;
    struct md_bar bar = {.trade_count = (int64_t)item->number,
                         .interval_ns = (int64_t)item->interval_min * KRAKEN_MINUTE_NS};
    int64_t *prices[] = {&bar.open, &bar.high, &bar.low, &bar.close, &bar.vwap};
    bool fits = kraken_fixed(context, &of[V2_VOLUME], symbol->size_scale, &bar.volume);
    for (size_t i = 0; i < sizeof prices / sizeof prices[0]; i++) {
        fits = fits && kraken_fixed(context, &of[v2_bar_prices[i]], symbol->price_scale, prices[i]);
    }
    struct kraken_own *own = kraken_own_of(symbol);
    if (!fits || own == NULL) {
        return kraken_refuse(context, symbol);
    }
    if (own->has_bar && item->ts_event < own->bar_begin) {
        return MD_FRAME_OK; /* of a snapshot: it has been published */
    }
    if (!own->has_bar) {
        own->bar_seeded = context->ts_recv;
    } else if (item->ts_event > own->bar_begin &&
               !(snapshot && own->bar_seeded == context->ts_recv)) {
        md_publish_bar(context->feed, symbol, own->bar_begin, context->ts_recv, &own->bar);
    }
    own->has_bar = true;
    own->bar_begin = item->ts_event;
    own->bar = bar;
    return MD_FRAME_OK;
}

/* ---- the frame ------------------------------------------------------------------------------- */

struct v2_channel {
    const char *name;
    unsigned channels; /* bits of enum md_channel, any of which it serves */
    bool (*check)(const struct kraken_context *context, struct v2_item *item);
    enum md_frame_result (*publish)(const struct kraken_context *context,
                                    struct v2_item *item,
                                    bool snapshot);
};

static const struct v2_channel v2_channels[] = {
    {"trade", 1u << MD_CHANNEL_TRADE, v2_check_trade, v2_publish_trade},
    {"book", 1u << MD_CHANNEL_BOOK, v2_check_book, v2_publish_book},
    {"ticker",
     1u << MD_CHANNEL_QUOTE | 1u << MD_CHANNEL_TICKER,
     v2_check_ticker,
     v2_publish_ticker},
    {"ohlc", 1u << MD_CHANNEL_BAR, v2_check_bar, v2_publish_bar},
};

/* Take a value, and of a book a side's rows with it: symbols come first. */
static bool v2_value(const struct kraken_context *context,
                     struct md_json *json,
                     const struct v2_channel *channel,
                     enum v2_key key,
                     struct v2_item *item,
                     struct md_json_value *value) {
    if (key != V2_BIDS && key != V2_ASKS) {
        return md_json_value(json, value);
    }
    unsigned side = key == V2_ASKS;
    md_json_space(json);
    item->taken[side] = channel->check == v2_check_book && item->symbol != NULL &&
                        json->at < json->end && *json->at == '[';
    if (!item->taken[side]) {
        return md_json_value(json, value);
    }
    bool ok = kraken_take_side(context, &item->sides[side], json, v2_row, item->symbol);
    *value = item->sides[side].rows;
    return ok;
}

/* Take an item and check it. False: it is no JSON, or not as it must be. */
static bool v2_take_item(const struct kraken_context *context,
                         const struct v2_channel *channel,
                         struct md_json *json,
                         struct v2_item *item) {
    struct md_json_value *of = item->fields.of;
    memset(of, 0, sizeof item->fields.of);
    item->symbol = NULL;
    item->taken[0] = item->taken[1] = false;
    if (!md_json_take(json, '{') || md_json_take(json, '}')) {
        return false;
    }
    json->depth++;
    do {
        struct md_json_value name, value;
        if (!md_json_key(json, &name)) {
            return false;
        }
        enum v2_key key = v2_key_of(&name);
        if (!v2_value(context, json, channel, key, item, &value)) {
            return false;
        }
        if (key != V2_KEY_COUNT) { /* of a key that comes twice the last one counts */
            of[key] = value;
        }
        if (key == V2_SYMBOL && value.type == MD_JSON_STRING) {
            item->symbol = kraken_symbol(context->feed, &value);
        }
    } while (md_json_take(json, ','));
    json->depth--;
    return md_json_take(json, '}') && of[V2_SYMBOL].type == MD_JSON_STRING &&
           channel->check(context, item);
}

/* What a frame's data is, so far. */
struct v2_data {
    const struct v2_channel *checked; /* as whose the items have been checked; NULL: not at all */
    bool ok;                          /* and are as they must be */
    uint32_t count;
    struct md_json_value text;
    struct v2_item item; /* the last one */
};

/* Take all items and check them; `at` is on the array's first byte. */
static bool v2_take_data(const struct kraken_context *context,
                         const struct v2_channel *channel,
                         struct md_json *json,
                         struct v2_data *data) {
    data->text = (struct md_json_value){.text = json->at, .type = MD_JSON_ARRAY};
    data->checked = channel;
    data->count = 0;
    json->at++;
    json->depth++;
    if (!md_json_take(json, ']')) {
        do {
            data->count++;
            if (!v2_take_item(context, channel, json, &data->item)) {
                return false;
            }
        } while (md_json_take(json, ','));
        if (!md_json_take(json, ']')) {
            return false;
        }
    }
    json->depth--;
    data->text.size = (size_t)(json->at - data->text.text);
    return true;
}

/* Publish items that have been checked, and so cannot make the frame malformed any more. */
static enum md_frame_result
v2_publish(const struct kraken_context *context, struct v2_data *data, bool snapshot) {
    const struct v2_channel *channel = data->checked;
    struct md_json json = {.at = data->text.text + 1, .end = data->text.text + data->text.size};
    enum md_frame_result result = MD_FRAME_OK;
    if ((channel->channels & context->feed->channels) == 0) {
        return MD_FRAME_OK;
    }
    for (uint32_t i = 0; i < data->count; i++) {
        if (data->count > 1) { /* else it is still here */
            v2_take_item(context, channel, &json, &data->item);
            md_json_take(&json, ',');
        }
        enum md_frame_result each = data->item.symbol == NULL
                                        ? MD_FRAME_UNKNOWN_SYMBOL
                                        : channel->publish(context, &data->item, snapshot);
        result = result == MD_FRAME_OK ? each : result;
    }
    return result;
}

static const struct v2_channel *v2_channel_of(const struct md_json_value *name) {
    for (size_t i = 0; i < sizeof v2_channels / sizeof v2_channels[0]; i++) {
        if (name->type == MD_JSON_STRING && kraken_text_is(name, v2_channels[i].name)) {
            return &v2_channels[i];
        }
    }
    return NULL;
}

/* The frame's own values. */
struct v2_frame {
    struct md_json_value name, type;
    const struct v2_channel *channel; /* NULL: none that has data for us */
    bool is_answer;
    struct v2_data data;
};

/* Take "data": item by item where the channel is known, which comes first, else unseen. */
static bool
v2_frame_data(const struct kraken_context *context, struct md_json *json, struct v2_frame *frame) {
    struct v2_data *data = &frame->data;
    const struct md_json before = *json;
    data->checked = NULL;
    if (frame->channel != NULL && json->at < json->end && *json->at == '[') {
        data->ok = v2_take_data(context, frame->channel, json, data);
        if (data->ok) {
            return true;
        }
        json->at = before.at; /* it may still be JSON, and another channel's */
        json->depth = before.depth;
    }
    return md_json_value(json, &data->text);
}

/* Take the whole frame. False: it is no JSON. */
static bool
v2_take_frame(const struct kraken_context *context, struct md_json *json, struct v2_frame *frame) {
    if (!md_json_take(json, '{')) {
        return false;
    }
    json->depth++;
    if (!md_json_take(json, '}')) {
        do {
            struct md_json_value key, value;
            if (!md_json_key(json, &key)) {
                return false;
            }
            enum v2_key known = v2_key_of(&key);
            md_json_space(json);
            if (known == V2_DATA ? !v2_frame_data(context, json, frame)
                                 : !md_json_value(json, &value)) {
                return false;
            }
            if (known == V2_CHANNEL) {
                frame->name = value;
                frame->channel = v2_channel_of(&value);
            } else if (known == V2_TYPE) {
                frame->type = value;
            }
            frame->is_answer |= known == V2_METHOD || known == V2_ERROR;
        } while (md_json_take(json, ','));
        if (!md_json_take(json, '}')) {
            return false;
        }
    }
    md_json_space(json);
    return json->at == json->end;
}

static enum md_frame_result
v2_decode(const struct kraken_context *context, const char *text, size_t size) {
    struct md_json json = {.at = text, .end = text + size};
    struct v2_frame frame;
    if (size > MD_FRAME_SIZE_MAX) {
        return MD_FRAME_TOO_LONG;
    }
    frame.name.type = frame.type.type = frame.data.text.type = MD_JSON_NONE;
    frame.channel = frame.data.checked = NULL;
    frame.is_answer = false;
    if (!v2_take_frame(context, &json, &frame) ||
        (json.beyond_ascii && !md_utf8_valid(text, size))) {
        return MD_FRAME_MALFORMED;
    }
    if (frame.name.type == MD_JSON_NONE) {
        return frame.is_answer ? MD_FRAME_CONTROL : MD_FRAME_UNKNOWN_EVENT;
    }
    if (frame.name.type != MD_JSON_STRING) {
        return MD_FRAME_MALFORMED;
    }
    if (frame.channel == NULL) {
        return kraken_text_is(&frame.name, "heartbeat") ? MD_FRAME_OK
               : kraken_text_is(&frame.name, "status")  ? MD_FRAME_CONTROL
                                                        : MD_FRAME_UNKNOWN_EVENT;
    }
    bool snapshot = frame.type.type == MD_JSON_STRING && kraken_text_is(&frame.type, "snapshot");
    if (frame.data.text.type != MD_JSON_ARRAY || frame.type.type != MD_JSON_STRING ||
        (!snapshot && !kraken_text_is(&frame.type, "update"))) {
        return MD_FRAME_MALFORMED;
    }
    if (frame.data.checked != frame.channel || !frame.data.ok) {
        json = (struct md_json){.at = frame.data.text.text,
                                .end = frame.data.text.text + frame.data.text.size};
        if (!v2_take_data(context, frame.channel, &json, &frame.data)) {
            return MD_FRAME_MALFORMED;
        }
    }
    return v2_publish(context, &frame.data, snapshot);
}

#endif
