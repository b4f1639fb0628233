/* The general scanner: any key order, any JSON; and the one that names refusals.
 *
 * First the frame as JSON, whole; then the kind of message; then the values it must have, by type;
 * then the symbol; then the prices and sizes, in the record's order. The first that fails names the
 * refusal. Of a key that comes twice the last one counts. */
#ifndef MDSYS_BINANCE_FLAT_H
#define MDSYS_BINANCE_FLAT_H

#include "binance_publish.h"
#include "json_scan.h"
#include "mdsys/decimal.h"

enum field {
    FIELD_NONE,
    FIELD_EVENT,
    FIELD_TS_SENT,
    FIELD_TS_EVENT,
    FIELD_SYMBOL,
    FIELD_TRADE_ID,
    FIELD_PRICE,
    FIELD_SIZE,
    FIELD_BUYER_IS_MAKER,
    FIELD_CONDITION,
    FIELD_UPDATE_FIRST,
    FIELD_UPDATE_LAST,
    FIELD_UPDATE_BEFORE,
    FIELD_BID,
    FIELD_BID_SIZE,
    FIELD_ASK,
    FIELD_ASK_SIZE,
    FIELD_DATA,
    FIELD_ANSWER, /* any of the keys that only answers to requests bear */
    FIELD_COUNT,
};

struct text {
    const char *at;
    size_t size;
    char buffer[BINANCE_TEXT_SIZE_MAX];
};

/* A string's meaning; false when it is longer than BINANCE_TEXT_SIZE_MAX. */
static bool text_of(const struct md_json_value *value, struct text *out) {
    out->at = value->text;
    out->size = value->size;
    if (value->escaped) {
        out->at = out->buffer;
        out->size = md_json_unescape(value, out->buffer, BINANCE_TEXT_SIZE_MAX);
    }
    return out->size <= BINANCE_TEXT_SIZE_MAX;
}

static bool text_is(const struct text *text, const char *word) {
    return text->size == strlen(word) && memcmp(text->at, word, text->size) == 0;
}

static enum field field_of(const struct md_json_value *key) {
    static const uint8_t letters[128] = {
        ['e'] = FIELD_EVENT,
        ['E'] = FIELD_TS_SENT,
        ['T'] = FIELD_TS_EVENT,
        ['s'] = FIELD_SYMBOL,
        ['t'] = FIELD_TRADE_ID,
        ['p'] = FIELD_PRICE,
        ['q'] = FIELD_SIZE,
        ['m'] = FIELD_BUYER_IS_MAKER,
        ['X'] = FIELD_CONDITION,
        ['U'] = FIELD_UPDATE_FIRST,
        ['u'] = FIELD_UPDATE_LAST,
        ['b'] = FIELD_BID,
        ['B'] = FIELD_BID_SIZE,
        ['a'] = FIELD_ASK,
        ['A'] = FIELD_ASK_SIZE,
    };
    static const struct {
        const char *key;
        enum field field;
    } words[] = {
        {"pu", FIELD_UPDATE_BEFORE},
        {"data", FIELD_DATA},
        {"id", FIELD_ANSWER},
        {"result", FIELD_ANSWER},
        {"error", FIELD_ANSWER},
        {"code", FIELD_ANSWER},
    };
    struct text text;
    if (!text_of(key, &text) || text.size == 0) {
        return FIELD_NONE;
    }
    if (text.size == 1) {
        return (enum field)letters[text.at[0] & 0x7F]; /* a lone byte of a string is ASCII */
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (text_is(&text, words[i].key)) {
            return words[i].field;
        }
    }
    return FIELD_NONE;
}

/* Take an object and note the values we know; those of the object under "data" in data_fields. */
static bool flat_object(struct md_json *json,
                        struct md_json_value fields[FIELD_COUNT],
                        struct md_json_value *data_fields) { /* NULL within "data" */
    memset(fields, 0, FIELD_COUNT * sizeof fields[0]);
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
            enum field field = field_of(&key);
            md_json_space(json);
            if (field == FIELD_DATA && data_fields != NULL && json->at < json->end &&
                *json->at == '{') {
                value = (struct md_json_value){.type = MD_JSON_OBJECT};
                if (!flat_object(json, data_fields, NULL)) {
                    return false;
                }
            } else if (!md_json_value(json, &value)) {
                return false;
            }
            fields[field] = value;
        } while (md_json_take(json, ','));
        if (!md_json_take(json, '}')) {
            return false;
        }
    }
    json->depth--;
    return true;
}

