/* What both of Coinbase's feeds are made of: objects with keys in words, numbers and times as text.
 *
 * A frame goes through md_json_value once, whole; what is taken apart here afterwards are spans of
 * it, so their JSON is known to be right and only their types are looked at. */
#ifndef MDSYS_COINBASE_VALUES_H
#define MDSYS_COINBASE_VALUES_H

#include "json_scan.h"
#include "mdsys/decimal.h"
#include "publish.h"
#include "rfc3339.h"

#define COINBASE_TEXT_SIZE_MAX 127U /* of a number or time in text form, and beyond any product */

struct coinbase_text {
    const char *at;
    size_t size;
    char buffer[COINBASE_TEXT_SIZE_MAX];
};

/* A string's meaning; false for anything else, and when it is longer than that. */
static inline bool coinbase_text(const struct md_json_value *value, struct coinbase_text *out) {
    if (value->type != MD_JSON_STRING) {
        return false;
    }
    out->at = value->text;
    out->size = value->size;
    if (value->escaped) {
        out->at = out->buffer;
        out->size = md_json_unescape(value, out->buffer, COINBASE_TEXT_SIZE_MAX);
    }
    return out->size <= COINBASE_TEXT_SIZE_MAX;
}

static inline bool coinbase_is(const struct md_json_value *value, const char *word) {
    struct coinbase_text text;
    size_t size = strlen(word);
    return coinbase_text(value, &text) && text.size == size && memcmp(text.at, word, size) == 0;
}

/* A key that is looked for. */
struct coinbase_name {
    const char *text;
    size_t size;
};

#define COINBASE_NAME(literal) {literal, sizeof(literal) - 1}

static inline void coinbase_note(const struct md_json_value *key,
                                 const struct md_json_value *value,
                                 const struct coinbase_name *names,
                                 unsigned name_count,
                                 struct md_json_value *values) {
    struct coinbase_text text;
    if (!coinbase_text(key, &text)) {
        return;
    }
    for (unsigned i = 0; i < name_count; i++) {
        if (text.size == names[i].size && memcmp(text.at, names[i].text, text.size) == 0) {
            values[i] = *value;
            return;
        }
    }
}

/* Take an object and note the values of the keys that have names. Of a key that comes twice the
 * last one counts. */
static inline bool coinbase_object(struct md_json *json,
                                   const struct coinbase_name *names,
                                   unsigned name_count,
                                   struct md_json_value *values) {
    memset(values, 0, name_count * sizeof values[0]);
    if (!md_json_take(json, '{')) {
        return false;
    }
    json->depth++;
    if (!md_json_take(json, '}')) {
        do {
            struct md_json_value key, value;
            if (!md_json_key(json, &key) || !md_json_value(json, &value)) {
                return false;
            }
            coinbase_note(&key, &value, names, name_count, values);
        } while (md_json_take(json, ','));
        if (!md_json_take(json, '}')) {
            return false;
        }
    }
    json->depth--;
    return true;
}

/* A whole frame that is one object. */
static inline bool coinbase_frame(const char *frame,
                                  size_t size,
                                  const struct coinbase_name *names,
                                  unsigned name_count,
                                  struct md_json_value *values) {
    struct md_json json = {.at = frame, .end = frame + size};
    if (!coinbase_object(&json, names, name_count, values)) {
        return false;
    }
    md_json_space(&json);
    return json.at == json.end && (!json.beyond_ascii || md_utf8_valid(frame, size));
}

/* ---- spans of a frame that has been through coinbase_frame ---------------------------------- */

static inline struct md_json coinbase_inside(const struct md_json_value *array) {
    return (struct md_json){.at = array->text + 1, .end = array->text + array->size};
}

/* Take an array's next item; false behind the last. */
static inline bool coinbase_item(struct md_json *json, struct md_json_value *item) {
    if (md_json_take(json, ']')) {
        return false;
    }
    md_json_take(json, ',');
    return md_json_value(json, item);
}

static inline bool coinbase_fields(const struct md_json_value *object,
                                   const struct coinbase_name *names,
                                   unsigned name_count,
                                   struct md_json_value *values) {
    struct md_json json = {.at = object->text, .end = object->text + object->size};
    return object->type == MD_JSON_OBJECT && coinbase_object(&json, names, name_count, values);
}

static inline struct md_feed_symbol *coinbase_symbol(const struct md_feed *feed,
                                                     const struct md_json_value *product) {
    struct coinbase_text text;
    return coinbase_text(product, &text) ? md_feed_find_symbol(feed, text.at, text.size) : NULL;
}

