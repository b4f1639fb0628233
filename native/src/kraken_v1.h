/* Kraken's WebSocket v1, for captures: arrays, numbers as strings, times in decimal seconds.
 *
 * [channel id, payload, channel name, pair]; a book's update may come as two payloads, one a side.
 * Trades have no ids. docs.kraken.com, "Spot WebSocket v1", read 2026-11. */
#ifndef MDSYS_KRAKEN_V1_H
#define MDSYS_KRAKEN_V1_H

#include "kraken_book.h"

enum { V1_PAYLOAD_COUNT_MAX = 2, V1_ELEMENT_COUNT_MAX = 3 + V1_PAYLOAD_COUNT_MAX };

/* A string that is a number without a sign; *out is then its text. */
static bool v1_number(const struct md_json_value *value, struct md_json_value *out) {
    int64_t fixed;
    *out = *value;
    return value->type == MD_JSON_STRING && !value->escaped && value->size > 0 &&
           *value->text != '-' && *value->text != '+' &&
           md_decimal_parse(value->text, value->size, 0, &fixed) != MD_DECIMAL_SYNTAX;
}

/* "1618678142.557535" -> ns. */
static bool v1_time(const struct md_json_value *value, int64_t *ns) {
    struct md_json_value number;
    return v1_number(value, &number) &&
           md_decimal_parse(number.text, number.size, 9, ns) == MD_DECIMAL_OK;
}

/* Take an array's first values, at most `most`; more are passed over. Returns how many there are,
 * or UINT32_MAX when it is no array. The text has been checked. */
static uint32_t v1_array(struct md_json *json, struct md_json_value *values, uint32_t most) {
    struct md_json_value value;
    uint32_t count = 0;
    if (!md_json_take(json, '[')) {
        return UINT32_MAX;
    }
    if (md_json_take(json, ']')) {
        return 0;
    }
    do {
        md_json_value(json, &value);
        if (count < most) {
            values[count] = value;
        }
        count++;
    } while (md_json_take(json, ','));
    md_json_take(json, ']');
    return count;
}

static uint32_t
v1_array_of(const struct md_json_value *value, struct md_json_value *values, uint32_t most) {
    if (value->type != MD_JSON_ARRAY) {
        return UINT32_MAX;
    }
    struct md_json json = {.at = value->text, .end = value->text + value->size};
    return v1_array(&json, values, most);
}

/* A value of an object by its key, one character: the last one of that key. */
static void
v1_member(const struct md_json_value *object, const char *name, struct md_json_value *out) {
    struct md_json json = {.at = object->text + 1, .end = object->text + object->size};
    struct md_json_value key, value;
    if (md_json_take(&json, '}')) {
        return;
    }
    do {
        md_json_key(&json, &key);
        md_json_value(&json, &value);
        if (kraken_text_is(&key, name)) {
            *out = value;
        }
    } while (md_json_take(&json, ','));
}

/* ---- depth ----------------------------------------------------------------------------------- */

/* [price, size, time] and, of an update that repeats what was sent before, "r". */
static bool v1_row(struct md_json *json, struct kraken_row *row) {
    struct md_json_value cells[3];
    md_json_space(json);
    uint32_t count = *json->at == '[' ? v1_array(json, cells, 3) : UINT32_MAX;
    return count != UINT32_MAX && count >= 3 && v1_number(&cells[0], &row->price) &&
           v1_number(&cells[1], &row->size) && v1_time(&cells[2], &row->ts_event);
}

/* depth: what the channel's name says. */
static enum md_frame_result v1_book(const struct kraken_context *context,
                                    struct md_feed_symbol *symbol,
                                    const struct md_json_value *payloads,
                                    uint32_t payload_count,
                                    uint32_t depth) {
    struct md_json_value whole[2] = {0}, change[2] = {0}, sum = {0};
    for (uint32_t i = 0; i < payload_count; i++) {
        if (payloads[i].type != MD_JSON_OBJECT) {
            return MD_FRAME_MALFORMED;
        }
        v1_member(&payloads[i], "bs", &whole[0]);
        v1_member(&payloads[i], "as", &whole[1]);
        v1_member(&payloads[i], "b", &change[0]);
        v1_member(&payloads[i], "a", &change[1]);
        v1_member(&payloads[i], "c", &sum);
    }
    bool is_whole = whole[0].type != MD_JSON_NONE || whole[1].type != MD_JSON_NONE;
    bool is_change = change[0].type != MD_JSON_NONE || change[1].type != MD_JSON_NONE;
    const struct md_json_value *rows = is_whole ? whole : change;
    struct kraken_side sides[2];
    uint64_t checksum = 0;
    if (is_whole == is_change || (is_change && sum.type != MD_JSON_STRING) ||
        (sum.type != MD_JSON_NONE &&
         (sum.type != MD_JSON_STRING ||
          !kraken_uint(sum.text, sum.size, 0, UINT32_MAX, &checksum))) ||
        !kraken_check_side(context, &sides[0], &rows[0], v1_row, symbol) ||
        !kraken_check_side(context, &sides[1], &rows[1], v1_row, symbol)) {
        return MD_FRAME_MALFORMED;
    }
    if (!md_feed_wants(context->feed, MD_CHANNEL_BOOK)) {
        return MD_FRAME_OK;
    }
    if (symbol == NULL) {
        return MD_FRAME_UNKNOWN_SYMBOL;
    }
    int64_t ts_event =
        sides[0].ts_event > sides[1].ts_event ? sides[0].ts_event : sides[1].ts_event;
    uint32_t checksum32 = (uint32_t)checksum;
    return kraken_publish_book(context,
                               symbol,
                               is_whole,
                               depth,
                               ts_event,
                               sides,
                               sum.type != MD_JSON_NONE ? &checksum32 : NULL);
}

