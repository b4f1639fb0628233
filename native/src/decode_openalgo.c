#include "decode_openalgo.h"

#include "openalgo_quick.h"
#include "openalgo_scan.h"

/* ---- what it says --------------------------------------------------------------------------- */

static bool is_there(const struct md_json_value *value) {
    return value->type != MD_JSON_NONE && value->type != MD_JSON_NULL;
}

static bool is_number(const struct md_json_value *value) {
    return value->type == MD_JSON_NUMBER || value->type == MD_JSON_STRING;
}

/* A number as such or as text; MD_ABSENT for none. */
static enum md_frame_result
decimal_of(const struct md_json_value *value, unsigned scale, int64_t *out) {
    *out = MD_ABSENT;
    if (!is_there(value)) {
        return MD_FRAME_OK;
    }
    switch (md_decimal_parse(value->text, value->size, scale, out)) { /* refuses backslashes too */
    case MD_DECIMAL_OK:
        return MD_FRAME_OK;
    case MD_DECIMAL_SYNTAX:
        return MD_FRAME_MALFORMED;
    default:
        return MD_FRAME_VALUE;
    }
}

static int64_t time_of(const struct md_json_value *value) {
    uint64_t written = 0;
    if (value->type != MD_JSON_NUMBER || value->size > 18) {
        return MD_ABSENT;
    }
    for (size_t i = 0; i < value->size; i++) {
        if (!md_is_digit(value->text[i])) {
            return MD_ABSENT;
        }
        written = written * 10 + (uint64_t)(value->text[i] - '0');
    }
    return openalgo_time(written);
}

/* Whether every value has a type that it may have. */
static bool well_formed(const struct openalgo_message *message) {
    const struct md_json_value *data = message->data;
    for (unsigned i = 0; i < DATA_TIMESTAMP; i++) {
        if (is_there(&data[i]) && !is_number(&data[i])) {
            return false;
        }
    }
    if (is_there(&data[DATA_DEPTH]) && data[DATA_DEPTH].type != MD_JSON_OBJECT) {
        return false;
    }
    for (unsigned s = 0; s < 2; s++) {
        const struct openalgo_side *side = &message->sides[s];
        for (unsigned i = 0; i < side->count; i++) {
            for (unsigned k = 0; k < ROW_KEY_COUNT; k++) {
                const struct md_json_value *value = &side->rows[i][k];
                if (is_there(value) && !is_number(value)) {
                    return false;
                }
            }
        }
        if (side->spoilt) {
            return false;
        }
    }
    return true;
}

static const struct md_json_value *
first_there(const struct md_json_value *data, unsigned first, unsigned last) {
    while (first < last && !is_there(&data[first])) {
        first++;
    }
    return &data[first];
}

static enum md_frame_result read_ticker(const struct openalgo_message *message,
                                        const struct md_feed_symbol *symbol,
                                        struct openalgo_tick *tick) {
    const struct md_json_value *data = message->data;
    const struct {
        const struct md_json_value *value;
        unsigned scale;
        int64_t *out;
    } reads[4] = {
        {&data[DATA_LTP], symbol->price_scale, &tick->last_price},
        {first_there(data, DATA_LAST_QUANTITY, DATA_LAST_TRADE_QUANTITY),
         symbol->size_scale,
         &tick->last_size},
        {&data[DATA_VOLUME], symbol->size_scale, &tick->volume},
        {first_there(data, DATA_OI, DATA_OPEN_INTEREST), symbol->size_scale, &tick->open_interest},
    };
    for (unsigned i = 0; i < 4; i++) {
        enum md_frame_result result = decimal_of(reads[i].value, reads[i].scale, reads[i].out);
        if (result != MD_FRAME_OK) {
            return result;
        }
    }
    return MD_FRAME_OK;
}

static enum md_frame_result read_depth(const struct openalgo_message *message,
                                       const struct md_feed_symbol *symbol,
                                       struct openalgo_tick *tick) {
    for (unsigned s = 0; s < 2; s++) {
        tick->counts[s] = 0;
        for (unsigned i = 0; i < message->sides[s].count; i++) {
            const struct md_json_value *row = message->sides[s].rows[i];
            struct openalgo_level *level = &tick->levels[s][tick->counts[s]];
            enum md_frame_result result =
                decimal_of(&row[ROW_SIZE], symbol->size_scale, &level->size);
            if (result == MD_FRAME_OK) {
                result = decimal_of(&row[ROW_PRICE], symbol->price_scale, &level->price);
            }
            if (result == MD_FRAME_OK) {
                result = decimal_of(&row[ROW_ORDERS], 0, &level->orders);
            }
            if (result != MD_FRAME_OK) {
                return result;
            }
            if (level->size == 0 || level->size == MD_ABSENT) {
                continue;
            }
            if (level->price == MD_ABSENT || level->size < 0) {
                return MD_FRAME_MALFORMED;
            }
            tick->counts[s]++;
        }
    }
    return MD_FRAME_OK;
}

