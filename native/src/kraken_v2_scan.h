/* The keys of Kraken's v2 messages, and its values by type. */
#ifndef MDSYS_KRAKEN_V2_SCAN_H
#define MDSYS_KRAKEN_V2_SCAN_H

#include "kraken_scan.h"
#include "rfc3339.h"

/* What we read of an item of "data", and of the frame itself; by size, which finds them. */
enum v2_key {
    V2_QTY,
    V2_BID,
    V2_ASK,
    V2_LOW,
    V2_SIDE,
    V2_LAST,
    V2_OPEN,
    V2_HIGH,
    V2_VWAP,
    V2_BIDS,
    V2_ASKS,
    V2_TYPE,
    V2_DATA,
    V2_PRICE,
    V2_CLOSE,
    V2_ERROR,
    V2_SYMBOL,
    V2_VOLUME,
    V2_TRADES,
    V2_METHOD,
    V2_BID_QTY,
    V2_ASK_QTY,
    V2_CHANNEL,
    V2_ORD_TYPE,
    V2_TRADE_ID,
    V2_CHECKSUM,
    V2_INTERVAL,
    V2_TIMESTAMP,
    V2_INTERVAL_BEGIN,
    V2_KEY_COUNT,
};

#define V2_KEY_SIZE_MAX 14u

static const char v2_names[V2_KEY_COUNT][16] = {
    [V2_QTY] = "qty",
    [V2_BID] = "bid",
    [V2_ASK] = "ask",
    [V2_LOW] = "low",
    [V2_SIDE] = "side",
    [V2_LAST] = "last",
    [V2_OPEN] = "open",
    [V2_HIGH] = "high",
    [V2_VWAP] = "vwap",
    [V2_BIDS] = "bids",
    [V2_ASKS] = "asks",
    [V2_TYPE] = "type",
    [V2_DATA] = "data",
    [V2_PRICE] = "price",
    [V2_CLOSE] = "close",
    [V2_ERROR] = "error",
    [V2_SYMBOL] = "symbol",
    [V2_VOLUME] = "volume",
    [V2_TRADES] = "trades",
    [V2_METHOD] = "method",
    [V2_BID_QTY] = "bid_qty",
    [V2_ASK_QTY] = "ask_qty",
    [V2_CHANNEL] = "channel",
    [V2_ORD_TYPE] = "ord_type",
    [V2_TRADE_ID] = "trade_id",
    [V2_CHECKSUM] = "checksum",
    [V2_INTERVAL] = "interval",
    [V2_TIMESTAMP] = "timestamp",
    [V2_INTERVAL_BEGIN] = "interval_begin",
};

/* Where the names of a size begin; they end where those of the next size do. */
static const uint8_t v2_first[V2_KEY_SIZE_MAX + 2] = {
    [3] = V2_QTY,
    [4] = V2_SIDE,
    [5] = V2_PRICE,
    [6] = V2_SYMBOL,
    [7] = V2_BID_QTY,
    [8] = V2_ORD_TYPE,
    [9] = V2_TIMESTAMP,
    [10] = V2_INTERVAL_BEGIN,
    [11] = V2_INTERVAL_BEGIN,
    [12] = V2_INTERVAL_BEGIN,
    [13] = V2_INTERVAL_BEGIN,
    [14] = V2_INTERVAL_BEGIN,
    [15] = V2_KEY_COUNT,
};

static inline enum v2_key v2_key_of(const struct md_json_value *key) {
    struct kraken_text text;
    if (!kraken_text_of(key, &text) || text.size > V2_KEY_SIZE_MAX) {
        return V2_KEY_COUNT;
    }
    /* The first three characters are enough to tell most apart without a call. */
    for (unsigned i = v2_first[text.size]; i < v2_first[text.size + 1]; i++) {
        const char *name = v2_names[i];
        if (name[0] == text.at[0] && name[1] == text.at[1] && name[2] == text.at[2] &&
            memcmp(name, text.at, text.size) == 0) {
            return (enum v2_key)i;
        }
    }
    return V2_KEY_COUNT;
}

struct v2_fields {
    struct md_json_value of[V2_KEY_COUNT];
};

/* ---- values ---------------------------------------------------------------------------------- */

static bool v2_is_number(const struct md_json_value *value) {
    return value->type == MD_JSON_NUMBER && *value->text != '-';
}

/* A number, or null, or nothing at all. */
static bool v2_is_number_or_none(const struct md_json_value *value) {
    return value->type == MD_JSON_NONE || value->type == MD_JSON_NULL || v2_is_number(value);
}

static bool v2_time(const struct md_json_value *value, int64_t *ns) {
    struct kraken_text text;
    return value->type == MD_JSON_STRING && kraken_text_of(value, &text) &&
           md_time_rfc3339(text.at, text.size, ns);
}

static bool v2_time_or_none(const struct md_json_value *value, int64_t *ns) {
    *ns = MD_ABSENT;
    return value->type == MD_JSON_NONE || v2_time(value, ns);
}

static bool
v2_uint(const struct md_json_value *value, uint64_t least, uint64_t most, uint64_t *out) {
    return value->type == MD_JSON_NUMBER && kraken_uint(value->text, value->size, least, most, out);
}

static bool v2_fixed_or_none(const struct kraken_context *context,
                             const struct md_json_value *value,
                             unsigned scale,
                             int64_t *out) {
    *out = MD_ABSENT;
    return value->type != MD_JSON_NUMBER || kraken_fixed(context, value, scale, out);
}

#endif