/* An integer in [0, 2^63 - 1): the id after it must fit too. */
static bool flat_uint(const struct md_json_value *value, uint64_t *out) {
    if (value->type != MD_JSON_NUMBER || value->size > 19) {
        return false;
    }
    *out = 0;
    for (size_t i = 0; i < value->size; i++) {
        if (!md_is_digit(value->text[i])) {
            return false;
        }
        *out = *out * 10 + (uint64_t)(value->text[i] - '0'); /* < 10^19, which fits */
    }
    return *out < (uint64_t)INT64_MAX;
}

/* The event's own time, else the message's, else none; whichever is there must be a time. */
static bool flat_time(const struct md_json_value fields[FIELD_COUNT], int64_t *ts_event) {
    static const enum field worst_first[] = {FIELD_TS_SENT, FIELD_TS_EVENT};
    *ts_event = MD_ABSENT;
    for (size_t i = 0; i < 2; i++) {
        const struct md_json_value *value = &fields[worst_first[i]];
        uint64_t written;
        if (value->type != MD_JSON_NONE &&
            !(flat_uint(value, &written) && binance_time(written, ts_event))) {
            return false;
        }
    }
    return true;
}

static bool is_decimal(const struct md_json_value *value) {
    return value->type == MD_JSON_STRING || value->type == MD_JSON_NUMBER;
}

static enum md_frame_result
flat_decimal(const struct md_json_value *value, unsigned scale, int64_t *out) {
    struct text text;
    if (!is_decimal(value) || !text_of(value, &text)) {
        return MD_FRAME_MALFORMED;
    }
    switch (md_decimal_parse(text.at, text.size, scale, out)) {
    case MD_DECIMAL_OK:
        return MD_FRAME_OK;
    case MD_DECIMAL_SYNTAX:
        return MD_FRAME_MALFORMED;
    default:
        return MD_FRAME_VALUE;
    }
}

static struct md_feed_symbol *flat_symbol(struct md_feed *feed, const struct md_json_value *value) {
    struct text text;
    return text_of(value, &text) ? md_feed_find_symbol(feed, text.at, text.size) : NULL;
}

/* A value of the frame cannot be held: the symbol's readers are told which ids they miss by it. */
static enum md_frame_result refuse_value(const struct binance_context *context,
                                         const struct md_feed_symbol *symbol,
                                         uint64_t *last,
                                         uint64_t first,
                                         uint64_t latest) {
    md_feed_refuse_value(context->feed,
                         symbol,
                         context->connection->number,
                         (int64_t)first,
                         (int64_t)latest,
                         context->ts_recv);
    md_feed_note_sequence(last, latest);
    return MD_FRAME_VALUE;
}

static bool flat_condition(const struct md_json_value *value, enum binance_condition *out) {
    static const char *const names[] = {
        [BINANCE_MARKET] = "MARKET",
        [BINANCE_INSURANCE_FUND] = "INSURANCE_FUND",
        [BINANCE_ADL] = "ADL",
        [BINANCE_NA] = "NA",
    };
    *out = BINANCE_MARKET;
    if (value->type == MD_JSON_NONE) {
        return true;
    }
    if (value->type != MD_JSON_STRING) {
        return false;
    }
    struct text text;
    *out = BINANCE_OTHER;
    for (size_t i = 0; text_of(value, &text) && i < sizeof names / sizeof names[0]; i++) {
        if (text_is(&text, names[i])) {
            *out = (enum binance_condition)i;
        }
    }
    return true;
}

static enum md_frame_result flat_trade(const struct binance_context *context,
                                       const struct md_json_value fields[FIELD_COUNT]) {
    const struct md_json_value *maker = &fields[FIELD_BUYER_IS_MAKER];
    enum binance_condition condition;
    int64_t ts_event, price, size;
    uint64_t trade_id;
    if (fields[FIELD_SYMBOL].type != MD_JSON_STRING || !flat_time(fields, &ts_event) ||
        !flat_uint(&fields[FIELD_TRADE_ID], &trade_id) || !is_decimal(&fields[FIELD_PRICE]) ||
        !is_decimal(&fields[FIELD_SIZE]) || !flat_condition(&fields[FIELD_CONDITION], &condition) ||
        (maker->type != MD_JSON_TRUE && maker->type != MD_JSON_FALSE)) {
        return MD_FRAME_MALFORMED;
    }
    struct md_feed_symbol *symbol = flat_symbol(context->feed, &fields[FIELD_SYMBOL]);
    if (symbol == NULL) {
        return MD_FRAME_UNKNOWN_SYMBOL;
    }
    enum md_frame_result result = flat_decimal(&fields[FIELD_PRICE], symbol->price_scale, &price);
    if (result == MD_FRAME_OK) {
        result = flat_decimal(&fields[FIELD_SIZE], symbol->size_scale, &size);
    }
    if (result == MD_FRAME_OK) {
        binance_publish_trade(context,
                              symbol,
                              trade_id,
                              ts_event,
                              price,
                              size,
                              maker->type == MD_JSON_TRUE,
                              condition);
    } else if (result == MD_FRAME_VALUE) {
        uint64_t *last = &symbol->cell->venue_trade_id;
        if (md_feed_order(context->feed,
                          symbol,
                          &symbol->trades,
                          last,
                          trade_id,
                          trade_id,
                          MD_IDS_CONTIGUOUS,
                          context->connection->number,
                          context->ts_recv) == MD_ORDER_AGAIN) {
            return MD_FRAME_OK; /* its readers have been told */
        }
        return refuse_value(context, symbol, last, trade_id, trade_id);
    }
    return result;
}