/* ---- trades ---------------------------------------------------------------------------------- */

struct v1_trade {
    struct md_json_value price, size;
    int64_t ts_event;
    unsigned side;
    enum kraken_condition conditions;
};

/* Take [price, size, time, side, order type, anything]. */
static bool v1_take_trade(struct md_json *json, struct v1_trade *trade) {
    struct md_json_value cells[5];
    md_json_space(json);
    uint32_t count = *json->at == '[' ? v1_array(json, cells, 5) : UINT32_MAX;
    if (count == UINT32_MAX || count < 5 || !v1_number(&cells[0], &trade->price) ||
        !v1_number(&cells[1], &trade->size) || !v1_time(&cells[2], &trade->ts_event) ||
        cells[3].type != MD_JSON_STRING || cells[4].type != MD_JSON_STRING) {
        return false;
    }
    trade->side = kraken_text_is(&cells[3], "b")   ? MD_FLAG_BUY
                  : kraken_text_is(&cells[3], "s") ? MD_FLAG_SELL
                                                   : 0;
    trade->conditions = kraken_text_is(&cells[4], "l")   ? KRAKEN_LIMIT
                        : kraken_text_is(&cells[4], "m") ? KRAKEN_MARKET
                                                         : KRAKEN_OTHER;
    return trade->side != 0;
}

static enum md_frame_result v1_trades(const struct kraken_context *context,
                                      struct md_feed_symbol *symbol,
                                      const struct md_json_value *payload) {
    if (payload->type != MD_JSON_ARRAY) {
        return MD_FRAME_MALFORMED;
    }
    const struct md_json whole = {.at = payload->text + 1, .end = payload->text + payload->size};
    struct md_json json = whole;
    struct v1_trade trade;
    uint32_t count = 0;
    if (!md_json_take(&json, ']')) {
        do {
            count++;
            if (!v1_take_trade(&json, &trade)) {
                return MD_FRAME_MALFORMED;
            }
        } while (md_json_take(&json, ','));
    }
    if (!md_feed_wants(context->feed, MD_CHANNEL_TRADE)) {
        return MD_FRAME_OK;
    }
    if (symbol == NULL) {
        return MD_FRAME_UNKNOWN_SYMBOL;
    }
    enum md_frame_result result = MD_FRAME_OK;
    json = whole;
    for (uint32_t i = 0; i < count; i++) {
        int64_t price, size;
        v1_take_trade(&json, &trade);
        md_json_take(&json, ',');
        if (!kraken_fixed(context, &trade.price, symbol->price_scale, &price) ||
            !kraken_fixed(context, &trade.size, symbol->size_scale, &size)) {
            result = kraken_refuse(context, symbol);
            continue;
        }
        md_publish_trade(context->feed,
                         symbol,
                         context->connection,
                         trade.ts_event,
                         context->ts_recv,
                         trade.side,
                         price,
                         size,
                         MD_ABSENT,
                         trade.conditions,
                         MD_IDS_NONE);
    }
    return result;
}

/* ---- ticker ---------------------------------------------------------------------------------- */