/* A number, in quotes or bare. Gives MD_FRAME_OK, MD_FRAME_MALFORMED or MD_FRAME_VALUE. */
static inline enum md_frame_result
coinbase_number(const struct md_json_value *value, unsigned scale, int64_t *out) {
    struct coinbase_text text = {.at = value->text, .size = value->size};
    if (value->type == MD_JSON_NUMBER ? text.size > COINBASE_TEXT_SIZE_MAX
                                      : !coinbase_text(value, &text)) {
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

/* The same, MD_ABSENT where there is none: no such key, null, or "". */
static inline enum md_frame_result
coinbase_optional(const struct md_json_value *value, unsigned scale, int64_t *out) {
    if (value->type == MD_JSON_NONE || value->type == MD_JSON_NULL ||
        (value->type == MD_JSON_STRING && value->size == 0)) {
        *out = MD_ABSENT;
        return MD_FRAME_OK;
    }
    return coinbase_number(value, scale, out);
}

static inline bool coinbase_time(const struct md_json_value *value, int64_t *ts_event) {
    struct coinbase_text text;
    return coinbase_text(value, &text) && md_time_rfc3339(text.at, text.size, ts_event);
}

/* 1 to 19 digits. False for anything else, and beyond what an id may be: 1 to 2^63 - 2. */
static inline bool coinbase_id(const char *text, size_t size, int64_t *out) {
    uint64_t id = 0;
    if (size == 0 || size > 19) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (!md_is_digit(text[i])) {
            return false;
        }
        id = id * 10 + (uint64_t)(text[i] - '0'); /* < 10^19, which fits */
    }
    *out = (int64_t)id;
    return id != 0 && id < (uint64_t)INT64_MAX;
}

/* The worse of two results, for events that are judged apart: the first that was not right. */
static inline enum md_frame_result coinbase_first(enum md_frame_result a, enum md_frame_result b) {
    return a != MD_FRAME_OK ? a : b;
}

/* Advanced Trade: the ids of a spot product, BTC-USD, are the Exchange's. Of BTC-PERP-INTX and
 * BIT-31JAN25-CDE nothing is known but that they ascend. */
static inline enum md_ids coinbase_trade_ids(const struct md_feed_symbol *symbol) {
    unsigned dash_count = 0;
    for (size_t i = 0; i < symbol->name_size; i++) {
        dash_count += symbol->name[i] == '-';
    }
    return dash_count < 2 ? MD_IDS_CONTIGUOUS : MD_IDS_ASCENDING;
}

/* A trade whose values cannot be held: readers are told its id. ids NONE: it has none. */
static inline enum md_frame_result coinbase_refuse_trade(struct md_feed *feed,
                                                         struct md_feed_symbol *symbol,
                                                         const struct md_connection *connection,
                                                         int64_t ts_recv,
                                                         int64_t trade_id,
                                                         enum md_ids ids) {
    uint64_t *last = &symbol->cell->venue_trade_id;
    uint64_t id = (uint64_t)trade_id;
    if (ids == MD_IDS_NONE) {
        md_feed_refuse_value(feed, symbol, connection->number, MD_ABSENT, MD_ABSENT, ts_recv);
    } else if (md_feed_order(
                   feed, symbol, &symbol->trades, last, id, id, ids, connection->number, ts_recv) !=
               MD_ORDER_AGAIN) {
        md_feed_refuse_value(feed, symbol, connection->number, trade_id, trade_id, ts_recv);
        md_feed_note_sequence(last, id);
    }
    return MD_FRAME_VALUE;
}

/* ---- tickers: a quote and a ticker in one --------------------------------------------------- */

struct coinbase_ticker {
    const struct md_json_value *bid, *bid_size, *ask, *ask_size; /* best of the book */
    const struct md_json_value *price, *size, *volume;           /* size: NULL, there is none */
};

/* Gives the worst of four: MD_FRAME_MALFORMED before MD_FRAME_VALUE. */
static inline enum md_frame_result coinbase_four(const struct md_json_value *const values[4],
                                                 const unsigned scales[4],
                                                 int64_t out[4]) {
    enum md_frame_result result = MD_FRAME_OK;
    for (unsigned i = 0; i < 4; i++) {
        static const struct md_json_value none;
        enum md_frame_result own =
            coinbase_optional(values[i] == NULL ? &none : values[i], scales[i], &out[i]);
        if (own == MD_FRAME_MALFORMED) {
            return own;
        }
        result = coinbase_first(result, own);
    }
    return result;
}

static inline enum md_frame_result coinbase_ticker_read(const struct coinbase_ticker *ticker,
                                                        unsigned price_scale,
                                                        unsigned size_scale,
                                                        int64_t quote[4],
                                                        int64_t last[4],
                                                        enum md_frame_result *last_result) {
    enum md_frame_result quote_result = coinbase_four(
        (const struct md_json_value *const[]){
            ticker->bid, ticker->ask, ticker->bid_size, ticker->ask_size},
        (const unsigned[]){price_scale, price_scale, size_scale, size_scale},
        quote);
    *last_result = coinbase_four(
        (const struct md_json_value *const[]){ticker->price, ticker->size, ticker->volume, NULL},
        (const unsigned[]){price_scale, size_scale, size_scale, 0},
        last);
    return quote_result;
}

/* Whether all numbers are numbers. */
static inline bool coinbase_ticker_ok(const struct coinbase_ticker *ticker) {
    int64_t quote[4], last[4];
    enum md_frame_result last_result;
    return coinbase_ticker_read(ticker, 0, 0, quote, last, &last_result) != MD_FRAME_MALFORMED &&
           last_result != MD_FRAME_MALFORMED;
}

/* The quote, if there is a bid or an ask and somebody wants it: bid, ask, bid size, ask size. */
static inline void coinbase_publish_quote(struct md_feed *feed,
                                          struct md_feed_symbol *symbol,
                                          int64_t ts_event,
                                          int64_t ts_recv,
                                          const int64_t quote[4],
                                          bool late) {
    if (!md_feed_wants(feed, MD_CHANNEL_QUOTE) ||
        (quote[0] == MD_ABSENT && quote[1] == MD_ABSENT)) {
        return;
    }
    if (late) {
        md_publish_late(feed, symbol, MD_KIND_QUOTE, 0, MD_CACHE_QUOTE, ts_event, ts_recv, quote);
    } else {
        md_publish_quote(
            feed, symbol, ts_event, ts_recv, quote[0], quote[1], quote[2], quote[3], MD_ABSENT);
    }
}

/* The ticker, if there is a price and somebody wants it: price, size, volume. */
static inline void coinbase_publish_last(struct md_feed *feed,
                                         struct md_feed_symbol *symbol,
                                         int64_t ts_event,
                                         int64_t ts_recv,
                                         const int64_t last[3],
                                         bool late) {
    if (!md_feed_wants(feed, MD_CHANNEL_TICKER) || last[0] == MD_ABSENT) {
        return;
    }
    if (late) {
        const int64_t body[4] = {last[0], last[1], last[2], MD_ABSENT};
        md_publish_late(feed, symbol, MD_KIND_TICKER, 0, MD_CACHE_TRADE, ts_event, ts_recv, body);
    } else {
        md_publish_ticker(feed, symbol, ts_event, ts_recv, last[0], last[1], last[2], MD_ABSENT);
    }
}

/* Publish both. Each may be refused by itself. It has been through coinbase_ticker_ok. */
static inline enum md_frame_result coinbase_ticker_publish(struct md_feed *feed,
                                                           struct md_feed_symbol *symbol,
                                                           const struct md_connection *connection,
                                                           int64_t ts_event,
                                                           int64_t ts_recv,
                                                           const struct coinbase_ticker *ticker,
                                                           bool late) {
    int64_t quote[4], last[4];
    enum md_frame_result last_result;
    enum md_frame_result quote_result = coinbase_ticker_read(
        ticker, symbol->price_scale, symbol->size_scale, quote, last, &last_result);
    enum md_frame_result result = MD_FRAME_OK;
    if (quote_result == MD_FRAME_OK) {
        coinbase_publish_quote(feed, symbol, ts_event, ts_recv, quote, late);
    } else if (md_feed_wants(feed, MD_CHANNEL_QUOTE)) {
        md_feed_refuse_value(feed, symbol, connection->number, MD_ABSENT, MD_ABSENT, ts_recv);
        result = quote_result;
    }
    if (last_result == MD_FRAME_OK) {
        coinbase_publish_last(feed, symbol, ts_event, ts_recv, last, late);
    } else if (md_feed_wants(feed, MD_CHANNEL_TICKER)) {
        md_feed_refuse_value(feed, symbol, connection->number, MD_ABSENT, MD_ABSENT, ts_recv);
        result = last_result;
    }
    return result;
}

#endif