static enum md_frame_result flat_quote(const struct binance_context *context,
                                       const struct md_json_value fields[FIELD_COUNT]) {
    static const enum field sources[4] = {FIELD_BID, FIELD_ASK, FIELD_BID_SIZE, FIELD_ASK_SIZE};
    int64_t ts_event, body[4];
    uint64_t update_id;
    if (fields[FIELD_SYMBOL].type != MD_JSON_STRING || !flat_time(fields, &ts_event) ||
        !flat_uint(&fields[FIELD_UPDATE_LAST], &update_id)) {
        return MD_FRAME_MALFORMED;
    }
    for (size_t i = 0; i < 4; i++) {
        if (!is_decimal(&fields[sources[i]])) {
            return MD_FRAME_MALFORMED;
        }
    }
    struct md_feed_symbol *symbol = flat_symbol(context->feed, &fields[FIELD_SYMBOL]);
    if (symbol == NULL) {
        return MD_FRAME_UNKNOWN_SYMBOL;
    }
    for (size_t i = 0; i < 4; i++) {
        unsigned scale = i < 2 ? symbol->price_scale : symbol->size_scale;
        enum md_frame_result result = flat_decimal(&fields[sources[i]], scale, &body[i]);
        if (result == MD_FRAME_VALUE) {
            return refuse_value(
                context, symbol, &symbol->cell->venue_quote_id, update_id, update_id);
        }
        if (result != MD_FRAME_OK) {
            return result;
        }
    }
    binance_publish_quote(context, symbol, update_id, ts_event, body[0], body[1], body[2], body[3]);
    return MD_FRAME_OK;
}

/* Go over one side's rows, [price, size, ...] each. levels NULL: check and count only. */
static enum md_frame_result flat_levels(const struct md_feed_symbol *symbol,
                                        const struct md_json_value *side,
                                        unsigned flags,
                                        struct md_levels *levels,
                                        uint64_t *row_count) {
    struct md_json json = {.at = side->text + 1, .end = side->text + side->size};
    if (md_json_take(&json, ']')) {
        return MD_FRAME_OK;
    }
    do {
        struct md_json_value price_text, size_text, more;
        int64_t price, size;
        if (!md_json_take(&json, '[') || !md_json_value(&json, &price_text) ||
            !md_json_take(&json, ',') || !md_json_value(&json, &size_text)) {
            return MD_FRAME_MALFORMED;
        }
        while (md_json_take(&json, ',')) { /* spot sent an empty list here until 2019 */
            md_json_value(&json, &more);
        }
        md_json_take(&json, ']');
        enum md_frame_result result = flat_decimal(&price_text, symbol->price_scale, &price);
        if (result == MD_FRAME_OK) {
            result = flat_decimal(&size_text, symbol->size_scale, &size);
        }
        if (result != MD_FRAME_OK) {
            return result;
        }
        if (size < 0) {
            return MD_FRAME_MALFORMED; /* no quantity */
        }
        if (levels != NULL) {
            binance_levels_put(levels, flags, price, size);
        }
        ++*row_count;
    } while (md_json_take(&json, ','));
    return MD_FRAME_OK;
}

/* Both sides twice: to check, then to publish. So a frame that goes out in pieces cannot fail
 * half-way. */