/* EXCHANGE:SYMBOL, as it is known here. */
static struct md_feed_symbol *find_symbol(const struct md_feed *feed,
                                          const struct md_json_value *exchange,
                                          const struct md_json_value *symbol) {
    char name[MD_NAME_SIZE_MAX];
    size_t size = md_json_unescape(exchange, name, sizeof name);
    if (size >= sizeof name) {
        return NULL;
    }
    name[size++] = ':';
    size_t more = md_json_unescape(symbol, name + size, sizeof name - size);
    return more > sizeof name - size ? NULL : md_feed_find_symbol(feed, name, size + more);
}

static enum md_frame_result market_data(struct md_feed *feed,
                                        const struct openalgo_message *message,
                                        int64_t ts_recv,
                                        const struct md_connection *connection) {
    const struct md_json_value *data = message->data;
    const struct openalgo_side *sides = message->sides;
    if (message->top[TOP_SYMBOL].type != MD_JSON_STRING ||
        message->top[TOP_EXCHANGE].type != MD_JSON_STRING ||
        message->top[TOP_DATA].type != MD_JSON_OBJECT || !well_formed(message)) {
        return MD_FRAME_MALFORMED;
    }
    bool has_depth = sides[0].there || sides[1].there;
    if (!is_there(&data[DATA_LTP]) && !has_depth) {
        return MD_FRAME_UNKNOWN_EVENT;
    }
    struct md_feed_symbol *symbol =
        find_symbol(feed, &message->top[TOP_EXCHANGE], &message->top[TOP_SYMBOL]);
    if (symbol == NULL) {
        return MD_FRAME_UNKNOWN_SYMBOL;
    }
    bool ticker = is_there(&data[DATA_LTP]) && md_feed_wants(feed, MD_CHANNEL_TICKER);
    bool quote = has_depth && md_feed_wants(feed, MD_CHANNEL_QUOTE);
    bool book = has_depth && md_feed_wants(feed, MD_CHANNEL_BOOK);
    struct openalgo_tick tick;
    tick.ts_event = time_of(&data[DATA_TIMESTAMP]);
    enum md_frame_result result = ticker ? read_ticker(message, symbol, &tick) : MD_FRAME_OK;
    if (result == MD_FRAME_OK && (quote || book)) {
        result = read_depth(message, symbol, &tick);
    }
    if (result == MD_FRAME_VALUE) {
        md_feed_refuse_value(feed, symbol, connection->number, MD_ABSENT, MD_ABSENT, ts_recv);
        if (has_depth) { /* refused with it: ours is of before */
            md_book_unsync(feed, symbol, connection->number, ts_recv);
        }
    }
    if (result != MD_FRAME_OK) {
        return result;
    }
    openalgo_publish(feed, symbol, connection, ts_recv, &tick, ticker, quote, book);
    return MD_FRAME_OK;
}

static const struct openalgo_key market_data_type = OPENALGO_KEY("market_data");

/* Any order of keys, any form of JSON. */
static __attribute__((noinline)) enum md_frame_result
openalgo_flat(struct md_feed *feed,
              const char *frame,
              size_t size,
              int64_t ts_recv,
              const struct md_connection *connection) {
    struct md_json json = {.at = frame, .end = frame + size};
    struct openalgo_message message;
    forget_depth(&message);
    if (!take_message(&json, &message) || (json.beyond_ascii && !md_utf8_valid(frame, size))) {
        return MD_FRAME_MALFORMED;
    }
    const struct md_json_value *type = &message.top[TOP_TYPE];
    if (is_there(type) && type->type != MD_JSON_STRING) {
        return MD_FRAME_MALFORMED;
    }
    if (is_there(type) && key_place(type, &market_data_type, 1) == 0) {
        return market_data(feed, &message, ts_recv, connection);
    }
    return is_there(type) || is_there(&message.top[TOP_STATUS]) ? MD_FRAME_CONTROL
                                                                : MD_FRAME_UNKNOWN_EVENT;
}

enum md_frame_result md_decode_openalgo(struct md_feed *feed,
                                        const char *frame,
                                        size_t size,
                                        int64_t ts_recv,
                                        struct md_connection *connection) {
    if (size > MD_FRAME_SIZE_MAX) {
        return MD_FRAME_TOO_LONG;
    }
    if (openalgo_quick(feed, frame, size, ts_recv, connection)) {
        return MD_FRAME_OK;
    }
    return openalgo_flat(feed, frame, size, ts_recv, connection);
}