/* {"a":[price, whole lots, size], "b":.., "c":[last price, size], "v":[today, 24 hours], ..} */
static enum md_frame_result v1_ticker(const struct kraken_context *context,
                                      struct md_feed_symbol *symbol,
                                      const struct md_json_value *payload) {
    static const struct {
        const char *name;
        uint32_t least, first, second; /* how many values it has, and which we want */
    } members[] = {{"b", 3, 0, 2}, {"a", 3, 0, 2}, {"c", 2, 0, 1}, {"v", 2, 1, 1}};
    struct md_json_value numbers[4][2];
    if (payload->type != MD_JSON_OBJECT) {
        return MD_FRAME_MALFORMED;
    }
    for (size_t i = 0; i < 4; i++) {
        struct md_json_value member = {0}, cells[3];
        v1_member(payload, members[i].name, &member);
        uint32_t count = v1_array_of(&member, cells, 3);
        if (count == UINT32_MAX || count < members[i].least ||
            !v1_number(&cells[members[i].first], &numbers[i][0]) ||
            !v1_number(&cells[members[i].second], &numbers[i][1])) {
            return MD_FRAME_MALFORMED;
        }
    }
    if (!md_feed_wants(context->feed, MD_CHANNEL_QUOTE) &&
        !md_feed_wants(context->feed, MD_CHANNEL_TICKER)) {
        return MD_FRAME_OK;
    }
    if (symbol == NULL) {
        return MD_FRAME_UNKNOWN_SYMBOL;
    }
    struct kraken_ticker ticker;
    unsigned price_scale = symbol->price_scale, size_scale = symbol->size_scale;
    if (!kraken_fixed(context, &numbers[0][0], price_scale, &ticker.bid_price) ||
        !kraken_fixed(context, &numbers[0][1], size_scale, &ticker.bid_size) ||
        !kraken_fixed(context, &numbers[1][0], price_scale, &ticker.ask_price) ||
        !kraken_fixed(context, &numbers[1][1], size_scale, &ticker.ask_size) ||
        !kraken_fixed(context, &numbers[2][0], price_scale, &ticker.last_price) ||
        !kraken_fixed(context, &numbers[2][1], size_scale, &ticker.last_size) ||
        !kraken_fixed(context, &numbers[3][0], size_scale, &ticker.volume)) {
        return kraken_refuse(context, symbol);
    }
    kraken_publish_ticker(context, symbol, MD_ABSENT, &ticker);
    return MD_FRAME_OK;
}

/* ---- the frame ------------------------------------------------------------------------------- */

/* "book-1000" -> 1000; 0 for anything else. */
static uint32_t v1_book_depth(const struct md_json_value *channel) {
    static const char *const names[] = {"book-10", "book-25", "book-100", "book-500", "book-1000"};
    static const uint32_t depths[] = {10, 25, 100, 500, 1000};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (kraken_text_is(channel, names[i])) {
            return depths[i];
        }
    }
    return 0;
}

static enum md_frame_result v1_data(const struct kraken_context *context,
                                    const struct md_json_value *elements,
                                    uint32_t count) {
    if (count < 4) {
        return MD_FRAME_MALFORMED;
    }
    if (count > V1_ELEMENT_COUNT_MAX) {
        return MD_FRAME_UNKNOWN_EVENT;
    }
    const struct md_json_value *channel = &elements[count - 2], *pair = &elements[count - 1];
    const struct md_json_value *payloads = &elements[1];
    uint32_t payload_count = count - 3;
    if (channel->type != MD_JSON_STRING || pair->type != MD_JSON_STRING) {
        return MD_FRAME_MALFORMED;
    }
    struct md_feed_symbol *symbol = kraken_symbol(context->feed, pair);
    uint32_t depth = v1_book_depth(channel);
    if (depth != 0) {
        return v1_book(context, symbol, payloads, payload_count, depth);
    }
    bool trade = kraken_text_is(channel, "trade");
    if (!trade && !kraken_text_is(channel, "ticker")) {
        return MD_FRAME_UNKNOWN_EVENT;
    }
    if (payload_count != 1) {
        return MD_FRAME_MALFORMED;
    }
    return trade ? v1_trades(context, symbol, payloads) : v1_ticker(context, symbol, payloads);
}

static enum md_frame_result
v1_decode(const struct kraken_context *context, const char *frame, size_t size) {
    struct md_json json = {.at = frame, .end = frame + size};
    struct md_json_value whole, elements[V1_ELEMENT_COUNT_MAX], event = {0};
    if (size > MD_FRAME_SIZE_MAX) {
        return MD_FRAME_TOO_LONG;
    }
    if (!md_json_value(&json, &whole)) {
        return MD_FRAME_MALFORMED;
    }
    md_json_space(&json);
    if (json.at != json.end || (json.beyond_ascii && !md_utf8_valid(frame, size))) {
        return MD_FRAME_MALFORMED;
    }
    if (whole.type == MD_JSON_ARRAY) {
        return v1_data(context, elements, v1_array_of(&whole, elements, V1_ELEMENT_COUNT_MAX));
    }
    if (whole.type != MD_JSON_OBJECT) {
        return MD_FRAME_MALFORMED;
    }
    v1_member(&whole, "event", &event);
    if (event.type == MD_JSON_NONE) {
        return MD_FRAME_UNKNOWN_EVENT;
    }
    return event.type == MD_JSON_STRING && kraken_text_is(&event, "heartbeat") ? MD_FRAME_OK
                                                                               : MD_FRAME_CONTROL;
}

#endif