static enum md_frame_result flat_depth(const struct binance_context *context,
                                       const struct md_json_value fields[FIELD_COUNT]) {
    const struct md_json_value *bids = &fields[FIELD_BID];
    const struct md_json_value *asks = &fields[FIELD_ASK];
    int64_t ts_event;
    uint64_t first, latest, before;
    if (fields[FIELD_SYMBOL].type != MD_JSON_STRING || !flat_time(fields, &ts_event) ||
        !flat_uint(&fields[FIELD_UPDATE_FIRST], &first) ||
        !flat_uint(&fields[FIELD_UPDATE_LAST], &latest) || first > latest ||
        bids->type != MD_JSON_ARRAY || asks->type != MD_JSON_ARRAY) {
        return MD_FRAME_MALFORMED;
    }
    if (context->futures) {
        if (!flat_uint(&fields[FIELD_UPDATE_BEFORE], &before) || before >= latest) {
            return MD_FRAME_MALFORMED;
        }
        first = before + 1;
    }
    struct md_feed_symbol *symbol = flat_symbol(context->feed, &fields[FIELD_SYMBOL]);
    if (symbol == NULL) {
        return MD_FRAME_UNKNOWN_SYMBOL;
    }
    uint64_t row_count = 0;
    enum md_frame_result result = flat_levels(symbol, bids, MD_FLAG_BUY, NULL, &row_count);
    if (result == MD_FRAME_OK) {
        result = flat_levels(symbol, asks, MD_FLAG_SELL, NULL, &row_count);
    }
    if (result == MD_FRAME_MALFORMED) {
        return result;
    }
    uint64_t *last = &symbol->cell->venue_book_id;
    enum md_order order = md_feed_order(context->feed,
                                        symbol,
                                        &symbol->books,
                                        last,
                                        first,
                                        latest,
                                        MD_IDS_CONTIGUOUS,
                                        context->connection->number,
                                        context->ts_recv);
    if (order !=
        MD_ORDER_NEXT) { /* older than the book: quantities are absolute, it tells nothing */
        struct md_counter_block *counters = context->feed->counters;
        md_count(order == MD_ORDER_LATE ? &counters->reordered : &counters->duplicates,
                 row_count - 1); /* records, of which one is counted */
        return MD_FRAME_OK;
    }
    if (result == MD_FRAME_VALUE) {
        md_book_unsync(context->feed, symbol, context->connection->number, context->ts_recv);
        return refuse_value(context, symbol, last, first, latest);
    }
    struct md_levels levels = binance_levels_begin(context, symbol, ts_event, first, latest);
    flat_levels(symbol, bids, MD_FLAG_BUY, &levels, &row_count);
    flat_levels(symbol, asks, MD_FLAG_SELL, &levels, &row_count);
    md_levels_end(&levels);
    md_feed_note_sequence(last, latest);
    return MD_FRAME_OK;
}

/* Which message it is: by its event; without one, an answer by its keys, a spot bookTicker by its
 * update id. */
static enum md_frame_result flat_message(const struct binance_context *context,
                                         const struct md_json_value fields[FIELD_COUNT]) {
    const struct md_json_value *event = &fields[FIELD_EVENT];
    if (event->type == MD_JSON_NONE) {
        if (fields[FIELD_ANSWER].type != MD_JSON_NONE) {
            return MD_FRAME_CONTROL;
        }
        return fields[FIELD_UPDATE_LAST].type != MD_JSON_NONE ? flat_quote(context, fields)
                                                              : MD_FRAME_UNKNOWN_EVENT;
    }
    struct text name;
    if (event->type != MD_JSON_STRING) {
        return MD_FRAME_MALFORMED;
    }
    if (!text_of(event, &name)) {
        return MD_FRAME_UNKNOWN_EVENT;
    }
    if (text_is(&name, "trade")) {
        return flat_trade(context, fields);
    }
    if (text_is(&name, "bookTicker")) {
        return flat_quote(context, fields);
    }
    if (text_is(&name, "depthUpdate")) {
        return flat_depth(context, fields);
    }
    return text_is(&name, "serverShutdown") ? MD_FRAME_CONTROL : MD_FRAME_UNKNOWN_EVENT;
}

static __attribute__((noinline)) enum md_frame_result
flat_decode(const struct binance_context *context, const char *frame, size_t size) {
    struct md_json json = {.at = frame, .end = frame + size};
    struct md_json_value fields[FIELD_COUNT], data_fields[FIELD_COUNT];
    if (!flat_object(&json, fields, data_fields)) {
        return MD_FRAME_MALFORMED;
    }
    md_json_space(&json);
    if (json.at != json.end || (json.beyond_ascii && !md_utf8_valid(frame, size))) {
        return MD_FRAME_MALFORMED;
    }
    bool wrapped = fields[FIELD_DATA].type == MD_JSON_OBJECT;
    return flat_message(context, wrapped ? data_fields : fields);
}

#endif
